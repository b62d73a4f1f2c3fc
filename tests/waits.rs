//! Waits that must end: empty writes, and limits under pressure.

use std::time::{Duration, Instant};

use vecino::{CollectionConfig, Engine, IndexSpec, Metric, Record, WaitError};

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
        assert!(write.wait_timeout(Duration::from_secs(2)).is_ok(), "workers {workers}");
        let ids: Vec<u64> = Vec::new();
        let write = items.delete_batch(ids).unwrap();
        assert!(write.wait_timeout(Duration::from_secs(2)).is_ok(), "workers {workers}");
    }
}

#[test]
fn waiting_with_a_limit_ends_at_the_limit_however_often_it_timed_out_before() {
    let engine = Engine::builder().publish_interval(Duration::from_secs(8)).build().unwrap();
    let items = engine.create_collection("items", flat()).unwrap();
    items.upsert(Record::new(1, [0.0, 0.0])).unwrap().wait().unwrap();
    let held_back = items.upsert(Record::new(2, [0.0, 0.0])).unwrap();
    for attempt in 0..1_100 {
        let started = Instant::now();
        let outcome = held_back.wait_timeout(Duration::from_micros(100));
        assert!(started.elapsed() < Duration::from_secs(1), "attempt {attempt}: {:?}", started.elapsed());
        assert!(matches!(outcome, Err(WaitError::Timeout { .. })), "attempt {attempt}: {outcome:?}");
    }
}
