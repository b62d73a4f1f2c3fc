//! Which candidates become links: the heuristic of the HNSW paper.
//!
//! Algorithm 4 of Malkov & Yashunin: a candidate is left out when a link that
//! was chosen before is nearer to it than the row itself, because the walk can
//! go by that link. The rule is that of the relative neighbourhood graph
//! (Toussaint 1980). A list that stays very short is filled up with the nearest
//! of those that were left out.

use crate::id::Row;
use crate::index::Points;
use crate::metric::Metric;
use crate::neighbor::Neighbor;

/// Chosen links that a candidate is compared with in one call.
const STEP: usize = 8;

/// Working memory of a selection.
#[derive(Debug, Default)]
pub(super) struct Selector {
    query: Vec<f32>,
    pub(super) chosen: Vec<Neighbor>,
    rows: Vec<Row>,
    left_out: Vec<Neighbor>,
}

/// How many links a list gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// Not more than these.
    pub(super) most: usize,
    /// Not fewer than these while there are candidates.
    pub(super) least: usize,
}

impl Selector {
    /// Chooses among the candidates, which ascend by distance. Rows for which
    /// `keep` holds are chosen whatever stands against them, and count.
    pub(super) fn choose(
        &mut self,
        points: Points<'_>,
        candidates: &[Neighbor],
        share: Share,
        keep: impl Fn(Row) -> bool,
    ) -> &[Neighbor] {
        self.chosen.clear();
        self.rows.clear();
        self.left_out.clear();
        let kept = candidates.iter().filter(|candidate| keep(candidate.row)).count();
        let mut free = share.most.saturating_sub(kept);
        for candidate in candidates {
            let wanted = keep(candidate.row);
            if wanted || (free > 0 && !self.is_occluded(points, *candidate)) {
                self.chosen.push(*candidate);
                self.rows.push(candidate.row);
                free -= usize::from(!wanted);
            } else {
                self.left_out.push(*candidate);
            }
        }
        let missing = share.least.saturating_sub(self.chosen.len()).min(free);
        self.chosen.extend(self.left_out.iter().take(missing));
        self.chosen.sort_unstable_by(Neighbor::order);
        &self.chosen
    }

    fn is_occluded(&mut self, points: Points<'_>, candidate: Neighbor) -> bool {
        if self.rows.is_empty() {
            return false;
        }
        let query = row_query(points, candidate.row, &mut self.query);
        let mut distances = [0.0; STEP];
        self.rows.chunks(STEP).any(|rows| {
            points.space.distances(query, points.vectors, rows, candidate.distance, &mut distances);
            distances[..rows.len()].iter().any(|distance| *distance < candidate.distance)
        })
    }
}

/// A stored row as a query; copied only where the two forms differ.
pub(super) fn row_query<'a>(points: Points<'a>, row: Row, buffer: &'a mut Vec<f32>) -> &'a [f32] {
    match points.space.metric() {
        Metric::Cosine => {
            points.space.prepare_row(points.vectors, row, buffer);
            buffer
        }
        Metric::L2 | Metric::Dot => points.vectors.row(row),
    }
}
