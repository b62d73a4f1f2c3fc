//! Training: the mean of the rows and the directions in which they spread most.
//!
//! Subspace iteration (Halko, Martinsson, Tropp 2011) on the covariance of the
//! rows, or, where there are fewer rows than dimensions, on the products of the
//! rows with each other, which has the same spectrum.

use super::arithmetic::{add_scaled, largest_magnitude};
use super::basis::{Directions, orthonormalise, random_rows};
use crate::kernel::Kernels;
use crate::memory;
use crate::pause::pause;

/// Vectors of more dimensions are not trained on: time and memory grow with
/// them, and a code of a few hundred coordinates says ever less.
pub(crate) const MAX_TRAINED: usize = 8_192;

/// Rows that are looked at: several times the coordinates of a code, so that
/// the directions fit rows that were not looked at.
const MAX_ROWS: usize = 4_096;

/// Numbers that are looked at: fewer rows of many dimensions, so that the
/// products take less than about half a second.
const MAX_NUMBERS: usize = 4 << 20;

/// Rounds of the iteration. What matters is the spread that is caught, not that
/// each direction is exact: on Fashion-MNIST it no longer grows in the fourth digit.
const ROUNDS: usize = 5;

/// Dimensions that products are taken over at a time, and rows of which all
/// products are taken before others are read: two sets of them, 32 KB, stay in
/// the first cache.
const CHUNK: usize = 256;
const TILE: usize = 16;

/// Rows that a codec is trained on.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) mean: Vec<f32>,
    /// Rows less the mean, scaled so that the largest magnitude is 1.
    rows: Vec<f32>,
    dim: usize,
}

impl Sample {
    /// Takes rows at even distances. `centred` = false leaves the mean at 0.
    pub(super) fn new(samples: &[f32], dim: usize, centred: bool) -> Sample {
        let count = samples.len() / dim;
        let wanted = count.min(MAX_ROWS).min((MAX_NUMBERS / dim).max(1));
        let taken = (0..wanted).map(|at| {
            let row = at * count / wanted;
            &samples[row * dim..][..dim]
        });
        let mut sums = vec![0f64; dim];
        if centred {
            for row in taken.clone() {
                pause();
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
            }
        }
        let mean: Vec<f32> = sums.iter().map(|sum| (sum / wanted.max(1) as f64) as f32).collect();
        let mut rows = memory::list(wanted * dim);
        for row in taken {
            pause();
            rows.extend(row.iter().zip(&mean).map(|(value, mean)| value - mean));
        }
        let largest = largest_magnitude(&rows);
        if largest > 0.0 {
            rows.iter_mut().for_each(|value| *value /= largest);
        }
        Sample { mean, rows, dim }
    }

    /// How the rows spread: what directions are found from.
    pub(super) fn spread(&self, kernels: Kernels) -> Spread<'_> {
        let (dim, count) = (self.dim, self.rows.len() / self.dim);
        let matrix = if count > dim {
            products(&transpose(&self.rows, dim), dim, count, &kernels)
        } else {
            products(&self.rows, count, dim, &kernels)
        };
        Spread { sample: self, matrix, kernels }
    }
}

/// The covariance of the rows of a sample, or the products of the rows with
/// each other where there are fewer rows than dimensions.
pub(super) struct Spread<'a> {
    sample: &'a Sample,
    matrix: Vec<f32>,
    kernels: Kernels,
}

impl Spread<'_> {
    /// `rank` orthonormal directions, those of the most spread first. Where the
    /// rows span fewer, the last are random.
    pub(super) fn directions(&self, rank: usize, seed: u64) -> Vec<f32> {
        let Sample { rows, dim, .. } = self.sample;
        let (dim, count) = (*dim, rows.len() / dim);
        let mut random = Directions::new(seed);
        let mut basis = if count == 0 {
            Vec::new()
        } else if count > dim {
            subspace(&self.matrix, dim, rank, &self.kernels, &mut random)
        } else {
            let weights = subspace(&self.matrix, count, rank.min(count), &self.kernels, &mut random);
            combine(&weights, rows, count, dim)
        };
        // Where there are too few rows, zeros: they become random directions.
        basis.resize(rank * dim, 0.0);
        orthonormalise(&mut basis, dim, 2, &self.kernels, &mut random);
        basis
    }
}

/// The leading invariant subspace of a symmetric matrix of `size` rows.
fn subspace(
    matrix: &[f32],
    size: usize,
    rank: usize,
    kernels: &Kernels,
    random: &mut Directions,
) -> Vec<f32> {
    let mut basis = random_rows(rank, size, random);
    for _ in 0..ROUNDS {
        basis = times_symmetric(&basis, matrix, size, kernels);
        orthonormalise(&mut basis, size, 1, kernels, random);
    }
    basis
}

fn transpose(rows: &[f32], dim: usize) -> Vec<f32> {
    let count = rows.len() / dim;
    let mut columns = memory::filled(0.0, rows.len());
    for (block, rows) in rows.chunks(TILE * dim).enumerate() {
        pause();
        for column in 0..dim {
            let start = column * count + block * TILE;
            for (place, row) in rows.chunks_exact(dim).enumerate() {
                columns[start + place] = row[column];
            }
        }
    }
    columns
}

/// The products of `count` rows with each other: a symmetric matrix.
fn products(rows: &[f32], count: usize, dim: usize, kernels: &Kernels) -> Vec<f32> {
    let mut matrix = memory::filled(0.0, count * count);
    for from in (0..dim).step_by(CHUNK) {
        let len = CHUNK.min(dim - from);
        let part = |row: usize| &rows[row * dim + from..][..len];
        for top in (0..count).step_by(TILE) {
            pause();
            for left in (0..=top).step_by(TILE) {
                for row in top..count.min(top + TILE) {
                    for column in left..(left + TILE).min(row + 1) {
                        matrix[row * count + column] += (kernels.dot)(part(row), part(column));
                    }
                }
            }
        }
    }
    for row in 0..count {
        for column in 0..row {
            matrix[column * count + row] = matrix[row * count + column];
        }
    }
    matrix
}

/// Every row times a symmetric matrix.
fn times_symmetric(rows: &[f32], matrix: &[f32], size: usize, kernels: &Kernels) -> Vec<f32> {
    let mut out = memory::filled(0.0, rows.len());
    for (rows, out) in rows.chunks(TILE * size).zip(out.chunks_mut(TILE * size)) {
        for (at, line) in matrix.chunks_exact(size).enumerate() {
            pause();
            for (row, out) in rows.chunks_exact(size).zip(out.chunks_exact_mut(size)) {
                out[at] = (kernels.dot)(row, line);
            }
        }
    }
    out
}

/// Sums of `count` rows of `dim`, one for each row of `count` weights.
pub(super) fn combine(weights: &[f32], rows: &[f32], count: usize, dim: usize) -> Vec<f32> {
    let mut out = memory::filled(0.0, weights.len() / count * dim);
    for (weights, out) in weights.chunks_exact(count).zip(out.chunks_exact_mut(dim)) {
        pause();
        for (weight, row) in weights.iter().zip(rows.chunks_exact(dim)) {
            add_scaled(out, *weight, row);
        }
    }
    out
}
