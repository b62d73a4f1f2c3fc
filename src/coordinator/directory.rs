//! The id directory of a collection: many readers, one writer for each id.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::id::{RecordId, Row};
use crate::memory::unwind;
use crate::rows::Directory;

/// The rows of one id, newest first: almost always just one.
#[derive(Debug)]
enum Rows {
    One(Row),
    // In a box: every entry of the map is as large as the largest kind.
    #[allow(clippy::box_collection, reason = "entries of one row are half as large")]
    Many(Box<VecDeque<Row>>),
}

impl Rows {
    fn find(&self, accept: &mut dyn FnMut(Row) -> bool) -> Option<Row> {
        match self {
            Rows::One(row) => accept(*row).then_some(*row),
            Rows::Many(rows) => rows.iter().copied().find(|row| accept(*row)),
        }
    }

    /// Bytes beside the entry.
    fn heap_bytes(&self) -> usize {
        match self {
            Rows::One(_) => 0,
            Rows::Many(rows) => size_of::<VecDeque<Row>>() + rows.capacity() * size_of::<Row>(),
        }
    }

    fn push(&mut self, row: Row) {
        match self {
            Rows::One(before) => *self = Rows::Many(Box::new(VecDeque::from([row, *before]))),
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

/// A bucket of a hash map and its control byte.
const BUCKET_BYTES: usize = size_of::<(RecordId, Rows)>() + 1;

/// Bytes of an entry when the map has just grown: seven eighths of the buckets
/// were taken, and now there are twice as many.
pub(crate) const ENTRY_BYTES_MOST: usize = BUCKET_BYTES * 16 / 7;

/// The map is measured again when its entries have changed by one in so many:
/// that locks each of its stripes for a moment.
const MEASURE_DIVISOR: usize = 64;

/// The map shrinks when it holds less than one in so many of what it once held.
const SPARSE: usize = 4;

/// A [`Directory`] over a striped hash map.
#[derive(Debug, Default)]
pub(crate) struct IdDirectory {
    rows: DashMap<RecordId, Rows>,
    entries: AtomicUsize,
    /// The most entries since memory was last given back.
    most: AtomicUsize,
    /// Of texts of ids, and of the rows of ids that have several.
    heap_bytes: AtomicUsize,
    /// Entries when the map was last measured, and the bytes that it had.
    measured_entries: AtomicUsize,
    measured_bytes: AtomicUsize,
}

impl Directory for IdDirectory {
    fn newest(&self, id: &RecordId) -> Option<Row> {
        self.find(id, &mut |_| true)
    }

    fn find(&self, id: &RecordId, accept: &mut dyn FnMut(Row) -> bool) -> Option<Row> {
        self.rows.get(id)?.find(accept)
    }

    fn push(&self, id: RecordId, row: Row) {
        self.make_room(&id);
        match self.rows.entry(id) {
            Entry::Occupied(mut listed) => {
                let rows = listed.get_mut();
                let before = rows.heap_bytes();
                rows.push(row);
                self.heap_bytes.fetch_add(rows.heap_bytes() - before, Ordering::Relaxed);
            }
            Entry::Vacant(place) => {
                self.heap_bytes.fetch_add(place.key().heap_bytes(), Ordering::Relaxed);
                let entries = self.entries.fetch_add(1, Ordering::Relaxed) + 1;
                self.most.fetch_max(entries, Ordering::Relaxed);
                place.insert(Rows::One(row));
            }
        }
    }

    fn prune(&self, id: &RecordId, row: Row) {
        let Some(mut listed) = self.rows.get_mut(id) else { return };
        let before = listed.heap_bytes();
        let empty = listed.prune(row);
        self.heap_bytes.fetch_sub(before - listed.heap_bytes(), Ordering::Relaxed);
        drop(listed);
        // Only the shard's worker writes this id: nothing came in between.
        if empty && self.rows.remove(id).is_some() {
            self.heap_bytes.fetch_sub(id.heap_bytes(), Ordering::Relaxed);
            self.entries.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn shrink(&self) {
        let (entries, most) = (self.entries.load(Ordering::Relaxed), self.most.load(Ordering::Relaxed));
        if entries.saturating_mul(SPARSE) < most {
            self.rows.shrink_to_fit();
            self.measure(entries);
            self.most.store(entries, Ordering::Relaxed);
        }
    }

    fn bytes(&self) -> usize {
        let entries = self.entries.load(Ordering::Relaxed);
        let changed = entries.abs_diff(self.measured_entries.load(Ordering::Relaxed));
        if changed * MEASURE_DIVISOR > entries {
            self.measure(entries);
        }
        self.measured_bytes.load(Ordering::Relaxed) + self.heap_bytes.load(Ordering::Relaxed)
    }
}

impl IdDirectory {
    /// Room for one more entry in the stripe of an id. Unwinds when there is no
    /// memory: the map itself would end the process.
    fn make_room(&self, id: &RecordId) {
        let stripe = self.rows.determine_map(id);
        let Some(stripe) = self.rows.shards().get(stripe) else { return };
        let mut entries = stripe.write();
        let hash = |(id, _): &(RecordId, _)| self.rows.hasher().hash_one(id);
        if entries.try_reserve(1, hash).is_err() {
            unwind(2 * entries.capacity() * BUCKET_BYTES);
        }
    }

    fn measure(&self, entries: usize) {
        let buckets = self.rows.capacity() * 8 / 7;
        self.measured_bytes.store(buckets * BUCKET_BYTES, Ordering::Relaxed);
        self.measured_entries.store(entries, Ordering::Relaxed);
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
        directory.shrink();
        assert_eq!((directory.newest(&id), directory.bytes()), (None, 0));
    }
}
