//! Goal: a full mailbox makes writers wait, wait for a while, or give up, as
//! they chose; nothing that was accepted is lost, nothing that was refused
//! leaves a trace, and no mailbox ever holds more than its capacity.
//!
//! Method: one large batch into a graph that is slow to build stalls its
//! shard; the writes behind it fill the mailbox. A thread reads the depths of
//! the mailboxes all the while. (The stall is work, not sleep: it lasts
//! seconds, and the tests say so when it was too short to show anything.)

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test may fail loudly")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Rng, block_on, clustered, eventually, watchdog};
use vecino::{
    Backpressure, Collection, CollectionConfig, Engine, HnswConfig, IndexSpec, Metric, Query, Record, Write,
    WriteError,
};

const DIM: usize = 64;
const CAPACITY: usize = 4;

/// Rows of the batch that stalls a shard.
const STALL_ROWS: usize = 4_000;

/// Ids of the stalling batch begin here.
const STALL_IDS: u64 = 1_000_000;

/// A call that does not wait returns within this, also on a busy machine.
const AT_ONCE: Duration = Duration::from_millis(250);

fn engine(workers: usize, capacity: usize) -> Engine {
    Engine::builder().workers(workers).mailbox_capacity(capacity).pool_threads(1).build().unwrap()
}

fn slow_collection(engine: &Engine, name: &str) -> Collection {
    let graph = HnswConfig::default().m(32).ef_construction(1_000);
    let config = CollectionConfig::new(DIM, Metric::L2).index(IndexSpec::Hnsw(graph));
    engine.create_collection(name, config).unwrap()
}

fn record(id: u64) -> Record {
    let mut rng = Rng::new(id);
    Record::new(id, (0..DIM).map(|_| rng.signed()).collect::<Vec<f32>>())
}

/// Starts a batch that keeps its shards busy for seconds.
fn stall(items: &Collection, ids: impl Iterator<Item = u64>) -> Write {
    let vectors = clustered(8, STALL_ROWS, DIM, 30);
    items.upsert_batch(ids.zip(vectors).map(|(id, vector)| Record::new(id, vector))).unwrap()
}

/// Stalls the only shard and fills its mailbox.
fn fill(items: &Collection) -> Write {
    let stalled = stall(items, STALL_IDS..);
    for id in 0..CAPACITY as u64 - 1 {
        let _ = items.upsert(record(id)).unwrap();
    }
    stalled
}

fn assert_stalled(stalled: &Write) {
    assert!(!stalled.is_visible(), "the stall was too short to show anything: raise STALL_ROWS");
}

/// Reads the depths of the mailboxes while `work` runs; gives the greatest.
fn watching_depths<T>(engine: &Engine, capacity: usize, work: impl FnOnce() -> T) -> (T, usize) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut deepest = 0;
            while !over.load(Ordering::Relaxed) {
                let stats = engine.stats();
                assert_eq!(stats.mailbox_capacity, capacity);
                deepest = stats.mailbox_depths.into_iter().fold(deepest, usize::max);
                thread::yield_now();
            }
            deepest
        });
        let outcome = work();
        over.store(true, Ordering::Relaxed);
        (outcome, watcher.join().unwrap())
    })
}

fn full(outcome: Result<Write, WriteError>) -> (usize, Duration) {
    match outcome {
        Err(WriteError::Full { worker, capacity, waited, .. }) => {
            assert_eq!(capacity, CAPACITY);
            (worker, waited)
        }
        other => panic!("{other:?} instead of a full mailbox"),
    }
}

