//! Vectors in memory: aligned chunks that never move, and distances over them.

mod aligned;
mod matrix;
mod space;

pub(crate) use matrix::{Matrix, MatrixView, OutOfMemory};
pub use space::VectorError;
pub(crate) use space::{BLOCK, Space};
