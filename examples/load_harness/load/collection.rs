//! vecino under load: on the calling thread, or through the workers.

use std::time::Duration;

use vecino::{
    Answer, Collection, Completeness, Engine, Filter, Page, Payload, Query, Record, SearchError,
    SearchParams, Seq, Snapshot, Write, WriteError,
};

use super::check::{Judge, Sample};
use super::data::Data;
use super::feed::Request;
use super::mix::Operation;
use super::rng::mixed;
use super::target::{Call, Gauges, Later, Outcome, Prepared, Reply, Target};

/// Records of a page.
const PAGE: usize = 100;

/// The field that filters ask for: a number below `GROUPS`.
const FIELD: &str = "group";
pub(super) const GROUPS: u64 = 10_000;

/// The field that updates change.
const UPDATED: &str = "seen";

/// How long a record lives that expires.
const LAPSE: Duration = Duration::from_secs(1);

/// The record of a key. Its group does not follow from where its vector is.
pub(crate) fn record(key: u64, vector: &[f32]) -> Record {
    Record::new(key, vector).with(FIELD, (mixed(key) % GROUPS) as i64)
}

/// Which of the ways to read and write is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// `search`, `upsert`: on the thread that sends the request.
    Caller,
    /// `search_async`, `upsert_async`: by the workers, awaited.
    Workers,
}

/// How a collection is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking {
    pub(crate) way: Way,
    pub(crate) k: usize,
    /// `None`: as the collection is set.
    pub(crate) params: Option<SearchParams>,
    /// A search through the workers waits for no write.
    pub(crate) published_is_enough: bool,
    /// One search of so many is handed to the judge; 0: none.
    pub(crate) judge_every: u64,
    /// One write of so many is watched until it is visible; 0: none.
    pub(crate) watch_every: u64,
    /// Records of a batch.
    pub(crate) batch: u64,
    /// The part of the records that filters let pass.
    pub(crate) selectivity: f64,
}

/// A collection of an engine.
pub(crate) struct UnderLoad<'d> {
    pub(crate) engine: Engine,
    pub(crate) items: Collection,
    pub(crate) data: &'d Data,
    pub(crate) asking: Asking,
    pub(crate) judge: Judge<'d>,
}

impl UnderLoad<'_> {
    fn query(&self, request: Request) -> Query<'_> {
        let query = Query::new(self.data.query(request.query)).top(self.asking.k);
        let query = match request.operation {
            Operation::Filtered => {
                query.filter(Filter::lt(FIELD, (self.asking.selectivity * GROUPS as f64) as i64))
            }
            _ => query,
        };
        self.asking.params.map_or(query.clone(), |params| query.params(params))
    }

    fn is_judged(&self, request: Request) -> bool {
        self.asking.judge_every > 0 && request.number.is_multiple_of(self.asking.judge_every)
    }

    fn search(&self, request: Request) -> Reply<'_> {
        let query = self.query(request);
        if !self.is_judged(request) {
            return self.searched(&self.items.search(&query), None).into();
        }
        // The same work, and the snapshot is known.
        let snapshot = self.items.snapshot();
        let answer = snapshot.search(&query);
        let outcome = self.searched(&answer, Some(&snapshot));
        self.judged(outcome, snapshot, query, answer.ok())
    }

    async fn search_by_workers(&self, request: Request) -> Reply<'_> {
        let mut query = self.query(request);
        if self.asking.published_is_enough {
            query = query.at_least(Seq(0));
        }
        let answer = self.items.search_async(query.clone()).await;
        let outcome = self.searched(&answer, None);
        if !self.is_judged(request) {
            return outcome.into();
        }
        let snapshot = self.items.snapshot();
        let own = answer.ok().filter(|answer| answer.generation() == snapshot.generation());
        self.judged(outcome, snapshot, query, own)
    }

    /// An answer that the judge gets afterwards.
    fn judged<'a>(
        &'a self,
        outcome: Outcome,
        snapshot: Snapshot,
        query: Query<'a>,
        answer: Option<Answer>,
    ) -> Reply<'a> {
        let offer = move || self.judge.offer(Sample { snapshot, query: query.into_owned(), answer });
        Reply { after: Some(Box::new(offer)), ..outcome.into() }
    }

    fn searched(&self, answer: &Result<Answer, SearchError>, snapshot: Option<&Snapshot>) -> Outcome {
        match answer {
            // All that pass: never silently short.
            Ok(answer) if answer.stats().filter.is_some() => {
                let is_whole = answer.completeness() == Completeness::Complete;
                if is_whole == (answer.len() == self.asking.k) { Outcome::Done } else { Outcome::Short }
            }
            Ok(answer) if answer.len() < self.asking.k => {
                let rows = snapshot.map_or_else(|| self.items.len(), Snapshot::len);
                if answer.len() < rows.min(self.asking.k) { Outcome::Short } else { Outcome::Done }
            }
            Ok(_) => Outcome::Done,
            Err(SearchError::Full { .. }) => Outcome::Refused,
            Err(fault) => Outcome::Failed(fault.to_string()),
        }
    }

    fn page(&self, request: Request) -> Outcome {
        // From the start: cursors of other snapshots say nothing about this one.
        let _ = request;
        let Page { records, .. } = match self.items.snapshot().scroll(None, PAGE) {
            Ok(page) => page,
            Err(fault) => return Outcome::Failed(fault.to_string()),
        };
        if records.len() < PAGE.min(self.items.len()) { Outcome::Short } else { Outcome::Done }
    }

    fn written(&self, request: Request, write: Result<Write, WriteError>) -> Reply<'_> {
        let write = match write {
            Ok(write) => write,
            Err(WriteError::Full { .. }) => return Outcome::Refused.into(),
            Err(fault) => return Outcome::Failed(fault.to_string()).into(),
        };
        let watched = self.asking.watch_every > 0 && request.number.is_multiple_of(self.asking.watch_every);
        let visible = watched.then(|| -> Later<'_, bool> {
            // Others may replace or delete a record at once, but not a new one.
            let is_new = matches!(request.operation, Operation::Insert | Operation::Batch);
            Box::pin(async move {
                write.wait_async().await.is_ok() && (!is_new || self.items.snapshot().contains(request.key))
            })
        });
        Reply { visible, ..Outcome::Done.into() }
    }

    fn write(&self, prepared: Prepared) -> Reply<'_> {
        let Prepared { request, mut records } = prepared;
        let write = match (request.operation, records.pop()) {
            (Operation::Delete, _) => self.items.delete(request.key),
            (Operation::Batch, Some(last)) => self.items.upsert_batch(records.into_iter().chain([last])),
            (_, Some(record)) => self.items.upsert(record),
            (_, None) => return nothing_to_write(),
        };
        self.written(request, write)
    }

    fn update(&self, request: Request) -> Reply<'_> {
        let payload = Payload::new().with(UPDATED, request.number as i64);
        self.written(request, self.items.merge_payload(request.key, payload))
    }

    async fn write_by_workers(&self, prepared: Prepared) -> Reply<'_> {
        let Prepared { request, mut records } = prepared;
        let write = match (request.operation, records.pop()) {
            (Operation::Delete, _) => self.items.delete_async(request.key).await,
            (Operation::Batch, Some(last)) => {
                self.items.upsert_batch_async(records.into_iter().chain([last])).await
            }
            (_, Some(record)) => self.items.upsert_async(record).await,
            (_, None) => return nothing_to_write(),
        };
        self.written(request, write)
    }
}

