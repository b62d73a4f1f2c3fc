//! A writer: one inserting all the time, one reader.

use super::super::arguments::{Arguments, Loaded};
use super::super::contender::{breadth_for, farthest};
use super::super::load::Result;
use super::super::load::data::Data;
use super::super::load::report::{Quantiles, Report};
use super::super::peers::Scenario;
use super::super::sweep::Ready;
use super::super::{output, setup};
use super::Checks;

const RECALL: f64 = 0.99;
const RATE: f64 = 0.9;
const P99: f64 = 1.3;
/// Twice what hnswlib inserts a second on the machine of the goals (two cores, AVX-512).
const INSERTS: f64 = 2.0 * 1_780.0;
const FRESH_US: f64 = 1_000.0;

pub(super) fn measure(arguments: &Arguments, data: &Data) -> Result<Checks> {
    let mut checks = Checks::new("writer");
    let arguments = Arguments { target: Loaded::Caller, recall: RECALL, ..arguments.clone() };
    let mut ready = Ready::new(&arguments, data)?;
    let far = farthest(&arguments, data, setup::loaded(&arguments, data));
    let (ef, recall) = breadth_for(&arguments, &mut *ready.contender, data, &far)?;
    let arguments = arguments.with_ef(ef);
    let mut run = |scenario: Scenario| -> Result<Report> {
        let outcome = ready.measure(&scenario.arguments(&arguments)?)?;
        output::write(&arguments.out.join("writer").join(scenario.name().replace(' ', "-")), &outcome)?;
        Ok(outcome.report)
    };
    let alone = run(Scenario::Alone)?;
    let beside = run(Scenario::BesideAWriter)?;
    ready.contender.end()?;
    let rate = |report: &Report, name: &str| {
        report.operation(name).map_or(f64::NAN, |of| report.totals.per_second(of.done))
    };
    let p99 = |times: Option<Quantiles>| times.map_or(f64::NAN, |times| times.p99);
    let search = |report: &Report| p99(report.operation("search").and_then(|of| of.latency));
    checks.at_least(&format!("recall with ef {ef} before rows change"), RECALL, "", recall);
    let ratio = rate(&beside, "search") / rate(&alone, "search");
    checks.at_least("the reader's rate, by that alone", RATE, " x", ratio);
    checks.at_most("its p99, by that alone", P99, " x", search(&beside) / search(&alone));
    checks.at_least("inserts", INSERTS, "/s", rate(&beside, "insert"));
    checks.at_most("99 % of inserts can be found within", FRESH_US, " us", p99(beside.totals.fresh));
    checks.sound(&beside);
    Ok(checks)
}
