//! Mappings for huge pages (Linux).

use std::ptr::{NonNull, null_mut};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use super::HUGE;

/// Maps `bytes` zeroed bytes, a multiple of the page size, at a multiple of
/// [`HUGE`]; `None` when the kernel refuses.
pub(super) fn map(bytes: usize) -> Option<NonNull<u8>> {
    let whole = bytes.checked_add(HUGE)?;
    let (access, private) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: the kernel chooses the place, so no memory in use is replaced.
    let mapped = unsafe { mmap_anonymous(null_mut(), whole, access, private) }.ok()?;
    let mapped = NonNull::new(mapped.cast::<u8>())?;
    let before = mapped.as_ptr().align_offset(HUGE).min(HUGE);
    // SAFETY: `before` is at most HUGE, so `start` and `bytes` from it lie in
    // the mapping. What is cut off is page-aligned, as `before` is the distance
    // of two page boundaries, and nobody knows it yet.
    unsafe {
        let start = mapped.add(before);
        cut(mapped, before);
        cut(start.add(bytes), HUGE - before);
        // Without huge pages (a kernel built without them) small ones do.
        let _ = madvise(start.as_ptr().cast(), bytes, Advice::LinuxHugepage);
        Some(start)
    }
}

/// # Safety
/// The range is page-aligned, mapped by `map`, and nobody uses it any more.
unsafe fn cut(start: NonNull<u8>, bytes: usize) {
    if bytes > 0 {
        // SAFETY: by the caller's promise.
        unsafe { unmap(start, bytes) };
    }
}

/// # Safety
/// The range was mapped by `map`, and nobody uses it any more.
pub(super) unsafe fn unmap(start: NonNull<u8>, bytes: usize) {
    // It fails only for ranges that are no mapping, or when the kernel has no
    // memory to split one; then the range stays unused.
    // SAFETY: by the caller's promise.
    let _ = unsafe { munmap(start.as_ptr().cast(), bytes) };
}
