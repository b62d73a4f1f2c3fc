//! Writing payloads: the vectors stay as they are.

use std::sync::Arc;

use super::collection::Collection;
use super::write::{Write, check_size};
use crate::error::WriteError;
use crate::id::RecordId;
use crate::memory;
use crate::payload::{Filter, Payload, PayloadUpdate};
use crate::rows::Mutation;

impl Collection {
    /// Gives a record another payload and leaves its vector alone. An id that
    /// is not there is fine.
    ///
    /// # Errors
    /// As [`Collection::upsert`].
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Metric, Payload, Record};
    /// # let engine = Engine::builder().build()?;
    /// # let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2))?;
    /// items.upsert(Record::new(1, [0.0, 1.0]).with("plays", 7).with("genre", "rock"))?;
    /// items.merge_payload(1, Payload::new().with("plays", 8))?;
    /// items.delete_fields(1, ["genre"])?.wait()?;
    /// assert_eq!(items.get(1)?.unwrap().payload(), &Payload::new().with("plays", 8));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_payload(&self, id: impl Into<RecordId>, payload: Payload) -> Result<Write, WriteError> {
        self.update_payloads([PayloadUpdate::set(id, payload)])
    }

    /// Sets some fields of a record's payload and leaves the others, its
    /// vector and its version alone: see [`PayloadUpdate::merge`].
    ///
    /// # Errors
    /// As [`Collection::upsert`].
    pub fn merge_payload(&self, id: impl Into<RecordId>, payload: Payload) -> Result<Write, WriteError> {
        self.update_payloads([PayloadUpdate::merge(id, payload)])
    }

    /// Takes fields of a record's payload out, with the fields within them.
    ///
    /// # Errors
    /// As [`Collection::upsert`].
    pub fn delete_fields<P: Into<Arc<str>>>(
        &self,
        id: impl Into<RecordId>,
        paths: impl IntoIterator<Item = P>,
    ) -> Result<Write, WriteError> {
        self.update_payloads([PayloadUpdate::delete(id, paths)])
    }

    /// Takes out all records that pass a filter when the write is applied: in
    /// the order of all writes, in one generation over all shards.
    ///
    /// # Errors
    /// As [`Collection::upsert`]; [`WriteError::Filter`] when the filter cannot be used.
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Filter, Metric, Record};
    /// # let engine = Engine::builder().build()?;
    /// # let items = engine.create_collection("items", CollectionConfig::new(1, Metric::L2))?;
    /// items.upsert_batch((1960..2020).map(|year| Record::new(year, [0.0]).with("year", year as u32)))?;
    /// items.delete_where(&Filter::lt("year", 1970))?.wait()?;
    /// assert_eq!(items.len(), 50);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn delete_where(&self, filter: &Filter) -> Result<Write, WriteError> {
        filter.check()?;
        self.write(vec![Mutation::DeleteWhere(filter.clone())])
    }

    /// Changes many payloads, one after the other; they become visible
    /// together, in one generation, over all shards.
    ///
    /// # Errors
    /// As [`Collection::upsert_batch`].
    pub fn update_payloads(
        &self,
        updates: impl IntoIterator<Item = PayloadUpdate>,
    ) -> Result<Write, WriteError> {
        let checked = || {
            let mut mutations = Vec::new();
            for (position, update) in updates.into_iter().enumerate() {
                check_size(position + 1)?;
                match update.edit.check() {
                    Ok(()) => memory::push(&mut mutations, Mutation::Payload(update)),
                    Err(fault) => return Err(WriteError::Payload { id: update.id, position, fault }),
                }
            }
            Ok(mutations)
        };
        self.write(memory::unless_short(checked)??)
    }
}
