//! Distance kernels, resolved once at run time.
//!
//! Placeholder until the instruction-set kernels land: the interface is final.

/// The distance functions of one instruction set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernels {
    /// Squared Euclidean distance of two vectors of the same length.
    pub(crate) l2: fn(&[f32], &[f32]) -> f32,
    /// Inner product of two vectors of the same length.
    pub(crate) dot: fn(&[f32], &[f32]) -> f32,
    /// Squared distances of one query to many rows. A row whose partial sum
    /// already exceeds `bound` may stop early: its output is then
    /// `f32::INFINITY`. A distance that is given is bit for bit what `l2` gives.
    pub(crate) l2_many: fn(query: &[f32], rows: &[&[f32]], bound: f32, out: &mut [f32]),
    /// Inner products of one query with many rows, bit for bit what `dot` gives.
    pub(crate) dot_many: fn(query: &[f32], rows: &[&[f32]], out: &mut [f32]),
}

/// The kernels of this machine (or of the forced instruction set).
pub(crate) fn kernels() -> Kernels {
    Kernels { l2, dot, l2_many, dot_many }
}

fn l2(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn l2_many(query: &[f32], rows: &[&[f32]], _bound: f32, out: &mut [f32]) {
    for (row, out) in rows.iter().zip(out) {
        *out = l2(query, row);
    }
}

fn dot_many(query: &[f32], rows: &[&[f32]], out: &mut [f32]) {
    for (row, out) in rows.iter().zip(out) {
        *out = dot(query, row);
    }
}

/// Asks the processor to bring the start of a slice nearer; never faults.
#[inline]
pub(crate) fn prefetch<T>(_slice: &[T]) {}
