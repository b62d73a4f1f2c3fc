//! One page that a person understands without explanation: what was asked,
//! what came of it, and pictures. Nothing is loaded from anywhere.

use std::fmt::Write as _;

use super::load::report::{Interval, Quantiles, Report};
use super::svg::{Chart, Line, Scale, escaped};

const HEAD: &str = "<!doctype html><html lang='en'><meta charset='utf-8'>\
<meta name='viewport' content='width=device-width'><style>\
body{font:15px/1.45 system-ui,sans-serif;max-width:1340px;margin:24px auto;padding:0 16px;color:#222;background:#fff}\
h1{margin:0 0 4px}h3{margin:0 0 6px;font-size:16px}.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:22px}\
figure{margin:0;padding:12px;border:1px solid #ddd;border-radius:8px}figcaption,.quiet{color:#666;font-size:13px}\
svg{width:100%;height:auto;font-size:11px;fill:#555}.grid{stroke:#e6e6e6}.axis{fill:#333}.dot{opacity:.55}\
.legend{margin:4px 0;font-size:13px}.legend span{margin-right:14px}.legend i{display:inline-block;width:22px;margin-right:5px;vertical-align:middle}\
table{border-collapse:collapse;margin:10px 0 22px}td,th{padding:3px 12px;border-bottom:1px solid #e2e2e2;text-align:right}td:first-child,th:first-child{text-align:left}\
.fault{background:#fde8e4;border-left:4px solid #d55e00;padding:8px 12px;margin:10px 0}.fine{background:#e6f4ee;border-left:4px solid #009e73;padding:8px 12px;margin:10px 0}\
</style>";

/// The page of one report, or of two beside each other.
pub(super) fn page(reports: &[(&str, &Report)]) -> String {
    let mut page = String::from(HEAD);
    let titles: Vec<&str> = reports.iter().map(|(_, report)| report.title.as_str()).collect();
    let title = titles.join(" / ");
    let _ = write!(page, "<title>{0}</title><h1>{0}</h1>", escaped(&title));
    for (name, report) in reports {
        let label = if reports.len() > 1 { format!("<b>{}</b>: ", escaped(name)) } else { String::new() };
        let _ = write!(
            page,
            "<p class='quiet'>{label}{} &middot; {} &middot; {}</p>",
            escaped(&report.target),
            escaped(&settings(report)),
            escaped(&report.machine)
        );
        page.push_str(&verdict(report));
    }
    page.push_str(&summary(reports));
    page.push_str(&latencies(reports));
    page.push_str("<div class='charts'>");
    charts(reports).iter().for_each(|chart| page.push_str(&chart.draw()));
    page.push_str(
        "</div><p class='quiet'>Times are counted from the moment at which a request was due, not from \
        the moment at which it was sent: whoever waited because of a stall is counted. \
        Hover over a point for its value.</p></html>\n",
    );
    page
}

/// A page of a table and charts.
pub(super) fn simple(title: &str, table: &str, charts: &[Chart]) -> String {
    let charts: String = charts.iter().map(Chart::draw).collect();
    format!(
        "{HEAD}<title>{0}</title><h1>{0}</h1><div class='charts'>{charts}</div>{table}</html>\n",
        escaped(title)
    )
}

fn settings(report: &Report) -> String {
    let all: Vec<String> = report.settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
    all.join(", ")
}

fn verdict(report: &Report) -> String {
    let faults = report.faults();
    if faults.is_empty() {
        let (judged, again) = (report.totals.judged, report.totals.judged_again);
        let again = if again > 0 {
            format!(", {again} of them asked again of a newer snapshot")
        } else {
            String::new()
        };
        return format!(
            "<p class='fine'>No wrong, short or lost answer ({judged} answers compared with an exact search{again}).</p>"
        );
    }
    let lines: String = faults.iter().map(|fault| format!("<div>{}</div>", escaped(fault))).collect();
    format!("<div class='fault'>{lines}</div>")
}

