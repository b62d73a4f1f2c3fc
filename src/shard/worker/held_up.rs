//! How long a shard has waited for readers of older versions to let go of memory.

use std::time::{Duration, Instant};

/// How long a shard waits with what would go beyond a memory budget while
/// readers of older versions may be about to let go of theirs. A snapshot that
/// is held longer keeps memory beyond the budget, or writes would wait for it.
const MOST: Duration = Duration::from_secs(2);

/// How often it looks meanwhile.
pub(super) const LOOK: Duration = Duration::from_millis(1);

/// What counts of the time between two looks at most: where this thread gets no processor in
/// time, neither do those who are to let go. Rounds of other work are shorter as a rule.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// A shard that waits.
pub(super) struct HeldUp {
    /// The time that counts.
    waited: Duration,
    looked: Instant,
}

impl HeldUp {
    pub(super) fn begin() -> HeldUp {
        HeldUp { waited: Duration::ZERO, looked: Instant::now() }
    }

    /// Looks again; true when it has waited long enough. No time counts while it waits `for_us`:
    /// a batch that is being absorbed keeps the version that it began with, and a view that cannot be
    /// shown before another shard has done its writes keeps the shown one.
    pub(super) fn is_over(&mut self, now: Instant, for_us: bool) -> bool {
        let since = now.saturating_duration_since(self.looked).min(BETWEEN_LOOKS);
        self.looked = now;
        if !for_us {
            self.waited += since;
        }
        self.was_over()
    }

    /// Whether it had waited long enough when it looked last: from then on it need not look often.
    pub(super) fn was_over(&self) -> bool {
        self.waited >= MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_two_seconds_while_it_can_look() {
        let mut held_up = HeldUp::begin();
        let began = held_up.looked;
        let over = (1..).find(|looks| held_up.is_over(began + LOOK * *looks, false));
        assert_eq!(over, Some(2_000));
    }

    #[test]
    fn time_in_which_it_could_not_look_hardly_counts() {
        let mut held_up = HeldUp::begin();
        let began = held_up.looked;
        let over = (1..).find(|looks| held_up.is_over(began + Duration::from_secs(*looks), false));
        assert_eq!(over, Some(100));
    }

    #[test]
    fn time_in_which_it_waits_for_ourselves_does_not_count() {
        let mut held_up = HeldUp::begin();
        let began = held_up.looked;
        assert!((1..100_000).all(|looks| !held_up.is_over(began + LOOK * looks, true)));
        let over = (100_000..).find(|looks| held_up.is_over(began + LOOK * *looks, false));
        assert_eq!(over, Some(101_999));
    }
}
