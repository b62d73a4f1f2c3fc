//! Published states of a collection: held, read and searched without a lock.

mod cell;
mod effort;
mod published;
mod search;
mod sight;
mod verify;
mod watch;
mod wishes;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use cell::SnapshotCell;
pub(crate) use effort::breadth_for;
pub(crate) use published::{
    Calibrator, Context, ExactUse, Health, Helpers, Published, Screener, Tuning, shard_of,
};
pub(crate) use search::{merge_answers, search, search_many, search_one_shard, search_uncounted};
pub(crate) use sight::Sight;
pub use verify::{Finding, VerifyReport};

use crate::clock::milliseconds;
use crate::error::SearchError;
use crate::id::{Generation, RecordId, Row, Seq};
use crate::query::{Answer, Query};
use crate::rows::{NEVER, ShardView};

/// A record: an id and its vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    id: RecordId,
    vector: Vec<f32>,
    expiry: Expiry,
}

/// When a record expires, as its writer says it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Expiry {
    /// As the collection says.
    #[default]
    Default,
    Never,
    After(Duration),
    /// Milliseconds since the Unix epoch.
    At(u64),
}

impl Expiry {
    /// Milliseconds since the Unix epoch, for who writes it now.
    pub(crate) fn resolve(self, now: impl FnOnce() -> u64, default: Option<Duration>) -> u64 {
        match (self, default) {
            (Expiry::Never, _) | (Expiry::Default, None) => NEVER,
            (Expiry::At(time), _) => time,
            (Expiry::After(ttl), _) | (Expiry::Default, Some(ttl)) => after(now(), ttl),
        }
    }
}

/// The time so long after another; before the end of all times.
pub(crate) fn after(now: u64, ttl: Duration) -> u64 {
    now.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(NEVER)).min(NEVER - 1)
}

impl Record {
    /// A record with a numeric or text id.
    ///
    /// ```
    /// use vecino::Record;
    /// let song = Record::new("guitar-001", [0.1, 0.2, 0.3]);
    /// assert_eq!(song.vector(), [0.1, 0.2, 0.3]);
    /// ```
    pub fn new(id: impl Into<RecordId>, vector: impl Into<Vec<f32>>) -> Record {
        Record { id: id.into(), vector: vector.into(), expiry: Expiry::Default }
    }

    /// Expires so long after it is written: from then on no search and no
    /// `get` shows it, to the millisecond, and its memory is given back in the
    /// background.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use std::time::Duration;
    /// # use vecino::{CollectionConfig, Engine, ManualClock, Metric, Record};
    /// let clock = Arc::new(ManualClock::default());
    /// let engine = Engine::builder().clock(clock.clone()).build()?;
    /// let notes = engine.create_collection("notes", CollectionConfig::new(2, Metric::L2))?;
    /// notes.upsert(Record::new("pin", [1.0, 0.0]).ttl(Duration::from_secs(60)))?.wait()?;
    /// clock.advance(Duration::from_secs(59));
    /// assert!(notes.contains("pin")?);
    /// clock.advance(Duration::from_secs(1));
    /// assert!(!notes.contains("pin")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Record {
        self.expiry = Expiry::After(ttl);
        self
    }

    /// Expires at a time, given as the time since the Unix epoch.
    #[must_use]
    pub fn expires_at(mut self, unix_time: Duration) -> Record {
        self.expiry = Expiry::At(milliseconds(unix_time));
        self
    }

    /// Does not expire, whatever the collection's default is.
    #[must_use]
    pub fn never_expires(mut self) -> Record {
        self.expiry = Expiry::Never;
        self
    }

    /// When a record that was read expires, as the time since the Unix epoch;
    /// `None`: never, or it was not written yet.
    #[must_use]
    pub fn expiry(&self) -> Option<Duration> {
        match self.expiry {
            Expiry::At(time) => Some(Duration::from_millis(time)),
            _ => None,
        }
    }

    pub(crate) fn expiry_asked(&self) -> Expiry {
        self.expiry
    }

    /// As it is stored.
    pub(crate) fn read(shard: &ShardView, row: Row, id: RecordId) -> Record {
        let expiry = match shard.expires(row) {
            NEVER => Expiry::Default,
            time => Expiry::At(time),
        };
        Record { id, vector: shard.vector(row), expiry }
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> &RecordId {
        &self.id
    }

    /// The vector as it was put in, also under cosine.
    #[must_use]
    pub fn vector(&self) -> &[f32] {
        &self.vector
    }

    /// The id and the vector.
    #[must_use]
    pub fn into_parts(self) -> (RecordId, Vec<f32>) {
        (self.id, self.vector)
    }
}

/// Where [`Snapshot::scroll`] goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    shard: usize,
    row: Row,
}

/// A part of a snapshot's records.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The records, in an order that is fixed for the snapshot.
    pub records: Vec<Record>,
    /// Where the next page begins; `None` when this one was the last.
    pub next: Option<Cursor>,
}

/// A state of a collection that never changes: hold it for repeatable reads
/// and paging.
///
/// Searching and reading a snapshot takes no lock that a writer holds and
/// never delays a write; a held snapshot only keeps the memory of what it
/// shows. What expires while it is held goes on being shown by it. It goes on answering after its collection was dropped and its
/// engine closed.
///
/// ```
/// use vecino::{CollectionConfig, Engine, Metric, Query, Record};
///
/// let engine = Engine::builder().build()?;
/// let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2))?;
/// items.upsert(Record::new(1, [0.0, 0.0]))?.wait()?;
///
/// let before = items.snapshot();
/// items.delete(1)?.wait()?;
///
/// assert_eq!(before.len(), 1);
/// assert_eq!(before.search(&Query::new(&[0.0, 0.0]))?.len(), 1);
/// assert_eq!(items.snapshot().len(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Snapshot {
    published: Arc<Published>,
    /// When it was taken: what had expired by then is not seen.
    now: u64,
}

