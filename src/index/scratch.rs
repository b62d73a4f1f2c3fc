//! What a search needs beside the index: kept by the searching thread, grown once.

use super::ivf::IvfScratch;
use super::pool::Pool;
use super::rerank::Errors;
use super::sift::SiftScratch;
use crate::id::Row;
use crate::memory;
use crate::neighbor::{Neighbor, TopK};
use crate::quant::{CodeQuery, SingleQuery};

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
    /// The rows among them that pass a filter, and others on the way to them.
    pub(crate) passing: Pool,
    pub(crate) others: Vec<Row>,
    /// Where a graph search starts.
    pub(crate) starts: Vec<Neighbor>,
    /// Of the entry points of a large graph how far they are, as estimated.
    pub(crate) estimates: Vec<f32>,
    /// The query of a search by codes.
    pub(crate) code_query: CodeQuery,
    /// That of a walk by codes of single rows.
    pub(super) single: SingleQuery,
    /// Candidates for the list of a row.
    pub(crate) candidates: Vec<Neighbor>,
    /// True when the search before was for the same query, in another shard.
    pub(super) follows: bool,
    /// What is known of the errors of the estimates.
    pub(super) errors: Errors,
    /// What an exact search by codes needs.
    pub(super) sift: SiftScratch,
    /// What a search of lists needs.
    pub(super) ivf: IvfScratch,
}

impl Scratch {
    /// Before the search of a shard; `follows`: the last one was of another
    /// shard for the same query, so what that one prepared can be used again
    /// where both have the same codes.
    pub(crate) fn begin(&mut self, follows: bool) {
        self.follows = follows;
        if !follows {
            self.code_query.forget();
        }
    }
}

/// Words that are filled with zeros in the time in which one of them is found.
const FILLED: usize = 4;

/// A set of rows in the order in which they came, emptied in time proportional
/// to what it holds at most.
#[derive(Debug, Default)]
pub(crate) struct Visited {
    words: Vec<u64>,
    /// The rows, and room for more.
    met: Vec<Row>,
    count: usize,
    /// Rows before the last call of `extend`.
    before: usize,
}

impl Visited {
    /// Empties the set and makes room for rows below `rows`.
    pub(crate) fn reset(&mut self, rows: usize) {
        if self.words.len() <= FILLED * self.count {
            self.words.fill(0);
        } else {
            self.met[..self.count].iter().for_each(|row| self.words[*row as usize / 64] = 0);
        }
        (self.count, self.before) = (0, 0);
        if self.words.len() * 64 < rows {
            self.words = memory::filled(0, rows.div_ceil(64));
        }
    }

    /// Adds a row; false when it was there.
    ///
    /// # Panics
    /// When the row is not below what `reset` was given.
    #[inline(always)]
    pub(crate) fn insert(&mut self, row: Row) -> bool {
        self.extend(&[row], Row::MAX);
        !self.fresh().is_empty()
    }

    /// Adds the rows of some links, which have other bits outside of `mask`.
    /// Nothing in the loop depends on whether a row is new: half of all links
    /// are, and no processor predicts which.
    ///
    /// # Panics
    /// As `insert`.
    #[inline(always)]
    pub(crate) fn extend(&mut self, links: &[u32], mask: u32) {
        let first = self.count;
        if self.met.len() < first + links.len() {
            memory::resize(&mut self.met, (first + links.len()).next_power_of_two(), 0);
        }
        let room = &mut self.met[first..first + links.len()];
        let mut count = 0;
        for link in links {
            let row = link & mask;
            let word = &mut self.words[row as usize / 64];
            let bit = 1 << (row % 64);
            room[count] = row;
            count += usize::from(*word & bit == 0);
            *word |= bit;
        }
        self.before = first;
        self.count = first + count;
    }

    /// Adds further rows to those of the last call of `extend`.
    ///
    /// # Panics
    /// As `insert`.
    #[inline(always)]
    pub(crate) fn extend_more(&mut self, rows: &[Row]) {
        let before = self.before;
        self.extend(rows, Row::MAX);
        self.before = before;
    }

    /// The rows of the last call of `extend`, and of `extend_more` since, that were not there before.
    #[inline(always)]
    pub(crate) fn fresh(&self) -> &[Row] {
        &self.met[self.before..self.count]
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

    // Few of many rows are taken out one by one, many with all others.
    #[test]
    fn visited_forgets_few_rows_and_many() {
        let mut visited = Visited::default();
        for met in [1, 3, 15, 16, 17, 400, 4_000] {
            visited.reset(4_096);
            let rows: Vec<Row> = (0..met).map(|row| row * (4_096 / met)).collect();
            visited.extend(&rows, Row::MAX);
            assert_eq!(visited.fresh(), rows);
        }
        visited.reset(4_096);
        assert!((0..4_096).all(|row| visited.insert(row)));
    }

    #[test]
    fn visited_shows_the_rows_that_are_new() {
        let mut visited = Visited::default();
        visited.reset(100);
        visited.extend(&[5, 7, 5, 99 | 1 << 31], !(1 << 31));
        assert_eq!(visited.fresh(), [5, 7, 99]);
        visited.extend(&[7, 8], Row::MAX);
        assert_eq!(visited.fresh(), [8]);
    }

    #[test]
    fn more_rows_are_fresh_beside_those_before_them() {
        let mut visited = Visited::default();
        visited.reset(100);
        visited.insert(7);
        visited.extend(&[3, 7, 5], Row::MAX);
        visited.extend_more(&[5, 9, 3, 8]);
        assert_eq!(visited.fresh(), [3, 5, 9, 8]);
        visited.extend(&[8, 1], Row::MAX);
        assert_eq!(visited.fresh(), [1]);
    }
}
