//! Goal: a collection that is replaced again and again stays as good and as
//! small as one that was just built, and searches beside its writes are right.
//!
//! Method: every record is replaced many times, one record thousands of times,
//! all are deleted and put in again; then recall, bytes and `verify` are those
//! of a fresh collection of the same records. Beside a writer that upserts,
//! deletes and optimizes, readers check every hit against their snapshot.
//!
//! `VECINO_CHURN_ROWS` and `VECINO_CHURN_TURNOVERS` set the size (1,500 and 12), `VECINO_CHURN_TIMES` how often
//! the one record is replaced (20,000): `.ci/run` has 100 turnovers and a million times.
//! The ignored tests are the long form, 100 turnovers of 4,000 records:
//! `VECINO_CHURN_ROWS=20000 cargo test --release --test behaviour churn:: -- --ignored
//! --nocapture a_hundred_turnovers_of_a_graph` (of 20,000).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{METRICS, Rng, clustered, distance, eventually, setting, watchdog};
use vecino::{
    Bytes, Collection, CollectionConfig, Engine, GraphConfig, HnswConfig, IndexSpec, Metric, Query, Record,
};

const DIM: usize = 32;
const K: usize = 10;

/// Records that are found by a search of this breadth: recall is compared.
const EF: usize = 32;

/// Records of a small test.
const FEW: usize = 1_500;

/// Bytes in a hundred of those of a fresh collection, at most. Some 250 places of
/// dead rows are not free yet, whatever the number of records: of few records
/// that is a sixth.
fn most(records: usize) -> usize {
    if records < 3_000 { 120 } else { 115 }
}

/// A shard looks for memory to give back when it has nothing to do for 10 ms.
const A_MOMENT: Duration = Duration::from_millis(200);

/// It must have given it back after so long, also on a busy machine.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// A graph that takes less time to build.
fn quick() -> IndexSpec {
    IndexSpec::Graph(GraphConfig::default().ef_construction(64))
}

/// A collection with its engine.
struct Bench {
    _engine: Engine,
    items: Collection,
}

impl Bench {
    fn new(index: IndexSpec, metric: Metric) -> Bench {
        let engine = Engine::builder().pool_threads(2).build().unwrap();
        let config = CollectionConfig::new(DIM, metric).index(index);
        let items = engine.create_collection("items", config).unwrap();
        Bench { _engine: engine, items }
    }

    /// One of all records, in write order; numbers are spread over the order.
    fn put_all(&self, vectors: &[Vec<f32>], piece: usize) {
        let numbered: Vec<(usize, &Vec<f32>)> = vectors.iter().enumerate().collect();
        for piece in numbered.chunks(piece) {
            let records = piece.iter().map(|(id, vector)| Record::new(*id as u64, (*vector).clone()));
            let _ = self.items.upsert_batch(records.collect::<Vec<_>>()).unwrap();
        }
        self.items.flush().unwrap();
    }

    fn recall(&self, seed: u64) -> f64 {
        let snapshot = self.items.snapshot();
        let (mut hits, mut wanted) = (0, 0);
        for vector in clustered(seed, 400, DIM, 40) {
            let query = Query::new(&vector).top(K);
            let exact = snapshot.search(&query.clone().exact()).unwrap();
            let found = snapshot.search(&query.ef_search(EF)).unwrap();
            assert_eq!(found.len(), K.min(snapshot.len()));
            let last = exact.hits().last().map_or(0.0, |hit| hit.distance);
            wanted += exact.len();
            hits += found.hits().iter().filter(|hit| hit.distance <= last).count();
        }
        hits as f64 / wanted as f64
    }

