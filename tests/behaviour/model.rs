//! Goal: whatever is done to a collection, in whatever order, it shows exactly
//! what a naive map would; and a held snapshot goes on showing what it showed.
//!
//! Method: random operations on every metric, every index and one to four
//! workers, each applied to the engine and to a `BTreeMap`. Every answer names
//! the write that it shows (`seq`), so it is compared with the map as of that
//! write: no need to wait for writes. Vectors are small whole numbers, so
//! distances are exact and equal distances are frequent.
//!
//! `VECINO_MODEL_OPS` sets the number of random operations (default 96,000).
//! A failure prints the seed; a second test does the same under proptest,
//! which shrinks a failing sequence.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::common::{
    KINDS, METRICS, Rng, State, block_on, check_exhaustive, index_specs, setting, watchdog, whole_vector,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use vecino::{
    Collection, CollectionConfig, Engine, IndexSpec, Metric, Query, Record, RecordId, Seq, Snapshot, Write,
};

const DIM: usize = 6;

/// Different ids that operations use: few, so that replacing, deleting and
/// putting in again are frequent.
const IDS: usize = 700;

/// Snapshots held at a time.
const HELD: usize = 6;

/// One step. The numbers are reduced to what exists, so that every value is
/// meaningful and shrinking is free.
#[derive(Clone, Debug)]
enum Op {
    Upsert { id: usize, seed: u64 },
    UpsertBatch { first: usize, stride: usize, count: usize, seed: u64 },
    Delete { id: usize },
    DeleteBatch { first: usize, count: usize },
    Exact { seed: u64, k: usize },
    GraphAll { seed: u64 },
    GraphWide { seed: u64, k: usize },
    Async { seed: u64, k: usize },
    Batch { seed: u64, k: usize },
    Get { id: usize },
    Hold,
    CheckHeld { seed: u64 },
    LetGo { which: usize },
    Optimize,
    Flush,
    Verify,
}

/// Half of the ids are numbers, half are texts, and the texts are decimals of
/// numbers that are ids too: `7` and `"7"` must never be mixed up.
fn record_id(id: usize) -> RecordId {
    let id = id % IDS;
    if id.is_multiple_of(2) { RecordId::from(id as u64) } else { RecordId::from((id - 1).to_string()) }
}

/// What one write does to the map.
type Change = Vec<(RecordId, Option<Vec<f32>>)>;

struct Held {
    snapshot: Snapshot,
    state: State,
}

/// The engine beside its naive twin.
struct Twins {
    engine: Engine,
    items: Collection,
    metric: Metric,
    /// The state as of write `shown`: what the newest answer showed.
    state: State,
    shown: Seq,
    /// Accepted writes that no answer has shown yet.
    log: VecDeque<(Seq, Change)>,
    last: Seq,
    held: Vec<Held>,
}

impl Twins {
    fn new(workers: usize, index: IndexSpec, metric: Metric) -> Twins {
        let engine = Engine::builder().workers(workers).pool_threads(2).build().unwrap();
        let config = CollectionConfig::new(DIM, metric).index(index);
        let items = engine.create_collection("items", config).unwrap();
        let (state, log, held) = (State::new(), VecDeque::new(), Vec::new());
        Twins { engine, items, metric, state, shown: Seq(0), log, last: Seq(0), held }
    }

    fn wrote(&mut self, write: &Write, change: Change) {
        assert!(write.seq() > self.last, "numbers of writes must rise");
        self.last = write.seq();
        self.log.push_back((write.seq(), change));
    }

