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
        assert!(write.wait_timeout(Duration::from_secs(60)).is_ok(), "workers {workers}");
        let ids: Vec<u64> = Vec::new();
        let write = items.delete_batch(ids).unwrap();
        assert!(write.wait_timeout(Duration::from_secs(60)).is_ok(), "workers {workers}");
    }
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
