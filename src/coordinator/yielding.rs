//! How a thread of the pool lets others have its processor in the midst of its work.
//!
//! Linux hands out processors in slices of some milliseconds, and takes one away only at a tick (4 ms apart where
//! it ticks 250 times a second): a thread that wakes waits so long behind another one that has just begun, of
//! whatever priority. So the pool's threads ask at every [pause](crate::pause) whether it is time to
//! yield. Where nobody waits that costs half a microsecond.
//!
//! Where threads that never rest hold all processors, each time that is yielded is theirs for
//! a whole slice, and writes wait for the pool. So time that was waited is paid with work: as
//! much of the one as of the other.

use std::cell::RefCell;
use std::thread;
use std::time::{Duration, Instant};

use super::thread::worked;

/// Least time between two yields: two hundred times what one costs where nobody waits,
/// and what those who wait do not notice.
const EVERY: Duration = Duration::from_micros(100);

/// What is saved up, or owed, at most: a few slices of the system. A machine that was halted meanwhile
/// leaves no more to be paid.
const MOST: i64 = 20_000_000;

thread_local! {
    static LEDGER: RefCell<Ledger> = const { RefCell::new(Ledger::new()) };
}

/// Yields, if it is time to.
pub(super) fn pause() {
    LEDGER.with_borrow_mut(|ledger| {
        let mut now = Instant::now();
        if !ledger.is_time(now) {
            return;
        }
        if ledger.may_wait(worked()) {
            let before = now;
            thread::yield_now();
            now = Instant::now();
            ledger.waited(now - before);
        }
        ledger.next = Some(now + EVERY);
    });
}

/// What a thread has worked and waited.
struct Ledger {
    /// Not before this.
    next: Option<Instant>,
    /// The time that the thread has worked at the last look.
    worked: Duration,
    /// Worked less waited, in nanoseconds.
    ahead: i64,
}

impl Ledger {
    const fn new() -> Ledger {
        Ledger { next: None, worked: Duration::ZERO, ahead: 0 }
    }

    fn is_time(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| next <= now)
    }

    /// Whether to yield, by a thread that has worked for so long.
    fn may_wait(&mut self, worked: Duration) -> bool {
        let since = worked.saturating_sub(self.worked);
        self.worked = worked;
        self.ahead = self.ahead.saturating_add(nanos(since)).min(MOST);
        self.ahead > 0
    }

    fn waited(&mut self, time: Duration) {
        self.ahead = self.ahead.saturating_sub(nanos(time)).max(-MOST);
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_was_waited_is_worked_before_the_next_time() {
        let mut ledger = Ledger::new();
        assert!(!ledger.may_wait(Duration::ZERO) && ledger.may_wait(MS));
        ledger.waited(9 * MS);
        assert!(!ledger.may_wait(5 * MS), "four of the eight that are owed");
        assert!(!ledger.may_wait(9 * MS) && ledger.may_wait(10 * MS));
    }

    #[test]
    fn much_work_does_not_earn_a_long_absence() {
        let mut ledger = Ledger::new();
        assert!(ledger.may_wait(10_000 * MS));
        ledger.waited(21 * MS);
        assert!(!ledger.may_wait(10_001 * MS) && ledger.may_wait(10_003 * MS));
        ledger.waited(3_600_000 * MS);
        assert!(!ledger.may_wait(10_023 * MS) && ledger.may_wait(10_024 * MS), "an hour is not owed");
    }

    #[test]
    fn it_is_asked_for_the_time_worked_only_now_and_then() {
        let mut ledger = Ledger::new();
        let now = Instant::now();
        assert!(ledger.is_time(now));
        ledger.next = Some(now + EVERY);
        assert!(!ledger.is_time(now) && ledger.is_time(now + EVERY));
    }

    #[test]
    fn pausing_over_and_over_ends() {
        let began = Instant::now();
        while began.elapsed() < 3 * EVERY {
            pause();
        }
    }
}
