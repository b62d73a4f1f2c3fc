//! Opening a folder: collections come back from their checkpoints and logs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tracing::{info, warn};

use super::collection::{Blueprint, Collection};
use super::config::CollectionConfig;
use super::core::Core;
use super::files::{Files, Keeper};
use super::reindex::switched;
use super::{Engine, EngineBuilder, defaults};
use crate::coordinator::give_way;
use crate::durability::Durability;
use crate::error::{CollectionError, FileError, Gone, OpenError, Operation, WaitError};
use crate::id::{RecordId, Row, Seq};
use crate::index::Saved;
use crate::persist::checkpoint::{Checkpoint, LoadedShard};
use crate::persist::{
    Asked, Disk, EntryHead, FolderOptions, FolderReport, Found, GivenUp, Opened, Refused, Storage,
    checkpoint, find, unless_short,
};
use crate::rows::{Directory, Mutation};
use crate::shard::{
    Backpressure, CollectionId, Journal, Load, RestoredShard, ShardSetup, ShardState, WriteCommand, signals,
};
use crate::vector::Space;

/// What is read where no single file is to blame that there is no memory.
const LOGS: &str = "logs";

/// What opening a folder found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Collections that came back.
    pub collections: usize,
    /// Writes that were applied from the logs, beyond the checkpoints; a write
    /// counts once for every shard.
    pub replayed: u64,
    /// Bytes that were given up, as crashes leave them, or in a repair.
    pub given_up: Vec<GivenUp>,
}

impl From<Refused> for OpenError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::InUse => OpenError::InUse,
            Refused::File(fault) => OpenError::File(fault),
        }
    }
}

impl From<WaitError> for OpenError {
    fn from(fault: WaitError) -> Self {
        match fault {
            WaitError::Gone(gone) => OpenError::Gone(gone),
            _ => OpenError::Gone(Gone::Closed),
        }
    }
}

impl Engine {
    /// Tells what is in an engine's folder and checks every byte that counts,
    /// without changing anything. No engine may have the folder open.
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Metric};
    /// # let folder = std::env::temp_dir().join(format!("vecino-doc-inspect-{}", std::process::id()));
    /// # let engine = Engine::builder().open(&folder)?;
    /// # engine.create_collection("items", CollectionConfig::new(2, Metric::L2))?;
    /// # engine.close()?;
    /// let report = Engine::inspect(&folder)?;
    /// assert!(report.is_sound() && report.collections[0].name == "items");
    /// # std::fs::remove_dir_all(&folder)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`OpenError::InUse`]; [`OpenError::File`] when the manifest cannot be
    /// read or the system refuses something. Damage elsewhere is in the report.
    pub fn inspect(folder: impl AsRef<Path>) -> Result<FolderReport, OpenError> {
        let folder = folder.as_ref();
        let disk = Disk::existing(folder).map_err(|fault| refused(folder, &fault))?;
        let options = FolderOptions { workers: 1, log_bytes: defaults::LOG_BYTES, repair: true };
        let found = unless_short(Operation::Read, LOGS, || Ok(find(Arc::new(disk), options)))??;
        Ok(unless_short(Operation::Read, LOGS, || found.report())?)
    }

    pub(super) fn open(builder: &EngineBuilder, storage: Arc<dyn Storage>) -> Result<Engine, OpenError> {
        let options = FolderOptions {
            workers: builder.workers_or(defaults::WORKERS) as u32,
            log_bytes: builder.log_bytes,
            repair: builder.repair,
        };
        let mut found = unless_short(Operation::Read, LOGS, || Ok(find(storage, options)))??;
        let stored = found.workers() as usize;
        if let Some(asked) = builder.workers.filter(|asked| *asked != stored) {
            return Err(OpenError::Workers { stored, asked });
        }
        let durability = builder.durability.unwrap_or(Durability::Logged);
        let core = Core::start(builder, stored, durability)?;
        core.skip_collections(found.next_collection());
        let collections = restore_all(&core, &mut found)?;
        let replayed = replay(&found, &collections)?;
        let given_up = found.given_up().to_vec();
        for part in &given_up {
            warn!(file = part.file, offset = part.offset, bytes = part.bytes, reason = ?part.reason, "given up");
        }
        let repaired = found.is_repaired();
        start_logs(&core, found.begin()?, &collections, builder.log_bytes)?;
        collections.values().try_for_each(Collection::begin_sweeping)?;
        let recovery = Recovery { collections: collections.len(), replayed, given_up };
        info!(collections = recovery.collections, replayed, "folder opened");
        let engine = Engine::with(core, collections, recovery);
        engine.give_up_reindexing()?;
        if repaired {
            engine.checkpoint().map_err(|fault| match fault {
                crate::error::CheckpointError::File(fault) => OpenError::File(fault),
                _ => OpenError::Gone(Gone::Closed),
            })?;
        }
        Ok(engine)
    }
}

