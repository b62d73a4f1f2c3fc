//! How much a search may take, and how an answer says that it took too much.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Query;
use crate::stop::Cut;

/// What a search may take at most.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Limits {
    /// From the call on.
    deadline: Option<Duration>,
    /// The same as a time of the engine's clock, once the call has begun.
    until: Option<Duration>,
    budget: Option<u64>,
    cancel: Option<CancelToken>,
}

/// Ends searches from elsewhere: see [`Query::cancel`]. Clones are one token.
#[derive(Clone, Debug, Default)]
pub struct CancelToken {
    cancelled: Arc<AtomicBool>,
}

impl CancelToken {
    /// A token that was not used yet.
    #[must_use]
    pub fn new() -> CancelToken {
        CancelToken::default()
    }

    /// Ends every search that has this token, now and later.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// True once [`CancelToken::cancel`] was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}

/// Tokens are equal when one is a clone of the other.
impl PartialEq for CancelToken {
    fn eq(&self, other: &CancelToken) -> bool {
        Arc::ptr_eq(&self.cancelled, &other.cancelled)
    }
}

/// Whether an answer is all that was asked for, and if not, why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Completeness {
    /// As many hits as were asked for, from a search that ran to its end.
    #[default]
    Complete,
    /// Fewer than asked for, from a search that ran to its end. From an exact search: no
    /// more match. An index that is not exact may have missed some, as it may miss
    /// neighbours (mostly within a distance: [`Query::within`]).
    FewerMatch,
    /// The time was up ([`Query::deadline`]): the best of what was seen by then.
    Deadline,
    /// The work was used up ([`Query::budget`]): the best of what was seen by then.
    Budget,
    /// The search was ended from outside ([`Query::cancel`]), or something could
    /// not be searched ([`Query::allow_partial`]): the best of what was seen.
    Partial,
}

impl Completeness {
    /// True when the search ran to its end.
    #[must_use]
    pub fn is_whole(self) -> bool {
        matches!(self, Completeness::Complete | Completeness::FewerMatch)
    }

    pub(crate) fn of(cut: Option<Cut>, hits: usize, wanted: usize) -> Completeness {
        match cut {
            Some(Cut::Deadline) => Completeness::Deadline,
            Some(Cut::Budget) => Completeness::Budget,
            Some(Cut::Cancelled) => Completeness::Partial,
            None if hits < wanted => Completeness::FewerMatch,
            None => Completeness::Complete,
        }
    }

    pub(crate) fn cut(self) -> Option<Cut> {
        match self {
            Completeness::Complete | Completeness::FewerMatch => None,
            Completeness::Deadline => Some(Cut::Deadline),
            Completeness::Budget => Some(Cut::Budget),
            Completeness::Partial => Some(Cut::Cancelled),
        }
    }
}

impl Query<'_> {
    /// The search ends this long after the call, with what it has found by
    /// then; the answer says so ([`Completeness::Deadline`]). Counted from the
    /// call on, waiting included: a search through the workers that comes to
    /// its turn too late computes nothing. Each shard gets the same share of
    /// the time that is left, so a search over several may end a little early.
    ///
    /// One that passes while the search waits for a write ([`Query::at_least`]) is
    /// [`SearchError::AtLeast`](crate::SearchError::AtLeast), unless [`Query::allow_partial`] says that it may do without.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use vecino::{CollectionConfig, Completeness, Engine, Metric, Query, Record};
    /// # let engine = Engine::builder().build()?;
    /// # let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2))?;
    /// # items.upsert_batch((0..50).map(|id| Record::new(id, [id as f32, 0.0])))?.wait()?;
    /// let query = Query::new(&[1.0, 0.0]).deadline(Duration::from_millis(20));
    /// match items.search(&query)?.completeness() {
    ///     Completeness::Deadline => println!("a first impression"),
    ///     _ => println!("all that was asked for"),
    /// }
    /// # assert!(items.search(&query.deadline(Duration::ZERO))?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn deadline(mut self, after: Duration) -> Self {
        self.limits.deadline = Some(after);
        self
    }

    /// The search ends once it has computed so many distances, with what it has
    /// found by then; the answer says so ([`Completeness::Budget`]). It may go
    /// some hundred beyond: a step is never broken off, and what was found is
    /// measured. Unlike a deadline it gives the same answer on every machine.
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Completeness, Engine, IndexSpec, Metric, Query, Record};
    /// # let engine = Engine::builder().build()?;
    /// # let config = CollectionConfig::new(2, Metric::L2).index(IndexSpec::Flat);
    /// # let items = engine.create_collection("items", config)?;
    /// # items.upsert_batch((0..5_000).map(|id| Record::new(id, [id as f32, 0.0])))?.wait()?;
    /// let answer = items.search(&Query::new(&[1.0, 0.0]).budget(1_000))?;
    /// assert_eq!(answer.completeness(), Completeness::Budget);
    /// assert!(answer.stats().distances < 2_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn budget(mut self, distances: u64) -> Self {
        self.limits.budget = Some(distances);
        self
    }

    /// The search ends when the token is cancelled, with what it has found by
    /// then; the answer says so ([`Completeness::Partial`]).
    ///
    /// ```
    /// # use vecino::{CancelToken, CollectionConfig, Completeness, Engine, Metric, Query, Record};
    /// # let engine = Engine::builder().build()?;
    /// # let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2))?;
    /// # items.upsert(Record::new(1, [0.0, 0.0]))?.wait()?;
    /// let token = CancelToken::new();
    /// let query = Query::new(&[1.0, 0.0]).cancel(&token);
    /// token.cancel(); // from any thread
    /// assert_eq!(items.search(&query)?.completeness(), Completeness::Partial);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn cancel(mut self, token: &CancelToken) -> Self {
        self.limits.cancel = Some(token.clone());
        self
    }

    /// The same query of a call that begins now, by the engine's clock.
    #[must_use]
    pub(crate) fn begun(mut self, now: impl FnOnce() -> Duration) -> Self {
        if let (Some(deadline), None) = (self.limits.deadline, self.limits.until) {
            self.limits.until = Some(now().saturating_add(deadline));
        }
        self
    }

    /// With what is left of its budget, if it has one.
    #[must_use]
    pub(crate) fn within_budget(mut self, left: u64) -> Self {
        self.limits.budget = self.limits.budget.map(|_| left);
        self
    }

    /// True when the search may be cut short.
    pub(crate) fn is_limited(&self) -> bool {
        self.limits != Limits::default()
    }

    /// How long the call may take.
    pub(crate) fn time_allowed(&self) -> Option<Duration> {
        self.limits.deadline
    }

    /// The time of the engine's clock at which the search ends.
    pub(crate) fn until(&self, now: impl FnOnce() -> Duration) -> Option<Duration> {
        let deadline = self.limits.deadline?;
        Some(self.limits.until.unwrap_or_else(|| now().saturating_add(deadline)))
    }

    pub(crate) fn distances_allowed(&self) -> u64 {
        self.limits.budget.unwrap_or(u64::MAX)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.limits.cancel.as_ref().is_some_and(CancelToken::is_cancelled)
    }
}
