//! Writes that happen only under a condition.

use std::time::Duration;

use super::collection::Collection;
use super::defaults;
use super::write::Write;
use crate::error::{ParamsError, SearchError, WaitError, WriteError};
use crate::id::{RecordId, Seq};
use crate::memory;
use crate::payload::Timestamp;
use crate::query::{Hit, Query};
use crate::rows::{Condition, Mutation, NewRow, Verdict};
use crate::shard::{Backpressure, reply};
use crate::snapshot::{Record, search, shard_of};

/// What became of a write with a condition.
#[derive(Clone, Debug)]
#[must_use = "the record may not have been written"]
#[non_exhaustive]
pub enum Outcome {
    /// The record was written. Its version is the write's [`Write::seq`].
    Written(Write),
    /// There is a record with this id.
    Exists {
        /// The number of the write that it comes from.
        version: Seq,
    },
    /// There is no record with this id.
    Missing,
    /// The record is not the version that was expected.
    Changed {
        /// The version that there is; `None`: no record has this id.
        found: Option<Seq>,
    },
    /// Another record is as near as that.
    Near {
        /// The nearest one.
        id: RecordId,
        /// Its distance.
        distance: f32,
    },
}

impl Outcome {
    /// The write, if it happened.
    #[must_use]
    pub fn written(self) -> Option<Write> {
        match self {
            Outcome::Written(write) => Some(write),
            _ => None,
        }
    }
}

