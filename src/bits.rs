//! Sets of rows as bits.

use crate::id::Row;
use crate::memory;

/// A set of rows: one bit a row, O(1) to ask, a word of 64 rows at a time to walk.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RowSet {
    words: Vec<u64>,
    len: usize,
}

impl Clone for RowSet {
    fn clone(&self) -> Self {
        RowSet { words: memory::copied(&self.words), len: self.len }
    }
}

impl RowSet {
    /// Adds a row; false when it was there.
    pub(crate) fn insert(&mut self, row: Row) -> bool {
        let word = row as usize / 64;
        if word >= self.words.len() {
            memory::resize(&mut self.words, word + 1, 0);
        }
        let bit = 1 << (row % 64);
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.len += usize::from(new);
        new
    }

    /// Takes a row out; false when it was not there.
    pub(crate) fn remove(&mut self, row: Row) -> bool {
        let Some(word) = self.words.get_mut(row as usize / 64) else { return false };
        let bit = 1 << (row % 64);
        let was = *word & bit != 0;
        *word &= !bit;
        self.len -= usize::from(was);
        was
    }

    /// Takes all rows out; the memory stays.
    pub(crate) fn clear(&mut self) {
        if self.len > 0 {
            self.words.fill(0);
            self.len = 0;
        }
    }

    /// The set without some rows, then with others.
    pub(crate) fn after(&self, gone: &[Row], come: &[Row]) -> RowSet {
        let mut rows = self.clone();
        gone.iter().for_each(|row| _ = rows.remove(*row));
        come.iter().for_each(|row| _ = rows.insert(*row));
        rows
    }

    #[inline]
    pub(crate) fn contains(&self, row: Row) -> bool {
        self.words.get(row as usize / 64).is_some_and(|word| word & (1 << (row % 64)) != 0)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// One past the last row; 0 when there is none.
    pub(crate) fn end(&self) -> usize {
        let last = self.words.iter().rposition(|word| *word != 0);
        last.map_or(0, |at| (at + 1) * 64 - self.words[at].leading_zeros() as usize)
    }

    /// The rows, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Row> + '_ {
        self.words
            .iter()
            .enumerate()
            .flat_map(|(index, word)| ones(*word).map(move |bit| (index * 64) as Row + bit))
    }

    /// The rows from one on, ascending.
    pub(crate) fn iter_from(&self, first: Row) -> impl Iterator<Item = Row> + '_ {
        let words = self.words.iter().enumerate().skip(first as usize / 64);
        let rows = words.flat_map(|(index, word)| ones(*word).map(move |bit| (index * 64) as Row + bit));
        rows.skip_while(move |row| *row < first)
    }

    /// The rows as bits, 64 in a word.
    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    pub(crate) fn bytes(&self) -> usize {
        self.words.capacity() * 8
    }
}

/// The numbers of the bits that are set, ascending.
pub(crate) fn ones(word: u64) -> impl Iterator<Item = u32> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let bit = (rest != 0).then(|| rest.trailing_zeros())?;
        rest &= rest - 1;
        Some(bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_where_its_rows_end() {
        let mut set = RowSet::default();
        for (row, end) in [(0, 1), (63, 64), (64, 65), (7, 65), (200, 201)] {
            set.insert(row);
            assert_eq!(set.end(), end);
        }
        [200, 64, 63].into_iter().for_each(|row| _ = set.remove(row));
        assert_eq!(set.end(), 8);
        [0, 7].into_iter().for_each(|row| _ = set.remove(row));
        assert_eq!((set.end(), RowSet::default().end()), (0, 0));
    }

    #[test]
    fn walks_its_rows_in_order_and_counts_them_once() {
        let mut set = RowSet::default();
        for row in [130, 3, 64, 63, 3] {
            set.insert(row);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [3, 63, 64, 130]);
        assert_eq!(set.iter_from(64).collect::<Vec<_>>(), [64, 130]);
        assert_eq!((set.iter_from(4).next(), set.iter_from(131).next()), (Some(63), None));
        assert!(set.remove(64) && !set.remove(64) && !set.remove(9_999));
        assert_eq!((set.len(), set.contains(64), set.contains(130)), (3, false, true));
        set.clear();
        assert_eq!((set.len(), set.iter().next()), (0, None));
        assert!(set.insert(130));
    }
}
