//! A consistent state of a collection, over all its shards.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::clock::Wall;
use crate::error::{FileError, Gone};
use crate::id::{Generation, RecordId, Seq};
use crate::query::{SearchParams, Target};
use crate::rows::{Directory, ShardView};
use crate::stats::StripedCounter;
use crate::tuning::{Calibration, Extent, Targets};
use crate::vector::Space;

/// Writes that shards of a collection may leave out before it fails: beyond a
/// few it is the engine that is broken, not a write.
pub(crate) const LEFT_OUT_MOST: usize = 16;

/// Shards of a collection at most: a bit each.
const SHARDS_MOST: usize = 64;

/// What went wrong in a collection.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// 0: all well; else the number of the first shard that failed plus 1.
    failed: AtomicUsize,
    /// The shards that have no memory for now, a bit each, and the bytes that
    /// one of them asked for last.
    short: AtomicU64,
    asked: AtomicUsize,
    /// Times that a shard was made anew after a defect.
    rebuilt: AtomicU64,
    /// Writes of which a shard left its part out; written once each, in order.
    left_out: [AtomicU64; LEFT_OUT_MOST],
    left_out_count: AtomicUsize,
    /// The first beyond those, or 0.
    left_out_beyond: AtomicU64,
}

impl Health {
    pub(crate) fn fail(&self, shard: usize) {
        let _ = self.failed.compare_exchange(0, shard + 1, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// A shard has no memory for so many bytes.
    pub(crate) fn fall_short(&self, shard: usize, bytes: usize) {
        self.asked.store(bytes, Ordering::Relaxed);
        self.short.fetch_or(1 << (shard % SHARDS_MOST), Ordering::Release);
    }

    /// It has again.
    pub(crate) fn recover(&self, shard: usize) {
        self.short.fetch_and(!(1 << (shard % SHARDS_MOST)), Ordering::Release);
    }

    /// A shard that has no memory for now, and the bytes that were asked for.
    pub(crate) fn short_shard(&self) -> Option<(usize, usize)> {
        let short = self.short.load(Ordering::Acquire);
        (short != 0).then(|| (short.trailing_zeros() as usize, self.asked.load(Ordering::Relaxed)))
    }

    /// A shard was made anew after a defect.
    pub(crate) fn count_rebuilt(&self) {
        self.rebuilt.fetch_add(1, Ordering::Relaxed);
    }

    /// Times that a shard was.
    pub(crate) fn rebuilt(&self) -> u64 {
        self.rebuilt.load(Ordering::Relaxed)
    }

    /// Notes that a shard leaves its part of a write out; by one thread only.
    pub(crate) fn leave_out(&self, shard: usize, seq: Seq) {
        let count = self.left_out_count.load(Ordering::Relaxed);
        match self.left_out.get(count) {
            Some(place) => {
                place.store(seq.0, Ordering::Relaxed);
                self.left_out_count.store(count + 1, Ordering::Release);
            }
            None => {
                // Before anybody asks why: the shard has failed.
                self.fail(shard);
                let least = |beyond| if beyond == 0 { seq.0 } else { seq.0.min(beyond) };
                let beyond = self.left_out_beyond.load(Ordering::Relaxed);
                self.left_out_beyond.store(least(beyond), Ordering::Release);
            }
        }
    }

    /// Whether a write may be one that was left out beyond those that [`Health::left_out`] tells.
    pub(crate) fn may_be_left_out(&self, seq: Seq) -> bool {
        let beyond = self.left_out_beyond.load(Ordering::Acquire);
        beyond != 0 && seq.0 >= beyond
    }

    /// Whether a write was left out, or may have been.
    pub(crate) fn lacks(&self, seq: Seq) -> bool {
        self.left_out().any(|left_out| left_out == seq) || self.may_be_left_out(seq)
    }

    /// The writes of which a shard left its part out, in the order of the defects.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = Seq> + '_ {
        let count = self.left_out_count.load(Ordering::Acquire);
        self.left_out.iter().take(count).map(|seq| Seq(seq.load(Ordering::Relaxed)))
    }

    pub(crate) fn failed_shard(&self) -> Option<usize> {
        self.failed.load(Ordering::Acquire).checked_sub(1)
    }
}

/// Changes of a collection's index: how many were begun and ended, so the
/// number is odd while one is under way.
#[derive(Debug, Default)]
pub(crate) struct Reindexes(AtomicU64);

impl Reindexes {
    /// Begins one; false while another is under way.
    pub(crate) fn begin(&self) -> bool {
        let begun = |now: u64| now.is_multiple_of(2).then_some(now + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, begun).is_ok()
    }

    pub(crate) fn end(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// What is the same before and after something during which none was under way.
    pub(crate) fn none_under_way(&self) -> Option<u64> {
        let now = self.0.load(Ordering::Acquire);
        now.is_multiple_of(2).then_some(now)
    }
}

/// Threads that help the calling one.
pub(crate) trait Helpers: Send + Sync {
    /// Calls `work` once with each number below `pieces`, on the calling
    /// thread and on helpers that are idle; returns when all calls have ended.
    /// Never waits for a helper that has not begun. A call that panics counts
    /// as ended.
    fn share(&self, pieces: usize, work: Arc<dyn Fn(usize) + Send + Sync>);
}

/// Whoever has collections calibrated.
pub(crate) trait Calibrator: Send + Sync {
    /// Asks for it, never waiting; false when it cannot be asked right now.
    fn ask(&self) -> bool;
}

/// Whoever makes the indexes of a collection ready for exact searches.
pub(crate) trait Screener: Send + Sync {
    /// Asks for it, never waiting.
    fn ask(&self);
}

/// Exact searches that compared with every record before the indexes are asked
/// to get ready for more: making that ready costs some hundred of them.
const EXACT_SEARCHES: usize = 64;

/// How many exact searches there were.
pub(crate) struct ExactUse {
    searches: AtomicUsize,
    screener: Box<dyn Screener>,
}

impl ExactUse {
    pub(crate) fn new(screener: Box<dyn Screener>) -> ExactUse {
        ExactUse { searches: AtomicUsize::new(0), screener }
    }

