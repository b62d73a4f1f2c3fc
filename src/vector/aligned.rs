//! Floats in one piece of memory that many threads may read while one writes
//! other parts of it.

use std::ptr::NonNull;

use crate::memory::Memory;

/// `len` floats, zeroed, at a 64-byte boundary.
#[derive(Debug)]
pub(super) struct AlignedFloats {
    start: NonNull<f32>,
    len: usize,
    memory: Memory,
}

// SAFETY: the buffer owns its memory and floats have no thread affinity.
// Concurrent use is governed by `write`: it is unsafe and demands that nobody
// reads the range that it writes.
unsafe impl Send for AlignedFloats {}
// SAFETY: as above.
unsafe impl Sync for AlignedFloats {}

impl AlignedFloats {
    /// Allocates `len` zeroed floats; `None` when the size overflows or the
    /// allocator has no memory.
    pub(super) fn zeroed(len: usize) -> Option<AlignedFloats> {
        let memory = Memory::zeroed(len.checked_mul(size_of::<f32>())?)?;
        Some(AlignedFloats { start: memory.start().cast(), len, memory })
    }

    /// Bytes that were allocated.
    pub(super) fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// `count` floats from `at`.
    ///
    /// # Panics
    /// When the range is not inside the buffer.
    #[inline]
    pub(super) fn read(&self, at: usize, count: usize) -> &[f32] {
        assert!(at <= self.len && count <= self.len - at);
        // SAFETY: the range is inside `memory` (asserted), which is initialised
        // (zeroed) and lives as long as `self`. No write to it can
        // run meanwhile: that is what `write` demands of its caller.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(at), count) }
    }

    /// Copies `values` to `at`.
    ///
    /// # Safety
    /// From this call's start to its end no other thread reads or writes the
    /// range, and no slice of it given out by `read` is alive; who reads it
    /// later learns of it through a release/acquire pair.
    ///
    /// # Panics
    /// When the range is not inside the buffer.
    pub(super) unsafe fn write(&self, at: usize, values: &[f32]) {
        assert!(at <= self.len && values.len() <= self.len - at);
        // SAFETY: in bounds (asserted); exclusive by the caller's promise.
        unsafe {
            std::ptr::copy_nonoverlapping(values.as_ptr(), self.start.as_ptr().add(at), values.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_zeroed_aligned_and_writable() {
        let floats = AlignedFloats::zeroed(100).unwrap();
        assert_eq!(floats.read(0, 1).as_ptr() as usize % crate::memory::LINE, 0);
        assert!(floats.read(0, 100).iter().all(|x| *x == 0.0));
        // SAFETY: this thread alone knows the buffer.
        unsafe { floats.write(98, &[1.0, 2.0]) };
        assert_eq!(floats.read(97, 3), [0.0, 1.0, 2.0]);
    }

    #[test]
    fn a_size_that_overflows_is_refused() {
        assert!(AlignedFloats::zeroed(usize::MAX / 2).is_none());
    }
}
