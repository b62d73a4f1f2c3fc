//! Blocks of words by number, growing.

use std::sync::Weak;

use super::{Memory, Strip, Word, room};

/// Bytes of a page: two huge pages. Few pages make a small table, and what the
/// last page has too much stays bounded.
const PAGE_BYTES: usize = 4 << 20;

/// Blocks of a page, as powers of two: narrow blocks need no page of that size,
/// and of wide ones a page should not take more.
const LEAST_SHIFT: u32 = 6;
const MOST_SHIFT: u32 = 16;

/// Blocks of `stride` words in pages that never move but for the last, which
/// is copied as it grows: clones from before keep the old one.
#[derive(Clone, Debug)]
pub(crate) struct Pages {
    /// Blocks of a page, as a power of two.
    shift: u32,
    stride: u32,
    /// Blocks that have memory: all pages but the last are full.
    limit: u32,
    #[cfg(not(all(vecino_loom, test)))]
    bases: Vec<Base>,
    strips: Vec<Strip>,
    /// Strips that were replaced, and that only clones from before keep.
    replaced: Vec<Weak<Memory>>,
}

/// Where block 0 would be if the blocks of a page went on before it: saves a
/// lookup the number within the page.
#[cfg(not(all(vecino_loom, test)))]
#[derive(Clone, Copy, Debug)]
struct Base(*const Word);

// SAFETY: it points into a strip that stands beside it, which may be sent and
// shared.
#[cfg(not(all(vecino_loom, test)))]
unsafe impl Send for Base {}
// SAFETY: as above.
#[cfg(not(all(vecino_loom, test)))]
unsafe impl Sync for Base {}

impl Pages {
    pub(crate) fn new(stride: usize) -> Pages {
        let fitting = PAGE_BYTES / (stride.max(1) * size_of::<u32>());
        let shift = fitting.max(1).ilog2().clamp(LEAST_SHIFT, MOST_SHIFT);
        Pages {
            shift,
            stride: stride as u32,
            limit: 0,
            #[cfg(not(all(vecino_loom, test)))]
            bases: Vec::new(),
            strips: Vec::new(),
            replaced: Vec::new(),
        }
    }

    pub(crate) fn stride(&self) -> usize {
        self.stride as usize
    }

    /// Blocks of a page.
    pub(crate) fn page(&self) -> u32 {
        1 << self.shift
    }

    /// The words of a block.
    ///
    /// # Panics
    /// When it has no memory.
    #[cfg(not(all(vecino_loom, test)))]
    #[inline(always)]
    pub(crate) fn block(&self, at: u32) -> &[Word] {
        assert!(at < self.limit);
        let stride = self.stride as usize;
        // SAFETY: `at` is below the limit, so its page is in the table
        // (`set_bases`) and holds the block: `base + at * stride` is where
        // `Strip::block` says it starts. The strip lives as long as `self`.
        unsafe {
            let base = self.bases.get_unchecked((at >> self.shift) as usize).0;
            std::slice::from_raw_parts(base.wrapping_add(at as usize * stride), stride)
        }
    }

    /// The words of a block.
    #[cfg(all(vecino_loom, test))]
    pub(crate) fn block(&self, at: u32) -> &[Word] {
        self.strips[(at >> self.shift) as usize].block(at & (self.page() - 1))
    }

    /// Makes places for the blocks below `to`, of which those below `used`
    /// hold something.
    pub(crate) fn reserve(&mut self, to: u32, used: u32) {
        if to > self.limit {
            self.resize(to, used, |blocks, wanted| blocks < wanted);
        }
    }

    /// Gives back memory of blocks from `to` on, of which none is used any more;
    /// those below `used` hold something. Clones from before keep theirs.
    pub(crate) fn shrink(&mut self, to: u32, used: u32) {
        let kept = (to as usize).div_ceil(self.page() as usize);
        let lost = self.strips.drain(kept.min(self.strips.len())..);
        self.replaced.extend(lost.map(|strip| strip.shared()));
        // At once: what follows may unwind for want of memory.
        self.limit = self.limit.min((kept as u64 * u64::from(self.page())).min(u64::from(u32::MAX)) as u32);
        self.resize(to, used, |blocks, wanted| blocks > wanted);
    }

