//! Plain Rust: the code that the other instruction sets are tested against.
//!
//! It sums in order and abandons nothing.

use super::arch::TileSums;
use super::codes::{Packing, WORD, check, check_interleaved};
use super::formats::Element;
use super::scan::{self, SCAN_POSITION, SCAN_ROWS};
use super::{Kernels, Level, Portable, RowKernels, TILE};

pub(super) const KERNELS: Kernels = Kernels {
    l2: l2::<f32>,
    dot: dot::<f32>,
    full: of_rows(),
    half: of_rows(),
    bytes: of_rows(),
    byte_dots,
    nibble_dots,
    level: Level::Portable(Portable),
};

const fn of_rows<T: Element>() -> RowKernels<T> {
    RowKernels {
        l2: l2::<T>,
        dot: dot::<T>,
        l2_many: l2_many::<T>,
        dot_many: dot_many::<T>,
        widen: widen::<T>,
    }
}

fn l2<T: Element>(query: &[f32], row: &[T]) -> f32 {
    assert_eq!(row.len(), query.len() + T::HEADER);
    query.iter().zip(T::numbers(row)).map(|(x, y)| (x - y) * (x - y)).sum()
}

fn dot<T: Element>(query: &[f32], row: &[T]) -> f32 {
    assert_eq!(row.len(), query.len() + T::HEADER);
    query.iter().zip(T::numbers(row)).map(|(x, y)| x * y).sum()
}

fn l2_many<T: Element>(query: &[f32], rows: &[&[T]], _bound: f32, out: &mut [f32]) {
    assert_eq!(rows.len(), out.len());
    for (row, out) in rows.iter().zip(out) {
        *out = l2(query, row);
    }
}

fn dot_many<T: Element>(query: &[f32], rows: &[&[T]], out: &mut [f32]) {
    assert_eq!(rows.len(), out.len());
    for (row, out) in rows.iter().zip(out) {
        *out = dot(query, row);
    }
}

fn widen<T: Element>(row: &[T], out: &mut [f32]) {
    assert_eq!(row.len(), out.len() + T::HEADER);
    out.iter_mut().zip(T::numbers(row)).for_each(|(out, number)| *out = number);
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
pub(super) fn interleaved_byte_dots(query: &[i8], words: &[[u32; SCAN_ROWS]]) -> [i32; SCAN_ROWS] {
    check_interleaved(query, words);
    let mut sums = [0; SCAN_ROWS];
    for (weights, words) in query.as_chunks().0.iter().zip(words) {
        add_interleaved(&mut sums, weights, words, |byte| byte);
    }
    sums
}

#[inline(always)]
pub(super) fn interleaved_nibble_dots(
    low: &[i8],
    high: &[i8],
    words: &[[u32; SCAN_ROWS]],
) -> [i32; SCAN_ROWS] {
    check_interleaved(low, words);
    check_interleaved(high, words);
    let mut sums = [0; SCAN_ROWS];
    for ((low, high), words) in low.as_chunks().0.iter().zip(high.as_chunks().0).zip(words) {
        add_interleaved(&mut sums, low, words, |byte| byte & 15);
        add_interleaved(&mut sums, high, words, |byte| byte >> 4);
    }
    sums
}

#[inline(always)]
fn add_interleaved(
    sums: &mut [i32; SCAN_ROWS],
    weights: &[i8; WORD],
    words: &[u32; SCAN_ROWS],
    code: impl Fn(u8) -> u8,
) {
    for (sum, word) in sums.iter_mut().zip(words) {
        for (weight, byte) in weights.iter().zip(word.to_ne_bytes()) {
            *sum += i32::from(*weight) * i32::from(code(byte));
        }
    }
}

#[inline(always)]
fn code_dot(query: &[i8], row: &[u8], code: impl Fn(u8) -> u8) -> i32 {
    query.iter().zip(row).map(|(weight, byte)| i32::from(*weight) * i32::from(code(*byte))).sum()
}

#[inline(always)]
pub(super) fn tile_dots<const R: usize, const T: usize>(
    rows: [&[f32]; R],
    tiles: [&[[f32; TILE]]; T],
) -> TileSums<R, T> {
    rows.map(|row| {
        tiles.map(|tile| {
            assert_eq!(row.len(), tile.len());
            let mut sums = [0.0; TILE];
            for (x, sixteen) in row.iter().zip(tile) {
                sums.iter_mut().zip(sixteen).for_each(|(sum, y)| *sum += x * y);
            }
            sums
        })
    })
}

pub(super) fn scan(tables: &[u8], codes: &[u8], sums: &mut [u16; SCAN_ROWS]) {
    scan::check(tables, codes);
    *sums = [0; SCAN_ROWS];
    for (table, codes) in tables.chunks_exact(SCAN_POSITION).zip(codes.chunks_exact(SCAN_POSITION)) {
        for (row, byte) in codes.iter().enumerate() {
            for (row, code) in [(row, byte & 15), (row + SCAN_POSITION, byte >> 4)] {
                sums[row] = sums[row].wrapping_add(u16::from(table[usize::from(code)]));
            }
        }
    }
}
