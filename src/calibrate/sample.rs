//! Which rows to make queries of.

use crate::id::{RecordId, Row, mix};
use crate::snapshot::Published;

/// Any fixed number: the same snapshot then gives the same sample.
const SEED: u64 = 0x7665_6369_6e6f;

/// Row numbers that are tried for one that is visible: enough where one in a
/// hundred is, and never more than milliseconds.
const TRIES: usize = 128;

/// Where a visible row stands.
pub(super) struct Place {
    /// Its number over all shards.
    pub(super) number: u64,
    shard: usize,
    row: Row,
    pub(super) id: RecordId,
}

impl Place {
    pub(super) fn vector(&self, published: &Published) -> Vec<f32> {
        published.shards[self.shard].vector(self.row)
    }
}

/// Up to `count` visible rows, no row twice. Fewer only where fewer rows, or
/// hardly any of the row numbers, are visible. O(count).
pub(super) fn sample(published: &Published, count: usize) -> Vec<Place> {
    let sizes = published.shards.iter().map(|shard| u64::from(shard.high_water()));
    let ends: Vec<u64> = sizes
        .scan(0, |end, size| {
            *end += size;
            Some(*end)
        })
        .collect();
    let numbers = numbers(ends.last().copied().unwrap_or(0), (count * TRIES) as u64);
    numbers.into_iter().filter_map(|number| place(published, &ends, number)).take(count).collect()
}

/// Up to `most` different numbers below `end`, in a random order that is
/// always the same.
fn numbers(end: u64, most: u64) -> Vec<u64> {
    let draw = |number| ((u128::from(mix(SEED ^ number)) * u128::from(end)) >> 64) as u64;
    let mut numbers: Vec<u64> = if end <= most { (0..end).collect() } else { (0..most).map(draw).collect() };
    numbers.sort_unstable_by_key(|number| (mix(!SEED ^ number), *number));
    numbers.dedup();
    numbers
}

/// The row of this number over all shards, if it is visible.
fn place(published: &Published, ends: &[u64], number: u64) -> Option<Place> {
    let at = ends.partition_point(|end| *end <= number);
    let shard = published.shards.get(at)?;
    let first = at.checked_sub(1).map_or(0, |before| ends[before]);
    let row = (number - first) as Row;
    let id = shard.visible(row, published.seq).then(|| shard.id(row)).flatten()?;
    Some(Place { number, shard: at, row, id: id.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_different_spread_and_always_the_same() {
        for (end, most) in [(0, 100), (1, 100), (99, 100), (1_000_000, 5_000)] {
            let drawn = numbers(end, most);
            assert_eq!(drawn, numbers(end, most));
            let mut sorted = drawn.clone();
            sorted.sort_unstable();
            assert!(sorted.is_sorted_by(|a, b| a < b) && sorted.last().is_none_or(|last| *last < end));
            assert!(drawn.len() as u64 >= end.min(most * 99 / 100), "{} of {end}", drawn.len());
            let low = drawn.iter().take(100).filter(|number| **number < end / 2).count();
            assert!(end < 1_000 || (30..70).contains(&low), "{low}");
        }
    }
}
