//! Persistent blocks of words: many versions, one writer, almost one copy.
//!
//! A key names a block of `stride` words. Every key has a *home*: a fixed
//! place in the strip of its page. A block that a living version may read is
//! never changed in place: the changed block goes to an *overlay slot*, and
//! the section of its key in the new version says so. As soon as every version
//! older than the move is gone, nobody reads the home any more: the writer
//! copies the block home, and the next version forgets the slot. With no
//! version held for long everything is at home, and a lookup is a shift, a
//! multiplication and tests that never fail. Memory of slots that are not used
//! any more is given back.
//!
//! Words are relaxed atomics. They compile to plain loads and stores and make
//! the sharing safe Rust; the order comes from outside: a version is published
//! after its words were written, and a place is written again only after the
//! [`Lease`] of the last version that read it was seen released. `cow/tests/model.rs`
//! checks this for every order in which threads can meet.

mod slots;

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::Settling;
use crate::bits::RowSet;
use crate::id::mix;
use crate::lease::{Lease, Receipt, lease};
use crate::memory::{Memory, Pages, Word, collect, list, push, push_back, reserve_exact, resize, room};
use slots::Slots;

/// What a word holds before it is written: "nothing".
pub(crate) const NONE: u32 = u32::MAX;

/// Keys of the smallest first page: small indexes stay small.
const FIRST_KEYS: u32 = if cfg!(all(vecino_loom, test)) { 2 } else { 64 };

/// The same of large blocks.
const FEW_KEYS: u32 = 2;

/// Keys of a section, as a power of two: what a version rebuilds when one of
/// them moves.
const SECTION_SHIFT: u32 = 12;
const SECTION_KEYS: usize = 1 << SECTION_SHIFT;

/// Moves that are not worth a sweep.
const LEAST_MOVES: usize = 64;

/// The version in the making, and which others may still be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch {
    /// The oldest; when there is none, the one in the making.
    oldest: u64,
    /// The first that nobody reads of those after the newest that somebody may.
    unread: u64,
    next: u64,
}

/// The writer's list of versions that may be alive.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    next: u64,
    /// Ascending.
    alive: Vec<(u64, Receipt)>,
}

impl Versions {
    /// Starts the next version.
    pub(crate) fn begin(&mut self) -> Epoch {
        self.alive.retain(|(_, receipt)| !receipt.is_released());
        let oldest = self.alive.first().map_or(self.next, |(version, _)| *version);
        let unread = self.alive.last().map_or(0, |(version, _)| version + 1);
        Epoch { oldest, unread, next: self.next }
    }

    /// Starts the version that is to take the place of `newest`, which whoever makes it does
    /// not read any more: where nobody else has it, nobody does.
    pub(crate) fn begin_after<T>(
        &mut self,
        newest: &mut Arc<T>,
        lease: impl FnOnce(&mut T) -> &mut Lease,
    ) -> Epoch {
        // Succeeds only after every read through other holders, as their drops do.
        if let Some(newest) = Arc::get_mut(newest) {
            lease(newest).release();
        }
        self.begin()
    }

    /// True when a version from `born` to before `end` was alive at `begin`.
    fn any_alive(&self, born: u64, end: u64) -> bool {
        let at = self.alive.partition_point(|(version, _)| *version < born);
        self.alive.get(at).is_some_and(|(version, _)| *version < end)
    }

    /// True when no version but the newest may be read.
    pub(crate) fn is_newest_alone(&mut self) -> bool {
        self.alive.retain(|(_, receipt)| !receipt.is_released());
        self.alive.len() <= 1
    }

    /// How far an index has come all of whose blocks are at home: older versions
    /// may keep others.
    pub(super) fn settled(&mut self) -> Settling {
        if self.is_newest_alone() { Settling::Settled } else { Settling::Waiting }
    }

