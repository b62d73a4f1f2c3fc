//! The candidate list of a graph search: sorted, in one array.
//!
//! NSG and DiskANN keep one sorted array instead of the two heaps of the HNSW
//! paper. A candidate and its distance are one `i64` whose order as a number
//! is the order of (distance, row). The candidates of a hop come in together,
//! in one pass from the end: each entry moves once, eight at a time where eight
//! move. (One by one, each waits for what the one before it has just stored:
//! two fifths of a walk with a list of 100.)

use crate::id::Row;
use crate::kernel::Arch;
use crate::memory;
use crate::neighbor::Neighbor;

/// Set in an entry whose neighbours were looked at.
const EXPANDED: i64 = 1;

/// Entries that are compared or moved together.
const EIGHT: usize = 8;

/// Above all entries that there are.
const NOTHING: i64 = i64::MAX;

/// The nearest candidates, ascending, at most `cap` of them.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// The entries, and room for more.
    entries: Vec<i64>,
    len: usize,
    cap: usize,
    /// Nothing comes in from here on.
    end: i64,
    /// No entry before this one waits to be expanded.
    cursor: usize,
    /// Candidates on their way in: all of a hop, those near enough, and these in order.
    coming: Vec<i64>,
    near: Vec<i64>,
    sorted: Vec<i64>,
}

impl Pool {
    /// Empties the pool and sets how many candidates it keeps.
    pub(crate) fn reset(&mut self, cap: usize) {
        self.len = 0;
        self.cap = cap;
        self.end = NOTHING;
        self.cursor = 0;
    }

    #[inline(always)]
    fn last(&self) -> Option<i64> {
        self.entries[..self.len].last().copied()
    }

    /// Candidates farther than this cannot enter.
    #[inline(always)]
    pub(crate) fn bound(&self) -> f32 {
        match self.last() {
            Some(last) if self.len >= self.cap => distance(last),
            _ if self.end < NOTHING => distance(self.end),
            _ => f32::INFINITY,
        }
    }

    /// Puts in a candidate that is not in yet: the twin of `insert_all`.
    #[cfg(test)]
    fn insert(&mut self, candidate: Neighbor) {
        let entry = encode(candidate);
        if self.len < self.cap || self.last().is_some_and(|last| entry < last) {
            self.near.clear();
            self.near.push(entry);
            self.sorted.clear();
            self.sorted.push(entry);
            self.merge();
        }
    }

    /// Puts in candidates that are not in yet. Which are near enough is sorted
    /// out eight by eight: no processor predicts it.
    #[inline(always)]
    pub(crate) fn insert_all<A: Arch>(&mut self, arch: A, rows: &[Row], distances: &[f32]) {
        self.insert_before(arch, rows, distances, self.end);
    }

    /// The same of those that are not farther than `bound`.
    #[inline(always)]
    pub(crate) fn insert_within<A: Arch>(&mut self, arch: A, rows: &[Row], distances: &[f32], bound: f32) {
        let end = if bound < f32::INFINITY {
            encode(Neighbor { distance: bound, row: Row::MAX >> 1 })
        } else {
            NOTHING
        };
        self.insert_before(arch, rows, distances, end.min(self.end));
    }

    /// The same of those that stand before `end`.
    #[inline(always)]
    fn insert_before<A: Arch>(&mut self, arch: A, rows: &[Row], distances: &[f32], end: i64) {
        let last = match self.last() {
            Some(last) if self.len >= self.cap => last.min(end),
            _ => end,
        };
        let places = rows.len().next_multiple_of(EIGHT);
        if self.coming.len() < places {
            memory::resize(&mut self.coming, places, NOTHING);
        }
        let coming = self.coming[..rows.len()].iter_mut();
        for ((entry, row), distance) in coming.zip(rows).zip(distances) {
            *entry = encode(Neighbor { distance: *distance, row: *row });
        }
        self.near.clear();
        memory::reserve(&mut self.near, places);
        for from in (0..rows.len()).step_by(EIGHT) {
            let Some(eight) = self.coming[from..].first_chunk::<EIGHT>() else { break };
            let here = (1u32 << (rows.len() - from).min(EIGHT)) - 1;
            let mut near = !u32::from(arch.above(eight, last - 1)) & here;
            while near != 0 {
                self.near.push(eight[near.trailing_zeros() as usize % EIGHT]);
                near &= near - 1;
            }
        }
        if !self.near.is_empty() {
            self.sort_near(arch);
            self.merge();
        }
    }

