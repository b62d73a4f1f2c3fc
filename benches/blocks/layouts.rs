//! The ways to find a block that were compared. Each holds the same contents.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use vecino::internals::blocks::{Area, Store};
use vecino::internals::kernel::prefetch;

use crate::contents;

/// A way to find the block of a key.
pub(crate) trait Layout {
    fn block(&self, key: u32) -> &[AtomicU32];

    /// Shows the blocks of many keys.
    #[inline(always)]
    fn find<'a>(&'a self, keys: &[u32], mut show: impl FnMut(usize, &'a [AtomicU32])) {
        keys.iter().enumerate().for_each(|(at, key)| show(at, self.block(*key)));
    }

    /// Asks for what will be needed to find these.
    #[inline(always)]
    fn ask(&self, _: &[u32]) {}
}

fn fill(block: &[AtomicU32], key: u32) {
    let mut words = vec![0; block.len()];
    contents(key, &mut words);
    block.iter().zip(words).for_each(|(place, word)| place.store(word, Ordering::Relaxed));
}

fn filled(keys: u32, stride: u32) -> Area {
    let area = Area::new(keys, stride);
    (0..keys).for_each(|key| fill(area.block(key), key));
    area
}

/// (d) Base address and key, nothing else.
pub(crate) struct Direct {
    area: Area,
    stride: usize,
}

impl Direct {
    pub(crate) fn new(keys: u32, stride: u32) -> Direct {
        Direct { area: filled(keys, stride), stride: stride as usize }
    }
}

impl Layout for Direct {
    #[inline(always)]
    fn block(&self, key: u32) -> &[AtomicU32] {
        let first = self.area.block(0).as_ptr();
        // SAFETY: the walk draws keys below the number of blocks.
        unsafe { std::slice::from_raw_parts(first.add(key as usize * self.stride), self.stride) }
    }
}

/// Which keys are away, as bits with ranks.
struct Moved {
    bits: Vec<u64>,
    rank: Vec<u32>,
    slots: Vec<u32>,
}

impl Moved {
    /// The keys of `moved` from `from` on, `count` keys; slots count up.
    fn new(from: u32, count: u32, moved: &[u32]) -> Moved {
        let words = count.div_ceil(64) as usize;
        let mut bits = vec![0u64; words];
        let first = moved.partition_point(|key| *key < from);
        let end = moved.partition_point(|key| *key < from + count);
        for key in &moved[first..end] {
            bits[((key - from) / 64) as usize] |= 1 << ((key - from) % 64);
        }
        let ranks = bits.iter().scan(0, |sum, word| {
            let before = *sum;
            *sum += word.count_ones();
            Some(before)
        });
        let rank = ranks.collect();
        Moved { bits, rank, slots: (first as u32..end as u32).collect() }
    }

    #[inline(always)]
    fn slot(&self, local: u32) -> Option<u32> {
        let (word, bit) = ((local / 64) as usize, 1u64 << (local % 64));
        let bits = self.bits[word];
        (bits & bit != 0)
            .then(|| self.slots[self.rank[word] as usize + (bits & (bit - 1)).count_ones() as usize])
    }
}

fn overlay(moved: &[u32], stride: u32) -> Area {
    let area = Area::new(moved.len().max(1) as u32, stride);
    for (slot, key) in moved.iter().enumerate() {
        fill(area.block(slot as u32), *key);
    }
    area
}

/// (a) A home and perhaps a bitmap for every 4,096 keys.
pub(crate) struct SmallPages {
    pages: Vec<Page>,
    overlay: Area,
    stride: usize,
}

struct Page {
    home: Arc<[AtomicU32]>,
    start: usize,
    moved: Option<Arc<Moved>>,
}

const PAGE_SHIFT: u32 = 12;
const PAGE_KEYS: u32 = 1 << PAGE_SHIFT;
const LINE: usize = 16;

