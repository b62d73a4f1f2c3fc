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
    /// Candidates on their way in: all of a hop, those near enough, and these in order,
    /// with room for eight more.
    coming: Vec<i64>,
    near: Vec<i64>,
    sorted: Vec<i64>,
    /// Of each eight entries which will be of `sorted`; none between two insertions.
    taken: Vec<u8>,
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
            memory::resize(&mut self.near, places, NOTHING);
            memory::resize(&mut self.sorted, places + EIGHT, NOTHING);
        }
        let (coming, rest) = self.coming[..places].split_at_mut(rows.len());
        for ((entry, row), distance) in coming.iter_mut().zip(rows).zip(distances) {
            *entry = encode(Neighbor { distance: *distance, row: *row });
        }
        rest.fill(NOTHING);
        let mut count = 0;
        let (eights, _) = self.coming[..places].as_chunks::<EIGHT>();
        for eight in eights {
            let Some(room) = self.near[count..].first_chunk_mut() else { break };
            count += arch.keep(eight, last - 1, room);
        }
        if count > 0 {
            self.sort_near(arch, count);
            if A::SPREADS { self.weave(arch, count) } else { self.merge(count) }
        }
    }

    /// Each of the first `count` of `near` goes where as many stand before it as are
    /// nearer: few comparisons too many, and no branch that depends on the candidates.
    #[inline(always)]
    fn sort_near<A: Arch>(&mut self, arch: A, count: usize) {
        let places = count.next_multiple_of(EIGHT);
        self.near[count..places].fill(NOTHING);
        let (eights, _) = self.near[..places].as_chunks::<EIGHT>();
        for entry in &self.near[..count] {
            let above: u32 = eights.iter().map(|eight| arch.above(eight, *entry).count_ones()).sum();
            self.sorted[places - 1 - above as usize] = *entry;
        }
    }

    /// Takes in the first `count` of `sorted`.
    #[inline(always)]
    fn merge(&mut self, count: usize) {
        let all = self.len + count;
        self.make_room(all);
        let entries = self.entries.as_mut_slice();
        // Entries below `at` stand where they stood, those from it on `by` higher.
        let mut at = self.len;
        for (before, entry) in self.sorted[..count].iter().enumerate().rev() {
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

    /// The twin of `merge` where [`Arch::spread`] is fast: how many are nearer than
    /// each tells its place, and eight places at a time are filled from both lists.
    #[inline(always)]
    fn weave<A: Arch>(&mut self, arch: A, count: usize) {
        let len = (self.len + count).min(self.cap);
        let end = len.next_multiple_of(EIGHT);
        self.make_room(end);
        let held = &self.entries[..self.len];
        let (mut first, mut before) = (end, 0);
        for entry in &self.sorted[..count] {
            let place = before + held.partition_point(|nearer| nearer < entry);
            if place >= end {
                break;
            }
            self.taken[place / EIGHT] |= 1 << (place % EIGHT);
            first = first.min(place);
            before += 1;
        }
        // From the end, so that what moves up is read before its place is filled.
        for eight in (first / EIGHT..end / EIGHT).rev() {
            let taken = std::mem::take(&mut self.taken[eight]);
            before -= taken.count_ones() as usize;
            let at = eight * EIGHT;
            let (ones, zeros) =
                (self.sorted[before..].first_chunk(), self.entries[at - before..].first_chunk());
            let (Some(ones), Some(zeros)) = (ones, zeros) else { break };
            let both = arch.spread(taken, ones, zeros);
            self.entries[at..][..EIGHT].copy_from_slice(&both);
        }
        self.len = len;
        self.cursor = self.cursor.min(first);
    }

    /// Room for `count` entries.
    #[inline(always)]
    fn make_room(&mut self, count: usize) {
        if self.entries.len() < count {
            let room = count.next_power_of_two();
            memory::resize(&mut self.entries, room, NOTHING);
            memory::resize(&mut self.taken, room.div_ceil(EIGHT), 0);
        }
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
    use crate::kernel::{ArchJob, Portable, SCAN_ROWS, TILE, kernels};

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

    /// Candidates come one by one or many at a time, some only within a bound; some
    /// are expanded, and the farthest go now and then.
    #[derive(Clone, Copy)]
    struct LikeASortedList;

    impl ArchJob for LikeASortedList {
        type Output = ();

        fn run<A: Arch>(self, arch: A) {
            for seed in 0..100u64 {
                let draw =
                    |what: u64, row: Row, below: u64| mix(seed << 32 | what << 48 | u64::from(row)) % below;
                let (mut pool, mut model) = (Pool::default(), Vec::<(Neighbor, bool)>::new());
                let cap = 1 + draw(1, 0, if seed < 80 { 40 } else { 700 }) as usize;
                pool.reset(if seed % 9 == 8 { usize::MAX } else { cap });
                let mut row = 0;
                while row < 1_500 {
                    let count = draw(2, row, 33) as u32;
                    let rows: Vec<Row> = (row..row + count.max(1)).collect();
                    let distances: Vec<f32> =
                        rows.iter().map(|row| draw(3, *row, 900) as f32 - 25.0).collect();
                    let bound = if draw(4, row, 3) == 0 { draw(5, row, 900) as f32 } else { f32::INFINITY };
                    pool.insert_within(arch, &rows, &distances, bound);
                    let coming = rows.iter().zip(&distances);
                    let coming = coming.map(|(row, distance)| Neighbor { distance: *distance, row: *row });
                    model.extend(coming.filter(|near| near.distance <= bound).map(|near| (near, false)));
                    model.sort_unstable_by(|a, b| a.0.order(&b.0));
                    model.truncate(pool.cap);
                    for _ in 0..draw(6, row, 4) {
                        let next = model.iter_mut().find(|(_, expanded)| !expanded);
                        let next = next.map(|(near, expanded)| (std::mem::replace(expanded, true), *near).1);
                        assert_eq!(pool.expand_next(), next);
                    }
                    if draw(7, row, 8) == 0 {
                        let bound = draw(8, row, 900) as f32;
                        pool.truncate_beyond(bound);
                        model.retain(|(near, _)| near.distance <= bound);
                    }
                    assert!(pool.iter().eq(model.iter().map(|(near, _)| *near)));
                    assert!(pool.taken.iter().all(|taken| *taken == 0));
                    row += rows.len() as u32;
                }
            }
        }
    }

    /// The portable twin of an instruction set whose `spread` is fast.
    #[derive(Clone, Copy, Debug)]
    struct Spreads;

    impl Arch for Spreads {
        const SPREADS: bool = true;

        fn run<J: ArchJob>(self, job: J) -> J::Output {
            job.run(self)
        }

        fn byte_dots(self, query: &[i8], rows: &[&[u8]], out: &mut [i32]) {
            Portable.byte_dots(query, rows, out);
        }

        fn nibble_dots(self, query: &[i8], rows: &[&[u8]], out: &mut [i32]) {
            Portable.nibble_dots(query, rows, out);
        }

        fn scan(self, tables: &[u8], codes: &[u8], sums: &mut [u16; SCAN_ROWS]) {
            Portable.scan(tables, codes, sums);
        }

        fn tile_dots<const R: usize, const T: usize>(
            self,
            rows: [&[f32]; R],
            tiles: [&[[f32; TILE]]; T],
        ) -> [[[f32; TILE]; T]; R] {
            Portable.tile_dots(rows, tiles)
        }
    }

    /// On plain Rust, merging and weaving, and on the machine's instruction set.
    fn on_each(job: impl ArchJob<Output = ()> + Copy) {
        Portable.run(job);
        Spreads.run(job);
        kernels().level.run(job);
    }

    #[test]
    fn keeps_the_nearest_like_a_sorted_list() {
        on_each(LikeASortedList);
    }

    #[derive(Clone, Copy)]
    struct KeepsNothing;

    impl ArchJob for KeepsNothing {
        type Output = ();

        fn run<A: Arch>(self, arch: A) {
            let mut pool = Pool::default();
            pool.reset(0);
            pool.insert_all(arch, &[1], &[1.0]);
            pool.insert_all(arch, &[2, 3], &[1.0, 2.0]);
            assert_eq!((pool.len(), pool.expand_next()), (0, None));
        }
    }

    #[test]
    fn a_pool_that_keeps_nothing_takes_nothing() {
        on_each(KeepsNothing);
    }

    #[derive(Clone, Copy)]
    struct ExpandsEachOnce;

    impl ArchJob for ExpandsEachOnce {
        type Output = ();

        fn run<A: Arch>(self, arch: A) {
            let mut pool = Pool::default();
            pool.reset(10);
            pool.insert_all(arch, &[2, 3], &[2.0, 3.0]);
            assert_eq!(pool.expand_next().map(|n| n.row), Some(2));
            pool.insert_all(arch, &[1], &[1.0]);
            assert_eq!(pool.peek(), Some(1));
            let rest: Vec<Row> = std::iter::from_fn(|| pool.expand_next()).map(|n| n.row).collect();
            assert_eq!(rest, [1, 3]);
            pool.truncate_beyond(2.0);
            assert_eq!(pool.len(), 2);
        }
    }

    #[test]
    fn expands_the_nearest_first_and_each_once() {
        on_each(ExpandsEachOnce);
    }
}