    /// Ends the making of the version: the lease belongs into it.
    pub(crate) fn publish(&mut self) -> Lease {
        let (lease, receipt) = lease();
        self.alive.push((self.next, receipt));
        self.next += 1;
        lease
    }
}

/// All memory of an index that versions share with it.
pub(crate) type SharedMemory = Vec<Weak<Memory>>;

/// Blocks that only older versions keep: they were made anew since.
#[derive(Debug, Default)]
pub(super) struct Left(Vec<Weak<Memory>>);

impl Left {
    pub(super) fn add(&mut self, memory: impl Iterator<Item = Weak<Memory>>) {
        self.0.retain(|memory| memory.strong_count() > 0);
        self.0.extend(memory);
    }

    /// What is still kept, perhaps.
    pub(super) fn iter(&self) -> impl Iterator<Item = Weak<Memory>> + '_ {
        self.0.iter().map(Weak::clone)
    }

    /// Bytes that are still kept.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().filter_map(Weak::upgrade).map(|memory| memory.bytes()).sum()
    }
}

/// Which blocks of a section are not at home, and where they are instead.
#[derive(Debug)]
struct Moved {
    /// For each 32 keys: below, a bit for each that is away; above, how many
    /// keys before these are. One load answers for most keys.
    groups: [u64; SECTION_KEYS / 32],
    slots: Box<[u32]>,
}

impl Moved {
    #[inline]
    fn slot(&self, local: usize) -> Option<u32> {
        let (group, bit) = (self.groups[local / 32], 1u64 << (local % 32));
        (group & bit != 0)
            .then(|| self.slots[(group >> 32) as usize + (group & (bit - 1)).count_ones() as usize])
    }

    fn bytes(&self) -> usize {
        size_of::<Moved>() + size_of_val(&*self.slots)
    }
}

/// The blocks as one version sees them.
#[derive(Clone, Debug)]
pub(crate) struct BlockView {
    /// Keys that have a place.
    keys: u32,
    home: Pages,
    /// By section; empty when every block is at home.
    moved: Vec<Option<Arc<Moved>>>,
    overlay: Pages,
}

impl BlockView {
    /// Words of a block.
    #[inline]
    pub(crate) fn stride(&self) -> usize {
        self.home.stride()
    }

    /// The block of a key that was written before the version was published.
    ///
    /// # Panics
    /// When the page of the key was never written.
    #[inline]
    pub(crate) fn block(&self, key: u32) -> &[Word] {
        if !self.moved.is_empty()
            && let Some(slot) = self.slot(key)
        {
            return self.overlay.block(slot);
        }
        self.home.block(key)
    }

    /// The same as bytes, for kernels that read many words at once.
    ///
    /// # Panics
    /// As `block`.
    #[inline(always)]
    pub(super) fn bytes_of(&self, key: u32) -> &[u8] {
        let words = self.block(key);
        // SAFETY: the bytes are those of `words`, and any byte is a `u8`. No
        // word of a block that a living version may read is written (the
        // invariant of this module), and this view belongs to a living version.
        unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
    }

