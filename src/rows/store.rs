//! The writer's rows: where new ones go, and when old places may be used again.
//!
//! Which row a record gets depends on the write log alone, never on when
//! readers let go of their views: a place that is due for reuse while an old
//! view can still see it is copied first (its whole chunk), and the view keeps
//! the old chunk.

use std::collections::{HashMap, HashSet, VecDeque};

use super::cells::{Cell, Cells, CellsView};
use super::directory::Directory;
use super::leases::{Leases, ViewNumber};
use super::mutation::NewRow;
use crate::bits::RowSet;
use crate::id::{MAX_ROWS, RecordId, Row, Seq};
use crate::lease::Lease;
use crate::memory::{collect, push_back, unwind};
use crate::payload::{Payload, PayloadStore};
use crate::vector::{Format, Matrix, MatrixView, OutOfMemory};

/// Why a row could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allocation {
    OutOfMemory { bytes: usize },
    Full { rows: usize },
}

impl From<OutOfMemory> for Allocation {
    fn from(fault: OutOfMemory) -> Self {
        Allocation::OutOfMemory { bytes: fault.bytes }
    }
}

/// A row whose place waits for reuse, and the first view that cannot see it.
#[derive(Clone, Copy, Debug)]
struct Retired {
    row: Row,
    unseen_from: ViewNumber,
}

/// A directory entry of a retired row, and the views that could show it.
#[derive(Debug)]
struct Unlisted {
    first_view: ViewNumber,
    unseen_from: ViewNumber,
    id: RecordId,
    row: Row,
}

/// The end of the rows is looked at when one in so many is free.
const SPARSE_DIVISOR: usize = 2;

/// So few free rows are not worth a look: those of a small collection that is
/// written over and over are used again at once.
const SPARSE_LEAST: usize = 1_024;

/// After a look that found nothing, so many more must be free for the next: all
/// looks together cost no more than a few.
const LOOKED_DIVISOR: usize = 4;

/// The list of entries grows by one part in so many.
const ROOM: usize = 8;

/// Entries that are not worth a sweep.
const SWEEP_LEAST: usize = 64;

/// A list that needs less than one part in so many of its room gives the rest
/// back: how many rows and entries ever waited at once depends on how long
/// readers took.
const LOOSE_DIVISOR: usize = 4;

/// So many places of a list are not worth giving back.
const LOOSE_LEAST: usize = 64;

/// Bytes of the numbers of rows in a batch that lets them go.
const LET_GO_BYTES: usize = 4 * size_of::<Row>();

/// Bytes that stand beside the vector of a row at most, while it waits to be
/// reused and its entry to be pruned.
pub(crate) const CELL_BYTES: usize =
    size_of::<Cell>() + size_of::<ViewNumber>() + size_of::<Retired>() + size_of::<Unlisted>() + LET_GO_BYTES;

/// All rows of one shard.
pub(crate) struct RowStore {
    vectors: Matrix,
    cells: Cells,
    payloads: PayloadStore,
    leases: Leases,
    /// One past the highest row ever used.
    high_water: usize,
    free: VecDeque<Retired>,
    /// For each row the first view that could show what it holds now.
    first_views: Vec<ViewNumber>,
    /// Dead rows from a file, whose ids nobody knows and no directory lists.
    nameless: HashSet<Row>,
    /// Directory entries to prune once no held view shows their row.
    unlisted: VecDeque<Unlisted>,
    /// Entries at which those behind one that must stay are swept.
    sweep_at: usize,
    /// Free rows at which the end of the rows is looked at again.
    look_at: usize,
    /// Chunks of vectors that were copied, with the first view that has the copy.
    detached_vectors: HashMap<usize, ViewNumber>,
    /// The same of cells.
    detached_cells: HashMap<usize, ViewNumber>,
    /// Chunks that grew, became wider or were copied because a view held them, so far.
    chunk_changes: u64,
}

