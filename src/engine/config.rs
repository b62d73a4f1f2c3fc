//! What a collection is made of.

mod auto;
mod factory;
mod lists;
mod quantized;
mod sizes;

use std::time::Duration;

use super::defaults;
use crate::codec::{Decoder, Malformed};
use crate::error::CollectionError;
use crate::index::{
    Auto, Coding, Flat, GraphOptions, Hnsw, HnswOptions, Index, Ivf, QuantizedGraph, Saved, Screened,
};
use crate::metric::Metric;
use crate::quant::{Bits, MAX_TRAINED, Shape};
use crate::query::{Goal, SearchParams};
use crate::vector::VectorStorage;

pub use auto::AutoConfig;
pub use lists::{IvfConfig, IvfStorage, PqConfig};
pub use quantized::{FlatConfig, Quantization};

/// How near records are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndexSpec {
    /// Exact while there are few records, a graph once there are many; where small codes cannot tell
    /// near records apart, HNSW ([`ShardStats::index`](crate::ShardStats::index) says what it is). The default.
    Auto(AutoConfig),
    /// Exact. From 2,048 records a shard and 32 dimensions on, small codes (of up to 320 bytes a record) rule most records out
    /// for certain, and the others are compared; O(records) a search.
    Flat,
    /// Compares with small codes of every record, then with the vectors of the best.
    QuantizedFlat(FlatConfig),
    /// A flat graph walked by small codes of the vectors, with exact distances
    /// for the answers: the fastest. About O(log records) a search; codes of up to 1 MiB (some 8,000 to
    /// 20,000 records, by their dimension) are all read where that is less work, which misses next to nothing. Beyond 8,192 dimensions, for which
    /// no codes are trained, it is an HNSW graph with 16 links.
    Graph(GraphConfig),
    /// A layered graph: near-exact, about O(log records) a search.
    Hnsw(HnswConfig),
    /// Lists around centres, some of which a search looks through: builds
    /// fastest, and with codes takes little memory.
    Ivf(IvfConfig),
    /// All product codes, one after the other, then the best by their vectors.
    Pq(PqConfig),
}

impl IndexSpec {
    /// The quantized graph with its default parameters.
    #[must_use]
    pub fn graph() -> IndexSpec {
        IndexSpec::Graph(GraphConfig::default())
    }

    /// HNSW with its default parameters.
    #[must_use]
    pub fn hnsw() -> IndexSpec {
        IndexSpec::Hnsw(HnswConfig::default())
    }
}

/// Parameters of an HNSW graph (Malkov and Yashunin, 2016), named as in the paper.
///
/// ```
/// use vecino::{CollectionConfig, HnswConfig, IndexSpec, Metric};
/// let graph = HnswConfig::default().m(32).ef_construction(400).ef_search(100);
/// let config = CollectionConfig::new(768, Metric::Cosine).index(IndexSpec::Hnsw(graph));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HnswConfig {
    pub(super) m: usize,
    pub(super) ef_construction: usize,
    pub(super) ef_search: usize,
    pub(super) quantization: Quantization,
    pub(super) oversample: Option<usize>,
    pub(super) seed: u64,
}

impl Default for HnswConfig {
    fn default() -> Self {
        HnswConfig {
            m: defaults::M,
            ef_construction: defaults::EF_CONSTRUCTION,
            ef_search: defaults::EF_SEARCH,
            quantization: Quantization::None,
            oversample: None,
            seed: defaults::SEED,
        }
    }
}

impl HnswConfig {
    /// Links of a record on the upper layers, twice as many on the lowest.
    /// Default 16; 2 to 512. Memory: about 8 m bytes a record, 12 m under [`Metric::Dot`], where a record has `m` links
    /// more to those of the greatest inner products.
    #[must_use]
    pub fn m(mut self, m: usize) -> Self {
        self.m = m;
        self
    }

    /// Candidates looked at for the links of a new record. Default 200.
    #[must_use]
    pub fn ef_construction(mut self, ef_construction: usize) -> Self {
        self.ef_construction = ef_construction;
        self
    }

    /// Breadth of a search that does not say its own. Default 64.
    #[must_use]
    pub fn ef_search(mut self, ef_search: usize) -> Self {
        self.ef_search = ef_search;
        self
    }

