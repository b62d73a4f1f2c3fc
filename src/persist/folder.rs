//! A folder that an engine keeps its collections in.
//!
//! ```text
//!  manifest                the collections, and which files belong to them
//!  log-W-N                 file N of the log of worker W
//!  checkpoint-C-N          collection C as of some write
//!  lock                    held while an engine has the folder open
//! ```
//! Other files are none of its business. Files of its own that nothing refers
//! to are what a crash left: they are removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fault::{FileError, Operation, failed};
use super::frame::{END, FILE_HEADER, FRAME_HEADER, FrameWriter};
use super::log::{ClosedLog, FileNumbers, Log};
use super::manifest::{
    Change, CheckpointAt, Contents, Cut, DRAFT as MANIFEST_DRAFT, Entry, MANIFEST, Manifest,
};
use super::recover::{GiveUp, GivenUp, Logs, parse_name};
use super::storage::{Disk, Guard, Storage};
use super::{EntryHead, checkpoint};
use crate::id::Seq;
use crate::rows::Mutation;
use crate::vector::Space;

pub(super) const LOCK: &str = "lock";

/// What is added to the name of a file that a repair could not read, or not all of: nobody
/// looks at it any more, but whoever repairs.
const DAMAGED: &str = ".damaged";

/// Bytes of a log in which nothing stands: a header, and a frame that ends it.
const EMPTY_LOG: u64 = (FILE_HEADER + FRAME_HEADER) as u64;

/// Why a folder was not opened.
#[derive(Debug)]
pub(crate) enum Refused {
    InUse,
    File(FileError),
}

impl From<FileError> for Refused {
    fn from(fault: FileError) -> Self {
        Refused::File(fault)
    }
}

/// How a folder is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FolderOptions {
    /// Workers of a folder that is new; an existing one keeps its own.
    pub(crate) workers: u32,
    /// Bytes of a log file.
    pub(crate) log_bytes: u64,
    /// Go on behind damage.
    pub(crate) repair: bool,
}

/// A folder whose logs were read and that nothing was changed in yet.
pub(crate) struct Found {
    storage: Arc<dyn Storage>,
    options: FolderOptions,
    names: Vec<String>,
    contents: Contents,
    logs: Logs,
    last_number: u64,
    guard: Box<dyn Guard>,
}

/// A folder that is being written.
pub(crate) struct Folder {
    storage: Arc<dyn Storage>,
    numbers: Arc<FileNumbers>,
    manifest: Manifest,
    /// Files in which something was damaged: they are kept under another name.
    damaged: Vec<String>,
    _guard: Box<dyn Guard>,
}

/// What comes out of opening a folder.
pub(crate) struct Opened {
    pub(crate) folder: Folder,
    /// By worker.
    pub(crate) logs: Vec<Log>,
    /// Log files of before that still count.
    pub(crate) closed: Vec<ClosedLog>,
}

/// Locks and reads a folder.
pub(crate) fn find(storage: Arc<dyn Storage>, options: FolderOptions) -> Result<Found, Refused> {
    let guard = storage.lock(LOCK).map_err(|fault| failed(Operation::Lock, LOCK, &fault))?;
    let guard = guard.ok_or(Refused::InUse)?;
    let names = storage.list().map_err(|fault| failed(Operation::Folder, ".", &fault))?;
    let (contents, manifest_number) = if names.iter().any(|name| name == MANIFEST) {
        Contents::read(storage.as_ref())?
    } else {
        check_is_new(storage.as_ref(), &names)?;
        let none = vec![0; options.workers as usize];
        let (first, opened) = (none.clone(), none);
        (Contents { workers: options.workers, first, opened, ..Contents::default() }, 0)
    };
    let read = |repair| Logs::read(storage.as_ref(), &names, &contents, repair);
    let logs = match read(false) {
        Err(FileError::Damaged { .. } | FileError::Missing { .. }) if options.repair => read(true)?,
        outcome => outcome?,
    };
    let numbers = names.iter().filter_map(|name| {
        parse_name(name).map(|(_, number)| number).or_else(|| checkpoint::parse_name(name).map(|(_, n)| n))
    });
    let last_number = numbers.chain([manifest_number]).max().unwrap_or(0);
    Ok(Found { storage, options, names, contents, logs, last_number, guard })
}

/// Without a manifest there may be what the first opening left when it was
/// broken off: logs in which nothing stands but, maybe, that they end.
fn check_is_new(storage: &dyn Storage, names: &[String]) -> Result<(), FileError> {
    for name in names {
        let is_log = parse_name(name).is_some();
        let length = || storage.open(name).and_then(|file| file.length());
        if checkpoint::parse_name(name).is_some()
            || is_log && length().map_err(|fault| failed(Operation::Read, name, &fault))? > EMPTY_LOG
        {
            return Err(FileError::Missing { file: MANIFEST.to_owned() });
        }
    }
    Ok(())
}

