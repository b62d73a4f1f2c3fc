//! Codes with AVX2: 32 bytes at a time, four rows together.
//!
//! `maddubs` adds two products of a code and a weight into sixteen bits. Two of
//! bytes just fit (2 * 127 * 127); of nibbles eight such pairs do.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_add_epi32, _mm_storeu_si128, _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256,
    _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_hadd_epi32, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_setzero_si256, _mm256_srli_epi16, _mm256_storeu_si256,
};

use crate::kernel::codes::{GROUP, LINE, Packing, TWO_LINES, WORD, by_fours, check, check_interleaved};
use crate::kernel::scan::SCAN_ROWS;

/// Bytes in a vector.
const STEP: usize = 32;

/// Vectors of nibbles whose sums fit into sixteen bits: each adds two pairs,
/// and 8 * 2 * 15 * 127 is below 2^15.
const NIBBLE_RUN: usize = 4;

/// Registers of a word of each of 32 rows.
const QUARTERS: usize = 4;

/// For a machine with AVX2 only, like the rest of its table.
#[inline]
pub(super) fn byte_dots(query: &[i8], rows: &[&[u8]], out: &mut [i32]) {
    let len = check(Packing::Bytes, query, rows, out);
    // SAFETY: handed out only where AVX2 was detected; query and rows have `len` bytes.
    unsafe { bytes(query, len, rows, out) }
}

/// For a machine with AVX2 only, like the rest of its table.
#[inline]
pub(super) fn nibble_dots(query: &[i8], rows: &[&[u8]], out: &mut [i32]) {
    let len = check(Packing::Nibbles, query, rows, out);
    // SAFETY: handed out only where AVX2 was detected; the rows have `len`
    // bytes, the query twice as many.
    unsafe { nibbles(query, len, rows, out) }
}

/// # Safety
/// The machine has AVX2; `query` and every row have `len` bytes, whole lines.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn bytes(query: &[i8], len: usize, rows: &[&[u8]], out: &mut [i32]) {
    let query = query.as_ptr().cast::<u8>();
    // A length that the compiler knows is unrolled, and the query stays in registers. One choice for all rows, as in
    // `avx512_codes`.
    match len {
        // SAFETY: the caller's; `len` is that of the arm.
        LINE => by_fours(rows, out, |rows| unsafe { four_of_bytes(query, LINE, rows) }),
        TWO_LINES => {
            // SAFETY: the caller's; `len` is that of the arm.
            by_fours(rows, out, |rows| unsafe { four_of_bytes(query, TWO_LINES, rows) });
        }
        // SAFETY: the caller's.
        _ => by_fours(rows, out, |rows| unsafe { four_of_bytes(query, len, rows) }),
    }
}

/// # Safety
/// The machine has AVX2; every row has `len` bytes, whole lines, and `query`
/// twice as many.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn nibbles(query: &[i8], len: usize, rows: &[&[u8]], out: &mut [i32]) {
    let query = query.as_ptr().cast::<u8>();
    match len {
        // SAFETY: the caller's; `len` is that of the arm.
        LINE => by_fours(rows, out, |rows| unsafe { four_of_nibbles(query, LINE, rows) }),
        TWO_LINES => {
            // SAFETY: the caller's; `len` is that of the arm.
            by_fours(rows, out, |rows| unsafe { four_of_nibbles(query, TWO_LINES, rows) });
        }
        // SAFETY: the caller's.
        _ => by_fours(rows, out, |rows| unsafe { four_of_nibbles(query, len, rows) }),
    }
}

/// # Safety
/// The machine has AVX2; `len` bytes, a multiple of [`STEP`], can be read at
/// `query` and at every row.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn four_of_bytes(query: *const u8, len: usize, rows: [*const u8; GROUP]) -> [i32; GROUP] {
    let ones = _mm256_set1_epi16(1);
    let mut sums = [_mm256_setzero_si256(); GROUP];
    for at in (0..len).step_by(STEP) {
        // SAFETY: `at + STEP <= len`.
        let weights = unsafe { load(query.add(at)) };
        for (sum, row) in sums.iter_mut().zip(rows) {
            // SAFETY: `at + STEP <= len`.
            let codes = unsafe { load(row.add(at)) };
            let pairs = _mm256_maddubs_epi16(codes, weights);
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
        }
    }
    fold(sums)
}

/// # Safety
/// The machine has AVX2; `len` bytes, a multiple of [`STEP`], can be read at
/// every row and twice as many at `query`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn four_of_nibbles(query: *const u8, len: usize, rows: [*const u8; GROUP]) -> [i32; GROUP] {
    let (ones, mask) = (_mm256_set1_epi16(1), _mm256_set1_epi8(15));
    let mut sums = [_mm256_setzero_si256(); GROUP];
    for start in (0..len).step_by(NIBBLE_RUN * STEP) {
        let end = len.min(start + NIBBLE_RUN * STEP);
        let mut pairs = [_mm256_setzero_si256(); GROUP];
        for at in (start..end).step_by(STEP) {
            // SAFETY: `at + STEP <= len`, and the query is twice as long.
            let (low, high) = unsafe { (load(query.add(at)), load(query.add(len + at))) };
            for (pairs, row) in pairs.iter_mut().zip(rows) {
                // SAFETY: `at + STEP <= len`.
                let codes = unsafe { load(row.add(at)) };
                let first = _mm256_maddubs_epi16(_mm256_and_si256(codes, mask), low);
                let codes = _mm256_srli_epi16::<4>(codes);
                let second = _mm256_maddubs_epi16(_mm256_and_si256(codes, mask), high);
                *pairs = _mm256_add_epi16(*pairs, _mm256_add_epi16(first, second));
            }
        }
        for (sum, pairs) in sums.iter_mut().zip(pairs) {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
        }
    }
    fold(sums)
}

