//! Filters as bits: which rows of a shard pass.

use std::collections::BTreeMap;

use super::block::Block;
use super::document::Payload;
use super::filter::{Filter, Node};
use super::mask::{Mask, ROWS, SHIFT, WORDS};
use super::range::Test;
use super::store::{PayloadView, place};
use crate::bits::{RowSet, ones};
use crate::id::{RecordId, Row, Seq};
use crate::memory;

/// Finds the visible row of an id, if it is in this shard.
pub(crate) type Finder<'a> = dyn Fn(&RecordId) -> Option<Row> + 'a;

/// A filter, made ready for one view.
pub(crate) struct Resolver<'a> {
    view: &'a PayloadView,
    at: Seq,
    root: Step<'a>,
}

enum Step<'a> {
    Always(bool),
    Test { field: u32, path: &'a str, test: &'a Test },
    All(Vec<Step<'a>>),
    Any(Vec<Step<'a>>),
    Not(Box<Step<'a>>),
    Rows(RowSet),
}

impl<'a> Resolver<'a> {
    /// Makes a filter ready for the payloads of a view as of a write.
    pub(crate) fn new(filter: &'a Filter, view: &'a PayloadView, at: Seq, find: &Finder<'_>) -> Resolver<'a> {
        Resolver { view, at, root: Step::new(filter.node(), view, find) }
    }

    /// The rows below `limit` that pass, 64 in a word; gives their number. Rows
    /// that are not visible may be among them.
    pub(crate) fn resolve(&self, limit: Row, out: &mut Vec<u64>) -> usize {
        let blocks = (limit as usize).div_ceil(ROWS);
        out.clear();
        memory::reserve(out, blocks * WORDS);
        for number in 0..blocks {
            out.extend_from_slice(&self.block(number).0);
        }
        for undo in self.view.undone().after(self.at) {
            let passes = self.root.holds(undo.row, &undo.before);
            if let Some(word) = out.get_mut(undo.row as usize / 64) {
                let bit = undo.row % 64;
                *word = *word & !(1 << bit) | u64::from(passes) << bit;
            }
        }
        out.truncate((limit as usize).div_ceil(64));
        if let Some(last) = out.last_mut()
            && !limit.is_multiple_of(64)
        {
            *last &= (1 << (limit % 64)) - 1;
        }
        out.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The first rows below `limit` that pass by their newest payloads and are wanted, `most` of them; looks no further than that.
    pub(crate) fn first(&self, limit: Row, most: usize, wanted: &dyn Fn(Row) -> bool) -> Vec<Row> {
        let mut rows = Vec::new();
        for number in 0..(limit as usize).div_ceil(ROWS) {
            let words = self.block(number).0;
            let in_block =
                words.iter().zip(0..).flat_map(|(word, at)| ones(*word).map(move |bit| at * 64 + bit));
            let passing = in_block.map(|row| (number << SHIFT) as Row + row);
            let left = most - rows.len();
            memory::extend(&mut rows, passing.filter(|row| *row < limit && wanted(*row)).take(left));
            if rows.len() == most {
                break;
            }
        }
        rows
    }

    fn block(&self, number: usize) -> Mask {
        let first = (number << SHIFT) as Row;
        let Some(block) = self.view.block(number) else {
            return self.root.mark(&Block::default(), first);
        };
        let mut mask = self.root.mark(block, first);
        for (at, payload) in block.changes() {
            mask.put((*at).into(), self.root.holds(first + Row::from(*at), payload));
        }
        mask
    }

    /// Whether one row passes, by looking at its payload.
    #[cfg(test)]
    pub(crate) fn holds(&self, row: Row) -> bool {
        self.root.holds(row, &self.view.get(row, self.at))
    }
}

impl<'a> Step<'a> {
    fn new(node: &'a Node, view: &PayloadView, find: &Finder<'_>) -> Step<'a> {
        let each = |nodes: &'a [Node]| memory::collect(nodes.iter().map(|node| Step::new(node, view, find)));
        match node {
            Node::Test { path, test } => match view.field(path) {
                Some(field) => Step::Test { field, path, test },
                None => Step::Always(false),
            },
            Node::All(nodes) => Step::All(each(nodes)),
            Node::Any(nodes) => Step::Any(each(nodes)),
            Node::Not(inner) => Step::Not(Box::new(Step::new(inner, view, find))),
            Node::Ids(ids) => {
                let mut rows = RowSet::default();
                ids.iter().filter_map(find).for_each(|row| _ = rows.insert(row));
                Step::Rows(rows)
            }
            Node::Faulty(_) => Step::Always(false),
        }
    }

    /// The rows of a block that pass, by its columns.
    fn mark(&self, block: &Block, first: Row) -> Mask {
        match self {
            Step::Always(truth) => {
                if *truth {
                    Mask::ALL
                } else {
                    Mask::NONE
                }
            }
            Step::Test { field, test, .. } => {
                let mut mask = Mask::NONE;
                block.mark(*field, test, &mut mask);
                mask
            }
            Step::All(steps) => {
                let mut mask = Mask::ALL;
                for step in steps {
                    mask.and(&step.mark(block, first));
                    if mask.is_empty() {
                        break;
                    }
                }
                mask
            }
            Step::Any(steps) => {
                let mut mask = Mask::NONE;
                steps.iter().for_each(|step| mask.or(&step.mark(block, first)));
                mask
            }
            Step::Not(step) => {
                let mut mask = step.mark(block, first);
                mask.not();
                mask
            }
            Step::Rows(rows) => {
                let mut mask = Mask::NONE;
                let words = rows.words().iter().skip(first as usize / 64);
                mask.0.iter_mut().zip(words).for_each(|(word, rows)| *word = *rows);
                mask
            }
        }
    }

    /// Whether a row with a payload passes.
    fn holds(&self, row: Row, payload: &Payload) -> bool {
        match self {
            Step::Always(truth) => *truth,
            Step::Test { path, test, .. } => payload.get(path).is_some_and(|value| test.holds(value)),
            Step::All(steps) => steps.iter().all(|step| step.holds(row, payload)),
            Step::Any(steps) => steps.iter().any(|step| step.holds(row, payload)),
            Step::Not(step) => !step.holds(row, payload),
            Step::Rows(rows) => rows.contains(row),
        }
    }
}

impl PayloadView {
    /// Shows the values of a field of some rows (as bits), row by row or not;
    /// a list shows each member.
    pub(crate) fn values_of(
        &self,
        path: &str,
        rows: &[u64],
        at: Seq,
        show: &mut dyn FnMut(Row, &super::value::Value),
    ) {
        let Some(field) = self.field(path) else { return };
        let is_asked = |row: Row| rows.get(row as usize / 64).is_some_and(|word| word & 1 << (row % 64) != 0);
        // Of one row the newest comes first, and the oldest counts.
        let mut undone: BTreeMap<Row, &Payload> = BTreeMap::new();
        for undo in self.undone().after(at).filter(|undo| is_asked(undo.row)) {
            undone.insert(undo.row, &undo.before);
        }
        for (row, before) in &undone {
            if let Some(value) = before.get(path) {
                value.members().iter().for_each(|member| show(*row, member));
            }
        }
        for number in 0..rows.len().div_ceil(WORDS) {
            let Some(block) = self.block(number) else { continue };
            let first = (number << SHIFT) as Row;
            let mut beside = Mask::NONE;
            for (row, payload) in block.changes() {
                beside.set((*row).into());
                let row = first + Row::from(*row);
                if is_asked(row)
                    && !undone.contains_key(&row)
                    && let Some(value) = payload.get(path)
                {
                    value.members().iter().for_each(|member| show(row, member));
                }
            }
            for (at, value) in block.values_of(field) {
                let row = first + Row::from(at);
                if is_asked(row) && !beside.contains(place(row).into()) && !undone.contains_key(&row) {
                    show(row, &value);
                }
            }
        }
    }
}
