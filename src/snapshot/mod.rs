//! Published states of a collection: held, read and searched without a lock.

mod cell;
mod effort;
mod kept;
mod published;
mod record;
mod search;
mod select;
mod sight;
mod verify;
mod watch;
mod wishes;

use std::sync::Arc;

pub(crate) use cell::SnapshotCell;
pub(crate) use effort::{Toil, breadth_for, toil};
pub(crate) use kept::begun;
pub(crate) use published::{
    Calibrator, Context, ExactUse, Health, Helpers, LEFT_OUT_MOST, Published, Reindexes, Screener, Tuning,
    shard_of,
};
pub use record::Record;
pub(crate) use search::{merge_answers, search, search_many, search_one_shard, search_uncounted};
pub use select::{Facet, Group, Groups, OrderBy, OrderCursor, OrderedPage};
pub(crate) use sight::Sight;
pub use verify::{Finding, VerifyReport};

use crate::error::{ReadError, SearchError};
use crate::id::{Generation, RecordId, Row, Seq};
use crate::memory;
use crate::payload::Timestamp;
use crate::query::{Answer, Query};

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
/// Searching a snapshot by a vector takes no lock; looking a record up by its id
/// takes a short one on a part of the id directory, which its writer takes as well. A held snapshot only keeps the memory of what it
/// shows. What expires while it is held goes on being shown by it. It goes on
/// answering after its collection was dropped and its engine closed.
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
    now: Timestamp,
}

impl Snapshot {
    pub(crate) fn new(published: Arc<Published>) -> Snapshot {
        let now = published.now();
        Snapshot { published, now }
    }

    /// As it was looked at then.
    pub(crate) fn at(published: Arc<Published>, now: Timestamp) -> Snapshot {
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

    /// The record with an id, its vector as it was put in (or as the collection's
    /// [`VectorStorage`](crate::VectorStorage) has rounded it). O(1); takes a
    /// short lock on a part of the id directory.
    ///
    /// # Errors
    /// [`ReadError::NoMemory`].
    pub fn get(&self, id: impl Into<RecordId>) -> Result<Option<Record>, ReadError> {
        let id = id.into();
        let Some((shard, row)) = self.sight().find(&id) else { return Ok(None) };
        let record = || Record::stored(id, shard.vector(row), shard.payload(row, self.seq()));
        Ok(Some(memory::unless_short(record)?))
    }

    /// The records with some ids, in the order of these; `None` where there is no record. As
    /// [`Snapshot::get`] of each.
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Metric, Record};
    /// # let engine = Engine::builder().build()?;
    /// # let items = engine.create_collection("items", CollectionConfig::new(1, Metric::L2))?;
    /// items.upsert_batch((0..9u64).map(|id| Record::new(id, [id as f32])))?.wait()?;
    /// let some = items.snapshot().get_many([7u64, 70, 3])?;
    /// let numbers: Vec<Option<f32>> = some.iter().map(|one| one.as_ref().map(|one| one.vector()[0])).collect();
    /// assert_eq!(numbers, [Some(7.0), None, Some(3.0)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn get_many<I: Into<RecordId>>(
        &self,
        ids: impl IntoIterator<Item = I>,
    ) -> Result<Vec<Option<Record>>, ReadError> {
        let mut records = Vec::new();
        for id in ids {
            let record = self.get(id)?;
            memory::unless_short(|| memory::push(&mut records, record))?;
        }
        Ok(records)
    }

    /// True when the snapshot shows a record with this id. O(1), like [`Snapshot::get`].
    pub fn contains(&self, id: impl Into<RecordId>) -> bool {
        self.sight().find(&id.into()).is_some()
    }

    /// The version of a record: the number of the write that it comes from. Changes of its payload or expiry alone leave it
    /// as it is.
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
    /// [`SearchError::Stale`] when it demands a later write,
    /// [`SearchError::NoMemory`] when there is none for what it takes.
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

    /// Up to `limit` records (at least one) from a place on (`None`: from the start), in an
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
    ///     let page = snapshot.scroll(from, 100)?;
    ///     seen += page.records.len();
    ///     from = page.next;
    ///     if from.is_none() {
    ///         break;
    ///     }
    /// }
    /// assert_eq!(seen, 250);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ReadError::NoMemory`] when there is none for so many records.
    pub fn scroll(&self, from: Option<Cursor>, limit: usize) -> Result<Page, ReadError> {
        Ok(memory::unless_short(|| self.page(from, limit))?)
    }

    fn page(&self, from: Option<Cursor>, limit: usize) -> Page {
        // Whoever goes on from page to page comes to the end.
        let limit = limit.max(1);
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
                let payload = shard.payload(row, self.seq());
                memory::push(&mut records, Record::stored(id.copy(), shard.vector(row), payload));
            }
        }
        Page { records, next: None }
    }

    /// Checks the snapshot from the ground up: every visible record can be
    /// reached by a search, none that is gone can be, and ids and rows agree.
    /// O(records); blocks the calling thread only.
    ///
    /// # Errors
    /// [`ReadError::NoMemory`]: what is wrong with the snapshot, if anything,
    /// stands in the report.
    pub fn verify(&self) -> Result<VerifyReport, ReadError> {
        Ok(memory::unless_short(|| verify::verify(&self.published))?)
    }

    /// A number that depends on the structure of the indexes alone: the same
    /// writes give the same number, whatever the number of threads.
    #[must_use]
    pub fn index_digest(&self) -> u64 {
        let digests = self.published.shards.iter().map(|shard| shard.index().digest());
        digests.fold(0, |all, digest| crate::id::mix(all ^ digest))
    }
}
