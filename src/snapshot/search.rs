//! Searching a snapshot on the calling thread.

use std::cell::RefCell;

use super::effort::{breadth_of, share};
use super::kept::{begun, with_memory};
use super::sight::Sight;
use super::watch::watched;
use super::wishes::{candidates, diversify, diversify_hits, hidden, vector_of_examples};
use crate::error::SearchError;
use crate::id::Row;
use crate::index::{Effort, Ends};
use crate::memory::{self, Lined};
use crate::neighbor::Neighbor;
use crate::payload::{ExclusionSet, Filter, Payload, Timestamp};
use crate::query::{Answer, Completeness, FilterStats, Hit, Query, Scoring, SearchParams, SearchStats};
use crate::rows::{Scored, ShardRequest, ShardScratch};
use crate::stop::{Cut, Stop};

thread_local! {
    /// Grown by the first searches of a thread, then reused: a warm search
    /// allocates nothing but its answer.
    static SCRATCH: RefCell<SearchScratch> = RefCell::default();

    /// The same for searches that take turns.
    static GROUP: RefCell<GroupScratch> = RefCell::default();
}

/// Distances of an exact search that is worth making cheaper.
const LARGE_SCAN: u64 = 2_048;

/// A row of one shard and its distance; under a scoring, its rank.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) distance: f32,
    /// What is taken off the distance in a rank.
    pub(super) bonus: f32,
    pub(super) shard: u32,
    pub(super) row: Row,
}

impl Candidate {
    /// `prepared` is the query's vector if the distance is a rank.
    pub(super) fn hit(
        &self,
        published: Sight<'_>,
        query: &Query<'_>,
        prepared: Option<&[f32]>,
    ) -> Option<Hit> {
        let shard = published.shards.get(self.shard as usize)?;
        let id = shard.id(self.row)?.copy();
        let payload =
            if query.wants_payload() { shard.payload(self.row, published.seq) } else { Payload::new() };
        let measure = |prepared| shard.distance(&published.context.space, prepared, self.row);
        let distance = prepared.map_or(self.distance, measure);
        Some(Hit { id, distance, bonus: self.bonus, payload })
    }
}

/// Working memory of a search over shards.
#[derive(Default)]
pub(crate) struct SearchScratch {
    prepared: Lined<f32>,
    shard: ShardScratch,
    merged: Vec<Candidate>,
    filtered: Option<FilterStats>,
}

/// Searches every shard, one after the other, on the calling thread.
///
/// # Errors
/// [`SearchError::Vector`], [`SearchError::Params`], [`SearchError::Stale`] and
/// [`SearchError::NoMemory`].
pub(crate) fn search(published: Sight<'_>, query: &Query<'_>) -> Result<Answer, SearchError> {
    let answer = search_uncounted(published, query)?;
    published.context.distances.add(answer.stats.distances);
    published.context.searches.add(1);
    note_exact(published, &answer);
    Ok(answer)
}

/// Lets the indexes get ready for exact searches when there are many of them.
fn note_exact(published: Sight<'_>, answer: &Answer) {
    let is_exact = answer.stats.ef == 0 && !published.is_exact();
    if is_exact && answer.stats.distances >= LARGE_SCAN {
        published.context.exact_use.note();
    }
}

/// As [`search`], for the engine's own purposes: counted by nobody.
///
/// # Errors
/// As [`search`].
pub(crate) fn search_uncounted(published: Sight<'_>, query: &Query<'_>) -> Result<Answer, SearchError> {
    watched(published, query, None, |stop| {
        SCRATCH.with(|scratch| {
            let mut own;
            let mut borrowed = scratch.try_borrow_mut();
            let scratch = match &mut borrowed {
                Ok(scratch) => &mut **scratch,
                Err(_) => {
                    own = SearchScratch::default();
                    &mut own
                }
            };
            with_memory(scratch, |scratch| search_with(published, query, stop, scratch))
        })
    })
}

