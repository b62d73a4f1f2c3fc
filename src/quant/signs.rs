//! One bit a number: RaBitQ (Gao, Long: SIGMOD 2024).
//!
//! What a vector differs from a centre by, *r*, is turned by a random rotation
//! *R*, and the signs *x* of *R r* are kept. The estimate
//! `<r, q> ~ |r|^2 / <x, R r> * <x, R q>` is right on average over rotations.
//! Four signs make one code of four bits: a query adds four numbers up in all
//! sixteen ways, and codes are scanned as product codes of four bits are
//! ([`kernel::scan`](crate::kernel)).
//!
//! The rotation is four rounds of random signs and a Walsh-Hadamard transform,
//! over the first and the last numbers in turn, as many as a power of two: what
//! the RaBitQ library does in place of a matrix.

use super::product::{ProductQuery, ProductShape};
use crate::id::mix;
use crate::kernel::{Arch, ArchJob, Level, kernels};
use crate::memory;

/// Signs of a code.
const SIGNS: usize = 4;

/// Numbers that are turned come in whole steps of a scan: 16.
const STEP: usize = SIGNS * crate::kernel::SCAN_STEP;

const ROUNDS: usize = 4;

/// Makes codes of signs; all of it follows from the dimension and the seed.
#[derive(Clone, Debug)]
pub(crate) struct Signs {
    dim: usize,
    /// Of each round +1 or -1 for each number.
    flips: Vec<f32>,
}

/// What is kept with the codes of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SignFactors {
    /// Added to the estimate of the squared distance, beside that of query and centre.
    pub(crate) bias: f32,
    /// By it the product of query and signs is multiplied for that of query and row.
    pub(crate) factor: f32,
}

/// Working memory, for codes of one [`Signs`].
#[derive(Debug, Default)]
pub(crate) struct Turned {
    residual: Vec<f32>,
    turned: Vec<f32>,
    /// The centre of the last code, and turned: the next code's is often the same.
    centre: Vec<f32>,
    turned_centre: Vec<f32>,
}

impl Signs {
    pub(crate) fn new(dim: usize, seed: u64) -> Signs {
        let count = (ROUNDS * dim.next_multiple_of(STEP)) as u64;
        let flips = (0..count).map(|at| if mix(seed ^ mix(at)) & 1 == 0 { 1.0 } else { -1.0 });
        Signs { dim, flips: memory::collect(flips) }
    }

    /// Codes of a vector of so many numbers.
    pub(crate) fn codes(dim: usize) -> usize {
        dim.next_multiple_of(STEP) / SIGNS
    }

    fn shape(&self) -> ProductShape {
        ProductShape { num_subquantizers: Signs::codes(self.dim), bits_per_code: SIGNS }
    }

    /// `R` of a vector.
    pub(super) fn turn(&self, vector: &[f32], turned: &mut Vec<f32>) {
        struct Turn<'a>(&'a [f32], &'a mut [f32]);
        impl ArchJob for Turn<'_> {
            type Output = ();

            #[inline(always)]
            fn run<A: Arch>(self, _arch: A) {
                let Turn(flips, numbers) = self;
                let len = numbers.len();
                let part = 1 << len.ilog2();
                let share = 1.0 / (part as f32).sqrt();
                for (round, flips) in flips.chunks_exact(len).enumerate() {
                    for (number, flip) in numbers.iter_mut().zip(flips) {
                        *number *= flip;
                    }
                    let start = if round % 2 == 0 { 0 } else { len - part };
                    let part = &mut numbers[start..][..part];
                    part.iter_mut().for_each(|number| *number *= share);
                    hadamard(part);
                }
            }
        }
        turned.clear();
        memory::append(turned, vector);
        memory::resize(turned, self.dim.next_multiple_of(STEP), 0.0);
        kernels().level.run(Turn(&self.flips, turned));
    }

    /// Codes of what `vector` differs from `centre` by, one a byte.
    ///
    /// # Panics
    /// When there are fewer codes than [`Signs::codes`].
    pub(crate) fn encode(
        &self,
        vector: &[f32],
        centre: &[f32],
        work: &mut Turned,
        codes: &mut [u8],
    ) -> SignFactors {
        work.residual.clear();
        memory::extend(&mut work.residual, vector.iter().zip(centre).map(|(x, c)| x - c));
        self.turn(&work.residual, &mut work.turned);
        if work.centre != centre {
            self.turn(centre, &mut work.turned_centre);
            work.centre.clear();
            memory::append(&mut work.centre, centre);
        }
        let (mut magnitudes, mut product) = (0f32, 0f32);
        codes.fill(0);
        for (at, (r, c)) in work.turned.iter().zip(&work.turned_centre).enumerate() {
            let is_positive = *r >= 0.0;
            codes[at / SIGNS] |= u8::from(is_positive) << (at % SIGNS);
            magnitudes += r.abs();
            product += if is_positive { *c } else { -c };
        }
        let squared: f32 = work.residual.iter().map(|r| r * r).sum();
        let factor = squared / magnitudes;
        if !factor.is_finite() {
            return SignFactors { bias: squared, factor: 0.0 };
        }
        SignFactors { bias: (squared + 2.0 * factor * product).clamp(f32::MIN, f32::MAX), factor }
    }

    /// Makes the tables of a query.
    pub(crate) fn prepare(&self, level: Level, vector: &[f32], query: &mut ProductQuery) {
        struct Prepare<'a>(&'a [f32], &'a mut ProductQuery, ProductShape);
        impl ArchJob for Prepare<'_> {
            type Output = ();

            #[inline(always)]
            fn run<A: Arch>(self, _arch: A) {
                let Prepare(turned, query, shape) = self;
                memory::resize(&mut query.products, (turned.len() / SIGNS) << SIGNS, 0.0);
                let tables = query.products.as_chunks_mut::<{ 1 << SIGNS }>().0;
                for (table, numbers) in tables.iter_mut().zip(turned.as_chunks::<SIGNS>().0) {
                    *table = sums(*numbers);
                }
                query.round(shape);
            }
        }
        let mut turned = std::mem::take(&mut query.turned);
        self.turn(vector, &mut turned);
        level.run(Prepare(&turned, query, self.shape()));
        query.turned = turned;
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of::<Signs>() + size_of_val(&*self.flips)
    }
}

