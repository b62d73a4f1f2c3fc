//! Batches of rows on their way into the index.
//!
//! Where a batch ends is decided by the write log alone, never by time or by
//! what happens to be queued, so the same log makes the same batches and the
//! same index on every run and for any number of threads.

use std::sync::Arc;

use super::successor::{Share, SuccessorJob};
use crate::bits::RowSet;
use crate::codec::Decoder;
use crate::id::{Row, Seq};
use crate::index::{Batch, Executor, IndexVersion, Plan, Points, bulk_rows};
use crate::quant::Codec;
use crate::vector::{MatrixView, Space};

/// Rows of a batch of single writes: every search scans the rows that are not
/// absorbed, and a write beyond two batches waits until one is committed, so few;
/// but each commit makes a new index version, so not too few. Beside a reader, of
/// a writer whose next insert comes when the last can be found, 99 of 100 are
/// found after 0.7 to 0.8 ms with 8, 0.97 with 12 and 1.24 with 16, and it inserts 8,800,
/// 9,300 and 9,300 a second; the reader does not tell 8 from 16, and with 64 it
/// loses an eighth. Fashion-MNIST, two processors.
pub(super) const LIVE_ROWS: usize = 8;

/// Larger batches are absorbed by all threads of the pool: they are not what a
/// stream of single writes makes.
const LIVE_MOST: usize = 64;

/// Rows that a worker may absorb by itself: it answers no search meanwhile.
const SMALL_ROWS: usize = 2 * LIVE_ROWS;

/// Rows of a batch that ends within a write: a write of fewer is seen at once,
/// because not more than one batch waits for it.
const WRITE_ROWS: usize = 256;

/// Dead rows are unlinked together once they are so many...
const FORGET_ROWS: usize = 64;

/// ...and at least one for this many that are indexed: unlinking walks the
/// whole graph.
const FORGET_DIVISOR: usize = 32;

/// Rows that make a batch when `linked` are in the index and `coming` more
/// follow in the same write.
pub(super) fn rows_due(linked: usize, waiting: usize, coming: usize) -> usize {
    let bulk = bulk_rows(linked);
    match coming {
        _ if linked == 0 => bulk,
        _ if waiting + coming >= bulk => bulk,
        0 => LIVE_ROWS,
        _ => WRITE_ROWS.min(bulk),
    }
}

/// Dead rows in the index that make unlinking worth its walk.
pub(super) fn forget_due(linked: usize) -> usize {
    (linked / FORGET_DIVISOR).max(FORGET_ROWS)
}

/// Batches with rows that died before they were absorbed, until the places of
/// the first can be used again: two wait to be absorbed, two more until the
/// places are free, one is open.
const BATCHES_UNTIL_FREE: usize = 5;

/// Times that dead rows of the index make a batch due in the time from one
/// unlinking until its places are free.
const UNLINKINGS_UNTIL_FREE: usize = 3;

/// Dead rows at most, beside `rows` live ones, whose places are not free yet,
/// when records are replaced for ever.
pub(super) fn dead_most(rows: usize) -> usize {
    UNLINKINGS_UNTIL_FREE * forget_due(rows) + BATCHES_UNTIL_FREE * bulk_rows(rows.max(1))
}

/// A batch whose content is fixed.
#[derive(Debug)]
pub(super) struct SealedBatch {
    pub(super) number: u64,
    /// The write at which it was sealed.
    pub(super) cut: Seq,
    pub(super) absorb: Vec<Row>,
    pub(super) ordinals: Vec<u64>,
    /// Rows that died before they were absorbed: they only leave the tail.
    pub(super) dropped: Vec<Row>,
    pub(super) forget: Vec<Row>,
    /// Indexed rows that were dead at the cut.
    pub(super) dead: RowSet,
    /// True when the index is to be put in order; nothing else changes then.
    pub(super) optimize: bool,
    /// By these codes, which another shard has.
    pub(super) codes: Option<Arc<[u8]>>,
    /// False in the midst of a write of which the index let rows go already.
    pub(super) renews: bool,
    /// What the index that is to take over has to do with it.
    pub(super) share: Option<Share>,
}

impl SealedBatch {
    /// True when the index has nothing to do.
    pub(super) fn is_void(&self) -> bool {
        self.absorb.is_empty() && self.forget.is_empty() && !self.optimize && self.share.is_none()
    }

