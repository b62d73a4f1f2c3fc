//! Codes with NEON: 16 bytes at a time.
//!
//! Codes are at most 127, so they may pass for signed bytes; two products of a
//! code and a weight just fit into sixteen bits.

use std::arch::aarch64::{
    int8x16_t, int32x4_t, vaddvq_s32, vandq_u8, vdupq_n_s32, vdupq_n_u8, vget_low_s8, vld1q_s8, vld1q_u8,
    vmlal_high_s8, vmull_s8, vpadalq_s16, vreinterpretq_s8_u8, vshrq_n_u8,
};

use crate::kernel::codes::{Packing, check};

/// Bytes in a vector.
const STEP: usize = 16;

/// For a machine with NEON only, like the rest of its table.
pub(super) fn byte_dots(query: &[i8], rows: &[&[u8]], out: &mut [i32]) {
    let len = check(Packing::Bytes, query, rows, out);
    for (row, out) in rows.iter().zip(out) {
        // SAFETY: handed out only where NEON was detected; both have `len` bytes.
        *out = unsafe { bytes(query.as_ptr(), row.as_ptr(), len) };
    }
}

/// For a machine with NEON only, like the rest of its table.
pub(super) fn nibble_dots(query: &[i8], rows: &[&[u8]], out: &mut [i32]) {
    let len = check(Packing::Nibbles, query, rows, out);
    for (row, out) in rows.iter().zip(out) {
        // SAFETY: handed out only where NEON was detected; the row has `len`
        // bytes, the query twice as many.
        *out = unsafe { nibbles(query.as_ptr(), row.as_ptr(), len) };
    }
}

/// # Safety
/// The machine has NEON; `len` bytes, a multiple of [`STEP`], can be read at
/// `query` and at `row`.
#[target_feature(enable = "neon")]
unsafe fn bytes(query: *const i8, row: *const u8, len: usize) -> i32 {
    let mut sum = vdupq_n_s32(0);
    for at in (0..len).step_by(STEP) {
        // SAFETY: `at + STEP <= len`.
        let (weights, codes) = unsafe { (vld1q_s8(query.add(at)), vld1q_u8(row.add(at))) };
        sum = add_products(sum, vreinterpretq_s8_u8(codes), weights);
    }
    vaddvq_s32(sum)
}

/// # Safety
/// The machine has NEON; `len` bytes, a multiple of [`STEP`], can be read at
/// `row` and twice as many at `query`.
#[target_feature(enable = "neon")]
unsafe fn nibbles(query: *const i8, row: *const u8, len: usize) -> i32 {
    let mask = vdupq_n_u8(15);
    let mut sum = vdupq_n_s32(0);
    for at in (0..len).step_by(STEP) {
        // SAFETY: `at + STEP <= len`, and the query is twice as long.
        let (codes, low, high) =
            unsafe { (vld1q_u8(row.add(at)), vld1q_s8(query.add(at)), vld1q_s8(query.add(len + at))) };
        sum = add_products(sum, vreinterpretq_s8_u8(vandq_u8(codes, mask)), low);
        sum = add_products(sum, vreinterpretq_s8_u8(vshrq_n_u8::<4>(codes)), high);
    }
    vaddvq_s32(sum)
}

#[inline]
#[target_feature(enable = "neon")]
fn add_products(sum: int32x4_t, codes: int8x16_t, weights: int8x16_t) -> int32x4_t {
    let pairs = vmull_s8(vget_low_s8(codes), vget_low_s8(weights));
    vpadalq_s16(sum, vmlal_high_s8(pairs, codes, weights))
}
