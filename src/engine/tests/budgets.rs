//! Budgets while lists are trained anew beside those that are searched, and while others take long.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::{Collection, CollectionConfig, Engine, IndexSpec};
use crate::error::{BudgetScope, Gone, WriteError};
use crate::id::mix;
use crate::metric::Metric;
use crate::shard::{Background, Backpressure, Width, WriteCommand};
use crate::snapshot::{Record, shard_of};

const DIM: usize = 32;

/// For some five thousand records.
const BUDGET: usize = 8 << 20;

/// Fewer records are trained at once.
const AT_ONCE: usize = 2_048;

/// A vector of a record by its id and its version: later versions are farther from
/// the origin, so that what was trained on earlier ones is out of date.
fn vector(id: u64, version: u64) -> Vec<f32> {
    let number = |at: u64| (mix(mix(id) ^ at) >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
    (0..DIM as u64).map(|at| number(at) * (1 + 4 * version) as f32).collect()
}

/// A collection at the limit of its budget, and what it should hold.
struct Full {
    items: Collection,
    versions: BTreeMap<u64, u64>,
    refused: usize,
}

impl Full {
    /// Puts records in, as a whole; false where the budget has no room for them.
    fn put(&mut self, ids: impl Iterator<Item = u64> + Clone, version: u64) -> bool {
        let records = ids.clone().map(|id| Record::new(id, vector(id, version)));
        match self.items.upsert_batch(records) {
            Ok(write) => _ = write.wait().unwrap(),
            Err(WriteError::Budget { scope, budget, used, needed, .. }) => {
                assert_eq!((scope, budget), (BudgetScope::Collection, BUDGET));
                assert!(used <= budget && used + needed > budget, "{used} {needed}");
                self.refused += 1;
                return false;
            }
            Err(other) => panic!("{other}"),
        }
        self.versions.extend(ids.map(|id| (id, version)));
        true
    }

    fn is_renewing(&self) -> bool {
        let snapshot = self.items.snapshot();
        snapshot.published().shards.iter().any(|shard| shard.index().is_renewing())
    }

    /// Replaces records in turn until a training has begun, or has ended.
    fn replace_until(&mut self, version: u64, is_renewing: bool) {
        let ids: Vec<u64> = self.versions.keys().copied().collect();
        for some in ids.chunks(50).cycle().take(8 * ids.len() / 50) {
            if self.is_renewing() == is_renewing {
                return;
            }
            self.put(some.iter().copied(), version);
        }
        panic!("a training under way: {}", !is_renewing);
    }

    fn delete(&mut self, ids: impl Iterator<Item = u64> + Clone) {
        self.items.delete_batch(ids.clone()).unwrap().wait().unwrap();
        ids.for_each(|id| _ = self.versions.remove(&id));
    }

    fn check(&self) {
        let snapshot = self.items.snapshot();
        assert_eq!(snapshot.len(), self.versions.len());
        for (id, version) in &self.versions {
            let found = snapshot.get(*id).unwrap().map(|record| record.vector().to_vec());
            assert_eq!(found, Some(vector(*id, *version)), "{id}");
        }
        assert!(self.items.verify().unwrap().is_sound());
    }
}

fn fill_renew_and_delete(full: &mut Full) {
    let mut next = 0;
    while full.put(next..next + 50, 0) {
        next += 50;
    }
    full.check();
    assert!(full.versions.len() > AT_ONCE, "{} records", full.versions.len());
    full.replace_until(1, true);
    // More records are refused, and nothing of them is there; deletes make room at once.
    let (begun, refused) = (full.versions.len(), full.refused);
    while full.put(next..next + 50, 1) {
        next += 50;
    }
    assert!(full.refused > refused, "{begun} records");
    full.check();
    full.delete((0..next).filter(|id| id % 5 == 0));
    assert!(full.is_renewing(), "deletes do not end it");
    assert!(full.put(next..next + 50, 1), "service resumes");
    full.replace_until(1, false);
    full.check();
    full.items.optimize().unwrap();
    full.check();
}

#[test]
fn a_budget_holds_while_lists_are_trained_anew_and_writes_are_taken_or_refused_as_a_whole() {
    for spec in ["IVF", "IVF,SQ8", "IVF,PQ8x4fs"] {
        let engine = Engine::builder().workers(1).pool_threads(1).build().unwrap();
        let config = CollectionConfig::new(DIM, Metric::L2).index(spec.parse().unwrap());
        let items = engine.create_collection("items", config.memory_budget(BUDGET)).unwrap();
        let items = items.backpressure(Backpressure::WaitAtMost(Duration::from_millis(300)));
        let (is_over, most_used) = (AtomicBool::new(false), AtomicUsize::new(0));
        let mut full = Full { items, versions: BTreeMap::new(), refused: 0 };
        thread::scope(|scope| {
            let items = full.items.clone();
            let (is_over, most_used) = (&is_over, &most_used);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let stats = items.stats();
                    assert!(stats.bytes.total() <= stats.budget.used.max(BUDGET), "{stats:?}");
                    most_used.fetch_max(stats.budget.used, Ordering::Relaxed);
                    thread::yield_now();
                }
            });
            let outcome =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fill_renew_and_delete(&mut full)));
            is_over.store(true, Ordering::Relaxed);
            if let Err(told) = outcome {
                std::panic::resume_unwind(told);
            }
        });
        let most_used = most_used.into_inner();
        assert!(most_used <= BUDGET && most_used > BUDGET / 10 * 9, "{spec}: {most_used} of {BUDGET}");
        engine.close().unwrap();
    }
}

