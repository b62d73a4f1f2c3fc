//! A growing matrix of vectors: one writer, any number of readers.
//!
//! Rows stand in chunks of a fixed number of rows. A full chunk never moves, so a
//! view that was taken once stays valid however much is added. The last chunk
//! grows by an eighth of all rows at most, so that little room is empty: where it
//! stands, if it has the addresses for it (then it takes whole huge pages), or by a copy,
//! and views of the smaller one keep that alive.
//!
//! All rows of a chunk have one [`Format`]. A vector that does not fit has its
//! chunk copied into a wider one first; later chunks start as wide. So a
//! matrix of vectors that need floats is written as floats from its first row
//! on, and no chunk is copied for this more than twice.

use std::sync::{Arc, Weak};

use super::aligned::{AlignedBytes, taken};
use super::format::{Format, Stored, halves, near_steps, whole_steps};
use super::storage::VectorStorage;
use crate::id::Row;
use crate::kernel::{Element, Kernels, kernels, prefetch_all};
use crate::memory;
use crate::memory::{HUGE, Memory, is_mapped, room};
use crate::metric::Metric;

/// Bytes of a full chunk of floats: four huge pages, filled with as many rows as
/// fit. The same rows take a quarter of that or a little more as bytes: one huge
/// page at least. Few chunks too: the table of a million rows fits the
/// first-level cache.
const CHUNK_BYTES: usize = 4 * HUGE;

/// Rows of the smallest chunk.
const FIRST_ROWS: usize = 64;

/// A chunk that falls short of a huge page by so little takes a whole one.
const SHORT: usize = HUGE / 32;

/// Bytes of the smallest chunk that grows where it stands: one of little more than a huge page
/// would be taken whole with its first row.
const GROWING: usize = HUGE + HUGE / 2;

/// The allocator had no memory for another chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfMemory {
    pub(crate) bytes: usize,
}

/// How rows lie in chunks, whatever their format.
#[derive(Clone, Copy, Debug)]
struct Shape {
    dim: usize,
    /// Rows of a full chunk.
    rows: u32,
    /// 2^64 / `rows`, rounded up.
    inverse: u64,
}

impl Shape {
    fn new(dim: usize) -> Shape {
        let rows = (CHUNK_BYTES / Format::Full.stride(dim)).max(FIRST_ROWS) as u32;
        Shape { dim, rows, inverse: u64::MAX / u64::from(rows) + 1 }
    }

    fn chunk_rows(self) -> usize {
        self.rows as usize
    }

    /// Rows that a chunk of `rows` gets addresses for, and memory as they are first touched. The first chunk
    /// gets none to spare, so that small matrices take little; nor does one of little more than a huge page.
    fn reach(self, number: usize, rows: usize, stride: usize) -> usize {
        let whole = self.chunk_rows();
        let bytes = whole.saturating_mul(stride);
        if number > 0 && bytes >= GROWING && is_mapped(bytes) { whole } else { rows }
    }

    /// The chunk of a row. The inverse is too large by less than 1, so the
    /// product by less than 2^32 / 2^64 of a row: never enough for the next
    /// whole number.
    #[inline]
    fn chunk(self, row: Row) -> u32 {
        ((u128::from(row) * u128::from(self.inverse)) >> 64) as u32
    }

    /// The chunk of a row, and its number in it.
    #[inline]
    fn place(self, row: Row) -> (usize, usize) {
        let chunk = self.chunk(row);
        (chunk as usize, (row - chunk * self.rows) as usize)
    }
}

/// Bytes of the largest matrix that holds `rows` rows of a format of which one
/// takes `stride` bytes, and of one copy of its largest chunk.
pub(crate) fn matrix_bytes(dim: usize, rows: usize, stride: usize) -> (usize, usize) {
    let shape = Shape::new(dim);
    let full = shape.chunk_rows();
    let rows = room(rows, FIRST_ROWS, full);
    let (whole, rest) = (rows / full, rows % full);
    let chunk = |number: usize, rows: usize| bytes_of(shape, number, rows, stride);
    let copy = if whole > 0 { chunk(0, full) } else { chunk(0, rest) };
    (whole.saturating_mul(chunk(0, full)).saturating_add(if rest > 0 { chunk(whole, rest) } else { 0 }), copy)
}

