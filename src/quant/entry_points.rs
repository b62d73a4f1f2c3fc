//! Many rows to start a walk from, and a scan that finds the nearest of them.
//!
//! Of each row the signs of its coordinates are kept: the product of a query
//! with a row is estimated from them as RaBitQ does (Gao, Long: SIGMOD 2024), with the centre of all rows
//! in the place of that of a list. They err too much to tell near rows apart, but a walk that begins in the right
//! region needs no more. Thirty-two rows are scanned at once ([`kernel::scan`](crate::kernel)).

use super::block::Header;
use super::codec::Codec;
use super::query::CodeQuery;
use crate::kernel::{Arch, SCAN_POSITION, SCAN_ROWS, SCAN_STEP};
use crate::memory::{self, Lined};

/// Signs in one code of four bits.
const SIGNS: usize = 4;

/// Positions of a code at most: 256 coordinates. They are turned at random
/// among themselves, so the first stand for all.
const MOST_POSITIONS: usize = 64;

/// Entry points that a scan gives.
const NEAREST: usize = 16;

/// Rows and their signs, in groups of 32.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EntryPoints {
    rows: Vec<u32>,
    /// Bytes of a group: [`SCAN_POSITION`] for each position.
    stride: usize,
    signs: Lined<u8>,
    /// Squared lengths, and twice what the product of signs and query is multiplied
    /// with; filled up to whole groups with rows that are infinitely far.
    lengths: Vec<f32>,
    factors: Vec<f32>,
}

/// What all estimates of a query share: each is `weight * length + factor * (slope * sum + shift)`.
#[derive(Clone, Copy)]
struct Terms {
    weight: f32,
    slope: f32,
    shift: f32,
}

/// The nearest so far, ascending.
struct Best {
    count: usize,
    ranks: [f32; NEAREST],
    rows: [u32; NEAREST],
}

