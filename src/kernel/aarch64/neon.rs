//! NEON: four lanes; the last dimensions go through a small zeroed buffer.

use std::arch::aarch64::{
    float32x4_t, vaddq_f32, vaddvq_f32, vandq_u32, vcltq_u32, vcreate_u8, vcvtq_f32_u32, vdupq_n_f32,
    vdupq_n_u32, vfmaq_f32, vget_low_u16, vld1_u16, vld1q_f32, vld1q_u32, vmovl_u8, vmovl_u16, vmulq_f32,
    vorrq_u32, vreinterpretq_f32_u32, vreinterpretq_u32_f32, vshlq_n_u32, vst1q_f32, vsubq_f32,
};

use crate::kernel::formats::REBIAS;
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

    /// As `from_half` does it: the product is exact, also of subnormals.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn load_halves(from: *const u16) -> Floats {
        // SAFETY: the caller vouches for 4 halves; the load takes any address.
        let halves = vmovl_u16(unsafe { vld1_u16(from) });
        let magnitude = vshlq_n_u32::<13>(vandq_u32(halves, vdupq_n_u32(0x7fff)));
        let sign = vshlq_n_u32::<16>(vandq_u32(halves, vdupq_n_u32(0x8000)));
        let rebiased = vmulq_f32(vreinterpretq_f32_u32(magnitude), vdupq_n_f32(REBIAS));
        Floats(vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(rebiased), sign)))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn load_bytes(from: *const u8) -> Floats {
        // SAFETY: the caller vouches for 4 bytes, at any address.
        let bytes = unsafe { from.cast::<u32>().read_unaligned() };
        let bytes = vcreate_u8(u64::from(bytes));
        Floats(vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes)))))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn splat(value: f32) -> Floats {
        Floats(vdupq_n_f32(value))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for 4 floats; the store takes any address.
        unsafe { vst1q_f32(to, self.0) }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn first(self, count: usize) -> Floats {
        let lanes: [u32; 4] = [0, 1, 2, 3];
        // SAFETY: the array has 4 numbers.
        let is_first = vcltq_u32(unsafe { vld1q_u32(lanes.as_ptr()) }, vdupq_n_u32(count as u32));
        Floats(vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(self.0), is_first)))
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
