//! The codes that an exact search rules rows out by, in copy-on-write blocks.
//!
//! The first level is read of all rows, so 32 of them stand interleaved in a block; further ones are read of few, so each row has its own.

use std::sync::{Arc, Weak};

use super::cow::{BlockView, Blocks, Epoch, Versions};
use super::parallel::parallel_map;
use super::training::sample;
use super::{Executor, Points};
use crate::bits::RowSet;
use crate::id::{Row, mix};
use crate::kernel::SCAN_ROWS;
use crate::memory::{self, Memory};
use crate::metric::Metric;
use crate::pause::pause;
use crate::quant::{Screen, Sieve};

/// Rows from which on codes pay: fewer are scanned in less than the time that
/// a query takes to prepare.
pub(super) const LEAST_ROWS: usize = 2_048;

/// Rows below which codes go again: fewer than those from which on they come, so
/// that a number of rows about there does not have them made again and again.
const KEPT_FROM: usize = LEAST_ROWS / 2;

/// Dimensions from which on they pay: a line of codes must be clearly shorter
/// than the vector.
pub(super) const LEAST_DIM: usize = 32;

/// Rows that a sieve is trained on: enough for the principal directions.
const SAMPLE: usize = 4_096;

/// A sieve is trained again when there are so many times more rows...
pub(super) const GROWTH: usize = 4;

/// ...but not once so many were seen: more give the same sample.
pub(super) const SETTLED: usize = 1 << 16;

/// Rows that one task encodes in a piece.
const PIECE: usize = 64;

/// Told apart from no other seed: nothing else is drawn for exact searches.
const SEED: u64 = 1;

/// The codes as one version sees them.
#[derive(Clone, Debug)]
pub(super) struct Sifted {
    pub(super) sieve: Arc<Sieve>,
    /// Rows that were held when the sieve was trained.
    pub(super) trained: usize,
    /// The first level, by group of rows.
    groups: BlockView,
    /// Further levels, by row.
    further: Vec<BlockView>,
}

/// The writer's side of the codes.
#[derive(Debug)]
pub(super) struct SiftedBlocks {
    sieve: Arc<Sieve>,
    trained: usize,
    groups: Blocks,
    further: Vec<Blocks>,
}

/// Codes of rows that no version holds yet.
#[derive(Debug, Default)]
pub(super) struct FreshCodes {
    pub(super) rows: Vec<Row>,
    /// Of each row the blocks of all levels.
    words: Vec<u32>,
}

/// What a batch does to the codes.
#[derive(Debug)]
pub(super) enum SiftedChange {
    /// There are none, and none are needed.
    None,
    Add(FreshCodes),
    /// A new sieve, and the codes of all rows by it.
    Replace(Box<SiftedBlocks>),
    /// Too few rows are left for them.
    Drop,
}

/// The rows before and after a batch.
pub(super) struct Turn<'a> {
    pub(super) absorb: &'a [Row],
    /// All rows that will be held, ascending.
    pub(super) held: &'a dyn Fn() -> Vec<Row>,
    /// How many.
    pub(super) count: usize,
    /// Whether codes should fit the rows as well as they can.
    pub(super) optimize: bool,
    /// Whether codes that are there may be trained anew.
    pub(super) renews: bool,
}

/// Computes what a batch does to the codes of a version.
pub(super) fn change(
    sifted: Option<&Sifted>,
    points: Points<'_>,
    turn: &Turn<'_>,
    executor: &dyn Executor,
) -> SiftedChange {
    let trained = sifted.map_or(0, |sifted| sifted.trained);
    let may_be = turn.renews || sifted.is_none();
    let has_grown = may_be && trained < SETTLED && turn.count >= trained.saturating_mul(GROWTH);
    let is_due = has_grown || (turn.optimize && trained != turn.count);
    if points.space.dim() >= LEAST_DIM && turn.count >= LEAST_ROWS && is_due {
        let held = (turn.held)();
        let sieve = Arc::new(train(points, &held));
        let codes = encode(&sieve, points, held, executor);
        return SiftedChange::Replace(Box::new(SiftedBlocks::filled(sieve, &codes)));
    }
    let least = if turn.optimize { LEAST_ROWS } else { KEPT_FROM };
    match sifted {
        Some(_) if turn.count < least && may_be => SiftedChange::Drop,
        Some(sifted) => {
            SiftedChange::Add(encode(&sifted.sieve, points, memory::copied(turn.absorb), executor))
        }
        None => SiftedChange::None,
    }
}

/// Trains on some of `rows`, evenly spread.
pub(super) fn train(points: Points<'_>, rows: &[Row]) -> Sieve {
    let (samples, dim) = (sample(points, rows, SAMPLE), points.space.dim());
    Sieve::train(&samples, dim, points.space.metric() != Metric::Dot, SEED)
}

