//! Which shape suits some rows, when nobody says.
//!
//! Found by trying: the smallest code by whose estimates the nearest rows of a
//! sample stand in front. Real collections differ too much for a rule on the
//! dimension alone: 384 dimensions of text embeddings spread evenly and need
//! the room that 784 pixels, which spread along few directions, do not.

use super::codec::{Codec, Encoder};
use super::principal::Sample;
use super::query::{CodeQuery, Measure};
use super::shape::{Bits, Shape};
use crate::kernel::kernels;
use crate::memory;
use crate::pause::pause;

/// The shapes that are tried, smallest first.
const CANDIDATES: [Shape; 6] = [
    Shape { bits: Bits::Seven, lines: 1 },
    Shape { bits: Bits::Four, lines: 1 },
    Shape { bits: Bits::Seven, lines: 2 },
    Shape { bits: Bits::Four, lines: 2 },
    Shape { bits: Bits::Four, lines: 3 },
    Shape { bits: Bits::Four, lines: 4 },
];

/// Rows among which the nearest are sought, and numbers in them: as many as a
/// codec is trained on. Fewer lie further apart and are easier to tell.
const ROWS: usize = 4_096;
const NUMBERS: usize = 4 << 20;

/// Rows that are used as queries: the share of hits is then known to about one
/// in a hundred.
const QUERIES: usize = 256;

/// The nearest of each query that count. They must stand in as many first
/// places by estimate; the place after the last is already a miss.
const NEAREST: usize = 10;

/// The share of the nearest that must stand there. Among ten or a hundred times
/// the rows it is less, but what is missed there stands within a few more
/// places, which re-ranking sees; a larger code costs every step of every
/// search. Measured on Fashion-MNIST (784 dimensions) and text embeddings
/// (384): four bits and one line reach 0.88 and 0.73 and search slower than
/// four bits and two lines with 0.95 and 0.91.
const ENOUGH: f32 = 0.9;

/// The smallest shape that keeps the nearest rows of the samples (as
/// [`Codec::train`] takes them) in front; the largest when none does, and of
/// two of one size the better. Takes less than a few trainings.
pub(crate) fn choose(samples: &[f32], dim: usize, centred: bool, seed: u64) -> Shape {
    let useful: Vec<Shape> = CANDIDATES.into_iter().filter(|shape| is_useful(*shape, dim)).collect();
    if let [only] = useful[..] {
        return only;
    }
    let sample = Sample::new(samples, dim, centred);
    let spread = sample.spread(kernels());
    let trial = Trial::new(samples, dim, centred);
    let mut best = CANDIDATES[0];
    for shapes in useful.chunk_by(|a, b| a.lines == b.lines) {
        let rank = shapes.iter().map(|shape| shape.coordinates()).max().unwrap_or(0).min(dim);
        let directions = spread.directions(rank, seed);
        let codec = |shape| Codec::with_directions(shape, sample.mean.clone(), &directions, seed, kernels());
        let shares = shapes.iter().map(|shape| (trial.share(&codec(*shape)), *shape));
        if let Some((share, shape)) = shares.max_by(|a, b| a.0.total_cmp(&b.0)) {
            best = shape;
            if share >= ENOUGH {
                break;
            }
        }
    }
    best
}

/// Whether no smaller shape holds as much, and none of the same size holds all
/// dimensions with more bits.
fn is_useful(shape: Shape, dim: usize) -> bool {
    let holds_all = |shape: Shape| shape.coordinates() >= dim;
    let Shape { bits, lines } = shape;
    let smaller = (1..lines).any(|lines| holds_all(Shape { bits, lines }));
    let finer = bits == Bits::Four && (1..=lines).any(|lines| holds_all(Shape { bits: Bits::Seven, lines }));
    !smaller && !finer
}

/// Rows, some of them queries, and how far the nearest of those are.
struct Trial<'a> {
    rows: Vec<&'a [f32]>,
    queries: Vec<Query>,
    measure: Measure,
}

struct Query {
    row: usize,
    /// To each row; infinite to itself.
    exact: Vec<f32>,
    /// To the last of the nearest.
    bound: f32,
}

