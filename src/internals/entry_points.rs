//! Entry points of large graphs by themselves.

use crate::kernel::{Arch, ArchJob, kernels};
use crate::quant::{Bits, CodeQuery, Codec, Encoder, EntryPoints, Measure, Shape};

/// Seed of the codec: any number.
const SEED: u64 = 42;

/// Rows whose every one is an entry point, with codes of four bits.
#[derive(Debug)]
pub struct Entries {
    codec: Codec,
    blocks: Vec<Vec<u8>>,
    points: EntryPoints,
    query: CodeQuery,
    estimates: Vec<f32>,
}

struct Scan<'a>(&'a EntryPoints, &'a CodeQuery, &'a mut Vec<f32>, &'a mut Vec<u32>);

impl ArchJob for Scan<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self, arch: A) {
        let Scan(points, query, estimates, found) = self;
        points.nearest(arch, query, estimates, |row| found.push(row));
    }
}

/// The blocks of rows of `dim` numbers.
pub(super) fn blocks(codec: &Codec, rows: &[f32], dim: usize) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::default();
    let block = |(at, row): (usize, &[f32])| {
        let mut words = vec![0; codec.shape().words()];
        codec.encode(row, at as u32, &mut encoder, &mut words);
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    };
    rows.chunks_exact(dim).enumerate().map(block).collect()
}

impl Entries {
    /// Of rows of `dim` numbers, with codes of so many lines of 64 bytes, 1 at least.
    #[must_use]
    pub fn new(rows: &[f32], dim: usize, lines: usize) -> Entries {
        let shape = Shape { bits: Bits::Four, lines };
        let codec = Codec::train(rows, dim, shape, true, SEED);
        let blocks = blocks(&codec, rows, dim);
        let points = EntryPoints::new(&codec, Vec::new(), |_| &[]);
        let query = CodeQuery::default();
        let mut entries = Entries { codec, blocks, points, query, estimates: Vec::new() };
        entries.encode();
        entries
    }

    fn block(&self, row: u32) -> &[u8] {
        &self.blocks[row as usize]
    }

    fn rows(&self) -> impl Iterator<Item = u32> {
        0..self.blocks.len() as u32
    }

    /// Encodes all anew.
    pub fn encode(&mut self) {
        self.points = EntryPoints::new(&self.codec, self.rows().collect(), |row| self.block(row));
    }

    /// As after a batch that took one row away, and one that brought it.
    pub fn leave_and_join(&mut self, row: u32) {
        let others = self.rows().filter(|other| *other != row).collect();
        let without = self.points.after(&self.codec, others, |row| self.block(row));
        self.points = without.after(&self.codec, self.rows().collect(), |row| self.block(row));
    }

    /// Prepares for searches with this vector.
    pub fn prepare(&mut self, query: &[f32]) {
        self.query.forget();
        self.codec.prepare(query, Measure::SquaredL2, &mut self.query);
    }

    /// Adds the rows that are nearest to it by estimate.
    pub fn nearest(&mut self, found: &mut Vec<u32>) {
        kernels().level.run(Scan(&self.points, &self.query, &mut self.estimates, found));
    }
}
