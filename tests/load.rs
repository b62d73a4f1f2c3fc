//! Goal: the load generator of `examples/load_harness` tells the truth: a
//! stall is charged for everybody who waited, what it skips is counted, the
//! same seed asks the same things, and wrong answers are noticed.
//!
//! Method: targets whose behaviour is known (they stall, refuse, or answer too
//! little), and vecino itself for the judge. Stalls are work that ends by the
//! clock; times are compared with wide margins, on the side that a busy
//! machine does not push.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test may fail loudly")]

mod common;
#[path = "../examples/load_harness/load/mod.rs"]
mod load;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{eventually, watchdog};
use load::arrivals::{Arrivals, Schedule};
use load::check::{Evidence, Judge};
use load::collection::{Asking, UnderLoad, Way};
use load::data::Data;
use load::feed::{Feed, FeedSettings, Request};
use load::ledger;
use load::mix::{Mix, Operation};
use load::peers::oracle::{Claim, Oracle, distance};
use load::peers::{Kind, NotBuiltIn, Passing, Peer, PeerAsking, PeerUnderLoad, Plan};
use load::report::Report;
use load::rng::{Popularity, Rng};
use load::run::{Beside, Outcome, Scenario, run};
use load::soak::Soak;
use load::target::{Call, Gauges, Outcome as Ended, Prepared, Target, Unsupported};
use vecino::{Backpressure, CollectionConfig, Engine, Metric, Record};

fn settings(arrivals: Arrivals, millis: u64) -> FeedSettings {
    FeedSettings {
        arrivals,
        length: Duration::from_millis(millis),
        mix: Mix::parse("search=1").unwrap(),
        keys: Popularity::Uniform,
        queries: Popularity::Uniform,
        query_count: 100,
        oldest: 0,
        newest: 1_000,
        batch: 10,
        cap: 100_000,
        seed: 7,
    }
}

fn scenario(feed: FeedSettings, threads: usize) -> Scenario {
    Scenario {
        title: "test".to_owned(),
        feed,
        threads,
        beside: None,
        warm_up: Duration::ZERO,
        interval: Duration::from_millis(100),
        useful_within: None,
        notes: Default::default(),
    }
}

fn measured(scenario: &Scenario, target: &dyn Target) -> Outcome {
    run(scenario, target, None, &mut |_| {}).unwrap()
}

/// Answers as a closure says.
struct Closure<F>(F);

impl<F: Fn(&Request) -> Ended + Sync> Target for Closure<F> {
    fn describe(&self) -> String {
        "a closure".to_owned()
    }

    fn prepare(&self, request: Request) -> Prepared {
        Prepared { request, records: Vec::new() }
    }

    fn call(&self, prepared: Prepared) -> Call<'_> {
        Call::Now(self.0(&prepared.request).into())
    }

    fn gauges(&self) -> Gauges {
        Gauges::default()
    }
}

fn work_for(time: Duration) {
    let started = Instant::now();
    while started.elapsed() < time {
        std::hint::spin_loop();
    }
}

// 1,000 requests a second and one stall of 300 ms: 300 requests were due in
// it, and waited 150 ms on average. A closed loop would have sent one of them.
#[test]
fn a_stall_is_charged_for_every_request_that_was_due_in_it() {
    let _watchdog = watchdog(60);
    let stall = Closure(|request: &Request| {
        if request.number == 100 {
            work_for(Duration::from_millis(300));
        }
        Ended::Done
    });
    let scenario = scenario(settings(Arrivals::Constant { rate: 1_000.0 }, 1_000), 1);
    let report = measured(&scenario, &stall).report;
    assert_eq!((report.totals.offered, report.totals.done, report.totals.skipped), (1_000, 1_000, 0));
    let latency = report.totals.latency.unwrap();
    assert!(latency.p90 >= 150_000.0, "a tenth of all requests waited for more than 150 ms: {latency:?}");
    let service = report.operations[0].service.unwrap();
    assert!(service.p90 < 150_000.0, "only one of them took so long itself: {service:?}");
}

