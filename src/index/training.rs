//! When what was trained on rows is out of date, samples of rows, and what both
//! lists and walks train on them.

use std::ops::Range;

use super::parallel::parallel_map;
use super::{Executor, Points};
use crate::id::Row;
use crate::memory;
use crate::pause::pause;
use crate::quant::{ProductQuantizer, ProductShape, TrainedPart};

/// Trained again when there are so many times more rows...
pub(super) const GROWTH: usize = 4;

/// ...or when so many times more rows were taken in since than there are: the
/// collection may have become another one. It was turned over several times
/// then, which took far longer than a training.
const TURNOVERS: usize = 4;

/// What was trained on, and what came since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Training {
    /// Rows that there were.
    pub(super) rows: usize,
    /// Rows that were taken in since.
    pub(super) since: usize,
}

impl Training {
    /// Whether it is out of date for an index that comes to `rows`; a larger
    /// collection than `settled` gives the same sample, or one that takes too
    /// long.
    pub(super) fn is_due(self, rows: usize, settled: usize) -> bool {
        self.is_due_at(GROWTH, rows, settled)
    }

    /// The same, where it takes so many times more rows.
    pub(super) fn is_due_at(self, growth: usize, rows: usize, settled: usize) -> bool {
        let grown = self.rows < settled && self.has_grown(rows, growth);
        let turned_over = rows < settled && self.since >= rows.saturating_mul(TURNOVERS);
        grown || turned_over
    }

    /// Whether there are so many times more rows.
    pub(super) fn has_grown(self, rows: usize, times: usize) -> bool {
        rows >= self.rows.saturating_mul(times)
    }
}

/// Rows are not trained on that are so many times as long as half of the rows
/// that are not zeros are at most: a single one of them would stretch every step of codes,
/// and draw means away from all others. Beyond what lengths differ by in any collection of
/// one kind.
const FAR: f64 = 1024.0;

/// Numbers of a sample at most: 256 MB, so that rows of 65,536 numbers are 1,024.
const NUMBERS: usize = 1 << 26;

/// At most so many of `rows`, evenly spread, as they are compared, one after the other,
/// without those that are [far](FAR) from all others.
pub(super) fn sample(points: Points<'_>, rows: &[Row], most: usize) -> Vec<f32> {
    let most = most.min((NUMBERS / points.space.dim().max(1)).max(1));
    let step = rows.len().div_ceil(most).max(1);
    let mut samples = memory::list(rows.len().div_ceil(step) * points.space.dim());
    let mut prepared = Vec::new();
    for row in rows.iter().step_by(step) {
        pause();
        points.space.prepare_row(points.vectors, *row, &mut prepared);
        samples.extend_from_slice(&prepared);
    }
    leave_out_far(&mut samples, points.space.dim());
    samples
}

/// Takes vectors out of `samples` that are so long that codes which reach to them
/// would see nothing of the others.
fn leave_out_far(samples: &mut Vec<f32>, dim: usize) {
    let squared = |row: &[f32]| row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
    let lengths = samples.chunks_exact(dim).map(squared);
    let mut lengths: Vec<f64> = memory::collect(lengths.filter(|length| *length > 0.0));
    if lengths.is_empty() {
        return;
    }
    let middle = lengths.len() / 2;
    let bound = *lengths.select_nth_unstable_by(middle, f64::total_cmp).1 * FAR * FAR;
    if lengths.iter().all(|length| *length <= bound) {
        return;
    }
    let near = samples.chunks_exact(dim).filter(|row| squared(row) <= bound);
    let mut kept: Vec<f32> = memory::list(samples.len());
    near.for_each(|row| memory::append(&mut kept, row));
    *samples = kept;
}

/// Trains product codes on vectors of `dim` numbers, a part a task.
pub(super) fn train_product(
    samples: &[f32],
    dim: usize,
    shape: ProductShape,
    seed: u64,
    executor: &dyn Executor,
) -> ProductQuantizer {
    let all = 0..shape.num_subquantizers;
    ProductQuantizer::of_parts(dim, shape, train_product_parts(samples, dim, shape, (all, seed), executor))
}

/// The same of some of the parts.
pub(super) fn train_product_parts(
    samples: &[f32],
    dim: usize,
    shape: ProductShape,
    (parts, seed): (Range<usize>, u64),
    executor: &dyn Executor,
) -> Vec<TrainedPart> {
    let mut workers = vec![(); executor.width().max(1)];
    parallel_map(executor, parts.len(), &mut workers, |at, ()| {
        ProductQuantizer::train_part(samples, dim, shape, parts.start + at, seed)
    })
}

/// The mean of at most so many of `rows`, without those that are [far](FAR) from all others.
pub(super) fn mean(points: Points<'_>, rows: &[Row], most: usize) -> Vec<f32> {
    mean_of(&sample(points, rows, most), points.space.dim())
}

/// The mean of vectors that stand one after the other.
fn mean_of(vectors: &[f32], dim: usize) -> Vec<f32> {
    let share = 1.0 / (vectors.len() / dim).max(1) as f32;
    let mut mean = memory::filled(0.0, dim);
    for vector in vectors.chunks_exact(dim) {
        mean.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x * share);
    }
    mean
}

/// The mean of centres that stand one after the other, without those that are
/// [far](FAR) from all others.
pub(super) fn middle(centres: &[f32], dim: usize) -> Vec<f32> {
    let mut near = memory::copied(centres);
    leave_out_far(&mut near, dim);
    mean_of(&near, dim)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLED: usize = 1 << 16;

    #[test]
    fn training_is_due_after_growth_and_after_turnovers_but_not_for_a_large_collection() {
        let due = |rows, since, now| Training { rows, since }.is_due(now, SETTLED);
        assert!(due(256, 768, 1_024) && !due(256, 767, 1_023));
        assert!(due(1_000, 4_000, 1_000) && !due(1_000, 3_999, 1_000));
        assert!(due(50_000, 900, 225), "most rows are gone, and others came");
        assert!(!due(SETTLED, 10 * SETTLED, 10 * SETTLED) && !due(SETTLED, 10 * SETTLED, SETTLED));
    }
}