    /// The map as of a write. Answers may never go back.
    fn advance(&mut self, seq: Seq) {
        assert!(seq >= self.shown, "an answer showed {seq} after {}", self.shown);
        self.shown = seq;
        while self.log.front().is_some_and(|(written, _)| *written <= seq) {
            let (_, change) = self.log.pop_front().unwrap();
            for (id, vector) in change {
                match vector {
                    Some(vector) => self.state.insert(id, vector),
                    None => self.state.remove(&id),
                };
            }
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Upsert { id, seed } => self.upsert(id, seed),
            Op::UpsertBatch { first, stride, count, seed } => self.upsert_batch(first, stride, count, seed),
            Op::Delete { id } => {
                let write = self.items.delete(record_id(id)).unwrap();
                self.wrote(&write, vec![(record_id(id), None)]);
            }
            Op::DeleteBatch { first, count } => {
                let ids: Vec<RecordId> = (first..first + count).map(record_id).collect();
                let write = self.items.delete_batch(&ids).unwrap();
                self.wrote(&write, ids.into_iter().map(|id| (id, None)).collect());
            }
            Op::Exact { .. }
            | Op::GraphAll { .. }
            | Op::GraphWide { .. }
            | Op::Async { .. }
            | Op::Batch { .. } => {
                self.search(op);
            }
            Op::Get { id } => self.get(id),
            Op::Hold => self.hold(),
            Op::CheckHeld { seed } => {
                let metric = self.metric;
                self.held.iter().for_each(|held| check_held(metric, held, seed));
            }
            Op::LetGo { which } => {
                if !self.held.is_empty() {
                    let which = which % self.held.len();
                    self.held.swap_remove(which);
                }
            }
            Op::Optimize => self.optimize(),
            Op::Flush => self.flush(),
            Op::Verify => self.verify(),
        }
    }

    fn upsert(&mut self, id: usize, seed: u64) {
        let vector = whole_vector(seed, DIM);
        let write = self.items.upsert(Record::new(record_id(id), vector.clone())).unwrap();
        self.wrote(&write, vec![(record_id(id), Some(vector))]);
    }

    /// With stride 0 all records have the same id: the last one counts.
    fn upsert_batch(&mut self, first: usize, stride: usize, count: usize, seed: u64) {
        let change: Change = (0..count)
            .map(|n| (record_id(first + n * stride), Some(whole_vector(seed + n as u64, DIM))))
            .collect();
        let records = change.iter().map(|(id, vector)| Record::new(id, vector.clone().unwrap()));
        let write = self.items.upsert_batch(records).unwrap();
        self.wrote(&write, change);
    }

    fn search(&mut self, op: &Op) {
        let (Op::Exact { seed, .. }
        | Op::GraphAll { seed }
        | Op::GraphWide { seed, .. }
        | Op::Async { seed, .. }
        | Op::Batch { seed, .. }) = *op
        else {
            return;
        };
        let vector = whole_vector(seed, DIM);
        let query = Query::new(&vector);
        let accepted = self.last;
        let (answer, k) = match *op {
            Op::Exact { k, .. } => (self.items.search(&query.top(k).exact()).unwrap(), k),
            Op::GraphAll { .. } => (self.items.search(&query.top(IDS + 5)).unwrap(), IDS + 5),
            Op::GraphWide { k, .. } => {
                (self.items.search(&query.top(k).ef_search(usize::MAX).at_least(accepted)).unwrap(), k)
            }
            Op::Async { k, .. } => (block_on(self.items.search_async(query.top(k).exact())).unwrap(), k),
            Op::Batch { k, .. } => {
                let queries = vec![query.top(k).exact(); 20];
                let mut answers = self.items.search_batch(&queries).unwrap();
                assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
                (answers.pop().unwrap(), k)
            }
            _ => return,
        };
        if matches!(op, Op::GraphWide { .. } | Op::Async { .. }) {
            assert!(answer.seq() >= accepted, "the answer must show every accepted write");
        }
        self.advance(answer.seq());
        check_exhaustive(self.metric, &self.state, &vector, k, &answer);
    }

    fn get(&mut self, id: usize) {
        let snapshot = self.items.snapshot();
        self.advance(snapshot.seq());
        check_record(&snapshot, &self.state, &record_id(id));
        assert_eq!(snapshot.len(), self.state.len());
    }

    fn hold(&mut self) {
        let snapshot = self.items.snapshot();
        self.advance(snapshot.seq());
        if self.held.len() == HELD {
            // The first one stays for good: it sees the most.
            self.held.remove(1);
        }
        self.held.push(Held { snapshot, state: self.state.clone() });
    }