impl EntryPoints {
    /// Of the blocks of `rows`, made by the codec.
    ///
    /// # Panics
    /// When a block is shorter than the codec says.
    pub(crate) fn new<'a>(codec: &Codec, rows: Vec<u32>, block: impl Fn(u32) -> &'a [u8]) -> EntryPoints {
        let rank = codec.rank();
        let positions = rank.div_ceil(SIGNS).next_multiple_of(SCAN_STEP).min(MOST_POSITIONS);
        let mut entries = EntryPoints::blank(positions * SCAN_POSITION, rows);
        for at in 0..entries.rows.len() {
            entries.encode(codec, at, block(entries.rows[at]));
        }
        entries
    }

    /// For other rows, ascending as these are, by the same codec: only those are encoded that are not
    /// among these.
    ///
    /// # Panics
    /// When a block is shorter than the codec says.
    pub(crate) fn after<'a>(
        &self,
        codec: &Codec,
        rows: Vec<u32>,
        block: impl Fn(u32) -> &'a [u8],
    ) -> EntryPoints {
        debug_assert!(rows.is_sorted() && self.rows.is_sorted());
        let mut entries = EntryPoints::blank(self.stride, rows);
        let mut before = self.rows.iter().enumerate().peekable();
        for at in 0..entries.rows.len() {
            let row = entries.rows[at];
            while before.next_if(|(_, before)| **before < row).is_some() {}
            match before.peek() {
                Some((from, before)) if **before == row => entries.copy(at, self, *from),
                _ => entries.encode(codec, at, block(row)),
            }
        }
        entries
    }

    /// With no signs yet, and infinitely far.
    fn blank(stride: usize, rows: Vec<u32>) -> EntryPoints {
        let groups = rows.len().div_ceil(SCAN_ROWS);
        let signs = Lined::filled(0u8, groups * stride);
        let lengths = memory::filled(f32::INFINITY, groups * SCAN_ROWS);
        let factors = memory::filled(0.0, groups * SCAN_ROWS);
        EntryPoints { rows, stride, signs, lengths, factors }
    }

    fn encode(&mut self, codec: &Codec, at: usize, block: &[u8]) {
        let mut numbers = [0; MOST_POSITIONS * SIGNS];
        codec.shape().twice_numbers(block, &mut numbers);
        let used = &numbers[..codec.rank().min(self.stride / SCAN_POSITION * SIGNS)];
        for (position, four) in used.chunks(SIGNS).enumerate() {
            let signs = four.iter().rev().fold(0, |signs, twice| signs << 1 | u8::from(*twice >= 0));
            self.put(at, position, signs);
        }
        let magnitudes: i32 = used.iter().map(|twice| twice.abs()).sum();
        let squares: i32 = used.iter().map(|twice| twice * twice).sum();
        let header = Header::read(block);
        self.lengths[at] = header.squared_length;
        if magnitudes > 0 {
            self.factors[at] = header.scale * (squares as f32 / magnitudes as f32);
        }
    }

    fn copy(&mut self, at: usize, other: &EntryPoints, from: usize) {
        for position in 0..self.stride / SCAN_POSITION {
            let (byte, shift) = other.place(from, position);
            self.put(at, position, other.signs[byte] >> shift & 15);
        }
        (self.lengths[at], self.factors[at]) = (other.lengths[from], other.factors[from]);
    }

    /// The byte with the signs of a row at a position, and the bit where they begin.
    #[inline]
    fn place(&self, at: usize, position: usize) -> (usize, usize) {
        let (group, lane) = (at / SCAN_ROWS * self.stride, at % SCAN_ROWS);
        (group + position * SCAN_POSITION + lane % SCAN_POSITION, lane / SCAN_POSITION * SIGNS)
    }

    #[inline]
    fn put(&mut self, at: usize, position: usize, signs: u8) {
        let (byte, shift) = self.place(at, position);
        self.signs[byte] |= signs << shift;
    }

    pub(crate) fn rows(&self) -> &[u32] {
        &self.rows
    }

    pub(crate) fn bytes(&self) -> usize {
        let floats = self.lengths.capacity() + self.factors.capacity();
        self.signs.bytes() + (floats + self.rows.capacity()) * size_of::<f32>()
    }

    /// Shows the rows that are nearest by estimate, [`NEAREST`] at most. O(rows). `estimates` is scratch.
    ///
    /// The least estimate of each lane of the groups is kept: as many rows as are asked for do not exceed the
    /// [`NEAREST`]th of them, and few others, so no list has to be kept in order until the bound is known.
    #[inline(always)]
    pub(crate) fn nearest<A: Arch>(
        &self,
        arch: A,
        query: &CodeQuery,
        estimates: &mut Vec<f32>,
        show: impl FnMut(u32),
    ) {
        let mut tables = [0; MOST_POSITIONS * SCAN_POSITION];
        let tables = &mut tables[..self.stride];
        let (step, least) = fill_tables(query.rounded(), tables);
        let terms =
            Terms { weight: query.length_weight, slope: query.factor * step, shift: query.factor * least };
        memory::resize(estimates, self.lengths.len(), 0.0);
        let mut least = [f32::INFINITY; SCAN_ROWS];
        for (group, estimates) in estimates.as_chunks_mut::<SCAN_ROWS>().0.iter_mut().enumerate() {
            *estimates = self.estimates(arch, tables, terms, group);
            for lane in 0..SCAN_ROWS {
                let new = estimates[lane];
                least[lane] = if new < least[lane] { new } else { least[lane] };
            }
        }
        let bound = *least.select_nth_unstable_by(NEAREST - 1, f32::total_cmp).1;
        let mut best = Best { count: 0, ranks: [f32::INFINITY; NEAREST], rows: [0; NEAREST] };
        for (group, estimates) in estimates.as_chunks::<SCAN_ROWS>().0.iter().enumerate() {
            let mut near = arch.within(estimates, bound);
            while near != 0 {
                let lane = near.trailing_zeros() as usize % SCAN_ROWS;
                near &= near - 1;
                if let Some(row) = self.rows.get(group * SCAN_ROWS + lane) {
                    best.insert(estimates[lane], *row);
                }
            }
        }
        best.rows[..best.count].iter().copied().for_each(show);
    }

    /// What the rows of a group are estimated to be, in a loop that compilers make vectors of.
    #[inline(always)]
    fn estimates<A: Arch>(&self, arch: A, tables: &[u8], terms: Terms, group: usize) -> [f32; SCAN_ROWS] {
        let mut sums = [0; SCAN_ROWS];
        arch.scan(tables, &self.signs[group * self.stride..][..self.stride], &mut sums);
        let lengths = &self.lengths.as_chunks::<SCAN_ROWS>().0[group];
        let factors = &self.factors.as_chunks::<SCAN_ROWS>().0[group];
        let mut estimates = [0.0; SCAN_ROWS];
        for row in 0..SCAN_ROWS {
            let product = terms.slope * f32::from(sums[row]) + terms.shift;
            estimates[row] = terms.weight * lengths[row] + factors[row] * product;
        }
        estimates
    }
}

