//! The last word: exact distances of the best rows by estimate.
//!
//! How many rows need one is decided by what is seen: estimates err alike for
//! all candidates of one query, so the errors of the rows measured first tell
//! how far below its estimate a further row may still be. Re-ranking ends with
//! the first row that would need to be nearer than that.

use super::{Effort, Ends, Points, Request, Scratch, flat};
use crate::id::Row;
use crate::memory;
use crate::metric::Metric;
use crate::neighbor::{Neighbor, TopK};
use crate::stop::Stop;
use crate::vector::BLOCK;

/// Rows measured at a time once k are known: few are measured in vain.
pub(super) const STEP: usize = 2;

/// Standard deviations of the estimate's error that a row is given when ef is
/// k, and more for each doubling of ef: who searches more broadly also wants
/// fewer rows to be lost here. Fashion-MNIST, against 1.5 deviations throughout:
/// recall 0.942 for 0.947 at ef 8, 0.995 for 0.990 at ef 40.
const LEAST_ALLOWANCE: f32 = 1.25;
const ALLOWANCE_A_DOUBLING: f32 = 0.75;

/// Candidates that are measured at least when a search is cut short.
const LEAST_SHOWN: usize = 16;

/// Errors that must be known before they are trusted.
const KNOWN: f32 = 8.0;

/// Squared distances are how many times the distances of the metric.
pub(super) fn scale(metric: Metric) -> f32 {
    match metric {
        Metric::L2 | Metric::Dot => 1.0,
        Metric::Cosine => 2.0,
    }
}

/// What is known of the errors of the estimates.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Errors {
    /// Estimates are right on average. Those of the best by estimate are then
    /// too low because these were chosen for it: the mean of their errors says
    /// nothing about the others.
    unbiased: bool,
    count: f32,
    sum: f64,
    /// Of squared distances, once more squared: no `f32` has room for it.
    squares: f64,
    /// The estimate and the distance of the last row.
    last: Option<(f32, f32)>,
}

impl Errors {
    /// Whether they are known well enough to go by.
    fn are_known(&self) -> bool {
        self.count >= KNOWN
    }

    /// A row was measured. Copies of one vector, which come one after the other, err once. (Where estimates are exact
    /// there may be many equal ones that are no copies.)
    fn add(&mut self, estimate: f32, distance: f32) {
        let error = distance - estimate;
        let is_copy = self.last.replace((estimate, distance)) == Some((estimate, distance));
        if is_copy && error != 0.0 {
            return;
        }
        self.count += 1.0;
        self.sum += f64::from(error);
        self.squares += f64::from(error) * f64::from(error);
    }

    /// How far below its estimate a row may be.
    fn allowance(&self, deviations: f32) -> f32 {
        if !self.are_known() {
            return f32::INFINITY;
        }
        let mean = if self.unbiased { 0.0 } else { self.sum / f64::from(self.count) };
        let variance = self.squares / f64::from(self.count) - mean * mean;
        if !variance.is_finite() {
            return f32::INFINITY;
        }
        let variance = variance.max(0.0);
        deviations * variance.sqrt() as f32 - mean as f32
    }
}

/// Bytes of vectors that are asked for at a time: half of a level-1 cache, so
/// that none is gone again before it is read.
const BYTES_AHEAD: usize = 16 * 1024;

/// Re-ranking of `scratch.candidates`, which ascend by estimate. What
/// `scratch.errors` says already is taken for true: whoever begins something
/// else empties it.
pub(super) struct Rerank {
    /// Standard deviations that a row is given.
    deviations: f32,
    /// Rows measured at a time once k are known.
    step: usize,
    at: usize,
    /// One past the last candidate that was asked for.
    end: usize,
}

impl Rerank {
    pub(super) fn new(points: Points<'_>, request: &Request<'_>, step: usize, scratch: &Scratch) -> Rerank {
        let breadth = request.ef as f32 / request.k as f32;
        let deviations = LEAST_ALLOWANCE + breadth.max(1.0).log2() * ALLOWANCE_A_DOUBLING;
        let mut rerank = Rerank { deviations, step, at: 0, end: 0 };
        rerank.ask(points, request, scratch);
        rerank
    }

