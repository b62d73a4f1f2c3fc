//! Goal: an engine ends promptly and completely, whatever is going on: every
//! call returns an answer or "closed" within a second, no thread is left, and
//! held snapshots go on answering.
//!
//! Method: thousands of requests of every kind are in flight when several
//! threads close the engine, drop it, or drop the collection; the time from
//! then to the return of every call is measured, and the threads of the
//! process are counted by name. The tests of this file run one after another.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may fail loudly"
)]

mod common;

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use common::{Rng, block_on, clustered, drive, eventually, index_specs, patience, poll_once, watchdog};
use vecino::{
    Backpressure, Collection, CollectionConfig, CollectionError, Engine, Gone, IndexSpec, Metric, Query,
    ReadError, Record, SearchError, Seq, Snapshot, WaitError, WriteError,
};

const DIM: usize = 16;

/// Requests whose futures are pending when the engine is closed.
const IN_FLIGHT: usize = 10_000;

/// Every call returns within this time after the end began.
const LIMIT: Duration = Duration::from_secs(10);

/// The same with [`patience`].
fn limit() -> Duration {
    LIMIT * patience()
}

fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The engine's threads in this process, by their names. None on systems that
/// do not tell.
fn engine_threads() -> Vec<String> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("vecino-")).collect()
}

/// A joined thread stays listed for a moment, until the system has buried it.
fn assert_no_threads() {
    eventually("no thread of an engine is left", || engine_threads().is_empty());
}

fn vector(rng: &mut Rng) -> Vec<f32> {
    (0..DIM).map(|_| rng.signed()).collect()
}

fn filled(workers: usize, index: IndexSpec, rows: usize) -> (Engine, Collection) {
    let engine = Engine::builder().workers(workers).mailbox_capacity(64).pool_threads(2).build().unwrap();
    let config = CollectionConfig::new(DIM, Metric::L2).index(index);
    let items = engine.create_collection("items", config).unwrap();
    let vectors = clustered(1, rows, DIM, 20).into_iter().enumerate();
    items.upsert_batch(vectors.map(|(id, vector)| Record::new(id as u64, vector))).unwrap().wait().unwrap();
    (engine, items)
}

/// What callers share: when the end began, and what became of their calls.
#[derive(Default)]
struct Watch {
    ending: OnceLock<Instant>,
    answered: AtomicUsize,
    refused: AtomicUsize,
}

/// What a call may come to: an answer, or why there will be none.
enum End {
    Answer,
    Gone(Gone),
}

fn of_write(error: WriteError) -> End {
    match error {
        WriteError::Full { .. } => End::Answer,
        WriteError::Gone(gone) => End::Gone(gone),
        other => panic!("{other:?}"),
    }
}

fn of_wait(error: WaitError) -> End {
    match error {
        WaitError::Gone(gone) => End::Gone(gone),
        WaitError::Timeout { .. } => End::Answer,
        other => panic!("{other:?}"),
    }
}

fn of_search(error: SearchError) -> End {
    match error {
        SearchError::Gone(gone) => End::Gone(gone),
        SearchError::AtLeast(error) => of_wait(error),
        SearchError::Full { .. } => End::Answer,
        other => panic!("{other:?}"),
    }
}

