//! What the engine adds to the bare index: taking a snapshot, publishing,
//! the path of a search, shards, two threads. Each line has recall beside
//! speed where there is a search in it.
//!
//! `cargo bench --features internals --bench engine [-- --quick]`

#![expect(clippy::print_stdout, reason = "a bench reports to the terminal")]
#![expect(clippy::expect_used, reason = "a bench that cannot run may end")]

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

use vecino::internals::index::{BareIndex, BareOptions};
use vecino::{Collection, CollectionConfig, Engine, IndexSpec, Metric, Query, Record};

const DIM: usize = 96;
const K: usize = 10;

/// Splitmix64: seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Roughly normal: the sum of four uniforms.
    fn normal(&mut self) -> f32 {
        (0..4).map(|_| (self.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5).sum()
    }
}

/// Points around centres, and queries of the same kind.
fn clustered(count: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut random = Random(7);
    let centres: Vec<Vec<f32>> = (0..64).map(|_| (0..DIM).map(|_| random.normal()).collect()).collect();
    let mut random = Random(seed);
    (0..count)
        .map(|_| {
            let centre = &centres[random.next() as usize % centres.len()];
            centre.iter().map(|x| x + 0.6 * random.normal()).collect()
        })
        .collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn filled(engine: &Engine, name: &str, spec: IndexSpec, rows: &[Vec<f32>]) -> Collection {
    let config = CollectionConfig::new(DIM, Metric::L2).index(spec);
    let items = engine.create_collection(name, config).expect("a new name");
    let records = rows.iter().enumerate().map(|(id, row)| Record::new(id as u64, row.clone()));
    items.upsert_batch(records).expect("good records").wait().expect("visible");
    items.optimize().expect("optimized");
    items
}

fn exact(items: &Collection, queries: &[Vec<f32>]) -> Vec<Vec<u64>> {
    let queries: Vec<Query> = queries.iter().map(|query| Query::new(query).top(K).exact()).collect();
    let answers = items.search_batch(&queries).expect("answers");
    answers.iter().map(|answer| answer.hits().iter().filter_map(|hit| hit.id.as_num()).collect()).collect()
}

fn recall(items: &Collection, queries: &[Vec<f32>], truth: &[Vec<u64>], ef: usize) -> f64 {
    let hits: usize = queries
        .iter()
        .zip(truth)
        .map(|(query, truth)| {
            let answer = items.search(&Query::new(query).top(K).ef_search(ef)).expect("an answer");
            answer.hits().iter().filter(|hit| truth.iter().any(|id| hit.id.as_num() == Some(*id))).count()
        })
        .sum();
    hits as f64 / (queries.len() * K) as f64
}

/// Seconds that all queries take, once.
fn pass(items: &Collection, queries: &[Vec<f32>], ef: usize) -> f64 {
    let started = Instant::now();
    for query in queries {
        black_box(items.search(&Query::new(query).top(K).ef_search(ef)).expect("an answer"));
    }
    started.elapsed().as_secs_f64()
}

fn snapshots(items: &Collection) {
    let turns = 1_000_000;
    let started = Instant::now();
    for _ in 0..turns {
        black_box(items.snapshot());
    }
    let nanos = started.elapsed().as_nanos() as f64 / f64::from(turns);
    println!("snapshot()                        {nanos:8.1} ns");
}

/// From sending a batch of 100 replacing rows to seeing it published.
fn publishing(items: &Collection, rows: &[Vec<f32>], label: &str) {
    let mut random = Random(3);
    let times = (0..50).map(|_| {
        let batch: Vec<Record> = (0..100)
            .map(|_| {
                let id = random.next() % rows.len() as u64;
                Record::new(id, rows[random.next() as usize % rows.len()].clone())
            })
            .collect();
        let started = Instant::now();
        items.upsert_batch(batch).expect("accepted").wait().expect("visible");
        let elapsed = started.elapsed().as_secs_f64() * 1e6;
        // An absorbing index is not part of publishing: start each turn at rest.
        items.optimize().expect("optimized");
        elapsed
    });
    let times: Vec<f64> = times.collect();
    println!("send, apply, publish 100 rows of {} ({label}) {:8.1} us", rows.len(), median(times));
}

/// The engine's search against the bare index with the same graph parameters.
fn path_overhead(
    items: &Collection,
    rows: &[Vec<f32>],
    queries: &[Vec<f32>],
    truth: &[Vec<u64>],
    rounds: usize,
) {
    let flat: Vec<f32> = rows.concat();
    let options = BareOptions { metric: Metric::L2, m: 16, code: None, ef_construction: 200, threads: 2 };
    let mut bare = BareIndex::build(&flat, DIM, options).expect("built");
    for ef in [16, 32, 64] {
        let mut found = Vec::new();
        let mut ratios = Vec::new();
        let mut speed = Vec::new();
        for _ in 0..rounds {
            let engine = pass(items, queries, ef);
            let started = Instant::now();
            for query in queries {
                bare.search(query, K, ef, &mut found);
                black_box(&found);
            }
            ratios.push(engine / started.elapsed().as_secs_f64());
            speed.push(queries.len() as f64 / engine);
        }
        println!(
            "path, ef {ef:3}: recall {:.4}, {:8.0} queries/s, engine / bare index time {:.3}",
            recall(items, queries, truth, ef),
            median(speed),
            median(ratios),
        );
    }
}

/// Passes over all queries that take about `seconds` on one thread.
fn passes(items: &Collection, queries: &[Vec<f32>], ef: usize, seconds: f64) -> usize {
    (seconds / pass(items, queries, ef)).ceil() as usize
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
fn two_threads(items: &Collection, queries: &[Vec<f32>], truth: &[Vec<u64>], rounds: usize) {
    let ef = 32;
    let passes = passes(items, queries, ef, 0.25);
    let searching = scaling(rounds, &|| {
        (0..passes).for_each(|_| {
            pass(items, queries, ef);
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

/// Queries a second at equal recall with 1, 2, 4 and 8 shards.
fn shards(rows: &[Vec<f32>], queries: &[Vec<f32>], rounds: usize) {
    let mut base = None;
    for workers in [1, 2, 4, 8] {
        let engine = Engine::builder().workers(workers).build().expect("an engine");
        let items = filled(&engine, "items", IndexSpec::hnsw(), rows);
        let truth = exact(&items, queries);
        let found = [8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]
            .into_iter()
            .map(|ef| (ef, recall(&items, queries, &truth, ef)))
            .find(|(_, recall)| *recall >= 0.99);
        let Some((ef, recall)) = found else { continue };
        let speed = median((0..rounds).map(|_| queries.len() as f64 / pass(&items, queries, ef)).collect());
        let base = *base.get_or_insert(speed);
        println!(
            "{workers} shards: ef {ef:3}, recall {recall:.4}, {speed:8.0} queries/s, ratio to 1 shard {:.2}",
            speed / base
        );
    }
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (count, queries, rounds) = if quick { (4_000, 200, 3) } else { (100_000, 1_000, 9) };
    let rows = clustered(count, 1);
    let queries = clustered(queries, 2);
    let engine = Engine::builder().build().expect("an engine");

    let items = filled(&engine, "hnsw", IndexSpec::hnsw(), &rows);
    snapshots(&items);
    let truth = exact(&items, &queries);
    path_overhead(&items, &rows, &queries, &truth, rounds);
    two_threads(&items, &queries, &truth, rounds);
    publishing(&items, &rows, "hnsw");
    let large = clustered(if quick { 20_000 } else { 1_000_000 }, 4);
    let items = filled(&engine, "flat", IndexSpec::Flat, &large);
    publishing(&items, &large, "flat");
    shards(&rows[..rows.len().min(50_000)], &queries, rounds);
}
