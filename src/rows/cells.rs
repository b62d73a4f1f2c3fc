//! What stands beside each vector: its id and the writes it was born and died with.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::id::{RecordId, Row, Seq};
use crate::kernel::prefetch_one_of_many;
use crate::memory;

/// Rows of a full chunk, as a power of two: 40 KB.
const SHIFT: u32 = 10;
const CHUNK_ROWS: usize = 1 << SHIFT;

/// Rows of the smallest first chunk.
const FIRST_ROWS: usize = 32;

/// The death number of a row that lives.
const ALIVE: u64 = u64::MAX;

/// The birth number of a row that was never used: visible to nobody.
const UNBORN: u64 = u64::MAX;

pub(super) struct Cell {
    born: AtomicU64,
    died: AtomicU64,
    id: UnsafeCell<RecordId>,
}

// SAFETY: `born` and `died` are atomic. `id` is written only through
// `Cells::write`, whose contract keeps every reader away, and read only after
// the row was found visible (see `CellsView::id`).
unsafe impl Sync for Cell {}

impl Cell {
    fn unused() -> Cell {
        Cell { born: AtomicU64::new(UNBORN), died: AtomicU64::new(0), id: UnsafeCell::new(RecordId::Num(0)) }
    }
}

type Chunk = Arc<[Cell]>;

/// The cells as of one moment; cheap to clone.
#[derive(Clone)]
pub(super) struct CellsView {
    chunks: Arc<Vec<Chunk>>,
}

impl CellsView {
    #[inline]
    fn cell(&self, row: Row) -> Option<&Cell> {
        self.chunks.get(row as usize >> SHIFT)?.get(row as usize & (CHUNK_ROWS - 1))
    }

    /// True when the row shows in a snapshot of the writes up to `at`.
    ///
    /// The death number is loaded first: a row that is being reused gets its
    /// new (later) birth number before it loses its old death number, so it is
    /// never taken for the row it was.
    #[inline]
    pub(super) fn visible(&self, row: Row, at: Seq) -> bool {
        self.cell(row).is_some_and(|cell| {
            let died = cell.died.load(Ordering::Acquire);
            at.0 < died && cell.born.load(Ordering::Relaxed) <= at.0
        })
    }

    /// The write that a row was born with.
    pub(super) fn born(&self, row: Row) -> Seq {
        Seq(self.cell(row).map_or(0, |cell| cell.born.load(Ordering::Relaxed)))
    }

    /// The id of a row that the caller found visible in a view that it holds.
    pub(super) fn id(&self, row: Row) -> Option<&RecordId> {
        // SAFETY: a row that is visible in a held view is written again only
        // after the view is gone, or in a copy of the chunk that the view does
        // not know: `Cells::write` demands it of the writer. Rows are asked for
        // their id only when visible, or by the writer itself.
        self.cell(row).map(|cell| unsafe { &*cell.id.get() })
    }

    /// Asks the processor for the id of a row.
    #[inline]
    pub(super) fn prefetch_id(&self, row: Row) {
        if let Some(cell) = self.cell(row) {
            prefetch_one_of_many(std::slice::from_ref(&cell.id));
        }
    }

    fn capacity(&self) -> usize {
        match self.chunks.as_slice() {
            [] => 0,
            [only] => only.len(),
            chunks => chunks.len() << SHIFT,
        }
    }
}

/// The writer's side.
pub(super) struct Cells {
    view: CellsView,
    heap_bytes: usize,
    /// Chunks that only views taken before have.
    replaced: Vec<Weak<[Cell]>>,
}

impl Cells {
    pub(super) fn new() -> Cells {
        Cells { view: CellsView { chunks: Arc::default() }, heap_bytes: 0, replaced: Vec::new() }
    }

    pub(super) fn view(&self) -> &CellsView {
        &self.view
    }

    /// Makes sure that `row` has a cell.
    pub(super) fn reserve(&mut self, row: Row) {
        while self.view.capacity() <= row as usize {
            let capacity = self.view.capacity();
            let mut chunks = one_more(&self.view.chunks);
            if capacity < CHUNK_ROWS {
                let rows = (capacity * 2).clamp(FIRST_ROWS, CHUNK_ROWS);
                let smaller = chunks.pop();
                chunks.push(copy(smaller.as_deref().unwrap_or_default(), rows));
                self.replaced.extend(smaller.as_ref().map(Arc::downgrade));
            } else {
                chunks.push(copy(&[], CHUNK_ROWS));
            }
            self.view.chunks = Arc::new(chunks);
        }
    }

    /// Gives the chunk of `row` a copy of its own: views taken before keep theirs.
    pub(super) fn detach(&mut self, row: Row) {
        let mut chunks = one_more(&self.view.chunks);
        let at = row as usize >> SHIFT;
        if let Some(chunk) = chunks.get_mut(at) {
            memory::push(&mut self.replaced, Arc::downgrade(chunk));
            *chunk = copy(chunk, chunk.len());
        }
        self.view.chunks = Arc::new(chunks);
    }

