//! Distances under a metric: what a query must look like, and how far rows are from it.

use super::format::{Format, Stored};
use super::matrix::MatrixView;
use crate::id::Row;
use crate::kernel::{Kernels, kernels};
use crate::memory::Lined;
use crate::metric::Metric;

/// Rows whose distances are computed in one call: a graph node's neighbours.
pub(crate) const BLOCK: usize = 64;

/// The largest squared length that is let in: with both vectors below it no
/// distance, and no partial sum of one, can overflow.
const MAX_SQUARED_LENGTH: f64 = (f32::MAX / 8.0) as f64;

/// Shorter vectors cannot be normalised in single precision.
const MIN_COSINE_LENGTH: f64 = 1e-30;

/// Why a vector cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum VectorError {
    /// The collection holds vectors of another dimension.
    #[error("expected {expected} dimensions, got {got}")]
    Dimension {
        /// The collection's dimension.
        expected: usize,
        /// The vector's.
        got: usize,
    },
    /// NaN or an infinity.
    #[error("value {value} at position {position} is not finite")]
    NotFinite {
        /// Where it stands in the vector.
        position: usize,
        /// What it is.
        value: f32,
    },
    /// So long that squared distances could overflow single precision.
    #[error("a vector of length {length:e} is too long: the limit is 6.5e18")]
    TooLong {
        /// The Euclidean length.
        length: f64,
    },
    /// Beyond half precision, in a collection that stores nothing else
    /// ([`VectorStorage::Half`](crate::VectorStorage::Half)).
    #[error("value {value} at position {position} is beyond half precision: the limit is 65504")]
    OutOfHalf {
        /// Where it stands in the vector.
        position: usize,
        /// What it is.
        value: f32,
    },
    /// A vector of (almost) no length has no direction, so no cosine.
    #[error("a vector of length {length:e} has no direction: the cosine metric needs at least 1e-30")]
    NoDirection {
        /// The Euclidean length.
        length: f64,
    },
}

/// A metric over vectors of one dimension, with the kernels to compute it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    metric: Metric,
    dim: usize,
    kernels: Kernels,
}

impl Space {
    pub(crate) fn new(metric: Metric, dim: usize) -> Space {
        Space { metric, dim, kernels: kernels() }
    }

    pub(crate) fn metric(&self) -> Metric {
        self.metric
    }

    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// Checks a vector and gives the factor that is stored beside it: 1 /
    /// length under cosine, else 1.
    ///
    /// # Errors
    /// [`VectorError`]: wrong dimension, a value that is not finite, a length
    /// whose square overflows, or no direction under cosine.
    pub(crate) fn check(&self, vector: &[f32]) -> Result<f32, VectorError> {
        if vector.len() != self.dim {
            return Err(VectorError::Dimension { expected: self.dim, got: vector.len() });
        }
        if self.metric != Metric::Cosine {
            // One pass: infinities and NaN show in the sum of the squares.
            let squared = (self.kernels.dot)(vector, vector);
            if f64::from(squared) <= MAX_SQUARED_LENGTH {
                return Ok(1.0);
            }
        }
        if let Some(position) = vector.iter().position(|x| !x.is_finite()) {
            return Err(VectorError::NotFinite { position, value: vector[position] });
        }
        let squared: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        if squared > MAX_SQUARED_LENGTH {
            return Err(VectorError::TooLong { length: squared.sqrt() });
        }
        if self.metric != Metric::Cosine {
            return Ok(1.0);
        }
        let length = squared.sqrt();
        if length < MIN_COSINE_LENGTH {
            return Err(VectorError::NoDirection { length });
        }
        Ok((1.0 / length) as f32)
    }