/// A folder that cannot be used.
pub(super) fn refused(folder: &Path, fault: &std::io::Error) -> FileError {
    FileError::Failed {
        operation: Operation::Folder,
        file: folder.display().to_string(),
        kind: fault.kind(),
        message: fault.to_string(),
    }
}

/// All collections as their checkpoints say.
fn restore_all(core: &Arc<Core>, found: &mut Found) -> Result<BTreeMap<u64, Collection>, OpenError> {
    let mut collections = BTreeMap::new();
    let entries: Vec<_> = found.collections().map(|(id, entry)| (id, entry.clone())).collect();
    for (id, entry) in entries {
        let config = CollectionConfig::decode(&entry.config).map_err(|fault| FileError::Damaged {
            file: "manifest".to_owned(),
            offset: 0,
            what: fault.what,
        })?;
        let (last, shards) = (found.state_of(id), core.writes.len());
        let mut blueprint = Blueprint::empty(CollectionId(id), &entry.name, config, shards);
        blueprint.seq = entry.checkpointed();
        if let Some(at) = entry.checkpoint {
            let file = checkpoint::name(id, at.number);
            let storage = Arc::clone(found.storage());
            let source = Source { storage: storage.as_ref(), file: &file, repair: found.repairs() };
            let (restored, seq) = source.restored(&mut blueprint, &mut |part| found.give_up(part))?;
            if seq != at.seq {
                let what = "the checkpoint is of another state";
                return Err(FileError::Damaged { file, offset: 0, what }.into());
            }
            blueprint.states = restored;
        }
        blueprint.last = last;
        let collection = Collection::create(core, blueprint).map_err(|fault| match fault {
            CollectionError::File(fault) => OpenError::File(fault),
            _ => OpenError::Gone(Gone::Closed),
        })?;
        collections.insert(id, collection);
    }
    Ok(collections)
}

/// Lists rows; none of them where there is no memory for all: a shard that is made anew tries it
/// again and again.
fn list(directory: &dyn Directory, ids: &[(RecordId, Row)]) {
    struct Unlist<'a>(&'a dyn Directory, &'a [(RecordId, Row)]);
    impl Drop for Unlist<'_> {
        fn drop(&mut self) {
            self.1.iter().for_each(|(id, row)| self.0.prune(id, *row));
        }
    }
    let mut listed = Unlist(directory, &[]);
    for (at, (id, row)) in ids.iter().enumerate() {
        directory.push(id, *row);
        listed.1 = &ids[..=at];
    }
    listed.1 = &[];
}

/// A checkpoint that shards come from.
pub(super) struct Source<'a> {
    pub(super) storage: &'a dyn Storage,
    pub(super) file: &'a str,
    pub(super) repair: bool,
}

type States = Vec<ShardState<crate::shard::Keep>>;

