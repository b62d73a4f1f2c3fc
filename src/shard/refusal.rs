//! What is done where there is no place: waiting, or a refusal, and how many of these there were.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::FullReason;

/// What a writer does when the mailbox of a worker is full, or what it writes does not fit into
/// the memory budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backpressure {
    /// Waits for a place, however long: where a budget is full, until others delete.
    #[default]
    Wait,
    /// Waits for a place at most so long. Async calls wait without a limit:
    /// wrap them in your executor's timeout, dropping them is safe.
    WaitAtMost(Duration),
    /// Gives up at once.
    Reject,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Closed,
    Full { waited: Duration, reason: FullReason },
}

/// Requests that were refused, by what there was too much of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusals {
    /// [`FullReason::Requests`].
    pub requests: u64,
    /// [`FullReason::Bytes`].
    pub bytes: u64,
    /// [`FullReason::Work`].
    pub work: u64,
    /// [`FullReason::Turn`].
    pub turn: u64,
}

impl Refusals {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.requests + self.bytes + self.work + self.turn
    }
}

impl std::iter::Sum for Refusals {
    fn sum<I: Iterator<Item = Refusals>>(all: I) -> Refusals {
        all.fold(Refusals::default(), |sum, one| Refusals {
            requests: sum.requests + one.requests,
            bytes: sum.bytes + one.bytes,
            work: sum.work + one.work,
            turn: sum.turn + one.turn,
        })
    }
}

/// The same while they are counted.
#[derive(Debug, Default)]
pub(super) struct Refused {
    requests: AtomicU64,
    bytes: AtomicU64,
    work: AtomicU64,
    turn: AtomicU64,
}

impl Refused {
    pub(super) fn count(&self, reason: FullReason) {
        let counter = match reason {
            FullReason::Requests { .. } => &self.requests,
            FullReason::Bytes { .. } => &self.bytes,
            FullReason::Work { .. } => &self.work,
            FullReason::Turn => &self.turn,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counted(&self) -> Refusals {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Refusals {
            requests: of(&self.requests),
            bytes: of(&self.bytes),
            work: of(&self.work),
            turn: of(&self.turn),
        }
    }
}