    /// The same as plain words.
    ///
    /// # Panics
    /// As `block`.
    #[inline(always)]
    pub(super) fn words_of(&self, key: u32) -> &[u32] {
        let words = self.block(key);
        // SAFETY: as in `bytes_of`: these words are not written while the
        // version lives, so they are plain numbers.
        unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len()) }
    }

    /// A number that names the content of blocks, whose words are even in number.
    pub(super) fn digest(&self, keys: impl Iterator<Item = u32>, seed: u64) -> u64 {
        keys.fold(seed, |hash, key| {
            let (quads, _) = self.bytes_of(key).as_chunks::<8>();
            quads.iter().fold(hash, |hash, quad| mix(hash ^ u64::from_le_bytes(*quad)))
        })
    }

    /// Like `block`, but `None` for a key beyond all that were written.
    #[inline]
    pub(crate) fn get(&self, key: u32) -> Option<&[Word]> {
        (key < self.keys).then(|| self.block(key))
    }

    /// Shows the blocks of many keys, in order. Cheaper than asking for each:
    /// while every block is at home nothing but its place is computed.
    #[cfg_attr(not(feature = "internals"), allow(dead_code, reason = "for graphs with code blocks; benches"))]
    #[inline]
    pub(crate) fn each<'a>(&'a self, keys: &[u32], mut show: impl FnMut(usize, &'a [Word])) {
        if self.is_at_home() {
            keys.iter().enumerate().for_each(|(at, key)| show(at, self.home.block(*key)));
        } else {
            keys.iter().enumerate().for_each(|(at, key)| show(at, self.block(*key)));
        }
    }

    /// True when no block is in the overlay.
    #[inline]
    pub(crate) fn is_at_home(&self) -> bool {
        self.moved.is_empty()
    }

    #[inline]
    fn slot(&self, key: u32) -> Option<u32> {
        let section = self.moved.get((key >> SECTION_SHIFT) as usize)?;
        section.as_ref()?.slot(key as usize & (SECTION_KEYS - 1))
    }

    /// Keys that have a place: none beyond was ever written.
    pub(crate) fn keys(&self) -> usize {
        self.keys as usize
    }

    /// Bytes that the version keeps alive.
    pub(crate) fn bytes(&self) -> usize {
        let moved = self.moved.iter().flatten().map(|moved| moved.bytes());
        self.home.bytes()
            + self.overlay.bytes()
            + self.moved.capacity() * size_of::<Option<Arc<Moved>>>()
            + moved.sum::<usize>()
    }
}

/// A block that was moved to an overlay slot in a version.
#[derive(Debug)]
struct Move {
    version: u64,
    key: u32,
    slot: u32,
}

/// The writer's side of the blocks.
#[derive(Debug)]
pub(crate) struct Blocks {
    /// The version in the making.
    view: BlockView,
    /// Keys that were ever written.
    written: RowSet,
    /// For every key its overlay slot, or [`NONE`]: at home.
    slot_of: Vec<u32>,
    slots: Slots,
    /// Places come in so many.
    least: u32,
    /// Keys with a slot, as the sections will say it.
    moved_bits: Vec<[u32; SECTION_KEYS / 32]>,
    /// Sections to rebuild before the version is published.
    touched: RowSet,
    /// Keys that have a slot.
    away: usize,
    /// Moves, oldest first.
    moves: VecDeque<Move>,
    /// Keys whose home was written for versions from `unread_from` on, which nobody
    /// reads but who makes the next.
    unread_homes: RowSet,
    unread_from: u64,
}

impl Blocks {
    pub(crate) fn new(stride: usize) -> Blocks {
        Blocks::with_least(FIRST_KEYS, stride)
    }

    /// Blocks that are large: of few keys not even this many have places.
    pub(super) fn large(stride: usize) -> Blocks {
        Blocks::with_least(FEW_KEYS, stride)
    }

    fn with_least(least: u32, stride: usize) -> Blocks {
        let (home, overlay) = (Pages::new(stride), Pages::new(stride));
        Blocks {
            view: BlockView { keys: 0, home, moved: Vec::new(), overlay },
            written: RowSet::default(),
            slot_of: Vec::new(),
            slots: Slots::new(least),
            least,
            moved_bits: Vec::new(),
            touched: RowSet::default(),
            away: 0,
            moves: VecDeque::new(),
            unread_homes: RowSet::default(),
            unread_from: 0,
        }
    }

