//! Records, as they are put in and as they are given back.

use std::sync::Arc;
use std::time::Duration;

use crate::id::RecordId;
use crate::payload::{EXPIRES, NEVER, Payload, Timestamp, Value};

/// A record: an id, its vector, and its payload.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub(super) id: RecordId,
    pub(super) vector: Vec<f32>,
    pub(super) payload: Payload,
    /// It expires so long after it is written.
    ttl: Option<Duration>,
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
        Record { id: id.into(), vector: vector.into(), payload: Payload::new(), ttl: None }
    }

    /// With a field of its payload; one with this path is replaced.
    ///
    /// ```
    /// use vecino::Record;
    /// let song = Record::new("guitar-001", [0.1, 0.2]).with("genre", "rock").with("author.born", 1946);
    /// assert_eq!(song.payload().get("genre"), Some(&"rock".into()));
    /// ```
    #[must_use]
    pub fn with(mut self, path: impl Into<Arc<str>>, value: impl Into<Value>) -> Record {
        self.payload.set(path.into(), value.into());
        self
    }

    /// With another payload.
    #[must_use]
    pub fn with_payload(mut self, payload: Payload) -> Record {
        self.payload = payload;
        self
    }

    /// Expires so long after it is written: from then on no search and no `get`
    /// shows it, to the millisecond, and its memory is given back in the
    /// background. See [`CollectionConfig::ttl`](crate::CollectionConfig::ttl) for
    /// a default, [`Collection::touch`](crate::Collection::touch) for more time.
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
        self.ttl = Some(ttl);
        self
    }

    /// Expires at a time. The time stands in the field `$expires` of the payload,
    /// where filters can ask for it.
    #[must_use]
    pub fn expires_at(mut self, time: Timestamp) -> Record {
        self.ttl = None;
        self.payload.set(EXPIRES.into(), Value::Time(time));
        self
    }

    /// Does not expire, whatever the collection's default is.
    #[must_use]
    pub fn never_expires(self) -> Record {
        self.expires_at(NEVER)
    }

    /// When it expires; `None`: never, or it was not written yet.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        Some(self.payload.expires()).filter(|expires| *expires != NEVER)
    }

    /// The time that it was given to live.
    pub(crate) fn asked_ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// Id, vector and payload.
    pub(crate) fn into_stored(self) -> (RecordId, Vec<f32>, Payload) {
        (self.id, self.vector, self.payload)
    }

    /// As it is stored.
    pub(super) fn stored(id: RecordId, vector: Vec<f32>, payload: Payload) -> Record {
        Record { id, vector, payload, ttl: None }
    }

    /// The payload: cheap to clone.
    #[must_use]
    pub fn payload(&self) -> &Payload {
        &self.payload
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_an_expiry_counts() {
        let record = Record::new(1, [0.0]).ttl(Duration::from_secs(1)).expires_at(Timestamp(7));
        assert_eq!((record.asked_ttl(), record.expires()), (None, Some(Timestamp(7))));
        let record = record.never_expires();
        assert_eq!((record.asked_ttl(), record.expires()), (None, None));
        assert_eq!(record.ttl(Duration::ZERO).asked_ttl(), Some(Duration::ZERO));
    }
}
