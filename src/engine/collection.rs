//! A collection of records: the handle that callers hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::config::CollectionConfig;
use super::core::Core;
use super::rebuild::FromView;
use super::stats::{self, CollectionStats};
use crate::clock::{Clock, Wall};
use crate::coordinator::{Admission, AskCoordinator, Board, Broom, ENTRY_BYTES_MOST, IdDirectory, Request};
use crate::durability::Durability;
use crate::error::{CollectionError, Gone, Operation};
use crate::id::{Generation, Seq};
use crate::persist::unless_short;
use crate::rows::{CELL_BYTES, Directory};
use crate::shard::{
    Account, AccountSetup, AskWorkers, Backpressure, CollectionId, Keep, Meter, Rebuilder, Refusal, RowSizes,
    SearchTolls, ShardSetup, ShardState, ShardTolls, Toll, WriteCommand,
};
use crate::snapshot::{
    Calibrator, Context, ExactUse, Health, Helpers, Published, Reindexes, Screener, Snapshot, SnapshotCell,
    Tuning,
};
use crate::stats::StripedCounter;
use crate::vector::Space;

/// A named set of records that are searched together.
///
/// Handles are cheap to clone and may be used from any thread.
#[derive(Clone)]
pub struct Collection {
    pub(super) shared: Arc<CollectionShared>,
    pub(super) backpressure: Backpressure,
    pub(super) durability: Durability,
}

impl std::fmt::Debug for Collection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collection")
            .field("name", &self.name())
            .field("config", &self.shared.config)
            .field("backpressure", &self.backpressure)
            .finish_non_exhaustive()
    }
}

/// What all handles of a collection share. Aligned away from the count of
/// handles, which every [`Write`](super::Write) changes: searches read this.
#[repr(align(128))]
pub(super) struct CollectionShared {
    pub(super) id: CollectionId,
    pub(super) config: CollectionConfig,
    pub(super) core: Arc<Core>,
    pub(super) admission: Arc<Admission>,
    pub(super) cell: Arc<SnapshotCell>,
    pub(super) context: Arc<Context>,
    pub(super) account: Arc<Account>,
    /// What its searches take, and the writes to each of its shards.
    pub(super) searching: Arc<SearchTolls>,
    pub(super) tolls: Box<[ShardTolls]>,
    dropped: AtomicBool,
    /// Its writes are in no log: the folder does not know it, and will have them with the checkpoint that it begins with.
    is_unlogged: AtomicBool,
}

/// The shards of a collection before anybody knows it.
pub(super) struct Blueprint {
    pub(super) id: CollectionId,
    pub(super) name: String,
    pub(super) config: CollectionConfig,
    pub(super) directory: Arc<dyn Directory>,
    pub(super) states: Vec<ShardState<Keep>>,
    /// The write after which the shards are as they are.
    pub(super) seq: Seq,
    /// The last write that exists: those up to it are still to be applied.
    pub(super) last: Seq,
    /// What its memory counts against, in an engine.
    pub(super) account: Option<Arc<Account>>,
}

impl Blueprint {
    /// An empty collection.
    pub(super) fn empty(id: CollectionId, name: &str, config: CollectionConfig, shards: usize) -> Blueprint {
        let directory: Arc<dyn Directory> = Arc::new(IdDirectory::default());
        let space = Space::new(config.metric(), config.dimension());
        let setup = || ShardSetup {
            space,
            storage: config.vector_storage(),
            index: config.new_index(),
            make_index: super::reindex::make_index,
            directory: Arc::clone(&directory),
        };
        let states = (0..shards).map(|_| ShardState::new(setup())).collect();
        Blueprint {
            id,
            name: name.to_owned(),
            config,
            directory,
            states,
            seq: Seq(0),
            last: Seq(0),
            account: None,
        }
    }

    /// The first snapshot.
    pub(super) fn publish(
        &mut self,
        clock: Arc<dyn Clock>,
        helpers: Arc<dyn Helpers>,
        calibrator: Box<dyn Calibrator>,
        screener: Box<dyn Screener>,
    ) -> Published {
        let config = self.config;
        let context = Arc::new(Context {
            _account: self.account.clone().map(|account| account as _),
            name: self.name.clone(),
            health: Health::default(),
            reindexes: Reindexes::default(),
            space: Space::new(config.metric(), config.dimension()),
            config: config.encode(),
            directory: Arc::clone(&self.directory),
            helpers,
            wall: Wall::new(clock),
            ef_search: config.ef_search(),
            search: config.search_params(),
            tuning: Tuning::new(calibrator),
            exact_use: ExactUse::new(screener),
            distances: StripedCounter::default(),
            searches: StripedCounter::default(),
        });
        Published {
            generation: Generation(0),
            seq: self.seq,
            shards: self.states.iter_mut().map(|state| Arc::new(state.view())).collect(),
            calibration: None,
            context,
        }
    }
}

