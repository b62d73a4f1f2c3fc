//! vecino: an in-memory vector database that lives inside your process.
//!
//! The modules are declared from the ground floor up: a module uses only what
//! is declared before it (`tests/architecture.rs` holds this).

mod bits;
mod id;
mod metric;
mod neighbor;

mod kernel;

mod vector;

mod index;

pub use id::{Generation, RecordId, Seq};
pub use metric::Metric;

#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
