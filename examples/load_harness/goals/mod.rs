//! The promises about load, measured one after another and compared with what
//! was promised: overload, deadlines, closing, a reader beside a writer, and what
//! the load generator must do.
//!
//! Times say something on a machine that has nothing else to do; `--quick` is
//! there to run the code, on little data, and its times are shown without a
//! verdict. What is no time (nothing lost, nobody left without an answer) must
//! hold always.

mod closing;
mod deadline;
mod overload;
mod steady;
mod writer;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::arguments::Arguments;
use super::load::Result;
use super::load::data::Data;
use super::load::report::Report;
use super::svg::escaped;
use super::{page, quick, setup};

/// What was promised, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    goal: &'static str,
    what: String,
    promised: String,
    measured: String,
    kept: bool,
    /// A matter of times or memory, which a busy machine or little data change.
    is_measure: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Kept,
    /// Scaled down, times miss what they are to be on whole data.
    None,
    Missed,
}

impl Check {
    fn verdict(&self, is_quick: bool) -> Verdict {
        match (self.kept, self.is_measure && is_quick) {
            (true, _) => Verdict::Kept,
            (false, true) => Verdict::None,
            (false, false) => Verdict::Missed,
        }
    }
}

/// The checks of one goal.
struct Checks {
    goal: &'static str,
    all: Vec<Check>,
}

impl Checks {
    fn new(goal: &'static str) -> Checks {
        Checks { goal, all: Vec::new() }
    }

    fn add(&mut self, what: &str, promised: String, measured: String, kept: bool, is_measure: bool) {
        self.all.push(Check { goal: self.goal, what: what.to_owned(), promised, measured, kept, is_measure });
    }

    /// A number that may be this at most.
    fn at_most(&mut self, what: &str, most: f64, unit: &str, measured: f64) {
        let kept = measured <= most;
        self.add(what, format!("<= {most}{unit}"), format!("{}{unit}", rounded(measured)), kept, true);
    }

    /// A number that must be this at least.
    fn at_least(&mut self, what: &str, least: f64, unit: &str, measured: f64) {
        let kept = measured >= least;
        self.add(what, format!(">= {least}{unit}"), format!("{}{unit}", rounded(measured)), kept, true);
    }

    /// What must be so on any machine.
    fn fact(&mut self, what: &str, promised: &str, measured: String, kept: bool) {
        self.add(what, promised.to_owned(), measured, kept, false);
    }

    /// No answer of a run was wrong, short or lost.
    fn sound(&mut self, report: &Report) {
        let faults = report.faults();
        let measured = if faults.is_empty() {
            format!("{} answers compared", report.totals.judged)
        } else {
            faults.join("; ")
        };
        self.fact("no wrong, short or lost answer", "none", measured, faults.is_empty());
    }
}

/// How often an operation was done in a second.
fn rate(report: &Report, operation: &str) -> f64 {
    report.operation(operation).map_or(f64::NAN, |of| report.totals.per_second(of.done))
}

/// Within this, in microseconds, 99 of 100 searches were answered.
fn search_p99(report: &Report) -> f64 {
    report.operation("search").and_then(|of| of.latency).map_or(f64::NAN, |latency| latency.p99)
}

/// To a few digits, whatever its size.
fn rounded(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

type Measure = fn(&Arguments, &Data) -> Result<Checks>;

const GOALS: [(&str, Measure); 6] = [
    ("self", self_check),
    ("load", steady::measure),
    ("writer", writer::measure),
    ("overload", overload::measure),
    ("deadline", deadline::measure),
    ("closing", closing::measure),
];

/// The goals of these names, all of them when there are none.
fn chosen(names: &[String]) -> Result<Vec<(&'static str, Measure)>> {
    if names.is_empty() {
        return Ok(GOALS.to_vec());
    }
    let find = |name: &String| {
        let found = GOALS.iter().find(|(goal, _)| goal == name);
        found.copied().ok_or_else(|| format!("there is no goal {name}: see --help").into())
    };
    names.iter().map(find).collect()
}

/// Measures them; an error when one was missed that may not be.
pub(super) fn run(arguments: &Arguments, names: &[String]) -> Result<()> {
    let goals = chosen(names)?;
    let out = arguments.out.join("goals");
    let base = if arguments.quick { arguments.scaled_down() } else { arguments.clone() };
    let base = Arguments { out: out.clone(), published: true, ..base };
    fs::create_dir_all(&out)?;
    let data = setup::data(&base)?;
    let (mut checks, mut missed) = (Vec::new(), Vec::new());
    for (name, measure) in goals {
        match measure(&base.in_folder(name), &data) {
            Ok(of_goal) => checks.extend(told(of_goal.all, arguments.quick)),
            Err(fault) => missed.push(format!("{name}: {fault}")),
        }
    }
    write(&out, &checks, arguments.quick)?;
    let is_missed = |check: &&Check| check.verdict(arguments.quick) == Verdict::Missed;
    missed.extend(checks.iter().filter(is_missed).map(|check| format!("{}: {}", check.goal, check.what)));
    if missed.is_empty() { Ok(()) } else { Err(format!("missed: {}", missed.join(", ")).into()) }
}

fn told(checks: Vec<Check>, is_quick: bool) -> Vec<Check> {
    for check in &checks {
        say!("{}", line(check, is_quick));
    }
    checks
}

fn line(check: &Check, is_quick: bool) -> String {
    let verdict = match check.verdict(is_quick) {
        Verdict::Kept => "kept",
        Verdict::None => "-",
        Verdict::Missed => "MISSED",
    };
    format!(
        "{verdict:<7}{:<9}{:<58} {:>16}   measured {}",
        check.goal, check.what, check.promised, check.measured
    )
}

/// What the load generator itself must do, or the rest is worth nothing.
fn self_check(arguments: &Arguments, _data: &Data) -> Result<Checks> {
    let mut checks = Checks::new("self");
    let totals = quick::self_check(arguments)?.totals;
    let added = totals.latency.map_or(f64::NAN, |latency| latency.p99);
    checks.at_most("added to 99 % of 50,000 requests/s", quick::SELF_CHECK_P99_US, " us", added);
    checks.at_most("cores that this takes", quick::SELF_CHECK_CORES, "", totals.cores);
    Ok(checks)
}

fn write(folder: &Path, checks: &[Check], is_quick: bool) -> Result<()> {
    fs::write(folder.join("goals.json"), serde_json::to_string_pretty(checks)?)?;
    let mut table =
        String::from("<table><tr><th>goal</th><th>what</th><th>promised</th><th>measured</th><th></th></tr>");
    for check in checks {
        let verdict = match check.verdict(is_quick) {
            Verdict::Kept => "<span class='fine'>kept</span>",
            Verdict::None => "scaled down: no verdict",
            Verdict::Missed => "<span class='fault'>missed</span>",
        };
        let cells = [check.goal, &check.what, &check.promised, &check.measured];
        table.push_str("<tr>");
        for cell in cells {
            let _ = write!(table, "<td>{}</td>", escaped(cell));
        }
        let _ = write!(table, "<td>{verdict}</td></tr>");
    }
    table.push_str("</table>");
    let path = folder.join("goals.html");
    fs::write(&path, page::simple("The promises about load", &table, &[]))?;
    say!("see {}", path.display());
    Ok(())
}
