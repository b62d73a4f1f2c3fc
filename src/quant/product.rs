//! Product quantization (Jégou, Douze, Schmid: TPAMI 2011).
//!
//! A vector is cut into parts, and each part is replaced by the nearest of 16
//! or 256 centres that were trained for it: the code of the part is the number
//! of that centre. The inner product of a query with what a code stands for is
//! the sum of one number a part, from a table that is made once a query.
//!
//! With 16 centres the tables of a query, rounded to bytes, fit into registers
//! ([`kernel::scan`](crate::kernel)).

use super::arithmetic::nearest_byte;
use super::kmeans::{Search, Tiles, centres};
use crate::codec::{Decoder, Encoder, Malformed};
use crate::id::mix;
use crate::kernel::{Arch, ArchJob, Level, SCAN_POSITION, SCAN_STEP, TILE, kernels};
use crate::memory::{self, Lined};

/// Points for each centre that a part is trained on: faiss takes up to 256.
const POINTS_A_CENTRE: usize = 256;

/// The same for 256 centres. Squared errors beside those of faiss, which takes
/// 256, on Fashion-MNIST and MiniLM: 1.00 and 1.02 times; of half as many 1.03.
const POINTS_A_CENTRE_OF_MANY: usize = 128;

/// Rounds of k-means, as in faiss.
const ROUNDS: usize = 25;

/// The sums of a scan are of sixteen bits.
const LARGEST_SUM: f32 = 65_535.0;

/// How codes are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProductShape {
    /// Parts of a vector: at most its dimension.
    pub(crate) num_subquantizers: usize,
    /// 4 or 8.
    pub(crate) bits_per_code: usize,
}

impl ProductShape {
    /// Centres of a part.
    pub(crate) fn centres(self) -> usize {
        if self.bits_per_code == 4 { TILE } else { TILE * TILE }
    }

    /// Vectors that training looks at.
    pub(crate) fn samples(self) -> usize {
        let each = if self.bits_per_code == 4 { POINTS_A_CENTRE } else { POINTS_A_CENTRE_OF_MANY };
        self.centres() * each
    }

    /// Parts with those that fill a group up, when codes are of four bits.
    pub(crate) fn positions(self) -> usize {
        self.num_subquantizers.next_multiple_of(SCAN_STEP)
    }

    /// The numbers of a vector that a part holds.
    fn part(self, dim: usize, at: usize) -> std::ops::Range<usize> {
        let start = |at: usize| dim * at / self.num_subquantizers;
        start(at)..start(at + 1)
    }
}

/// What makes codes of vectors; it never changes.
#[derive(Clone, Debug)]
pub(crate) struct ProductQuantizer {
    dim: usize,
    shape: ProductShape,
    parts: Vec<Tiles>,
}

/// What the tables of a query add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sums {
    /// Inner products with what codes stand for.
    Products,
    /// Minus half of the squared distances from it. (Products less half of its squared length would be the same but for a
    /// constant, and nothing but noise where rows are far from the origin and near each other.)
    Nearness,
}

/// The tables of a query.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProductQuery {
    /// Of each part what its centres add: see [`Sums`].
    pub(crate) products: Vec<f32>,
    /// The same above the least of the part, in steps, as bytes: 16 a position.
    pub(crate) bytes: Lined<u8>,
    /// A sum of bytes stands for `least + step * sum`.
    pub(crate) least: f32,
    pub(crate) step: f32,
    /// Working memory of tables of [signs](super::Signs).
    pub(super) turned: Vec<f32>,
}

impl ProductQuantizer {
    /// Trains one part on vectors of `dim` numbers, one after the other. Parts
    /// do not depend on each other, and can be trained side by side.
    pub(crate) fn train_part(
        samples: &[f32],
        dim: usize,
        shape: ProductShape,
        at: usize,
        seed: u64,
    ) -> TrainedPart {
        let part = shape.part(dim, at);
        let step = (samples.len() / dim).div_ceil(shape.samples()).max(1);
        let vectors = samples.chunks_exact(dim).step_by(step);
        let mut points: Vec<f32> = memory::list(vectors.len() * part.len());
        vectors.for_each(|vector| memory::append(&mut points, &vector[part.clone()]));
        let level = kernels().level;
        let search = Search { count: shape.centres(), rounds: ROUNDS, seed: mix(seed ^ at as u64), level };
        TrainedPart(centres(&points, part.len(), search))
    }

