//! The id directory of a collection: many readers, one writer for each id.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::id::{RecordId, Row};
use crate::rows::Directory;

/// The rows of one id, newest first: almost always just one.
#[derive(Debug)]
enum Rows {
    One(Row),
    Many(VecDeque<Row>),
}

impl Rows {
    fn find(&self, accept: &mut dyn FnMut(Row) -> bool) -> Option<Row> {
        match self {
            Rows::One(row) => accept(*row).then_some(*row),
            Rows::Many(rows) => rows.iter().copied().find(|row| accept(*row)),
        }
    }

    fn push(&mut self, row: Row) {
        match self {
            Rows::One(before) => *self = Rows::Many(VecDeque::from([row, *before])),
            Rows::Many(rows) => rows.push_front(row),
        }
    }

    /// Takes the oldest mention of a row out; true when none is left.
    fn prune(&mut self, row: Row) -> bool {
        match self {
            Rows::One(only) => *only == row,
            Rows::Many(rows) => {
                if let Some(at) = rows.iter().rposition(|listed| *listed == row) {
                    rows.remove(at);
                }
                if let (1, Some(only)) = (rows.len(), rows.front()) {
                    *self = Rows::One(*only);
                }
                false
            }
        }
    }
}

/// Buckets and control bytes of a hash map hold an entry in this many bytes,
/// at the average load of 2/3.
const BYTES_PER_ENTRY: usize = (size_of::<(RecordId, Rows)>() + 1) * 3 / 2;

/// The map shrinks when it holds less than one in so many of what it once held.
const SPARSE: usize = 4;

/// A [`Directory`] over a striped hash map.
#[derive(Debug, Default)]
pub(crate) struct IdDirectory {
    rows: DashMap<RecordId, Rows>,
    entries: AtomicUsize,
    /// The most entries since memory was last given back.
    most: AtomicUsize,
    text_bytes: AtomicUsize,
}

impl Directory for IdDirectory {
    fn newest(&self, id: &RecordId) -> Option<Row> {
        self.find(id, &mut |_| true)
    }

    fn find(&self, id: &RecordId, accept: &mut dyn FnMut(Row) -> bool) -> Option<Row> {
        self.rows.get(id)?.find(accept)
    }

    fn push(&self, id: RecordId, row: Row) {
        match self.rows.entry(id) {
            Entry::Occupied(mut listed) => listed.get_mut().push(row),
            Entry::Vacant(place) => {
                self.text_bytes.fetch_add(place.key().heap_bytes(), Ordering::Relaxed);
                let entries = self.entries.fetch_add(1, Ordering::Relaxed) + 1;
                self.most.fetch_max(entries, Ordering::Relaxed);
                place.insert(Rows::One(row));
            }
        }
    }

    fn prune(&self, id: &RecordId, row: Row) {
        let Some(mut listed) = self.rows.get_mut(id) else { return };
        let empty = listed.prune(row);
        drop(listed);
        // Only the shard's worker writes this id: nothing came in between.
        if empty && self.rows.remove(id).is_some() {
            self.text_bytes.fetch_sub(id.heap_bytes(), Ordering::Relaxed);
            self.entries.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn shrink(&self) {
        let (entries, most) = (self.entries.load(Ordering::Relaxed), self.most.load(Ordering::Relaxed));
        if entries.saturating_mul(SPARSE) < most {
            self.rows.shrink_to_fit();
            self.most.store(entries, Ordering::Relaxed);
        }
    }

    fn bytes(&self) -> usize {
        self.entries.load(Ordering::Relaxed) * BYTES_PER_ENTRY + self.text_bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_an_id_are_found_newest_first_until_they_are_pruned() {
        let directory = IdDirectory::default();
        let id = RecordId::from("a");
        for row in [4, 7, 4] {
            directory.push(id.clone(), row);
        }
        assert_eq!(directory.newest(&id), Some(4));
        assert_eq!(directory.find(&id, &mut |row| row == 7), Some(7));
        directory.prune(&id, 4);
        assert_eq!(directory.newest(&id), Some(4));
        directory.prune(&id, 7);
        directory.prune(&id, 4);
        assert_eq!((directory.newest(&id), directory.bytes()), (None, 0));
    }
}
