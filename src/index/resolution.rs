//! Whether codes are fine enough for a collection.
//!
//! A walk by codes can only find what codes let it see: neighbours that are
//! nearer to one another than a step of the codes all look alike. Real
//! collections spread along many directions and their nearest rows are far
//! apart as steps go; the points of a line, a circle or two far groups are not.
//! So it is tried: some rows are asked for, and their nearest must stand among
//! the first by estimate, where re-ranking finds them.

use super::parallel::parallel_map;
use super::{Coding, Executor, Points};
use crate::id::Row;
use crate::memory;
use crate::metric::Metric;
use crate::neighbor::{Neighbor, TopK};
use crate::pause::pause;
use crate::quant::{CodeQuery, Codec, Encoder, Measure};

/// Rows that are asked for: 320 neighbours tell a share of 0.8 from one of 0.95.
const QUERIES: usize = 32;

/// The nearest of each that count.
const NEAREST: usize = 10;

/// The first by estimate among which they must be: as many as the default
/// breadth of a search looks at.
const FRONT: usize = 64;

/// The share of the nearest that must stand there: no search of that breadth
/// finds a larger one, and a walk finds less, because its links were chosen by
/// codes as well. Real collections have 0.99 to 1.00 (60,000 images, 100,000
/// word vectors, as many text embeddings, factors of films), 20,000 numbers in a
/// row 0.8 (a graph finds 0.75 of them), points of a circle 0.4 (0.46), of two
/// balls 40,000 times as far apart as they are wide 0.0 (0.0).
const ENOUGH: f32 = 0.9;

/// The same of codes whose size was said, or follows from a memory budget: they are
/// coarse on purpose, for less memory, and a broader search makes up for it. It
/// does not where they see next to nothing.
const ENOUGH_OF_FIXED: f32 = 0.5;

/// Where codes were too coarse before: they must be better by so much, or a
/// collection at the bound would change to and fro.
const CLEARLY: f32 = 0.05;

/// Distances that differ by less are equal but for rounding.
const ROUNDING: f32 = 1e-6;

/// Rows that are looked at, at most, evenly spread: a tenth of a second's work
/// for each 100 dimensions, and what building a graph of so many takes is a
/// hundred times that.
const ROWS: usize = 1 << 17;

/// Rows that one task takes in a piece.
const PIECE: usize = 256;

/// Rows whose codes are compared in one call.
const CALL: usize = 32;

/// What one query has found.
#[derive(Default)]
struct Found {
    /// The nearest rows.
    nearest: TopK,
    /// The first by estimate.
    front: TopK,
}

/// A row that is asked for.
struct Asked {
    row: Row,
    vector: Vec<f32>,
    code: CodeQuery,
}

/// The working memory of a task, and what it found for each query.
struct Worker {
    found: Vec<Found>,
    encoder: Encoder,
    prepared: Vec<f32>,
    words: Vec<u32>,
    bytes: Vec<u8>,
    distances: [f32; CALL],
}

impl Worker {
    fn new(queries: usize, codec: &Codec) -> Worker {
        let mut found: Vec<Found> = memory::list(queries);
        found.resize_with(queries, Found::default);
        for found in &mut found {
            found.nearest.reset(NEAREST);
            found.front.reset(FRONT);
        }
        Worker {
            found,
            encoder: Encoder::default(),
            prepared: Vec::new(),
            words: memory::filled(0, codec.shape().words()),
            bytes: Vec::new(),
            distances: [0.0; CALL],
        }
    }

    /// Shows at most [`CALL`] rows to all queries.
    fn show(&mut self, codec: &Codec, points: Points<'_>, asked: &[Asked], rows: &[Row]) {
        let Points { space, vectors } = points;
        self.bytes.clear();
        for row in rows {
            space.prepare_row(vectors, *row, &mut self.prepared);
            codec.encode(&self.prepared, *row, &mut self.encoder, &mut self.words);
            for word in &self.words {
                memory::append(&mut self.bytes, &word.to_ne_bytes());
            }
        }
        let mut codes: [&[u8]; CALL] = [&[]; CALL];
        let size = size_of_val(self.words.as_slice());
        codes.iter_mut().zip(self.bytes.chunks_exact(size)).for_each(|(code, bytes)| *code = bytes);
        let distances = &mut self.distances[..rows.len()];
        for (asked, found) in asked.iter().zip(&mut self.found) {
            space.distances(&asked.vector, vectors, rows, found.nearest.bound(), distances);
            offer(&mut found.nearest, asked.row, rows, distances);
            codec.estimates(&asked.code, &codes[..rows.len()], distances);
            offer(&mut found.front, asked.row, rows, distances);
        }
    }
}

