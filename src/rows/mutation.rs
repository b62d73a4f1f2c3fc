//! What a write asks of one shard: the same value travels in the mailbox and is applied.

use crate::id::{RecordId, Seq};

/// A record that was checked on the caller's thread.
#[derive(Clone, Debug)]
pub(crate) struct NewRow {
    pub(crate) id: RecordId,
    pub(crate) vector: Box<[f32]>,
    /// 1 / length under cosine, else 1.
    pub(crate) scale: f32,
    /// When it expires, in milliseconds since the Unix epoch; [`NEVER`]: never.
    pub(crate) expires: u64,
}

/// The expiry of rows that do not expire.
pub(crate) const NEVER: u64 = u64::MAX;

/// One step of a write.
#[derive(Clone, Debug)]
pub(crate) enum Mutation {
    /// Puts a record in, in place of the one with its id if there is one.
    Upsert(NewRow),
    /// Takes the record with this id out, if there is one.
    Delete(RecordId),
    /// Puts a record in if the condition holds at a time: what has expired by
    /// then is not there.
    Conditional(NewRow, Condition, u64),
    /// Lets a record live until `expires`, if it has not expired by `now` and
    /// gains at least so much by it.
    Touch { id: RecordId, now: u64, expires: u64, gain: u64 },
    /// Takes out the first rows that have expired by `now`, of every shard.
    Expire { now: u64, most: u64 },
}

impl Mutation {
    /// The record that it is about; none: it is for every shard.
    pub(crate) fn id(&self) -> Option<&RecordId> {
        match self {
            Mutation::Upsert(new) | Mutation::Conditional(new, ..) => Some(&new.id),
            Mutation::Delete(id) | Mutation::Touch { id, .. } => Some(id),
            Mutation::Expire { .. } => None,
        }
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
