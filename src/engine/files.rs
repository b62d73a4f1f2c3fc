//! The files of a running engine, and the thread that looks after them.
//!
//! The keeper hears of every log file that is complete. When they hold much,
//! it writes checkpoints from published snapshots (reads and writes go on), and
//! removes the log files whose writes are all in checkpoints.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{debug, error};

use crate::error::{CheckpointError, FileError, Gone};
use crate::id::Seq;
use crate::persist::{CheckpointAt, ClosedLog, Folder, checkpoint};
use crate::rows::Reindexing;
use crate::shard::{Note, Reply, SignalInbox, Signals};
use crate::snapshot::{Published, SnapshotCell};

/// When the keeper looks whether what was to be done can be done now: writes
/// that it waits for are visible within milliseconds.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// That time doubles with every failure, so many times at most (to 51 seconds):
/// a full disk may have room again.
const DOUBLINGS_MOST: u32 = 8;

/// What handles and the keeper share.
pub(super) struct Files {
    /// None once the engine is closed.
    folder: Mutex<Option<Folder>>,
    collections: Mutex<BTreeMap<u64, Kept>>,
    notes: Signals<Note>,
    ending: AtomicBool,
}

/// A collection of which checkpoints are written.
struct Kept {
    cell: Arc<SnapshotCell>,
    /// Bytes of its newest checkpoint.
    checkpoint_bytes: u64,
}

/// What a panic may leave half-changed is as good as what was there.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Files {
    pub(super) fn new(folder: Folder, notes: Signals<Note>) -> Files {
        Files {
            folder: Mutex::new(Some(folder)),
            collections: Mutex::default(),
            notes,
            ending: AtomicBool::new(false),
        }
    }

    /// Works on the folder, unless it is closed.
    fn with<T, E: From<Gone>>(&self, work: impl FnOnce(&mut Folder) -> Result<T, E>) -> Result<T, E> {
        lock(&self.folder).as_mut().map_or_else(|| Err(Gone::Closed.into()), work)
    }

    /// Makes a collection durable before it is used, and with it the checkpoint that it begins with.
    pub(super) fn create<E: From<Gone> + From<FileError>>(
        &self,
        collection: u64,
        name: &str,
        config: Vec<u8>,
        checkpoint: Option<CheckpointAt>,
    ) -> Result<(), E> {
        self.with(|folder| Ok(folder.create(collection, name, config, checkpoint)?))
    }

    /// Checkpoints of the collection are written from now on; the one that it
    /// has is of so many bytes.
    pub(super) fn register(&self, collection: u64, cell: &Arc<SnapshotCell>, checkpoint_bytes: u64) {
        let kept = Kept { cell: Arc::clone(cell), checkpoint_bytes };
        lock(&self.collections).insert(collection, kept);
    }

    /// Makes it durable that a collection is gone.
    pub(super) fn drop_collection<E: From<Gone> + From<FileError>>(&self, collection: u64) -> Result<(), E> {
        self.with(|folder| Ok::<_, E>(folder.drop_collection(collection)?))?;
        lock(&self.collections).remove(&collection);
        Ok(())
    }

    /// Writes a checkpoint of a collection's newest snapshot; false when that
    /// does not show write `least` yet, or shows a change of the index that is
    /// not complete: a checkpoint has but the present index, so the logs have
    /// to say the rest.
    pub(super) fn checkpoint(&self, collection: u64, least: Seq) -> Result<bool, CheckpointError> {
        let cell = lock(&self.collections).get(&collection).map(|kept| Arc::clone(&kept.cell));
        let Some(cell) = cell else { return Ok(true) };
        let reindexes = || cell.pin().context.reindexes.none_under_way();
        let (before, published) = (reindexes(), cell.pin());
        let is_calm = before.is_some() && before == reindexes() && !is_ending(&published);
        if published.seq < least || !is_calm {
            return Ok(false);
        }
        let (at, bytes) = self.write_checkpoint(collection, &published)?;
        self.with(|folder| Ok::<_, CheckpointError>(folder.checkpointed(collection, at)?))?;
        if let Some(kept) = lock(&self.collections).get_mut(&collection) {
            kept.checkpoint_bytes = bytes;
        }
        Ok(true)
    }

    /// Writes the file of a checkpoint, to which nothing refers yet; gives its bytes.
    pub(super) fn write_checkpoint(
        &self,
        collection: u64,
        published: &Published,
    ) -> Result<(CheckpointAt, u64), CheckpointError> {
        let (storage, number) = self.with(|folder| {
            // Where nothing can refer to it a file would only fill the disk.
            folder.check()?;
            Ok::<_, CheckpointError>((Arc::clone(folder.storage()), folder.next_number()))
        })?;
        let file = checkpoint::name(collection, number);
        let config = &published.context.config;
        let bytes = checkpoint::write(storage.as_ref(), &file, published.sight(), config, &self.ending)?;
        let at = CheckpointAt { number, seq: published.seq };
        debug!(collection = published.context.name, seq = at.seq.0, bytes, "checkpoint");
        Ok((at, bytes))
    }

    /// Removes the file of a checkpoint that nothing refers to.
    pub(super) fn forget(&self, collection: u64, at: CheckpointAt) {
        // If it cannot be removed it is when the folder is opened.
        let _ = self.with(|folder| {
            folder.remove(&checkpoint::name(collection, at.number));
            Ok::<(), Gone>(())
        });
    }

    /// Bytes of all checkpoints.
    fn checkpoint_bytes(&self) -> u64 {
        lock(&self.collections).values().map(|kept| kept.checkpoint_bytes).sum()
    }

    pub(super) fn notes(&self) -> &Signals<Note> {
        &self.notes
    }

    /// The engine is ending: no checkpoint is finished any more.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
        self.notes.send(Note::Close);
    }

    /// All threads have ended: others may open the folder.
    pub(super) fn close(&self) {
        drop(lock(&self.folder).take());
        lock(&self.collections).clear();
    }
}