/// What a new collection holds and may hold.
fn account(core: &Core, blueprint: &Blueprint) -> Arc<Account> {
    let config = blueprint.config;
    Account::new(AccountSetup {
        engine: Arc::clone(&core.budget),
        limit: config.memory_budget_bytes(),
        directory: Arc::clone(&blueprint.directory),
        sizes: RowSizes {
            dim: config.dimension(),
            cell: CELL_BYTES + ENTRY_BYTES_MOST,
            index: config.index_sizes(),
        },
        shards: blueprint.states.len(),
    })
}

impl Collection {
    pub(super) fn create(core: &Arc<Core>, mut blueprint: Blueprint) -> Result<Collection, CollectionError> {
        let account = account(core, &blueprint);
        blueprint.account = Some(Arc::clone(&account));
        let calibrator = AskCoordinator { requests: core.requests.clone(), collection: blueprint.id };
        let screener = AskWorkers { workers: core.worker_signals.clone(), collection: blueprint.id };
        let clock = Arc::clone(&core.clock);
        let helpers = Arc::clone(&core.pool) as _;
        let name = blueprint.name.clone();
        let first = unless_short(Operation::Read, &name, || {
            Ok(blueprint.publish(clock, helpers, Box::new(calibrator), Box::new(screener)))
        })?;
        let Blueprint { id, config, states, last, .. } = blueprint;
        let searching = Arc::new(SearchTolls::new(config.dimension()));
        let tolls = |_: &ShardState<Keep>| ShardTolls {
            writing: Arc::new(Toll::of_writes(config.dimension())),
            searching: Arc::clone(&searching),
        };
        let collection = Collection {
            shared: Arc::new(CollectionShared {
                id,
                config,
                core: Arc::clone(core),
                admission: Arc::new(Admission::after(last, &vec![last; states.len()])),
                context: Arc::clone(&first.context),
                account,
                tolls: states.iter().map(tolls).collect(),
                searching,
                cell: Arc::new(SnapshotCell::new(first)),
                dropped: AtomicBool::new(false),
                is_unlogged: AtomicBool::new(false),
            }),
            backpressure: Backpressure::default(),
            durability: core.durability,
        };
        collection.install(states).inspect_err(|_| collection.end())?;
        Ok(collection)
    }

    /// Tells the coordinator, then the workers.
    fn install(&self, states: Vec<ShardState<Keep>>) -> Result<(), Gone> {
        let shared = &self.shared;
        let CollectionShared { cell, admission, account, .. } = shared.as_ref();
        let board = Board::new(Arc::clone(cell), Arc::clone(admission), Arc::clone(account));
        shared.request(Request::Register { collection: shared.id, board: Box::new(board) })?;
        let rebuilder: Arc<dyn Rebuilder> =
            Arc::new(FromView { id: shared.id, config: shared.config, context: Arc::clone(&shared.context) });
        let first = cell.pin();
        for (shard, (worker, state)) in shared.core.writes.iter().zip(states).enumerate() {
            let meter = Meter::new(&shared.account, shard);
            meter.show(&state.measure(), false);
            let (state, rebuilder) = (Box::new(state), Arc::clone(&rebuilder));
            let (collection, tolls) = (shared.id, shared.tolls[shard].clone());
            let view = Arc::clone(&first.shards[shard]);
            let command = WriteCommand::Create { collection, state, view, rebuilder, meter, tolls };
            let permit = worker.acquire(Backpressure::Wait).map_err(|_| Gone::Closed)?;
            worker.send(permit, command).map_err(|_| Gone::Closed)?;
        }
        Ok(())
    }

    /// Does something whose writes go into no log: the folder does not know the collection yet, nor does anybody else.
    pub(super) fn unlogged<T>(&self, work: impl FnOnce(&Collection) -> T) -> T {
        self.shared.is_unlogged.store(true, Ordering::Relaxed);
        let done = work(&self.durability(Durability::Applied));
        self.shared.is_unlogged.store(false, Ordering::Relaxed);
        done
    }

    /// From now on what has expired is taken out: not before the logs are open,
    /// because it is written there.
    pub(super) fn begin_sweeping(&self) -> Result<(), Gone> {
        let shared = &self.shared;
        let broom = Broom::new(shared.id, shared.core.writes.clone(), shared.core.has_files());
        shared.request(Request::Sweep { collection: shared.id, broom: Box::new(broom) })
    }

