//! What a search needs beside the index: kept by the searching thread, grown once.

use super::pool::Pool;
use crate::id::Row;
use crate::neighbor::{Neighbor, TopK};
use crate::quant::CodeQuery;

/// Working memory of a search.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Rows of one block.
    pub(crate) rows: Vec<Row>,
    /// Their distances.
    pub(crate) distances: Vec<f32>,
    /// Rows that a graph search has met.
    pub(crate) visited: Visited,
    /// The candidates of a graph search.
    pub(crate) pool: Pool,
    /// The admitted rows among them, under a filter.
    pub(crate) admitted: TopK,
    /// Where a graph search starts.
    pub(crate) starts: Vec<Neighbor>,
    /// The query of a search by codes.
    pub(crate) code_query: CodeQuery,
    /// Candidates for the list of a row.
    pub(crate) candidates: Vec<Neighbor>,
}

/// A set of rows that is emptied in time proportional to what it holds.
#[derive(Debug, Default)]
pub(crate) struct Visited {
    words: Vec<u64>,
    /// Words that are not zero.
    touched: Vec<u32>,
}

impl Visited {
    /// Empties the set and makes room for rows below `rows`.
    pub(crate) fn reset(&mut self, rows: usize) {
        for word in self.touched.drain(..) {
            self.words[word as usize] = 0;
        }
        if self.words.len() * 64 < rows {
            self.words = vec![0; rows.div_ceil(64)];
        }
    }

    /// Adds a row; false when it was there.
    ///
    /// # Panics
    /// When the row is not below what `reset` was given.
    #[inline]
    pub(crate) fn insert(&mut self, row: Row) -> bool {
        let word = &mut self.words[row as usize / 64];
        let bit = 1 << (row % 64);
        let old = *word;
        if old & bit != 0 {
            return false;
        }
        *word = old | bit;
        if old == 0 {
            self.touched.push(row / 64);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visited_forgets_everything_on_reset() {
        let mut visited = Visited::default();
        visited.reset(1_000);
        assert!(visited.insert(999) && visited.insert(0) && !visited.insert(999));
        visited.reset(2_000);
        assert!(visited.insert(999) && visited.insert(1_999) && visited.insert(0));
    }
}
