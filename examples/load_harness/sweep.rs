//! Many runs: over all combinations of some settings, or towards the highest
//! rate that keeps its promises.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::arguments::Arguments;
use super::contender::Contender;
use super::load::Result;
use super::load::data::Data;
use super::load::limits::{Limits, highest};
use super::load::report::Report;
use super::load::run::{Outcome, run};
use super::svg::{Chart, Line, Scale};
use super::{no_faults, page, setup};

/// One run of a sweep, in short.
#[derive(Clone, Serialize)]
struct Point {
    shards: usize,
    searched_with: String,
    rate: f64,
    answered: f64,
    p50_us: f64,
    p99_us: f64,
    recall: f64,
    judged: u64,
    fresh_p99_us: f64,
    refused: u64,
    skipped: u64,
    resident_mb: f64,
    /// What was wrong.
    faults: Vec<String>,
}

impl Point {
    fn of(arguments: &Arguments, rate: f64, report: &Report) -> Point {
        let totals = &report.totals;
        Point {
            shards: arguments.shards,
            searched_with: searched_with(arguments),
            rate,
            answered: totals.per_second(totals.done),
            p50_us: totals.search.map_or(f64::NAN, |search| search.p50),
            p99_us: totals.search.map_or(f64::NAN, |search| search.p99),
            recall: totals.recall.unwrap_or(f64::NAN),
            judged: totals.judged,
            fresh_p99_us: totals.fresh.map_or(f64::NAN, |fresh| fresh.p99),
            refused: totals.refused,
            skipped: totals.skipped,
            resident_mb: totals.resident_most_mb,
            faults: report.faults(),
        }
    }

    fn show(&self) {
        say!(
            "shards {:>2}  {:<24} {:>8.0}/s due {:>8.0}/s answered  p50 {:>8.0}  p99 {:>9.0} us  recall {:.4} of {} judged  refused {} skipped {}",
            self.shards,
            self.searched_with,
            self.rate,
            self.answered,
            self.p50_us,
            self.p99_us,
            self.recall,
            self.judged,
            self.refused,
            self.skipped
        );
        self.faults.iter().for_each(|fault| say!("  FAULT: {fault}"));
    }
}

/// Breadth, and what filters let pass when that is swept.
fn searched_with(arguments: &Arguments) -> String {
    let filter = format!(", {} % pass", arguments.selectivity * 100.0);
    arguments.params_text() + if arguments.selectivities.is_empty() { "" } else { &filter }
}

/// The arguments with every breadth and selectivity that is swept.
fn ways_to_search(arguments: &Arguments) -> Vec<Arguments> {
    let breadths: Vec<Arguments> = match arguments.efs.as_slice() {
        [] => vec![arguments.clone()],
        efs => efs.iter().map(|ef| arguments.with_ef(*ef)).collect(),
    };
    let selectivities: &[f64] = match arguments.selectivities.as_slice() {
        [] => &[arguments.selectivity],
        selectivities => selectivities,
    };
    let with = |way: &Arguments| -> Vec<Arguments> {
        selectivities.iter().map(|part| Arguments { selectivity: *part, ..way.clone() }).collect()
    };
    breadths.iter().flat_map(with).collect()
}

/// A contender for several runs, and the keys that are there by now.
pub(super) struct Ready<'d> {
    pub(super) contender: Box<dyn Contender<'d> + 'd>,
    data: &'d Data,
    keys: (u64, u64),
}

