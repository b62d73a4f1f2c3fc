//! The face of the crate: engines, collections, writing and reading.

mod builder;
mod collection;
mod config;
mod core;
mod defaults;
mod read;
mod stats;
#[cfg(test)]
mod tests;
mod tuning;
mod write;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use builder::EngineBuilder;
pub use collection::Collection;
pub use config::{CollectionConfig, GraphConfig, HnswConfig, IndexSpec};
pub use stats::{Bytes, CollectionStats, EngineStats, ShardStats, VectorBytes};
pub use tuning::{TargetChoice, TargetStats, TuningStats};
pub use write::Write;

use self::core::Core;
use crate::error::{BuildError, CollectionError, Gone};

/// An in-memory vector database inside this process.
///
/// Handles are cheap to clone and may be used from any thread. The engine ends
/// when [`Engine::close`] is called or the last handle is dropped; collections
/// that are still held then answer [`Gone::Closed`], and held snapshots go on
/// answering.
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
        let core = Core::start(builder)?;
        Ok(Engine { owner: Arc::new(Owner { core, collections: Mutex::default() }) })
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
        if name.is_empty() || name.len() > defaults::NAME_BYTES_MOST {
            return Err(CollectionError::Name { length: name.len() });
        }
        config.check()?;
        let mut collections = self.collections_by_name();
        match collections.entry(name.to_owned()) {
            Entry::Occupied(_) => Err(CollectionError::Exists(name.to_owned())),
            Entry::Vacant(place) => {
                let collection = Collection::create(&self.owner.core, name, config)?;
                place.insert(collection.clone());
                Ok(collection)
            }
        }
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
        let dropped = self.collections_by_name().remove(name);
        dropped.ok_or_else(|| CollectionError::NotFound(name.to_owned()))?.end();
        Ok(())
    }

    /// What the engine does right now.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        stats::of_engine(&self.owner.core, self.collections_by_name().values())
    }

    /// Ends the engine: later requests get [`Gone::Closed`], those under way
    /// get an answer or [`Gone::Closed`], and all threads are joined when this
    /// returns. Writes that are not visible yet are lost; [`Collection::flush`]
    /// first when they matter. Closing twice is fine.
    ///
    /// # Errors
    /// None today; later versions flush files here.
    pub fn close(&self) -> Result<(), Gone> {
        self.owner.core.close();
        Ok(())
    }

    fn check_open(&self) -> Result<(), Gone> {
        if self.owner.core.is_closed() { Err(Gone::Closed) } else { Ok(()) }
    }
}
