//! **vecino** (Spanish for neighbour) is an in-memory vector database that
//! lives inside your process: put vectors in, find the nearest ones, from any
//! thread, while others write.
//!
//! # Contents
//! - [`Engine`], made by [`Engine::builder`]: the threads and the collections.
//! - [`Collection`]: writing ([`upsert`](Collection::upsert),
//!   [`delete`](Collection::delete), ...) and reading
//!   ([`search`](Collection::search), [`get`](Collection::get), ...).
//! - [`Snapshot`]: a state that never changes, for repeatable reads and paging.
//! - [`Query`] and [`Answer`], [`Record`], [`RecordId`], [`Metric`].
//! - [`Payload`], [`Value`], [`Filter`], [`ExclusionSet`]: fields beside vectors, and conditions on
//!   them; [`Snapshot::facets`], [`Snapshot::search_groups`].
//! - [`Scoring`], [`Record::ttl`], [`Collection::touch`]: age and importance in the ranking, and expiry.
//! - [`Collection::insert`], [`Collection::replace_version`], [`Collection::upsert_unless_near`]:
//!   writes under a condition, with their [`Outcome`].
//! - [`Query::deadline`], [`Query::budget`], [`CancelToken`]: searches that end early, and say so.
//! - [`Backpressure`], [`EngineBuilder::memory_budget`]: what happens when it is too much.
//! - [`SearchParams`]: searching to a recall or a time instead of with a breadth.
//! - [`CollectionConfig`], [`IndexSpec`], [`GraphConfig`], [`HnswConfig`],
//!   [`IvfConfig`], [`PqConfig`], [`FlatConfig`], [`Quantization`],
//!   [`AutoConfig`]: what a collection is made of.
//! - [`EngineBuilder::open`], [`Durability`], [`Snapshot::checkpoint`],
//!   [`Engine::inspect`]: engines with a folder, and backups.
//! - [Choosing an index](choosing): which one when, with measured speed, memory and recall.
//! - [Operating vecino](operating): sizing, metrics, events, what to do when something rises.
//! - Errors, one enum a kind of operation: [`WriteError`], [`SearchError`], ...
//!
//! # How it works, in short
//! Each worker thread owns one shard of every collection and is its only
//! writer. Writes travel to it over a bounded mailbox, numbered in their order
//! ([`Seq`]). What it has applied is published as an immutable snapshot, one
//! atomic swap for all shards ([`Generation`]). Readers take the newest
//! snapshot and search it on their own thread: no lock, no waiting. (Looking a record up by
//! its id, as `get`, `like`, `exclude` and `Filter::ids` do, takes a short lock on one of
//! many parts of the id directory.) `design.md` in the repository has the whole story, with the
//! invariants.
//!
//! | call | where it runs | what it shows | what it waits for |
//! |---|---|---|---|
//! | [`Collection::search`] | the calling thread | the newest published snapshot | nothing |
//! | ... with [`Query::at_least`] | the calling thread | that write and all before it | its publication |
//! | [`Snapshot::search`] | the calling thread | the held state, always the same | nothing |
//! | [`Snapshot::search_many`] | the calling thread, searches taking turns | the held state | nothing |
//! | [`Collection::search_batch`] | the engine's pool and the calling thread | one snapshot for all | the batch |
//! | [`Collection::search_async`] | the workers | every write accepted before the call | awaited, never blocks |
//! | [`Collection::upsert`], `delete`, ... | the calling thread, then a worker | - | a place in the mailbox, if full |
//! | [`Collection::calibrate`] | the engine's pool | the newest published snapshot | the end of the measuring |
//! | [`Write::wait`], [`Collection::flush`] | the calling thread | - | publication |
//!
//! # A program
//! ```
//! use vecino::{CollectionConfig, Engine, Metric, Query, Record};
//!
//! let engine = Engine::builder().build()?;
//! let songs = engine.create_collection("songs", CollectionConfig::new(3, Metric::Cosine))?;
//!
//! songs.upsert(Record::new("ballad", [0.9, 0.1, 0.0]))?;
//! songs.upsert(Record::new("waltz", [0.7, 0.6, 0.1]))?;
//! let write = songs.upsert(Record::new("march", [0.1, 0.2, 0.9]))?;
//!
//! let query = Query::new(&[1.0, 0.2, 0.0]).top(2).at_least(write.seq());
//! for hit in &songs.search(&query)? {
//!     println!("{} {:.3}", hit.id, hit.distance);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it is not
//! A server, or an index for more than fits into memory: an engine with a
//! folder keeps logs and checkpoints there, and all records in memory.
//!
//! # Limits
//! Dimension 65,536 (`Graph` up to 8,192, beyond it builds HNSW with 16 links); 2^31 - 2 rows a
//! shard; 64 shards; a million records a
//! batch; 256 fields a payload, with paths of 255 bytes, lists of 1,024 members and 1 MiB of texts (in one write: merges may make more);
//! filters 32 deep, with 16,384 values; vectors up to a length of 6.5e18 (so that no distance overflows) and,
//! under cosine, from 1e-30 (so that there is a direction).
//!
//! # Environment
//! `VECINO_ISA` = `scalar`, `avx2`, `avx512` or `neon` forces the instruction
//! set of the distance kernels; by default the best of the machine is used.
//! Answers may differ in the last bits between instruction sets.
//!
//! # Events
//! Through `tracing`, at the boundaries and never per query (unless
//! [`EngineBuilder::slow_query`] asks for `slow query`): [operating] has the table, with
//! levels and fields. [`Engine::metrics_text`] has the counters;
//! the feature `metrics` hands them to the facade of that name.
//
// The modules are declared from the ground floor up: a module uses only what
// is declared before it (`tests/architecture.rs` holds this).

