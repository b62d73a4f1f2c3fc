//! A writer: one inserting all the time, one reader. The writer inserts when its
//! last record can be found, and each is timed from its acknowledgement until then.
//!
//! A collection that has grown takes longer to search: the reader alone is measured
//! before and after.

use super::super::arguments::{Arguments, Loaded};
use super::super::contender::{breadth_for, farthest};
use super::super::load::Result;
use super::super::load::data::Data;
use super::super::load::report::Report;
use super::super::peers::Scenario;
use super::super::sweep::Ready;
use super::super::{output, setup};
use super::{Checks, rate, search_p99};

const RECALL: f64 = 0.99;
const RATE: f64 = 0.9;
const P99: f64 = 1.3;
/// Twice what hnswlib inserts a second on the machine of the goals (two cores, AVX-512).
const INSERTS: f64 = 2.0 * 1_780.0;
const FRESH_US: f64 = 1_000.0;
/// No more inserts than this come in a second. The run is as long as the data have
/// new vectors for so many; little data begin again.
const INSERTS_MOST: f64 = 10_000.0;
/// A run is not shorter than this: its 99th percentile would say nothing.
const SECONDS_LEAST: f64 = 2.0;

pub(super) fn measure(arguments: &Arguments, data: &Data) -> Result<Checks> {
    let mut checks = Checks::new("writer");
    let arguments = Arguments { target: Loaded::Caller, recall: RECALL, ..arguments.clone() };
    let mut ready = Ready::new(&arguments, data)?;
    let far = farthest(&arguments, data, setup::loaded(&arguments, data));
    let (ef, recall) = breadth_for(&arguments, &mut *ready.contender, data, &far)?;
    let arguments = arguments.with_ef(ef);
    let left = data.len().min(arguments.rows).saturating_sub(setup::loaded(&arguments, data) as usize);
    let seconds = (left as f64 / INSERTS_MOST).max(SECONDS_LEAST).min(arguments.seconds);
    let arguments = Arguments { seconds, ..arguments };
    let mut run = |name: &str, scenario: Scenario| -> Result<Report> {
        let arguments = Arguments { watch_every: 1, ..scenario.arguments(&arguments)? };
        let outcome = ready.measure(&arguments)?;
        output::write(&arguments.out.join("writer").join(name), &outcome)?;
        Ok(outcome.report)
    };
    let before = run("alone-before", Scenario::Alone)?;
    let beside = run("beside-a-writer", Scenario::BesideAWriter)?;
    let after = run("alone-after", Scenario::Alone)?;
    ready.contender.end()?;
    checks.at_least(&format!("recall with ef {ef} before rows change"), RECALL, "", recall);
    let alone = f64::midpoint(rate(&before, "search"), rate(&after, "search"));
    let what = format!("the reader's rate, by that alone ({alone:.0}/s)");
    checks.at_least(&what, RATE, " x", rate(&beside, "search") / alone);
    let alone = f64::midpoint(search_p99(&before), search_p99(&after));
    checks.at_most(
        &format!("its p99, by that alone ({alone:.0} us)"),
        P99,
        " x",
        search_p99(&beside) / alone,
    );
    checks.at_least("inserts", INSERTS, "/s", rate(&beside, "insert"));
    let fresh = beside.totals.fresh.map_or(f64::NAN, |fresh| fresh.p99);
    checks.at_most("99 % of inserts can be found within", FRESH_US, " us", fresh);
    checks.sound(&beside);
    Ok(checks)
}
