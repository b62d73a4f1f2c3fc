//! AVX-512 F: sixteen lanes; the last dimensions are loaded under a mask.

use std::arch::x86_64::{
    __m512, __mmask16, _mm_loadu_si128, _mm256_loadu_si256, _mm512_add_ps, _mm512_cvtepi32_ps,
    _mm512_cvtepu8_epi32, _mm512_cvtph_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_maskz_loadu_ps,
    _mm512_maskz_mov_ps, _mm512_reduce_add_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    _mm512_sub_ps,
};

use crate::kernel::lanes::{Lanes, kernels};

kernels!(Floats, "avx512f", crate::kernel::scalar::byte_dots, crate::kernel::scalar::nibble_dots);

#[derive(Clone, Copy)]
struct Floats(__m512);

impl Lanes for Floats {
    const COUNT: usize = 16;

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn zero() -> Floats {
        Floats(_mm512_setzero_ps())
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(from: *const f32) -> Floats {
        // SAFETY: the caller vouches for 16 floats; the load takes any address.
        Floats(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load_first(from: *const f32, count: usize) -> Floats {
        let mask = ((1u32 << count) - 1) as __mmask16;
        // SAFETY: the caller vouches for `count` floats; lanes outside the mask
        // are not read.
        Floats(unsafe { _mm512_maskz_loadu_ps(mask, from) })
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load_halves(from: *const u16) -> Floats {
        // SAFETY: the caller vouches for 16 halves; the load takes any address.
        Floats(_mm512_cvtph_ps(unsafe { _mm256_loadu_si256(from.cast()) }))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load_bytes(from: *const u8) -> Floats {
        // SAFETY: the caller vouches for 16 bytes; the load takes any address.
        let bytes = unsafe { _mm_loadu_si128(from.cast()) };
        Floats(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn splat(value: f32) -> Floats {
        Floats(_mm512_set1_ps(value))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for 16 floats; the store takes any address.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn first(self, count: usize) -> Floats {
        Floats(_mm512_maskz_mov_ps(((1u32 << count) - 1) as __mmask16, self.0))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn add(self, other: Floats) -> Floats {
        Floats(_mm512_add_ps(self.0, other.0))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn add_product(self, a: Floats, b: Floats) -> Floats {
        Floats(_mm512_fmadd_ps(a.0, b.0, self.0))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn add_squared_difference(self, a: Floats, b: Floats) -> Floats {
        let difference = _mm512_sub_ps(a.0, b.0);
        Floats(_mm512_fmadd_ps(difference, difference, self.0))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn sum(self) -> f32 {
        _mm512_reduce_add_ps(self.0)
    }
}
