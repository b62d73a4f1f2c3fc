//! Hints to the processor that memory is wanted soon. They change no result.

/// The unit in which memory moves.
const LINE_BYTES: usize = 64;

/// Lines of a slice that are asked for. Beyond these the processor sees a
/// stream by itself once the slice is read.
const START_LINES: usize = 4;

/// Asks the processor to bring the start of a slice nearer; never faults.
#[inline]
pub(crate) fn prefetch<T>(slice: &[T]) {
    prefetch_start::<1, T>(slice);
}

/// The same as far as the second level, for many slices at a time: few lines can be on
/// their way to the first level (16 on Intel's), and further instructions wait for a place among them.
#[inline]
pub(crate) fn prefetch_one_of_many<T>(slice: &[T]) {
    prefetch_start::<2, T>(slice);
}

#[inline(always)]
fn prefetch_start<const LEVEL: u8, T>(slice: &[T]) {
    prefetch_bytes::<LEVEL>(slice.as_ptr().cast(), size_of_val(slice).min(START_LINES * LINE_BYTES));
}

/// Asks the processor to bring all of a slice nearer; never faults.
#[inline]
pub(crate) fn prefetch_all<T>(slice: &[T]) {
    prefetch_bytes::<1>(slice.as_ptr().cast(), size_of_val(slice));
}

/// Asks for the lines of `bytes` bytes from `start`, which may be any address, as far as a level of the
/// cache: the first or the second.
#[inline(always)]
pub(super) fn prefetch_bytes<const LEVEL: u8>(start: *const u8, bytes: usize) {
    for at in (0..bytes).step_by(LINE_BYTES) {
        prefetch_line::<LEVEL>(start.wrapping_add(at));
    }
}

/// Asks for the line of one address.
#[inline(always)]
pub(super) fn prefetch_line<const LEVEL: u8>(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        // SAFETY: every x86-64 has the instruction, and it is a hint: it reads
        // nothing into the program and faults at no address.
        unsafe {
            match LEVEL {
                1 => _mm_prefetch::<_MM_HINT_T0>(address.cast()),
                _ => _mm_prefetch::<_MM_HINT_T1>(address.cast()),
            }
        }
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a hint: it reads nothing into the program, faults at no address
    // and touches neither stack nor flags.
    unsafe {
        match LEVEL {
            1 => std::arch::asm!(
                "prfm pldl1keep, [{address}]",
                address = in(reg) address,
                options(nostack, preserves_flags, readonly),
            ),
            _ => std::arch::asm!(
                "prfm pldl2keep, [{address}]",
                address = in(reg) address,
                options(nostack, preserves_flags, readonly),
            ),
        }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_slice_may_be_asked_for() {
        prefetch::<f32>(&[]);
        prefetch(&[(); 3]);
        prefetch(&[1u8]);
        prefetch(&[0f32; 1000]);
        prefetch_one_of_many::<f32>(&[]);
        prefetch_one_of_many(&[0f32; 1000]);
        prefetch_line::<1>(std::ptr::null());
    }
}
