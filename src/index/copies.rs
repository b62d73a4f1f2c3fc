//! Copies and codes of the rows, in copy-on-write blocks, and distances by them.
//!
//! Rounded copies need no training. [Codes](SingleCodes) are trained on the rows
//! once there are enough, again when these have become others, and when the
//! index is optimized; all rows then get new ones.

use std::sync::{Arc, Weak};

use super::cow::{BlockView, Blocks, Epoch, Versions};
use super::measure::Measure;
use super::parallel::parallel_map;
use super::training::{Training, mean, sample, train_product};
use super::{Batch, Executor, Points};
use crate::bits::RowSet;
use crate::codec::{Decoder, Encoder, Malformed};
use crate::id::{Row, mix};
use crate::kernel::{Portable, prefetch_all};
use crate::memory::{self, Memory};
use crate::metric::Metric;
use crate::pause::pause;
use crate::quant::{SingleCodes, SingleEncoder, SingleQuery, SingleShape};
use crate::vector::{BLOCK, Rounded, RoundedQuery};

/// Rows that one task copies in a piece.
const PIECE: usize = 64;

/// Rows from which on codes are trained: as many as lists ask for.
const LEAST_ROWS: usize = 1_024;

/// Codes are not trained again on their own once so many rows were seen: a
/// larger collection gives the same sample.
const SETTLED: usize = 1 << 16;

/// Rows whose mean is taken for that of all.
const MEAN_OF: usize = 4_096;

/// What walks go by, in place of the vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copying {
    Rounded(Rounded),
    Codes(SingleShape),
}

impl Copying {
    /// Words of a row.
    pub(crate) fn words(self) -> usize {
        match self {
            Copying::Rounded(rounded) => rounded.words(),
            Copying::Codes(shape) => shape.words(),
        }
    }

    /// What makes the copies, if that need not be trained.
    fn untrained(self) -> Option<Arc<Coder>> {
        match self {
            Copying::Rounded(rounded) => Some(Arc::new(Coder::Rounded(rounded))),
            Copying::Codes(_) => None,
        }
    }
}

/// What makes copies; it never changes.
#[derive(Debug)]
enum Coder {
    Rounded(Rounded),
    Codes(SingleCodes),
}

/// The copies as one version sees them.
#[derive(Clone, Debug)]
pub(super) struct Copies {
    coder: Arc<Coder>,
    training: Training,
    blocks: BlockView,
}

/// A query by copies.
pub(super) enum CopyQuery<'a> {
    Rounded(RoundedQuery<'a>),
    Codes(&'a SingleQuery),
}

impl Copies {
    /// A query in the form of [`Space::prepare`](crate::vector::Space::prepare);
    /// `room` is for what it needs.
    pub(super) fn query<'a>(
        &self,
        metric: Metric,
        vector: &'a [f32],
        room: &'a mut SingleQuery,
    ) -> CopyQuery<'a> {
        match &*self.coder {
            Coder::Rounded(rounded) => CopyQuery::Rounded(rounded.query(metric, vector)),
            Coder::Codes(codes) => {
                codes.prepare(metric, vector, room);
                CopyQuery::Codes(room)
            }
        }
    }

    /// Estimates err so much that many rows have to be measured.
    pub(super) fn are_coarse(&self) -> bool {
        matches!(&*self.coder, Coder::Codes(_))
    }

    /// Estimates are right on average.
    pub(super) fn is_unbiased(&self) -> bool {
        matches!(&*self.coder, Coder::Codes(codes) if codes.is_unbiased())
    }

    pub(super) fn digest(&self, held: &RowSet) -> u64 {
        let digest = self.blocks.digest(held.iter(), 0);
        match &*self.coder {
            Coder::Rounded(_) => digest,
            Coder::Codes(_) => mix(digest ^ mix(self.training.rows as u64)),
        }
    }
}

/// Writes the copies of the rows of `held`; `copies` are none while there are too few rows.
pub(super) fn save(copying: Copying, copies: Option<&Copies>, held: &RowSet, out: &mut Encoder) {
    if let Copying::Codes(_) = copying {
        out.u8(u8::from(copies.is_some()));
    }
    let Some(Copies { coder, training, blocks }) = copies else { return };
    if let Coder::Codes(codes) = &**coder {
        out.size(training.rows);
        out.size(training.since);
        codes.save(out);
    }
    held.iter().for_each(|row| out.words(blocks.words_of(row).iter().copied()));
}

