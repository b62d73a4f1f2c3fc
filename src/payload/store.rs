//! The payloads of a shard: the writer's side, and what views hold.
//!
//! Everything that a view holds never changes. A change makes a new block and
//! lets the blocks of older views be. What a view does not show any more of
//! states before its own (it may be shown in one, see `rows`) is kept for the
//! last changes, and the view has a floor for those before.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::block::Block;
use super::document::Payload;
use super::expiry::NEVER;
use super::mask::{ROWS, SHIFT};
use super::undo::{Undo, UndoLog, Undone};
use super::value::Timestamp;
use crate::id::{Row, Seq};

/// Blocks of a group: a change copies the list of the group's blocks and the
/// list of groups, so these should be as long as one another at a few million rows.
const GROUP: usize = 64;

/// Blocks that get new columns at a time when nothing is written.
const SETTLED_AT_A_TIME: usize = 16;

/// The numbers of paths.
#[derive(Clone, Debug, Default)]
struct Names {
    numbers: HashMap<Arc<str>, u32>,
    paths: Vec<Arc<str>>,
}

impl Names {
    fn add(&mut self, path: &str) {
        if !self.numbers.contains_key(path) {
            let path: Arc<str> = path.into();
            self.numbers.insert(Arc::clone(&path), self.paths.len() as u32);
            self.paths.push(path);
        }
    }

    fn number(&self, path: &str) -> u32 {
        self.numbers.get(path).copied().unwrap_or(u32::MAX)
    }

    fn path(&self, number: u32) -> Arc<str> {
        self.paths.get(number as usize).map_or_else(|| "".into(), Arc::clone)
    }
}

type Group = Vec<Option<Arc<Block>>>;

/// The payloads as of one moment; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct PayloadView {
    names: Arc<Names>,
    groups: Arc<Vec<Arc<Group>>>,
    undone: Undone,
    /// No row expires before, in states from this write on.
    pub(super) soonest: (Timestamp, Seq),
}

impl PayloadView {
    /// True when no row has a payload.
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The payload of a row as of a write.
    pub(crate) fn get(&self, row: Row, at: Seq) -> Payload {
        match (self.undone.before(row, at), self.block(row as usize >> SHIFT)) {
            (Some(before), _) => before.clone(),
            (None, Some(block)) => block.get(place(row), |field| self.names.path(field)),
            (None, None) => Payload::new(),
        }
    }

    /// The changes of living rows that the view can take back.
    pub(super) fn undone(&self) -> &Undone {
        &self.undone
    }

    pub(super) fn block(&self, number: usize) -> Option<&Block> {
        self.groups.get(number / GROUP)?.get(number % GROUP)?.as_deref()
    }

    /// The number of a field, if any row ever had it.
    pub(super) fn field(&self, path: &str) -> Option<u32> {
        self.names.numbers.get(path).copied()
    }
}

/// The place of a row in its block.
pub(super) fn place(row: Row) -> u16 {
    (row as usize & (ROWS - 1)) as u16
}

/// The writer's side.
#[derive(Debug)]
pub(crate) struct PayloadStore {
    names: Arc<Names>,
    groups: Arc<Vec<Arc<Group>>>,
    undo: UndoLog,
    floor: Seq,
    /// Blocks with payloads beside their columns, perhaps.
    unsettled: VecDeque<usize>,
    bytes: usize,
    /// No row expires before, in states from this write on.
    pub(super) soonest: (Timestamp, Seq),
}

impl Default for PayloadStore {
    fn default() -> PayloadStore {
        PayloadStore {
            names: Arc::default(),
            groups: Arc::default(),
            undo: UndoLog::default(),
            floor: Seq(0),
            unsettled: VecDeque::new(),
            bytes: 0,
            soonest: (NEVER, Seq(0)),
        }
    }
}

impl PayloadStore {
    /// Gives a row its first payload, or takes it away, in no view that shows the row.
    pub(crate) fn put(&mut self, row: Row, payload: Payload) {
        let number = row as usize >> SHIFT;
        if payload.is_empty() && self.block(number).is_none_or(|block| block.is_bare(place(row))) {
            return;
        }
        if payload.iter().any(|(path, _)| !self.names.numbers.contains_key(path)) {
            let names = Arc::make_mut(&mut self.names);
            payload.iter().for_each(|(path, _)| names.add(path));
        }
        self.note_expiry(payload.expires());
        let names = Arc::clone(&self.names);
        let slot = self.slot(number);
        let block = slot.get_or_insert_default();
        let before = block.bytes();
        let was_settled = !block.has_changes();
        if Arc::make_mut(block).set(place(row), payload) {
            *block = Arc::new(block.settled(|path| names.number(path)));
        }
        let after = block.bytes();
        self.bytes = (self.bytes + after).saturating_sub(before);
        if was_settled {
            self.unsettled.push_back(number);
        }
    }

    /// Gives a living row another payload.
    pub(crate) fn change(&mut self, row: Row, payload: Payload, seq: Seq) {
        let before = self.get(row);
        self.undo.add(Undo { seq, row, before });
        self.put(row, payload);
    }

