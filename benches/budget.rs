//! How many records a memory budget holds with one graph and another, and how
//! these are searched.
//!
//! `cargo bench --bench budget [-- FOLDER] [dim=128] [megabytes=32] [--quick]`:
//! without a folder (`base.fvecs`, `query.fvecs`, `metric`) over made-up rows of
//! `dim` numbers; of one, the first `dim` numbers of each row (0: all).

#![expect(clippy::print_stdout, reason = "a bench reports to the terminal")]
#![expect(clippy::expect_used, reason = "a bench that cannot run may end")]

mod common;

use std::time::{Duration, Instant};

use common::{Arguments, Data, Rows, at_recall, exact};
use vecino::{
    AutoConfig, Backpressure, Collection, CollectionConfig, Engine, GraphConfig, IndexSpec, Record,
};

const K: usize = 10;
const BATCH: usize = 100;
/// Records that were not promised room in this time get none.
const PATIENCE: Duration = Duration::from_millis(500);

/// Puts in rows until no more fit; how many did.
fn fill(items: &Collection, rows: &Rows) -> usize {
    let items = items.backpressure(Backpressure::WaitAtMost(PATIENCE));
    let mut held = 0;
    for batch in rows.values.chunks(BATCH * rows.dim) {
        let records = batch.chunks_exact(rows.dim).enumerate();
        let records = records.map(|(at, row)| Record::new((held + at) as u64, row));
        if items.upsert_batch(records).is_err() {
            break;
        }
        held += batch.len() / rows.dim;
    }
    items.optimize().expect("optimized");
    held
}

/// The first numbers of each row.
fn cut(rows: &Rows, dim: usize) -> Rows {
    Rows { dim, values: rows.iter().flat_map(|row| row[..dim].iter().copied()).collect() }
}

fn specs() -> Vec<(&'static str, IndexSpec)> {
    let graph = GraphConfig::default();
    let auto = |graph| IndexSpec::Auto(AutoConfig::default().graph(graph));
    vec![
        ("Flat", IndexSpec::Flat),
        ("Graph", IndexSpec::Graph(graph)),
        ("Auto", IndexSpec::auto()),
        ("Auto, default graph", auto(graph)),
        ("Auto, 32 links", auto(graph.degree(32))),
        ("Auto, 32 links, 64 bytes", auto(graph.degree(32).code_bytes(64))),
        ("Auto, 32 links, 128 bytes", auto(graph.degree(32).code_bytes(128))),
        ("Auto, 64 links, 128 bytes", auto(graph.code_bytes(128))),
    ]
}

fn main() {
    let arguments = Arguments::read();
    let quick = arguments.has("--quick") || !arguments.has("--bench");
    let megabytes = arguments.number("megabytes", if quick { 8 } else { 32 });
    let dim = arguments.number("dim", 128);
    let mut data = match arguments.folder() {
        Some(folder) => Data::read(folder).expect("base.fvecs, query.fvecs and metric"),
        None => Data::clustered(if quick { 10_000 } else { 60_000 }, dim.max(1), 1_000),
    };
    if (1..data.base.dim).contains(&dim) {
        data = Data { metric: data.metric, base: cut(&data.base, dim), queries: cut(&data.queries, dim) };
    }
    data = data.first(usize::MAX / data.base.dim, if quick { 100 } else { 1_000 });
    println!("{megabytes} MB, {} numbers a row", data.base.dim);
    println!("index | records | used, MB | held, MB | build, s | queries/s at 0.95 | at 0.99 | why");
    for (name, spec) in specs() {
        let engine = Engine::builder().build().expect("an engine");
        let config = CollectionConfig::new(data.base.dim, data.metric).index(spec);
        let items = engine.create_collection("items", config.memory_budget(megabytes << 20));
        let items = items.expect("a collection");
        let started = Instant::now();
        let held = fill(&items, &data.base);
        let seconds = started.elapsed().as_secs_f64();
        let truth = exact(&items, &data.queries, K);
        let speed = |recall| {
            let speed = at_recall(&items, &data.queries, &truth, recall, if quick { 1 } else { 3 });
            speed.map_or("-".to_owned(), |speed| {
                format!("{:.0} ({:.3}, ef {})", speed.queries, speed.recall, speed.ef)
            })
        };
        let stats = items.stats();
        println!(
            "{name} | {held} | {:.1} | {:.1} | {seconds:.1} | {} | {} | {}",
            stats.budget.used as f64 / f64::from(1 << 20),
            stats.bytes.total() as f64 / f64::from(1 << 20),
            speed(0.95),
            speed(0.99),
            stats.shards[0].index_reason,
        );
    }
}
