//! The index that follows the number of records.

use super::{CollectionConfig, GraphConfig, IndexSpec, bounded};
use crate::engine::defaults;
use crate::error::CollectionError;
use crate::index::{AutoOptions, Grown};

/// Parameters of [`IndexSpec::Auto`]: exact search of few records, a graph of many.
///
/// ```
/// use vecino::{AutoConfig, CollectionConfig, Engine, IndexSpec, Metric, Query, Record};
///
/// let auto = IndexSpec::Auto(AutoConfig::default().exact_below(1_000));
/// let engine = Engine::builder().build()?;
/// let notes = engine.create_collection("notes", CollectionConfig::new(2, Metric::L2).index(auto))?;
/// notes.upsert_batch((0..900u64).map(|id| Record::new(id, [id as f32, 1.0])))?.wait()?;
/// assert_eq!(notes.stats().shards[0].index, "flat");
///
/// notes.upsert_batch((900..2_000u64).map(|id| Record::new(id, [id as f32, 1.0])))?;
/// notes.optimize()?;
/// let shard = &notes.stats().shards[0];
/// assert_eq!((shard.index, shard.index_reason), ("graph", "many records: a graph is faster"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Each shard decides for itself, when a batch of records enters the index; the
/// batch that comes to the bound has all records put into the graph, while
/// searches go on. When there are four times fewer than the bound (for
/// [`Collection::optimize`](crate::Collection::optimize): two times) the exact
/// index comes back. The log alone decides, so it is the same after reopening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutoConfig {
    pub(in crate::engine) exact_below: usize,
    pub(in crate::engine) graph: GraphConfig,
}

impl Default for AutoConfig {
    fn default() -> Self {
        AutoConfig { exact_below: defaults::EXACT_BELOW, graph: GraphConfig::default() }
    }
}

impl AutoConfig {
    /// A shard of fewer records is searched exactly: 1 to 1,000,000. Default
    /// 4,096.
    #[must_use]
    pub fn exact_below(mut self, records: usize) -> Self {
        self.exact_below = records;
        self
    }

    /// The graph of more records.
    #[must_use]
    pub fn graph(mut self, graph: GraphConfig) -> Self {
        self.graph = graph;
        self
    }

    pub(super) fn check(&self) -> Result<(), CollectionError> {
        bounded("exact_below", self.exact_below, 1, defaults::EXACT_BELOW_MOST)?;
        self.graph.check()
    }

    pub(super) fn options(self, config: &CollectionConfig) -> AutoOptions {
        let grown = match config.graph_options(self.graph) {
            Ok(options) => Grown::Graph(options),
            Err(options) => Grown::Hnsw(options),
        };
        AutoOptions { exact_below: self.exact_below, grown }
    }
}

impl IndexSpec {
    /// Exact search of few records, a graph of many, with default parameters.
    #[must_use]
    pub fn auto() -> IndexSpec {
        IndexSpec::Auto(AutoConfig::default())
    }
}