/// A file that a caller names must not take the place of one of an engine's, nor of what is no file (a device).
///
/// # Errors
/// [`FileError::Failed`] when it would.
pub(crate) fn check_target(disk: &Disk, file: &str) -> Result<(), FileError> {
    let file_of = file.strip_suffix(DAMAGED).unwrap_or(file);
    let is_own_name = [MANIFEST, LOCK].contains(&file_of)
        || file_of == MANIFEST_DRAFT
        || checkpoint::is_draft(file_of)
        || parse_name(file_of).is_some()
        || checkpoint::parse_name(file_of).is_some();
    let refused = |why: &str| {
        let fault = std::io::Error::new(std::io::ErrorKind::AlreadyExists, why);
        Err(failed(Operation::Create, file, &fault))
    };
    let names = || disk.list().map_err(|fault| failed(Operation::Folder, ".", &fault));
    if is_own_name && names()?.iter().any(|name| name == MANIFEST) {
        return refused("an engine keeps its collections in this folder, in files of such names");
    }
    if disk.is_no_file(file) { refused("it is there and no file") } else { Ok(()) }
}

impl Found {
    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// The names of all files.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// A log file that counts.
    pub(super) fn is_live_log(&self, worker: u32, number: u64) -> bool {
        self.logs.files.iter().any(|file| (file.worker, file.number) == (worker, number))
    }

    pub(crate) fn workers(&self) -> u32 {
        self.contents.workers
    }

    pub(crate) fn next_collection(&self) -> u64 {
        self.contents.next_collection
    }

    pub(crate) fn given_up(&self) -> &[GivenUp] {
        &self.logs.given_up
    }

    /// Something else could not be read.
    pub(crate) fn give_up(&mut self, part: GivenUp) {
        self.logs.given_up.push(part);
    }

    /// Damage is to be overcome.
    pub(crate) fn repairs(&self) -> bool {
        self.options.repair
    }

    /// There was damage: checkpoints must take the place of the files.
    pub(crate) fn is_repaired(&self) -> bool {
        self.logs.given_up.iter().any(|part| part.reason == GiveUp::Damage)
    }

    /// The collections by their numbers.
    pub(crate) fn collections(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.contents.collections.iter().map(|(id, entry)| (*id, entry))
    }

    /// The state that a collection comes to.
    pub(crate) fn state_of(&self, collection: u64) -> Seq {
        self.logs.states.get(&collection).copied().unwrap_or_default()
    }

    /// Shows what a worker's log asks for, beyond the checkpoints.
    pub(crate) fn replay(
        &self,
        worker: u32,
        space_of: &dyn Fn(u64) -> Option<Space>,
        visit: &mut dyn FnMut(EntryHead, Vec<Mutation>),
    ) -> Result<(), FileError> {
        self.logs.replay(worker, &self.contents, space_of, visit)
    }

    /// Makes the folder ready to be written: cuts torn tails, begins new logs,
    /// writes a new manifest, removes what nothing refers to. Until the new
    /// manifest stands, a crash leaves the folder as it was.
    pub(crate) fn begin(mut self) -> Result<Opened, FileError> {
        let numbers = Arc::new(FileNumbers::after(self.last_number));
        let mut closed = self.end_logs()?;
        let mut logs = Vec::new();
        for worker in 0..self.contents.workers {
            let of_worker = self.logs.files.iter().filter(|file| file.worker == worker);
            let previous = of_worker.map(|file| file.number).max().unwrap_or(0);
            logs.push(Log::begin(&self.storage, &numbers, worker, previous, self.options.log_bytes)?);
        }
        self.contents.opened = logs.iter().map(Log::number).collect();
        self.cut();
        for (worker, opened) in (0..).zip(self.contents.opened.clone()) {
            let first = first_needed(&self.contents, &closed, worker).unwrap_or(opened);
            self.contents.first[worker as usize] = first;
        }
        closed.retain(|file| file.number >= self.contents.first_of(file.worker));
        let least = closed.iter().map(|file| file.number).min().unwrap_or(u64::MAX);
        for entry in self.contents.collections.values_mut() {
            entry.cuts.retain(|cut| cut.up_to >= least);
        }
        let number = numbers.draw();
        let manifest = Manifest::publish(self.storage.as_ref(), self.contents, number)?;
        let damaged = self.logs.given_up.iter().filter(|part| part.reason == GiveUp::Damage);
        let damaged = damaged.map(|part| part.file.clone()).collect();
        let folder = Folder { storage: self.storage, numbers, manifest, damaged, _guard: self.guard };
        let opened: Vec<u64> = logs.iter().map(Log::number).collect();
        folder.sweep(&self.names, &opened);
        for name in &self.logs.unreadable {
            // One that keeps its name is found to be damaged the next time, too.
            folder.set_aside(name);
        }
        Ok(Opened { folder, logs, closed })
    }

