//! Products with codes that stand interleaved, on every instruction set, against those of the rows.

use super::{Kernels, Random, refused, scalar};
use crate::kernel::codes::{LINE, WORD};
use crate::kernel::scan::SCAN_ROWS;
use crate::kernel::{Arch, ArchJob};

struct Bytes<'a>(&'a [i8], &'a [[u32; SCAN_ROWS]]);

impl ArchJob for Bytes<'_> {
    type Output = [i32; SCAN_ROWS];

    #[inline(always)]
    fn run<A: Arch>(self, arch: A) -> [i32; SCAN_ROWS] {
        arch.interleaved_byte_dots(self.0, self.1)
    }
}

struct Nibbles<'a>(&'a [i8], &'a [i8], &'a [[u32; SCAN_ROWS]]);

impl ArchJob for Nibbles<'_> {
    type Output = [i32; SCAN_ROWS];

    #[inline(always)]
    fn run<A: Arch>(self, arch: A) -> [i32; SCAN_ROWS] {
        arch.interleaved_nibble_dots(self.0, self.1, self.2)
    }
}

const LENGTHS: [usize; 8] = [0, 1, 2, 3, 4, 5, 16, 61];

/// Rows of so many words, each filled up with zeros to whole lines.
fn rows(words: usize, mut byte: impl FnMut() -> u8) -> Vec<Vec<u8>> {
    let row = |_| {
        let mut row: Vec<u8> = (0..words * WORD).map(|_| byte()).collect();
        row.resize((words * WORD).next_multiple_of(LINE).max(LINE), 0);
        row
    };
    (0..SCAN_ROWS).map(row).collect()
}

fn interleaved(rows: &[Vec<u8>], words: usize) -> Vec<[u32; SCAN_ROWS]> {
    let word = |row: &Vec<u8>, at: usize| u32::from_ne_bytes(row.as_chunks().0[at]);
    (0..words).map(|at| std::array::from_fn(|row| word(&rows[row], at))).collect()
}

fn weights(words: usize, mut weight: impl FnMut() -> i8) -> Vec<i8> {
    (0..words * WORD).map(|_| weight()).collect()
}

fn check_bytes(kernels: Kernels, words: usize, weight: impl FnMut() -> i8, byte: impl FnMut() -> u8) {
    let (rows, query) = (rows(words, byte), weights(words, weight));
    let mut filled = query.clone();
    filled.resize(rows[0].len(), 0);
    let mut expected = [0; SCAN_ROWS];
    let slices: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
    scalar::byte_dots(&filled, &slices, &mut expected);
    assert_eq!(kernels.level.run(Bytes(&query, &interleaved(&rows, words))), expected, "{words}");
}

fn check_nibbles(kernels: Kernels, words: usize, mut weight: impl FnMut() -> i8, byte: impl FnMut() -> u8) {
    let rows = rows(words, byte);
    let (low, high) = (weights(words, &mut weight), weights(words, &mut weight));
    let mut filled = low.clone();
    filled.resize(rows[0].len(), 0);
    filled.extend(&high);
    filled.resize(2 * rows[0].len(), 0);
    let mut expected = [0; SCAN_ROWS];
    let slices: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
    scalar::nibble_dots(&filled, &slices, &mut expected);
    assert_eq!(kernels.level.run(Nibbles(&low, &high, &interleaved(&rows, words))), expected, "{words}");
}

pub(super) fn interleaved_codes_give_the_products_of_their_rows(kernels: Kernels) {
    let (mut random, mut other) = (Random(31), Random(32));
    for words in LENGTHS {
        let mut weight = || (random.next() * 127.9) as i8;
        check_bytes(kernels, words, &mut weight, || (other.next().abs() * 127.9) as u8);
        check_nibbles(kernels, words, &mut weight, || (other.next().abs() * 255.9) as u8);
    }
}

pub(super) fn interleaved_codes_hold_the_extremes(kernels: Kernels) {
    for words in LENGTHS {
        for weight in [127, -127] {
            check_bytes(kernels, words, || weight, || 127);
            check_nibbles(kernels, words, || weight, || 255);
        }
    }
}

pub(super) fn interleaved_codes_that_do_not_fit_are_refused(kernels: Kernels) {
    let words = [[1; SCAN_ROWS]; 3];
    let query = [1; 16];
    for len in [0, 4, 11, 13, 16] {
        refused(&|| _ = kernels.level.run(Bytes(&query[..len], &words)));
        refused(&|| _ = kernels.level.run(Nibbles(&query[..len], &query[..12], &words)));
        refused(&|| _ = kernels.level.run(Nibbles(&query[..12], &query[..len], &words)));
    }
}