impl Source<'_> {
    /// As [`Source::restore`]; want of memory is an error of the file.
    pub(super) fn restored(
        &self,
        blueprint: &mut Blueprint,
        give_up: &mut dyn FnMut(GivenUp),
    ) -> Result<(States, Seq), FileError> {
        unless_short(Operation::Read, self.file, || self.restore(blueprint, give_up))
    }

    /// Reads all shards of a blueprint; gives them and the write that they are
    /// the state after. In a repair a file that cannot be read at all leaves them
    /// as they are. It may unwind for want of memory.
    pub(super) fn restore(
        &self,
        blueprint: &mut Blueprint,
        give_up: &mut dyn FnMut(GivenUp),
    ) -> Result<(States, Seq), FileError> {
        let mut checkpoint = match Checkpoint::open(self.storage, self.file) {
            Ok(checkpoint) => checkpoint,
            Err(fault) if self.repair => {
                give_up(GivenUp::of(fault)?);
                let states = std::mem::take(&mut blueprint.states);
                return Ok((states, blueprint.seq));
            }
            Err(fault) => return Err(fault),
        };
        let (config, seq) = (blueprint.config, checkpoint.meta.seq);
        let space = Space::new(config.metric(), config.dimension());
        let fits = checkpoint.meta.dimension == space.dim()
            && checkpoint.meta.shards == blueprint.states.len()
            && checkpoint.meta.config == config.encode();
        if !fits {
            let what = "the checkpoint is of another collection";
            return Err(FileError::Damaged { file: self.file.to_owned(), offset: 0, what });
        }
        checkpoint.repair(self.repair);
        let mut states = Vec::new();
        let mut all = if self.repair { self.spec(&space, config) } else { None };
        for _ in 0..checkpoint.meta.shards {
            let directory = Arc::clone(&blueprint.directory);
            let mut loaded = checkpoint.shard(&space, config.vector_storage(), give_up)?;
            let ids = std::mem::take(&mut loaded.ids);
            loaded.become_alike(&mut all);
            states.push(self.state(loaded, config, space, Arc::clone(&directory), seq, give_up)?);
            // Last: what cannot be read to its end leaves nothing behind.
            list(&*directory, &ids);
        }
        match checkpoint.end() {
            Err(fault) if self.repair => give_up(GivenUp::of(fault)?),
            outcome => outcome?,
        }
        Ok((states, seq))
    }

    /// What the first shard that can be read has for an index, which all others get.
    fn spec(&self, space: &Space, config: CollectionConfig) -> Option<Option<Vec<u8>>> {
        let mut checkpoint = Checkpoint::open(self.storage, self.file).ok()?;
        checkpoint.repair(true);
        let shards = checkpoint.meta.shards;
        let mut next = || checkpoint.shard(space, config.vector_storage(), &mut |_| {});
        (0..shards).find_map(|_| next().ok().filter(|shard| shard.is_whole).map(|shard| shard.spec))
    }

    fn state(
        &self,
        mut loaded: LoadedShard,
        config: CollectionConfig,
        space: Space,
        directory: Arc<dyn Directory>,
        seq: Seq,
        give_up: &mut dyn FnMut(GivenUp),
    ) -> Result<ShardState<crate::shard::Keep>, FileError> {
        let switched = loaded.spec.as_deref().map(|spec| switched(spec, &config));
        let (config, switched) = match switched {
            None => (config, None),
            Some(Some((config, switched))) => (config, Some(switched)),
            Some(None) => {
                let (file, what) = (self.file.to_owned(), "an index is of another collection");
                return Err(FileError::Damaged { file, offset: 0, what });
            }
        };
        let saved = Saved { held: &loaded.held, limit: loaded.rows.high_water() };
        let index = loaded.index.as_ref().map(|bytes| bytes.load(|input| config.load_index(&saved, input)));
        let index = match index {
            None => None,
            Some(Ok(index)) => Some(index),
            Some(Err(fault)) if self.repair => {
                give_up(GivenUp::of(fault)?);
                loaded.forget_index();
                None
            }
            Some(Err(fault)) => return Err(fault),
        };
        let index = index.unwrap_or_else(|| config.new_index());
        let live = loaded.live();
        let LoadedShard { rows, tail, dead, absorbed, .. } = loaded;
        let make_index = super::reindex::make_index;
        let setup = ShardSetup { space, storage: config.vector_storage(), index, make_index, directory };
        Ok(ShardState::restore(setup, RestoredShard { rows, tail, dead, absorbed, live, switched, seq }))
    }
}

