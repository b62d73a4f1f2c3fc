//! AVX-512 F: sixteen lanes; the last dimensions are loaded under a mask.

use std::arch::x86_64::{
    __m512, __mmask16, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_maskz_loadu_ps,
    _mm512_reduce_add_ps, _mm512_setzero_ps, _mm512_sub_ps,
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
