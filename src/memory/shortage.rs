//! Where there is no memory for something large whose size depends on what
//! callers put in. The process must not end by it: whoever asked unwinds, as by
//! a defect. A job of the pool is then abandoned, and a shard begins anew or
//! fails alone, with what readers saw last.

/// Unwinds for want of memory. Nothing is allocated meanwhile but the message.
#[cold]
#[expect(clippy::panic, reason = "instead of ending the process: workers and jobs catch it")]
pub(crate) fn unwind(bytes: usize) -> ! {
    std::panic::panic_any(format!("no memory for {bytes} bytes"))
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
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn lists_that_no_machine_has_room_for_unwind_with_their_size() {
        let told = catch_unwind(|| list::<u64>(1 << 58)).unwrap_err();
        assert_eq!(told.downcast_ref::<String>().unwrap(), "no memory for 2305843009213693952 bytes");
        assert!(catch_unwind(|| filled(0u8, usize::MAX)).is_err());
        assert_eq!((list::<u8>(100).capacity(), filled(7, 3)), (100, vec![7, 7, 7]));
    }
}