/// Lets the workers apply what the logs hold beyond the checkpoints, and waits
/// until all of it is visible.
fn replay(found: &Found, collections: &BTreeMap<u64, Collection>) -> Result<u64, OpenError> {
    let space_of = |id: u64| collections.get(&id).map(|collection| collection.shared.context.space);
    let mut replayed = 0;
    for worker in 0..found.workers() {
        let mut lost = None;
        let mut send = |head: EntryHead, mutations: Vec<Mutation>| {
            if let Some(collection) = collections.get(&head.collection) {
                replayed += 1;
                let sent = collection.resend(worker as usize, head.seq, head.asked, mutations);
                lost = lost.take().or(sent.err());
            }
        };
        unless_short(Operation::Read, LOGS, || found.replay(worker, &space_of, &mut send))?;
        if let Some(gone) = lost {
            return Err(gone.into());
        }
    }
    for collection in collections.values() {
        // A shard whose last part is older has got as far as all others.
        let last = collection.shared.admission.last();
        for worker in 0..found.workers() as usize {
            collection.resend(worker, last, Asked::Mutations, Vec::new())?;
        }
    }
    for collection in collections.values() {
        match collection.flush() {
            // A write that met a defect before meets it again: it is told by `stats()`, and the others are there.
            Ok(_) | Err(WaitError::LeftOut { .. }) => {}
            Err(fault) => return Err(fault.into()),
        }
        // The index may be another than the one that it was created with.
        collection.shared.account.assume(collection.config().index_sizes());
    }
    Ok(replayed)
}

impl Collection {
    /// Sends a part of a write that is in the log already.
    fn resend(&self, worker: usize, seq: Seq, asked: Asked, mutations: Vec<Mutation>) -> Result<(), Gone> {
        let shared = &self.shared;
        let mailbox = &shared.core.writes[worker];
        // Bounded in bytes as when they were written: reading is faster than indexing.
        let load = Load { bytes: mutations.iter().map(Mutation::bytes).sum(), ..Load::default() };
        let permit = mailbox.acquire_for(load, Backpressure::Wait).map_err(|_| shared.gone())?;
        let command = match asked {
            Asked::Mutations => WriteCommand::Write {
                collection: shared.id,
                seq,
                mutations,
                log: None,
                verdict: None,
                grant: None,
            },
            Asked::Optimize => WriteCommand::Optimize { collection: shared.id, seq, done: None, log: None },
        };
        mailbox.send(permit, command).map_err(|_| shared.gone())
    }
}

/// From here on what is written is logged.
fn start_logs(
    core: &Arc<Core>,
    opened: Opened,
    collections: &BTreeMap<u64, Collection>,
    log_bytes: u64,
) -> Result<(), OpenError> {
    let (notes, inbox) = signals();
    let sizes = opened.folder.checkpoint_bytes();
    let files = Arc::new(Files::new(opened.folder, notes.clone()));
    for (id, collection) in collections {
        files.register(*id, &collection.shared.cell, sizes.get(id).copied().unwrap_or(0));
    }
    for (worker, log) in core.writes.iter().zip(opened.logs) {
        let command = WriteCommand::StartLog { journal: Box::new(Journal::new(log)), notes: notes.clone() };
        let permit = worker.acquire(Backpressure::Wait).map_err(|_| Gone::Closed)?;
        worker.send(permit, command).map_err(|_| Gone::Closed)?;
    }
    let keeper = Keeper::new(Arc::clone(&files), inbox, opened.closed, log_bytes);
    core.set_files(files);
    core.spawn("vecino-keeper".to_owned(), move || {
        give_way();
        keeper.run();
    })?;
    Ok(())
}