    /// Each goes where as many stand before it as are nearer: few comparisons
    /// too many, and no branch that depends on the candidates.
    #[inline(always)]
    fn sort_near<A: Arch>(&mut self, arch: A) {
        let count = self.near.len();
        let places = count.next_multiple_of(EIGHT);
        memory::resize(&mut self.near, places, NOTHING);
        if self.sorted.len() < places {
            memory::resize(&mut self.sorted, places, NOTHING);
        }
        let (eights, _) = self.near.as_chunks::<EIGHT>();
        for entry in &self.near[..count] {
            let above: u32 = eights.iter().map(|eight| arch.above(eight, *entry).count_ones()).sum();
            self.sorted[places - 1 - above as usize] = *entry;
        }
        self.near.truncate(count);
    }

    /// Takes in `near` in the order of `sorted`.
    #[inline(always)]
    fn merge(&mut self) {
        let all = self.len + self.near.len();
        if self.entries.len() < all {
            memory::resize(&mut self.entries, all.next_power_of_two(), NOTHING);
        }
        let entries = self.entries.as_mut_slice();
        // Entries below `at` stand where they stood, those from it on `by` higher.
        let mut at = self.len;
        for (before, entry) in self.sorted[..self.near.len()].iter().enumerate().rev() {
            let by = before + 1;
            while at >= EIGHT && entries[at - EIGHT] > *entry {
                at -= EIGHT;
                let Some(eight) = entries[at..].first_chunk::<EIGHT>().copied() else { break };
                entries[at + by..][..EIGHT].copy_from_slice(&eight);
            }
            while at > 0 && entries[at - 1] > *entry {
                at -= 1;
                entries[at + by] = entries[at];
            }
            entries[at + before] = *entry;
        }
        self.len = all.min(self.cap);
        self.cursor = self.cursor.min(at);
    }

    /// The nearest candidate that waits to be expanded; it counts as expanded
    /// from now on.
    #[inline(always)]
    pub(crate) fn expand_next(&mut self) -> Option<Neighbor> {
        while let Some(entry) = self.entries[..self.len].get_mut(self.cursor) {
            self.cursor += 1;
            if *entry & EXPANDED == 0 {
                *entry |= EXPANDED;
                return Some(decode(*entry));
            }
        }
        None
    }

    /// The distance of the candidate of a rank from 1 on; infinite when there are fewer.
    #[inline(always)]
    pub(crate) fn distance_at(&self, rank: usize) -> f32 {
        let entry = self.entries[..self.len].get(rank.saturating_sub(1));
        entry.map_or(f32::INFINITY, |entry| distance(*entry))
    }

    /// Drops the last candidates for as long as `is_idle` says, of the number that are nearer and of the distance,
    /// that they are of no use, and keeps out what is as far from now on; `least` stay.
    #[inline(always)]
    pub(crate) fn trim(&mut self, least: usize, is_idle: impl Fn(usize, f32) -> bool) {
        while self.len > least
            && let Some(last) = self.last()
            && is_idle(self.len - 1, distance(last))
        {
            self.end = last;
            self.len -= 1;
        }
        self.cursor = self.cursor.min(self.len);
    }

    /// Candidates before the one that `expand_next` gave last.
    pub(crate) fn expanded(&self) -> usize {
        self.cursor.saturating_sub(1)
    }

