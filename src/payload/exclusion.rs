//! Records that many queries leave out.

use std::collections::HashSet;
use std::sync::Arc;

use crate::id::RecordId;

/// A set of ids that queries leave out: those that a user has seen already, say.
///
/// It grows while queries that were made before go on with what it was; they
/// share its memory. Adding an id costs O(log n) amortised, cloning the set
/// or giving it to a query O(log n), asking a query for it nothing for records
/// that the query never meets.
///
/// ```
/// use vecino::{CollectionConfig, Engine, ExclusionSet, Metric, Query, Record};
///
/// let engine = Engine::builder().build()?;
/// let films = engine.create_collection("films", CollectionConfig::new(1, Metric::L2))?;
/// films.upsert_batch((0..100u64).map(|id| Record::new(id, [id as f32])))?.wait()?;
///
/// let mut seen = ExclusionSet::new();
/// for _ in 0..3 {
///     let answer = films.search(&Query::new(&[0.0]).top(4).exclude_set(&seen))?;
///     seen.extend(answer.hits().iter().map(|hit| hit.id.clone()));
/// }
/// assert_eq!(seen.len(), 12);
/// assert!(seen.contains(&11.into()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ExclusionSet {
    /// Each at least twice as large as the next one; no id is in two.
    layers: Vec<Arc<HashSet<RecordId>>>,
    len: usize,
}

impl ExclusionSet {
    /// No ids.
    #[must_use]
    pub fn new() -> ExclusionSet {
        ExclusionSet::default()
    }

    /// Adds an id; false when it was there.
    pub fn insert(&mut self, id: impl Into<RecordId>) -> bool {
        let id = id.into();
        if self.contains(&id) {
            return false;
        }
        self.len += 1;
        // A layer that nobody else has can grow where it is.
        match self.layers.last_mut().and_then(Arc::get_mut) {
            Some(last) => _ = last.insert(id),
            None => self.layers.push(Arc::new(HashSet::from([id]))),
        }
        while let [.., before, last] = self.layers.as_slice()
            && before.len() < 2 * last.len()
        {
            let Some(last) = self.layers.pop() else { break };
            if let Some(before) = self.layers.last_mut() {
                Arc::make_mut(before).extend(Arc::unwrap_or_clone(last));
            }
        }
        true
    }

    /// True when the id is in the set.
    #[must_use]
    pub fn contains(&self, id: &RecordId) -> bool {
        self.layers.iter().any(|layer| layer.contains(id))
    }

    /// The number of ids.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there are no ids.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Sets are equal when they share their memory: comparing the ids would take
/// as long as a search.
impl PartialEq for ExclusionSet {
    fn eq(&self, other: &ExclusionSet) -> bool {
        self.len == other.len
            && self.layers.iter().zip(&other.layers).all(|(own, other)| Arc::ptr_eq(own, other))
    }
}

impl<I: Into<RecordId>> Extend<I> for ExclusionSet {
    fn extend<T: IntoIterator<Item = I>>(&mut self, ids: T) {
        ids.into_iter().for_each(|id| _ = self.insert(id));
    }
}

impl<I: Into<RecordId>> FromIterator<I> for ExclusionSet {
    fn from_iter<T: IntoIterator<Item = I>>(ids: T) -> Self {
        let mut set = ExclusionSet::new();
        set.extend(ids);
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_that_was_handed_on_stays_as_it_was_while_the_original_grows() {
        let mut set = ExclusionSet::new();
        let mut handed = Vec::new();
        for id in 0..3_000u64 {
            assert!(set.insert(id) && !set.insert(id));
            if id % 7 == 0 {
                handed.push(set.clone());
            }
        }
        assert!(set.layers.len() <= 13, "{}", set.layers.len());
        assert_eq!(set.layers.iter().map(|layer| layer.len()).sum::<usize>(), 3_000);
        for (at, old) in handed.iter().enumerate() {
            let last = at as u64 * 7;
            assert_eq!(old.len() as u64, last + 1);
            assert!(old.contains(&last.into()) && !old.contains(&(last + 1).into()));
        }
    }
}