/// Each blocks until the writer of the record's shard has decided, against all
/// writes before this one: no other write comes between the check and the
/// write. A record that has expired is none. A refusal takes a number in the history, too, and changes nothing.
impl Collection {
    /// Puts a record in unless there is one with its id.
    /// Blocks until that is decided.
    ///
    /// # Errors
    /// As [`Collection::upsert`].
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Metric, Outcome, Record};
    /// # let engine = Engine::builder().build()?;
    /// # let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2))?;
    /// let first = items.insert(Record::new("a", [1.0, 0.0]))?;
    /// assert!(matches!(first, Outcome::Written(_)));
    /// let second = items.insert(Record::new("a", [2.0, 0.0]))?;
    /// assert!(matches!(second, Outcome::Exists { .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn insert(&self, record: Record) -> Result<Outcome, WriteError> {
        self.write_if(record, Condition::Absent)
    }

    /// Puts a record in the place of the one with its id, if there is one.
    /// Blocks until that is decided.
    ///
    /// # Errors
    /// As [`Collection::upsert`].
    pub fn replace(&self, record: Record) -> Result<Outcome, WriteError> {
        self.write_if(record, Condition::Present)
    }

    /// Puts a record in the place of a certain version of it: nobody has
    /// written it since. The version of a record is the number of the write
    /// that it comes from ([`Write::seq`], [`Snapshot::version`](crate::Snapshot::version)); it
    /// survives restarts. Changes of its payload or expiry alone leave the version as it is, so who changes payloads
    /// in that way ([`Collection::merge_payload`]) is not noticed here. Blocks until that is decided.
    ///
    /// # Errors
    /// As [`Collection::upsert`].
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Metric, Outcome, Record};
    /// # let engine = Engine::builder().build()?;
    /// # let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2))?;
    /// let read = items.upsert(Record::new("a", [1.0, 0.0]))?.seq();
    /// items.upsert(Record::new("a", [5.0, 0.0]))?; // by somebody else
    /// let outcome = items.replace_version(Record::new("a", [2.0, 0.0]), read)?;
    /// assert!(matches!(outcome, Outcome::Changed { found: Some(version) } if version > read));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn replace_version(&self, record: Record, version: Seq) -> Result<Outcome, WriteError> {
        self.write_if(record, Condition::Version(version))
    }

    /// Puts a record in, as [`Collection::upsert`], unless another one is
    /// within a distance of it: for memories that should not hold the same
    /// thing twice. Blocks until that is decided.
    ///
    /// Within the record's shard this is certain: its writer compares with
    /// every row, in O(rows). Other shards are searched first, as any search does it, once all
    /// writes that were accepted before are visible (or 30 s have passed, or as long as the handle waits): so with several
    /// workers two near records that are written at the same moment may both get in, and so may
    /// one that an approximate index overlooks. With one worker (the default)
    /// neither can happen, and nothing is waited for.
    ///
    /// Another record: one with the same id is replaced, fields and all, however near it is. Under cosine the distance of a copy
    /// is up to about 1e-6, not always 0: there 1e-5 means "the same".
    ///
    /// # Errors
    /// As [`Collection::upsert`]; [`WriteError::Params`] when the distance is NaN.
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Metric, Outcome, Record};
    /// # let engine = Engine::builder().build()?;
    /// # let facts = engine.create_collection("facts", CollectionConfig::new(2, Metric::Cosine))?;
    /// facts.upsert(Record::new("likes tea", [1.0, 0.1]))?;
    /// let outcome = facts.upsert_unless_near(Record::new("enjoys tea", [1.0, 0.11]), 0.01)?;
    /// assert!(matches!(outcome, Outcome::Near { id, .. } if id == "likes tea".into()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn upsert_unless_near(&self, record: Record, distance: f32) -> Result<Outcome, WriteError> {
        if distance.is_nan() {
            return Err(ParamsError::Within.into());
        }
        let mut new = self.checked_row(record)?;
        let shared = &self.shared;
        let (storage, space) = (shared.config.vector_storage(), &shared.context.space);
        memory::unless_short(|| storage.settle(space, &mut new.vector, &mut new.scale))?;
        match self.near_elsewhere(&new, distance)? {
            Some(Hit { id, distance, .. }) => Ok(Outcome::Near { id, distance }),
            None => self.write_row_if(new, Condition::NotNear(distance)),
        }
    }

    /// What is near in the shards that are not the record's own (and there), as a search finds it.
    fn near_elsewhere(&self, new: &NewRow, distance: f32) -> Result<Option<Hit>, WriteError> {
        if self.shared.core.writes.len() == 1 {
            return Ok(None);
        }
        let patience = match self.backpressure {
            Backpressure::Wait => defaults::PATIENCE,
            Backpressure::WaitAtMost(limit) => limit.min(defaults::PATIENCE),
            Backpressure::Reject => Duration::ZERO,
        };
        // (What becomes of other writes is told to those who wait for them.)
        let _ = self.shared.wait_visible(self.shared.admission.last(), Some(patience));
        let id = memory::unless_short(|| new.id.copy())?;
        let query = Query::new(&new.vector[..]).within(distance).exclude([id]).top(1);
        match search(self.shared.cell.load().sight(), &query) {
            Ok(answer) => Ok(answer.into_hits().into_iter().next()),
            // Nobody knows what is near.
            Err(SearchError::NoMemory { bytes }) => Err(WriteError::NoMemory { bytes }),
            // A vector that can be written can be searched for.
            Err(_) => Ok(None),
        }
    }

    /// A record that may be written, if anything may.
    fn checked_row(&self, record: Record) -> Result<NewRow, WriteError> {
        self.check_durability()?;
        self.check_record(record)
    }

    fn write_if(&self, record: Record, condition: Condition) -> Result<Outcome, WriteError> {
        self.write_row_if(self.checked_row(record)?, condition)
    }

    fn write_row_if(&self, new: NewRow, condition: Condition) -> Result<Outcome, WriteError> {
        let shard = shard_of(&new.id, self.shared.core.writes.len());
        let (verdict, waiting) = reply();
        let write = self.write_decided(
            vec![Mutation::Conditional(new, condition, Timestamp(self.shared.context.wall.now()))],
            Some(verdict),
        )?;
        let verdict = match waiting.wait(None) {
            Ok(verdict) => verdict,
            // Left out before it was judged: waiting for it says so.
            Err(_) if matches!(write.wait(), Err(WaitError::LeftOut { .. })) => {
                return Ok(Outcome::Written(write));
            }
            // The worker, the log or the collection is gone.
            Err(_) => return Err(self.shared.gone().into()),
        };
        let verdict = verdict.map_err(|shortage| self.shared.context.no_memory(shard, shortage.bytes))?;
        Ok(match verdict {
            Verdict::Written => Outcome::Written(write),
            Verdict::Exists { version } => Outcome::Exists { version },
            Verdict::Missing => Outcome::Missing,
            Verdict::Changed { found } => Outcome::Changed { found },
            Verdict::Near { id, distance } => Outcome::Near { id, distance },
        })
    }
}
