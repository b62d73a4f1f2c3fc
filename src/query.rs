//! Questions and answers.

mod examples;
mod filtered;
mod limits;
mod params;
mod scoring;

use std::borrow::Cow;
use std::time::Duration;

use crate::id::{Generation, RecordId, Seq};
use crate::memory;
use crate::metric::Metric;
use crate::payload::{ExclusionSet, Filter, FilterError, Payload};

pub use examples::Example;
use examples::Wishes;
pub use filtered::{FilterPlan, FilterStats};
use limits::Limits;
pub use limits::{CancelToken, Completeness};
pub use params::SearchParams;
pub(crate) use params::{Goal, Target};
pub use scoring::Scoring;
pub(crate) use scoring::{Gain, Term};

/// Hits that a query asks for when nothing else is said.
const DEFAULT_TOP: usize = 10;

/// The same when all within a distance are wanted: so that a distance chosen too
/// large does not give the whole collection.
const DEFAULT_WITHIN: usize = 10_000;

/// What to search for.
///
/// ```
/// use vecino::Query;
/// let vector = vec![0.0; 128];
/// let query = Query::new(&vector).top(5).ef_search(100);
/// assert_eq!(query.k(), 5);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Query<'a> {
    vector: Cow<'a, [f32]>,
    k: Option<usize>,
    params: Option<SearchParams>,
    exact: bool,
    filter: Option<Filter>,
    excluded: Option<ExclusionSet>,
    with_payload: bool,
    allow_partial: bool,
    at_least: Option<Seq>,
    wait_at_most: Option<Duration>,
    limits: Limits,
    wishes: Wishes,
    /// The engine has made its filter, of one that was checked.
    is_vouched: bool,
}

impl<'a> Query<'a> {
    /// Asks for the 10 nearest records to a vector, which is borrowed from a
    /// slice, an array or a `&Vec`, or owned when a `Vec` is given.
    pub fn new(vector: impl Into<Cow<'a, [f32]>>) -> Self {
        Query {
            vector: vector.into(),
            k: None,
            params: None,
            exact: false,
            filter: None,
            excluded: None,
            with_payload: true,
            allow_partial: false,
            at_least: None,
            wait_at_most: None,
            limits: Limits::default(),
            wishes: Wishes::default(),
            is_vouched: false,
        }
    }

    /// Asks for `k` hits. With 0 the answer is empty; with more than the
    /// collection holds it is the whole collection, nearest first.
    #[must_use]
    pub fn top(mut self, k: usize) -> Self {
        self.k = Some(k);
        self
    }

    /// The breadth of the search in graph indexes: more finds better and costs
    /// more. At most the number of rows counts, at least 1. HNSW raises it to k; the quantized graph keeps
    /// candidates for k beside it. Default: the collection's own, or k / 2 if that is more.
    ///
    /// Graphs under L2 and cosine walk through about `ef_search` rows where it is more than k: down to half as many (k at least) where
    /// rows soon get much farther than the k-th, so that hardly any of them comes into the answer, and up to
    /// twice as many where they do not. Under inner product, with a filter, and in HNSW by coarse codes (binary, PQ) it is `ef_search` rows.
    ///
    /// Exact indexes ignore it.
    /// Short for [`Query::params`] with [`SearchParams::ef_search`].
    #[must_use]
    pub fn ef_search(self, ef_search: usize) -> Self {
        self.params(SearchParams::ef_search(ef_search.max(1)))
    }

    /// The lists that a search of an inverted file
    /// ([`IndexSpec::Ivf`](crate::IndexSpec::Ivf)) looks through: the breadth
    /// of such an index, so this is [`Query::ef_search`] by the name that it has there.
    #[must_use]
    pub fn nprobe(self, nprobe: usize) -> Self {
        self.ef_search(nprobe)
    }

    /// How hard to search: a breadth, or a target such as a recall of 0.98.
    /// The collection's own default is used when this is not said. A target
    /// that is none makes the search give [`ParamsError`](crate::ParamsError).
    ///
    /// ```
    /// use vecino::{Query, SearchParams};
    /// let query = Query::new(&[0.0; 128]).params(SearchParams::recall(0.98));
    /// ```
    #[must_use]
    pub fn params(mut self, params: SearchParams) -> Self {
        self.params = Some(params);
        self
    }

