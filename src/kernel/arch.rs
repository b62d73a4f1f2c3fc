//! Instruction sets as types, for loops that are longer than one kernel.
//!
//! A kernel behind a function pointer pays for its call. A walk over a graph
//! makes one for every few rows, and what stands between the calls is compiled
//! for the least machine. So the whole walk is generic over an [`Arch`] and runs
//! within [`Arch::run`]: what is inlined into it is compiled for its
//! instruction set, kernels and all. Which one it is was decided once, when the
//! [`Level`] was made.

use std::fmt::Debug;

use super::scan::SCAN_ROWS;

/// Vectors of a tile.
pub(crate) const TILE: usize = 16;

/// What each of some rows comes to with the vectors of each of some tiles.
pub(crate) type TileSums<const R: usize, const T: usize> = [[[f32; TILE]; T]; R];

/// Work that can be compiled for any instruction set.
pub(crate) trait ArchJob {
    /// What it gives.
    type Output;

    /// Does the work. Implementations are `#[inline(always)]`, as must be what
    /// they call for it to be compiled for the instruction set.
    fn run<A: Arch>(self, arch: A) -> Self::Output;
}

/// An instruction set that this machine has; values exist nowhere else.
pub(crate) trait Arch: Copy + Debug + Send + Sync + 'static {
    /// Whether sixteen sums of a whole tile have place in its registers at once.
    const HOLDS_MANY_SUMS: bool = false;

    /// Whether `spread` is a step or two.
    const SPREADS: bool = false;

    /// Runs a job with the instruction set enabled.
    fn run<J: ArchJob>(self, job: J) -> J::Output;

    /// As [`Kernels::byte_dots`](super::Kernels::byte_dots).
    fn byte_dots(self, query: &[i8], rows: &[&[u8]], out: &mut [i32]);

    /// As [`Kernels::nibble_dots`](super::Kernels::nibble_dots).
    fn nibble_dots(self, query: &[i8], rows: &[&[u8]], out: &mut [i32]);

    /// The products of a query with 32 rows of one code a byte, up to 127, that stand [interleaved](super::codes): the query
    /// has four weights for a word of a row.
    ///
    /// # Panics
    /// When there are not four for each word.
    #[inline(always)]
    fn interleaved_byte_dots(self, query: &[i8], words: &[[u32; SCAN_ROWS]]) -> [i32; SCAN_ROWS] {
        super::scalar::interleaved_byte_dots(query, words)
    }

    /// The same of two codes a byte: `low` has the weights of the low halves of the bytes, `high` those of the high ones.
    ///
    /// # Panics
    /// When there are not four of each for each word.
    #[inline(always)]
    fn interleaved_nibble_dots(
        self,
        low: &[i8],
        high: &[i8],
        words: &[[u32; SCAN_ROWS]],
    ) -> [i32; SCAN_ROWS] {
        super::scalar::interleaved_nibble_dots(low, high, words)
    }

    /// The sums of the 32 rows of a group of codes: see [`scan`](super::scan).
    ///
    /// # Panics
    /// When tables and codes differ in length, or are not whole steps.
    fn scan(self, tables: &[u8], codes: &[u8], sums: &mut [u16; SCAN_ROWS]);

    /// The products of rows with the sixteen vectors of each of some tiles, which stand one
    /// dimension after the other. Each is added up alone, in the order of the dimensions, so what a
    /// row and a tile are asked for together with changes no bit; a product and its sum are rounded once
    /// where the instruction set has a step for both.
    ///
    /// # Panics
    /// When rows and tiles differ in dimension.
    fn tile_dots<const R: usize, const T: usize>(
        self,
        rows: [&[f32]; R],
        tiles: [&[[f32; TILE]]; T],
    ) -> TileSums<R, T>;

    /// A bit for each of the numbers of a group that is not above the bound; none
    /// for what is no number.
    #[inline(always)]
    fn within(self, numbers: &[f32; SCAN_ROWS], bound: f32) -> u32 {
        numbers.iter().enumerate().fold(0, |bits, (at, number)| bits | u32::from(*number <= bound) << at)
    }

    /// A bit for each of the sums of a group that is not below the floor.
    #[inline(always)]
    fn at_least(self, sums: &[u16; SCAN_ROWS], floor: u16) -> u32 {
        sums.iter().enumerate().fold(0, |bits, (at, sum)| bits | u32::from(*sum >= floor) << at)
    }

    /// A bit for each of eight numbers that is above the bound.
    #[inline(always)]
    fn above(self, numbers: &[i64; 8], bound: i64) -> u8 {
        numbers.iter().enumerate().fold(0, |bits, (at, number)| bits | u8::from(*number > bound) << at)
    }

    /// Puts those of eight numbers that are not above the bound to the front of `kept`, in their order, and tells how
    /// many they are; behind them may stand anything.
    #[inline(always)]
    fn keep(self, numbers: &[i64; 8], bound: i64, kept: &mut [i64; 8]) -> usize {
        let mut count = 0;
        for number in numbers {
            // Fewer than eight stand before it.
            kept[count % 8] = *number;
            count += usize::from(*number <= bound);
        }
        count
    }

    /// Eight numbers: where a bit is set the first of `ones`, elsewhere the first of `zeros`, each in their order.
    #[inline(always)]
    fn spread(self, bits: u8, ones: &[i64; 8], zeros: &[i64; 8]) -> [i64; 8] {
        let mut before = 0;
        std::array::from_fn(|at| {
            let is_one = bits >> at & 1 == 1;
            before += usize::from(is_one);
            if is_one { ones[before - 1] } else { zeros[at - before] }
        })
    }
}

/// Plain Rust, for the least machine that the program was compiled for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

impl Arch for Portable {
    #[inline(always)]
    fn run<J: ArchJob>(self, job: J) -> J::Output {
        job.run(self)
    }

    #[inline]
    fn byte_dots(self, query: &[i8], rows: &[&[u8]], out: &mut [i32]) {
        super::scalar::byte_dots(query, rows, out);
    }

    #[inline]
    fn nibble_dots(self, query: &[i8], rows: &[&[u8]], out: &mut [i32]) {
        super::scalar::nibble_dots(query, rows, out);
    }

    #[inline(always)]
    fn tile_dots<const R: usize, const T: usize>(
        self,
        rows: [&[f32]; R],
        tiles: [&[[f32; TILE]]; T],
    ) -> TileSums<R, T> {
        super::scalar::tile_dots(rows, tiles)
    }

    #[inline]
    fn scan(self, tables: &[u8], codes: &[u8], sums: &mut [u16; SCAN_ROWS]) {
        super::scalar::scan(tables, codes, sums);
    }
}

/// The [`Arch`] that goes with a table of kernels.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(super::x86_64::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(super::x86_64::Avx512),
    #[cfg(target_arch = "aarch64")]
    Neon(super::aarch64::Neon),
}

impl Level {
    /// Runs a job on the instruction set.
    #[inline]
    pub(crate) fn run<J: ArchJob>(self, job: J) -> J::Output {
        match self {
            Level::Portable(arch) => arch.run(job),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(arch) => arch.run(job),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(arch) => arch.run(job),
            #[cfg(target_arch = "aarch64")]
            Level::Neon(arch) => arch.run(job),
        }
    }
}
