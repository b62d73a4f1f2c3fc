//! At 0.8 of its capacity, with 1,000 inserts a second, 99 of 100 searches take
//! at most three times what they take when hardly anything happens.
//!
//! The capacity is what senders that never rest get with these inserts beside them.

use super::super::arguments::{Arguments, Loaded};
use super::super::load::Result;
use super::super::load::arrivals::Arrivals;
use super::super::load::data::Data;
use super::super::load::mix::Mix;
use super::super::load::report::Report;
use super::super::output;
use super::super::sweep::Ready;
use super::{Checks, rate, search_p99};

const SHARE: f64 = 0.8;
const INSERTS: f64 = 1_000.0;
/// "Unloaded": so much of the capacity.
const UNLOADED: f64 = 0.02;
const TIMES: f64 = 3.0;

pub(super) fn measure(arguments: &Arguments, data: &Data) -> Result<Checks> {
    let mut checks = Checks::new("load");
    let arguments = Arguments { target: Loaded::Caller, ..arguments.clone() };
    let mut ready = Ready::new(&arguments, data)?;
    let mut run = |name: &str, arrivals: Arrivals, writers: usize| -> Result<Report> {
        let title = Some(format!("load: {name}"));
        let arguments = Arguments {
            arrivals,
            mix: Mix::parse("search=1").ok_or("a mix of the goals")?,
            writers,
            write_arrivals: Some(Arrivals::Poisson { rate: INSERTS }),
            title,
            ..arguments.clone()
        };
        let outcome = ready.measure(&arguments)?;
        output::write(&arguments.out.join("load").join(name), &outcome)?;
        Ok(outcome.report)
    };
    let capacity = run("capacity", Arrivals::Closed { clients: arguments.threads }, 1)?;
    let rate = rate(&capacity, "search");
    let unloaded = run("unloaded", Arrivals::Poisson { rate: (UNLOADED * rate).max(100.0) }, 0)?;
    let loaded = run("loaded", Arrivals::Poisson { rate: (SHARE * rate).max(1.0) }, 1)?;
    ready.contender.end()?;
    let unloaded = search_p99(&unloaded);
    let what =
        format!("p99 at {SHARE} of {rate:.0}/s beside {INSERTS} inserts/s, by {unloaded:.0} us unloaded");
    checks.at_most(&what, TIMES, " x", search_p99(&loaded) / unloaded);
    checks.sound(&loaded);
    Ok(checks)
}