    /// Of all parts, in order.
    pub(crate) fn of_parts(dim: usize, shape: ProductShape, parts: Vec<TrainedPart>) -> ProductQuantizer {
        ProductQuantizer::new(dim, shape, memory::collect(parts.into_iter().map(|part| part.0)))
    }

    fn new(dim: usize, shape: ProductShape, parts: Vec<Tiles>) -> ProductQuantizer {
        ProductQuantizer { dim, shape, parts }
    }

    /// The codes of a vector, one a byte.
    pub(crate) fn encode(&self, vector: &[f32], codes: &mut [u8]) {
        struct Encode<'a>(&'a ProductQuantizer, &'a [f32], &'a mut [u8]);
        impl ArchJob for Encode<'_> {
            type Output = ();

            #[inline(always)]
            fn run<A: Arch>(self, _arch: A) {
                let mut rest = self.1;
                for (tiles, code) in self.0.parts.iter().zip(self.2) {
                    let (part, others) = rest.split_at(tiles.dim().min(rest.len()));
                    *code = tiles.nearest(part).0 as u8;
                    rest = others;
                }
            }
        }
        kernels().level.run(Encode(self, vector, codes));
    }

    /// The codes of vectors that stand one after the other, and of each how far what they stand for
    /// is from it, squared: as [`ProductQuantizer::encode`], sixteen at once.
    pub(crate) fn encode_many(&self, vectors: &[f32], codes: &mut [u8], errors: &mut [f32]) {
        struct Encode<'a>(&'a ProductQuantizer, &'a [f32], &'a mut [u8], &'a mut [f32]);
        impl ArchJob for Encode<'_> {
            type Output = ();

            #[inline(always)]
            fn run<A: Arch>(self, _arch: A) {
                let Encode(quantizer, vectors, codes, errors) = self;
                let mut tile = Lined::filled(0.0, quantizer.widest_part() * TILE);
                let sixteen = vectors
                    .chunks(TILE * quantizer.dim)
                    .zip(codes.chunks_mut(TILE * quantizer.parts.len()))
                    .zip(errors.chunks_mut(TILE));
                for ((vectors, codes), errors) in sixteen {
                    quantizer.encode_tile(vectors, codes, errors, &mut tile);
                }
            }
        }
        kernels().level.run(Encode(self, vectors, codes, errors));
    }

    /// The same of sixteen vectors or fewer, which take turns in `tile`, a part after the other.
    #[inline(always)]
    fn encode_tile(&self, vectors: &[f32], codes: &mut [u8], errors: &mut [f32], tile: &mut [f32]) {
        errors.fill(0.0);
        let mut start = 0;
        for (part, tiles) in self.parts.iter().enumerate() {
            for (lane, vector) in vectors.chunks_exact(self.dim).enumerate() {
                let numbers = &vector[start..][..tiles.dim()];
                tile.chunks_exact_mut(TILE).zip(numbers).for_each(|(axis, x)| axis[lane] = *x);
            }
            let near = tiles.nearest_of_tile(tile);
            let rows = codes.chunks_exact_mut(self.parts.len()).zip(&mut *errors);
            for (lane, (codes, error)) in rows.take(TILE).enumerate() {
                codes[part] = near.of[lane] as u8;
                *error += near.numbers[lane];
            }
            start += tiles.dim();
        }
    }

    /// Numbers of the longest part.
    fn widest_part(&self) -> usize {
        self.parts.iter().map(Tiles::dim).max().unwrap_or(0)
    }

    /// What codes stand for.
    pub(crate) fn decode(&self, codes: &[u8], vector: &mut Vec<f32>) {
        vector.clear();
        for (tiles, code) in self.parts.iter().zip(codes) {
            memory::extend(vector, tiles.centre(usize::from(*code)));
        }
    }

    /// Makes the tables of a query.
    pub(crate) fn prepare(&self, level: Level, vector: &[f32], sums: Sums, query: &mut ProductQuery) {
        struct Prepare<'a>(&'a ProductQuantizer, &'a [f32], Sums, &'a mut ProductQuery);
        impl ArchJob for Prepare<'_> {
            type Output = ();

            #[inline(always)]
            fn run<A: Arch>(self, _arch: A) {
                let Prepare(quantizer, vector, sums, query) = self;
                quantizer.tables(vector, sums, query);
                if quantizer.shape.bits_per_code == 4 {
                    query.round(quantizer.shape);
                }
            }
        }
        level.run(Prepare(self, vector, sums, query));
    }

    #[inline(always)]
    fn tables(&self, vector: &[f32], sums: Sums, query: &mut ProductQuery) {
        // Whatever the lengths are: sums of all parts are finite.
        let most = f32::MAX / (4 * self.parts.len()) as f32;
        let centres = self.shape.centres();
        memory::resize(&mut query.products, self.parts.len() * centres, 0.0);
        let mut rest = vector;
        for (tiles, products) in self.parts.iter().zip(query.products.chunks_exact_mut(centres)) {
            let (part, others) = rest.split_at(tiles.dim().min(rest.len()));
            match sums {
                Sums::Products => tiles.products(part, products),
                Sums::Nearness => tiles.nearness(part, most, products),
            }
            rest = others;
        }
    }

    pub(crate) fn save(&self, out: &mut Encoder) {
        out.size(self.shape.num_subquantizers);
        out.size(self.shape.bits_per_code);
        self.parts.iter().for_each(|tiles| save_part(tiles, self.shape, out));
    }

    /// Reads a quantizer of this shape for vectors of `dim` numbers.
    pub(crate) fn load(
        dim: usize,
        shape: ProductShape,
        input: &mut Decoder<'_>,
    ) -> Result<ProductQuantizer, Malformed> {
        let same = input.size()? == shape.num_subquantizers && input.size()? == shape.bits_per_code;
        input.check(same, "codes are cut otherwise")?;
        let mut parts = Vec::new();
        for at in 0..shape.num_subquantizers {
            memory::push(&mut parts, TrainedPart::load(dim, shape, at, input)?.0);
        }
        Ok(ProductQuantizer::new(dim, shape, parts))
    }

    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        let parts: usize = self.parts.iter().map(|tiles| size_of::<Tiles>() + tiles.bytes()).sum();
        size_of::<ProductQuantizer>() + parts
    }
}

