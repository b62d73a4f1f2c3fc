//! Persistent blocks of words: many versions, one writer, almost one copy.
//!
//! A key names a block of `stride` words. Every key has a *home*: a fixed
//! place in the chunk of its page. A block that a living version may read is
//! never changed in place: the changed block goes to an *overlay slot*, and
//! the page of the new version says so. As soon as every version older than
//! the move is gone, nobody reads the home any more: the writer copies the
//! block home, and the next version forgets the slot. With no version held for
//! long everything is at home, and a lookup is one load and a test for null.
//!
//! Words are relaxed atomics. They compile to plain loads and stores and make
//! the sharing safe Rust; the order comes from outside: a version is published
//! after its words were written, and a place is written again only after the
//! [`Lease`] of the last version that read it was seen released.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::bits::RowSet;
use crate::lease::{Lease, Receipt, lease};

/// What a word holds before it is written: "nothing".
pub(super) const NONE: u32 = u32::MAX;

/// Keys of a page, as a power of two.
const PAGE_SHIFT: u32 = 12;
const PAGE_KEYS: usize = 1 << PAGE_SHIFT;
const PAGE_WORDS: usize = PAGE_KEYS / 64;

/// Keys of the smallest first page: small indexes stay small.
const FIRST_KEYS: usize = 64;

/// Blocks of an overlay chunk, as a power of two.
const SLOT_SHIFT: u32 = 8;

/// Words in a cache line.
const LINE: usize = 16;

/// The version in the making, and the oldest that may still be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epoch {
    oldest: u64,
    next: u64,
}

/// The writer's list of versions that may be alive.
#[derive(Debug, Default)]
pub(super) struct Versions {
    next: u64,
    /// Ascending.
    alive: Vec<(u64, Receipt)>,
}

impl Versions {
    /// Starts the next version.
    pub(super) fn begin(&mut self) -> Epoch {
        self.alive.retain(|(_, receipt)| !receipt.is_released());
        Epoch { oldest: self.alive.first().map_or(self.next, |(version, _)| *version), next: self.next }
    }

    /// True when a version from `born` to before `end` was alive at `begin`.
    fn any_alive(&self, born: u64, end: u64) -> bool {
        let at = self.alive.partition_point(|(version, _)| *version < born);
        self.alive.get(at).is_some_and(|(version, _)| *version < end)
    }

    /// Ends the making of the version: the lease belongs into it.
    pub(super) fn publish(&mut self) -> Lease {
        let (lease, receipt) = lease();
        self.alive.push((self.next, receipt));
        self.next += 1;
        lease
    }
}

/// Blocks in one allocation, the first at a cache line's start.
#[derive(Clone, Debug)]
struct Chunk {
    words: Arc<[AtomicU32]>,
    start: usize,
}

impl Chunk {
    fn new(blocks: usize, stride: usize) -> Chunk {
        let words: Arc<[AtomicU32]> = (0..blocks * stride + LINE).map(|_| AtomicU32::new(NONE)).collect();
        let start = words.as_ptr().align_offset(LINE * size_of::<u32>()).min(LINE);
        Chunk { words, start }
    }

    #[inline]
    fn block(&self, at: usize, stride: usize) -> &[AtomicU32] {
        let from = self.start + at * stride;
        &self.words[from..from + stride]
    }

    fn blocks(&self, stride: usize) -> usize {
        (self.words.len() - LINE) / stride
    }

    fn bytes(&self) -> usize {
        self.words.len() * size_of::<u32>()
    }
}

/// Which blocks of a page are not at home, and where they are instead.
#[derive(Debug)]
struct Moved {
    bits: [u64; PAGE_WORDS],
    /// Moved blocks before each word of `bits`.
    rank: [u16; PAGE_WORDS],
    slots: Box<[u32]>,
}

impl Moved {
    #[inline]
    fn slot(&self, local: usize) -> Option<u32> {
        let (word, bit) = (local / 64, 1u64 << (local % 64));
        let bits = self.bits[word];
        (bits & bit != 0)
            .then(|| self.slots[self.rank[word] as usize + (bits & (bit - 1)).count_ones() as usize])
    }

