//! At 0.8 of its capacity, with 1,000 inserts a second, 99 of 100 requests take
//! at most three times what they take when hardly anything happens.

use super::super::arguments::{Arguments, Loaded};
use super::super::load::Result;
use super::super::load::arrivals::Arrivals;
use super::super::load::data::Data;
use super::super::load::mix::Mix;
use super::super::load::report::Report;
use super::super::output;
use super::super::sweep::Ready;
use super::Checks;

const SHARE: f64 = 0.8;
const INSERTS: f64 = 1_000.0;
/// "Unloaded": so much of the capacity.
const UNLOADED: f64 = 0.02;
const TIMES: f64 = 3.0;

fn p99(report: &Report) -> f64 {
    report.operation("search").and_then(|of| of.latency).map_or(f64::NAN, |latency| latency.p99)
}

pub(super) fn measure(arguments: &Arguments, data: &Data) -> Result<Checks> {
    let mut checks = Checks::new("load");
    let arguments = Arguments { target: Loaded::Caller, ..arguments.clone() };
    let mut ready = Ready::new(&arguments, data)?;
    let mut run = |name: &str, arrivals: Arrivals, mix: &str| -> Result<Report> {
        let mix = Mix::parse(mix).ok_or("a mix of the goals")?;
        let title = Some(format!("load: {name}"));
        let outcome = ready.measure(&Arguments { arrivals, mix, title, ..arguments.clone() })?;
        output::write(&arguments.out.join("load").join(name), &outcome)?;
        Ok(outcome.report)
    };
    let closed = Arrivals::Closed { clients: arguments.threads };
    let capacity = run("capacity", closed, "search=1")?.totals;
    let rate = capacity.per_second(capacity.done);
    let unloaded = run("unloaded", Arrivals::Poisson { rate: (UNLOADED * rate).max(100.0) }, "search=1")?;
    let searches = (SHARE * rate).max(1.0);
    let loaded = run(
        "loaded",
        Arrivals::Poisson { rate: searches + INSERTS },
        &format!("search={searches},insert={INSERTS}"),
    )?;
    ready.contender.end()?;
    let what = format!("p99 at {SHARE} of {rate:.0} searches/s with {INSERTS} inserts/s, by that unloaded");
    checks.at_most(&what, TIMES, " x", p99(&loaded) / p99(&unloaded));
    checks.sound(&loaded);
    Ok(checks)
}
