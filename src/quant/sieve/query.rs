//! A query before the sieve: bounds for rows, and what bounds are held against.

use super::code::{Dust, Screen, inverse, rounded_up, scale, weight};
use super::{ARITHMETIC, HEADER, HEADER_WORDS, OFFSET, ROUNDING, Sieve};
use crate::kernel::{Arch, SCAN_ROWS};
use crate::memory::{self, Lined};
use crate::quant::projection::WEIGHT;

/// Blocks that are looked at in one call.
pub(crate) const MOST: usize = 64;

/// The smallest float: what a term of a sum loses at most when it underflows.
const SMALLEST: f64 = 1.401_298_464_324_817e-45;

/// The distance that is bounded, as the kernels compute it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Squared Euclidean.
    #[default]
    SquaredL2,
    /// `1 - cosine` of vectors that are made as long as 1.
    Cosine,
    /// Negated inner product.
    NegatedDot,
}

/// A query. Its buffers are kept from one query to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grain {
    kind: Kind,
    levels: Vec<LevelQuery>,
    work: Screen,
}

#[derive(Clone, Debug, Default)]
struct LevelQuery {
    /// A weight for each byte of a block, 0 under the header.
    weights: Lined<i8>,
    /// What the kernel's products exceed those of the numbers.
    surplus: i32,
    dust: Dust,
    /// Of |q| |o|: what the two may be off by in floats, and by the directions.
    slack: f32,
}

impl Sieve {
    /// Makes a vector a query; false when it cannot be bounded.
    ///
    /// # Panics
    /// When it is of another dimension.
    pub(crate) fn prepare(&self, vector: &[f32], kind: Kind, query: &mut Grain) -> bool {
        query.kind = kind;
        query.levels.truncate(self.levels.len());
        memory::lengthen(&mut query.levels, self.levels.len());
        let work = &mut query.work;
        let mut progress = self.start(vector, &mut work.centred);
        let slack = 1.1 * (self.delta / (1.0 - self.delta) + (self.dim + 3) as f64 * ROUNDING);
        for (level, own) in self.levels.iter().zip(&mut query.levels) {
            self.project(level, &work.centred, &mut work.coordinates);
            let scale = scale(&work.coordinates, WEIGHT);
            let inverse = inverse(scale);
            own.weights.fill_anew(0, level.bytes);
            let weights = &mut own.weights[HEADER..][..level.count];
            for (weight_of, value) in weights.iter_mut().zip(&work.coordinates) {
                *weight_of = weight(value * inverse);
            }
            let numbers = weights.iter().map(|weight| f32::from(*weight));
            own.surplus = weights.iter().map(|weight| i32::from(*weight)).sum::<i32>() * OFFSET as i32;
            own.dust = self.settle(level, &mut progress, &work.coordinates, numbers, scale);
            own.slack = slack as f32 + ARITHMETIC;
        }
        query.levels.iter().all(|level| level.dust.error.is_finite())
    }

    /// What the first level says of 32 rows whose words stand interleaved: the products of what is kept of them, and
    /// keys such that a row whose key exceeds [`Sieve::limit`] of a bound is certainly farther. Where no row stands
    /// they mean nothing.
    ///
    /// # Panics
    /// When a row has other than [`Sieve::words`] of the first level.
    #[inline(always)]
    pub(crate) fn first_keys<A: Arch>(
        &self,
        arch: A,
        query: &Grain,
        words: &[[u32; SCAN_ROWS]],
    ) -> [[f32; SCAN_ROWS]; 2] {
        let (own, mut products, mut keys) =
            (&query.levels[0], [0.0; SCAN_ROWS], [f32::NEG_INFINITY; SCAN_ROWS]);
        if let Some((headers, codes)) = words.split_first_chunk() {
            let dots = arch.interleaved_byte_dots(&own.weights[HEADER..], codes);
            own.add_products(headers, &dots, &mut products);
            own.bounds(query.kind, headers, &products, &mut keys);
        }
        [products, keys]
    }

    /// Adds a further level to what is known of at most [`MOST`] rows: `products` grow by it, and `keys` are as those of
    /// the first.
    ///
    /// # Panics
    /// When blocks are not those of the level, there are more than [`MOST`] or
    /// the slices are shorter.
    pub(crate) fn keys(
        &self,
        query: &Grain,
        level: usize,
        blocks: &[&[u8]],
        products: &mut [f32],
        keys: &mut [f32],
    ) {
        let own = &query.levels[level];
        let count = blocks.len();
        let mut dots = [0; MOST];
        (self.kernels.byte_dots)(&own.weights, blocks, &mut dots[..count]);
        let headers = headers(blocks);
        let (products, keys) = (&mut products[..count], &mut keys[..count]);
        own.add_products(&headers, &dots, products);
        own.bounds(query.kind, &headers, products, keys);
    }