/// Offers all rows but one.
fn offer(top: &mut TopK, except: Row, rows: &[Row], distances: &[f32]) {
    for (row, distance) in rows.iter().zip(distances).filter(|(row, _)| **row != except) {
        top.offer(Neighbor { distance: *distance, row: *row });
    }
}

/// Every so-manieth of `rows`, at most so many of them.
fn spread(rows: &[Row], most: usize) -> Vec<Row> {
    memory::collect(rows.iter().copied().step_by(rows.len().div_ceil(most).max(1)))
}

/// What was found out before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    Fine,
    Coarse,
}

/// Whether enough of the nearest of `rows` stand in front by the codes of `codec`.
pub(super) fn is_fine(
    codec: &Codec,
    (coding, before): (Coding, Before),
    points: Points<'_>,
    rows: &[Row],
    executor: &dyn Executor,
) -> bool {
    let enough = match coding {
        Coding::Measured => ENOUGH,
        Coding::Fixed(_) => ENOUGH_OF_FIXED,
    };
    let enough = if before == Before::Coarse { enough + CLEARLY } else { enough };
    share_in_front(codec, points, rows, executor) >= enough
}

/// The share of the nearest that stand among the first by estimate. Linear in
/// the number of rows; the same for any number of threads.
pub(super) fn share_in_front(
    codec: &Codec,
    points: Points<'_>,
    rows: &[Row],
    executor: &dyn Executor,
) -> f32 {
    let rows = spread(rows, ROWS);
    let measure = match points.space.metric() {
        Metric::L2 | Metric::Cosine => Measure::SquaredL2,
        Metric::Dot => Measure::NegatedDot,
    };
    let asked: Vec<Asked> = memory::collect(spread(&rows, QUERIES).into_iter().map(|row| {
        let (mut vector, mut code) = (Vec::new(), CodeQuery::default());
        points.space.prepare_row(points.vectors, row, &mut vector);
        codec.prepare(&vector, measure, &mut code);
        Asked { row, vector, code }
    }));
    let mut workers: Vec<Worker> =
        (0..executor.width().max(1)).map(|_| Worker::new(asked.len(), codec)).collect();
    parallel_map(executor, rows.len().div_ceil(PIECE), &mut workers, |piece, worker| {
        let rows = &rows[piece * PIECE..rows.len().min((piece + 1) * PIECE)];
        for rows in rows.chunks(CALL) {
            pause();
            worker.show(codec, points, &asked, rows);
        }
    });
    // Cosine distances are small differences of numbers about 1.
    let unit = if points.space.metric() == Metric::Cosine { 1.0 } else { 0.0 };
    let (mut hits, mut sought) = (0, 0);
    for (at, asked) in asked.iter().enumerate() {
        let (mut nearest, mut front) = (TopK::default(), TopK::default());
        nearest.reset(NEAREST);
        front.reset(FRONT);
        for found in workers.iter_mut().map(|worker| &mut worker.found[at]) {
            found.nearest.sorted().iter().for_each(|row| nearest.offer(*row));
            found.front.sorted().iter().for_each(|row| front.offer(*row));
        }
        let bound = nearest.bound() + ROUNDING * nearest.bound().abs().max(unit);
        let distance = |row| points.space.distance(&asked.vector, points.vectors, row);
        // Rows as near as the last of the nearest are no worse an answer.
        let found = front.sorted().iter().filter(|row| distance(row.row) <= bound).count();
        let most = NEAREST.min(rows.len() - 1);
        hits += found.min(most);
        sought += most;
    }
    if sought == 0 { 1.0 } else { hits as f32 / sought as f32 }
}
