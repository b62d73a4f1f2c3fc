//! What a run was and what it measured, in a form that is written as JSON and
//! read again. Times are microseconds unless a name says otherwise.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::feed::Counts;
use super::mix::Operation;
use super::window::{Times, Window};

/// Changes whenever a field changes its meaning.
pub(crate) const FORMAT: u32 = 2;

/// Shares at which the curve of times by percentile is drawn, in percent.
const CURVE: [f64; 16] =
    [0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.8, 99.9, 99.95, 99.99, 99.999, 100.0];

/// Some times.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    pub(crate) count: u64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) most: f64,
}

impl Quantiles {
    /// `None` of no times at all.
    pub(crate) fn of(times: &Times) -> Option<Quantiles> {
        (times.len() > 0).then(|| Quantiles {
            count: times.len(),
            p50: times.quantile_us(0.5),
            p90: times.quantile_us(0.9),
            p99: times.quantile_us(0.99),
            p999: times.quantile_us(0.999),
            most: times.quantile_us(1.0),
        })
    }
}

/// One stretch of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Interval {
    /// Its end, in seconds from the start.
    pub(crate) at_s: f64,
    pub(crate) seconds: f64,
    /// Left out of the totals.
    pub(crate) warm_up: bool,
    pub(crate) offered: u64,
    pub(crate) done: u64,
    pub(crate) good: u64,
    pub(crate) refused: u64,
    pub(crate) skipped: u64,
    pub(crate) failed: u64,
    pub(crate) latency: Option<Quantiles>,
    /// Searches with and without a filter.
    pub(crate) search: Option<Quantiles>,
    pub(crate) fresh: Option<Quantiles>,
    pub(crate) recall: Option<f64>,
    pub(crate) resident_mb: f64,
    /// What the target counts.
    pub(crate) counted_mb: f64,
    pub(crate) rows: usize,
    pub(crate) tail: usize,
    pub(crate) queued: usize,
    pub(crate) in_flight: usize,
    /// Processor time by seconds: 1 is one core, of harness and target together.
    pub(crate) cores: f64,
}

/// One operation over the whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OperationTotal {
    pub(crate) operation: String,
    /// Requests that came, those that were skipped included.
    pub(crate) due: u64,
    pub(crate) done: u64,
    pub(crate) good: u64,
    pub(crate) short: u64,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
    pub(crate) first_failure: Option<String>,
    /// From the intended start.
    pub(crate) latency: Option<Quantiles>,
    /// From the true start.
    pub(crate) service: Option<Quantiles>,
    /// Percent, microseconds.
    pub(crate) curve: Vec<(f64, f64)>,
}

/// The whole run, without its warm-up.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) seconds: f64,
    /// Of them, those in which requests came: the end of a run is waiting.
    pub(crate) due_seconds: f64,
    pub(crate) offered: u64,
    pub(crate) done: u64,
    pub(crate) good: u64,
    pub(crate) refused: u64,
    pub(crate) skipped: u64,
    pub(crate) failed: u64,
    pub(crate) unfinished: u64,
    /// Answers with fewer hits than there should be.
    pub(crate) short: u64,
    pub(crate) latency: Option<Quantiles>,
    /// Of searches with and without a filter.
    pub(crate) search: Option<Quantiles>,
    /// From the intended to the true start.
    pub(crate) delay: Option<Quantiles>,
    pub(crate) refusal: Option<Quantiles>,
    pub(crate) fresh: Option<Quantiles>,
    /// Acknowledged and not found: not in time, or visible by their number and
    /// not there.
    pub(crate) missing: u64,
    pub(crate) recall: Option<f64>,
    pub(crate) judged: u64,
    pub(crate) judged_again: u64,
    pub(crate) wrong_hits: u64,
    pub(crate) resident_first_mb: f64,
    pub(crate) resident_last_mb: f64,
    pub(crate) resident_most_mb: f64,
    pub(crate) cores: f64,
    pub(crate) threads: usize,
}

impl Totals {
    pub(crate) fn per_second(&self, count: u64) -> f64 {
        if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 }
    }

    /// Requests that came in a second.
    pub(crate) fn offered_per_second(&self) -> f64 {
        if self.due_seconds > 0.0 { self.offered as f64 / self.due_seconds } else { 0.0 }
    }
}

/// A run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) format: u32,
    pub(crate) title: String,
    pub(crate) target: String,
    pub(crate) machine: String,
    /// Everything that was set, by name.
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) totals: Totals,
    pub(crate) operations: Vec<OperationTotal>,
    pub(crate) intervals: Vec<Interval>,
}

impl Report {
    pub(crate) fn operation(&self, name: &str) -> Option<&OperationTotal> {
        self.operations.iter().find(|of| of.operation == name)
    }

    /// What makes a run worthless as evidence, in words.
    pub(crate) fn faults(&self) -> Vec<String> {
        let totals = &self.totals;
        let counts = [
            (totals.missing, "acknowledged writes were not found"),
            (totals.wrong_hits, "hits were wrong (gone, twice, out of order)"),
            (totals.short, "answers had fewer hits than there are records"),
            (totals.failed, "requests failed"),
            (totals.unfinished, "requests did not end"),
        ];
        let found = counts.iter().filter(|(count, _)| *count > 0);
        let mut faults: Vec<String> = found.map(|(count, what)| format!("{count} {what}")).collect();
        faults.extend(self.operations.iter().filter_map(|of| {
            of.first_failure.as_ref().map(|why| format!("first failure of {}: {why}", of.operation))
        }));
        faults
    }
}

/// The operations that occurred.
pub(crate) fn operations(window: &Window, counts: &Counts) -> Vec<OperationTotal> {
    let occurred = |(operation, _): &&(Operation, &str)| {
        let of = &window.operations[*operation as usize];
        of.done + of.refused + of.failed + counts.due[*operation as usize] > 0
    };
    let total = |(operation, name): &(Operation, &str)| {
        let of = &window.operations[*operation as usize];
        OperationTotal {
            operation: (*name).to_owned(),
            due: counts.due[*operation as usize],
            done: of.done,
            good: of.good,
            short: of.short,
            refused: of.refused,
            failed: of.failed,
            first_failure: of.first_failure.clone(),
            latency: Quantiles::of(&of.latency),
            service: Quantiles::of(&of.service),
            curve: curve(&of.latency),
        }
    };
    Operation::ALL.iter().filter(occurred).map(total).collect()
}

fn curve(times: &Times) -> Vec<(f64, f64)> {
    if times.len() == 0 {
        return Vec::new();
    }
    CURVE.iter().map(|percent| (*percent, times.quantile_us(percent / 100.0))).collect()
}