    /// Gives back the chunks from row `rows` on, and makes sure that views taken
    /// before share nothing with cells of later rows.
    pub(super) fn truncate(&mut self, rows: Row) {
        let kept = (rows as usize).div_ceil(CHUNK_ROWS);
        let mut chunks = one_more(&self.view.chunks);
        for cell in chunks.iter().flat_map(|chunk| chunk.iter()).skip(rows as usize) {
            // SAFETY: only the writer writes ids, and this is it.
            self.heap_bytes = self.heap_bytes.saturating_sub(unsafe { &*cell.id.get() }.heap_bytes());
        }
        self.replaced.extend(chunks.drain(kept.min(chunks.len())..).map(|chunk| Arc::downgrade(&chunk)));
        if let Some(last) = chunks.last_mut().filter(|_| !(rows as usize).is_multiple_of(CHUNK_ROWS)) {
            let (used, room) = (rows as usize % CHUNK_ROWS, last.len());
            memory::push(&mut self.replaced, Arc::downgrade(last));
            *last = copy(&last[..used.min(room)], room);
        }
        self.view.chunks = Arc::new(chunks);
    }

    /// The number of the chunk of a row: what `detach` copies together.
    pub(super) fn chunk_of(row: Row) -> usize {
        row as usize >> SHIFT
    }

    /// Gives the row a new owner, born with write `born`.
    ///
    /// # Safety
    /// No thread reads the row's id meanwhile: either the row is visible in no
    /// view that anybody holds, or its chunk was detached after the last view
    /// in which it was visible.
    pub(super) unsafe fn write(&mut self, row: Row, id: RecordId, born: Seq) {
        if let Some(cell) = self.view.cell(row) {
            self.heap_bytes += id.heap_bytes();
            // SAFETY: exclusive by the caller's promise.
            let before = std::mem::replace(unsafe { &mut *cell.id.get() }, id);
            self.heap_bytes = self.heap_bytes.saturating_sub(before.heap_bytes());
            cell.born.store(born.0, Ordering::Relaxed);
            cell.died.store(ALIVE, Ordering::Release);
        }
    }

    /// Marks the row as dead from write `died` on.
    pub(super) fn kill(&self, row: Row, died: Seq) {
        if let Some(cell) = self.view.cell(row) {
            cell.died.store(died.0, Ordering::Release);
        }
    }

    /// The write with which a dead row died.
    pub(super) fn died(&self, row: Row) -> Seq {
        Seq(self.view.cell(row).map_or(0, |cell| cell.died.load(Ordering::Relaxed)))
    }

    pub(super) fn is_alive(&self, row: Row) -> bool {
        self.view.cell(row).is_some_and(|cell| cell.died.load(Ordering::Relaxed) == ALIVE)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.heap_bytes
    }

    /// Lets go of what no view keeps any more.
    pub(super) fn forget_lost(&mut self) {
        self.replaced.retain(|chunk| chunk.strong_count() > 0);
    }

    /// Bytes of all cells, with those that only older views keep.
    pub(super) fn bytes(&self) -> usize {
        let replaced: usize = self.replaced.iter().filter_map(Weak::upgrade).map(|chunk| chunk.len()).sum();
        (self.view.capacity() + replaced) * size_of::<Cell>() + self.heap_bytes
    }
}

/// A copy of a list with room for one more.
fn one_more(chunks: &[Chunk]) -> Vec<Chunk> {
    let mut all = memory::list(chunks.len() + 1);
    all.extend_from_slice(chunks);
    all
}

/// A chunk of `rows` cells that begins with copies of `cells`.
fn copy(cells: &[Cell], rows: usize) -> Chunk {
    let copied = cells.iter().map(|cell| Cell {
        born: AtomicU64::new(cell.born.load(Ordering::Relaxed)),
        died: AtomicU64::new(cell.died.load(Ordering::Relaxed)),
        // SAFETY: copying is the writer's act, and it alone writes ids.
        id: UnsafeCell::new(unsafe { (*cell.id.get()).copy() }),
    });
    memory::shared(memory::collect(copied.chain(std::iter::repeat_with(Cell::unused)).take(rows)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells_with(row: Row, id: u64, born: u64) -> Cells {
        let mut cells = Cells::new();
        cells.reserve(row);
        // SAFETY: single thread, no view is held.
        unsafe { cells.write(row, RecordId::Num(id), Seq(born)) };
        cells
    }

    #[test]
    fn a_row_shows_from_its_birth_to_its_death() {
        let cells = cells_with(5, 1, 10);
        cells.kill(5, Seq(20));
        let shown: Vec<bool> = [9, 10, 19, 20].map(|at| cells.view().visible(5, Seq(at))).into();
        assert_eq!(shown, [false, true, true, false]);
        assert!(!cells.view().visible(4, Seq(100)) && !cells.view().visible(1 << 20, Seq(100)));
    }

    #[test]
    fn a_view_keeps_what_it_saw_when_the_chunk_is_detached_and_reused() {
        let mut cells = cells_with(3, 7, 1);
        let before = cells.view().clone();
        cells.kill(3, Seq(2));
        cells.detach(3);
        // SAFETY: the chunk was detached from `before`.
        unsafe { cells.write(3, RecordId::Num(8), Seq(3)) };
        assert_eq!(before.id(3), Some(&RecordId::Num(7)));
        assert!(before.visible(3, Seq(1)) && !before.visible(3, Seq(3)));
        assert_eq!(cells.view().id(3), Some(&RecordId::Num(8)));
    }

    #[test]
    fn growing_keeps_cells() {
        let mut cells = cells_with(0, 42, 1);
        cells.reserve(5_000);
        assert_eq!(cells.view().id(0), Some(&RecordId::Num(42)));
        assert!(cells.view().visible(0, Seq(1)) && cells.is_alive(0));
    }
}
