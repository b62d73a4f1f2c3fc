//! Numbering writes: the order of a collection's history is decided here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

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
}

impl Admission {
    pub(crate) fn new(shards: usize) -> Admission {
        Admission {
            order: Mutex::new(()),
            last: AtomicU64::new(0),
            sent: (0..shards).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Draws the next number for a write to `shards` and sends it.
    pub(crate) fn admit<E>(
        &self,
        shards: impl Iterator<Item = usize>,
        send: impl FnOnce(Seq) -> Result<(), E>,
    ) -> Result<Seq, E> {
        // The lock guards no data that a panic could leave half-changed.
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let seq = self.last.load(Ordering::Relaxed) + 1;
        for shard in shards {
            self.sent[shard].store(seq, Ordering::Relaxed);
        }
        // Before sending: who learns of the write through the messages (a
        // worker, then the coordinator, perhaps before `send` returns) must
        // find its number here, or nobody would publish it.
        self.last.store(seq, Ordering::Release);
        send(Seq(seq)).map(|()| Seq(seq))
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
    fn the_receiver_of_a_message_finds_its_number() {
        let admission = Admission::new(1);
        let seen = |seq| {
            assert_eq!((admission.last(), admission.sent(0)), (seq, seq));
            Ok::<(), ()>(())
        };
        (0..3).for_each(|_| drop(admission.admit([0].into_iter(), seen)));
        assert_eq!(admission.last(), Seq(3));
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
                        admission.admit([1].into_iter(), send).unwrap();
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
}
