//! The slots of an overlay: which are taken, which wait for versions to go,
//! which are free; and how many there are.
//!
//! The lowest free slot is taken first. So what a large batch needed falls free
//! from the top once its blocks are home, and its memory is given back.

use super::{Epoch, Versions};
use crate::memory::{self, Pages};

/// An overlay grows by one slot for so many.
const GROWTH: u32 = 4;

/// An overlay shrinks when all its slots but one in so many are free at its top.
const SPARSE: u32 = 4;

/// A slot that versions from `born` to before `end` may read.
#[derive(Clone, Copy, Debug)]
struct Retired {
    born: u64,
    end: u64,
    slot: u32,
}

/// The writer's list of slots.
#[derive(Debug)]
pub(super) struct Slots {
    /// Slots of the smallest overlay.
    first: u32,
    /// For every slot the version that its block was written for.
    born: Vec<u64>,
    retired: Vec<Retired>,
    /// Descending.
    free: Vec<u32>,
}

impl Slots {
    pub(super) fn new(first: u32) -> Slots {
        Slots { first, born: Vec::new(), retired: Vec::new(), free: Vec::new() }
    }

    /// The version that the block of a slot was written for.
    pub(super) fn born(&self, slot: u32) -> u64 {
        self.born[slot as usize]
    }

    /// True when there is no memory for any.
    pub(super) fn is_empty(&self) -> bool {
        self.born.is_empty()
    }

    /// Takes a slot for the version in the making.
    pub(super) fn take(&mut self, overlay: &mut Pages, epoch: Epoch) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| self.grow(overlay));
        self.born[slot as usize] = epoch.next;
        slot
    }

    /// Makes the overlay larger by a quarter, as far as that is little: gives a
    /// new slot, the others become free.
    fn grow(&mut self, overlay: &mut Pages) -> u32 {
        let slots = self.born.len() as u32;
        let grown = slots + (slots / GROWTH).clamp(self.first, overlay.page());
        overlay.reserve(grown, slots);
        memory::resize(&mut self.born, grown as usize, 0);
        memory::extend(&mut self.free, (slots + 1..grown).rev());
        slots
    }

    /// No version from the one in the making on reads the slot.
    pub(super) fn retire(&mut self, slot: u32, epoch: Epoch) {
        let born = self.born(slot);
        memory::push(&mut self.retired, Retired { born, end: epoch.next, slot });
    }

    /// Frees the slots that no version reads any more, and gives memory back
    /// where few are left.
    pub(super) fn collect(&mut self, versions: &Versions, overlay: &mut Pages) {
        let mut freed = Vec::new();
        self.retired.retain(|retired| {
            let is_read = versions.any_alive(retired.born, retired.end);
            if !is_read {
                memory::push(&mut freed, retired.slot);
            }
            is_read
        });
        let waiting = self.retired.len();
        if self.retired.capacity() > SPARSE as usize * waiting {
            self.retired.shrink_to(2 * waiting);
        }
        if !freed.is_empty() {
            freed.sort_unstable_by(|a, b| b.cmp(a));
            self.free = merged(&self.free, &freed);
            self.shrink(overlay);
        }
    }

    /// Versions that were published keep the memory that they know, as they do
    /// when the overlay grows.
    fn shrink(&mut self, overlay: &mut Pages) {
        let slots = self.born.len() as u32;
        let at_top = (0..slots).rev().zip(&self.free).take_while(|(slot, free)| slot == *free).count() as u32;
        let taken = slots - at_top;
        if taken == 0 {
            overlay.shrink(0, 0);
            *self = Slots::new(self.first);
        } else if slots > self.first && taken <= slots / SPARSE {
            let left = taken.saturating_mul(2).max(self.first);
            overlay.shrink(left, taken);
            self.born.truncate(left as usize);
            self.born.shrink_to_fit();
            self.free.drain(..(slots - left) as usize);
            self.free.shrink_to_fit();
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.born.capacity() * size_of::<u64>()
            + self.retired.capacity() * size_of::<Retired>()
            + self.free.capacity() * size_of::<u32>()
    }
}

/// Two descending lists as one.
fn merged(one: &[u32], other: &[u32]) -> Vec<u32> {
    let mut all = memory::list(one.len() + other.len());
    let mut rest = other.iter().copied().peekable();
    for slot in one {
        while let Some(higher) = rest.next_if(|other| other > slot) {
            all.push(higher);
        }
        all.push(*slot);
    }
    all.extend(rest);
    all
}