    /// Writes a block for the version in the making; words that are not given
    /// become [`NONE`].
    ///
    /// # Panics
    /// When there are more words than the stride.
    pub(crate) fn write(&mut self, key: u32, words: &[u32], epoch: Epoch) {
        assert!(words.len() <= self.view.home.stride());
        self.reserve(key);
        self.forget_unread(epoch);
        let slot = self.slot_of[key as usize];
        if self.written.insert(key) || (slot == NONE && self.unread_homes.contains(key)) {
            self.fill_home(key, words);
        } else if slot == NONE {
            self.move_out(key, words, epoch);
        } else if self.slots.born(slot) >= epoch.unread {
            fill(self.view.overlay.block(slot), words);
        } else if self.slots.born(slot) <= epoch.oldest {
            self.fill_home(key, words);
            self.come_home(key, slot, epoch);
        } else {
            self.slots.retire(slot, epoch);
            self.move_out(key, words, epoch);
        }
    }

    /// Writes the block of a key that has none yet. Needed before a version may
    /// read the key, also when all its words stay [`NONE`].
    pub(crate) fn write_first(&mut self, key: u32, words: &[u32], epoch: Epoch) {
        if !self.written.contains(key) {
            self.write(key, words, epoch);
        }
    }

    /// The words of a key as they were written last, also for the version in the
    /// making: only the writer may ask.
    pub(super) fn newest(&self, key: u32) -> Option<Vec<u32>> {
        let slot = self.slot_of.get(key as usize).filter(|_| self.written.contains(key))?;
        let block = if *slot == NONE { self.view.home.block(key) } else { self.view.overlay.block(*slot) };
        Some(collect(block.iter().map(|word| word.load(Ordering::Relaxed))))
    }

    fn fill_home(&mut self, key: u32, words: &[u32]) {
        fill(self.view.home.block(key), words);
        self.unread_homes.insert(key);
    }

    /// Homes may be read that were written before the newest version that somebody reads.
    fn forget_unread(&mut self, epoch: Epoch) {
        if self.unread_from != epoch.unread {
            self.unread_from = epoch.unread;
            self.unread_homes.clear();
        }
    }

    fn move_out(&mut self, key: u32, words: &[u32], epoch: Epoch) {
        let slot = self.slots.take(&mut self.view.overlay, epoch);
        fill(self.view.overlay.block(slot), words);
        self.place(key, slot);
        push_back(&mut self.moves, Move { version: epoch.next, key, slot });
    }

    fn come_home(&mut self, key: u32, slot: u32, epoch: Epoch) {
        self.place(key, NONE);
        self.slots.retire(slot, epoch);
    }

    fn place(&mut self, key: u32, slot: u32) {
        let (section, local) = (key >> SECTION_SHIFT, key as usize & (SECTION_KEYS - 1));
        let old = std::mem::replace(&mut self.slot_of[key as usize], slot);
        self.away = self.away + usize::from(slot != NONE) - usize::from(old != NONE);
        let word = &mut self.moved_bits[section as usize][local / 32];
        let bit = 1 << (local % 32);
        *word = if slot == NONE { *word & !bit } else { *word | bit };
        self.touched.insert(section);
    }

    /// Gives places to all keys up to this one, and some after it.
    fn reserve(&mut self, key: u32) {
        let from = self.view.keys;
        if key < from {
            return;
        }
        let to = key.saturating_add(1).checked_next_multiple_of(self.least).unwrap_or(u32::MAX);
        self.view.home.reserve(to, from);
        (from..to).for_each(|key| fill(self.view.home.block(key), &[]));
        let roomy = room(to as usize, self.least as usize, self.view.home.page() as usize);
        reserve_exact(&mut self.slot_of, roomy.saturating_sub(from as usize));
        self.slot_of.resize(to as usize, NONE);
        resize(&mut self.moved_bits, (to as usize).div_ceil(SECTION_KEYS), [0; SECTION_KEYS / 32]);
        self.view.keys = to;
    }

