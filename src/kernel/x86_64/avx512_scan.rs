//! Looking codes up with AVX-512 BW: four positions of 32 rows at a time.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi16, _mm512_and_si512, _mm512_loadu_si512, _mm512_set1_epi8, _mm512_setzero_si512,
    _mm512_shuffle_epi8, _mm512_shuffle_i64x2, _mm512_slli_epi16, _mm512_srli_epi16, _mm512_storeu_si512,
    _mm512_sub_epi16, _mm512_unpackhi_epi16, _mm512_unpacklo_epi16,
};

use crate::kernel::scan::{SCAN_POSITION, SCAN_ROWS, SCAN_STEP, check};

/// For a machine where AVX-512 BW is available only.
#[inline]
pub(super) fn scan(tables: &[u8], codes: &[u8], sums: &mut [u16; SCAN_ROWS]) {
    let positions = check(tables, codes);
    // SAFETY: handed out only where the instructions were detected; both have
    // 16 bytes for each position, whose number is a multiple of four.
    unsafe { all(tables.as_ptr(), codes.as_ptr(), positions, sums) }
}

/// # Safety
/// The machine has the instructions; 16 bytes for each of `positions`, a
/// multiple of four, can be read at `tables` and at `codes`.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
unsafe fn all(tables: *const u8, codes: *const u8, positions: usize, sums: &mut [u16; SCAN_ROWS]) {
    let mask = _mm512_set1_epi8(15);
    let zero = _mm512_setzero_si512();
    // As with AVX2: the sums of all bytes, and those of the odd ones.
    let (mut both, mut odd) = ([zero; 2], [zero; 2]);
    for at in (0..positions).step_by(SCAN_STEP) {
        // SAFETY: `at + SCAN_STEP <= positions`; the loads take any address.
        let (table, code) = unsafe {
            let at = at * SCAN_POSITION;
            (_mm512_loadu_si512(tables.add(at).cast()), _mm512_loadu_si512(codes.add(at).cast()))
        };
        let halves = [_mm512_and_si512(code, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(code), mask)];
        for (half, code) in halves.into_iter().enumerate() {
            let numbers = _mm512_shuffle_epi8(table, code);
            both[half] = _mm512_add_epi16(both[half], numbers);
            odd[half] = _mm512_add_epi16(odd[half], _mm512_srli_epi16::<8>(numbers));
        }
    }
    let even = |half: usize| _mm512_sub_epi16(both[half], _mm512_slli_epi16::<8>(odd[half]));
    // Of four positions each: rows 0 to 7 and 8 to 15, then 16 to 23 and 24 to 31.
    let lower = fold(_mm512_unpacklo_epi16(even(0), odd[0]), _mm512_unpackhi_epi16(even(0), odd[0]));
    let upper = fold(_mm512_unpacklo_epi16(even(1), odd[1]), _mm512_unpackhi_epi16(even(1), odd[1]));
    // In one piece: what is loaded next need not wait for parts of it.
    // SAFETY: 32 numbers of two bytes are a vector of 64 bytes.
    unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), fold(lower, upper)) }
}

/// Adds positions up, two and two of `a`, then of `b`.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn fold(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi16(_mm512_shuffle_i64x2::<0x88>(a, b), _mm512_shuffle_i64x2::<0xDD>(a, b))
}