/// What a batch does to the copies.
pub(super) enum CopyChange {
    /// There are none, and none are made.
    Nothing,
    /// Too few rows are left.
    Drop,
    Write(FreshCopies),
    /// Others, of all rows.
    Begin(Trained, FreshCopies),
}

/// What was trained for all rows that there are then.
pub(super) struct Trained {
    coder: Arc<Coder>,
    rows: usize,
}

/// Copies of rows that no version holds yet, one after the other.
pub(super) struct FreshCopies {
    rows: Vec<Row>,
    words: Vec<u32>,
}

/// The writer's side of the copies.
#[derive(Debug)]
pub(super) struct CopyBlocks {
    coder: Arc<Coder>,
    training: Training,
    words: usize,
    blocks: Blocks,
}

impl CopyBlocks {
    fn new(copying: Copying, coder: Arc<Coder>, training: Training) -> CopyBlocks {
        let words = copying.words();
        CopyBlocks { coder, training, words, blocks: Blocks::new(words) }
    }

    /// Of no rows; none, if they need training.
    pub(super) fn untrained(copying: Copying) -> Option<CopyBlocks> {
        Some(CopyBlocks::new(copying, copying.untrained()?, Training::default()))
    }

    /// Of all rows there are.
    pub(super) fn begin(copying: Copying, trained: Trained, all: &FreshCopies, epoch: Epoch) -> CopyBlocks {
        let mut copies = CopyBlocks::new(copying, trained.coder, Training::default());
        copies.write(all, epoch);
        copies.training = Training { rows: trained.rows, since: 0 };
        copies
    }

    /// Reads what [`save`] wrote, over vectors of `dim` numbers.
    pub(super) fn load(
        (copying, seed): (Copying, u64),
        dim: usize,
        held: &RowSet,
        input: &mut Decoder<'_>,
        epoch: Epoch,
    ) -> Result<Option<CopyBlocks>, Malformed> {
        let mut training = Training::default();
        let coder = match copying {
            Copying::Rounded(rounded) => Arc::new(Coder::Rounded(rounded)),
            Copying::Codes(_) if input.u8()? != 1 => return Ok(None),
            Copying::Codes(shape) => {
                training = Training { rows: input.size()?, since: input.size()? };
                Arc::new(Coder::Codes(SingleCodes::load(shape, dim, seed, input)?))
            }
        };
        let mut copies = CopyBlocks::new(copying, coder, training);
        let mut words = Vec::new();
        for row in held.iter() {
            words.clear();
            memory::extend(&mut words, input.words(copies.words)?);
            copies.blocks.write(row, &words, epoch);
        }
        Ok(Some(copies))
    }

    pub(super) fn write(&mut self, fresh: &FreshCopies, epoch: Epoch) {
        self.training.since = self.training.since.saturating_add(fresh.rows.len());
        for (row, words) in fresh.rows.iter().zip(fresh.words.chunks_exact(self.words)) {
            self.blocks.write(*row, words, epoch);
        }
    }

    pub(super) fn publish(&mut self, epoch: Epoch, versions: &Versions) -> Copies {
        let (coder, training) = (Arc::clone(&self.coder), self.training);
        Copies { coder, training, blocks: self.blocks.publish(epoch, versions) }
    }

    /// The memory of all copies, for as long as somebody has it.
    pub(super) fn shared(&self) -> impl Iterator<Item = Weak<Memory>> + '_ {
        self.blocks.shared()
    }

    /// True when further versions without a change would save nothing.
    pub(super) fn is_settled(&self) -> bool {
        self.blocks.is_settled()
    }

    pub(super) fn bytes(&self) -> usize {
        let coder = match &*self.coder {
            Coder::Rounded(_) => 0,
            Coder::Codes(codes) => codes.bytes(),
        };
        self.blocks.bytes() + coder
    }
}

