//! Codes with AVX-512 BW and VNNI: a line at a time, four rows together.
//!
//! `dpbusd` adds four products of an unsigned and a signed byte to a number of
//! 32 bits, and nothing saturates.

use std::arch::x86_64::{
    __m512i, _mm256_add_epi32, _mm512_add_epi32, _mm512_and_si512, _mm512_castsi512_si256,
    _mm512_dpbusd_epi32, _mm512_extracti64x4_epi64, _mm512_loadu_si512, _mm512_set1_epi8, _mm512_set1_epi32,
    _mm512_setzero_si512, _mm512_srli_epi16, _mm512_storeu_si512,
};

use super::avx2_codes::fold;
use crate::kernel::codes::{GROUP, LINE, Packing, TWO_LINES, WORD, by_fours, check, check_interleaved};
use crate::kernel::scan::SCAN_ROWS;

/// Registers of a word of each of 32 rows.
const HALVES: usize = 2;

/// Whether this machine can run them: AVX-512 F alone is not enough.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
}

/// For a machine where they are available only.
#[inline]
pub(super) fn byte_dots(query: &[i8], rows: &[&[u8]], out: &mut [i32]) {
    let len = check(Packing::Bytes, query, rows, out);
    // SAFETY: handed out only where available; query and rows have `len` bytes.
    unsafe { bytes(query.as_ptr().cast(), len, rows, out) }
}

/// For a machine where they are available only.
#[inline]
pub(super) fn nibble_dots(query: &[i8], rows: &[&[u8]], out: &mut [i32]) {
    let len = check(Packing::Nibbles, query, rows, out);
    // SAFETY: handed out only where available; the rows have `len` bytes, the
    // query twice as many.
    unsafe { nibbles(query.as_ptr().cast(), len, rows, out) }
}

/// # Safety
/// The machine has the instructions; `len` bytes, whole lines, can be read at
/// `query`, and every row has as many.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn bytes(query: *const u8, len: usize, rows: &[&[u8]], out: &mut [i32]) {
    // A length that the compiler knows is unrolled, and the query stays in registers. The choice is made once for
    // all rows: within `by_fours` it makes a call of each group (64 bytes of nibbles: 4 to 9 ns a row instead of 2).
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
/// The machine has the instructions; every row has `len` bytes, whole lines,
/// and twice as many can be read at `query`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn nibbles(query: *const u8, len: usize, rows: &[&[u8]], out: &mut [i32]) {
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
/// The machine has the instructions; `len` bytes, whole lines, can be read at
/// `query` and at every row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn four_of_bytes(query: *const u8, len: usize, rows: [*const u8; GROUP]) -> [i32; GROUP] {
    let mut sums = [_mm512_setzero_si512(); GROUP];
    for at in (0..len).step_by(LINE) {
        // SAFETY: `at + LINE <= len`.
        let weights = unsafe { load(query.add(at)) };
        for (sum, row) in sums.iter_mut().zip(rows) {
            // SAFETY: `at + LINE <= len`.
            let codes = unsafe { load(row.add(at)) };
            *sum = _mm512_dpbusd_epi32(*sum, codes, weights);
        }
    }
    fold(sums.map(|sum| halve(sum)))
}

/// # Safety
/// The machine has the instructions; `len` bytes, whole lines, can be read at
/// every row and twice as many at `query`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn four_of_nibbles(query: *const u8, len: usize, rows: [*const u8; GROUP]) -> [i32; GROUP] {
    let mask = _mm512_set1_epi8(15);
    let mut sums = [_mm512_setzero_si512(); GROUP];
    for at in (0..len).step_by(LINE) {
        // SAFETY: `at + LINE <= len`, and the query is twice as long.
        let (low, high) = unsafe { (load(query.add(at)), load(query.add(len + at))) };
        for (sum, row) in sums.iter_mut().zip(rows) {
            // SAFETY: `at + LINE <= len`.
            let codes = unsafe { load(row.add(at)) };
            *sum = _mm512_dpbusd_epi32(*sum, _mm512_and_si512(codes, mask), low);
            let codes = _mm512_srli_epi16::<4>(codes);
            *sum = _mm512_dpbusd_epi32(*sum, _mm512_and_si512(codes, mask), high);
        }
    }
    fold(sums.map(|sum| halve(sum)))
}