/// Bytes that a chunk with room for so many rows takes.
fn bytes_of(shape: Shape, number: usize, rows: usize, stride: usize) -> usize {
    let bytes = |rows: usize| asked(rows.saturating_mul(stride));
    taken(bytes(rows), Memory::bytes_for(bytes(shape.reach(number, rows, stride))))
}

/// What is asked of the allocator for so many bytes.
fn asked(bytes: usize) -> usize {
    if (HUGE - SHORT..HUGE).contains(&bytes) { HUGE } else { bytes }
}

/// Rows of one format.
#[derive(Debug)]
struct Chunk {
    buffer: AlignedBytes,
    format: Format,
    /// Bytes from one row to the next.
    stride: usize,
    rows: usize,
}

impl Chunk {
    /// The chunk of a number, with room for `rows` rows.
    fn new(shape: Shape, number: usize, format: Format, rows: usize) -> Result<Chunk, OutOfMemory> {
        let stride = format.stride(shape.dim);
        let bytes = rows.saturating_mul(stride);
        let most = shape.reach(number, rows, stride).saturating_mul(stride);
        let mut buffer = AlignedBytes::zeroed(asked(bytes), asked(most));
        if buffer.is_none() && most > bytes {
            // Where addresses count as memory there may be none to spare.
            buffer = AlignedBytes::zeroed(asked(bytes), asked(bytes));
        }
        Ok(Chunk { buffer: buffer.ok_or(OutOfMemory { bytes })?, format, stride, rows })
    }

    /// The same rows in the same place, and room for `rows` of them; `None` where there are no addresses for it.
    fn grown(&self, rows: usize) -> Option<Chunk> {
        let buffer = self.buffer.grown(asked(rows.saturating_mul(self.stride)))?;
        Some(Chunk { buffer, format: self.format, stride: self.stride, rows })
    }

    /// A copy with room for `rows` rows.
    fn copy(&self, shape: Shape, number: usize, rows: usize) -> Result<Chunk, OutOfMemory> {
        let copy = Chunk::new(shape, number, self.format, rows)?;
        let bytes = self.buffer.len().min(copy.buffer.len());
        // SAFETY: nobody else knows the new chunk yet.
        unsafe { copy.buffer.write(0, self.buffer.read::<u8>(0, bytes)) };
        Ok(copy)
    }

    #[inline]
    fn stored<T: Stored>(&self, at: usize, dim: usize) -> &[T] {
        self.buffer.read(at * self.stride, dim + T::HEADER)
    }

    #[inline]
    fn scale(&self, at: usize, dim: usize) -> f32 {
        self.buffer.read::<f32>(at * self.stride + self.format.scale_at(dim), 1)[0]
    }
}

/// The rows as of one moment: cheap to clone, readable from any thread.
#[derive(Clone, Debug)]
pub(crate) struct MatrixView {
    chunks: Arc<Vec<Arc<Chunk>>>,
    shape: Shape,
    kernels: Kernels,
}

impl MatrixView {
    /// The format of a row.
    ///
    /// # Panics
    /// As all that take a row: when it was never allocated in this view.
    #[inline]
    pub(crate) fn format(&self, row: Row) -> Format {
        self.chunks[self.shape.place(row).0].format
    }

    /// A row as it is stored; none when it has another format.
    #[inline]
    pub(super) fn stored<T: Stored>(&self, row: Row) -> Option<&[T]> {
        let (chunk, at) = self.shape.place(row);
        let chunk = &self.chunks[chunk];
        (chunk.format == T::FORMAT).then(|| chunk.stored(at, self.shape.dim))
    }

    /// The vector of a row, where it is stored as floats.
    #[inline]
    pub(crate) fn floats(&self, row: Row) -> Option<&[f32]> {
        self.stored(row)
    }

    /// All that is stored of a row.
    #[inline]
    fn bytes_of(&self, row: Row) -> &[u8] {
        let (chunk, at) = self.shape.place(row);
        let chunk = &self.chunks[chunk];
        chunk.buffer.read(at * chunk.stride, chunk.format.used(self.shape.dim))
    }

    /// How many bytes are stored of a row.
    pub(crate) fn row_bytes(&self, row: Row) -> usize {
        self.format(row).used(self.shape.dim)
    }

    /// Asks the processor for all that is stored of a row.
    #[inline]
    pub(crate) fn prefetch(&self, row: Row) {
        prefetch_all(self.bytes_of(row));
    }