/// Whether another index is about to take over: some shards may have it already.
fn is_ending(published: &Published) -> bool {
    published.shards.iter().any(|shard| shard.measure().reindexing == Reindexing::Ending)
}

/// The state of the keeper's thread.
pub(super) struct Keeper {
    files: Arc<Files>,
    inbox: SignalInbox<Note>,
    /// Complete log files that are not released yet.
    closed: Vec<ClosedLog>,
    /// Bytes of complete log files that are kept in any case.
    least: u64,
    /// Checkpoints that failed one after the other.
    failures: u32,
    /// Not tried again before.
    again: Instant,
    /// Who waits for checkpoints of all collections.
    waiting: Vec<Reply<Result<(), CheckpointError>>>,
}

impl Keeper {
    pub(super) fn new(
        files: Arc<Files>,
        inbox: SignalInbox<Note>,
        closed: Vec<ClosedLog>,
        least: u64,
    ) -> Keeper {
        Keeper { files, inbox, closed, least, failures: 0, again: Instant::now(), waiting: Vec::new() }
    }

    /// The body of the thread.
    pub(super) fn run(mut self) {
        loop {
            let note = if !self.is_due() {
                self.inbox.next()
            } else if self.failures == 0 {
                self.inbox.next_within(LOOK_AGAIN)
            } else {
                // Also while files are closed all the time.
                self.inbox.next_within(self.again.saturating_duration_since(Instant::now()))
            };
            match note {
                Some(Note::Close) => return,
                Some(Note::Closed(file)) => {
                    self.closed.push(file);
                    // A disk that is full is left in peace until the time is up.
                    if self.failures > 0 && Instant::now() < self.again {
                        continue;
                    }
                }
                Some(Note::Checkpoint(reply)) => self.waiting.push(reply),
                None => {}
            }
            // A defect here costs a checkpoint and nothing else: the draft that it
            // leaves is removed when the folder is opened.
            if catch_unwind(AssertUnwindSafe(|| self.work())).is_err() {
                error!("checkpoint panicked");
                self.failed();
                self.waiting.clear();
            }
        }
    }

    fn failed(&mut self) {
        self.failures += 1;
        self.again = Instant::now() + LOOK_AGAIN * (1 << self.failures.min(DOUBLINGS_MOST));
    }

    /// The logs hold more than the checkpoints that would take their place: so
    /// checkpoints write about twice what was logged at most, and their indexes.
    fn is_due(&self) -> bool {
        let held: u64 = self.closed.iter().map(|file| file.bytes).sum();
        held > self.least.max(self.files.checkpoint_bytes())
    }

    fn work(&mut self) {
        if !self.waiting.is_empty() {
            let outcome = self.checkpoint_all();
            if outcome.is_ok() {
                self.failures = 0;
            }
            self.waiting.drain(..).for_each(|reply| reply.send(outcome.clone()));
        }
        if !self.is_due() {
            return;
        }
        let written = self.checkpoint_logged();
        match written.and(self.release()) {
            Ok(()) => self.failures = 0,
            Err(CheckpointError::Gone(_)) => {}
            Err(fault) => {
                error!(%fault, "checkpoint failed");
                self.failed();
            }
        }
    }

    fn checkpoint_all(&mut self) -> Result<(), CheckpointError> {
        let all: Vec<u64> = lock(&self.files.collections).keys().copied().collect();
        let mut outcome = Ok(());
        for collection in all {
            outcome = outcome.and(self.files.checkpoint(collection, Seq(0)).map(drop));
        }
        outcome.and(self.release())
    }

    /// Checkpoints of the collections that complete log files are kept for.
    fn checkpoint_logged(&mut self) -> Result<(), CheckpointError> {
        let needed = self.files.with(|folder| Ok::<_, CheckpointError>(folder.needed(&self.closed)))?;
        let mut outcome = Ok(());
        for (collection, seq) in needed {
            // One that cannot be written does not keep the others from it.
            outcome = outcome.and(self.files.checkpoint(collection, seq).map(drop));
        }
        outcome
    }

    fn release(&mut self) -> Result<(), CheckpointError> {
        let closed = &mut self.closed;
        self.files.with(|folder| Ok(folder.release(closed)?))
    }
}
