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

impl Mutation {
    /// Bytes that it holds while it waits.
    pub(crate) fn bytes(&self) -> usize {
        let (id, vector) = match self {
            Mutation::Upsert(new) => (&new.id, new.vector.len()),
            Mutation::Delete(id) => (id, 0),
        };
        size_of::<Mutation>() + id.as_text().map_or(0, str::len) + vector * size_of::<f32>()
    }
}