fn search_with(
    published: Sight<'_>,
    query: &Query<'_>,
    stop: Option<&Stop<'_>>,
    scratch: &mut SearchScratch,
) -> Result<Answer, SearchError> {
    check(published, query)?;
    prepare(published, query, &mut scratch.prepared)?;
    scratch.merged.clear();
    scratch.filtered = None;
    let mut effort = Effort::default();
    let mut bound = f32::INFINITY;
    let hidden = hidden(published, query);
    let plan = ShardPlan::new(published, query, hidden.len()).until(stop);
    if plan.k > 0 {
        for shard in 0..published.shards.len() {
            begin_part(stop, published.shards.len() - 1 - shard);
            let done = search_shard(published, (shard, shard > 0), &plan, bound, scratch);
            effort.distances += done.distances;
            effort.hops += done.hops;
            bound = merge(&mut scratch.merged, plan.k);
        }
        let SearchScratch { prepared, shard, merged, .. } = scratch;
        if cut_of(stop).is_none() {
            revisit(published, &plan, prepared, shard, merged, &mut effort);
        }
        leave_out(&hidden, &mut scratch.merged);
        scratch.merged.truncate(candidates(query, 0));
        diversify(published, query, &mut scratch.merged);
        scratch.merged.truncate(query.k());
    }
    let prepared = plan.scored.map(|_| &*scratch.prepared);
    let found = Found { merged: &scratch.merged, effort, filter: scratch.filtered, prepared };
    let mut answer = found.answer(published, query, plan.ef);
    answer.completeness = completeness(published, query, cut_of(stop), &answer);
    Ok(answer)
}

/// Takes hidden rows out.
fn leave_out(hidden: &[(u32, Row)], found: &mut Vec<Candidate>) {
    if !hidden.is_empty() {
        found.retain(|found| hidden.binary_search(&(found.shard, found.row)).is_err());
    }
}

fn begin_part(stop: Option<&Stop<'_>>, left: usize) {
    if let Some(stop) = stop {
        stop.begin_part(left);
    }
}

fn cut_of(stop: Option<&Stop<'_>>) -> Option<Cut> {
    stop.and_then(Stop::worst)
}

/// Searches once more, for all k, where all that a shard was asked for is among
/// the best: it may have more.
fn revisit(
    published: Sight<'_>,
    plan: &ShardPlan<'_>,
    prepared: &[f32],
    scratch: &mut ShardScratch,
    merged: &mut Vec<Candidate>,
    effort: &mut Effort,
) {
    if plan.shard_k == plan.k {
        return;
    }
    for (at, shard) in published.shards.iter().enumerate() {
        let is_own = |candidate: &Candidate| candidate.shard as usize == at;
        if merged.iter().filter(|candidate| is_own(candidate)).count() < plan.shard_k {
            continue;
        }
        let bound = kth(merged, plan.k);
        let again = plan.alone().request(published, prepared, bound);
        let done = shard.search(&ShardRequest { follows: true, ..again }, scratch);
        effort.distances += done.distances;
        effort.hops += done.hops;
        // What was found before stays: with a bound a walk is shorter, and may
        // overlook some of it.
        add_found(merged, scratch, at, plan);
        sort(merged);
        merged.dedup_by_key(|candidate| (candidate.shard, candidate.row));
        merge(merged, plan.k);
    }
}

/// Searches that take turns on one thread: enough that each finds its memory
/// there, few enough that what they work on fits the cache. (On a machine whose
/// memory was the limit, 8 were as fast as single searches: see design.md.)
const GROUP_SIZE: usize = 8;

/// Working memory of searches that take turns.
#[derive(Default)]
struct GroupScratch {
    prepared: Vec<Lined<f32>>,
    shards: Vec<ShardScratch>,
    merged: Vec<Vec<Candidate>>,
    efforts: Vec<Effort>,
}