    /// Compares with every record: the exact answer, in O(rows x dimension).
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    /// Asks only for records that pass a filter; any number of queries may share one.
    ///
    /// Few records that pass are all compared; many are found by the index,
    /// and the answer says which it was: see [`SearchStats::filter`].
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Filter, Metric, Query, Record};
    /// # let engine = Engine::builder().build()?;
    /// # let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2))?;
    /// items.upsert(Record::new("guitar-001", [0.0, 0.0]).with("genre", "rock").with("year", 1994))?;
    /// items.upsert(Record::new("harp-007", [0.1, 0.0]).with("genre", "folk").with("year", 1996))?.wait()?;
    ///
    /// let nineties = Filter::eq("genre", "folk") & Filter::range("year", 1990..2000);
    /// let answer = items.search(&Query::new(&[0.0, 0.0]).filter(nineties))?;
    /// assert_eq!(answer.hits()[0].id, "harp-007".into());
    /// assert_eq!(answer.hits()[0].payload.get("year"), Some(&1996.into()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Leaves the records of a set out, as the set is now; any number of queries
    /// may share one. (For a few ids of one query: [`Query::exclude`].)
    #[must_use]
    pub fn exclude_set(mut self, excluded: &ExclusionSet) -> Self {
        self.excluded = Some(excluded.clone());
        self
    }

    /// Leaves the payloads out of the hits: a few hundred nanoseconds less for each.
    #[must_use]
    pub fn without_payload(mut self) -> Self {
        self.with_payload = false;
        self
    }

    /// Answers only from a snapshot that shows this write: waits for it when
    /// it is not published yet. A held [`Snapshot`](crate::Snapshot) that does
    /// not show it gives an error, because it never will.
    #[must_use]
    pub fn at_least(mut self, seq: Seq) -> Self {
        self.at_least = Some(seq);
        self
    }

    /// How long [`Query::at_least`] may wait; 30 seconds when nothing is said. Also how long a
    /// [search through the workers](crate::Collection::search_async) may wait for the writes before it; as long as it takes when
    /// nothing is said.
    #[must_use]
    pub fn wait_at_most(mut self, limit: Duration) -> Self {
        self.wait_at_most = Some(limit);
        self
    }

    /// Rather an answer that lacks something than an error: without a shard whose
    /// worker has failed or is too busy, or without a write that was demanded and
    /// cannot be shown. Such an answer says [`Completeness::Partial`].
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Completeness, Engine, Metric, Query, Record};
    /// # let engine = Engine::builder().build()?;
    /// # let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2))?;
    /// let before = items.snapshot();
    /// let write = items.upsert(Record::new(1, [0.0, 0.0]))?;
    /// let query = Query::new(&[1.0, 0.0]).at_least(write.seq()).allow_partial();
    /// assert_eq!(before.search(&query)?.completeness(), Completeness::Partial);
    /// assert_eq!(items.search(&query)?.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn allow_partial(mut self) -> Self {
        self.allow_partial = true;
        self
    }

    /// The vector that is searched for; empty when examples stand for it.
    #[must_use]
    pub fn vector(&self) -> &[f32] {
        &self.vector
    }

    /// The number of hits asked for.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k.unwrap_or(if self.reach().is_some() { DEFAULT_WITHIN } else { DEFAULT_TOP })
    }

    /// The same query, owning its vector: for calls that outlive the caller's frame.
    #[must_use]
    pub fn into_owned(self) -> Query<'static> {
        let owned = self.with_parts(Vec::new(), self.wishes.clone());
        Query { vector: Cow::Owned(self.vector.into_owned()), ..owned }
    }

    /// The same for calls that the engine keeps; unwinds where there is no memory for it.
    pub(crate) fn kept(&self) -> Query<'static> {
        self.with_parts(memory::copied(&self.vector), self.wishes.copy())
    }

    fn with_parts(&self, vector: Vec<f32>, wishes: Wishes) -> Query<'static> {
        Query {
            vector: Cow::Owned(vector),
            k: self.k,
            params: self.params,
            exact: self.exact,
            filter: self.filter.clone(),
            excluded: self.excluded.clone(),
            with_payload: self.with_payload,
            allow_partial: self.allow_partial,
            at_least: self.at_least,
            wait_at_most: self.wait_at_most,
            limits: self.limits.clone(),
            wishes,
            is_vouched: self.is_vouched,
        }
    }

    /// With a filter that the engine made of one that was checked: it may be larger than what
    /// callers may give.
    pub(crate) fn vouched(mut self) -> Self {
        self.is_vouched = true;
        self
    }

    /// # Errors
    /// Its filter cannot be used.
    pub(crate) fn check_filter(&self) -> Result<(), FilterError> {
        self.filter.as_ref().filter(|_| !self.is_vouched).map_or(Ok(()), Filter::check)
    }

    pub(crate) fn search_params(&self) -> Option<SearchParams> {
        self.params
    }

    pub(crate) fn is_exact(&self) -> bool {
        self.exact
    }

    pub(crate) fn filters(&self) -> Option<&Filter> {
        self.filter.as_ref()
    }

    /// The set of records to leave out, unless it is empty.
    pub(crate) fn exclusion_set(&self) -> Option<&ExclusionSet> {
        self.excluded.as_ref().filter(|set| !set.is_empty())
    }

    pub(crate) fn wants_payload(&self) -> bool {
        self.with_payload
    }

    pub(crate) fn allows_partial(&self) -> bool {
        self.allow_partial
    }

    pub(crate) fn required(&self) -> Option<Seq> {
        self.at_least
    }

    pub(crate) fn patience(&self) -> Option<Duration> {
        self.wait_at_most
    }
}