    /// The newest payload of a row.
    pub(crate) fn get(&self, row: Row) -> Payload {
        let block = self.block(row as usize >> SHIFT);
        block.map_or_else(Payload::new, |block| block.get(place(row), |field| self.names.path(field)))
    }

    pub(super) fn block(&self, number: usize) -> Option<&Block> {
        self.groups.get(number / GROUP)?.get(number % GROUP)?.as_deref()
    }

    /// The number of a field, if any row ever had it.
    pub(super) fn field(&self, path: &str) -> Option<u32> {
        self.names.numbers.get(path).copied()
    }

    /// Where a block stands; lists that views hold are copied.
    fn slot(&mut self, number: usize) -> &mut Option<Arc<Block>> {
        let groups = Arc::make_mut(&mut self.groups);
        let (group, at) = (number / GROUP, number % GROUP);
        if groups.len() <= group {
            groups.resize_with(group + 1, Arc::default);
        }
        let group = Arc::make_mut(&mut groups[group]);
        if group.len() <= at {
            group.resize(at + 1, None);
        }
        &mut group[at]
    }

    /// Gives back the payloads from row `rows` on; no row that is left of the
    /// last block has one there.
    pub(crate) fn truncate(&mut self, rows: Row) {
        let blocks = (rows as usize).div_ceil(ROWS);
        let end = self.groups.len() * GROUP;
        for number in blocks..end {
            if let Some(block) = self.block(number) {
                self.bytes = self.bytes.saturating_sub(block.bytes());
                *self.slot(number) = None;
            }
        }
        if blocks == 0 {
            self.groups = Arc::default();
        }
    }

    /// Makes columns of some of what stands beside them; false when there was nothing.
    pub(crate) fn settle(&mut self) -> bool {
        let mut changed = false;
        for _ in 0..SETTLED_AT_A_TIME {
            let Some(number) = self.unsettled.pop_front() else { break };
            if self.block(number).is_some_and(Block::has_changes) {
                self.settle_block(number);
                changed = true;
            }
        }
        changed
    }

    fn settle_block(&mut self, number: usize) {
        let names = Arc::clone(&self.names);
        let slot = self.slot(number);
        let Some(block) = slot else { return };
        let before = block.bytes();
        let settled = block.settled(|path| names.number(path));
        let after = settled.bytes();
        *slot = (!settled.is_empty()).then(|| Arc::new(settled));
        self.bytes = (self.bytes + after).saturating_sub(before);
    }

    /// The payloads for a view of the writes up to `applied`.
    pub(crate) fn view(&mut self, applied: Seq) -> PayloadView {
        let floor = &mut self.floor;
        let undone = self.undo.show(applied, &mut |seq| *floor = seq.max(*floor));
        PayloadView {
            names: Arc::clone(&self.names),
            groups: Arc::clone(&self.groups),
            undone,
            soonest: self.soonest,
        }
    }

    /// The first state that views can show.
    pub(crate) fn floor(&self) -> Seq {
        self.floor
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.undo.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(value: u64) -> Payload {
        Payload::new().with("n", value as i64)
    }

    #[test]
    fn a_view_shows_its_own_moment_and_states_before_down_to_its_floor() {
        let mut store = PayloadStore::default();
        (0..3_000).for_each(|row| store.put(row, payload(row.into())));
        let before = store.view(Seq(1));
        for seq in 2..=1_000 {
            store.change(seq as Row % 7, payload(10_000 + seq), Seq(seq));
        }
        let after = store.view(Seq(1_000));
        assert_eq!(before.get(3, Seq(1)), payload(3));
        assert_eq!(after.get(2_999, Seq(1_000)), payload(2_999));
        let floor = store.floor().0;
        assert!((870..1_000).contains(&floor), "{floor}");
        for at in floor..=1_000 {
            let newest = (0..7).map(|back| at - back).find(|seq| seq % 7 == 3).unwrap();
            assert_eq!(after.get(3, Seq(at)), payload(10_000 + newest), "{at}");
        }
    }

    #[test]
    fn what_is_taken_away_is_given_back() {
        let mut store = PayloadStore::default();
        for row in 0..5_000 {
            store.put(row, payload(row.into()).with("t", "some text"));
        }
        let full = store.bytes();
        assert!(full > 5_000 * 3 && full < 5_000 * 60, "{full}");
        let held = store.view(Seq(1));
        (2_000..5_000).for_each(|row| store.put(row, Payload::new()));
        store.truncate(2_000);
        while store.settle() {}
        assert!(store.bytes() < full / 2, "{}", store.bytes());
        assert_eq!(held.get(4_999, Seq(1)), payload(4_999).with("t", "some text"));
        assert_eq!(store.get(1_999), payload(1_999).with("t", "some text"));
        (0..2_000).for_each(|row| store.put(row, Payload::new()));
        store.truncate(0);
        assert_eq!((store.bytes(), store.view(Seq(2)).is_empty()), (0, true));
    }
}
