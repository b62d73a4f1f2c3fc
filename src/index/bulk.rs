//! How many rows are taken in together when many come at once.

/// Rows of the first batch: compared with one another exactly, a sound start
/// for a graph.
const FIRST: usize = 256;

/// A batch holds at most one row for this many that are indexed already
/// (ParlayANN grows its batches to 2 %): more would miss too many links
/// between the new rows.
const DIVISOR: usize = 50;

/// Rows of the smallest and of the largest later batch.
const LEAST: usize = 64;
const MOST: usize = 1_024;

/// Rows of the next batch when so many are indexed.
pub(crate) fn bulk_rows(indexed: usize) -> usize {
    if indexed == 0 { FIRST } else { (indexed / DIVISOR).clamp(LEAST, MOST) }
}
