//! Codes of rows that stand by themselves, as walks meet them: product codes,
//! and signs.
//!
//! | code | words of a row, an even number of pairs |
//! |---|---|
//! | product | codes of four or eight bits, the first in the lowest bits |
//! | signs | squared length of the difference from the centre, and its factor (`f32` each); 32 signs a word |
//!
//! Scans add bytes of tables up for 32 rows at a time. One row alone is better
//! off with the numbers themselves, and with signs as bits: the query is cut
//! into planes of bits, and the signs under each are counted (RaBitQ; Gao,
//! Long: SIGMOD 2024).

use super::arithmetic::nearest_byte;
use super::product::{ProductQuantizer, ProductQuery, ProductShape, Sums};
use super::signs::{SignFactors, Signs, Turned};
use crate::codec::{Decoder, Encoder, Malformed};
use crate::kernel::{Arch, ArchJob, kernels};
use crate::memory;
use crate::metric::Metric;

/// Words of a row come in so many.
const WORDS: usize = 4;

/// Words before the signs.
const FACTORS: usize = 2;

/// Bits of a number of the query. Rounding it to 64 steps errs by a fiftieth
/// of what the signs err by.
const PLANES: usize = 6;

/// What codes of single rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SingleShape {
    Product(ProductShape),
    /// Of so many numbers.
    Signs {
        dim: usize,
    },
}

impl SingleShape {
    /// Words of a row.
    pub(crate) fn words(self) -> usize {
        let words = match self {
            SingleShape::Product(shape) => (shape.num_subquantizers * shape.bits_per_code).div_ceil(32),
            SingleShape::Signs { dim } => FACTORS + dim.div_ceil(32),
        };
        words.next_multiple_of(WORDS)
    }
}

/// What makes them; it never changes.
#[derive(Clone, Debug)]
pub(crate) enum SingleCodes {
    Product { shape: ProductShape, product: ProductQuantizer },
    Signs { signs: Signs, centre: Vec<f32> },
}

/// Working memory of [`SingleCodes::encode`].
#[derive(Debug, Default)]
pub(crate) struct SingleEncoder {
    codes: Vec<u8>,
    residual: Vec<f32>,
    zeros: Vec<f32>,
    turned: Turned,
}

/// A query, and room for the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct SingleQuery {
    parts: ProductQuery,
    /// Of product codes, what each byte of a row adds: 256 numbers a byte.
    tables: Vec<f32>,
    turned: Vec<f32>,
    residual: Vec<f32>,
    planes: Vec<u64>,
    /// A sum `s` of what is looked up or counted adds `weight * s`...
    weight: f32,
    /// ...to this.
    base: f32,
    /// Of signs: a count is `least * signs + step * sum`, less `total`.
    least: f32,
    step: f32,
    total: f32,
    /// Whether squared lengths of rows are part of the estimate.
    with_length: bool,
}

impl SingleCodes {
    pub(crate) fn product(shape: ProductShape, product: ProductQuantizer) -> SingleCodes {
        SingleCodes::Product { shape, product }
    }

    /// Signs of what vectors differ from a centre by.
    pub(crate) fn signs(centre: Vec<f32>, seed: u64) -> SingleCodes {
        SingleCodes::Signs { signs: Signs::new(centre.len(), seed), centre }
    }

    fn shape(&self) -> SingleShape {
        match self {
            SingleCodes::Product { shape, .. } => SingleShape::Product(*shape),
            SingleCodes::Signs { centre, .. } => SingleShape::Signs { dim: centre.len() },
        }
    }

    /// Estimates by signs are right on average, and err much.
    pub(crate) fn is_unbiased(&self) -> bool {
        matches!(self, SingleCodes::Signs { .. })
    }