/// A part that was trained.
#[derive(Clone, Debug)]
pub(crate) struct TrainedPart(Tiles);

impl TrainedPart {
    pub(crate) fn save(&self, shape: ProductShape, out: &mut Encoder) {
        save_part(&self.0, shape, out);
    }

    /// Reads part `at` of vectors of `dim` numbers.
    pub(crate) fn load(
        dim: usize,
        shape: ProductShape,
        at: usize,
        input: &mut Decoder<'_>,
    ) -> Result<TrainedPart, Malformed> {
        let len = shape.part(dim, at).len();
        let values = input.floats(len * shape.centres())?;
        input.check(values.iter().all(|value| value.is_finite()), "a centre is no vector")?;
        Ok(TrainedPart(Tiles::new(&values, len)))
    }

    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

fn save_part(tiles: &Tiles, shape: ProductShape, out: &mut Encoder) {
    (0..shape.centres()).for_each(|centre| tiles.centre(centre).for_each(|value| out.f32(value)));
}

impl ProductQuery {
    /// Rounds the products to bytes: one step for all parts, so that sums of
    /// bytes mean something, as fine as the widest part and the sum allow.
    #[inline(always)]
    pub(super) fn round(&mut self, shape: ProductShape) {
        let parts = shape.num_subquantizers;
        let mut lows = [0f32; TILE];
        let (mut widest, mut least) = (0f32, 0f32);
        self.bytes.fill_anew(0, shape.positions() * SCAN_POSITION);
        // By halves: a few vector instructions a table.
        let range = |products: &[f32; TILE]| {
            let (mut lows, mut highs) = (*products, *products);
            for half in [8, 4, 2, 1] {
                for lane in 0..half {
                    let (low, high) = (lows[lane + half], highs[lane + half]);
                    lows[lane] = if low < lows[lane] { low } else { lows[lane] };
                    highs[lane] = if high > highs[lane] { high } else { highs[lane] };
                }
            }
            (lows[0], highs[0] - lows[0])
        };
        let (tables, _) = self.products.as_chunks::<TILE>();
        for table in tables {
            let (low, width) = range(table);
            widest = if width > widest { width } else { widest };
            least += low;
        }
        let largest = (LARGEST_SUM / parts as f32).floor().min(255.0);
        let inverse = if widest > 0.0 { largest / widest } else { 0.0 };
        // Differences so small that their inverse is infinite count as none.
        let inverse = if inverse.is_finite() { inverse } else { 0.0 };
        for (table, bytes) in tables.iter().zip(self.bytes.as_chunks_mut::<SCAN_POSITION>().0) {
            let low = range(table).0;
            lows.fill(low);
            for lane in 0..TILE {
                bytes[lane] = nearest_byte((table[lane] - lows[lane]) * inverse);
            }
        }
        self.least = least;
        self.step = if inverse > 0.0 { 1.0 / inverse } else { 0.0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Portable;

    fn vectors(count: usize, dim: usize, seed: u64) -> Vec<f32> {
        let unit = |key: u64| (mix(key) >> 40) as f32 / (1 << 24) as f32 - 0.5;
        (0..(count * dim) as u64).map(|at| unit(seed << 32 ^ at) * (1 + at % 5) as f32).collect()
    }

    fn trained(samples: &[f32], dim: usize, shape: ProductShape) -> ProductQuantizer {
        let part = |at| ProductQuantizer::train_part(samples, dim, shape, at, 1);
        ProductQuantizer::of_parts(dim, shape, (0..shape.num_subquantizers).map(part).collect())
    }

    const SHAPES: [(usize, ProductShape); 4] = [
        (12, ProductShape { num_subquantizers: 4, bits_per_code: 4 }),
        (17, ProductShape { num_subquantizers: 5, bits_per_code: 4 }),
        (6, ProductShape { num_subquantizers: 6, bits_per_code: 8 }),
        (1, ProductShape { num_subquantizers: 1, bits_per_code: 4 }),
    ];

    fn squared(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
    }

    #[test]
    fn a_code_stands_for_the_nearest_centres_and_more_bits_err_less() {
        let samples = vectors(3_000, 12, 1);
        let error = |bits_per_code| {
            let quantizer = trained(&samples, 12, ProductShape { num_subquantizers: 4, bits_per_code });
            let (mut codes, mut decoded) = ([0; 4], Vec::new());
            let error = |vector: &[f32]| {
                quantizer.encode(vector, &mut codes);
                quantizer.decode(&codes, &mut decoded);
                squared(vector, &decoded)
            };
            samples.chunks_exact(12).map(error).sum::<f32>() / samples.iter().map(|x| x * x).sum::<f32>()
        };
        let (four, eight) = (error(4), error(8));
        assert!(eight < four / 3.0 && four < 0.4, "{four} {eight}");
    }

    #[test]
    fn vectors_together_get_the_codes_that_each_gets_alone() {
        for (dim, shape) in SHAPES {
            let quantizer = trained(&vectors(600, dim, 2), dim, shape);
            let parts = shape.num_subquantizers;
            for count in [0, 1, 15, 16, 37] {
                let rows = vectors(count, dim, 7);
                let (mut codes, mut errors) = (vec![77; count * parts], vec![f32::NAN; count]);
                quantizer.encode_many(&rows, &mut codes, &mut errors);
                let (mut alone, mut decoded) = (vec![0; parts], Vec::new());
                for (at, row) in rows.chunks_exact(dim).enumerate() {
                    quantizer.encode(row, &mut alone);
                    assert_eq!(codes[at * parts..][..parts], alone);
                    quantizer.decode(&alone, &mut decoded);
                    let error = squared(row, &decoded);
                    assert!((errors[at] - error).abs() <= error * 1e-5, "{} {error}", errors[at]);
                }
            }
        }
    }

    #[test]
    fn tables_give_the_products_of_a_query_with_what_codes_stand_for() {
        for (dim, shape) in SHAPES {
            let samples = vectors(600, dim, 2);
            let quantizer = trained(&samples, dim, shape);
            let (mut query, mut plain) = (ProductQuery::default(), ProductQuery::default());
            let vector = &vectors(1, dim, 9);
            quantizer.prepare(kernels().level, vector, Sums::Products, &mut query);
            quantizer.prepare(Level::Portable(Portable), vector, Sums::Products, &mut plain);
            assert_eq!((&query.products, &query.bytes), (&plain.products, &plain.bytes));
            let (mut codes, mut decoded) = (vec![0; shape.num_subquantizers], Vec::new());
            for sample in samples.chunks_exact(dim) {
                quantizer.encode(sample, &mut codes);
                quantizer.decode(&codes, &mut decoded);
                let product: f32 = vector.iter().zip(&decoded).map(|(x, y)| x * y).sum();
                let code = |at: usize| usize::from(codes[at]);
                let table: f32 =
                    (0..codes.len()).map(|at| query.products[at * shape.centres() + code(at)]).sum();
                assert!((product - table).abs() < 1e-4, "{product} {table}");
                if shape.bits_per_code == 4 {
                    let bytes =
                        (0..codes.len()).map(|at| u32::from(query.bytes[at * SCAN_POSITION + code(at)]));
                    let rounded = query.least + query.step * bytes.sum::<u32>() as f32;
                    let most = query.step * 0.51 * codes.len() as f32 + 1e-4;
                    assert!((rounded - product).abs() <= most, "{rounded} {product} {most}");
                }
            }
        }
    }

    /// Squared error of the plainest k-means: rows drawn at random, then
    /// Lloyd's rounds until nothing changes.
    fn plain_error(points: &[&[f32]], centres: usize, seed: u64) -> f64 {
        let squared = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum() };
        let draw = |at: usize| points[mix(seed ^ mix(at as u64)) as usize % points.len()].to_vec();
        let mut means: Vec<Vec<f32>> = (0..centres).map(draw).collect();
        let mut last = f64::INFINITY;
        loop {
            let (mut sums, mut counts) = (vec![vec![0f32; points[0].len()]; centres], vec![0f32; centres]);
            let mut error = 0.0;
            for point in points {
                let all = means.iter().map(|mean| squared(point, mean)).zip(0..);
                let (least, at) = all.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
                error += f64::from(least);
                counts[at] += 1.0;
                sums[at].iter_mut().zip(*point).for_each(|(sum, x)| *sum += x);
            }
            if error >= last {
                return error;
            }
            last = error;
            for ((mean, sum), count) in
                means.iter_mut().zip(sums).zip(counts).filter(|(_, count)| *count > 0.0)
            {
                *mean = sum.iter().map(|sum| sum / count).collect();
            }
        }
    }

    #[test]
    fn codes_err_little_more_than_those_of_the_best_of_three_plain_k_means() {
        let shape = ProductShape { num_subquantizers: 4, bits_per_code: 4 };
        let samples = vectors(3_000, 16, 6);
        let quantizer = trained(&samples, 16, shape);
        let (mut codes, mut decoded, mut error) = (vec![0; 4], Vec::new(), 0.0);
        for sample in samples.chunks_exact(16) {
            quantizer.encode(sample, &mut codes);
            quantizer.decode(&codes, &mut decoded);
            error += sample.iter().zip(&decoded).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>();
        }
        let plain: f64 = (0..4)
            .map(|at| {
                let points: Vec<&[f32]> =
                    samples.chunks_exact(16).map(|sample| &sample[shape.part(16, at)]).collect();
                (0..3).map(|seed| plain_error(&points, 16, seed)).fold(f64::INFINITY, f64::min)
            })
            .sum();
        assert!(error <= plain * 1.05, "{error} {plain}");
    }

    #[test]
    fn many_parts_never_overflow_a_sum() {
        let shape = ProductShape { num_subquantizers: 1_000, bits_per_code: 4 };
        let mut query = ProductQuery { products: vec![0.0; 16_000], ..ProductQuery::default() };
        query.products.chunks_exact_mut(16).for_each(|table| table[3] = 1e6);
        query.round(shape);
        let most: u32 =
            query.bytes.chunks_exact(16).map(|table| u32::from(*table.iter().max().unwrap())).sum();
        assert!((60_000..=65_535).contains(&most), "{most}");
    }

    #[test]
    fn a_quantizer_is_read_back_as_it_was_and_damage_is_noticed() {
        for (dim, shape) in SHAPES {
            let quantizer = trained(&vectors(300, dim, 4), dim, shape);
            let mut out = Encoder::default();
            quantizer.save(&mut out);
            let bytes = out.into_bytes();
            let read = ProductQuantizer::load(dim, shape, &mut Decoder::new(&bytes)).unwrap();
            assert_eq!(read.parts, quantizer.parts);
            for cut in [0, 8, 16, bytes.len() - 1] {
                assert!(ProductQuantizer::load(dim, shape, &mut Decoder::new(&bytes[..cut])).is_err());
            }
            let other = ProductShape { num_subquantizers: shape.num_subquantizers + 1, ..shape };
            assert!(ProductQuantizer::load(dim, other, &mut Decoder::new(&bytes)).is_err());
        }
    }
}
