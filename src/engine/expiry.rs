//! Letting records live longer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::collection::Collection;
use super::sweeper::Swept;
use super::write::Write;
use crate::error::WriteError;
use crate::id::{RecordId, Seq};
use crate::query::Answer;
use crate::rows::{Mutation, NEVER};
use crate::shard::Backpressure;
use crate::snapshot::after;

/// Renewing on read writes a record anew only when it gains a part of its time:
/// so a record that is read all the time is written some eight times in it.
const RENEWALS: u64 = 8;

impl Collection {
    /// Lets a record expire so long from now, if that is later than it would. A
    /// record that is gone, has expired by now, or does not expire stays so. The
    /// record is written anew for it: it has a new version.
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
        let now = self.shared.context.wall.now();
        self.write(vec![Mutation::Touch { id: id.into(), now, expires: after(now, ttl), gain: 1 }])
    }

    /// Renews what a search has found, if it asks for that. Never waits: when
    /// the mailboxes are full it is not renewed this time.
    pub(super) fn renew_found(&self, ttl: Option<Duration>, answer: &Answer) {
        let Some(ttl) = ttl else { return };
        let now = self.shared.context.wall.now();
        let expires = after(now, ttl);
        let gain = (expires.saturating_sub(now) / RENEWALS).max(1);
        let touch = |id: &RecordId| Mutation::Touch { id: id.clone(), now, expires, gain };
        let touches: Vec<Mutation> = answer.hits().iter().map(|hit| touch(&hit.id)).collect();
        if !touches.is_empty() {
            let _ = self.backpressure(Backpressure::Reject).write(touches);
        }
    }

    /// The same for what came from files.
    pub(super) fn note_expiries(&self) {
        let published = self.shared.cell.load();
        let earliest = published.shards.iter().map(|shard| shard.earliest_expiry()).min();
        drop(published);
        self.note_expiry(earliest.unwrap_or(NEVER));
    }

    /// Has the collection swept from the first record on that expires.
    pub(super) fn note_expiry(&self, expires: u64) {
        let shared = &self.shared;
        if expires != NEVER && !shared.is_swept.swap(true, Ordering::AcqRel) {
            shared.core.sweeper.watch(Swept {
                collection: shared.id,
                writes: shared.core.writes.clone(),
                admission: Arc::clone(&shared.admission),
                cell: Arc::clone(&shared.cell),
                context: Arc::clone(&shared.context),
                is_logged: shared.core.has_files(),
                last: Seq(0),
            });
        }
    }
}
