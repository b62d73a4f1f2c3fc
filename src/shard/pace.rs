//! How many requests may wait in a mailbox, by how long they have to.
//!
//! A long queue is no use when it never gets shorter: every request waits for
//! all of it, and so does every search that must show what was written before
//! it. As in CoDel (Nichols and Jacobson 2012) the least time that a request
//! took within a while tells a standing queue from a burst: after a burst some
//! request is quick. A standing queue is cut to what is done in time, and
//! writers wait at the gate, or are refused there, instead. When requests are
//! quick again the bound doubles, up to what was set.

use std::time::Duration;

/// A standing queue is cut to the requests that are done in this time: a
/// search through the workers waits for them.
const DELAY: Duration = Duration::from_millis(20);

/// How long the least time is looked for: longer than a burst takes that is
/// worth waiting for, and short beside a second, in which all must be well.
const WINDOW: Duration = Duration::from_millis(50);

/// A queue is not cut below this: enough to keep a worker busy until the next
/// writer is called, and to sync a log for several.
const LEAST: usize = 16;

/// The bound of one mailbox.
#[derive(Debug)]
pub(super) struct Pace {
    capacity: usize,
    limit: usize,
    /// Since the start of the mailbox.
    window_began: Duration,
    /// The least time of a request since then.
    least: Duration,
}

impl Pace {
    pub(super) fn new(capacity: usize) -> Pace {
        Pace { capacity, limit: capacity, window_began: Duration::ZERO, least: Duration::MAX }
    }

    /// A request is done at `now`: it took so long since it got its place, and
    /// `waiting` others have one. Gives the bound from now on.
    pub(super) fn done(&mut self, now: Duration, took: Duration, waiting: usize) -> usize {
        self.least = self.least.min(took);
        let window = now.saturating_sub(self.window_began);
        if window < WINDOW {
            return self.limit;
        }
        // Whoever was alone waited for nobody. (Itself counts: at the least bound no more can wait.)
        let stands = self.least > DELAY && waiting + 1 >= LEAST.min(self.capacity);
        self.limit = if stands {
            let share = DELAY.as_secs_f64() / self.least.as_secs_f64();
            (self.limit as f64 * share) as usize
        } else {
            // After a pause as often as there would have been windows.
            let windows = (window.as_millis() / WINDOW.as_millis()).min(20);
            self.limit.saturating_mul(1 << windows)
        };
        self.limit = self.limit.clamp(LEAST.min(self.capacity), self.capacity);
        (self.window_began, self.least) = (now, Duration::MAX);
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: usize = 1_024;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Requests that are done every `every` milliseconds and took `took`.
    fn pass(pace: &mut Pace, from: u64, to: u64, took: u64, waiting: usize) -> usize {
        (from..to).fold(0, |_, at| pace.done(millis(at), millis(took), waiting))
    }

    #[test]
    fn a_standing_queue_is_cut_to_what_is_done_in_time() {
        let mut pace = Pace::new(CAPACITY);
        assert_eq!(pass(&mut pace, 0, 50, 100, CAPACITY), CAPACITY, "not before a window is over");
        assert_eq!(pass(&mut pace, 50, 51, 100, CAPACITY), CAPACITY / 5);
        assert_eq!(pass(&mut pace, 51, 1_000, 1_000, CAPACITY), LEAST);
    }

    #[test]
    fn a_queue_that_stands_stays_cut() {
        let (mut pace, mut limit) = (Pace::new(CAPACITY), CAPACITY);
        for at in 0..2_000 {
            // As many wait as may, but for the one that is done.
            limit = pace.done(millis(at), millis(400), limit - 1);
            assert!(at < 200 || limit == LEAST, "{limit} after {at} ms");
        }
    }

    #[test]
    fn a_burst_is_let_through() {
        let mut pace = Pace::new(CAPACITY);
        for burst in 0..10 {
            let from = burst * 200;
            // The first of a burst is done at once, the last waited for all.
            let limits = (from..from + 100).map(|at| pace.done(millis(at), millis(at - from), 500));
            assert!(limits.into_iter().all(|limit| limit == CAPACITY), "burst {burst}");
        }
    }

    #[test]
    fn one_long_request_alone_cuts_nothing() {
        let mut pace = Pace::new(CAPACITY);
        assert_eq!(pace.done(millis(10_000), millis(9_999), 0), CAPACITY);
    }

    #[test]
    fn the_bound_comes_back_within_a_second_and_at_once_after_a_pause() {
        let mut pace = Pace::new(CAPACITY);
        pass(&mut pace, 0, 500, 400, CAPACITY);
        assert_eq!(pass(&mut pace, 500, 1_000, 1, 10), CAPACITY);
        pass(&mut pace, 1_000, 1_500, 400, CAPACITY);
        assert_eq!(pace.done(millis(9_000), millis(1), 0), CAPACITY);
    }

    #[test]
    fn a_small_mailbox_keeps_its_capacity() {
        let mut pace = Pace::new(4);
        assert_eq!(pass(&mut pace, 0, 500, 400, 4), 4);
    }
}
