//! What queries ask for beside the nearest records to a vector: records like
//! examples, others than some, unlike each other.

use super::search::Candidate;
use super::sight::Sight;
use crate::error::SearchError;
use crate::id::{RecordId, Row};
use crate::memory;
use crate::query::{Example, Hit, Query};

/// Candidates for each hit that is to be unlike the others...
const CANDIDATES_A_HIT: usize = 4;

/// ...and how many are looked at in the end: k times as many distances are
/// computed, a few milliseconds, on the coordinator's thread at times.
const MOST_CANDIDATES: usize = 256;

/// The vector that stands for a query's examples.
///
/// # Errors
/// [`SearchError::NoExample`] when the snapshot does not show a record,
/// [`SearchError::Vector`] when a vector cannot be used.
pub(super) fn vector_of_examples(
    published: Sight<'_>,
    query: &Query<'_>,
) -> Result<Option<Vec<f32>>, SearchError> {
    let Some(examples) = query.examples() else { return Ok(None) };
    let positive = mean(published, &examples.positive)?;
    if examples.negative.is_empty() {
        return Ok(Some(positive));
    }
    let negative = mean(published, &examples.negative)?;
    let parts = positive.iter().zip(negative);
    Ok(Some(memory::collect(parts.map(|(positive, negative)| 2.0 * positive - negative))))
}

/// The mean of some vectors; of their directions under cosine.
fn mean(published: Sight<'_>, examples: &[Example]) -> Result<Vec<f32>, SearchError> {
    let space = &published.context.space;
    let mut sum = memory::filled(0.0, space.dim());
    for example in examples {
        let stored;
        let vector = match example {
            Example::Vector(vector) => vector,
            Example::Id(id) => {
                let found = published.find(id).map(|(shard, row)| shard.vector(row));
                stored = found.ok_or_else(|| SearchError::NoExample { id: id.copy() })?;
                &stored
            }
        };
        let scale = space.check(vector)?;
        sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x * scale);
    }
    let share = 1.0 / examples.len() as f32;
    sum.iter_mut().for_each(|sum| *sum *= share);
    Ok(sum)
}

/// The rows that may not be in the answer, by shard and row.
pub(super) fn hidden(published: Sight<'_>, query: &Query<'_>) -> Vec<(u32, Row)> {
    let of_examples = query.examples().into_iter().flat_map(|examples| examples.ids());
    let ids = of_examples.chain(query.excluded());
    let mut hidden: Vec<(u32, Row)> = memory::collect(ids.filter_map(|id| published.place(id)));
    hidden.sort_unstable();
    hidden.dedup();
    hidden
}

/// How many rows must be found, so that there are k to choose.
pub(super) fn candidates(query: &Query<'_>, hidden: usize) -> usize {
    let k = query.k();
    let chosen_from = match query.diversity_wanted() {
        Some(_) => k.max(k.saturating_mul(CANDIDATES_A_HIT).min(MOST_CANDIDATES)),
        None => k,
    };
    chosen_from.saturating_add(hidden)
}

/// Chooses k of the candidates, which ascend by distance, so that they are
/// unlike each other. In O(k x candidates) distances.
pub(super) fn diversify(published: Sight<'_>, query: &Query<'_>, found: &mut Vec<Candidate>) {
    let Some(diversity) = query.diversity_wanted() else { return };
    let first = found.len().min(MOST_CANDIDATES);
    let rest = memory::copied(&found[first..]);
    let mut waiting = std::mem::take(found);
    waiting.truncate(first);
    let mut nearest_chosen = memory::filled(f32::INFINITY, waiting.len());
    let (mut prepared, space) = (Vec::new(), &published.context.space);
    while found.len() < query.k() {
        let gain = |(candidate, nearest): (&Candidate, &f32)| {
            // The first has nothing to be unlike to.
            let unlike = if nearest.is_finite() { diversity * nearest } else { 0.0 };
            unlike - (1.0 - diversity) * candidate.distance
        };
        let gains = waiting.iter().zip(&nearest_chosen).map(gain).enumerate();
        // The first of equals: the nearest.
        let best = gains.reduce(|best, next| if next.1 > best.1 { next } else { best });
        let Some((best, _)) = best else { break };
        let chosen = waiting.remove(best);
        nearest_chosen.remove(best);
        let Some(shard) = published.shards.get(chosen.shard as usize) else { break };
        shard.prepare(space, chosen.row, &mut prepared);
        for (candidate, nearest) in waiting.iter().zip(&mut nearest_chosen) {
            let shard = &published.shards[candidate.shard as usize];
            *nearest = nearest.min(shard.distance(space, &prepared, candidate.row));
        }
        memory::push(found, chosen);
    }
    memory::extend(found, rest);
    found.truncate(query.k());
}

/// The same for hits that workers found.
pub(super) fn diversify_hits(published: Sight<'_>, query: &Query<'_>, hits: &mut Vec<Hit>) {
    if query.diversity_wanted().is_none() {
        return;
    }
    let known = std::mem::take(hits);
    let candidate = |hit: &Hit| {
        let (shard, row) = published.place(&hit.id)?;
        Some(Candidate { distance: hit.rank(), bonus: hit.bonus, shard, row })
    };
    let places: Vec<Option<Candidate>> = memory::collect(known.iter().map(candidate));
    let mut known: Vec<Option<Hit>> = memory::collect(known.into_iter().map(Some));
    let mut found: Vec<Candidate> = memory::collect(places.iter().flatten().copied());
    diversify(published, query, &mut found);
    for chosen in found {
        let is_chosen = |place: &Option<Candidate>| {
            place.is_some_and(|place| (place.shard, place.row) == (chosen.shard, chosen.row))
        };
        let at = places.iter().position(is_chosen);
        memory::extend(hits, at.and_then(|at| known.get_mut(at)).and_then(Option::take));
    }
}

impl Sight<'_> {
    /// Where a record stands, by shard and row.
    fn place(self, id: &RecordId) -> Option<(u32, Row)> {
        let (_, row) = self.find(id)?;
        Some((super::published::shard_of(id, self.shards.len()) as u32, row))
    }
}