    /// Brings files that a crash left without an end to one. An end that is there may not be durable: a process
    /// may have died before it was, and whatever follows relies on it.
    fn end_logs(&self) -> Result<Vec<ClosedLog>, FileError> {
        let mut closed = Vec::new();
        let is_salvaged = self.logs.is_salvaged();
        for file in &self.logs.files {
            let mut length = file.tail.length;
            let is_last = !self
                .logs
                .files
                .iter()
                .any(|other| other.worker == file.worker && other.number > file.number);
            if (!file.tail.is_ended || is_last) && !is_salvaged {
                let opened = self.storage.open(&file.name);
                let handle = opened.map_err(|fault| failed(Operation::Open, &file.name, &fault))?;
                let mut writer = FrameWriter::resume(handle, &file.name, file.header, length)?;
                if !file.tail.is_ended {
                    writer.push(END, |_| {})?;
                    writer.sync()?;
                    length = writer.length();
                }
            }
            closed.push(file.closed(length));
        }
        Ok(closed)
    }

    /// Notes which writes in the files of before never happened.
    fn cut(&mut self) {
        for collection in &self.logs.incomplete {
            let seq = self.logs.states.get(collection).copied().unwrap_or_default();
            if let Some(entry) = self.contents.collections.get_mut(collection) {
                entry.cuts.push(Cut { up_to: self.last_number, seq });
            }
        }
    }
}

/// The first of a worker's closed files with a write that no checkpoint holds.
fn first_needed(contents: &Contents, closed: &[ClosedLog], worker: u32) -> Option<u64> {
    let is_needed = |file: &&ClosedLog| {
        file.newest.iter().any(|(collection, newest)| {
            let entry = contents.collections.get(collection);
            entry.is_some_and(|entry| entry.limit(file.number, *newest) > entry.checkpointed())
        })
    };
    closed.iter().filter(|file| file.worker == worker).filter(is_needed).map(|file| file.number).min()
}

fn needed(contents: &Contents, closed: &[ClosedLog]) -> BTreeMap<u64, Seq> {
    let mut needed: BTreeMap<u64, Seq> = BTreeMap::new();
    for file in closed {
        for (collection, newest) in &file.newest {
            let Some(entry) = contents.collections.get(collection) else { continue };
            let seq = entry.limit(file.number, *newest);
            if seq > entry.checkpointed() {
                let known = needed.entry(*collection).or_insert(seq);
                *known = (*known).max(seq);
            }
        }
    }
    needed
}

impl Folder {
    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    pub(crate) fn contents(&self) -> &Contents {
        self.manifest.contents()
    }

    /// A collection is there from now on.
    pub(crate) fn create(
        &mut self,
        collection: u64,
        name: &str,
        config: Vec<u8>,
        checkpoint: Option<CheckpointAt>,
    ) -> Result<(), FileError> {
        self.manifest.change(Change::Created { collection, name: name.to_owned(), config, checkpoint })
    }

    /// A collection is gone from now on.
    pub(crate) fn drop_collection(&mut self, collection: u64) -> Result<(), FileError> {
        let checkpoint = self.contents().collections.get(&collection).and_then(|entry| entry.checkpoint);
        self.manifest.change(Change::Dropped { collection })?;
        if let Some(at) = checkpoint {
            self.remove(&checkpoint::name(collection, at.number));
        }
        Ok(())
    }

    /// By collection the bytes of its checkpoint.
    pub(crate) fn checkpoint_bytes(&self) -> BTreeMap<u64, u64> {
        let entries = self.contents().collections.iter();
        let files =
            entries.filter_map(|(id, entry)| Some((*id, checkpoint::name(*id, entry.checkpoint?.number))));
        let length = |file: &str| self.storage.open(file).and_then(|file| file.length());
        files.filter_map(|(id, file)| Some((id, length(&file).ok()?))).collect()
    }

    /// Collections of which closed log files hold writes that no checkpoint does, and the newest of
    /// these writes that counts: one that a crash cut off never happened, so none waits for it.
    pub(crate) fn needed(&self, closed: &[ClosedLog]) -> BTreeMap<u64, Seq> {
        needed(self.contents(), closed)
    }