#[test]
fn what_goes_beyond_the_cap_is_skipped_and_counted() {
    let _watchdog = watchdog(60);
    let slow = Closure(|_: &Request| {
        work_for(Duration::from_millis(10));
        Ended::Done
    });
    let feed = FeedSettings { cap: 5, ..settings(Arrivals::Constant { rate: 1_000.0 }, 500) };
    let totals = measured(&scenario(feed, 1), &slow).report.totals;
    assert_eq!(totals.offered, 500);
    assert_eq!(totals.done + totals.skipped, 500);
    assert!(totals.done <= 60, "one at a time, 10 ms each: {} in half a second", totals.done);
    let latency = totals.latency.unwrap();
    assert!(latency.p50 >= 20_000.0, "whoever got a place waited behind others: {latency:?}");
}

#[test]
fn a_closed_loop_sends_as_many_as_it_has_clients_and_no_more() {
    let _watchdog = watchdog(60);
    let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
    let target = Closure(|_: &Request| {
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        work_for(Duration::from_micros(200));
        now.fetch_sub(1, Ordering::SeqCst);
        Ended::Done
    });
    let totals =
        measured(&scenario(settings(Arrivals::Closed { clients: 3 }, 200), 3), &target).report.totals;
    assert!(totals.done > 10 && totals.done == totals.offered, "{totals:?}");
    assert!(most.into_inner() <= 3);
}

#[test]
fn refusals_and_failures_are_told_apart_and_not_counted_as_answers() {
    let target = Closure(|request: &Request| match request.number % 4 {
        0 => Ended::Done,
        1 => Ended::Short,
        2 => Ended::Refused,
        _ => Ended::Failed("on purpose".to_owned()),
    });
    let report = measured(&scenario(settings(Arrivals::Constant { rate: 4_000.0 }, 100), 1), &target).report;
    let totals = &report.totals;
    assert_eq!((totals.done, totals.short, totals.refused, totals.failed), (200, 100, 100, 100));
    assert_eq!(totals.latency.unwrap().count, 200);
    assert_eq!(totals.refusal.unwrap().count, 100);
    assert!(report.faults().iter().any(|fault| fault.contains("on purpose")), "{:?}", report.faults());
}

#[test]
fn every_kind_of_arrivals_comes_at_its_rate() {
    let count = |arrivals| Schedule::new(arrivals, Duration::from_secs(20), 3).count() as f64;
    let near = |count: f64, wanted: f64| assert!((count / wanted - 1.0).abs() < 0.05, "{count}: {wanted}");
    near(count(Arrivals::Constant { rate: 500.0 }), 10_000.0);
    near(count(Arrivals::Poisson { rate: 500.0 }), 10_000.0);
    near(count(Arrivals::Ramp { from: 100.0, to: 900.0 }), 10_000.0);
    near(count(Arrivals::Ramp { from: 900.0, to: 100.0 }), 10_000.0);
    near(count(Arrivals::Bursts { rate: 100.0, peak: 1_000.0, every: 5.0, length: 1.0 }), 5_600.0);
}

#[test]
fn a_ramp_grows_and_a_burst_comes_where_it_should() {
    let length = Duration::from_secs(10);
    let early = |arrivals| {
        let all: Vec<u64> = Schedule::new(arrivals, length, 3).collect();
        assert!(all.windows(2).all(|pair| pair[0] <= pair[1]), "in order");
        all.iter().filter(|at| **at < 5_000_000_000).count() as f64 / all.len() as f64
    };
    let ramp = early(Arrivals::Ramp { from: 0.001, to: 2_000.0 });
    assert!((ramp - 0.25).abs() < 0.02, "a quarter of a triangle is in its first half: {ramp}");
    let burst = early(Arrivals::Bursts { rate: 100.0, peak: 900.0, every: 10.0, length: 5.0 });
    assert!((burst - 0.9).abs() < 0.02, "{burst}");
}

