//! Plain Rust: the code that the other instruction sets are tested against.
//!
//! It sums in order and abandons nothing.

use super::codes::{Packing, check};
use super::{Kernels, Level, Portable};

pub(super) const KERNELS: Kernels =
    Kernels { l2, dot, l2_many, dot_many, byte_dots, nibble_dots, level: Level::Portable(Portable) };

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

pub(super) fn byte_dots(query: &[i8], rows: &[&[u8]], out: &mut [i32]) {
    check(Packing::Bytes, query, rows, out);
    for (row, out) in rows.iter().zip(out) {
        *out = code_dot(query, row, |byte| byte);
    }
}

pub(super) fn nibble_dots(query: &[i8], rows: &[&[u8]], out: &mut [i32]) {
    check(Packing::Nibbles, query, rows, out);
    let (low, high) = query.split_at(query.len() / 2);
    for (row, out) in rows.iter().zip(out) {
        *out = code_dot(low, row, |byte| byte & 15) + code_dot(high, row, |byte| byte >> 4);
    }
}

#[inline(always)]
fn code_dot(query: &[i8], row: &[u8], code: impl Fn(u8) -> u8) -> i32 {
    query.iter().zip(row).map(|(weight, byte)| i32::from(*weight) * i32::from(code(*byte))).sum()
}