    /// The fault after which the manifest cannot be changed any more.
    pub(crate) fn check(&self) -> Result<(), FileError> {
        self.manifest.check()
    }

    /// A number for a checkpoint file.
    pub(crate) fn next_number(&self) -> u64 {
        self.numbers.draw()
    }

    /// A checkpoint that was written takes the place of the one before.
    pub(crate) fn checkpointed(&mut self, collection: u64, at: CheckpointAt) -> Result<(), FileError> {
        let entry = self.contents().collections.get(&collection);
        let Some(entry) = entry.filter(|entry| entry.checkpointed() <= at.seq) else {
            // It was dropped meanwhile, or a newer one was faster: the logs
            // before that one may be gone.
            self.remove(&checkpoint::name(collection, at.number));
            return Ok(());
        };
        let before = entry.checkpoint;
        self.manifest.change(Change::Checkpointed { collection, at })?;
        if let Some(before) = before {
            self.remove(&checkpoint::name(collection, before.number));
        }
        Ok(())
    }

    /// Removes the closed log files, oldest first, whose writes are all in
    /// checkpoints; `closed` keeps the others.
    pub(crate) fn release(&mut self, closed: &mut Vec<ClosedLog>) -> Result<(), FileError> {
        closed.sort_by_key(|file| file.number);
        for worker in 0..self.contents().workers {
            let Some(newest) = closed.iter().rfind(|file| file.worker == worker) else { continue };
            let behind = newest.number + 1;
            let first = first_needed(self.contents(), closed, worker).unwrap_or(behind);
            let is_dead = |file: &ClosedLog| file.worker == worker && file.number < first;
            if closed.iter().any(is_dead) {
                self.manifest.change(Change::First { worker, number: first })?;
                closed.extract_if(.., |file| is_dead(file)).for_each(|file| self.remove(&file.name));
            }
        }
        Ok(())
    }

    /// Removes files of ours that the manifest does not refer to.
    fn sweep(&self, names: &[String], opened: &[u64]) {
        let contents = self.contents();
        for name in names {
            let is_dead_log = parse_name(name).is_some_and(|(worker, number)| {
                number < contents.first_of(worker) && !opened.contains(&number) || worker >= contents.workers
            });
            let is_dead_checkpoint = checkpoint::parse_name(name).is_some_and(|(collection, number)| {
                let entry = contents.collections.get(&collection);
                entry.and_then(|entry| entry.checkpoint).is_none_or(|at| at.number != number)
            });
            if is_dead_log || is_dead_checkpoint || checkpoint::is_draft(name) {
                self.remove(name);
            }
        }
    }

    /// A file that cannot be removed is left for the next opening; a damaged one is renamed.
    pub(crate) fn remove(&self, name: &str) {
        if self.damaged.iter().any(|damaged| damaged == name) {
            return self.set_aside(name);
        }
        let _ = self.storage.remove(name);
    }

    /// Gives a file a name that nobody looks at.
    fn set_aside(&self, name: &str) {
        let _ = self.storage.rename(name, &format!("{name}{DAMAGED}"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::{Cut, Entry};
    use super::*;

    // The keeper once waited for such a write, and no log was removed any more.
    #[test]
    fn a_write_that_a_crash_cut_off_needs_no_checkpoint() {
        let entry = |checkpoint: Option<CheckpointAt>, cuts| Entry {
            name: "items".into(),
            config: Vec::new(),
            checkpoint,
            cuts,
        };
        let at = |seq| Some(CheckpointAt { number: 1, seq: Seq(seq) });
        let cut = |seq| vec![Cut { up_to: 5, seq: Seq(seq) }];
        let collections =
            [(1, entry(at(99), cut(99))), (2, entry(at(50), cut(99))), (3, entry(None, vec![]))];
        let contents = Contents { workers: 1, collections: collections.into(), ..Contents::default() };
        let file = |number, newest: &[(u64, u64)]| ClosedLog {
            name: String::new(),
            worker: 0,
            number,
            bytes: 0,
            newest: newest.iter().map(|(collection, seq)| (*collection, Seq(*seq))).collect(),
        };
        let closed = [file(4, &[(1, 80), (2, 70)]), file(5, &[(1, 100), (2, 100), (3, 7), (9, 3)])];
        assert_eq!(needed(&contents, &closed), [(2, Seq(99)), (3, Seq(7))].into());
        let later = [file(6, &[(1, 100)])];
        assert_eq!(needed(&contents, &later), [(1, Seq(100))].into(), "that number was given again");
    }
}
