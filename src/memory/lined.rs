//! Numbers that start at a cache line, in safe code: a list with room to begin where a line does.
//! An instruction that reads a line's worth reads two lines wherever it starts in the midst of one.

use std::ops::{Deref, DerefMut};

use super::{LINE, append, reserve, resize};

/// So many numbers, which start at a cache line.
#[derive(Debug)]
pub(crate) struct Lined<T> {
    /// What stands before `start` is never looked at.
    values: Vec<T>,
    start: usize,
}

impl<T: Copy + Default> Lined<T> {
    /// Numbers that are all alike.
    pub(crate) fn filled(value: T, count: usize) -> Lined<T> {
        let mut lines = Lined::default();
        lines.fill_anew(value, count);
        lines
    }

    /// Copies of others.
    pub(crate) fn copied(values: &[T]) -> Lined<T> {
        let mut lines = Lined::default();
        lines.copy_anew(values);
        lines
    }

    /// Makes them so many, all alike, in the memory that there is if it is enough.
    pub(crate) fn fill_anew(&mut self, value: T, count: usize) {
        self.begin(count);
        resize(&mut self.values, self.start + count, value);
    }

    /// Makes them copies of others, likewise.
    pub(crate) fn copy_anew(&mut self, values: &[T]) {
        self.begin(values.len());
        append(&mut self.values, values);
    }

    /// Empties the list and gives it room for so many.
    fn begin(&mut self, count: usize) {
        let spare = LINE / size_of::<T>() - 1;
        self.values.clear();
        // Until there is room: what has no memory unwinds.
        self.start = 0;
        reserve(&mut self.values, count + spare);
        self.start = self.values.as_ptr().align_offset(LINE).min(spare);
        resize(&mut self.values, self.start, T::default());
    }

    /// Bytes that are allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.values.capacity() * size_of::<T>()
    }
}

impl<T> Default for Lined<T> {
    fn default() -> Lined<T> {
        Lined { values: Vec::new(), start: 0 }
    }
}

impl<T: Copy + Default> Clone for Lined<T> {
    fn clone(&self) -> Lined<T> {
        Lined::copied(self)
    }
}

impl<T: PartialEq> PartialEq for Lined<T> {
    fn eq(&self, other: &Lined<T>) -> bool {
        **self == **other
    }
}

impl<T> Deref for Lined<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.values[self.start..]
    }
}

impl<T> DerefMut for Lined<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_starts_at_a_line<T>(values: &[T]) {
        assert_eq!(values.as_ptr().addr() % LINE, 0);
    }

    #[test]
    fn numbers_start_at_a_cache_line_however_many_they_are_and_when_they_become_more() {
        let mut lines = Lined::default();
        for count in [1usize, 63, 64, 65, 300, 5, 100_000] {
            lines.fill_anew(7u8, count);
            assert_starts_at_a_line(&lines);
            assert!(lines.len() == count && lines.iter().all(|value| *value == 7));
            assert!(lines.bytes() >= count);
        }
        for count in 1..100usize {
            assert_starts_at_a_line(&Lined::filled(0.5f32, count));
        }
    }

    #[test]
    fn copies_are_equal_and_start_at_lines_of_their_own() {
        let lines = Lined::copied(&[1i8, -2, 3]);
        let copy = lines.clone();
        assert_starts_at_a_line(&copy);
        assert!(*copy == [1i8, -2, 3] && copy == lines);
        assert!(Lined::<f32>::default().is_empty());
    }
}
