//! Checkpoints as files that can be taken elsewhere.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::Engine;
use super::clock::SystemClock;
use super::collection::{Blueprint, Collection};
use super::config::CollectionConfig;
use super::open::{Source, refused};
use super::reindex::switched;
use crate::error::{
    CheckpointError, CollectionError, FileError, Gone, LoadError, Operation, ReindexError, WaitError,
};
use crate::persist::checkpoint::{self, Checkpoint, Meta};
use crate::persist::{Disk, check_target, unless_short};
use crate::rows::NewRow;
use crate::shard::{Backpressure, CollectionId, Note, reply};
use crate::snapshot::{Calibrator, Helpers, Record, Screener, Snapshot};
use crate::vector::Space;

/// Records that are written at a time when they are spread over other shards.
const RECORDS_AT_A_TIME: usize = 10_000;

/// How long these wait for a place, or for room in a memory budget. Nobody can delete from a collection that is not there yet.
const ROOM_WAIT_MOST: Duration = Duration::from_secs(60);

/// The folder that a file is in, and its name there.
fn around(path: &Path) -> Result<(Disk, String), FileError> {
    Disk::around(path).map_err(|fault| refused(path, &fault))
}

/// What a file is called until it is complete: others may be writing the same one, and the one that ends last is there then.
fn draft(file: &str) -> String {
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    format!("{file}.{}-{number}.new", std::process::id())
}

impl Snapshot {
    /// Writes the snapshot into one file, index included, while reads and
    /// writes go on; gives the file's bytes. The file has its name only once
    /// it is complete and durable; one that had the name is replaced. Of several calls with one
    /// path at a time the last to end is what is there. (Until then it is `path.` with two numbers and `.new`; a
    /// process that dies meanwhile leaves that behind.)
    /// [`Snapshot::open`] reads it, [`Engine::load`] makes it a collection.
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Metric, Record, Snapshot};
    /// # let engine = Engine::builder().build()?;
    /// # let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2))?;
    /// # let path = std::env::temp_dir().join(format!("vecino-doc-backup-{}", std::process::id()));
    /// items.upsert(Record::new(1, [0.5, 2.0]))?.wait()?;
    /// items.snapshot().checkpoint(&path)?;
    ///
    /// let backup = Snapshot::open(&path)?;
    /// assert_eq!(backup.get(1)?, Some(Record::new(1, [0.5, 2.0])));
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`FileError::Failed`] when the file cannot be written; nothing is left
    /// of it then. That includes the names of an engine's own files in its folder, and what is there and no file.
    pub fn checkpoint(&self, path: impl AsRef<Path>) -> Result<u64, FileError> {
        let (disk, file) = around(path.as_ref())?;
        check_target(&disk, &file)?;
        let config = &self.published().context.config;
        let (draft, cancelled) = (draft(&file), AtomicBool::new(false));
        checkpoint::write_by_draft(&disk, &draft, &file, self.sight(), config, &cancelled)
    }

    /// Reads a checkpoint as a snapshot of its own, without an engine. It shows
    /// what the snapshot showed that it was made of, also what has expired since.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read or is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Snapshot, FileError> {
        let (disk, file) = around(path.as_ref())?;
        let meta = Checkpoint::open(&disk, &file)?.meta;
        let mut blueprint = blueprint(CollectionId(0), &meta.name, &meta, &file)?;
        let source = Source { storage: &disk, file: &file, repair: false };
        (blueprint.states, blueprint.seq) = source.restored(&mut blueprint, &mut |_| {})?;
        let published = blueprint.publish(
            Arc::new(SystemClock::default()),
            Arc::new(Alone),
            Box::new(Alone),
            Box::new(Alone),
        );
        Ok(Snapshot::at(Arc::new(published), meta.now))
    }
}

fn blueprint(id: CollectionId, name: &str, meta: &Meta, file: &str) -> Result<Blueprint, FileError> {
    let damaged = |what| FileError::Damaged { file: file.to_owned(), offset: 0, what };
    let config = CollectionConfig::decode(&meta.config).map_err(|fault| damaged(fault.what))?;
    Ok(Blueprint::empty(id, name, config, meta.shards))
}

/// A collection that has no name yet: it ends with this, unless that is taken out.
struct Hidden(Option<Collection>);

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(collection) = &self.0 {
            collection.end();
        }
    }
}

/// A snapshot without an engine has no threads to help.
pub(super) struct Alone;

impl Helpers for Alone {
    fn share(&self, pieces: usize, work: Arc<dyn Fn(usize) + Send + Sync>) {
        (0..pieces).for_each(|piece| work(piece));
    }
}

impl Calibrator for Alone {
    fn ask(&self) -> bool {
        false
    }
}

impl Screener for Alone {
    fn ask(&self) {}
}

impl Engine {
    /// Writes checkpoints of all collections into the engine's folder and
    /// removes the log files that they make needless. The engine does that by
    /// itself when its logs have grown; after this call the next opening is fast.
    /// A collection whose index is being changed is left to its logs until that
    /// is done.
    ///
    /// # Errors
    /// [`CheckpointError`]: a file could not be written, the engine is closed,
    /// or it has no folder.
    pub fn checkpoint(&self) -> Result<(), CheckpointError> {
        let files = self.owner.core.files().ok_or(CheckpointError::InMemory)?;
        self.check_open()?;
        for collection in self.all_collections() {
            // What is not visible is not in a checkpoint, nor is what was left out.
            match collection.flush() {
                Ok(_) | Err(WaitError::LeftOut { .. }) => {}
                Err(_) => return Err(collection.shared.gone().into()),
            }
        }
        let (reply, waiting) = reply();
        files.notes().send(Note::Checkpoint(reply));
        waiting.wait(None).map_err(|_| Gone::Closed)?
    }