    /// Fills `words`, [`SingleShape::words`] of them, with the code of a vector.
    ///
    /// # Panics
    /// When there are fewer words, or the vector has another dimension.
    pub(crate) fn encode(&self, vector: &[f32], work: &mut SingleEncoder, words: &mut [u32]) {
        words.fill(0);
        let codes = &mut work.codes;
        codes.clear();
        match self {
            SingleCodes::Product { shape, product } => {
                memory::resize(codes, shape.num_subquantizers, 0);
                product.encode(vector, codes);
                pack(codes, shape.bits_per_code, words);
            }
            SingleCodes::Signs { signs, centre } => {
                assert_eq!(vector.len(), centre.len());
                work.residual.clear();
                memory::extend(&mut work.residual, vector.iter().zip(centre).map(|(x, c)| x - c));
                memory::resize(&mut work.zeros, centre.len(), 0.0);
                memory::resize(codes, Signs::codes(centre.len()), 0);
                let SignFactors { bias, factor } =
                    signs.encode(&work.residual, &work.zeros, &mut work.turned, codes);
                (words[0], words[1]) = (bias.to_bits(), factor.to_bits());
                pack(codes, 4, &mut words[FACTORS..]);
            }
        }
    }

    /// Makes a vector, as rows are compared, a query: for squared distances, or
    /// for negated inner products.
    pub(crate) fn prepare(&self, metric: Metric, vector: &[f32], query: &mut SingleQuery) {
        let is_dot = metric == Metric::Dot;
        query.weight = if is_dot { -1.0 } else { -2.0 };
        query.with_length = !is_dot;
        match self {
            SingleCodes::Product { shape, product } => {
                let sums = if is_dot { Sums::Products } else { Sums::Nearness };
                product.prepare(kernels().level, vector, sums, &mut query.parts);
                query.tabulate(*shape, self.shape().words() * size_of::<u32>());
                query.base = 0.0;
            }
            SingleCodes::Signs { signs, centre } => {
                query.residual.clear();
                let residual = vector.iter().zip(centre).map(|(x, c)| if is_dot { *x } else { x - c });
                memory::extend(&mut query.residual, residual);
                query.base = if is_dot {
                    -vector.iter().zip(centre).map(|(x, c)| x * c).sum::<f32>()
                } else {
                    squared(&query.residual)
                };
                signs.turn(&query.residual, &mut query.turned);
                query.cut(centre.len());
            }
        }
    }

    /// Estimates for rows.
    ///
    /// # Panics
    /// When a row is not of these codes, or `out` is shorter than `rows`.
    pub(crate) fn estimates(&self, query: &SingleQuery, rows: &[&[u32]], out: &mut [f32]) {
        struct All<'a>(&'a SingleCodes, &'a SingleQuery, &'a [&'a [u32]], &'a mut [f32]);
        impl ArchJob for All<'_> {
            type Output = ();

            #[inline(always)]
            fn run<A: Arch>(self, _arch: A) {
                let All(codes, query, rows, out) = self;
                match codes {
                    SingleCodes::Product { .. } => {
                        each(rows, out, |row| query.base + query.weight * look_up(&query.tables, row));
                    }
                    SingleCodes::Signs { .. } => each(rows, out, |row| query.by_signs(row)),
                }
            }
        }
        kernels().level.run(All(self, query, rows, &mut out[..rows.len()]));
    }

    pub(crate) fn save(&self, out: &mut Encoder) {
        match self {
            SingleCodes::Product { product, .. } => product.save(out),
            SingleCodes::Signs { centre, .. } => centre.iter().for_each(|x| out.f32(*x)),
        }
    }

    /// Reads what makes codes of this shape of vectors of `dim` numbers.
    pub(crate) fn load(
        shape: SingleShape,
        dim: usize,
        seed: u64,
        input: &mut Decoder<'_>,
    ) -> Result<SingleCodes, Malformed> {
        match shape {
            SingleShape::Product(shape) => {
                Ok(SingleCodes::product(shape, ProductQuantizer::load(dim, shape, input)?))
            }
            SingleShape::Signs { .. } => {
                let centre = input.floats(dim)?;
                input.check(centre.iter().all(|x| x.is_finite()), "a centre is no vector")?;
                Ok(SingleCodes::signs(centre, seed))
            }
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            SingleCodes::Product { product, .. } => product.bytes(),
            SingleCodes::Signs { signs, centre } => signs.bytes() + size_of_val(&**centre),
        }
    }
}