/// The codes of rows, in parallel.
pub(super) fn encode(
    sieve: &Sieve,
    points: Points<'_>,
    mut rows: Vec<Row>,
    executor: &dyn Executor,
) -> FreshCodes {
    // Those of a group are written together.
    rows.sort_unstable();
    let mut workers: Vec<(Screen, Vec<f32>)> = Vec::new();
    workers.resize_with(executor.width().max(1), Default::default);
    let pieces = rows.len().div_ceil(PIECE);
    let parts = parallel_map(executor, pieces, &mut workers, |piece, (screen, prepared)| {
        let rows = &rows[piece * PIECE..rows.len().min((piece + 1) * PIECE)];
        let mut words = memory::filled(0, rows.len() * sieve.all_words());
        for (row, words) in rows.iter().zip(words.chunks_exact_mut(sieve.all_words())) {
            pause();
            points.space.prepare_row(points.vectors, *row, prepared);
            sieve.encode(prepared, screen, words);
        }
        words
    });
    let words = memory::joined(&parts);
    FreshCodes { rows, words }
}

impl SiftedBlocks {
    /// No codes yet, of a sieve that was trained when there were so many rows.
    pub(super) fn empty(sieve: Arc<Sieve>, trained: usize) -> SiftedBlocks {
        let groups = Blocks::large(sieve.words(0) * SCAN_ROWS);
        let further = (1..sieve.levels()).map(|level| Blocks::new(sieve.words(level))).collect();
        SiftedBlocks { sieve, trained, groups, further }
    }

    fn filled(sieve: Arc<Sieve>, codes: &FreshCodes) -> SiftedBlocks {
        let mut blocks = SiftedBlocks::empty(sieve, codes.rows.len());
        blocks.write(codes, Versions::default().begin());
        blocks
    }

    pub(super) fn write(&mut self, codes: &FreshCodes, epoch: Epoch) {
        let mut words = &codes.words[..];
        for rows in codes.rows.chunk_by(|one, other| group_of(*one) == group_of(*other)) {
            let (own, rest) = words.split_at(rows.len() * self.sieve.all_words());
            self.write_group(rows, own, epoch);
            words = rest;
        }
    }

    /// Rows of one group.
    fn write_group(&mut self, rows: &[Row], words: &[u32], epoch: Epoch) {
        let Some(group) = rows.first().map(|row| group_of(*row)) else { return };
        let own = self.sieve.words(0);
        let before = self.groups.newest(group);
        let mut all = before.unwrap_or_else(|| memory::filled(0, own * SCAN_ROWS));
        for (row, words) in rows.iter().zip(words.chunks_exact(self.sieve.all_words())) {
            let (first, mut words) = words.split_at(own);
            for (lanes, word) in all.as_chunks_mut::<SCAN_ROWS>().0.iter_mut().zip(first) {
                lanes[lane_of(*row)] = *word;
            }
            for (level, blocks) in (1..).zip(&mut self.further) {
                let (own, rest) = words.split_at(self.sieve.words(level));
                blocks.write(*row, own, epoch);
                words = rest;
            }
        }
        self.groups.write(group, &all, epoch);
    }

    pub(super) fn publish(&mut self, epoch: Epoch, versions: &Versions) -> Sifted {
        let further = self.further.iter_mut().map(|blocks| blocks.publish(epoch, versions)).collect();
        let groups = self.groups.publish(epoch, versions);
        Sifted { sieve: Arc::clone(&self.sieve), trained: self.trained, groups, further }
    }

    /// True when further versions without a change would save nothing.
    pub(super) fn is_settled(&self) -> bool {
        self.all().all(Blocks::is_settled)
    }

    /// The memory of all codes, for as long as somebody has it.
    pub(super) fn shared(&self) -> impl Iterator<Item = Weak<Memory>> + '_ {
        self.all().flat_map(Blocks::shared)
    }

    pub(super) fn bytes(&self) -> usize {
        self.all().map(Blocks::bytes).sum::<usize>() + self.sieve.bytes()
    }

    fn all(&self) -> impl Iterator<Item = &Blocks> {
        std::iter::once(&self.groups).chain(&self.further)
    }
}

impl Sifted {
    /// The first level of the rows of a group of which at least one has codes, a word of each after the other. Where others
    /// would stand may be anything.
    ///
    /// # Panics
    /// When no row about there ever had codes.
    #[inline(always)]
    pub(super) fn group(&self, group: u32) -> &[[u32; SCAN_ROWS]] {
        self.groups.words_of(group).as_chunks().0
    }

    /// A level after the first, by row.
    ///
    /// # Panics
    /// When there is none such.
    #[inline]
    pub(super) fn further(&self, level: usize) -> &BlockView {
        &self.further[level - 1]
    }

    /// A number that names the codes of the held rows.
    pub(super) fn digest(&self, held: &RowSet) -> u64 {
        let first = |hash, row: Row| {
            let lanes = self.group(group_of(row)).iter();
            lanes.fold(hash, |hash, lanes| mix(hash ^ u64::from(lanes[lane_of(row)])))
        };
        let first = held.iter().fold(0, first);
        self.further.iter().fold(first, |hash, level| level.digest(held.iter(), hash))
    }
}

/// Rows of a group are as many as kernels take together.
const fn group_of(row: Row) -> u32 {
    row / SCAN_ROWS as u32
}

const fn lane_of(row: Row) -> usize {
    row as usize % SCAN_ROWS
}
