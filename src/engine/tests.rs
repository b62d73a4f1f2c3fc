//! Failure stays where it happened: defects are injected into workers.

mod budgets;
mod crash;
mod overdue;
mod renewals;
mod rescue;
mod shared_codes;
mod sizes;
mod twins;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Collection, CollectionConfig, Engine, IndexSpec};
use crate::error::{Gone, SearchError, WaitError, WriteError};
use crate::id::Seq;
use crate::metric::Metric;
use crate::query::{Completeness, Query};
use crate::shard::{Backpressure, WriteCommand};
use crate::snapshot::{Record, shard_of};

const WORKERS: usize = 2;

fn engine() -> Engine {
    Engine::builder().workers(WORKERS).pool_threads(1).build().unwrap()
}

fn filled(engine: &Engine, name: &str) -> Collection {
    let config = CollectionConfig::new(2, Metric::L2).index(IndexSpec::Flat);
    let items = engine.create_collection(name, config).unwrap();
    items.upsert_batch((0..100).map(|id| Record::new(id, [id as f32, 0.0]))).unwrap().wait().unwrap();
    items
}

/// Sends a defect to worker 1.
fn inject(items: &Collection, whole_worker: bool) {
    let worker = &items.shared.core.writes[1];
    let collection = (!whole_worker).then_some(items.shared.id);
    let permit = worker.acquire(Backpressure::Wait).unwrap();
    // The worker may be gone before `send` returns: then it says so.
    let _ = worker.send(permit, WriteCommand::Panic { collection });
}

/// An id that lives on worker 1.
fn id_of_worker_1() -> u64 {
    (0..).find(|id| shard_of(&(*id).into(), WORKERS) == 1).unwrap()
}

/// Waits until the failure is known, without sleeping: a write to the failed
/// shard never becomes visible, and waiting for it says why.
fn failure(items: &Collection) -> Gone {
    loop {
        let write = match items.upsert(Record::new(id_of_worker_1(), [0.5, 0.5])) {
            Ok(write) => write,
            Err(WriteError::Gone(gone)) => return gone,
            Err(other) => panic!("{other}"),
        };
        match write.wait_timeout(Duration::from_secs(60)) {
            Ok(_) => {}
            Err(WaitError::Gone(gone)) => return gone,
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_defect_in_a_shard_fails_its_collection_for_writing_and_no_other() {
    let engine = engine();
    let (broken, whole) = (filled(&engine, "broken"), filled(&engine, "whole"));
    // One is got over: see `rescue`.
    (0..3).for_each(|_| inject(&broken, false));
    assert_eq!(failure(&broken), Gone::ShardFailed { collection: "broken".into(), shard: 1 });
    assert!(matches!(broken.delete(1), Err(WriteError::Gone(Gone::ShardFailed { .. }))));
    assert!(matches!(broken.optimize(), Err(WaitError::Gone(Gone::ShardFailed { .. }))));
    assert_eq!(broken.search(&Query::new(&[7.0, 0.0]).top(1)).unwrap().hits()[0].id, 7.into());
    whole.upsert(Record::new(id_of_worker_1(), [0.5, 0.5])).unwrap().wait().unwrap();
    assert_eq!(whole.len(), 100);
    engine.close().unwrap();
}

#[test]
fn a_worker_that_ends_fails_every_collection_for_writing_and_reads_go_on() {
    let engine = engine();
    let (a, b) = (filled(&engine, "a"), filled(&engine, "b"));
    inject(&a, true);
    for items in [&a, &b] {
        assert_eq!(failure(items), Gone::ShardFailed { collection: items.name().into(), shard: 1 });
        assert_eq!(items.search(&Query::new(&[7.0, 0.0]).top(1)).unwrap().hits()[0].id, 7.into());
        assert_eq!(items.snapshot().len(), 100);
    }
    engine.close().unwrap();
}

#[test]
fn callers_who_wait_when_a_worker_ends_are_told() {
    let engine = engine();
    let items = filled(&engine, "items");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4).map(|_| scope.spawn(|| failure(&items))).collect();
        // Ends because it is told, or because all that was accepted is visible.
        let searcher = scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                let newest = items.shared.admission.last();
                match items.search(&Query::new(&[1.0, 0.0]).at_least(newest)) {
                    Ok(_) => {}
                    Err(SearchError::AtLeast(WaitError::Gone(Gone::ShardFailed { shard: 1, .. }))) => return,
                    Err(other) => panic!("{other}"),
                }
            }
        });
        inject(&items, true);
        let told: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        over.store(true, Ordering::Release);
        searcher.join().unwrap();
        assert!(told.into_iter().all(|gone| matches!(gone, Ok(Gone::ShardFailed { shard: 1, .. }))));
    });
    engine.close().unwrap();
}

#[test]
fn a_worker_that_ends_gives_back_the_work_that_waited_for_it() {
    let engine = engine();
    let items = filled(&engine, "items");
    let worker = &items.shared.core.writes[1];
    let searching = || items.search_async(Query::new(vec![1.0, 0.0]).top(100));
    let mut searches: Vec<_> = (0..50).map(|_| Box::pin(searching())).collect();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let permit = worker.acquire(Backpressure::Wait).unwrap();
    for id in 0..200 {
        items.upsert(Record::new(id, [id as f32, 1.0])).unwrap();
    }
    for search in &mut searches {
        let _ = search.as_mut().poll(&mut context);
    }
    let _ = worker.send(permit, WriteCommand::Panic { collection: None });
    failure(&items);
    searches.into_iter().for_each(|search| _ = block_on(search));
    let started = std::time::Instant::now();
    let is_idle = |stats: &crate::engine::EngineStats| {
        stats.search_work.is_zero() && stats.mailbox_work.iter().all(Duration::is_zero)
    };
    while !is_idle(&engine.stats()) {
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", engine.stats());
        std::thread::yield_now();
    }
    engine.close().unwrap();
    assert!(is_idle(&engine.stats()));
}

#[test]
fn who_allows_partial_answers_gets_what_the_other_shards_have() {
    let engine = engine();
    let items = filled(&engine, "items");
    let lost = (0..100u64).filter(|id| shard_of(&(*id).into(), WORKERS) == 1).count();
    inject(&items, true);
    let never = items.upsert(Record::new(id_of_worker_1(), [0.5, 0.5]));
    failure(&items);
    let vector = [7.0, 0.0];
    let query = || Query::new(&vector).top(100).at_least(Seq(0));
    assert!(matches!(block_on(items.search_async(query())), Err(SearchError::Failed { shard: 1 })));
    let answer = block_on(items.search_async(query().allow_partial())).unwrap();
    assert_eq!((answer.len(), answer.completeness()), (100 - lost, Completeness::Partial));
    // A write that will never be visible, unless it came too late to be accepted.
    let Ok(never) = never else { return };
    let later = Query::new(&vector).top(100).at_least(never.seq());
    assert!(matches!(items.search(&later), Err(SearchError::AtLeast(_))));
    let answer = items.search(&later.clone().allow_partial()).unwrap();
    assert_eq!((answer.len(), answer.completeness()), (100, Completeness::Partial));
    let answer = block_on(items.search_async(later.allow_partial())).unwrap();
    assert_eq!((answer.len(), answer.completeness()), (100 - lost, Completeness::Partial));
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::yield_now();
    }
}
