//! Searching: a walk by codes, then the stored vectors.
//!
//! A search is cut into steps. Each ends by asking the processor for the
//! memory that the next one reads; several searches that take turns compute
//! while each other's memory is on its way.

use super::GraphVersion;
use super::among::Among;
use super::codes::{Coded, Codes};
use crate::id::Row;
use crate::index::cow::BlockView;
use crate::index::flat;
use crate::index::links::{Limits, Step, Walk};
use crate::index::rerank::{Errors, Rerank, STEP, measure_few, scale};
use crate::index::{Effort, Points, Request, Scratch, Trip};
use crate::kernel::{Arch, ArchJob};
use crate::memory;
use crate::metric::Metric;
use crate::neighbor::TopK;
use crate::quant::{CodeQuery, Measure};

/// Candidates beyond k that are kept for re-ranking, however short the list:
/// at least so many, and one for so many of k.
pub(super) const SPARE: usize = 8;
const SPARE_DIVISOR: usize = 2;

/// Where rows are hidden, so many more are kept: one in 32 of an index may be
/// dead before it is taken out.
pub(super) const HIDDEN_DIVISOR: usize = 8;

/// What queries are prepared for.
fn measure(metric: Metric) -> Measure {
    match metric {
        Metric::L2 | Metric::Cosine => Measure::SquaredL2,
        Metric::Dot => Measure::NegatedDot,
    }
}

/// Where all searches of a call go, and by what codes.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a, A> {
    pub(super) version: &'a GraphVersion,
    pub(super) codes: &'a Codes,
    pub(super) points: Points<'a>,
    pub(super) arch: A,
}

/// How far a search has come.
pub(super) enum Stage {
    Walking(Limits, Step),
    Reranking(Rerank),
    Done,
}

/// The codes to search by; none when looking at every row is the better way.
fn codes_for<'a>(version: &'a GraphVersion, request: &Request<'_>) -> Option<&'a Codes> {
    let held = version.graph.held.len();
    version.codes.as_ref().filter(|_| request.k < held.div_ceil(2) && request.ef < held)
}