    /// The vector of a row: what was put in, or what a storage that rounds
    /// made of it.
    pub(crate) fn vector(&self, row: Row) -> Vec<f32> {
        let mut vector = Vec::new();
        self.copy(row, &mut vector);
        vector
    }

    /// The same in a vector that is there already.
    pub(crate) fn copy(&self, row: Row, vector: &mut Vec<f32>) {
        let (chunk, at) = self.shape.place(row);
        memory::resize(vector, self.shape.dim, 0.0);
        copy(&self.chunks[chunk], at, &self.kernels, vector);
    }

    /// The sum of the squares of a row, in order.
    pub(crate) fn squared_length(&self, row: Row) -> f32 {
        fn sum<T: Element>(row: &[T]) -> f32 {
            T::numbers(row).map(|x| x * x).sum()
        }
        let ((chunk, at), dim) = (self.shape.place(row), self.shape.dim);
        let chunk = &self.chunks[chunk];
        match chunk.format {
            Format::Bytes => sum(chunk.stored::<u8>(at, dim)),
            Format::Half => sum(chunk.stored::<u16>(at, dim)),
            Format::Full => sum(chunk.stored::<f32>(at, dim)),
        }
    }

    /// The factor that normalises the row: 1 / length under cosine, else 1.
    #[inline]
    pub(crate) fn scale(&self, row: Row) -> f32 {
        let (chunk, at) = self.shape.place(row);
        self.chunks[chunk].scale(at, self.shape.dim)
    }

    /// Rows that have memory in this view.
    pub(crate) fn capacity(&self) -> usize {
        match self.chunks.as_slice() {
            [] => 0,
            [full @ .., last] => full.len() * self.shape.chunk_rows() + last.rows,
        }
    }

    /// Bytes of all chunks of a format.
    pub(crate) fn bytes(&self, format: Format) -> usize {
        let chunks = self.chunks.iter().filter(|chunk| chunk.format == format);
        chunks.map(|chunk| chunk.buffer.bytes()).sum()
    }
}

fn copy(chunk: &Chunk, at: usize, kernels: &Kernels, vector: &mut [f32]) {
    match chunk.format {
        Format::Bytes => (kernels.bytes.widen)(chunk.stored(at, vector.len()), vector),
        Format::Half => (kernels.half.widen)(chunk.stored(at, vector.len()), vector),
        Format::Full => vector.copy_from_slice(chunk.stored(at, vector.len())),
    }
}

/// The writer's side of the matrix.
#[derive(Debug)]
pub(crate) struct Matrix {
    view: MatrixView,
    /// The format of new chunks: the widest that was needed so far.
    widest: Format,
    rounding: Rounding,
    /// What only views taken before have.
    replaced: Vec<Replaced>,
    /// The row that is being written.
    encoded: Encoded,
}

/// The memory of a chunk that was replaced.
#[derive(Debug)]
struct Replaced {
    memory: Weak<Memory>,
    format: Format,
    bytes: usize,
}

/// What is done with vectors that do not fit bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rounding {
    /// They have their chunk made wider.
    None,
    /// They are rounded...
    Rounded,
    /// ...and get the scale of the rounded vector.
    Rescaled,
}

/// A row of a format that is not floats.
#[derive(Debug, Default)]
struct Encoded {
    bytes: Vec<u8>,
    halves: Vec<u16>,
}

