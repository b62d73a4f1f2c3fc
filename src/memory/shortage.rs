//! Where there is no memory for something large whose size depends on what
//! callers put in. The process must not end by it: whoever asked unwinds, with
//! the bytes that it asked for. A job of the pool is then abandoned, and a shard
//! waits and tries again, with what readers saw last.

use std::any::Any;
use std::collections::VecDeque;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

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

/// Makes room for so many more.
#[inline]
pub(crate) fn reserve<T>(list: &mut Vec<T>, more: usize) {
    if list.capacity() - list.len() < more {
        grow(list, more);
    }
}

/// The same where there is none yet: not in the way of those who have it.
#[cold]
#[inline(never)]
fn grow<T>(list: &mut Vec<T>, more: usize) {
    if list.try_reserve(more).is_err() {
        unwind(list.len().saturating_add(more).saturating_mul(size_of::<T>()));
    }
}

/// The same for a number that is not to be more than it must.
pub(crate) fn reserve_exact<T>(list: &mut Vec<T>, more: usize) {
    if list.try_reserve_exact(more).is_err() {
        unwind(list.len().saturating_add(more).saturating_mul(size_of::<T>()));
    }
}

/// Puts one more into a list.
#[inline]
pub(crate) fn push<T>(list: &mut Vec<T>, value: T) {
    reserve(list, 1);
    list.push(value);
}

/// Puts so many into a list as an iterator says that it has at least, and the rest.
pub(crate) fn extend<T>(list: &mut Vec<T>, values: impl IntoIterator<Item = T>) {
    let mut values = values.into_iter().fuse();
    reserve(list, values.size_hint().0);
    let room = list.capacity() - list.len();
    list.extend(values.by_ref().take(room));
    values.for_each(|value| push(list, value));
}

/// Puts copies into a list.
#[inline]
pub(crate) fn append<T: Clone>(list: &mut Vec<T>, values: &[T]) {
    reserve(list, values.len());
    list.extend_from_slice(values);
}

/// Makes a list longer, or shorter.
#[inline]
pub(crate) fn resize<T: Clone>(list: &mut Vec<T>, count: usize, value: T) {
    reserve(list, count.saturating_sub(list.len()));
    list.resize(count, value);
}

/// Makes a list longer by what is made for each place.
pub(crate) fn lengthen<T: Default>(list: &mut Vec<T>, count: usize) {
    reserve(list, count.saturating_sub(list.len()));
    list.resize_with(count.max(list.len()), T::default);
}

/// A copy of a list.
pub(crate) fn copied<T: Clone>(values: &[T]) -> Vec<T> {
    let mut copy = list(values.len());
    copy.extend_from_slice(values);
    copy
}

/// All that an iterator gives.
pub(crate) fn collect<T>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut all = Vec::new();
    extend(&mut all, values);
    all
}

/// Lists one after the other.
pub(crate) fn joined<T: Clone>(parts: &[Vec<T>]) -> Vec<T> {
    let mut all = list(parts.iter().map(Vec::len).sum());
    parts.iter().for_each(|part| all.extend_from_slice(part));
    all
}

/// Makes room for so many more in a queue.
#[inline]
pub(crate) fn reserve_back<T>(queue: &mut VecDeque<T>, more: usize) {
    if queue.capacity() - queue.len() < more && queue.try_reserve(more).is_err() {
        unwind(queue.len().saturating_add(more).saturating_mul(size_of::<T>()));
    }
}

/// Puts one more at the end of a queue.
#[inline]
pub(crate) fn push_back<T>(queue: &mut VecDeque<T>, value: T) {
    reserve_back(queue, 1);
    queue.push_back(value);
}

/// A text of its own.
pub(crate) fn boxed_text(text: &str) -> Box<str> {
    let mut copy = String::new();
    if copy.try_reserve_exact(text.len()).is_err() {
        unwind(text.len());
    }
    copy.push_str(text);
    copy.into_boxed_str()
}

/// From so many bytes on there may be no memory for something that is shared.
const LARGE: usize = 4 << 10;

/// A list that is shared. The standard library makes no `Arc` in a way that may
/// fail, so a large one is made only where a place of its size was there the
/// moment before.
pub(crate) fn shared<T>(values: Vec<T>) -> Arc<[T]> {
    let bytes = size_of_val(values.as_slice());
    if bytes >= LARGE {
        // Or the compiler sees that nobody needs it.
        drop(black_box(list::<u8>(bytes + size_of::<[usize; 2]>())));
    }
    values.into()
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
    fn what_an_iterator_gives_beyond_what_it_says_is_taken_too() {
        let mut list = vec![9];
        extend(&mut list, (0..1_000).filter(|number| number % 3 == 0));
        append(&mut list, &[1, 2]);
        lengthen(&mut list, 338);
        assert_eq!((list.len(), list[0], list[334], list[336], list[337]), (338, 9, 999, 2, 0));
        // One that goes on behind its end is not asked again.
        let mut left = [Some(1), None, Some(2)].into_iter();
        assert_eq!(collect(std::iter::from_fn(|| left.next().flatten())), [1]);
    }

    #[test]
    fn defects_are_no_want_of_memory() {
        let unwound = catch_unwind(|| unless_short(|| panic!("a defect"))).unwrap_err();
        assert_eq!((shortage(&*unwound), *unwound.downcast_ref::<&str>().unwrap()), (None, "a defect"));
    }
}