/// A batch of no records would be.
fn nothing_to_write<'a>() -> Reply<'a> {
    Outcome::Failed("there is nothing to write".to_owned()).into()
}

impl Target for UnderLoad<'_> {
    fn describe(&self) -> String {
        let way = match self.asking.way {
            Way::Caller => "on the calling thread",
            Way::Workers => "through the workers (async)",
        };
        format!("vecino {} {way}, kernels {}", env!("CARGO_PKG_VERSION"), self.engine.stats().isa)
    }

    fn prepare(&self, request: Request) -> Prepared {
        let record = |at: u64| record(request.key + at, self.data.row(request.row.wrapping_add(at)));
        // Of ids of their own: nobody else writes them.
        let lapsing =
            || Record::new(format!("lapse-{}", request.number), self.data.row(request.row)).ttl(LAPSE);
        let records = match request.operation {
            Operation::Insert | Operation::Upsert => vec![record(0)],
            Operation::Batch => (0..self.asking.batch).map(record).collect(),
            Operation::Lapse => vec![lapsing()],
            Operation::Search
            | Operation::Filtered
            | Operation::Delete
            | Operation::Update
            | Operation::Page => Vec::new(),
        };
        Prepared { request, records }
    }

    fn call(&self, prepared: Prepared) -> Call<'_> {
        let request = prepared.request;
        match (request.operation, self.asking.way) {
            (Operation::Search | Operation::Filtered, Way::Caller) => Call::Now(self.search(request)),
            (Operation::Search | Operation::Filtered, Way::Workers) => {
                Call::Later(Box::pin(self.search_by_workers(request)))
            }
            (Operation::Page, _) => Call::Now(self.page(request).into()),
            (Operation::Update, _) => Call::Now(self.update(request)),
            (_, Way::Caller) => Call::Now(self.write(prepared)),
            (_, Way::Workers) => Call::Later(Box::pin(self.write_by_workers(prepared))),
        }
    }

    fn gauges(&self) -> Gauges {
        let (engine, items) = (self.engine.stats(), self.items.stats());
        Gauges {
            bytes: items.bytes.total(),
            rows: items.rows,
            tail: items.tail,
            queued: engine.mailbox_depths.iter().sum::<usize>() + engine.coordinator_depth,
        }
    }
}