impl SmallPages {
    pub(crate) fn new(keys: u32, stride: u32, moved: &[u32]) -> SmallPages {
        let page = |from: u32| {
            let words = PAGE_KEYS * stride + LINE as u32;
            let home: Arc<[AtomicU32]> = (0..words).map(|_| AtomicU32::new(0)).collect();
            let start = home.as_ptr().align_offset(LINE * size_of::<u32>());
            for key in from..keys.min(from + PAGE_KEYS) {
                let at = start + ((key - from) * stride) as usize;
                fill(&home[at..at + stride as usize], key);
            }
            let here = Moved::new(from, PAGE_KEYS, moved);
            Page { home, start, moved: (!here.slots.is_empty()).then(|| Arc::new(here)) }
        };
        let pages = (0..keys).step_by(PAGE_KEYS as usize).map(page).collect();
        SmallPages { pages, overlay: overlay(moved, stride), stride: stride as usize }
    }
}

impl Layout for SmallPages {
    #[inline(always)]
    fn block(&self, key: u32) -> &[AtomicU32] {
        let page = &self.pages[(key >> PAGE_SHIFT) as usize];
        let local = key & (PAGE_KEYS - 1);
        if let Some(moved) = &page.moved
            && let Some(slot) = moved.slot(local)
        {
            return self.overlay.block(slot);
        }
        let from = page.start + local as usize * self.stride;
        &page.home[from..from + self.stride]
    }
}

/// (b) The blocks of this crate, one key at a time.
pub(crate) struct Stands(Store);

impl Stands {
    pub(crate) fn new(keys: u32, stride: u32, moved: &[u32]) -> Stands {
        Stands(Store::new(keys, stride as usize, moved, contents))
    }
}

impl Layout for Stands {
    #[inline(always)]
    fn block(&self, key: u32) -> &[AtomicU32] {
        self.0.block(key)
    }
}

/// (b) The blocks of this crate, many keys at a time.
pub(crate) struct Each(Store);

impl Each {
    pub(crate) fn new(keys: u32, stride: u32, moved: &[u32]) -> Each {
        Each(Store::new(keys, stride as usize, moved, contents))
    }
}

impl Layout for Each {
    #[inline(always)]
    fn block(&self, key: u32) -> &[AtomicU32] {
        self.0.block(key)
    }

    #[inline(always)]
    fn find<'a>(&'a self, keys: &[u32], show: impl FnMut(usize, &'a [AtomicU32])) {
        self.0.each(keys, show);
    }
}

/// (b) One home for all, and one bitmap.
pub(crate) struct Contiguous {
    home: Area,
    moved: Option<Moved>,
    overlay: Area,
}

impl Contiguous {
    pub(crate) fn new(keys: u32, stride: u32, moved: &[u32]) -> Contiguous {
        let away = (!moved.is_empty()).then(|| Moved::new(0, keys, moved));
        Contiguous { home: filled(keys, stride), moved: away, overlay: overlay(moved, stride) }
    }
}

impl Layout for Contiguous {
    #[inline(always)]
    fn block(&self, key: u32) -> &[AtomicU32] {
        match self.moved.as_ref().and_then(|moved| moved.slot(key)) {
            Some(slot) => self.overlay.block(slot),
            None => self.home.block(key),
        }
    }
}

/// (c) The place of every key in a table.
pub(crate) struct SlotTable {
    slots: Vec<u32>,
    blocks: Area,
    ahead: bool,
}

impl SlotTable {
    pub(crate) fn new(keys: u32, stride: u32, moved: &[u32], ahead: bool) -> SlotTable {
        let blocks = Area::new(keys + moved.len() as u32, stride);
        let mut slots: Vec<u32> = (0..keys).collect();
        for (at, key) in moved.iter().enumerate() {
            slots[*key as usize] = keys + at as u32;
        }
        slots.iter().enumerate().for_each(|(key, slot)| fill(blocks.block(*slot), key as u32));
        SlotTable { slots, blocks, ahead }
    }
}

impl Layout for SlotTable {
    #[inline(always)]
    fn block(&self, key: u32) -> &[AtomicU32] {
        self.blocks.block(self.slots[key as usize])
    }

    #[inline(always)]
    fn ask(&self, keys: &[u32]) {
        if self.ahead {
            keys.iter().for_each(|key| prefetch(&self.slots[*key as usize..][..1]));
        }
    }
}