/// Searches for many queries on the calling thread; each gets the answer that
/// [`search`] gives.
///
/// # Errors
/// As [`search`], of the first query at fault; nothing is searched then.
pub(crate) fn search_many(published: Sight<'_>, queries: &[Query<'_>]) -> Result<Vec<Answer>, SearchError> {
    let is_limited = queries.iter().any(Query::is_limited);
    // The time of all of them begins now.
    let begun: Vec<Query<'_>> = match is_limited {
        true => begun(queries, || published.context.wall.clock().elapsed())?,
        false => Vec::new(),
    };
    let queries = if is_limited { &begun } else { queries };
    let answers = GROUP.with(|scratch| {
        let mut own = GroupScratch::default();
        let mut borrowed = scratch.try_borrow_mut();
        let scratch = borrowed.as_deref_mut().unwrap_or(&mut own);
        with_memory(scratch, |scratch| search_all(published, queries, scratch))
    })?;
    let distances: u64 = answers.iter().map(|answer| answer.stats.distances).sum();
    published.context.distances.add(distances);
    published.context.searches.add(answers.len() as u64);
    answers.iter().for_each(|answer| note_exact(published, answer));
    Ok(answers)
}

/// Checks all queries, then searches for them.
fn search_all(
    published: Sight<'_>,
    queries: &[Query<'_>],
    scratch: &mut GroupScratch,
) -> Result<Vec<Answer>, SearchError> {
    for query in queries {
        check(published, query)?;
        match vector_of_examples(published, query)? {
            Some(vector) => published.context.space.check(&vector)?,
            None => published.context.space.check(query.vector())?,
        };
    }
    let mut answers = memory::list(queries.len());
    for group in queries.chunks(GROUP_SIZE) {
        search_group(published, group, scratch, &mut answers)?;
    }
    Ok(answers)
}

fn search_group(
    published: Sight<'_>,
    queries: &[Query<'_>],
    scratch: &mut GroupScratch,
    answers: &mut Vec<Answer>,
) -> Result<(), SearchError> {
    let plans = queries.iter().map(|query| ShardPlan::new(published, query, 0));
    let plans: Vec<ShardPlan<'_>> = memory::collect(plans);
    let is_plain = |plan: &ShardPlan<'_>| !plan.exact && plan.k > 0 && !plan.is_picky();
    if !plans.iter().all(is_plain) || !queries.iter().all(Query::is_plain) {
        for query in queries {
            answers.push(search_uncounted(published, query)?);
        }
        return Ok(());
    }
    let GroupScratch { prepared, shards, merged, efforts } = scratch;
    memory::lengthen(prepared, queries.len());
    memory::lengthen(shards, queries.len());
    memory::lengthen(merged, queries.len());
    for (query, prepared) in queries.iter().zip(prepared.iter_mut()) {
        prepare(published, query, prepared)?;
    }
    merged.iter_mut().for_each(Vec::clear);
    let mut done = memory::filled(Effort::default(), queries.len());
    let mut bounds = memory::filled(f32::INFINITY, queries.len());
    for (at, shard) in published.shards.iter().enumerate() {
        let requests = plans.iter().zip(prepared.iter().zip(&bounds));
        let requests = requests.map(|(plan, (prepared, bound))| {
            let request = plan.request(published, prepared, *bound);
            ShardRequest { follows: at > 0, ..request }
        });
        let requests: Vec<ShardRequest<'_>> = memory::collect(requests);
        shard.search_many(&requests, &mut shards[..requests.len()], efforts);
        for (query, plan) in plans.iter().enumerate() {
            done[query].distances += efforts[query].distances;
            done[query].hops += efforts[query].hops;
            add_found(&mut merged[query], &mut shards[query], at, plan);
            bounds[query] = merge(&mut merged[query], plan.k);
        }
    }
    for (query, plan) in plans.iter().enumerate() {
        let (prepared, scratch) = (&prepared[query], &mut shards[query]);
        revisit(published, plan, prepared, scratch, &mut merged[query], &mut done[query]);
    }
    for (((query, plan), merged), effort) in queries.iter().zip(&plans).zip(merged.iter()).zip(done) {
        let found = Found { merged, effort, filter: None, prepared: None };
        let mut answer = found.answer(published, query, plan.ef);
        answer.completeness = completeness(published, query, None, &answer);
        answers.push(answer);
    }
    Ok(())
}

/// How one query is spread over the shards.
#[derive(Clone, Copy)]
pub(crate) struct ShardPlan<'a> {
    filter: Option<&'a Filter>,
    excluded: Option<&'a ExclusionSet>,
    /// Hits wanted in the end.
    k: usize,
    /// Search breadth over all shards; 0 when every row is compared.
    ef: usize,
    /// Hits asked of one shard.
    shard_k: usize,
    /// Search breadth in one shard.
    shard_ef: usize,
    exact: bool,
    ends: Ends<'a>,
    scored: Option<Scored<'a>>,
}

impl<'q> ShardPlan<'q> {
    /// For a query that keeps so many rows out of its answer.
    fn new(published: Sight<'_>, query: &'q Query<'_>, hidden: usize) -> ShardPlan<'q> {
        let k = if query.k() == 0 { 0 } else { candidates(query, hidden).min(published.high_water()) };
        let breadth = breadth_of(&published, query, k);
        let ef = breadth.unwrap_or(0);
        let exact = breadth.is_none();
        let shown = if published.is_exact() { 0 } else { ef };
        let (filter, excluded, shards) = (query.filters(), query.exclusion_set(), published.shards.len());
        // What passes need not be spread evenly.
        let scored = scored(published, query);
        let is_uneven = filter.is_some() || excluded.is_some() || scored.is_some();
        let shard_k = if exact || is_uneven { k } else { share(k, shards) };
        let ends = Ends { stop: None, reach: query.reach() };
        ShardPlan {
            filter,
            excluded,
            k,
            ef: shown,
            shard_k,
            shard_ef: share(ef, shards),
            exact,
            ends,
            scored,
        }
    }

    /// Not every visible record may be an answer.
    fn is_picky(&self) -> bool {
        self.filter.is_some() || self.excluded.is_some()
    }

    fn until<'s>(self, stop: Option<&'s Stop<'s>>) -> ShardPlan<'s>
    where
        'q: 's,
    {
        ShardPlan { ends: Ends { stop, ..self.ends }, ..self }
    }

    /// For a shard that is asked once and for all.
    fn alone(self) -> ShardPlan<'q> {
        ShardPlan { shard_k: self.k, ..self }
    }

    fn request<'a>(&self, sight: Sight<'a>, prepared: &'a [f32], bound: f32) -> ShardRequest<'a>
    where
        'q: 'a,
    {
        let published = sight.state();
        ShardRequest {
            space: &published.context.space,
            query: prepared,
            at: published.seq,
            now: sight.now,
            hidden: &[],
            k: self.shard_k,
            ef: self.shard_ef,
            // Under a scoring the bound is one of ranks.
            bound: self.ends.reach.filter(|_| self.scored.is_none()).map_or(bound, |reach| reach.min(bound)),
            exact: self.exact,
            follows: false,
            shards: published.shards.len(),
            ends: self.ends,
            filter: self.filter,
            excluded: self.excluded,
            scored: self.scored,
            directory: published.context.directory.as_ref(),
        }
    }
}

/// What counts beside the distance, at the time of the search.
fn scored<'q>(sight: Sight<'_>, query: &'q Query<'_>) -> Option<Scored<'q>> {
    let scoring = query.scoring_wanted()?;
    let wall = || Timestamp(sight.context.wall.now());
    let now = if scoring.needs_now() { wall() } else { scoring.now.unwrap_or_default() };
    Some(Scored { scoring, now })
}

