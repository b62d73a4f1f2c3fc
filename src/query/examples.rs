//! Searching by examples instead of a vector.

use std::time::Duration;

use super::{Query, Scoring};
use crate::error::ParamsError;
use crate::id::RecordId;
use crate::memory;

/// What is liked or not: a record that the collection holds, or a vector.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Example {
    /// The vector of the record with this id. Such a record is not in the answer.
    Id(RecordId),
    /// A vector from elsewhere.
    Vector(Vec<f32>),
}

impl<T: Into<RecordId>> From<T> for Example {
    fn from(id: T) -> Example {
        Example::Id(id.into())
    }
}

impl Example {
    /// An example that is no record of the collection.
    pub fn vector(vector: impl Into<Vec<f32>>) -> Example {
        Example::Vector(vector.into())
    }
}

/// What is like what is looked for, and what is not.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Examples {
    pub(crate) positive: Vec<Example>,
    pub(crate) negative: Vec<Example>,
}

impl Examples {
    /// The ids among them.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &RecordId> {
        self.positive.iter().chain(&self.negative).filter_map(|example| match example {
            Example::Id(id) => Some(id),
            Example::Vector(_) => None,
        })
    }
}

impl Example {
    fn copy(&self) -> Example {
        match self {
            Example::Id(id) => Example::Id(id.copy()),
            Example::Vector(vector) => Example::Vector(memory::copied(vector)),
        }
    }
}

impl Query<'static> {
    /// Asks for records like one that the collection holds, itself left out:
    /// "more like this".
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Metric, Query, Record};
    /// # let engine = Engine::builder().build()?;
    /// # let songs = engine.create_collection("songs", CollectionConfig::new(2, Metric::L2))?;
    /// songs.upsert(Record::new("waltz", [1.0, 0.0]))?;
    /// songs.upsert(Record::new("minuet", [0.9, 0.1]))?;
    /// songs.upsert(Record::new("march", [0.0, 5.0]))?.wait()?;
    /// let answer = songs.search(&Query::like("waltz").top(1))?;
    /// assert_eq!(answer.hits()[0].id, "minuet".into());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn like(id: impl Into<RecordId>) -> Query<'static> {
        Query::recommend([Example::Id(id.into())], [])
    }

    /// Asks for records near what is liked and away from what is not. With P
    /// and N the means of the positive and of the negative examples (under
    /// cosine of their directions), the search is for P + (P - N), or for P when
    /// nothing is negative. Examples that are records are left out of the answer.
    ///
    /// The search gives [`ParamsError`] when
    /// there is no positive example, and
    /// [`SearchError::NoExample`](crate::SearchError::NoExample) when a record
    /// is not there.
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Example, Metric, Query, Record};
    /// # let engine = Engine::builder().build()?;
    /// # let songs = engine.create_collection("songs", CollectionConfig::new(2, Metric::L2))?;
    /// songs.upsert_batch((0..10).map(|id| Record::new(id, [id as f32, 0.0])))?.wait()?;
    /// let taste = Query::recommend([4, 5].map(Example::from), [Example::vector([3.0, 0.0])]);
    /// let answer = songs.search(&taste.top(2))?; // searches for (4.5, 0) + (4.5, 0) - (3, 0)
    /// assert_eq!(answer.hits()[0].id, 6.into());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recommend(
        positive: impl IntoIterator<Item = Example>,
        negative: impl IntoIterator<Item = Example>,
    ) -> Query<'static> {
        let examples =
            Examples { positive: positive.into_iter().collect(), negative: negative.into_iter().collect() };
        let mut query = Query::new(Vec::new());
        query.wishes.examples = Some(examples);
        query
    }
}

/// What a query asks for beside the nearest records.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Wishes {
    /// Stand for the vector.
    examples: Option<Examples>,
    excluded: Vec<RecordId>,
    /// From 0 to 1.
    diversity: Option<f32>,
    /// All records up to this distance.
    within: Option<f32>,
    /// What is found lives so much longer.
    renewal: Option<Duration>,
    /// What counts beside the distance.
    scoring: Option<Scoring>,
}

impl Wishes {
    /// The same once more; unwinds where there is no memory for it.
    pub(super) fn copy(&self) -> Wishes {
        let copied = |examples: &[Example]| memory::collect(examples.iter().map(Example::copy));
        let Wishes { examples, excluded, diversity, within, renewal, scoring } = self;
        Wishes {
            examples: examples.as_ref().map(|examples| Examples {
                positive: copied(&examples.positive),
                negative: copied(&examples.negative),
            }),
            excluded: memory::collect(excluded.iter().map(RecordId::copy)),
            diversity: *diversity,
            within: *within,
            renewal: *renewal,
            scoring: scoring.clone(),
        }
    }
}