    fn bytes(&self) -> usize {
        size_of::<Moved>() + size_of_val(&*self.slots)
    }
}

#[derive(Clone, Debug)]
struct Page {
    home: Chunk,
    moved: Option<Arc<Moved>>,
}

/// The blocks as one version sees them.
#[derive(Clone, Debug)]
pub(super) struct BlockView {
    stride: usize,
    pages: Vec<Page>,
    overlay: Arc<Vec<Chunk>>,
}

impl BlockView {
    /// The block of a key that was written before the version was published.
    ///
    /// # Panics
    /// When the page of the key was never written.
    #[inline]
    pub(super) fn block(&self, key: u32) -> &[AtomicU32] {
        let page = &self.pages[(key >> PAGE_SHIFT) as usize];
        let local = key as usize & (PAGE_KEYS - 1);
        if let Some(moved) = &page.moved
            && let Some(slot) = moved.slot(local)
        {
            return overlay_block(&self.overlay, slot, self.stride);
        }
        page.home.block(local, self.stride)
    }

    /// The same as bytes, for kernels that read many words at once.
    ///
    /// # Panics
    /// As `block`.
    #[inline]
    pub(super) fn bytes_of(&self, key: u32) -> &[u8] {
        let words = self.block(key);
        // SAFETY: the bytes are those of `words`, and any byte is a `u8`. No
        // word of a block that a living version may read is written (the
        // invariant of this module), and this view belongs to a living version.
        unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
    }

    /// Like `block`, but `None` for a key beyond all that were written.
    #[inline]
    pub(super) fn get(&self, key: u32) -> Option<&[AtomicU32]> {
        let page = self.pages.get((key >> PAGE_SHIFT) as usize)?;
        let local = key as usize & (PAGE_KEYS - 1);
        (local < page.home.blocks(self.stride)).then(|| self.block(key))
    }

    /// Keys that have a place: none beyond was ever written.
    pub(super) fn keys(&self) -> usize {
        match self.pages.as_slice() {
            [only] => only.home.blocks(self.stride),
            pages => pages.len() << PAGE_SHIFT,
        }
    }

    /// Bytes that the version keeps alive.
    pub(super) fn bytes(&self) -> usize {
        let pages: usize = self
            .pages
            .iter()
            .map(|page| {
                size_of::<Page>() + page.home.bytes() + page.moved.as_ref().map_or(0, |moved| moved.bytes())
            })
            .sum();
        pages + self.overlay.iter().map(Chunk::bytes).sum::<usize>()
    }
}

#[inline]
fn overlay_block(overlay: &[Chunk], slot: u32, stride: usize) -> &[AtomicU32] {
    overlay[(slot >> SLOT_SHIFT) as usize].block(slot as usize & ((1 << SLOT_SHIFT) - 1), stride)
}

/// A block that was moved to an overlay slot in a version.
#[derive(Debug)]
struct Move {
    version: u64,
    key: u32,
    slot: u32,
}

/// A slot that versions from `born` to before `end` may read.
#[derive(Clone, Copy, Debug)]
struct Retired {
    born: u64,
    end: u64,
    slot: u32,
}

/// The writer's side of the blocks.
#[derive(Debug)]
pub(super) struct Blocks {
    /// The version in the making.
    view: BlockView,
    /// Keys that were ever written.
    written: RowSet,
    /// For every key its overlay slot, or [`NONE`]: at home.
    slot_of: Vec<u32>,
    /// For every slot the version that its block was written for.
    born: Vec<u64>,
    /// Keys with a slot, as the pages will say it.
    moved_bits: Vec<[u64; PAGE_WORDS]>,
    /// Pages to rebuild before the version is published.
    touched: RowSet,
    /// Keys that have a slot.
    away: usize,
    /// Moves, oldest first.
    moves: VecDeque<Move>,
    retired: Vec<Retired>,
    free: Vec<u32>,
}

