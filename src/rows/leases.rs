//! The views of one shard that somebody may hold: the writer keeps the
//! receipts of their leases in order.

use std::collections::VecDeque;

use crate::lease::{Lease, Receipt, lease};

/// The number of a view of one shard.
pub(super) type ViewNumber = u64;

/// Entries that are not worth a sweep.
const SWEEP_LEAST: usize = 64;

/// The writer's list of leases, oldest first.
#[derive(Debug, Default)]
pub(super) struct Leases {
    next: ViewNumber,
    held: VecDeque<(ViewNumber, Receipt)>,
    /// Entries at which those behind a held view are swept.
    sweep_at: usize,
}

impl Leases {
    /// The number that the next view will get.
    pub(super) fn next(&self) -> ViewNumber {
        self.next
    }

    pub(super) fn grant(&mut self) -> Lease {
        if self.held.len() >= self.sweep_at {
            // One old view must not keep the entries of all that came after it.
            self.held.retain(|(_, receipt)| !receipt.is_released());
            self.sweep_at = 2 * self.held.len() + SWEEP_LEAST;
        }
        let (lease, receipt) = lease();
        self.held.push_back((self.next, receipt));
        self.next += 1;
        lease
    }

    /// The number of the oldest view that somebody may hold; when there is
    /// none, the number that the next view will get.
    pub(super) fn oldest(&mut self) -> ViewNumber {
        while self.held.front().is_some_and(|(_, receipt)| receipt.is_released()) {
            self.held.pop_front();
        }
        self.held.front().map_or(self.next, |(number, _)| *number)
    }

    /// True when somebody may hold a view from number `from` to before `to`.
    pub(super) fn any_held(&self, from: ViewNumber, to: ViewNumber) -> bool {
        let first = self.held.partition_point(|(number, _)| *number < from);
        let range = self.held.range(first..).take_while(|(number, _)| *number < to);
        range.into_iter().any(|(_, receipt)| !receipt.is_released())
    }

    /// Views that are not known to be gone.
    pub(super) fn held(&self) -> usize {
        self.held.iter().filter(|(_, receipt)| !receipt.is_released()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_held_view_does_not_keep_the_entries_of_all_later_ones() {
        let mut leases = Leases::default();
        let old = leases.grant();
        for _ in 0..100_000 {
            drop(leases.grant());
        }
        assert!(leases.held.len() < 200, "{}", leases.held.len());
        assert_eq!((leases.oldest(), leases.held()), (0, 1));
        drop(old);
        assert_eq!(leases.oldest(), 100_001);
    }

    #[test]
    fn views_are_known_to_be_held_by_ranges_of_numbers() {
        let mut leases = Leases::default();
        let (_a, b, _c) = (leases.grant(), leases.grant(), leases.grant());
        drop(b);
        let held = [(0, 1), (1, 2), (1, 3), (3, 9), (0, 0)].map(|(from, to)| leases.any_held(from, to));
        assert_eq!(held, [true, false, true, false, false]);
    }

    #[test]
    fn the_oldest_is_the_first_that_is_still_held() {
        let mut leases = Leases::default();
        assert_eq!(leases.oldest(), 0);
        let (a, b, c) = (leases.grant(), leases.grant(), leases.grant());
        drop(b);
        assert_eq!((leases.oldest(), leases.held()), (0, 2));
        drop(a);
        assert_eq!(leases.oldest(), 2);
        drop(c);
        assert_eq!((leases.oldest(), leases.next()), (3, 3));
    }
}
