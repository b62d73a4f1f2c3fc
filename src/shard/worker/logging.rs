//! What a worker takes is logged before its shards have it.
//!
//! A frame of the log takes memory. Where there is none nothing was written, so
//! the log stays as it is: the write is held back, with all that follows it in
//! its collection, and the shard waits as it does for any memory (`pause`). Other
//! collections go on.

use tracing::error;

use super::{DRAIN_WRITES, Hosted, Worker};
use crate::error::FileError;
use crate::memory::{Shortage, unless_short};
use crate::persist::NotLogged;
use crate::shard::command::{CollectionId, Note, Report, WriteCommand};
use crate::shard::journal::logged;
use crate::shard::mailbox::Envelope;
use crate::shard::places::Permit;

/// Writes that are taken in a round or held back, together: more than a mailbox holds unless it was made larger
/// (`defaults::MAILBOX_CAPACITY`), and 400 kB.
const HELD_BACK_MOST: usize = 1_536;

/// Writes with their places in the mailbox, in their order.
pub(super) type Taken = Vec<(WriteCommand, Option<Permit>)>;

/// Writes that are not logged yet for want of memory, in their order: as many as an ordinary mailbox
/// holds, so that those of one collection do not keep out what others send. With those that are taken in a
/// round they are never more.
pub(super) struct HeldBack(Taken);

/// A list of writes that needs no memory later: what is held back is taken up again when there is little.
pub(super) fn roomy() -> Taken {
    Taken::with_capacity(HELD_BACK_MOST)
}

impl Default for HeldBack {
    fn default() -> HeldBack {
        HeldBack(roomy())
    }
}

impl HeldBack {
    /// True when a write of a collection waits for its place in the log.
    pub(super) fn has(&self, collection: CollectionId) -> bool {
        self.0.iter().any(|(command, _)| collection_of(command) == Some(collection))
    }

    /// A collection was dropped.
    pub(super) fn forget(&mut self, collection: CollectionId) {
        self.0.retain(|(command, _)| collection_of(command) != Some(collection));
    }

    /// Whoever waits for a write is told, and its place is given back.
    fn add(&mut self, mut command: WriteCommand, shortage: Shortage) {
        match &mut command {
            WriteCommand::Write { verdict, .. } => {
                verdict.take().into_iter().for_each(|verdict| verdict.send(Err(shortage)));
            }
            WriteCommand::Optimize { done, .. } => {
                done.take().into_iter().for_each(|done| done.send(Err(shortage)));
            }
            _ => {}
        }
        self.0.push((command, None));
    }
}

/// The collection of a write.
fn collection_of(command: &WriteCommand) -> Option<CollectionId> {
    match command {
        WriteCommand::Write { collection, .. } | WriteCommand::Optimize { collection, .. } => {
            Some(*collection)
        }
        _ => None,
    }
}

impl Hosted {
    /// Makes room in the queue for one write more than those that are logged.
    fn has_room(&mut self) -> Result<(), Shortage> {
        unless_short(|| self.state.reserve(self.expected + 1))
    }
}

impl Worker {
    /// Logs what waits in the mailbox, then lets the shards have it.
    pub(super) fn take_writes(&mut self) -> bool {
        let mut taken = std::mem::take(&mut self.taken);
        self.release(&mut taken);
        let mut busy = !taken.is_empty();
        while taken.len() < DRAIN_WRITES
            && taken.len() + self.held_back.0.len() < HELD_BACK_MOST
            && let Some(Envelope { message, permit }) = self.ports.writes.try_next()
        {
            busy = true;
            // At once: what was sent behind it may be taken in the same round, and
            // must be logged, or held back for a shard that is there.
            if matches!(message, WriteCommand::StartLog { .. } | WriteCommand::Create { .. }) {
                self.take_write(message, Some(permit));
            } else {
                taken.push((message, Some(permit)));
            }
        }
        let outcome = self.log(&mut taken);
        // Before those who wait are told that there will be no answer: they ask why.
        if let Err(fault) = &outcome {
            self.fail_log(fault);
        }
        for (command, permit) in taken.drain(..) {
            // After a fault nothing is applied that should have been logged:
            // dropped, it gives its place back, and whoever waits for it is told.
            if outcome.is_ok() || logged(&command).is_none() {
                self.take_write(command, permit);
            }
        }
        self.taken = taken;
        busy
    }

