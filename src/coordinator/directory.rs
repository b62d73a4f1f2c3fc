//! The id directory of a collection: many readers, one writer for each id.
//!
//! Rows are listed by a part of a hash of their id, not by the id, which stands beside each row anyway
//! and is compared there by whoever asks: four bytes and four of the row, where an id has 24.
//! Several ids may share a key, also ids of different shards.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::{DashMap, SharedValue};

use crate::id::{RecordId, Row, mix};
use crate::memory::{reserve_back, unwind};
use crate::rows::Directory;

/// What rows are listed by. Of n ids one in 2^32 / n shares its key with another.
type Key = u32;

/// The bits of a hash that keys have in unit tests: few, so that ids share keys.
const FEW_KEYS: Key = (1 << 10) - 1;

/// In the place of the only row of a key: there are several, in the other map. No row has this number.
const SEVERAL: Row = Row::MAX;

/// A map shrinks when it holds less than one in so many of what it once held.
const SPARSE: usize = 4;

/// A map is measured again when its entries have changed by more than one in so many, and by more than so
/// many: that locks each of its stripes for a moment.
const MEASURE_DIVISOR: usize = 64;
const MEASURE_LEAST: usize = 64;

/// Buckets of a map that has just grown, for seven entries: seven eighths of half as many were taken.
const GROWN: usize = 16;
const GROWN_ENTRIES: usize = 7;

/// Rows that a list has room for at first: a queue makes room for no fewer.
const FIRST_ROOM: usize = 4;

/// Bytes at most for each row that is listed. A row that is listed alone takes no more than a bucket; each
/// further one of a key may be the second, which makes a list.
pub(crate) const ENTRY_BYTES_MOST: usize = bucket_bytes::<Rows>() * GROWN / GROWN_ENTRIES
    + size_of::<VecDeque<Row>>()
    + FIRST_ROOM * size_of::<Row>();

/// The rows of a key that has several, newest first.
// In a box: every bucket of the map is as large as its values.
#[allow(clippy::box_collection, reason = "buckets are half as large")]
type Rows = Box<VecDeque<Row>>;

/// A bucket of a hash map and its control byte.
const fn bucket_bytes<V>() -> usize {
    size_of::<(Key, V)>() + 1
}

/// Spreads keys, which are parts of hashes already, over all bits of a hash.
#[derive(Clone, Debug, Default)]
struct Spread(u64);

impl BuildHasher for Spread {
    type Hasher = Spread;

    fn build_hasher(&self) -> Spread {
        Spread(0)
    }
}

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, key: u32) {
        self.0 = mix(self.0 ^ u64::from(key));
    }
}

/// A striped hash map that knows its size.
#[derive(Debug)]
struct Stripes<V> {
    map: DashMap<Key, V, Spread>,
    entries: AtomicUsize,
    /// The most entries since memory was last given back.
    most: AtomicUsize,
    /// Entries when the map was last measured, and the bytes that it had.
    measured_entries: AtomicUsize,
    measured_bytes: AtomicUsize,
}

impl<V> Default for Stripes<V> {
    fn default() -> Stripes<V> {
        let none = AtomicUsize::default;
        let map = DashMap::with_hasher(Spread::default());
        Stripes { map, entries: none(), most: none(), measured_entries: none(), measured_bytes: none() }
    }
}

impl<V> Stripes<V> {
    /// Puts a value under a key, or changes what there is. Unwinds, with nothing changed, when there is no
    /// memory: the map itself would end the process.
    fn put(&self, key: Key, value: V, another: impl FnOnce(&mut V, V)) {
        let Some(stripe) = self.map.shards().get(self.map.determine_map(&key)) else { return };
        let mut entries = stripe.write();
        let hash_of = |(key, _): &(Key, _)| self.map.hasher().hash_one(key);
        if entries.try_reserve(1, hash_of).is_err() {
            unwind(2 * entries.capacity() * bucket_bytes::<V>());
        }
        let hash = self.map.hasher().hash_one(key);
        if let Some((_, before)) = entries.get_mut(hash, |(other, _)| *other == key) {
            return another(before.get_mut(), value);
        }
        entries.insert(hash, (key, SharedValue::new(value)), hash_of);
        self.made();
    }

    /// Counts an entry that was made.
    fn made(&self) {
        let entries = self.entries.fetch_add(1, Ordering::Relaxed) + 1;
        if entries > self.most.load(Ordering::Relaxed) {
            self.most.fetch_max(entries, Ordering::Relaxed);
        }
    }

