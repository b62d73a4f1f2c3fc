//! Records that expire: never shown afterwards, whatever the sweep has done,
//! through restarts, and with their memory given back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::common::{
    Rng, State, block_on, check_exhaustive, eventually, index_specs, watchdog, whole_vector,
};
use vecino::{
    Collection, CollectionConfig, Engine, Filter, IndexSpec, ManualClock, Metric, Outcome, Payload,
    PayloadError, PayloadUpdate, Query, Record, RecordId, Timestamp, WriteError,
};

const DIM: usize = 4;

fn second() -> Duration {
    Duration::from_secs(1)
}

fn collection(clock: &Arc<ManualClock>, workers: usize, config: CollectionConfig) -> (Engine, Collection) {
    let engine = Engine::builder().workers(workers).clock(Arc::clone(clock) as _).build().unwrap();
    let items = engine.create_collection("items", config).unwrap();
    (engine, items)
}

fn config(index: IndexSpec) -> CollectionConfig {
    CollectionConfig::new(DIM, Metric::L2).index(index)
}

/// Records that were not taken out yet.
fn rows_held(items: &Collection) -> usize {
    items.verify().unwrap().records
}

// Random writes and steps of the clock; after each, every way to read shows
// exactly what a twin does that looks at the clock.
#[test]
fn what_has_expired_is_not_seen_on_any_way() {
    let _watchdog = watchdog(120);
    for index in index_specs() {
        let clock = Arc::new(ManualClock::default());
        let (_engine, items) = collection(&clock, 2, config(index));
        let (mut twin, mut rng) = (BTreeMap::<RecordId, (Vec<f32>, u64)>::new(), Rng::new(3));
        let mut now = 0u64;
        for round in 0..400 {
            let id: RecordId = (rng.below(300) as u64).into();
            match rng.below(8) {
                0 => {
                    items.delete(id.clone()).unwrap();
                    twin.remove(&id);
                }
                1 => {
                    let step = rng.below(40) as u64;
                    clock.advance(Duration::from_millis(step));
                    now += step;
                }
                2 => {
                    items.touch(id.clone(), Duration::from_millis(200)).unwrap();
                    if let Some((_, expires)) = twin.get_mut(&id).filter(|(_, expires)| *expires > now) {
                        *expires = (*expires).max(now + 200);
                    }
                }
                _ => {
                    let (vector, ttl) = (whole_vector(rng.next(), DIM), rng.below(300) as u64);
                    let record = Record::new(id.clone(), vector.clone());
                    let forever = rng.once_in(4);
                    let record = if forever { record } else { record.ttl(Duration::from_millis(ttl)) };
                    items.upsert(record).unwrap();
                    let expires = if forever { u64::MAX } else { now + ttl };
                    twin.insert(id, (vector, expires));
                }
            }
            if round % 10 == 0 {
                items.flush().unwrap();
                let lives = twin.iter().filter(|(_, (_, expires))| *expires > now);
                let state = lives.map(|(id, (vector, _))| (id.clone(), vector.clone())).collect();
                compare(&items, &twin, &state);
            }
        }
        assert!(items.verify().unwrap().is_sound());
    }
}

fn compare(items: &Collection, twin: &BTreeMap<RecordId, (Vec<f32>, u64)>, state: &State) {
    let query = whole_vector(77, DIM);
    let snapshot = items.snapshot();
    assert_eq!((snapshot.len(), items.len()), (state.len(), state.len()));
    for k in [5, 1_000] {
        let exact = Query::new(&query).top(k).exact();
        check_exhaustive(Metric::L2, state, &query, k, &items.search(&exact).unwrap());
        check_exhaustive(Metric::L2, state, &query, k, &block_on(items.search_async(exact.clone())).unwrap());
        check_exhaustive(Metric::L2, state, &query, k, &items.search_batch(&[exact]).unwrap()[0]);
        let walked = items.search(&Query::new(&query).top(k)).unwrap();
        assert!(walked.hits().iter().all(|hit| state.contains_key(&hit.id)));
        assert_eq!(walked.len(), k.min(state.len()));
    }
    for id in twin.keys() {
        assert_eq!(snapshot.contains(id.clone()), state.contains_key(id), "{id}");
    }
    let scrolled = snapshot.scroll(None, usize::MAX).unwrap().records;
    assert_eq!(scrolled.len(), state.len());
}

