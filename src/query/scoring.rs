//! What counts beside the distance: age, importance, use.

use std::time::Duration;

use crate::error::ParamsError;
use crate::payload::{Filter, FilterError, Timestamp};

/// Terms of a scoring: each costs a look at a field for every candidate.
const TERMS: usize = 16;

/// What fields of a record earn it, beside its distance: for
/// [`Query::scoring`](crate::Query::scoring).
///
/// Each term gives a value from 0 to 1, times its weight. The sum is the bonus
/// of a record; hits stand in the order of `distance - bonus`, least first. So a
/// weight says how much farther a record may be for it, in units of the
/// distance: under cosine, with 0.2, a fresh memory is worth as much as an old
/// one that is more similar by 0.2. (Generative agents, Park et al. 2023, add
/// similarity, recency and importance in this way.)
///
/// A record without the field, or with another kind of value there, earns
/// nothing by it.
///
/// ```
/// # use std::time::Duration;
/// # use vecino::{CollectionConfig, Engine, Filter, Metric, Query, Record, Scoring, Timestamp};
/// # let engine = Engine::builder().build()?;
/// # let memories = engine.create_collection("memories", CollectionConfig::new(2, Metric::Cosine))?;
/// let day = Duration::from_secs(86_400);
/// let noon = Timestamp::from_secs(1_800_000_000);
/// let days_ago = |days: i64| Timestamp(noon.0 - days * 86_400_000_000);
/// memories.upsert(Record::new("likes tea", [1.0, 0.0]).with("used", days_ago(60)).with("importance", 2))?;
/// memories.upsert(Record::new("is allergic to nuts", [0.8, 0.6]).with("used", days_ago(90)).with("importance", 10))?;
/// memories.upsert(Record::new("asked for the menu", [0.9, 0.4]).with("used", days_ago(0)))?.wait()?;
///
/// let scoring = Scoring::new()
///     .decay("used", 7 * day, 0.2)
///     .share("importance", 10.0, 0.5)
///     .now(noon);
/// let answer = memories.search(&Query::new(&[1.0, 0.0]).scoring(scoring))?;
/// let order: Vec<String> = answer.hits().iter().map(|hit| hit.id.to_string()).collect();
/// assert_eq!(order, ["is allergic to nuts", "asked for the menu", "likes tea"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scoring {
    pub(crate) terms: Vec<Term>,
    pub(crate) now: Option<Timestamp>,
}

/// One field and what it earns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Term {
    pub(crate) gain: Gain,
    pub(crate) weight: f32,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Gain {
    /// 1 now, a half after each half-life.
    Decay { path: String, half_life: Duration },
    /// The number as a part of `full`.
    Share { path: String, full: f64 },
    /// `n / (n + half)`.
    Strength { path: String, half: f64 },
    /// 1 for those that pass.
    Boost(Filter),
}

impl Scoring {
    /// Nothing but the distance counts.
    #[must_use]
    pub fn new() -> Scoring {
        Scoring::default()
    }

    /// The field is a moment. The value is 1 if it is now or later, a half when
    /// it is a half-life ago, a quarter when it is two.
    #[must_use]
    pub fn decay(self, path: impl Into<String>, half_life: Duration, weight: f32) -> Scoring {
        self.with(Gain::Decay { path: path.into(), half_life }, weight)
    }

    /// The field is a number. The value is its part of `full`, from 0 to 1: with
    /// an importance from 1 to 10, `full` is 10.
    #[must_use]
    pub fn share(self, path: impl Into<String>, full: f64, weight: f32) -> Scoring {
        self.with(Gain::Share { path: path.into(), full }, weight)
    }

    /// The field is a number n, such as how often a record was used. The value
    /// is `n / (n + half)`: it grows less and less, and is a half for `half`.
    #[must_use]
    pub fn strength(self, path: impl Into<String>, half: f64, weight: f32) -> Scoring {
        self.with(Gain::Strength { path: path.into(), half }, weight)
    }

    /// The value is 1 for records that pass a filter. With a weight below 0
    /// these are pushed back.
    #[must_use]
    pub fn boost(self, filter: Filter, weight: f32) -> Scoring {
        self.with(Gain::Boost(filter), weight)
    }

    /// The moment from which ages are counted. Default: that of the search.
    #[must_use]
    pub fn now(mut self, now: Timestamp) -> Scoring {
        self.now = Some(now);
        self
    }

