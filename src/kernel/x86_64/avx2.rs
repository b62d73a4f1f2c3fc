//! AVX2 with FMA and F16C: eight lanes; the last dimensions are loaded under a mask.

use std::arch::x86_64::{
    __m256, __m256i, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_loadl_epi64, _mm_loadu_si128,
    _mm_movehdup_ps, _mm_movehl_ps, _mm256_add_ps, _mm256_and_ps, _mm256_castps256_ps128,
    _mm256_castsi256_ps, _mm256_cmpgt_epi32, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm256_cvtph_ps,
    _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_maskload_ps, _mm256_set1_epi32,
    _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_ps, _mm256_storeu_ps, _mm256_sub_ps,
};

use crate::kernel::lanes::{Lanes, kernels};

kernels!(Floats, "avx2,fma,f16c", super::avx2_codes::byte_dots, super::avx2_codes::nibble_dots);

#[derive(Clone, Copy)]
struct Floats(__m256);

impl Lanes for Floats {
    const COUNT: usize = 8;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn zero() -> Floats {
        Floats(_mm256_setzero_ps())
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(from: *const f32) -> Floats {
        // SAFETY: the caller vouches for 8 floats; the load takes any address.
        Floats(unsafe { _mm256_loadu_ps(from) })
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load_first(from: *const f32, count: usize) -> Floats {
        // SAFETY: the caller vouches for `count` floats; lanes outside the mask
        // are not read.
        Floats(unsafe { _mm256_maskload_ps(from, mask(count)) })
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load_halves(from: *const u16) -> Floats {
        // SAFETY: the caller vouches for 8 halves; the load takes any address.
        Floats(_mm256_cvtph_ps(unsafe { _mm_loadu_si128(from.cast()) }))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load_bytes(from: *const u8) -> Floats {
        // SAFETY: the caller vouches for 8 bytes; the load takes any address.
        let bytes = unsafe { _mm_loadl_epi64(from.cast()) };
        Floats(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn splat(value: f32) -> Floats {
        Floats(_mm256_set1_ps(value))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for 8 floats; the store takes any address.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn first(self, count: usize) -> Floats {
        Floats(_mm256_and_ps(self.0, _mm256_castsi256_ps(mask(count))))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn add(self, other: Floats) -> Floats {
        Floats(_mm256_add_ps(self.0, other.0))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn add_product(self, a: Floats, b: Floats) -> Floats {
        Floats(_mm256_fmadd_ps(a.0, b.0, self.0))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn add_squared_difference(self, a: Floats, b: Floats) -> Floats {
        let difference = _mm256_sub_ps(a.0, b.0);
        Floats(_mm256_fmadd_ps(difference, difference, self.0))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn sum(self) -> f32 {
        let four = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }
}

/// All ones in the first `count` lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn mask(count: usize) -> __m256i {
    let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lane)
}
