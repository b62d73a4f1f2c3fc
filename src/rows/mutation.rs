//! What a write asks of one shard: the same value travels in the mailbox and is applied.

use crate::id::RecordId;

/// A record that was checked on the caller's thread.
#[derive(Clone, Debug)]
pub(crate) struct NewRow {
    pub(crate) id: RecordId,
    pub(crate) vector: Box<[f32]>,
    /// 1 / length under cosine, else 1.
    pub(crate) scale: f32,
}

/// One step of a write.
#[derive(Clone, Debug)]
pub(crate) enum Mutation {
    /// Puts a record in, in place of the one with its id if there is one.
    Upsert(NewRow),
    /// Takes the record with this id out, if there is one.
    Delete(RecordId),
}
