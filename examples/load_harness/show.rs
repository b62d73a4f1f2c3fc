//! What the terminal shows.

use std::fmt::Arguments;
use std::io::Write as _;

use super::load::report::{Interval, Quantiles, Report};

/// Writes a line. A run goes on to its report when nobody reads the lines any more.
pub(super) fn say(line: Arguments<'_>) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

pub(super) fn head() {
    say!(
        "{:>7} {:>9} {:>9} {:>8} {:>8} {:>9} {:>9} {:>9} {:>7} {:>9} {:>7} {:>6}",
        "s",
        "offered/s",
        "done/s",
        "refused",
        "skipped",
        "p50 us",
        "p99 us",
        "most us",
        "recall",
        "RAM MB",
        "tail",
        "cores"
    );
}

/// One line for a stretch.
pub(super) fn interval(interval: &Interval) {
    let latency = interval.latency.unwrap_or_default();
    let recall = interval.recall.map_or_else(|| "-".to_owned(), |recall| format!("{recall:.3}"));
    say!(
        "{:>7.2} {:>9.0} {:>9.0} {:>8} {:>8} {:>9.0} {:>9.0} {:>9.0} {:>7} {:>9.1} {:>7} {:>6.2}{}",
        interval.at_s,
        interval.offered as f64 / interval.seconds,
        interval.done as f64 / interval.seconds,
        interval.refused,
        interval.skipped,
        latency.p50,
        latency.p99,
        latency.most,
        recall,
        interval.resident_mb,
        interval.tail,
        interval.cores,
        if interval.warm_up { "  warm-up" } else { "" }
    );
}

/// The end of a run.
pub(super) fn report(report: &Report) {
    let totals = &report.totals;
    say!("\n{}: {}", report.title, report.target);
    say!(
        "offered {:.0}/s, done {:.0}/s, refused {}, skipped {}, failed {}, {:.2} cores, {} threads",
        totals.offered_per_second(),
        totals.per_second(totals.done),
        totals.refused,
        totals.skipped,
        totals.failed,
        totals.cores,
        totals.threads
    );
    quantiles("from the intended start", totals.latency);
    for of in &report.operations {
        quantiles(&of.operation, of.latency);
    }
    quantiles("added before the start", totals.delay);
    quantiles("until a refusal", totals.refusal);
    quantiles("visible after", totals.fresh);
    if let Some(recall) = totals.recall {
        say!("recall {recall:.4} of {} answers judged", totals.judged);
    }
    say!(
        "resident {:.1} MB at first, {:.1} at last, {:.1} at most",
        totals.resident_first_mb,
        totals.resident_last_mb,
        totals.resident_most_mb
    );
    report.faults().iter().for_each(|fault| say!("FAULT: {fault}"));
}

fn quantiles(name: &str, times: Option<Quantiles>) {
    let Some(times) = times else { return };
    say!(
        "{name:>24}: p50 {:>9.1}  p90 {:>9.1}  p99 {:>9.1}  p99.9 {:>9.1}  most {:>10.1} us  ({})",
        times.p50,
        times.p90,
        times.p99,
        times.p999,
        times.most,
        times.count
    );
}