/// A table of figures, one column for each report.
fn summary(reports: &[(&str, &Report)]) -> String {
    type Figure = fn(&Report) -> String;
    let rows: [(&str, Figure); 14] = [
        ("requests due, a second", |r| format!("{:.0}", r.totals.offered_per_second())),
        ("answered, a second", |r| rate(r, r.totals.done)),
        ("answered in useful time, a second", |r| rate(r, r.totals.good)),
        ("refused by the engine, a second", |r| rate(r, r.totals.refused)),
        ("skipped by the harness (too many under way), a second", |r| rate(r, r.totals.skipped)),
        ("time of an answer: half take less than", |r| time(r.totals.latency, |t| t.p50)),
        ("99 % take less than", |r| time(r.totals.latency, |t| t.p99)),
        ("99.9 % take less than", |r| time(r.totals.latency, |t| t.p999)),
        ("the longest", |r| time(r.totals.latency, |t| t.most)),
        ("99 % of refusals take less than", |r| time(r.totals.refusal, |t| t.p99)),
        ("99 % of writes can be found within", |r| time(r.totals.fresh, |t| t.p99)),
        ("recall while rows change", |r| r.totals.recall.map_or_else(none, |recall| format!("{recall:.4}"))),
        ("memory of the process, at first and at last", |r| {
            format!("{:.0} and {:.0} MB", r.totals.resident_first_mb, r.totals.resident_last_mb)
        }),
        ("cores used, harness included", |r| format!("{:.2}", r.totals.cores)),
    ];
    let mut table = String::from("<table><tr><th></th>");
    reports.iter().for_each(|(name, _)| table.push_str(&format!("<th>{}</th>", escaped(name))));
    table.push_str("</tr>");
    for (name, figure) in rows {
        let _ = write!(table, "<tr><td>{name}</td>");
        reports.iter().for_each(|(_, report)| table.push_str(&format!("<td>{}</td>", figure(report))));
        table.push_str("</tr>");
    }
    table + "</table>"
}

fn latencies(reports: &[(&str, &Report)]) -> String {
    let mut table = String::from(
        "<table><tr><th>operation</th><th>answered</th><th>refused</th><th>failed</th><th>p50</th><th>p90</th>\
         <th>p99</th><th>p99.9</th><th>longest</th></tr>",
    );
    for (name, report) in reports {
        for of in &report.operations {
            let label =
                if reports.len() > 1 { format!("{} ({name})", of.operation) } else { of.operation.clone() };
            let _ = write!(
                table,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td>",
                escaped(&label),
                of.done,
                of.refused,
                of.failed
            );
            let figures: [fn(Quantiles) -> f64; 5] =
                [|t| t.p50, |t| t.p90, |t| t.p99, |t| t.p999, |t| t.most];
            figures
                .iter()
                .for_each(|figure| table.push_str(&format!("<td>{}</td>", time(of.latency, *figure))));
            table.push_str("</tr>");
        }
    }
    table + "</table>"
}

fn none() -> String {
    "-".to_owned()
}

fn rate(report: &Report, count: u64) -> String {
    format!("{:.0}", report.totals.per_second(count))
}

fn time(times: Option<Quantiles>, which: fn(Quantiles) -> f64) -> String {
    match times.map(which) {
        None => none(),
        Some(us) if us < 1_000.0 => format!("{us:.1} us"),
        Some(us) if us < 1e6 => format!("{:.2} ms", us / 1e3),
        Some(us) => format!("{:.2} s", us / 1e6),
    }
}

/// A line of each report over time.
fn over_time(
    reports: &[(&str, &Report)],
    name: &str,
    colour: usize,
    value: impl Fn(&Interval) -> Option<f64>,
) -> Vec<Line> {
    let line = |(at, (report_name, report)): (usize, &(&str, &Report))| {
        let points = report.intervals.iter().filter_map(|i| value(i).map(|value| (i.at_s, value)));
        let name = if reports.len() > 1 { format!("{name}, {report_name}") } else { name.to_owned() };
        Line { name, points: points.collect(), dashed: at > 0, colour }
    };
    reports.iter().enumerate().map(line).collect()
}

fn charts(reports: &[(&str, &Report)]) -> Vec<Chart> {
    let mut all = charts_of_answers(reports);
    all.extend(charts_of_state(reports));
    all
}

