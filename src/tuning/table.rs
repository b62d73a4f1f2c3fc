//! What was measured: recall and time for each breadth and number of hits.

use std::time::Duration;

use super::growth::Extent;
use crate::id::{Generation, Seq};

/// Standard errors between the recall that was seen and the one that is
/// counted on: the true recall is less one time in twenty.
const DOUBT: f64 = 1.645;

/// What a collection measured on its own rows: recall and time of searches.
///
/// Made by [`Collection::calibrate`](crate::Collection::calibrate), or in the
/// background once a search has a target. The recalls are a function of the
/// collection's history; the times are not.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Calibration {
    /// Which calibration of the collection it is: 1 for the first.
    pub number: u64,
    /// The snapshot that was measured.
    pub generation: Generation,
    /// The last write that it showed.
    pub seq: Seq,
    /// Its visible records.
    pub rows: usize,
    /// Queries that were made of them.
    pub samples: usize,
    /// One for each number of hits that was measured, ascending in k; none
    /// where nothing can be measured (fewer than two rows, an exact index).
    pub curves: Vec<CalibrationCurve>,
    pub(crate) extent: Extent,
}

/// How searches for k hits did.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CalibrationCurve {
    /// The number of hits.
    pub k: usize,
    /// One for each breadth, ascending. Ends with the first breadth that missed
    /// nothing, or that is as dear as the exact search.
    pub points: Vec<CalibrationPoint>,
    /// More breadth than that of the last point is dearer than the exact
    /// search, which takes its place.
    pub exact_beyond: bool,
}

/// How searches for k hits did at one breadth.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct CalibrationPoint {
    /// The breadth ([`Query::ef_search`](crate::Query::ef_search)).
    pub ef: usize,
    /// The mean recall of the sample. New vectors need a few places more for
    /// the same recall, which searches to a recall add.
    pub recall: f64,
    /// The recall that is counted on: the mean less 1.645 standard errors, and
    /// not more than that of a larger breadth.
    pub recall_at_least: f64,
    /// Half of the searches took at most so long.
    pub p50: Duration,
    /// 99 in 100 searches took at most so long.
    pub p99: Duration,
}

/// One search that was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    /// Of the k nearest, how many it found.
    pub(crate) found: usize,
    pub(crate) took: Duration,
}

/// Sums up the searches for `k` hits at a breadth.
pub(crate) fn point(k: usize, ef: usize, samples: &[Sample]) -> CalibrationPoint {
    let found: usize = samples.iter().map(|sample| sample.found).sum();
    let recalls = samples.iter().map(|sample| sample.found as f64 / k as f64);
    let mut times: Vec<Duration> = samples.iter().map(|sample| sample.took).collect();
    times.sort_unstable();
    CalibrationPoint {
        ef,
        recall: found as f64 / (k * samples.len()).max(1) as f64,
        recall_at_least: lower_bound(k, recalls),
        p50: percentile(&times, 50),
        p99: percentile(&times, 99),
    }
}

/// A recall that the true one hardly falls short of. One more query that
/// misses one hit is added, so that a sample without a miss proves no 1.
fn lower_bound(k: usize, recalls: impl Iterator<Item = f64> + Clone) -> f64 {
    let recalls = recalls.chain([1.0 - 1.0 / k as f64]);
    let count = recalls.clone().count() as f64;
    let mean = recalls.clone().sum::<f64>() / count;
    let variance = recalls.map(|recall| (recall - mean).powi(2)).sum::<f64>() / count;
    (mean - DOUBT * (variance / count).sqrt()).max(0.0)
}

/// The nearest rank of ascending times.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    let rank = (times.len() * percent).div_ceil(100);
    times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// A curve of points ascending in their breadth. More breadth finds no less:
/// what a sample says against it is noise, and the lesser recall is believed.
pub(crate) fn curve(k: usize, mut points: Vec<CalibrationPoint>, exact_beyond: bool) -> CalibrationCurve {
    let mut ceiling = 1.0_f64;
    for point in points.iter_mut().rev() {
        ceiling = ceiling.min(point.recall_at_least);
        point.recall_at_least = ceiling;
    }
    CalibrationCurve { k, points, exact_beyond }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(found: impl IntoIterator<Item = usize>) -> Vec<Sample> {
        let sample =
            |(at, found): (usize, usize)| Sample { found, took: Duration::from_micros(at as u64 + 1) };
        found.into_iter().enumerate().map(sample).collect()
    }

    #[test]
    fn a_point_sums_up_recall_and_times() {
        let point = point(10, 64, &samples((0..200).map(|at| if at % 4 == 0 { 8 } else { 10 })));
        assert!((point.recall - 0.95).abs() < 1e-12);
        assert!(point.recall_at_least > 0.93 && point.recall_at_least < 0.945);
        assert_eq!((point.p50, point.p99), (Duration::from_micros(100), Duration::from_micros(198)));
    }

    #[test]
    fn a_sample_without_a_miss_proves_less_than_everything() {
        let one = point(1, 8, &samples(vec![1; super::super::SAMPLES]));
        assert!(one.recall_at_least > 0.99 && one.recall_at_least < 0.997, "{one:?}");
        let ten = point(10, 10, &samples(vec![10; super::super::SAMPLES]));
        assert!(ten.recall_at_least > 0.999 && ten.recall_at_least < 1.0, "{ten:?}");
        assert_eq!((one.recall, ten.recall), (1.0, 1.0));
    }

    #[test]
    fn what_little_is_known_is_not_counted_on() {
        let few = point(1, 8, &samples([1, 1, 1]));
        let many = point(1, 8, &samples(vec![1; 300]));
        assert!(few.recall_at_least < 0.5 && many.recall_at_least > 0.98);
        assert_eq!(point(1, 8, &[]).recall, 0.0);
    }

    #[test]
    fn a_curve_never_counts_on_more_from_less_breadth() {
        let at = |ef, found: usize| point(10, ef, &samples(vec![found; 50]));
        let curve = curve(10, vec![at(10, 5), at(12, 9), at(16, 8), at(24, 10)], false);
        let counted: Vec<f64> = curve.points.iter().map(|point| point.recall_at_least).collect();
        assert!(counted.is_sorted(), "{counted:?}");
        assert_eq!(counted[1], counted[2]);
        assert_eq!(curve.points[1].recall, 0.9);
    }
}
