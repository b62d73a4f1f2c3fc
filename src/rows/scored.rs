//! Searching by distance and by what fields earn.
//!
//! The bonus of a record is at most some `most`, so one at distance d cannot
//! come before one whose rank (`distance - bonus`) is below d - `most`. The
//! nearest rows are ranked, more and more of them, until all that could still
//! come before the k-th have been: no better record is missed that the index
//! finds by its distance.

use super::filtered::{FilterMemory, Resolved};
use super::view::{ShardRequest, ShardScratch, ShardView};
use crate::id::Row;
use crate::index::{Effort, Ends};
use crate::memory;
use crate::neighbor::{Neighbor, TopK};
use crate::payload::{Field, Quantity, Timestamp};
use crate::query::{Gain, Scoring, Term};

/// Candidates for each hit at first...
const FIRST_A_HIT: usize = 4;

/// ...and at least.
const FIRST_LEAST: usize = 32;

/// By how much there are more of them each time.
const GROWTH: usize = 4;

/// When one row in so many is a candidate, all are looked at.
const ALL_DIVISOR: usize = 8;

/// What is to be added to distances.
#[derive(Clone, Copy)]
pub(crate) struct Scored<'a> {
    pub(crate) scoring: &'a Scoring,
    pub(crate) now: Timestamp,
}

/// A scoring, made ready for one view.
struct Scorer<'a> {
    view: &'a ShardView,
    request: ShardRequest<'a>,
    now: Timestamp,
    terms: Vec<(&'a Term, Source<'a>)>,
}

/// Where the value of a term comes from.
enum Source<'a> {
    Field(Field<'a>),
    Rows(Resolved),
}

impl<'a> Scorer<'a> {
    fn new(
        view: &'a ShardView,
        request: &ShardRequest<'a>,
        scored: Scored<'a>,
        filters: &mut FilterMemory,
    ) -> Scorer<'a> {
        let mut source = |term: &'a Term| match &term.gain {
            Gain::Decay { path, .. } | Gain::Share { path, .. } | Gain::Strength { path, .. } => {
                Source::Field(view.payloads().look_up(path))
            }
            Gain::Boost(filter) => Source::Rows(filters.take(view, request, filter)),
        };
        let terms = memory::collect(scored.scoring.terms.iter().map(|term| (term, source(term))));
        Scorer { view, request: *request, now: scored.now, terms }
    }

    fn finish(self, filters: &mut FilterMemory) {
        for (_, source) in self.terms {
            if let Source::Rows(rows) = source {
                filters.give_back(rows);
            }
        }
    }

    fn bonus(&self, row: Row) -> f32 {
        let value = |(term, source): &(&Term, Source<'_>)| {
            let value = match source {
                Source::Rows(rows) => f64::from(u8::from(rows.contains(row))),
                Source::Field(field) => match self.view.payloads().quantity(row, self.request.at, *field) {
                    Some(Quantity::Number(number)) => term.gain.of_number(number),
                    Some(Quantity::Time(time)) => term.gain.of_time(time, self.now),
                    None => 0.0,
                },
            };
            f64::from(term.weight) * value
        };
        self.terms.iter().map(value).sum::<f64>() as f32
    }

    /// No bonus is greater.
    fn most(&self) -> f32 {
        let value = |(term, source): &(&Term, Source<'_>)| {
            let value = match source {
                Source::Rows(_) => 1.0,
                Source::Field(field) => match self.view.payloads().greatest(*field, self.view.high_water()) {
                    Some((number, time)) => {
                        term.gain.of_number(number).max(term.gain.of_time(time, self.now))
                    }
                    None => 1.0,
                },
            };
            f64::from(term.weight.max(0.0)) * value
        };
        let most = self.terms.iter().map(value).sum::<f64>() as f32;
        // What is rounded must not be below what a record gets.
        most + most.abs() * f32::EPSILON
    }
}

impl ShardView {
    /// As `search`, by rank: that is what stands as distance in `scratch.found`.
    pub(super) fn search_scored(
        &self,
        request: &ShardRequest<'_>,
        scored: Scored<'_>,
        scratch: &mut ShardScratch,
    ) -> Effort {
        let scorer = Scorer::new(self, request, scored, &mut scratch.filters);
        let most = scorer.most();
        let rows = self.high_water() as usize;
        let reach = request.ends.reach.unwrap_or(f32::INFINITY);
        let is_exact = request.exact || self.index().is_exact();
        let mut effort = Effort::default();
        let mut ranked = TopK::default();
        let mut wanted = request.k.saturating_mul(FIRST_A_HIT).max(FIRST_LEAST).min(rows.max(1));
        let mut limit = reach.min(request.bound + most);
        let mut is_last = false;
        loop {
            let ends = Ends { reach: limit.is_finite().then_some(limit), ..request.ends };
            let inner = ShardRequest {
                k: wanted,
                ef: request.ef.max(wanted),
                bound: limit,
                exact: request.exact || is_last,
                ends,
                scored: None,
                ..*request
            };
            let done = self.search(&inner, scratch);
            effort.distances += done.distances;
            effort.hops += done.hops;
            let is_short = scratch.found.is_short();
            let farthest = rank(&scorer, scratch, (request.k, reach), &mut ranked);
            limit = limit.min(ranked.bound() + most);
            if is_last || is_short || farthest >= limit || request.ends.are_due(0) {
                break;
            }
            wanted = wanted.saturating_mul(GROWTH);
            is_last = is_exact || wanted.saturating_mul(ALL_DIVISOR) >= rows;
            if is_last {
                wanted = rows;
            }
        }
        scorer.finish(&mut scratch.filters);
        std::mem::swap(&mut scratch.found, &mut ranked);
        effort
    }
}

/// The k best by rank of what was found within reach; gives the distance of the farthest that was found. (Indexes may give rows
/// beyond what they were asked for.)
fn rank(scorer: &Scorer<'_>, scratch: &mut ShardScratch, (k, reach): (usize, f32), ranked: &mut TopK) -> f32 {
    let ShardScratch { found, bonuses, .. } = scratch;
    let found = found.sorted();
    ranked.reset(k);
    bonuses.0.clear();
    let within = found.partition_point(|near| near.distance <= reach);
    for Neighbor { distance, row } in &found[..within] {
        let bonus = scorer.bonus(*row);
        memory::push(&mut bonuses.0, (*row, bonus));
        ranked.offer(Neighbor { distance: distance - bonus, row: *row });
    }
    bonuses.0.sort_unstable_by_key(|(row, _)| *row);
    found.last().map_or(f32::INFINITY, |last| last.distance)
}

/// What rows have earned, by row.
#[derive(Default)]
pub(crate) struct Bonuses(Vec<(Row, f32)>);

impl Bonuses {
    pub(crate) fn of(&self, row: Row) -> f32 {
        let at = self.0.binary_search_by_key(&row, |(row, _)| *row);
        at.ok().and_then(|at| self.0.get(at)).map_or(0.0, |(_, bonus)| *bonus)
    }
}
