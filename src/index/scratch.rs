//! What a search needs beside the index: kept by the searching thread, grown once.

use crate::id::Row;

/// Working memory of a search.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Rows of one block.
    pub(crate) rows: Vec<Row>,
    /// Their distances.
    pub(crate) distances: Vec<f32>,
}
