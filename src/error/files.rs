//! What can go wrong with files.

use std::fmt;
use std::io;

use super::{BuildError, CollectionError, Gone};

/// What was done to a file when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Opening a file that exists.
    Open,
    /// Making a file.
    Create,
    /// Reading.
    Read,
    /// Writing at the end.
    Append,
    /// Making content durable.
    Sync,
    /// Cutting off.
    Truncate,
    /// Giving another name.
    Rename,
    /// Removing.
    Remove,
    /// Opening, making or listing the folder.
    Folder,
    /// Making names durable.
    SyncFolder,
    /// Keeping other engines out.
    Lock,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Open => "opening",
            Operation::Create => "creating",
            Operation::Read => "reading",
            Operation::Append => "appending to",
            Operation::Sync => "syncing",
            Operation::Truncate => "truncating",
            Operation::Rename => "renaming",
            Operation::Remove => "removing",
            Operation::Folder => "using the folder",
            Operation::SyncFolder => "syncing the folder of",
            Operation::Lock => "locking",
        })
    }
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system refused an operation.
    #[error("{operation} {file:?} failed: {message}")]
    Failed {
        /// What was to be done.
        operation: Operation,
        /// The file, by its name in the folder.
        file: String,
        /// The kind of the system's error.
        kind: io::ErrorKind,
        /// Its text.
        message: String,
    },
    /// The file does not hold what was written into it.
    #[error("{file:?} is damaged at byte {offset}: {what}")]
    Damaged {
        /// The file, by its name in the folder.
        file: String,
        /// The place.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A file that belongs to the folder is not there.
    #[error("{file:?} is missing")]
    Missing {
        /// Its name.
        file: String,
    },
    /// A later version of this crate wrote the file.
    #[error("{file:?} has format version {version}, this version of vecino knows those up to {known}")]
    Newer {
        /// The file, by its name in the folder.
        file: String,
        /// Its format version.
        version: u32,
        /// The newest known.
        known: u32,
    },
}

/// Why a folder could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting of the engine cannot be.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A file could not be used; nothing was changed.
    /// [`EngineBuilder::repair`](crate::EngineBuilder::repair) opens what can
    /// be read of damaged files.
    #[error(transparent)]
    File(#[from] FileError),
    /// The folder's records are spread over another number of workers.
    /// [`Snapshot::checkpoint`](crate::Snapshot::checkpoint) and
    /// [`Engine::load`](crate::Engine::load) carry them over.
    #[error("the folder was made with {stored} workers, the engine was to have {asked}")]
    Workers {
        /// The folder's number.
        stored: usize,
        /// What the builder says.
        asked: usize,
    },
    /// Another engine has the folder open.
    #[error("another engine has the folder open")]
    InUse,
    /// The engine ended while it was opening.
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// Why a checkpoint was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The engine or the collection is gone.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// The engine has no folder: it was made by
    /// [`EngineBuilder::build`](crate::EngineBuilder::build).
    #[error("the engine has no folder")]
    InMemory,
}

/// Why a checkpoint could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file could not be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The collection could not be created.
    #[error(transparent)]
    Collection(#[from] CollectionError),
    /// The records could not be written.
    #[error(transparent)]
    Write(#[from] super::WriteError),
    /// The records did not become visible.
    #[error(transparent)]
    Wait(#[from] super::WaitError),
}
