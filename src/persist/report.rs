//! What is in a folder: told without changing anything.

use super::checkpoint::{self, Checkpoint};
use super::fault::{FileError, Operation, failed};
use super::folder::Found;
use super::manifest::MANIFEST;
use super::recover::{GivenUp, parse_name};
use crate::id::Seq;

/// What is in a folder, from [`Engine::inspect`](crate::Engine::inspect).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FolderReport {
    /// Workers of the engine that made it.
    pub workers: usize,
    /// Its collections, in the order in which they were made.
    pub collections: Vec<StoredCollection>,
    /// All files, by name.
    pub files: Vec<StoredFile>,
    /// Bytes of logs that nothing vouches for, as crashes leave them, and
    /// those that are damaged.
    pub given_up: Vec<GivenUp>,
}

impl FolderReport {
    /// An engine can open the folder and nothing of it is damaged.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let mut checkpoints = self.collections.iter().filter_map(|each| each.checkpoint.as_ref());
        checkpoints.all(|checkpoint| checkpoint.records.is_ok())
            && self.given_up.iter().all(|part| part.reason == super::GiveUp::TornTail)
    }
}

/// A collection in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredCollection {
    /// Its name.
    pub name: String,
    /// The write after which it stands when the folder is opened.
    pub seq: Seq,
    /// Its checkpoint, if it has one; the logs hold the writes after it.
    pub checkpoint: Option<StoredCheckpoint>,
}

/// The checkpoint of a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredCheckpoint {
    /// Its file.
    pub file: String,
    /// It holds the state after this write.
    pub seq: Seq,
    /// Records in it, if every byte is as it was written.
    pub records: Result<usize, FileError>,
}

/// A file in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredFile {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// What it is for.
    pub kind: FileKind,
}

/// What a file in a folder is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// The collections and their files.
    Manifest,
    /// A part of the log of a worker.
    Log,
    /// A collection as of some write.
    Checkpoint,
    /// Keeps other engines out.
    Lock,
    /// No use to the engine: a crash left it, and the next opening removes it,
    /// or it is none of the engine's business.
    Other,
}

impl Found {
    /// Reads and checks all that it refers to.
    pub(crate) fn report(&self) -> Result<FolderReport, FileError> {
        if !self.names().iter().any(|name| name == MANIFEST) {
            return Err(FileError::Missing { file: MANIFEST.to_owned() });
        }
        let collections = self.collections().map(|(id, entry)| StoredCollection {
            name: entry.name.clone(),
            seq: self.state_of(id),
            checkpoint: entry.checkpoint.map(|at| {
                let file = checkpoint::name(id, at.number);
                let records = Checkpoint::open(self.storage().as_ref(), &file).and_then(Checkpoint::verify);
                StoredCheckpoint { file, seq: at.seq, records }
            }),
        });
        let collections: Vec<StoredCollection> = collections.collect();
        let mut files = Vec::new();
        for name in self.names() {
            let length = self.storage().open(name).and_then(|file| file.length());
            let bytes = length.map_err(|fault| failed(Operation::Read, name, &fault))?;
            files.push(StoredFile { name: name.clone(), bytes, kind: self.kind(name, &collections) });
        }
        files.sort_by(|one, other| one.name.cmp(&other.name));
        let workers = self.workers() as usize;
        Ok(FolderReport { workers, collections, files, given_up: self.given_up().to_vec() })
    }

    fn kind(&self, name: &str, collections: &[StoredCollection]) -> FileKind {
        let is_used = |each: &StoredCollection| {
            each.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.file == name)
        };
        match name {
            MANIFEST => FileKind::Manifest,
            super::folder::LOCK => FileKind::Lock,
            _ if parse_name(name).is_some_and(|(worker, number)| self.is_live_log(worker, number)) => {
                FileKind::Log
            }
            _ if collections.iter().any(is_used) => FileKind::Checkpoint,
            _ => FileKind::Other,
        }
    }
}