impl Blocks {
    pub(super) fn new(stride: usize) -> Blocks {
        Blocks {
            view: BlockView { stride, pages: Vec::new(), overlay: Arc::default() },
            written: RowSet::default(),
            slot_of: Vec::new(),
            born: Vec::new(),
            moved_bits: Vec::new(),
            touched: RowSet::default(),
            away: 0,
            moves: VecDeque::new(),
            retired: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Writes a block for the version in the making; words that are not given
    /// become [`NONE`].
    ///
    /// # Panics
    /// When there are more words than the stride.
    pub(super) fn write(&mut self, key: u32, words: &[u32], epoch: Epoch) {
        assert!(words.len() <= self.view.stride);
        self.reserve(key);
        let slot = self.slot_of[key as usize];
        if self.written.insert(key) {
            self.fill_home(key, words);
        } else if slot == NONE {
            self.move_out(key, words, epoch);
        } else if self.born[slot as usize] == epoch.next {
            fill(overlay_block(&self.view.overlay, slot, self.view.stride), words);
        } else if self.born[slot as usize] <= epoch.oldest {
            self.fill_home(key, words);
            self.come_home(key, slot, epoch);
        } else {
            self.retire(slot, epoch);
            self.move_out(key, words, epoch);
        }
    }

    /// Writes the block of a key that has none yet. Needed before a version may
    /// read the key, also when all its words stay [`NONE`].
    pub(super) fn write_first(&mut self, key: u32, words: &[u32], epoch: Epoch) {
        if !self.written.contains(key) {
            self.write(key, words, epoch);
        }
    }

    fn fill_home(&self, key: u32, words: &[u32]) {
        fill(self.home(key), words);
    }

    fn home(&self, key: u32) -> &[AtomicU32] {
        let page = &self.view.pages[(key >> PAGE_SHIFT) as usize];
        page.home.block(key as usize & (PAGE_KEYS - 1), self.view.stride)
    }

    fn move_out(&mut self, key: u32, words: &[u32], epoch: Epoch) {
        let slot = self.free.pop().unwrap_or_else(|| self.grow_overlay());
        self.born[slot as usize] = epoch.next;
        fill(overlay_block(&self.view.overlay, slot, self.view.stride), words);
        self.place(key, slot);
        self.moves.push_back(Move { version: epoch.next, key, slot });
    }

    fn come_home(&mut self, key: u32, slot: u32, epoch: Epoch) {
        self.place(key, NONE);
        self.retire(slot, epoch);
    }

    fn retire(&mut self, slot: u32, epoch: Epoch) {
        self.retired.push(Retired { born: self.born[slot as usize], end: epoch.next, slot });
    }

    fn place(&mut self, key: u32, slot: u32) {
        let (page, local) = (key >> PAGE_SHIFT, key as usize & (PAGE_KEYS - 1));
        let old = std::mem::replace(&mut self.slot_of[key as usize], slot);
        self.away = self.away + usize::from(slot != NONE) - usize::from(old != NONE);
        let word = &mut self.moved_bits[page as usize][local / 64];
        let bit = 1 << (local % 64);
        *word = if slot == NONE { *word & !bit } else { *word | bit };
        self.touched.insert(page);
    }

    /// A new overlay chunk: its first slot, the others become free.
    fn grow_overlay(&mut self) -> u32 {
        let first = (self.view.overlay.len() << SLOT_SHIFT) as u32;
        let mut overlay = Vec::clone(&self.view.overlay);
        overlay.push(Chunk::new(1 << SLOT_SHIFT, self.view.stride));
        self.view.overlay = Arc::new(overlay);
        self.born.resize(self.view.overlay.len() << SLOT_SHIFT, 0);
        self.free.extend((first + 1..first + (1 << SLOT_SHIFT)).rev());
        first
    }

    fn reserve(&mut self, key: u32) {
        let (page, local) = ((key >> PAGE_SHIFT) as usize, key as usize & (PAGE_KEYS - 1));
        while self.view.pages.len() <= page {
            let first = self.view.pages.is_empty() && page == 0;
            let keys = if first { (local + 1).next_power_of_two().max(FIRST_KEYS) } else { PAGE_KEYS };
            self.view.pages.push(Page { home: Chunk::new(keys, self.view.stride), moved: None });
            self.moved_bits.push([0; PAGE_WORDS]);
        }
        self.widen(0, if page == 0 { local + 1 } else { PAGE_KEYS });
        if self.slot_of.len() <= key as usize {
            self.slot_of.resize((key as usize + 1).next_multiple_of(FIRST_KEYS), NONE);
        }
    }

    /// Gives a short page a larger home; versions that know the old one keep it.
    fn widen(&mut self, page: usize, keys: usize) {
        let stride = self.view.stride;
        let old = &self.view.pages[page].home;
        if old.blocks(stride) >= keys {
            return;
        }
        let home = Chunk::new(keys.next_power_of_two(), stride);
        for at in 0..old.blocks(stride) {
            copy(old.block(at, stride), home.block(at, stride));
        }
        self.view.pages[page].home = home;
    }

    /// Brings blocks home whose home nobody reads any more, frees slots, and
    /// gives the finished version.
    pub(super) fn publish(&mut self, epoch: Epoch, versions: &Versions) -> BlockView {
        while self.moves.front().is_some_and(|at| at.version <= epoch.oldest) {
            if let Some(Move { key, slot, .. }) = self.moves.pop_front() {
                self.bring_home(key, slot, epoch);
            }
        }
        self.drop_stale_moves();
        let free = &mut self.free;
        self.retired.retain(|retired| {
            let is_read = versions.any_alive(retired.born, retired.end);
            if !is_read {
                free.push(retired.slot);
            }
            is_read
        });
        let touched = std::mem::take(&mut self.touched);
        for page in touched.iter() {
            self.view.pages[page as usize].moved = self.moved_page(page as usize);
        }
        self.view.clone()
    }

    /// While a held version keeps homes occupied, blocks move again and again:
    /// only the last move of each counts.
    fn drop_stale_moves(&mut self) {
        if self.moves.len() > 2 * self.away + FIRST_KEYS {
            let (slot_of, born) = (&self.slot_of, &self.born);
            self.moves
                .retain(|at| slot_of[at.key as usize] == at.slot && born[at.slot as usize] == at.version);
        }
    }

    fn bring_home(&mut self, key: u32, slot: u32, epoch: Epoch) {
        let current = self.slot_of[key as usize] == slot && self.born[slot as usize] <= epoch.oldest;
        if current {
            copy(overlay_block(&self.view.overlay, slot, self.view.stride), self.home(key));
            self.come_home(key, slot, epoch);
        }
    }

    fn moved_page(&self, page: usize) -> Option<Arc<Moved>> {
        let bits = self.moved_bits[page];
        let mut rank = [0; PAGE_WORDS];
        let mut slots = Vec::with_capacity(bits.iter().map(|word| word.count_ones() as usize).sum());
        for (word, rank) in rank.iter_mut().enumerate() {
            *rank = slots.len() as u16;
            let mut rest = bits[word];
            while rest != 0 {
                let local = word * 64 + rest.trailing_zeros() as usize;
                slots.push(self.slot_of[(page << PAGE_SHIFT) + local]);
                rest &= rest - 1;
            }
        }
        (!slots.is_empty()).then(|| Arc::new(Moved { bits, rank, slots: slots.into() }))
    }

    /// Bytes of everything, with slots that wait to be reused.
    pub(super) fn bytes(&self) -> usize {
        self.view.bytes()
            + self.written.bytes()
            + self.slot_of.capacity() * size_of::<u32>()
            + self.born.capacity() * size_of::<u64>()
            + self.moved_bits.capacity() * size_of::<[u64; PAGE_WORDS]>()
            + self.moves.capacity() * size_of::<Move>()
            + self.retired.capacity() * size_of::<Retired>()
            + self.free.capacity() * size_of::<u32>()
    }
}

fn fill(block: &[AtomicU32], words: &[u32]) {
    for (at, place) in block.iter().enumerate() {
        place.store(words.get(at).copied().unwrap_or(NONE), Ordering::Relaxed);
    }
}

fn copy(from: &[AtomicU32], to: &[AtomicU32]) {
    for (from, to) in from.iter().zip(to) {
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