impl<'a, A: Arch> Ground<'a, A> {
    #[inline(always)]
    pub(super) fn walk<'b>(&self, query: &'b CodeQuery) -> Walk<'b, Coded<'b, &'b BlockView, A>>
    where
        'a: 'b,
    {
        let entries = self.version.derived.entries.as_deref();
        let measure = Coded {
            codec: &self.codes.codec,
            source: &self.codes.blocks,
            arch: self.arch,
            between: Measure::SquaredL2,
            entries,
        };
        Walk { graph: &self.version.graph, measure, query, products: self.version.options.products }
    }

    /// The limits of a walk.
    pub(super) fn limits(&self, request: &Request<'_>) -> Limits {
        let ef = request.ef.max(1);
        let exhausts = request.ends.reach.is_some();
        let metric = self.points.space.metric();
        let bound = request.bound * scale(metric);
        let limits = match measure(metric) {
            Measure::SquaredL2 => Limits::adaptive(bound, request.k, ef),
            Measure::NegatedDot => Limits::rigid(bound, request.k, ef),
        };
        let kept = ef.max(request.k + SPARE.max(request.k / SPARE_DIVISOR));
        limits.exhausting(exhausts).keeping(kept.min(self.version.graph.held.len()))
    }

    #[inline(always)]
    fn set_out(
        &self,
        request: &Request<'_>,
        query: &CodeQuery,
        scratch: &mut Scratch,
        effort: &mut Effort,
    ) -> Stage {
        if let Some(stage) = self.scan(request, query, scratch, effort) {
            return stage;
        }
        let walk = self.walk(query);
        walk.find_starts(scratch, effort);
        let limits = self.limits(request);
        Stage::Walking(limits, walk.set_out(limits, scratch))
    }

    #[inline(always)]
    fn advance(
        &self,
        stage: Stage,
        query: &CodeQuery,
        request: &Request<'_>,
        scratch: &mut Scratch,
        found: &mut TopK,
        effort: &mut Effort,
    ) -> Stage {
        match stage {
            Stage::Walking(_, Step::End) => {
                scratch.candidates.clear();
                memory::extend(&mut scratch.candidates, scratch.pool.iter());
                self.begin_rerank(request, scratch)
            }
            Stage::Walking(limits, step) => {
                Stage::Walking(limits, self.walk(query).advance(0, step, limits, scratch, effort))
            }
            Stage::Reranking(rerank) => match rerank.advance(self.points, request, scratch, found, effort) {
                Some(rerank) => Stage::Reranking(rerank),
                None => Stage::Done,
            },
            Stage::Done => Stage::Done,
        }
    }

    /// Ends a search whose time or work is used up: a few of the candidates
    /// that it has are measured all the same, to have something to show.
    #[cold]
    fn cut_short(
        &self,
        stage: Stage,
        request: &Request<'_>,
        scratch: &mut Scratch,
        found: &mut TopK,
        effort: &mut Effort,
    ) -> Stage {
        let from = match stage {
            Stage::Walking(..) => {
                scratch.candidates.clear();
                memory::extend(&mut scratch.candidates, scratch.pool.iter());
                scratch.candidates.iter_mut().for_each(|near| near.row = self.codes.row(near.row));
                0
            }
            Stage::Reranking(rerank) => rerank.at(),
            Stage::Done => return Stage::Done,
        };
        measure_few(self.points, request, from, scratch, found, effort);
        Stage::Done
    }

    /// Measures the candidates, which are nodes, as far as it takes.
    #[inline(always)]
    pub(super) fn rerank(
        &self,
        request: &Request<'_>,
        scratch: &mut Scratch,
        found: &mut TopK,
        effort: &mut Effort,
    ) {
        let mut stage = self.begin_rerank(request, scratch);
        while let Stage::Reranking(rerank) = stage {
            if request.ends.are_due(effort.distances) {
                stage = self.cut_short(Stage::Reranking(rerank), request, scratch, found, effort);
                continue;
            }
            stage = rerank
                .advance(self.points, request, scratch, found, effort)
                .map_or(Stage::Done, Stage::Reranking);
        }
    }

    /// From nodes to rows.
    fn begin_rerank(&self, request: &Request<'_>, scratch: &mut Scratch) -> Stage {
        scratch.candidates.iter_mut().for_each(|near| near.row = self.codes.row(near.row));
        self.rerank_rows(request, scratch)
    }

    /// The same of rows.
    pub(super) fn rerank_rows(&self, request: &Request<'_>, scratch: &Scratch) -> Stage {
        Stage::Reranking(Rerank::new(self.points, request, STEP, scratch))
    }

    /// A walk as if no row was hidden, which leaves the hidden ones out at its
    /// end: there are few of them as a rule, those that died lately. False when
    /// that left too little.
    #[inline(always)]
    fn walk_past_hidden<'b>(
        &self,
        limits: Limits,
        walk: Walk<'b, Coded<'b, &'b BlockView, A>>,
        request: &Request<'_>,
        admit: &dyn Fn(Row) -> bool,
        scratch: &mut Scratch,
        effort: &mut Effort,
    ) -> bool
    where
        'a: 'b,
    {
        let limits = limits.keeping(limits.kept + limits.kept.div_ceil(HIDDEN_DIVISOR));
        let mut step = walk.set_out(limits, scratch);
        while step != Step::End && !request.ends.are_due(effort.distances) {
            step = walk.advance(0, step, limits, scratch, effort);
        }
        let Scratch { pool, candidates, .. } = scratch;
        candidates.clear();
        memory::extend(candidates, pool.iter().filter(|near| admit(self.codes.row(near.row))));
        candidates.len() >= request.k + SPARE / 2
    }

    /// A walk that counts only admitted rows; none when they are so rare that
    /// looking at each of them costs less.
    #[inline(always)]
    fn set_out_filtered(
        &self,
        request: &Request<'_>,
        query: &CodeQuery,
        admit: &dyn Fn(Row) -> bool,
        scratch: &mut Scratch,
        effort: &mut Effort,
    ) -> Option<Stage> {
        if let Some(stage) = self.scan(request, query, scratch, effort) {
            return Some(stage);
        }
        let walk = self.walk(query);
        walk.find_starts(scratch, effort);
        let limits = self.limits(request);
        let Some(filter) = request.filter else {
            if self.walk_past_hidden(limits, walk, request, admit, scratch, effort) {
                return Some(self.begin_rerank(request, scratch));
            }
            walk.find_starts(scratch, effort);
            let admit = |node: Row| admit(self.codes.row(node));
            let is_found = walk.filtered_beam(limits, request.ends, admit, scratch, effort);
            scratch.candidates.clear();
            memory::append(&mut scratch.candidates, scratch.admitted.sorted());
            return is_found.then(|| self.begin_rerank(request, scratch));
        };
        let layout = &self.version.layout;
        let passes = |node: Row| {
            let row = layout.row(node);
            filter.passes(row) && (filter.is_all || admit(row))
        };
        let is_found = walk.thinned_beam(limits, request.ends, (filter, passes), scratch, effort);
        scratch.candidates.clear();
        memory::extend(&mut scratch.candidates, scratch.passing.iter());
        is_found.then(|| self.begin_rerank(request, scratch))
    }
}

/// A search from the prepared query to the answer, to be compiled for an
/// instruction set; false, having found nothing, when looking at every row is
/// the better way.
struct Alone<'a, 'b> {
    version: &'a GraphVersion,
    codes: &'a Codes,
    points: Points<'a>,
    request: &'a Request<'a>,
    query: &'a CodeQuery,
    scratch: &'b mut Scratch,
    found: &'b mut TopK,
    effort: &'b mut Effort,
}

impl ArchJob for Alone<'_, '_> {
    type Output = bool;