#[test]
fn zipf_prefers_low_ranks_as_its_exponent_says() {
    let mut rng = Rng::new(5);
    for exponent in [0.7, 0.99, 1.0, 1.3] {
        let mut counts = [0_u32; 100];
        for _ in 0..200_000 {
            counts[Popularity::Zipf(exponent).draw(&mut rng, 100) as usize] += 1;
        }
        for rank in [2_usize, 5, 20] {
            let wanted = (rank as f64).powf(exponent);
            let ratio = f64::from(counts[0]) / f64::from(counts[rank - 1]);
            assert!((ratio / wanted - 1.0).abs() < 0.15, "{exponent}: rank {rank} {ratio}, not {wanted}");
        }
    }
    assert_eq!(Popularity::Zipf(1.0).draw(&mut rng, 1), 0);
    assert_eq!(Popularity::Uniform.draw(&mut rng, 1), 0);
}

#[test]
fn the_same_seed_asks_the_same_things_whoever_takes_them() {
    let mix = Mix::parse("search=5,insert=1,upsert=1,delete=1,batch=0.2,page=0.2").unwrap();
    let feed = FeedSettings { mix, ..settings(Arrivals::Poisson { rate: 5_000.0 }, 1_000) };
    let drawn = |seed: u64, now_ns: u64| {
        let feed = Feed::new(FeedSettings { seed, ..feed });
        let requests: Vec<Request> = std::iter::from_fn(|| feed.take(now_ns)).collect();
        requests
    };
    let early = drawn(9, 0);
    assert!(early.len() > 4_500);
    let late = drawn(9, u64::MAX);
    let same = early.iter().zip(&late).take_while(|(early, late)| early == late).count();
    assert_eq!((same, late.len()), (early.len(), early.len()), "late takers get the same");
    assert_ne!(early[0].query, drawn(10, 0)[0].query);
    let inserted: Vec<u64> =
        early.iter().filter(|r| r.operation == Operation::Insert).map(|r| r.key).collect();
    assert!(inserted.windows(2).all(|pair| pair[0] < pair[1]), "a new record has a new key");
}

fn small(data: &Data, way: Way) -> UnderLoad<'_> {
    let engine = Engine::builder().pool_threads(1).build().unwrap();
    let config = CollectionConfig::new(data.dim, Metric::L2);
    let items = engine.create_collection("items", config).unwrap().backpressure(Backpressure::Reject);
    let records = (0..1_000).map(|key| Record::new(key, data.row(key)));
    items.upsert_batch(records).unwrap().wait().unwrap();
    let asking = Asking {
        way,
        k: 5,
        params: None,
        published_is_enough: false,
        judge_every: 10,
        watch_every: 3,
        batch: 10,
        selectivity: 0.05,
    };
    UnderLoad { engine, items, data, asking, judge: Judge::new() }
}

#[test]
fn vecino_under_a_mixed_load_answers_rightly_in_both_ways() {
    let _watchdog = watchdog(120);
    let data = Data::generated(2_000, 16, 50, 4);
    for way in [Way::Caller, Way::Workers] {
        let mut target = small(&data, way);
        target.judge.be_strict();
        let mix =
            Mix::parse("search=60,filtered=15,insert=6,upsert=6,update=4,lapse=2,delete=6,batch=1,page=1")
                .unwrap();
        let feed = FeedSettings { mix, ..settings(Arrivals::Poisson { rate: 1_000.0 }, 1_500) };
        let outcome = run(&scenario(feed, 2), &target, Some(&target.judge), &mut |_| {}).unwrap();
        let report = outcome.report;
        assert_eq!(report.faults(), Vec::<String>::new());
        let totals = &report.totals;
        assert!(totals.done > 1_000 && totals.done + totals.refused == totals.offered, "{totals:?}");
        assert!(totals.judged > 20 && totals.recall.unwrap() > 0.8, "{totals:?}");
        assert!(totals.fresh.unwrap().count > 20, "{totals:?}");
        assert!(report.operations.len() == Operation::COUNT);
        assert!(outcome.log.starts_with(b"#") && outcome.log.len() > 1_000);
        let log = String::from_utf8(outcome.log).unwrap();
        assert!(log.contains("Tag=search,") && log.contains("Tag=fresh,"), "all times are in the log");
        let text = serde_json::to_string(&report).unwrap();
        let read: Report = serde_json::from_str(&text).unwrap();
        assert_eq!((read.totals.done, read.intervals.len()), (totals.done, report.intervals.len()));
        target.items.flush().unwrap();
        assert!(target.items.verify().unwrap().is_sound());
    }
}

