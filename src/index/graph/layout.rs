//! Which node a row is.
//!
//! Rows get their numbers when they are written. Walks read blocks of nodes
//! that are neighbours: numbered in the order in which a walk meets them, such
//! blocks share pages and often lines.

use crate::bits::RowSet;
use crate::codec::{Decoder, Encoder, Malformed};
use crate::id::{Row, mix};
use crate::index::links::Graph;
use crate::memory;

/// Rows and nodes have the same numbers, but for those below a limit, which
/// are exchanged among themselves. The exchange never changes: a row that is
/// used again is the same node again.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// By row.
    nodes: Vec<Row>,
    /// By node.
    rows: Vec<Row>,
}

impl Layout {
    #[inline]
    pub(super) fn node(&self, row: Row) -> Row {
        self.nodes.get(row as usize).copied().unwrap_or(row)
    }

    #[inline]
    pub(super) fn row(&self, node: Row) -> Row {
        self.rows.get(node as usize).copied().unwrap_or(node)
    }

    /// `order` names every row below its length once: the rows of the nodes 0, 1, ...
    fn new(order: Vec<Row>) -> Layout {
        let mut nodes = memory::filled(0, order.len());
        for (node, row) in order.iter().enumerate() {
            nodes[*row as usize] = node as Row;
        }
        Layout { nodes, rows: order }
    }

    /// The layout in which nodes follow each other as a walk along the nearest
    /// links meets them (depth first; other orders measured: see design.md).
    /// Places of nodes that are not held come last.
    pub(super) fn following(&self, graph: &Graph) -> Layout {
        let limit = graph.held.iter().last().map_or(0, |last| last as usize + 1).max(self.rows.len());
        let mut seen = memory::filled(false, limit);
        let mut order = memory::list(limit);
        let mut waiting: Vec<Row> = Vec::new();
        for first in graph.held.iter() {
            memory::push(&mut waiting, first);
            while let Some(node) = waiting.pop() {
                if std::mem::replace(&mut seen[node as usize], true) {
                    continue;
                }
                memory::push(&mut order, self.row(node));
                let from = waiting.len();
                memory::extend(&mut waiting, graph.links(0, node).filter(|next| !seen[*next as usize]));
                waiting[from..].reverse();
            }
        }
        let rest = (0..limit as Row).filter(|node| !seen[*node as usize]);
        memory::extend(&mut order, rest.map(|node| self.row(node)));
        Layout::new(order)
    }

    pub(super) fn save(&self, out: &mut Encoder) {
        out.size(self.rows.len());
        out.words(self.rows.iter().copied());
    }

    /// Reads a layout of at most `limit` rows.
    pub(super) fn load(limit: usize, input: &mut Decoder<'_>) -> Result<Layout, Malformed> {
        let count = input.count(size_of::<Row>())?;
        input.check(count <= limit, "more rows have nodes than there are")?;
        let order: Vec<Row> = memory::collect(input.words(count)?);
        let mut seen = RowSet::default();
        let is_exchange = order.iter().all(|row| (*row as usize) < count && seen.insert(*row));
        input.check(is_exchange, "two nodes are one row")?;
        Ok(Layout::new(order))
    }

    pub(super) fn digest(&self) -> u64 {
        self.rows.iter().fold(0, |hash, row| mix(hash ^ u64::from(*row)))
    }

    pub(super) fn bytes(&self) -> usize {
        (self.nodes.capacity() + self.rows.capacity()) * size_of::<Row>()
    }
}
