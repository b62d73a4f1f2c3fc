//! The same graph under other numbers.

use super::graph::{Entry, Graph, TREE};
use super::starts::Starts;
use super::{LinkOptions, Links};
use crate::bits::RowSet;
use crate::id::Row;
use crate::index::cow::{Blocks, Epoch, Versions};
use crate::memory;

/// A flat graph whose rows got new numbers, with every block at its home.
pub(in crate::index) struct Laid {
    base: Blocks,
    products: Blocks,
    held: RowSet,
    entry: Option<Entry>,
    starts: Starts,
}

impl Laid {
    /// `renamed` gives each held row another number, no two the same.
    pub(in crate::index) fn new(graph: &Graph, options: &LinkOptions, renamed: &dyn Fn(Row) -> Row) -> Laid {
        let epoch = Versions::default().begin();
        let mut order: Vec<(Row, Row)> = memory::collect(graph.held.iter().map(|row| (renamed(row), row)));
        order.sort_unstable();
        let (mut base, mut held) = (Blocks::new(options.degree), RowSet::default());
        let mut products = Blocks::new(options.products.max(1));
        let mut links = Vec::new();
        for (new, old) in order {
            links.clear();
            links.extend(graph.base_links(old).map(|link| renamed(link & !TREE) | (link & TREE)));
            base.write(new, &links, epoch);
            if options.products > 0 {
                links.clear();
                links.extend(graph.product_links(old).map(renamed));
                products.write(new, &links, epoch);
            }
            held.insert(new);
        }
        let entry = graph.entry.map(|entry| Entry { row: renamed(entry.row), ..entry });
        Laid { base, products, held, entry, starts: graph.starts.renamed(renamed) }
    }

    /// The rows, by their new numbers.
    pub(in crate::index) fn held(&self) -> &RowSet {
        &self.held
    }
}

impl Links {
    /// Puts another graph in the place of all blocks.
    pub(in crate::index) fn replace(&mut self, laid: Laid, epoch: Epoch, versions: &Versions) -> Graph {
        (self.base, self.products) = (laid.base, laid.products);
        Graph {
            base: self.base.publish(epoch, versions),
            products: self.products.publish(epoch, versions),
            upper: self.upper.publish(epoch, versions),
            towers: self.towers.publish(epoch, versions),
            held: laid.held,
            entry: laid.entry,
            starts: laid.starts,
        }
    }
}
