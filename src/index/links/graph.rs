//! The graph as one version sees it.

use std::sync::atomic::Ordering;

use super::starts::Starts;
use crate::bits::RowSet;
use crate::id::Row;
use crate::index::cow::{BlockView, NONE};
use crate::memory::Word;

/// Set in a link of layer 0 that is an edge of the spanning tree.
pub(super) const TREE: u32 = 1 << 31;

/// Layers above 0 that a row may have at most.
pub(super) const MAX_LEVEL: usize = 15;

/// A tower's place: its first upper block, and in the highest bits its height.
const TOWER_BITS: u32 = 28;

/// Upper blocks that can be named.
pub(super) const MAX_TOWERS: u32 = 1 << TOWER_BITS;

pub(super) fn tower(first: u32, level: usize) -> u32 {
    debug_assert!(first < MAX_TOWERS && (1..MAX_LEVEL + 1).contains(&level));
    first | ((level as u32 - 1) << TOWER_BITS)
}

/// The first block and the height of a tower; `None` for a row of layer 0 only.
pub(super) fn tower_parts(word: u32) -> Option<(u32, usize)> {
    (word != NONE).then(|| (word & (MAX_TOWERS - 1), (word >> TOWER_BITS) as usize + 1))
}

/// A row where a search starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) row: Row,
    pub(super) level: usize,
}

/// Immutable links of all layers.
#[derive(Debug)]
pub(in crate::index) struct Graph {
    /// Layer 0, by row.
    pub(in crate::index) base: BlockView,
    /// Links by inner product, by row; empty where there are none.
    pub(super) products: BlockView,
    /// The layers above, by upper block.
    pub(super) upper: BlockView,
    /// For each row its tower.
    pub(super) towers: BlockView,
    pub(in crate::index) held: RowSet,
    pub(super) entry: Option<Entry>,
    /// More rows where walks start.
    pub(super) starts: Starts,
}

impl Graph {
    pub(super) fn level(&self, row: Row) -> usize {
        self.tower_word(row).and_then(tower_parts).map_or(0, |(_, level)| level)
    }

    fn tower_word(&self, row: Row) -> Option<u32> {
        Some(self.towers.get(row)?[0].load(Ordering::Relaxed))
    }

    /// The links of a held row on layer 0, with their [`TREE`] bits.
    #[inline]
    pub(super) fn base_links(&self, row: Row) -> impl Iterator<Item = u32> + '_ {
        words(self.base.block(row))
    }

    /// The links of a held row by inner product; none where there are no such links.
    pub(super) fn product_links(&self, row: Row) -> impl Iterator<Item = Row> + '_ {
        self.products.get(row).into_iter().flat_map(words)
    }

    /// The links of a held row on a layer, without flags; none above its level.
    #[inline]
    pub(in crate::index) fn links(&self, layer: usize, row: Row) -> impl Iterator<Item = Row> + '_ {
        let block = if layer == 0 { Some(self.base.block(row)) } else { self.upper_block(layer, row) };
        block.into_iter().flat_map(words).map(|link| link & !TREE)
    }

    /// The places of a row's links on a layer, with flags, [`NONE`] where they
    /// are empty; none above its level.
    #[inline(always)]
    pub(super) fn list(&self, layer: usize, row: Row) -> &[u32] {
        if layer == 0 {
            return self.base.words_of(row);
        }
        let Some((first, level)) = self.tower_word(row).and_then(tower_parts) else { return &[] };
        if layer <= level { self.upper.words_of(first + layer as u32 - 1) } else { &[] }
    }

    pub(super) fn upper_block(&self, layer: usize, row: Row) -> Option<&[Word]> {
        let (first, level) = tower_parts(self.tower_word(row)?)?;
        (layer <= level).then(|| self.upper.block(first + layer as u32 - 1))
    }

    /// Rows above which no row is held.
    pub(in crate::index) fn row_limit(&self) -> usize {
        self.base.keys()
    }
}

#[inline]
fn words(block: &[Word]) -> impl Iterator<Item = u32> + '_ {
    block.iter().map(|word| word.load(Ordering::Relaxed)).take_while(|word| *word != NONE)
}
