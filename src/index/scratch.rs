//! What a search needs beside the index: kept by the searching thread, grown once.

use super::pool::Pool;
use super::sift::SiftScratch;
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
    /// What an exact search by codes needs.
    pub(super) sift: SiftScratch,
}

/// A set of rows in the order in which they came, emptied in time proportional
/// to what it holds.
#[derive(Debug, Default)]
pub(crate) struct Visited {
    words: Vec<u64>,
    /// The rows, and room for more.
    met: Vec<Row>,
    count: usize,
}

impl Visited {
    /// Empties the set and makes room for rows below `rows`.
    pub(crate) fn reset(&mut self, rows: usize) {
        for row in &self.met[..self.count] {
            self.words[*row as usize / 64] = 0;
        }
        self.count = 0;
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
        let before = self.count;
        self.extend(std::iter::once(row), 1);
        self.count > before
    }

    /// Adds at most `most` rows; gives those that were not there. Nothing in
    /// the loop depends on whether a row is new: half of all links are, and no
    /// processor predicts which.
    ///
    /// # Panics
    /// As `insert`, and when there are more rows than `most`.
    #[inline]
    pub(crate) fn extend(&mut self, rows: impl Iterator<Item = Row>, most: usize) -> &[Row] {
        let first = self.count;
        if self.met.len() < first + most {
            self.met.resize((first + most).next_power_of_two(), 0);
        }
        let mut count = first;
        for row in rows {
            let word = &mut self.words[row as usize / 64];
            let bit = 1 << (row % 64);
            self.met[count] = row;
            count += usize::from(*word & bit == 0);
            *word |= bit;
        }
        self.count = count;
        &self.met[first..count]
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

    #[test]
    fn visited_shows_the_rows_that_are_new() {
        let mut visited = Visited::default();
        visited.reset(100);
        assert_eq!(visited.extend([5, 7, 5, 99].into_iter(), 32), [5, 7, 99]);
        assert_eq!(visited.extend([7, 8].into_iter(), 32), [8]);
    }
}