    fn flush(&mut self) {
        self.items.flush().unwrap();
        let snapshot = self.items.snapshot();
        assert!(snapshot.seq() >= self.last, "flushed up to {}, not {}", snapshot.seq(), self.last);
        self.advance(snapshot.seq());
        assert_eq!(self.items.len(), self.state.len());
        assert_eq!(self.items.is_empty(), self.state.is_empty());
        for (id, vector) in self.state.iter().take(3) {
            assert_eq!(self.items.get(id).unwrap().unwrap().vector(), vector);
            assert!(self.items.contains(id).unwrap());
        }
    }

    fn optimize(&mut self) {
        self.items.optimize().unwrap();
        let stats = self.items.stats();
        assert_eq!((stats.tail, stats.dead), (0, 0), "{stats:?}");
        self.last = stats.last_seq;
        self.flush();
    }

    fn verify(&mut self) {
        let snapshot = self.items.snapshot();
        self.advance(snapshot.seq());
        let report = snapshot.verify().unwrap();
        assert!(report.is_sound(), "{report:?}");
        assert_eq!(report.records, self.state.len());
    }

    /// The last look; held snapshots answer also without their engine.
    fn end(mut self) {
        self.flush();
        self.verify();
        self.optimize();
        self.verify();
        assert_eq!(scrolled(&self.items.snapshot(), 64), self.state);
        self.engine.close().unwrap();
        self.held.iter().for_each(|held| check_held(self.metric, held, 1));
    }
}

fn check_record(snapshot: &Snapshot, state: &State, id: &RecordId) {
    let found = snapshot.get(id).unwrap();
    assert_eq!(found.as_ref().map(|record| record.vector()), state.get(id).map(Vec::as_slice), "{id:?}");
    assert_eq!(snapshot.contains(id), state.contains_key(id));
}

fn scrolled(snapshot: &Snapshot, page: usize) -> State {
    let (mut all, mut from) = (State::new(), None);
    loop {
        let page = snapshot.scroll(from, page).unwrap();
        for (id, vector) in page.records.into_iter().map(Record::into_parts) {
            assert!(all.insert(id, vector).is_none(), "a record was on two pages");
        }
        from = page.next;
        if from.is_none() {
            return all;
        }
    }
}

/// A held snapshot shows the state that it was taken at, in every way of asking.
fn check_held(metric: Metric, held: &Held, seed: u64) {
    let Held { snapshot, state } = held;
    assert_eq!(snapshot.len(), state.len());
    assert_eq!(&scrolled(snapshot, 97), state);
    let mut rng = Rng::new(seed);
    (0..20).for_each(|_| check_record(snapshot, state, &record_id(rng.below(IDS))));
    let vector = whole_vector(seed, DIM);
    let exact = snapshot.search(&Query::new(&vector).top(25).exact()).unwrap();
    check_exhaustive(metric, state, &vector, 25, &exact);
    let graph = snapshot.search(&Query::new(&vector).top(IDS)).unwrap();
    check_exhaustive(metric, state, &vector, IDS, &graph);
    assert_eq!(exact.seq(), snapshot.seq());
}

fn random_op(rng: &mut Rng) -> Op {
    let (id, seed, k) = (rng.below(IDS), rng.next() >> 1, rng.below(30));
    match rng.below(1_000) {
        0..400 => Op::Upsert { id, seed },
        400..460 => Op::UpsertBatch { first: id, stride: rng.below(4), count: rng.below(50), seed },
        460..700 => Op::Delete { id },
        700..730 => Op::DeleteBatch { first: id, count: rng.below(40) },
        730..800 => Op::Exact { seed, k },
        800..825 => Op::GraphAll { seed },
        825..850 => Op::GraphWide { seed, k },
        850..870 => Op::Async { seed, k },
        870..875 => Op::Batch { seed, k },
        875..950 => Op::Get { id },
        950..966 => Op::Hold,
        966..972 => Op::CheckHeld { seed },
        972..982 => Op::LetGo { which: id },
        982..985 => Op::Optimize,
        985..993 => Op::Flush,
        _ => Op::Verify,
    }
}