    /// Gives every page but the last all its blocks, and the last as many as `to`
    /// needs, where `is_due` says so of what it has and what it should have.
    fn resize(&mut self, to: u32, used: u32, is_due: impl Fn(u32, u32) -> bool) {
        let (to, page) = (to as usize, self.page() as usize);
        let room = room(to, 1, page);
        let mut made = Vec::new();
        for number in self.strips.len().saturating_sub(1)..to.div_ceil(page) {
            let before = number * page;
            let wanted = (room - before).min(page) as u32;
            match self.strips.get(number) {
                None => made.push((number, Strip::new(wanted, self.stride))),
                Some(strip) if is_due(strip.blocks(), wanted) => {
                    made.push((number, strip.resized(wanted, used.saturating_sub(before as u32))));
                }
                Some(_) => {}
            }
        }
        // All memory is there: from here on nothing unwinds, and the table fits the strips again
        // before anybody looks into it.
        for (number, strip) in made {
            match self.strips.get_mut(number) {
                None => self.strips.push(strip),
                Some(before) => {
                    self.replaced.push(before.shared());
                    *before = strip;
                }
            }
        }
        self.replaced.retain(|memory| memory.strong_count() > 0);
        let blocks = self.strips.iter().map(|strip| u64::from(strip.blocks())).sum::<u64>();
        self.limit = blocks.min(u64::from(u32::MAX)) as u32;
        #[cfg(not(all(vecino_loom, test)))]
        self.set_bases();
    }

    #[cfg(not(all(vecino_loom, test)))]
    fn set_bases(&mut self) {
        let words = (self.stride as usize) << self.shift;
        let base = |(page, strip): (usize, &Strip)| Base(strip.block(0).as_ptr().wrapping_sub(page * words));
        self.bases = self.strips.iter().enumerate().map(base).collect();
    }

    /// All memory, for as long as somebody has it.
    pub(crate) fn shared(&self) -> impl Iterator<Item = Weak<Memory>> + '_ {
        self.strips.iter().map(Strip::shared).chain(self.replaced.iter().cloned())
    }

    /// Bytes of all blocks, with those that only clones from before keep.
    pub(crate) fn bytes(&self) -> usize {
        let entry = size_of::<Strip>() + size_of::<*const Word>();
        let replaced = self.replaced.iter().filter_map(Weak::upgrade).map(|memory| memory.bytes());
        self.strips.iter().map(|strip| entry + strip.bytes()).sum::<usize>() + replaced.sum::<usize>()
    }
}

#[cfg(all(test, not(vecino_loom)))]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::memory::LINE;

    #[test]
    fn blocks_keep_their_words_while_pages_are_added() {
        for stride in [1, 3, 16, 128, 400, 5_000] {
            let mut pages = Pages::new(stride);
            let (mut used, last) = (0, 2 * pages.page() + 5);
            let mut clones = Vec::new();
            for to in [1, 64, 100, 4_095, 4_096, pages.page(), pages.page() + 1, last] {
                pages.reserve(to, used);
                for at in used..to {
                    pages.block(at)[stride - 1].store(at, Ordering::Relaxed);
                }
                used = used.max(to);
                clones.push((pages.clone(), used));
            }
            for (pages, used) in &clones {
                assert!((0..*used).all(|at| pages.block(at)[stride - 1].load(Ordering::Relaxed) == at));
                assert!((0..*used).all(|at| pages.block(at).len() == stride));
            }
            assert_eq!(pages.block(pages.page()).as_ptr() as usize % LINE, 0);
        }
    }

    #[test]
    #[should_panic(expected = "at < self.limit")]
    fn a_block_without_memory_is_refused() {
        let mut pages = Pages::new(4);
        pages.reserve(64, 0);
        pages.block(64);
    }
}
