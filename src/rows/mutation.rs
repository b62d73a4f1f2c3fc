//! What a write asks of one shard: the same value travels in the mailbox and is applied.

use std::sync::Arc;

use crate::id::{RecordId, Seq};
use crate::payload::{Filter, Payload, PayloadUpdate};

/// A record that was checked on the caller's thread.
#[derive(Clone, Debug)]
pub(crate) struct NewRow {
    pub(crate) id: RecordId,
    pub(crate) vector: Box<[f32]>,
    /// 1 / length under cosine, else 1.
    pub(crate) scale: f32,
    pub(crate) payload: Payload,
}

/// One step of a write.
#[derive(Clone, Debug)]
pub(crate) enum Mutation {
    /// Puts a record in, in place of the one with its id if there is one.
    Upsert(NewRow),
    /// Takes the record with this id out, if there is one.
    Delete(RecordId),
    /// Changes the payload of a record, if there is one with this id.
    Payload(PayloadUpdate),
    /// Takes all records out that pass a filter.
    DeleteWhere(Filter),
    /// Puts a record in if the condition holds.
    Conditional(NewRow, Condition),
    /// Goes on with building the index of such a collection in place of the
    /// present one; of nothing: gives up what is being built.
    Reindex(Arc<[u8]>),
}

/// When a record is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Condition {
    /// No record has its id.
    Absent,
    /// A record has its id.
    Present,
    /// The record with its id comes from this write.
    Version(Seq),
    /// No other record of the shard is within this distance.
    NotNear(f32),
}

/// Whether a record was written, and why not.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    Written,
    Exists { version: Seq },
    Missing,
    Changed { found: Option<Seq> },
    Near { id: RecordId, distance: f32 },
}

impl Mutation {
    /// The record that it is about; none: it is for every shard.
    pub(crate) fn id(&self) -> Option<&RecordId> {
        match self {
            Mutation::Upsert(new) | Mutation::Conditional(new, _) => Some(&new.id),
            Mutation::Delete(id) => Some(id),
            Mutation::Payload(update) => Some(&update.id),
            Mutation::DeleteWhere(_) | Mutation::Reindex(_) => None,
        }
    }

    /// Bytes that it holds while it waits.
    pub(crate) fn bytes(&self) -> usize {
        let content = match self {
            Mutation::Upsert(new) | Mutation::Conditional(new, _) => {
                size_of_val(&*new.vector) + new.payload.bytes()
            }
            Mutation::Payload(update) => update.edit.bytes(),
            // A filter shares its parts with whoever made it.
            Mutation::Delete(_) | Mutation::DeleteWhere(_) => 0,
            Mutation::Reindex(spec) => spec.len(),
        };
        size_of::<Mutation>() + content + self.id().map_or(0, RecordId::heap_bytes)
    }
}
