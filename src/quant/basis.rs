//! Orthonormal bases: seeded random directions and Gram-Schmidt.

use super::arithmetic::add_scaled;
use crate::id::mix;
use crate::kernel::Kernels;
use crate::memory;
use crate::pause::pause;

/// A vector that keeps no more of its length than this when its components
/// along the others are taken away is mostly rounding error, and is replaced.
const COLLAPSED: f32 = 1e-5;

/// How often a direction is replaced. A random one all but never collapses
/// where there is room for one more, so the second is not needed.
const REPLACEMENTS: usize = 4;

/// Directions of no preference, always the same for a seed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Directions(u64);

impl Directions {
    pub(super) fn new(seed: u64) -> Directions {
        Directions(mix(seed))
    }

    /// Fills a vector with the sums of four uniform numbers each: close enough
    /// to the normal distribution, and the same on every machine.
    pub(super) fn fill(&mut self, vector: &mut [f32]) {
        for value in vector {
            self.0 = self.0.wrapping_add(1);
            let bits = mix(self.0);
            let sum: i64 = (0..4).map(|part| (bits >> (16 * part) & 0xffff) as i64).sum();
            *value = (sum - 2 * 0xffff) as f32 / 65_536.0;
        }
    }
}

/// Rows of `dim` random numbers, `count` of them.
pub(super) fn random_rows(count: usize, dim: usize, directions: &mut Directions) -> Vec<f32> {
    let mut rows = memory::filled(0.0, count * dim);
    directions.fill(&mut rows);
    rows
}

/// Makes rows orthonormal, in their order (modified Gram-Schmidt, `passes`
/// times: twice is enough for single precision). Rows that depend on those
/// before them become random directions; more rows than dimensions become 0.
pub(super) fn orthonormalise(
    rows: &mut [f32],
    dim: usize,
    passes: usize,
    kernels: &Kernels,
    directions: &mut Directions,
) {
    for start in (0..rows.len()).step_by(dim) {
        let (done, rest) = rows.split_at_mut(start);
        pause();
        let row = &mut rest[..dim];
        let mut left = REPLACEMENTS;
        while !project_out(row, done, passes, kernels) {
            if left == 0 {
                row.fill(0.0);
                break;
            }
            left -= 1;
            directions.fill(row);
        }
    }
}

/// Takes from a row what lies along the others and gives it the length 1;
/// false when nothing much is left.
fn project_out(row: &mut [f32], others: &[f32], passes: usize, kernels: &Kernels) -> bool {
    if !normalise(row, 0.0, kernels) {
        return false;
    }
    for _ in 0..passes {
        for other in others.chunks_exact(row.len()) {
            let along = (kernels.dot)(row, other);
            add_scaled(row, -along, other);
        }
        if !normalise(row, COLLAPSED, kernels) {
            return false;
        }
    }
    true
}

/// Gives a row the length 1; false when it is not longer than `least`.
fn normalise(row: &mut [f32], least: f32, kernels: &Kernels) -> bool {
    let length = (kernels.dot)(row, row).sqrt();
    if !(length > least && length.is_finite()) {
        return false;
    }
    row.iter_mut().for_each(|value| *value /= length);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::kernels;

    /// How far the products of rows are from those of an orthonormal basis.
    fn defect(rows: &[f32], dim: usize) -> f32 {
        let mut worst = 0f32;
        for (at, row) in rows.chunks_exact(dim).enumerate() {
            for (other_at, other) in rows.chunks_exact(dim).enumerate() {
                let dot = (kernels().dot)(row, other);
                worst = worst.max((dot - f32::from(u8::from(at == other_at))).abs());
            }
        }
        worst
    }

    #[test]
    fn whole_bases_are_orthonormal() {
        for dim in [1, 2, 3, 50, 104, 232] {
            let mut directions = Directions::new(dim as u64);
            let mut rows = random_rows(dim, dim, &mut directions);
            orthonormalise(&mut rows, dim, 2, &kernels(), &mut directions);
            assert!(defect(&rows, dim) < 1e-5, "{dim}: {}", defect(&rows, dim));
        }
    }

    #[test]
    fn rows_that_depend_on_others_are_replaced() {
        let mut rows = vec![1.0; 20 * 30];
        rows[40..60].fill(0.0);
        orthonormalise(&mut rows[..400], 20, 2, &kernels(), &mut Directions::new(3));
        assert!(defect(&rows[..400], 20) < 1e-5);
    }

    #[test]
    fn beyond_the_dimensions_rows_are_zero() {
        let mut rows = vec![1.0; 3 * 2];
        orthonormalise(&mut rows, 2, 2, &kernels(), &mut Directions::new(3));
        assert!(defect(&rows[..4], 2) < 1e-5);
        assert!(rows.iter().all(|value| value.is_finite()));
    }
}
