//! Knowing when nobody holds an old view any more.
//!
//! Every view owns a [`Lease`]; its drop sets a flag. The writer keeps the
//! flags in order and asks for the oldest view that is still held. The drop is
//! the last thing that happens to a view, after every read through it; the
//! flag is stored with release and loaded with acquire, so what the writer does
//! after seeing it cannot be seen by those reads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The number of a view of one shard.
pub(super) type ViewNumber = u64;

/// Owned by a view; tells the writer when it is gone.
#[derive(Debug)]
pub(super) struct Lease {
    released: Arc<AtomicBool>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.released.store(true, Ordering::Release);
    }
}

/// The writer's list of leases, oldest first.
#[derive(Debug, Default)]
pub(super) struct Leases {
    next: ViewNumber,
    held: VecDeque<(ViewNumber, Arc<AtomicBool>)>,
}

impl Leases {
    /// The number that the next view will get.
    pub(super) fn next(&self) -> ViewNumber {
        self.next
    }

    pub(super) fn grant(&mut self) -> Lease {
        let released = Arc::new(AtomicBool::new(false));
        self.held.push_back((self.next, Arc::clone(&released)));
        self.next += 1;
        Lease { released }
    }

    /// The number of the oldest view that somebody may hold; when there is
    /// none, the number that the next view will get.
    pub(super) fn oldest(&mut self) -> ViewNumber {
        while self.held.front().is_some_and(|(_, released)| released.load(Ordering::Acquire)) {
            self.held.pop_front();
        }
        self.held.front().map_or(self.next, |(number, _)| *number)
    }

    /// Views that are not known to be gone.
    pub(super) fn held(&self) -> usize {
        self.held.iter().filter(|(_, released)| !released.load(Ordering::Relaxed)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
