//! The codes of few rows, to be read one after the other.
//!
//! Thirty-two blocks stand interleaved, as [`kernel`](crate::kernel) multiplies them: the first word of each, then the
//! second of each, and so on. What fills up blocks to whole lines is left out.
//!
//! For inner products the longest rows come first. A product is no greater than that of the lengths, so a group
//! whose longest row is too short is passed over (as LEMP does: Teflioudi, Gemulla, Mykytiuk, SIGMOD 2015). Lengths
//! are those of what codes stand for, so nothing is passed over whose estimate would be near enough, and what is found does not
//! depend on the order.

use std::sync::{Arc, Weak};

use super::block::{HEADER, Header, ROW_WORD};
use super::codec::Codec;
use super::query::CodeQuery;
use super::shape::{Bits, Shape};
use crate::kernel::{Arch, SCAN_ROWS};
use crate::memory::{self, Lined};

/// Groups that are copied when one of them changes: some 10 to 30 KB.
const GROUPS: usize = 8;

/// Words before the codes.
const HEADER_WORDS: usize = HEADER / size_of::<u32>();

/// Groups that the first bound is found from.
const HEAD: usize = 16;

/// For each place that is wanted the least estimates of so many parts of the head are compared: about one and a half
/// times as many as are wanted do not exceed the bound.
const PARTS: usize = 2;

/// All is put in order again when one in so many rows has come since, or places are empty.
const DISORDER: usize = 8;

/// What roundings add to an estimate is less.
const ROUNDINGS: f32 = 1e-5;

/// No place.
const NOWHERE: u32 = u32::MAX;

/// Words of some groups.
pub(crate) type Copies = Lined<u32>;

/// Copies of blocks. Which place a block has says nothing.
#[derive(Clone, Debug)]
pub(crate) struct Interleaved {
    shape: Shape,
    /// Words of a block that are kept.
    words: usize,
    /// Whether the high halves of bytes are codes.
    has_high: bool,
    /// Whether the longest rows come first.
    ordered: bool,
    /// [`GROUPS`] of [`SCAN_ROWS`] places each.
    chunks: Vec<Arc<Copies>>,
    /// Of each group a bit for each place that is taken, and the greatest length of what codes stand for.
    taken: Vec<u32>,
    longest: Vec<f32>,
    /// The place of each key.
    places: Vec<u32>,
    free: Vec<u32>,
    rows: usize,
    /// Rows that came since all was put in order.
    since: usize,
}

/// The length of what the codes of a block stand for.
fn length(codec: &Codec, block: &[u8]) -> f32 {
    let mut numbers = memory::filled(0, codec.rank());
    codec.shape().twice_numbers(block, &mut numbers);
    let squares: i32 = numbers.iter().map(|twice| twice * twice).sum();
    let length = Header::read(block).scale * (squares as f32).sqrt() / 2.0;
    // Of what is no number nothing is known.
    if length.is_nan() { f32::INFINITY } else { length }
}

/// Words of the blocks of a codec that hold something.
fn words(codec: &Codec) -> usize {
    HEADER_WORDS + codec.rank().min(codec.shape().codes()).div_ceil(size_of::<u32>())
}

/// Rows that are shown together at most.
const ROOM: usize = 2 * SCAN_ROWS;

/// Groups that are read before whoever looks can end it.
const PART: usize = 16;

/// Reading all codes, from one part to the next.
pub(crate) struct Looking<'a, A> {
    all: &'a Interleaved,
    arch: A,
    query: &'a CodeQuery,
    /// That of the query, and a little more: of products that are just as great nothing is passed over.
    length: f32,
    /// Estimates of the first groups; none where these gave no bound.
    head: [[f32; SCAN_ROWS]; HEAD],
    /// Of what is shown first.
    bound: f32,
    group: usize,
    rows: [u32; ROOM],
    near: [f32; ROOM],
    /// Rows that were estimated.
    pub(crate) estimated: u64,
}

