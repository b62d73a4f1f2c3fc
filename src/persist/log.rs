//! The log of one worker: what its shards are asked to do, in order.
//!
//! A log is a chain of files. Entries of all collections of the worker stand
//! in it one after the other; a part of a write that is long is cut into
//! several frames.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::entry::{EntryHead, encode_mutation};
use super::fault::FileError;
use super::frame::{END, FileHeader, FrameKind, FrameWriter};
use super::storage::Storage;
use crate::durability::Durability;
use crate::id::Seq;
use crate::memory::Shortage;
use crate::rows::Mutation;

/// A frame with a part of a write.
pub(super) const ENTRY: FrameKind = u32::from_le_bytes(*b"entr");

/// The letter of a log's header.
pub(super) const LOG: u8 = b'L';

/// Bytes after which a part of a write goes on in another frame, and after
/// which frames are handed to the system though nobody waits for them: large
/// writes need no buffer of their size.
const FRAME_BYTES: usize = 1 << 20;

/// Numbers of files: each higher than all that the folder ever had.
#[derive(Debug)]
pub(crate) struct FileNumbers(AtomicU64);

impl FileNumbers {
    pub(super) fn after(last: u64) -> FileNumbers {
        FileNumbers(AtomicU64::new(last.saturating_add(1)))
    }

    pub(super) fn draw(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

pub(super) fn log_name(worker: u32, number: u64) -> String {
    format!("log-{worker}-{number}")
}

/// Why a part of a write is not in the log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NotLogged {
    /// There is no memory for its frame. The log is as it was.
    Short(Shortage),
    /// The fault that poisoned the log.
    Fault(FileError),
}

impl From<Shortage> for NotLogged {
    fn from(shortage: Shortage) -> NotLogged {
        NotLogged::Short(shortage)
    }
}

impl From<FileError> for NotLogged {
    fn from(fault: FileError) -> NotLogged {
        NotLogged::Fault(fault)
    }
}

/// A log file that nothing is added to any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClosedLog {
    pub(crate) name: String,
    pub(crate) worker: u32,
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    /// By collection the newest write of which it has a part.
    pub(crate) newest: BTreeMap<u64, Seq>,
}

/// The writer of a log.
pub(crate) struct Log {
    storage: Arc<dyn Storage>,
    numbers: Arc<FileNumbers>,
    worker: u32,
    number: u64,
    /// Bytes after which another file is begun.
    file_bytes: u64,
    writer: FrameWriter,
    newest: BTreeMap<u64, Seq>,
}

impl Log {
    /// Begins a log behind the file `previous` (0: none).
    pub(crate) fn begin(
        storage: &Arc<dyn Storage>,
        numbers: &Arc<FileNumbers>,
        worker: u32,
        previous: u64,
        file_bytes: u64,
    ) -> Result<Log, FileError> {
        let number = numbers.draw();
        let incarnation = storage.incarnation();
        let header = FileHeader { kind: LOG, worker, number, previous, incarnation };
        let writer = FrameWriter::create(storage.as_ref(), &log_name(worker, number), header)?;
        Ok(Log {
            storage: Arc::clone(storage),
            numbers: Arc::clone(numbers),
            worker,
            number,
            file_bytes,
            writer,
            newest: BTreeMap::new(),
        })
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Adds a part of a write. It is in the log once [`Log::commit`] says so.
    ///
    /// # Errors
    /// [`NotLogged`]. Where there was no memory the part may be added again: of
    /// one that is cut into several frames the first ones may be in the log by
    /// then, and count for nothing without the others.
    pub(crate) fn append(&mut self, head: EntryHead, mutations: &[Mutation]) -> Result<(), NotLogged> {
        let (length, waiting) = (self.writer.length(), self.writer.waiting());
        self.append_frames(head, mutations).inspect_err(|_| {
            let is_all_waiting =
                self.writer.length() - self.writer.waiting() as u64 == length - waiting as u64;
            self.writer.take_back(if is_all_waiting { waiting } else { self.writer.waiting() });
        })
    }

    fn append_frames(&mut self, head: EntryHead, mutations: &[Mutation]) -> Result<(), NotLogged> {
        self.newest.insert(head.collection, head.seq);
        let mut rest = mutations.iter().peekable();
        for position in 0.. {
            let head = EntryHead { position, ..head };
            self.writer.try_push(ENTRY, |out| {
                let start = out.len();
                EntryHead { continues: true, ..head }.encode(out);
                while out.len() - start < FRAME_BYTES
                    && let Some(mutation) = rest.next()
                {
                    encode_mutation(mutation, out);
                }
                let mut last = crate::codec::Encoder::default();
                EntryHead { continues: rest.peek().is_some(), ..head }.encode(&mut last);
                out.patch(start, last.as_slice());
            })?;
            if self.writer.waiting() >= FRAME_BYTES {
                self.writer.write()?;
            }
            if rest.peek().is_none() {
                break;
            }
        }
        Ok(self.writer.check()?)
    }

    /// Brings all that was appended as far as is asked: one write, one sync.
    pub(crate) fn commit(&mut self, durability: Durability) -> Result<(), FileError> {
        match durability {
            Durability::Applied => self.writer.check(),
            Durability::Logged => self.writer.write(),
            Durability::Synced => self.writer.sync(),
        }
    }

    /// Something was appended and not handed to the system yet.
    pub(crate) fn is_waiting(&self) -> bool {
        self.writer.waiting() > 0
    }

    /// Begins another file when this one is long enough; gives the closed one.
    pub(crate) fn rotate_if_due(&mut self) -> Result<Option<ClosedLog>, FileError> {
        if self.writer.length() < self.file_bytes {
            return Ok(None);
        }
        // What was added and not said to be in the log must not be followed by anything, whatever it was that failed.
        let closed = self.close().inspect_err(|fault| self.writer.poison(fault))?;
        let next = Log::begin(&self.storage, &self.numbers, self.worker, self.number, self.file_bytes);
        // Nothing may be added to a file that has ended.
        *self = next.inspect_err(|fault| self.writer.poison(fault))?;
        Ok(Some(closed))
    }

    /// Ends the file in good order: all of it is durable. The first sync lets
    /// the last frame say so of all others: none of them is a torn tail then.
    pub(crate) fn close(&mut self) -> Result<ClosedLog, FileError> {
        self.writer.sync()?;
        self.writer.push(END, |_| {})?;
        self.writer.sync()?;
        Ok(ClosedLog {
            name: self.writer.name().to_owned(),
            worker: self.worker,
            number: self.number,
            bytes: self.writer.length(),
            newest: std::mem::take(&mut self.newest),
        })
    }
}
