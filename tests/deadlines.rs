//! Searches that may not run to their end: deadlines, budgets, cancellation.

#![allow(missing_docs, unreachable_pub, reason = "a test has no readers of its interface")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may fail loudly"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{block_on, clustered, distance, index_specs, watchdog};
use vecino::{
    Answer, CancelToken, Clock, Collection, CollectionConfig, Completeness, Engine, IndexSpec, ManualClock,
    Metric, Query, Record, SearchError, WaitError,
};

const DIM: usize = 32;

/// An engine by a clock, with so many rows in a collection of two shards.
fn filled(clock: Arc<dyn Clock>, index: IndexSpec, rows: usize) -> (Engine, Collection, Vec<Vec<f32>>) {
    let engine = Engine::builder().workers(2).clock(clock).build().unwrap();
    let config = CollectionConfig::new(DIM, Metric::L2).index(index);
    let items = engine.create_collection("items", config).unwrap();
    let vectors = clustered(1, rows, DIM, 20);
    let records = vectors.iter().enumerate().map(|(id, vector)| Record::new(id as u64, vector.clone()));
    items.upsert_batch(records).unwrap().wait().unwrap();
    items.optimize().unwrap();
    (engine, items, vectors)
}

/// All but the generation: indexes are published anew in the background.
fn assert_same(answer: &Answer, other: &Answer) {
    assert_eq!((answer.hits(), answer.completeness()), (other.hits(), other.completeness()));
    assert_eq!(answer.stats(), other.stats());
}

/// A clock that goes on by a step whenever it is asked.
#[derive(Debug)]
struct SteppingClock {
    asked: AtomicU64,
    step: Duration,
}

impl SteppingClock {
    fn new(step: Duration) -> Arc<SteppingClock> {
        Arc::new(SteppingClock { asked: AtomicU64::new(0), step })
    }
}

impl Clock for SteppingClock {
    fn elapsed(&self) -> Duration {
        self.step * self.asked.fetch_add(1, Ordering::Relaxed) as u32
    }

    fn unix_time(&self) -> Duration {
        Duration::ZERO
    }
}

#[test]
fn an_answer_says_whether_it_is_whole() {
    for index in index_specs() {
        let (_engine, items, vectors) = filled(Arc::new(ManualClock::default()), index, 500);
        let of = |query: Query<'_>| items.search(&query).unwrap().completeness();
        assert_eq!(of(Query::new(&vectors[0])), Completeness::Complete);
        assert_eq!(of(Query::new(&vectors[0]).top(501)), Completeness::FewerMatch);
        assert_eq!(of(Query::new(&vectors[0]).top(0)), Completeness::Complete);
        assert_eq!(of(Query::new(&vectors[0]).deadline(Duration::from_secs(1))), Completeness::Complete);
        assert_eq!(of(Query::new(&vectors[0]).exact().budget(1 << 20)), Completeness::Complete);
        let answer = block_on(items.search_async(Query::new(&vectors[0]).top(501))).unwrap();
        assert_eq!((answer.completeness(), answer.len()), (Completeness::FewerMatch, 500));
    }
}

// Limits that are not reached change nothing, on any way to search.
#[test]
fn a_search_within_its_limits_gives_the_same_answer() {
    for index in index_specs() {
        let (_engine, items, vectors) = filled(Arc::new(ManualClock::default()), index, 3_000);
        for (vector, exact) in vectors.iter().step_by(97).zip([false, true].iter().cycle()) {
            let plain = if *exact { Query::new(vector).exact() } else { Query::new(vector) };
            let limited =
                plain.clone().deadline(Duration::from_secs(1)).budget(1 << 30).cancel(&CancelToken::new());
            let answer = items.search(&limited).unwrap();
            assert_same(&answer, &items.search(&plain).unwrap());
            assert_same(&items.search_batch(std::slice::from_ref(&limited)).unwrap()[0], &answer);
            let of_workers = block_on(items.search_async(limited)).unwrap();
            assert_same(&of_workers, &block_on(items.search_async(plain)).unwrap());
        }
    }
}

#[test]
fn hits_of_a_search_cut_short_are_real_and_in_order() {
    for index in index_specs() {
        let (_engine, items, vectors) = filled(Arc::new(ManualClock::default()), index, 5_000);
        for budget in [1, 50, 200, 500, 1_000] {
            for exact in [false, true] {
                let query = Query::new(&vectors[7]).top(20).ef_search(400).budget(budget);
                let query = if exact { query.exact() } else { query };
                let answer = items.search(&query).unwrap();
                assert!(answer.stats().distances <= budget + 700, "{budget}: {:?}", answer.stats());
                assert!(!answer.is_empty() && answer.len() <= 20);
                // (Codes rule so many rows out that more is enough.)
                if exact && budget <= 50 {
                    assert_eq!(answer.completeness(), Completeness::Budget);
                }
                for hit in &answer {
                    let own = distance(Metric::L2, &vectors[7], &vectors[id(hit) as usize]);
                    assert!((own - f64::from(hit.distance)).abs() < 1e-3 * own.max(1.0));
                }
                assert!(answer.hits().windows(2).all(|pair| pair[0].distance <= pair[1].distance));
                // The same work, the same answer.
                assert_same(&answer, &items.search(&query).unwrap());
            }
        }
    }
}

fn id(hit: &vecino::Hit) -> u64 {
    hit.id.to_string().parse().unwrap()
}

#[test]
fn more_budget_finds_more() {
    let (_engine, items, vectors) = filled(Arc::new(ManualClock::default()), IndexSpec::graph(), 5_000);
    let recall = |budget: u64| {
        let found = |vector: &Vec<f32>| {
            let truth = items.search(&Query::new(vector).exact()).unwrap();
            let answer = items.search(&Query::new(vector).budget(budget)).unwrap();
            answer.hits().iter().filter(|hit| truth.hits().contains(hit)).count()
        };
        vectors.iter().step_by(100).map(found).sum::<usize>()
    };
    let (little, some, all) = (recall(60), recall(400), recall(1 << 30));
    assert!(little < some && some < all, "{little}, {some}, {all} of 500");
}

