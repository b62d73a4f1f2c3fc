//! Goal: the same write log makes the same index and the same answers, to the
//! bit, however many threads work on it, however fast the log comes, and
//! whatever readers hold meanwhile.
//!
//! Method: one log (single writes, batches, replacements, deletes,
//! optimizations; more than 6,000 rows) is written under different conditions;
//! after each part of it the digest of the index structure and the answers to
//! 200 queries are compared with those of the plainest run.

use std::time::Duration;

use crate::common::{METRICS, Rng, block_on, clustered, watchdog};
use vecino::{
    Collection, CollectionConfig, Engine, GraphConfig, HnswConfig, IndexSpec, Metric, Query, Record,
    RecordId, Snapshot, Write,
};

const DIM: usize = 16;
const ROWS: usize = 6_400;
const QUERIES: usize = 200;

/// A write of the log.
#[derive(Clone, Debug)]
enum Entry {
    Put(Vec<(u64, Vec<f32>)>),
    Take(Vec<u64>),
    Optimize,
}

/// The conditions of one run, none of which may matter.
#[derive(Clone, Copy, Debug)]
struct Pace {
    pool_threads: usize,
    /// Wait for every so many-th write; 0: never.
    wait_every: usize,
    /// Hold a snapshot of every so many-th write to the end; 0: none.
    hold_every: usize,
    publish_interval: Duration,
}

const PLAIN: Pace = Pace { pool_threads: 1, wait_every: 0, hold_every: 0, publish_interval: Duration::ZERO };

/// The log, in two parts: after each one the states are compared.
fn log(seed: u64) -> [Vec<Entry>; 2] {
    let mut rng = Rng::new(seed);
    let mut rows = (0..).zip(clustered(seed, ROWS, DIM, 40));
    let mut replaced = clustered(seed + 1, 2_000, DIM, 40).into_iter();
    let mut first: Vec<Entry> = rows.by_ref().take(1_500).map(|row| Entry::Put(vec![row])).collect();
    first.push(Entry::Put(rows.by_ref().take(2_500).collect()));
    let mut churn = |until: usize, out: &mut Vec<Entry>| {
        for _ in 0..600 {
            let id = rng.below(until) as u64;
            out.push(match rng.below(4) {
                0 => Entry::Take(vec![id]),
                1 => Entry::Take((id..id + 5).collect()),
                2 => Entry::Put((id..id + 3).zip(replaced.by_ref()).collect()),
                _ => Entry::Put(replaced.next().map(|vector| (id, vector)).into_iter().collect()),
            });
        }
    };
    churn(4_000, &mut first);
    let mut second = vec![Entry::Optimize];
    churn(4_000, &mut second);
    let rest: Vec<_> = rows.collect();
    rest.chunks(37).for_each(|rows| second.push(Entry::Put(rows.to_vec())));
    second.push(Entry::Take((100..1_500).step_by(3).collect()));
    [first, second]
}

/// What a state looks like: the structure, and every answer to the bit.
#[derive(Debug, PartialEq)]
struct Look {
    digest: u64,
    answers: Vec<Vec<(RecordId, u32)>>,
}

fn look(snapshot: &Snapshot) -> Look {
    let queries = clustered(99, QUERIES, DIM, 40);
    let queries: Vec<Query<'_>> =
        queries.iter().map(|vector| Query::new(vector).top(10).ef_search(40)).collect();
    let answers = snapshot.search_batch(&queries).unwrap();
    let bits = |answer: &vecino::Answer| {
        answer.hits().iter().map(|hit| (hit.id.clone(), hit.distance.to_bits())).collect()
    };
    Look { digest: snapshot.index_digest(), answers: answers.iter().map(bits).collect() }
}

fn apply(items: &Collection, entry: &Entry) -> Option<Write> {
    match entry {
        Entry::Put(rows) => {
            let records: Vec<Record> =
                rows.iter().map(|(id, vector)| Record::new(*id, vector.clone())).collect();
            Some(items.upsert_batch(records).unwrap())
        }
        Entry::Take(ids) => Some(items.delete_batch(ids.iter().copied()).unwrap()),
        Entry::Optimize => {
            items.optimize().unwrap();
            None
        }
    }
}

