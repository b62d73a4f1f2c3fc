//! What estimates are worth, and what odd rows do.

use super::basis::{Directions, random_rows};
use super::block::{HEADER, Header};
use super::*;
use crate::kernel::kernels;
use crate::pause::pauses_of;

/// The root of the mean squared error of an estimated squared distance, in
/// parts of it, over random rows of which nothing is projected away. Half a
/// step in each coordinate, some 60 of them: with 4 bits a step is about a
/// third of the spread, with 7 bits a 25th.
const ERROR_FOUR: f32 = 0.02;
const ERROR_SEVEN: f32 = 0.005;

const SHAPES: [Shape; 5] = [
    Shape { bits: Bits::Seven, lines: 1 },
    Shape { bits: Bits::Four, lines: 1 },
    Shape { bits: Bits::Seven, lines: 2 },
    Shape { bits: Bits::Four, lines: 2 },
    Shape { bits: Bits::Four, lines: 3 },
];

fn random(count: usize, dim: usize, seed: u64) -> Vec<f32> {
    random_rows(count, dim, &mut Directions::new(seed))
}

/// Rows around `clusters` far centres.
fn clustered(count: usize, dim: usize, clusters: usize) -> Vec<f32> {
    let centres = random(clusters, dim, 5);
    let mut rows = random(count, dim, 6);
    for (number, row) in rows.chunks_exact_mut(dim).enumerate() {
        let centre = &centres[number % clusters * dim..][..dim];
        row.iter_mut().zip(centre).for_each(|(value, centre)| *value = *value * 0.2 + 10.0 * centre);
    }
    rows
}

/// Rows as blocks of a codec.
struct Coded {
    bytes: Vec<u8>,
    block: usize,
}

impl Coded {
    fn new(codec: &Codec, rows: &[f32], dim: usize) -> Coded {
        let mut work = Encoder::default();
        let mut words = vec![u32::MAX; codec.shape().words()];
        let mut bytes = Vec::new();
        for (number, row) in rows.chunks_exact(dim).enumerate() {
            codec.encode(row, number as u32, &mut work, &mut words);
            bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        }
        Coded { bytes, block: words.len() * 4 }
    }

    fn blocks(&self) -> Vec<&[u8]> {
        self.bytes.chunks_exact(self.block).collect()
    }
}

fn estimates(codec: &Codec, query: &CodeQuery, coded: &Coded) -> Vec<f32> {
    let blocks = coded.blocks();
    let mut out = vec![f32::NAN; blocks.len()];
    codec.estimates(query, &blocks, &mut out);
    out
}

fn estimates_of(codec: &Codec, vector: &[f32], measure: Measure, coded: &Coded) -> Vec<f32> {
    let mut query = CodeQuery::default();
    codec.prepare(vector, measure, &mut query);
    estimates(codec, &query, coded)
}

/// The root of the mean of the squares.
fn spread(errors: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) = errors.fold((0.0, 0), |(sum, count), error| (sum + error * error, count + 1));
    (sum / count as f32).sqrt()
}

#[test]
fn estimates_are_close_where_nothing_is_projected_away() {
    for (bits, bound) in [(Bits::Four, ERROR_FOUR), (Bits::Seven, ERROR_SEVEN)] {
        for dim in [50, 64, 100] {
            for rows in [random(300, dim, 1), clustered(300, dim, 7)] {
                let codec = Codec::train(&rows, dim, Shape { bits, lines: 2 }, true, 3);
                let coded = Coded::new(&codec, &rows, dim);
                let query = &random(1, dim, 2);
                let errors = estimates_of(&codec, query, Measure::SquaredL2, &coded).into_iter();
                let errors = errors.zip(rows.chunks_exact(dim)).map(|(estimate, row)| {
                    let exact = (kernels().l2)(query, row);
                    (estimate - exact) / exact
                });
                let error = spread(errors);
                assert!(error < bound, "{bits:?} {dim}: {error}");
            }
        }
    }
}

#[test]
fn inner_products_are_estimated_around_the_origin() {
    for dim in [50, 100] {
        let rows = clustered(300, dim, 5);
        let codec = Codec::train(&rows, dim, Shape { bits: Bits::Seven, lines: 2 }, false, 3);
        let coded = Coded::new(&codec, &rows, dim);
        let query = &rows[dim..2 * dim];
        let length = (kernels().dot)(query, query);
        let got = estimates_of(&codec, query, Measure::NegatedDot, &coded);
        let errors = got
            .iter()
            .zip(rows.chunks_exact(dim))
            .map(|(got, row)| (got + (kernels().dot)(query, row)) / length);
        let error = spread(errors);
        assert!(error < ERROR_SEVEN, "{dim}: {error}");
        assert!(got[1] < -0.9 * length, "negated");
    }
}