    /// Counts an entry that is gone.
    fn gone(&self) {
        self.entries.fetch_sub(1, Ordering::Relaxed);
    }

    fn shrink(&self) {
        let (entries, most) = (self.entries.load(Ordering::Relaxed), self.most.load(Ordering::Relaxed));
        if entries.saturating_mul(SPARSE) < most {
            self.map.shrink_to_fit();
            self.measure(entries);
            self.most.store(entries, Ordering::Relaxed);
        }
    }

    fn bytes(&self) -> usize {
        let entries = self.entries.load(Ordering::Relaxed);
        let measured = self.measured_entries.load(Ordering::Relaxed);
        let is_first = measured == 0 && entries > 0;
        if is_first || entries.abs_diff(measured) > MEASURE_LEAST.max(entries / MEASURE_DIVISOR) {
            self.measure(entries);
        }
        self.measured_bytes.load(Ordering::Relaxed)
    }

    fn measure(&self, entries: usize) {
        let buckets = self.map.capacity() * 8 / 7;
        self.measured_bytes.store(buckets * bucket_bytes::<V>(), Ordering::Relaxed);
        self.measured_entries.store(entries, Ordering::Relaxed);
    }
}

/// A [`Directory`] over striped hash maps.
///
/// What `several` has of a key changes only under the lock of that key in `only`, which readers hold
/// while they look.
#[derive(Debug)]
pub(crate) struct IdDirectory {
    hasher: RandomState,
    /// The bits of a hash that keys have.
    mask: Key,
    only: Stripes<Row>,
    several: Stripes<Rows>,
    /// Of lists of rows.
    heap_bytes: AtomicUsize,
}

impl Directory for IdDirectory {
    fn find(&self, id: &RecordId, accept: &mut dyn FnMut(Row) -> bool) -> Option<Row> {
        let key = self.key(id);
        let only = self.only.map.get(&key)?;
        match *only {
            SEVERAL => self.several.map.get(&key)?.iter().copied().find(|row| accept(*row)),
            row => accept(row).then_some(row),
        }
    }

    fn push(&self, id: &RecordId, row: Row) {
        let key = self.key(id);
        self.only.put(key, row, |only, row| self.push_another(key, only, row));
    }

    fn prune(&self, id: &RecordId, row: Row) {
        let key = self.key(id);
        loop {
            match self.only.map.get_mut(&key) {
                Some(mut only) if *only == SEVERAL => return self.prune_of_several(key, &mut only, row),
                Some(only) if *only == row => {}
                _ => return,
            }
            // Another shard's worker may list a row under this key meanwhile.
            if self.only.map.remove_if(&key, |_, only| *only == row).is_some() {
                return self.only.gone();
            }
        }
    }

    fn shrink(&self) {
        self.only.shrink();
        self.several.shrink();
    }

    fn bytes(&self) -> usize {
        self.only.bytes() + self.several.bytes() + self.heap_bytes.load(Ordering::Relaxed)
    }
}

impl Default for IdDirectory {
    fn default() -> IdDirectory {
        IdDirectory::masked(if cfg!(test) { FEW_KEYS } else { Key::MAX })
    }
}

fn heap_bytes(rows: &Rows) -> usize {
    size_of::<VecDeque<Row>>() + rows.capacity() * size_of::<Row>()
}

impl IdDirectory {
    fn masked(mask: Key) -> IdDirectory {
        let hasher = RandomState::new();
        IdDirectory {
            hasher,
            mask,
            only: Stripes::default(),
            several: Stripes::default(),
            heap_bytes: AtomicUsize::new(0),
        }
    }

    fn key(&self, id: &RecordId) -> Key {
        self.hasher.hash_one(id) as Key & self.mask
    }

    /// One more row of a key that is locked.
    fn push_another(&self, key: Key, only: &mut Row, row: Row) {
        if *only != SEVERAL {
            let mut rows = VecDeque::new();
            reserve_back(&mut rows, FIRST_ROOM);
            rows.extend([row, *only]);
            let rows = Box::new(rows);
            let bytes = heap_bytes(&rows);
            // Nothing has this key here while one row alone has it there.
            self.several.put(key, rows, |before, rows| *before = rows);
            self.heap_bytes.fetch_add(bytes, Ordering::Relaxed);
            *only = SEVERAL;
        } else if let Some(mut rows) = self.several.map.get_mut(&key) {
            let before = heap_bytes(&rows);
            reserve_back(&mut rows, 1);
            rows.push_front(row);
            self.heap_bytes.fetch_add(heap_bytes(&rows) - before, Ordering::Relaxed);
        }
    }

