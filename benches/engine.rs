//! What the engine adds to the bare index: taking a snapshot, publishing,
//! absorbing, the path of a search, shards, two threads. Each line has recall
//! beside speed where there is a search in it.
//!
//! `cargo bench --features internals --bench engine [-- [DIR] [--quick] [--large] [key=value ...]]`
//!
//! DIR holds `base.fvecs`, `query.fvecs` and `metric` (l2, cos, ip); without it
//! the rows are synthetic. Keys: index (graph, hnsw or flat), rows, queries,
//! rounds, shards (numbers of them), k (of their searches), only (parts: snapshot, path, threads,
//! publish, shards).
//! `--large` publishes into 1,000,000 rows too (minutes to build).

#![expect(clippy::print_stdout, reason = "a bench reports to the terminal")]
#![expect(clippy::expect_used, reason = "a bench that cannot run may end")]

mod common;

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use common::{Arguments, Data, Random, Rows, Speed, at_recall, exact, filled, median, pass, recall};
use vecino::internals::index::{BareIndex, BareOptions};
use vecino::{Collection, Engine, IndexSpec, Metric, Record};

const DIM: usize = 96;
const K: usize = 10;

/// Rows of a batch whose publication is timed.
const BATCH: usize = 100;

/// Rows of the collection that `--large` publishes into.
const LARGE: usize = 1_000_000;

fn snapshots(items: &Collection) {
    let turns = 1_000_000;
    let started = Instant::now();
    for _ in 0..turns {
        black_box(items.snapshot());
    }
    let nanos = started.elapsed().as_nanos() as f64 / f64::from(turns);
    println!("snapshot()                        {nanos:8.1} ns");
}

/// Rows that may wait for more of them, in the only shard.
const OPEN_ROWS: usize = 64;