fn check(published: Sight<'_>, query: &Query<'_>) -> Result<(), SearchError> {
    query.search_params().map_or(Ok(()), SearchParams::check)?;
    query.check_wishes()?;
    query.check_filter()?;
    query.scoring_wanted().map_or(Ok(()), Scoring::check_filters)?;
    match query.required() {
        Some(demanded) if is_behind(published, query) && !query.allows_partial() => {
            Err(SearchError::Stale { shown: published.seq, demanded })
        }
        _ => Ok(()),
    }
}

/// Whether a query demands a later write.
fn is_behind(published: Sight<'_>, query: &Query<'_>) -> bool {
    query.required().is_some_and(|demanded| demanded > published.seq)
}

/// Whether an answer is all that was asked for.
fn completeness(published: Sight<'_>, query: &Query<'_>, cut: Option<Cut>, answer: &Answer) -> Completeness {
    let is_left_out = || query.required().is_some_and(|demanded| published.context.health.lacks(demanded));
    let lacks = (is_behind(published, query) || is_left_out()).then_some(Cut::Cancelled);
    Completeness::of(cut.or(lacks), answer.len(), query.k())
}

fn prepare(published: Sight<'_>, query: &Query<'_>, prepared: &mut Lined<f32>) -> Result<(), SearchError> {
    let space = &published.context.space;
    let of_examples = vector_of_examples(published, query)?;
    let vector = of_examples.as_deref().unwrap_or(query.vector());
    let scale = space.check(vector)?;
    space.prepare(vector, scale, prepared);
    Ok(())
}

