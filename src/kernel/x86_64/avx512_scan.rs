//! Looking codes up with AVX-512 BW: four positions of 32 rows at a time.

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_add_epi16, _mm512_add_epi16, _mm512_and_si512, _mm512_castsi512_si256,
    _mm512_extracti64x4_epi64, _mm512_loadu_si512, _mm512_set1_epi8, _mm512_setzero_si512,
    _mm512_shuffle_epi8, _mm512_slli_epi16, _mm512_srli_epi16, _mm512_sub_epi16,
};

use super::avx2_scan::{fold, store};
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
    for half in 0..2 {
        let even = _mm512_sub_epi16(both[half], _mm512_slli_epi16::<8>(odd[half]));
        store(fold(halve(even)), fold(halve(odd[half])), &mut sums[half * SCAN_POSITION..]);
    }
}

/// The sum of the upper and the lower two positions.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn halve(sums: __m512i) -> __m256i {
    _mm256_add_epi16(_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64::<1>(sums))
}
