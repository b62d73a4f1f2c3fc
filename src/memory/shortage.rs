//! Where there is no memory for something large whose size depends on what
//! callers put in. The process must not end by it: whoever asked unwinds, with
//! the bytes that it asked for. A job of the pool is then abandoned, and a shard
//! waits and tries again, with what readers saw last.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// There was no memory for so many bytes: what unwinding carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shortage {
    pub(crate) bytes: usize,
}

/// Unwinds for want of memory. This is no defect, so no hook hears of it, and
/// nothing is allocated but a box of one number.
#[cold]
pub(crate) fn unwind(bytes: usize) -> ! {
    resume_unwind(Box::new(Shortage { bytes }))
}

/// Whether it was want of memory that work unwound for.
pub(crate) fn shortage(unwound: &(dyn Any + Send)) -> Option<Shortage> {
    unwound.downcast_ref().copied()
}

/// Does work that may unwind for want of memory. Defects go on unwinding.
///
/// # Errors
/// [`Shortage`]: what the work was about is half done, and must be given up.
pub(crate) fn unless_short<T>(work: impl FnOnce() -> T) -> Result<T, Shortage> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|unwound| shortage(&*unwound).unwrap_or_else(|| resume_unwind(unwound)))
}

/// An empty list with room for so many.
pub(crate) fn list<T>(capacity: usize) -> Vec<T> {
    let mut list = Vec::new();
    if list.try_reserve_exact(capacity).is_err() {
        unwind(capacity.saturating_mul(size_of::<T>()));
    }
    list
}

/// A list of so many that are alike.
pub(crate) fn filled<T: Clone>(value: T, count: usize) -> Vec<T> {
    let mut list = list(count);
    list.resize(count, value);
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_no_machine_has_room_for_unwind_with_their_size() {
        let told = unless_short(|| list::<u64>(1 << 58)).unwrap_err();
        assert_eq!(told, Shortage { bytes: 1 << 61 });
        assert!(unless_short(|| filled(0u8, usize::MAX)).is_err());
        assert_eq!((list::<u8>(100).capacity(), filled(7, 3)), (100, vec![7, 7, 7]));
    }

    #[test]
    fn defects_are_no_want_of_memory() {
        let unwound = catch_unwind(|| unless_short(|| panic!("a defect"))).unwrap_err();
        assert_eq!((shortage(&*unwound), *unwound.downcast_ref::<&str>().unwrap()), (None, "a defect"));
    }
}
