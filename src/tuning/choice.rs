//! Which breadth a target takes.

use std::time::Duration;

use super::HEAD_START;
use super::table::{Calibration, CalibrationCurve, CalibrationPoint};
use crate::query::Target;

/// What is known of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reach {
    /// The search compares with every record, because it is told to, has to,
    /// or because no breadth reaches the recall at less cost.
    Exact,
    /// The table says that it is reached.
    Reached,
    /// The table says that it is not, or cannot show it: the best breadth
    /// that was measured is used.
    BestAvailable,
    /// Nothing was measured yet: a breadth that does for most data is used.
    Unknown,
}

/// The breadth for a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) ef: usize,
    pub(crate) reached: bool,
    /// Rather compare with every row.
    pub(crate) exact: bool,
}

/// The breadth with which searches for `k` hits come to a target; `None` when
/// nothing was measured.
///
/// Between two measured numbers of hits the breadth lies on the line between
/// theirs in logarithms. The breadth for a recall grows about as a + b k, which
/// bends below that line: the line errs on the safe side.
pub(crate) fn choose(table: &Calibration, target: Target, k: usize) -> Option<Choice> {
    let k = k.max(1);
    let curves = &table.curves;
    let upper = curves.iter().position(|curve| curve.k >= k);
    let (lower, upper) = match upper {
        Some(at) if curves[at].k == k || at == 0 => (&curves[at], &curves[at]),
        Some(at) => (&curves[at - 1], &curves[at]),
        None => (curves.last()?, curves.last()?),
    };
    match target {
        Target::Recall(share) => {
            // A list that serves k hits serves fewer: never less for more hits.
            let up_to = |k| {
                let below = curves.iter().filter(move |curve| curve.k <= k);
                below.map(|curve| for_recall(curve, share.get())).reduce(more)
            };
            Some(between((lower.k, up_to(lower.k)?), (upper.k, up_to(upper.k)?), k))
        }
        Target::P99(limit) => Some(within(for_p99(lower, limit)?, for_p99(upper, limit)?, k)),
    }
}

/// The choice for more hits, with no less breadth than for few. (A sample shows less of the recall of few hits: what
/// it cannot show for one may be shown for ten.)
fn more(few: Choice, many: Choice) -> Choice {
    let exact = few.exact || many.exact;
    Choice { ef: few.ef.max(many.ef), reached: exact || many.reached, exact }
}

/// What holds for searches between two choices.
fn both(a: Choice, b: Choice) -> Choice {
    let exact = a.exact || b.exact;
    Choice { reached: exact || a.reached && b.reached, exact, ..a }
}

/// The choice for k, given those for a smaller and a larger number of hits.
fn between((less, a): (usize, Choice), (more, b): (usize, Choice), k: usize) -> Choice {
    let ef = if less == more {
        // Beyond the largest k that was measured: in proportion.
        b.ef.saturating_mul(k.max(more)).div_ceil(more)
    } else {
        let part = (k as f64 / less as f64).ln() / (more as f64 / less as f64).ln();
        on_the_line(a.ef, b.ef, part)
    };
    Choice { ef: ef.max(k), ..both(a, b) }
}

/// Between two breadths, in logarithms, rounded up.
fn on_the_line(from: usize, to: usize, part: f64) -> usize {
    let (low, high) = ((from as f64).ln(), (to as f64).ln());
    // What rounding adds must not reach the next whole number.
    let ef = (low + (high - low) * part.clamp(0.0, 1.0)).exp() - 1e-6;
    (ef.ceil() as usize).clamp(from.min(to), from.max(to))
}

/// The least breadth that the curve counts on for a recall, between two points
/// if it lies there; else the largest.
fn for_recall(curve: &CalibrationCurve, recall: f64) -> Choice {
    let points = &curve.points;
    let Some(at) = points.iter().position(|point| point.recall_at_least >= recall) else {
        let largest = points.last().map_or(curve.k, |point| point.ef);
        let exact = curve.exact_beyond;
        return Choice { ef: largest + HEAD_START, reached: exact, exact };
    };
    let ef = match at.checked_sub(1) {
        None => points[at].ef,
        Some(before) => between_points(&points[before], &points[at], recall),
    };
    Choice { ef: ef + HEAD_START, reached: true, exact: false }
}

fn between_points(low: &CalibrationPoint, high: &CalibrationPoint, recall: f64) -> usize {
    let part = (recall - low.recall_at_least) / (high.recall_at_least - low.recall_at_least);
    on_the_line(low.ef, high.ef, part)
}