#[test]
fn rows_of_the_own_cluster_stand_in_front_in_every_shape() {
    for dim in [50, 100, 785] {
        let rows = clustered(400, dim, 8);
        for shape in SHAPES {
            let codec = Codec::train(&rows, dim, shape, true, 3);
            let coded = Coded::new(&codec, &rows, dim);
            for query in 0..8 {
                let got = estimates_of(&codec, &rows[query * dim..][..dim], Measure::SquaredL2, &coded);
                let (own, others): (Vec<usize>, _) = (0..got.len()).partition(|row| row % 8 == query);
                let farthest = own.iter().map(|row| got[*row]).fold(0.0, f32::max);
                assert!(others.iter().all(|row| got[*row] > farthest), "{shape:?} {dim}");
            }
        }
    }
}

#[test]
fn projecting_keeps_the_directions_of_most_spread() {
    // 30 directions of a spread of 1 and 200 of 0.01, hidden by a rotation.
    let (count, dim, wide) = (600, 230, 30);
    let mut rotation = random(dim, dim, 1);
    basis::orthonormalise(&mut rotation, dim, 2, &kernels(), &mut Directions::new(2));
    let mut weights = random(count, dim, 3);
    weights.chunks_exact_mut(dim).for_each(|row| row[wide..].iter_mut().for_each(|value| *value *= 0.01));
    let rows = principal::combine(&weights, &rotation, dim, dim);
    let codec = Codec::train(&rows, dim, Shape { bits: Bits::Seven, lines: 1 }, true, 3);
    let coded = Coded::new(&codec, &rows, dim);
    let got = estimates_of(&codec, &rows[..dim], Measure::SquaredL2, &coded);
    let errors = got.iter().zip(rows.chunks_exact(dim)).skip(1).map(|(got, row)| {
        let exact = (kernels().l2)(&rows[..dim], row);
        (got - exact) / exact
    });
    let error = spread(errors);
    assert!(error < 0.02, "{error}");
}

#[test]
fn fewer_rows_than_dimensions_span_what_is_kept() {
    let (count, dim) = (40, 785);
    let rows = random(count, dim, 4);
    let codec = Codec::train(&rows, dim, Shape { bits: Bits::Seven, lines: 1 }, true, 3);
    let coded = Coded::new(&codec, &rows, dim);
    let got = estimates_of(&codec, &rows[..dim], Measure::SquaredL2, &coded);
    let errors = got.iter().zip(rows.chunks_exact(dim)).skip(1).map(|(got, row)| {
        let exact = (kernels().l2)(&rows[..dim], row);
        (got - exact) / exact
    });
    let error = spread(errors);
    assert!(error < 0.02, "{error}");
}

#[test]
fn a_block_as_a_query_is_what_its_codes_say() {
    for shape in SHAPES {
        for dim in [1, 3, 50, 100, 300] {
            let rows = random(70, dim, 1);
            let codec = Codec::train(&rows, dim, shape, true, 3);
            let coded = Coded::new(&codec, &rows, dim);
            let blocks = coded.blocks();
            let mut query = CodeQuery::default();
            codec.prepare_block(blocks[5], &mut query);
            let got = estimates(&codec, &query, &coded);
            let rank = shape.coordinates().min(dim);
            let numbers =
                |block: &[u8]| -> Vec<f64> { (0..rank).map(|at| number(shape, block, at)).collect() };
            let (own, own_header) = (numbers(blocks[5]), Header::read(blocks[5]));
            for (got, block) in got.iter().zip(&blocks) {
                let header = Header::read(block);
                let product: f64 = own.iter().zip(numbers(block)).map(|(a, b)| a * b).sum();
                let scale = f64::from(own_header.scale) * f64::from(header.scale);
                let lengths = f64::from(own_header.squared_length) + f64::from(header.squared_length);
                let exact = (lengths - 2.0 * scale * product).max(0.0);
                assert!((f64::from(*got) - exact).abs() <= 1e-5 * lengths, "{got} {exact}");
            }
        }
    }
}

/// What a coordinate of a block stands for, but for the scale.
fn number(shape: Shape, block: &[u8], at: usize) -> f64 {
    match shape.bits {
        Bits::Seven => f64::from(block[HEADER + at]) - 64.0,
        Bits::Four => {
            let half = block.len() - HEADER;
            let byte = block[HEADER + at % half];
            f64::from(if at < half { byte & 15 } else { byte >> 4 }) - 7.5
        }
    }
}