/// Writes the log and gives a look after each part, and one through the workers.
fn run(workers: usize, index: IndexSpec, metric: Metric, seed: u64, pace: Pace) -> Vec<Look> {
    let engine = Engine::builder()
        .workers(workers)
        .pool_threads(pace.pool_threads)
        .publish_interval(pace.publish_interval)
        .build()
        .unwrap();
    let config = CollectionConfig::new(DIM, metric).index(index);
    let items = engine.create_collection("items", config).unwrap();
    let (mut looks, mut held, mut count) = (Vec::new(), Vec::new(), 0);
    for part in log(seed) {
        for entry in &part {
            let write = apply(&items, entry);
            count += 1;
            if pace.wait_every > 0 && count % pace.wait_every == 0 {
                write.map(|write| write.wait().unwrap());
            }
            if pace.hold_every > 0 && count % pace.hold_every == 0 {
                let snapshot = items.snapshot();
                held.push((look(&snapshot), snapshot));
            }
        }
        items.flush().unwrap();
        items.optimize().unwrap();
        looks.push(look(&items.snapshot()));
    }
    assert!(held.iter().all(|(before, snapshot)| &look(snapshot) == before), "a held snapshot changed");
    let report = items.verify().unwrap();
    assert!(report.is_sound(), "{report:?}");
    let query = Query::new(vec![0.5; DIM]).top(20);
    let through_workers = block_on(items.search_async(query.clone())).unwrap();
    if workers == 1 {
        assert_eq!(through_workers.hits(), items.search(&query).unwrap().hits());
    }
    looks
}

fn compare(workers: usize, metric: Metric, seed: u64, paces: &[Pace]) {
    let _watchdog = watchdog(360);
    let indexes = [
        IndexSpec::Graph(GraphConfig::default().ef_construction(60)),
        IndexSpec::Hnsw(HnswConfig::default().m(8).ef_construction(60)),
        "IVF,PQ4x4fsr".parse().unwrap(),
    ];
    for index in indexes {
        let expected = run(workers, index, metric, seed, PLAIN);
        assert_ne!(expected[0].digest, expected[1].digest);
        for pace in paces {
            let found = run(workers, index, metric, seed, *pace);
            for (part, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let when = format!("after part {part}: {index:?}, {pace:?}");
                assert_eq!(found.digest, expected.digest, "structure {when}");
                assert!(found.answers == expected.answers, "answers {when}");
            }
        }
    }
}

#[test]
fn the_number_of_pool_threads_changes_nothing() {
    compare(1, Metric::L2, 1, &[Pace { pool_threads: 2, ..PLAIN }, Pace { pool_threads: 4, ..PLAIN }]);
}

#[test]
fn the_pace_of_the_writer_and_held_snapshots_change_nothing() {
    let slow = Pace { wait_every: 1, pool_threads: 2, ..PLAIN };
    let held = Pace { wait_every: 7, hold_every: 90, pool_threads: 2, ..PLAIN };
    compare(1, Metric::Cosine, 2, &[slow, held]);
}

#[test]
fn several_shards_are_each_the_same_again() {
    let rare = Pace { publish_interval: Duration::from_millis(5), pool_threads: 4, wait_every: 300, ..PLAIN };
    let held = Pace { wait_every: 3, hold_every: 111, pool_threads: 2, ..PLAIN };
    compare(3, Metric::Dot, 3, &[rare, held]);
}

// A digest that never changed would prove nothing.
#[test]
fn another_seed_or_metric_makes_another_index() {
    let _watchdog = watchdog(120);
    let digest = |seed: u64, metric: Metric, is_layered: bool| {
        let engine = Engine::builder().build().unwrap();
        let index = match is_layered {
            true => IndexSpec::Hnsw(HnswConfig::default().seed(seed)),
            false => IndexSpec::Graph(GraphConfig::default().seed(seed)),
        };
        let config = CollectionConfig::new(DIM, metric).index(index);
        let items = engine.create_collection("items", config).unwrap();
        let rows = (0u64..).zip(clustered(5, 600, DIM, 9));
        let _ = items.upsert_batch(rows.map(|(id, vector)| Record::new(id, vector))).unwrap();
        items.optimize().unwrap();
        items.snapshot().index_digest()
    };
    let mut digests = Vec::new();
    for is_layered in [true, false] {
        digests.extend(METRICS.iter().map(|metric| digest(42, *metric, is_layered)));
        digests.push(digest(43, Metric::L2, is_layered));
    }
    assert_eq!(digest(42, Metric::L2, true), digests[0]);
    assert_eq!(digest(42, Metric::L2, false), digests[4]);
    digests.sort_unstable();
    assert!(digests.windows(2).all(|pair| pair[0] != pair[1]), "{digests:?}");
}