    /// Codes that searches walk by, before the best are measured by their
    /// vectors. The graph is the same. Default: [`Quantization::None`].
    /// [`F16`](Quantization::F16) and [`Sq8`](Quantization::Sq8) pay where
    /// vectors are floats: those that are stored in a byte a number anyway
    /// ([`VectorStorage`]) are walked by it without any codes. Product codes and
    /// bits are trained on the records themselves once a shard holds 1,024.
    ///
    /// ```
    /// use vecino::{HnswConfig, IndexSpec, Quantization};
    /// let graph = HnswConfig::default().m(32).quantization(Quantization::Sq8);
    /// assert_eq!("HNSW32_SQ8".parse(), Ok(IndexSpec::Hnsw(graph)));
    /// ```
    #[must_use]
    pub fn quantization(mut self, quantization: Quantization) -> Self {
        self.quantization = quantization;
        self
    }

    /// Candidates that a walk by codes keeps at least, for each record that is
    /// wanted: 1 to 10,000. Default 1 for halves and bytes, which err so little
    /// that the breadth of a search is enough; 8 for product codes, 10 for bits.
    #[must_use]
    pub fn oversample(mut self, oversample: usize) -> Self {
        self.oversample = Some(oversample);
        self
    }

    /// Seed of the records' levels. Default 42.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    fn check(&self, dimension: usize) -> Result<(), CollectionError> {
        bounded("m", self.m, defaults::M_LEAST, defaults::M_MOST)?;
        bounded("ef_construction", self.ef_construction, 1, defaults::EF_CONSTRUCTION_MOST)?;
        bounded("ef_search", self.ef_search, 1, defaults::EF_SEARCH_MOST)?;
        bounded("oversample", self.measured(), 1, defaults::OVERSAMPLE_MOST)?;
        self.quantization.check(dimension)
    }

    fn measured(&self) -> usize {
        self.oversample.unwrap_or(match self.quantization {
            Quantization::None | Quantization::F16 | Quantization::Sq8 => defaults::OVERSAMPLE_WALKED,
            Quantization::Pq { .. } => defaults::OVERSAMPLE_WALKED_PQ,
            Quantization::Binary => defaults::OVERSAMPLE_WALKED_SIGNS,
        })
    }

    fn options(self, dimension: usize, metric: Metric) -> HnswOptions {
        let (HnswConfig { m, ef_construction, seed, .. }, oversample) = (self, self.measured());
        let copies = self.quantization.copies(dimension);
        HnswOptions { m, ef_construction, products: metric == Metric::Dot, seed, copies, oversample }
    }
}

/// Parameters of a quantized graph.
///
/// ```
/// use vecino::{CollectionConfig, GraphConfig, IndexSpec, Metric};
/// let graph = GraphConfig::default().ef_construction(200).code_bits(4).code_bytes(128);
/// let config = CollectionConfig::new(768, Metric::Cosine).index(IndexSpec::Graph(graph));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraphConfig {
    pub(super) degree: usize,
    pub(super) ef_construction: usize,
    pub(super) ef_search: usize,
    pub(super) code_bits: Option<usize>,
    pub(super) code_bytes: Option<usize>,
    pub(super) seed: u64,
}

impl Default for GraphConfig {
    fn default() -> Self {
        GraphConfig {
            degree: defaults::GRAPH_DEGREE,
            ef_construction: defaults::GRAPH_EF_CONSTRUCTION,
            ef_search: defaults::EF_SEARCH,
            code_bits: None,
            code_bytes: None,
            seed: defaults::SEED,
        }
    }
}

impl GraphConfig {
    /// Links of a record at most: a multiple of 32 up to 256. Default 64: 256
    /// bytes a record, and half as many more under [`Metric::Dot`], to the records of the greatest inner
    /// products. Fewer take less memory and build faster, and reach high
    /// recalls later.
    #[must_use]
    pub fn degree(mut self, degree: usize) -> Self {
        self.degree = degree;
        self
    }

    /// Candidates looked at for the links of a new record. Default 128.
    #[must_use]
    pub fn ef_construction(mut self, ef_construction: usize) -> Self {
        self.ef_construction = ef_construction;
        self
    }

    /// Breadth of a search that does not say its own. Default 64.
    #[must_use]
    pub fn ef_search(mut self, ef_search: usize) -> Self {
        self.ef_search = ef_search;
        self
    }

    /// Bits of a coordinate in the codes: 4 or 7. When neither this nor
    /// [`GraphConfig::code_bytes`] is said, both are measured on the records.
    #[must_use]
    pub fn code_bits(mut self, bits: usize) -> Self {
        self.code_bits = Some(bits);
        self
    }