#[test]
fn blocks_name_their_rows_and_end_in_zeros() {
    let (dim, shape) = (3, Shape { bits: Bits::Four, lines: 2 });
    let rows = random(9, dim, 1);
    let codec = Codec::train(&rows, dim, shape, true, 3);
    for (number, block) in Coded::new(&codec, &rows, dim).blocks().iter().enumerate() {
        assert_eq!((block.len(), row_of(block)), (128, number as u32));
        assert!(block[HEADER + dim..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn the_same_rows_and_seed_give_the_same_codec() {
    for dim in [1, 50, 100, 300] {
        for count in [20, 500] {
            let rows = random(count, dim, 1);
            let shape = Shape { bits: Bits::Four, lines: 1 };
            let digest = |seed| Codec::train(&rows, dim, shape, true, seed).digest();
            assert_eq!(digest(1), digest(1));
            assert!(dim == 1 || digest(1) != digest(2), "{dim}");
            let other = Codec::train(&rows, dim, Shape { lines: 2, ..shape }, true, 1);
            assert_ne!(digest(1), other.digest());
        }
    }
}

#[test]
fn training_pauses_many_times() {
    let (count, dim) = (600, 300);
    let rows = random(count, dim, 1);
    let shape = Shape { bits: Bits::Four, lines: 1 };
    let product = ProductShape { num_subquantizers: 2, bits_per_code: 8 };
    let trainings = [
        ("codec", pauses_of(|| drop(Codec::train(&rows, dim, shape, true, 1)))),
        ("sieve", pauses_of(|| drop(Sieve::train(&rows, dim, true, 1)))),
        ("products", pauses_of(|| drop(ProductQuantizer::train_part(&rows, dim, product, 0, 1)))),
        ("shape", pauses_of(|| _ = choose(&rows, dim, true, 1))),
    ];
    for ((name, pauses), least) in trainings.into_iter().zip([3_000, 4_000, 250, 6_000]) {
        assert!(pauses >= least, "{name}: {pauses}");
    }
}

#[test]
fn odd_rows_give_numbers() {
    let shapes = SHAPES.into_iter();
    for (shape, dim) in shapes.flat_map(|shape| [1, 2, 3, 50, 64, 100, 785].map(|dim| (shape, dim))) {
        let far = if dim == 1 { 6e18 } else { 6e18 / (dim as f32).sqrt() };
        let mut spike = vec![0.0; dim];
        spike[dim - 1] = 1.0;
        let odd =
            [vec![0.0; dim], vec![far; dim], vec![-far; dim], vec![1e-40; dim], vec![1e-25; dim], spike];
        let mut sets: Vec<Vec<f32>> = vec![vec![], odd.concat(), vec![2.5; 7 * dim]];
        sets.extend(odd.iter().cloned());
        for samples in &sets {
            for centred in [true, false] {
                let codec = Codec::train(samples, dim, shape, centred, 3);
                let coded = Coded::new(&codec, &odd.concat(), dim);
                let mut query = CodeQuery::default();
                for (vector, block) in odd.iter().zip(coded.blocks()) {
                    let got = estimates_of(&codec, vector, Measure::SquaredL2, &coded);
                    assert!(got.iter().all(|estimate| *estimate >= 0.0 && estimate.is_finite()), "{got:?}");
                    codec.prepare_block(block, &mut query);
                    let got = estimates(&codec, &query, &coded);
                    assert!(got.iter().all(|estimate| *estimate >= 0.0 && estimate.is_finite()), "{got:?}");
                    if !centred {
                        let got = estimates_of(&codec, vector, Measure::NegatedDot, &coded);
                        assert!(got.iter().all(|estimate| estimate.is_finite()), "{got:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_vector_at_the_mean_is_all_zeros() {
    let dim = 60;
    let rows = vec![2.5; 5 * dim];
    let codec = Codec::train(&rows, dim, Shape { bits: Bits::Four, lines: 1 }, true, 3);
    let coded = Coded::new(&codec, &rows, dim);
    for block in coded.blocks() {
        assert!(block[..8].iter().chain(&block[HEADER..]).all(|byte| *byte == 0));
    }
    let got = estimates_of(&codec, &rows[..dim], Measure::SquaredL2, &coded);
    assert_eq!(got, [0.0; 5]);
    assert!(codec.bytes() > 60 * 64);
}
