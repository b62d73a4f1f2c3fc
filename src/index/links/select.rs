//! Which candidates become links: the heuristic of the HNSW paper.
//!
//! Algorithm 4 of Malkov & Yashunin: a candidate is left out when a link that
//! was chosen before is nearer to it than the row itself, because the walk can
//! go by that link. The rule is that of the relative neighbourhood graph
//! (Toussaint 1980). A list that stays very short is filled up with the nearest
//! of those that were left out.
//!
//! Equal rows are as far from each other as from the row if that is equal to
//! them, so none of them stands against another. They get a part of the list only,
//! or nothing in it would lead away from them.

use crate::id::Row;
use crate::index::measure::RowMeasure;
use crate::kernel::{Arch, ArchJob};
use crate::memory;
use crate::neighbor::Neighbor;

/// Chosen links that a candidate is compared with in one call.
const STEP: usize = 8;

/// One in so many links of a list may lead to a crowd: rows that are equally far
/// from the row and no farther from each other. A quarter keeps many ways among
/// them, and most of the list for ways out.
const CROWD_SHARE: usize = 4;

/// So few equal rows are no crowd, however short the list is.
const CROWD_LEAST: usize = 4;

/// Working memory of a selection.
#[derive(Debug)]
pub(super) struct Selector<M: RowMeasure> {
    query: M::Buffer,
    pub(super) chosen: Vec<Neighbor>,
    rows: Vec<Row>,
    left_out: Vec<Neighbor>,
    /// Rows that were chosen and are as far away as a candidate.
    alike: Vec<Row>,
}

impl<M: RowMeasure> Default for Selector<M> {
    fn default() -> Selector<M> {
        Selector {
            query: M::Buffer::default(),
            chosen: Vec::new(),
            rows: Vec::new(),
            left_out: Vec::new(),
            alike: Vec::new(),
        }
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

impl Share {
    /// Links to one crowd at most.
    fn crowd(self) -> usize {
        (self.most / CROWD_SHARE).max(CROWD_LEAST)
    }
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
            let suits = wanted
                || (free > 0
                    && !self.is_occluded(measure, *candidate, share.slack)
                    && !self.is_crowded(measure, *candidate, share.crowd()));
            if suits {
                self.take(*candidate);
                free -= usize::from(!wanted);
            } else {
                memory::push(&mut self.left_out, *candidate);
            }
        }
        self.fill(measure, share, free);
        self.chosen.sort_unstable_by(Neighbor::order);
    }

    #[inline(always)]
    fn take(&mut self, candidate: Neighbor) {
        memory::push(&mut self.chosen, candidate);
        memory::push(&mut self.rows, candidate.row);
    }

    /// Fills a short list up with the nearest that were left out, of a crowd not
    /// more than its part.
    #[inline(always)]
    fn fill(&mut self, measure: M, share: Share, free: usize) {
        let mut missing = share.least.saturating_sub(self.chosen.len()).min(free);
        for at in 0..self.left_out.len() {
            if missing == 0 {
                break;
            }
            let candidate = self.left_out[at];
            if !self.is_crowded(measure, candidate, share.crowd()) {
                self.take(candidate);
                missing -= 1;
            }
        }
    }

    /// Whether `most` of a crowd that the candidate belongs to were chosen.
    #[inline(always)]
    fn is_crowded(&mut self, measure: M, candidate: Neighbor, most: usize) -> bool {
        let is_alike = |chosen: &&Neighbor| chosen.distance == candidate.distance;
        // Fewer nearly always, so no distance is computed.
        if self.chosen.iter().filter(is_alike).count() < most {
            return false;
        }
        self.alike.clear();
        memory::extend(&mut self.alike, self.chosen.iter().filter(is_alike).map(|chosen| chosen.row));
        let query = measure.row_query(candidate.row, &mut self.query);
        let (mut distances, mut near) = ([0.0; STEP], 0);
        for rows in self.alike.chunks(STEP) {
            measure.distances(query, rows, candidate.distance, &mut distances);
            near += distances[..rows.len()].iter().filter(|near| **near <= candidate.distance).count();
        }
        near >= most
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