    /// Takes the oldest mention of a row out of those of a key that is locked.
    fn prune_of_several(&self, key: Key, only: &mut Row, row: Row) {
        let Some(mut rows) = self.several.map.get_mut(&key) else { return };
        if let Some(at) = rows.iter().rposition(|listed| *listed == row) {
            rows.remove(at);
        }
        let (1, Some(last)) = (rows.len(), rows.front().copied()) else { return };
        drop(rows);
        if let Some((_, rows)) = self.several.map.remove(&key) {
            self.heap_bytes.fetch_sub(heap_bytes(&rows), Ordering::Relaxed);
            self.several.gone();
        }
        *only = last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newest(directory: &IdDirectory, id: &RecordId) -> Option<Row> {
        directory.find(id, &mut |_| true)
    }

    #[test]
    fn rows_of_an_id_are_found_newest_first_until_they_are_pruned() {
        let directory = IdDirectory::default();
        let id = RecordId::from("a");
        for row in [4, 7, 4] {
            directory.push(&id, row);
        }
        assert_eq!(newest(&directory, &id), Some(4));
        assert_eq!(directory.find(&id, &mut |row| row == 7), Some(7));
        directory.prune(&id, 4);
        assert_eq!(newest(&directory, &id), Some(4));
        directory.prune(&id, 7);
        directory.prune(&id, 4);
        directory.shrink();
        assert_eq!((newest(&directory, &id), directory.bytes()), (None, 0));
    }

    /// Two ids under one key, as a hash of few bits has them.
    fn alike(directory: &IdDirectory) -> [RecordId; 2] {
        let mut seen = std::collections::HashMap::new();
        let ids = (0..).map(RecordId::Num);
        let mut pairs = ids.filter_map(|id| Some([seen.insert(directory.key(&id), id.clone())?, id]));
        pairs.next().unwrap()
    }

    #[test]
    fn ids_that_share_a_key_keep_their_rows_apart_by_what_the_caller_accepts() {
        let directory = IdDirectory::default();
        let [first, second] = alike(&directory);
        // The same row number twice: of different shards.
        for (id, row) in [(&first, 5), (&second, 5), (&second, 9)] {
            directory.push(id, row);
        }
        assert_eq!(directory.find(&first, &mut |row| row == 5), Some(5));
        assert_eq!(directory.find(&second, &mut |row| row == 9), Some(9));
        directory.prune(&second, 5);
        assert_eq!(directory.find(&first, &mut |row| row == 5), Some(5));
        directory.prune(&second, 9);
        assert_eq!(newest(&directory, &first), Some(5));
        directory.prune(&first, 5);
        directory.shrink();
        assert_eq!((newest(&directory, &first), directory.bytes()), (None, 0));
    }

    #[test]
    fn workers_of_two_shards_lose_no_row_of_ids_that_share_a_key() {
        const TIMES: usize = 20_000;
        // Row numbers that differ, and the same: each shard has its own.
        for others in [[0, 1], [5, 5]] {
            let directory = IdDirectory::default();
            let ids = alike(&directory);
            let work = |at: usize| {
                let row = others[at];
                for _ in 0..TIMES {
                    directory.push(&ids[at], row);
                    assert_eq!(directory.find(&ids[at], &mut |listed| listed == row), Some(row));
                    directory.prune(&ids[at], row);
                }
            };
            std::thread::scope(|scope| {
                scope.spawn(|| work(1));
                work(0);
            });
            directory.shrink();
            assert_eq!((newest(&directory, &ids[0]), directory.bytes()), (None, 0));
        }
    }

    #[test]
    fn a_record_takes_a_third_of_what_its_id_would() {
        let directory = IdDirectory::masked(Key::MAX);
        (0..100_000).for_each(|row| directory.push(&RecordId::Num(u64::from(row)), row));
        let bytes = directory.bytes() / 100_000;
        assert!((9..=22).contains(&bytes), "{bytes}");
        for row in 0..100_000 {
            assert_eq!(
                directory.find(&RecordId::Num(u64::from(row)), &mut |listed| listed == row),
                Some(row)
            );
        }
    }
}
