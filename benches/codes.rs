//! What the codes of each index cost and give: speed at two recalls, memory, and
//! the time to build, over one set of rows.
//!
//! `cargo bench --bench codes [-- FOLDER] [rows=N] [--quick]`: FOLDER holds
//! `base.fvecs`, `query.fvecs` and `metric` (l2, cos or ip); without one the rows
//! are made up.

#![expect(clippy::print_stdout, reason = "a bench reports to the terminal")]
#![expect(clippy::expect_used, reason = "a bench that cannot run may end")]

mod common;

use std::time::{Duration, Instant};

use common::{Arguments, Data, at_recall, exact, load, median};
use vecino::{CollectionConfig, Engine, HnswConfig, IndexSpec, Quantization};

const K: usize = 10;
/// Speeds are the median of so many measurements.
const ROUNDS: usize = 3;
/// Older versions are given back in a quiet moment.
const REST: Duration = Duration::from_millis(500);

fn specs(dim: usize) -> Vec<(String, IndexSpec)> {
    let hnsw = |codes| IndexSpec::Hnsw(HnswConfig::default().quantization(codes));
    let parts = (1..=dim / 4).rev().find(|parts| dim.is_multiple_of(*parts)).unwrap_or(1);
    let pq = Quantization::Pq { num_subquantizers: parts, bits_per_code: 4 };
    let mut specs = vec![("Graph".to_owned(), IndexSpec::graph()), ("Flat".to_owned(), IndexSpec::Flat)];
    let quarters = Quantization::Pq { num_subquantizers: parts.div_ceil(2), bits_per_code: 8 };
    for (name, codes) in [
        ("none", Quantization::None),
        ("F16", Quantization::F16),
        ("Sq8", Quantization::Sq8),
        ("Pq, 4 bits", pq),
        ("Pq, 8 bits", quarters),
        ("Binary", Quantization::Binary),
    ] {
        specs.push((format!("Hnsw, {name}"), hnsw(codes)));
    }
    for (name, codes) in [("Sq8", Quantization::Sq8), ("Binary", Quantization::Binary), ("Pq", pq)] {
        specs.push((format!("QuantizedFlat, {name}"), IndexSpec::flat(codes)));
    }
    let pq = format!("IVF,PQ{parts}x4fsr");
    for name in ["IVF,Flat", "IVF,SQfp16", "IVF,SQ8", "IVF,RaBitQ", &pq] {
        specs.push((name.to_owned(), name.parse().expect("a name of lists")));
    }
    specs
}

fn main() {
    let arguments = Arguments::read();
    let quick = arguments.has("--quick") || !arguments.has("--bench");
    let data = match arguments.folder() {
        Some(folder) => Data::read(folder).expect("base.fvecs, query.fvecs and metric"),
        None => Data::clustered(if quick { 3_000 } else { 30_000 }, 128, 500),
    };
    let data = data.first(arguments.number("rows", data.base.len()), if quick { 50 } else { 500 });
    println!("{} rows of {} numbers, {}", data.base.len(), data.base.dim, data.metric);
    println!(
        "| index | queries/s at recall 0.95 | at 0.99 | bytes a record | of them in the index | build, s |"
    );
    println!("|---|---|---|---|---|---|");
    for (name, spec) in specs(data.base.dim) {
        let engine = Engine::builder().build().expect("an engine");
        let config = CollectionConfig::new(data.base.dim, data.metric).index(spec);
        let items = engine.create_collection("items", config).expect("a collection");
        let started = Instant::now();
        load(&items, &data.base);
        items.optimize().expect("optimized");
        let seconds = started.elapsed().as_secs_f64();
        std::thread::sleep(REST);
        let (bytes, rows) = (items.stats().bytes, data.base.len());
        let truth = exact(&items, &data.queries, K);
        let speed = |recall| {
            let once = || at_recall(&items, &data.queries, &truth, recall, 1).map(|speed| speed.queries);
            let speeds: Vec<f64> = (0..ROUNDS).map_while(|_| once()).collect();
            if speeds.is_empty() { "-".to_owned() } else { format!("{:.0}", median(speeds)) }
        };
        let (at_95, at_99) = (speed(0.95), speed(0.99));
        println!(
            "| {name} | {at_95} | {at_99} | {} | {} | {seconds:.1} |",
            bytes.total() / rows,
            bytes.index / rows
        );
    }
}
