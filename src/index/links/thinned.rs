//! Beam search for rows that pass a filter, through them and a part of the others.
//!
//! A walk through all rows that counts only those that pass does 1 / share times
//! the work. Walking through those alone (the subgraph that they induce: ACORN,
//! Patel et al., SIGMOD 2024) works while enough links of each row lead to
//! others that pass. Here a part of the rest is walked through, too, so that the
//! graph keeps enough of its links. Which ones is a function of their numbers, so
//! that they are the same wherever they are met.

use super::beam::Walk;
use super::limits::Limits;
use crate::id::Row;
use crate::index::measure::Measure;
use crate::index::{Effort, Ends, RowFilter, Scratch};
use crate::memory;
use crate::vector::BLOCK;

/// The part of the rows that is walked through when a share of them passes: at
/// the same breadth a search finds as much as one without a filter. (With fewer
/// the list is exhausted sooner and finds less. Recall at ef 24 on GloVe and on
/// text embeddings, all rows: 0.987 and 0.978; half of the rows passing, 0.6,
/// 0.8 or all of them walked through: 0.972, 0.983, 0.991 and 0.949, 0.971,
/// 0.983; one in ten passing, 0.4, 0.6 or 0.8: 0.975, 0.990, 0.993 and 0.963,
/// 0.986, 0.992.)
#[inline(always)]
pub(crate) fn walked(share: f32) -> f32 {
    (0.5 + 0.8 * share).min(1.0)
}

/// Rows that the share of the whole collection counts for, beside those that
/// the walk meets: a filter may be rarer where the query is.
const PRIOR: f32 = 64.0;

/// What a walk knows of the share of rows that pass.
struct Share {
    met: f32,
    passed: f32,
}

impl Share {
    /// The part of the rows that do not pass to walk through, of 65,536.
    fn bridges(&self) -> u32 {
        let share = self.passed / self.met;
        let part = (walked(share) - share) / (1.0 - share).max(f32::EPSILON);
        (part.clamp(0.0, 1.0) * 65_536.0) as u32
    }
}

/// Whether a row that does not pass is walked through: a multiplicative hash
/// (Knuth) spreads neighbouring numbers.
#[inline(always)]
fn is_bridge(row: Row, bridges: u32) -> bool {
    row.wrapping_mul(0x9e37_79b1) >> 16 < bridges
}

impl<M: Measure> Walk<'_, M> {
    /// Beam search on layer 0. Afterwards `scratch.passing` holds the nearest
    /// rows that were met and pass, `limits.kept` of them. False when it gave up, since
    /// rows that pass are so rare that looking at each of them costs less, or met fewer.
    #[inline(always)]
    pub(in crate::index) fn thinned_beam(
        &self,
        limits: Limits,
        ends: Ends<'_>,
        (filter, passes): (RowFilter<'_>, impl Fn(Row) -> bool),
        scratch: &mut Scratch,
        effort: &mut Effort,
    ) -> bool {
        let waiting = limits.waiting(self.graph.held.len());
        self.start_thinned(limits.kept, &passes, scratch);
        let mut share = Share { met: PRIOR, passed: PRIOR * filter.share };
        while let Some(nearest) = scratch.pool.expand_next() {
            if ends.are_due(effort.distances) {
                return true;
            }
            if nearest.distance > limits.bound {
                let passing = &scratch.passing;
                let (useful, nearer) = (passing.within(limits.bound), passing.within(nearest.distance));
                if limits.are_reached(useful, nearer) {
                    return true;
                }
            }
            self.gather(0, nearest.row, scratch, effort);
            let own = self.sort_out(&passes, &mut share, scratch);
            self.measure_thinned(own, scratch);
            effort.distances += scratch.rows.len() as u64;
            scratch.pool.truncate_beyond(scratch.passing.bound());
            if scratch.pool.len() > waiting {
                return false;
            }
        }
        // With too few it was in a part of the graph that only rows lead out of that were
        // left out.
        scratch.passing.len() >= limits.kept
    }

    #[inline(always)]
    fn start_thinned(&self, kept: usize, passes: &impl Fn(Row) -> bool, scratch: &mut Scratch) {
        self.start(usize::MAX, scratch);
        memory::resize(&mut scratch.distances, BLOCK, 0.0);
        let Scratch { pool, passing, .. } = scratch;
        passing.reset(kept);
        for start in pool.iter().filter(|start| passes(start.row)) {
            passing.insert_all(self.measure.arch(), &[start.row], &[start.distance]);
        }
    }

    /// Leaves the new rows that are walked through in `scratch.rows`, first
    /// those that pass; gives the number of these.
    #[inline(always)]
    fn sort_out(&self, passes: &impl Fn(Row) -> bool, share: &mut Share, scratch: &mut Scratch) -> usize {
        let bridges = share.bridges();
        let Scratch { visited, rows, others, .. } = scratch;
        rows.clear();
        others.clear();
        memory::reserve(rows, visited.fresh().len());
        memory::reserve(others, visited.fresh().len());
        for row in visited.fresh() {
            let to = if passes(*row) {
                &mut *rows
            } else if is_bridge(*row, bridges) {
                &mut *others
            } else {
                continue;
            };
            self.measure.prefetch(*row);
            to.push(*row);
        }
        let own = rows.len();
        share.passed += own as f32;
        share.met += visited.fresh().len() as f32;
        memory::append(rows, others);
        own
    }

    /// Measures the rows of `scratch.rows`, the first `own` of which pass.
    #[inline(always)]
    fn measure_thinned(&self, own: usize, scratch: &mut Scratch) {
        let (arch, mut own) = (self.measure.arch(), own);
        let Scratch { rows, distances, pool, passing, .. } = scratch;
        for rows in rows.chunks(BLOCK) {
            self.measure.distances(self.query, rows, passing.bound(), distances);
            let here = own.min(rows.len());
            passing.insert_all(arch, &rows[..here], &distances[..here]);
            pool.insert_within(arch, rows, distances, passing.bound());
            own -= here;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_others_are_walked_through_that_the_part_of_all_rows_is_as_it_should_be() {
        for share in [0.0, 0.1, 0.3, 0.625, 1.0] {
            let bridges = Share { met: 1_000.0, passed: 1_000.0 * share }.bridges();
            // Of those that do not pass.
            let found = (0..100_000).filter(|row| is_bridge(*row, bridges)).count() as f32 / 100_000.0;
            let all = share + (1.0 - share) * found;
            assert!((all - walked(share)).abs() < 0.01, "{share}: {all} of the rows");
        }
    }
}