impl Matrix {
    pub(crate) fn new(dim: usize, storage: VectorStorage, metric: Metric) -> Matrix {
        let bytes_pay = Format::Bytes.pays(dim);
        let rounding = match storage {
            VectorStorage::Byte if bytes_pay && metric == Metric::Cosine => Rounding::Rescaled,
            VectorStorage::Byte if bytes_pay => Rounding::Rounded,
            _ => Rounding::None,
        };
        Matrix {
            view: MatrixView { chunks: Arc::default(), shape: Shape::new(dim), kernels: kernels() },
            widest: storage.narrowest(dim),
            rounding,
            replaced: Vec::new(),
            encoded: Encoded::default(),
        }
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
            self.grow(row as usize + 1)?;
        }
        Ok(())
    }

    /// Makes the last chunk larger, or adds one.
    fn grow(&mut self, needed: usize) -> Result<(), OutOfMemory> {
        let shape = self.view.shape;
        let full = shape.chunk_rows();
        let mut chunks = Vec::clone(&self.view.chunks);
        let short = chunks.pop_if(|last| last.rows < full);
        let number = chunks.len();
        let rows = (room(needed, FIRST_ROWS, full) - number * full).min(full);
        let (chunk, lost) = match short {
            None => (Chunk::new(shape, number, self.widest, rows)?, None),
            Some(short) => match short.grown(rows) {
                Some(grown) => (grown, None),
                None => (short.copy(shape, number, rows)?, Some(short)),
            },
        };
        chunks.push(Arc::new(chunk));
        self.view.chunks = Arc::new(chunks);
        self.lose(lost);
        Ok(())
    }

    /// Bytes from one row to the next where they are widest.
    pub(crate) fn stride(&self) -> usize {
        self.widest.stride(self.view.shape.dim)
    }

    /// The number of the chunk of a row: what `detach` copies.
    pub(crate) fn chunk_of(&self, row: Row) -> usize {
        self.view.shape.place(row).0
    }

    /// Gives back what the rows below `rows` do not need; gives the first row
    /// that has no memory any more. Views taken before keep theirs.
    pub(crate) fn truncate(&mut self, rows: Row) -> Row {
        let shape = self.view.shape;
        let full = shape.chunk_rows();
        let kept = (rows as usize).div_ceil(full);
        if kept < self.view.chunks.len() {
            let lost = self.view.chunks[kept..].to_vec();
            self.view.chunks = Arc::new(self.view.chunks[..kept].to_vec());
            self.lose(lost);
        }
        let needed = room(rows as usize, FIRST_ROWS, full);
        if needed < self.view.capacity()
            && let Some(last) = kept.checked_sub(1)
        {
            self.shrink(last, needed - last * full);
        }
        self.view.capacity() as Row
    }

    /// Gives a chunk no more room than for so many rows, if that gives memory back. Without memory for a
    /// smaller copy the larger one stays.
    fn shrink(&mut self, number: usize, rows: usize) {
        let (shape, chunk) = (self.view.shape, &self.view.chunks[number]);
        if bytes_of(shape, number, rows, chunk.stride) < chunk.buffer.bytes()
            && let Ok(smaller) = chunk.copy(shape, number, rows)
        {
            self.replace(number, smaller);
        }
    }

    /// Gives the chunk of `row` a copy of its own, so that views taken before
    /// keep what they saw when the row is written again.
    ///
    /// # Errors
    /// [`OutOfMemory`] when the allocator refuses; nothing has changed then.
    pub(crate) fn detach(&mut self, row: Row) -> Result<(), OutOfMemory> {
        let at = self.chunk_of(row);
        let old = &self.view.chunks[at];
        let copy = old.copy(self.view.shape, at, old.rows)?;
        self.replace(at, copy);
        Ok(())
    }

    fn replace(&mut self, at: usize, chunk: Chunk) {
        let mut chunks = Vec::clone(&self.view.chunks);
        let before = std::mem::replace(&mut chunks[at], Arc::new(chunk));
        self.view.chunks = Arc::new(chunks);
        self.lose(Some(before));
    }

    /// Later views have these chunks no more; those from before may.
    fn lose(&mut self, chunks: impl IntoIterator<Item = Arc<Chunk>>) {
        self.replaced.retain(|replaced| replaced.memory.strong_count() > 0);
        self.replaced.extend(chunks.into_iter().map(|chunk| Replaced {
            memory: chunk.buffer.memory(),
            format: chunk.format,
            bytes: chunk.buffer.bytes(),
        }));
    }

    /// Bytes of chunks that only older views keep, of each format.
    pub(crate) fn kept_bytes(&self, format: Format) -> usize {
        let kept = self.replaced.iter().filter(|replaced| replaced.memory.strong_count() > 0);
        kept.filter(|replaced| replaced.format == format).map(|replaced| replaced.bytes).sum()
    }

    /// Puts a vector and its scale into a row that has memory. True when its
    /// chunk was replaced by a wider one, so that it is now detached from all
    /// views taken before.
    ///
    /// # Errors
    /// [`OutOfMemory`] when the allocator refuses; nothing has changed then.
    ///
    /// # Safety
    /// No thread reads the row meanwhile: either no view that anybody holds
    /// can reach it, or the row's chunk was detached after the last such view.
    ///
    /// # Panics
    /// When the row has no memory or the length is not the dimension.
    pub(crate) unsafe fn write(&mut self, row: Row, vector: &[f32], scale: f32) -> Result<bool, OutOfMemory> {
        assert_eq!(vector.len(), self.view.shape.dim);
        let (number, at) = self.view.shape.place(row);
        let mut format = self.view.chunks[number].format;
        while !self.encode(format, vector, scale) {
            format = wider(format);
        }
        let is_wider = format != self.view.chunks[number].format;
        if is_wider {
            let wider = self.widened(number, format)?;
            self.widest = self.widest.max(wider.format);
            format = wider.format;
            self.replace(number, wider);
            self.encode(format, vector, scale);
        }
        let (chunk, dim) = (&self.view.chunks[number], vector.len());
        // SAFETY: the row is in the chunk (`place`). Nobody reads it: no view
        // has a chunk that was just made, and of the old one the row is what
        // the caller keeps others from reading.
        unsafe { self.encoded.write(chunk, at, dim, vector, scale) };
        Ok(is_wider)
    }

    /// Whether a vector fits a format; its row is then in `encoded`, unless it
    /// would be a copy.
    fn encode(&mut self, format: Format, vector: &[f32], scale: f32) -> bool {
        match format {
            Format::Bytes => self.encoded.as_bytes(vector, scale, self.rounding),
            Format::Half => self.encoded.as_halves(vector),
            Format::Full => true,
        }
    }

    /// A copy of a chunk in a wider format: in a still wider one when a row
    /// that is there does not fit (bytes may count from an offset that halves
    /// do not hold).
    fn widened(&mut self, number: usize, format: Format) -> Result<Chunk, OutOfMemory> {
        let old = Arc::clone(&self.view.chunks[number]);
        let dim = self.view.shape.dim;
        let mut vector = memory::filled(0.0, dim);
        let mut format = format;
        'wider: loop {
            let chunk = Chunk::new(self.view.shape, number, format, old.rows)?;
            for at in 0..old.rows {
                copy(&old, at, &self.view.kernels, &mut vector);
                let scale = old.scale(at, dim);
                if !self.encode(format, &vector, scale) {
                    format = wider(format);
                    continue 'wider;
                }
                // SAFETY: nobody else knows the new chunk yet.
                unsafe { self.encoded.write(&chunk, at, dim, &vector, scale) };
            }
            return Ok(chunk);
        }
    }
}

