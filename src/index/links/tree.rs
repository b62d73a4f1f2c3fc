//! The spanning tree that keeps every row reachable.
//!
//! The HNSW algorithm prunes links one-sidedly and so orphans rows for ever.
//! Here layer 0 carries a spanning tree of all held rows: its edges are stored
//! at both ends, flagged, and never pruned. Whatever the heuristic drops, each
//! row reaches each other. A tree of n rows has n - 1 edges, so rows with room
//! below the cap always exist (leaves), and the tree takes about two places of
//! a list on average.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::graph::{Graph, TREE};
use crate::bits::RowSet;
use crate::id::{Row, mix};
use crate::memory;

/// Rows in which room is looked for breadth first: so far apart rows are still
/// near, and it costs less than the search that found the partners.
const NEAR: usize = 64;

/// Ways out at random that are tried where all is full. More than one only helps
/// where the first ends at a dead row.
const WAYS_OUT: u64 = 8;

/// Rows on such a way at most: with two ways on from each row a longer one is as
/// likely as 2^-200 times the number of rows.
const LONGEST_WAY: u64 = 256;

/// The tree while a batch changes it: the frozen one, less the forgotten rows,
/// plus new edges.
pub(super) struct TreeDraft<'a> {
    graph: &'a Graph,
    forgotten: &'a RowSet,
    dead: &'a (dyn Fn(Row) -> bool + Sync),
    /// Most edges that a row takes on when there is a choice.
    cap: usize,
    /// New edges, at both ends.
    added: BTreeMap<Row, Vec<Row>>,
    /// Any row of the tree.
    anchor: Option<Row>,
}

impl<'a> TreeDraft<'a> {
    pub(super) fn new(
        graph: &'a Graph,
        forgotten: &'a RowSet,
        dead: &'a (dyn Fn(Row) -> bool + Sync),
        cap: usize,
    ) -> TreeDraft<'a> {
        let anchor = graph.held.iter().find(|row| !forgotten.contains(*row));
        TreeDraft { graph, forgotten, dead, cap, added: BTreeMap::new(), anchor }
    }

    /// Tree neighbours in the frozen version.
    fn frozen(&self, row: Row) -> impl Iterator<Item = Row> + '_ {
        let held = self.graph.held.contains(row).then(|| self.graph.base_links(row));
        held.into_iter().flatten().filter(|link| link & TREE != 0).map(|link| link & !TREE)
    }

    /// Tree neighbours as of now.
    fn neighbors(&self, row: Row) -> impl Iterator<Item = Row> + '_ {
        let added = self.added.get(&row).map_or(&[][..], Vec::as_slice);
        self.frozen(row).filter(|link| !self.forgotten.contains(*link)).chain(added.iter().copied())
    }

    fn has_room(&self, row: Row) -> bool {
        self.neighbors(row).count() < self.cap
    }

    fn connect(&mut self, a: Row, b: Row) {
        self.added.entry(a).or_default().push(b);
        self.added.entry(b).or_default().push(a);
    }

    /// A row with room near `from`, and live if there is one, for what `for_row`
    /// stands for. Where many rows are alike all of them come to the same few, and
    /// all around these is full: then a way out is taken at random.
    fn room_near(&self, from: Row, for_row: Row) -> Row {
        let near = self.first_with_room(from, NEAR);
        let far = || (0..WAYS_OUT).find_map(|way| self.room_far(from, mix(u64::from(for_row) << 8 | way)));
        near.or_else(|_| far().ok_or(from))
            .or_else(|_| self.first_with_room(from, usize::MAX))
            .unwrap_or_else(|row| row)
    }

    /// The first live row with room, breadth first along the tree, of the first
    /// `most`; none of them, then the first of the dead with room, or `from`.
    fn first_with_room(&self, from: Row, most: usize) -> Result<Row, Row> {
        let mut seen = BTreeSet::from([from]);
        let mut queue = VecDeque::from([from]);
        let mut fallback = None;
        for _ in 0..most {
            let Some(row) = queue.pop_front() else { break };
            if self.has_room(row) {
                if !(self.dead)(row) {
                    return Ok(row);
                }
                fallback = fallback.or(Some(row));
            }
            self.neighbors(row)
                .filter(|next| seen.insert(*next))
                .for_each(|next| memory::push_back(&mut queue, next));
        }
        Err(fallback.unwrap_or(from))
    }

    /// A live row with room at the end of a way along the tree that never turns
    /// back. It ends at a leaf at the latest; of n rows that are full, each with two
    /// ways on at least, it meets about log n.
    fn room_far(&self, from: Row, seed: u64) -> Option<Row> {
        let (mut before, mut row) = (from, from);
        for step in 0..LONGEST_WAY {
            if self.has_room(row) && !(self.dead)(row) {
                return Some(row);
            }
            let on = || self.neighbors(row).filter(|next| *next != before);
            let ways = on().count() as u64;
            let next = on().nth(mix(seed ^ step << 32).checked_rem(ways)? as usize)?;
            (before, row) = (row, next);
        }
        None
    }

    /// Adds a new row to the tree, next to the first of `partners` (nearest
    /// first, all in the tree) that has room.
    pub(super) fn attach(&mut self, row: Row, partners: impl Iterator<Item = Row> + Clone) {
        let partner = partners
            .clone()
            .find(|partner| self.has_room(*partner))
            .or_else(|| partners.clone().next().or(self.anchor).map(|near| self.room_near(near, row)));
        match partner {
            Some(partner) => self.connect(row, partner),
            None => self.anchor = Some(row),
        }
    }

    /// Takes the forgotten rows out: every connected part of them leaves
    /// pieces of the tree behind, which are joined in a chain.
    pub(super) fn close_gaps(&mut self) {
        let mut seen = RowSet::default();
        for row in self.forgotten.iter() {
            if seen.insert(row) {
                let boundary = self.boundary(row, &mut seen);
                for pair in boundary.windows(2) {
                    let (a, b) = (self.end_near(pair[0], row), self.end_near(pair[1], row));
                    self.connect(a, b);
                }
            }
        }
    }

    fn end_near(&self, row: Row, for_row: Row) -> Row {
        if self.has_room(row) { row } else { self.room_near(row, for_row) }
    }

    /// The rows that stay around one connected part of forgotten rows. No two
    /// are in the same piece: the tree has no cycle.
    fn boundary(&self, from: Row, seen: &mut RowSet) -> Vec<Row> {
        let mut boundary = BTreeSet::new();
        let mut queue = vec![from];
        while let Some(row) = queue.pop() {
            for next in self.frozen(row) {
                if !self.forgotten.contains(next) {
                    boundary.insert(next);
                } else if seen.insert(next) {
                    memory::push(&mut queue, next);
                }
            }
        }
        memory::collect(boundary)
    }

    /// The new edges by row, in ascending order of the rows.
    pub(super) fn into_added(self) -> BTreeMap<Row, Vec<Row>> {
        self.added
    }
}
