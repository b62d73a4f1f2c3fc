//! vecino: an in-memory vector database that lives inside your process.
//!
//! The modules are declared from the ground floor up: a module uses only what
//! is declared before it (`tests/architecture.rs` holds this).

mod stats;
mod id;
mod metric;
mod neighbor;
mod bits;

mod kernel;
mod vector;
mod error;
mod index;
mod query;
mod rows;
mod snapshot;
mod shard;
mod coordinator;
mod engine;

#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;

pub use engine::{
    Bytes, Collection, CollectionConfig, CollectionStats, Engine, EngineBuilder, EngineStats, HnswConfig,
    IndexSpec, ShardStats, Write,
};
pub use error::{BuildError, CollectionError, Gone, ReadError, SearchError, WaitError, WriteError};
pub use id::{Generation, RecordId, Seq};
pub use metric::Metric;
pub use query::{Answer, Hit, Query, SearchStats};
pub use shard::Backpressure;
pub use snapshot::{Cursor, Finding, Page, Record, Snapshot, VerifyReport};
pub use vector::VectorError;
