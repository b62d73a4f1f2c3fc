//! Finding the directions of a sieve, and how far from orthonormal they are.

use super::{HEADER, Level, Sieve};
use crate::kernel::{Kernels, LINE, kernels};
use crate::pause::pause;
use crate::quant::basis::{Directions, orthonormalise, random_rows};
use crate::quant::principal::{Sample, combine};

/// Told apart from the seeds of other training.
const ROTATION: u64 = 0x51e7_e000;

/// Coordinates of a row in all levels together, at most.
const MOST: usize = 288;

/// What the first level may have of them: more would be read of every row.
const FIRST: [usize; 3] = [48, 112, 240];

/// The first level has all coordinates if they are no more than the next of these and one in so many again: then nothing
/// is left that is known by its length alone.
const WHOLE_DIVISOR: usize = 3;

/// The share of the rows' squared lengths that the first level must hold.
const ENOUGH: f64 = 0.7;

/// Rows that this is measured on.
const MEASURED: usize = 512;

/// Far more than rounding makes of an orthonormal basis.
const MOST_DELTA: f64 = 0.05;

/// Exponents that a unit may have: its square must be a normal double.
const EXPONENTS: f64 = 126.0;

impl Sieve {
    /// Trains on rows of `dim` numbers, one after the other, as they are
    /// compared. `centred` = false leaves the origin where it is, which inner
    /// products need. The same samples and seed give the same sieve.
    pub(crate) fn train(samples: &[f32], dim: usize, centred: bool, seed: u64) -> Sieve {
        let kernels = kernels();
        let sample = Sample::new(samples, dim, centred);
        let rank = MOST.min(dim);
        let directions = sample.spread(kernels).directions(rank, seed);
        let unit = unit(samples, &sample.mean, dim);
        let mut random = Directions::new(seed ^ ROTATION);
        let (mut levels, mut first) = (Vec::new(), 0);
        for count in counts(samples, &sample.mean, &directions, dim, kernels.dot) {
            let part = &directions[first * dim..][..count * dim];
            // The first level stands interleaved by words, others in lines.
            let unit = if first == 0 { size_of::<u32>() } else { LINE };
            first += count;
            levels.push(Level {
                bytes: (HEADER + count).next_multiple_of(unit),
                directions: turned(part, count, dim, &kernels, &mut random),
                count,
                is_last_of_all: first == dim,
            });
        }
        let delta = defect(&levels, dim);
        Sieve { dim, mean: sample.mean, unit, delta, levels, kernels }
    }

    /// Whether the directions are so far from orthonormal that the allowances
    /// for that do not hold: then nothing is ruled out.
    pub(super) fn is_spoiled(&self) -> bool {
        self.delta.is_nan() || self.delta > MOST_DELTA
    }
}

/// The coordinates of the levels that suit rows whose directions of most spread are
/// these.
fn counts(
    samples: &[f32],
    mean: &[f32],
    directions: &[f32],
    dim: usize,
    dot: fn(&[f32], &[f32]) -> f32,
) -> Vec<usize> {
    let rank = directions.len() / dim;
    let step = (samples.len() / dim).div_ceil(MEASURED).max(1);
    let (mut along, mut whole) = (vec![0f64; rank], 0f64);
    for row in samples.chunks_exact(dim).step_by(step) {
        pause();
        let centred: Vec<f32> = row.iter().zip(mean).map(|(value, mean)| value - mean).collect();
        whole += f64::from(dot(&centred, &centred));
        for (sum, direction) in along.iter_mut().zip(directions.chunks_exact(dim)) {
            *sum += f64::from(dot(direction, &centred)).powi(2);
        }
    }
    let holds_enough = |first: &usize| along[..rank.min(*first)].iter().sum::<f64>() >= ENOUGH * whole;
    let first = FIRST.into_iter().find(holds_enough).unwrap_or(rank).min(rank);
    if rank == dim && dim <= first + first / WHOLE_DIVISOR {
        vec![dim]
    } else if 2 * (dim - first) > dim && first < rank {
        vec![first, rank - first]
    } else {
        vec![first]
    }
}

/// Directions of the same span, turned at random so that all coordinates
/// spread alike: one step then suits them all.
fn turned(
    directions: &[f32],
    count: usize,
    dim: usize,
    kernels: &Kernels,
    random: &mut Directions,
) -> Vec<f32> {
    let mut rotation = random_rows(count, count, random);
    orthonormalise(&mut rotation, count, 2, kernels, random);
    combine(&rotation, directions, count, dim)
}

/// An upper bound of the spectral norm of `U U' - I`: its Frobenius norm, in
/// double precision, with room for what that rounds.
fn defect(levels: &[Level], dim: usize) -> f64 {
    let rows: Vec<&[f32]> = levels.iter().flat_map(|level| level.directions.chunks_exact(dim)).collect();
    let mut squares = 0.0;
    for (at, row) in rows.iter().enumerate() {
        pause();
        for other in &rows[..at] {
            let product = product(row, other);
            squares += 2.0 * product * product;
        }
        let own = product(row, row) - 1.0;
        squares += own * own;
    }
    squares.sqrt() * 1.001 + 1e-9
}

/// In double precision, in sums apart.
fn product(a: &[f32], b: &[f32]) -> f64 {
    const SUMS: usize = 8;
    let mut sums = [0f64; SUMS];
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<SUMS>(), b.as_chunks::<SUMS>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..SUMS {
            sums[lane] += f64::from(a[lane]) * f64::from(b[lane]);
        }
    }
    let rest: f64 = rest_a.iter().zip(rest_b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    sums.iter().sum::<f64>() + rest
}

/// The power of two next to 1 / the mean length of centred samples.
fn unit(samples: &[f32], mean: &[f32], dim: usize) -> f32 {
    let mut squares = 0f64;
    for row in samples.chunks_exact(dim) {
        squares += row.iter().zip(mean).map(|(value, mean)| f64::from(value - mean).powi(2)).sum::<f64>();
    }
    let length = (squares / (samples.len() / dim).max(1) as f64).sqrt();
    if length > 0.0 && length.is_finite() {
        (-length.log2().round().clamp(-EXPONENTS, EXPONENTS)).exp2() as f32
    } else {
        1.0
    }
}
