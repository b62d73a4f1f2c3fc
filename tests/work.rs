//! Goal: what waits for a worker is bounded by the time that it will take, and
//! not by its number alone: a few exact searches of many rows fill what
//! thousands of cheap ones do not, nothing is too large to be done at all, and
//! all that was counted is given back, however a request ends.
//!
//! Method: searches that must show a write which is not published for seconds
//! hold their places meanwhile; a large batch into a graph that is slow to build
//! holds those of writes. Work is estimated from what it took before, so counts
//! have margins of many times.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test may fail loudly")]

mod common;

use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use common::{block_on, clustered, drive, eventually, poll_once, watchdog};
use vecino::{
    Answer, Backpressure, Collection, CollectionConfig, Engine, EngineBuilder, FullReason, Gone, HnswConfig,
    IndexSpec, Metric, Query, Record, SearchError, Seq, WriteError,
};

const DIM: usize = 64;

/// Rows that are some hundred microseconds of comparing.
const MANY: usize = 40_000;

/// What is written is not published before: longer than what is left of a test then takes.
const HELD_BACK: Duration = Duration::from_secs(4);

type Searching<'a> = Pin<Box<dyn Future<Output = Result<Answer, SearchError>> + 'a>>;

fn flat(engine: &Engine, name: &str, rows: usize) -> Collection {
    let config = CollectionConfig::new(DIM, Metric::L2).index(IndexSpec::Flat);
    let items = engine.create_collection(name, config).unwrap();
    let vectors = clustered(3, rows, DIM, 20);
    items.upsert_batch((0..).zip(vectors).map(|(id, row)| Record::new(id, row))).unwrap().wait().unwrap();
    items
}

/// An engine that takes so much work.
fn within(millis: u64) -> EngineBuilder {
    Engine::builder().pool_threads(1).mailbox_work(Duration::from_millis(millis))
}

/// From now on searches wait for a write that is not published for long.
fn hold_back(items: &Collection) -> Collection {
    let _ = items.upsert(Record::new(0, vec![0.5; DIM])).unwrap();
    items.backpressure(Backpressure::Reject)
}

fn search(items: &Collection) -> Searching<'_> {
    Box::pin(items.search_async(Query::new(vec![0.5; DIM]).top(10)))
}

/// Searches until one is refused; gives those that wait, and why.
fn fill<'a>(items: &'a Collection) -> (Vec<Searching<'a>>, SearchError) {
    let mut waiting = Vec::new();
    loop {
        let mut next = search(items);
        match poll_once(next.as_mut()) {
            Poll::Pending => waiting.push(next),
            Poll::Ready(Err(fault)) => return (waiting, fault),
            Poll::Ready(Ok(answer)) => panic!("{answer:?} before its write was published"),
        }
    }
}

#[test]
fn a_few_large_scans_fill_what_a_thousand_small_ones_do_not() {
    let _watchdog = watchdog(60);
    let engine = within(10).publish_interval(HELD_BACK).build().unwrap();
    let items = hold_back(&flat(&engine, "items", MANY));
    // Of all rows, or of ten.
    let cheap = || -> Searching<'_> { Box::pin(items.search_async(Query::new(vec![0.5; DIM]).budget(10))) };
    let mut waiting: Vec<Searching<'_>> = (0..800).map(|_| cheap()).collect();
    assert!(waiting.iter_mut().all(|search| poll_once(search.as_mut()).is_pending()));
    let work = engine.stats().search_work;
    assert!(
        work > Duration::ZERO && work < Duration::from_millis(8),
        "800 cheap searches are {work:?} of work"
    );
    let (dear, fault) = fill(&items);
    assert!(dear.len() < 100, "{} searches of {MANY} rows are less than 10 ms of work", dear.len());
    let stats = engine.stats();
    match fault {
        SearchError::Full { reason: FullReason::Work { asked: Some(asked), queued, most }, .. } => {
            assert_eq!((queued, most), (stats.search_work, Duration::from_millis(10)));
            assert!(queued >= most && asked > Duration::from_micros(50), "{asked:?} after {queued:?}");
        }
        other => panic!("{other}"),
    }
    assert_eq!((stats.searches_refused, stats.searches_refused_for.work), (1, 1));
    // What is full is full for all.
    assert!(matches!(poll_once(cheap().as_mut()), Poll::Ready(Err(SearchError::Full { .. }))));
}

#[test]
fn work_is_given_back_when_searches_are_answered_cancelled_and_when_the_engine_is_closed() {
    let _watchdog = watchdog(60);
    let engine = within(10).build().unwrap();
    let items = flat(&engine, "items", MANY);
    let idle =
        || engine.stats().search_work == Duration::ZERO && engine.stats().mailbox_work == [Duration::ZERO];
    eventually("nothing is left of the load", idle);
    // Waiting for their turns, far more than may wait at a time.
    drive((0..500).map(|_| search(&items)), |answer| assert_eq!(answer.unwrap().len(), 10));
    eventually("all are answered", idle);
    for _ in 0..500 {
        let mut cancelled = search(&items);
        let _ = poll_once(cancelled.as_mut());
    }
    eventually("all are cancelled", idle);
    items.delete_batch(0..1_000_u64).unwrap();
    let answers: Vec<_> = (0..20)
        .map(|_| search(&items))
        .map(|mut search| {
            let _ = poll_once(search.as_mut());
            search
        })
        .collect();
    engine.close().unwrap();
    drive(answers, |answer| match answer {
        Ok(_) | Err(SearchError::Gone(Gone::Closed)) => {}
        Err(other) => panic!("{other}"),
    });
    assert!(idle(), "{:?}", engine.stats());
}