/// The lines of several series.
fn lines(all: Vec<Vec<Line>>) -> Vec<Line> {
    all.into_iter().flatten().collect()
}

fn charts_of_answers(reports: &[(&str, &Report)]) -> Vec<Chart> {
    let seconds = ("seconds", Scale::Linear);
    let per_second =
        |count: fn(&Interval) -> u64| move |i: &Interval| Some(count(i) as f64 / i.seconds.max(1e-9));
    vec![
        Chart {
            title: "How long answers took, over time",
            caption: "From the moment a request was due. Lower is better; a spike is a stall that somebody noticed.",
            x: seconds,
            y: ("microseconds", Scale::Logarithmic),
            lines: lines(vec![
                over_time(reports, "half", 0, |i| i.latency.map(|t| t.p50)),
                over_time(reports, "99 %", 1, |i| i.latency.map(|t| t.p99)),
                over_time(reports, "longest", 3, |i| i.latency.map(|t| t.most)),
            ]),
        },
        Chart {
            title: "How long answers took, by share of the requests",
            caption: "At 99 %: the time that 99 of 100 requests did not exceed. Flat to the right is good.",
            x: ("share of the requests", Scale::Nines),
            y: ("microseconds", Scale::Logarithmic),
            lines: by_percentile(reports),
        },
        Chart {
            title: "Requests a second",
            caption: "Answered should lie on due. Refused: by the engine, at once. Skipped: too many were under way.",
            x: seconds,
            y: ("requests a second", Scale::Linear),
            lines: lines(vec![
                over_time(reports, "due", 4, per_second(|i| i.offered)),
                over_time(reports, "answered", 0, per_second(|i| i.done)),
                over_time(reports, "refused", 1, per_second(|i| i.refused)),
                over_time(reports, "skipped", 3, per_second(|i| i.skipped)),
            ]),
        },
        Chart {
            title: "Recall while rows change",
            caption: "Share of the true nearest that were found, by an exact search of the same snapshot. 1 is all.",
            x: seconds,
            y: ("recall", Scale::Linear),
            lines: over_time(reports, "recall", 2, |i| i.recall),
        },
    ]
}

fn charts_of_state(reports: &[(&str, &Report)]) -> Vec<Chart> {
    let seconds = ("seconds", Scale::Linear);
    vec![
        Chart {
            title: "How soon a write can be found",
            caption: "From its acknowledgement to the first snapshot that shows it.",
            x: seconds,
            y: ("microseconds", Scale::Logarithmic),
            lines: lines(vec![
                over_time(reports, "half", 0, |i| i.fresh.map(|t| t.p50)),
                over_time(reports, "99 %", 1, |i| i.fresh.map(|t| t.p99)),
            ]),
        },
        Chart {
            title: "Memory",
            caption: "Of the whole process, data of the harness included, and what the engine counts for the collection.",
            x: seconds,
            y: ("MB", Scale::Linear),
            lines: lines(vec![
                over_time(reports, "process", 0, |i| Some(i.resident_mb)),
                over_time(reports, "counted by the engine", 2, |i| Some(i.counted_mb)),
            ]),
        },
        Chart {
            title: "What waits",
            caption: "Requests queued in the engine, and rows of the tail, which every search scans until they are indexed.",
            x: seconds,
            y: ("requests, rows", Scale::Linear),
            lines: lines(vec![
                over_time(reports, "queued requests", 1, |i| Some(i.queued as f64)),
                over_time(reports, "rows of the tail", 0, |i| Some(i.tail as f64)),
            ]),
        },
    ]
}

fn by_percentile(reports: &[(&str, &Report)]) -> Vec<Line> {
    let mut lines = Vec::new();
    for (at, (report_name, report)) in reports.iter().enumerate() {
        for (colour, of) in report.operations.iter().enumerate() {
            let name = if reports.len() > 1 {
                format!("{}, {report_name}", of.operation)
            } else {
                of.operation.clone()
            };
            lines.push(Line { name, points: of.curve.clone(), dashed: at > 0, colour });
        }
    }
    lines
}
