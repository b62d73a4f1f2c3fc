//! Codes that are read one after the other, by themselves.

use super::entry_points::blocks;
use crate::id::Row;
use crate::index::Pool;
use crate::kernel::{Arch, ArchJob, kernels};
use crate::quant::{Bits, CodeQuery, Codec, Interleaved, Measure, Shape};

/// Seed of the codec: any number.
const SEED: u64 = 42;

/// Rows that are measured in one call.
const PART: usize = 32;

/// Blocks of codes, and copies of them that stand interleaved.
#[derive(Debug)]
pub struct Copies {
    codec: Codec,
    measure: Measure,
    blocks: Vec<Vec<u8>>,
    interleaved: Interleaved,
    query: CodeQuery,
    pool: Pool,
}

/// Reads them from the interleaved copies, or block by block.
struct Read<'a> {
    copies: &'a Copies,
    pool: &'a mut Pool,
    count: usize,
    from_copies: bool,
}

impl ArchJob for Read<'_> {
    type Output = u64;

    #[inline(always)]
    fn run<A: Arch>(self, arch: A) -> u64 {
        let Read { copies, pool, count, from_copies } = self;
        pool.reset(count);
        if from_copies {
            let mut looking = copies.interleaved.look(arch, &copies.query, count);
            while let Some((rows, estimates)) = looking.next(pool.bound()) {
                pool.insert_all(arch, rows, estimates);
            }
            return looking.estimated;
        }
        let mut first = 0;
        for part in copies.blocks.chunks(PART) {
            let (mut blocks, mut estimates): ([&[u8]; PART], [f32; PART]) = ([&[]; PART], [0.0; PART]);
            blocks.iter_mut().zip(part).for_each(|(place, block)| *place = block);
            let estimates = &mut estimates[..part.len()];
            copies.codec.estimates_on(arch, &copies.query, &blocks[..part.len()], estimates);
            let rows: [Row; PART] = std::array::from_fn(|at| first + at as Row);
            pool.insert_all(arch, &rows[..part.len()], estimates);
            first += PART as Row;
        }
        copies.blocks.len() as u64
    }
}

impl Copies {
    /// Of rows of `dim` numbers, with codes of so many lines of 64 bytes, 1 at least, of 4 bits a number or of 7; for inner products
    /// or for squared distances.
    #[must_use]
    pub fn new(rows: &[f32], dim: usize, (lines, four): (usize, bool), dot: bool) -> Copies {
        let shape = Shape { bits: if four { Bits::Four } else { Bits::Seven }, lines };
        let codec = Codec::train(rows, dim, shape, !dot, SEED);
        let blocks = blocks(&codec, rows, dim);
        let keys = 0..blocks.len() as u32;
        let interleaved = Interleaved::new(&codec, dot, keys, |key| &blocks[key as usize]);
        let measure = if dot { Measure::NegatedDot } else { Measure::SquaredL2 };
        Copies { codec, measure, blocks, interleaved, query: CodeQuery::default(), pool: Pool::default() }
    }

    /// Prepares for searches with this vector.
    pub fn prepare(&mut self, query: &[f32]) {
        self.query.forget();
        self.codec.prepare(query, self.measure, &mut self.query);
    }

    /// Finds the nearest by estimate; gives how many rows were estimated.
    pub fn nearest(&mut self, count: usize, from_copies: bool) -> u64 {
        let mut pool = std::mem::take(&mut self.pool);
        let estimated = kernels().level.run(Read { copies: self, pool: &mut pool, count, from_copies });
        self.pool = pool;
        estimated
    }

    /// What was found last.
    pub fn found(&self) -> impl Iterator<Item = u32> + '_ {
        self.pool.iter().map(|near| near.row)
    }

    /// As after a batch that took one row away and brought it again.
    pub fn leave_and_join(&mut self, row: u32) {
        let after = self.interleaved.after(&self.codec, &[row], &[row], |row| &self.blocks[row as usize]);
        self.interleaved = after.unwrap_or_else(|| {
            let dot = self.measure == Measure::NegatedDot;
            let keys = 0..self.blocks.len() as u32;
            Interleaved::new(&self.codec, dot, keys, |key| &self.blocks[key as usize])
        });
    }
}
