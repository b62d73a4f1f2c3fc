//! Searching: a walk by codes, then the stored vectors.
//!
//! A search is cut into steps. Each ends by asking the processor for the
//! memory that the next one reads; several searches that take turns compute
//! while each other's memory is on its way.

use super::GraphVersion;
use super::codes::{Coded, Codes};
use super::rerank::Rerank;
use crate::id::Row;
use crate::index::cow::BlockView;
use crate::index::flat;
use crate::index::links::{Limits, Step, Walk};
use crate::index::{Effort, Points, Request, Scratch, Trip};
use crate::metric::Metric;
use crate::neighbor::TopK;
use crate::quant::{CodeQuery, Measure};

/// Candidates beyond k that are kept for re-ranking, however short the list:
/// at least so many, and one for so many of k.
const SPARE: usize = 8;
const SPARE_DIVISOR: usize = 2;

/// Squared distances are how many times the distances of the metric.
pub(super) fn scale(metric: Metric) -> f32 {
    match metric {
        Metric::L2 | Metric::Dot => 1.0,
        Metric::Cosine => 2.0,
    }
}

/// What queries are prepared for.
fn measure(metric: Metric) -> Measure {
    match metric {
        Metric::L2 | Metric::Cosine => Measure::SquaredL2,
        Metric::Dot => Measure::NegatedDot,
    }
}

/// Where all searches of a call go, and by what codes.
#[derive(Clone, Copy)]
struct Ground<'a> {
    version: &'a GraphVersion,
    codes: &'a Codes,
    points: Points<'a>,
}

/// How far a search has come.
enum Stage {
    Walking(Step),
    Reranking(Rerank),
    Done,
}

impl<'a> Ground<'a> {
    /// None when looking at every row is the better way.
    fn new(version: &'a GraphVersion, points: Points<'a>, request: &Request<'_>) -> Option<Ground<'a>> {
        let codes = version.codes.as_ref()?;
        let held = version.graph.held.len();
        let few = request.k < held.div_ceil(2) && request.ef < held;
        few.then_some(Ground { version, codes, points })
    }

    fn walk<'b>(&self, query: &'b CodeQuery) -> Walk<'b, Coded<'b, &'b BlockView>>
    where
        'a: 'b,
    {
        let measure = Coded { codec: &self.codes.codec, source: &self.codes.blocks };
        Walk { graph: &self.version.graph, measure, query }
    }

    /// The limits of a walk, and how many candidates it keeps.
    fn limits(&self, request: &Request<'_>) -> (Limits, usize) {
        let held = self.version.graph.held.len();
        let ef = request.ef.max(1);
        let kept = ef.max(request.k + SPARE.max(request.k / SPARE_DIVISOR)).min(held);
        (Limits { bound: request.bound * scale(self.points.space.metric()), k: request.k, ef }, kept)
    }

    /// From `scratch.code_query`, which was prepared.
    fn set_out(&self, request: &Request<'_>, scratch: &mut Scratch, effort: &mut Effort) -> Stage {
        let query = std::mem::take(&mut scratch.code_query);
        let walk = self.walk(&query);
        walk.find_starts(scratch, effort);
        let (limits, kept) = self.limits(request);
        let step = walk.set_out(kept, limits, scratch);
        scratch.code_query = query;
        Stage::Walking(step)
    }

    #[inline]
    fn advance(
        &self,
        stage: Stage,
        request: &Request<'_>,
        scratch: &mut Scratch,
        found: &mut TopK,
        effort: &mut Effort,
    ) -> Stage {
        match stage {
            Stage::Walking(Step::End) => {
                scratch.candidates.clear();
                scratch.candidates.extend(scratch.pool.iter());
                self.begin_rerank(request, scratch)
            }
            Stage::Walking(step) => {
                let query = std::mem::take(&mut scratch.code_query);
                let (limits, _) = self.limits(request);
                let step = self.walk(&query).advance(0, step, limits, scratch, effort);
                scratch.code_query = query;
                Stage::Walking(step)
            }
            Stage::Reranking(rerank) => match rerank.advance(self.points, request, scratch, found, effort) {
                Some(rerank) => Stage::Reranking(rerank),
                None => Stage::Done,
            },
            Stage::Done => Stage::Done,
        }
    }

