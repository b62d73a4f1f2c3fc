//! Reports in files.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::load::Result;
use super::load::report::{FORMAT, Interval, Quantiles, Report};
use super::load::run::Outcome;
use super::page::page;

/// The folder is there, and can be written to: known before anything is measured.
pub(super) fn prepare(folder: &Path) -> Result<()> {
    let wrong = |fault| format!("--out {}: {fault}", folder.display());
    fs::create_dir_all(folder).map_err(wrong)?;
    let file = folder.join("may-be-written");
    fs::write(&file, "").map_err(wrong)?;
    fs::remove_file(&file).map_err(wrong)?;
    Ok(())
}

/// Writes everything about a run into a folder.
pub(super) fn write(folder: &Path, outcome: &Outcome) -> Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("report.json"), serde_json::to_string_pretty(&outcome.report)?)?;
    fs::write(folder.join("intervals.csv"), csv(&outcome.report.intervals))?;
    fs::write(folder.join("latency.hlog"), &outcome.log)?;
    fs::write(folder.join("report.html"), page(&[("this run", &outcome.report)]))?;
    say!("see {}", folder.join("report.html").display());
    Ok(())
}

/// Reads what `write` wrote.
pub(super) fn read(path: &Path) -> Result<Report> {
    let path = if path.is_dir() { path.join("report.json") } else { path.to_owned() };
    let text = fs::read_to_string(&path).map_err(|fault| format!("{}: {fault}", path.display()))?;
    let report: Report =
        serde_json::from_str(&text).map_err(|fault| format!("{}: {fault}", path.display()))?;
    if report.format != FORMAT {
        return Err(format!("{}: format {}, but this reads {FORMAT}", path.display(), report.format).into());
    }
    Ok(report)
}

/// Two reports on one page.
pub(super) fn compare(first: &Path, second: &Path, folder: &Path) -> Result<()> {
    let (a, b) = (read(first)?, read(second)?);
    let names = (first.display().to_string(), second.display().to_string());
    fs::create_dir_all(folder)?;
    let path = folder.join("compare.html");
    fs::write(&path, page(&[(&names.0, &a), (&names.1, &b)]))?;
    say!("see {}", path.display());
    Ok(())
}

/// One line for each stretch.
fn csv(intervals: &[Interval]) -> String {
    let mut text = String::from(
        "at_s,seconds,warm_up,offered,done,good,refused,skipped,failed,p50_us,p90_us,p99_us,p999_us,most_us,\
         fresh_p50_us,fresh_p99_us,recall,resident_mb,counted_mb,rows,tail,queued,in_flight,cores\n",
    );
    let of = |times: Option<Quantiles>, which: fn(Quantiles) -> f64| {
        times.map(which).map(|us| us.to_string()).unwrap_or_default()
    };
    for i in intervals {
        let _ = writeln!(
            text,
            "{:.3},{:.3},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{:.2},{:.2},{},{},{},{},{:.3}",
            i.at_s,
            i.seconds,
            i.warm_up,
            i.offered,
            i.done,
            i.good,
            i.refused,
            i.skipped,
            i.failed,
            of(i.latency, |t| t.p50),
            of(i.latency, |t| t.p90),
            of(i.latency, |t| t.p99),
            of(i.latency, |t| t.p999),
            of(i.latency, |t| t.most),
            of(i.fresh, |t| t.p50),
            of(i.fresh, |t| t.p99),
            i.recall.map(|recall| recall.to_string()).unwrap_or_default(),
            i.resident_mb,
            i.counted_mb,
            i.rows,
            i.tail,
            i.queued,
            i.in_flight,
            i.cores
        );
    }
    text
}
