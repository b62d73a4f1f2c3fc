//! The index that follows the number of records.

use super::{Bits, CollectionConfig, GraphConfig, IndexSpec, Shape, bounded};
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
///
/// **In a memory budget of the collection**
/// ([`CollectionConfig::memory_budget`]; the engine's does not count) the graph is
/// a leaner one if at least five records fit with it where four fit with the
/// default: half the links, and codes of 4 bits a coordinate in 64 or 128 bytes
/// (7 bits where all coordinates fit). Of dimension, [`VectorStorage`](crate::VectorStorage)
/// and budget this is a function, and of nothing else: vectors are taken to be as
/// wide as they may become, so for floats it is the leaner graph below some 500
/// dimensions. It costs speed at high recalls. [`AutoConfig::graph`] says another.
///
/// ```
/// use vecino::{AutoConfig, CollectionConfig, Engine, IndexSpec, Metric, Record};
///
/// let auto = IndexSpec::Auto(AutoConfig::default().exact_below(500));
/// let config = CollectionConfig::new(2, Metric::L2).index(auto).memory_budget(32 << 20);
/// let engine = Engine::builder().build()?;
/// let notes = engine.create_collection("notes", config)?;
/// notes.upsert_batch((0..600u64).map(|id| Record::new(id, [id as f32, 1.0])))?;
/// notes.optimize()?;
/// let reason = "many records: a graph is faster, and a lean one holds more in the memory budget";
/// assert_eq!(notes.stats().shards[0].index_reason, reason);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutoConfig {
    pub(in crate::engine) exact_below: usize,
    pub(in crate::engine) graph: GraphConfig,
    /// Nobody said which graph.
    pub(in crate::engine) follows_budget: bool,
}

impl Default for AutoConfig {
    fn default() -> Self {
        AutoConfig { exact_below: defaults::EXACT_BELOW, graph: GraphConfig::default(), follows_budget: true }
    }
}

impl AutoConfig {
    /// A shard of fewer records is searched exactly: 1 to 1,000,000. Default
    /// 1,024.
    #[must_use]
    pub fn exact_below(mut self, records: usize) -> Self {
        self.exact_below = records;
        self
    }

    /// The graph of more records, whatever the memory budget is.
    ///
    /// ```
    /// use vecino::{AutoConfig, GraphConfig};
    /// let roomy = AutoConfig::default().graph(GraphConfig::default());
    /// assert_ne!(roomy, AutoConfig::default());
    /// ```
    #[must_use]
    pub fn graph(mut self, graph: GraphConfig) -> Self {
        self.graph = graph;
        self.follows_budget = false;
        self
    }

    pub(super) fn check(&self) -> Result<(), CollectionError> {
        bounded("exact_below", self.exact_below, 1, defaults::EXACT_BELOW_MOST)?;
        self.graph.check()
    }

    /// The graph that a collection gets.
    pub(super) fn grown(self, config: &CollectionConfig) -> GraphConfig {
        if self.is_lean(config) { self.graph.lean(config.dimension) } else { self.graph }
    }

    /// Whether clearly more records fit into a budget with the leaner graph.
    fn is_lean(self, config: &CollectionConfig) -> bool {
        let bytes = |graph| config.index(IndexSpec::Graph(graph)).record_bytes();
        let (roomy, lean) = (bytes(self.graph), bytes(self.graph.lean(config.dimension)));
        self.follows_budget
            && config.memory_budget.is_some()
            && roomy * defaults::ROOMY_FIT >= lean * defaults::LEAN_FIT
    }

    pub(super) fn options(self, config: &CollectionConfig) -> AutoOptions {
        let grown = match config.graph_options(self.grown(config)) {
            Ok(options) => Grown::Graph(options),
            Err(options) => Grown::Hnsw(options),
        };
        let reason = if self.is_lean(config) {
            "many records: a graph is faster, and a lean one holds more in the memory budget"
        } else {
            "many records: a graph is faster"
        };
        AutoOptions { exact_below: self.exact_below, grown, reason }
    }
}

impl GraphConfig {
    /// The same with half the links, and the smallest codes that have a place
    /// for each coordinate or are as large as lean ones may be.
    fn lean(self, dimension: usize) -> GraphConfig {
        let holds = |bits, lines| Shape { bits, lines }.coordinates() >= dimension;
        let lines = (1..defaults::GRAPH_LEAN_CODE_LINES).find(|lines| holds(Bits::Four, *lines));
        let lines = lines.unwrap_or(defaults::GRAPH_LEAN_CODE_LINES);
        let bits = if holds(Bits::Seven, lines) { 7 } else { 4 };
        self.degree(defaults::GRAPH_DEGREE_LEAN).code_bits(bits).code_bytes(lines * defaults::CODE_LINE)
    }
}

impl IndexSpec {
    /// Exact search of few records, a graph of many, with default parameters.
    #[must_use]
    pub fn auto() -> IndexSpec {
        IndexSpec::Auto(AutoConfig::default())
    }
}