/// One record that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// The record's id.
    pub id: RecordId,
    /// Its distance to the query: smaller is closer. Under [`Metric::L2`] the squared distance, under
    /// `Cosine` 1 - the cosine, under `Dot` the negated product.
    pub distance: f32,
    /// What its fields have earned it: hits stand in the order of `distance -
    /// bonus`. 0 unless the query has a [`Scoring`].
    pub bonus: f32,
    /// Its payload, unless the query was [without](Query::without_payload).
    pub payload: Payload,
}

impl Hit {
    /// What it is ordered by.
    pub(crate) fn rank(&self) -> f32 {
        self.distance - self.bonus
    }
}

/// What a search did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchStats {
    /// Distances that were computed, those that stopped early included.
    pub distances: u64,
    /// Graph nodes whose neighbours were looked at; 0 for exact search.
    pub hops: u64,
    /// Shards that were searched.
    pub shards: u32,
    /// The breadth of the search over all shards, as asked for or as found for
    /// a target; 0 when every record was compared (exact search,
    /// exact indexes).
    pub ef: usize,
    /// What was done with the query's filter, if it had one.
    pub filter: Option<FilterStats>,
}

/// The records found, nearest first, and which state of the collection they are from.
///
/// ```
/// # use vecino::{CollectionConfig, Engine, Metric, Query, Record};
/// # let engine = Engine::builder().build()?;
/// # let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2))?;
/// # items.upsert(Record::new("a", [1.0, 0.0]))?.wait()?;
/// let answer = items.search(&Query::new(&[0.9, 0.1]))?;
/// for hit in &answer {
///     println!("{} {:.3}", hit.id, hit.distance);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub(crate) hits: Vec<Hit>,
    pub(crate) metric: Metric,
    pub(crate) generation: Generation,
    pub(crate) seq: Seq,
    pub(crate) stats: SearchStats,
    pub(crate) completeness: Completeness,
}

impl Answer {
    /// The hits, nearest first (under a [scoring](Query::scoring) by rank); equal
    /// distances in the order of shard and row.
    /// (With [`Query::diversity`]: in the order in which they were chosen.)
    #[must_use]
    pub fn hits(&self) -> &[Hit] {
        &self.hits
    }

    /// The hits by value.
    #[must_use]
    pub fn into_hits(self) -> Vec<Hit> {
        self.hits
    }

    /// The number of hits. [`Answer::completeness`] says why they are fewer than
    /// asked for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hits.len()
    }

    /// True when nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hits.is_empty()
    }

    /// The larger-is-better score of a hit: see [`Metric::score`].
    #[must_use]
    pub fn score(&self, hit: &Hit) -> f32 {
        self.metric.score(hit.distance)
    }

    /// The score of a hit from 0 to 1: see [`Metric::unit_score`].
    #[must_use]
    pub fn unit_score(&self, hit: &Hit) -> f32 {
        self.metric.unit_score(hit.distance)
    }

    /// The snapshot that answered.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The last write that the answer shows.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// Whether this is all that was asked for, and if not, why.
    #[must_use]
    pub fn completeness(&self) -> Completeness {
        self.completeness
    }

    /// What the search did.
    #[must_use]
    pub fn stats(&self) -> SearchStats {
        self.stats
    }
}

impl<'a> IntoIterator for &'a Answer {
    type Item = &'a Hit;
    type IntoIter = std::slice::Iter<'a, Hit>;

    fn into_iter(self) -> Self::IntoIter {
        self.hits.iter()
    }
}

impl IntoIterator for Answer {
    type Item = Hit;
    type IntoIter = std::vec::IntoIter<Hit>;

    fn into_iter(self) -> Self::IntoIter {
        self.hits.into_iter()
    }
}