/// For a machine with AVX2 only, like the rest of its table.
#[inline]
pub(super) fn interleaved_byte_dots(query: &[i8], words: &[[u32; SCAN_ROWS]]) -> [i32; SCAN_ROWS] {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn enabled(query: &[i8], words: &[[u32; SCAN_ROWS]]) -> [i32; SCAN_ROWS] {
        let ones = _mm256_set1_epi16(1);
        let mut sums = [_mm256_setzero_si256(); QUARTERS];
        for (words, weights) in words.iter().zip(query.as_chunks().0) {
            let weights = spread(*weights);
            for (sum, codes) in sums.iter_mut().zip(quarters(words)) {
                let pairs = _mm256_maddubs_epi16(codes, weights);
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
            }
        }
        stored(sums)
    }
    check_interleaved(query, words);
    // SAFETY: handed out only where AVX2 was detected.
    unsafe { enabled(query, words) }
}

/// For a machine with AVX2 only, like the rest of its table.
#[inline]
pub(super) fn interleaved_nibble_dots(
    low: &[i8],
    high: &[i8],
    words: &[[u32; SCAN_ROWS]],
) -> [i32; SCAN_ROWS] {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn enabled(low: &[i8], high: &[i8], words: &[[u32; SCAN_ROWS]]) -> [i32; SCAN_ROWS] {
        let (ones, mask) = (_mm256_set1_epi16(1), _mm256_set1_epi8(15));
        let mut sums = [_mm256_setzero_si256(); QUARTERS];
        let (lows, highs) = (low.as_chunks::<WORD>().0, high.as_chunks::<WORD>().0);
        let runs = words.chunks(NIBBLE_RUN).zip(lows.chunks(NIBBLE_RUN)).zip(highs.chunks(NIBBLE_RUN));
        for ((words, lows), highs) in runs {
            let mut pairs = [_mm256_setzero_si256(); QUARTERS];
            for ((words, low), high) in words.iter().zip(lows).zip(highs) {
                let (low, high) = (spread(*low), spread(*high));
                for (pairs, codes) in pairs.iter_mut().zip(quarters(words)) {
                    let first = _mm256_maddubs_epi16(_mm256_and_si256(codes, mask), low);
                    let codes = _mm256_srli_epi16::<4>(codes);
                    let second = _mm256_maddubs_epi16(_mm256_and_si256(codes, mask), high);
                    *pairs = _mm256_add_epi16(*pairs, _mm256_add_epi16(first, second));
                }
            }
            for (sum, pairs) in sums.iter_mut().zip(pairs) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
            }
        }
        stored(sums)
    }
    check_interleaved(low, words);
    check_interleaved(high, words);
    // SAFETY: handed out only where AVX2 was detected.
    unsafe { enabled(low, high, words) }
}

/// A word of each of 32 rows.
#[inline]
#[target_feature(enable = "avx2")]
fn quarters(words: &[u32; SCAN_ROWS]) -> [__m256i; QUARTERS] {
    // SAFETY: [`STEP`] bytes stand there for each of four registers.
    std::array::from_fn(|at| unsafe { load(words.as_ptr().cast::<u8>().add(at * STEP)) })
}

/// Four weights in each word.
#[inline]
#[target_feature(enable = "avx2")]
fn spread(weights: [i8; WORD]) -> __m256i {
    _mm256_set1_epi32(i32::from_ne_bytes(weights.map(i8::cast_unsigned)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn stored(sums: [__m256i; QUARTERS]) -> [i32; SCAN_ROWS] {
    let mut out = [0; SCAN_ROWS];
    for (out, sum) in out.as_chunks_mut::<{ SCAN_ROWS / QUARTERS }>().0.iter_mut().zip(sums) {
        // SAFETY: there is room for eight numbers; the store takes any address.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), sum) };
    }
    out
}

/// # Safety
/// The machine has AVX2; [`STEP`] bytes can be read at `from`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load(from: *const u8) -> __m256i {
    // SAFETY: the caller vouches for the bytes; the load takes any address.
    unsafe { _mm256_loadu_si256(from.cast()) }
}

/// The sum of each of four vectors of eight numbers.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn fold([a, b, c, d]: [__m256i; GROUP]) -> [i32; GROUP] {
    let halves = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    let sums: __m128i = _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
    let mut out = [0; GROUP];
    // SAFETY: four numbers of four bytes fit into `out`.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), sums) };
    out
}
