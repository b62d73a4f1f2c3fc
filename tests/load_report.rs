//! Goal: a report of `examples/load_harness` says what was measured: the
//! warm-up is left out, what never ends is counted, limits are those of every
//! request that was due, and settings that make no sense are refused.
//!
//! Method: targets whose behaviour is known, reports that are made up, and
//! command lines.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test may fail loudly")]

#[allow(dead_code, reason = "a test uses a part of this")]
#[path = "../examples/load_harness/arguments.rs"]
mod arguments;
mod common;
#[path = "../examples/load_harness/load/mod.rs"]
mod load;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use arguments::Arguments;
use common::watchdog;
use load::arrivals::Arrivals;
use load::check::{self, Evidence, Judge, Judged};
use load::feed::{Feed, FeedSettings, Request};
use load::issue::Issuing;
use load::limits::{Broken, Limits, highest};
use load::mix::{Mix, Operation};
use load::report::{OperationTotal, Quantiles, Report, Totals};
use load::rng::Popularity;
use load::run::{Beside, Scenario, run};
use load::soak::Holding;
use load::target::{Call, Gauges, NoOp, Outcome, Prepared, Reply, Target};
use load::window::Window;
use vecino::{Collection, CollectionConfig, Engine, Metric, Query, Record};

fn feed(arrivals: Arrivals, mix: &str, millis: u64) -> FeedSettings {
    FeedSettings {
        arrivals,
        length: Duration::from_millis(millis),
        mix: Mix::parse(mix).unwrap(),
        keys: Popularity::Uniform,
        queries: Popularity::Uniform,
        query_count: 100,
        oldest: 0,
        newest: 1_000,
        batch: 10,
        cap: 1_000,
        seed: 7,
    }
}

fn scenario(feed: FeedSettings) -> Scenario {
    Scenario {
        title: "test".to_owned(),
        feed,
        threads: 1,
        beside: None,
        warm_up: Duration::ZERO,
        interval: Duration::from_millis(100),
        useful_within: None,
        notes: Default::default(),
    }
}

/// Replies as a closure says.
struct Replying<F>(F);

impl<F: Fn(&Request) -> Reply<'static> + Sync> Target for Replying<F> {
    fn describe(&self) -> String {
        "a closure".to_owned()
    }

    fn prepare(&self, request: Request) -> Prepared {
        Prepared { request, records: Vec::new() }
    }

    fn call(&self, prepared: Prepared) -> Call<'_> {
        Call::Now((self.0)(&prepared.request))
    }

    fn gauges(&self) -> Gauges {
        Gauges::default()
    }
}

// Stretches longer than the warm-up: the first ends with it.
#[test]
fn the_warm_up_is_left_out_whatever_the_length_of_a_stretch() {
    let _watchdog = watchdog(60);
    let feed = feed(Arrivals::Constant { rate: 1_000.0 }, "search=1", 600);
    for interval in [50, 150, 500, 2_000] {
        let interval = Duration::from_millis(interval);
        let scenario = Scenario { warm_up: Duration::from_millis(200), interval, ..scenario(feed) };
        let report = run(&scenario, &NoOp, None, &mut |_| {}).unwrap().report;
        let (warm, rest): (Vec<_>, Vec<_>) = report.intervals.iter().partition(|stretch| stretch.warm_up);
        let offered: u64 = warm.iter().map(|stretch| stretch.offered).sum();
        assert!(offered >= 200, "{offered} requests came in 200 ms of warm-up, stretches of {interval:?}");
        assert_eq!(report.totals.offered + offered, 600);
        let began = rest.first().map(|first| first.at_s - first.seconds).unwrap();
        assert!((0.2..0.5).contains(&began), "the totals begin after {began} s, stretches of {interval:?}");
        assert!(report.totals.due_seconds <= 0.4 + 1e-6, "{:?}", report.totals);
    }
}

/// What one thread measures that does not wait for long at the end.
fn issued(target: &dyn Target, feed: FeedSettings) -> Window {
    let issuing = Issuing {
        target,
        feed: Feed::new(feed),
        started: Instant::now(),
        clients: None,
        limit_ns: u64::MAX,
        patience: Duration::from_millis(50),
        stop: AtomicBool::new(false),
    };
    let window = Mutex::new(Window::default());
    issuing.run(&window);
    window.into_inner().unwrap()
}

