//! The candidate list of a graph search: sorted, in one array.
//!
//! NSG and DiskANN keep one sorted array instead of the two heaps of the HNSW
//! paper. A candidate and its distance are one `u64` whose order as a number
//! is the order of (distance, row), so finding a place is a binary search over
//! plain integers and making room one move of memory.

use crate::id::Row;
use crate::neighbor::Neighbor;

/// Set in an entry whose neighbours were looked at.
const EXPANDED: u64 = 1;

/// Up to so many entries are moved one by one on the way to the place of a new
/// one: fewer steps than a search for the place and a call to move memory.
const SHORT: usize = 48;

/// The nearest candidates, ascending, at most `cap` of them.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    entries: Vec<u64>,
    cap: usize,
    /// No entry before this one waits to be expanded.
    cursor: usize,
    /// Those of many candidates that are near enough.
    near: Vec<u64>,
}

impl Pool {
    /// Empties the pool and sets how many candidates it keeps.
    pub(crate) fn reset(&mut self, cap: usize) {
        self.entries.clear();
        self.cap = cap;
        self.cursor = 0;
    }

    /// Candidates farther than this cannot enter.
    #[inline]
    pub(crate) fn bound(&self) -> f32 {
        match self.entries.last() {
            Some(last) if self.entries.len() >= self.cap => distance(*last),
            _ => f32::INFINITY,
        }
    }

    /// Puts in a candidate that is not in yet.
    #[inline]
    pub(crate) fn insert(&mut self, candidate: Neighbor) {
        self.put(encode(candidate));
    }

    #[inline]
    fn put(&mut self, entry: u64) {
        if self.entries.len() >= self.cap {
            if self.entries.last().is_none_or(|last| entry >= *last) {
                return;
            }
            self.entries.pop();
        }
        let at = if self.entries.len() <= SHORT { self.slide_in(entry) } else { self.find_place(entry) };
        self.cursor = self.cursor.min(at);
    }

    /// Looks for the place and makes room in one go.
    #[inline]
    fn slide_in(&mut self, entry: u64) -> usize {
        let mut at = self.entries.len();
        self.entries.push(entry);
        while at > 0 && self.entries[at - 1] > entry {
            self.entries[at] = self.entries[at - 1];
            at -= 1;
        }
        self.entries[at] = entry;
        at
    }

    fn find_place(&mut self, entry: u64) -> usize {
        let at = self.entries.partition_point(|other| *other < entry);
        self.entries.insert(at, entry);
        at
    }

    /// Puts in candidates that are not in yet. Which are near enough is sorted
    /// out without a branch: no processor predicts it.
    #[inline]
    pub(crate) fn insert_all(&mut self, rows: &[Row], distances: &[f32]) {
        let last = match self.entries.last() {
            Some(last) if self.entries.len() >= self.cap => *last,
            _ => u64::MAX,
        };
        if self.near.len() < rows.len() {
            self.near.resize(rows.len(), 0);
        }
        let mut count = 0;
        for (row, distance) in rows.iter().zip(distances) {
            let entry = encode(Neighbor { distance: *distance, row: *row });
            self.near[count] = entry;
            count += usize::from(entry < last);
        }
        for at in 0..count {
            self.put(self.near[at]);
        }
    }

    /// The nearest candidate that waits to be expanded; it counts as expanded
    /// from now on.
    #[inline]
    pub(crate) fn expand_next(&mut self) -> Option<Neighbor> {
        while let Some(entry) = self.entries.get_mut(self.cursor) {
            self.cursor += 1;
            if *entry & EXPANDED == 0 {
                *entry |= EXPANDED;
                return Some(decode(*entry));
            }
        }
        None
    }

    /// Candidates before the one that `expand_next` gave last.
    pub(crate) fn expanded(&self) -> usize {
        self.cursor.saturating_sub(1)
    }

    /// Candidates that are not farther than `bound`.
    pub(crate) fn within(&self, bound: f32) -> usize {
        self.entries.partition_point(|entry| distance(*entry) <= bound)
    }

    /// The row that `expand_next` would give.
    #[inline]
    pub(crate) fn peek(&self) -> Option<Row> {
        let rest = self.entries.get(self.cursor..)?;
        rest.iter().find(|entry| *entry & EXPANDED == 0).map(|entry| decode(*entry).row)
    }

    /// Drops the candidates that are farther than `bound`.
    pub(crate) fn truncate_beyond(&mut self, bound: f32) {
        while self.entries.last().is_some_and(|last| distance(*last) > bound) {
            self.entries.pop();
        }
        self.cursor = self.cursor.min(self.entries.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The candidates, nearest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Neighbor> + '_ {
        self.entries.iter().map(|entry| decode(*entry))
    }
}

/// (distance, row, expanded) as a number of the same order. Negative floats
/// order backwards by their bits, so these are flipped.
#[inline]
fn encode(candidate: Neighbor) -> u64 {
    let bits = candidate.distance.to_bits();
    let mask = ((bits as i32 >> 31) as u32) | 0x8000_0000;
    (u64::from(bits ^ mask) << 32) | (u64::from(candidate.row) << 1)
}

#[inline]
fn distance(entry: u64) -> f32 {
    let ordered = (entry >> 32) as u32;
    let mask = if ordered & 0x8000_0000 != 0 { 0x8000_0000 } else { u32::MAX };
    f32::from_bits(ordered ^ mask)
}

#[inline]
fn decode(entry: u64) -> Neighbor {
    Neighbor { distance: distance(entry), row: (entry as u32) >> 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::mix;

    #[test]
    fn entries_order_like_neighbors() {
        let floats = [f32::MIN, -2.5, -1e-30, 0.0, 1e-40, 1.0, 3.0, f32::MAX, f32::INFINITY];
        let all: Vec<Neighbor> = floats
            .iter()
            .flat_map(|distance| [0, 5, (1 << 31) - 2].map(|row| Neighbor { distance: *distance, row }))
            .collect();
        for a in &all {
            assert_eq!(decode(encode(*a)), *a);
            for b in &all {
                assert_eq!(encode(*a).cmp(&encode(*b)), a.order(b));
            }
        }
    }

    #[test]
    fn keeps_the_nearest_like_a_sorted_list() {
        for seed in 0..50u64 {
            let (mut pool, mut model) = (Pool::default(), Vec::new());
            pool.reset(1 + seed as usize % 20);
            for row in 0..100u32 {
                let distance = (mix(seed << 32 | u64::from(row)) % 50) as f32 - 25.0;
                pool.insert(Neighbor { distance, row });
                model.push(Neighbor { distance, row });
                model.sort_unstable_by(Neighbor::order);
                model.truncate(pool.cap);
            }
            assert_eq!(pool.iter().collect::<Vec<_>>(), model);
        }
    }

    #[test]
    fn expands_the_nearest_first_and_each_once() {
        let mut pool = Pool::default();
        pool.reset(10);
        pool.insert(Neighbor { distance: 2.0, row: 2 });
        pool.insert(Neighbor { distance: 3.0, row: 3 });
        assert_eq!(pool.expand_next().map(|n| n.row), Some(2));
        pool.insert(Neighbor { distance: 1.0, row: 1 });
        assert_eq!(pool.peek(), Some(1));
        let rest: Vec<Row> = std::iter::from_fn(|| pool.expand_next()).map(|n| n.row).collect();
        assert_eq!(rest, [1, 3]);
        pool.truncate_beyond(2.0);
        assert_eq!(pool.len(), 2);
    }
}
