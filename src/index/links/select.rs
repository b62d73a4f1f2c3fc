//! Which candidates become links: the heuristic of the HNSW paper.
//!
//! Algorithm 4 of Malkov & Yashunin: a candidate is left out when a link that
//! was chosen before is nearer to it than the row itself, because the walk can
//! go by that link. The rule is that of the relative neighbourhood graph
//! (Toussaint 1980). A list that stays very short is filled up with the nearest
//! of those that were left out.

use crate::id::Row;
use crate::index::measure::RowMeasure;
use crate::kernel::{Arch, ArchJob};
use crate::memory;
use crate::neighbor::Neighbor;

/// Chosen links that a candidate is compared with in one call.
const STEP: usize = 8;

/// Working memory of a selection.
#[derive(Debug)]
pub(super) struct Selector<M: RowMeasure> {
    query: M::Buffer,
    pub(super) chosen: Vec<Neighbor>,
    rows: Vec<Row>,
    left_out: Vec<Neighbor>,
}

impl<M: RowMeasure> Default for Selector<M> {
    fn default() -> Selector<M> {
        Selector { query: M::Buffer::default(), chosen: Vec::new(), rows: Vec::new(), left_out: Vec::new() }
    }
}

/// A choice, to be compiled for an instruction set.
struct Choice<'a, 'b, M: RowMeasure, F> {
    selector: &'a mut Selector<M>,
    measure: M,
    candidates: &'b [Neighbor],
    share: Share,
    keep: F,
}

impl<M: RowMeasure, F: Fn(Row) -> bool> ArchJob for Choice<'_, '_, M, F> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self, _arch: A) {
        let Choice { selector, measure, candidates, share, keep } = self;
        selector.choose_among(measure, candidates, share, keep);
    }
}

/// How many links a list gets, and how unlike each other they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// Not more than these.
    pub(super) most: usize,
    /// Not fewer than these while there are candidates.
    pub(super) least: usize,
    /// How many times nearer to a chosen link than to the row a candidate
    /// stands that is left out (of squared distances: the square of Vamana's
    /// alpha). 1 is the rule of the HNSW paper; more keeps more links.
    pub(super) slack: f32,
}

impl<M: RowMeasure> Selector<M> {
    /// Chooses among the candidates, which ascend by distance. Rows for which
    /// `keep` holds are chosen whatever stands against them, and count.
    pub(super) fn choose(
        &mut self,
        measure: M,
        candidates: &[Neighbor],
        share: Share,
        keep: impl Fn(Row) -> bool,
    ) -> &[Neighbor] {
        measure.arch().run(Choice { selector: &mut *self, measure, candidates, share, keep });
        &self.chosen
    }

    #[inline(always)]
    fn choose_among(
        &mut self,
        measure: M,
        candidates: &[Neighbor],
        share: Share,
        keep: impl Fn(Row) -> bool,
    ) {
        self.chosen.clear();
        self.rows.clear();
        self.left_out.clear();
        let kept = candidates.iter().filter(|candidate| keep(candidate.row)).count();
        let mut free = share.most.saturating_sub(kept);
        for candidate in candidates {
            let wanted = keep(candidate.row);
            if wanted || (free > 0 && !self.is_occluded(measure, *candidate, share.slack)) {
                memory::push(&mut self.chosen, *candidate);
                memory::push(&mut self.rows, candidate.row);
                free -= usize::from(!wanted);
            } else {
                memory::push(&mut self.left_out, *candidate);
            }
        }
        let missing = share.least.saturating_sub(self.chosen.len()).min(free);
        memory::extend(&mut self.chosen, self.left_out.iter().take(missing).copied());
        self.chosen.sort_unstable_by(Neighbor::order);
    }

    #[inline(always)]
    fn is_occluded(&mut self, measure: M, candidate: Neighbor, slack: f32) -> bool {
        if self.rows.is_empty() {
            return false;
        }
        let query = measure.row_query(candidate.row, &mut self.query);
        let bound = candidate.distance / slack;
        let mut distances = [0.0; STEP];
        // (No closure: it would be compiled for the least machine.)
        for rows in self.rows.chunks(STEP) {
            measure.distances(query, rows, bound, &mut distances);
            if distances[..rows.len()].iter().any(|distance| *distance < bound) {
                return true;
            }
        }
        false
    }
}