#[test]
fn writes_that_are_never_found_are_missing_and_not_fresh() {
    let _watchdog = watchdog(60);
    let never = Replying(|request: &Request| {
        let number = request.number;
        let visible = async move {
            if number.is_multiple_of(4) {
                std::future::pending::<()>().await;
            }
            number % 4 == 1
        };
        Reply { visible: Some(Box::pin(visible)), ..Outcome::Done.into() }
    });
    let window = issued(&never, feed(Arrivals::Constant { rate: 4_000.0 }, "insert=1", 100));
    assert_eq!(window.sum(|of| of.done), 400);
    assert_eq!((window.fresh.len(), window.missing, window.unfinished), (100, 300, 0));
}

fn operation(name: &str, due: u64, good: u64) -> OperationTotal {
    OperationTotal {
        operation: name.to_owned(),
        due,
        done: good,
        good,
        short: 0,
        refused: 0,
        failed: 0,
        first_failure: None,
        latency: None,
        service: None,
        curve: Vec::new(),
    }
}

/// A run in which all that was answered was answered in 1 ms.
fn made_up(operations: Vec<OperationTotal>, recall: Option<f64>) -> Report {
    let sum = |of: fn(&OperationTotal) -> u64| operations.iter().map(of).sum::<u64>();
    let search = Some(Quantiles { count: 1, p99: 1_000.0, ..Quantiles::default() });
    let (offered, done) = (sum(|of| of.due), sum(|of| of.done));
    let totals = Totals { seconds: 1.0, offered, done, search, recall, judged: 100, ..Totals::default() };
    Report { totals, operations, ..Report::default() }
}

const LIMITS: Limits = Limits { p99_us: 2_000.0, recall: 0.95 };

#[test]
fn a_limit_is_one_of_all_searches_that_were_due() {
    let broken = |report: &Report| LIMITS.broken_by(report);
    let is_time = |report: &Report| matches!(broken(report), Some(Broken::Time(_)));
    let is_recall = |report: &Report| matches!(broken(report), Some(Broken::Recall(_)));
    assert_eq!(broken(&made_up(vec![operation("search", 1_000, 995)], Some(0.96))), None);
    assert!(is_time(&made_up(vec![operation("search", 1_000, 985)], Some(0.96))), "15 were skipped");
    let filtered = vec![operation("search", 500, 500), operation("filtered", 500, 480)];
    assert!(is_time(&made_up(filtered, Some(0.96))), "searches with a filter are searches");
    let writes = vec![operation("search", 1_000, 1_000), operation("insert", 1_000, 900)];
    assert!(is_time(&made_up(writes, Some(0.96))), "writes are not lost either");
    assert!(is_recall(&made_up(vec![operation("search", 1_000, 1_000)], Some(0.94))));
    assert!(is_recall(&made_up(vec![operation("search", 1_000, 1_000)], None)), "nobody judged");
    let any = Limits { recall: 0.0, ..LIMITS };
    assert_eq!(any.broken_by(&made_up(vec![operation("search", 1_000, 1_000)], None)), None);
    let slow = Limits { p99_us: 900.0, ..LIMITS };
    assert!(slow.broken_by(&made_up(vec![operation("search", 1_000, 1_000)], Some(0.96))).is_some());
}

#[test]
fn the_highest_rate_is_not_forgotten_when_recall_falls_above_it() {
    let found = |most: f64, first: f64| {
        let mut tried = 0;
        let measure = &mut |rate: f64| {
            tried += 1;
            Ok((rate, (rate > most).then(|| Broken::Recall("too low".to_owned()))))
        };
        (highest(first, measure).unwrap().map(|(rate, _)| rate), tried)
    };
    let rate = found(3_000.0, 500.0).0.unwrap();
    assert!((2_700.0..=3_000.0).contains(&rate), "{rate}");
    assert!(found(300.0, 1_000.0).0.unwrap() > 270.0, "below the first rate");
    let (none, tried) = found(0.0, 1_000.0);
    assert!(none.is_none() && tried < 6, "less load does not help: {tried} rates");
}

