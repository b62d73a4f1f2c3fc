//! The log of a worker: what it takes from its mailbox is logged before it is
//! applied, and one write, or one sync, serves all that was taken together.

use std::sync::{Arc, OnceLock};

use super::command::{LogPart, WriteCommand};
use crate::durability::Durability;
use crate::error::FileError;
use crate::persist::{Asked, ClosedLog, EntryHead, Log, NotLogged};

/// Why no log of the engine is written any more, if that is so. Clones are the
/// same.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogFault(Arc<OnceLock<FileError>>);

impl LogFault {
    /// The first fault stays.
    pub(crate) fn set(&self, fault: FileError) {
        let _ = self.0.set(fault);
    }

    pub(crate) fn get(&self) -> Option<&FileError> {
        self.0.get()
    }
}

/// The log of a worker.
pub(crate) struct Journal {
    /// None in an engine without a folder.
    log: Option<Log>,
    /// What the commands that were added last must reach.
    due: Durability,
}

impl Default for Journal {
    fn default() -> Journal {
        Journal { log: None, due: Durability::Applied }
    }
}

impl Journal {
    pub(crate) fn new(log: Log) -> Journal {
        Journal { log: Some(log), due: Durability::Applied }
    }

    /// Adds a command to the log, if it belongs there.
    ///
    /// # Errors
    /// [`NotLogged`]: after want of memory it may be added again.
    pub(crate) fn add(&mut self, command: &WriteCommand) -> Result<(), NotLogged> {
        let (Some(log), Some((collection, seq, part))) = (&mut self.log, logged(command)) else {
            return Ok(());
        };
        self.due = self.due.max(part.durability);
        let head = |asked| EntryHead::new(collection, seq, part.parts, asked);
        match command {
            WriteCommand::Write { mutations, .. } => log.append(head(Asked::Mutations), mutations),
            _ => log.append(head(Asked::Optimize), &[]),
        }
    }

    /// Brings all that was added as far as the most demanding command wants.
    /// Nothing of it may be applied before, and nothing at all after an error.
    ///
    /// # Errors
    /// The fault that poisoned the log.
    pub(crate) fn commit(&mut self) -> Result<Option<ClosedLog>, FileError> {
        let Some(log) = &mut self.log else { return Ok(None) };
        log.commit(std::mem::replace(&mut self.due, Durability::Applied))?;
        log.rotate_if_due()
    }

    /// Hands to the system what nobody waits for; false when there was nothing.
    ///
    /// # Errors
    /// The fault that poisoned the log.
    pub(crate) fn flush(&mut self) -> Result<bool, FileError> {
        match &mut self.log {
            Some(log) if log.is_waiting() => log.commit(Durability::Logged).map(|()| true),
            _ => Ok(false),
        }
    }

    /// Ends the log in good order.
    ///
    /// # Errors
    /// The fault that poisoned the log.
    pub(crate) fn close(&mut self) -> Result<(), FileError> {
        self.log.take().map_or(Ok(()), |mut log| log.close().map(drop))
    }
}

/// What the log is told of a command.
pub(super) fn logged(command: &WriteCommand) -> Option<(u64, crate::id::Seq, LogPart)> {
    match command {
        WriteCommand::Write { collection, seq, log, .. }
        | WriteCommand::Optimize { collection, seq, log, .. } => log.map(|part| (collection.0, *seq, part)),
        _ => None,
    }
}
