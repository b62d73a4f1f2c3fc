//! Goal: an engine that is asked for more than it can do refuses early and
//! cheaply, holds no more than it was allowed, keeps answering, lets neither
//! searches nor writes starve, and is itself again at once when it is over.
//!
//! Method: work that is slow by nature (a graph that is expensive to build,
//! exact searches) holds things up; counts say what went ahead of what. Where
//! a time is checked it is a median, or has a margin of many times.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test may fail loudly")]

mod common;
#[path = "../examples/load_harness/load/mod.rs"]
mod load;

use std::cell::Cell;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use common::{Rng, block_on, clustered, drive, eventually, watchdog};
use load::arrivals::Arrivals;
use load::check::Judge;
use load::collection::{Asking, UnderLoad, Way};
use load::data::Data;
use load::feed::FeedSettings;
use load::mix::Mix;
use load::rng::Popularity;
use load::run::{Outcome, Scenario, run};
use vecino::{
    Backpressure, Collection, CollectionConfig, Engine, HnswConfig, IndexSpec, Metric, Query, Record,
    SearchError, Seq, Write, WriteError,
};

const DIM: usize = 64;

/// Rows of a batch that stalls a shard for seconds.
const STALL_ROWS: usize = 4_000;

/// After an overload all is as before within this: a second on a machine that
/// has nothing else to do, and tests run beside one another.
const NORMAL_WITHIN: Duration = Duration::from_secs(20);

/// Other work may take the processors away from one of two measurements that are
/// compared: they are made anew, so often at most.
const TRIES: usize = 3;

/// So much of its rate an engine keeps at ten times too much.
const KEPT: f64 = 0.4;

/// Of work: where it is the number of requests that counts.
const NO_BOUND: Duration = Duration::from_secs(60);

fn slow_collection(engine: &Engine) -> Collection {
    let graph = HnswConfig::default().m(32).ef_construction(1_000);
    let config = CollectionConfig::new(DIM, Metric::L2).index(IndexSpec::Hnsw(graph));
    engine.create_collection("slow", config).unwrap()
}

fn stall(items: &Collection) -> Write {
    let vectors = clustered(8, STALL_ROWS, DIM, 30);
    items.upsert_batch((1_000_000..).zip(vectors).map(|(id, vector)| Record::new(id, vector))).unwrap()
}

fn record(id: u64) -> Record {
    let mut rng = Rng::new(id);
    Record::new(id, (0..DIM).map(|_| rng.signed()).collect::<Vec<f32>>())
}

/// Writes until there is no place; tells how many there were.
fn fill(items: &Collection) -> u64 {
    let impatient = items.backpressure(Backpressure::Reject);
    (0..).find(|id| impatient.upsert(record(*id)).is_err()).unwrap()
}

#[test]
fn a_mailbox_is_bounded_in_bytes_as_well_as_in_requests() {
    let _watchdog = watchdog(120);
    const BYTES: usize = 50_000;
    let engine =
        Engine::builder().pool_threads(1).mailbox_capacity(1_024).mailbox_bytes(BYTES).build().unwrap();
    let items = slow_collection(&engine);
    // Larger than all that may wait, and taken all the same.
    let stalled = stall(&items);
    assert!(engine.stats().mailbox_bytes[0] > STALL_ROWS * DIM * 4);
    assert_eq!(fill(&items), 0, "the large one holds all bytes");
    stalled.wait().unwrap();
    eventually("its bytes are given back", || engine.stats().mailbox_bytes == [0]);
    let stalled = stall(&items);
    let impatient = items.backpressure(Backpressure::Reject);
    assert!(matches!(impatient.delete(1), Err(WriteError::Full { worker: 0, .. })));
    assert!(engine.stats().writes_refused >= 2);
    stalled.wait().unwrap();
}

#[test]
fn a_refusal_looks_at_nothing_and_takes_microseconds() {
    let _watchdog = watchdog(120);
    let engine = Engine::builder().pool_threads(1).mailbox_capacity(4).build().unwrap();
    let items = slow_collection(&engine);
    let stalled = stall(&items);
    // The last of what created the collection may hold a place for a moment.
    eventually("the mailbox is full", || {
        fill(&items);
        engine.stats().mailbox_depths == [4]
    });
    let impatient = items.backpressure(Backpressure::Reject);
    let looked_at = Cell::new(0);
    let mut times: Vec<Duration> = (0..500)
        .map(|_| {
            let records = (0..10_000).map(|id| {
                looked_at.set(looked_at.get() + 1);
                record(id)
            });
            let started = Instant::now();
            let refused = impatient.upsert_batch(records);
            let took = started.elapsed();
            assert!(matches!(refused, Err(WriteError::Full { capacity: 4, .. })));
            took
        })
        .collect();
    assert!(!stalled.is_visible(), "the stall was too short to show anything: raise STALL_ROWS");
    times.sort_unstable();
    assert_eq!(looked_at.get(), 0, "records were looked at before the refusal");
    assert!(times[250] <= Duration::from_micros(50), "half of the refusals took more than {:?}", times[250]);
    stalled.wait().unwrap();
}