impl Snapshot {
    pub(crate) fn new(published: Arc<Published>) -> Snapshot {
        let now = published.now();
        Snapshot { published, now }
    }

    pub(crate) fn sight(&self) -> Sight<'_> {
        Sight::at(&self.published, self.now)
    }

    pub(crate) fn published(&self) -> &Published {
        &self.published
    }

    pub(crate) fn helpers(&self) -> &dyn Helpers {
        self.published.context.helpers.as_ref()
    }

    /// The number of this snapshot: later ones have higher numbers.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.published.generation
    }

    /// The last write that the snapshot shows; it shows every one before it.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.published.seq
    }

    /// The number of records. O(shards); while several shards are being
    /// written, and when records have expired that are not swept up yet,
    /// sometimes O(records).
    #[must_use]
    pub fn len(&self) -> usize {
        self.sight().len()
    }

    /// True when the snapshot shows no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The record with an id, its vector as it was put in. O(1); takes a
    /// short lock on a part of the id directory.
    pub fn get(&self, id: impl Into<RecordId>) -> Option<Record> {
        let id = id.into();
        let (shard, row) = self.sight().find(&id)?;
        Some(Record::read(shard, row, id))
    }

    /// True when the snapshot shows a record with this id. O(1), like [`Snapshot::get`].
    pub fn contains(&self, id: impl Into<RecordId>) -> bool {
        self.sight().find(&id.into()).is_some()
    }

    /// The version of a record: the number of the write that it comes from.
    /// `None`: the snapshot shows no record with this id. O(1), like
    /// [`Snapshot::get`]. (Records of files of format 1 have version 0.)
    pub fn version(&self, id: impl Into<RecordId>) -> Option<Seq> {
        let (shard, row) = self.sight().find(&id.into())?;
        Some(shard.born(row))
    }

    /// Searches on the calling thread: no lock, no channel, and once the
    /// thread has searched before, no allocation but the answer.
    ///
    /// # Errors
    /// [`SearchError::Vector`] when the query's vector cannot be used,
    /// [`SearchError::Params`] when its target cannot be searched to,
    /// [`SearchError::Stale`] when it demands a later write.
    pub fn search(&self, query: &Query<'_>) -> Result<Answer, SearchError> {
        search(self.sight(), query)
    }

    /// Answers many queries, in their order, on the calling thread alone. Up
    /// to 8 searches take turns, step by step: each computes while the memory
    /// that the others need is on its way, and work that all share is done
    /// once. Every answer is the one that [`Snapshot::search`] gives. For
    /// more threads, see [`Snapshot::search_batch`].
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Metric, Query, Record};
    /// # let engine = Engine::builder().build()?;
    /// # let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2))?;
    /// # items.upsert_batch((0..250).map(|id| Record::new(id, [id as f32, 0.0])))?.wait()?;
    /// let vectors = [[3.2, 0.0], [77.7, 0.0]];
    /// let queries: Vec<Query> = vectors.iter().map(|vector| Query::new(vector).top(1)).collect();
    /// let answers = items.snapshot().search_many(&queries)?;
    /// assert_eq!(answers[1].hits()[0].id, 78.into());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::search`], of the first query at fault.
    pub fn search_many(&self, queries: &[Query<'_>]) -> Result<Vec<Answer>, SearchError> {
        search_many(self.sight(), queries)
    }

    /// Up to `limit` records from a place on (`None`: from the start), in an
    /// order that is fixed for this snapshot: all pages together show every
    /// record once. O(limit) plus the dead rows skipped.
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Metric, Record};
    /// # let engine = Engine::builder().build()?;
    /// # let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2))?;
    /// # items.upsert_batch((0..250).map(|id| Record::new(id, [id as f32, 0.0])))?.wait()?;
    /// let snapshot = items.snapshot();
    /// let mut seen = 0;
    /// let mut from = None;
    /// loop {
    ///     let page = snapshot.scroll(from, 100);
    ///     seen += page.records.len();
    ///     from = page.next;
    ///     if from.is_none() {
    ///         break;
    ///     }
    /// }
    /// assert_eq!(seen, 250);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn scroll(&self, from: Option<Cursor>, limit: usize) -> Page {
        let from = from.unwrap_or(Cursor { shard: 0, row: 0 });
        let mut records = Vec::new();
        for (number, shard) in self.published.shards.iter().enumerate().skip(from.shard) {
            let first = if number == from.shard { from.row } else { 0 };
            for row in first..shard.high_water() {
                let Some(id) = shard.shows(row, self.seq(), self.now).then(|| shard.id(row)).flatten() else {
                    continue;
                };
                if records.len() >= limit {
                    return Page { records, next: Some(Cursor { shard: number, row }) };
                }
                records.push(Record::read(shard, row, id.clone()));
            }
        }
        Page { records, next: None }
    }

    /// Checks the snapshot from the ground up: every visible record can be
    /// reached by a search, none that is gone can be, and ids and rows agree.
    /// O(records); blocks the calling thread only.
    #[must_use]
    pub fn verify(&self) -> VerifyReport {
        verify::verify(&self.published)
    }

    /// A number that depends on the structure of the indexes alone: the same
    /// writes give the same number, whatever the number of threads.
    #[must_use]
    pub fn index_digest(&self) -> u64 {
        let digests = self.published.shards.iter().map(|shard| shard.index().digest());
        digests.fold(0, |all, digest| crate::id::mix(all ^ digest))
    }
}