impl Watch {
    /// Notes what became of a call; false when the engine is gone.
    fn note(&self, end: End, expected: &Gone) -> bool {
        if let Some(began) = self.ending.get() {
            assert!(began.elapsed() < limit(), "a call returned {:?} after the end", began.elapsed());
        }
        match end {
            End::Answer => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                true
            }
            End::Gone(gone) => {
                assert_eq!(&gone, expected);
                assert!(self.ending.get().is_some(), "gone before its end");
                self.refused.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }
}

/// Writes, under one backpressure, until the end.
fn write_until_gone(items: &Collection, watch: &Watch, expected: &Gone, seed: u64) {
    let mut rng = Rng::new(seed);
    loop {
        let id = rng.below(5_000) as u64;
        let written = match rng.below(4) {
            0 => items.upsert_batch((id..id + 20).map(|id| Record::new(id, vector(&mut rng)))),
            1 => items.delete(id),
            _ => items.upsert(Record::new(id, vector(&mut rng))),
        };
        let waited = match written {
            Ok(write) if rng.once_in(8) => write.wait().map_or_else(of_wait, |_| End::Answer),
            Ok(_) => End::Answer,
            Err(error) => of_write(error),
        };
        if !watch.note(waited, expected) {
            return;
        }
    }
}

/// Reads and maintains in every blocking way until the end.
fn read_until_gone(items: &Collection, watch: &Watch, expected: &Gone, seed: u64) {
    let mut rng = Rng::new(seed);
    loop {
        let query = vector(&mut rng);
        let query = Query::new(&query);
        let end = match rng.below(6) {
            0 => items.flush().map_or_else(of_wait, |_| End::Answer),
            1 => items.optimize().map_or_else(of_wait, |_| End::Answer),
            2 => items.search_batch(&vec![query; 100]).map_or_else(of_search, |_| End::Answer),
            3 => block_on(items.search_async(query)).map_or_else(of_search, |_| End::Answer),
            4 => {
                items.search(&query.at_least(items.stats().last_seq)).map_or_else(of_search, |_| End::Answer)
            }
            _ => items.search(&query.exact()).map_or_else(of_search, |_| End::Answer),
        };
        if !watch.note(end, expected) {
            return;
        }
    }
}

type Pending<'a> = Pin<Box<dyn Future<Output = End> + 'a>>;

/// Futures of every kind, polled once: most of them wait for a place.
fn in_flight(items: &Collection, count: usize) -> Vec<Pending<'_>> {
    let mut rng = Rng::new(77);
    let mut pending: Vec<Pending<'_>> = Vec::new();
    for n in 0..count {
        let vector = vector(&mut rng);
        let mut future: Pending<'_> = match n % 4 {
            0 | 1 => Box::pin(async move {
                items.search_async(Query::new(vector)).await.map_or_else(of_search, |_| End::Answer)
            }),
            2 => Box::pin(async move {
                items.upsert_async(Record::new(n as u64, vector)).await.map_or_else(of_write, |_| End::Answer)
            }),
            _ => Box::pin(async move {
                match items.delete_async(n as u64).await {
                    Ok(write) => write.wait_async().await.map_or_else(of_wait, |_| End::Answer),
                    Err(error) => of_write(error),
                }
            }),
        };
        if poll_once(future.as_mut()).is_pending() {
            pending.push(future);
        }
    }
    pending
}

/// Puts every kind of load on a collection, ends it with `end`, and sees that
/// everybody is told in time.
fn end_under_load(items: &Collection, expected: &Gone, end: impl FnOnce() + Send) {
    let watch = Watch::default();
    let pressures =
        [Backpressure::Wait, Backpressure::WaitAtMost(Duration::from_millis(2)), Backpressure::Reject];
    let ready = Barrier::new(pressures.len() + 3);
    thread::scope(|scope| {
        let (watch, ready) = (&watch, &ready);
        for (seed, pressure) in pressures.into_iter().enumerate() {
            let items = items.backpressure(pressure);
            scope.spawn(move || {
                ready.wait();
                write_until_gone(&items, watch, expected, seed as u64);
            });
        }
        scope.spawn(move || {
            ready.wait();
            read_until_gone(items, watch, expected, 9);
        });
        scope.spawn(move || {
            let futures = in_flight(items, IN_FLIGHT);
            let waiting = futures.len();
            ready.wait();
            drive(futures, |end| {
                watch.note(end, expected);
            });
            eprintln!("{waiting} of {IN_FLIGHT} futures were pending");
            assert!(waiting > IN_FLIGHT / 4, "{waiting} of {IN_FLIGHT} futures were pending");
        });
        ready.wait();
        watch.ending.set(Instant::now()).unwrap();
        end();
        let took = watch.ending.get().unwrap().elapsed();
        assert!(took < limit(), "ending took {took:?}");
    });
    let took = watch.ending.get().unwrap().elapsed();
    let (answered, refused) = (watch.answered.into_inner(), watch.refused.into_inner());
    eprintln!("all had returned after {took:?}: {answered} answers, {refused} refusals");
    assert!(took < limit(), "the last call returned after {took:?}");
    assert!(refused >= 4, "every thread must have met the end");
}

