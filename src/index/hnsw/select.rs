//! Which candidates become links: the heuristic of the HNSW paper.
//!
//! Algorithm 4 of Malkov & Yashunin, without filling up: a candidate is left
//! out when a link that was chosen before is nearer to it than the row itself,
//! because the walk can go by that link. The rule is that of the relative
//! neighbourhood graph (Toussaint 1980).

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
}

impl Selector {
    /// Chooses at most `limit` of the candidates, which ascend by distance.
    /// Rows for which `keep` holds are chosen whatever stands against them,
    /// and count.
    pub(super) fn choose(
        &mut self,
        points: Points<'_>,
        candidates: &[Neighbor],
        limit: usize,
        keep: impl Fn(Row) -> bool,
    ) -> &[Neighbor] {
        self.chosen.clear();
        self.rows.clear();
        let kept = candidates.iter().filter(|candidate| keep(candidate.row)).count();
        let mut free = limit.saturating_sub(kept);
        for candidate in candidates {
            let wanted = keep(candidate.row);
            if wanted || (free > 0 && !self.is_occluded(points, *candidate)) {
                self.chosen.push(*candidate);
                self.rows.push(candidate.row);
                free -= usize::from(!wanted);
            }
        }
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