    fn with(mut self, gain: Gain, weight: f32) -> Scoring {
        self.terms.push(Term { gain, weight });
        self
    }

    /// # Errors
    /// [`ParamsError`]: a weight or a measure that is none.
    pub(crate) fn check(&self) -> Result<(), ParamsError> {
        if self.terms.len() > TERMS {
            return Err(ParamsError::Terms { count: self.terms.len(), most: TERMS });
        }
        for Term { gain, weight } in &self.terms {
            if !weight.is_finite() {
                return Err(ParamsError::Weight { got: *weight });
            }
            let measure = match gain {
                Gain::Decay { half_life, .. } => half_life.as_secs_f64(),
                Gain::Share { full, .. } => *full,
                Gain::Strength { half, .. } => *half,
                Gain::Boost(_) => 1.0,
            };
            if !(measure > 0.0 && measure.is_finite()) {
                return Err(ParamsError::Measure { got: measure });
            }
        }
        Ok(())
    }

    /// # Errors
    /// Of the filters of boosts.
    pub(crate) fn check_filters(&self) -> Result<(), FilterError> {
        self.terms.iter().try_for_each(|term| match &term.gain {
            Gain::Boost(filter) => filter.check(),
            _ => Ok(()),
        })
    }

    /// True when it depends on the time of the search.
    pub(crate) fn needs_now(&self) -> bool {
        self.now.is_none() && self.terms.iter().any(|term| matches!(term.gain, Gain::Decay { .. }))
    }
}

impl Gain {
    /// What a moment is worth.
    pub(crate) fn of_time(&self, time: Timestamp, now: Timestamp) -> f64 {
        match self {
            Gain::Decay { half_life, .. } => {
                let age = now.0.saturating_sub(time.0).max(0) as f64 / 1e6;
                (-age / half_life.as_secs_f64()).exp2()
            }
            _ => 0.0,
        }
    }

    /// What a number is worth: more for a greater one.
    pub(crate) fn of_number(&self, number: f64) -> f64 {
        match self {
            Gain::Share { full, .. } => (number / full).clamp(0.0, 1.0),
            // Written so that no number is too great.
            Gain::Strength { half, .. } if number > 0.0 => 1.0 / (1.0 + half / number),
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_from_0_to_1_and_fall_with_age_and_rise_with_numbers() {
        let decay = Gain::Decay { path: "t".into(), half_life: Duration::from_secs(10) };
        let at = |seconds| decay.of_time(Timestamp::from_secs(seconds), Timestamp::from_secs(100));
        assert_eq!([at(100), at(200), at(90), at(80)], [1.0, 1.0, 0.5, 0.25]);
        assert!(at(i64::MIN / 1_000_000) >= 0.0);
        let share = Gain::Share { path: "i".into(), full: 10.0 };
        assert_eq!([-1.0, 0.0, 5.0, 10.0, 99.0].map(|x| share.of_number(x)), [0.0, 0.0, 0.5, 1.0, 1.0]);
        let strength = Gain::Strength { path: "n".into(), half: 3.0 };
        assert_eq!([-1.0, 0.0, 3.0, 9.0].map(|x| strength.of_number(x)), [0.0, 0.0, 0.5, 0.75]);
        assert_eq!([f64::MAX, f64::INFINITY].map(|x| strength.of_number(x)), [1.0, 1.0]);
    }

    #[test]
    fn what_cannot_be_weighed_is_refused() {
        let refused = |scoring: Scoring| scoring.check().unwrap_err();
        assert!(matches!(refused(Scoring::new().share("a", 1.0, f32::NAN)), ParamsError::Weight { .. }));
        assert_eq!(refused(Scoring::new().share("a", 0.0, 1.0)), ParamsError::Measure { got: 0.0 });
        assert_eq!(refused(Scoring::new().strength("a", -1.0, 1.0)), ParamsError::Measure { got: -1.0 });
        let none = Scoring::new().decay("a", Duration::ZERO, 1.0);
        assert_eq!(refused(none), ParamsError::Measure { got: 0.0 });
        let many = (0..17).fold(Scoring::new(), |scoring, _| scoring.share("a", 1.0, 1.0));
        assert_eq!(refused(many), ParamsError::Terms { count: 17, most: 16 });
        assert!(Scoring::new().boost(Filter::eq("", 1), 1.0).check_filters().is_err());
    }
}
