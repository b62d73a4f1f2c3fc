//! Many rows to start a walk from, and a scan that finds the nearest of them.
//!
//! Of each row the signs of its coordinates are kept: the product of a query
//! with a row is estimated from them as RaBitQ does (Gao, Long: SIGMOD 2024), with the centre of all rows
//! in the place of that of a list. They err too much to tell near rows apart, but a walk that begins in the right
//! region needs no more. Thirty-two rows are scanned at once ([`kernel::scan`](crate::kernel)).

use super::block::{HEADER, Header};
use super::codec::Codec;
use super::query::CodeQuery;
use super::shape::{Bits, Shape};
use crate::kernel::{Arch, SCAN_POSITION, SCAN_ROWS, SCAN_STEP};
use crate::memory;

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
    signs: Vec<u8>,
    /// Squared lengths, and twice what the product of signs and query is multiplied
    /// with; filled up to whole groups with rows that are infinitely far.
    lengths: Vec<f32>,
    factors: Vec<f32>,
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
        let (shape, rank) = (codec.shape(), codec.rank());
        let positions = rank.div_ceil(SIGNS).next_multiple_of(SCAN_STEP).min(MOST_POSITIONS);
        let (stride, groups) = (positions * SCAN_POSITION, rows.len().div_ceil(SCAN_ROWS));
        let mut signs = memory::filled(0u8, groups * stride);
        let mut lengths = memory::filled(f32::INFINITY, groups * SCAN_ROWS);
        let mut factors = memory::filled(0.0, groups * SCAN_ROWS);
        let mut numbers = [0; MOST_POSITIONS * SIGNS];
        for (at, row) in rows.iter().enumerate() {
            let block = block(*row);
            twice_numbers(shape, block, &mut numbers);
            let used = &numbers[..rank.min(positions * SIGNS)];
            let (group, lane) = (at / SCAN_ROWS * stride, at % SCAN_ROWS);
            let high = lane / SCAN_POSITION * SIGNS;
            for (position, four) in used.chunks(SIGNS).enumerate() {
                let bits = four.iter().rev().fold(0, |bits, twice| bits << 1 | u8::from(*twice >= 0));
                signs[group + position * SCAN_POSITION + lane % SCAN_POSITION] |= bits << high;
            }
            let magnitudes: i32 = used.iter().map(|twice| twice.abs()).sum();
            let squares: i32 = used.iter().map(|twice| twice * twice).sum();
            let header = Header::read(block);
            lengths[at] = header.squared_length;
            if magnitudes > 0 {
                factors[at] = header.scale * (squares as f32 / magnitudes as f32);
            }
        }
        EntryPoints { rows, stride, signs, lengths, factors }
    }

    pub(crate) fn rows(&self) -> &[u32] {
        &self.rows
    }

    pub(crate) fn bytes(&self) -> usize {
        let floats = self.lengths.capacity() + self.factors.capacity();
        self.signs.capacity() + (floats + self.rows.capacity()) * size_of::<f32>()
    }

    /// Shows the rows that are nearest by estimate, [`NEAREST`] at most. O(rows).
    #[inline(always)]
    pub(crate) fn nearest<A: Arch>(&self, arch: A, query: &CodeQuery, show: impl FnMut(u32)) {
        let mut tables = [0; MOST_POSITIONS * SCAN_POSITION];
        let tables = &mut tables[..self.stride];
        let (step, least) = fill_tables(query.rounded(), tables);
        let mut best = Best { count: 0, ranks: [f32::INFINITY; NEAREST], rows: [0; NEAREST] };
        let groups = self.signs.chunks_exact(self.stride);
        let numbers =
            self.lengths.as_chunks::<SCAN_ROWS>().0.iter().zip(self.factors.as_chunks::<SCAN_ROWS>().0);
        for (group, (signs, (lengths, factors))) in groups.zip(numbers).enumerate() {
            let mut sums = [0; SCAN_ROWS];
            arch.scan(tables, signs, &mut sums);
            let mut ranks = [0.0; SCAN_ROWS];
            for (((rank, sum), length), factor) in ranks.iter_mut().zip(sums).zip(lengths).zip(factors) {
                let product = step * f32::from(sum) + least;
                *rank = query.length_weight * length + query.factor * factor * product;
            }
            let mut near = arch.within(&ranks, best.ranks[NEAREST - 1]);
            while near != 0 {
                let lane = near.trailing_zeros() as usize % SCAN_ROWS;
                near &= near - 1;
                if let Some(row) = self.rows.get(group * SCAN_ROWS + lane) {
                    best.insert(ranks[lane], *row);
                }
            }
        }
        best.rows[..best.count].iter().copied().for_each(show);
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

/// Twice the whole or half numbers that codes stand for.
fn twice_numbers(shape: Shape, block: &[u8], numbers: &mut [i32]) {
    let codes = &block[HEADER..shape.bytes()];
    let twice = |code: u8| 2 * i32::from(code) - shape.bits.twice_offset();
    match shape.bits {
        Bits::Seven => numbers.iter_mut().zip(codes).for_each(|(number, code)| *number = twice(*code)),
        Bits::Four => {
            let (low, high) = numbers.split_at_mut(codes.len().min(numbers.len()));
            low.iter_mut().zip(codes).for_each(|(number, code)| *number = twice(code & 15));
            high.iter_mut().zip(codes).for_each(|(number, code)| *number = twice(code >> 4));
        }
    }
}

/// For each four weights what they sum up to with each choice of signs, in
/// steps above the least sum. Gives the step, and the least sum of all weights.
#[inline(always)]
fn fill_tables(weights: &[i8], tables: &mut [u8]) -> (f32, f32) {
    let magnitude = |four: &[i8]| four.iter().map(|weight| i32::from(weight.unsigned_abs())).sum::<i32>();
    let used = &weights[..weights.len().min(tables.len() / SCAN_POSITION * SIGNS)];
    let most = used.chunks(SIGNS).map(magnitude).max().unwrap_or(0).max(1);
    let steps = 255.0 / (2 * most) as f32;
    let mut least = 0;
    for (four, table) in used.chunks(SIGNS).zip(tables.as_chunks_mut::<SCAN_POSITION>().0) {
        least -= magnitude(four);
        // With no bit set what is negative counts for the sum.
        let negative: i32 = four.iter().map(|weight| i32::from(*weight).min(0)).sum();
        let mut sums = [-2 * negative; SCAN_POSITION];
        for (at, weight) in four.iter().enumerate() {
            for (code, sum) in sums.iter_mut().enumerate() {
                *sum += 2 * i32::from(*weight) * (code >> at & 1) as i32;
            }
        }
        *table = sums.map(|sum| (sum as f32 * steps + 0.5) as u8);
    }
    (1.0 / steps, least as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::mix;
    use crate::kernel::{ArchJob, Level, Portable, kernels};
    use crate::quant::{Encoder, Measure};

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
                self.0.nearest(arch, self.1, |row| found.push(row));
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
        for (count, shape) in [1, 15, 16, 33, 500].into_iter().zip(SHAPES.into_iter().cycle()) {
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