fn run_random(seed: u64, ops: usize, workers: usize, index: IndexSpec, metric: Metric) {
    let mut rng = Rng::new(seed);
    let mut twins = Twins::new(workers, index, metric);
    for step in 0..ops {
        let op = random_op(&mut rng);
        let outcome = catch_unwind(AssertUnwindSafe(|| twins.apply(&op)));
        if let Err(failure) = outcome {
            eprintln!("seed {seed}, step {step}, {op:?}: {workers} workers, {index:?}, {metric}");
            resume_unwind(failure);
        }
    }
    twins.end();
}

fn run_all(seed: u64, workers: [usize; 2]) {
    let ops = setting("VECINO_MODEL_OPS", 96_000);
    let _watchdog = watchdog(120 + ops as u64 / 200);
    for metric in METRICS {
        for index in index_specs() {
            for workers in workers {
                run_random(seed + workers as u64, ops / 48, workers, index, metric);
            }
        }
    }
}

#[test]
fn random_operations_show_what_a_naive_map_shows_with_one_and_four_workers() {
    run_all(11, [1, 4]);
}

#[test]
fn random_operations_show_what_a_naive_map_shows_with_two_and_three_workers() {
    run_all(12, [2, 3]);
}

// A snapshot that is held while every record is replaced and deleted many
// times, and every place of a record used again, shows its own state.
#[test]
fn a_snapshot_outlives_many_turnovers_of_all_records() {
    let _watchdog = watchdog(120);
    for (index, workers) in index_specs().into_iter().zip([2, 1].into_iter().cycle()) {
        let mut twins = Twins::new(workers, index, Metric::L2);
        twins.upsert_batch(0, 1, IDS, 1);
        twins.flush();
        twins.hold();
        for turn in 0..12 {
            twins.upsert_batch(0, 1, IDS, 1_000 * turn);
            (0..IDS / 2).for_each(|id| twins.apply(&Op::Delete { id: (id * 3) % IDS }));
            twins.apply(&if turn % 4 == 3 { Op::Optimize } else { Op::Hold });
            twins.apply(&Op::CheckHeld { seed: turn });
            twins.verify();
        }
        let stats = twins.items.stats();
        assert!(
            stats.shards.iter().any(|shard| shard.free_places > 0),
            "places must be given back: {stats:?}"
        );
        twins.end();
    }
}

fn any_op() -> impl Strategy<Value = Op> {
    let (id, seed, k) = (0..IDS, 0..1_000u64, 0..20usize);
    prop_oneof![
        6 => (id.clone(), seed.clone()).prop_map(|(id, seed)| Op::Upsert { id, seed }),
        4 => (id.clone(), 0..4usize, 0..250usize, seed.clone())
            .prop_map(|(first, stride, count, seed)| Op::UpsertBatch { first, stride, count, seed }),
        4 => id.clone().prop_map(|id| Op::Delete { id }),
        3 => (id.clone(), 0..150usize).prop_map(|(first, count)| Op::DeleteBatch { first, count }),
        2 => (seed.clone(), k.clone()).prop_map(|(seed, k)| Op::Exact { seed, k }),
        1 => seed.clone().prop_map(|seed| Op::GraphAll { seed }),
        1 => (seed.clone(), k.clone()).prop_map(|(seed, k)| Op::GraphWide { seed, k }),
        1 => (seed.clone(), k).prop_map(|(seed, k)| Op::Async { seed, k }),
        2 => id.clone().prop_map(|id| Op::Get { id }),
        2 => Just(Op::Hold),
        1 => seed.prop_map(|seed| Op::CheckHeld { seed }),
        1 => id.prop_map(|which| Op::LetGo { which }),
        1 => Just(Op::Optimize),
        1 => Just(Op::Flush),
        1 => Just(Op::Verify),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn a_shrinkable_sequence_of_operations_shows_what_a_naive_map_shows(
        ops in proptest::collection::vec(any_op(), 0..60),
        workers in 1..=4usize,
        index in 0..KINDS,
        metric in 0..3usize,
    ) {
        let _watchdog = watchdog(120);
        let mut twins = Twins::new(workers, index_specs()[index], METRICS[metric]);
        ops.iter().for_each(|op| twins.apply(op));
        twins.end();
    }
}