    /// Candidates that are not farther than `bound`.
    pub(crate) fn within(&self, bound: f32) -> usize {
        self.entries[..self.len].partition_point(|entry| distance(*entry) <= bound)
    }

    /// Candidates at this very distance.
    pub(crate) fn count_at(&self, at: f32) -> usize {
        let nearer = self.entries[..self.len].partition_point(|entry| distance(*entry) < at);
        self.within(at).saturating_sub(nearer)
    }

    /// The row that `expand_next` would give.
    #[inline(always)]
    pub(crate) fn peek(&self) -> Option<Row> {
        let rest = self.entries[..self.len].get(self.cursor..)?;
        rest.iter().find(|entry| **entry & EXPANDED == 0).map(|entry| decode(*entry).row)
    }

    /// Drops the candidates that are farther than `bound`.
    pub(crate) fn truncate_beyond(&mut self, bound: f32) {
        while self.last().is_some_and(|last| distance(last) > bound) {
            self.len -= 1;
        }
        self.cursor = self.cursor.min(self.len);
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The candidates, nearest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Neighbor> + '_ {
        self.entries[..self.len].iter().map(|entry| decode(*entry))
    }
}

/// The bits of a float as a number of the same order, and back: those of
/// negative floats order backwards.
#[inline(always)]
fn ordered(bits: i32) -> i32 {
    bits ^ ((bits >> 31) & i32::MAX)
}

/// (distance, row, expanded) as a number of the same order.
#[inline(always)]
fn encode(candidate: Neighbor) -> i64 {
    let distance = ordered(candidate.distance.to_bits() as i32);
    i64::from(distance) << 32 | i64::from(candidate.row) << 1
}

#[inline(always)]
fn distance(entry: i64) -> f32 {
    f32::from_bits(ordered((entry >> 32) as i32) as u32)
}

#[inline(always)]
fn decode(entry: i64) -> Neighbor {
    Neighbor { distance: distance(entry), row: (entry as u32) >> 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::mix;
    use crate::kernel::{ArchJob, Portable, kernels};

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

    /// Candidates come one by one or many at a time.
    struct LikeASortedList;

    impl ArchJob for LikeASortedList {
        type Output = ();

        fn run<A: Arch>(self, arch: A) {
            for seed in 0..100u64 {
                let (mut pool, mut model) = (Pool::default(), Vec::new());
                pool.reset(1 + (mix(seed) % if seed < 80 { 40 } else { 700 }) as usize);
                let mut row = 0;
                while row < 1_500 {
                    let count = (mix(seed ^ u64::from(row) << 9) % 33) as u32;
                    let rows: Vec<Row> = (row..row + count.max(1)).collect();
                    let distance = |row: &Row| (mix(seed << 32 | u64::from(*row)) % 900) as f32 - 25.0;
                    let distances: Vec<f32> = rows.iter().map(distance).collect();
                    let near = rows.iter().zip(&distances);
                    let near = near.map(|(row, distance)| Neighbor { distance: *distance, row: *row });
                    match rows[..] {
                        [_] => near.clone().for_each(|near| pool.insert(near)),
                        _ => pool.insert_all(arch, &rows, &distances),
                    }
                    model.extend(near);
                    model.sort_unstable_by(Neighbor::order);
                    model.truncate(pool.cap);
                    row += rows.len() as u32;
                }
                assert_eq!(pool.iter().collect::<Vec<_>>(), model);
            }
        }
    }

    #[test]
    fn keeps_the_nearest_like_a_sorted_list() {
        Portable.run(LikeASortedList);
        kernels().level.run(LikeASortedList);
    }

    #[test]
    fn a_pool_that_keeps_nothing_takes_nothing() {
        let mut pool = Pool::default();
        pool.reset(0);
        pool.insert(Neighbor { distance: 1.0, row: 1 });
        pool.insert_all(Portable, &[2, 3], &[1.0, 2.0]);
        assert_eq!((pool.len(), pool.expand_next()), (0, None));
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
