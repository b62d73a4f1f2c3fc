//! Numbering writes: the order of a collection's history is decided here.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::durability::Durability;
use crate::id::Seq;

/// Gives out sequence numbers and remembers which shard was sent what.
///
/// The number is drawn and the messages are sent under one short lock, so each
/// worker receives a collection's writes in the order of their numbers. Only
/// writers take it; sending never blocks inside (permits come first).
#[derive(Debug)]
pub(crate) struct Admission {
    order: Mutex<()>,
    last: AtomicU64,
    sent: Box<[AtomicU64]>,
    /// The least that a write was to reach since the last one that went to every shard: that one
    /// vouches for all before it.
    weakest: AtomicU8,
}

/// Why a write was not numbered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotAdmitted<E> {
    /// Writes before it were to reach less, and it vouches for them: it must
    /// go to every shard.
    Narrow,
    /// It could not be sent.
    Unsent(E),
}

impl Admission {
    #[cfg(test)]
    pub(crate) fn new(shards: usize) -> Admission {
        Admission::after(Seq(0), &vec![Seq(0); shards])
    }

    /// Goes on after write `last`; `sent` are the last writes that shards got.
    pub(crate) fn after(last: Seq, sent: &[Seq]) -> Admission {
        Admission {
            order: Mutex::new(()),
            last: AtomicU64::new(last.0),
            sent: sent.iter().map(|seq| AtomicU64::new(seq.0)).collect(),
            weakest: AtomicU8::new(Durability::Synced as u8),
        }
    }

    /// Draws the next number for a write to `shards` and sends it. What is to
    /// reach more than a write since the last one to every shard goes to every shard, so that all logs
    /// get as far: an acknowledged write vouches for all before it.
    pub(crate) fn admit<E>(
        &self,
        shards: &[usize],
        durability: Durability,
        send: impl FnOnce(Seq) -> Result<(), E>,
    ) -> Result<Seq, NotAdmitted<E>> {
        // The lock guards no data that a panic could leave half-changed.
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let goes_to_all = shards.len() == self.sent.len();
        if durability as u8 > self.weakest.load(Ordering::Relaxed) && !goes_to_all {
            return Err(NotAdmitted::Narrow);
        }
        self.weakest.fetch_min(durability as u8, Ordering::Relaxed);
        let seq = self.last.load(Ordering::Relaxed) + 1;
        for shard in shards {
            self.sent[*shard].store(seq, Ordering::Relaxed);
        }
        // Before the messages leave: a view that holds the write must never
        // reach a coordinator that does not know its number yet, or it would
        // publish the state before and be woken by nobody again.
        self.last.store(seq, Ordering::Release);
        send(Seq(seq)).map_err(NotAdmitted::Unsent)?;
        if goes_to_all {
            self.weakest.store(durability as u8, Ordering::Relaxed);
        }
        Ok(Seq(seq))
    }

    /// The last number given out.
    pub(crate) fn last(&self) -> Seq {
        Seq(self.last.load(Ordering::Acquire))
    }

    /// The last write sent to a shard. Ask after [`Admission::last`]: then it
    /// is at least the shard's newest write up to that number.
    pub(crate) fn sent(&self, shard: usize) -> Seq {
        Seq(self.sent[shard].load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_known_before_the_write_is_on_its_way() {
        let admission = Admission::new(1);
        let send = |seq| {
            assert_eq!((admission.last(), admission.sent(0)), (seq, seq));
            Ok::<(), ()>(())
        };
        admission.admit(&[0], Durability::Applied, send).unwrap();
    }

    #[test]
    fn numbers_are_drawn_in_the_order_of_sending() {
        let admission = Admission::new(2);
        let sent = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..250 {
                        let send = |seq| {
                            sent.lock().unwrap().push(seq);
                            Ok::<(), ()>(())
                        };
                        admission.admit(&[1], Durability::Applied, send).unwrap();
                    }
                });
            }
        });
        assert!(sent.into_inner().unwrap().into_iter().eq((1..=1_000).map(Seq)));
        assert_eq!(
            (admission.last(), admission.sent(0), admission.sent(1)),
            (Seq(1_000), Seq(0), Seq(1_000))
        );
    }

    #[test]
    fn a_write_that_vouches_for_weaker_ones_must_go_to_every_shard() {
        let admission = Admission::new(2);
        let send = |_| Ok::<(), ()>(());
        assert_eq!(admission.admit(&[0], Durability::Synced, send), Ok(Seq(1)));
        assert_eq!(admission.admit(&[1], Durability::Logged, send), Ok(Seq(2)));
        assert_eq!(admission.admit(&[0], Durability::Synced, send), Err(NotAdmitted::Narrow));
        assert_eq!(admission.admit(&[0, 1], Durability::Synced, send), Ok(Seq(3)));
        assert_eq!(admission.admit(&[0], Durability::Logged, send), Ok(Seq(4)));
        assert_eq!(admission.admit(&[1], Durability::Synced, send), Err(NotAdmitted::Narrow));
    }

    #[test]
    fn a_write_to_every_shard_vouches_for_the_weaker_ones_before_it() {
        let admission = Admission::new(2);
        let send = |_| Ok::<(), ()>(());
        admission.admit(&[1], Durability::Applied, send).unwrap();
        assert_eq!(admission.admit(&[0], Durability::Logged, send), Err(NotAdmitted::Narrow));
        admission.admit(&[0, 1], Durability::Logged, send).unwrap();
        assert_eq!(admission.admit(&[0], Durability::Logged, send), Ok(Seq(3)));
        assert_eq!(admission.admit(&[0], Durability::Synced, send), Err(NotAdmitted::Narrow));
    }

    #[test]
    fn a_write_that_did_not_reach_every_shard_vouches_for_none() {
        let admission = Admission::new(2);
        admission.admit(&[1], Durability::Applied, |_| Ok::<(), ()>(())).unwrap();
        let unsent = admission.admit(&[0, 1], Durability::Synced, |_| Err(()));
        assert_eq!(unsent, Err(NotAdmitted::Unsent(())));
        let narrow = admission.admit(&[0], Durability::Logged, |_| Ok::<(), ()>(()));
        assert_eq!(narrow, Err(NotAdmitted::Narrow));
    }
}
