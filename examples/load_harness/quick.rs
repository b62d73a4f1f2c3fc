//! A few seconds that show everything, and the harness measured by itself.

use std::time::Duration;

use super::arguments::{Arguments, Loaded};
use super::load::Result;
use super::load::arrivals::Arrivals;
use super::load::mix::Mix;
use super::load::report::Report;
use super::{goals, measure, output, soak, sweep};

/// What the harness should be able to do...
const SELF_CHECK_RATE: f64 = 50_000.0;
/// ...adding no more than this to 99 of 100 requests, in microseconds...
pub(super) const SELF_CHECK_P99_US: f64 = 20.0;
/// ...on one core.
pub(super) const SELF_CHECK_CORES: f64 = 1.0;

/// The no-op target at a high rate: every microsecond is the harness's own.
pub(super) fn self_check(arguments: &Arguments) -> Result<Report> {
    let arguments = Arguments {
        target: Loaded::NoOp,
        arrivals: Arrivals::Poisson { rate: SELF_CHECK_RATE },
        threads: 1,
        seconds: arguments.seconds.min(5.0),
        title: Some("the harness alone".to_owned()),
        ..arguments.clone()
    };
    let report = measure(&arguments, None)?.report;
    let p99 = report.totals.latency.map_or(f64::NAN, |latency| latency.p99);
    let kept = p99 <= SELF_CHECK_P99_US && report.totals.cores <= SELF_CHECK_CORES;
    say!(
        "self-check: {p99:.2} us added to 99 % of {SELF_CHECK_RATE} requests/s, {:.2} cores: {}",
        report.totals.cores,
        if kept { "good" } else { "too much; is the machine busy with something else?" }
    );
    Ok(report)
}

/// Of the steps of workers one in so many is a defect: several in a second.
const PANICS: u64 = 100;

/// vecino on the calling thread, through the workers, far beyond what it can
/// do, the goals, of which the harness alone is the first, and a soak with
/// workers that panic.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let quick = Arguments { seconds: 2.0, warm_up: 0.5, rows: 6_000, dim: 32, ..arguments.clone() };
    let mix = Mix::parse("search=80,filtered=5,upsert=4,insert=3,update=2,lapse=1,delete=3,batch=1,page=1")
        .ok_or("the mix")?;
    let usual = Arguments { batch: 20, mix, arrivals: Arrivals::Poisson { rate: 1_000.0 }, ..quick };
    let title = |text: &str| Some(text.to_owned());
    let caller = Arguments { target: Loaded::Caller, title: title("on the calling thread"), ..usual.clone() };
    measure(&caller, Some(&arguments.out.join("caller")))?;
    let workers = Arguments { target: Loaded::Workers, title: title("through the workers"), ..usual.clone() };
    measure(&workers, Some(&arguments.out.join("workers")))?;
    let overload = Arguments {
        target: Loaded::Workers,
        title: title("far beyond capacity"),
        arrivals: Arrivals::Bursts { rate: 1_000.0, peak: 60_000.0, every: 2.0, length: 1.0 },
        in_flight: 4_000,
        useful_within: Some(Duration::from_millis(200)),
        ..usual.clone()
    };
    measure(&overload, Some(&arguments.out.join("overload")))?;
    let sweep = Arguments { seconds: 0.6, warm_up: 0.1, rates: vec![500.0, 2_000.0], ..usual };
    let folder = arguments.out.join("soak.vecino");
    let soaked = Arguments {
        arrivals: Arrivals::Closed { clients: 2 },
        panics: PANICS,
        out: arguments.out.join("soak"),
        folder: Some(folder.clone()),
        seconds: 3.0,
        ..sweep.clone()
    };
    sweep::sweep(&Arguments { out: arguments.out.join("sweep"), ..sweep })?;
    output::compare(&arguments.out.join("caller"), &arguments.out.join("workers"), &arguments.out)?;
    goals::run(arguments, &[])?;
    // The last: from then on somebody listens to what workers tell.
    let _ = std::fs::remove_dir_all(&folder);
    soak::run(&soaked)?;
    Ok(std::fs::remove_dir_all(&folder)?)
}