mod stats;
mod memory;
mod id;
mod metric;
mod durability;
mod neighbor;
mod bits;
mod codec;
mod lease;
mod clock;
mod stop;
mod pause;

mod kernel;
mod vector;
mod quant;
mod payload;
mod error;
mod index;
mod query;
mod tuning;
mod rows;
mod snapshot;
mod calibrate;
mod persist;
mod shard;
mod coordinator;
mod engine;

#[cfg(any(test, feature = "internals"))]
#[doc(hidden)]
pub mod internals;

#[doc = include_str!("choosing.md")]
#[doc = include_str!("../examples/ann_benchmark/guide-fashion-mnist-784.svg")]
#[doc = include_str!("../examples/ann_benchmark/guide-arxiv-minilm-384.svg")]
#[cfg(doc)]
pub mod choosing {}

#[doc = include_str!("operating.md")]
#[cfg(doc)]
pub mod operating {}

pub use clock::{Clock, ManualClock};
pub use durability::Durability;
pub use engine::{
    AutoConfig, BudgetStats, Bytes, Collection, CollectionConfig, CollectionStats, Engine, EngineBuilder,
    EngineStats, FlatConfig, GraphConfig, HnswConfig, IndexSpec, IvfConfig, IvfStorage, Outcome, PqConfig,
    Quantization, Recovery, ShardStats, TargetChoice, TargetStats, TuningStats, VectorBytes, Write,
};
pub use error::{
    BudgetScope, BuildError, CalibrateError, CheckpointError, CollectionError, FileError, FullReason, Gone,
    LoadError, OpenError, Operation, ParamsError, ReadError, ReindexError, SearchError, SpecError, WaitError,
    WriteError,
};
pub use id::{Generation, RecordId, Seq};
pub use metric::Metric;
pub use payload::{
    ExclusionSet, Filter, FilterError, Payload, PayloadError, PayloadUpdate, Timestamp, Value,
};
pub use persist::{FileKind, FolderReport, GiveUp, GivenUp, StoredCheckpoint, StoredCollection, StoredFile};
pub use query::{
    Answer, CancelToken, Completeness, Example, FilterPlan, FilterStats, Hit, Query, Scoring, SearchParams,
    SearchStats,
};
pub use shard::{Backpressure, Refusals};
pub use snapshot::{
    Cursor, Facet, Finding, Group, Groups, OrderBy, OrderCursor, OrderedPage, Page, Record, Snapshot,
    VerifyReport,
};
pub use tuning::{Calibration, CalibrationCurve, CalibrationPoint, Reach};
pub use vector::{VectorError, VectorStorage};