    /// Bytes of a record's code: a multiple of 64 up to 512. 128 bytes hold 232
    /// coordinates of 4 bits or 116 of 7: vectors of more dimensions are
    /// projected to so many.
    #[must_use]
    pub fn code_bytes(mut self, bytes: usize) -> Self {
        self.code_bytes = Some(bytes);
        self
    }

    /// Seed of all that is drawn at random. Default 42.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    fn check(&self) -> Result<(), CollectionError> {
        bounded("degree", self.degree, defaults::GRAPH_DEGREE_STEP, defaults::GRAPH_DEGREE_MOST)?;
        if !self.degree.is_multiple_of(defaults::GRAPH_DEGREE_STEP) {
            return Err(choice("degree", self.degree, "a multiple of 32 from 32 to 256"));
        }
        bounded("ef_construction", self.ef_construction, 1, defaults::EF_CONSTRUCTION_MOST)?;
        bounded("ef_search", self.ef_search, 1, defaults::EF_SEARCH_MOST)?;
        match self.code_bits {
            None | Some(4 | 7) => {}
            Some(bits) => return Err(choice("code_bits", bits, "4 or 7")),
        }
        let bytes = self.code_bytes.unwrap_or(defaults::CODE_BYTES);
        bounded("code_bytes", bytes, defaults::CODE_LINE, defaults::CODE_BYTES_MOST)?;
        if !bytes.is_multiple_of(defaults::CODE_LINE) {
            return Err(choice("code_bytes", bytes, "a multiple of 64 from 64 to 512"));
        }
        Ok(())
    }

    fn coding(&self) -> Coding {
        if self.code_bits.is_none() && self.code_bytes.is_none() {
            return Coding::Measured;
        }
        let bits = if self.code_bits == Some(7) { Bits::Seven } else { Bits::Four };
        let lines = self.code_bytes.unwrap_or(defaults::CODE_BYTES) / defaults::CODE_LINE;
        Coding::Fixed(Shape { bits, lines })
    }
}

/// What a collection holds and how it is searched.
///
/// ```
/// use vecino::{CollectionConfig, IndexSpec, Metric};
/// let config = CollectionConfig::new(384, Metric::Cosine).index(IndexSpec::Flat);
/// assert_eq!(config.dimension(), 384);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectionConfig {
    dimension: usize,
    metric: Metric,
    index: IndexSpec,
    vectors: VectorStorage,
    search: Option<SearchParams>,
    memory_budget: Option<usize>,
    ttl: Option<Duration>,
}

impl CollectionConfig {
    /// Vectors of one dimension (1 to 65,536) under a metric, indexed as their
    /// number asks ([`IndexSpec::Auto`]).
    #[must_use]
    pub fn new(dimension: usize, metric: Metric) -> CollectionConfig {
        let vectors = VectorStorage::default();
        CollectionConfig {
            dimension,
            metric,
            index: IndexSpec::auto(),
            vectors,
            search: None,
            memory_budget: None,
            ttl: None,
        }
    }

    /// The preset for least memory: vectors of a byte a number
    /// ([`VectorStorage::Byte`]: rounded, also for `get`), and the index that takes
    /// the least beside them at a good recall.
    ///
    /// From 256 dimensions on, and under [`Metric::Dot`], it is a graph with half
    /// the links (that is 32, and by inner product 16 more): about a third of the raw vectors for 784 dimensions, and for
    /// most data recalls up to 0.99 at some cost of speed. Links and codes of shorter
    /// vectors would take more than the vectors, so these are in lists
    /// ([`IndexSpec::Ivf`]) with product codes of two bits a number, or none below
    /// 32 dimensions: 0.6 of the raw vectors for a million records of 128 dimensions (a graph 0.9), and for
    /// GloVe's word vectors of 50 a third of a graph's speed at recall 0.98. A search looks through 64 lists when it says nothing.
    ///
    /// The default is the preset for speed. It replaces what was said of index and vectors before.
    ///
    /// ```
    /// use vecino::{CollectionConfig, IndexSpec, Metric, VectorStorage};
    /// let config = CollectionConfig::new(768, Metric::Cosine).lean();
    /// assert_eq!(config.vector_storage(), VectorStorage::Byte);
    /// assert!(matches!(config.index_spec(), IndexSpec::Graph(_)));
    /// let config = CollectionConfig::new(128, Metric::L2).lean();
    /// assert!(matches!(config.index_spec(), IndexSpec::Ivf(_)));
    /// ```
    #[must_use]
    pub fn lean(self) -> CollectionConfig {
        let index = match self.metric {
            Metric::L2 | Metric::Cosine if self.dimension < defaults::LEAN_LISTS_BELOW => {
                IndexSpec::Ivf(IvfConfig::lean(self.dimension))
            }
            _ => IndexSpec::Graph(GraphConfig::default().degree(defaults::GRAPH_DEGREE_LEAN)),
        };
        self.index(index).vectors(VectorStorage::Byte)
    }

