//! Recall against speed on a data set of your own, as JSON lines.
//!
//!     cargo run --release --example ann_benchmark -- --data DIR --k 10 --out FILE
//!     cargo run --release --example ann_benchmark -- --base b.fvecs --query q.fvecs --metric cos
//!     cargo run --release --example ann_benchmark -- --data DIR --mixed
//!     cargo run --release --example ann_benchmark -- --data DIR --filter --queries 300
//!     cargo run --release --example ann_benchmark -- --quick
//!
//! **Data.** `DIR` holds `base.fvecs` (or `base.bvecs`), `query.fvecs`,
//! `gt.ivecs` and a file `metric` with `l2`, `cos` or `ip`. In an *fvecs* file
//! each vector is its dimension as a 32-bit integer followed by that many
//! 32-bit floats, all little endian; *bvecs* has a byte for each component,
//! *ivecs* 32-bit integers (row numbers of the base, nearest first). Without
//! `gt.ivecs` the exact answers are computed first, slowly. Without any data,
//! or with `--quick`, made-up clusters are used.
//!
//! **Protocol.** The index is built through the public API; `build_s` ends
//! when every row is indexed. Then, for one search breadth after another until
//! the recall is 0.9985: the first 1,000 queries, three passes, the median
//! counts. For one-thread figures the whole process is pinned to one CPU.
//! `qps1_single` is one `Collection::search` for each query, `qps1_batch`
//! one `Snapshot::search_many` for all queries on the same thread, `qps2_batch`
//! two threads that call it for 32 queries in turn. Recall is tie-aware: an answer counts when it
//! is no farther than the true k-th. `rss_mb` is resident memory after building
//! less that before, with the base vectors loaded in both; `counted_mb` what
//! the collection says that it holds, both once it gives no more memory back.
//!
//! **Filters** (`--filter`). Each record has a number from 0 to 999 that has
//! nothing to do with its vector; 500, 100, 10 and 1 of the numbers pass. One
//! thread, one call a query, payloads left out of the hits. Recall is against the
//! exact answers among the records that pass.
//!
//! **Mixed load** (`--mixed`). Half of the rows are loaded; a reader runs
//! alone, a writer alone, then both: the writer upserts the other half one row
//! at a time, and looks up what it wrote. The reader has one CPU to itself.

#![allow(clippy::print_stdout, reason = "a benchmark shows its results")]

mod arguments;
mod data;
mod filter;
mod json;
mod machine;
mod mixed;
mod sweep;

use std::error::Error;
use std::time::Instant;

use vecino::{Collection, CollectionConfig, Engine, GraphConfig, HnswConfig, IndexSpec, Record};

use arguments::{Arguments, Index};
use data::Data;
use json::Line;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Records that go in with one call.
const BATCH: usize = 10_000;

fn main() -> Result<()> {
    let Some(arguments) = Arguments::from_command_line()? else {
        println!("{}", arguments::HELP);
        return Ok(());
    };
    let data = Data::load(&arguments)?;
    println!("{}: {} x {}, {}, {} queries", data.name, data.rows(), data.dim, data.metric, data.queries());
    match (arguments.mixed, arguments.filter) {
        (true, _) => mixed::run(&arguments, &data),
        (false, true) => filter::run(&arguments, &data),
        (false, false) => sweep::run(&arguments, &data),
    }
}

/// An engine and an empty collection as the arguments want them.
fn create(arguments: &Arguments, data: &Data) -> Result<(Engine, Collection)> {
    let engine = Engine::builder().workers(arguments.shards).pool_threads(arguments.threads).build()?;
    let index = match arguments.index {
        Index::Flat => IndexSpec::Flat,
        Index::Hnsw => {
            let breadth = arguments.ef_construction.unwrap_or(200);
            IndexSpec::Hnsw(HnswConfig::default().m(arguments.m).ef_construction(breadth))
        }
        Index::Graph => IndexSpec::Graph(graph_config(arguments)),
        Index::Named(IndexSpec::Ivf(lists)) => {
            IndexSpec::Ivf(arguments.oversample.map_or(lists, |oversample| lists.oversample(oversample)))
        }
        Index::Named(spec) => spec,
    };
    let mut config = CollectionConfig::new(data.dim, data.metric.of_collection());
    config = if arguments.lean { config.lean() } else { config.index(index) };
    if let Some(storage) = arguments.vectors {
        config = config.vectors(storage);
    }
    let items = engine.create_collection("benchmark", config)?;
    Ok((engine, items))
}

fn graph_config(arguments: &Arguments) -> GraphConfig {
    let mut config = GraphConfig::default();
    if let Some(breadth) = arguments.ef_construction {
        config = config.ef_construction(breadth);
    }
    if let Some(bits) = arguments.code_bits {
        config = config.code_bits(bits);
    }
    if let Some(degree) = arguments.degree {
        config = config.degree(degree);
    }
    if let Some(bytes) = arguments.code_bytes {
        config = config.code_bytes(bytes);
    }
    config
}

/// Puts the first `rows` rows in and waits until the index holds them all;
/// gives the seconds that took.
fn fill(items: &Collection, data: &Data, rows: usize, with_attribute: bool) -> Result<f64> {
    let started = Instant::now();
    for first in (0..rows).step_by(BATCH) {
        let batch = first..rows.min(first + BATCH);
        // `optimize` waits for all of them together.
        let record = |row| {
            let record = Record::new(row as u64, data.row(row));
            if with_attribute { record.with(filter::FIELD, filter::attribute(row)) } else { record }
        };
        let _ = items.upsert_batch(batch.map(record))?;
    }
    items.optimize()?;
    let seconds = started.elapsed().as_secs_f64();
    let (held, tail) = (items.len(), items.stats().tail);
    if held != rows || tail != 0 {
        return Err(format!("{held} of {rows} rows are there, {tail} of them not indexed").into());
    }
    Ok(seconds)
}

/// A JSON line with what all lines share.
fn line(kind: &str, arguments: &Arguments, data: &Data) -> Line {
    Line::new()
        .text("kind", kind)
        .text("ds", &data.name)
        .whole("n", data.rows())
        .whole("d", data.dim)
        .text("metric", &data.metric.to_string())
        .text("peer", &arguments.name())
        .text("ver", env!("CARGO_PKG_VERSION"))
        .whole("k", arguments.k)
}
