//! The face of the crate: engines, collections, writing and reading.

mod backup;
mod budget;
mod builder;
mod collection;
mod conditional;
mod config;
mod clock;
mod core;
mod counters;
mod defaults;
mod expiry;
#[cfg(feature = "metrics")]
mod facade;
mod files;
mod open;
mod payload;
mod read;
mod rebuild;
mod reindex;
mod stats;
mod stored;
#[cfg(test)]
mod tests;
mod tuning;
mod write;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use builder::EngineBuilder;
pub use collection::Collection;
pub use conditional::Outcome;
pub use config::{
    AutoConfig, CollectionConfig, FlatConfig, GraphConfig, HnswConfig, IndexSpec, IvfConfig, IvfStorage,
    PqConfig, Quantization,
};
pub use open::Recovery;
pub use stats::{BudgetStats, Bytes, CollectionStats, EngineStats, ShardStats, VectorBytes};
pub use tuning::{TargetChoice, TargetStats, TuningStats};
pub use write::Write;

use self::collection::Blueprint;
use self::core::Core;
use crate::durability::Durability;
use crate::error::{BuildError, CollectionError, Gone};

/// An in-memory vector database inside this process.
///
/// Handles are cheap to clone and may be used from any thread. The engine ends
/// when [`Engine::close`] is called or the last handle is dropped; collections
/// that are still held then answer [`Gone::Closed`], and held snapshots go on
/// answering. What was accepted and is not visible yet is lost then: [`Collection::flush`] first.
///
/// ```
/// use vecino::{CollectionConfig, Engine, Metric, Query, Record};
///
/// let engine = Engine::builder().build()?;
/// let items = engine.create_collection("items", CollectionConfig::new(3, Metric::Cosine))?;
///
/// items.upsert(Record::new("guitar", [0.9, 0.1, 0.0]))?;
/// items.upsert(Record::new("violin", [0.8, 0.3, 0.1]))?;
/// let last = items.upsert(Record::new("hammer", [0.0, 0.2, 0.9]))?;
///
/// let query = Query::new(&[1.0, 0.2, 0.0]).top(2).at_least(last.seq());
/// let answer = items.search(&query)?;
/// let ids: Vec<_> = answer.hits().iter().map(|hit| hit.id.to_string()).collect();
/// assert_eq!(ids, ["guitar", "violin"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Engine {
    owner: Arc<Owner>,
}

/// Ends the engine when the last handle is gone.
#[derive(Debug)]
struct Owner {
    core: Arc<Core>,
    collections: Mutex<BTreeMap<String, Collection>>,
    recovery: Recovery,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.core.close();
    }
}