    /// Notes an exact search. Writes only while the indexes were not asked.
    pub(super) fn note(&self) {
        if self.searches.load(Ordering::Relaxed) < EXACT_SEARCHES
            && self.searches.fetch_add(1, Ordering::Relaxed) + 1 == EXACT_SEARCHES
        {
            self.screener.ask();
        }
    }
}

/// The targets that readers asked for, and how they say so.
pub(crate) struct Tuning {
    pub(crate) targets: Targets,
    calibrator: Box<dyn Calibrator>,
    /// The calibrator knows that targets are in use.
    asked: AtomicBool,
}

impl Tuning {
    pub(crate) fn new(calibrator: Box<dyn Calibrator>) -> Tuning {
        Tuning { targets: Targets::default(), calibrator, asked: AtomicBool::new(false) }
    }

    /// Notes that a search has a target. Writes and asks only when that is new.
    #[inline]
    pub(super) fn note(&self, target: Target) {
        self.targets.note(target);
        if !self.asked.load(Ordering::Relaxed) && self.calibrator.ask() {
            self.asked.store(true, Ordering::Relaxed);
        }
    }
}

/// What all snapshots of one collection share.
pub(crate) struct Context {
    /// Kept for as long as any snapshot is: what the memory counts against.
    pub(crate) _account: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) name: String,
    pub(crate) health: Health,
    pub(crate) reindexes: Reindexes,
    pub(crate) space: Space,
    /// What the collection was created with, as files say it.
    pub(crate) config: Vec<u8>,
    pub(crate) directory: Arc<dyn Directory>,
    /// For batches of queries.
    pub(crate) helpers: Arc<dyn Helpers>,
    pub(crate) wall: Wall,
    /// The collection's `ef_search`, while it has the index that it was made with.
    pub(crate) ef_search: usize,
    /// What searches ask for that do not say it.
    pub(crate) search: Option<SearchParams>,
    pub(crate) tuning: Tuning,
    pub(crate) exact_use: ExactUse,
    /// Distances that searches computed so far.
    pub(crate) distances: StripedCounter,
    /// Searches that were answered so far.
    pub(crate) searches: StripedCounter,
}

impl Context {
    /// Why writes cannot become visible, if that is so; `log` is what became of the log.
    pub(crate) fn lost(&self, log: Option<&FileError>) -> Option<Gone> {
        if let Some(shard) = self.health.failed_shard() {
            return Some(Gone::ShardFailed { collection: self.name.clone(), shard });
        }
        let of_log = log.map(|fault| Gone::LogFailed(fault.clone()));
        of_log.or_else(|| self.health.short_shard().map(|(shard, bytes)| self.no_memory(shard, bytes)))
    }

    /// A shard has no memory for so many bytes.
    pub(crate) fn no_memory(&self, shard: usize, bytes: usize) -> Gone {
        Gone::NoMemory { collection: self.name.clone(), shard, bytes }
    }
}

/// The rows of every shard as of write `seq`.
///
/// A shard's view may already hold later writes (its worker runs ahead of the
/// others); birth and death numbers hide them. Aligned away from the count of
/// holders, which pinning changes: searches read this.
#[repr(align(128))]
pub(crate) struct Published {
    pub(crate) generation: Generation,
    pub(crate) seq: Seq,
    pub(crate) shards: Box<[Arc<ShardView>]>,
    /// What the collection knew of its own recall then.
    pub(crate) calibration: Option<Arc<Calibration>>,
    pub(crate) context: Arc<Context>,
}

impl Published {
    /// The breadth of a search that does not say its own.
    pub(crate) fn ef_search(&self) -> usize {
        let switched = self.shards.first().and_then(|shard| shard.switched());
        switched.map_or(self.context.ef_search, |switched| switched.ef_search)
    }

    /// True when every search compares with all rows.
    pub(crate) fn is_exact(&self) -> bool {
        self.shards.iter().all(|shard| shard.index().is_exact())
    }

    /// What the indexes hold and have seen.
    pub(crate) fn extent(&self) -> Extent {
        self.shards.iter().map(|shard| shard.measure()).fold(Extent::default(), |sum, measure| Extent {
            indexed: sum.indexed + measure.indexed,
            absorbed: sum.absorbed + measure.absorbed,
        })
    }

    /// One past the highest row numbers: an upper bound of the visible records, in O(shards).
    pub(super) fn high_water(&self) -> usize {
        self.shards.iter().map(|shard| shard.high_water() as usize).sum()
    }
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Published")
            .field("generation", &self.generation)
            .field("seq", &self.seq)
            .field("shards", &self.shards.len())
            .finish_non_exhaustive()
    }
}

/// The shard that a record lives in. The answer may never change for a given
/// number of shards.
pub(crate) fn shard_of(id: &RecordId, shards: usize) -> usize {
    // The high half of the product maps the hash evenly without a division.
    ((u128::from(id.stable_hash()) * shards as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_spread_evenly_over_shards() {
        for shards in [1, 2, 3, 8] {
            let mut counts = vec![0usize; shards];
            (0..8_000u64).for_each(|id| counts[shard_of(&id.into(), shards)] += 1);
            let fair = 8_000 / shards;
            assert!(counts.iter().all(|count| count.abs_diff(fair) < fair / 5), "{counts:?}");
        }
    }
}
