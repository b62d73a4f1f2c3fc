//! Which rows ever belonged to an id: asked by the writer to replace, by readers to get.

use crate::id::{RecordId, Row};

/// Maps ids to the rows that hold, or held, them.
///
/// Rows of other ids, also of other shards, may be listed with them: whoever asks compares the id
/// that stands beside the row. The rows of an id are listed newest first and stay listed for as long as a
/// view could show them. Readers check every row against their own view, so a
/// row that is listed too early or too late, or is another shard's, is harmless: whether a row is visible
/// is asked first, and only then what its id is.
pub(crate) trait Directory: Send + Sync {
    /// The first row of an id, newest first, that `accept` takes; it is asked about rows of other ids too, and
    /// looks first whether a row is visible, and only then at its id.
    fn find(&self, id: &RecordId, accept: &mut dyn FnMut(Row) -> bool) -> Option<Row>;

    /// Lists a new row for an id, before the others.
    fn push(&self, id: &RecordId, row: Row);

    /// Unlists the oldest entry of this row under this id.
    fn prune(&self, id: &RecordId, row: Row);

    /// Gives back memory when far more entries were listed once.
    fn shrink(&self);

    /// Bytes, as they were when the number of entries was about the same.
    fn bytes(&self) -> usize;
}
