//! Looking codes up with AVX2: two positions of 32 rows at a time.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_add_epi16, _mm_storeu_si128, _mm_unpackhi_epi16, _mm_unpacklo_epi16,
    _mm256_add_epi16, _mm256_and_si256, _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_loadu_si256,
    _mm256_set1_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi16, _mm256_srli_epi16,
    _mm256_sub_epi16,
};

use crate::kernel::scan::{SCAN_POSITION, SCAN_ROWS, check};

/// Positions in a vector.
const STEP: usize = 2;

/// For a machine with AVX2 only, like the rest of its table.
#[inline]
pub(super) fn scan(tables: &[u8], codes: &[u8], sums: &mut [u16; SCAN_ROWS]) {
    let positions = check(tables, codes);
    // SAFETY: handed out only where AVX2 was detected; both have 16 bytes for
    // each position, whose number is even.
    unsafe { all(tables.as_ptr(), codes.as_ptr(), positions, sums) }
}

/// # Safety
/// The machine has AVX2; 16 bytes for each of `positions`, an even number, can
/// be read at `tables` and at `codes`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn all(tables: *const u8, codes: *const u8, positions: usize, sums: &mut [u16; SCAN_ROWS]) {
    let mask = _mm256_set1_epi8(15);
    let zero = _mm256_setzero_si256();
    // Sixteen-bit lanes: the sums of all bytes, those of the odd bytes 256-fold,
    // and the sums of the odd bytes. For rows 0 to 15, then 16 to 31.
    let (mut both, mut odd) = ([zero; 2], [zero; 2]);
    for at in (0..positions).step_by(STEP) {
        // SAFETY: `at + STEP <= positions`; the loads take any address.
        let (table, code) = unsafe {
            let at = at * SCAN_POSITION;
            (_mm256_loadu_si256(tables.add(at).cast()), _mm256_loadu_si256(codes.add(at).cast()))
        };
        let halves = [_mm256_and_si256(code, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(code), mask)];
        for (half, code) in halves.into_iter().enumerate() {
            let numbers = _mm256_shuffle_epi8(table, code);
            both[half] = _mm256_add_epi16(both[half], numbers);
            odd[half] = _mm256_add_epi16(odd[half], _mm256_srli_epi16::<8>(numbers));
        }
    }
    for half in 0..2 {
        let even = _mm256_sub_epi16(both[half], _mm256_slli_epi16::<8>(odd[half]));
        store(fold(even), fold(odd[half]), &mut sums[half * SCAN_POSITION..]);
    }
}

/// The sum of both positions of a vector.
#[inline]
#[target_feature(enable = "avx2")]
fn fold(sums: __m256i) -> __m128i {
    _mm_add_epi16(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums))
}

/// Puts the sums of 16 rows in order.
///
/// # Panics
/// When there is no room for 16.
#[inline]
#[target_feature(enable = "avx2")]
fn store(even: __m128i, odd: __m128i, sums: &mut [u16]) {
    let sums = &mut sums[..SCAN_POSITION];
    // SAFETY: 16 numbers of two bytes are two vectors of 16 bytes.
    unsafe {
        let to = sums.as_mut_ptr().cast::<__m128i>();
        _mm_storeu_si128(to, _mm_unpacklo_epi16(even, odd));
        _mm_storeu_si128(to.add(1), _mm_unpackhi_epi16(even, odd));
    }
}