// A few seconds of what `load_harness soak` does for hours.
#[test]
fn a_soak_finds_nothing_wrong_and_checks_every_answer() {
    let _watchdog = watchdog(120);
    let data = Data::generated(3_000, 16, 50, 4);
    let mut target = small(&data, Way::Caller);
    target.judge.be_strict();
    (target.asking.judge_every, target.asking.watch_every) = (1, 1);
    let folder = std::env::temp_dir().join(format!("vecino-soak-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (items, over) = (target.items.clone(), AtomicBool::new(false));
    let soak = Soak { items: &items, data: &data, folder: folder.clone(), seed: 3 };
    let mix = Mix::parse("search=55,filtered=10,upsert=12,insert=8,update=4,lapse=2,delete=8,batch=1,page=1")
        .unwrap();
    let feed = FeedSettings { mix, ..settings(Arrivals::Closed { clients: 2 }, 3_000) };
    let (report, soaked) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| soak.run(&over));
        let outcome = run(&scenario(feed, 2), &target, Some(&target.judge), &mut |_| {});
        over.store(true, Ordering::Relaxed);
        (outcome.unwrap().report, watcher.join().unwrap())
    });
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!((report.faults(), soaked.faults), (Vec::new(), Vec::<String>::new()));
    let searches: u64 = ["search", "filtered"].map(|name| report.operation(name).unwrap().done).iter().sum();
    assert_eq!(report.totals.judged, searches, "every answer was judged");
    assert!(searches > 200 && soaked.compared > 10 && soaked.checkpoints > 1 && soaked.verified > 2);
    assert!(report.totals.recall.unwrap() > 0.9);
}

// One who does not keep to the ledger deletes and writes beside it.
#[test]
fn a_ledger_finds_what_was_acknowledged_and_notices_what_is_lost_or_was_not_asked_for() {
    let _watchdog = watchdog(60);
    let engine = Engine::builder().pool_threads(1).build().unwrap();
    let items = engine.create_collection("ledger", ledger::config()).unwrap();
    let kept = while_kept(&items, |writes| writes >= 250);
    assert_eq!(kept.faults, Vec::<String>::new());
    assert!(kept.writes >= 250 && kept.searches > 50 && !kept.known.is_empty());
    ledger::compare(&items, &kept.known).unwrap();
    let some = *kept.known.keys().next().unwrap();
    items.delete(some).unwrap().wait().unwrap();
    let lost = ledger::compare(&items, &kept.known).unwrap_err().to_string();
    assert!(lost.ends_with(&format!("not as they were: [{some}]")), "{lost}");
    items.upsert(vecino::Record::new("stray", vec![0.0; 12])).unwrap().wait().unwrap();
    assert!(ledger::compare(&items, &kept.known).is_err());
}

/// Keeps a ledger until there were so many writes.
fn while_kept(items: &vecino::Collection, is_enough: impl Fn(u64) -> bool) -> ledger::Kept {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let keep = || ledger::keep(items, 7, &over);
        let keeper = std::thread::Builder::new().name("ledger".to_owned()).spawn_scoped(scope, keep).unwrap();
        eventually("the ledger is long enough", || is_enough(items.stats().seq.0));
        over.store(true, Ordering::Relaxed);
        keeper.join().unwrap()
    })
}

