//! How broadly a query is searched for: what it says, or what its target takes.

use super::published::Published;
use super::wishes::candidates;
use crate::query::{Goal, Query, Target};
use crate::tuning::{Choice, EXACT_ROWS, Reach, UNCALIBRATED_EF, choose};

/// The breadth for a query for `k` hits; `None`: compare with every row. Lets
/// the collection know when a target is asked for.
pub(super) fn breadth_of(published: &Published, query: &Query<'_>, k: usize) -> Option<usize> {
    if query.is_exact() {
        return None;
    }
    let context = &published.context;
    match query.search_params().or(context.search).map(|params| params.goal()) {
        None => Some(published.ef_search().max(least_for(published, k))),
        Some(Goal::Breadth(ef)) => Some(ef.max(1)),
        Some(Goal::Target(target)) => {
            context.tuning.note(target);
            breadth_for(published, target, k).0
        }
    }
}

/// Who asks for many hits and says nothing else gets one in so many of them as
/// breadth: 1,000 hits of Fashion-MNIST and of GloVe are found to 0.989 then, to
/// 0.93 with the default of 64.
const HITS_A_BREADTH: usize = 2;

/// The least breadth for `k` hits where nothing is said.
fn least_for(published: &Published, k: usize) -> usize {
    let counts_lists = published.shards.first().is_some_and(|shard| shard.index().counts_lists());
    if counts_lists { 0 } else { k / HITS_A_BREADTH }
}

/// The breadth for a target, `None` being the exact search, and what is known
/// of its reach.
pub(crate) fn breadth_for(published: &Published, target: Target, k: usize) -> (Option<usize>, Reach) {
    let ef_search = published.ef_search();
    if published.is_exact() {
        return (Some(ef_search), Reach::Exact);
    }
    if wants_all(target) || published.high_water() < EXACT_ROWS {
        return (None, Reach::Exact);
    }
    // What so few rows showed does not hold for more.
    let table = published.calibration.as_ref().filter(|table| table.rows >= EXACT_ROWS);
    match table.and_then(|table| choose(table, target, k)) {
        Some(Choice { exact: true, .. }) => (None, Reach::Exact),
        Some(Choice { ef, reached: true, .. }) => (Some(ef), Reach::Reached),
        Some(Choice { ef, .. }) => (Some(ef), Reach::BestAvailable),
        None => (Some(uncalibrated(target, ef_search, k)), Reach::Unknown),
    }
}

/// How much work a search is for the worker of each shard, as far as that can
/// be told beforehand. Only the order of magnitude counts: what a unit takes is
/// measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Toil {
    /// Units are rows that are compared; else the breadth of a walk.
    pub(crate) scans: bool,
    /// How many rows pass is known only when it is searched.
    pub(crate) filtered: bool,
    pub(crate) units: u64,
}

/// What a search does beside its breadth, as breadth: preparing the vector,
/// finding the entry, gathering the answer.
const BESIDE: u64 = 16;

/// What a search is going to be for each worker: for that with most rows, since
/// it is over when the last is. (The tail is left out: it changes slowly, so what
/// searches took lately holds it.)
pub(crate) fn toil(published: &Published, query: &Query<'_>) -> Toil {
    let rows = published.shards.iter().map(|shard| shard.high_water() as usize).max().unwrap_or(0);
    let wanted = candidates(query, 0).min(rows);
    let breadth = breadth_of(published, query, wanted).filter(|_| !published.is_exact());
    let units = breadth.map_or(rows, |breadth| breadth.min(rows).max(wanted)) as u64;
    let units = BESIDE + units.min(query.distances_allowed());
    Toil { scans: breadth.is_none(), filtered: query.filters().is_some(), units }
}

fn wants_all(target: Target) -> bool {
    matches!(target, Target::Recall(share) if share.get() >= 1.0)
}

/// The breadth while nothing is known.
fn uncalibrated(target: Target, ef_search: usize, k: usize) -> usize {
    match target {
        Target::Recall(_) => ef_search.max(UNCALIBRATED_EF).max(2 * k),
        Target::P99(_) => ef_search,
    }
}

/// Standard deviations added to what a shard holds on average of the best k
/// (or of the search list): a shard with more than that is one in thousands.
const SPREAD: f64 = 3.0;

/// The part of a search list of `ef` that one of `shards` equal shards needs:
/// rows are spread by hash, so the number of the best `ef` in one shard is
/// binomial. (Lucene gives its segments a share by the same reasoning.)
pub(super) fn share(ef: usize, shards: usize) -> usize {
    if shards <= 1 {
        return ef;
    }
    let part = 1.0 / shards as f64;
    let mean = ef as f64 * part;
    let spread = SPREAD * (mean * (1.0 - part)).sqrt();
    ((mean + spread).ceil() as usize).min(ef)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_shrink_with_the_number_of_shards_but_never_exceed_the_whole() {
        assert_eq!(share(100, 1), 100);
        assert!(share(100, 2) < 70 && share(100, 2) > 50);
        assert!(share(100, 8) < 30 && share(100, 8) > 12);
        assert_eq!(share(1, 8), 1);
    }
}