impl Best {
    /// Of two that are equally far the one that came first stays.
    #[inline(always)]
    fn insert(&mut self, rank: f32, row: u32) {
        let mut at = self.count.min(NEAREST - 1);
        if self.count == NEAREST && rank >= self.ranks[at] {
            return;
        }
        self.count = at + 1;
        while at > 0 && self.ranks[at - 1] > rank {
            (self.ranks[at], self.rows[at]) = (self.ranks[at - 1], self.rows[at - 1]);
            at -= 1;
        }
        (self.ranks[at], self.rows[at]) = (rank, row);
    }
}

/// For each sign of a code all bits where it is set.
const IS_SET: [[i32; SCAN_POSITION]; SIGNS] = {
    let mut set = [[0; SCAN_POSITION]; SIGNS];
    let mut code = 0;
    while code < SCAN_POSITION {
        let mut at = 0;
        while at < SIGNS {
            set[at][code] = -((code >> at & 1) as i32);
            at += 1;
        }
        code += 1;
    }
    set
};

/// For each four weights what they sum up to with each choice of signs, in
/// steps above the least sum. Gives the step, and the least sum of all weights.
#[inline(always)]
fn fill_tables(weights: &[i8], tables: &mut [u8]) -> (f32, f32) {
    let count = weights.len().min(tables.len() / SCAN_POSITION * SIGNS);
    // Whole positions, so that the loops below have lengths that the compiler knows.
    let mut used = [[0; SIGNS]; MOST_POSITIONS];
    used.as_flattened_mut()[..count].copy_from_slice(&weights[..count]);
    let used = &used[..count.div_ceil(SIGNS)];
    let magnitude = |four: &[i8; SIGNS]| -> u32 { four.iter().map(|w| u32::from(w.unsigned_abs())).sum() };
    let most = used.iter().map(magnitude).max().unwrap_or(0).max(1);
    // In 65,536ths, so that whole numbers are all that is computed with.
    let scale = (255 << 16) / (2 * most);
    for (four, table) in used.iter().zip(tables.as_chunks_mut::<SCAN_POSITION>().0) {
        // What a sign in which both agree adds to the least sum is twice the magnitude of its weight: of all
        // negative weights for the code without any sign, more or less of it with each sign that is set.
        let (mut adds, mut none) = ([0; SIGNS], 1 << 15);
        for at in 0..SIGNS {
            adds[at] = scale as i32 * 2 * i32::from(four[at]);
            none -= adds[at].min(0);
        }
        for code in 0..SCAN_POSITION {
            let set = |at: usize| adds[at] & IS_SET[at][code];
            table[code] = ((none + (set(0) + set(1)) + (set(2) + set(3))) >> 16) as u8;
        }
    }
    let least: u32 = used.iter().map(magnitude).sum();
    (65_536.0 / scale as f32, -(least as f32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::mix;
    use crate::kernel::{ArchJob, Level, Portable, kernels};
    use crate::quant::{Bits, Encoder, Measure, Shape};

    fn vector(dim: usize, seed: u64) -> Vec<f32> {
        let unit = |at: u64| (mix(seed << 32 ^ at) >> 40) as f32 / (1 << 24) as f32 - 0.5;
        (0..dim as u64).map(unit).collect()
    }

    /// A row for each of many groups that are all about equally far from each other, and a codec of them.
    struct Groups {
        codec: Codec,
        rows: Vec<Vec<f32>>,
        blocks: Vec<Vec<u8>>,
    }

    impl Groups {
        fn new(dim: usize, groups: u64, shape: Shape, centred: bool) -> Groups {
            let row = |group: u64| {
                let (centre, noise) = (vector(dim, group), vector(dim, 1_000 + group));
                centre.iter().zip(noise).map(|(x, noise)| x + noise / 8.0).collect::<Vec<f32>>()
            };
            let rows: Vec<Vec<f32>> = (0..groups).map(row).collect();
            let codec = Codec::train(&rows.concat(), dim, shape, centred, 7);
            let block = |(at, row): (usize, &Vec<f32>)| {
                let mut words = vec![0; shape.words()];
                codec.encode(row, at as u32, &mut Encoder::default(), &mut words);
                words.iter().flat_map(|word| word.to_ne_bytes()).collect()
            };
            let blocks = rows.iter().enumerate().map(block).collect();
            Groups { rows, blocks, codec }
        }

        fn entries(&self) -> EntryPoints {
            let rows = (0..self.rows.len() as u32).collect();
            EntryPoints::new(&self.codec, rows, |row| &self.blocks[row as usize])
        }
    }

    fn nearest(entries: &EntryPoints, level: Level, query: &CodeQuery) -> Vec<u32> {
        struct Nearest<'a>(&'a EntryPoints, &'a CodeQuery);
        impl ArchJob for Nearest<'_> {
            type Output = Vec<u32>;

            #[inline(always)]
            fn run<A: Arch>(self, arch: A) -> Vec<u32> {
                let mut found = Vec::new();
                self.0.nearest(arch, self.1, &mut Vec::new(), |row| found.push(row));
                found
            }
        }
        level.run(Nearest(entries, query))
    }

    const SHAPES: [Shape; 3] = [
        Shape { bits: Bits::Four, lines: 1 },
        Shape { bits: Bits::Four, lines: 2 },
        Shape { bits: Bits::Seven, lines: 2 },
    ];

    #[test]
    fn the_row_of_the_same_group_is_found_among_the_first() {
        for (dim, shape) in [20, 128, 300].into_iter().flat_map(|dim| SHAPES.map(|shape| (dim, shape))) {
            for (measure, centred) in [(Measure::SquaredL2, true), (Measure::NegatedDot, false)] {
                let groups = Groups::new(dim, 500, shape, centred);
                let (entries, mut query) = (groups.entries(), CodeQuery::default());
                let is_found = |group: &u64| {
                    groups.codec.prepare(&vector(dim, *group), measure, &mut query);
                    nearest(&entries, kernels().level, &query).contains(&(*group as u32))
                };
                let found = (0..500u64).filter(is_found).count();
                let least = if dim == 20 { 400 } else { 490 };
                assert!(found >= least, "{dim} {shape:?} {measure:?}: {found} of 500");
            }
        }
    }

    #[test]
    fn a_block_as_a_query_finds_its_own_group() {
        let groups = Groups::new(128, 500, SHAPES[1], true);
        let (entries, mut query) = (groups.entries(), CodeQuery::default());
        for (row, block) in groups.blocks.iter().enumerate() {
            groups.codec.prepare_block(block, &mut query);
            assert_eq!(nearest(&entries, kernels().level, &query).first(), Some(&(row as u32)));
        }
    }

    #[test]
    fn every_instruction_set_finds_the_same_rows() {
        for (count, shape) in [1, 15, 16, 33, 500, 9_000].into_iter().zip(SHAPES.into_iter().cycle()) {
            let groups = Groups::new(100, count, shape, true);
            let (entries, mut query) = (groups.entries(), CodeQuery::default());
            for seed in 0..50 {
                groups.codec.prepare(&vector(100, seed), Measure::SquaredL2, &mut query);
                let plain = nearest(&entries, Level::Portable(Portable), &query);
                assert_eq!(nearest(&entries, kernels().level, &query), plain);
                assert_eq!(plain.len(), NEAREST.min(count as usize));
            }
        }
    }

    /// All rows by their estimates, one after the other.
    fn sorted(entries: &EntryPoints, query: &CodeQuery) -> Vec<u32> {
        let mut tables = [0; MOST_POSITIONS * SCAN_POSITION];
        let tables = &mut tables[..entries.stride];
        let (step, least) = fill_tables(query.rounded(), tables);
        let estimate = |at: usize| {
            let signs = &entries.signs[at / SCAN_ROWS * entries.stride..][..entries.stride];
            let lane = at % SCAN_ROWS;
            let code = |byte: &u8| usize::from(byte >> (lane / SCAN_POSITION * SIGNS)) % SCAN_POSITION;
            let positions = signs.chunks(SCAN_POSITION).zip(tables.chunks(SCAN_POSITION));
            let sum: u16 =
                positions.map(|(codes, table)| u16::from(table[code(&codes[lane % SCAN_POSITION])])).sum();
            let product = query.factor * step * f32::from(sum) + query.factor * least;
            query.length_weight * entries.lengths[at] + entries.factors[at] * product
        };
        let mut all: Vec<(f32, u32)> = (0..entries.rows.len()).map(|at| (estimate(at), at as u32)).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all.into_iter().map(|(_, row)| row).collect()
    }

    #[test]
    fn the_rows_of_the_least_estimates_are_found_in_their_order() {
        for count in [3, 100, 512, 700, 9_000] {
            let groups = Groups::new(64, count, SHAPES[0], true);
            let (entries, mut query) = (groups.entries(), CodeQuery::default());
            for (seed, measure) in
                (0..20).flat_map(|seed| [(seed, Measure::SquaredL2), (seed, Measure::NegatedDot)])
            {
                groups.codec.prepare(&vector(64, 5_000 + seed), measure, &mut query);
                let all = sorted(&entries, &query);
                let nearest = nearest(&entries, kernels().level, &query);
                assert_eq!(nearest, all[..NEAREST.min(all.len())], "{count} {seed} {measure:?}");
            }
        }
    }

    #[test]
    fn no_rows_and_rows_without_a_direction_do_no_harm() {
        let mut groups = Groups::new(100, 40, SHAPES[0], true);
        let mut query = CodeQuery::default();
        groups.codec.prepare(&vector(100, 3), Measure::SquaredL2, &mut query);
        let none = EntryPoints::new(&groups.codec, Vec::new(), |_| &[]);
        assert!(nearest(&none, kernels().level, &query).is_empty());
        groups.blocks.iter_mut().for_each(|block| block[..8].fill(0xff));
        assert!(nearest(&groups.entries(), kernels().level, &query).is_empty());
    }

    #[test]
    fn rows_are_found_among_many_without_a_direction() {
        // Fewer than are asked for, in one group, and all in one lane.
        let good = [
            (0..1_000).step_by(90).collect::<Vec<usize>>(),
            (300..320).collect(),
            (5..1_000).step_by(32).collect(),
        ];
        for good in good {
            let mut groups = Groups::new(100, 1_000, SHAPES[0], true);
            let mut query = CodeQuery::default();
            groups.codec.prepare(&vector(100, 3), Measure::SquaredL2, &mut query);
            let expected: Vec<u32> = sorted(&groups.entries(), &query)
                .into_iter()
                .filter(|row| good.contains(&(*row as usize)))
                .take(NEAREST)
                .collect();
            let others = groups.blocks.iter_mut().enumerate().filter(|(at, _)| !good.contains(at));
            others.for_each(|(_, block)| block[..8].fill(0xff));
            assert_eq!(nearest(&groups.entries(), kernels().level, &query), expected);
        }
    }

    #[test]
    fn tables_hold_the_sums_of_all_signs() {
        let weights = [127, -127, 3, 0, -5, 6];
        let mut tables = [0; 2 * SCAN_POSITION];
        let (step, least) = fill_tables(&weights, &mut tables);
        for (four, table) in weights.chunks(SIGNS).zip(tables.chunks(SCAN_POSITION)) {
            for (code, byte) in table.iter().enumerate() {
                let sign = |at: usize| if code >> at & 1 == 1 { 1 } else { -1 };
                let sum: i32 =
                    four.iter().enumerate().map(|(at, weight)| sign(at) * i32::from(*weight)).sum();
                let lowest: i32 = four.iter().map(|weight| -i32::from(*weight).abs()).sum();
                let told = f32::from(*byte) * step + lowest as f32;
                assert!((told - sum as f32).abs() <= step, "{four:?} {code}: {told} for {sum}");
            }
        }
        assert_eq!(least, -268.0);
    }
}