#[test]
fn a_full_mailbox_refuses_makes_wait_for_a_while_or_until_there_is_a_place() {
    let _watchdog = watchdog(120);
    let engine = engine(1, CAPACITY);
    let items = slow_collection(&engine, "items");
    let ((), deepest) = watching_depths(&engine, CAPACITY, || {
        let stalled = fill(&items);
        check_reject(&items.backpressure(Backpressure::Reject));
        check_wait_at_most(&items);
        assert_stalled(&stalled);
        let waited = items.upsert(record(500)).unwrap();
        assert!(stalled.seq() < waited.seq());
        assert_eq!(engine.stats().mailbox_depths.len(), 1);
        waited.wait().unwrap();
    });
    assert_eq!(deepest, CAPACITY, "the mailbox must have been full, and never fuller");
    check_contents(&items);
    eventually("all places are given back", || engine.stats().mailbox_depths == [0]);
    let _ = items.backpressure(Backpressure::Reject).upsert(record(501)).unwrap();
}

fn check_reject(impatient: &Collection) {
    let mut took = Vec::new();
    for id in 100..150 {
        let started = Instant::now();
        assert_eq!(full(impatient.upsert(record(id))), (0, Duration::ZERO));
        assert_eq!(full(impatient.upsert_batch([record(id), record(id + 100)])).0, 0);
        assert_eq!(full(impatient.delete(STALL_IDS)).0, 0);
        assert_eq!(full(block_on(impatient.upsert_async(record(id)))).0, 0);
        took.push(started.elapsed());
    }
    took.sort();
    assert!(took[25] < AT_ONCE / 50, "four refusals took {took:?}");
}

fn check_wait_at_most(items: &Collection) {
    let limit = Duration::from_millis(60);
    let patient = items.backpressure(Backpressure::WaitAtMost(limit));
    let wait = || {
        let started = Instant::now();
        let (_, waited) = full(patient.upsert(record(300)));
        let took = started.elapsed();
        assert!(waited >= limit && took >= waited, "waited {waited:?}, took {took:?}");
        took
    };
    let took: Vec<Duration> = (0..3).map(|_| wait()).collect();
    assert!(took.iter().any(|took| *took < limit + AT_ONCE), "waited for {limit:?}, took {took:?}");
}

/// What was accepted is there, what was refused is not.
fn check_contents(items: &Collection) {
    items.flush().unwrap();
    let accepted = (0..CAPACITY as u64 - 1).chain([500]).chain(STALL_IDS..STALL_IDS + STALL_ROWS as u64);
    let mut count = 0;
    for id in accepted {
        assert!(items.contains(id).unwrap(), "{id} is lost");
        count += 1;
    }
    assert_eq!(items.len(), count, "something refused left a trace");
    for id in 0..CAPACITY as u64 - 1 {
        assert_eq!(items.get(id).unwrap().unwrap(), record(id));
    }
}

// A stalled collection holds one place, so the other one has the rest: its
// writes become visible and its searches are answered meanwhile.
#[test]
fn another_collection_on_the_same_worker_goes_on_while_one_is_stalled() {
    let _watchdog = watchdog(120);
    let engine = engine(1, CAPACITY);
    let (slow, quick) = (slow_collection(&engine, "slow"), slow_collection(&engine, "quick"));
    slow.upsert(record(1)).unwrap().wait().unwrap();
    let stalled = stall(&slow, STALL_IDS..);
    let mut took = Vec::new();
    for id in 0..100 {
        let started = Instant::now();
        quick.upsert(record(id)).unwrap().wait().unwrap();
        let answer = block_on(quick.search_async(Query::new(record(id).vector()).top(1))).unwrap();
        assert_eq!((answer.hits()[0].id.as_num(), answer.hits()[0].distance), (Some(id), 0.0));
        let of_slow = slow.search(&Query::new(record(1).vector()).top(5)).unwrap().len();
        if stalled.is_visible() {
            break;
        }
        assert_eq!(of_slow, 1);
        took.push(started.elapsed());
    }
    // One or the other may have been held up by other work, and all may be slower than the stall is long.
    took.sort();
    assert!(took.len() > 20, "the stall was too short to show anything: raise STALL_ROWS");
    assert!(took[took.len() / 2] < AT_ONCE, "a write and a search took {took:?}");
    stalled.wait().unwrap();
    assert_eq!(slow.len(), STALL_ROWS + 1);
}

