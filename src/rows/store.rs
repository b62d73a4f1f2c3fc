//! The writer's rows: where new ones go, and when old places may be used again.
//!
//! Which row a record gets depends on the write log alone, never on when
//! readers let go of their views: a place that is due for reuse while an old
//! view can still see it is copied first (its whole chunk), and the view keeps
//! the old chunk.

use std::collections::{HashMap, VecDeque};

use super::cells::{Cells, CellsView};
use super::directory::Directory;
use super::leases::{Leases, ViewNumber};
use super::mutation::NewRow;
use crate::id::{MAX_ROWS, RecordId, Row, Seq};
use crate::lease::Lease;
use crate::vector::{Matrix, MatrixView, OutOfMemory};

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

/// Entries that are not worth a sweep.
const SWEEP_LEAST: usize = 64;

/// All rows of one shard.
pub(crate) struct RowStore {
    vectors: Matrix,
    cells: Cells,
    leases: Leases,
    /// One past the highest row ever used.
    high_water: usize,
    free: VecDeque<Retired>,
    /// For each row the first view that could show what it holds now.
    first_views: Vec<ViewNumber>,
    /// Directory entries to prune once no held view shows their row.
    unlisted: VecDeque<Unlisted>,
    /// Entries at which those behind one that must stay are swept.
    sweep_at: usize,
    /// Chunks that were copied, with the first view that has the copy.
    detached: HashMap<usize, ViewNumber>,
}

impl RowStore {
    pub(crate) fn new(dim: usize) -> RowStore {
        RowStore {
            vectors: Matrix::new(dim),
            cells: Cells::new(),
            leases: Leases::default(),
            high_water: 0,
            free: VecDeque::new(),
            first_views: Vec::new(),
            unlisted: VecDeque::new(),
            sweep_at: 0,
            detached: HashMap::new(),
        }
    }

    /// Stores a record in a free or new place.
    ///
    /// # Errors
    /// [`Allocation`]; nothing has changed then.
    pub(crate) fn insert(&mut self, new: &NewRow, born: Seq) -> Result<Row, Allocation> {
        let row = match self.free.front().copied() {
            Some(retired) => {
                self.make_private(retired)?;
                self.free.pop_front();
                retired.row
            }
            None => self.append()?,
        };
        // SAFETY: the row is either new (no view reaches beyond its own high
        // water mark and no index or tail names it), or retired: no view from
        // `unseen_from` on can reach it, and `make_private` made sure that
        // older views are gone or have another copy of its chunk.
        unsafe {
            self.vectors.write(row, &new.vector, new.scale);
            self.cells.write(row, new.id.clone(), born);
        }
        self.first_views[row as usize] = self.leases.next();
        Ok(row)
    }

    fn append(&mut self) -> Result<Row, Allocation> {
        if self.high_water >= MAX_ROWS {
            return Err(Allocation::Full { rows: self.high_water });
        }
        let row = self.high_water as Row;
        self.vectors.reserve(row)?;
        self.cells.reserve(row);
        self.first_views.push(0);
        self.high_water += 1;
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
    ) -> Result<(), Allocation> {
        while self.high_water <= row as usize {
            self.append()?;
        }
        let lives = id.is_some();
        // SAFETY: the row is in nobody's view: none was granted.
        unsafe {
            self.vectors.write(row, vector, scale);
            self.cells.write(row, id.unwrap_or(RecordId::Num(0)), Seq(0));
        }
        if !lives {
            self.cells.kill(row, Seq(0));
        }
        Ok(())
    }

    /// After all rows below `limit` were restored: the places between are free.
    pub(crate) fn restore_free(
        &mut self,
        limit: usize,
        is_free: impl Fn(Row) -> bool,
    ) -> Result<(), Allocation> {
        while self.high_water < limit {
            self.append()?;
        }
        let free = (0..limit as Row).filter(|row| is_free(*row));
        self.free = free.map(|row| Retired { row, unseen_from: 0 }).collect();
        Ok(())
    }