    /// From nodes to rows.
    fn begin_rerank(&self, request: &Request<'_>, scratch: &mut Scratch) -> Stage {
        scratch.candidates.iter_mut().for_each(|near| near.row = self.codes.row(near.row));
        Stage::Reranking(Rerank::new(self.points, request, scratch))
    }

    fn prepare(&self, request: &Request<'_>, scratch: &mut Scratch) {
        let measure = measure(self.points.space.metric());
        self.codes.codec.prepare(request.query, measure, &mut scratch.code_query);
    }

    /// A walk that counts only admitted rows; none when they are so rare that
    /// looking at each of them costs less.
    fn set_out_filtered(
        &self,
        request: &Request<'_>,
        admit: &dyn Fn(Row) -> bool,
        scratch: &mut Scratch,
        effort: &mut Effort,
    ) -> Option<Stage> {
        let query = std::mem::take(&mut scratch.code_query);
        let walk = self.walk(&query);
        walk.find_starts(scratch, effort);
        let (limits, kept) = self.limits(request);
        let admit = |node: Row| admit(self.codes.row(node));
        let is_found = walk.filtered_beam(kept, limits, &admit, scratch, effort);
        scratch.code_query = query;
        scratch.candidates.clear();
        scratch.candidates.extend_from_slice(scratch.admitted.sorted());
        is_found.then(|| self.begin_rerank(request, scratch))
    }
}

/// Searches for one query.
pub(super) fn search(
    version: &GraphVersion,
    points: Points<'_>,
    request: &Request<'_>,
    scratch: &mut Scratch,
    found: &mut TopK,
) -> Effort {
    let mut effort = Effort::default();
    if request.k == 0 {
        return effort;
    }
    let begun = Ground::new(version, points, request).and_then(|ground| {
        ground.prepare(request, scratch);
        let stage = match request.admit {
            None => ground.set_out(request, scratch, &mut effort),
            Some(admit) => ground.set_out_filtered(request, admit, scratch, &mut effort)?,
        };
        Some((ground, stage))
    });
    match begun {
        None => effort.distances += scan(version, points, request, scratch, found),
        Some((ground, mut stage)) => {
            while !matches!(stage, Stage::Done) {
                stage = ground.advance(stage, request, scratch, found, &mut effort);
            }
        }
    }
    effort
}

/// Searches for several queries, a step of each in turn.
pub(super) fn take_turns(version: &GraphVersion, points: Points<'_>, trips: &mut [Trip<'_>]) {
    let mut under_way: Vec<(Ground<'_>, Stage, &mut Trip<'_>)> = Vec::with_capacity(trips.len());
    for trip in trips {
        let ground = Ground::new(version, points, &trip.request);
        match ground.filter(|_| trip.request.admit.is_none() && trip.request.k > 0) {
            Some(ground) => under_way.push((ground, Stage::Done, trip)),
            None => trip.effort = search(version, points, &trip.request, trip.scratch, trip.found),
        }
    }
    prepare_together(&mut under_way);
    for (ground, stage, trip) in &mut under_way {
        *stage = ground.set_out(&trip.request, trip.scratch, &mut trip.effort);
    }
    while !under_way.is_empty() {
        under_way.retain_mut(|(ground, stage, trip)| {
            let Trip { request, scratch, found, effort } = &mut **trip;
            *stage = ground.advance(std::mem::replace(stage, Stage::Done), request, scratch, found, effort);
            !matches!(stage, Stage::Done)
        });
    }
}

/// Prepares all queries at once: the projection is read once for all of them.
fn prepare_together(under_way: &mut [(Ground<'_>, Stage, &mut Trip<'_>)]) {
    let Some((ground, _, _)) = under_way.first() else { return };
    let (codec, measure) = (&ground.codes.codec, measure(ground.points.space.metric()));
    let mut queries: Vec<(&[f32], &mut CodeQuery)> =
        under_way.iter_mut().map(|(_, _, trip)| (trip.request.query, &mut trip.scratch.code_query)).collect();
    codec.prepare_many(&mut queries, measure);
}

/// Measures every held row.
fn scan(
    version: &GraphVersion,
    points: Points<'_>,
    request: &Request<'_>,
    scratch: &mut Scratch,
    found: &mut TopK,
) -> u64 {
    let rows = version.graph.held.iter().map(|node| version.layout.row(node));
    flat::scan_rows(rows, points, request, scratch, found)
}
