//! When records expire: set by their writes, put off, changed.

use std::time::Duration;

use super::collection::Collection;
use super::write::Write;
use crate::error::WriteError;
use crate::id::RecordId;
use crate::payload::{EXPIRES, NEVER, Payload, Timestamp};
use crate::query::Answer;
use crate::rows::{Mutation, NewExpiry};
use crate::shard::Backpressure;
use crate::snapshot::Record;

/// Renewing on read writes only when a record gains a part of its time: so one
/// that is read all the time is written some eight times in it.
const RENEWALS: i64 = 8;

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
        self.change_expiries(ids.into_iter().map(Into::into), [expires, now], Some(1))
    }

    /// Lets a record expire at a time, sooner or later than it would; `None`:
    /// never. A record that is gone or has expired by now stays so.
    ///
    /// # Errors
    /// As [`Collection::upsert`].
    pub fn expire(&self, id: impl Into<RecordId>, at: Option<Timestamp>) -> Result<Write, WriteError> {
        let times = [at.unwrap_or(NEVER).0, self.shared.context.wall.now()];
        self.change_expiries([id.into()].into_iter(), times, None)
    }

    fn change_expiries(
        &self,
        ids: impl Iterator<Item = RecordId>,
        [expires, now]: [i64; 2],
        gain: Option<i64>,
    ) -> Result<Write, WriteError> {
        let (now, expires) = (Timestamp(now), Timestamp(expires));
        let change = |id| Mutation::Expiry(NewExpiry { id, now, expires, gain });
        self.write(ids.map(change).collect())
    }

    /// Renews what a search has found, if it asks for that. Never waits: when
    /// the mailboxes are full it is not renewed this time.
    pub(super) fn renew_found(&self, ttl: Option<Duration>, answer: &Answer) {
        let Some(ttl) = ttl.filter(|_| !answer.is_empty()) else { return };
        let (expires, now) = self.shared.context.wall.after(ttl);
        let gain = (expires.saturating_sub(now) / RENEWALS).max(1);
        let ids = answer.hits().iter().map(|hit| hit.id.clone());
        let _ = self.backpressure(Backpressure::Reject).change_expiries(ids, [expires, now], Some(gain));
    }

    /// The payload that a record is stored with.
    pub(super) fn with_expiry(&self, record: &Record) -> Payload {
        let payload = record.payload().clone();
        let default = || self.shared.config.default_ttl().filter(|_| payload.get(EXPIRES).is_none());
        match record.asked_ttl().or_else(default) {
            Some(ttl) => payload.expiring(Timestamp(self.shared.context.wall.after(ttl).0)),
            None => payload,
        }
    }
}
