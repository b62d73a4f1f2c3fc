//! Plain Rust: the code that the other instruction sets are tested against.
//!
//! It sums in order and abandons nothing.

use super::Kernels;

pub(super) const KERNELS: Kernels = Kernels { l2, dot, l2_many, dot_many };

fn l2(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn l2_many(query: &[f32], rows: &[&[f32]], _bound: f32, out: &mut [f32]) {
    assert_eq!(rows.len(), out.len());
    for (row, out) in rows.iter().zip(out) {
        *out = l2(query, row);
    }
}

fn dot_many(query: &[f32], rows: &[&[f32]], out: &mut [f32]) {
    assert_eq!(rows.len(), out.len());
    for (row, out) in rows.iter().zip(out) {
        *out = dot(query, row);
    }
}