    /// True for what [`Space::check`] let in, with the factor that it gave, also
    /// when the storage has rounded it since: it may be longer by as much as that.
    pub(crate) fn is_stored_form(&self, vector: &[f32], scale: f32) -> bool {
        /// Rounding moves each number by a 510th of the distance of the largest from the least: with 65,536
        /// numbers squares may become so many times as large. (They are finite all the same.)
        const ROUNDED: f64 = 2.1;
        let most = MAX_SQUARED_LENGTH * ROUNDED;
        let mut squared = f64::from((self.kernels.dot)(vector, vector));
        if self.metric != Metric::Cosine {
            return squared <= most && scale == 1.0;
        }
        // Squares of short vectors vanish in single precision.
        if squared < 1e-20 {
            squared = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        }
        squared <= most && (squared.sqrt() * f64::from(scale) - 1.0).abs() < 0.25
    }

    /// Writes the form of a checked query that the distance functions take:
    /// normalised under cosine, else as it is.
    pub(crate) fn prepare(&self, vector: &[f32], scale: f32, prepared: &mut Lined<f32>) {
        prepared.copy_anew(vector);
        if self.metric == Metric::Cosine {
            prepared.iter_mut().for_each(|x| *x *= scale);
        }
    }

    /// A stored row in the form of a query.
    pub(crate) fn prepare_row(&self, vectors: &MatrixView, row: Row, prepared: &mut Vec<f32>) {
        vectors.copy(row, prepared);
        if self.metric == Metric::Cosine {
            let scale = vectors.scale(row);
            prepared.iter_mut().for_each(|x| *x *= scale);
        }
    }

    /// The distance of a prepared query to one row.
    #[inline]
    pub(crate) fn distance(&self, query: &[f32], vectors: &MatrixView, row: Row) -> f32 {
        match vectors.format(row) {
            Format::Bytes => self.distance_to::<u8>(query, vectors, row),
            Format::Half => self.distance_to::<u16>(query, vectors, row),
            Format::Full => self.distance_to::<f32>(query, vectors, row),
        }
    }

    #[inline]
    fn distance_to<T: Stored>(&self, query: &[f32], vectors: &MatrixView, row: Row) -> f32 {
        // Never: the caller has looked at the format.
        let Some(stored) = vectors.stored::<T>(row) else { return f32::INFINITY };
        let kernels = T::kernels(&self.kernels);
        match self.metric {
            Metric::L2 => (kernels.l2)(query, stored),
            Metric::Cosine => cosine_distance((kernels.dot)(query, stored), vectors.scale(row)),
            Metric::Dot => -(kernels.dot)(query, stored),
        }
    }

    /// The distances of a prepared query to at most [`BLOCK`] rows. A row that
    /// is certainly farther than `bound` may get `f32::INFINITY`; every other
    /// gets exactly what [`Space::distance`] gives.
    ///
    /// # Panics
    /// When there are more than [`BLOCK`] rows or `distances` is shorter than `rows`.
    #[inline]
    pub(crate) fn distances(
        &self,
        query: &[f32],
        vectors: &MatrixView,
        rows: &[Row],
        bound: f32,
        distances: &mut [f32],
    ) {
        let (mut rows, mut distances) = (rows, &mut distances[..rows.len()]);
        while let Some(first) = rows.first() {
            let measured = match vectors.format(*first) {
                Format::Bytes => self.run::<u8>(query, vectors, rows, bound, distances),
                Format::Half => self.run::<u16>(query, vectors, rows, bound, distances),
                Format::Full => self.run::<f32>(query, vectors, rows, bound, distances),
            };
            (rows, distances) = (&rows[measured..], &mut distances[measured..]);
        }
    }