impl SingleQuery {
    /// Makes the tables of so many bytes. Two codes of four bits are looked up
    /// as one: half of the time for 1 microsecond a hundred codes.
    fn tabulate(&mut self, shape: ProductShape, bytes: usize) {
        self.tables.clear();
        // What fills the last word up adds nothing.
        memory::resize(&mut self.tables, bytes * 256, 0.0);
        if shape.bits_per_code == 8 {
            return self.tables[..self.parts.products.len()].copy_from_slice(&self.parts.products);
        }
        let tables = self.tables.as_chunks_mut::<16>().0.as_chunks_mut::<16>().0;
        for (table, pair) in tables.iter_mut().zip(self.parts.products.as_chunks::<16>().0.chunks(2)) {
            let [low, high] = [pair[0], pair.get(1).copied().unwrap_or_default()];
            for (part, high) in table.iter_mut().zip(high) {
                *part = low.map(|low| low + high);
            }
        }
    }

    /// Cuts the turned vector into planes of bits.
    fn cut(&mut self, dim: usize) {
        let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
        for x in &self.turned {
            (low, high) = (low.min(*x), high.max(*x));
        }
        let steps = ((1 << PLANES) - 1) as f32;
        let step = (high - low) / steps;
        let inverse = if step > 0.0 && (1.0 / step).is_finite() { 1.0 / step } else { 0.0 };
        (self.least, self.step) = (low, if inverse > 0.0 { step } else { 0.0 });
        let pairs = (SingleShape::Signs { dim }.words() - FACTORS) / 2;
        self.planes.clear();
        memory::resize(&mut self.planes, pairs * PLANES, 0);
        let (mut count, mut sum) = (0u32, 0u32);
        for (at, x) in self.turned.iter().enumerate() {
            let level = u64::from(nearest_byte((x - low) * inverse));
            (count, sum) = (count + 1, sum + level as u32);
            for (plane, bits) in self.planes[at / 64 * PLANES..][..PLANES].iter_mut().enumerate() {
                *bits |= (level >> plane & 1) << (at % 64);
            }
        }
        self.total = self.least * count as f32 + self.step * sum as f32;
    }

    /// The estimate for a row of signs.
    #[inline(always)]
    fn by_signs(&self, row: &[u32]) -> f32 {
        let (pairs, planes) = (row[FACTORS..].as_chunks::<2>().0, self.planes.as_chunks::<PLANES>().0);
        let (mut count, mut sums) = (0u32, [0u32; PLANES]);
        for ([low, high], planes) in pairs.iter().zip(planes) {
            let signs = u64::from(*low) | u64::from(*high) << 32;
            count += signs.count_ones();
            for (sum, plane) in sums.iter_mut().zip(planes) {
                *sum += (signs & plane).count_ones();
            }
        }
        let sum: u32 = sums.iter().enumerate().map(|(plane, sum)| sum << plane).sum();
        let positive = self.least * count as f32 + self.step * sum as f32;
        let (bias, factor) = (f32::from_bits(row[0]), f32::from_bits(row[1]));
        let bias = if self.with_length { bias } else { 0.0 };
        self.base + bias + self.weight * factor * (2.0 * positive - self.total)
    }
}

fn squared(vector: &[f32]) -> f32 {
    vector.iter().map(|x| x * x).sum()
}

/// Codes into words, the first in the lowest bits.
fn pack(codes: &[u8], bits: usize, words: &mut [u32]) {
    let each = 32 / bits;
    for (word, codes) in words.iter_mut().zip(codes.chunks(each)) {
        *word = codes.iter().rev().fold(0, |word, code| word << bits | u32::from(*code));
    }
}

