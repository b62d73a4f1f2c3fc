//! NEON: four lanes; the last dimensions go through a small zeroed buffer.

use std::arch::aarch64::{float32x4_t, vaddq_f32, vaddvq_f32, vdupq_n_f32, vfmaq_f32, vld1q_f32, vsubq_f32};

use crate::kernel::lanes::{Lanes, kernels};

kernels!(Floats, "neon", super::neon_codes::byte_dots, super::neon_codes::nibble_dots);

#[derive(Clone, Copy)]
struct Floats(float32x4_t);

impl Lanes for Floats {
    const COUNT: usize = 4;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn zero() -> Floats {
        Floats(vdupq_n_f32(0.0))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn load(from: *const f32) -> Floats {
        // SAFETY: the caller vouches for 4 floats; the load takes any address.
        Floats(unsafe { vld1q_f32(from) })
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn load_first(from: *const f32, count: usize) -> Floats {
        let mut padded = [0f32; 4];
        for (place, slot) in padded.iter_mut().enumerate().take(count) {
            // SAFETY: the caller vouches for `count` floats, and `place < count`.
            *slot = unsafe { from.add(place).read() };
        }
        // SAFETY: the buffer has 4 floats.
        Floats(unsafe { vld1q_f32(padded.as_ptr()) })
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn add(self, other: Floats) -> Floats {
        Floats(vaddq_f32(self.0, other.0))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn add_product(self, a: Floats, b: Floats) -> Floats {
        Floats(vfmaq_f32(self.0, a.0, b.0))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn add_squared_difference(self, a: Floats, b: Floats) -> Floats {
        let difference = vsubq_f32(a.0, b.0);
        Floats(vfmaq_f32(self.0, difference, difference))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn sum(self) -> f32 {
        vaddvq_f32(self.0)
    }
}
