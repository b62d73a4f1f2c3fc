//! How hard to search: a breadth, or a target.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use crate::error::ParamsError;

/// How hard to search: a breadth for the graph, or what the search should
/// reach, for which the collection finds the breadth itself.
///
/// A target is looked up in a table that the collection measures on its own
/// rows ([`Collection::calibrate`](crate::Collection::calibrate)); the first
/// search with a target starts that in the background. Until it is done
/// [`SearchParams::recall`] searches with a breadth of 512 (or the
/// collection's `ef_search`, or 2 k, if that is more) and [`SearchParams::p99`]
/// with the collection's `ef_search`. Collections of less than 1,000 rows and those
/// with an exact index answer exactly.
///
/// What it promises holds for queries like the rows. Queries from elsewhere
/// (texts against pictures, users against items) are harder: measure those.
///
/// ```
/// use vecino::{CollectionConfig, Engine, Metric, Query, Record, SearchParams};
///
/// let engine = Engine::builder().build()?;
/// let config = CollectionConfig::new(2, Metric::L2).search(SearchParams::recall(0.95));
/// let items = engine.create_collection("items", config)?;
/// items.upsert_batch((0..2_000).map(|id| Record::new(id, [id as f32, (id % 7) as f32])))?.wait()?;
/// items.calibrate()?;
///
/// let answer = items.search(&Query::new(&[20.0, 3.0]))?;
/// let careful = items.search(&Query::new(&[20.0, 3.0]).params(SearchParams::recall(0.99)))?;
/// assert!(answer.stats().ef <= careful.stats().ef);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SearchParams(Goal);

/// What [`SearchParams`] ask for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Goal {
    /// This list length.
    Breadth(usize),
    /// What it takes for a target.
    Target(Target),
}

/// Something to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    Recall(Share),
    P99(Duration),
}

/// A recall as it was given: kept by its bits, so that it can be compared
/// before it was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Share(u64);

impl Share {
    pub(crate) fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// Tells a time from a recall in [`Target::code`]: a positive number's bits
/// leave the sign free.
const IS_P99: u64 = 1 << 63;

impl Target {
    /// A checked target as one word, so that readers can note it without a lock.
    pub(crate) fn code(self) -> Option<NonZeroU64> {
        NonZeroU64::new(match self {
            Target::Recall(share) => share.0,
            Target::P99(limit) => {
                IS_P99 | u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX).min(IS_P99 - 1)
            }
        })
    }

    /// The target of a code.
    pub(crate) fn of_code(code: NonZeroU64) -> Target {
        match code.get() & IS_P99 {
            0 => Target::Recall(Share(code.get())),
            _ => Target::P99(Duration::from_nanos(code.get() & !IS_P99)),
        }
    }
}

impl SearchParams {
    /// The breadth of the search in graph indexes: see [`Query::ef_search`](crate::Query::ef_search).
    #[must_use]
    pub fn ef_search(ef_search: usize) -> SearchParams {
        SearchParams(Goal::Breadth(ef_search))
    }

    /// The least breadth that finds this share of the k nearest, on average
    /// over queries like the collection's rows: more than 0, at most 1, else
    /// the search gives [`ParamsError::Recall`]. 1 is the exact search.
    #[must_use]
    pub fn recall(recall: f64) -> SearchParams {
        SearchParams(Goal::Target(Target::Recall(Share(recall.to_bits()))))
    }

    /// The largest breadth (up to the one with which no sampled query missed
    /// anything) of which 99 in 100 searches take at most so long on one
    /// thread that has a core for itself. More than 0, else the search gives
    /// [`ParamsError::P99`]. When the least breadth takes longer, that is used.
    #[must_use]
    pub fn p99(limit: Duration) -> SearchParams {
        SearchParams(Goal::Target(Target::P99(limit)))
    }

    pub(crate) fn goal(self) -> Goal {
        self.0
    }

    /// # Errors
    /// [`ParamsError`] when the target is none.
    pub(crate) fn check(self) -> Result<(), ParamsError> {
        match self.0 {
            Goal::Target(Target::Recall(share)) if !(share.get() > 0.0 && share.get() <= 1.0) => {
                Err(ParamsError::Recall { got: share.get() })
            }
            Goal::Target(Target::P99(Duration::ZERO)) => Err(ParamsError::P99),
            _ => Ok(()),
        }
    }
}

impl From<Target> for SearchParams {
    fn from(target: Target) -> SearchParams {
        SearchParams(Goal::Target(target))
    }
}

impl fmt::Display for SearchParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Goal::Breadth(ef_search) => write!(f, "ef_search({ef_search})"),
            Goal::Target(Target::Recall(share)) => write!(f, "recall({})", share.get()),
            Goal::Target(Target::P99(limit)) => write!(f, "p99({limit:?})"),
        }
    }
}

impl fmt::Debug for SearchParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(params: SearchParams) -> Target {
        match params.goal() {
            Goal::Target(target) => target,
            Goal::Breadth(_) => panic!("no target"),
        }
    }

    #[test]
    fn a_target_survives_being_noted() {
        let times = [1, 2_000_000, u64::MAX >> 1].map(|nanos| SearchParams::p99(Duration::from_nanos(nanos)));
        let recalls = [f64::MIN_POSITIVE, 0.5, 0.98, 1.0].map(SearchParams::recall);
        for params in times.into_iter().chain(recalls) {
            let code = target(params).code().unwrap();
            assert_eq!(SearchParams::from(Target::of_code(code)), params);
        }
        let longest = SearchParams::p99(Duration::MAX);
        let noted = Target::of_code(target(longest).code().unwrap());
        assert_eq!(SearchParams::from(noted), SearchParams::p99(Duration::from_nanos(u64::MAX >> 1)));
    }

    #[test]
    fn what_is_no_target_is_refused_and_named() {
        for got in [0.0, -0.0, -0.5, 1.0 + f64::EPSILON, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(SearchParams::recall(got).check(), Err(ParamsError::Recall { got }));
        }
        assert!(matches!(SearchParams::recall(f64::NAN).check(), Err(ParamsError::Recall { .. })));
        assert_eq!(SearchParams::p99(Duration::ZERO).check(), Err(ParamsError::P99));
        for fine in [SearchParams::recall(1.0), SearchParams::recall(1e-9), SearchParams::ef_search(0)] {
            assert_eq!(fine.check(), Ok(()));
        }
    }
}
