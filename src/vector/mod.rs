//! Vectors in memory: aligned chunks that never move, and distances over them.

mod aligned;
mod format;
mod matrix;
mod rounded;
mod space;
mod storage;

pub(crate) use format::Format;
pub(crate) use matrix::{Matrix, MatrixView, OutOfMemory, matrix_bytes};
pub(crate) use rounded::{Rounded, RoundedQuery};
pub use space::VectorError;
pub(crate) use space::{BLOCK, Space};
pub(crate) use storage::Ruler;
pub use storage::VectorStorage;
