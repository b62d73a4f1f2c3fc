//! A growing matrix of vectors: one writer, any number of readers.
//!
//! Rows stand in chunks of a fixed number of rows. A chunk never moves, so a
//! view that was taken once stays valid however much is added. The first chunk
//! starts small and is copied as it grows, so that a small collection stays
//! small; views of the smaller copy keep it alive.

use std::sync::Arc;

use super::aligned::AlignedFloats;
use crate::id::Row;

/// Bytes of a full chunk: two huge pages, filled with as many rows as fit (a
/// power of two would leave up to half of them on small pages), and few enough
/// chunks that the table of a million rows fits the first-level cache.
const CHUNK_BYTES: usize = 4 << 20;

/// Rows of the smallest first chunk.
const FIRST_ROWS: usize = 64;

/// Floats in a cache line.
const LINE: usize = 16;

/// The allocator had no memory for another chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfMemory {
    pub(crate) bytes: usize,
}

/// How rows lie in chunks.
#[derive(Clone, Copy, Debug)]
struct Shape {
    dim: usize,
    /// Floats from one row to the next.
    stride: usize,
    /// Rows of a full chunk.
    rows: u32,
    /// 2^64 / `rows`, rounded up.
    inverse: u64,
}

impl Shape {
    fn new(dim: usize) -> Shape {
        let stride = stride(dim + 1);
        let rows = (CHUNK_BYTES / (stride * size_of::<f32>())).max(FIRST_ROWS) as u32;
        Shape { dim, stride, rows, inverse: u64::MAX / u64::from(rows) + 1 }
    }

    fn chunk_rows(self) -> usize {
        self.rows as usize
    }

    /// The chunk of a row. The inverse is too large by less than 1, so the
    /// product by less than 2^32 / 2^64 of a row: never enough for the next
    /// whole number.
    #[inline]
    fn chunk(self, row: Row) -> u32 {
        ((u128::from(row) * u128::from(self.inverse)) >> 64) as u32
    }

    #[inline]
    fn place(self, row: Row) -> (usize, usize) {
        let chunk = self.chunk(row);
        (chunk as usize, (row - chunk * self.rows) as usize * self.stride)
    }
}

/// Whole cache lines when that wastes at most an eighth, else 16-byte steps.
fn stride(floats: usize) -> usize {
    let lines = floats.next_multiple_of(LINE);
    if (lines - floats) * 8 <= floats { lines } else { floats.next_multiple_of(4) }
}

/// The rows as of one moment: cheap to clone, readable from any thread.
#[derive(Clone, Debug)]
pub(crate) struct MatrixView {
    chunks: Arc<Vec<Arc<AlignedFloats>>>,
    shape: Shape,
}

impl MatrixView {
    /// The vector of a row, as it was put in.
    ///
    /// # Panics
    /// When the row was never allocated in this view.
    #[inline]
    pub(crate) fn row(&self, row: Row) -> &[f32] {
        let (chunk, at) = self.shape.place(row);
        self.chunks[chunk].read(at, self.shape.dim)
    }

    /// The factor that normalises the row: 1 / length under cosine, else 1.
    #[inline]
    pub(crate) fn scale(&self, row: Row) -> f32 {
        let (chunk, at) = self.shape.place(row);
        self.chunks[chunk].read(at + self.shape.dim, 1)[0]
    }

    /// Rows that have memory in this view.
    pub(crate) fn capacity(&self) -> usize {
        match self.chunks.as_slice() {
            [] => 0,
            [only] => only.len() / self.shape.stride,
            chunks => chunks.len() * self.shape.chunk_rows(),
        }
    }

    /// Bytes of all chunks.
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.bytes()).sum()
    }
}

/// The writer's side of the matrix.
#[derive(Debug)]
pub(crate) struct Matrix {
    view: MatrixView,
}

impl Matrix {
    pub(crate) fn new(dim: usize) -> Matrix {
        Matrix { view: MatrixView { chunks: Arc::default(), shape: Shape::new(dim) } }
    }

    /// The rows as they stand; later rows need a later view.
    pub(crate) fn view(&self) -> &MatrixView {
        &self.view
    }

    /// Makes sure that `row` has memory.
    ///
    /// # Errors
    /// [`OutOfMemory`] when the allocator refuses; nothing has changed then.
    pub(crate) fn reserve(&mut self, row: Row) -> Result<(), OutOfMemory> {
        while self.view.capacity() <= row as usize {
            self.grow()?;
        }
        Ok(())
    }

    fn grow(&mut self) -> Result<(), OutOfMemory> {
        let shape = self.view.shape;
        let capacity = self.view.capacity();
        let mut chunks = Vec::clone(&self.view.chunks);
        if capacity < shape.chunk_rows() {
            let rows = (capacity * 2).clamp(FIRST_ROWS, shape.chunk_rows());
            let bigger = allocate(rows * shape.stride)?;
            if let Some(smaller) = chunks.pop() {
                // SAFETY: nobody else knows the new chunk yet.
                unsafe { bigger.write(0, smaller.read(0, smaller.len())) };
            }
            chunks.push(Arc::new(bigger));
        } else {
            chunks.push(Arc::new(allocate(shape.chunk_rows() * shape.stride)?));
        }
        self.view.chunks = Arc::new(chunks);
        Ok(())
    }

