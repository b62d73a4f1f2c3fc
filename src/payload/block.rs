//! The payloads of 1,024 rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::column::{Column, Draft};
use super::document::Payload;
use super::mask::Mask;
use super::range::Test;
use super::value::{Kind, Timestamp, Value};
use crate::memory;

/// Payloads beside the columns before new columns are made: a search looks at
/// each of them, and making columns costs about as much as 50 changes.
const CHANGES: usize = 64;

/// Columns, and newer payloads that stand in their place.
#[derive(Debug)]
pub(super) struct Block {
    /// By field and kind.
    columns: Arc<[Column]>,
    /// By row.
    changes: Vec<(u16, Payload)>,
}

impl Clone for Block {
    fn clone(&self) -> Block {
        Block { columns: Arc::clone(&self.columns), changes: memory::copied(&self.changes) }
    }
}

impl Default for Block {
    fn default() -> Block {
        Block { columns: Arc::new([]), changes: Vec::new() }
    }
}

impl Block {
    /// The payload of a row; `path` names fields.
    pub(super) fn get(&self, row: u16, path: impl Fn(u32) -> Arc<str>) -> Payload {
        if let Some(payload) = self.changed(row) {
            return payload.clone();
        }
        let values = self.columns.iter().filter_map(|column| Some((path(column.field), column.value(row)?)));
        let mut fields: Vec<_> = memory::collect(values);
        fields.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Payload::of_sorted(fields)
    }

    pub(super) fn changed(&self, row: u16) -> Option<&Payload> {
        let at = self.changes.binary_search_by_key(&row, |(row, _)| *row).ok()?;
        self.changes.get(at).map(|(_, payload)| payload)
    }

    /// True when the row has no payload for certain.
    pub(super) fn is_bare(&self, row: u16) -> bool {
        self.columns.is_empty() && self.changed(row).is_none_or(Payload::is_empty)
    }

    /// Gives a row another payload. True when new columns are due.
    pub(super) fn set(&mut self, row: u16, payload: Payload) -> bool {
        match self.changes.binary_search_by_key(&row, |(row, _)| *row) {
            Ok(at) => self.changes[at].1 = payload,
            Err(at) => {
                memory::reserve(&mut self.changes, 1);
                self.changes.insert(at, (row, payload));
            }
        }
        self.changes.len() > CHANGES
    }

    /// True when payloads stand beside the columns.
    pub(super) fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Payloads that stand beside the columns.
    pub(super) fn changes(&self) -> &[(u16, Payload)] {
        &self.changes
    }

    /// The same payloads, all in columns. `field` numbers paths.
    pub(super) fn settled(&self, field: impl Fn(&str) -> u32) -> Block {
        let mut changed = Mask::NONE;
        self.changes.iter().for_each(|(row, _)| changed.set((*row).into()));
        let mut drafts: BTreeMap<(u32, Kind), Draft<'_>> = BTreeMap::new();
        for column in self.columns.iter() {
            drafts.entry((column.field, column.kind)).or_insert(Draft::EMPTY).keep(column, &changed);
        }
        for (row, payload) in &self.changes {
            for (path, value) in payload.iter() {
                drafts.entry((field(path), value.kind())).or_insert(Draft::EMPTY).add(*row, value);
            }
        }
        let columns = drafts.into_iter().filter_map(|((field, kind), draft)| draft.finish(field, kind));
        Block { columns: memory::shared(memory::collect(columns)), changes: Vec::new() }
    }

    /// Marks the rows whose columns pass a test; what stands beside them does
    /// not count.
    pub(super) fn mark(&self, field: u32, test: &Test, mask: &mut Mask) {
        let first = self.columns.partition_point(|column| column.field < field);
        let columns = self.columns[first..].iter().take_while(|column| column.field == field);
        columns.for_each(|column| column.mark(test, mask));
    }

    /// The moment that a row has in a field, if it is one, by its column.
    pub(super) fn time(&self, row: u16, field: u32) -> Option<Timestamp> {
        match self.column(field, Kind::Time)?.value(row) {
            Some(Value::Time(time)) => Some(time),
            _ => None,
        }
    }

    /// The first moment in a field that is after `now`, by its column.
    pub(super) fn first_time_after(&self, field: u32, now: Timestamp) -> Option<Timestamp> {
        self.column(field, Kind::Time)?.first_after(now.0).map(Timestamp)
    }

    /// The values of one kind in a field.
    pub(super) fn column(&self, field: u32, kind: Kind) -> Option<&Column> {
        let at = self.columns.binary_search_by_key(&(field, kind), |column| (column.field, column.kind));
        self.columns.get(at.ok()?)
    }

    /// True when there is nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.columns.is_empty() && self.changes.iter().all(|(_, payload)| payload.is_empty())
    }

    pub(super) fn bytes(&self) -> usize {
        self.column_bytes() + self.change_bytes()
    }

    pub(super) fn column_bytes(&self) -> usize {
        self.columns.iter().map(Column::bytes).sum()
    }

    fn change_bytes(&self) -> usize {
        self.changes.iter().map(|(_, payload)| size_of::<(u16, Payload)>() + payload.bytes()).sum()
    }

    /// Calls `show` with all values of a field, row by row.
    pub(super) fn values_of(&self, field: u32) -> impl Iterator<Item = (u16, Value)> + '_ {
        let first = self.columns.partition_point(|column| column.field < field);
        let columns = self.columns[first..].iter().take_while(move |column| column.field == field);
        columns.flat_map(|column| column.entries().map(|(row, scalar)| (row, scalar.value(column.kind))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads() -> Vec<Payload> {
        let empty: Vec<Value> = Vec::new();
        vec![
            Payload::new().with("a", 1).with("b", "x").with("l", [3, 1, 2]),
            Payload::new(),
            Payload::new().with("a", 2.5).with("b", Value::Null).with("l", empty),
            Payload::new().with("a", i64::MIN).with("b", true).with("t", Timestamp(7)),
            Payload::new().with("a", i64::MAX).with("b", ["y", "x", "y"]).with("l", [2]),
            Payload::new().with("a", "text").with("l", [0.5, 0.25]).with("t", [Timestamp(9), Timestamp(-1)]),
        ]
    }

    const NAMES: [&str; 4] = ["t", "a", "l", "b"];

    fn field(path: &str) -> u32 {
        NAMES.iter().position(|name| *name == path).unwrap() as u32
    }

    #[test]
    fn payloads_come_back_as_they_were_from_columns_and_from_beside_them() {
        let all = payloads();
        let mut block = Block::default();
        let shown = |block: &Block| -> Vec<Payload> {
            (0..all.len() as u16).map(|row| block.get(row, |field| NAMES[field as usize].into())).collect()
        };
        for (row, payload) in all.iter().enumerate() {
            block.set(row as u16, payload.clone());
        }
        assert_eq!(shown(&block), all);
        block = block.settled(field);
        assert!(!block.has_changes());
        assert_eq!(shown(&block), all);
        for turn in 1..all.len() {
            let mut turned = all.clone();
            turned.rotate_left(turn);
            for row in (0..all.len()).step_by(2) {
                block.set(row as u16, turned[row].clone());
            }
            let expected: Vec<Payload> = (0..all.len())
                .map(|row| if row % 2 == 0 { turned[row].clone() } else { all[row].clone() })
                .collect();
            assert_eq!(shown(&block), expected);
            block = block.settled(field);
            assert_eq!(shown(&block), expected);
        }
        for row in 0..all.len() {
            block.set(row as u16, Payload::new());
        }
        assert!(block.settled(field).is_empty());
    }
}
