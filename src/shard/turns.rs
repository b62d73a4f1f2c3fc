//! How a worker shares its time between searches and writes.
//!
//! When both wait, searches get two thirds of it and writes a third, measured
//! by the clock and not by numbers: an exact search may take a thousand times
//! as long as a row. A turn that ran over (its last search was a long one) is
//! made good in the next turn of the others. When only one kind waits, it gets
//! everything.

use std::time::Duration;

/// A turn of searches: a few of them, so that little is lost by changing, and
/// little to wait for a write.
const SEARCHES: Duration = Duration::from_millis(2);

/// A turn of writes.
const WRITES: Duration = Duration::from_millis(1);

/// Searches get so many times what writes get.
const SHARE: u64 = 2;

/// Who is ahead of its share.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Microseconds by which searches are ahead; negative: behind.
    ahead: i64,
}

impl Turns {
    /// How long searches may go on now.
    pub(super) fn for_searches(&self) -> Duration {
        SEARCHES.max(Duration::from_micros(self.ahead.min(0).unsigned_abs()))
    }

    /// How long writes may go on now.
    pub(super) fn for_writes(&self) -> Duration {
        WRITES.max(Duration::from_micros(self.ahead.max(0).unsigned_abs() / SHARE))
    }

    /// Searches were answered for so long, while writes waited or not.
    pub(super) fn searched(&mut self, took: Duration, writes_wait: bool) {
        self.ahead = if writes_wait { self.ahead.saturating_add(micros(took)) } else { 0 };
    }

    /// Writes were applied for so long, while searches waited or not.
    pub(super) fn wrote(&mut self, took: Duration, searches_wait: bool) {
        let counted = micros(took).saturating_mul(SHARE as i64);
        self.ahead = if searches_wait { self.ahead.saturating_sub(counted) } else { 0 };
    }

    /// It was the turn of writes, and none could be applied: what searches are ahead by is nobody's.
    pub(super) fn had_nothing_to_write(&mut self) {
        self.ahead = self.ahead.min(0);
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both always have work, in pieces of these microseconds; gives the share
    /// of the time that searches got.
    fn share_of_searches(search: u64, write: u64) -> f64 {
        let mut turns = Turns::default();
        let take = |limit: Duration, piece: u64| {
            let mut took = Duration::ZERO;
            while took < limit {
                took += Duration::from_micros(piece);
            }
            took
        };
        let (mut searched, mut wrote) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..1_000 {
            let took = take(turns.for_searches(), search);
            turns.searched(took, true);
            assert!(took < Duration::from_micros(4_000 + 2 * search + 4 * write), "turns grow: {took:?}");
            searched += took;
            let took = take(turns.for_writes(), write);
            turns.wrote(took, true);
            wrote += took;
        }
        searched.as_secs_f64() / (searched + wrote).as_secs_f64()
    }

    #[test]
    fn searches_get_two_thirds_whatever_a_search_or_a_write_takes() {
        for search in [1, 50, 900, 7_000, 100_000] {
            for write in [1, 50, 900, 7_000] {
                let share = share_of_searches(search, write);
                assert!((0.5..0.85).contains(&share), "{search} us and {write} us: {share}");
            }
        }
        assert!((share_of_searches(50, 10) - 2.0 / 3.0).abs() < 0.02);
    }

    #[test]
    fn whoever_was_alone_owes_nothing() {
        let mut turns = Turns::default();
        turns.searched(Duration::from_secs(10), false);
        assert_eq!(turns.for_writes(), WRITES);
        turns.wrote(Duration::from_secs(10), false);
        assert_eq!(turns.for_searches(), SEARCHES);
    }

    #[test]
    fn writes_are_not_owed_what_they_could_not_use() {
        let mut turns = Turns::default();
        turns.searched(Duration::from_secs(20), true);
        turns.had_nothing_to_write();
        assert_eq!(turns.for_writes(), WRITES);
        // What searches wait for is not forgotten.
        turns.wrote(Duration::from_millis(5), true);
        turns.had_nothing_to_write();
        assert_eq!(turns.for_searches(), Duration::from_millis(10));
    }

    #[test]
    fn a_turn_that_ran_over_is_made_good() {
        let mut turns = Turns::default();
        turns.searched(Duration::from_millis(100), true);
        assert_eq!(turns.for_writes(), Duration::from_millis(50));
        turns.wrote(Duration::from_millis(50), true);
        assert_eq!((turns.for_searches(), turns.for_writes()), (SEARCHES, WRITES));
    }
}