#[test]
fn what_is_more_work_than_may_wait_is_done_when_nothing_else_waits() {
    let _watchdog = watchdog(60);
    let engine = Engine::builder().mailbox_work(Duration::from_micros(1)).build().unwrap();
    let items = flat(&engine, "items", 5_000).backpressure(Backpressure::Reject);
    for round in 0..5_u64 {
        eventually("nothing waits", || {
            engine.stats().search_work.is_zero() && engine.stats().mailbox_work == [Duration::ZERO]
        });
        assert_eq!(block_on(search(&items)).unwrap().len(), 10);
        let batch = (0..500).map(|id| Record::new(id, vec![round as f32; DIM]));
        items.upsert_batch(batch).unwrap().wait().unwrap();
    }
    // And those who wait get their turn, one after the other.
    let patient = items.backpressure(Backpressure::Wait);
    for id in 0..50_u64 {
        let _ = patient.upsert(Record::new(id, vec![1.0; DIM])).unwrap();
    }
    patient.flush().unwrap();
    assert_eq!(engine.stats().searches_refused + engine.stats().writes_refused, 0);
}

#[test]
fn large_writes_fill_what_many_small_ones_do_not_and_a_refused_one_gets_no_number() {
    let _watchdog = watchdog(120);
    let engine = within(5).build().unwrap();
    let graph = HnswConfig::default().m(32).ef_construction(1_000);
    let config = CollectionConfig::new(DIM, Metric::L2).index(IndexSpec::Hnsw(graph));
    let items = engine.create_collection("slow", config).unwrap();
    let impatient = items.backpressure(Backpressure::Reject);
    // Slow to index, so all of it waits.
    let rows = clustered(8, 4_000, DIM, 30);
    let large = impatient.upsert_batch((0..).zip(rows).map(|(id, row)| Record::new(id, row))).unwrap();
    let work = engine.stats().mailbox_work[0];
    assert!(work >= Duration::from_millis(5), "4,000 records are {work:?} of work");
    match impatient.delete(1) {
        Err(WriteError::Full { worker: 0, reason: FullReason::Work { asked, queued, most }, .. }) => {
            assert!(asked < Some(Duration::from_millis(1)));
            assert_eq!((queued, most), (work, Duration::from_millis(5)));
        }
        other => panic!("{other:?}"),
    }
    // Before any of it is looked at.
    match impatient.upsert_batch(std::iter::once_with(|| panic!("looked at"))) {
        Err(WriteError::Full { reason: FullReason::Work { asked: None, .. }, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(engine.stats().writes_refused_for.work, 2);
    assert_eq!(items.stats().last_seq, large.seq(), "a refused write has a number");
    large.wait().unwrap();
    eventually("its work is given back", || engine.stats().mailbox_work == [Duration::ZERO]);
    for id in 0..200_u64 {
        let _ = impatient.delete(id).unwrap();
    }
    items.flush().unwrap();
    assert_eq!(items.len(), 3_800);
}

// The estimate is of what a shard's worker does, not of the collection: exact
// searches of half of the rows are half of the work.
#[test]
fn shards_share_the_work_of_a_search() {
    let _watchdog = watchdog(60);
    let work_of = |workers: usize| {
        let engine = within(1_000).workers(workers).publish_interval(HELD_BACK).build().unwrap();
        let items = hold_back(&flat(&engine, "items", MANY));
        let mut one = search(&items);
        assert!(poll_once(one.as_mut()).is_pending());
        engine.stats().search_work
    };
    let (whole, part) = (work_of(1), work_of(4));
    assert!(part.as_secs_f64() < 0.5 * whole.as_secs_f64(), "{part:?} of {whole:?}");
}

// Many hits cost far more than the comparing that is guessed by.
#[test]
fn an_estimate_comes_to_what_searches_take() {
    let _watchdog = watchdog(60);
    const SEARCHES: usize = 60;
    let engine = within(1_000).publish_interval(HELD_BACK).build().unwrap();
    let items = flat(&engine, "items", MANY);
    let query = || Query::new(vec![0.5; DIM]).top(MANY / 2);
    let mut took: Vec<f64> = Vec::new();
    for _ in 0..SEARCHES {
        let started = Instant::now();
        assert_eq!(block_on(items.search_async(query().at_least(Seq(0)))).unwrap().len(), MANY / 2);
        took.push(started.elapsed().as_secs_f64());
    }
    // Some may be held up by other work, for a while or all from some time on.
    took.sort_by(f64::total_cmp);
    let (least, most) = (took[0], took[took.len() - 1]);
    let items = hold_back(&items);
    let mut asked = Box::pin(items.search_async(query()));
    assert!(poll_once(asked.as_mut()).is_pending());
    let estimate = engine.stats().search_work.as_secs_f64();
    assert!(
        estimate > least / 5.0 && estimate < most * 2.0,
        "{estimate} s, and they took {least} to {most} s"
    );
}