/// Longer than it takes to come to the limit, and than a shard waits there for readers of older
/// versions.
const LONG: Duration = Duration::from_millis(4_500);

/// What does not end within it never ends: what the tests wait for takes some seconds, on a machine
/// that has other work as well a minute.
const PATIENCE: Duration = Duration::from_secs(300);

/// A collection with room for some more records.
fn nearly_full(engine: &Engine, spec: &str) -> (Collection, u64) {
    let config = CollectionConfig::new(DIM, Metric::L2).index(spec.parse().unwrap());
    let items = engine.create_collection("items", config.memory_budget(BUDGET)).unwrap();
    let items = items.backpressure(Backpressure::Reject);
    let mut full = 0;
    while items.upsert_batch((full..full + 50).map(|id| Record::new(id, vector(id, 0)))).is_ok() {
        full += 50;
        items.flush().unwrap();
    }
    items.delete_batch(0..full / 3).unwrap().wait().unwrap();
    items.optimize().unwrap();
    // So no shard waits for memory.
    items.upsert_batch((full - 50..full).map(|id| Record::new(id, vector(id, 0)))).unwrap().wait().unwrap();
    (items, full)
}

/// Replaces records for a long time, those of all chunks in turn, before what holds others up is
/// released: the budget holds all the while.
fn replace_for_long(items: &Collection, full: u64, release: mpsc::Sender<()>) {
    let (began, mut most_used, mut replaced) = (Instant::now(), 0, 0u64);
    for at in (0..).take_while(|_| began.elapsed() < LONG) {
        let id = mix(at) % full;
        replaced += u64::from(items.upsert(Record::new(id, vector(id, 1))).is_ok());
        most_used = most_used.max(items.stats().budget.used);
    }
    assert!(replaced > 0 && most_used > BUDGET / 2, "{replaced} replaced, {most_used} used");
    assert!(most_used <= BUDGET, "{most_used} of {BUDGET}: {:?}", items.config().index_spec());
    drop(release);
    items.flush().unwrap();
    assert!(items.verify().unwrap().is_sound());
}

#[test]
fn a_budget_holds_however_long_the_pool_has_something_else_to_do() {
    for spec in ["IVF,PQ8x4fs", "HNSW16"] {
        let engine = Engine::builder().workers(1).pool_threads(1).build().unwrap();
        let (items, full) = nearly_full(&engine, spec);
        let (release, held) = mpsc::channel::<()>();
        let wait = move |_: &dyn crate::index::Executor| _ = held.recv();
        engine.owner.core.pool.spawn(Width::All, Box::new(wait));
        replace_for_long(&items, full, release);
    }
}

/// Holds the second worker up until the sender is dropped.
fn hold(engine: &Engine) -> mpsc::Sender<()> {
    let (release, until) = mpsc::channel();
    let worker = &engine.owner.core.writes[1];
    let permit = worker.acquire(Backpressure::Wait).unwrap();
    worker.send(permit, WriteCommand::Hold { until }).unwrap();
    release
}