/// The numbers with all signs: number i is positive where bit i is set.
#[inline(always)]
fn sums(numbers: [f32; SIGNS]) -> [f32; 1 << SIGNS] {
    std::array::from_fn(|code| {
        let sign = |at: usize| if code >> at & 1 == 1 { numbers[at] } else { -numbers[at] };
        (sign(0) + sign(1)) + (sign(2) + sign(3))
    })
}

/// The Walsh-Hadamard transform of as many numbers as a power of two.
#[inline(always)]
fn hadamard(numbers: &mut [f32]) {
    let mut half = 1;
    while half < numbers.len() {
        for pair in numbers.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (low, high) in low.iter_mut().zip(high) {
                (*low, *high) = (*low + *high, *low - *high);
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Portable, SCAN_POSITION};

    fn vector(dim: usize, seed: u64) -> Vec<f32> {
        let unit = |at: u64| (mix(seed << 32 ^ at) >> 40) as f32 / (1 << 24) as f32 - 0.5;
        (0..dim as u64).map(|at| unit(at) * (1 + at % 5) as f32).collect()
    }

    fn squared(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
    }

    #[test]
    fn turning_keeps_distances() {
        for dim in [1, 2, 15, 16, 50, 117, 785] {
            let signs = Signs::new(dim, 3);
            let (a, b) = (vector(dim, 1), vector(dim, 2));
            let (mut ta, mut tb) = (Vec::new(), Vec::new());
            signs.turn(&a, &mut ta);
            signs.turn(&b, &mut tb);
            let (before, after) = (squared(&a, &b), squared(&ta, &tb));
            assert!((before - after).abs() <= before * 1e-4, "{dim}: {before} {after}");
        }
    }

    // Of 784 numbers the error of a product of unit vectors is about 1 / sqrt(784)
    // times a number below 1 (the paper's bound).
    #[test]
    fn estimates_err_as_little_as_the_paper_says_and_to_no_side() {
        let dim = 784;
        let (centre, query) = (vector(dim, 1_000), vector(dim, 2_000));
        let mut tables = ProductQuery::default();
        let (mut sum, mut squares) = (0.0, 0.0);
        for seed in 0..300 {
            let (signs, row) = (Signs::new(dim, seed), vector(dim, seed));
            signs.prepare(kernels().level, &query, &mut tables);
            let mut codes = vec![0; Signs::codes(dim)];
            let SignFactors { bias, factor } =
                signs.encode(&row, &centre, &mut Turned::default(), &mut codes);
            let bytes = codes
                .iter()
                .zip(tables.bytes.chunks_exact(SCAN_POSITION))
                .map(|(code, table)| u32::from(table[usize::from(*code)]));
            let product = tables.least + tables.step * bytes.sum::<u32>() as f32;
            let estimate = squared(&query, &centre) + bias - 2.0 * factor * product;
            let lengths = (squared(&row, &centre) * squared(&query, &centre)).sqrt();
            let error = (estimate - squared(&query, &row)) / (2.0 * lengths);
            sum += error;
            squares += error * error;
        }
        let (mean, deviation) = (sum / 300.0, (squares / 300.0).sqrt());
        assert!(mean.abs() < 0.005 && deviation < 0.035, "{mean} {deviation}");
    }

    #[test]
    fn every_instruction_set_makes_the_same_tables() {
        for dim in [3, 50, 785] {
            let (signs, vector) = (Signs::new(dim, 5), vector(dim, 7));
            let (mut fast, mut plain) = (ProductQuery::default(), ProductQuery::default());
            signs.prepare(kernels().level, &vector, &mut fast);
            signs.prepare(Level::Portable(Portable), &vector, &mut plain);
            assert_eq!((&fast.products, &fast.bytes), (&plain.products, &plain.bytes));
        }
    }

    #[test]
    fn a_vector_at_its_centre_has_no_factor() {
        let (signs, vector) = (Signs::new(20, 5), vector(20, 7));
        let mut codes = vec![0; Signs::codes(20)];
        let factors = signs.encode(&vector, &vector, &mut Turned::default(), &mut codes);
        assert_eq!(factors, SignFactors { bias: 0.0, factor: 0.0 });
    }
}