#[test]
fn searches_with_and_without_a_filter_are_timed_together() {
    let _watchdog = watchdog(60);
    let done = Replying(|_: &Request| Outcome::Done.into());
    let feed = feed(Arrivals::Constant { rate: 2_000.0 }, "search=1,filtered=1,insert=1", 300);
    let report = run(&scenario(feed), &done, None, &mut |_| {}).unwrap().report;
    let due = |name: &str| report.operation(name).unwrap().due;
    assert_eq!(report.totals.search.unwrap().count, due("search") + due("filtered"));
    assert_eq!(due("search") + due("filtered") + due("insert"), 600);
}

fn collection(metric: Metric) -> (Engine, Collection) {
    let engine = Engine::builder().pool_threads(1).build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(4, metric)).unwrap();
    (engine, items)
}

fn vector(key: u64) -> Vec<f32> {
    (0..4).map(|at| ((key * 7 + at * 13) % 31) as f32 * 100.0).collect()
}

// By inner product distances are negative: a limit that is the last one times
// a little more lies before it.
#[test]
fn an_exact_answer_finds_all_by_every_metric() {
    for metric in common::METRICS {
        let (_engine, items) = collection(metric);
        items.upsert_batch((1..200).map(|key| Record::new(key, vector(key)))).unwrap().wait().unwrap();
        let query = Query::new(vec![900.0, 800.0, 700.0, 100.0]).exact();
        let answer = items.search(&query.clone().top(10)).unwrap();
        assert_eq!(check::found(&answer, &answer), 10, "{metric:?}");
        // More hits than were asked for are no more than all.
        let more = items.search(&query.clone().top(20)).unwrap();
        assert_eq!(check::found(&more, &answer), 10, "{metric:?}");
    }
}

#[test]
fn what_a_collection_holds_is_told_apart_whatever_its_order_and_what_expires() {
    let (_first, a) = collection(Metric::L2);
    let (_second, b) = collection(Metric::L2);
    let record = |key: u64| Record::new(key, vector(key)).with("group", key as i64).with("seen", 1_i64);
    a.upsert_batch((1..50).map(record)).unwrap().wait().unwrap();
    b.upsert_batch((1..50).rev().map(record)).unwrap().wait().unwrap();
    let lapse = Record::new("lapse-1", vector(1)).ttl(Duration::from_secs(1_000));
    b.upsert(lapse).unwrap().wait().unwrap();
    let of = |items: &Collection| Holding::of(&items.snapshot()).unwrap();
    assert_eq!((of(&a), of(&a).records), (of(&b), 49));
    b.upsert(record(7).with("seen", 2_i64)).unwrap().wait().unwrap();
    assert_ne!(of(&a), of(&b), "another payload");
    b.upsert(record(7)).unwrap().wait().unwrap();
    assert_eq!(of(&a), of(&b));
    b.upsert(Record::new(7, vector(8)).with("group", 7_i64).with("seen", 1_i64)).unwrap().wait().unwrap();
    assert_ne!(of(&a), of(&b), "another vector");
}

struct Fine;

impl Evidence for Fine {
    fn judge(&self) -> Judged {
        Judged { answers: 1, ..Judged::default() }
    }
}

// Whoever shows the progress may panic: the senders wait for a judge who works
// until they have ended, and all threads are joined.
#[test]
fn a_run_whose_watcher_panics_comes_to_its_end() {
    let _watchdog = watchdog(60);
    let mut judge = Judge::new();
    judge.be_strict();
    let judge: &'static Judge<'static> = Box::leak(Box::new(judge));
    let judged =
        Replying(|_: &Request| Reply { after: Some(Box::new(|| judge.offer(Fine))), ..Outcome::Done.into() });
    let scenario = scenario(feed(Arrivals::Closed { clients: 1 }, "search=1", 3_600_000));
    let went = catch_unwind(AssertUnwindSafe(|| {
        run(&scenario, &judged, Some(judge), &mut |_| panic!("nobody reads this")).is_ok()
    }));
    assert!(went.is_err());
}