fn check_snapshot(snapshot: &Snapshot, rows: usize) {
    assert_eq!(snapshot.len(), rows);
    let query = vec![0.5; DIM];
    let one = snapshot.search(&Query::new(&query).top(5)).unwrap();
    assert_eq!(one.len(), 5);
    let many = snapshot.search_batch(&vec![Query::new(&query).top(5); 40]).unwrap();
    assert!(many.iter().all(|answer| answer.hits() == one.hits()));
    assert_eq!(snapshot.scroll(None, usize::MAX).unwrap().records.len(), rows);
    assert!(snapshot.get(0).unwrap().is_some() && !snapshot.contains("absent"));
    assert!(snapshot.verify().unwrap().is_sound());
}

/// Every way of asking says that the engine is closed.
fn check_refused(items: &Collection, gone: &Gone) {
    let query = || Query::new(vec![0.5; DIM]);
    let record = || Record::new(1, vec![0.5; DIM]);
    assert_eq!(items.upsert(record()).unwrap_err(), WriteError::Gone(gone.clone()));
    assert_eq!(items.upsert_batch([record()]).unwrap_err(), WriteError::Gone(gone.clone()));
    assert_eq!(block_on(items.upsert_async(record())).unwrap_err(), WriteError::Gone(gone.clone()));
    assert_eq!(items.delete(1).unwrap_err(), WriteError::Gone(gone.clone()));
    assert_eq!(items.search(&query()).unwrap_err(), SearchError::Gone(gone.clone()));
    assert_eq!(items.search_batch(&[query()]).unwrap_err(), SearchError::Gone(gone.clone()));
    assert_eq!(block_on(items.search_async(query())).unwrap_err(), SearchError::Gone(gone.clone()));
    assert_eq!(items.get(1).unwrap_err(), ReadError::Gone(gone.clone()));
    assert_eq!(items.verify().unwrap_err(), ReadError::Gone(gone.clone()));
    assert_eq!(items.optimize().unwrap_err(), WaitError::Gone(gone.clone()));
}

#[test]
fn closing_under_load_from_several_threads_tells_everybody_within_a_second() {
    let _turn = one_at_a_time();
    let _watchdog = watchdog(120);
    for (workers, index) in [(1, IndexSpec::Flat), (1, IndexSpec::graph()), (3, IndexSpec::hnsw())] {
        let (engine, items) = filled(workers, index, 3_000);
        // A thread has its name once it has run for the first time.
        let are_named = || engine_threads().len() >= workers + 3 || engine_threads().is_empty();
        eventually("threads have their names", are_named);
        let snapshot = items.snapshot();
        end_under_load(&items, &Gone::Closed, || {
            thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| (0..2).for_each(|_| engine.close().unwrap()));
                }
            });
            assert_no_threads();
        });
        check_snapshot(&snapshot, 3_000);
        check_refused(&items, &Gone::Closed);
        assert!(matches!(engine.collection("items"), Err(CollectionError::Gone(Gone::Closed))));
        let config = CollectionConfig::new(2, Metric::L2);
        assert_eq!(engine.create_collection("new", config).unwrap_err(), CollectionError::Gone(Gone::Closed));
        engine.close().unwrap();
        assert!(items.stats().rows >= 1 && engine.stats().collections == 1);
    }
}

#[test]
fn dropping_the_last_handle_under_load_closes_the_engine() {
    let _turn = one_at_a_time();
    let _watchdog = watchdog(120);
    for index in index_specs() {
        let (engine, items) = filled(2, index, 1_000);
        let snapshot = items.snapshot();
        let second = engine.clone();
        drop(engine);
        items.upsert(Record::new(1, vec![1.0; DIM])).unwrap().wait().unwrap();
        end_under_load(&items, &Gone::Closed, move || drop(second));
        assert_no_threads();
        check_snapshot(&snapshot, 1_000);
        check_refused(&items, &Gone::Closed);
    }
}

