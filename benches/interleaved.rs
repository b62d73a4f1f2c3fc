//! All codes of few rows, read one after the other: from copies that stand interleaved, and block by block.
//!
//! `cargo bench --features internals --bench interleaved -- [--quick] [key=value ...]`
//!
//! Keys: rows, dim, lines (of 64 bytes in a code).
//!
//! Rows of lengths that differ (log-normal, about as those of factors of films do). A JSON line for codes of 7 and of 4 bits,
//! by squared distance and by inner product: microseconds a search (medians), what part of the rows was estimated, how many of the true ten nearest are
//! among the 18 that are nearest by estimate, and what it takes to copy what changes when one row goes and comes.

mod common;

use std::hint::black_box;
use std::time::Instant;

use common::{Arguments, Random, median};
use vecino::internals::interleaved::Copies;

/// Searches for each query, one after the other.
const TIMES: usize = 8;

/// Candidates of a search for ten.
const KEPT: usize = 18;

fn micros(times: usize, mut pass: impl FnMut()) -> f64 {
    let began = Instant::now();
    (0..times).for_each(|_| pass());
    began.elapsed().as_secs_f64() * 1e6 / times as f64
}

/// The ten nearest of all.
fn exact(rows: &[f32], dim: usize, query: &[f32], dot: bool) -> Vec<u32> {
    let distance = |row: &[f32]| -> f32 {
        let pairs = row.iter().zip(query);
        if dot {
            -pairs.map(|(x, y)| x * y).sum::<f32>()
        } else {
            pairs.map(|(x, y)| (x - y) * (x - y)).sum()
        }
    };
    let mut all: Vec<(f32, u32)> = rows.chunks_exact(dim).map(distance).zip(0..).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all[..10.min(all.len())].iter().map(|(_, row)| *row).collect()
}

fn main() {
    let arguments = Arguments::read();
    let quick = arguments.has("--quick");
    let (rows, dim) =
        (arguments.number("rows", if quick { 2_000 } else { 8_000 }), arguments.number("dim", 64));
    let mut random = Random(1);
    let vector = |random: &mut Random| -> Vec<f32> {
        let length = (1.2 * random.normal()).exp();
        (0..dim).map(|_| length * random.normal()).collect()
    };
    let base: Vec<f32> = (0..rows).flat_map(|_| vector(&mut random)).collect();
    let queries: Vec<Vec<f32>> = (0..if quick { 20 } else { 500 }).map(|_| vector(&mut random)).collect();
    for lines in arguments.list("lines", "2") {
        for (four, dot) in [(false, false), (false, true), (true, false), (true, true)] {
            measure(&base, dim, &queries, (lines, four), dot);
        }
    }
}

#[expect(clippy::print_stdout, reason = "the report is the product")]
fn measure(base: &[f32], dim: usize, queries: &[Vec<f32>], shape: (usize, bool), dot: bool) {
    let rows = base.len() / dim;
    let mut copies = Copies::new(base, dim, shape, dot);
    let (mut read, mut blocks, mut estimated, mut hits, mut wanted) = (Vec::new(), Vec::new(), 0, 0, 0);
    for query in queries {
        copies.prepare(query);
        blocks.push(micros(TIMES, || _ = black_box(&mut copies).nearest(KEPT, false)));
        let one_by_one: Vec<u32> = copies.found().collect();
        read.push(micros(TIMES, || _ = black_box(&mut copies).nearest(KEPT, true)));
        estimated += copies.nearest(KEPT, true);
        let found: Vec<u32> = copies.found().collect();
        assert_eq!(found, one_by_one, "both find the same");
        let exact = exact(base, dim, query, dot);
        wanted += exact.len();
        hits += exact.iter().filter(|row| found.contains(row)).count();
    }
    let changes = (0..200).map(|at| micros(1, || copies.leave_and_join((at * 37 % rows) as u32)));
    let change = median(changes.collect());
    println!(
        "{{\"rows\":{rows},\"dim\":{dim},\"lines\":{},\"bits\":{},\"measure\":\"{}\",\"recall_of_18\":{:.3},\"interleaved_us\":{:.2},\"blocks_us\":{:.2},\"read\":{:.2},\"change_us\":{change:.1}}}",
        shape.0,
        if shape.1 { 4 } else { 7 },
        if dot { "dot" } else { "l2" },
        hits as f64 / wanted as f64,
        median(read),
        median(blocks),
        estimated as f64 / (queries.len() * rows) as f64,
    );
}