    /// The live records, in the order of their rows.
    pub(crate) fn live_records(&self) -> impl Iterator<Item = NewRow> + '_ {
        let rows = (0..self.high_water as Row).filter(|row| self.is_alive(*row));
        rows.filter_map(|row| {
            let id = self.cells.view().id(row)?.clone();
            let vectors = self.vectors.view();
            Some(NewRow { id, vector: vectors.row(row).into(), scale: vectors.scale(row) })
        })
    }

    /// Makes sure that no held view shares the place of a retired row.
    fn make_private(&mut self, retired: Retired) -> Result<(), Allocation> {
        let chunk = Cells::chunk_of(retired.row);
        // Views before the last copy have the chunk as it was before, and
        // views before the row's birth never look at it.
        let copied = self.detached.get(&chunk).copied().unwrap_or(0);
        let since = copied.max(self.first_views[retired.row as usize]);
        if !self.leases.any_held(since, retired.unseen_from) {
            return Ok(());
        }
        self.detach_chunk(chunk)?;
        self.detached.insert(chunk, self.leases.next());
        Ok(())
    }

    /// Copies every vector chunk that a chunk of cells covers, and the cells.
    fn detach_chunk(&mut self, chunk: usize) -> Result<(), Allocation> {
        let rows = Cells::rows_of_chunk(chunk);
        let end = rows.end.min(self.vectors.view().capacity() as Row);
        let mut row = rows.start;
        while row < end {
            self.vectors.detach(row)?;
            row = self.vectors.chunk_end(row);
        }
        self.cells.detach(rows.start);
        Ok(())
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

    /// True when the row lives and belongs to this id.
    pub(crate) fn holds(&self, row: Row, id: &RecordId) -> bool {
        self.cells.is_alive(row) && self.cells.view().id(row) == Some(id)
    }

    /// Tells that the views granted from now on cannot reach these rows. Gives
    /// a receipt for [`RowStore::reuse`].
    pub(crate) fn retire(&mut self, rows: Vec<Row>) -> RetiredRows {
        let unseen_from = self.leases.next();
        for row in &rows {
            if let Some(id) = self.cells.view().id(*row) {
                let first_view = self.first_views[*row as usize];
                self.unlisted.push_back(Unlisted { first_view, unseen_from, id: id.clone(), row: *row });
            }
        }
        RetiredRows { rows, unseen_from }
    }

    /// Lets new records take the places of retired rows.
    pub(crate) fn reuse(&mut self, retired: RetiredRows) {
        let unseen_from = retired.unseen_from;
        self.free.extend(retired.rows.into_iter().map(|row| Retired { row, unseen_from }));
    }

    /// Prunes directory entries that no held view needs any more.
    pub(crate) fn prune(&mut self, directory: &dyn Directory) {
        let oldest = self.leases.oldest();
        self.detached.retain(|_, since| *since > oldest);
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
    }

    pub(super) fn grant(&mut self) -> Lease {
        self.leases.grant()
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

    pub(crate) fn vector_bytes(&self) -> usize {
        self.vectors.view().bytes()
    }

    pub(crate) fn cell_bytes(&self) -> usize {
        self.cells.bytes() + self.first_views.capacity() * size_of::<ViewNumber>()
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

    fn record(id: u64) -> NewRow {
        NewRow { id: RecordId::Num(id), vector: vec![id as f32; 4].into(), scale: 1.0 }
    }

    #[test]
    fn one_held_view_makes_a_chunk_be_copied_once_not_at_every_reuse() {
        let mut rows = RowStore::new(4);
        let mut row = rows.insert(&record(0), Seq(1)).unwrap();
        let (before, lease) = ((rows.cells().clone(), rows.vectors().clone()), rows.grant());
        let mut copies = Vec::new();
        for seq in 2..20 {
            rows.kill(row, Seq(seq));
            let retired = rows.retire(vec![row]);
            rows.reuse(retired);
            drop(rows.grant());
            row = rows.insert(&record(seq), Seq(seq)).unwrap();
            copies.push(rows.vectors().row(0).as_ptr());
            drop(rows.grant());
        }
        copies.dedup();
        assert_eq!(copies.len(), 1);
        assert_eq!((before.0.id(0), before.1.row(0)), (Some(&RecordId::Num(0)), &[0.0; 4][..]));
        assert!(before.0.visible(0, Seq(1)));
        drop(lease);
    }
}