    /// The collection was dropped: lets its threads forget it.
    pub(super) fn end(&self) {
        let shared = &self.shared;
        shared.dropped.store(true, Ordering::Release);
        shared.account.wake();
        // A closed engine has forgotten it already.
        let _ = shared.request(Request::Unregister { collection: shared.id });
        for worker in &shared.core.writes {
            let command = WriteCommand::Drop { collection: shared.id };
            if let Ok(permit) = worker.acquire(Backpressure::Wait) {
                let _ = worker.send(permit, command);
            }
        }
    }

    /// The name it was created with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.context.name
    }

    /// What it was created with, or the index that took the place of the first
    /// ([`Collection::reindex`]).
    #[must_use]
    pub fn config(&self) -> CollectionConfig {
        self.switched_config().unwrap_or(self.shared.config)
    }

    /// A handle that treats full mailboxes in another way: waiting (the
    /// default), waiting at most so long, or giving up at once.
    ///
    /// ```
    /// # use vecino::{Backpressure, CollectionConfig, Engine, Metric};
    /// # let engine = Engine::builder().build()?;
    /// # let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2))?;
    /// let impatient = items.backpressure(Backpressure::Reject);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn backpressure(&self, backpressure: Backpressure) -> Collection {
        Collection { backpressure, ..self.clone() }
    }

    /// A handle whose writes are to survive something else than the engine's
    /// setting says: see [`Durability`].
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Durability, Engine, Metric, Record};
    /// # let folder = std::env::temp_dir().join(format!("vecino-doc-durability-{}", std::process::id()));
    /// let engine = Engine::builder().durability(Durability::Logged).open(&folder)?;
    /// let notes = engine.create_collection("notes", CollectionConfig::new(2, Metric::L2))?;
    /// notes.upsert(Record::new(1, [0.0, 1.0]))?;
    /// let important = notes.durability(Durability::Synced).upsert(Record::new(2, [1.0, 0.0]))?;
    /// important.wait()?;
    /// assert_eq!(important.reached(), Some(Durability::Synced));
    /// # engine.close()?;
    /// # std::fs::remove_dir_all(&folder)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn durability(&self, durability: Durability) -> Collection {
        Collection { durability, ..self.clone() }
    }

    /// The newest published snapshot, to hold: takes tens of nanoseconds, no
    /// lock and no allocation. It stays as it is for as long as it is held.
    ///
    /// Works also after the engine was closed.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.shared.cell.pin())
    }

    /// Counts and sizes, from the newest published snapshot.
    #[must_use]
    pub fn stats(&self) -> CollectionStats {
        stats::of_collection(self)
    }
}

impl CollectionShared {
    /// Whether its writes go into the logs.
    pub(super) fn is_logged(&self) -> bool {
        self.core.has_files() && !self.is_unlogged.load(Ordering::Relaxed)
    }

    /// Whether requests make sense.
    #[inline]
    pub(super) fn check_open(&self) -> Result<(), Gone> {
        if self.core.is_closed() || self.dropped.load(Ordering::Acquire) {
            return Err(self.gone());
        }
        Ok(())
    }

    /// Whether writes can become visible.
    pub(super) fn check_writable(&self) -> Result<(), Gone> {
        self.check_open()?;
        if let Some(lost) = self.context.lost(self.core.log_fault.get()) {
            return Err(lost);
        }
        if self.core.requests.is_closed() { Err(self.gone()) } else { Ok(()) }
    }

    /// Why a request was lost.
    pub(super) fn gone(&self) -> Gone {
        if self.dropped.load(Ordering::Acquire) {
            return Gone::Dropped(self.context.name.clone());
        }
        let lost = || self.context.lost(self.core.log_fault.get());
        if self.core.is_closed() { Gone::Closed } else { lost().unwrap_or(Gone::Closed) }
    }

    /// Why a request to a worker was lost. A worker that is gone while the
    /// engine runs has failed, also before the coordinator knows of it.
    pub(super) fn lost_by(&self, worker: usize) -> Gone {
        if !self.core.is_closed() && self.core.log_fault.get().is_none() {
            self.context.health.fail(worker);
        }
        self.gone()
    }

    /// Asks the coordinator; waits for a place in its mailbox.
    pub(super) fn request(&self, request: Request) -> Result<(), Gone> {
        let requests = &self.core.requests;
        let sent = requests.acquire(Backpressure::Wait).and_then(|permit| requests.send(permit, request));
        sent.map_err(|_: Refusal| self.gone())
    }
}
