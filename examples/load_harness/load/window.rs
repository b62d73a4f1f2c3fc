//! What was measured in a stretch of time.
//!
//! Each thread of the harness writes into a window of its own; whoever shows
//! the progress takes the windows away and adds them up.

use hdrhistogram::Histogram;

use super::mix::Operation;
use super::target::Outcome;

/// Times below this are told apart no further...
const LEAST_NS: u64 = 100;
/// ...and longer ones count as this.
const MOST_NS: u64 = 100_000_000_000;

/// Times in nanoseconds, to three digits; takes memory once something is in it.
#[derive(Clone, Default)]
pub(crate) struct Times(Option<Box<Histogram<u64>>>);

impl Times {
    pub(crate) fn record(&mut self, ns: u64) {
        if self.0.is_none() {
            self.0 = Histogram::new_with_bounds(LEAST_NS, MOST_NS, 3).ok().map(Box::new);
        }
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(ns);
        }
    }

    pub(crate) fn add(&mut self, other: &Times) {
        match (&mut self.0, &other.0) {
            (Some(mine), Some(other)) => drop(mine.add(&**other)),
            (None, Some(_)) => *self = other.clone(),
            (_, None) => {}
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.as_ref().map_or(0, |histogram| histogram.len())
    }

    /// Microseconds that this share (0 to 1) does not exceed.
    pub(crate) fn quantile_us(&self, share: f64) -> f64 {
        let histogram = self.0.as_ref().filter(|histogram| !histogram.is_empty());
        histogram.map_or(f64::NAN, |histogram| histogram.value_at_quantile(share) as f64 / 1e3)
    }

    pub(crate) fn histogram(&self) -> Option<&Histogram<u64>> {
        self.0.as_deref()
    }
}

/// One operation in a stretch of time.
#[derive(Clone, Default)]
pub(crate) struct OperationWindow {
    /// From the intended start to the end, of what was answered.
    pub(crate) latency: Times,
    /// From the true start to the end.
    pub(crate) service: Times,
    /// From the true start to the refusal.
    pub(crate) refusal: Times,
    pub(crate) done: u64,
    /// Done within the time that makes an answer useful.
    pub(crate) good: u64,
    pub(crate) short: u64,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
    pub(crate) first_failure: Option<String>,
}

/// Everything in a stretch of time.
#[derive(Clone, Default)]
pub(crate) struct Window {
    pub(crate) operations: [OperationWindow; Operation::COUNT],
    /// From the intended to the true start: what the harness, or a lack of
    /// threads, added.
    pub(crate) delay: Times,
    /// From the acknowledgement of a write to its first being visible.
    pub(crate) fresh: Times,
    /// Acknowledged and not found: not before the harness gave up, or visible by
    /// their number and not there.
    pub(crate) missing: u64,
    /// From requests that were begun and did not end before the harness gave up.
    pub(crate) unfinished: u64,
}

/// The moments of a request, in nanoseconds from the start of the run.
#[derive(Clone, Copy)]
pub(crate) struct Moments {
    pub(crate) intended_ns: u64,
    pub(crate) began_ns: u64,
    pub(crate) ended_ns: u64,
}

impl Window {
    pub(crate) fn record(&mut self, operation: Operation, moments: Moments, outcome: Outcome, limit_ns: u64) {
        let Moments { intended_ns, began_ns, ended_ns } = moments;
        self.delay.record(began_ns.saturating_sub(intended_ns));
        let of = &mut self.operations[operation as usize];
        let service = ended_ns.saturating_sub(began_ns);
        match outcome {
            Outcome::Done | Outcome::Short => {
                let latency = ended_ns.saturating_sub(intended_ns);
                of.done += 1;
                of.good += u64::from(latency <= limit_ns);
                of.short += u64::from(outcome == Outcome::Short);
                of.latency.record(latency);
                of.service.record(service);
            }
            Outcome::Refused => {
                of.refused += 1;
                of.refusal.record(service);
            }
            Outcome::Failed(why) => {
                of.failed += 1;
                of.first_failure.get_or_insert(why);
            }
        }
    }

    pub(crate) fn add(&mut self, other: &Window) {
        for (mine, other) in self.operations.iter_mut().zip(&other.operations) {
            mine.latency.add(&other.latency);
            mine.service.add(&other.service);
            mine.refusal.add(&other.refusal);
            mine.done += other.done;
            mine.good += other.good;
            mine.short += other.short;
            mine.refused += other.refused;
            mine.failed += other.failed;
            if mine.first_failure.is_none() {
                mine.first_failure.clone_from(&other.first_failure);
            }
        }
        self.delay.add(&other.delay);
        self.fresh.add(&other.fresh);
        self.missing += other.missing;
        self.unfinished += other.unfinished;
    }

    /// The sum of a count over all operations.
    pub(crate) fn sum(&self, count: impl Fn(&OperationWindow) -> u64) -> u64 {
        self.operations.iter().map(count).sum()
    }

    /// Times of searches with and without a filter.
    pub(crate) fn searches(&self) -> Times {
        let mut searches = self.operations[Operation::Search as usize].latency.clone();
        searches.add(&self.operations[Operation::Filtered as usize].latency);
        searches
    }

    /// Times of all operations together.
    pub(crate) fn all(&self, times: impl Fn(&OperationWindow) -> &Times) -> Times {
        let mut all = Times::default();
        self.operations.iter().for_each(|of| all.add(times(of)));
        all
    }
}
