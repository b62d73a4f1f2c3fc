//! How long writes wait for an index that is trained anew while a collection
//! grows, and what searches then find.
//!
//! `cargo bench --bench growth [-- FOLDER] [rows=70000] [index=IVF,Flat;Graph] [--quick]`:
//! without a folder (`base.fvecs`, `query.fvecs`, `metric`) over made-up rows.
//! Indexes are given by the names that `IndexSpec` reads, with semicolons.

#![expect(clippy::print_stdout, reason = "a bench reports to the terminal")]
#![expect(clippy::expect_used, reason = "a bench that cannot run may end")]

mod common;

use std::time::Instant;

use common::{Arguments, Data, at_recall, exact, median};
use vecino::{Collection, CollectionConfig, Engine, IndexSpec, Record};

const K: usize = 10;
/// Records of a write: each is waited for.
const BATCH: usize = 64;

/// Puts in all rows; how long each write took until it was seen, in milliseconds.
fn grow(items: &Collection, data: &Data) -> Vec<f64> {
    let mut waits = Vec::new();
    for (at, batch) in data.base.values.chunks(BATCH * data.base.dim).enumerate() {
        let rows = batch.chunks_exact(data.base.dim).enumerate();
        let records: Vec<Record> =
            rows.map(|(row, vector)| Record::new((at * BATCH + row) as u64, vector)).collect();
        let started = Instant::now();
        items.upsert_batch(records).expect("accepted").wait().expect("visible");
        waits.push(started.elapsed().as_secs_f64() * 1e3);
    }
    waits
}

fn main() {
    let arguments = Arguments::read();
    let quick = arguments.has("--quick") || !arguments.has("--bench");
    let rows = arguments.number("rows", if quick { 5_000 } else { 70_000 });
    let names = arguments.text("index").unwrap_or("IVF,Flat;IVF,PQ16x4fs;Graph").to_owned();
    let data = match arguments.folder() {
        Some(folder) => Data::read(folder).expect("base.fvecs, query.fvecs and metric"),
        None => Data::clustered(rows, 128, 1_000),
    };
    let data = data.first(rows, if quick { 100 } else { 1_000 });
    println!("{} rows of {} numbers, {BATCH} a write", data.base.len(), data.base.dim);
    println!(
        "index | write, ms: median | 99 of 100 | longest | beyond 100 ms | all, s | queries/s at 0.95 | optimized"
    );
    for name in names.split(';') {
        let spec: IndexSpec = name.parse().expect("the name of an index");
        let engine = Engine::builder().build().expect("an engine");
        let config = CollectionConfig::new(data.base.dim, data.metric).index(spec);
        let items = engine.create_collection("items", config).expect("a collection");
        let mut waits = grow(&items, &data);
        let all: f64 = waits.iter().sum();
        waits.sort_unstable_by(f64::total_cmp);
        let long = waits.iter().filter(|wait| **wait > 100.0).count();
        let truth = exact(&items, &data.queries, K);
        let speed = || {
            let speed = at_recall(&items, &data.queries, &truth, 0.95, if quick { 1 } else { 3 });
            speed.map_or("-".to_owned(), |speed| {
                format!("{:.0} ({:.3}, breadth {})", speed.queries, speed.recall, speed.ef)
            })
        };
        let grown = speed();
        items.optimize().expect("optimized");
        println!(
            "{name} | {:.2} | {:.1} | {:.0} | {long} | {:.1} | {grown} | {}",
            median(waits.clone()),
            waits[waits.len() * 99 / 100],
            waits[waits.len() - 1],
            all / 1e3,
            speed(),
        );
    }
}