fn wider(format: Format) -> Format {
    match format {
        Format::Bytes => Format::Half,
        Format::Half | Format::Full => Format::Full,
    }
}

impl Encoded {
    fn as_bytes(&mut self, vector: &[f32], scale: f32, rounding: Rounding) -> bool {
        memory::resize(&mut self.bytes, u8::HEADER + vector.len(), 0);
        let (header, codes) = self.bytes.split_at_mut(u8::HEADER);
        let exact = whole_steps(vector, codes).map(|offset| (offset, 1.0));
        if exact.is_none() && rounding == Rounding::None {
            return false;
        }
        let (offset, step) = exact.unwrap_or_else(|| near_steps(vector, codes));
        for (slot, float) in header.as_chunks_mut::<4>().0.iter_mut().zip([offset, step, scale, 0.0]) {
            *slot = float.to_ne_bytes();
        }
        if exact.is_none() && rounding == Rounding::Rescaled {
            let squares = u8::numbers(&self.bytes).map(|x| f64::from(x) * f64::from(x));
            let scale = (1.0 / squares.sum::<f64>().sqrt()) as f32;
            self.bytes[8..12].copy_from_slice(&scale.to_ne_bytes());
        }
        true
    }

    fn as_halves(&mut self, vector: &[f32]) -> bool {
        memory::resize(&mut self.halves, vector.len(), 0);
        halves(vector, &mut self.halves)
    }

    /// Puts the row, which was encoded in the format of the chunk, into a place.
    ///
    /// # Safety
    /// No thread reads the place meanwhile.
    unsafe fn write(&self, chunk: &Chunk, at: usize, dim: usize, vector: &[f32], scale: f32) {
        let (start, scale_at) = (at * chunk.stride, chunk.format.scale_at(dim));
        // SAFETY: the ranges belong to this row alone, which the caller keeps
        // others from reading.
        unsafe {
            match chunk.format {
                // The scale is in the header.
                Format::Bytes => return chunk.buffer.write(start, &self.bytes),
                Format::Half => chunk.buffer.write(start, &self.halves),
                Format::Full => chunk.buffer.write(start, vector),
            }
            chunk.buffer.write(start + scale_at, &[scale]);
        }
    }
}

#[cfg(test)]
mod tests;
