//! When records expire: set by their writes, put off, changed.

use std::time::Duration;

use super::collection::Collection;
use super::defaults;
use super::write::{Write, check_size};
use crate::error::WriteError;
use crate::id::RecordId;
use crate::memory;
use crate::payload::{EXPIRES, NEVER, Payload, Timestamp};
use crate::query::Answer;
use crate::rows::{Mutation, NewExpiry};
use crate::shard::Backpressure;

/// Renewing on read writes only when a record gains a part of its time: so one
/// that is read all the time is written some eight times in it.
const RENEWALS: i64 = 8;

/// What is changed of many records at once: as [`NewExpiry`].
struct Change {
    now: Timestamp,
    expires: Timestamp,
    gain: Option<i64>,
}

impl Collection {
    /// Lets a record expire so long from now, if that is later than it would.
    /// Its vector, its version and the rest of its payload stay. A record that
    /// is gone, has expired by now, or never expires stays as it is.
    ///
    /// # Errors
    /// As [`Collection::upsert`].
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use std::time::Duration;
    /// # use vecino::{CollectionConfig, Engine, ManualClock, Metric, Record};
    /// # let clock = Arc::new(ManualClock::default());
    /// # let engine = Engine::builder().clock(clock.clone()).build()?;
    /// let minute = Duration::from_secs(60);
    /// let config = CollectionConfig::new(2, Metric::L2).ttl(minute);
    /// let notes = engine.create_collection("notes", config)?;
    /// notes.upsert(Record::new("pin", [1.0, 0.0]))?.wait()?;
    /// clock.advance(minute / 2);
    /// notes.touch("pin", minute)?.wait()?;
    /// clock.advance(minute * 3 / 4);
    /// assert!(notes.contains("pin")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn touch(&self, id: impl Into<RecordId>, ttl: Duration) -> Result<Write, WriteError> {
        self.touch_all([id], ttl)
    }

    /// As [`Collection::touch`], for many records, in one generation.
    ///
    /// # Errors
    /// As [`Collection::upsert_batch`].
    pub fn touch_all<I: Into<RecordId>>(
        &self,
        ids: impl IntoIterator<Item = I>,
        ttl: Duration,
    ) -> Result<Write, WriteError> {
        let (expires, now) = self.shared.context.wall.after(ttl);
        let change = Change { now: Timestamp(now), expires: Timestamp(expires), gain: Some(1) };
        self.change_expiries(ids.into_iter().map(Into::into), change)
    }

    /// Lets a record expire at a time, sooner or later than it would; `None`:
    /// never. A record that is gone or has expired by now stays so.
    ///
    /// # Errors
    /// As [`Collection::upsert`].
    pub fn expire(&self, id: impl Into<RecordId>, at: Option<Timestamp>) -> Result<Write, WriteError> {
        let now = Timestamp(self.shared.context.wall.now());
        let change = Change { now, expires: at.unwrap_or(NEVER), gain: None };
        self.change_expiries([id.into()].into_iter(), change)
    }

    fn change_expiries(
        &self,
        ids: impl Iterator<Item = RecordId>,
        Change { now, expires, gain }: Change,
    ) -> Result<Write, WriteError> {
        let change = |id| Mutation::Expiry(NewExpiry { id, now, expires, gain });
        let changes: Vec<Mutation> = memory::unless_short(|| memory::collect(ids.map(change)))?;
        check_size(changes.len())?;
        self.write(changes)
    }

    /// Renews what a search has found, if it asks for that. Never waits: when
    /// the mailboxes are full it is not renewed this time.
    pub(super) fn renew_found(&self, ttl: Option<Duration>, answer: &Answer) {
        let Some(ttl) = ttl.filter(|_| !answer.is_empty()) else { return };
        let (expires, now) = self.shared.context.wall.after(ttl);
        let gain = (expires.saturating_sub(now) / RENEWALS).max(1);
        let change = Change { now: Timestamp(now), expires: Timestamp(expires), gain: Some(gain) };
        let ids = answer.hits().iter().take(defaults::BATCH_RECORDS_MOST).map(|hit| hit.id.copy());
        let _ = self.backpressure(Backpressure::Reject).change_expiries(ids, change);
    }

    /// The payload that a record is stored with.
    pub(super) fn with_expiry(&self, payload: Payload, asked: Option<Duration>) -> Payload {
        let default = || self.shared.config.default_ttl().filter(|_| payload.get(EXPIRES).is_none());
        match asked.or_else(default) {
            Some(ttl) => payload.expiring(Timestamp(self.shared.context.wall.after(ttl).0)),
            None => payload,
        }
    }
}
