//! The highest rate that keeps some limits.

use super::Result;
use super::report::{OperationTotal, Report};

/// So many of the searches that were due must be answered within the limit...
const WITHIN: f64 = 0.99;
/// ...and so many of all requests at all.
const DONE: f64 = 0.98;
/// The search for the highest rate ends when it is known to this share...
const PRECISION: f64 = 0.08;
/// ...or after so many rates...
const TRIES: usize = 16;
/// ...or when recall was too low at so many, and good at none: with less load it
/// hardly rises.
const TRIES_FOR_RECALL: usize = 4;

/// What a rate must keep. An answer counts as good in a report when it came
/// within the first limit: `Scenario::useful_within` says it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) p99_us: f64,
    /// 0: any, and nobody need judge.
    pub(crate) recall: f64,
}

/// What a rate broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Time(String),
    Recall(String),
}

impl Broken {
    pub(crate) fn why(&self) -> &str {
        let (Broken::Time(why) | Broken::Recall(why)) = self;
        why
    }
}

impl Limits {
    /// The first limit that a run broke. Requests that were skipped or refused, or
    /// failed, or did not end, were not answered within any time.
    pub(crate) fn broken_by(&self, report: &Report) -> Option<Broken> {
        let totals = &report.totals;
        let recall = totals.recall.unwrap_or(f64::NAN);
        let is_found = recall >= self.recall || self.recall <= 0.0;
        if !is_found {
            let of = format!("recall {recall:.4} of {} answers judged", totals.judged);
            return Some(Broken::Recall(format!("{of} is not {} at least", self.recall)));
        }
        let searches: Vec<&OperationTotal> =
            ["search", "filtered"].into_iter().filter_map(|name| report.operation(name)).collect();
        let sum = |of: fn(&OperationTotal) -> u64| searches.iter().map(|search| of(search)).sum::<u64>();
        let (good, due) = (sum(|of| of.good), sum(|of| of.due));
        let p99 = totals.search.map_or(f64::NAN, |search| search.p99);
        let is_in_time = p99 <= self.p99_us && good as f64 >= WITHIN * due as f64;
        if !is_in_time {
            let of = format!("{good} of {due} searches that were due were answered in time");
            return Some(Broken::Time(format!("{of}, p99 {p99:.0} us")));
        }
        let is_done = totals.done as f64 >= DONE * totals.offered as f64;
        let of = || format!("{} of {} requests that were due were done", totals.done, totals.offered);
        (!is_done).then(|| Broken::Time(of()))
    }
}

/// Doubles the rate until a limit is broken, then halves the gap. Gives what was
/// measured at the highest rate that broke none.
pub(crate) fn highest<T>(
    first: f64,
    measure: &mut dyn FnMut(f64) -> Result<(T, Option<Broken>)>,
) -> Result<Option<(f64, T)>> {
    let mut rate = first;
    let (mut good, mut bad): (Option<(f64, T)>, Option<f64>) = (None, None);
    let mut not_found = 0;
    for _ in 0..TRIES {
        let (measured, broken) = measure(rate)?;
        not_found += usize::from(matches!(broken, Some(Broken::Recall(_))));
        match broken {
            None => good = Some((rate, measured)),
            Some(_) => bad = Some(rate),
        }
        let known = good.as_ref().map(|(rate, _)| *rate);
        rate = match (known, bad) {
            (Some(good), Some(bad)) if bad - good <= PRECISION * good => break,
            (Some(good), Some(bad)) => f64::midpoint(good, bad),
            (Some(good), None) => good * 2.0,
            (None, Some(_)) if not_found == TRIES_FOR_RECALL => break,
            (None, Some(bad)) => bad / 2.0,
            (None, None) => break,
        };
        if rate < 1.0 {
            break;
        }
    }
    Ok(good)
}