/// Adds the best of one shard to `scratch.merged`; `follows`: the last search was that of
/// another.
fn search_shard(
    published: Sight<'_>,
    (shard, follows): (usize, bool),
    plan: &ShardPlan<'_>,
    bound: f32,
    scratch: &mut SearchScratch,
) -> Effort {
    let request = ShardRequest { follows, ..plan.request(published, &scratch.prepared, bound) };
    let effort = published.shards[shard].search(&request, &mut scratch.shard);
    if let Some(done) = scratch.shard.filtered {
        scratch.filtered.get_or_insert_default().add(done);
    }
    add_found(&mut scratch.merged, &mut scratch.shard, shard, plan);
    effort
}

fn add_found(merged: &mut Vec<Candidate>, scratch: &mut ShardScratch, shard: usize, plan: &ShardPlan<'_>) {
    let shard = shard as u32;
    if plan.scored.is_some() {
        // Rows within reach only, by rank.
        let ShardScratch { found, bonuses, .. } = scratch;
        let candidate = |found: &Neighbor| {
            let Neighbor { distance, row } = *found;
            Candidate { distance, bonus: bonuses.of(row), shard, row }
        };
        return memory::extend(merged, found.sorted().iter().map(candidate));
    }
    let reach = plan.ends.reach.unwrap_or(f32::INFINITY);
    let found = scratch.found.sorted();
    let found = &found[..found.partition_point(|found| found.distance <= reach)];
    let candidate =
        |found: &Neighbor| Candidate { distance: found.distance, bonus: 0.0, shard, row: found.row };
    memory::extend(merged, found.iter().map(candidate));
}

/// Keeps the k best and gives the distance of the last, infinite while there
/// are fewer than k.
fn merge(merged: &mut Vec<Candidate>, k: usize) -> f32 {
    sort(merged);
    merged.truncate(k);
    kth(merged, k)
}

/// Nearest first; equal distances by shard and row.
fn sort(merged: &mut [Candidate]) {
    merged.sort_unstable_by(|a, b| {
        a.distance.total_cmp(&b.distance).then((a.shard, a.row).cmp(&(b.shard, b.row)))
    });
}

/// The distance of the last of k sorted candidates, infinite while there are fewer.
fn kth(merged: &[Candidate], k: usize) -> f32 {
    match merged.last() {
        Some(last) if merged.len() == k => last.distance,
        _ => f32::INFINITY,
    }
}

/// What became of a search over shards.
struct Found<'a> {
    merged: &'a [Candidate],
    effort: Effort,
    filter: Option<FilterStats>,
    /// The query's vector, if more than the distance counts.
    prepared: Option<&'a [f32]>,
}

impl Found<'_> {
    fn answer(&self, published: Sight<'_>, query: &Query<'_>, ef: usize) -> Answer {
        // Ids lie far apart: all are asked for before the first is read.
        for Candidate { shard, row, .. } in self.merged {
            published.shards[*shard as usize].prefetch_id(*row);
        }
        let mut hits = memory::list(self.merged.len());
        let hit = |candidate: &Candidate| candidate.hit(published, query, self.prepared);
        hits.extend(self.merged.iter().filter_map(hit));
        Answer {
            hits,
            metric: published.context.space.metric(),
            generation: published.generation,
            seq: published.seq,
            completeness: Completeness::Complete,
            stats: SearchStats {
                distances: self.effort.distances,
                hops: self.effort.hops,
                shards: published.shards.len() as u32,
                ef,
                filter: self.filter,
            },
        }
    }
}

