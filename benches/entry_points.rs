//! Entry points of large graphs: what a scan of them takes, and encoding them when one changes.
//!
//! `cargo bench --features internals --bench entry_points -- [--quick] [key=value ...]`
//!
//! Keys: rows, dim, lines (of 64 bytes in a code: one has room for 104 coordinates, two for 232).
//!
//! As many entry points as there are at most, each of a group of its own; a query is near one of
//! them. A JSON line for each number of lines: microseconds (medians), and how often that one is
//! among those found.

mod common;

use std::hint::black_box;
use std::time::Instant;

use common::{Arguments, Random, median};
use vecino::internals::entry_points::Entries;

/// Scans for each query, one after the other.
const TIMES: usize = 16;

/// How far queries are from their row, in lengths of a row: rows are about 1.4 apart.
const SPREAD: f32 = 0.5;

/// The median of what a pass takes, in microseconds.
fn micros(passes: usize, mut pass: impl FnMut(usize)) -> f64 {
    let one = |at: usize| {
        let began = Instant::now();
        pass(at);
        began.elapsed().as_secs_f64() * 1e6
    };
    median((0..passes).map(one).collect())
}

fn main() {
    let arguments = Arguments::read();
    let (rows, dim) = (arguments.number("rows", 4_096), arguments.number("dim", 256));
    for lines in arguments.list("lines", "1,2") {
        measure(&arguments, rows, dim, lines);
    }
}

#[expect(clippy::print_stdout, reason = "the report is the product")]
fn measure(arguments: &Arguments, rows: usize, dim: usize, lines: usize) {
    let passes = if arguments.has("--quick") { 50 } else { 2_000 };
    let mut random = Random(1);
    let base: Vec<f32> = (0..rows * dim).map(|_| random.normal()).collect();
    let near = |row: usize, random: &mut Random| -> Vec<f32> {
        base[row * dim..][..dim].iter().map(|x| x + SPREAD * random.normal()).collect()
    };
    let mut entries = Entries::new(&base, dim, lines);
    let (mut found, mut hits) = (Vec::new(), 0);
    let mut scans = Vec::new();
    for pass in 0..passes {
        let row = pass * 7 % rows;
        entries.prepare(&near(row, &mut random));
        let began = Instant::now();
        for _ in 0..TIMES {
            found.clear();
            black_box(&mut entries).nearest(&mut found);
        }
        scans.push(began.elapsed().as_secs_f64() * 1e6 / TIMES as f64);
        hits += usize::from(found.contains(&(row as u32)));
    }
    let (scan, recall) = (median(scans), hits as f64 / passes as f64);
    let anew = micros(passes / 10, |_| entries.encode());
    let two = micros(passes / 10, |at| entries.leave_and_join((at * 13 % rows) as u32));
    println!(
        "{{\"rows\":{rows},\"dim\":{dim},\"lines\":{lines},\"recall\":{recall:.3},\"scan_us\":{scan:.2},\"encode_all_us\":{anew:.0},\"encode_one_us\":{:.0}}}",
        two / 2.0
    );
}