/// Lets the executor turn to others once.
async fn give_way() {
    let mut first = true;
    std::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        if std::mem::take(&mut first) { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
}

// More searches than may be under way, those that are refused come again at
// once: whoever waits for a write gets its place among them.
#[test]
fn searches_that_are_refused_and_come_again_keep_nobody_from_waiting_for_a_write() {
    let _watchdog = watchdog(120);
    const FLOOD: usize = 1_200;
    let engine = Engine::builder().pool_threads(1).mailbox_work(NO_BOUND).build().unwrap();
    let config = CollectionConfig::new(DIM, Metric::L2).index(IndexSpec::Flat);
    let items = engine.create_collection("items", config).unwrap();
    let rows = clustered(3, 5_000, DIM, 5_000);
    items.upsert_batch((0..).zip(rows).map(|(id, row)| Record::new(id, row))).unwrap().wait().unwrap();
    let impatient = items.backpressure(Backpressure::Reject);
    // All on one thread: those who are refused look for a place whenever they
    // are polled, so most often before the one who waits.
    let (answered, over) = (Cell::new(0_u64), Cell::new(false));
    let client = |at: usize| -> Pin<Box<dyn Future<Output = ()> + '_>> {
        let (impatient, answered, over) = (&impatient, &answered, &over);
        Box::pin(async move {
            let vector = record(at as u64).vector().to_vec();
            while !over.get() {
                let query = Query::new(&vector).top(200).at_least(Seq(0));
                match impatient.search_async(query).await {
                    Ok(_) => answered.set(answered.get() + 1),
                    Err(SearchError::Full { .. }) => give_way().await,
                    Err(fault) => panic!("{fault}"),
                }
            }
        })
    };
    let writer = async {
        let mut ahead = Vec::new();
        for id in 0..20 {
            while engine.stats().coordinator_depth < 1_000 {
                give_way().await;
            }
            let before = answered.get();
            items.upsert(record(id)).unwrap().wait_async().await.unwrap();
            ahead.push(answered.get() - before);
        }
        over.set(true);
        ahead.sort_unstable();
        assert!(ahead[10] < 256, "so many searches went before a write: {ahead:?}");
    };
    let clients = (0..FLOOD).map(client);
    drive(clients.chain([Box::pin(writer) as Pin<Box<dyn Future<Output = ()> + '_>>]), |()| {});
    assert!(engine.stats().searches_refused > 0);
}

// Searches that take long, more than the worker can answer: a write that comes
// in between waits for a few of them, not for all that are queued.
#[test]
fn a_flood_of_searches_does_not_keep_a_write_waiting() {
    let _watchdog = watchdog(120);
    const FLOOD: usize = 256;
    let engine = Engine::builder().pool_threads(1).mailbox_work(NO_BOUND).build().unwrap();
    let config = CollectionConfig::new(DIM, Metric::L2).index(IndexSpec::Flat);
    let items = engine.create_collection("items", config).unwrap();
    let rows = clustered(3, 20_000, DIM, 20_000);
    items.upsert_batch((0..).zip(rows).map(|(id, row)| Record::new(id, row))).unwrap().wait().unwrap();
    let (answered, over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let search = |at: usize| -> Pin<Box<dyn Future<Output = ()> + '_>> {
                    let query = Query::new(record(at as u64).vector().to_vec()).top(500).at_least(Seq(0));
                    let (items, answered) = (&items, &answered);
                    Box::pin(async move {
                        items.search_async(query.into_owned()).await.unwrap();
                        answered.fetch_add(1, Ordering::Relaxed);
                    })
                };
                drive((0..FLOOD).map(search), |()| {});
            }
        });
        let mut ahead = Vec::new();
        for id in 0..40 {
            // In the middle of a flood: most of it is still queued.
            eventually("a flood is under way", || engine.stats().coordinator_depth > FLOOD / 2);
            let before = answered.load(Ordering::Relaxed);
            items.upsert(record(id)).unwrap().wait().unwrap();
            ahead.push(answered.load(Ordering::Relaxed) - before);
        }
        over.store(true, Ordering::Relaxed);
        ahead.sort_unstable();
        assert!(ahead[20] < FLOOD as u64 / 4, "so many searches went before a write: {ahead:?}");
    });
}