/// Waits until the index has taken in all rows but those that wait for more.
fn absorbed(items: &Collection) {
    while items.stats().tail >= OPEN_ROWS {
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// From sending a batch of replacing rows to seeing it published, and from then
/// until the index has all but the last few of it.
fn publishing(items: &Collection, rows: &Rows, label: &str, turns: usize) {
    let mut random = Random(3);
    let (mut published, mut taken_in) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        let batch: Vec<Record> = (0..BATCH)
            .map(|_| {
                let id = random.next() % rows.len() as u64;
                Record::new(id, rows.row(random.next() as usize % rows.len()))
            })
            .collect();
        // An index that absorbs is not part of publishing: each turn starts at rest.
        items.flush().expect("visible");
        absorbed(items);
        let started = Instant::now();
        items.upsert_batch(batch).expect("accepted").wait().expect("visible");
        published.push(started.elapsed().as_secs_f64() * 1e6);
        absorbed(items);
        taken_in.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let worst = published.iter().copied().fold(0.0, f64::max);
    println!(
        "{BATCH} rows into {} ({label}): sent, applied, published {:.0} us (worst of {turns}: {worst:.0}), absorbed {:.2} ms",
        rows.len(),
        median(published),
        median(taken_in),
    );
}

/// The engine's search against the bare index with the same parameters.
fn path_overhead(items: &Collection, data: &Data, truth: &[Vec<u64>], spec: IndexSpec, rounds: usize) {
    let (m, ef_construction) = match spec {
        IndexSpec::Hnsw(_) => (16, 200),
        _ => (0, 128),
    };
    let options = BareOptions { metric: data.metric, m, code: None, ef_construction, threads: 2 };
    let mut bare = BareIndex::build(&data.base.values, data.base.dim, options).expect("built");
    for ef in [8, 16, 32, 64] {
        let mut found = Vec::new();
        let mut ratios = Vec::new();
        let mut speed = Vec::new();
        for _ in 0..rounds {
            let engine = pass(items, &data.queries, K, ef);
            let started = Instant::now();
            for query in data.queries.iter() {
                bare.search(query, K, ef, &mut found);
                black_box(&found);
            }
            ratios.push(engine / started.elapsed().as_secs_f64());
            speed.push(data.queries.len() as f64 / engine);
        }
        println!(
            "path, ef {ef:3}: recall {:.4}, {:8.0} queries/s, engine / bare index time {:.3}",
            recall(items, &data.queries, truth, ef),
            median(speed),
            median(ratios),
        );
    }
}

/// What two threads do in the time in which one does its part, over one: 2
/// when they do not disturb each other. Both are warm before the clock starts,
/// and run long enough that starting them does not count.
fn scaling(rounds: usize, work: &(dyn Fn() + Sync)) -> f64 {
    let timed = |barrier: &Barrier| {
        work();
        barrier.wait();
        let started = Instant::now();
        work();
        started.elapsed().as_secs_f64()
    };
    let ratio = |_| {
        let one = timed(&Barrier::new(1));
        let barrier = Barrier::new(2);
        let two = std::thread::scope(|scope| {
            let other = scope.spawn(|| timed(&barrier));
            let own = timed(&barrier);
            own.max(other.join().expect("the other thread ends"))
        });
        2.0 * one / two
    };
    median((0..rounds).map(ratio).collect())
}

/// Two threads against one, beside a control that shares nothing at all: on a
/// machine whose two CPUs are one core, the control stays below 2 as well.
fn two_threads(items: &Collection, queries: &Rows, truth: &[Vec<u64>], rounds: usize) {
    let ef = 32;
    // A quarter of a second on one thread.
    let passes = (0.25 / pass(items, queries, K, ef)).ceil() as usize;
    let searching = scaling(rounds, &|| {
        (0..passes).for_each(|_| {
            pass(items, queries, K, ef);
        });
    });
    let control = scaling(rounds, &|| {
        let values: Vec<f32> = (0..4_096).map(|x| x as f32).collect();
        for _ in 0..100_000 {
            black_box(black_box(&values).iter().map(|x| x * x).fold(0.0, f32::max));
        }
    });
    let recall = recall(items, queries, truth, ef);
    println!(
        "two threads / one, ef {ef}: recall {recall:.4}, ratio {searching:.2} (nothing shared: {control:.2})"
    );
}

/// Queries a second at equal recall with so many shards each, on one thread.
fn shards(data: &Data, spec: IndexSpec, counts: &[usize], k: usize, rounds: usize) {
    let mut bases: Vec<(f64, f64)> = Vec::new();
    for workers in counts.iter().copied() {
        let engine = Engine::builder().workers(workers).build().expect("an engine");
        let items = filled(&engine, "items", spec, data.metric, &data.base);
        let truth = exact(&items, &data.queries, k);
        for target in [0.95, 0.99] {
            let Some(Speed { ef, recall, hops, distances, queries }) =
                at_recall(&items, &data.queries, &truth, target, rounds)
            else {
                println!("{workers} shards: recall {target} is not reached");
                continue;
            };
            if bases.iter().all(|(of, _)| *of != target) {
                bases.push((target, queries));
            }
            let base = bases.iter().find(|(of, _)| *of == target).map_or(f64::NAN, |(_, base)| *base);
            println!(
                "{workers} shards: recall {recall:.4} (ef {ef:3}, {hops:.0} hops, {distances:.0} distances), {queries:8.0} queries/s, ratio to {} {:.2}",
                counts[0],
                queries / base,
            );
        }
    }
}

fn main() {
    let arguments = Arguments::read();
    let quick = arguments.has("--quick");
    let (count, queries, rounds) = if quick { (4_000, 200, 3) } else { (100_000, 1_000, 9) };
    let [count, queries, rounds] = [("rows", count), ("queries", queries), ("rounds", rounds)]
        .map(|(key, default)| arguments.number(key, default));
    let spec = match arguments.list::<String>("index", "graph").first().map(String::as_str) {
        Some("flat") => IndexSpec::Flat,
        Some("hnsw") => IndexSpec::hnsw(),
        _ => IndexSpec::graph(),
    };
    let parts: Vec<String> = arguments.list("only", "snapshot,path,threads,publish,shards");
    let does = |part: &str| parts.iter().any(|own| own == part);
    let data = match arguments.folder() {
        Some(dir) => Data::read(dir).expect("the files of a data set").first(count, queries),
        None => Data::clustered(count, DIM, queries),
    };
    if parts.iter().any(|part| part != "shards") {
        let engine = Engine::builder().build().expect("an engine");
        let items = filled(&engine, "items", spec, data.metric, &data.base);
        let truth = exact(&items, &data.queries, K);
        if does("snapshot") {
            snapshots(&items);
        }
        if does("path") && spec != IndexSpec::Flat {
            path_overhead(&items, &data, &truth, spec, rounds);
        }
        if does("threads") {
            two_threads(&items, &data.queries, &truth, rounds);
        }
        if does("publish") {
            publishing(&items, &data.base, items.stats().shards[0].index, if quick { 20 } else { 100 });
        }
    }
    if does("publish") && arguments.has("--large") {
        let large = Rows::clustered(LARGE, DIM, 4);
        let engine = Engine::builder().build().expect("an engine");
        let items = filled(&engine, "large", spec, Metric::L2, &large);
        publishing(&items, &large, items.stats().shards[0].index, 100);
    }
    if does("shards") {
        shards(&data, spec, &arguments.list("shards", "1,2,4,8"), arguments.number("k", K), rounds);
    }
}