#[test]
fn two_streams_do_not_take_the_same_keys() {
    let closed = Arrivals::Closed { clients: 1 };
    let with = |reads: &str, writes: &str| {
        let beside = Some(Beside { feed: feed(closed, writes, 20), threads: 1 });
        run(&Scenario { beside, ..scenario(feed(closed, reads, 20)) }, &NoOp, None, &mut |_| {}).err()
    };
    for (reads, writes) in [("search=1", "insert=1,delete=1"), ("search=9,insert=1", "upsert=1,page=1")] {
        assert!(with(reads, writes).is_none());
    }
    for (reads, writes) in [("search=9,delete=1", "insert=1"), ("batch=1", "insert=1")] {
        assert!(with(reads, writes).unwrap().to_string().contains("the same keys"));
    }
}

// More clients than `in-flight` are no reason to skip anything, or to spin.
#[test]
fn a_closed_loop_has_no_cap() {
    let _watchdog = watchdog(60);
    let closed = Arrivals::Closed { clients: 4 };
    let few = FeedSettings { cap: 1, ..feed(closed, "search=1", 100) };
    let done = Replying(|_: &Request| {
        std::thread::sleep(Duration::from_millis(1));
        Outcome::Done.into()
    });
    let report = run(&Scenario { threads: 4, ..scenario(few) }, &done, None, &mut |_| {}).unwrap().report;
    assert_eq!((report.totals.skipped, report.totals.done), (0, report.totals.offered));
    assert_eq!(report.operation(Operation::Search.name()).unwrap().due, report.totals.offered);
}

fn read(line: &str) -> load::Result<Arguments> {
    Arguments::read(lexopt::Parser::from_args(line.split_whitespace()))
}

#[test]
fn numbers_that_nothing_can_be_done_with_are_refused() {
    for line in [
        "--useful-ms -1",
        "--useful-ms nan",
        "--useful-ms 1e300",
        "--seconds inf",
        "--seconds 0",
        "--warm-up nan",
        "--warm-up -1",
        "--interval inf",
        "--interval 0",
        "--dim 0",
        "--rows 0",
        "--loaded 0",
        "--batch 0",
        "--shards 0",
        "--threads 0",
        "--in-flight 0",
        "--k 0",
        "--selectivity 1.5",
        "--target-recall 2",
        "sweep --rates 500,-1",
        "sweep --rates inf",
        "sweep --shard-list 1,0",
        "sweep --efs 0",
        "sweep --selectivities 0.1,nan",
        "find --p99 0",
        "find --recall 95",
    ] {
        let fault = read(line).err().map(|fault| fault.to_string());
        assert!(fault.as_ref().is_some_and(|fault| fault.contains("it must be")), "{line}: {fault:?}");
    }
}

#[test]
fn options_without_effect_are_refused() {
    for line in [
        "sweep --arrivals ramp:1-9",
        "find --arrivals closed:4",
        "find --arrivals bursts:1,9,5,1",
        "find --judge-every 0",
        "find --useful-ms 5",
        "soak --mix search=1",
        "soak --target vecino-workers",
        "soak --batch 5",
        "soak --watch-every 5",
        "goals --target vecino",
        "run --panics 100",
        "run --rates 100",
        "run --write-arrivals poisson:100",
        "--quick --folder here",
        "compare a b --quick",
    ] {
        assert!(read(line).is_err(), "{line}");
    }
}

#[test]
fn commands_of_the_readme_are_read() {
    for line in [
        "--quick",
        "--arrivals poisson:2000 --mix search=90,upsert=5,insert=2.5,delete=2.5",
        "find --p99 2 --recall 0.95 --efs 16,32,64",
        "find --recall 0 --judge-every 0",
        "sweep --rates 500,1000,2000 --shard-list 1,2",
        "runbook RUNBOOK.yaml --data DIR",
        "soak --folder DB --arrivals closed:4 --seconds 3600 --panics 100000",
        "self-check",
        "goals writer --data DIR --rows 60000 --seconds 10",
        "peers --data DIR --recall 0.99 --loaded 15000 --seconds 8",
        "--arrivals closed:2000 --useful-ms 100",
        "--writers 1 --mix search=1 --writes insert=1 --write-arrivals poisson:100",
    ] {
        assert!(read(line).is_ok(), "{line}: {:?}", read(line).err());
    }
    let scaled = read("soak --quick").unwrap();
    assert_eq!((scaled.seconds, scaled.rows), (1.0, 6_000));
}
