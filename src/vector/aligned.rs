//! Numbers in one piece of memory that many threads may read while one writes
//! other parts of it.

use std::ptr::NonNull;
use std::sync::{Arc, Weak};

use crate::memory::{HUGE, Memory};

/// A type of which any bytes are a value, without padding.
///
/// # Safety
/// That must be so.
pub(super) unsafe trait Plain: Copy {}

// SAFETY: any bytes are a byte.
unsafe impl Plain for u8 {}
// SAFETY: any two bytes are such a number.
unsafe impl Plain for u16 {}
// SAFETY: any four bytes are a float.
unsafe impl Plain for f32 {}

/// Words as what else their bytes are; as many as are whole.
#[inline(always)]
pub(super) fn view<T: Plain>(words: &[u32]) -> &[T] {
    const { assert!(align_of::<T>() <= align_of::<u32>()) };
    let count = size_of_val(words) / size_of::<T>();
    // SAFETY: the bytes are those of `words`, for as long; aligned (asserted);
    // any bytes are a `T`.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), count) }
}

/// `len` bytes, zeroed, at a 64-byte boundary.
#[derive(Debug)]
pub(super) struct AlignedBytes {
    start: NonNull<u8>,
    len: usize,
    /// Shared by buffers of one start and several lengths.
    memory: Arc<Memory>,
}

// SAFETY: the buffer owns its memory, alone or with others, and bytes have no thread affinity.
// Concurrent use is governed by `write`: it is unsafe and demands that nobody
// reads the range that it writes.
unsafe impl Send for AlignedBytes {}
// SAFETY: as above.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// Allocates `len` zeroed bytes, which can [grow](AlignedBytes::grown) to `most`; `None` when the allocator
    /// has no memory.
    pub(super) fn zeroed(len: usize, most: usize) -> Option<AlignedBytes> {
        let memory = Memory::zeroed(len.max(most))?;
        Some(AlignedBytes { start: memory.start(), len, memory: Arc::new(memory) })
    }

    /// The same bytes and those behind them, `len` in all, in the same place; `None` when they were not asked for.
    pub(super) fn grown(&self, len: usize) -> Option<AlignedBytes> {
        let fits = len >= self.len && len <= self.memory.bytes();
        fits.then(|| AlignedBytes { start: self.start, len, memory: Arc::clone(&self.memory) })
    }

    /// Bytes that may have been taken from the system: what was never touched has no memory, by the huge page.
    pub(super) fn bytes(&self) -> usize {
        taken(self.len, self.memory.bytes())
    }

    /// Tells whether any buffer keeps the memory.
    pub(super) fn memory(&self) -> Weak<Memory> {
        Arc::downgrade(&self.memory)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// `count` numbers from byte `at`.
    ///
    /// # Panics
    /// When the range is not inside the buffer, or `at` no place for such a number.
    #[inline]
    pub(super) fn read<T: Plain>(&self, at: usize, count: usize) -> &[T] {
        assert!(at <= self.len && count <= (self.len - at) / size_of::<T>());
        assert!(at.is_multiple_of(align_of::<T>()));
        // SAFETY: the range is inside `memory` and aligned (asserted, and the
        // start is a line's); it is initialised (zeroed) and lives as long as
        // `self`; any bytes are a `T`. No write to it can run meanwhile, by this
        // buffer or another of its memory: that is what `write` demands of its caller.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(at).cast(), count) }
    }

    /// Copies `values` to byte `at`.
    ///
    /// # Safety
    /// From this call's start to its end no other thread reads or writes the
    /// range, and no slice of it given out by `read`, of this buffer or of another that
    /// it [grew](AlignedBytes::grown) from or to, is alive; who reads it
    /// later learns of it through a release/acquire pair.
    ///
    /// # Panics
    /// When the range is not inside the buffer.
    pub(super) unsafe fn write<T: Plain>(&self, at: usize, values: &[T]) {
        let bytes = size_of_val(values);
        assert!(at <= self.len && bytes <= self.len - at);
        // SAFETY: in bounds (asserted); exclusive by the caller's promise.
        unsafe {
            std::ptr::copy_nonoverlapping(values.as_ptr().cast(), self.start.as_ptr().add(at), bytes);
        }
    }
}

/// Bytes that are taken when the first `len` of a piece of so many are used.
pub(super) fn taken(len: usize, piece: usize) -> usize {
    len.checked_next_multiple_of(HUGE).unwrap_or(len).min(piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_zeroed_aligned_and_writable() {
        let buffer = AlignedBytes::zeroed(400, 400).unwrap();
        assert_eq!(buffer.read::<u8>(0, 1).as_ptr() as usize % crate::memory::LINE, 0);
        assert!(buffer.read::<f32>(0, 100).iter().all(|x| *x == 0.0));
        // SAFETY: this thread alone knows the buffer.
        unsafe { buffer.write(392, &[1.0f32, 2.0]) };
        assert_eq!(buffer.read::<f32>(388, 3), [0.0, 1.0, 2.0]);
        assert_eq!(buffer.read::<u16>(392, 4), [0, 0x3f80, 0, 0x4000]);
    }

    #[test]
    fn what_lies_outside_is_refused() {
        let buffer = AlignedBytes::zeroed(400, 400).unwrap();
        let refused = |run: &dyn Fn()| {
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
        };
        refused(&|| _ = buffer.read::<f32>(400, 1));
        refused(&|| _ = buffer.read::<f32>(4, usize::MAX / 2));
        refused(&|| _ = buffer.read::<u16>(3, 1));
        // SAFETY: nothing is written.
        refused(&|| unsafe { buffer.write(397, &[1.0f32]) });
    }

    #[test]
    fn grows_where_it_stands_as_far_as_was_asked_for() {
        let buffer = AlignedBytes::zeroed(100, 400).unwrap();
        // SAFETY: this thread alone knows the buffer.
        unsafe { buffer.write(96, &[1.0f32]) };
        let longer = buffer.grown(400).unwrap();
        // SAFETY: likewise, and what is read below was read from neither yet.
        unsafe { longer.write(396, &[2.0f32]) };
        assert_eq!(buffer.read::<f32>(96, 1), longer.read::<f32>(96, 1));
        assert_eq!(buffer.read::<u8>(0, 1).as_ptr(), longer.read::<u8>(0, 1).as_ptr());
        assert_eq!((buffer.len(), longer.read::<f32>(392, 2)), (100, [0.0, 2.0].as_slice()));
        assert!(longer.grown(401).is_none() && longer.grown(399).is_none());
        let memory = buffer.memory();
        drop(buffer);
        assert_eq!(memory.strong_count(), 1, "the longer one keeps it");
        drop(longer);
        assert_eq!(memory.strong_count(), 0);
    }

    #[test]
    fn what_was_not_reached_yet_is_not_counted_by_the_huge_page() {
        let counted = |len, most| AlignedBytes::zeroed(len, most).unwrap().bytes();
        assert_eq!((counted(100, 400), counted(100, HUGE - 1)), (400, HUGE - 1));
        assert_eq!((counted(100, 4 * HUGE), counted(HUGE + 1, 4 * HUGE)), (HUGE, 2 * HUGE));
        assert_eq!(counted(4 * HUGE, 4 * HUGE), 4 * HUGE);
    }

    #[test]
    fn a_size_that_no_machine_has_is_refused() {
        assert!(AlignedBytes::zeroed(10, usize::MAX / 2).is_none());
    }
}