impl Query<'_> {
    /// Leaves records out of the answer; ids that are not there are fine. For
    /// up to some hundred ids: the search is for as many more hits.
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Metric, Query, Record};
    /// # let engine = Engine::builder().build()?;
    /// # let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2))?;
    /// # items.upsert_batch((0..10).map(|id| Record::new(id, [id as f32, 0.0])))?.wait()?;
    /// let answer = items.search(&Query::new(&[4.0, 0.0]).exclude([3, 4, 77]).top(1))?;
    /// assert_eq!(answer.hits()[0].id, 5.into());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn exclude<I: Into<RecordId>>(mut self, ids: impl IntoIterator<Item = I>) -> Self {
        self.wishes.excluded.extend(ids.into_iter().map(Into::into));
        self
    }

    /// Prefers hits that are unlike each other: from 0 (the nearest, as if it
    /// was not said) to 1 (as unlike as can be). Maximal marginal relevance
    /// (Carbonell and Goldstein, 1998; their lambda is 1 less this): one hit
    /// after the other is chosen by `(1 - diversity) * -distance to the query +
    /// diversity * distance to the nearest hit chosen before`, from 4 times as
    /// many candidates as there are to be hits. Hits stand in the order in which
    /// they were chosen.
    ///
    /// At most 256 candidates are looked at; with more hits asked for, the
    /// others follow by distance. Anything but 0 to 1 is a
    /// [`ParamsError`].
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Metric, Query, Record};
    /// # let engine = Engine::builder().build()?;
    /// # let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2))?;
    /// items.upsert(Record::new("song", [1.0, 0.0]))?;
    /// items.upsert(Record::new("the same song, live", [1.0, 0.01]))?;
    /// items.upsert(Record::new("another song", [0.0, 1.0]))?.wait()?;
    /// let answer = items.search(&Query::new(&[1.0, 0.0]).top(2).diversity(0.7))?;
    /// let ids: Vec<_> = answer.hits().iter().map(|hit| hit.id.to_string()).collect();
    /// assert_eq!(ids, ["song", "another song"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn diversity(mut self, diversity: f32) -> Self {
        self.wishes.diversity = Some(diversity);
        self
    }

    /// Asks for all records within a distance, nearest first, 10,000 at most
    /// unless [`Query::top`] says otherwise. Graph indexes find nearly all, as
    /// with any search; [`Query::exact`] finds all. Indexes of lists or of codes compare with every record. A distance that is no
    /// number is a [`ParamsError`].
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Metric, Query, Record};
    /// # let engine = Engine::builder().build()?;
    /// # let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2))?;
    /// # items.upsert_batch((0..50).map(|id| Record::new(id, [id as f32, 0.0])))?.wait()?;
    /// let answer = items.search(&Query::new(&[20.0, 0.0]).within(9.0))?; // squared: L2
    /// assert_eq!(answer.len(), 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn within(mut self, distance: f32) -> Self {
        self.wishes.within = Some(distance);
        self
    }

    /// What is found expires at least so long from now: use keeps it alive.
    /// Works in [`Collection::search`](crate::Collection::search) and `search_async`, which write
    /// for it and do not wait; not in snapshots and batches. A record is written
    /// only when it gains an eighth of this by it, so it may expire that much
    /// earlier. See [`Collection::touch`](crate::Collection::touch).
    #[must_use]
    pub fn renew(mut self, ttl: Duration) -> Self {
        self.wishes.renewal = Some(ttl);
        self
    }

    /// Lets fields count beside the distance: age, importance, use. Hits stand in
    /// the order of `distance - bonus`, and no record is missed that has a place
    /// among them, as far as the index finds it by its distance; with
    /// [`Query::exact`] none at all. The farther a record may come from by its
    /// bonus, the more are looked at. See [`Scoring`].
    #[must_use]
    pub fn scoring(mut self, scoring: Scoring) -> Self {
        self.wishes.scoring = Some(scoring).filter(|scoring| !scoring.terms.is_empty());
        self
    }

    pub(crate) fn scoring_wanted(&self) -> Option<&Scoring> {
        self.wishes.scoring.as_ref()
    }

    pub(crate) fn renewal(&self) -> Option<Duration> {
        self.wishes.renewal
    }

    pub(crate) fn examples(&self) -> Option<&Examples> {
        self.wishes.examples.as_ref()
    }

    pub(crate) fn excluded(&self) -> &[RecordId] {
        &self.wishes.excluded
    }

    pub(crate) fn diversity_wanted(&self) -> Option<f32> {
        self.wishes.diversity
    }

    pub(crate) fn reach(&self) -> Option<f32> {
        self.wishes.within
    }

    /// True when the search is for the nearest records to a vector and no more.
    pub(crate) fn is_plain(&self) -> bool {
        self.wishes == Wishes::default() && !self.is_limited()
    }

    /// # Errors
    /// [`ParamsError`]: a wish that cannot be.
    pub(crate) fn check_wishes(&self) -> Result<(), ParamsError> {
        let Wishes { examples, diversity, within, .. } = &self.wishes;
        if examples.as_ref().is_some_and(|examples| examples.positive.is_empty()) {
            return Err(ParamsError::NoPositive);
        }
        self.wishes.scoring.as_ref().map_or(Ok(()), Scoring::check)?;
        match (diversity, within) {
            (Some(got), _) if !(0.0..=1.0).contains(got) => Err(ParamsError::Diversity { got: *got }),
            (_, Some(got)) if got.is_nan() => Err(ParamsError::Within),
            _ => Ok(()),
        }
    }
}
