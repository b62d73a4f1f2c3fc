//! Looking codes up with NEON: one position of 32 rows at a time.

use std::arch::aarch64::{
    vaddw_high_u8, vaddw_u8, vandq_u8, vdupq_n_u8, vdupq_n_u16, vget_low_u8, vld1q_u8, vqtbl1q_u8,
    vshrq_n_u8, vst1q_u16,
};

use crate::kernel::scan::{SCAN_POSITION, SCAN_ROWS, check};

/// For a machine with NEON only, like the rest of its table.
#[inline]
pub(super) fn scan(tables: &[u8], codes: &[u8], sums: &mut [u16; SCAN_ROWS]) {
    let positions = check(tables, codes);
    // SAFETY: handed out only where NEON was detected; both have 16 bytes for
    // each position.
    unsafe { all(tables.as_ptr(), codes.as_ptr(), positions, sums) }
}

/// # Safety
/// The machine has NEON; 16 bytes for each of `positions` can be read at
/// `tables` and at `codes`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn all(tables: *const u8, codes: *const u8, positions: usize, sums: &mut [u16; SCAN_ROWS]) {
    let mask = vdupq_n_u8(15);
    let mut parts = [vdupq_n_u16(0); 4];
    for at in 0..positions {
        let at = at * SCAN_POSITION;
        // SAFETY: 16 bytes stand there.
        let (table, code) = unsafe { (vld1q_u8(tables.add(at)), vld1q_u8(codes.add(at))) };
        let low = vqtbl1q_u8(table, vandq_u8(code, mask));
        let high = vqtbl1q_u8(table, vshrq_n_u8::<4>(code));
        parts[0] = vaddw_u8(parts[0], vget_low_u8(low));
        parts[1] = vaddw_high_u8(parts[1], low);
        parts[2] = vaddw_u8(parts[2], vget_low_u8(high));
        parts[3] = vaddw_high_u8(parts[3], high);
    }
    for (part, sums) in parts.into_iter().zip(sums.chunks_exact_mut(8)) {
        // SAFETY: eight numbers of two bytes are a vector.
        unsafe { vst1q_u16(sums.as_mut_ptr(), part) };
    }
}