impl<A: Arch> Looking<'_, A> {
    /// The next rows that may be nearer than `bound`, with their estimates, or none of a part that has none; `None` once all
    /// were read. Estimates are bit for bit those of [`Codec::estimates_on`].
    #[inline(always)]
    pub(crate) fn next(&mut self, bound: f32) -> Option<(&[u32], &[f32])> {
        let (all, has_head) = (self.all, self.bound < f32::INFINITY);
        let (bound, mut found) = (self.bound.min(bound), 0);
        let part = self.group..self.group + PART;
        while found <= ROOM - SCAN_ROWS
            && part.contains(&self.group)
            && let (Some(taken), Some(longest)) = (all.taken.get(self.group), all.longest.get(self.group))
        {
            let group = self.group;
            self.group += 1;
            if -self.length * longest > bound {
                continue;
            }
            let estimates = match self.head.get(group) {
                Some(estimates) if has_head => *estimates,
                _ => all.estimates(self.arch, self.query, group),
            };
            self.estimated += u64::from(taken.count_ones());
            let mut within = self.arch.within(&estimates, bound) & taken;
            while within != 0 {
                let lane = within.trailing_zeros() as usize % SCAN_ROWS;
                within &= within - 1;
                (self.rows[found], self.near[found]) = (all.group(group)[ROW_WORD][lane], estimates[lane]);
                found += 1;
            }
        }
        (self.group > part.start).then(|| (&self.rows[..found], &self.near[..found]))
    }
}

impl Interleaved {
    /// Bytes for so many rows.
    pub(crate) fn bytes_for(codec: &Codec, rows: usize) -> usize {
        rows.next_multiple_of(GROUPS * SCAN_ROWS) * words(codec) * size_of::<u32>()
    }

