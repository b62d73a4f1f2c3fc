//! Memory budgets, as callers meet them.

#![allow(missing_docs, reason = "a test has no readers of its interface")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test may fail loudly")]

mod common;

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::{Rng, eventually, quick_specs};
use vecino::{
    AutoConfig, Backpressure, BudgetScope, Collection, CollectionConfig, Engine, Gone, GraphConfig,
    HnswConfig, IndexSpec, IvfConfig, Metric, Record, ReindexError, WriteError,
};

const DIM: usize = 64;

/// A budget for some three thousand records of 64 floats without an index.
const BUDGET: usize = 4 << 20;

/// A limit for records with an index.
const LIMIT: usize = 3 * BUDGET;

/// Spread over all directions, so that codes tell them apart.
fn record(id: u64) -> Record {
    let mut rng = Rng::new(id);
    Record::new(id, (0..DIM).map(|_| rng.signed()).collect::<Vec<f32>>())
}

fn flat() -> CollectionConfig {
    CollectionConfig::new(DIM, Metric::L2).index(IndexSpec::Flat)
}

/// A graph that takes less time to build.
fn quick() -> IndexSpec {
    IndexSpec::Graph(GraphConfig::default().ef_construction(20))
}

/// That graph once there are some hundred records.
fn quick_auto() -> IndexSpec {
    let graph = GraphConfig::default().ef_construction(20);
    IndexSpec::Auto(AutoConfig::default().exact_below(900).graph(graph))
}

/// What is counted once a shard has had a moment to look at what it holds: it does
/// so when it has nothing to do for 10 ms.
fn settled(items: &Collection) -> usize {
    let started = std::time::Instant::now();
    let mut least = usize::MAX;
    while started.elapsed() < Duration::from_millis(300) {
        least = least.min(items.stats().budget.used);
        thread::yield_now();
    }
    least
}

fn engine() -> Engine {
    Engine::builder().pool_threads(1).build().unwrap()
}