#[test]
fn the_judge_notices_answers_that_are_wrong_or_incomplete() {
    let data = Data::generated(2_000, 16, 50, 4);
    let target = small(&data, Way::Caller);
    let query = vecino::Query::new(data.query(1)).top(5);
    let right = target.items.search(&query.clone().exact()).unwrap();
    let other = target.items.search(&vecino::Query::new(data.query(2)).top(5)).unwrap();
    let judged = |answer: &vecino::Answer, snapshot| {
        let query = query.clone().into_owned();
        load::check::Sample { snapshot, query, answer: Some(answer.clone()) }.judge()
    };
    let fine = judged(&right, target.items.snapshot());
    assert_eq!((fine.recall(), fine.wrong), (Some(1.0), 0));
    target.items.delete(right.hits()[0].id.clone()).unwrap().wait().unwrap();
    assert_eq!(judged(&right, target.items.snapshot()).wrong, 1, "one is not there any more");
    let poor = judged(&other, target.items.snapshot());
    assert!(poor.recall().unwrap() <= 1.0 && poor.wrong == 0);
    let none = judged(&target.items.search(&query.clone().top(0)).unwrap(), target.items.snapshot());
    assert_eq!(none.recall(), Some(0.0));
}

// A reader that waits for a stall and a writer that does not: each has its own
// schedule and threads, and both are counted.
#[test]
fn a_stream_beside_another_has_threads_and_counts_of_its_own() {
    let _watchdog = watchdog(60);
    let target = Closure(|request: &Request| {
        work_for(Duration::from_millis(if request.operation == Operation::Search { 20 } else { 1 }));
        Ended::Done
    });
    let writes = FeedSettings {
        arrivals: Arrivals::Closed { clients: 1 },
        mix: Mix::parse("insert=1").unwrap(),
        ..settings(Arrivals::Closed { clients: 1 }, 600)
    };
    let reads = settings(Arrivals::Closed { clients: 1 }, 600);
    let beside = Some(Beside { feed: writes, threads: 1 });
    let outcome = measured(&Scenario { beside, ..scenario(reads, 1) }, &target);
    let done = |name: &str| outcome.report.operation(name).unwrap().done;
    let (searches, inserts) = (done("search"), done("insert"));
    assert!((5..=31).contains(&searches), "{searches} searches of 20 ms in 600 ms");
    assert!(inserts > 2 * searches, "{inserts} inserts of 1 ms beside {searches} searches of 20 ms");
    assert_eq!(outcome.report.totals.offered, searches + inserts);
    assert_eq!(outcome.keys, (0, 1_000 + inserts), "the next run goes on after them");
}

/// How a peer of the tests is wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// Forgets one insert of five.
    Loses,
    /// Deletes nothing.
    Keeps,
}

/// An exact index that may be wrong in a known way.
struct Exact<'d> {
    data: &'d Data,
    rows: Mutex<BTreeMap<u64, Vec<f32>>>,
    wrong: Wrong,
}

impl Peer for Exact<'_> {
    fn describe(&self) -> String {
        "an exact index".to_owned()
    }

    fn lacks(&self, operation: Operation) -> Option<&'static str> {
        (operation == Operation::Page).then_some("it has no pages")
    }

    fn set_ef(&self, _ef: usize) {}

    fn search(&self, query: &[f32], k: usize, passing: Option<Passing>) -> load::Result<Vec<u64>> {
        let rows = self.rows.lock().unwrap();
        let passes = |key: &u64| passing.is_none_or(|passing| passing.lets_pass(*key));
        let of = |(key, row): (&u64, &Vec<f32>)| (distance(self.data.metric, query, row), *key);
        let mut all: Vec<(f32, u64)> = rows.iter().filter(|(key, _)| passes(key)).map(of).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(all.into_iter().take(k).map(|(_, key)| key).collect())
    }

    fn insert(&self, key: u64, vector: &[f32]) -> load::Result<()> {
        if self.wrong != Wrong::Loses || key < 1_000 || !key.is_multiple_of(5) {
            self.rows.lock().unwrap().insert(key, vector.to_vec());
        }
        Ok(())
    }

    fn replace(&self, key: u64, vector: &[f32]) -> load::Result<()> {
        self.rows.lock().unwrap().insert(key, vector.to_vec());
        Ok(())
    }

    fn delete(&self, key: u64) -> load::Result<()> {
        if self.wrong != Wrong::Keeps {
            self.rows.lock().unwrap().remove(&key);
        }
        Ok(())
    }
}

