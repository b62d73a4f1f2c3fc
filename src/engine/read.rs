//! Reading: on the caller's thread from the newest snapshot, or through the workers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tracing::warn;

use super::collection::{Collection, CollectionShared};
use super::defaults;
use crate::coordinator::Request;
use crate::error::{ReadError, SearchError, WaitError};
use crate::id::{RecordId, Seq};
use crate::memory;
use crate::payload::Filter;
use crate::query::{Answer, Query, SearchParams};
use crate::shard::{Load, Refusal, SearchOrder, SearchWait, reply_future};
use crate::snapshot::{Record, Snapshot, Toil, VerifyReport, begun as begin, search, toil};

impl Collection {
    /// Searches the newest published snapshot on the calling thread: one
    /// atomic load, no lock, no channel, and once the thread has searched
    /// before, no allocation but the answer. Waits only when the query demands
    /// a write ([`Query::at_least`]) that is not published yet.
    ///
    /// # Errors
    /// [`SearchError`]: the vector, the filter or an example cannot be used or the target not searched
    /// to, the demanded write did not become visible (or was left out), there is no memory for
    /// the search, or the collection is gone.
    pub fn search(&self, query: &Query<'_>) -> Result<Answer, SearchError> {
        self.shared.check_open()?;
        let begun: Query<'_>;
        let mut query = query;
        if query.required().is_some() && query.is_limited() {
            // Waiting counts too.
            let kept = memory::unless_short(|| query.kept())?;
            begun = kept.begun(|| self.shared.context.wall.clock().elapsed());
            query = &begun;
        }
        self.shared.await_required(query).or_else(|fault| tolerate(query, fault))?;
        let clock = self.shared.start_clock();
        let answer = search(self.shared.cell.load().sight(), query);
        self.shared.report_slow(clock, query.k(), "caller");
        answer.inspect(|answer| self.renew_found(query.renewal(), answer))
    }