#[test]
fn a_held_snapshot_goes_on_showing_what_it_showed() {
    for index in index_specs() {
        let clock = Arc::new(ManualClock::default());
        let (_engine, items) = collection(&clock, 1, config(index).ttl(second()));
        items
            .upsert_batch((0..500u64).map(|id| Record::new(id, whole_vector(id, DIM))))
            .unwrap()
            .wait()
            .unwrap();
        let snapshot = items.snapshot();
        let query = Query::new(whole_vector(1, DIM)).top(500);
        let before = snapshot.search(&query).unwrap();
        clock.advance(2 * second());
        assert!(items.search(&query).unwrap().is_empty());
        eventually("all is swept up", || rows_held(&items) == 0);
        assert_eq!(snapshot.search(&query).unwrap(), before);
        assert_eq!((snapshot.len(), before.len()), (500, 500));
        assert!(snapshot.verify().unwrap().is_sound());
    }
}

#[test]
fn the_memory_of_what_has_expired_is_given_back_without_further_writes() {
    let _watchdog = watchdog(120);
    let clock = Arc::new(ManualClock::default());
    let (_engine, items) = collection(&clock, 2, config(IndexSpec::graph()));
    let records = (0..6_000u64).map(|id| Record::new(id, whole_vector(id, DIM)).ttl(second()));
    items.upsert_batch(records).unwrap().wait().unwrap();
    items.upsert(Record::new("stays", [1.0; DIM])).unwrap().wait().unwrap();
    let before = items.stats().bytes.total();
    clock.advance(2 * second());
    assert_eq!(items.len(), 1);
    eventually("the rows are gone", || {
        items.stats().shards.iter().map(|shard| shard.indexed + shard.tail + shard.dead).sum::<usize>() < 600
    });
    assert!(items.stats().bytes.total() < before, "{} of {before}", items.stats().bytes.total());
    assert!(items.verify().unwrap().is_sound());
}

// Writers that wait for the few places of a mailbox take each one as it comes.
#[test]
fn what_has_expired_is_taken_out_though_writers_never_rest() {
    let _watchdog = watchdog(120);
    let clock = Arc::new(ManualClock::default());
    let engine =
        Engine::builder().workers(1).mailbox_capacity(2).clock(Arc::clone(&clock) as _).build().unwrap();
    let items = engine.create_collection("items", config(IndexSpec::Flat)).unwrap();
    let records = (0..2_000u64).map(|id| Record::new(id, whole_vector(id, DIM)).ttl(second()));
    items.upsert_batch(records).unwrap().wait().unwrap();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..4u64 {
            let (items, over) = (items.clone(), &over);
            scope.spawn(move || {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    let id = 10_000 + writer;
                    items.upsert_batch((0..50).map(|at| Record::new(id, whole_vector(at, DIM)))).unwrap();
                }
            });
        }
        clock.advance(2 * second());
        let wait = || eventually("the rows are gone", || rows_held(&items) < 1_000);
        let gone = std::panic::catch_unwind(std::panic::AssertUnwindSafe(wait));
        // Whatever came of it, or they would never end.
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        gone.unwrap();
    });
    items.flush().unwrap();
    assert_eq!(items.len(), 4);
    assert_eq!(engine.stats().writes_refused, 0);
}

