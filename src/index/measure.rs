//! How far rows are from a point of view: exactly, or by small codes.
//!
//! Graphs are built and walked through this trait, so one graph serves both.

use crate::id::Row;
use crate::kernel::{Arch, ArchJob, Portable};
use crate::memory;
use crate::metric::Metric;
use crate::neighbor::Neighbor;
use crate::vector::{BLOCK, MatrixView, Space};

use super::Points;

/// Distances from a query to stored rows.
pub(super) trait Measure: Copy + Sync {
    /// A point of view.
    type Query: ?Sized;

    /// What loops over distances are compiled for.
    type Arch: Arch;

    /// The same as a value.
    fn arch(&self) -> Self::Arch;

    /// The distance to one row.
    fn distance(&self, query: &Self::Query, row: Row) -> f32;

    /// The distances to at most [`BLOCK`](crate::vector::BLOCK) rows; a row
    /// that is farther than `bound` may get any value beyond it.
    fn distances(&self, query: &Self::Query, rows: &[Row], bound: f32, distances: &mut [f32]);

    /// Asks the processor for what `distances` will read of a row.
    fn prefetch(&self, row: Row);

    /// Shows rows from which a walk of a large graph had better start; false when
    /// none are known. `estimates` is scratch.
    #[inline(always)]
    fn entry_points(&self, _query: &Self::Query, _estimates: &mut Vec<f32>, _show: impl FnMut(Row)) -> bool {
        false
    }
}

/// Rows to be measured, to be compiled for an instruction set.
struct Near<'a, M: Measure> {
    measure: M,
    query: &'a M::Query,
    rows: &'a [Row],
    bound: f32,
    found: &'a mut Vec<Neighbor>,
}

impl<M: Measure> ArchJob for Near<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self, _arch: A) {
        let Near { measure, query, rows, bound, found } = self;
        let mut distances = [0.0; BLOCK];
        for rows in rows.chunks(BLOCK) {
            measure.distances(query, rows, bound, &mut distances);
            for (row, distance) in rows.iter().zip(&distances) {
                if *distance <= bound {
                    memory::push(found, Neighbor { distance: *distance, row: *row });
                }
            }
        }
    }
}

/// Adds the rows that are not farther than `bound`.
pub(super) fn add_near<M: Measure>(
    measure: M,
    query: &M::Query,
    rows: &[Row],
    bound: f32,
    found: &mut Vec<Neighbor>,
) {
    measure.arch().run(Near { measure, query, rows, bound, found });
}

/// Distances from a stored row, too: what graphs are built by.
pub(super) trait RowMeasure: Measure {
    /// Memory to hold a point of view.
    type Buffer: Default + Send + std::fmt::Debug;

    /// A stored row as a point of view.
    fn row_query<'a>(&'a self, row: Row, buffer: &'a mut Self::Buffer) -> &'a Self::Query;
}

/// The stored vectors themselves.
#[derive(Clone, Copy)]
pub(super) struct Exact<'a> {
    space: &'a Space,
    vectors: &'a MatrixView,
}

impl<'a> Exact<'a> {
    pub(super) fn new(points: Points<'a>) -> Exact<'a> {
        Exact { space: points.space, vectors: points.vectors }
    }
}

impl Measure for Exact<'_> {
    type Query = [f32];
    /// Kernels behind pointers do most of the work.
    type Arch = Portable;

    fn arch(&self) -> Portable {
        Portable
    }

    #[inline]
    fn distance(&self, query: &[f32], row: Row) -> f32 {
        self.space.distance(query, self.vectors, row)
    }

    #[inline]
    fn distances(&self, query: &[f32], rows: &[Row], bound: f32, distances: &mut [f32]) {
        self.space.distances(query, self.vectors, rows, bound, distances);
    }

    /// Nothing: the kernels ask for rows themselves, some ahead.
    #[inline]
    fn prefetch(&self, _row: Row) {}
}

impl RowMeasure for Exact<'_> {
    type Buffer = Vec<f32>;

    /// Copied only where the two forms differ.
    fn row_query<'a>(&'a self, row: Row, buffer: &'a mut Vec<f32>) -> &'a [f32] {
        let floats = if self.space.metric() == Metric::Cosine { None } else { self.vectors.floats(row) };
        match floats {
            Some(floats) => floats,
            None => {
                self.space.prepare_row(self.vectors, row, buffer);
                buffer
            }
        }
    }
}