/// Puts in records from number `first` on until one is refused; gives its number.
fn fill(items: &Collection, first: u64) -> u64 {
    let impatient = items.backpressure(Backpressure::Reject);
    let mut id = first;
    loop {
        match impatient.upsert(record(id)) {
            Ok(_) => id += 1,
            Err(WriteError::Full { .. }) => _ = items.flush().unwrap(),
            Err(WriteError::Budget { .. }) => {
                // What was promised may have been more than was needed, and memory that only
                // older versions needed is given back in a quiet moment.
                match items
                    .backpressure(Backpressure::WaitAtMost(Duration::from_millis(400)))
                    .upsert(record(id))
                {
                    Ok(_) => id += 1,
                    Err(_) => return id,
                }
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_write_beyond_the_budget_is_refused_with_the_numbers_and_changes_nothing() {
    let engine = engine();
    let items = engine.create_collection("items", flat().memory_budget(BUDGET)).unwrap();
    let refused = fill(&items, 0);
    let stats = items.stats();
    assert_eq!(stats.budget.limit, Some(BUDGET));
    assert!(stats.budget.used <= BUDGET && stats.budget.used > BUDGET / 2, "{:?}", stats.budget);
    assert!(stats.bytes.total() <= BUDGET, "{:?}", stats.bytes);
    let impatient = items.backpressure(Backpressure::Reject);
    match impatient.upsert(record(refused)).unwrap_err() {
        WriteError::Budget { scope, budget, used, needed, .. } => {
            assert_eq!((scope, budget), (BudgetScope::Collection, BUDGET));
            assert!(used <= budget && used + needed > budget && needed > 0, "{used} {needed}");
        }
        other => panic!("{other}"),
    }
    let short = items.backpressure(Backpressure::WaitAtMost(Duration::from_millis(20)));
    assert!(matches!(
        short.upsert(record(refused)).unwrap_err(),
        WriteError::Budget { waited, .. } if waited >= Duration::from_millis(20)
    ));
    items.flush().unwrap();
    assert_eq!(items.len() as u64, refused);
    assert!(items.snapshot().get(refused).unwrap().is_none());
}

#[test]
fn a_bulk_write_is_accepted_as_a_whole_or_not_at_all() {
    let engine = engine();
    let items = engine.create_collection("items", flat().memory_budget(BUDGET)).unwrap();
    // Larger than the whole budget: waiting would be in vain.
    let refused = items.upsert_batch((0..10_000).map(record)).unwrap_err();
    assert!(matches!(refused, WriteError::Budget { needed, .. } if needed > BUDGET));
    assert_eq!((items.stats().budget.used, items.flush().unwrap().0), (0, 0));
    items.upsert_batch((0..1_200).map(record)).unwrap().wait().unwrap();
    assert_eq!(items.len(), 1_200);
}

#[test]
fn deletes_and_replacements_are_taken_at_the_limit_and_deletes_make_room() {
    for spec in [IndexSpec::Flat, quick(), IndexSpec::Hnsw(HnswConfig::default().ef_construction(20))] {
        let engine = engine();
        let budget = if spec == IndexSpec::Flat { BUDGET } else { 2 * BUDGET };
        let config = CollectionConfig::new(DIM, Metric::L2).index(spec).memory_budget(budget);
        let items = engine.create_collection("items", config).unwrap();
        let full = fill(&items, 0);
        let impatient = items.backpressure(Backpressure::Reject);
        for round in 0..if spec == IndexSpec::Flat { 2 } else { 1 } {
            for id in 0..full {
                while impatient.upsert(record(id).clone()).is_err_and(|fault| match fault {
                    // Room for so many of them at a time is kept, and no more.
                    WriteError::Full { .. } | WriteError::Budget { .. } => true,
                    other => panic!("{spec:?}, round {round}: {other}"),
                }) {
                    items.flush().unwrap();
                }
            }
            items.optimize().unwrap();
            let bytes = items.stats().bytes;
            assert!(bytes.total() <= budget, "{spec:?}, round {round}: {bytes:?}");
        }
        items.delete_batch(0..full / 2).unwrap().wait().unwrap();
        items.flush().unwrap();
        let again = fill(&items, full);
        assert!(again - full >= full / 3, "{spec:?}: {again} after {full}");
        assert_eq!(items.len() as u64, again - full / 2);
        assert!(items.verify().unwrap().is_sound());
    }
}

/// Puts in batches until one is refused for good; gives how many records there are.
fn fill_in_batches(items: &Collection) -> u64 {
    let patient = items.backpressure(Backpressure::WaitAtMost(Duration::from_millis(300)));
    let mut full = 0;
    loop {
        match patient.upsert_batch((full..full + 100).map(record)) {
            Ok(_) => full += 100,
            Err(WriteError::Full { .. }) => _ = items.flush().unwrap(),
            Err(WriteError::Budget { .. }) => return full,
            Err(other) => panic!("{other}"),
        }
    }
}

/// A collection filled up to that, and how many records there are.
fn filled(engine: &Engine, spec: IndexSpec) -> (Collection, u64) {
    let config = CollectionConfig::new(DIM, Metric::L2).index(spec).memory_budget(LIMIT);
    let items = engine.create_collection("items", config).unwrap();
    let full = fill_in_batches(&items);
    (items, full)
}

/// What is used at most while `change` runs.
fn most_used(items: &Collection, change: impl FnOnce() + Send) -> usize {
    let most = AtomicUsize::new(items.stats().budget.used);
    thread::scope(|scope| {
        let change = scope.spawn(change);
        while !change.is_finished() {
            most.fetch_max(items.stats().budget.used, Ordering::Relaxed);
            thread::yield_now();
        }
    });
    most.into_inner()
}

/// All kinds of index.
fn all_specs() -> impl Iterator<Item = IndexSpec> {
    quick_specs(20).into_iter().chain([quick_auto()])
}

#[test]
fn deletes_at_the_limit_take_nothing_beyond_it() {
    for spec in all_specs() {
        let engine = Engine::builder().pool_threads(1).workers(1).build().unwrap();
        let (items, full) = filled(&engine, spec);
        let before = items.stats().budget.used;
        assert!(before > LIMIT / 10 * 9, "{spec:?}: {before} of {LIMIT}");
        let most = most_used(&items, || {
            for id in (0..full).step_by(7) {
                items.delete(id).unwrap();
            }
            for first in 1..7 {
                items.delete_batch((first..full).step_by(14)).unwrap();
                items.flush().unwrap();
            }
            items.delete_batch(0..full / 2).unwrap().wait().unwrap();
        });
        eprintln!("{spec:?}: {:.3} of the limit", most as f64 / LIMIT as f64);
        assert!(most <= LIMIT, "{spec:?}: {most} of {LIMIT}");
        assert!(fill_in_batches(&items) > full / 2, "{spec:?}: service does not resume");
        assert!(items.verify().unwrap().is_sound());
    }
}

/// What is copied for them lies beside what readers are shown until each write ends.
#[test]
fn records_replaced_in_bulk_near_the_limit_take_nothing_beyond_it() {
    for spec in all_specs() {
        let engine = Engine::builder().pool_threads(1).workers(1).build().unwrap();
        let (items, full) = filled(&engine, spec);
        items.delete_batch((0..full).step_by(3)).unwrap().wait().unwrap();
        let patient = items.backpressure(Backpressure::WaitAtMost(Duration::from_secs(60)));
        let left = |ids: std::ops::Range<u64>| ids.filter(|id| id % 3 != 0).map(record);
        let most = most_used(&items, || {
            for first in (0..full - 500).step_by(500) {
                patient.upsert_batch(left(first..first + 500)).unwrap().wait().unwrap();
            }
            items.delete_batch((0..full).step_by(2)).unwrap().wait().unwrap();
            items.delete_batch((0..full).step_by(5)).unwrap().wait().unwrap();
            items.flush().unwrap();
        });
        eprintln!("{spec:?}: {:.3} of the limit", most as f64 / LIMIT as f64);
        assert!(most <= LIMIT, "{spec:?}: {most} of {LIMIT}");
        assert!(items.verify().unwrap().is_sound());
    }
}

/// What is trained anew in the midst of a write would lie beside what readers are shown until it ends
/// and what the write has made of it by then.
#[test]
fn records_turned_over_by_whole_writes_near_the_limit_take_nothing_beyond_it() {
    for spec in quick_specs(20) {
        let engine = Engine::builder().pool_threads(1).workers(1).build().unwrap();
        let (items, full) = filled(&engine, spec);
        items.delete_batch((0..full).filter(|id| id % 5 > 1)).unwrap().wait().unwrap();
        let patient = items.backpressure(Backpressure::WaitAtMost(Duration::from_secs(60)));
        let most = most_used(&items, || {
            for _ in 0..6 {
                let left = (0..full).filter(|id| id % 5 <= 1);
                patient.upsert_batch(left.map(record)).unwrap().wait().unwrap();
            }
            items.flush().unwrap();
        });
        eprintln!("{spec:?}: {:.3} of the limit", most as f64 / LIMIT as f64);
        assert!(most <= LIMIT, "{spec:?}: {most} of {LIMIT}");
        assert!(items.verify().unwrap().is_sound());
    }
}

/// Vectors of many chunks: those of a view that is shown until the write ends are not
/// copied one after the other.
#[test]
fn large_vectors_replaced_in_bulk_near_the_limit_take_nothing_beyond_it() {
    const WIDE: usize = 768;
    const WIDE_LIMIT: usize = 96 << 20;
    const ROWS: u64 = 10_000;
    let record = |id: u64| {
        let mut rng = Rng::new(id);
        Record::new(id, (0..WIDE).map(|_| rng.signed()).collect::<Vec<f32>>())
    };
    let engine = Engine::builder().pool_threads(1).workers(1).build().unwrap();
    let config = CollectionConfig::new(WIDE, Metric::L2).index(IndexSpec::Flat).memory_budget(WIDE_LIMIT);
    let items = engine.create_collection("items", config).unwrap();
    for first in (0..ROWS).step_by(100) {
        items.upsert_batch((first..first + 100).map(record)).unwrap().wait().unwrap();
    }
    let before = items.stats().budget.used;
    assert!(before > WIDE_LIMIT / 5 * 3, "{before} of {WIDE_LIMIT}");
    let patient = items.backpressure(Backpressure::WaitAtMost(Duration::from_secs(60)));
    let most = most_used(&items, || {
        for round in 0..3 {
            patient.upsert_batch((round..ROWS).step_by(6).map(record)).unwrap().wait().unwrap();
        }
    });
    eprintln!("{:.3} of the limit", most as f64 / WIDE_LIMIT as f64);
    assert!(most <= WIDE_LIMIT, "{most} of {WIDE_LIMIT}");
    assert!(items.verify().unwrap().is_sound());
}

/// The exception that the docs name: beyond two seconds nobody waits for readers.
#[test]
fn what_a_snapshot_keeps_for_long_counts_and_keeps_out_writes_until_it_is_released() {
    let hnsw = IndexSpec::Hnsw(HnswConfig::default().ef_construction(20));
    for spec in [IndexSpec::Flat, quick(), hnsw, IndexSpec::Ivf(IvfConfig::default())] {
        let engine = engine();
        let (items, full) = filled(&engine, spec);
        items.flush().unwrap();
        let snapshot = items.snapshot();
        let patient = items.backpressure(Backpressure::WaitAtMost(Duration::from_millis(50)));
        // Deletes are done however long it is held...
        for first in 0..4 {
            items.delete_batch((first..full).step_by(5)).unwrap().wait().unwrap();
            items.flush().unwrap();
        }
        // ...and writes are accepted as far as there is room beside what it keeps.
        let mut id = full;
        loop {
            match patient.upsert_batch((id..id + 20).map(record)) {
                Ok(_) => id += 20,
                Err(WriteError::Full { .. }) => _ = items.flush().unwrap(),
                Err(WriteError::Budget { .. }) => break,
                Err(other) => panic!("{other}"),
            }
            assert!(id < 10 * full, "{spec:?}: what the snapshot keeps does not count");
        }
        let stats = items.stats();
        assert!(stats.bytes.total() <= stats.budget.used, "{spec:?}: {stats:?}");
        assert_eq!(snapshot.len() as u64, full, "{spec:?}");
        assert!((0..full).all(|id| snapshot.get(id).unwrap().is_some()), "{spec:?}");
        drop(snapshot);
        items.flush().unwrap();
        eventually("there is room again", || fill_in_batches(&items) > 0);
        assert!(settled(&items) <= LIMIT, "{spec:?}");
        assert!(items.verify().unwrap().is_sound());
    }
}

#[test]
fn a_write_waits_until_others_delete() {
    let engine = engine();
    let items = engine.create_collection("items", flat().memory_budget(BUDGET)).unwrap();
    let full = fill(&items, 0);
    thread::scope(|scope| {
        let bulk = scope.spawn(|| items.upsert_batch((full..full + 300).map(record)).unwrap().wait());
        let batch = (full + 300..full + 400).map(record);
        let awaited = scope.spawn(|| block_on(items.upsert_batch_async(batch)).unwrap().wait());
        thread::sleep(Duration::from_millis(50));
        assert!(!bulk.is_finished() && !awaited.is_finished());
        items.delete_batch(0..1_500).unwrap();
        bulk.join().unwrap().unwrap();
        awaited.join().unwrap().unwrap();
    });
    assert_eq!(items.len() as u64, full - 1_100);
}

#[test]
fn whoever_waits_for_memory_is_told_of_the_end() {
    for drops in [true, false] {
        let engine = engine();
        let items = engine.create_collection("items", flat().memory_budget(BUDGET)).unwrap();
        let full = fill(&items, 0);
        thread::scope(|scope| {
            let blocked = scope.spawn(|| items.upsert(record(full)).map(drop));
            let awaited = scope.spawn(|| block_on(items.upsert_async(record(full + 1))).map(drop));
            thread::sleep(Duration::from_millis(50));
            if drops {
                engine.drop_collection("items").unwrap();
            } else {
                engine.close().unwrap();
            }
            for outcome in [blocked.join().unwrap(), awaited.join().unwrap()] {
                let gone = if drops { Gone::Dropped("items".to_owned()) } else { Gone::Closed };
                assert_eq!(outcome, Err(WriteError::Gone(gone)));
            }
        });
    }
}

#[test]
fn the_engines_budget_bounds_all_collections_and_dropping_one_makes_room() {
    let engine = Engine::builder().pool_threads(1).memory_budget(2 * BUDGET).build().unwrap();
    let first = engine.create_collection("first", flat()).unwrap();
    let second = engine.create_collection("second", flat().memory_budget(BUDGET)).unwrap();
    let full = fill(&first, 0);
    match second.backpressure(Backpressure::Reject).upsert_batch((0..1_500).map(record)).unwrap_err() {
        WriteError::Budget { scope, budget, .. } => {
            assert_eq!((scope, budget), (BudgetScope::Engine, 2 * BUDGET))
        }
        other => panic!("{other}"),
    }
    let stats = engine.stats();
    assert_eq!(stats.budget.limit, Some(2 * BUDGET));
    assert!(stats.budget.used <= 2 * BUDGET, "{:?}", stats.budget);
    assert!(stats.budget.used >= first.stats().budget.used);
    let held = first.snapshot();
    engine.drop_collection("first").unwrap();
    drop(first);
    // A snapshot keeps the memory, so it counts.
    assert!(engine.stats().budget.used > BUDGET);
    assert!(held.get(full - 1).unwrap().is_some());
    drop(held);
    let write = second.upsert_batch((0..1_500).map(record)).unwrap();
    write.wait().unwrap();
    eventually("the memory of the first is given back", || engine.stats().budget.used < BUDGET);
}

#[test]
fn writes_that_come_to_nothing_give_back_what_they_were_promised() {
    let engine = Engine::builder().pool_threads(1).workers(2).mailbox_capacity(1).build().unwrap();
    let items = engine.create_collection("items", flat().memory_budget(64 * BUDGET)).unwrap();
    let impatient = items.backpressure(Backpressure::Reject);
    let mut refused = 0;
    for id in 0..2_000 {
        refused += u64::from(impatient.upsert_batch([record(id), record(id + 1)]).is_err());
    }
    items.flush().unwrap();
    assert!(refused > 0);
    items.optimize().unwrap();
    let (used, bytes) = (settled(&items), items.stats().bytes.total());
    let fresh = engine.create_collection("fresh", flat().memory_budget(64 * BUDGET)).unwrap();
    let _ = fresh.upsert_batch((0..items.len() as u64).map(record)).unwrap();
    fresh.optimize().unwrap();
    let least = settled(&fresh);
    assert!(used >= bytes && used < least + (256 << 10), "{used} for {bytes} bytes, {least} afresh");
}

#[test]
fn many_writers_never_go_beyond_the_budget() {
    for spec in quick_specs(20).into_iter().chain([quick_auto()]) {
        let engine = Engine::builder().pool_threads(1).workers(2).build().unwrap();
        let config = CollectionConfig::new(DIM, Metric::L2).index(spec).memory_budget(4 * BUDGET);
        let items = engine.create_collection("items", config).unwrap();
        let writing = AtomicUsize::new(6);
        let (mut most_bytes, mut most_used) = (items.stats(), items.stats());
        thread::scope(|scope| {
            for writer in 0..6 {
                let (items, writing) = (items.backpressure(Backpressure::Reject), &writing);
                scope.spawn(move || {
                    let is_refused = Cell::new(false);
                    // Until the limit was met: some indexes take little.
                    for at in (0..60_000).take_while(|at| *at < 3_000 || !is_refused.get()) {
                        let id = writer * 1_000_000 + at;
                        let outcome = if at % 7 == 6 {
                            items.delete(id - 5)
                        } else if at % 11 == 0 {
                            items.upsert_batch((id..id + 40).map(record))
                        } else {
                            items.upsert(record(id))
                        };
                        match outcome {
                            Ok(_) => {}
                            Err(WriteError::Budget { .. }) => is_refused.set(true),
                            Err(WriteError::Full { .. }) => thread::yield_now(),
                            Err(other) => panic!("{other}"),
                        }
                    }
                    writing.fetch_sub(1, Ordering::Relaxed);
                });
            }
            while writing.load(Ordering::Relaxed) > 0 {
                let stats = items.stats();
                if stats.budget.used > most_used.budget.used {
                    most_used = stats.clone();
                }
                if stats.bytes.total() > most_bytes.bytes.total() {
                    most_bytes = stats;
                }
                thread::sleep(Duration::from_micros(100));
            }
        });
        items.flush().unwrap();
        let (bytes, used) = (most_bytes.bytes.total(), most_used.budget.used);
        for at in [&most_bytes, &most_used] {
            eprintln!(
                "{} used, {} rows, tail {}, dead {}: {:?}",
                at.budget.used, at.rows, at.tail, at.dead, at.bytes
            );
        }
        eprintln!("{spec:?}: {bytes} bytes, {used} used at most, {} rows", items.len());
        assert!(used > 3 * BUDGET && used <= 4 * BUDGET, "{spec:?}: {used} of {}", 4 * BUDGET);
        assert!(bytes <= used, "{spec:?}: {bytes} of {used}");
        assert!(items.verify().unwrap().is_sound());
    }
}

#[test]
fn a_folder_that_holds_more_than_the_budget_is_opened_and_refuses_writes() {
    let folder =
        PathBuf::from(format!("{}/vecino-budget-{}", std::env::temp_dir().display(), std::process::id()));
    let config = flat().memory_budget(BUDGET);
    let engine = Engine::builder().pool_threads(1).open(&folder).unwrap();
    let items = engine.create_collection("items", config).unwrap();
    let free = engine.create_collection("free", flat()).unwrap();
    let full = fill(&items, 0);
    free.upsert_batch((0..9_000).map(record)).unwrap();
    engine.checkpoint().unwrap();
    free.upsert_batch((9_000..10_000).map(record)).unwrap().wait().unwrap();
    engine.close().unwrap();
    drop((items, free, engine));

    let engine = Engine::builder().pool_threads(1).memory_budget(BUDGET).open(&folder).unwrap();
    let (items, free) = (engine.collection("items").unwrap(), engine.collection("free").unwrap());
    assert_eq!((items.len() as u64, free.len(), items.config()), (full, 10_000, config));
    assert!(engine.stats().budget.used > 2 * BUDGET);
    let impatient = free.backpressure(Backpressure::Reject);
    assert!(matches!(impatient.upsert(record(10_000)), Err(WriteError::Budget { .. })));
    impatient.upsert(record(17)).unwrap();
    impatient.delete_batch(0..10_000u64).unwrap();
    impatient.delete_batch(0..10_000u64).unwrap().wait().unwrap();
    engine.drop_collection("items").unwrap();
    drop(items);
    free.upsert(record(10_000)).unwrap().wait().unwrap();
    engine.close().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Polls a future on this thread until it is ready.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::task::Waker::from(std::sync::Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn another_index_is_built_only_where_a_budget_has_room_for_both() {
    let filled = |budget: usize| {
        let engine = Engine::builder().workers(1).build().unwrap();
        let config = CollectionConfig::new(DIM, Metric::L2).index(IndexSpec::Flat).memory_budget(budget);
        let items = engine.create_collection("items", config).unwrap();
        let records = (0..2_000u64).map(|id| Record::new(id, vec![id as f32; DIM]));
        items.upsert_batch(records).unwrap().wait().unwrap();
        (engine, items)
    };
    let (_engine, rich) = filled(1 << 40);
    let used = settled(&rich);
    let (_engine, tight) = filled(used + used / 2);
    let refused = tight.reindex(IndexSpec::graph());
    assert!(matches!(refused, Err(ReindexError::Write(WriteError::Budget { .. }))), "{refused:?}");
    assert_eq!(tight.stats().shards[0].index, "flat");
    tight.upsert(Record::new(1, vec![7.0; DIM])).unwrap().wait().unwrap();
    let (_engine, roomy) = filled(16 * used);
    roomy.reindex(IndexSpec::graph()).unwrap();
    assert_eq!(roomy.stats().shards[0].index, "graph");
    assert!(roomy.stats().budget.used <= 16 * used);
}