    /// The distances to the first rows that are all of one format: nearly
    /// always to all of them. Gives their number.
    #[inline]
    fn run<T: Stored>(
        &self,
        query: &[f32],
        vectors: &MatrixView,
        rows: &[Row],
        bound: f32,
        distances: &mut [f32],
    ) -> usize {
        let (mut stored, mut count): ([&[T]; BLOCK], usize) = ([&[]; BLOCK], 0);
        for (slot, row) in stored[..rows.len()].iter_mut().zip(rows) {
            let Some(row) = vectors.stored(*row) else { break };
            *slot = row;
            count += 1;
        }
        let (stored, distances) = (&stored[..count], &mut distances[..count]);
        let kernels = T::kernels(&self.kernels);
        match self.metric {
            Metric::L2 => (kernels.l2_many)(query, stored, bound, distances),
            Metric::Cosine => {
                (kernels.dot_many)(query, stored, distances);
                for (distance, row) in distances.iter_mut().zip(rows) {
                    *distance = cosine_distance(*distance, vectors.scale(*row));
                }
            }
            Metric::Dot => {
                (kernels.dot_many)(query, stored, distances);
                distances.iter_mut().for_each(|distance| *distance = -*distance);
            }
        }
        count
    }
}

/// Rounding may carry a cosine past 1: a distance is never negative.
#[inline]
fn cosine_distance(dot: f32, scale: f32) -> f32 {
    (1.0 - dot * scale).clamp(0.0, 2.0)
}

#[cfg(test)]
mod tests {
    use super::super::matrix::Matrix;
    use super::super::storage::VectorStorage;
    use super::*;

    fn stored(space: &Space, vectors: &[&[f32]]) -> Matrix {
        let mut matrix = Matrix::new(space.dim(), VectorStorage::Lossless, space.metric());
        for (row, vector) in vectors.iter().enumerate() {
            let scale = space.check(vector).unwrap();
            matrix.reserve(row as Row).unwrap();
            // SAFETY: single thread, no view is read meanwhile.
            unsafe { matrix.write(row as Row, vector, scale) }.unwrap();
        }
        matrix
    }

    fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f32 {
        let space = Space::new(metric, a.len());
        let matrix = stored(&space, &[b]);
        let mut query = Lined::default();
        space.prepare(a, space.check(a).unwrap(), &mut query);
        let one = space.distance(&query, matrix.view(), 0);
        let mut many = [0.0];
        space.distances(&query, matrix.view(), &[0], f32::INFINITY, &mut many);
        assert_eq!(one, many[0]);
        one
    }

    #[test]
    fn metrics_mean_what_they_say() {
        let (a, b) = ([3.0, 0.0, 4.0], [0.0, 2.0, 4.0]);
        assert_eq!(distance(Metric::L2, &a, &b), 13.0);
        assert_eq!(distance(Metric::Dot, &a, &b), -16.0);
        assert!((distance(Metric::Cosine, &a, &b) - (1.0 - 16.0 / (5.0 * 20f32.sqrt()))).abs() < 1e-6);
    }

    #[test]
    fn cosine_is_never_negative_and_ignores_lengths() {
        let a: Vec<f32> = (1..40).map(|i| (i as f32).sin()).collect();
        for factor in [1e-20f32, 0.3, 7.0, 1e15] {
            let b: Vec<f32> = a.iter().map(|x| x * factor).collect();
            assert!((0.0..1e-6).contains(&distance(Metric::Cosine, &a, &b)));
        }
    }

    #[test]
    fn vectors_that_cannot_be_used_are_named() {
        let cosine = Space::new(Metric::Cosine, 2);
        assert_eq!(cosine.check(&[1.0]), Err(VectorError::Dimension { expected: 2, got: 1 }));
        assert!(matches!(cosine.check(&[1.0, f32::NAN]), Err(VectorError::NotFinite { position: 1, .. })));
        assert_eq!(cosine.check(&[0.0, 0.0]), Err(VectorError::NoDirection { length: 0.0 }));
        assert!(matches!(cosine.check(&[f32::MAX, 1.0]), Err(VectorError::TooLong { .. })));
        assert!(Space::new(Metric::L2, 2).check(&[0.0, 0.0]).is_ok());
    }

    #[test]
    fn the_longest_vectors_allowed_have_finite_distances() {
        let long = [(f32::MAX / 16.0).sqrt() * 0.9, 0.0];
        let back = [-long[0], 0.0];
        for metric in [Metric::L2, Metric::Dot, Metric::Cosine] {
            assert!(distance(metric, &long, &back).is_finite());
        }
    }
}