    /// The largest key at which a row may still be within `bound`, as the
    /// kernels compute distances.
    pub(crate) fn limit(&self, query: &Grain, level: usize, bound: f32) -> f32 {
        let (bound, unit) = (f64::from(bound), f64::from(self.unit));
        let (dim, error) = (self.dim as f64, f64::from(query.levels[level].dust.error));
        let relative = 1.01 * (dim + 4.0) * ROUNDING;
        let limit = match query.kind {
            Kind::NegatedDot => {
                let limit = (bound + dim * SMALLEST) * unit * unit;
                limit + limit.abs() * 1e-6
            }
            Kind::SquaredL2 | Kind::Cosine => {
                let squared = match query.kind {
                    // Squares only add up: the error is relative.
                    Kind::SquaredL2 => (bound + dim * SMALLEST) / (1.0 - relative),
                    // Of a product of vectors of length 1, and of these lengths.
                    _ => 2.0 * (bound + 2.0 * relative + 16.0 * ROUNDING),
                };
                ((squared.max(0.0) * (1.0 + self.delta)).sqrt() * unit + error) * (1.0 + 1e-6)
            }
        };
        rounded_up(limit)
    }
}

/// The headers of some blocks, word by word: see [`Dust`].
type Headers<const N: usize> = [[u32; N]; HEADER_WORDS];

#[inline]
fn headers(blocks: &[&[u8]]) -> Headers<MOST> {
    let mut headers = [[0; MOST]; HEADER_WORDS];
    for (at, block) in blocks.iter().enumerate() {
        for (words, word) in headers.iter_mut().zip(block.as_chunks().0) {
            words[at] = u32::from_ne_bytes(*word);
        }
    }
    headers
}

impl LevelQuery {
    /// Adds the products of this level.
    #[inline(always)]
    fn add_products<const N: usize>(&self, headers: &Headers<N>, dots: &[i32; N], products: &mut [f32]) {
        let (scale, surplus) = (self.dust.scale, self.surplus);
        for ((product, dot), own) in products.iter_mut().zip(dots).zip(&headers[0]) {
            *product += scale * f32::from_bits(*own) * (dot - surplus) as f32;
        }
    }

    #[inline(always)]
    fn bounds<const N: usize>(&self, kind: Kind, headers: &Headers<N>, products: &[f32], keys: &mut [f32]) {
        match kind {
            Kind::SquaredL2 | Kind::Cosine => self.distances(headers, products, keys),
            Kind::NegatedDot => self.negated_products(headers, products, keys),
        }
    }

    /// Least distances of what is kept, less the error of the row.
    #[inline(always)]
    fn distances<const N: usize>(&self, headers: &Headers<N>, products: &[f32], keys: &mut [f32]) {
        let own = self.dust;
        let squared = own.length * own.length;
        for (at, (key, product)) in keys.iter_mut().zip(products).enumerate().take(N) {
            let [_, rest, length, error] = [0, 1, 2, 3].map(|word| f32::from_bits(headers[word][at]));
            let lengths = squared + length * length;
            let distance = lengths - 2.0 * (product + own.rest * rest) - ARITHMETIC * lengths;
            let distance = if distance > 0.0 { distance } else { 0.0 };
            *key = distance.sqrt() - error;
        }
    }

    /// Negated largest products of what is kept, with all errors.
    #[inline(always)]
    fn negated_products<const N: usize>(&self, headers: &Headers<N>, products: &[f32], keys: &mut [f32]) {
        let own = self.dust;
        let whole = own.length + own.error;
        for (at, (key, product)) in keys.iter_mut().zip(products).enumerate().take(N) {
            let [_, rest, length, error] = [0, 1, 2, 3].map(|word| f32::from_bits(headers[word][at]));
            let errors = own.error * length + error * whole;
            let slack = self.slack * whole * (length + error);
            let most = product + own.rest * rest + errors + slack;
            // Not a number: nothing is known.
            *key = if most < f32::INFINITY { -most } else { f32::NEG_INFINITY };
        }
    }
}