impl RowStore {
    pub(crate) fn new(vectors: Matrix) -> RowStore {
        RowStore {
            vectors,
            cells: Cells::new(),
            payloads: PayloadStore::default(),
            leases: Leases::default(),
            high_water: 0,
            free: VecDeque::new(),
            first_views: Vec::new(),
            nameless: HashSet::new(),
            unlisted: VecDeque::new(),
            sweep_at: 0,
            look_at: 0,
            detached_vectors: HashMap::new(),
            detached_cells: HashMap::new(),
            chunk_changes: 0,
        }
    }

    /// Stores a record in a free or new place.
    ///
    /// # Errors
    /// [`Allocation`]; nothing has changed then.
    pub(crate) fn insert(&mut self, new: &NewRow, born: Seq) -> Result<Row, Allocation> {
        let reused = self.free.front().copied();
        let row = match reused {
            Some(retired) => {
                self.make_private(retired)?;
                retired.row
            }
            None => self.reserve()?,
        };
        // SAFETY: the row is either new (no view reaches beyond its own high
        // water mark and no index or tail names it), or retired: no view from
        // `unseen_from` on can reach it, and `make_private` made sure that
        // older views are gone or have other copies of its chunks. The directory may
        // name any row, for ids of other shards too: who goes by it asks first whether the
        // row is visible, which it is to no view that is held.
        unsafe {
            if self.vectors.write(row, &new.vector, new.scale)? {
                // Wider now: all views so far have the chunk as it was before.
                self.chunk_changes += 1;
                self.detached_vectors.insert(self.vectors.chunk_of(row), self.leases.next());
            }
            self.cells.write(row, new.id.copy(), born);
        }
        self.payloads.put(row, new.payload.clone());
        match reused {
            Some(_) => _ = self.free.pop_front(),
            None => {
                self.first_views.push(0);
                self.high_water += 1;
            }
        }
        self.first_views[row as usize] = self.leases.next();
        Ok(row)
    }

    /// Memory for the first row that was never used.
    fn reserve(&mut self) -> Result<Row, Allocation> {
        if self.high_water >= MAX_ROWS {
            return Err(Allocation::Full { rows: self.high_water });
        }
        let row = self.high_water as Row;
        let capacity = self.vectors.view().capacity();
        self.vectors.reserve(row)?;
        self.chunk_changes += u64::from(self.vectors.view().capacity() > capacity);
        self.cells.reserve(row);
        let roomy = self.vectors.view().capacity();
        let more = roomy.saturating_sub(self.first_views.len());
        let bytes = roomy * size_of::<ViewNumber>();
        self.first_views.try_reserve_exact(more).map_err(|_| Allocation::OutOfMemory { bytes })?;
        Ok(row)
    }

    /// Puts a row of a file where it was, before any view was granted. Rows come
    /// in ascending order; those left out are free. One without an id is dead.
    ///
    /// # Errors
    /// [`Allocation`] when there is no memory.
    pub(crate) fn restore(
        &mut self,
        row: Row,
        id: Option<RecordId>,
        vector: &[f32],
        scale: f32,
        born: Seq,
    ) -> Result<(), Allocation> {
        self.restore_places(row as usize + 1)?;
        let lives = id.is_some();
        // SAFETY: the row is in nobody's view: none was granted.
        unsafe {
            self.vectors.write(row, vector, scale)?;
            self.cells.write(row, id.unwrap_or(RecordId::Num(0)), born);
        }
        if !lives {
            self.cells.kill(row, Seq(0));
            self.nameless.insert(row);
        }
        Ok(())
    }

    /// After all rows below `limit` were restored: the places between are free.
    pub(crate) fn restore_free(
        &mut self,
        limit: usize,
        is_free: impl Fn(Row) -> bool,
    ) -> Result<(), Allocation> {
        self.restore_places(limit)?;
        let free = (0..limit as Row).filter(|row| is_free(*row));
        self.free = collect(free.map(|row| Retired { row, unseen_from: 0 })).into();
        Ok(())
    }

    /// Memory for the first `limit` rows.
    fn restore_places(&mut self, limit: usize) -> Result<(), Allocation> {
        while self.high_water < limit {
            self.reserve()?;
            self.first_views.push(0);
            self.high_water += 1;
        }
        Ok(())
    }

