//! Gives back the memory of records that have expired: a thread that looks now
//! and then, and asks the shards for a slice of work at a time.
//!
//! Searches do not show what has expired, whether it is swept up or not; so it
//! does not matter for answers when the thread looks.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::coordinator::Admission;
use crate::durability::Durability;
use crate::id::Seq;
use crate::rows::Mutation;
use crate::shard::{Backpressure, CollectionId, LogPart, Mailbox, WriteCommand};
use crate::snapshot::{Context, SnapshotCell};

/// Time between two looks when the last one found nothing to do...
const LOOK: Duration = Duration::from_millis(100);

/// ...and when it did: a worker takes a fraction of a millisecond for a slice,
/// so searches that wait for it hardly notice.
const BUSY: Duration = Duration::from_millis(4);

/// Rows that a shard takes out in a slice: as many as mutations that a worker
/// applies in one go.
const SLICE: u64 = 256;

/// A collection that holds or held expiring records. (Not its handle: the thread
/// must never be the last to hold an engine, which would wait for it.)
pub(super) struct Swept {
    pub(super) collection: CollectionId,
    pub(super) writes: Vec<Mailbox<WriteCommand>>,
    pub(super) admission: Arc<Admission>,
    pub(super) cell: Arc<SnapshotCell>,
    pub(super) context: Arc<Context>,
    pub(super) is_logged: bool,
    /// The last slice that was asked for.
    pub(super) last: Seq,
}

/// What is looked after, and whether to go on.
#[derive(Default)]
struct Watched {
    collections: Vec<Swept>,
    closed: bool,
}

/// What the thread and the writers share.
#[derive(Default)]
pub(super) struct Sweeper {
    watched: Mutex<Watched>,
    wake: Condvar,
}

impl Sweeper {
    /// Looks after a collection from now on.
    pub(super) fn watch(&self, collection: Swept) {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).collections.push(collection);
        self.wake.notify_all();
    }

    /// Forgets a collection that was dropped.
    pub(super) fn forget(&self, collection: CollectionId) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.collections.retain(|swept| swept.collection != collection);
    }

    /// Ends the thread.
    pub(super) fn close(&self) {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.wake.notify_all();
    }

    /// The body of the thread.
    pub(super) fn run(&self) {
        let mut pause = LOOK;
        loop {
            let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
            while watched.collections.is_empty() && !watched.closed {
                watched = self.wake.wait(watched).unwrap_or_else(PoisonError::into_inner);
            }
            if !watched.closed {
                (watched, _) = self.wake.wait_timeout(watched, pause).unwrap_or_else(PoisonError::into_inner);
            }
            if watched.closed {
                return;
            }
            let busy = watched.collections.iter_mut().filter_map(Swept::sweep).count();
            pause = if busy > 0 { BUSY } else { LOOK };
        }
    }
}

impl Swept {
    /// Asks for a slice of work if something has expired; none if nothing has.
    /// Never waits: a full mailbox has more urgent things to do.
    fn sweep(&mut self) -> Option<()> {
        let (published, now) = (self.cell.load(), self.context.wall.now());
        let is_due = published.shards.iter().any(|shard| shard.measure().next_expiry <= now);
        let is_seen = published.seq >= self.last;
        drop(published);
        if !is_due {
            return None;
        }
        // What was asked for before must be seen first: else it is asked for again.
        if !is_seen {
            return Some(());
        }
        let permits: Result<Vec<_>, _> =
            self.writes.iter().map(|writes| writes.acquire(Backpressure::Reject)).collect();
        let (Ok(permits), all) = (permits, (0..self.writes.len()).collect::<Vec<_>>()) else {
            return Some(());
        };
        let log = LogPart { parts: all.len() as u32, durability: Durability::Applied };
        let log = self.is_logged.then_some(log);
        let (collection, writes) = (self.collection, &self.writes);
        let seq = self.admission.admit(&all, Durability::Applied, |seq| {
            for ((shard, writes), permit) in writes.iter().enumerate().zip(permits) {
                let mutations = vec![Mutation::Expire { now, most: SLICE }];
                let command = WriteCommand::Write { collection, seq, mutations, log, verdict: None };
                writes.send(permit, command).map_err(|_| shard)?;
            }
            Ok::<(), usize>(())
        });
        if let Ok(seq) = seq {
            self.last = seq;
        }
        Some(())
    }
}
