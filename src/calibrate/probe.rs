//! Queries that are like the rows, and are no rows.
//!
//! A row is a bad query: it stands in the graph, and once the search has come
//! to it, its own links lead to all of its neighbours. Searching for rows gave
//! a recall of 0.98 where new vectors from the same source had 0.91. So a query
//! is made of a row by a step along its surroundings: from one of its
//! neighbours to another (a local form of the smoothed bootstrap).

use super::sample::Place;
use crate::error::SearchError;
use crate::id::{RecordId, mix};
use crate::query::Query;
use crate::snapshot::{Published, Sight, search_uncounted};
use crate::tuning::UNCALIBRATED_EF;

/// Neighbours that a step may lead between: near enough to show how the rows
/// lie here, enough to make the steps differ.
const NEIGHBOURS: usize = 10;

/// A query.
pub(super) struct Probe {
    pub(super) vector: Vec<f32>,
    /// The row that the query is the same as: no hit that counts.
    pub(super) itself: Option<RecordId>,
}

impl Probe {
    /// Hits to ask for when `k` should count.
    pub(super) fn top(&self, k: usize) -> usize {
        k + usize::from(self.itself.is_some())
    }
}

/// A query near a row: the row itself where it has no two neighbours that
/// differ, or where the step leads to no vector that can be searched for.
pub(super) fn probe_near(published: &Published, place: &Place) -> Result<Probe, SearchError> {
    let (id, vector) = (&place.id, place.vector(published));
    let query = Query::new(&vector).without_payload().top(NEIGHBOURS + 1).ef_search(UNCALIBRATED_EF);
    let answer = search_uncounted(Sight::of_all(published), &query)?;
    let others = answer.hits().iter().map(|hit| &hit.id).filter(|hit| *hit != id).take(NEIGHBOURS);
    let others: Vec<Vec<f32>> = others
        .filter_map(|id| Sight::of_all(published).find(id).map(|(shard, row)| shard.vector(row)))
        .collect();
    let stepped =
        pair(place.number, others.len()).map(|(from, to)| step(&vector, &others[from], &others[to]));
    let usable = |stepped: &Vec<f32>| *stepped != vector && published.context.space.check(stepped).is_ok();
    Ok(match stepped.filter(usable) {
        Some(vector) => Probe { vector, itself: None },
        None => Probe { vector, itself: Some(id.clone()) },
    })
}

/// Two different numbers below `count`.
fn pair(seed: u64, count: usize) -> Option<(usize, usize)> {
    let hash = mix(seed);
    let first = (hash as u32 as usize).checked_rem(count)?;
    let apart = 1 + ((hash >> 32) as usize).checked_rem(count - 1)?;
    Some((first, (first + apart) % count))
}

fn step(vector: &[f32], from: &[f32], to: &[f32]) -> Vec<f32> {
    vector.iter().zip(from).zip(to).map(|((x, from), to)| x + (to - from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_leads_between_two_different_neighbours() {
        assert_eq!((pair(7, 0), pair(7, 1)), (None, None));
        for seed in 0..1_000 {
            for count in [2, 3, 10] {
                let (from, to) = pair(seed, count).unwrap();
                assert!(from != to && from < count && to < count);
            }
        }
    }
}
