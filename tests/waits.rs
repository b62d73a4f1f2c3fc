//! Waits that must end: empty writes, and limits under pressure.

#![allow(missing_docs, unreachable_pub, reason = "a test has no readers of its interface")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may fail loudly"
)]

mod common;

use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use common::block_on;
use vecino::{CollectionConfig, Engine, IndexSpec, Metric, Query, Record, WaitError};

fn flat() -> CollectionConfig {
    CollectionConfig::new(2, Metric::L2).index(IndexSpec::Flat)
}

#[test]
fn an_empty_batch_becomes_visible() {
    for workers in [1, 2] {
        let engine = Engine::builder().workers(workers).build().unwrap();
        let items = engine.create_collection("items", flat()).unwrap();
        let none: Vec<Record> = Vec::new();
        let write = items.upsert_batch(none).unwrap();
        assert!(write.wait_timeout(Duration::from_secs(60)).is_ok(), "workers {workers}");
        let ids: Vec<u64> = Vec::new();
        let write = items.delete_batch(ids).unwrap();
        assert!(write.wait_timeout(Duration::from_secs(60)).is_ok(), "workers {workers}");
    }
}

// A shard that has something to do since covers no later state than its last write, so it was thought.
#[test]
fn a_write_is_shown_before_later_ones_of_other_shards() {
    let interval = Duration::from_millis(300);
    let engine = Engine::builder().workers(2).publish_interval(interval).build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(16, Metric::L2)).unwrap();
    let record = |id: u64| Record::new(id, [(id as f32).sin(); 16].map(|x| x + (id % 97) as f32));
    items.upsert_batch((0..20).map(record)).unwrap().wait().unwrap();
    let bulk: Vec<Record> = (1_000..61_000).map(record).collect();
    let early = items.upsert(record(0)).unwrap();
    let late = items.upsert_batch(bulk).unwrap();
    early.wait_timeout(Duration::from_secs(50)).unwrap();
    assert!(!late.is_visible(), "it waited for all that came after it");
    late.wait().unwrap();
}

// Places were swept only when somebody got one.
#[test]
fn waits_that_were_given_up_keep_nobody_out() {
    let engine = Engine::builder().publish_interval(Duration::from_secs(10)).build().unwrap();
    let [stuck, free] = ["stuck", "free"].map(|name| engine.create_collection(name, flat()).unwrap());
    stuck.upsert(Record::new(1, [0.0, 0.0])).unwrap().wait().unwrap();
    let held_back = stuck.upsert(Record::new(2, [0.0, 0.0])).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let mut waits: Vec<_> = (0..20_000).map(|_| Box::pin(held_back.wait_async())).collect();
    for wait in &mut waits {
        assert!(wait.as_mut().poll(&mut context).is_pending());
    }
    drop(waits);
    // Searches have a bound of their own.
    let mut searches: Vec<_> =
        (0..2_000).map(|_| Box::pin(stuck.search_async(Query::new(vec![0.0, 0.0])))).collect();
    searches.iter_mut().for_each(|search| assert!(search.as_mut().poll(&mut context).is_pending()));
    drop(searches);
    let search = free.search_async(Query::new(vec![0.0, 0.0]));
    assert!(block_on(search).unwrap().is_empty());
    let write = free.upsert(Record::new(1, [0.0, 0.0])).unwrap();
    write.wait_timeout(Duration::from_secs(50)).unwrap();
    assert!(!held_back.is_visible());
}

#[test]
fn waiting_with_a_limit_ends_at_the_limit_however_often_it_timed_out_before() {
    let engine = Engine::builder().publish_interval(Duration::from_secs(8)).build().unwrap();
    let items = engine.create_collection("items", flat()).unwrap();
    items.upsert(Record::new(1, [0.0, 0.0])).unwrap().wait().unwrap();
    let mut held_back = items.upsert(Record::new(2, [0.0, 0.0])).unwrap();
    let mut long = Vec::new();
    for attempt in 0..1_100 {
        let started = Instant::now();
        match held_back.wait_timeout(Duration::from_micros(100)) {
            Err(WaitError::Timeout { .. }) => {}
            // On a machine where each attempt takes milliseconds.
            Ok(_) => held_back = items.upsert(Record::new(2, [0.0, 0.0])).unwrap(),
            other => panic!("attempt {attempt}: {other:?}"),
        }
        long.extend((started.elapsed() > Duration::from_secs(1)).then_some(attempt));
    }
    // One or the other may be held up by other work; the defect was in all from the thousandth on.
    assert!(long.len() < 5, "these took more than a second: {long:?}");
}
