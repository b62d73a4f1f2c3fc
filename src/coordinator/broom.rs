//! Takes out records that have expired: asks the shards for a slice of work
//! at a time, as a write like any other.
//!
//! Searches do not show what has expired, whether it is swept up or not; so it
//! does not matter for answers when this is done.

use std::time::Duration;

use super::admission::{Admission, NotAdmitted};
use crate::durability::Durability;
use crate::id::Seq;
use crate::payload::{NEVER, Timestamp};
use crate::rows::Mutation;
use crate::shard::{CollectionId, LogPart, Mailbox, WriteCommand};
use crate::snapshot::Published;

/// Time between two looks while something may expire: what has expired holds
/// its memory for so long, and a little more.
const LOOK: Duration = Duration::from_millis(100);

/// Time between two slices: a worker takes a fraction of a millisecond for one,
/// so what waits for it hardly notices.
const SLICE_PAUSE: Duration = Duration::from_millis(4);

/// Records that a shard takes out in a slice: as many as mutations that a worker
/// applies in one go.
const SLICE: u64 = 256;

/// Sweeps one collection.
pub(crate) struct Broom {
    collection: CollectionId,
    writes: Vec<Mailbox<WriteCommand>>,
    is_logged: bool,
    /// The last slice that was asked for.
    last: Seq,
}

impl Broom {
    pub(crate) fn new(
        collection: CollectionId,
        writes: Vec<Mailbox<WriteCommand>>,
        is_logged: bool,
    ) -> Broom {
        Broom { collection, writes, is_logged, last: Seq(0) }
    }

    /// Asks for a slice of work if something has expired. Gives the time after
    /// which to look again; `None` when nothing expires at all. Never waits, nor for a place
    /// in a mailbox: where writers never rest, what has expired would stay for good.
    pub(super) fn sweep(&mut self, published: &Published, admission: &Admission) -> Option<Duration> {
        let soonest = published.soonest_expiry();
        if soonest == NEVER {
            return None;
        }
        let now = Timestamp(published.context.wall.now());
        if soonest > now {
            return Some(LOOK);
        }
        // What was asked for before must be seen first: else it is asked for again.
        if published.seq >= self.last {
            self.ask(published, now, admission);
        }
        Some(SLICE_PAUSE)
    }

    fn ask(&mut self, published: &Published, now: Timestamp, admission: &Admission) {
        let due = published
            .shards
            .iter()
            .enumerate()
            .filter(|(_, shard)| shard.soonest_expiry(published.seq) <= now);
        let shards: Vec<usize> = due.map(|(number, _)| number).collect();
        let permits: Option<Vec<_>> =
            shards.iter().map(|shard| self.writes.get(*shard)?.acquire_beyond()).collect();
        let Some(permits) = permits else { return };
        let log = LogPart { parts: shards.len() as u32, durability: Durability::Applied };
        let log = self.is_logged.then_some(log);
        let (collection, writes) = (self.collection, &self.writes);
        // A durability that is the least of all asks for no other shards.
        let sent = admission.admit(&shards, Durability::Applied, |seq| {
            for (shard, permit) in shards.iter().zip(permits) {
                let mutations = vec![Mutation::Sweep { now, most: SLICE }];
                let command =
                    WriteCommand::Write { collection, seq, mutations, log, verdict: None, grant: None };
                writes[*shard].send(permit, command).map_err(|_| *shard)?;
            }
            Ok::<(), usize>(())
        });
        match sent {
            Ok(seq) => self.last = seq,
            // A worker has ended: this one will never be seen, and none behind it.
            Err(NotAdmitted::Unsent(_)) => self.last = admission.last(),
            Err(NotAdmitted::Narrow) => {}
        }
    }
}