fn asking() -> PeerAsking {
    PeerAsking { k: 5, judge_every: 3, watch_every: 1, selectivity: 0.2 }
}

fn peer_report(peer: Box<dyn Peer + '_>, data: &Data, mix: &str) -> Report {
    let mut target = PeerUnderLoad::fill(peer, data, 1_000, 2, asking()).unwrap();
    // How many answers are judged must not depend on how busy the machine is.
    target.judge.be_strict();
    let mix = Mix::parse(mix).unwrap();
    let feed = FeedSettings { mix, ..settings(Arrivals::Poisson { rate: 1_500.0 }, 1_000) };
    run(&scenario(feed, 2), &target, Some(&target.judge), &mut |_| {}).unwrap().report
}

#[test]
fn an_engine_without_generations_is_judged_by_what_was_acknowledged() {
    let _watchdog = watchdog(120);
    let data = Data::generated(2_000, 16, 50, 4);
    let report = |wrong: Wrong| {
        let peer = Exact { data: &data, rows: Mutex::default(), wrong };
        peer_report(Box::new(peer), &data, "search=50,filtered=10,insert=20,upsert=10,delete=10")
    };
    let fine = report(Wrong::Nothing);
    assert_eq!((fine.faults(), fine.totals.recall), (Vec::new(), Some(1.0)));
    assert!(fine.totals.judged > 100 && fine.totals.fresh.unwrap().count > 100, "{:?}", fine.totals);
    let loses = report(Wrong::Loses).totals;
    assert!(loses.missing > 20 && loses.recall.unwrap() < 1.0, "{loses:?}");
    let keeps = report(Wrong::Keeps).totals;
    assert!(keeps.wrong_hits > 0 && keeps.missing == 0, "{keeps:?}");
}

// The rows next to a query, written before, during and after a search that found
// some of them: what counts as found, as missed, and as wrong.
#[test]
fn what_was_written_during_a_search_may_be_found_or_not() {
    let data = Data::generated(2_000, 16, 50, 4);
    let near = |keys: std::ops::Range<u64>| {
        let of = |key: u64| (distance(data.metric, data.query(1), data.row(key)), key);
        let mut all: Vec<(f32, u64)> = keys.map(of).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all.into_iter().map(|(_, key)| key).collect::<Vec<u64>>()
    };
    let (old, new) = (near(0..1_000), near(1_000..2_000));
    let judged = |before: &dyn Fn(&Oracle<'_>), after: &dyn Fn(&Oracle<'_>), keys: Vec<u64>| {
        let oracle = Arc::new(Oracle::new(&data, 1_000));
        before(&oracle);
        let began = oracle.now();
        after(&oracle);
        let judged = Claim { oracle, began, query: 1, k: 3, passing: None, keys }.judge();
        (judged.found, judged.wanted, judged.wrong)
    };
    let nothing = |_: &Oracle<'_>| {};
    let write = |key: u64, row: Option<u64>| {
        move |oracle: &Oracle<'_>| {
            oracle.begin(key, row);
            oracle.end(key, row, true);
        }
    };
    assert_eq!(judged(&nothing, &nothing, old[..3].to_vec()), (3, 3, 0));
    assert_eq!(judged(&nothing, &nothing, vec![old[0], old[1], old[3]]), (2, 3, 0), "one was missed");
    assert_eq!(judged(&nothing, &nothing, vec![old[0], old[1], new[0]]).2, 1, "one never was there");
    // A delete.
    let delete = write(old[0], None);
    assert_eq!(judged(&delete, &nothing, old[..3].to_vec()).2, 1, "it was gone");
    assert_eq!(judged(&delete, &nothing, old[1..4].to_vec()), (3, 3, 0));
    assert_eq!(judged(&nothing, &delete, old[..3].to_vec()), (3, 3, 0), "it may still be found");
    assert_eq!(judged(&nothing, &delete, old[1..4].to_vec()), (3, 3, 0), "or not");
    // Another vector for a far record, next to the query.
    let far = old[900];
    let replace = write(far, Some(old[0]));
    assert_eq!(judged(&replace, &nothing, vec![old[0], old[1], old[2]]).1, 3);
    assert_eq!(judged(&replace, &nothing, vec![old[0], far, old[1]]), (3, 3, 0), "it is near now");
    assert_eq!(judged(&replace, &nothing, old[..3].to_vec()), (2, 3, 0), "and was missed");
    assert_eq!(judged(&nothing, &replace, old[..3].to_vec()), (3, 3, 0), "it need not be found yet");
    assert_eq!(judged(&nothing, &replace, vec![old[0], far, old[1]]), (3, 3, 0), "but may");
    // Two writers at once: either may have won.
    let overlapping = |oracle: &Oracle<'_>| {
        oracle.begin(far, Some(old[0]));
        oracle.begin(far, None);
        oracle.end(far, None, true);
        oracle.end(far, Some(old[0]), true);
    };
    assert_eq!(judged(&overlapping, &nothing, old[..3].to_vec()), (3, 3, 0));
    assert_eq!(judged(&overlapping, &nothing, vec![old[0], far, old[1]]), (3, 3, 0));
}