// The clock goes on by a millisecond whenever a search looks at it, so what is
// counted is how often it looks.
#[test]
fn a_search_ends_at_the_first_look_behind_its_deadline() {
    for index in index_specs() {
        for exact in [false, true] {
            let clock = SteppingClock::new(Duration::from_millis(1));
            let (_engine, items, vectors) = filled(Arc::clone(&clock) as _, index, 5_000);
            let query = Query::new(&vectors[3]).ef_search(2_000).deadline(Duration::from_millis(6));
            let query = if exact { query.exact() } else { query };
            let before = clock.asked.load(Ordering::Relaxed);
            let answer = items.search(&query).unwrap();
            let looks = clock.asked.load(Ordering::Relaxed) - before;
            if answer.completeness() == Completeness::Complete {
                // Looking at all codes takes it less than six looks.
                assert!(looks <= 6, "{index:?}: {looks} looks");
                let is_walk = matches!(index, IndexSpec::Graph(_) | IndexSpec::Hnsw(_));
                assert!(!is_walk, "{index:?}: it does not look at the clock");
                continue;
            }
            assert_eq!(answer.completeness(), Completeness::Deadline, "{index:?}");
            assert!(looks <= 12, "{looks} looks");
            assert!(answer.stats().distances < 5_000);
        }
    }
}

#[test]
fn an_overdue_search_through_the_workers_computes_nothing() {
    let _watchdog = watchdog(60);
    let clock = Arc::new(ManualClock::default());
    let (_engine, items, vectors) = filled(Arc::clone(&clock) as _, IndexSpec::graph(), 2_000);
    let query = Query::new(&vectors[0]).deadline(Duration::ZERO);
    let answer = block_on(items.search_async(query)).unwrap();
    assert_eq!((answer.completeness(), answer.len()), (Completeness::Deadline, 0));
    assert_eq!(answer.stats().distances, 0);
}

// It waited for the writes before it however long that took.
#[test]
fn a_search_through_the_workers_waits_no_longer_than_it_may() {
    let _watchdog = watchdog(100);
    let engine = Engine::builder().publish_interval(Duration::from_secs(10)).build().unwrap();
    let config = CollectionConfig::new(2, Metric::L2).index(IndexSpec::Flat);
    let items = engine.create_collection("items", config).unwrap();
    items.upsert(Record::new(1, [0.0, 0.0])).unwrap().wait().unwrap();
    let held_back = items.upsert(Record::new(2, [0.0, 0.0])).unwrap();
    let (query, short) = (Query::new(vec![0.0, 0.0]).top(5), Duration::from_millis(30));

    let answer = block_on(items.search_async(query.clone().deadline(short))).unwrap();
    assert_eq!((answer.completeness(), answer.len()), (Completeness::Deadline, 0));
    let timeout = |answer: Result<Answer, SearchError>| {
        let is_right = matches!(
            &answer,
            Err(SearchError::AtLeast(WaitError::Timeout { seq, waited })) if *seq == held_back.seq() && *waited >= short
        );
        assert!(is_right, "{answer:?}");
    };
    let demanding = query.clone().at_least(held_back.seq());
    for limited in [
        query.clone().wait_at_most(short),
        demanding.clone().wait_at_most(short),
        demanding.clone().deadline(short),
        query.clone().wait_at_most(short).deadline(Duration::from_secs(50)),
    ] {
        timeout(block_on(items.search_async(limited.clone())));
        let answer = block_on(items.search_async(limited.allow_partial())).unwrap();
        assert_eq!(answer.completeness(), Completeness::Partial);
    }
    timeout(items.search(&demanding.wait_at_most(short)));
    assert!(!held_back.is_visible());
}

#[test]
fn a_cancelled_search_ends_with_what_it_has() {
    let (_engine, items, vectors) = filled(Arc::new(ManualClock::default()), IndexSpec::Flat, 5_000);
    let token = CancelToken::new();
    let query = Query::new(&vectors[0]).cancel(&token);
    assert_eq!(items.search(&query).unwrap().completeness(), Completeness::Complete);
    token.cancel();
    let answer = items.search(&query).unwrap();
    assert_eq!((answer.completeness(), answer.stats().distances), (Completeness::Partial, 0));
    assert_eq!(block_on(items.search_async(query)).unwrap().completeness(), Completeness::Partial);
}

// By the real clock, exhaustively, so that the search would take much longer.
#[test]
fn a_search_by_the_systems_clock_ends_soon_after_its_deadline() {
    let engine = Engine::builder().build().unwrap();
    let config = CollectionConfig::new(256, Metric::L2).index(IndexSpec::hnsw());
    let items = engine.create_collection("items", config).unwrap();
    let vectors = clustered(5, 20_000, 256, 50);
    let records = vectors.iter().enumerate().map(|(id, vector)| Record::new(id as u64, vector.clone()));
    items.upsert_batch(records).unwrap().wait().unwrap();
    let deadline = Duration::from_micros(300);
    let late = |_| {
        let started = Instant::now();
        let answer = items.search(&Query::new(&vectors[0]).top(100).exact().deadline(deadline)).unwrap();
        assert_eq!(answer.completeness(), Completeness::Deadline);
        started.elapsed().saturating_sub(deadline)
    };
    // The machine may be busy with something else at times, not always.
    let least = (0..20).map(late).min().unwrap();
    assert!(least < Duration::from_millis(1), "{least:?} late");
}