    /// The live records, in the order of their rows.
    pub(crate) fn live_records(&self) -> impl Iterator<Item = NewRow> + '_ {
        let rows = (0..self.high_water as Row).filter(|row| self.is_alive(*row));
        rows.filter_map(|row| {
            let id = self.cells.view().id(row)?.copy();
            let vectors = self.vectors.view();
            let payload = self.payloads.get(row);
            Some(NewRow { id, vector: vectors.vector(row).into(), scale: vectors.scale(row), payload })
        })
    }

    /// Whether all vectors stand in one chunk.
    pub(crate) fn has_one_chunk(&self) -> bool {
        self.vectors.chunk_of(self.high_water.saturating_sub(1) as Row) == 0
    }

    /// Makes sure that no held view shares the place of a retired row: its
    /// chunks are copied if one may.
    fn make_private(&mut self, retired: Retired) -> Result<(), Allocation> {
        let Retired { row, unseen_from } = retired;
        // Views before the last copy have the chunk as it was before, and
        // views before the row's birth never look at it.
        let born = self.first_views[row as usize];
        let since = |copied: Option<&ViewNumber>| copied.copied().unwrap_or(0).max(born);
        let chunk = self.vectors.chunk_of(row);
        if self.leases.any_held(since(self.detached_vectors.get(&chunk)), unseen_from) {
            self.vectors.detach(row)?;
            self.chunk_changes += 1;
            self.detached_vectors.insert(chunk, self.leases.next());
        }
        let chunk = Cells::chunk_of(row);
        if self.leases.any_held(since(self.detached_cells.get(&chunk)), unseen_from) {
            self.cells.detach(row);
            self.detached_cells.insert(chunk, self.leases.next());
        }
        Ok(())
    }

    /// Gives a row of a file its payload, before any view was granted.
    pub(crate) fn restore_payload(&mut self, row: Row, payload: Payload) {
        self.payloads.put(row, payload);
    }

    /// Marks a row as dead from a write on.
    pub(crate) fn kill(&mut self, row: Row, died: Seq) {
        self.cells.kill(row, died);
    }

    pub(crate) fn is_alive(&self, row: Row) -> bool {
        self.cells.is_alive(row)
    }

    /// The write with which a dead row died.
    pub(crate) fn died(&self, row: Row) -> Seq {
        self.cells.died(row)
    }

    /// The write that a live row comes from.
    pub(crate) fn born(&self, row: Row) -> Seq {
        self.cells.view().born(row)
    }

    /// The id of a live row.
    pub(crate) fn id(&self, row: Row) -> Option<&RecordId> {
        self.cells.view().id(row)
    }

    /// True when the row lives and belongs to this id.
    pub(crate) fn holds(&self, row: Row, id: &RecordId) -> bool {
        self.cells.is_alive(row) && self.cells.view().id(row) == Some(id)
    }

    /// Tells that the views granted from now on cannot reach these rows. Gives
    /// a receipt for [`RowStore::reuse`].
    pub(crate) fn retire(&mut self, rows: Vec<Row>) -> RetiredRows {
        let unseen_from = self.leases.next();
        // Not twice as much: many may be let go at once.
        let few = self.unlisted.len() / ROOM;
        let more = rows.len().max(few);
        if self.unlisted.try_reserve_exact(more).is_err() {
            unwind((self.unlisted.len() + more) * size_of::<Unlisted>());
        }
        for row in &rows {
            // Views keep what they have; those from now on cannot reach the row.
            self.payloads.put(*row, Payload::new());
            if self.nameless.remove(row) {
                continue;
            }
            if let Some(id) = self.cells.view().id(*row) {
                let first_view = self.first_views[*row as usize];
                let id = id.copy();
                push_back(&mut self.unlisted, Unlisted { first_view, unseen_from, id, row: *row });
            }
        }
        RetiredRows { rows, unseen_from }
    }

    /// Lets new records take the places of retired rows.
    pub(crate) fn reuse(&mut self, retired: RetiredRows) {
        let unseen_from = retired.unseen_from;
        retired.rows.into_iter().for_each(|row| push_back(&mut self.free, Retired { row, unseen_from }));
        if self.free.len() < SPARSE_LEAST.max(self.high_water / SPARSE_DIVISOR) {
            self.look_at = 0;
        } else if self.free.len() >= self.look_at {
            self.give_back();
            self.look_at = self.free.len() + self.free.len() / LOOKED_DIVISOR;
        }
    }

    /// Gives back the memory behind the last row that is not free, in whole
    /// chunks of vectors: later rows then share nothing with any view before.
    fn give_back(&mut self) {
        let mut free = RowSet::default();
        self.free.iter().for_each(|retired| _ = free.insert(retired.row));
        let is_taken = |row: &Row| !free.contains(*row);
        let end = (0..self.high_water as Row).rev().find(is_taken).map_or(0, |last| last + 1);
        let end = self.vectors.truncate(end) as usize;
        if end >= self.high_water {
            return;
        }
        self.high_water = end;
        self.cells.truncate(end as Row);
        self.payloads.truncate(end as Row);
        self.first_views.truncate(end);
        self.first_views.shrink_to_fit();
        self.free.retain(|retired| (retired.row as usize) < end);
        self.free.shrink_to_fit();
        let (vectors, cells) = (self.vectors.chunk_of(end as Row), Cells::chunk_of(end as Row));
        self.detached_vectors.retain(|chunk, _| *chunk < vectors);
        self.detached_cells.retain(|chunk, _| *chunk <= cells);
    }

    /// Prunes directory entries that no held view needs any more.
    pub(crate) fn prune(&mut self, directory: &dyn Directory) {
        let oldest = self.leases.oldest();
        self.cells.forget_lost();
        self.detached_vectors.retain(|_, since| *since > oldest);
        self.detached_cells.retain(|_, since| *since > oldest);
        let leases = &self.leases;
        let is_needed = |entry: &Unlisted| leases.any_held(entry.first_view, entry.unseen_from);
        while self.unlisted.front().is_some_and(|entry| !is_needed(entry)) {
            if let Some(entry) = self.unlisted.pop_front() {
                directory.prune(&entry.id, entry.row);
            }
        }
        if self.unlisted.len() >= self.sweep_at {
            // One held view must not keep the entries of rows that it does not show.
            self.unlisted.retain(|entry| {
                let needed = is_needed(entry);
                if !needed {
                    directory.prune(&entry.id, entry.row);
                }
                needed
            });
            self.sweep_at = 2 * self.unlisted.len() + SWEEP_LEAST;
        }
        tighten(&mut self.unlisted);
        tighten(&mut self.free);
    }

    /// True while older views keep vectors that later ones do not have.
    pub(crate) fn keeps_more(&self) -> bool {
        self.kept_bytes().iter().any(|bytes| *bytes > 0)
    }

    /// How often a chunk of vectors came to take other memory: it grew, became wider, or was copied because a view
    /// held it.
    pub(crate) fn chunk_changes(&self) -> u64 {
        self.chunk_changes
    }

    /// True when directory entries wait for views to go.
    pub(crate) fn has_unlisted(&self) -> bool {
        !self.unlisted.is_empty()
    }

    pub(super) fn grant(&mut self) -> Lease {
        self.leases.grant()
    }

    pub(crate) fn payloads(&self) -> &PayloadStore {
        &self.payloads
    }

    pub(crate) fn payloads_mut(&mut self) -> &mut PayloadStore {
        &mut self.payloads
    }

    pub(super) fn cells(&self) -> &CellsView {
        self.cells.view()
    }

    pub(crate) fn vectors(&self) -> &MatrixView {
        self.vectors.view()
    }

    pub(crate) fn high_water(&self) -> usize {
        self.high_water
    }

    /// Places that wait for a record.
    pub(crate) fn free_places(&self) -> usize {
        self.free.len()
    }

    /// Views that somebody holds.
    pub(crate) fn views_held(&self) -> usize {
        self.leases.held()
    }

    /// Bytes of the vectors by format, narrowest first.
    pub(crate) fn vector_bytes(&self) -> [usize; 3] {
        [Format::Bytes, Format::Half, Format::Full].map(|format| self.vectors.view().bytes(format))
    }

    /// The same of chunks that only older views keep.
    pub(crate) fn kept_bytes(&self) -> [usize; 3] {
        [Format::Bytes, Format::Half, Format::Full].map(|format| self.vectors.kept_bytes(format))
    }

    /// Bytes from one vector to the next where they are widest.
    pub(crate) fn stride(&self) -> usize {
        self.vectors.stride()
    }

    /// Bytes of texts of ids.
    pub(crate) fn id_bytes(&self) -> usize {
        self.cells.heap_bytes()
    }

    pub(crate) fn cell_bytes(&self) -> usize {
        self.cells.bytes()
            + self.first_views.capacity() * size_of::<ViewNumber>()
            + self.free.capacity() * size_of::<Retired>()
            + self.unlisted.capacity() * size_of::<Unlisted>()
    }
}

