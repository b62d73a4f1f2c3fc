//! The page that shows targets beside each other.

use std::fmt::Write as _;

use super::load::report::Interval;
use super::page;
use super::peers::{FIGURES, Row};
use super::svg::{Chart, Line, Scale, escaped};

pub(super) fn page(rows: &[Row], left_out: &[String]) -> String {
    let left_out: String =
        left_out.iter().map(|why| format!("<p class='fault'>left out: {}</p>", escaped(why))).collect();
    page::simple("The same load on several engines", &(table(rows) + &left_out + &notes(rows)), &charts(rows))
}

fn table(rows: &[Row]) -> String {
    let mut table = String::from("<table><tr>");
    FIGURES.iter().for_each(|(name, _)| table.push_str(&format!("<th>{name}</th>")));
    table.push_str("</tr>");
    let mut sorted: Vec<&Row> = rows.iter().collect();
    // Stable: targets keep their order within a scenario.
    sorted.sort_by_key(|row| rows.iter().position(|first| first.scenario == row.scenario));
    for row in sorted {
        table.push_str("<tr>");
        FIGURES.iter().for_each(|(_, figure)| {
            let _ = write!(table, "<td>{}</td>", escaped(&figure(row)));
        });
        table.push_str("</tr>");
    }
    table + "</table>"
}

fn notes(rows: &[Row]) -> String {
    let mut notes = String::from(
        "<p class='quiet'>Every target searches with the least breadth that reached the recall asked for before rows \
         changed. <b>useful</b>: answered within the time that makes an answer useful. <b>fresh</b>: from the \
         acknowledgement of a write until it can be found; of vecino by the snapshot, of the others by searches for \
         the vector itself. <b>lost</b>: acknowledged and not found. <b>recall</b>: of vecino by an exact search of \
         the snapshot of the answer; the others have no generations, so by an exact search of the rows that had been \
         acknowledged when the search began and were left alone until it was judged, which is a lower bound of what \
         was there. <b>refused</b> is what the engine turned away, <b>skipped</b> what the harness did because too \
         much was under way: vecino's workers have queues of their own, around the others the harness lets so many wait \
         that what is taken is still useful.</p>",
    );
    let mut told: Vec<&str> = Vec::new();
    for row in rows {
        if told.contains(&row.target) {
            continue;
        }
        told.push(row.target);
        let _ = write!(
            notes,
            "<p class='quiet'><b>{}</b>: {}; ef {} for recall {:.4} before; loading took {:.0} MB. {}</p>",
            row.target,
            escaped(&row.report.target),
            row.ef,
            row.recall_before,
            row.loaded_mb,
            escaped(&row.report.machine)
        );
    }
    notes
}

/// A line of each target over the time of one scenario.
fn lines(rows: &[Row], scenario: &str, value: fn(&Interval) -> Option<f64>) -> Vec<Line> {
    let of = rows.iter().filter(|row| row.scenario == scenario).enumerate();
    let line = |(colour, row): (usize, &Row)| {
        let points = row.report.intervals.iter().filter_map(|i| value(i).map(|value| (i.at_s, value)));
        Line { name: row.target.to_owned(), points: points.collect(), dashed: false, colour }
    };
    of.map(line).collect()
}

fn charts(rows: &[Row]) -> Vec<Chart> {
    let seconds = ("seconds", Scale::Linear);
    let time = ("microseconds", Scale::Logarithmic);
    let (writer, much) = ("reader beside a writer", "ten times too much");
    vec![
        Chart {
            title: "Beside a writer: 99 % of searches take less than",
            caption: "One reader and one writer that never rests. Lower is better.",
            x: seconds,
            y: time,
            lines: lines(rows, writer, |i| i.search.map(|t| t.p99)),
        },
        Chart {
            title: "Beside a writer: recall",
            caption: "Share of the true nearest that were found while rows come in.",
            x: seconds,
            y: ("recall", Scale::Linear),
            lines: lines(rows, writer, |i| i.recall),
        },
        Chart {
            title: "Beside a writer: 99 % of writes can be found within",
            caption: "From the acknowledgement on.",
            x: seconds,
            y: time,
            lines: lines(rows, writer, |i| i.fresh.map(|t| t.p99)),
        },
        Chart {
            title: "Ten times too much: answered in useful time",
            caption: "Requests a second. Flat near the peak is good; what falls to nothing has collapsed.",
            x: seconds,
            y: ("requests a second", Scale::Linear),
            lines: lines(rows, much, |i| Some(i.good as f64 / i.seconds.max(1e-9))),
        },
        Chart {
            title: "Ten times too much: 99 % of answers take less than",
            caption: "Of what was answered, from the moment it was due.",
            x: seconds,
            y: time,
            lines: lines(rows, much, |i| i.latency.map(|t| t.p99)),
        },
        Chart {
            title: "Ten times too much: memory of the process",
            caption: "Data of the harness included. Flat is good.",
            x: seconds,
            y: ("MB", Scale::Linear),
            lines: lines(rows, much, |i| Some(i.resident_mb)),
        },
    ]
}
