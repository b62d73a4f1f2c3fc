//! Beam search for rows that pass a filter, through them and a part of the others.
//!
//! A walk through all rows that counts only those that pass does 1 / share times
//! the work. Walking through those alone (the subgraph that they induce: ACORN,
//! Patel et al., SIGMOD 2024) works while enough links of each row lead to
//! others that pass. Here so many of the rest are walked through, too, that the
//! graph keeps a fixed part of its links however few pass. Which ones is a
//! function of their numbers, so that they are the same wherever they are met.

use super::beam::{Limits, Walk};
use crate::id::Row;
use crate::index::measure::Measure;
use crate::index::{Effort, Ends, RowFilter, Scratch};
use crate::vector::BLOCK;

/// The part of the rows that is walked through when fewer pass. Fashion-MNIST,
/// recall 0.99: with one row in ten passing, 53 us a query for the whole graph,
/// 40 for 0.6, 31 for 0.5, 29 for 0.4, 29 for 0.3; with half, 27 and 22 for 0.5
/// and less.
pub(crate) const WALKED: f32 = 0.4;

/// With fewer links a walk finds less: it is broader by one in so many then.
const BROADER_DIVISOR: usize = 3;

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
        let part = (WALKED - share) / (1.0 - share).max(f32::EPSILON);
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
    /// rows that were met and pass, `ef` or a few more. False when it gave up:
    /// rows that pass are so rare that looking at each of them costs less.
    #[inline(always)]
    pub(in crate::index) fn thinned_beam(
        &self,
        ef: usize,
        limits: Limits,
        ends: Ends<'_>,
        (filter, passes): (RowFilter<'_>, impl Fn(Row) -> bool),
        scratch: &mut Scratch,
        effort: &mut Effort,
    ) -> bool {
        let broader = if filter.share < WALKED { ef / BROADER_DIVISOR } else { 0 };
        let ef = ef + broader;
        let waiting = 2 * ef + (ef * self.graph.held.len() / 3).isqrt();
        self.start_thinned(ef, &passes, scratch);
        let mut share = Share { met: PRIOR, passed: PRIOR * filter.share };
        while let Some(nearest) = scratch.pool.expand_next() {
            if ends.are_due(effort.distances) {
                break;
            }
            if nearest.distance > limits.bound {
                let passing = &scratch.passing;
                let (useful, nearer) = (passing.within(limits.bound), passing.within(nearest.distance));
                if limits.are_reached(useful, nearer) {
                    break;
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
        true
    }

    #[inline(always)]
    fn start_thinned(&self, ef: usize, passes: &impl Fn(Row) -> bool, scratch: &mut Scratch) {
        self.start(usize::MAX, scratch);
        scratch.distances.resize(BLOCK, 0.0);
        let Scratch { pool, passing, .. } = scratch;
        passing.reset(ef);
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
        rows.extend_from_slice(others);
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
    fn so_many_others_are_walked_through_that_a_fixed_part_of_the_rows_is() {
        for (share, others) in [(0.0, 0.4), (0.1, 0.3), (0.3, 0.1), (0.4, 0.0), (1.0, 0.0)] {
            let bridges = Share { met: 1_000.0, passed: 1_000.0 * share }.bridges();
            // Of those that do not pass.
            let found = (0..100_000).filter(|row| is_bridge(*row, bridges)).count() as f32 / 100_000.0;
            let expected = if share < 1.0 { others / (1.0 - share) } else { 0.0 };
            assert!((found - expected).abs() < 0.01, "{share}: {found} instead of {expected}");
        }
    }
}