#[inline(always)]
fn each(rows: &[&[u32]], out: &mut [f32], estimate: impl Fn(&[u32]) -> f32) {
    for (row, out) in rows.iter().zip(out) {
        *out = estimate(row);
    }
}

/// Four sums side by side: additions of one wait for each other.
#[inline(always)]
fn look_up(tables: &[f32], row: &[u32]) -> f32 {
    let mut sums = [0f32; 4];
    let tables = tables.as_chunks::<256>().0.as_chunks::<4>().0;
    for (word, tables) in row.iter().zip(tables) {
        for (at, (sum, table)) in sums.iter_mut().zip(tables).enumerate() {
            *sum += table[(word >> (8 * at) & 255) as usize];
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::mix;

    fn vectors(count: usize, dim: usize, seed: u64) -> Vec<Vec<f32>> {
        let unit = |key: u64| (mix(key) >> 40) as f32 / (1 << 24) as f32 - 0.3;
        let one = |row: usize| (0..dim).map(move |at| unit(seed << 40 ^ (row * dim + at) as u64)).collect();
        (0..count).map(one).collect()
    }

    fn shapes(dim: usize) -> Vec<SingleShape> {
        let product = |num_subquantizers, bits_per_code| {
            SingleShape::Product(ProductShape { num_subquantizers, bits_per_code })
        };
        let parts = dim.div_ceil(3);
        vec![product(parts, 4), product(parts, 8), product(1, 8), SingleShape::Signs { dim }]
    }

    fn trained(shape: SingleShape, rows: &[Vec<f32>]) -> SingleCodes {
        let dim = rows[0].len();
        match shape {
            SingleShape::Product(shape) => {
                let samples = rows.concat();
                let part = |at| ProductQuantizer::train_part(&samples, dim, shape, at, 1);
                let parts = (0..shape.num_subquantizers).map(part).collect();
                SingleCodes::product(shape, ProductQuantizer::of_parts(dim, shape, parts))
            }
            SingleShape::Signs { .. } => {
                let mean = |at: usize| rows.iter().map(|row| row[at]).sum::<f32>() / rows.len() as f32;
                SingleCodes::signs((0..dim).map(mean).collect(), 9)
            }
        }
    }

    fn encoded(codes: &SingleCodes, row: &[f32]) -> Vec<u32> {
        let mut words = vec![u32::MAX; codes.shape().words()];
        codes.encode(row, &mut SingleEncoder::default(), &mut words);
        words
    }

    fn exact(metric: Metric, a: &[f32], b: &[f32]) -> f32 {
        let dot: f32 = a.iter().zip(b).map(|(x, y)| x * y).sum();
        if metric == Metric::Dot { -dot } else { squared(a) + squared(b) - 2.0 * dot }
    }

    /// What an estimate stands for, made slowly: from the decoded vector, or
    /// from the signs of the turned difference.
    fn slow(codes: &SingleCodes, metric: Metric, query: &[f32], row: &[f32]) -> f32 {
        match codes {
            SingleCodes::Product { shape, product } => {
                let (mut bytes, mut decoded) = (vec![0; shape.num_subquantizers], Vec::new());
                product.encode(row, &mut bytes);
                product.decode(&bytes, &mut decoded);
                exact(metric, query, &decoded)
            }
            SingleCodes::Signs { signs, centre } => {
                let less = |x: &[f32]| x.iter().zip(centre).map(|(x, c)| x - c).collect::<Vec<f32>>();
                let (residual, mut turned, mut turned_query) = (less(row), Vec::new(), Vec::new());
                let from = if metric == Metric::Dot { query.to_vec() } else { less(query) };
                signs.turn(&residual, &mut turned);
                signs.turn(&from, &mut turned_query);
                let sign = |x: f32| if x >= 0.0 { 1.0 } else { -1.0 };
                let product: f32 = turned.iter().zip(&turned_query).map(|(r, q)| sign(*r) * q).sum();
                let magnitudes: f32 = turned.iter().map(|r| r.abs()).sum();
                let product = squared(&residual) / magnitudes * product;
                match metric {
                    Metric::Dot => exact(Metric::Dot, query, centre) - product,
                    _ => squared(&from) + squared(&residual) - 2.0 * product,
                }
            }
        }
    }

    #[test]
    fn estimates_are_what_codes_stand_for_under_every_metric() {
        for dim in [1, 7, 16, 33, 100] {
            let rows = vectors(400, dim, dim as u64);
            for codes in shapes(dim).into_iter().map(|shape| trained(shape, &rows)) {
                let words: Vec<Vec<u32>> = rows[..30].iter().map(|row| encoded(&codes, row)).collect();
                let words: Vec<&[u32]> = words.iter().map(Vec::as_slice).collect();
                let mut query = SingleQuery::default();
                for metric in [Metric::L2, Metric::Dot, Metric::Cosine] {
                    let asked = &vectors(1, dim, 99)[0];
                    codes.prepare(metric, asked, &mut query);
                    let mut estimates = [0.0; 30];
                    codes.estimates(&query, &words, &mut estimates);
                    // Numbers of queries for signs are rounded to 64 steps.
                    let slack = if codes.is_unbiased() { 0.03 } else { 1e-5 } * dim as f32;
                    for (row, estimate) in rows.iter().zip(estimates) {
                        let wanted = slow(&codes, metric, asked, row);
                        assert!(
                            (estimate - wanted).abs() <= slack,
                            "{dim} {metric}: {estimate} for {wanted}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn signs_estimate_distances_without_a_bias() {
        let (dim, rows) = (300, vectors(300, 300, 5));
        let codes = trained(SingleShape::Signs { dim }, &rows);
        let (mut query, asked) = (SingleQuery::default(), &vectors(1, dim, 6)[0]);
        codes.prepare(Metric::L2, asked, &mut query);
        let errors = rows.iter().map(|row| {
            let mut estimate = [0.0];
            codes.estimates(&query, &[&encoded(&codes, row)], &mut estimate);
            f64::from((estimate[0] - exact(Metric::L2, asked, row)) / exact(Metric::L2, asked, row))
        });
        let errors: Vec<f64> = errors.collect();
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        let deviation = (errors.iter().map(|error| error * error).sum::<f64>() / errors.len() as f64).sqrt();
        assert!(mean.abs() < 0.01 && deviation < 0.08, "{mean} {deviation}");
    }

    #[test]
    fn codes_that_were_saved_estimate_the_same() {
        let dim = 20;
        let rows = vectors(300, dim, 3);
        for shape in shapes(dim) {
            let codes = trained(shape, &rows);
            let mut saved = Encoder::default();
            codes.save(&mut saved);
            let bytes = saved.into_bytes();
            let mut input = Decoder::new(&bytes);
            let loaded = SingleCodes::load(shape, dim, 9, &mut input).unwrap();
            let estimate = |codes: &SingleCodes| {
                let (mut query, mut out) = (SingleQuery::default(), [0.0]);
                codes.prepare(Metric::L2, &rows[0], &mut query);
                codes.estimates(&query, &[&encoded(codes, &rows[1])], &mut out);
                out[0].to_bits()
            };
            assert_eq!(estimate(&codes), estimate(&loaded), "{shape:?}");
        }
    }

    #[test]
    fn a_row_at_the_centre_and_a_query_of_zeros_have_finite_estimates() {
        let rows = vec![vec![0.5f32; 40]; 3];
        let codes = trained(SingleShape::Signs { dim: 40 }, &rows);
        let (mut query, mut out) = (SingleQuery::default(), [1.0]);
        for (asked, distance) in [(vec![0.5f32; 40], 0.0), (vec![0.0f32; 40], 10.0)] {
            codes.prepare(Metric::L2, &asked, &mut query);
            codes.estimates(&query, &[&encoded(&codes, &rows[0])], &mut out);
            assert!((out[0] - distance).abs() < 1e-4, "{}", out[0]);
        }
    }
}