    /// Takes up again what was held back of shards that need not wait any more.
    fn release(&mut self, taken: &mut Taken) {
        let shards = &self.shards;
        let may_try = |collection| shards.get(&collection).is_none_or(|hosted| !hosted.is_paused());
        taken.extend(
            self.held_back.0.extract_if(.., |(command, _)| collection_of(command).is_none_or(may_try)),
        );
    }

    /// Logs what was taken; what there is no memory for is held back.
    fn log(&mut self, taken: &mut Taken) -> Result<(), FileError> {
        let mut at = 0;
        while let Some((command, _)) = taken.get(at) {
            match self.journal_one(command)? {
                None => at += 1,
                Some(shortage) => {
                    let (command, _) = taken.remove(at);
                    self.hold_back(command, shortage);
                }
            }
        }
        if taken.is_empty() {
            return Ok(());
        }
        if let (Some(closed), Some(notes)) = (self.journal.commit()?, &self.notes) {
            notes.send(Note::Closed(closed));
        }
        Ok(())
    }

    /// Adds one to the log, unless there is no memory for that, for its place in
    /// the queue of its shard, or for one before it.
    fn journal_one(&mut self, command: &WriteCommand) -> Result<Option<Shortage>, FileError> {
        let Some(collection) = collection_of(command) else { return Ok(None) };
        if self.held_back.has(collection) {
            let shortage = self.shards.get(&collection).and_then(|hosted| hosted.shortage());
            return Ok(Some(shortage.unwrap_or(Shortage { bytes: 0 })));
        }
        let mut hosted = self.shards.get_mut(&collection);
        let room = hosted.as_mut().map_or(Ok(()), |hosted| hosted.has_room());
        match room.map_err(NotLogged::Short).and_then(|()| self.journal.add(command)) {
            Ok(()) => {
                hosted.into_iter().for_each(|hosted| hosted.expected += 1);
                Ok(None)
            }
            Err(NotLogged::Short(shortage)) => Ok(Some(shortage)),
            Err(NotLogged::Fault(fault)) => Err(fault),
        }
    }

    fn hold_back(&mut self, command: WriteCommand, shortage: Shortage) {
        let Some(collection) = collection_of(&command).filter(|of| self.shards.contains_key(of)) else {
            return;
        };
        let is_first = !self.held_back.has(collection);
        // The shard waits before anybody is told.
        if is_first {
            self.fall_short(collection, shortage, false);
        }
        self.held_back.add(command, shortage);
    }

    /// The thread ends: a last attempt. Nobody was told that these are kept.
    pub(super) fn log_held_back(&mut self) {
        let held_back = std::mem::take(&mut self.held_back.0);
        for (command, _) in held_back {
            if self.journal.add(&command).is_err() {
                return;
            }
        }
    }

    /// Nobody waits for what is left in the log's buffer: it is written when
    /// there is nothing else to do.
    pub(super) fn flush_log(&mut self) -> bool {
        self.journal.flush().unwrap_or_else(|fault| {
            self.fail_log(&fault);
            false
        })
    }

    pub(super) fn fail_log(&self, fault: &FileError) {
        if self.ports.log_fault.get().is_none() {
            error!(worker = self.number, %fault, "log failed");
        }
        self.ports.log_fault.set(fault.clone());
        self.shards.values().for_each(|hosted| hosted.meter.wake());
        self.ports.reports.send(Report::LogFailed);
    }
}