    /// Chooses the index.
    #[must_use]
    pub fn index(mut self, index: IndexSpec) -> CollectionConfig {
        self.index = index;
        self
    }

    /// Chooses how vectors are stored. Default: every number as it was put in,
    /// in as few bytes as the data allows.
    ///
    /// ```
    /// use vecino::{CollectionConfig, Metric, VectorStorage};
    /// let config = CollectionConfig::new(384, Metric::Cosine).vectors(VectorStorage::Half);
    /// assert_eq!(config.vector_storage(), VectorStorage::Half);
    /// ```
    #[must_use]
    pub fn vectors(mut self, storage: VectorStorage) -> CollectionConfig {
        self.vectors = storage;
        self
    }

    /// How hard searches try that do not say it themselves
    /// ([`Query::params`](crate::Query::params)). Default: the breadth of the index.
    #[must_use]
    pub fn search(mut self, params: SearchParams) -> CollectionConfig {
        self.search = Some(params);
        self
    }

    /// Bytes that the collection may hold: see
    /// [`EngineBuilder::memory_budget`](crate::EngineBuilder::memory_budget), which
    /// bounds all collections together. Default: no budget.
    ///
    /// ```
    /// use vecino::{CollectionConfig, Engine, Metric};
    /// let engine = Engine::builder().build()?;
    /// let config = CollectionConfig::new(384, Metric::Cosine).memory_budget(64 << 20);
    /// let notes = engine.create_collection("notes", config)?;
    /// assert_eq!(notes.stats().budget.limit, Some(64 << 20));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn memory_budget(mut self, bytes: usize) -> CollectionConfig {
        self.memory_budget = Some(bytes);
        self
    }

    /// Bytes that it may hold, if that was said.
    #[must_use]
    pub fn memory_budget_bytes(&self) -> Option<usize> {
        self.memory_budget
    }

    /// The dimension.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// The metric.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// The index.
    #[must_use]
    pub fn index_spec(&self) -> IndexSpec {
        self.index
    }

    /// Records expire so long after they are written, unless they say something
    /// else ([`Record::ttl`](crate::Record::ttl)). Whole microseconds. Default: never.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> CollectionConfig {
        self.ttl = Some(Duration::from_micros(u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX)));
        self
    }

    /// After how long records expire that do not say it.
    #[must_use]
    pub fn default_ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// How vectors are stored.
    #[must_use]
    pub fn vector_storage(&self) -> VectorStorage {
        self.vectors
    }

    /// How hard searches try that do not say it, if that was chosen.
    #[must_use]
    pub fn search_params(&self) -> Option<SearchParams> {
        self.search
    }

    pub(crate) fn check(&self) -> Result<(), CollectionError> {
        bounded("dimension", self.dimension, 1, defaults::DIMENSION_MOST)?;
        if let IndexSpec::Auto(auto) = &self.index {
            auto.check()?;
        }
        if let IndexSpec::Graph(graph) = &self.index {
            graph.check()?;
        }
        if let IndexSpec::Hnsw(graph) = &self.index {
            graph.check(self.dimension)?;
        }
        if let IndexSpec::QuantizedFlat(flat) = &self.index {
            flat.check(self.dimension)?;
        }
        if let IndexSpec::Ivf(lists) = &self.index {
            lists.check(self.dimension)?;
        }
        if let IndexSpec::Pq(codes) = &self.index {
            codes.check(self.dimension)?;
        }
        let budget = self.memory_budget.unwrap_or(usize::MAX);
        bounded("memory_budget", budget, 1, usize::MAX)?;
        if let Some(params) = self.search {
            params.check()?;
            if let Goal::Breadth(ef_search) = params.goal() {
                bounded("ef_search", ef_search, 1, defaults::EF_SEARCH_MOST)?;
            }
        }
        Ok(())
    }

    /// A new, empty index for one shard.
    pub(super) fn new_index(&self) -> Box<dyn Index> {
        let inner: Box<dyn Index> = match self.index {
            IndexSpec::Auto(auto) => return Box::new(Auto::new(auto.options(self))),
            IndexSpec::Flat => return Box::new(Flat::default()),
            IndexSpec::Graph(graph) => match self.graph_options(graph) {
                Ok(options) => Box::new(QuantizedGraph::new(options)),
                Err(options) => Box::new(Hnsw::new(options)),
            },
            IndexSpec::QuantizedFlat(flat) => match flat.options(self.dimension) {
                Some(options) => Box::new(Ivf::new(options)),
                None => return Box::new(Flat::default()),
            },
            IndexSpec::Hnsw(graph) => Box::new(Hnsw::new(graph.options(self.dimension, self.metric))),
            IndexSpec::Ivf(lists) => Box::new(Ivf::new(lists.options(self.dimension))),
            IndexSpec::Pq(codes) => Box::new(Ivf::new(codes.options())),
        };
        Box::new(Screened::new(inner))
    }

    /// The index of a shard that was saved.
    pub(super) fn load_index(
        &self,
        saved: &Saved<'_>,
        input: &mut Decoder<'_>,
    ) -> Result<Box<dyn Index>, Malformed> {
        let inner: Box<dyn Index> = match self.index {
            IndexSpec::Auto(auto) => {
                return Ok(Box::new(Auto::load(auto.options(self), self.dimension, saved, input)?));
            }
            IndexSpec::Flat => return Ok(Box::new(Flat::load(saved))),
            IndexSpec::Graph(graph) => match self.graph_options(graph) {
                Ok(options) => Box::new(QuantizedGraph::load(options, self.dimension, saved, input)?),
                Err(options) => Box::new(Hnsw::load(options, self.dimension, saved, input)?),
            },
            IndexSpec::QuantizedFlat(flat) => match flat.options(self.dimension) {
                Some(options) => Box::new(Ivf::load(options, self.dimension, saved, input)?),
                None => return Ok(Box::new(Flat::load(saved))),
            },
            IndexSpec::Hnsw(graph) => {
                let (options, dim) = (graph.options(self.dimension, self.metric), self.dimension);
                Box::new(Hnsw::load(options, dim, saved, input)?)
            }
            IndexSpec::Ivf(lists) => {
                Box::new(Ivf::load(lists.options(self.dimension), self.dimension, saved, input)?)
            }
            IndexSpec::Pq(codes) => Box::new(Ivf::load(codes.options(), self.dimension, saved, input)?),
        };
        Ok(Box::new(Screened::loaded(inner, saved)))
    }

    /// How a quantized graph is built. No codes are trained for vectors of very
    /// many dimensions: what else is like it.
    fn graph_options(&self, graph: GraphConfig) -> Result<GraphOptions, HnswOptions> {
        let GraphConfig { degree, ef_construction, seed, .. } = graph;
        if self.dimension > MAX_TRAINED {
            let like = HnswConfig { ef_construction, seed, ..HnswConfig::default() };
            return Err(like.options(self.dimension, self.metric));
        }
        let products = self.metric == Metric::Dot;
        Ok(GraphOptions { degree, ef_construction, products, coding: graph.coding(), seed })
    }

    pub(super) fn ef_search(&self) -> usize {
        match self.index {
            IndexSpec::Auto(auto) => auto.graph.ef_search,
            IndexSpec::Flat => defaults::EF_SEARCH,
            // What is measured follows from what is wanted.
            IndexSpec::QuantizedFlat(_) => 1,
            IndexSpec::Hnsw(graph) => graph.ef_search,
            IndexSpec::Graph(graph) => graph.ef_search,
            IndexSpec::Ivf(lists) => lists.nprobe,
            IndexSpec::Pq(codes) => codes.ef_search,
        }
    }
}

fn bounded(parameter: &'static str, value: usize, least: usize, most: usize) -> Result<(), CollectionError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(setting(parameter, value, least, most))
}

/// The words below say so.
const _: () = assert!(
    defaults::GRAPH_DEGREE_STEP == 32
        && defaults::GRAPH_DEGREE_MOST == 256
        && defaults::CODE_LINE == 64
        && defaults::CODE_BYTES_MOST == 512
);

/// Not every number between the bounds is allowed.
fn choice(parameter: &'static str, value: usize, allowed: &'static str) -> CollectionError {
    CollectionError::Choice { parameter, value, allowed }
}

fn setting(parameter: &'static str, value: usize, least: usize, most: usize) -> CollectionError {
    CollectionError::Setting { parameter, value, least, most }
}
