//! Blocks of words in one piece of memory.

/// A word that one thread writes while others read other words.
#[cfg(not(all(vecino_loom, test)))]
pub(crate) type Word = std::sync::atomic::AtomicU32;

#[cfg(not(all(vecino_loom, test)))]
pub(crate) use plain::Strip;

#[cfg(not(all(vecino_loom, test)))]
mod plain {
    use std::ptr::NonNull;
    use std::sync::atomic::Ordering;
    use std::sync::{Arc, Weak};

    use super::Word;
    use crate::memory::{Memory, unwind};

    /// Blocks of `stride` words one after the other, zeroed at first.
    #[derive(Clone, Debug)]
    pub(crate) struct Strip {
        start: NonNull<Word>,
        blocks: u32,
        stride: u32,
        memory: Arc<Memory>,
    }

    // SAFETY: `start` points into `memory`, which is shared and outlives it;
    // words are atomic.
    unsafe impl Send for Strip {}
    // SAFETY: as above.
    unsafe impl Sync for Strip {}

    impl Strip {
        /// Memory for `blocks` blocks. Unwinds when there is none.
        pub(crate) fn new(blocks: u32, stride: u32) -> Strip {
            let bytes = (blocks as usize).saturating_mul(stride as usize).saturating_mul(size_of::<Word>());
            let memory = Memory::zeroed(bytes).unwrap_or_else(|| unwind(bytes));
            Strip { start: memory.start().cast(), blocks, stride, memory: Arc::new(memory) }
        }

        /// The words of a block.
        ///
        /// # Panics
        /// When there are not that many blocks.
        #[inline(always)]
        pub(crate) fn block(&self, at: u32) -> &[Word] {
            assert!(at < self.blocks);
            let (at, stride) = (at as usize, self.stride as usize);
            // SAFETY: `at` is below `blocks`, and `new` took memory for that
            // many blocks of `stride` words, aligned and zeroed, which `memory`
            // keeps. A zeroed word is valid; words are only used as atomics.
            unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(at * stride), stride) }
        }

        /// A copy of `blocks` blocks, with the contents of those below `used`.
        pub(crate) fn resized(&self, blocks: u32, used: u32) -> Strip {
            let strip = Strip::new(blocks, self.stride);
            for at in 0..used.min(self.blocks()).min(blocks) {
                for (from, to) in self.block(at).iter().zip(strip.block(at)) {
                    to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
                }
            }
            strip
        }

        pub(crate) fn blocks(&self) -> u32 {
            self.blocks
        }

        /// The memory, for as long as somebody has it.
        pub(crate) fn shared(&self) -> Weak<Memory> {
            Arc::downgrade(&self.memory)
        }

        pub(crate) fn bytes(&self) -> usize {
            self.memory.bytes()
        }
    }
}

#[cfg(all(vecino_loom, test))]
pub(crate) use model::{Strip, Word};

/// Words for the model checker: plain memory, every access of which is checked
/// to happen before or after every write of the same word. That is more than
/// atomics would show: the checker's relaxed loads never see what is stored
/// later, which real processors allow.
#[cfg(all(vecino_loom, test))]
mod model {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use loom::cell::UnsafeCell;

    #[derive(Debug)]
    pub(crate) struct Word(UnsafeCell<u32>);

    // SAFETY: the checker fails where this would be a race.
    unsafe impl Sync for Word {}

    impl Word {
        pub(crate) fn load(&self, _: Ordering) -> u32 {
            // SAFETY: the checker fails where another thread writes meanwhile.
            self.0.with(|word| unsafe { *word })
        }

        pub(crate) fn store(&self, value: u32, _: Ordering) {
            // SAFETY: the checker fails where another thread reads or writes
            // meanwhile.
            self.0.with_mut(|word| unsafe { *word = value });
        }
    }

    #[derive(Clone, Debug)]
    pub(crate) struct Strip {
        words: Arc<Vec<Word>>,
        stride: u32,
    }

    impl Strip {
        pub(crate) fn new(blocks: u32, stride: u32) -> Strip {
            let words = (0..blocks * stride).map(|_| Word(UnsafeCell::new(0))).collect();
            Strip { words: Arc::new(words), stride }
        }

        pub(crate) fn block(&self, at: u32) -> &[Word] {
            &self.words[(at * self.stride) as usize..][..self.stride as usize]
        }

        /// A copy of `blocks` blocks, with the contents of those below `used`.
        pub(crate) fn resized(&self, blocks: u32, used: u32) -> Strip {
            let strip = Strip::new(blocks, self.stride);
            for at in 0..used.min(self.blocks()).min(blocks) {
                for (from, to) in self.block(at).iter().zip(strip.block(at)) {
                    to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
                }
            }
            strip
        }

        pub(crate) fn blocks(&self) -> u32 {
            self.words.len() as u32 / self.stride
        }

        pub(crate) fn shared(&self) -> std::sync::Weak<crate::memory::Memory> {
            std::sync::Weak::new()
        }

        pub(crate) fn bytes(&self) -> usize {
            self.words.len() * size_of::<Word>()
        }
    }
}

#[cfg(all(test, not(vecino_loom)))]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::memory::LINE;

    #[test]
    fn blocks_lie_one_after_the_other_from_a_cache_lines_start() {
        let strip = Strip::new(3, 5);
        assert_eq!(strip.block(0).as_ptr() as usize % LINE, 0);
        strip.block(2)[4].store(9, Ordering::Relaxed);
        assert_eq!(strip.clone().block(2)[4].load(Ordering::Relaxed), 9);
        assert_eq!(strip.block(1).as_ptr(), strip.block(0).as_ptr_range().end);
    }

    #[test]
    #[should_panic(expected = "at < self.blocks")]
    fn a_block_beyond_the_last_is_refused() {
        Strip::new(3, 5).block(3);
    }
}