    /// Bytes once the shard has had a moment to give back what only older
    /// versions needed: the least that is seen until `most` is not exceeded.
    fn bytes(&self, most: usize, within: Duration) -> Bytes {
        let started = Instant::now();
        loop {
            let bytes = self.items.stats().bytes;
            if bytes.total() <= most || started.elapsed() > within {
                return bytes;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn assert_sound(&self, records: usize) {
        let report = self.items.verify().unwrap();
        assert!(report.is_sound() && report.records == records, "{report:?}");
    }

    /// Compares with a collection to which the same records were just given.
    fn assert_like_fresh(&self, what: &str, index: IndexSpec, vectors: &[Vec<f32>]) {
        self.assert_sound(vectors.len());
        let fresh = Bench::new(index, Metric::L2);
        fresh.put_all(vectors, vectors.len());
        for step in ["as they are", "put in order"] {
            let (old, new) = (self.recall(77), fresh.recall(77));
            let least = fresh.bytes(0, A_MOMENT);
            let bytes = self.bytes(least.total() * most(vectors.len()) / 100, SETTLED_WITHIN);
            eprintln!(
                "{what}, {step}: recall {old:.4} and {new:.4} fresh, {} and {} bytes fresh, {bytes:?} and {least:?}",
                bytes.total(),
                least.total()
            );
            assert!(old >= new - 0.005, "{what}, {step}: recall {old}, of a fresh collection {new}");
            assert!(
                bytes.total() * 100 <= least.total() * most(vectors.len()),
                "{what}, {step}: {bytes:?}, of a fresh collection {least:?}"
            );
            self.items.optimize().unwrap();
            fresh.items.optimize().unwrap();
            self.assert_sound(vectors.len());
        }
    }
}

/// Fresh vectors about the same centres: the seed of the centres is not the row's.
fn vectors(turn: usize, rows: usize) -> Vec<Vec<f32>> {
    let mut all = clustered(77, rows * 2, DIM, 40);
    let mut rng = Rng::new(turn as u64);
    all.drain(..rows);
    all.iter_mut().for_each(|vector| vector.iter_mut().for_each(|x| *x += 0.5 * rng.signed()));
    all
}

fn turn_over(index: IndexSpec, rows: usize, turnovers: usize) {
    let bench = Bench::new(index, Metric::L2);
    for turn in 0..=turnovers {
        bench.put_all(&vectors(turn, rows), 200 + turn);
        if turn % 7 == 3 {
            bench.assert_sound(rows);
        }
        if turn % 8 == 5 {
            bench.items.optimize().unwrap();
        }
    }
    bench.assert_like_fresh(&format!("{turnovers} turnovers, {index:?}"), index, &vectors(turnovers, rows));
}

/// The short form for one index.
fn turn_over_shortly(index: IndexSpec) {
    let _watchdog = watchdog(900);
    turn_over(index, setting("VECINO_CHURN_ROWS", 1_500), setting("VECINO_CHURN_TURNOVERS", 12));
}

#[test]
fn a_graph_that_was_turned_over_is_like_a_fresh_one() {
    turn_over_shortly(quick());
}

#[test]
fn an_hnsw_that_was_turned_over_is_like_a_fresh_one() {
    turn_over_shortly(IndexSpec::Hnsw(HnswConfig::default().ef_construction(64)));
}

#[test]
fn a_flat_index_that_was_turned_over_is_like_a_fresh_one() {
    turn_over_shortly(IndexSpec::Flat);
}

/// The long form for one index.
fn turn_over_for_long(index: IndexSpec) {
    let _watchdog = watchdog(3_600);
    turn_over(index, setting("VECINO_CHURN_ROWS", 4_000), 100);
}

#[test]
#[ignore = "minutes: the long form"]
fn a_hundred_turnovers_of_a_graph() {
    turn_over_for_long(IndexSpec::graph());
}

#[test]
#[ignore = "minutes: the long form"]
fn a_hundred_turnovers_of_an_hnsw() {
    turn_over_for_long(IndexSpec::hnsw());
}

#[test]
#[ignore = "minutes: the long form"]
fn a_hundred_turnovers_of_a_flat_index() {
    turn_over_for_long(IndexSpec::Flat);
}

#[test]
fn one_record_that_is_replaced_without_end_wears_nothing() {
    let _watchdog = watchdog(900);
    let rows = FEW;
    let mut all = vectors(0, rows);
    let bench = Bench::new(quick(), Metric::L2);
    bench.put_all(&all, rows);
    let mut rng = Rng::new(5);
    let times = setting("VECINO_CHURN_TIMES", 20_000);
    for _ in 0..times {
        let vector: Vec<f32> = all[7].iter().map(|x| x + rng.signed()).collect();
        let _ = bench.items.upsert(Record::new(7, vector.clone())).unwrap();
        all[7] = vector;
    }
    bench.items.flush().unwrap();
    assert_eq!(bench.items.get(7).unwrap().unwrap().vector(), all[7]);
    let answer = bench.items.search(&Query::new(&all[7]).top(1)).unwrap();
    assert_eq!(answer.hits()[0].id.as_num(), Some(7));
    bench.assert_like_fresh(&format!("one id {times} times"), quick(), &all);
}

#[test]
fn deleting_everything_and_filling_again_makes_a_fresh_graph() {
    let _watchdog = watchdog(120);
    let bench = Bench::new(quick(), Metric::L2);
    let rows = FEW;
    for turn in 0..3 {
        bench.put_all(&vectors(turn, rows), 300);
        let _ = bench.items.delete_batch(0..rows as u64).unwrap();
        if turn % 2 == 0 {
            bench.items.optimize().unwrap();
        }
        bench.items.flush().unwrap();
        bench.assert_sound(0);
        assert!(bench.items.search(&Query::new(vec![0.5; DIM])).unwrap().is_empty());
    }
    let last = vectors(9, rows);
    bench.put_all(&last, 300);
    bench.assert_like_fresh("emptied and filled", quick(), &last);
}

/// Every hit of an answer is a live record of the snapshot, with the distance
/// that its vector has; there are k as long as so many records are visible.
fn check_answer(snapshot: &vecino::Snapshot, metric: Metric, vector: &[f32], k: usize, ef: usize) {
    let answer = snapshot.search(&Query::new(vector).top(k).ef_search(ef)).unwrap();
    assert_eq!(answer.len(), k.min(snapshot.len()), "k {k}, ef {ef}, {} records", snapshot.len());
    assert!(answer.hits().windows(2).all(|pair| pair[0].distance <= pair[1].distance));
    let mut ids = Vec::new();
    for hit in answer.hits() {
        let record = snapshot.get(&hit.id).unwrap().unwrap_or_else(|| panic!("{} is not there", hit.id));
        let own = distance(metric, vector, record.vector());
        let (found, size) = (f64::from(hit.distance), own.abs().max(100.0));
        assert!((found - own).abs() <= 1e-5 * size, "{}: {found}, is {own}", hit.id);
        ids.push(hit.id.clone());
    }
    ids.sort_unstable();
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "a record was found twice");
}

#[test]
fn searches_beside_writes_and_orders_show_only_what_their_snapshot_holds() {
    let _watchdog = watchdog(240);
    let steps = setting("VECINO_CHURN_STEPS", 30);
    for metric in METRICS {
        let bench = Bench::new(quick(), metric);
        let (items, over, looks) = (&bench.items, AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for reader in 0..2 {
                let (over, looks) = (&over, &looks);
                scope.spawn(move || {
                    let mut rng = Rng::new(reader);
                    let mut held = items.snapshot();
                    while !over.load(Ordering::Relaxed) {
                        let newest = items.snapshot();
                        let vector: Vec<f32> = (0..DIM).map(|_| rng.signed() * 4.0).collect();
                        for snapshot in [&newest, &held] {
                            let (k, ef) = (1 + rng.below(60), 1 + rng.below(100));
                            check_answer(snapshot, metric, &vector, k, ef);
                        }
                        looks.fetch_add(usize::from(!newest.is_empty()), Ordering::Relaxed);
                        if rng.once_in(20) {
                            held = newest;
                        }
                    }
                });
            }
            let _over = SetOnDrop(&over);
            let mut rng = Rng::new(9);
            for step in 0..steps {
                let rows = vectors(step, 150);
                let records = rows.into_iter().map(|vector| Record::new(rng.below(1_500) as u64, vector));
                let _ = items.upsert_batch(records.collect::<Vec<_>>()).unwrap();
                match step % 10 {
                    4 => _ = items.delete_batch((0..900).map(|id| id + step as u64 % 600)).unwrap(),
                    7 => _ = items.optimize().unwrap(),
                    9 => _ = items.flush().unwrap(),
                    _ => _ = items.delete(rng.below(1_500) as u64).unwrap(),
                }
            }
            items.flush().unwrap();
            eventually("readers have seen records", || looks.load(Ordering::Relaxed) > 20);
        });
        bench.assert_sound(bench.items.len());
    }
}

/// Readers end also when the writer fails.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