/// For a machine where they are available only.
#[inline]
pub(super) fn interleaved_byte_dots(query: &[i8], words: &[[u32; SCAN_ROWS]]) -> [i32; SCAN_ROWS] {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn enabled(query: &[i8], words: &[[u32; SCAN_ROWS]]) -> [i32; SCAN_ROWS] {
        let mut sums = [[_mm512_setzero_si512(); HALVES]; 2];
        let (twos, last) = words.as_chunks::<2>();
        let (weights, rest) = query.as_chunks::<{ 2 * WORD }>();
        // Two sums of each row, so that one need not wait for the other.
        for ([first, second], weights) in twos.iter().zip(weights) {
            let [a, b, c, d, e, f, g, h] = *weights;
            sums[0] = add_words(sums[0], halves(first), spread([a, b, c, d]));
            sums[1] = add_words(sums[1], halves(second), spread([e, f, g, h]));
        }
        if let ([words], Some(weights)) = (last, rest.first_chunk()) {
            sums[0] = add_words(sums[0], halves(words), spread(*weights));
        }
        together(sums)
    }
    check_interleaved(query, words);
    // SAFETY: handed out only where available.
    unsafe { enabled(query, words) }
}

/// For a machine where they are available only.
#[inline]
pub(super) fn interleaved_nibble_dots(
    low: &[i8],
    high: &[i8],
    words: &[[u32; SCAN_ROWS]],
) -> [i32; SCAN_ROWS] {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn enabled(low: &[i8], high: &[i8], words: &[[u32; SCAN_ROWS]]) -> [i32; SCAN_ROWS] {
        let mask = _mm512_set1_epi8(15);
        let mut sums = [[_mm512_setzero_si512(); HALVES]; 2];
        for ((words, low), high) in words.iter().zip(low.as_chunks().0).zip(high.as_chunks().0) {
            let codes = halves(words);
            sums[0] = add_words(sums[0], codes.map(|codes| _mm512_and_si512(codes, mask)), spread(*low));
            let codes = codes.map(|codes| _mm512_and_si512(_mm512_srli_epi16::<4>(codes), mask));
            sums[1] = add_words(sums[1], codes, spread(*high));
        }
        together(sums)
    }
    check_interleaved(low, words);
    check_interleaved(high, words);
    // SAFETY: handed out only where available.
    unsafe { enabled(low, high, words) }
}

/// A word of each of 32 rows.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves(words: &[u32; SCAN_ROWS]) -> [__m512i; HALVES] {
    // SAFETY: sixteen words stand there, and sixteen more.
    unsafe { [load(words.as_ptr().cast()), load(words.as_ptr().cast::<u8>().add(LINE))] }
}

/// Four weights in each word.
#[inline]
#[target_feature(enable = "avx512f")]
fn spread(weights: [i8; WORD]) -> __m512i {
    _mm512_set1_epi32(i32::from_ne_bytes(weights.map(i8::cast_unsigned)))
}

#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn add_words(sums: [__m512i; HALVES], codes: [__m512i; HALVES], weights: __m512i) -> [__m512i; HALVES] {
    [_mm512_dpbusd_epi32(sums[0], codes[0], weights), _mm512_dpbusd_epi32(sums[1], codes[1], weights)]
}

/// Two sums of each of 32 rows, added.
#[inline]
#[target_feature(enable = "avx512f")]
fn together(sums: [[__m512i; HALVES]; 2]) -> [i32; SCAN_ROWS] {
    let mut out = [0; SCAN_ROWS];
    for (half, out) in out.as_chunks_mut::<{ SCAN_ROWS / HALVES }>().0.iter_mut().enumerate() {
        let sum = _mm512_add_epi32(sums[0][half], sums[1][half]);
        // SAFETY: there is room for sixteen numbers; the store takes any address.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), sum) };
    }
    out
}

/// # Safety
/// The machine has the instructions; [`LINE`] bytes can be read at `from`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(from: *const u8) -> __m512i {
    // SAFETY: the caller vouches for the bytes; the load takes any address.
    unsafe { _mm512_loadu_si512(from.cast()) }
}

/// Adds the upper eight numbers to the lower.
#[inline]
#[target_feature(enable = "avx512f")]
fn halve(sum: __m512i) -> std::arch::x86_64::__m256i {
    _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum))
}
