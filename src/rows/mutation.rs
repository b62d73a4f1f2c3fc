//! What a write asks of one shard: the same value travels in the mailbox and is applied.

use std::sync::Arc;

use crate::id::{RecordId, Seq};
use crate::payload::{Filter, Payload, PayloadUpdate, Timestamp};

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
    /// Puts a record in if the condition holds at a time: what has expired by
    /// then counts as gone.
    Conditional(NewRow, Condition, Timestamp),
    /// Changes when a record expires.
    Expiry(NewExpiry),
    /// Takes out what has expired at a time, so many records at most.
    Sweep { now: Timestamp, most: u64 },
    /// Goes on with building another index in place of the present one.
    Reindex(Reindex),
    /// Puts the index in order, and goes over to the codes of another shard, as
    /// bytes.
    Adopt(Arc<[u8]>),
}

/// A step on the way to another index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reindex {
    /// Rows are carried over to the index of such a collection, which is begun if
    /// it is not under way.
    Carry(Arc<[u8]>),
    /// It takes over, if all rows were carried over; else as `Carry`.
    Finish(Arc<[u8]>),
    /// What is being built is given up.
    GiveUp,
}

/// When a record is to expire.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NewExpiry {
    pub(crate) id: RecordId,
    /// What has expired by then stays as it is.
    pub(crate) now: Timestamp,
    pub(crate) expires: Timestamp,
    /// Only if it lives longer by so many microseconds at least; none: in any case.
    pub(crate) gain: Option<i64>,
}

impl NewExpiry {
    /// Whether it changes a record that expires at `before`.
    pub(crate) fn applies(&self, before: Timestamp) -> bool {
        let gains = |gain: i64| self.expires.0.saturating_sub(before.0) >= gain;
        before > self.now && before != self.expires && self.gain.is_none_or(gains)
    }
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

/// Comparing with so many rows, or asking whether they pass a filter, is about
/// as much work for a worker as putting one in.
const ROWS_A_UNIT: u64 = 128;

impl Mutation {
    /// How much work it is for the worker of a shard with so many rows: 1 is
    /// putting a record in. What is left to the pool does not count.
    pub(crate) fn units(&self, rows: usize) -> u64 {
        match self {
            Mutation::Conditional(_, Condition::NotNear(_), _) | Mutation::DeleteWhere(_) => {
                1 + rows as u64 / ROWS_A_UNIT
            }
            Mutation::Upsert(_)
            | Mutation::Delete(_)
            | Mutation::Payload(_)
            | Mutation::Conditional(..)
            | Mutation::Expiry(_)
            | Mutation::Sweep { .. }
            | Mutation::Reindex(_)
            | Mutation::Adopt(_) => 1,
        }
    }

    /// The record that it is about; none: it is for every shard.
    pub(crate) fn id(&self) -> Option<&RecordId> {
        match self {
            Mutation::Upsert(new) | Mutation::Conditional(new, ..) => Some(&new.id),
            Mutation::Delete(id) => Some(id),
            Mutation::Payload(update) => Some(&update.id),
            Mutation::Expiry(change) => Some(&change.id),
            Mutation::DeleteWhere(_) | Mutation::Sweep { .. } | Mutation::Reindex(_) | Mutation::Adopt(_) => {
                None
            }
        }
    }

    /// Bytes that it holds while it waits.
    pub(crate) fn bytes(&self) -> usize {
        let content = match self {
            Mutation::Upsert(new) | Mutation::Conditional(new, ..) => {
                size_of_val(&*new.vector) + new.payload.bytes()
            }
            Mutation::Payload(update) => update.edit.bytes(),
            // A filter shares its parts with whoever made it.
            Mutation::Delete(_) | Mutation::DeleteWhere(_) | Mutation::Expiry(_) | Mutation::Sweep { .. } => {
                0
            }
            Mutation::Reindex(Reindex::Carry(bytes) | Reindex::Finish(bytes)) | Mutation::Adopt(bytes) => {
                bytes.len()
            }
            Mutation::Reindex(Reindex::GiveUp) => 0,
        };
        size_of::<Mutation>() + content + self.id().map_or(0, RecordId::heap_bytes)
    }
}
