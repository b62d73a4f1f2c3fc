//! Navigable graphs in persistent form: what the graph indexes share.
//!
//! A graph has a lowest layer that holds every row, and may have layers above
//! it (HNSW) or none (a flat graph, which starts from rows drawn at random).
//! It is built and walked through a [`Measure`](super::measure::Measure).
//!
//! * Lists live in copy-on-write blocks ([`cow`](super::cow)), so readers hold
//!   a whole graph as of one moment while the writer goes on.
//! * Batches instead of single insertions (`plan`), so that work can be spread
//!   over threads and still give the same graph.
//! * A spanning tree that is never pruned (`tree`): no row is ever orphaned.
//! * Rows can be taken out again (`forget`).

use std::sync::Weak;

use super::cow::{Blocks, Epoch, NONE, Versions};
use crate::bits::RowSet;
use crate::memory::Memory;

mod absorb;
mod audit;
mod beam;
mod crowds;
mod forget;
mod graph;
mod laid;
mod limits;
mod merge;
mod plan;
mod products;
mod saved;
mod select;
mod starts;
mod thinned;
mod towers;
mod tree;

pub(super) use audit::{audit, digest};
pub(super) use beam::{Step, Walk};
pub(super) use graph::Graph;
pub(super) use laid::Laid;
pub(super) use limits::Limits;
pub(super) use plan::{Change, Job, change};
use starts::Starts;
pub(crate) use thinned::walked;
use towers::Towers;

/// How a graph is built.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LinkOptions {
    /// Links of a row on the lowest layer to rows near it.
    pub(super) degree: usize,
    /// Links beside these to the rows of the greatest inner products with it (`products`).
    pub(super) products: usize,
    /// Links of a row on a layer above.
    pub(super) upper: usize,
    /// Links that a new row chooses.
    pub(super) first: usize,
    /// Tree edges that a row takes on when there is a choice: at least 2.
    pub(super) tree: usize,
    /// Candidates that are looked at for the links of a new row.
    pub(super) ef_construction: usize,
    /// See [`Share::slack`](select::Share).
    pub(super) slack: f32,
    /// Whether there are layers above the lowest.
    pub(super) layered: bool,
    /// Seed of everything that is drawn.
    pub(super) seed: u64,
}

impl LinkOptions {
    /// Links that a row may have on a layer.
    fn degree(&self, layer: usize) -> usize {
        if layer == 0 { self.degree } else { self.upper }
    }
}

/// The writer's side of a graph.
#[derive(Debug)]
pub(super) struct Links {
    options: LinkOptions,
    /// Layer 0, by row.
    base: Blocks,
    /// Links by inner product, by row; nothing is written where there are none.
    products: Blocks,
    /// The layers above, by upper block.
    upper: Blocks,
    /// For each row its tower; nothing is written for a flat graph.
    towers: Blocks,
    places: Towers,
}

impl Links {
    /// No links at all.
    ///
    /// # Panics
    /// When rows may take on fewer than 2 tree edges: a tree needs inner nodes.
    pub(super) fn new(options: LinkOptions) -> Links {
        assert!(options.tree >= 2 && options.degree >= options.tree);
        Links {
            options,
            base: Blocks::new(options.degree),
            products: Blocks::new(options.products.max(1)),
            upper: Blocks::new(options.upper),
            towers: Blocks::new(1),
            places: Towers::default(),
        }
    }

    /// The graph without a row.
    pub(super) fn empty(&mut self, epoch: Epoch, versions: &Versions) -> Graph {
        Graph {
            base: self.base.publish(epoch, versions),
            products: self.products.publish(epoch, versions),
            upper: self.upper.publish(epoch, versions),
            towers: self.towers.publish(epoch, versions),
            held: RowSet::default(),
            entry: None,
            starts: Starts::default(),
        }
    }

    /// Whether rows have links by inner product.
    pub(super) fn has_products(&self) -> bool {
        self.options.products > 0
    }

    /// Writes a change to the graph `before`; gives the graph after it.
    pub(super) fn apply(
        &mut self,
        change: Change,
        before: &Graph,
        epoch: Epoch,
        versions: &Versions,
    ) -> Graph {
        self.place_towers(&change, epoch);
        self.write_lists(&change, epoch);
        let mut held = before.held.clone();
        for row in &change.forget {
            held.remove(*row);
        }
        for (row, _) in &change.absorb {
            held.insert(*row);
        }
        Graph {
            base: self.base.publish(epoch, versions),
            products: self.products.publish(epoch, versions),
            upper: self.upper.publish(epoch, versions),
            towers: self.towers.publish(epoch, versions),
            held,
            entry: change.entry,
            starts: change.starts,
        }
    }

    /// Frees the towers of the rows that go, then builds those of new rows.
    fn place_towers(&mut self, change: &Change, epoch: Epoch) {
        if !self.options.layered {
            return;
        }
        for row in &change.forget {
            if let Some(word) = self.places.remove(*row) {
                self.places.release(word);
                self.towers.write(*row, &[NONE], epoch);
            }
        }
        for (row, level) in &change.absorb {
            if let Some(word) = self.places.allocate(*level) {
                self.places.insert(*row, word);
                self.towers.write(*row, &[word], epoch);
            } else {
                self.towers.write_first(*row, &[NONE], epoch);
            }
        }
    }

    fn write_lists(&mut self, change: &Change, epoch: Epoch) {
        for list in &change.products {
            self.products.write(list.row, &list.links, epoch);
        }
        for list in &change.lists {
            if list.layer == 0 {
                self.base.write(list.row, &list.links, epoch);
            } else if let Some(block) = self.places.block(list.row, list.layer) {
                self.upper.write(block, &list.links, epoch);
            }
        }
    }

    /// The graph `before` once more, with its blocks where they are now.
    pub(super) fn again(&mut self, before: &Graph, epoch: Epoch, versions: &Versions) -> Graph {
        Graph {
            base: self.base.publish(epoch, versions),
            products: self.products.publish(epoch, versions),
            upper: self.upper.publish(epoch, versions),
            towers: self.towers.publish(epoch, versions),
            held: before.held.clone(),
            entry: before.entry,
            starts: before.starts.clone(),
        }
    }

    /// True when further versions without a change would save nothing.
    pub(super) fn is_settled(&self) -> bool {
        self.base.is_settled()
            && self.products.is_settled()
            && self.upper.is_settled()
            && self.towers.is_settled()
    }

    /// The memory of all blocks, for as long as somebody has it.
    pub(super) fn shared(&self) -> impl Iterator<Item = Weak<Memory>> + '_ {
        self.base
            .shared()
            .chain(self.products.shared())
            .chain(self.upper.shared())
            .chain(self.towers.shared())
    }

    /// Bytes of all blocks, with those that wait to be reused.
    pub(super) fn bytes(&self) -> usize {
        self.base.bytes()
            + self.products.bytes()
            + self.upper.bytes()
            + self.towers.bytes()
            + self.places.bytes()
    }
}