#[test]
fn dropping_a_collection_under_load_leaves_the_others_alone() {
    let _turn = one_at_a_time();
    let _watchdog = watchdog(120);
    let (engine, _items) = filled(2, IndexSpec::graph(), 500);
    let config = CollectionConfig::new(DIM, Metric::L2);
    let other = engine.create_collection("other", config).unwrap();
    for round in 0..4u64 {
        let items = engine.collection("items").unwrap();
        let snapshot = items.snapshot();
        let gone = Gone::Dropped("items".to_owned());
        end_under_load(&items, &gone, || engine.drop_collection("items").unwrap());
        check_snapshot(&snapshot, 500);
        check_refused(&items, &gone);
        assert!(matches!(engine.collection("items"), Err(CollectionError::NotFound(_))));
        other.upsert(Record::new(round, vec![1.0; DIM])).unwrap().wait().unwrap();
        assert_eq!(other.len(), round as usize + 1);
        let again = engine.create_collection("items", config).unwrap();
        assert_eq!((again.len(), again.snapshot().seq()), (0, Seq(0)));
        let vectors = clustered(1, 500, DIM, 20).into_iter().enumerate();
        let records = vectors.map(|(id, vector)| Record::new(id as u64, vector));
        again.upsert_batch(records).unwrap().wait().unwrap();
    }
    eventually("the places in the mailboxes are given back", || {
        engine.stats().mailbox_depths.iter().all(|depth| *depth == 0) && engine.stats().coordinator_depth == 0
    });
}

#[test]
fn two_hundred_engines_in_a_row_leave_no_thread() {
    let _turn = one_at_a_time();
    let _watchdog = watchdog(120);
    let mut kept = Vec::new();
    for round in 0..200u64 {
        let engine = Engine::builder().workers(1 + round as usize % 3).pool_threads(2).build().unwrap();
        let config = CollectionConfig::new(2, Metric::L2);
        let items = engine.create_collection("items", config).unwrap();
        items.upsert_batch((0..300).map(|id| Record::new(id, [id as f32, 1.0]))).unwrap().wait().unwrap();
        match round % 4 {
            0 => engine.close().unwrap(),
            1 => kept.push((Some(items), None)),
            2 => kept.push((None, Some(items.snapshot()))),
            _ => {}
        }
        drop(engine);
        assert_no_threads();
    }
    for (items, snapshot) in kept {
        let snapshot = snapshot.or(items.map(|items| items.snapshot())).unwrap();
        assert_eq!(snapshot.search(&Query::new(&[7.0, 1.0]).top(1)).unwrap().hits()[0].id.as_num(), Some(7));
    }
}

// The second write is held back by the pace, so the searches wait for it; they
// are dropped before it shows, and must then not be worked on.
#[test]
fn dropped_futures_cost_nothing_further() {
    let _turn = one_at_a_time();
    let _watchdog = watchdog(60);
    const HELD_BACK: Duration = Duration::from_secs(4);
    let engine = Engine::builder().publish_interval(HELD_BACK).build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(DIM, Metric::L2)).unwrap();
    let record = |id: u64| Record::new(id, vec![id as f32; DIM]);
    items.upsert(record(1)).unwrap().wait().unwrap();
    let second = items.upsert(record(2)).unwrap();
    let mut rng = Rng::new(5);
    let futures = in_flight(&items, 3_000);
    assert!(!second.is_visible(), "the machine stood still for {HELD_BACK:?}");
    assert!(futures.len() > 1_000, "{} are pending", futures.len());
    drop(futures);
    items.flush().unwrap();
    let stats = items.stats();
    assert_eq!((stats.searches, stats.distances), (0, 0), "dropped searches were worked on");
    eventually("all places are given back", || {
        let stats = engine.stats();
        stats.coordinator_depth == 0 && stats.mailbox_depths.iter().all(|depth| *depth == 0)
    });
    assert_eq!(block_on(items.search_async(Query::new(vector(&mut rng)).top(1))).unwrap().len(), 1);
}

// Nothing polls the futures any more, but they are not dropped either: whoever
// blocks on the same mailbox must learn of the end all the same.
#[test]
fn futures_that_nobody_polls_do_not_hide_the_end_from_others() {
    let _turn = one_at_a_time();
    let _watchdog = watchdog(60);
    for _ in 0..20 {
        let (engine, items) = filled(2, IndexSpec::graph(), 3_000);
        let futures = in_flight(&items, 3_000);
        let ready = Barrier::new(4);
        thread::scope(|scope| {
            let (items, ready) = (&items, &ready);
            for seed in 0..3 {
                scope.spawn(move || {
                    ready.wait();
                    let mut rng = Rng::new(seed);
                    while items.upsert(Record::new(seed, vector(&mut rng))).is_ok() {}
                });
            }
            ready.wait();
            engine.close().unwrap();
        });
        drop(futures);
        assert_no_threads();
    }
}