/// The best of one shard, for the workers' way of searching: the answer's
/// hits come from this shard alone.
///
/// # Errors
/// As [`search`].
pub(crate) fn search_one_shard(
    published: Sight<'_>,
    query: &Query<'_>,
    shard: usize,
    abandoned: &dyn Fn() -> bool,
) -> Result<Answer, SearchError> {
    let search = |stop: Option<&Stop<'_>>, scratch: &mut SearchScratch| {
        check(published, query)?;
        let hidden = hidden(published, query);
        let plan = ShardPlan::new(published, query, hidden.len()).alone().until(stop);
        scratch.merged.clear();
        scratch.filtered = None;
        let mut effort = Effort::default();
        // It may have waited so long that there is nothing left to do.
        if plan.k > 0 && !plan.ends.are_due(0) {
            prepare(published, query, &mut scratch.prepared)?;
            effort = search_shard(published, (shard, false), &plan, f32::INFINITY, scratch);
            merge(&mut scratch.merged, plan.k);
            leave_out(&hidden, &mut scratch.merged);
        }
        published.context.distances.add(effort.distances);
        let prepared = plan.scored.map(|_| &*scratch.prepared);
        let found = Found { merged: &scratch.merged, effort, filter: scratch.filtered, prepared };
        let mut answer = found.answer(published, query, plan.ef);
        answer.completeness = completeness(published, query, cut_of(stop), &answer);
        Ok(answer)
    };
    watched(published, query, Some((abandoned, published.shards.len())), |stop| {
        SCRATCH.with(|scratch| with_memory(&mut *scratch.borrow_mut(), |scratch| search(stop, scratch)))
    })
}

/// Merges the answers of all shards, given in the order of the shards.
///
/// # Errors
/// [`SearchError::NoMemory`].
pub(crate) fn merge_answers(
    published: Sight<'_>,
    query: &Query<'_>,
    parts: Vec<Answer>,
) -> Result<Answer, SearchError> {
    Ok(memory::unless_short(|| merged(published, query, parts))?)
}

fn merged(published: Sight<'_>, query: &Query<'_>, parts: Vec<Answer>) -> Answer {
    let ef = parts.first().map_or(0, |part| part.stats.ef);
    let nothing = Found { merged: &[], effort: Effort::default(), filter: None, prepared: None };
    let mut merged = nothing.answer(published, query, ef);
    // Lost ones have no part.
    merged.stats.shards = parts.len() as u32;
    let (mut cut, mut hits) = (None, Vec::new());
    for part in parts {
        cut = cut.max(part.completeness.cut());
        merged.stats.distances += part.stats.distances;
        merged.stats.hops += part.stats.hops;
        if let Some(done) = part.stats.filter {
            merged.stats.filter.get_or_insert_default().add(done);
        }
        let places = hits.len() as u32..;
        memory::extend(&mut hits, part.hits.into_iter().zip(places));
    }
    // Equal distances stay in the order of shard and row.
    hits.sort_unstable_by(|(a, at), (b, place)| a.rank().total_cmp(&b.rank()).then(at.cmp(place)));
    memory::extend(&mut merged.hits, hits.into_iter().map(|(hit, _)| hit).take(candidates(query, 0)));
    diversify_hits(published, query, &mut merged.hits);
    merged.hits.truncate(query.k());
    merged.completeness = completeness(published, query, cut, &merged);
    published.context.searches.add(1);
    note_exact(published, &merged);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_bounds_only_when_k_are_known() {
        let at = |distance, row| Candidate { distance, bonus: 0.0, shard: 0, row };
        let mut merged = vec![at(3.0, 1), at(1.0, 2)];
        assert_eq!(merge(&mut merged, 3), f32::INFINITY);
        merged.push(at(2.0, 0));
        merged.push(at(9.0, 4));
        assert_eq!(merge(&mut merged, 3), 3.0);
        assert_eq!(merged.iter().map(|c| c.row).collect::<Vec<_>>(), [2, 0, 1]);
    }
}