/// Gives back the room of a list that has become much shorter.
fn tighten<T>(list: &mut VecDeque<T>) {
    if list.capacity() > LOOSE_DIVISOR * list.len() + LOOSE_LEAST {
        list.shrink_to(list.len() + list.len() / ROOM);
    }
}

/// Rows that no later view can reach: [`RowStore::reuse`] frees their places.
#[derive(Debug)]
pub(crate) struct RetiredRows {
    rows: Vec<Row>,
    unseen_from: ViewNumber,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RecordId;
    use crate::metric::Metric;
    use crate::vector::VectorStorage;

    fn record(id: u64) -> NewRow {
        let vector = vec![id as f32; 4].into();
        NewRow { id: RecordId::Num(id), vector, scale: 1.0, payload: Payload::new() }
    }

    #[test]
    fn one_held_view_makes_a_chunk_be_copied_once_not_at_every_reuse() {
        let mut rows = RowStore::new(Matrix::new(4, VectorStorage::Full, Metric::L2));
        let mut row = rows.insert(&record(0), Seq(1)).unwrap();
        let (before, lease) = ((rows.cells().clone(), rows.vectors().clone()), rows.grant());
        let mut copies = Vec::new();
        for seq in 2..20 {
            rows.kill(row, Seq(seq));
            let retired = rows.retire(vec![row]);
            rows.reuse(retired);
            drop(rows.grant());
            row = rows.insert(&record(seq), Seq(seq)).unwrap();
            copies.push(rows.vectors().floats(0).unwrap().as_ptr());
            drop(rows.grant());
        }
        copies.dedup();
        assert_eq!(copies.len(), 1);
        assert_eq!((before.0.id(0), before.1.vector(0)), (Some(&RecordId::Num(0)), vec![0.0; 4]));
        assert!(before.0.visible(0, Seq(1)));
        drop(lease);
    }

