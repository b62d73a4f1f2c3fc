//! What may cut a search of a snapshot short.

use super::sight::Sight;
use crate::query::Query;
use crate::stop::{Stop, Terms};

/// Calls `search` with what the query's deadline, budget and token come to;
/// with nothing when it has none of them. `part` is for one of so many shards
/// that share the work: it says that nobody waits for the answer any more.
pub(super) fn watched<T>(
    published: Sight<'_>,
    query: &Query<'_>,
    part: Option<(&dyn Fn() -> bool, usize)>,
    search: impl FnOnce(Option<&Stop<'_>>) -> T,
) -> T {
    if !query.is_limited() && part.is_none() {
        return search(None);
    }
    let now = || published.context.wall.clock().elapsed();
    let cancelled = || query.is_cancelled() || part.is_some_and(|(abandoned, _)| abandoned());
    let allowed = query.distances_allowed();
    let terms = Terms {
        now: &now,
        deadline: query.until(now),
        budget: part.map_or(allowed, |(_, shards)| allowed.div_ceil(shards.max(1) as u64)),
        cancelled: &cancelled,
    };
    search(Some(&Stop::new(terms, published.context.space.dim())))
}
