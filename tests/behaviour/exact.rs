//! Exact searches of every index: the answers of a plain scan, in the same
//! order, also while records come and go and codes are being made.
//!
//! What is compared with is a collection of the same writes that is asked so
//! rarely that it goes on scanning: `model.rs` holds that scan against a
//! naive twin.

use crate::common::{KINDS, METRICS, Rng, block_on, clustered, distance, eventually, index_specs, watchdog};
use vecino::{
    Answer, Collection, CollectionConfig, Engine, GraphConfig, IndexSpec, Metric, Query, Record, Snapshot,
};

const DIM: usize = 40;

/// Scans that make a collection get ready for more: some more than it takes.
const MANY: usize = 80;

/// Two collections that are given the same writes.
struct Twins {
    _engine: Engine,
    asked: Collection,
    rested: Collection,
}

impl Twins {
    fn new(workers: usize, index: IndexSpec, metric: Metric) -> Twins {
        let engine = Engine::builder().workers(workers).pool_threads(2).build().unwrap();
        let config = CollectionConfig::new(DIM, metric).index(index);
        let [asked, rested] = ["asked", "rested"].map(|name| engine.create_collection(name, config).unwrap());
        Twins { _engine: engine, asked, rested }
    }

    /// Every vector belongs to three records: there are ties everywhere.
    fn put(&self, first: u64, count: usize, seed: u64) {
        let vectors = clustered(seed, count.div_ceil(3), DIM, 20);
        let records = (0..count).map(|at| Record::new(first + at as u64, vectors[at / 3].clone()));
        let records: Vec<Record> = records.collect();
        for items in [&self.asked, &self.rested] {
            let _ = items.upsert_batch(records.clone()).unwrap();
        }
    }

    fn delete(&self, first: u64, step: usize, count: usize) {
        let gone: Vec<u64> = (first..).step_by(step).take(count).collect();
        for items in [&self.asked, &self.rested] {
            let _ = items.delete_batch(gone.clone()).unwrap();
        }
    }

    fn settle(&self) -> [Snapshot; 2] {
        [&self.asked, &self.rested].map(|items| {
            items.flush().unwrap();
            items.snapshot()
        })
    }

    /// Asks both; gives the distances that they computed.
    fn compare(&self, what: &str) -> [u64; 2] {
        let [asked, rested] = self.settle();
        let records = rested.scroll(None, usize::MAX).unwrap().records;
        let mut rng = Rng::new(5);
        let mut distances = [0; 2];
        for k in [1, 10, 40] {
            let vector: Vec<f32> = (0..DIM).map(|_| rng.signed() * 4.0).collect();
            let query = Query::new(&vector).top(k).exact();
            let answers = [&asked, &rested].map(|snapshot| snapshot.search(&query).unwrap());
            assert_eq!(bits(&answers[0]), bits(&answers[1]), "{what}, k = {k}");
            assert_eq!(answers[0].len(), k.min(asked.len()), "{what}");
            // A `Flat` collection has codes from the start: both could be wrong alike.
            let metric = self.asked.config().metric();
            let slowly = records.iter().map(|record| distance(metric, &vector, record.vector()));
            let mut slowly: Vec<f64> = slowly.collect();
            slowly.sort_by(f64::total_cmp);
            for (hit, slow) in answers[0].hits().iter().zip(slowly) {
                let found = f64::from(hit.distance);
                assert!((found - slow).abs() < 1e-4 * (1.0 + slow.abs()), "{what}: {found}, not {slow}");
            }
            (0..2).for_each(|at| distances[at] += answers[at].stats().distances);
        }
        distances
    }
}

fn bits(answer: &Answer) -> Vec<(u32, u64)> {
    answer.hits().iter().map(|hit| (hit.distance.to_bits(), hit.id.as_num().unwrap())).collect()
}

fn ask_often(items: &Collection) {
    for _ in 0..MANY {
        items.search(&Query::new(vec![0.5; DIM]).exact()).unwrap();
    }
}

fn quick() -> [IndexSpec; KINDS] {
    index_specs().map(|index| match index {
        IndexSpec::Graph(_) => IndexSpec::Graph(GraphConfig::default().ef_construction(48)),
        index => index,
    })
}

#[test]
fn exact_answers_are_those_of_a_scan_on_every_index_while_records_come_and_go() {
    let _watchdog = watchdog(300);
    for (index, metric) in quick().into_iter().flat_map(|index| METRICS.map(|metric| (index, metric))) {
        for workers in [1, 3] {
            let what = format!("{index:?} {metric} {workers}");
            let twins = Twins::new(workers, index, metric);
            twins.put(0, 2_300 * workers, 1);
            twins.compare(&what);
            ask_often(&twins.asked);
            for turn in 0..3 {
                twins.put(turn * 500, 700, 2 + turn);
                twins.delete(turn, 7, 150);
                twins.compare(&what);
            }
            let held = twins.asked.snapshot();
            let before = held.search(&Query::new(vec![0.5; DIM]).top(30).exact()).unwrap();
            twins.put(0, 1_000, 9);
            twins.delete(1_200, 1, 200);
            [&twins.asked, &twins.rested].iter().for_each(|items| _ = items.optimize().unwrap());
            let [asked, rested] = twins.settle();
            assert_eq!(asked.index_digest(), rested.index_digest(), "{what}: reading changed the index");
            let again = held.search(&Query::new(vec![0.5; DIM]).top(30).exact()).unwrap();
            assert_eq!(bits(&before), bits(&again), "{what}");
            assert!(twins.asked.verify().unwrap().is_sound(), "{what}");
            let query = Query::new(vec![0.5; DIM]).top(20).exact();
            let through_workers = block_on(twins.asked.search_async(query.clone())).unwrap();
            assert_eq!(bits(&through_workers), bits(&rested.search(&query).unwrap()), "{what}");
        }
    }
}

#[test]
fn many_exact_searches_make_them_cheap_and_what_that_takes_is_counted() {
    let _watchdog = watchdog(120);
    for index in [quick()[1], IndexSpec::hnsw()] {
        let twins = Twins::new(1, index, Metric::L2);
        twins.put(0, 6_000, 1);
        let [asked, rested] = twins.compare("before");
        assert_eq!(asked, rested);
        let optimize = || [&twins.asked, &twins.rested].map(|items| items.optimize().unwrap());
        let bytes = || [&twins.asked, &twins.rested].map(|items| items.stats().bytes.index);
        optimize();
        eventually("as many bytes", || {
            let [asked, rested] = bytes();
            asked < rested + 10_000
        });
        ask_often(&twins.asked);
        // Nothing is written meanwhile: readers alone bring it about. The twin is
        // not asked so often.
        eventually("codes", || {
            let answer = twins.asked.search(&Query::new(vec![0.5; DIM]).exact()).unwrap();
            answer.stats().distances * 4 < 6_000
        });
        let [asked, rested] = twins.compare("with codes");
        assert!(asked * 4 < rested, "{asked} and {rested} distances");
        optimize();
        // Each gives back what only older versions needed when it has a moment.
        eventually("bytes of codes", || {
            let [asked, rested] = bytes();
            asked > rested + 6_000 * (DIM + 16)
        });
        // What is emptied gives them back.
        for items in [&twins.asked, &twins.rested] {
            let _ = items.delete_batch(0..6_000).unwrap();
        }
        optimize();
        eventually("no bytes of codes", || {
            let [asked, rested] = bytes();
            asked < rested + 10_000
        });
    }
}