    /// Whether all threads of the pool are to work on it.
    pub(super) fn is_bulk(&self) -> bool {
        self.absorb.len() > LIVE_MOST || self.optimize
    }

    /// Whether absorbing it takes a few milliseconds: what single writes make, and nothing is let go.
    fn is_small(&self) -> bool {
        let is_plain = !self.optimize && self.codes.is_none() && self.share.is_none();
        is_plain && self.forget.is_empty() && self.absorb.len() <= SMALL_ROWS
    }

    /// Rows that stand in the tail because of this batch.
    pub(super) fn tail(&self) -> impl Iterator<Item = Row> + '_ {
        self.absorb.iter().chain(&self.dropped).copied()
    }
}

/// What a job computed.
pub(crate) struct Plans {
    pub(super) index: Plan,
    /// Of which successor, and its plan.
    pub(super) successor: Option<(u64, Plan)>,
}

/// The expensive half of absorbing a batch, or of upkeep: runs on any thread,
/// against a frozen version of the index.
pub(crate) struct AbsorbJob {
    /// None: upkeep of the index, which no write asked for.
    pub(super) batch: Option<Arc<SealedBatch>>,
    pub(super) version: Arc<dyn IndexVersion>,
    /// The index that is to take over, if it takes part.
    pub(super) successor: Option<SuccessorJob>,
    pub(super) space: Space,
    pub(super) vectors: MatrixView,
}

impl AbsorbJob {
    /// Computes the plan that the worker will commit.
    pub(crate) fn run(&self, executor: &dyn Executor) -> Option<Plans> {
        let points = Points { space: &self.space, vectors: &self.vectors };
        let Some(sealed) = &self.batch else {
            return self.version.upkeep(points, executor).map(|index| Plans { index, successor: None });
        };
        let batch = sealed;
        let successor = self.successor.as_ref().zip(sealed.share.as_ref()).map(|(successor, share)| {
            let batch = Batch {
                absorb: &share.absorb,
                ordinals: &share.ordinals,
                forget: &share.forget,
                dead: &|row| sealed.dead.contains(row),
                optimize: false,
                renews: sealed.renews,
            };
            (successor.since, successor.version.plan(points, &batch, executor))
        });
        if let Some(index) = self.adopt(batch, points, executor) {
            return Some(Plans { index, successor });
        }
        let batch = Batch {
            absorb: &batch.absorb,
            ordinals: &batch.ordinals,
            forget: &batch.forget,
            dead: &|row| batch.dead.contains(row),
            optimize: batch.optimize,
            renews: batch.renews,
        };
        Some(Plans { index: self.version.plan(points, &batch, executor), successor })
    }

    /// Going over to the codes that a batch brings; none: it brings none, or
    /// none that are of use here.
    fn adopt(&self, batch: &SealedBatch, points: Points<'_>, executor: &dyn Executor) -> Option<Plan> {
        let mut input = Decoder::new(batch.codes.as_deref()?);
        let codec = Codec::load(self.space.dim(), &mut input).ok()?;
        self.version.adopt(points, codec, executor)
    }

    /// Whether a worker may do it between its searches.
    pub(crate) fn is_small(&self) -> bool {
        let is_small = |batch: &SealedBatch| batch.is_small() && !self.version.takes_long(batch.absorb.len());
        self.batch.as_deref().is_some_and(is_small)
    }

    pub(crate) fn is_bulk(&self) -> bool {
        self.batch.as_ref().is_some_and(|batch| batch.is_bulk())
    }

    /// Whether it may train anew what was trained.
    #[cfg(test)]
    pub(crate) fn renews(&self) -> bool {
        self.batch.as_ref().is_none_or(|batch| batch.renews)
    }

    /// Rows that it takes in, for traces.
    pub(crate) fn rows(&self) -> usize {
        self.batch.as_ref().map_or(0, |batch| batch.absorb.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_single_writes_are_small_and_those_of_bulk_loads_grow_with_the_index() {
        assert_eq!(rows_due(0, 1, 0), 256);
        assert_eq!(rows_due(10_000, 1, 0), LIVE_ROWS);
        assert_eq!(rows_due(10_000, 1, 5_000), 200);
        assert_eq!(rows_due(10_000, 150, 60), 200);
        assert_eq!(rows_due(1_000_000, 1, 100_000), 1_024);
    }
}