/// Which of two workers a numeric id belongs to, found by writing it.
fn workers_of(ids: std::ops::Range<u64>) -> Vec<Vec<u64>> {
    let engine = Engine::builder().workers(2).build().unwrap();
    let config = CollectionConfig::new(1, Metric::L2).index(IndexSpec::Flat);
    let items = engine.create_collection("probe", config).unwrap();
    let mut owned = vec![Vec::new(), Vec::new()];
    for id in ids {
        items.upsert(Record::new(id, [1.0])).unwrap().wait().unwrap();
        let first = items.stats().shards[0];
        let grew = first.tail + first.indexed > owned[0].len();
        owned[usize::from(!grew)].push(id);
    }
    owned
}

#[test]
fn a_batch_that_one_of_its_workers_refuses_gives_back_the_places_of_the_others() {
    let _watchdog = watchdog(120);
    let owned = workers_of(0..2 * STALL_ROWS as u64 + 1_000);
    let engine = engine(2, CAPACITY);
    let items = slow_collection(&engine, "items");
    let (free, busy) = (&owned[0], &owned[1]);
    let stalled = stall(&items, busy[CAPACITY..].iter().copied());
    for id in &busy[..CAPACITY - 1] {
        let _ = items.upsert(record(*id)).unwrap();
    }
    let impatient = items.backpressure(Backpressure::Reject);
    for id in &free[..50] {
        let both = [record(*id), record(busy[CAPACITY - 1])];
        assert_eq!(full(impatient.upsert_batch(both)).0, 1);
    }
    eventually("the other worker's places are free", || engine.stats().mailbox_depths[0] == 0);
    for id in &free[50..50 + CAPACITY] {
        let _ = impatient.upsert(record(*id)).unwrap();
    }
    assert_stalled(&stalled);
    items.flush().unwrap();
    assert_eq!(items.len(), STALL_ROWS + CAPACITY - 1 + CAPACITY);
    assert!(free[..50].iter().chain([&busy[CAPACITY - 1]]).all(|id| !items.contains(*id).unwrap()));
}

// The least capacity and many writers, each needing places of several
// workers: nobody waits for ever, and every accepted write is there.
#[test]
fn one_place_for_each_worker_is_enough_for_many_writers() {
    let _watchdog = watchdog(120);
    const WRITERS: u64 = 6;
    const WRITES: u64 = 400;
    let engine = engine(3, 1);
    let config = CollectionConfig::new(DIM, Metric::L2).index(IndexSpec::Flat);
    let items = engine.create_collection("items", config).unwrap();
    let ((), deepest) = watching_depths(&engine, 1, || {
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let items = &items;
                scope.spawn(move || write_in_turn(items, writer * WRITES * 4, WRITES));
            }
        });
        items.flush().unwrap();
    });
    assert_eq!(deepest, 1);
    assert_eq!(items.len() as u64, WRITERS * WRITES * 4);
    assert_eq!(items.snapshot().seq().0, WRITERS * WRITES);
    assert!(items.verify().unwrap().is_sound());
}

/// Batches of four, written in every way there is to wait for a place.
fn write_in_turn(items: &Collection, first: u64, writes: u64) {
    let impatient = items.backpressure(Backpressure::Reject);
    let patient = items.backpressure(Backpressure::WaitAtMost(Duration::from_secs(30)));
    for n in 0..writes {
        let batch = || (0..4).map(|at| record(first + n * 4 + at));
        let write = match n % 4 {
            0 => items.upsert_batch(batch()),
            1 => patient.upsert_batch(batch()),
            2 => block_on(items.upsert_batch_async(batch())),
            _ => loop {
                match impatient.upsert_batch(batch()) {
                    Err(WriteError::Full { capacity: 1, .. }) => thread::yield_now(),
                    other => break other,
                }
            },
        };
        let write = write.unwrap();
        if n % 16 == 0 {
            write.wait().unwrap();
        }
    }
}
