//! Rounded copies of the rows, in copy-on-write blocks, and distances by them.

use std::sync::Weak;

use super::cow::{BlockView, Blocks, Epoch, Versions};
use super::measure::Measure;
use super::parallel::parallel_map;
use super::{Executor, Points};
use crate::bits::RowSet;
use crate::codec::{Decoder, Encoder, Malformed};
use crate::id::Row;
use crate::kernel::Portable;
use crate::memory::{Memory, extend, list};
use crate::vector::{BLOCK, Rounded, RoundedQuery};

/// Rows that one task copies in a piece.
const PIECE: usize = 64;

/// The copies as one version sees them.
#[derive(Clone, Debug)]
pub(super) struct Copies {
    pub(super) rounded: Rounded,
    blocks: BlockView,
}

impl Copies {
    pub(super) fn save(&self, held: &RowSet, out: &mut Encoder) {
        held.iter().for_each(|row| out.words(self.blocks.words_of(row).iter().copied()));
    }

    pub(super) fn digest(&self, held: &RowSet) -> u64 {
        self.blocks.digest(held.iter(), 0)
    }
}

/// The writer's side of the copies.
#[derive(Debug)]
pub(super) struct CopyBlocks {
    rounded: Rounded,
    blocks: Blocks,
}

/// Copies of rows that no version holds yet, one after the other.
pub(super) struct FreshCopies(Vec<u32>);

impl CopyBlocks {
    pub(super) fn new(rounded: Rounded) -> CopyBlocks {
        CopyBlocks { rounded, blocks: Blocks::new(rounded.words()) }
    }

    /// Reads the copies of the rows of `held`.
    pub(super) fn load(
        rounded: Rounded,
        held: &RowSet,
        input: &mut Decoder<'_>,
        epoch: Epoch,
    ) -> Result<CopyBlocks, Malformed> {
        let mut copies = CopyBlocks::new(rounded);
        let mut words = Vec::new();
        for row in held.iter() {
            words.clear();
            words.extend(input.words(rounded.words())?);
            copies.blocks.write(row, &words, epoch);
        }
        Ok(copies)
    }

    pub(super) fn write(&mut self, rows: &[Row], fresh: &FreshCopies, epoch: Epoch) {
        for (row, words) in rows.iter().zip(fresh.0.chunks_exact(self.rounded.words())) {
            self.blocks.write(*row, words, epoch);
        }
    }

    pub(super) fn publish(&mut self, epoch: Epoch, versions: &Versions) -> Copies {
        Copies { rounded: self.rounded, blocks: self.blocks.publish(epoch, versions) }
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
        self.blocks.bytes()
    }
}

/// Copies rows, in parallel.
pub(super) fn copy_rows(
    rounded: Rounded,
    points: Points<'_>,
    rows: &[Row],
    executor: &dyn Executor,
) -> FreshCopies {
    let mut workers: Vec<Vec<f32>> = vec![Vec::new(); executor.width().max(1)];
    let parts = parallel_map(executor, rows.len().div_ceil(PIECE), &mut workers, |piece, prepared| {
        let mut words = Vec::new();
        for row in rows.iter().skip(piece * PIECE).take(PIECE) {
            points.space.prepare_row(points.vectors, *row, prepared);
            extend(&mut words, rounded.encode(prepared));
        }
        words
    });
    let mut all = list(parts.iter().map(Vec::len).sum());
    parts.iter().for_each(|part| all.extend_from_slice(part));
    FreshCopies(all)
}

/// Distances from a query by copies: squared ones, or negated inner products.
#[derive(Clone, Copy)]
pub(super) struct Copied<'a>(pub(super) &'a Copies);

impl<'a> Measure for Copied<'a> {
    type Query = RoundedQuery<'a>;
    /// Kernels behind pointers do most of the work.
    type Arch = Portable;

    fn arch(&self) -> Portable {
        Portable
    }

    #[inline]
    fn distance(&self, query: &RoundedQuery<'a>, row: Row) -> f32 {
        let mut distance = [0.0];
        self.distances(query, &[row], f32::INFINITY, &mut distance);
        distance[0]
    }

    #[inline]
    fn distances(&self, query: &RoundedQuery<'a>, rows: &[Row], bound: f32, distances: &mut [f32]) {
        let Copies { rounded, blocks } = self.0;
        let mut copies: [&[u32]; BLOCK] = [&[]; BLOCK];
        for (copy, row) in copies.iter_mut().zip(rows) {
            *copy = blocks.words_of(*row);
        }
        rounded.estimates(query, &copies[..rows.len()], bound, distances);
    }

    /// Nothing: the kernels ask for rows themselves, some ahead.
    #[inline]
    fn prefetch(&self, _row: Row) {}
}
