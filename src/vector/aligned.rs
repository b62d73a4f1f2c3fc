//! One zeroed, cache-line aligned allocation that many threads may read while
//! one writes other parts of it: the only place that allocates by hand.

use std::alloc::{Layout, alloc, dealloc};
use std::ptr::NonNull;

/// A cache line: rows that start on one touch the fewest lines.
const ALIGNMENT: usize = 64;

/// A huge page on x86-64 and on most AArch64 systems. A random row on 4 KB
/// pages costs a third more than on huge ones: the walk of the page table.
const HUGE_PAGE: usize = 2 << 20;

/// `len` floats, zeroed, at a 64-byte boundary.
#[derive(Debug)]
pub(super) struct AlignedFloats {
    start: NonNull<f32>,
    len: usize,
}

// SAFETY: the buffer owns its allocation and floats have no thread affinity.
// Concurrent use is governed by `write`: it is unsafe and demands that nobody
// reads the range that it writes.
unsafe impl Send for AlignedFloats {}
// SAFETY: as above.
unsafe impl Sync for AlignedFloats {}

impl AlignedFloats {
    /// Allocates `len` zeroed floats; `None` when the size overflows or the
    /// allocator has no memory.
    pub(super) fn zeroed(len: usize) -> Option<AlignedFloats> {
        let layout = Self::layout(len)?;
        // SAFETY: the layout is never of size 0.
        let start = NonNull::new(unsafe { alloc(layout) })?;
        // Before the first touch, which decides the size of the pages.
        advise_huge_pages(start, layout);
        // SAFETY: the whole allocation was just made and is ours alone; all
        // zeroes are floats.
        unsafe { start.write_bytes(0, layout.size()) };
        Some(AlignedFloats { start: start.cast(), len })
    }

    fn layout(len: usize) -> Option<Layout> {
        let bytes = len.max(1).checked_mul(size_of::<f32>())?;
        let alignment = if bytes >= HUGE_PAGE { HUGE_PAGE } else { ALIGNMENT };
        Layout::from_size_align(bytes, alignment).ok()
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
        // SAFETY: the range is inside the allocation (asserted), which is
        // initialised (zeroed) and lives as long as `self`. No write to it can
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

/// Asks for huge pages, where the system gives them only to those who ask.
fn advise_huge_pages(start: NonNull<u8>, layout: Layout) {
    #[cfg(target_os = "linux")]
    if layout.align() == HUGE_PAGE {
        let whole = layout.size() / HUGE_PAGE * HUGE_PAGE;
        let advice = rustix::mm::Advice::LinuxHugepage;
        // SAFETY: the range is inside an allocation that begins at a page
        // boundary; this advice changes the size of its pages and no content.
        // A refusal leaves small pages, which is fine.
        let _ = unsafe { rustix::mm::madvise(start.as_ptr().cast(), whole, advice) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, layout);
}

impl Drop for AlignedFloats {
    fn drop(&mut self) {
        if let Some(layout) = Self::layout(self.len) {
            // SAFETY: `zeroed` allocated `start` with this very layout.
            unsafe { dealloc(self.start.as_ptr().cast(), layout) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_zeroed_aligned_and_writable() {
        for (len, alignment) in [(100, ALIGNMENT), (HUGE_PAGE, HUGE_PAGE)] {
            let floats = AlignedFloats::zeroed(len).unwrap();
            assert_eq!(floats.read(0, 1).as_ptr() as usize % alignment, 0);
            assert!(floats.read(0, len).iter().all(|x| *x == 0.0));
            // SAFETY: this thread alone knows the buffer.
            unsafe { floats.write(len - 2, &[1.0, 2.0]) };
            assert_eq!(floats.read(len - 3, 3), [0.0, 1.0, 2.0]);
        }
    }

    #[test]
    fn a_size_that_overflows_is_refused() {
        assert!(AlignedFloats::zeroed(usize::MAX / 2).is_none());
    }
}