/// The largest breadth up to which every one stays within a time; else the least.
fn for_p99(curve: &CalibrationCurve, limit: Duration) -> Option<Choice> {
    let within = curve.points.iter().take_while(|point| point.p99 <= limit).last();
    let least = curve.points.first()?;
    Some(Choice { ef: within.unwrap_or(least).ef, reached: within.is_some(), exact: false })
}

/// The choice for k by time, given those for a smaller and a larger number of
/// hits: the more cautious one, as far as it holds k hits.
fn within(a: Choice, b: Choice, k: usize) -> Choice {
    let ef = a.ef.min(b.ef);
    Choice { ef: ef.max(k), reached: a.reached && b.reached && ef >= k, exact: false }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::growth::Extent;
    use super::super::table::curve;
    use super::super::{LADDER, SIZES};
    use super::*;
    use crate::id::{Generation, Seq};
    use crate::query::{Goal, SearchParams};

    fn target(params: SearchParams) -> Target {
        match params.goal() {
            Goal::Target(target) => target,
            Goal::Breadth(_) => panic!("no target"),
        }
    }

    fn recall(recall: f64) -> Target {
        target(SearchParams::recall(recall))
    }

    fn p99(micros: u64) -> Target {
        target(SearchParams::p99(Duration::from_micros(micros)))
    }

    fn at(ef: usize, recall: f64, micros: u64) -> CalibrationPoint {
        let time = Duration::from_micros(micros);
        CalibrationPoint { ef, recall, recall_at_least: recall, p50: time, p99: time }
    }

    fn table(curves: Vec<CalibrationCurve>) -> Calibration {
        Calibration {
            number: 1,
            generation: Generation(1),
            seq: Seq(1),
            rows: 10_000,
            samples: 400,
            curves,
            extent: Extent::default(),
        }
    }

    fn two_curves() -> Calibration {
        table(vec![
            curve(10, vec![at(10, 0.80, 10), at(20, 0.90, 20), at(80, 0.98, 80)], false),
            curve(100, vec![at(100, 0.90, 100), at(400, 0.97, 400)], false),
        ])
    }

    fn ef(table: &Calibration, target: Target, k: usize) -> (usize, bool) {
        let choice = choose(table, target, k).unwrap();
        assert!(!choice.exact);
        (choice.ef, choice.reached)
    }

    #[test]
    fn the_least_breadth_that_reaches_the_recall_is_picked_between_two_points() {
        let table = two_curves();
        for (goal, least) in [(0.5, 10), (0.80, 10), (0.90, 20), (0.94, 40), (0.98, 80)] {
            assert_eq!(ef(&table, recall(goal), 10), (least + HEAD_START, true));
        }
    }

    #[test]
    fn beyond_what_was_reached_the_largest_breadth_is_used_and_said_so() {
        assert_eq!(ef(&two_curves(), recall(0.981), 10), (80 + HEAD_START, false));
        assert_eq!(ef(&two_curves(), recall(0.98), 100), (400 + HEAD_START, false));
    }

    #[test]
    fn where_a_scan_is_cheaper_it_reaches_what_no_breadth_does() {
        let mut table = two_curves();
        table.curves[1].exact_beyond = true;
        for k in [20, 100, 500] {
            let choice = choose(&table, recall(0.975), k).unwrap();
            assert!(choice.exact && choice.reached, "{choice:?}");
        }
        assert!(!choose(&table, recall(0.97), 100).unwrap().exact);
        assert!(!choose(&table, recall(0.97), 10).unwrap().exact);
    }

    #[test]
    fn between_and_beyond_the_measured_numbers_of_hits_the_breadth_follows() {
        let table = two_curves();
        assert_eq!(ef(&table, recall(0.90), 1), (20 + HEAD_START, true));
        // Half way between 10 and 100 in logarithms: half way between 26 and 106.
        let (between, reached) = ef(&table, recall(0.90), 32);
        assert!((52..=54).contains(&between) && reached, "{between}");
        assert_eq!(ef(&table, recall(0.90), 250), (265, true));
        assert_eq!(ef(&table, recall(0.97), 200), (2 * (400 + HEAD_START), true));
    }

    #[test]
    fn the_largest_breadth_that_stays_within_the_time_is_picked() {
        let table = two_curves();
        assert_eq!(ef(&table, p99(79), 10), (20, true));
        assert_eq!(ef(&table, p99(10_000), 10), (80, true));
        assert_eq!(ef(&table, p99(9), 10), (10, false));
        assert_eq!(ef(&table, p99(100), 100), (100, true));
        assert_eq!(ef(&table, p99(50), 100), (100, false));
        // Nobody knows what 300 hits take with a shorter list than that.
        assert_eq!(ef(&table, p99(100), 300), (300, false));
    }

    #[test]
    fn a_slow_breadth_hides_the_faster_ones_above_it() {
        let bumpy = table(vec![curve(10, vec![at(10, 0.8, 10), at(20, 0.9, 50), at(40, 0.95, 30)], false)]);
        assert_eq!(ef(&bumpy, p99(40), 10), (10, true));
    }

    #[test]
    fn what_a_sample_cannot_show_for_one_hit_is_reached_for_ten_if_it_shows_that() {
        let one = curve(1, vec![at(8, 0.9934, 8)], false);
        let ten = curve(10, vec![at(10, 0.98, 10), at(40, 0.9993, 40)], false);
        let table = table(vec![one, ten]);
        assert!(!choose(&table, recall(0.995), 1).unwrap().reached);
        assert!(choose(&table, recall(0.995), 10).unwrap().reached);
    }

    #[test]
    fn nothing_measured_gives_no_choice() {
        assert_eq!(choose(&table(Vec::new()), recall(0.9), 10), None);
        assert_eq!(choose(&table(Vec::new()), p99(9), 10), None);
    }

    prop_compose! {
        /// Any table that measuring can give.
        fn any_table()(
            columns in prop::collection::vec(
                (1..LADDER.len(), any::<bool>(), prop::collection::vec((0.0..1.0f64, 1..5_000u64), LADDER.len())),
                1..=SIZES.len(),
            )
        ) -> Calibration {
            let columns = SIZES.iter().zip(columns);
            table(columns.map(|((k, _), (count, exact_beyond, values))| {
                let breadths = LADDER.iter().copied().filter(|ef| ef > k);
                let points = std::iter::once(*k).chain(breadths).zip(values).take(count);
                curve(*k, points.map(|(ef, (recall, micros))| at(ef, recall, micros)).collect(), exact_beyond)
            }).collect())
        }
    }

    proptest! {
        #[test]
        fn a_higher_recall_never_takes_less_breadth(
            table in any_table(), a in 0.001..1.0f64, b in 0.001..1.0f64, k in 0..2_000usize,
        ) {
            let low = choose(&table, recall(a.min(b)), k).unwrap();
            let high = choose(&table, recall(a.max(b)), k).unwrap();
            prop_assert!(low.ef <= high.ef && low.exact <= high.exact, "{low:?} {high:?}");
            prop_assert!(high.exact || low.reached || !high.reached);
        }

        #[test]
        fn more_hits_never_take_less_breadth(
            table in any_table(), goal in 0.001..1.0f64, a in 0..2_000usize, b in 0..2_000usize,
        ) {
            let few = choose(&table, recall(goal), a.min(b)).unwrap();
            let many = choose(&table, recall(goal), a.max(b)).unwrap();
            prop_assert!(few.ef <= many.ef && few.exact <= many.exact, "{few:?} {many:?}");
            prop_assert!(many.ef >= a.max(b));
        }

        #[test]
        fn more_time_never_gives_less_breadth(
            table in any_table(), a in 1..6_000u64, b in 1..6_000u64, k in 0..2_000usize,
        ) {
            let short = choose(&table, p99(a.min(b)), k).unwrap();
            let long = choose(&table, p99(a.max(b)), k).unwrap();
            prop_assert!(short.ef <= long.ef, "{short:?} {long:?}");
            prop_assert!(long.reached || !short.reached);
        }

        #[test]
        fn a_measured_point_that_reaches_the_recall_is_never_exceeded(
            table in any_table(), goal in 0.001..1.0f64, column in 0..SIZES.len(),
        ) {
            let Some(curve) = table.curves.get(column) else { return Ok(()) };
            let choice = for_recall(curve, goal);
            let enough = curve.points.iter().find(|point| point.recall_at_least >= goal);
            prop_assert_eq!(choice.reached && !choice.exact, enough.is_some());
            prop_assert!(enough.is_none_or(|point| choice.ef <= point.ef + HEAD_START));
        }
    }
}
