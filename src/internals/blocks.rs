//! The persistent blocks of graph indexes, and the memory that they stand in.

use std::sync::atomic::AtomicU32;

use crate::index::{BlockView, Blocks, Versions};
use crate::lease::Lease;
use crate::memory::Strip;

/// Blocks of words in one piece of memory, on huge pages if it is large.
#[derive(Debug)]
pub struct Area(Strip);

impl Area {
    /// `blocks` blocks of `stride` zeros.
    #[must_use]
    pub fn new(blocks: u32, stride: u32) -> Area {
        Area(Strip::new(blocks, stride))
    }

    /// A block.
    ///
    /// # Panics
    /// When there are not that many.
    #[inline(always)]
    pub fn block(&self, at: u32) -> &[AtomicU32] {
        self.0.block(at)
    }
}

/// Blocks by key, some of them away from home.
#[derive(Debug)]
pub struct Store {
    view: BlockView,
    _held: [Lease; 2],
}

impl Store {
    /// Writes the blocks of `keys` keys, then those of `moved` again while the
    /// first version is held, which keeps them in the overlay.
    #[must_use]
    pub fn new(keys: u32, stride: usize, moved: &[u32], contents: impl Fn(u32, &mut [u32])) -> Store {
        let (mut versions, mut blocks) = (Versions::default(), Blocks::new(stride));
        let mut words = vec![0; stride];
        let mut commit = |keys: &mut dyn Iterator<Item = u32>| {
            let epoch = versions.begin();
            for key in keys {
                contents(key, &mut words);
                blocks.write(key, &words, epoch);
            }
            (blocks.publish(epoch, &versions), versions.publish())
        };
        let (_, first) = commit(&mut (0..keys));
        let (view, second) = commit(&mut moved.iter().copied());
        Store { view, _held: [first, second] }
    }

    /// The block of a key.
    #[inline(always)]
    pub fn block(&self, key: u32) -> &[AtomicU32] {
        self.view.block(key)
    }

    /// Shows the blocks of many keys.
    #[inline(always)]
    pub fn each<'a>(&'a self, keys: &[u32], show: impl FnMut(usize, &'a [AtomicU32])) {
        self.view.each(keys, show);
    }
}