    /// Answers many queries, in their order, from one snapshot, on the
    /// engine's own pool and the calling thread. Blocks until all are done.
    ///
    /// # Errors
    /// The first query's error, as [`Collection::search`].
    pub fn search_batch(&self, queries: &[Query<'_>]) -> Result<Vec<Answer>, SearchError> {
        self.shared.check_open()?;
        let begun: Vec<Query<'_>>;
        let mut queries = queries;
        if queries.iter().any(Query::is_limited) {
            begun = begin(queries, || self.shared.context.wall.clock().elapsed())?;
            queries = &begun;
        }
        // Each as patiently as it says; what is visible already is not waited for.
        let wait = |query| self.shared.await_required(query).or_else(|fault| tolerate(query, fault));
        queries.iter().try_for_each(wait)?;
        // Of those that came before it, too, one may have been left out.
        queries
            .iter()
            .try_for_each(|query| self.shared.check_demanded(query.required(), query.allows_partial()))?;
        self.snapshot().search_batch(queries)
    }

    /// Searches through the workers: each searches its shard, the coordinator
    /// merges. Never blocks the thread; for any executor. Shows every write
    /// that was accepted before the call; with [`Query::at_least`] that write is
    /// enough, and with `at_least(Seq(0))` whatever is published, so that the
    /// search waits for no write. It waits no longer than the query's [`deadline`](Query::deadline), then answers with what was
    /// seen by then, if it is nothing; nor than [`wait_at_most`](Query::wait_at_most), which is an error then, as a deadline
    /// is that passes while it waits for a write that was asked for, unless the query [allows that](Query::allow_partial).
    ///
    /// It costs a way to the workers and back, so on one shard
    /// [`Collection::search`] answers sooner; with several and idle processors the
    /// shards are searched side by side. Where searches and writes wait, a worker gives two thirds
    /// of its time to searches. Dropping the future cancels what was not started.
    ///
    /// # Errors
    /// As [`Collection::search`], and [`SearchError::Full`] when 1,024
    /// searches wait already, or those that wait are as much work as may
    /// ([`EngineBuilder::mailbox_work`](crate::EngineBuilder::mailbox_work)), and the handle's
    /// [`Backpressure`](crate::Backpressure) says to reject.
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Metric, Query, Record};
    /// # fn block_on<F: Future>(future: F) -> F::Output {
    /// #     let mut future = std::pin::pin!(future);
    /// #     let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    /// #     loop {
    /// #         if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
    /// #             return output;
    /// #         }
    /// #         std::thread::yield_now();
    /// #     }
    /// # }
    /// # let engine = Engine::builder().build()?;
    /// # let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2))?;
    /// # block_on(async {
    /// items.upsert_async(Record::new("a", [1.0, 0.0])).await?;
    /// let answer = items.search_async(Query::new(vec![1.0, 0.0]).top(1)).await?;
    /// assert_eq!(answer.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn search_async(&self, query: Query<'_>) -> Result<Answer, SearchError> {
        let shared = &self.shared;
        shared.check_open()?;
        if query.examples().is_none() {
            shared.context.space.check(query.vector())?;
        }
        query.check_wishes()?;
        query.search_params().map_or(Ok(()), SearchParams::check)?;
        query.filters().map_or(Ok(()), Filter::check)?;
        let query = memory::unless_short(|| query.kept())?;
        let query = query.begun(|| shared.context.wall.clock().elapsed());
        let (clock, k, renewal) = (shared.start_clock(), query.k(), query.renewal());
        let (demanded, allows_partial) = (query.required(), query.allows_partial());
        let wait = search_wait(&query);
        let last = shared.admission.last();
        let required = query.required().unwrap_or(last);
        if required > last {
            return Err(WaitError::Future { seq: required, last }.into());
        }
        let (searches, requests) = (&shared.core.searches, &shared.core.requests);
        let refused = |refusal| match refusal {
            Refusal::Closed => SearchError::Gone(shared.gone()),
            Refusal::Full { reason, .. } => SearchError::Full { capacity: searches.capacity(), reason },
        };
        let toil = shared.toil(&query);
        let load = Load { bytes: size_of_val(query.vector()), work: shared.searching.estimate(toil) };
        let place = searches.acquire_async(load, self.backpressure).await.map_err(refused)?;
        let permit = requests.acquire_async(Load::default(), self.backpressure).await.map_err(refused)?;
        let (reply, waiting) = reply_future();
        let order = SearchOrder { collection: shared.id, query, required, reply, toil, wait, _place: place };
        requests.send(permit, Request::Search(Arc::new(order))).map_err(|_| shared.gone())?;
        let answer = waiting.wait().await.map_err(|_| shared.gone())?;
        shared.report_slow(clock, k, "workers");
        shared.check_demanded(demanded, allows_partial)?;
        match answer {
            // A worker that has ended already takes no search from the coordinator.
            Err(SearchError::Failed { .. }) if shared.core.is_closed() => Err(shared.gone().into()),
            answer => answer.inspect(|answer| self.renew_found(renewal, answer)),
        }
    }

    /// The record with an id, as the newest snapshot shows it, its vector as
    /// it was put in. O(1); takes a short lock on a part of the id directory.
    ///
    /// # Errors
    /// [`ReadError`]: the collection is gone, or there is no memory for the record.
    pub fn get(&self, id: impl Into<RecordId>) -> Result<Option<Record>, ReadError> {
        self.shared.check_open()?;
        self.snapshot().get(id)
    }

    /// The records with some ids, all from the newest snapshot: see [`Snapshot::get_many`].
    ///
    /// # Errors
    /// As [`Collection::get`].
    pub fn get_many<I: Into<RecordId>>(
        &self,
        ids: impl IntoIterator<Item = I>,
    ) -> Result<Vec<Option<Record>>, ReadError> {
        self.shared.check_open()?;
        self.snapshot().get_many(ids)
    }

    /// True when the newest snapshot shows a record with this id. O(1).
    ///
    /// # Errors
    /// [`ReadError::Gone`] when the collection is gone.
    pub fn contains(&self, id: impl Into<RecordId>) -> Result<bool, ReadError> {
        self.shared.check_open()?;
        Ok(self.snapshot().contains(id))
    }

    /// The number of records that the newest snapshot shows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.cell.load().sight().len()
    }

    /// True when the newest snapshot shows no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks the newest snapshot from the ground up: see [`Snapshot::verify`].
    /// O(records); blocks the calling thread only.
    ///
    /// # Errors
    /// [`ReadError`]: the collection is gone, or there is no memory for it. What is
    /// wrong with the collection, if anything, stands in the report.
    pub fn verify(&self) -> Result<VerifyReport, ReadError> {
        self.shared.check_open()?;
        let snapshot: Snapshot = self.snapshot();
        snapshot.verify()
    }
}