    #[inline(always)]
    fn run<A: Arch>(self, arch: A) -> bool {
        let Alone { version, codes, points, request, query, scratch, found, effort } = self;
        let ground = Ground { version, codes, points, arch };
        let begun = match request.admit {
            None => Some(ground.set_out(request, query, scratch, effort)),
            Some(admit) => ground.set_out_filtered(request, query, admit, scratch, effort),
        };
        let Some(mut stage) = begun else { return false };
        while !matches!(stage, Stage::Done) {
            stage = if request.ends.are_due(effort.distances) {
                ground.cut_short(stage, request, scratch, found, effort)
            } else {
                ground.advance(stage, query, request, scratch, found, effort)
            };
        }
        true
    }
}

/// Whether `query` is what was prepared in another shard, where the codes are the
/// same; the errors of the estimates are then what they were there, else nothing is known of them.
fn goes_on(codes: &Codes, measure: Measure, query: &CodeQuery, scratch: &mut Scratch) -> bool {
    let goes_on = std::mem::take(&mut scratch.follows) && codes.codec.has_prepared(query, measure);
    if !goes_on {
        scratch.errors = Errors::default();
    }
    goes_on
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
    if request.ends.are_due(0) {
        return effort;
    }
    let Some(codes) = codes_for(version, request) else {
        effort.distances += scan(version, points, request, scratch, found);
        return effort;
    };
    let mut query = std::mem::take(&mut scratch.code_query);
    let measure = measure(points.space.metric());
    if !goes_on(codes, measure, &query, scratch) {
        codes.codec.prepare(request.query, measure, &mut query);
    }
    let alone = Alone {
        version,
        codes,
        points,
        request,
        query: &query,
        scratch: &mut *scratch,
        found: &mut *found,
        effort: &mut effort,
    };
    let is_found = codes.codec.level().run(alone);
    scratch.code_query = query;
    request.ends.spend(effort.distances);
    if !is_found {
        effort.distances += scan(version, points, request, scratch, found);
    }
    effort
}

/// Searches among some rows; none, having done nothing, when there are no codes.
pub(super) fn among(
    version: &GraphVersion,
    points: Points<'_>,
    request: &Request<'_>,
    rows: &mut dyn Iterator<Item = Row>,
    scratch: &mut Scratch,
    found: &mut TopK,
) -> Option<Effort> {
    let codes = version.codes.as_ref().filter(|_| request.k > 0)?;
    let mut query = std::mem::take(&mut scratch.code_query);
    let measure = measure(points.space.metric());
    if !goes_on(codes, measure, &query, scratch) {
        codes.codec.prepare(request.query, measure, &mut query);
    }
    let among = Among { version, points, request, rows, query: &query, scratch: &mut *scratch, found };
    let effort = codes.codec.level().run(among);
    scratch.code_query = query;
    request.ends.spend(effort.map_or(0, |effort| effort.distances));
    effort
}

/// Searches under way together, each with its query.
struct Together<'a, 'b, 'c> {
    version: &'a GraphVersion,
    codes: &'a Codes,
    points: Points<'a>,
    under_way: Vec<(CodeQuery, &'b mut Trip<'c>)>,
}

impl ArchJob for Together<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self, arch: A) {
        let Together { version, codes, points, mut under_way } = self;
        let ground = Ground { version, codes, points, arch };
        // No closure: what is called in one is not compiled for the instruction set.
        let mut stages: Vec<Stage> = memory::list(under_way.len());
        for (query, trip) in &mut under_way {
            stages.push(ground.set_out(&trip.request, query, trip.scratch, &mut trip.effort));
        }
        let mut left = stages.len();
        while left > 0 {
            left = 0;
            for ((query, trip), place) in under_way.iter_mut().zip(&mut stages) {
                let stage = std::mem::replace(place, Stage::Done);
                if matches!(stage, Stage::Done) {
                    continue;
                }
                let Trip { request, scratch, found, effort } = &mut **trip;
                *place = ground.advance(stage, query, request, scratch, found, effort);
                left += 1;
            }
        }
        for (query, trip) in under_way {
            trip.scratch.code_query = query;
        }
    }
}

/// Searches for several queries, a step of each in turn.
pub(super) fn take_turns(version: &GraphVersion, points: Points<'_>, trips: &mut [Trip<'_>]) {
    let mut under_way = memory::list(trips.len());
    for trip in trips {
        let request = &trip.request;
        let may_end_early = request.ends.stop.is_some();
        if request.k > 0 && request.admit.is_none() && !may_end_early && codes_for(version, request).is_some()
        {
            under_way.push((std::mem::take(&mut trip.scratch.code_query), trip));
        } else {
            trip.effort = search(version, points, &trip.request, trip.scratch, trip.found);
        }
    }
    let Some(codes) = version.codes.as_ref() else { return };
    // The projection is read once for all of them.
    let measure = measure(points.space.metric());
    let queries = under_way.iter_mut().filter_map(|(query, trip)| {
        let goes_on = goes_on(codes, measure, query, trip.scratch);
        (!goes_on).then_some((trip.request.query, query))
    });
    let mut queries: Vec<(&[f32], &mut CodeQuery)> = memory::collect(queries);
    codes.codec.prepare_many(&mut queries, measure);
    codes.codec.level().run(Together { version, codes, points, under_way });
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