#[test]
fn a_mix_with_what_a_target_lacks_is_refused_before_anything_is_sent() {
    let data = Data::generated(2_000, 16, 50, 4);
    let peer = Exact { data: &data, rows: Mutex::default(), wrong: Wrong::Nothing };
    let target = PeerUnderLoad::fill(Box::new(peer), &data, 1_000, 1, asking()).unwrap();
    let mix = Mix::parse("search=1,page=1").unwrap();
    let feed = FeedSettings { mix, ..settings(Arrivals::Poisson { rate: 100.0 }, 100) };
    let fault = run(&scenario(feed, 1), &target, None, &mut |_| {}).err().unwrap();
    assert_eq!(fault.downcast_ref::<Unsupported>().unwrap().operation, "page");
    assert_eq!(fault.to_string(), "an exact index has no page (it has no pages): leave it out of the mix");
}

// Those that this test was built with; the others say how they are built in.
#[test]
fn peers_answer_rightly_under_load_or_say_how_they_are_built_in() {
    let _watchdog = watchdog(120);
    let data = Data::generated(2_000, 16, 50, 4);
    for kind in Kind::ALL {
        let plan = Plan { dim: data.dim, metric: data.metric, capacity: 10_000, threads: 4 };
        let peer = match kind.open(&plan) {
            Ok(peer) => peer,
            Err(fault) => {
                assert!(!kind.is_built_in() && fault.is::<NotBuiltIn>(), "{fault}");
                assert!(fault.to_string().contains(kind.flag()), "{fault}");
                continue;
            }
        };
        peer.set_ef(100);
        let writes = if peer.lacks(Operation::Delete).is_none() { ",upsert=5,delete=5" } else { "" };
        let report = peer_report(peer, &data, &format!("search=70,insert=20{writes}"));
        let totals = &report.totals;
        // Short answers beside writes are faults of theirs, and happen.
        assert_eq!((totals.wrong_hits, totals.failed, totals.unfinished), (0, 0, 0), "{}", report.target);
        assert!(totals.judged > 100 && totals.recall.unwrap() > 0.95, "{}: {totals:?}", report.target);
    }
}

// The last stretch ends with the run, also where its length is no multiple of
// the stretches.
#[test]
fn rates_are_those_of_the_time_in_which_requests_came() {
    let _watchdog = watchdog(60);
    let feed = settings(Arrivals::Constant { rate: 1_000.0 }, 510);
    let scenario = Scenario { interval: Duration::from_millis(400), ..scenario(feed, 1) };
    // A run may be held up by other work, not all of them.
    let runs = (0..4).map(|_| measured(&scenario, &Closure(|_: &Request| Ended::Done)).report.totals);
    let runs: Vec<_> = runs.collect();
    assert!(runs.iter().all(|totals| (totals.offered, totals.done) == (510, 510)));
    assert!(runs.iter().any(|totals| totals.seconds < 0.7), "counted as {runs:?}");
}