    /// A directory that holds nothing.
    struct Nothing;

    impl Directory for Nothing {
        fn find(&self, _: &RecordId, _: &mut dyn FnMut(Row) -> bool) -> Option<Row> {
            None
        }
        fn push(&self, _: &RecordId, _: Row) {}
        fn prune(&self, _: &RecordId, _: Row) {}
        fn shrink(&self) {}
        fn bytes(&self) -> usize {
            0
        }
    }

    #[test]
    fn what_waited_for_a_view_leaves_no_room_behind() {
        let mut rows = RowStore::new(Matrix::new(4, VectorStorage::Full, Metric::L2));
        let stored: Vec<Row> = (0..4_000).map(|id| rows.insert(&record(id), Seq(id + 1)).unwrap()).collect();
        let lease = rows.grant();
        let before = rows.cell_bytes();
        for row in &stored[..1_000] {
            rows.kill(*row, Seq(5_000));
        }
        let retired = rows.retire(stored[..1_000].into());
        rows.reuse(retired);
        rows.prune(&Nothing);
        assert!(rows.has_unlisted() && rows.cell_bytes() > before + 1_000 * size_of::<Unlisted>());
        for id in 0..1_000 {
            let _ = rows.insert(&record(id), Seq(6_000)).unwrap();
        }
        drop(lease);
        drop(rows.grant());
        rows.prune(&Nothing);
        let room = LOOSE_LEAST * (size_of::<Unlisted>() + size_of::<Retired>());
        assert!(rows.cell_bytes() <= before + room, "{} and {before} before", rows.cell_bytes());
    }
}