    /// Of the blocks of some keys; `ordered`: the longest rows first.
    ///
    /// # Panics
    /// When a block is shorter than the codec says.
    pub(crate) fn new<'a>(
        codec: &Codec,
        ordered: bool,
        keys: impl Iterator<Item = u32>,
        block: impl Fn(u32) -> &'a [u8],
    ) -> Interleaved {
        let mut keys: Vec<u32> = memory::collect(keys);
        if ordered {
            let length = |key: &u32| length(codec, block(*key));
            let mut lengths: Vec<(f32, u32)> = memory::collect(keys.iter().map(|key| (length(key), *key)));
            lengths.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            keys.iter_mut().zip(lengths).for_each(|(key, (_, at))| *key = at);
        }
        let mut all = Interleaved {
            shape: codec.shape(),
            words: words(codec),
            has_high: codec.shape().bits == Bits::Four && codec.rank() > codec.shape().codes(),
            ordered,
            chunks: Vec::new(),
            taken: Vec::new(),
            longest: Vec::new(),
            places: Vec::new(),
            free: Vec::new(),
            rows: 0,
            since: 0,
        };
        all.insert_all(codec, &keys, block);
        all
    }

    /// Without some keys, then with others. Only chunks that change are copied; none when all is better made anew.
    ///
    /// # Panics
    /// When a key is not there, or a block is shorter than the codec says.
    pub(crate) fn after<'a>(
        &self,
        codec: &Codec,
        gone: &[u32],
        come: &[u32],
        block: impl Fn(u32) -> &'a [u8],
    ) -> Option<Interleaved> {
        let disorder = if self.ordered { self.since + come.len() } else { 0 };
        let empty = (self.free.len() + gone.len()).saturating_sub(come.len());
        let rows = self.rows + come.len() - gone.len();
        if disorder.max(empty) > rows / DISORDER + GROUPS * SCAN_ROWS {
            return None;
        }
        let mut all = Interleaved {
            chunks: memory::copied(&self.chunks),
            taken: memory::copied(&self.taken),
            longest: memory::copied(&self.longest),
            places: memory::copied(&self.places),
            free: memory::copied(&self.free),
            ..*self
        };
        gone.iter().for_each(|key| all.remove(*key));
        all.insert_all(codec, come, block);
        all.since += come.len();
        Some(all)
    }

    fn remove(&mut self, key: u32) {
        let place = std::mem::replace(&mut self.places[key as usize], NOWHERE);
        self.taken[place as usize / SCAN_ROWS] &= !(1 << (place as usize % SCAN_ROWS));
        memory::push(&mut self.free, place);
        self.rows -= 1;
    }

    fn insert_all<'a>(&mut self, codec: &Codec, keys: &[u32], block: impl Fn(u32) -> &'a [u8]) {
        let end = keys.iter().max().map_or(0, |last| *last as usize + 1).max(self.places.len());
        let missing = end - self.places.len();
        memory::reserve_exact(&mut self.places, missing);
        memory::resize(&mut self.places, end, NOWHERE);
        keys.iter().for_each(|key| self.insert(codec, *key, block(*key)));
    }

    fn insert(&mut self, codec: &Codec, key: u32, block: &[u8]) {
        let place = self.free.pop().unwrap_or(self.rows as u32) as usize;
        let (group, lane) = (place / SCAN_ROWS, place % SCAN_ROWS);
        if group == self.taken.len() {
            self.grow();
        }
        self.places[key as usize] = place as u32;
        self.taken[group] |= 1 << lane;
        self.longest[group] = self.longest[group].max(length(codec, block));
        let (words, stride) = (block.as_chunks().0, self.words);
        let all = Arc::make_mut(&mut self.chunks[group / GROUPS]).as_chunks_mut::<SCAN_ROWS>().0;
        for (lanes, word) in all[group % GROUPS * stride..][..stride].iter_mut().zip(&words[..stride]) {
            lanes[lane] = u32::from_ne_bytes(*word);
        }
        self.rows += 1;
    }

    /// Room for a chunk more.
    fn grow(&mut self) {
        let chunk = Lined::filled(0, self.words * GROUPS * SCAN_ROWS);
        memory::push(&mut self.chunks, Arc::new(chunk));
        let groups = self.chunks.len() * GROUPS;
        memory::resize(&mut self.taken, groups, 0);
        memory::resize(&mut self.longest, groups, 0.0);
    }

    /// What it takes to read so many rows in order: words, which count twice where they hold two codes a byte.
    pub(crate) fn work(&self) -> usize {
        self.rows.div_ceil(SCAN_ROWS) * SCAN_ROWS * self.words * if self.has_high { 2 } else { 1 }
    }

    /// Chunks of these that the other has not.
    pub(crate) fn not_in<'a>(
        &'a self,
        other: Option<&'a Interleaved>,
    ) -> impl Iterator<Item = Weak<Copies>> + 'a {
        let is_kept = move |at: usize, chunk: &Arc<Copies>| {
            other.and_then(|other| other.chunks.get(at)).is_some_and(|other| Arc::ptr_eq(chunk, other))
        };
        let chunks = self.chunks.iter().enumerate();
        chunks.filter(move |(at, chunk)| !is_kept(*at, chunk)).map(|(_, chunk)| Arc::downgrade(chunk))
    }

    #[inline(always)]
    fn group(&self, group: usize) -> &[[u32; SCAN_ROWS]] {
        &self.chunks[group / GROUPS].as_chunks().0[group % GROUPS * self.words..][..self.words]
    }

    /// Looks for the `count` nearest rows by estimate.
    ///
    /// # Panics
    /// When the query was prepared by a codec of another shape.
    #[inline(always)]
    pub(crate) fn look<'a, A: Arch>(&'a self, arch: A, query: &'a CodeQuery, count: usize) -> Looking<'a, A> {
        let (mut head, mut bound) = ([[0.0; SCAN_ROWS]; HEAD], f32::INFINITY);
        if count <= HEAD * SCAN_ROWS / PARTS {
            bound = self.bound_of_head(arch, query, count, &mut head);
        }
        Looking {
            all: self,
            arch,
            query,
            length: query.length() * (1.0 + ROUNDINGS),
            head,
            bound,
            group: 0,
            rows: [0; ROOM],
            near: [0.0; ROOM],
            estimated: 0,
        }
    }

    /// Estimates the first groups; gives what at least `count` of their rows do not exceed, infinity if there are fewer.
    #[inline(always)]
    fn bound_of_head<A: Arch>(
        &self,
        arch: A,
        query: &CodeQuery,
        count: usize,
        head: &mut [[f32; SCAN_ROWS]; HEAD],
    ) -> f32 {
        let parts = (PARTS * count).div_ceil(SCAN_ROWS).clamp(1, HEAD);
        let mut least = [[f32::INFINITY; SCAN_ROWS]; HEAD];
        for (group, (estimates, taken)) in head.iter_mut().zip(&self.taken).enumerate() {
            *estimates = self.estimates(arch, query, group);
            let least = &mut least[group % parts];
            for lane in 0..SCAN_ROWS {
                let counts = taken >> lane & 1 == 1 && estimates[lane] < least[lane];
                least[lane] = if counts { estimates[lane] } else { least[lane] };
            }
        }
        let least = least[..parts].as_flattened_mut();
        *least.select_nth_unstable_by(count.max(1) - 1, f32::total_cmp).1
    }

    /// Estimates for a group; where there is no row they mean nothing.
    #[inline(always)]
    fn estimates<A: Arch>(&self, arch: A, query: &CodeQuery, group: usize) -> [f32; SCAN_ROWS] {
        let (header, codes) = self.group(group).split_at(HEADER_WORDS);
        let len = codes.len() * size_of::<u32>();
        let low = &query.weights[HEADER..][..len];
        let dots = if self.has_high {
            let high = &query.weights[self.shape.bytes() + HEADER..][..len];
            arch.interleaved_nibble_dots(low, high, codes)
        } else {
            arch.interleaved_byte_dots(low, codes)
        };
        let mut estimates = [0.0; SCAN_ROWS];
        for lane in 0..SCAN_ROWS {
            let (length, scale) = (f32::from_bits(header[0][lane]), f32::from_bits(header[1][lane]));
            estimates[lane] = query.estimate(dots[lane], length, scale);
        }
        estimates
    }

    /// Whether these are copies of the blocks of these keys, and of no others.
    pub(crate) fn are_of<'a>(
        &self,
        codec: &Codec,
        mut keys: impl Iterator<Item = u32>,
        block: impl Fn(u32) -> &'a [u8],
    ) -> bool {
        let mut count = 0;
        let is_right = |key: u32| {
            count += 1;
            let place = self.places.get(key as usize).filter(|place| **place != NOWHERE);
            place.is_some_and(|place| {
                let (group, lane) = (*place as usize / SCAN_ROWS, *place as usize % SCAN_ROWS);
                let words = self.group(group).iter().zip(block(key).as_chunks().0);
                let is_short_enough = length(codec, block(key)) <= self.longest[group];
                let is_taken = self.taken[group] >> lane & 1 == 1;
                is_taken
                    && is_short_enough
                    && words.into_iter().all(|(lanes, word)| lanes[lane].to_ne_bytes() == *word)
            })
        };
        let are_right = keys.all(is_right);
        let taken: usize = self.taken.iter().map(|lanes| lanes.count_ones() as usize).sum();
        are_right && count == self.rows && taken == self.rows
    }

    /// Bytes that it holds, with what others have in common with it.
    pub(crate) fn bytes(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(|chunk| size_of::<Copies>() + chunk.bytes()).sum();
        let numbers =
            self.taken.capacity() + self.longest.capacity() + self.places.capacity() + self.free.capacity();
        self.chunks.capacity() * size_of::<Arc<Copies>>() + numbers * size_of::<u32>() + chunks
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::id::mix;
    use crate::kernel::{ArchJob, kernels};
    use crate::quant::{Encoder, Measure};

    const DIM: usize = 40;

    /// Vectors of lengths that differ, some of them equal and some zero.
    fn vector(seed: u64) -> Vec<f32> {
        let seed = if seed.is_multiple_of(9) { seed % 45 } else { seed };
        let unit = |at: u64| (mix(seed << 20 ^ at) >> 40) as f32 / (1 << 24) as f32 - 0.5;
        let length = if seed.is_multiple_of(5) { 0.0 } else { 0.1 }
            + (mix(seed) % 100) as f32 * (mix(seed + 1) % 3) as f32;
        (0..DIM as u64).map(|at| length * unit(at)).collect()
    }

    struct Rows {
        codec: Codec,
        measure: Measure,
        /// By key, the key as the row, too.
        blocks: BTreeMap<u32, Vec<u8>>,
    }

    impl Rows {
        fn new(bits: Bits, lines: usize, measure: Measure) -> Rows {
            let samples: Vec<f32> = (0..300).flat_map(|at| vector(at + 1_000)).collect();
            let centred = measure == Measure::SquaredL2;
            let codec = Codec::train(&samples, DIM, Shape { bits, lines }, centred, 5);
            Rows { codec, measure, blocks: BTreeMap::new() }
        }

        fn put(&mut self, key: u32, seed: u64) {
            let mut words = vec![0; self.codec.shape().words()];
            self.codec.encode(&vector(seed), key, &mut Encoder::default(), &mut words);
            self.blocks.insert(key, words.iter().flat_map(|word| word.to_ne_bytes()).collect());
        }

        fn query(&self, seed: u64) -> CodeQuery {
            let mut query = CodeQuery::default();
            self.codec.prepare(&vector(seed), self.measure, &mut query);
            query
        }

        fn interleaved(&self) -> Interleaved {
            let ordered = self.measure == Measure::NegatedDot;
            Interleaved::new(&self.codec, ordered, self.blocks.keys().copied(), |key| &self.blocks[&key])
        }

        /// The nearest by estimate, row by row.
        fn nearest(&self, query: &CodeQuery, count: usize) -> Vec<(f32, u32)> {
            let mut all: Vec<(f32, u32)> = Vec::new();
            for (key, block) in &self.blocks {
                let mut estimate = [0.0];
                self.codec.estimates(query, &[block], &mut estimate);
                all.push((estimate[0], *key));
            }
            sorted(all, count)
        }

        fn check(&self, all: &Interleaved, seed: u64) {
            assert!(all.are_of(&self.codec, self.blocks.keys().copied(), |key| &self.blocks[&key]));
            for count in [1, 7, 40, 300] {
                let query = self.query(seed + count as u64);
                let mut estimated = 0;
                let found =
                    kernels().level.run(Look { all, query: &query, count, estimated: &mut estimated });
                assert_eq!(found, self.nearest(&query, count), "{count} of {}", self.blocks.len());
                assert!(estimated <= all.rows as u64);
            }
        }
    }

    fn sorted(mut all: Vec<(f32, u32)>, count: usize) -> Vec<(f32, u32)> {
        all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        all.truncate(count);
        all
    }

    struct Look<'a> {
        all: &'a Interleaved,
        query: &'a CodeQuery,
        count: usize,
        estimated: &'a mut u64,
    }

    impl ArchJob for Look<'_> {
        type Output = Vec<(f32, u32)>;

        fn run<A: Arch>(self, arch: A) -> Vec<(f32, u32)> {
            let (mut best, mut bound) = (Vec::new(), f32::INFINITY);
            let mut looking = self.all.look(arch, self.query, self.count);
            while let Some((rows, near)) = looking.next(bound) {
                best.extend(near.iter().copied().zip(rows.iter().copied()));
                best = sorted(best, self.count);
                bound = if best.len() == self.count { best[self.count - 1].0 } else { bound };
            }
            *self.estimated = looking.estimated;
            best
        }
    }

    const SHAPES: [(Bits, usize); 4] = [(Bits::Seven, 1), (Bits::Four, 1), (Bits::Seven, 2), (Bits::Four, 2)];

    #[test]
    fn the_nearest_by_estimate_are_found_while_rows_come_and_go() {
        for (bits, lines) in SHAPES {
            for measure in [Measure::SquaredL2, Measure::NegatedDot] {
                let mut rows = Rows::new(bits, lines, measure);
                (0..700).for_each(|key| rows.put(key, u64::from(key)));
                let mut all = rows.interleaved();
                rows.check(&all, 1);
                for step in 0..25u32 {
                    let gone: Vec<u32> = rows.blocks.keys().copied().filter(|key| key % 25 == step).collect();
                    gone.iter().for_each(|key| _ = rows.blocks.remove(key));
                    let come: Vec<u32> = (0..step * 2).map(|at| 700 + step * 60 + at).collect();
                    come.iter().for_each(|key| rows.put(*key, u64::from(*key)));
                    let after = all.after(&rows.codec, &gone, &come, |key| &rows.blocks[&key]);
                    all = after.unwrap_or_else(|| rows.interleaved());
                    rows.check(&all, u64::from(step) * 1_000);
                }
            }
        }
    }

    #[test]
    fn short_rows_are_passed_over_and_what_is_found_does_not_depend_on_the_order() {
        let mut rows = Rows::new(Bits::Seven, 1, Measure::NegatedDot);
        (0..3_000).for_each(|key| rows.put(key, u64::from(key)));
        let ordered = rows.interleaved();
        let keys = || rows.blocks.keys().copied();
        let as_they_come = Interleaved::new(&rows.codec, false, keys(), |key| &rows.blocks[&key]);
        let read = |all: &Interleaved, query: &CodeQuery| {
            let mut estimated = 0;
            let found = kernels().level.run(Look { all, query, count: 20, estimated: &mut estimated });
            (found, estimated)
        };
        let (mut least, mut most) = (0, 0);
        for seed in 0..30 {
            let query = rows.query(seed + 5_000);
            let ((in_order, estimated), (found, more)) =
                (read(&ordered, &query), read(&as_they_come, &query));
            assert_eq!(in_order, found);
            assert!(estimated <= more && more <= 3_000);
            (least, most) = (least + estimated, most + more);
        }
        assert!(least * 10 < most * 9 && least < 30 * 2_500, "{least}, {most}");
    }

    #[test]
    fn chunks_that_do_not_change_are_shared_and_disorder_ends() {
        let mut rows = Rows::new(Bits::Four, 1, Measure::NegatedDot);
        (0..2_000).for_each(|key| rows.put(key, u64::from(key)));
        let all = rows.interleaved();
        rows.put(2_000, 9);
        let after = all.after(&rows.codec, &[], &[2_000], |key| &rows.blocks[&key]).unwrap();
        let shared = |a: &Interleaved, b: &Interleaved| {
            a.chunks.iter().zip(&b.chunks).filter(|(a, b)| Arc::ptr_eq(a, b)).count()
        };
        assert_eq!(shared(&all, &after), all.chunks.len() - 1);
        let left: Vec<Weak<Copies>> = all.not_in(Some(&after)).collect();
        assert!(
            left.len() == 1 && left[0].strong_count() == 1 && all.not_in(None).count() == all.chunks.len()
        );
        assert!(after.bytes() > Interleaved::bytes_for(&rows.codec, 2_001));
        let mut newest = Some(after);
        for key in 2_001..3_000 {
            rows.put(key, u64::from(key));
            newest = newest.and_then(|all| all.after(&rows.codec, &[], &[key], |key| &rows.blocks[&key]));
        }
        assert!(newest.is_none(), "a third of all rows came and stand in no order");
        let gone: Vec<u32> = (0..1_000).collect();
        assert!(
            all.after(&rows.codec, &gone, &[], |key| &rows.blocks[&key]).is_none(),
            "half of it is empty"
        );
    }

    #[test]
    fn copies_of_other_blocks_are_told() {
        let mut rows = Rows::new(Bits::Seven, 1, Measure::SquaredL2);
        (0..100).for_each(|key| rows.put(key, u64::from(key)));
        let all = rows.interleaved();
        let is_right =
            |rows: &Rows| all.are_of(&rows.codec, rows.blocks.keys().copied(), |key| &rows.blocks[&key]);
        assert!(is_right(&rows));
        let first = rows.blocks.remove(&0).unwrap();
        assert!(!is_right(&rows));
        rows.blocks.insert(0, first);
        rows.put(7, 200);
        assert!(!is_right(&rows));
        rows.put(7, 7);
        rows.put(100, 100);
        assert!(!is_right(&rows));
    }
}