    /// Brings blocks home whose home nobody reads any more, frees slots, and
    /// gives the finished version.
    pub(crate) fn publish(&mut self, epoch: Epoch, versions: &Versions) -> BlockView {
        self.forget_unread(epoch);
        while self.moves.front().is_some_and(|at| at.version <= epoch.oldest) {
            if let Some(Move { key, slot, .. }) = self.moves.pop_front() {
                self.bring_home(key, slot, epoch);
            }
        }
        self.drop_stale_moves();
        self.slots.collect(versions, &mut self.view.overlay);
        self.rebuild_sections();
        self.view.clone()
    }

    /// True when every block is at home and no slot takes memory. As long as
    /// that is not so, further versions without a change lead there: two, when
    /// no other is held meanwhile.
    pub(crate) fn is_settled(&self) -> bool {
        self.away == 0 && self.slots.is_empty()
    }

    fn rebuild_sections(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        if self.away == 0 {
            self.view.moved = Vec::new();
            return;
        }
        resize(&mut self.view.moved, self.moved_bits.len(), None);
        for section in touched.iter() {
            self.view.moved[section as usize] = self.section(section as usize);
        }
    }

    /// While a held version keeps homes occupied, blocks move again and again:
    /// only the last move of each counts.
    fn drop_stale_moves(&mut self) {
        if self.away == 0 {
            self.moves = VecDeque::new();
        } else if self.moves.len() > 2 * self.away + LEAST_MOVES {
            let (slot_of, slots) = (&self.slot_of, &self.slots);
            self.moves.retain(|at| slot_of[at.key as usize] == at.slot && slots.born(at.slot) == at.version);
        }
        if self.moves.capacity() > 4 * self.moves.len() + LEAST_MOVES {
            self.moves.shrink_to(2 * self.moves.len());
        }
    }

    fn bring_home(&mut self, key: u32, slot: u32, epoch: Epoch) {
        let current = self.slot_of[key as usize] == slot && self.slots.born(slot) <= epoch.oldest;
        if current {
            copy(self.view.overlay.block(slot), self.view.home.block(key));
            self.unread_homes.insert(key);
            self.come_home(key, slot, epoch);
        }
    }

    fn section(&self, section: usize) -> Option<Arc<Moved>> {
        let bits = self.moved_bits[section];
        let mut groups = [0; SECTION_KEYS / 32];
        let mut slots = list(bits.iter().map(|word| word.count_ones() as usize).sum());
        for (at, group) in groups.iter_mut().enumerate() {
            *group = u64::from(bits[at]) | (slots.len() as u64) << 32;
            let mut rest = bits[at];
            while rest != 0 {
                let local = at * 32 + rest.trailing_zeros() as usize;
                push(&mut slots, self.slot_of[section * SECTION_KEYS + local]);
                rest &= rest - 1;
            }
        }
        (!slots.is_empty()).then(|| Arc::new(Moved { groups, slots: slots.into() }))
    }

    /// The memory of all blocks, for as long as somebody has it.
    pub(super) fn shared(&self) -> impl Iterator<Item = Weak<Memory>> + '_ {
        self.view.home.shared().chain(self.view.overlay.shared())
    }

    /// Bytes of everything, with slots that wait to be reused.
    pub(crate) fn bytes(&self) -> usize {
        self.view.bytes()
            + self.written.bytes()
            + self.slot_of.capacity() * size_of::<u32>()
            + self.moved_bits.capacity() * size_of::<[u32; SECTION_KEYS / 32]>()
            + self.moves.capacity() * size_of::<Move>()
            + self.unread_homes.bytes()
            + self.slots.bytes()
    }
}

fn fill(block: &[Word], words: &[u32]) {
    for (at, place) in block.iter().enumerate() {
        place.store(words.get(at).copied().unwrap_or(NONE), Ordering::Relaxed);
    }
}

fn copy(from: &[Word], to: &[Word]) {
    for (from, to) in from.iter().zip(to) {
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[cfg(all(test, vecino_loom))]
#[path = "cow/tests/model.rs"]
mod model;
#[cfg(all(test, not(vecino_loom)))]
mod tests;