#[test]
fn a_search_that_demands_no_write_waits_for_none() {
    let _watchdog = watchdog(120);
    let engine = Engine::builder().pool_threads(1).build().unwrap();
    let items = slow_collection(&engine);
    items.upsert(record(1)).unwrap().wait().unwrap();
    let stalled = stall(&items);
    let query = || Query::new(record(1).vector().to_vec()).top(3);
    for _ in 0..20 {
        let answer = block_on(items.search_async(query().at_least(Seq(0)))).unwrap();
        assert_eq!((answer.len(), answer.seq()), (1, Seq(1)));
    }
    assert!(!stalled.is_visible(), "the stall was too short to show anything: raise STALL_ROWS");
    let answer = block_on(items.search_async(query())).unwrap();
    assert_eq!(
        (answer.len(), answer.seq()),
        (3, stalled.seq()),
        "without a demand it shows what was accepted"
    );
}

fn overloaded(data: &Data) -> UnderLoad<'_> {
    let engine = Engine::builder().pool_threads(1).build().unwrap();
    let config = CollectionConfig::new(data.dim, Metric::L2);
    let items = engine.create_collection("items", config).unwrap().backpressure(Backpressure::Reject);
    let records = (0..4_000).map(|key| Record::new(key, data.row(key)));
    items.upsert_batch(records).unwrap().wait().unwrap();
    let asking = Asking {
        way: Way::Workers,
        k: 200,
        params: None,
        published_is_enough: true,
        judge_every: 500,
        watch_every: 0,
        batch: 10,
        selectivity: 0.1,
    };
    UnderLoad { engine, items, data, asking, judge: Judge::new() }
}

fn measured(target: &UnderLoad<'_>, keys: (u64, u64), arrivals: Arrivals, millis: u64) -> Outcome {
    let feed = FeedSettings {
        arrivals,
        length: Duration::from_millis(millis),
        mix: Mix::parse("search=96,upsert=2,insert=1,delete=1").unwrap(),
        keys: Popularity::Zipf(0.99),
        queries: Popularity::Uniform,
        query_count: data_queries(target),
        oldest: keys.0,
        newest: keys.1,
        batch: 10,
        cap: 5_000,
        seed: 11,
    };
    let scenario = Scenario {
        title: "overload".to_owned(),
        feed,
        threads: 1,
        beside: None,
        warm_up: Duration::from_millis(millis / 4),
        interval: Duration::from_millis(millis / 8),
        useful_within: None,
        notes: Default::default(),
    };
    run(&scenario, target, Some(&target.judge), &mut |_| {}).unwrap()
}

/// The share of its peak that an engine keeps at ten times as many requests, and
/// the keys there are then.
fn kept_at_ten_times_too_much(target: &UnderLoad<'_>, keys: (u64, u64)) -> (f64, (u64, u64)) {
    let alone = measured(target, keys, Arrivals::Closed { clients: 64 }, 1_500);
    let peak = alone.report.totals;
    let peak_rate = peak.per_second(peak.done);
    let outcome = measured(target, alone.keys, Arrivals::Poisson { rate: 10.0 * peak_rate }, 2_000);
    let over = &outcome.report.totals;
    assert_eq!(outcome.report.faults(), Vec::<String>::new());
    assert!(over.refused > over.done, "{over:?}");
    let refusal = over.refusal.unwrap();
    assert!(refusal.p50 <= 50.0, "refusals: {refusal:?}");
    assert!(over.resident_last_mb - over.resident_first_mb < 64.0, "memory grew: {over:?}");
    (over.per_second(over.done) / peak_rate, outcome.keys)
}

fn data_queries(target: &UnderLoad<'_>) -> u64 {
    target.data.query_count() as u64
}

// The margins are those of a busy machine with two cores, of which the load
// generator takes one; `load_harness` measures without them.
#[test]
fn at_ten_times_its_capacity_an_engine_goes_on_and_recovers() {
    let _watchdog = watchdog(180);
    let data = Data::generated(8_000, 64, 200, 4);
    let target = overloaded(&data);
    let (mut keys, mut kept) = ((0, 4_000), Vec::new());
    while kept.len() < TRIES && kept.iter().all(|share| *share <= KEPT) {
        let (share, after) = kept_at_ten_times_too_much(&target, keys);
        kept.push(share);
        keys = after;
    }
    assert!(kept.iter().any(|share| *share > KEPT), "{kept:.2?} of the peak");
    let started = Instant::now();
    target.items.flush().unwrap();
    let query = Query::new(data.query(1).to_vec()).top(10);
    assert_eq!(block_on(target.items.search_async(query)).unwrap().len(), 10);
    assert!(started.elapsed() < NORMAL_WITHIN, "normal again after {:?}", started.elapsed());
    eventually("nothing is left queued", || target.engine.stats().mailbox_depths == [0]);
    assert!(target.items.verify().unwrap().is_sound());
}