    /// The first row after the chunk that holds `row`.
    pub(crate) fn chunk_end(&self, row: Row) -> Row {
        (self.view.shape.chunk(row) + 1).saturating_mul(self.view.shape.rows)
    }

    /// Gives back the chunks of which no row below `rows` is a part; gives the
    /// first row that has no memory any more. Views taken before keep theirs.
    pub(crate) fn truncate(&mut self, rows: Row) -> Row {
        let kept = rows.div_ceil(self.view.shape.rows) as usize;
        if kept < self.view.chunks.len() {
            self.view.chunks = Arc::new(self.view.chunks[..kept].to_vec());
        }
        self.view.capacity() as Row
    }

    /// Gives the chunk of `row` a copy of its own, so that views taken before
    /// keep what they saw when the row is written again.
    ///
    /// # Errors
    /// [`OutOfMemory`] when the allocator refuses; nothing has changed then.
    pub(crate) fn detach(&mut self, row: Row) -> Result<(), OutOfMemory> {
        let (at, _) = self.view.shape.place(row);
        let mut chunks = Vec::clone(&self.view.chunks);
        let old = &chunks[at];
        let copy = allocate(old.len())?;
        // SAFETY: nobody else knows the new chunk yet.
        unsafe { copy.write(0, old.read(0, old.len())) };
        chunks[at] = Arc::new(copy);
        self.view.chunks = Arc::new(chunks);
        Ok(())
    }

    /// Puts a vector and its scale into a row that has memory.
    ///
    /// # Safety
    /// No thread reads the row meanwhile: either no view that anybody holds
    /// can reach it, or the row's chunk was detached after the last such view.
    ///
    /// # Panics
    /// When the row has no memory or the length is not the dimension.
    pub(crate) unsafe fn write(&mut self, row: Row, vector: &[f32], scale: f32) {
        let shape = self.view.shape;
        assert_eq!(vector.len(), shape.dim);
        let (chunk, at) = shape.place(row);
        let chunk = &self.view.chunks[chunk];
        // SAFETY: the ranges belong to this row alone, which the caller keeps
        // others from reading.
        unsafe {
            chunk.write(at, vector);
            chunk.write(at + shape.dim, &[scale]);
        }
    }
}

fn allocate(floats: usize) -> Result<AlignedFloats, OutOfMemory> {
    AlignedFloats::zeroed(floats).ok_or(OutOfMemory { bytes: floats.saturating_mul(size_of::<f32>()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(dim: usize, rows: u32) -> Matrix {
        let mut matrix = Matrix::new(dim);
        for row in 0..rows {
            matrix.reserve(row).unwrap();
            // SAFETY: single thread, no view is read meanwhile.
            unsafe { matrix.write(row, &vec![row as f32; dim], 0.5) };
        }
        matrix
    }

    #[test]
    fn rows_keep_their_vectors_over_many_chunks() {
        let matrix = filled(300, 10_000);
        for row in [0, 63, 64, 2_047, 2_048, 9_999] {
            assert_eq!(matrix.view().row(row), vec![row as f32; 300]);
            assert_eq!(matrix.view().scale(row), 0.5);
        }
    }

    #[test]
    fn a_view_keeps_its_rows_while_the_matrix_grows_and_detaches() {
        let mut matrix = filled(8, 10);
        let before = matrix.view().clone();
        matrix.reserve(100_000).unwrap();
        matrix.detach(3).unwrap();
        // SAFETY: the chunk was detached from `before`.
        unsafe { matrix.write(3, &[9.0; 8], 1.0) };
        assert_eq!((before.row(3), matrix.view().row(3)), (&[3.0; 8][..], &[9.0; 8][..]));
        assert_eq!(matrix.view().row(9), [9.0; 8]);
    }

    #[test]
    fn small_matrices_take_little_memory() {
        assert!(filled(768, 10).view().bytes() <= 64 * (768 + 16) * 4);
    }

    #[test]
    fn every_row_has_its_own_place_in_a_chunk() {
        for dim in [1, 2, 7, 64, 100, 784, 1_536, 65_536] {
            let shape = Shape::new(dim);
            let rows = shape.rows;
            let edges = (0..5).map(|chunk| chunk * rows).chain([u32::MAX / rows * rows, 1 << 31]);
            for row in edges.flat_map(|edge| [edge.saturating_sub(1), edge, edge + 1]) {
                let (chunk, at) = shape.place(row);
                assert_eq!((chunk, at), ((row / rows) as usize, (row % rows) as usize * shape.stride));
            }
        }
    }

    #[test]
    fn strides_waste_at_most_an_eighth() {
        for floats in 1..2_000 {
            assert!(stride(floats) - floats < 4 || (stride(floats) - floats) * 8 <= floats);
        }
    }
}
