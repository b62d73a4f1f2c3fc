//! Memory in large pieces: aligned, zeroed, shared by one writer and many
//! readers. The only place that allocates by hand.
//!
//! Pieces of 2 MiB and more are mappings of their own that start at a huge
//! page's boundary, and the kernel is asked for huge pages *before anything is
//! written*: memory that was touched stays on the small pages it got. (So
//! `alloc_zeroed` will not do: for an alignment above 16 it writes the zeros
//! itself.) Zeros come from the kernel, page by page as they are first used.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

mod growth;
mod lined;
#[cfg(target_os = "linux")]
mod mapping;
mod pages;
mod shortage;
mod words;

pub(crate) use growth::room;
pub(crate) use lined::Lined;
pub(crate) use pages::Pages;
pub(crate) use shortage::{
    Shortage, append, boxed_text, collect, copied, extend, filled, joined, lengthen, list, push, push_back,
    reserve, reserve_back, reserve_exact, resize, shared, shortage, unless_short, unwind,
};
pub(crate) use words::{Strip, Word};

/// A cache line: what starts on one touches the fewest lines.
pub(crate) const LINE: usize = 64;

/// A huge page of x86-64, and of ARM with 4 KiB pages.
pub(crate) const HUGE: usize = 2 << 20;

/// Mappings are whole numbers of base pages, which Linux has up to 64 KiB.
const GRAIN: usize = 64 << 10;

/// Zeroed bytes at a cache line's start; from [`HUGE`] up on huge pages, where
/// the system has them.
#[derive(Debug)]
pub(crate) struct Memory {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory is owned, and bytes have no thread affinity. What is read
// and written through `start` is for its users to argue.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// At least `bytes` bytes; `None` when the size overflows or there is no
    /// memory.
    pub(crate) fn zeroed(bytes: usize) -> Option<Memory> {
        bytes.checked_add(GRAIN)?;
        let bytes = Self::bytes_for(bytes);
        let layout = Self::layout(bytes)?;
        #[cfg(target_os = "linux")]
        if is_mapped(bytes) {
            return mapping::map(bytes).map(|start| Memory { start, bytes });
        }
        // SAFETY: the layout is never of size 0.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Memory { start, bytes })
    }

    /// Bytes that are allocated for so many.
    pub(crate) fn bytes_for(bytes: usize) -> usize {
        if is_mapped(bytes) { bytes.checked_next_multiple_of(GRAIN).unwrap_or(bytes) } else { bytes.max(1) }
    }

    fn layout(bytes: usize) -> Option<Layout> {
        Layout::from_size_align(bytes, if bytes < HUGE { LINE } else { HUGE }).ok()
    }

    #[inline]
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Bytes that were allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Whether a piece of this size is a mapping of its own: then it takes memory only as it is first touched.
pub(crate) fn is_mapped(bytes: usize) -> bool {
    cfg!(target_os = "linux") && bytes >= HUGE
}

impl Drop for Memory {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        if is_mapped(self.bytes) {
            // SAFETY: `zeroed` mapped exactly this range, and nobody has it
            // any more.
            unsafe { mapping::unmap(self.start, self.bytes) };
            return;
        }
        if let Some(layout) = Self::layout(self.bytes) {
            // SAFETY: `zeroed` allocated `start` with this very layout.
            unsafe { dealloc(self.start.as_ptr(), layout) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(memory: &Memory) -> &[u8] {
        // SAFETY: the whole range is initialised, and nobody writes it.
        unsafe { std::slice::from_raw_parts(memory.start().as_ptr(), memory.bytes()) }
    }

    #[test]
    fn pieces_of_every_size_are_zeroed_and_aligned() {
        for bytes in [0, 1, 100, HUGE - 1, HUGE, HUGE + 1, 5 * HUGE - 70_000] {
            let memory = Memory::zeroed(bytes).unwrap();
            let alignment = if bytes < HUGE { LINE } else { HUGE };
            assert_eq!(memory.start().as_ptr() as usize % alignment, 0, "{bytes}");
            assert!(memory.bytes() >= bytes && memory.bytes() <= bytes.max(1) + GRAIN);
            assert!(contents(&memory).iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn what_is_given_back_comes_zeroed_again() {
        for _ in 0..20 {
            let pieces: Vec<Memory> = (0..3).filter_map(|_| Memory::zeroed(2 * HUGE)).collect();
            for piece in &pieces {
                assert!(contents(piece).iter().step_by(512).all(|byte| *byte == 0));
                // SAFETY: in bounds, and no slice of it is alive.
                unsafe { piece.start().as_ptr().write_bytes(7, piece.bytes()) };
            }
        }
    }

    #[test]
    fn sizes_that_no_machine_has_are_refused() {
        for bytes in [usize::MAX, usize::MAX / 2, isize::MAX as usize - HUGE, 1 << 60] {
            let memory = std::hint::black_box(Memory::zeroed(bytes));
            assert!(memory.is_none());
        }
    }
}