    /// Makes a checkpoint a collection of this engine, under a name. It is there whole or, after an error or a
    /// crash, not at all; nobody finds it by its name before. From an
    /// engine with as many workers it comes with its index and the numbers of
    /// its writes; else its records are spread anew, which takes as long as writing them, and its writes count from 1. It has
    /// the settings of the one that was saved, its memory budget too; what has expired since is not shown.
    ///
    /// # Errors
    /// [`LoadError`]: the file cannot be read or is damaged, the name is taken,
    /// or the engine cannot write, which includes a memory budget that had no room for the records for a minute (where
    /// they are spread anew).
    pub fn load(&self, name: &str, path: impl AsRef<Path>) -> Result<Collection, LoadError> {
        let (disk, file) = around(path.as_ref())?;
        let checkpoint = Checkpoint::open(&disk, &file)?;
        let core = &self.owner.core;
        let mut blueprint = blueprint(core.next_collection(), name, &checkpoint.meta, &file)?;
        let workers = core.writes.len();
        if checkpoint.meta.shards != workers {
            let empty = Blueprint::empty(blueprint.id, name, blueprint.config, workers);
            return self.adopt(empty, |collection| spread(checkpoint, collection));
        }
        let source = Source { storage: &disk, file: &file, repair: false };
        (blueprint.states, blueprint.seq) = source.restored(&mut blueprint, &mut |_| {})?;
        blueprint.last = blueprint.seq;
        self.adopt(blueprint, |_| Ok(()))
    }

    /// Takes in a collection that has records already, or is given some. It is in the folder with all of them or, after a crash, not at all;
    /// no lock is held while they are written.
    fn adopt(
        &self,
        blueprint: Blueprint,
        fill: impl FnOnce(&Collection) -> Result<(), LoadError>,
    ) -> Result<Collection, LoadError> {
        super::check_name(&blueprint.name)?;
        self.check_free(&blueprint.name)?;
        let config = blueprint.config.encode();
        let collection = Collection::create(&self.owner.core, blueprint)?;
        let mut hidden = Hidden(Some(collection.clone()));
        collection.unlogged(fill)?;
        self.admit(&collection, config)?;
        hidden.0 = None;
        Ok(collection)
    }

    fn check_free(&self, name: &str) -> Result<(), CollectionError> {
        let is_taken = self.collections_by_name().contains_key(name);
        if is_taken { Err(CollectionError::Exists(name.to_owned())) } else { Ok(()) }
    }

    /// Gives a collection its name, once its records are in the folder: what the log
    /// will say builds on them.
    fn admit(&self, collection: &Collection, config: Vec<u8>) -> Result<(), CollectionError> {
        let (id, name) = (collection.shared.id.0, collection.name());
        let files = self.owner.core.files();
        let published = collection.shared.cell.pin();
        let written = files.map(|files| files.write_checkpoint(id, &published)).transpose();
        let written = written.map_err(|fault| match fault {
            CheckpointError::File(fault) => CollectionError::File(fault),
            _ => CollectionError::Gone(Gone::Closed),
        })?;
        let mut collections = self.collections_by_name();
        let is_taken = collections.contains_key(name);
        if let (Some(files), Some((at, bytes))) = (files, written) {
            if is_taken {
                files.forget(id, at);
            } else {
                files.create::<CollectionError>(id, name, config, Some(at))?;
                self.register(collection, bytes);
            }
        }
        if is_taken {
            return Err(CollectionError::Exists(name.to_owned()));
        }
        collection.begin_sweeping()?;
        collections.insert(name.to_owned(), collection.clone());
        Ok(())
    }
}

/// Writes all records of a checkpoint into a collection, and waits until they are visible.
fn spread(mut checkpoint: Checkpoint, collection: &Collection) -> Result<(), LoadError> {
    let collection = collection.backpressure(Backpressure::WaitAtMost(ROOM_WAIT_MOST));
    let config = collection.config();
    let space = Space::new(config.metric(), config.dimension());
    for _ in 0..checkpoint.meta.shards {
        let name = checkpoint.name().to_owned();
        let shard = unless_short(Operation::Read, &name, || {
            checkpoint.shard(&space, config.vector_storage(), &mut |_| {})
        })?;
        // While there are hardly any records.
        if let Some((config, _)) = shard.spec.as_deref().and_then(|spec| switched(spec, &config)) {
            collection.reindex(config.index_spec()).map_err(|fault| match fault {
                ReindexError::Spec(fault) => LoadError::Collection(fault),
                ReindexError::Write(fault) => LoadError::Write(fault),
                ReindexError::Wait(fault) => LoadError::Wait(fault),
                ReindexError::UnderWay | ReindexError::Lost => LoadError::Collection(Gone::Closed.into()),
            })?;
        }
        let mut records = shard
            .records()
            .map(|NewRow { id, vector, payload, .. }| {
                Record::new(id, vector.into_vec()).with_payload(payload)
            })
            .peekable();
        while records.peek().is_some() {
            collection.upsert_stored(records.by_ref().take(RECORDS_AT_A_TIME))?;
        }
    }
    checkpoint.end()?;
    Ok(collection.flush().map(drop)?)
}