#[test]
fn expiries_survive_restarts_by_log_and_by_checkpoint() {
    for checkpointed in [false, true] {
        let name = format!("vecino-expiry-{checkpointed}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&folder);
        let clock = Arc::new(ManualClock::default());
        let open = || Engine::builder().workers(2).clock(Arc::clone(&clock) as _).open(&folder).unwrap();
        let engine = open();
        let items = engine.create_collection("items", config(IndexSpec::graph()).ttl(60 * second())).unwrap();
        for id in 0..90u64 {
            let record = Record::new(id, whole_vector(id, DIM));
            items
                .upsert(match id % 3 {
                    0 => record,
                    1 => record.ttl(second()),
                    _ => record.never_expires(),
                })
                .unwrap();
        }
        items.touch(1, 5 * second()).unwrap().wait().unwrap();
        if checkpointed {
            engine.checkpoint().unwrap();
        }
        engine.close().unwrap();

        clock.advance(2 * second());
        let engine = open();
        let items = engine.collection("items").unwrap();
        assert_eq!(items.len(), 61);
        assert!(items.contains(1).unwrap() && !items.contains(4).unwrap());
        assert_eq!(items.config().default_ttl(), Some(60 * second()));
        assert_eq!(items.get(0).unwrap().unwrap().expires(), Some(Timestamp::from_secs(60)));
        assert_eq!(items.get(2).unwrap().unwrap().expires(), None);
        clock.advance(100 * second());
        assert_eq!(items.len(), 30);
        eventually("the sweep goes on", || rows_held(&items) == 30);
        engine.close().unwrap();
        let engine = open();
        assert_eq!(engine.collection("items").unwrap().len(), 30);
        engine.close().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn a_backup_keeps_expiries_also_in_another_number_of_shards() {
    let clock = Arc::new(ManualClock::default());
    let (_engine, items) = collection(&clock, 1, config(IndexSpec::graph()).ttl(9 * second()));
    items.upsert(Record::new(1, [1.0; DIM]).ttl(second())).unwrap();
    items.upsert(Record::new(2, [2.0; DIM]).never_expires()).unwrap().wait().unwrap();
    let file = std::env::temp_dir().join(format!("vecino-expiry-{}.backup", std::process::id()));
    items.snapshot().checkpoint(&file).unwrap();
    for workers in [1, 2] {
        let engine = Engine::builder().workers(workers).clock(Arc::clone(&clock) as _).build().unwrap();
        let copy = engine.load("copy", &file).unwrap();
        copy.flush().unwrap();
        let of = |id: u64| copy.get(id).unwrap().unwrap().expires();
        assert_eq!(of(1), items.get(1).unwrap().unwrap().expires());
        assert_eq!(of(2), None);
    }
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn what_has_expired_is_absent_for_conditions_and_cannot_be_touched() {
    let clock = Arc::new(ManualClock::default());
    let (_engine, items) = collection(&clock, 1, config(IndexSpec::graph()));
    items.upsert(Record::new(1, [1.0; DIM]).ttl(second())).unwrap().wait().unwrap();
    clock.advance(2 * second());
    items.touch(1, 60 * second()).unwrap().wait().unwrap();
    assert!(!items.contains(1).unwrap());
    assert!(matches!(items.replace(Record::new(1, [2.0; DIM])).unwrap(), Outcome::Missing));
    let near = items.upsert_unless_near(Record::new(2, [1.0; DIM]), 0.5).unwrap();
    assert!(matches!(near, Outcome::Written(_)));
    assert!(matches!(items.insert(Record::new(1, [2.0; DIM])).unwrap(), Outcome::Written(_)));
}

#[test]
fn what_is_found_is_renewed_where_a_search_asks_for_it() {
    let clock = Arc::new(ManualClock::default());
    let (_engine, items) = collection(&clock, 2, config(IndexSpec::graph()).ttl(10 * second()));
    let write = items.upsert_batch((0..20u64).map(|id| Record::new(id, [id as f32; DIM]))).unwrap();
    write.wait().unwrap();
    let first = write.seq();
    for round in 0..5 {
        clock.advance(6 * second());
        let query = Query::new(vec![3.0; DIM]).top(1).renew(10 * second());
        let answer = if round % 2 == 0 {
            items.search(&query).unwrap()
        } else {
            block_on(items.search_async(query)).unwrap()
        };
        assert_eq!(answer.hits()[0].id, 3.into(), "still there");
        items.flush().unwrap();
    }
    assert_eq!(items.len(), 1);
    // The record itself is as it was written.
    assert_eq!(items.snapshot().version(3), Some(first));
    // With nothing to gain nothing is changed.
    let expires = items.get(3).unwrap().unwrap().expires();
    clock.advance(second());
    items.search(&Query::new(vec![3.0; DIM]).top(1).renew(10 * second())).unwrap();
    items.flush().unwrap();
    assert_eq!(items.get(3).unwrap().unwrap().expires(), expires);
}

// A clock that goes back brings nothing back.
#[test]
fn what_has_expired_stays_so_when_the_clock_goes_back() {
    #[derive(Debug, Default)]
    struct Jumping(std::sync::atomic::AtomicU64);
    impl vecino::Clock for Jumping {
        fn elapsed(&self) -> Duration {
            Duration::ZERO
        }
        fn unix_time(&self) -> Duration {
            Duration::from_millis(self.0.load(std::sync::atomic::Ordering::SeqCst))
        }
    }
    let clock = Arc::new(Jumping::default());
    let engine = Engine::builder().clock(Arc::clone(&clock) as _).build().unwrap();
    let items = engine.create_collection("items", config(IndexSpec::graph())).unwrap();
    items.upsert(Record::new(1, [1.0; DIM]).ttl(second())).unwrap().wait().unwrap();
    clock.0.store(5_000, std::sync::atomic::Ordering::SeqCst);
    assert!(!items.contains(1).unwrap());
    clock.0.store(10, std::sync::atomic::Ordering::SeqCst);
    assert!(!items.contains(1).unwrap());
}

#[test]
fn filters_counts_facets_and_groups_do_not_see_what_has_expired() {
    for index in index_specs() {
        let clock = Arc::new(ManualClock::default());
        let (_engine, items) = collection(&clock, 2, config(index));
        let record = |id: u64| {
            let record = Record::new(id, whole_vector(id, DIM)).with("kind", (id % 2) as i64);
            if id % 4 < 2 { record.ttl(second()) } else { record }
        };
        items.upsert_batch((0..1_000).map(record)).unwrap().wait().unwrap();
        let (even, vector) = (Filter::eq("kind", 0), whole_vector(5, DIM));
        let query = Query::new(&vector).top(1_000).filter(even.clone());
        let soon = Filter::lt("$expires", Timestamp::from_secs(2));
        assert_eq!(items.snapshot().count(&soon).unwrap(), 500);
        for (advance, left) in [(0, 500), (2, 250)] {
            clock.advance(advance * second());
            let snapshot = items.snapshot();
            assert_eq!(snapshot.count(&even).unwrap(), left);
            assert_eq!(snapshot.search(&query).unwrap().len(), left);
            assert_eq!(snapshot.search(&query.clone().exact()).unwrap().len(), left);
            assert_eq!(snapshot.facets("kind", &Filter::all([]), 10).unwrap()[0].count, left);
            assert_eq!(snapshot.scroll_where(&even, None, 1_000).unwrap().records.len(), left);
            let groups = snapshot.search_groups(&Query::new(&vector), "kind", 2, 1_000).unwrap();
            assert!(groups.iter().all(|group| group.hits.len() == left));
        }
    }
}

#[test]
fn an_expiry_is_a_field_that_only_its_own_calls_change() {
    let clock = Arc::new(ManualClock::default());
    let (_engine, items) = collection(&clock, 1, config(IndexSpec::graph()));
    items.upsert(Record::new(1, [1.0; DIM]).ttl(second())).unwrap();
    items.set_payload(1, Payload::new().with("a", 1)).unwrap().wait().unwrap();
    assert_eq!(items.get(1).unwrap().unwrap().expires(), Some(Timestamp::from_secs(1)));
    for update in [
        PayloadUpdate::merge(1, Payload::new().with("$expires", Timestamp(5))),
        PayloadUpdate::delete(1, ["$expires"]),
    ] {
        let refused = items.update_payloads([update]);
        let fault = PayloadError::Expiry { found: None };
        assert!(matches!(refused, Err(WriteError::Payload { fault: found, .. }) if found == fault));
    }
    let refused = items.upsert(Record::new(2, [1.0; DIM]).with("$expires", "soon"));
    assert!(matches!(refused, Err(WriteError::Payload { fault: PayloadError::Expiry { .. }, .. })));
    // A record that is read and put in again keeps its time.
    let record = items.get(1).unwrap().unwrap();
    items.upsert(record).unwrap();
    items.expire(1, Some(Timestamp::from_secs(5))).unwrap().wait().unwrap();
    clock.advance(4 * second());
    assert!(items.contains(1).unwrap());
    items.expire(1, None).unwrap().wait().unwrap();
    clock.advance(100 * second());
    assert!(items.contains(1).unwrap());
    items.expire(1, Some(Timestamp::from_secs(5))).unwrap().wait().unwrap();
    assert!(!items.contains(1).unwrap());
    items.expire(1, None).unwrap().wait().unwrap();
    assert!(!items.contains(1).unwrap(), "what has expired stays so");
}

// No file could hold both.
#[test]
fn nothing_can_stand_within_the_field_of_an_expiry() {
    let clock = Arc::new(ManualClock::default());
    let (engine, items) = collection(&clock, 1, config(IndexSpec::Flat));
    let inner = Record::new(1, [0.0; DIM]).with("$expires.at", "tomorrow");
    let refused = items.upsert(inner.clone()).unwrap_err();
    assert!(matches!(refused, WriteError::Payload { fault: PayloadError::Expiry { .. }, .. }), "{refused}");
    let soon = items.upsert(inner.ttl(second())).unwrap_err();
    assert!(matches!(soon, WriteError::Payload { .. }), "{soon}");
    assert_eq!(items.len(), 0);
    engine.close().unwrap();
}

#[test]
fn no_more_records_are_touched_at_once_than_a_batch_holds() {
    let clock = Arc::new(ManualClock::default());
    let (_engine, items) = collection(&clock, 1, config(IndexSpec::Flat));
    let refused = items.touch_all(0..1_000_001u64, second());
    assert!(matches!(refused, Err(WriteError::BatchTooLarge { got: 1_000_001, most: 1_000_000 })));
}
