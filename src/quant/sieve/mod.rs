//! Codes that rule rows out for certain: the exact search by small codes.
//!
//! Other codes of this floor estimate; these give *bounds*. A sieve maps a
//! vector `v` (centred, but not for inner products) to a few numbers
//! `F(v) = (U v, |v - P v|)`: its coordinates along nearly orthonormal
//! directions `U`, and the length of what they leave, `P` being the projection
//! on their span. With `delta >= |U U' - I|`,
//!
//! * `|F(q) - F(o)|^2 <= (1 + delta) |q - o|^2`, since the lengths of two
//!   remainders differ by no more than the remainders do, and
//! * `<q, o> <= F(q) F(o) + delta / (1 - delta) |q| |o|`.
//!
//! Of a row only a rounded `F(o)` is kept, and `error >= |F(o) - kept|`, which
//! counts everything: the rounding to codes, the sums in single precision, the
//! centring. So `|kept(q) - kept(o)| - error(q) - error(o)` is never above
//! `sqrt(1 + delta) |q - o|`, and one product of whole numbers gives it.
//!
//! Coordinates stand in *levels*, those of the most spread first: a search
//! reads the first level of every row and the next only of rows that the
//! levels before could not rule out. So the first level of 32 rows stands
//! interleaved, as [`kernel`](crate::kernel) multiplies it; a block of the others is
//! whole lines of one row.
//!
//! Projecting first and refining where needed is old (the VA-file of Weber,
//! Schek, Blott: VLDB 1998); the rounding is that of [`Codec`](super::Codec).

mod code;
mod query;
#[cfg(test)]
mod tests;
mod train;

use crate::kernel::{self, Kernels};
pub(crate) use code::Screen;
pub(crate) use query::{Grain, Kind};

/// Words before the codes of a level: four floats.
const HEADER_WORDS: usize = 4;
const HEADER: usize = HEADER_WORDS * size_of::<u32>();

/// What a code is above the number that it stands for, and the largest
/// magnitude that it can stand for with either sign.
const OFFSET: f32 = 64.0;
const REACH: f32 = 63.0;

/// Relative slack for the few operations in single precision that make a
/// bound of a product: some sixty roundings, more than there are.
const ARITHMETIC: f32 = 4e-6;

/// Half of the distance from 1 to the next float: one rounding.
const ROUNDING: f64 = 1.0 / (1u32 << 24) as f64;

/// Scaled vectors with a larger squared length have no bounds: squares of what
/// belongs to them could overflow.
const MAX_SQUARED_LENGTH: f64 = 1e30;

/// Added to every error, of vectors of length about 1: covers all that can
/// underflow in the sums.
const UNDERFLOW: f64 = 1e-15;

/// Makes vectors small enough to rule them out; it never changes.
pub(crate) struct Sieve {
    dim: usize,
    mean: Vec<f32>,
    /// A power of two that brings the rows to lengths of about 1.
    unit: f32,
    /// How far the directions are from orthonormal.
    delta: f64,
    levels: Vec<Level>,
    kernels: Kernels,
}

/// Some of the directions.
struct Level {
    /// Of a block of one row.
    bytes: usize,
    /// One after the other.
    directions: Vec<f32>,
    count: usize,
    /// Whether this level and those before it hold all there is.
    is_last_of_all: bool,
}

impl std::fmt::Debug for Sieve {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts: Vec<usize> = self.levels.iter().map(|level| level.count).collect();
        f.debug_struct("Sieve").field("dim", &self.dim).field("coordinates", &counts).finish_non_exhaustive()
    }
}

impl Sieve {
    /// Levels: at least 1.
    pub(crate) fn levels(&self) -> usize {
        self.levels.len()
    }

    /// Words of 32 bits in a block of a level.
    pub(crate) fn words(&self, level: usize) -> usize {
        self.levels[level].bytes / size_of::<u32>()
    }

    /// Words of all levels.
    pub(crate) fn all_words(&self) -> usize {
        (0..self.levels()).map(|level| self.words(level)).sum()
    }

    /// What loops over keys are best compiled for.
    pub(crate) fn level(&self) -> kernel::Level {
        self.kernels.level
    }

    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        let directions: usize = self.levels.iter().map(|level| level.directions.capacity()).sum();
        size_of::<Sieve>() + (self.mean.capacity() + directions) * size_of::<f32>()
    }
}
