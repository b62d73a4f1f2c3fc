//! Many runs: over all combinations of some settings, or towards the highest
//! rate that keeps its promises.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::arguments::Arguments;
use super::contender::Contender;
use super::load::Result;
use super::load::data::Data;
use super::load::report::Report;
use super::load::run::{Outcome, run};
use super::svg::{Chart, Line, Scale};
use super::{page, setup};

/// A rate counts as kept when so much of it was answered...
const KEPT: f64 = 0.98;
/// ...and the search for the highest one ends when it is known to this share.
const PRECISION: f64 = 0.08;
/// Rates that are tried at most.
const TRIES: usize = 16;

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
    fresh_p99_us: f64,
    refused: u64,
    skipped: u64,
    resident_mb: f64,
}

impl Point {
    fn of(arguments: &Arguments, rate: f64, report: &Report) -> Point {
        let totals = &report.totals;
        let search =
            report.operation("search").and_then(|of| of.latency).or(totals.latency).unwrap_or_default();
        Point {
            shards: arguments.shards,
            searched_with: searched_with(arguments),
            rate,
            answered: totals.per_second(totals.done),
            p50_us: search.p50,
            p99_us: search.p99,
            recall: totals.recall.unwrap_or(f64::NAN),
            fresh_p99_us: totals.fresh.map_or(f64::NAN, |fresh| fresh.p99),
            refused: totals.refused,
            skipped: totals.skipped,
            resident_mb: totals.resident_most_mb,
        }
    }

    fn show(&self) {
        println!(
            "shards {:>2}  {:<24} {:>8.0}/s due {:>8.0}/s answered  p50 {:>8.0}  p99 {:>9.0} us  recall {:.4}  refused {} skipped {}",
            self.shards,
            self.searched_with,
            self.rate,
            self.answered,
            self.p50_us,
            self.p99_us,
            self.recall,
            self.refused,
            self.skipped
        );
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
    let mut points = Vec::new();
    for shards in &arguments.shard_list {
        let with_shards = Arguments { shards: *shards, ..arguments.clone() };
        let mut ready = Ready::new(&with_shards, &data)?;
        for way in ways_to_search(&with_shards) {
            for rate in &arguments.rates {
                let outcome = at_rate(&way, *rate, &mut ready)?;
                let point = Point::of(&way, *rate, &outcome.report);
                point.show();
                points.push(point);
            }
        }
        ready.contender.end()?;
    }
    write(&arguments.out, "sweep", &points)
}

/// The highest rate with p99 and recall as good as asked.
pub(super) fn find(arguments: &Arguments) -> Result<()> {
    let data = setup::data(arguments)?;
    let mut points = Vec::new();
    let mut best: Option<Point> = None;
    for shards in &arguments.shard_list {
        let with_shards = Arguments { shards: *shards, ..arguments.clone() };
        let mut ready = Ready::new(&with_shards, &data)?;
        for way in ways_to_search(&with_shards) {
            let found = highest(&way, &mut ready, &mut points)?;
            if let Some(found) = found
                && best.as_ref().is_none_or(|best| found.rate > best.rate)
            {
                best = Some(found);
            }
        }
        ready.contender.end()?;
    }
    let asked = format!("p99 <= {} ms and recall >= {}", arguments.p99_ms, arguments.recall);
    match best {
        Some(best) => println!(
            "\n{:.0} requests/s is the highest rate with {asked}: shards {}, {}",
            best.rate, best.shards, best.searched_with
        ),
        None => println!("\nno rate was found with {asked}"),
    }
    write(&arguments.out, "find", &points)
}

/// Doubles the rate until a promise is broken, then halves the gap.
fn highest(arguments: &Arguments, ready: &mut Ready<'_>, points: &mut Vec<Point>) -> Result<Option<Point>> {
    let mut rate = arguments.rates.first().copied().unwrap_or(500.0);
    let (mut good, mut bad): (Option<Point>, Option<f64>) = (None, None);
    for _ in 0..TRIES {
        let outcome = at_rate(arguments, rate, ready)?;
        let point = Point::of(arguments, rate, &outcome.report);
        point.show();
        points.push(point.clone());
        if point.recall < arguments.recall {
            println!("  recall {:.4} is below {}", point.recall, arguments.recall);
            return Ok(None);
        }
        let offered = outcome.report.totals.per_second(outcome.report.totals.offered);
        if point.p99_us <= arguments.p99_ms * 1e3 && point.answered >= KEPT * offered {
            good = Some(point);
        } else {
            bad = Some(rate);
        }
        let known = good.as_ref().map(|good| good.rate);
        rate = match (known, bad) {
            (Some(good), Some(bad)) if bad - good <= PRECISION * good => break,
            (Some(good), Some(bad)) => f64::midpoint(good, bad),
            (Some(good), None) => good * 2.0,
            (None, Some(bad)) => bad / 2.0,
            (None, None) => break,
        };
        if rate < 1.0 {
            break;
        }
    }
    Ok(good)
}

fn write(folder: &Path, name: &str, points: &[Point]) -> Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join(format!("{name}.json")), serde_json::to_string_pretty(points)?)?;
    let path = folder.join(format!("{name}.html"));
    fs::write(&path, page::simple(name, &table(points), &charts(points)))?;
    println!("see {}", path.display());
    Ok(())
}

fn table(points: &[Point]) -> String {
    let mut table = String::from(
        "<table><tr><th>shards</th><th>searched with</th><th>due/s</th><th>answered/s</th><th>p50 us</th>\
         <th>p99 us</th><th>recall</th><th>findable after, p99 us</th><th>refused</th><th>skipped</th><th>RAM MB</th></tr>",
    );
    for p in points {
        let _ = write!(
            table,
            "<tr><td>{}</td><td>{}</td><td>{:.0}</td><td>{:.0}</td><td>{:.0}</td><td>{:.0}</td><td>{:.4}</td>\
             <td>{:.0}</td><td>{}</td><td>{}</td><td>{:.0}</td></tr>",
            p.shards,
            p.searched_with,
            p.rate,
            p.answered,
            p.p50_us,
            p.p99_us,
            p.recall,
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