    /// The first candidate that was not measured.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Asks the processor for the vectors of the next part.
    fn ask(&mut self, points: Points<'_>, request: &Request<'_>, scratch: &Scratch) {
        // Nearly always all rows are of one format.
        let bytes = scratch.candidates.get(self.at).map_or(1, |near| points.vectors.row_bytes(near.row));
        let most = (BYTES_AHEAD / bytes).clamp(STEP, BLOCK).max(self.step);
        // Who knows k rows and the errors already looks at each row before the next.
        let knows = request.bound.is_finite() && scratch.errors.are_known();
        let step = if self.at < request.k && !knows { most.min(request.k - self.at) } else { self.step };
        self.end = scratch.candidates.len().min(self.at + step);
        for near in &scratch.candidates[self.at..self.end] {
            points.vectors.prefetch(near.row);
        }
    }

    /// Measures a part and offers it to `found`; none at the end.
    pub(super) fn advance(
        mut self,
        points: Points<'_>,
        request: &Request<'_>,
        scratch: &mut Scratch,
        found: &mut TopK,
        effort: &mut Effort,
    ) -> Option<Rerank> {
        let unit = scale(points.space.metric());
        let bound = found.bound().min(request.bound);
        let Scratch { candidates, rows, distances, errors, .. } = &mut *scratch;
        memory::resize(distances, BLOCK, 0.0);
        let part = &candidates[self.at..self.end];
        rows.clear();
        memory::extend(rows, part.iter().map(|near| near.row));
        points.space.distances(request.query, points.vectors, rows, bound, distances);
        for (near, distance) in part.iter().zip(distances.iter()) {
            if *distance <= bound {
                errors.add(near.distance, *distance * unit);
                found.offer(Neighbor { distance: *distance, row: near.row });
            }
        }
        effort.distances += part.len() as u64;
        self.at = self.end;
        let next = candidates.get(self.at)?;
        let bound = found.bound().min(request.bound);
        if bound.is_finite() && next.distance - errors.allowance(self.deviations) > bound * unit {
            return None;
        }
        self.ask(points, request, scratch);
        Some(self)
    }
}

/// Measures `scratch.candidates`, which are rows and ascend by estimate, as far
/// as it takes, `step` at a time once k are known. `unbiased`: the estimates are
/// right on average, and err much.
pub(super) fn rerank(
    points: Points<'_>,
    request: &Request<'_>,
    (step, unbiased): (usize, bool),
    scratch: &mut Scratch,
    found: &mut TopK,
    effort: &mut Effort,
) {
    if scratch.candidates.is_empty() {
        return;
    }
    scratch.errors = Errors { unbiased, ..Errors::default() };
    let mut next = Some(Rerank::new(points, request, step, scratch));
    while let Some(rerank) = next {
        if request.ends.are_due(effort.distances) {
            return measure_few(points, request, rerank.at(), scratch, found, effort);
        }
        next = rerank.advance(points, request, scratch, found, effort);
    }
}

/// Ends a search whose time or work is used up: a few of the candidates, from
/// one on, are measured all the same, to have something to show.
#[cold]
pub(super) fn measure_few(
    points: Points<'_>,
    request: &Request<'_>,
    from: usize,
    scratch: &mut Scratch,
    found: &mut TopK,
    effort: &mut Effort,
) {
    let few = request.ends.stop.map_or(0, Stop::grace).max(LEAST_SHOWN);
    let rows: Vec<Row> = memory::collect(scratch.candidates.iter().skip(from).take(few).map(|near| near.row));
    let unlimited = Request { admit: None, filter: None, ends: Ends::default(), ..*request };
    effort.distances += flat::scan_rows(rows.into_iter(), points, &unlimited, scratch, found);
}

#[cfg(test)]
mod tests {
    use super::*;

    // Ten copies of one vector err alike: re-ranking ended with them, although the next was nearer.
    #[test]
    fn copies_of_one_vector_err_once() {
        let mut errors = Errors::default();
        (0..10).for_each(|_| errors.add(1.0, 1.02));
        assert!(!errors.are_known() && errors.allowance(1.25) == f32::INFINITY);
        (0..7).for_each(|at| errors.add(1.0, 1.0 + at as f32 * 0.01));
        assert!(errors.are_known() && errors.allowance(1.25).is_finite());
        errors.add(f32::NEG_INFINITY, 1.0);
        assert_eq!(errors.allowance(1.25), f32::INFINITY);
    }
}