impl<'d> Ready<'d> {
    pub(super) fn new(arguments: &Arguments, data: &'d Data) -> Result<Ready<'d>> {
        let contender = setup::contender(arguments, data)?;
        Ok(Ready { contender, data, keys: (0, setup::loaded(arguments, data)) })
    }

    /// One run on what is there.
    pub(super) fn measure(&mut self, arguments: &Arguments) -> Result<Outcome> {
        self.contender.search_as(arguments);
        let mut scenario = setup::scenario(arguments, self.data);
        // Keys go on where the last run ended.
        let streams = [Some(&mut scenario.feed), scenario.beside.as_mut().map(|beside| &mut beside.feed)];
        streams.into_iter().flatten().for_each(|feed| (feed.oldest, feed.newest) = self.keys);
        let judge = (arguments.judge_every > 0).then_some(self.contender.judge());
        let outcome = run(&scenario, self.contender.target(), judge, &mut |_| {})?;
        self.keys = outcome.keys;
        // What is left of an overload is not the next run's.
        self.contender.settle()?;
        Ok(outcome)
    }
}

/// One run at a rate.
fn at_rate(arguments: &Arguments, rate: f64, ready: &mut Ready<'_>) -> Result<Outcome> {
    ready.measure(&Arguments { arrivals: arguments.arrivals.at_rate(rate), ..arguments.clone() })
}

/// A run for every combination.
pub(super) fn sweep(arguments: &Arguments) -> Result<()> {
    let data = setup::data(arguments)?;
    let (mut points, mut faults) = (Vec::new(), Vec::new());
    for shards in &arguments.shard_list {
        let with_shards = with_shards(arguments, *shards);
        let mut ready = Ready::new(&with_shards, &data)?;
        for way in ways_to_search(&with_shards) {
            for rate in &arguments.rates {
                let outcome = at_rate(&way, *rate, &mut ready)?;
                let point = Point::of(&way, *rate, &outcome.report);
                point.show();
                points.push(point);
            }
        }
        faults.extend(ready.contender.end().err().map(|fault| fault.to_string()));
    }
    write(&arguments.out, "sweep", &points, faults)
}

/// The same with so many shards, in a folder of their own.
fn with_shards(arguments: &Arguments, shards: usize) -> Arguments {
    Arguments { shards, ..arguments.in_folder(&format!("{shards}-shards")) }
}

/// The highest rate with p99 and recall as good as asked.
pub(super) fn find(arguments: &Arguments) -> Result<()> {
    let limits = Limits { p99_us: arguments.p99_ms * 1e3, recall: arguments.recall };
    // An answer is good within the limit.
    let useful_within = Some(Duration::from_secs_f64(arguments.p99_ms / 1e3));
    let arguments = &Arguments { useful_within, ..arguments.clone() };
    let data = setup::data(arguments)?;
    let (mut points, mut faults) = (Vec::new(), Vec::new());
    let mut best: Option<(f64, Point)> = None;
    for shards in &arguments.shard_list {
        let with_shards = with_shards(arguments, *shards);
        let mut ready = Ready::new(&with_shards, &data)?;
        for way in ways_to_search(&with_shards) {
            let first = way.rates.first().copied().unwrap_or(500.0);
            let found = highest(first, &mut |rate| {
                let report = at_rate(&way, rate, &mut ready)?.report;
                let (point, broken) = (Point::of(&way, rate, &report), limits.broken_by(&report));
                point.show();
                broken.iter().for_each(|broken| say!("  too much: {}", broken.why()));
                points.push(point.clone());
                Ok((point, broken))
            })?;
            if let Some(found) = found
                && best.as_ref().is_none_or(|(rate, _)| found.0 > *rate)
            {
                best = Some(found);
            }
        }
        faults.extend(ready.contender.end().err().map(|fault| fault.to_string()));
    }
    let asked = format!("p99 <= {} ms and recall >= {}", arguments.p99_ms, arguments.recall);
    match best {
        Some((rate, best)) => say!(
            "\n{rate:.0} requests/s is the highest rate with {asked} ({:.4} of {} judged): shards {}, {}",
            best.recall,
            best.judged,
            best.shards,
            best.searched_with
        ),
        None => say!("\nno rate was found with {asked}"),
    }
    write(&arguments.out, "find", &points, faults)
}

/// Writes the report, and then fails when anything was wrong.
fn write(folder: &Path, name: &str, points: &[Point], mut faults: Vec<String>) -> Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join(format!("{name}.json")), serde_json::to_string_pretty(points)?)?;
    let path = folder.join(format!("{name}.html"));
    fs::write(&path, page::simple(name, &table(points), &charts(points)))?;
    say!("see {}", path.display());
    faults.extend(points.iter().flat_map(|point| point.faults.clone()));
    no_faults(&faults)
}

fn table(points: &[Point]) -> String {
    let mut table = String::from(
        "<table><tr><th>shards</th><th>searched with</th><th>due/s</th><th>answered/s</th><th>p50 us</th>\
         <th>p99 us</th><th>recall</th><th>judged</th><th>findable after, p99 us</th><th>refused</th><th>skipped</th><th>RAM MB</th></tr>",
    );
    for p in points {
        let _ = write!(
            table,
            "<tr><td>{}</td><td>{}</td><td>{:.0}</td><td>{:.0}</td><td>{:.0}</td><td>{:.0}</td><td>{:.4}</td>\
             <td>{}</td><td>{:.0}</td><td>{}</td><td>{}</td><td>{:.0}</td></tr>",
            p.shards,
            p.searched_with,
            p.rate,
            p.answered,
            p.p50_us,
            p.p99_us,
            p.recall,
            p.judged,
            p.fresh_p99_us,
            p.refused,
            p.skipped,
            p.resident_mb
        );
    }
    table + "</table>"
}

fn charts(points: &[Point]) -> Vec<Chart> {
    let mut series: Vec<(usize, String)> = Vec::new();
    for point in points {
        let key = (point.shards, point.searched_with.clone());
        if !series.contains(&key) {
            series.push(key);
        }
    }
    let lines = |value: fn(&Point) -> f64| {
        let line = |(colour, (shards, with)): (usize, &(usize, String))| {
            let own = points.iter().filter(|p| p.shards == *shards && p.searched_with == *with);
            let mut own: Vec<(f64, f64)> = own.map(|p| (p.rate, value(p))).collect();
            own.sort_by(|a, b| a.0.total_cmp(&b.0));
            Line { name: format!("{shards} shards, {with}"), points: own, dashed: false, colour }
        };
        series.iter().enumerate().map(line).collect()
    };
    let due = ("requests due, a second", Scale::Linear);
    vec![
        Chart {
            title: "99 % of searches take less than",
            caption: "From the moment a request was due. Where a line turns upwards the engine is full.",
            x: due,
            y: ("microseconds", Scale::Logarithmic),
            lines: lines(|p| p.p99_us),
        },
        Chart {
            title: "Answered",
            caption: "Requests a second; the same as due as long as the engine keeps up.",
            x: due,
            y: ("requests a second", Scale::Linear),
            lines: lines(|p| p.answered),
        },
        Chart {
            title: "Recall while rows change",
            caption: "By an exact search of the same snapshot.",
            x: due,
            y: ("recall", Scale::Linear),
            lines: lines(|p| p.recall),
        },
    ]
}