/// What a batch does to `copies`, the newest, in an index that holds `held` before it.
pub(super) fn change(
    (copying, seed): (Copying, u64),
    copies: Option<&Copies>,
    held: &RowSet,
    points: Points<'_>,
    batch: &Batch<'_>,
    executor: &dyn Executor,
) -> CopyChange {
    if let Copying::Codes(shape) = copying {
        let rows = held.len() + batch.absorb.len() - batch.forget.len();
        let is_due = copies.is_none_or(|copies| match copies.training {
            training if batch.optimize => training != Training { rows, since: 0 },
            training => batch.renews && training.is_due(rows, SETTLED),
        });
        if is_due && rows >= LEAST_ROWS {
            let all: Vec<Row> = memory::collect(held.after(batch.forget, batch.absorb).iter());
            let coder = Arc::new(Coder::Codes(train(shape, seed, points, &all, executor)));
            let fresh = copy(copying, &coder, points, all, executor);
            return CopyChange::Begin(Trained { coder, rows }, fresh);
        }
        // So few rows give the memory of their codes back.
        let too_few = if batch.optimize { LEAST_ROWS } else { LEAST_ROWS / 4 };
        if copies.is_some() && rows < too_few {
            return CopyChange::Drop;
        }
    }
    match copies {
        None => CopyChange::Nothing,
        Some(copies) => {
            CopyChange::Write(copy(copying, &copies.coder, points, memory::copied(batch.absorb), executor))
        }
    }
}

fn train(
    shape: SingleShape,
    seed: u64,
    points: Points<'_>,
    rows: &[Row],
    executor: &dyn Executor,
) -> SingleCodes {
    match shape {
        SingleShape::Product(shape) => {
            let samples = sample(points, rows, shape.samples());
            SingleCodes::product(shape, train_product(&samples, points.space.dim(), shape, seed, executor))
        }
        SingleShape::Signs { .. } => SingleCodes::signs(mean(points, rows, MEAN_OF), seed),
    }
}

/// Copies rows, in parallel.
fn copy(
    copying: Copying,
    coder: &Coder,
    points: Points<'_>,
    rows: Vec<Row>,
    executor: &dyn Executor,
) -> FreshCopies {
    let stride = copying.words();
    let mut workers: Vec<(Vec<f32>, SingleEncoder)> = Vec::new();
    workers.resize_with(executor.width().max(1), Default::default);
    let pieces = rows.len().div_ceil(PIECE);
    let parts = parallel_map(executor, pieces, &mut workers, |piece, (prepared, encoder)| {
        let rows = &rows[piece * PIECE..rows.len().min((piece + 1) * PIECE)];
        let mut words = memory::filled(0, rows.len() * stride);
        for (row, words) in rows.iter().zip(words.chunks_exact_mut(stride)) {
            pause();
            points.space.prepare_row(points.vectors, *row, prepared);
            match coder {
                Coder::Rounded(rounded) => words.copy_from_slice(&rounded.encode(prepared)),
                Coder::Codes(codes) => codes.encode(prepared, encoder, words),
            }
        }
        words
    });
    FreshCopies { rows, words: memory::joined(&parts) }
}

/// Distances from a query by copies: squared ones, or negated inner products.
#[derive(Clone, Copy)]
pub(super) struct Copied<'a>(pub(super) &'a Copies);

impl<'a> Measure for Copied<'a> {
    type Query = CopyQuery<'a>;
    /// Kernels behind pointers do most of the work.
    type Arch = Portable;

    fn arch(&self) -> Portable {
        Portable
    }

    #[inline]
    fn distance(&self, query: &CopyQuery<'a>, row: Row) -> f32 {
        let mut distance = [0.0];
        self.distances(query, &[row], f32::INFINITY, &mut distance);
        distance[0]
    }

    #[inline]
    fn distances(&self, query: &CopyQuery<'a>, rows: &[Row], bound: f32, distances: &mut [f32]) {
        let Copies { coder, blocks, .. } = self.0;
        let mut copies: [&[u32]; BLOCK] = [&[]; BLOCK];
        for (copy, row) in copies.iter_mut().zip(rows) {
            *copy = blocks.words_of(*row);
        }
        let copies = &copies[..rows.len()];
        match (&**coder, query) {
            (Coder::Rounded(rounded), CopyQuery::Rounded(query)) => {
                rounded.estimates(query, copies, bound, distances);
            }
            (Coder::Codes(codes), CopyQuery::Codes(query)) => {
                copies.iter().for_each(|copy| prefetch_all(copy));
                codes.estimates(query, copies, distances);
            }
            // A query is made by the copies that it is for.
            _ => distances[..rows.len()].fill(f32::INFINITY),
        }
    }

    /// Nothing: the kernels ask for rows themselves, some ahead.
    #[inline]
    fn prefetch(&self, _row: Row) {}
}