/// Replacements, more than a shard at its limit takes while another one lags.
const WRITES: usize = 8_000;

/// Gives what `work` gives, which may not wait without end.
fn ends<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, is_done) = mpsc::channel();
    let thread = thread::Builder::new().spawn(move || done.send(work())).unwrap();
    let outcome = is_done.recv_timeout(PATIENCE);
    assert!(!matches!(outcome, Err(mpsc::RecvTimeoutError::Timeout)), "{what} waits without end");
    thread.join().unwrap().unwrap();
    outcome.unwrap()
}

#[test]
fn a_budget_holds_however_far_one_shard_is_behind_another() {
    for spec in ["IVF,PQ8x4fs", "HNSW16"] {
        let engine = Engine::builder().workers(2).pool_threads(1).build().unwrap();
        let (items, full) = nearly_full(&engine, spec);
        let release = hold(&engine);
        replace_for_long(&items, full, release);
    }
}

#[test]
fn a_shard_that_waits_for_another_ends_when_the_collection_is_dropped() {
    // The mailbox of the worker that is held up must have a place for the end of the collection.
    let builder = Engine::builder().workers(2).pool_threads(1).mailbox_work(PATIENCE);
    let engine = builder.mailbox_capacity(2 * WRITES).build().unwrap();
    let (items, full) = nearly_full(&engine, "HNSW16");
    let release = hold(&engine);
    let began = Instant::now();
    for at in (0..WRITES as u64).take_while(|_| began.elapsed() < LONG / 2) {
        let id = mix(at) % full;
        let _ = items.upsert(Record::new(id, vector(id, 1)));
    }
    let engine = ends("dropping", move || {
        engine.drop_collection("items").unwrap();
        engine
    });
    drop((items, release));
    ends("an engine", move || engine.close().unwrap());
}

#[test]
fn a_log_that_brings_all_shards_to_their_limit_is_replayed() {
    let folder = std::env::temp_dir().join(format!("vecino-budgets-{}", std::process::id()));
    let builder = || Engine::builder().workers(2).pool_threads(1);
    let _ = std::fs::remove_dir_all(&folder);
    let engine = builder().open(&folder).unwrap();
    let (items, full) = nearly_full(&engine, "HNSW16");
    for version in 1..4 {
        for id in 0..full {
            let _ = items.upsert(Record::new(id, vector(id, version)));
        }
    }
    let items = ends("a flush", move || {
        items.flush().unwrap();
        items
    });
    let held = items.len();
    drop(items);
    ends("an engine", move || engine.close().unwrap());
    let again = folder.clone();
    let engine = ends("opening", move || builder().open(&again).unwrap());
    let items = engine.collection("items").unwrap();
    assert!(items.len() == held && items.verify().unwrap().is_sound());
    drop(items);
    engine.close().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

// Its own shard has nothing to tell any more.
#[test]
fn who_waits_for_memory_hears_that_another_shard_failed() {
    let engine = super::engine();
    let config = CollectionConfig::new(DIM, Metric::L2).index(IndexSpec::Flat).memory_budget(BUDGET);
    let items = engine.create_collection("items", config).unwrap();
    let impatient = items.backpressure(Backpressure::Reject);
    let mut ids = (0..).filter(|id: &u64| shard_of(&(*id).into(), super::WORKERS) == 0);
    let mut refused = 0;
    while refused < 2 {
        let id = ids.next().unwrap();
        match impatient.upsert(Record::new(id, vector(id, 0))) {
            Ok(_) => refused = 0,
            Err(WriteError::Budget { .. }) => {
                refused += 1;
                items.flush().unwrap();
            }
            Err(WriteError::Full { .. }) => _ = items.flush().unwrap(),
            Err(other) => panic!("{other}"),
        }
    }
    let id = ids.next().unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| items.upsert(Record::new(id, vector(id, 0))).map(drop));
        (0..3).for_each(|_| super::inject(&items, false));
        let told = waiting.join().unwrap();
        assert!(matches!(told, Err(WriteError::Gone(Gone::ShardFailed { shard: 1, .. }))), "{told:?}");
    });
    engine.close().unwrap();
}
