//! The different texts of a column, in order.

use std::ops::Range;

use crate::memory;

/// Texts, ascending, each once, in one piece of memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    bytes: Box<str>,
    /// Where each ends.
    ends: Box<[u32]>,
}

impl Words {
    /// Of texts in ascending order, each once.
    pub(super) fn new<'a>(texts: impl Iterator<Item = &'a str> + Clone) -> Words {
        let (size, count) = texts.clone().fold((0, 0), |(size, count), text| (size + text.len(), count + 1));
        let (mut bytes, mut ends) = (String::new(), memory::list(count));
        if bytes.try_reserve_exact(size).is_err() {
            memory::unwind(size);
        }
        for text in texts {
            bytes.push_str(text);
            // Payloads are limited: a block has 1 GiB of texts at most.
            ends.push(bytes.len() as u32);
        }
        Words { bytes: bytes.into(), ends: ends.into() }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, at: usize) -> &str {
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(at).copied().unwrap_or(start);
        self.bytes.get(start as usize..end as usize).unwrap_or_default()
    }

    /// The number of texts at the beginning for which `is_before` holds.
    pub(super) fn count_before(&self, is_before: impl Fn(&str) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if is_before(self.get(middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The texts that begin with a prefix.
    pub(super) fn with_prefix(&self, prefix: &str) -> Range<usize> {
        let first = self.count_before(|text| text < prefix);
        let end = self.count_before(|text| text < prefix || text.starts_with(prefix));
        first..end
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len() + self.ends.len() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_by_order_and_by_prefix() {
        let words = Words::new(["", "a", "ab", "abc", "b", "é"].into_iter());
        assert_eq!((words.get(2), words.get(5), words.len()), ("ab", "é", 6));
        assert_eq!(words.with_prefix("ab"), 2..4);
        assert_eq!(words.with_prefix(""), 0..6);
        assert_eq!(words.with_prefix("zz"), 5..5);
        assert_eq!(words.count_before(|text| text < "b"), 4);
    }
}
