//! What work will take, by what work of its kind took.
//!
//! Work is counted in units that can be known before it is done: rows that are
//! compared, the breadth of a walk, records that are put in. What a unit takes
//! depends on the machine, on the vectors and on the index, so it is measured
//! where the work is done, on the worker, and forgotten within a fraction of a
//! second. An estimate is one load and one multiplication.
//!
//! Nothing but admission asks for it, before a write gets its number: no answer
//! and no state depends on a stopwatch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::snapshot::Toil;

/// How much measured work is remembered: long enough to even out single
/// searches, short enough to follow a collection that grows or changes its index.
const MEMORY_NS: f64 = 20e6;

/// What the guess weighs that an estimate begins with, as measured work.
const GUESS_NS: f64 = 1e6;

/// A measurement counts at most as so many times what was expected, or as so
/// long: a thread that lost its core for a while did not work meanwhile. What has
/// become dearer for good is known within a fraction of a second all the same.
const OUTLIER: f64 = 8.0;
const OUTLIER_NS: f64 = MEMORY_NS / 10.0;

/// Prices are kept in these parts of a nanosecond.
const PARTS: f64 = 1_024.0;

/// What a unit of one kind of work takes.
#[derive(Debug)]
pub(crate) struct Toll {
    /// Of a unit, in parts of a nanosecond.
    price: AtomicU64,
    /// Nanoseconds, and the units that took them.
    measured: Mutex<(f64, f64)>,
}

impl Toll {
    /// Begins with a guess: a unit takes so many nanoseconds.
    pub(crate) fn new(guess_ns: f64) -> Toll {
        let guess_ns = guess_ns.max(1.0 / PARTS);
        let measured = Mutex::new((GUESS_NS, GUESS_NS / guess_ns));
        Toll { price: AtomicU64::new((guess_ns * PARTS) as u64), measured }
    }

    /// The time that so many units will take.
    pub(crate) fn estimate(&self, units: u64) -> Duration {
        let parts = u128::from(self.price.load(Ordering::Relaxed)) * u128::from(units);
        Duration::from_nanos(u64::try_from(parts / PARTS as u128).unwrap_or(u64::MAX))
    }

    /// So many units took so long.
    pub(crate) fn took(&self, units: u64, time: Duration) {
        if units == 0 {
            return;
        }
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let (ns, all) = *measured;
        let units = units as f64;
        let most = (OUTLIER * units * ns / all).max(OUTLIER_NS);
        let ns = ns + (time.as_nanos() as f64).min(most);
        let all = all + units;
        // Older work counts half once there is as much of newer.
        let kept = if ns > 2.0 * MEMORY_NS { MEMORY_NS / ns } else { 1.0 };
        *measured = (ns * kept, all * kept);
        self.price.store((ns / all * PARTS).max(1.0) as u64, Ordering::Relaxed);
    }
}

/// What putting a record in takes until it is measured (nanoseconds): finding
/// its place, and its vector, a nanosecond for each byte.
const WRITE_GUESS_NS: f64 = 2_000.0;
const NUMBER_GUESS_NS: f64 = 4.0;

/// What comparing with a row takes until it is measured: 5 to 30 ns for 64 to
/// 784 numbers.
const ROW_GUESS_NS: f64 = 5.0;
const COMPARED_GUESS_NS: f64 = 1.0 / 32.0;

/// What a walk takes until it is measured, for each row of its breadth: 64 take
/// 15 to 30 us.
const BREADTH_GUESS_NS: f64 = 300.0;

impl Toll {
    /// Of writes to a shard with vectors of so many numbers.
    pub(crate) fn of_writes(dim: usize) -> Toll {
        Toll::new(WRITE_GUESS_NS + NUMBER_GUESS_NS * dim as f64)
    }
}

/// Where the work on a shard is measured.
#[derive(Clone, Debug)]
pub(crate) struct ShardTolls {
    pub(crate) writing: Arc<Toll>,
    /// Of all shards of the collection.
    pub(crate) searching: Arc<SearchTolls>,
}

/// What searches of a collection take, by kind: a unit of one kind is nothing
/// like a unit of another.
#[derive(Debug)]
pub(crate) struct SearchTolls {
    walks: Toll,
    scans: Toll,
    filtered_walks: Toll,
    filtered_scans: Toll,
}

impl SearchTolls {
    /// Of vectors of so many numbers.
    pub(crate) fn new(dim: usize) -> SearchTolls {
        let row_ns = ROW_GUESS_NS + COMPARED_GUESS_NS * dim as f64;
        SearchTolls {
            walks: Toll::new(BREADTH_GUESS_NS),
            scans: Toll::new(row_ns),
            filtered_walks: Toll::new(BREADTH_GUESS_NS),
            filtered_scans: Toll::new(row_ns),
        }
    }

    fn of(&self, toil: Toil) -> &Toll {
        match (toil.scans, toil.filtered) {
            (false, false) => &self.walks,
            (true, false) => &self.scans,
            (false, true) => &self.filtered_walks,
            (true, true) => &self.filtered_scans,
        }
    }

    /// The time of a worker that a search will take.
    pub(crate) fn estimate(&self, toil: Toil) -> Duration {
        self.of(toil).estimate(toil.units)
    }

    /// It took so long.
    pub(crate) fn took(&self, toil: Toil, time: Duration) {
        self.of(toil).took(toil.units, time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    fn near(estimate: Duration, expected: Duration) -> bool {
        estimate > expected.mul_f64(0.9) && estimate < expected.mul_f64(1.1)
    }

    #[test]
    fn an_estimate_begins_with_the_guess_and_grows_with_the_units() {
        let toll = Toll::new(2_000.0);
        assert_eq!((toll.estimate(0), toll.estimate(1)), (Duration::ZERO, micros(2)));
        assert_eq!(toll.estimate(50_000), Duration::from_millis(100));
        assert!(toll.estimate(u64::MAX) > Duration::from_secs(1 << 30));
    }

    #[test]
    fn it_comes_to_what_was_measured_however_wrong_the_guess_was() {
        for guess_ns in [1.0, 1_000.0, 1e6] {
            let toll = Toll::new(guess_ns);
            // As much as the guess weighs at first, many times over.
            (0..500).for_each(|_| toll.took(100, micros(1_000)));
            assert!(near(toll.estimate(100), micros(1_000)), "{guess_ns}: {:?}", toll.estimate(100));
        }
    }

    #[test]
    fn it_follows_what_has_changed() {
        let toll = Toll::new(1_000.0);
        (0..1_000).for_each(|_| toll.took(10, micros(10)));
        (0..300).for_each(|_| toll.took(10, micros(1_000)));
        assert!(near(toll.estimate(10), micros(1_000)), "dearer: {:?}", toll.estimate(10));
        (0..30_000).for_each(|_| toll.took(10, micros(10)));
        assert!(near(toll.estimate(10), micros(10)), "cheaper: {:?}", toll.estimate(10));
    }

    #[test]
    fn a_thread_that_lost_its_core_makes_nothing_dear() {
        let toll = Toll::new(1_000.0);
        (0..1_000).for_each(|_| toll.took(20, micros(20)));
        toll.took(20, Duration::from_secs(10));
        assert!(toll.estimate(20) < micros(23), "{:?}", toll.estimate(20));
    }

    #[test]
    fn large_work_and_small_count_by_their_units() {
        let toll = Toll::new(10.0);
        for _ in 0..100 {
            toll.took(100_000, micros(1_000));
            (0..10).for_each(|_| toll.took(10, micros(2)));
        }
        assert!(near(toll.estimate(100_000), micros(1_020)), "{:?}", toll.estimate(100_000));
    }
}