impl<'a> Trial<'a> {
    /// Rows and queries at even distances.
    fn new(samples: &'a [f32], dim: usize, centred: bool) -> Trial<'a> {
        let count = samples.len() / dim;
        let wanted = count.min(ROWS).min((NUMBERS / dim).max(1));
        let rows: Vec<&[f32]> = (0..wanted).map(|at| &samples[at * count / wanted * dim..][..dim]).collect();
        let measure = if centred { Measure::SquaredL2 } else { Measure::NegatedDot };
        let queries = wanted.min(QUERIES);
        let queries = (0..queries).map(|at| Query::new(at * wanted / queries, &rows, measure)).collect();
        Trial { rows, queries, measure }
    }

    /// The share of the nearest that stand in front by estimate.
    fn share(&self, codec: &Codec) -> f32 {
        let words = codec.shape().words();
        let mut blocks = memory::filled(0u32, words * self.rows.len());
        let mut work = Encoder::default();
        for (at, (row, block)) in self.rows.iter().zip(blocks.chunks_exact_mut(words)).enumerate() {
            pause();
            codec.encode(row, at as u32, &mut work, block);
        }
        let mut bytes: Vec<u8> = memory::list(size_of_val(blocks.as_slice()));
        bytes.extend(blocks.iter().flat_map(|word| word.to_ne_bytes()));
        let blocks: Vec<&[u8]> = bytes.chunks_exact(words * size_of::<u32>()).collect();
        let (mut found, mut sought) = (0, 0);
        let mut query = CodeQuery::default();
        let mut estimates = vec![0.0; blocks.len()];
        for asked in &self.queries {
            pause();
            codec.prepare(self.rows[asked.row], self.measure, &mut query);
            codec.estimates(&query, &blocks, &mut estimates);
            found += asked.found(&mut estimates);
            sought += NEAREST.min(blocks.len() - 1);
        }
        if sought == 0 { 1.0 } else { found as f32 / sought as f32 }
    }
}

impl Query {
    fn new(row: usize, rows: &[&[f32]], measure: Measure) -> Query {
        pause();
        let kernels = kernels();
        let distance = |other: &&[f32]| match measure {
            Measure::SquaredL2 => (kernels.l2)(rows[row], other),
            Measure::NegatedDot => -(kernels.dot)(rows[row], other),
        };
        let mut exact: Vec<f32> = memory::collect(rows.iter().map(distance));
        exact[row] = f32::INFINITY;
        let mut sorted = memory::copied(&exact);
        let last = (NEAREST - 1).min(sorted.len() - 1);
        let bound = *sorted.select_nth_unstable_by(last, f32::total_cmp).1;
        Query { row, exact, bound }
    }

    /// How many of the nearest stand in front by estimate. Rows as
    /// near as the last of them count as well: they are no worse an answer.
    fn found(&self, estimates: &mut [f32]) -> usize {
        estimates[self.row] = f32::INFINITY;
        let mut order: Vec<usize> = (0..estimates.len()).collect();
        let places = NEAREST.min(order.len());
        order.select_nth_unstable_by(places - 1, |a, b| estimates[*a].total_cmp(&estimates[*b]));
        let near = |row: &&usize| **row != self.row && self.exact[**row] <= self.bound;
        order[..places].iter().filter(near).count().min(NEAREST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::basis::{Directions, random_rows};

    /// Rows that spread alike along some directions and hardly along the others.
    fn rows(count: usize, dim: usize, wide: usize) -> Vec<f32> {
        let mut rows = random_rows(count, dim, &mut Directions::new(9));
        rows.chunks_exact_mut(dim).for_each(|row| row[wide..].iter_mut().for_each(|value| *value *= 1e-3));
        rows
    }

    fn shape(bits: Bits, lines: usize) -> Shape {
        Shape { bits, lines }
    }

    #[test]
    fn few_dimensions_take_one_line_without_a_trial() {
        for dim in [1, 3, 50, 52] {
            assert_eq!(choose(&rows(100, dim, dim), dim, true, 1), shape(Bits::Seven, 1));
        }
    }

    #[test]
    fn many_dimensions_of_little_spread_take_one_line() {
        assert_eq!(choose(&rows(1000, 300, 20), 300, true, 1).lines, 1);
    }

    #[test]
    fn dimensions_that_all_matter_take_the_room_they_need() {
        for (dim, least) in [(200, 2), (340, 3), (900, 4)] {
            assert_eq!(choose(&rows(1000, dim, dim), dim, true, 1), shape(Bits::Four, least), "{dim}");
        }
    }

    #[test]
    fn no_shape_wastes_lines() {
        let useful =
            |dim| CANDIDATES.into_iter().filter(move |shape| is_useful(*shape, dim)).collect::<Vec<_>>();
        assert_eq!(useful(52), [shape(Bits::Seven, 1)]);
        assert_eq!(useful(64), [shape(Bits::Seven, 1), shape(Bits::Four, 1), shape(Bits::Seven, 2)]);
        assert_eq!(useful(116), [shape(Bits::Seven, 1), shape(Bits::Four, 1), shape(Bits::Seven, 2)]);
        assert_eq!(useful(117).last(), Some(&shape(Bits::Four, 2)));
        assert_eq!(useful(784), CANDIDATES);
    }

    #[test]
    fn anything_can_be_chosen_for() {
        for dim in [1, 60, 300] {
            for count in [0, 1, 2, 11] {
                for centred in [true, false] {
                    choose(&vec![0.0; count * dim], dim, centred, 1);
                    choose(&rows(count, dim, dim), dim, centred, 1);
                }
            }
        }
    }
}