impl Engine {
    /// Settings to start an engine with.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    fn start(builder: &EngineBuilder) -> Result<Engine, BuildError> {
        let core = Core::start(builder, builder.workers_or(defaults::WORKERS), Durability::Applied)?;
        Ok(Engine::with(core, BTreeMap::new(), Recovery::default()))
    }

    fn with(core: Arc<Core>, collections: BTreeMap<u64, Collection>, recovery: Recovery) -> Engine {
        let by_name = collections.into_values().map(|each| (each.name().to_owned(), each));
        let collections = Mutex::new(by_name.collect());
        Engine { owner: Arc::new(Owner { core, collections, recovery }) }
    }

    fn collections_by_name(&self) -> MutexGuard<'_, BTreeMap<String, Collection>> {
        self.owner.collections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates an empty collection, with one shard on every worker.
    ///
    /// # Errors
    /// [`CollectionError`]: the name is taken, empty or too long, a setting is
    /// outside its bounds, or the engine is closed.
    pub fn create_collection(
        &self,
        name: &str,
        config: CollectionConfig,
    ) -> Result<Collection, CollectionError> {
        check_name(name)?;
        config.check()?;
        let mut collections = self.collections_by_name();
        match collections.entry(name.to_owned()) {
            Entry::Occupied(_) => Err(CollectionError::Exists(name.to_owned())),
            Entry::Vacant(place) => {
                let core = &self.owner.core;
                let blueprint = Blueprint::empty(core.next_collection(), name, config, core.writes.len());
                if let Some(files) = core.files() {
                    files.create::<CollectionError>(blueprint.id.0, name, config.encode(), None)?;
                }
                let collection = Collection::create(core, blueprint)?;
                self.register(&collection, 0);
                collection.begin_sweeping()?;
                Ok(place.insert(collection).clone())
            }
        }
    }

    /// From now on checkpoints are written; the one that it has is of so many bytes.
    fn register(&self, collection: &Collection, checkpoint_bytes: u64) {
        let (id, cell) = (collection.shared.id.0, &collection.shared.cell);
        self.owner.core.files().into_iter().for_each(|files| files.register(id, cell, checkpoint_bytes));
    }

    /// A collection by its name.
    ///
    /// # Errors
    /// [`CollectionError::NotFound`], or [`Gone::Closed`].
    pub fn collection(&self, name: &str) -> Result<Collection, CollectionError> {
        self.check_open()?;
        let found = self.collections_by_name().get(name).cloned();
        found.ok_or_else(|| CollectionError::NotFound(name.to_owned()))
    }

    /// The names of all collections, ascending.
    #[must_use]
    pub fn collections(&self) -> Vec<String> {
        self.collections_by_name().keys().cloned().collect()
    }

    /// Drops a collection. Requests on it get [`Gone::Dropped`] from now on;
    /// its memory is given back once no snapshot of it is held.
    ///
    /// # Errors
    /// [`CollectionError::NotFound`], or [`Gone::Closed`].
    pub fn drop_collection(&self, name: &str) -> Result<(), CollectionError> {
        self.check_open()?;
        let mut collections = self.collections_by_name();
        let Some(collection) = collections.get(name) else {
            return Err(CollectionError::NotFound(name.to_owned()));
        };
        if let Some(files) = self.owner.core.files() {
            files.drop_collection::<CollectionError>(collection.shared.id.0)?;
        }
        let dropped = collections.remove(name);
        drop(collections);
        dropped.into_iter().for_each(|collection| collection.end());
        Ok(())
    }

    /// What the engine does right now.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        stats::of_engine(&self.owner.core, &self.all_collections())
    }

    /// Handles of all collections: whoever counts in them keeps nobody from their names.
    fn all_collections(&self) -> Vec<Collection> {
        self.collections_by_name().values().cloned().collect()
    }

    /// Ends the engine: later requests get [`Gone::Closed`], those under way
    /// get an answer or [`Gone::Closed`], and all threads are joined when this
    /// returns. Writes that are not visible yet are lost; [`Collection::flush`]
    /// first when they matter. Those that are visible are on the medium, whatever
    /// their [`Durability`], if the engine has a folder. Closing twice is fine.
    ///
    /// On a thread of the engine itself, where an executor may run what a future was woken for, this only begins: the
    /// threads end once that has returned, and only then can the folder be opened anew.
    ///
    /// # Errors
    /// [`Gone::LogFailed`] when a log could not be written to its end.
    pub fn close(&self) -> Result<(), Gone> {
        self.owner.core.close();
        self.owner.core.log_fault.get().map_or(Ok(()), |fault| Err(Gone::LogFailed(fault.clone())))
    }

    /// What opening the folder found; nothing for an engine without one.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.owner.recovery
    }

    fn check_open(&self) -> Result<(), Gone> {
        if self.owner.core.is_closed() { Err(Gone::Closed) } else { Ok(()) }
    }
}

fn check_name(name: &str) -> Result<(), CollectionError> {
    if name.is_empty() || name.len() > defaults::NAME_BYTES_MOST {
        return Err(CollectionError::Name { length: name.len() });
    }
    Ok(())
}
