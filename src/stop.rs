//! When a search ends before it is done: its time is up, its work is used up,
//! or nobody wants its answer any more.
//!
//! A search asks a [`Stop`] every few distances. It has a part for each shard,
//! with the same share of what is left, so that a search over several shards
//! does not spend all on the first.

use std::cell::Cell;
use std::time::Duration;

/// Why a search was cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cut {
    /// It computed as many distances as it might.
    Budget,
    /// Nobody wants the answer any more.
    Cancelled,
    /// Its time was up.
    Deadline,
}

/// What may end a search.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// The time, by the same clock as `deadline`.
    pub(crate) now: &'a dyn Fn() -> Duration,
    pub(crate) deadline: Option<Duration>,
    /// The most distances; `u64::MAX`: any number.
    pub(crate) budget: u64,
    pub(crate) cancelled: &'a dyn Fn() -> bool,
}

/// Numbers (of vectors) that are compared between two looks at the clock: some
/// 10 microseconds of a search, and a fiftieth of that for the look.
const NUMBERS_BETWEEN: usize = 1 << 15;

/// Distances between two looks, whatever the dimension.
const MOST_BETWEEN: u64 = 256;

/// Asked by one search whether it should end.
pub(crate) struct Stop<'a> {
    terms: Terms<'a>,
    between: u64,
    /// Distances of what is over.
    spent: Cell<u64>,
    /// The number of distances at which to look.
    next: Cell<u64>,
    /// What this part may have.
    budget: Cell<u64>,
    deadline: Cell<Duration>,
    /// Why this part was cut short, or the search as a whole.
    cut: Cell<Option<Cut>>,
    worst: Cell<Option<Cut>>,
}

impl<'a> Stop<'a> {
    /// For a search among vectors of this dimension.
    pub(crate) fn new(terms: Terms<'a>, dim: usize) -> Stop<'a> {
        Stop {
            terms,
            between: ((NUMBERS_BETWEEN / dim.max(1)) as u64).clamp(1, MOST_BETWEEN),
            spent: Cell::new(0),
            next: Cell::new(0),
            budget: Cell::new(terms.budget),
            deadline: Cell::new(terms.deadline.unwrap_or(Duration::MAX)),
            cut: Cell::new(None),
            worst: Cell::new(None),
        }
    }

    /// Begins a part, after which `left` more follow. What is left of time and
    /// work is shared by this part and those.
    pub(crate) fn begin_part(&self, left: usize) {
        let parts = left as u64 + 1;
        let work = self.terms.budget.saturating_sub(self.spent.get());
        self.budget.set(self.spent.get().saturating_add(work.div_ceil(parts)));
        if let Some(deadline) = self.terms.deadline {
            let now = (self.terms.now)();
            let time = deadline.saturating_sub(now) / u32::try_from(parts).unwrap_or(u32::MAX);
            self.deadline.set(if left == 0 { deadline } else { now + time });
        }
        self.cut.set(None);
        self.next.set(0);
    }

    /// Whether a part that begins may compute so many distances.
    pub(crate) fn allows(&self, distances: u64) -> bool {
        self.spent.get().saturating_add(distances) <= self.budget.get()
    }

    /// Notes the distances of a loop that is over.
    pub(crate) fn spend(&self, distances: u64) {
        self.spent.set(self.spent.get() + distances);
    }

    /// Whether to end, after so many distances in the loop that asks.
    #[inline]
    pub(crate) fn is_due(&self, distances: u64) -> bool {
        self.spent.get() + distances >= self.next.get() && self.look(distances)
    }

    /// Whether to end, asked of the clock at once.
    #[cold]
    pub(crate) fn look(&self, distances: u64) -> bool {
        let spent = self.spent.get() + distances;
        if self.cut.get().is_none() {
            self.cut.set(self.reason(spent));
        }
        if let Some(cut) = self.cut.get() {
            self.worst.set(self.worst.get().max(Some(cut)));
            self.next.set(0);
            return true;
        }
        self.next.set((spent + self.between).min(self.budget.get()));
        false
    }

    fn reason(&self, spent: u64) -> Option<Cut> {
        if (self.terms.cancelled)() {
            Some(Cut::Cancelled)
        } else if self.terms.deadline.is_some() && (self.terms.now)() >= self.deadline.get() {
            Some(Cut::Deadline)
        } else {
            (spent >= self.budget.get()).then_some(Cut::Budget)
        }
    }

    /// How many rows may still be measured, once the search is cut short, to
    /// have something to show: as many as between two looks.
    pub(crate) fn grace(&self) -> usize {
        self.between as usize
    }

    /// Why the search was cut short, in any of its parts.
    pub(crate) fn worst(&self) -> Option<Cut> {
        self.worst.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms<'a>(now: &'a dyn Fn() -> Duration, cancelled: &'a dyn Fn() -> bool) -> Terms<'a> {
        Terms { now, deadline: None, budget: u64::MAX, cancelled }
    }

    #[test]
    fn a_part_says_beforehand_whether_it_has_work_enough() {
        let (now, cancelled) = (|| Duration::ZERO, || false);
        let stop = Stop::new(Terms { budget: 100, ..terms(&now, &cancelled) }, 8);
        assert!(stop.allows(100) && !stop.allows(101));
        stop.spend(40);
        assert!(stop.allows(60) && !stop.allows(61));
        stop.begin_part(1);
        assert!(stop.allows(30) && !stop.allows(31));
    }

    #[test]
    fn the_budget_of_a_part_is_its_share_of_what_is_left() {
        let stop = Stop::new(Terms { budget: 100, ..terms(&|| Duration::ZERO, &|| false) }, 1);
        stop.begin_part(1);
        assert!(!stop.is_due(49) && stop.is_due(50));
        stop.spend(20);
        stop.begin_part(0);
        assert!(!stop.is_due(79) && stop.is_due(80));
        assert_eq!(stop.worst(), Some(Cut::Budget));
    }

    #[test]
    fn a_part_ends_at_its_share_of_the_time() {
        let time = Cell::new(Duration::ZERO);
        let now = || time.get();
        let deadline = Some(Duration::from_millis(10));
        let stop = Stop::new(Terms { deadline, ..terms(&now, &|| false) }, 128);
        stop.begin_part(1);
        time.set(Duration::from_millis(4));
        assert!(!stop.look(0));
        time.set(Duration::from_millis(5));
        assert!(stop.look(0));
        stop.begin_part(0);
        assert!(!stop.look(0));
        time.set(Duration::from_millis(10));
        assert!(stop.look(0));
        assert_eq!(stop.worst(), Some(Cut::Deadline));
    }

    #[test]
    fn the_clock_is_not_asked_at_every_distance() {
        let asked = Cell::new(0);
        let now = || {
            asked.set(asked.get() + 1);
            Duration::ZERO
        };
        let deadline = Some(Duration::from_secs(1));
        let stop = Stop::new(Terms { deadline, ..terms(&now, &|| false) }, 128);
        assert!((0..2_560).all(|distances| !stop.is_due(distances)));
        assert_eq!(asked.get(), 10);
    }

    #[test]
    fn a_cancelled_search_ends_at_the_next_look() {
        let cancelled = Cell::new(false);
        let is_cancelled = || cancelled.get();
        let stop = Stop::new(terms(&|| Duration::ZERO, &is_cancelled), 4);
        assert!(!stop.is_due(0));
        cancelled.set(true);
        assert!(!stop.is_due(10) && stop.is_due(256) && stop.is_due(0));
        assert_eq!(stop.worst(), Some(Cut::Cancelled));
    }
}
