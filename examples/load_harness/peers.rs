//! The same scenarios on every target that is built in, in one run.

use std::fs;

use serde::Serialize;
use vecino::Backpressure;

use super::arguments::{Arguments, Loaded};
use super::contender::{breadth_for, farthest};
use super::load::Result;
use super::load::arrivals::Arrivals;
use super::load::data::Data;
use super::load::machine;
use super::load::mix::Mix;
use super::load::report::Report;
use super::load::run::Outcome;
use super::sweep::Ready;
use super::{no_faults, output, peers_page, setup};

/// Requests of an overload are due at so many times the peak.
const OVERLOAD: f64 = 10.0;
/// Clients that find the peak of a target that answers later; one that answers
/// on the sending thread has as many as there are threads.
const CLIENTS: usize = 64;
/// More than an engine lets in, so that it is the engine that refuses.
const IN_FLIGHT: usize = 20_000;
/// The writer that never rests waits until one write of so many can be found.
const WATCH_EVERY: u64 = 16;

/// One scenario on one target.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) target: &'static str,
    pub(super) scenario: &'static str,
    /// The breadth that reached the recall before rows changed, and the recall with it.
    pub(super) ef: usize,
    pub(super) recall_before: f64,
    /// Memory of the process that loading took.
    pub(super) loaded_mb: f64,
    pub(super) report: Report,
}

/// What is asked of all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scenario {
    Alone,
    BesideAWriter,
    Peak,
    Overload { peak: u64 },
}

impl Scenario {
    pub(super) fn name(self) -> &'static str {
        match self {
            Scenario::Alone => "reader alone",
            Scenario::BesideAWriter => "reader beside a writer",
            Scenario::Peak => "peak",
            Scenario::Overload { .. } => "ten times too much",
        }
    }

    pub(super) fn arguments(self, arguments: &Arguments) -> Result<Arguments> {
        let of = |text: &str| Mix::parse(text).ok_or("a mix of the scenarios");
        let clients = if arguments.target == Loaded::Workers { CLIENTS } else { arguments.threads };
        let reader = Arguments {
            arrivals: Arrivals::Closed { clients: 1 },
            threads: 1,
            writers: 0,
            mix: of("search=1")?,
            title: Some(format!("{}: {}", arguments.target.name(), self.name())),
            ..arguments.clone()
        };
        let both = Arguments { threads: arguments.threads, mix: of("search=96,insert=4")?, ..reader.clone() };
        Ok(match self {
            Scenario::Alone => reader,
            Scenario::BesideAWriter => Arguments {
                writers: 1,
                writes: of("insert=1")?,
                full: Backpressure::Wait,
                watch_every: WATCH_EVERY,
                ..reader
            },
            // Nobody waits for a write to be visible.
            Scenario::Peak => Arguments { arrivals: Arrivals::Closed { clients }, watch_every: 0, ..both },
            Scenario::Overload { peak } => Arguments {
                arrivals: Arrivals::Poisson { rate: OVERLOAD * peak as f64 },
                in_flight: queue(arguments, peak as f64),
                full: Backpressure::Reject,
                ..both
            },
        })
    }
}

/// Requests that may wait in the harness. An engine with queues of its own
/// refuses by itself; around one that answers on the sending thread a sensible
/// program lets so many wait that what it takes is still of use.
fn queue(arguments: &Arguments, peak: f64) -> usize {
    if arguments.target == Loaded::Workers {
        return IN_FLIGHT;
    }
    let useful = arguments.useful_within.map_or(1.0, |limit| limit.as_secs_f64());
    ((peak * useful / 2.0) as usize).max(arguments.threads)
}

/// Runs them, and shows them beside each other.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let arguments = Arguments {
        // Searches through the workers that wait for every write would not be the same question.
        published: true,
        useful_within: arguments.useful_within.or(Some(std::time::Duration::from_millis(100))),
        ..arguments.clone()
    };
    let data = setup::data(&arguments)?;
    let far = farthest(&arguments, &data, setup::loaded(&arguments, &data));
    let (mut rows, mut left_out, mut faults) = (Vec::new(), Vec::new(), Vec::new());
    for target in &arguments.targets {
        let before = rows.len();
        let of_target = Arguments { target: *target, ..arguments.in_folder(target.name()) };
        match one(&of_target, &data, &far, &mut rows) {
            Ok(()) => {}
            // What a peer cannot do is a result, and keeps nobody else from his.
            Err(fault) if matches!(target, Loaded::Peer(_)) => {
                say!("{} is left out: {fault}", target.name());
                rows.truncate(before);
                left_out.push(format!("{}: {fault}", target.name()));
            }
            Err(fault) => faults.push(format!("{}: {fault}", target.name())),
        }
    }
    show(&rows);
    fs::create_dir_all(&arguments.out)?;
    fs::write(arguments.out.join("peers.json"), serde_json::to_string_pretty(&rows)?)?;
    let path = arguments.out.join("peers.html");
    fs::write(&path, peers_page::page(&rows, &left_out))?;
    say!("see {}", path.display());
    no_faults(&faults)
}

