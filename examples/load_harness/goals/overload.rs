//! Overload: ten times what it can do, and then little again, in one run.

use std::time::Duration;

use vecino::Backpressure;

use super::super::arguments::{Arguments, Loaded};
use super::super::load::Result;
use super::super::load::arrivals::Arrivals;
use super::super::load::data::Data;
use super::super::load::mix::Mix;
use super::super::load::report::{Interval, Report};
use super::super::output;
use super::super::sweep::Ready;
use super::Checks;

/// Replaced records only: memory that grows is not that of new rows.
const MIX: &str = "search=97,upsert=3";
/// Clients that find the peak.
const CLIENTS: usize = 64;
const OVERLOAD: f64 = 10.0;
/// Of the peak: what is due before and after.
const CALM: f64 = 0.25;
/// More than the engine lets in, so that it is the engine that refuses.
const IN_FLIGHT: usize = 20_000;
const USEFUL: Duration = Duration::from_millis(500);
/// Stretches are this long: times to recover are known to this.
const INTERVAL: f64 = 0.1;

const GOODPUT: f64 = 0.9;
const REFUSAL_US: f64 = 50.0;
/// Memory of the process under the overload, by that before it.
const MEMORY: f64 = 1.1;
/// Searches through the workers that an engine keeps at most.
const SEARCHES: usize = 1_024;
/// "Normal": a stretch with answers, without refusals and skipped requests, whose p99 is at most this many times that of calm...
const NORMAL: f64 = 2.0;
/// ...or this.
const NORMAL_US: f64 = 10_000.0;
const NORMAL_WITHIN_S: f64 = 1.0;

pub(super) fn measure(arguments: &Arguments, data: &Data) -> Result<Checks> {
    let mut checks = Checks::new("overload");
    // Dear searches: the generator must be able to send ten times as many.
    let arguments = Arguments {
        target: Loaded::Workers,
        full: Backpressure::Reject,
        k: 100,
        ef: Some(400),
        target_recall: None,
        mix: Mix::parse(MIX).ok_or("the mix of the overload")?,
        in_flight: IN_FLIGHT,
        useful_within: Some(USEFUL),
        watch_every: 0,
        interval: Some(INTERVAL),
        threads: 1,
        ..arguments.clone()
    };
    let mut ready = Ready::new(&arguments, data)?;
    let mut run = |name: &str, arrivals: Arrivals, seconds: f64| -> Result<Report> {
        let title = Some(format!("overload: {name}"));
        let outcome = ready.measure(&Arguments { arrivals, seconds, title, ..arguments.clone() })?;
        output::write(&arguments.out.join("overload").join(name), &outcome)?;
        Ok(outcome.report)
    };
    let seconds = arguments.seconds;
    let peak = run("peak", Arrivals::Closed { clients: CLIENTS }, seconds)?.totals;
    let peak = peak.per_second(peak.good);
    let calm = run("calm", Arrivals::Poisson { rate: CALM * peak }, seconds)?;
    // The overload first, then as long again with little.
    let every = 2.0 * seconds.max(NORMAL_WITHIN_S + 4.0 * INTERVAL);
    let bursts = Arrivals::Bursts { rate: CALM * peak, peak: OVERLOAD * peak, every, length: every / 2.0 };
    let over = run("overload", bursts, every)?;
    ready.contender.end()?;
    judge(&mut checks, &arguments, peak, &calm, &over, every / 2.0);
    Ok(checks)
}

/// What the run says; the overload ended at `end` seconds.
fn judge(checks: &mut Checks, arguments: &Arguments, peak: f64, calm: &Report, over: &Report, end: f64) {
    let burst: Vec<&Interval> =
        over.intervals.iter().filter(|i| !i.warm_up && i.at_s <= end + INTERVAL / 2.0).collect();
    let seconds: f64 = burst.iter().map(|i| i.seconds).sum();
    let sum = |count: fn(&Interval) -> u64| burst.iter().map(|i| count(i)).sum::<u64>() as f64;
    let due = sum(|i| i.offered) / seconds / peak;
    checks.at_least("requests due, by the peak", 0.9 * OVERLOAD, " x", due);
    let goodput = sum(|i| i.good) / seconds / peak;
    checks.at_least(&format!("goodput, by the peak of {peak:.0}/s"), GOODPUT, " x", goodput);
    let refusal = over.totals.refusal.map_or(f64::NAN, |refusal| refusal.p99);
    checks.at_most("99 % of refusals come within", REFUSAL_US, " us", refusal);
    let queued = burst.iter().map(|i| i.queued).max().unwrap_or(0);
    let bound = SEARCHES + arguments.shards * arguments.mailbox;
    checks.fact("requests queued in the engine", &format!("<= {bound}"), queued.to_string(), queued <= bound);
    let memory = burst.iter().map(|i| i.resident_mb).fold(0.0, f64::max);
    let before = calm.totals.resident_last_mb;
    checks.at_most("memory of the process, by that before it began", MEMORY, " x", memory / before);
    let usual = calm.totals.latency.map_or(f64::NAN, |latency| latency.p99);
    let is_normal = |i: &&Interval| {
        let p99 = i.latency.map_or(f64::INFINITY, |latency| latency.p99);
        i.at_s - i.seconds >= end - INTERVAL / 2.0
            && (i.refused, i.skipped) == (0, 0)
            && i.done > 0
            && (p99 <= NORMAL * usual || p99 <= NORMAL_US)
    };
    let normal = over.intervals.iter().find(is_normal).map_or(f64::INFINITY, |i| i.at_s - end);
    checks.at_most("normal again after", NORMAL_WITHIN_S, " s", normal);
    checks.sound(over);
}