/// How long a search through the workers waits for writes: at most until its deadline, and for a write that was
/// demanded as long as on the calling thread.
fn search_wait(query: &Query<'_>) -> Option<SearchWait> {
    let is_demanded = query.required().is_some();
    let patience = query.patience().or(is_demanded.then_some(defaults::PATIENCE));
    let limits = [patience, query.time_allowed()];
    let limit = limits.into_iter().flatten().min()?;
    let asked = Instant::now();
    let is_deadline = !is_demanded && query.time_allowed() == Some(limit);
    // (One that ends with the world is none.)
    asked.checked_add(limit).map(|until| SearchWait { asked, until, is_deadline })
}

/// What a query puts up with that allows a partial answer.
fn tolerate(query: &Query<'_>, fault: SearchError) -> Result<(), SearchError> {
    match fault {
        // There is no such write: a mistake of the caller's.
        SearchError::AtLeast(WaitError::Future { .. }) => Err(fault),
        SearchError::AtLeast(_) if query.allows_partial() => Ok(()),
        _ => Err(fault),
    }
}

impl Snapshot {
    /// Answers many queries, in their order, on the calling thread and the
    /// engine's pool (on the calling thread alone once the engine is closed).
    /// Blocks until all are done.
    ///
    /// # Errors
    /// The first query's error that [`Snapshot::search`] gives.
    pub fn search_batch(&self, queries: &[Query<'_>]) -> Result<Vec<Answer>, SearchError> {
        let own = begin(queries, || self.published().context.wall.clock().elapsed())?;
        let pieces = queries.chunks(QUERIES_PER_PIECE);
        let answers = memory::unless_short(|| memory::collect(pieces.map(|_| Mutex::default())))?;
        let batch = Arc::new(QueryBatch { snapshot: self.clone(), queries: own, answers });
        let work = Arc::clone(&batch);
        self.helpers()
            .share(queries.len().div_ceil(QUERIES_PER_PIECE), Arc::new(move |piece| work.answer(piece)));
        let mut all = memory::unless_short(|| memory::list(queries.len()))?;
        for part in &batch.answers {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner).take();
            all.extend(part.unwrap_or(Err(SearchError::Failed { shard: 0 }))?);
        }
        Ok(all)
    }
}

/// Queries that a thread takes at a time: enough to hide the taking.
const QUERIES_PER_PIECE: usize = 16;

/// The answers of a piece, once it was searched for.
type PieceAnswers = Option<Result<Vec<Answer>, SearchError>>;

/// A batch that several threads answer; it owns its queries, so that a helper
/// that comes too late finds nothing dangling.
struct QueryBatch {
    snapshot: Snapshot,
    queries: Vec<Query<'static>>,
    /// By piece.
    answers: Vec<Mutex<PieceAnswers>>,
}

impl QueryBatch {
    fn answer(&self, piece: usize) {
        let from = piece * QUERIES_PER_PIECE;
        let queries = &self.queries[from..self.queries.len().min(from + QUERIES_PER_PIECE)];
        let answers = self.snapshot.search_many(queries);
        *self.answers[piece].lock().unwrap_or_else(PoisonError::into_inner) = Some(answers);
    }
}

impl CollectionShared {
    /// What a search is going to be for each worker, going by what is published now.
    fn toil(&self, query: &Query<'_>) -> Toil {
        toil(&self.cell.load(), query)
    }

    /// The time, if slow searches are to be reported.
    #[inline]
    fn start_clock(&self) -> Option<Instant> {
        self.core.slow_query.map(|_| Instant::now())
    }

    #[inline]
    fn report_slow(&self, clock: Option<Instant>, k: usize, way: &'static str) {
        let (Some(started), Some(limit)) = (clock, self.core.slow_query) else { return };
        let elapsed = started.elapsed();
        if elapsed > limit {
            let collection = &self.context.name;
            warn!(collection, k, way, elapsed_us = elapsed.as_micros() as u64, "slow query");
        }
    }

    /// No shard has left out its part of a write that a query demands, unless that is put up with.
    fn check_demanded(&self, demanded: Option<Seq>, allows_partial: bool) -> Result<(), SearchError> {
        match demanded.map_or(Ok(()), |seq| self.check_whole(seq)) {
            Err(fault) if !allows_partial => Err(fault.into()),
            _ => Ok(()),
        }
    }

    /// Waits for the write that a query demands.
    fn await_required(&self, query: &Query<'_>) -> Result<(), SearchError> {
        let Some(required) = query.required() else { return Ok(()) };
        if self.cell.load().seq >= required {
            return Ok(self.check_whole(required)?);
        }
        let limit = query.patience().unwrap_or(defaults::PATIENCE);
        let limit = query.time_allowed().map_or(limit, |allowed| allowed.min(limit));
        self.wait_visible(required, Some(limit))?;
        Ok(())
    }
}