/// All scenarios on one target.
fn one(arguments: &Arguments, data: &Data, far: &[f32], rows: &mut Vec<Row>) -> Result<()> {
    let before = machine::resident_bytes();
    let mut ready = Ready::new(arguments, data)?;
    let loaded_mb = machine::resident_bytes().saturating_sub(before) as f64 / 1e6;
    let (ef, recall_before) = breadth_for(arguments, &mut *ready.contender, data, far)?;
    say!("{}: ef {ef}, recall {recall_before:.4}", arguments.target.name());
    let arguments = arguments.with_ef(ef);
    let mut faults = Vec::new();
    let mut take = |scenario: Scenario| -> Result<Outcome> {
        let outcome = ready.measure(&scenario.arguments(&arguments)?)?;
        let name = scenario.name();
        let folder = arguments.out.join(arguments.target.name()).join(name.replace(' ', "-"));
        output::write(&folder, &outcome)?;
        let (target, report) = (arguments.target.name(), outcome.report.clone());
        faults.extend(report.faults());
        rows.push(Row { target, scenario: name, ef, recall_before, loaded_mb, report });
        Ok(outcome)
    };
    take(Scenario::Alone)?;
    take(Scenario::BesideAWriter)?;
    let peak = take(Scenario::Peak)?.report.totals;
    take(Scenario::Overload { peak: peak.per_second(peak.done).max(1.0) as u64 })?;
    ready.contender.end()?;
    // Those of a peer are a result.
    if matches!(arguments.target, Loaded::Peer(_)) { Ok(()) } else { no_faults(&faults) }
}

type Figure = fn(&Row) -> String;

/// The figures of a row, by name: the terminal and the page show the same.
pub(super) const FIGURES: [(&str, Figure); 12] = [
    ("scenario", |row| row.scenario.to_owned()),
    ("target", |row| row.target.to_owned()),
    ("due/s", |row| format!("{:.0}", row.report.totals.offered_per_second())),
    ("searches/s", |row| row.done("search")),
    ("inserts/s", |row| row.done("insert")),
    ("useful/s", |row| row.rate(row.report.totals.good)),
    ("p50 us", |row| row.search(|of| of.p50)),
    ("p99 us", |row| row.search(|of| of.p99)),
    ("recall", |row| {
        row.report.totals.recall.map_or_else(|| "-".to_owned(), |recall| format!("{recall:.4}"))
    }),
    ("fresh p99 us", |row| {
        row.report.totals.fresh.map_or_else(|| "-".to_owned(), |fresh| format!("{:.0}", fresh.p99))
    }),
    ("refused+skipped", |row| (row.report.totals.refused + row.report.totals.skipped).to_string()),
    ("lost", |row| row.report.totals.missing.to_string()),
];

impl Row {
    fn rate(&self, count: u64) -> String {
        format!("{:.0}", self.report.totals.per_second(count))
    }

    fn done(&self, operation: &str) -> String {
        self.report.operation(operation).map_or_else(|| "-".to_owned(), |of| self.rate(of.done))
    }

    fn search(&self, which: fn(super::load::report::Quantiles) -> f64) -> String {
        let times = self.report.operation("search").and_then(|of| of.latency);
        times.map_or_else(|| "-".to_owned(), |times| format!("{:.0}", which(times)))
    }
}

fn show(rows: &[Row]) {
    let mut lines: Vec<Vec<String>> = vec![FIGURES.iter().map(|(name, _)| (*name).to_owned()).collect()];
    let mut scenarios: Vec<&str> = Vec::new();
    rows.iter().for_each(|row| {
        if !scenarios.contains(&row.scenario) {
            scenarios.push(row.scenario);
        }
    });
    for scenario in scenarios {
        let of = rows.iter().filter(|row| row.scenario == scenario);
        lines.extend(of.map(|row| FIGURES.iter().map(|(_, figure)| figure(row)).collect()));
    }
    for line in lines {
        say!(
            "{:<23}{:<15}{}",
            line[0],
            line[1],
            line[2..].iter().map(|cell| format!("{cell:>16}")).collect::<String>()
        );
    }
}
