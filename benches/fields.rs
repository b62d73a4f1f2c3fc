//! What fields cost: updates, expiry and scoring beside plain searches.
//!
//! `cargo bench --bench fields -- [DIR] [--quick] [rows=N] [only=bytes,updates,expiry,scoring]`
//!
//! DIR holds `base.fvecs`, `query.fvecs` and `metric` (l2, cos, ip); without
//! it the rows are synthetic, 64 numbers each.
//!
//! * bytes: what three fields of a record take, beside the same packed by hand.
//! * updates: a payload changed, and an expiry put off, for a record; from the
//!   first call until all are visible.
//! * expiry: the 99th percentile of a search while 100,000 expired records are
//!   taken out, beside the same before and after.
//! * scoring: searches by age and importance, with their recall against
//!   exact ones, beside searches by distance alone.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Arguments, Data, Random};
use vecino::{
    Collection, CollectionConfig, Engine, Filter, IndexSpec, ManualClock, Metric, Payload, PayloadUpdate,
    Query, Record, Scoring, Timestamp,
};

const DAY: i64 = 24 * 3_600;

/// What the bench works on.
struct Bench {
    data: Data,
    /// Records that expire, beside those of the data.
    expiring: usize,
    queries: usize,
}

#[expect(clippy::expect_used, reason = "a bench that cannot run may end")]
fn main() {
    let arguments = Arguments::read();
    let quick = arguments.has("--quick");
    let rows = arguments.number("rows", if quick { 2_000 } else { 100_000 });
    let data = match arguments.folder() {
        Some(dir) => Data::read(dir).expect("base.fvecs and query.fvecs"),
        None => Data::clustered(rows, 64, 1_000),
    };
    let expiring = if quick { 2_000 } else { 100_000 };
    let bench = Bench { data: data.first(rows, 1_000), expiring, queries: if quick { 300 } else { 20_000 } };
    let only: Vec<String> = arguments.list("only", "bytes,updates,expiry,scoring");
    let wants = |name: &str| only.iter().any(|only| only == name);
    if wants("bytes") {
        bytes(if quick { 20_000 } else { 1_000_000 });
    }
    if wants("updates") {
        bench.updates();
    }
    if wants("expiry") {
        bench.expiry();
    }
    if wants("scoring") {
        bench.scoring();
    }
}

#[expect(clippy::expect_used, reason = "a bench that cannot run may end")]
#[expect(clippy::print_stdout, reason = "the report is the product")]
impl Bench {
    fn collection(&self, clock: &Arc<ManualClock>) -> (Engine, Collection) {
        let engine = Engine::builder().clock(Arc::clone(clock) as _).build().expect("an engine");
        let config = CollectionConfig::new(self.data.base.dim, self.data.metric).index(IndexSpec::graph());
        let items = engine.create_collection("items", config).expect("a collection");
        let records = self.data.base.iter().enumerate().map(|(id, row)| {
            let used = Timestamp::from_secs((id as i64 * 7_919 % 100) * DAY);
            let importance = (id * 31 % 11) as i64;
            Record::new(id as u64, row).with("used", used).with("importance", importance)
        });
        items.upsert_batch(records).expect("a write").wait().expect("it is visible");
        items.optimize().expect("an order");
        (engine, items)
    }

    fn updates(&self) {
        let clock = Arc::new(ManualClock::default());
        let (_engine, items) = self.collection(&clock);
        let count = self.data.base.len() as u64;
        let started = Instant::now();
        for id in 0..count {
            items.merge_payload(id, Payload::new().with("importance", 7)).expect("a write");
        }
        items.flush().expect("all is visible");
        let alone = started.elapsed();
        let started = Instant::now();
        let update = |id| PayloadUpdate::merge(id, Payload::new().with("importance", 8));
        items.update_payloads((0..count).map(update)).expect("a write").wait().expect("it is visible");
        let together = started.elapsed();
        let hour = Duration::from_secs(3_600);
        (0..count).for_each(|id| {
            items.expire(id, Some(Timestamp::from_secs(9 * DAY))).expect("a write");
        });
        items.flush().expect("all is visible");
        let started = Instant::now();
        (0..count).for_each(|id| drop(items.touch(id, 1_000 * hour).expect("a write")));
        items.flush().expect("all is visible");
        let touched = started.elapsed();
        let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
        println!(
            "updates of {count} records: {:.2} us each alone, {:.2} us in a batch; touch {:.2} us",
            each(alone),
            each(together),
            each(touched)
        );
    }

    fn expiry(&self) {
        let clock = Arc::new(ManualClock::default());
        let (_engine, items) = self.collection(&clock);
        let (base, count) = (&self.data.base, self.expiring);
        let records = (0..count).map(|number| {
            let id = (base.len() + number) as u64;
            Record::new(id, base.row(number % base.len())).ttl(Duration::from_secs(60))
        });
        items.upsert_batch(records).expect("a write").wait().expect("it is visible");
        items.optimize().expect("an order");
        let held = || items.stats().bytes.total() as f64 / 1e6;
        println!("expiry: {} records stay, {count} expire; {:.1} MB", base.len(), held());
        self.pass(&items, "  before", self.queries, &|| false);
        clock.advance(Duration::from_secs(61));
        let started = Instant::now();
        let stored = || items.stats().shards.iter().map(|shard| shard.indexed + shard.tail).sum::<usize>();
        let is_over = || stored() < base.len() + count / 20 || started.elapsed() > Duration::from_secs(120);
        self.pass(&items, "  meanwhile", usize::MAX, &is_over);
        println!("  swept up after {:.2} s", started.elapsed().as_secs_f64());
        items.flush().expect("all is visible");
        self.pass(&items, "  after", self.queries, &|| false);
        println!("  {:.1} MB", held());
    }

    /// Searches until there are enough or it is over, and prints their times.
    fn pass(&self, items: &Collection, name: &str, most: usize, is_over: &dyn Fn() -> bool) {
        let mut times = Vec::new();
        while times.len() < most && (times.len() % 256 > 0 || !is_over()) {
            let query = self.data.queries.row(times.len() % self.data.queries.len());
            let started = Instant::now();
            let answer = items.search(&Query::new(query).top(10).ef_search(50)).expect("an answer");
            times.push(started.elapsed());
            assert_eq!(answer.len(), 10, "hits");
        }
        times.sort_unstable();
        let of = |share: f64| times.get((times.len() as f64 * share) as usize).map_or(0.0, micros);
        println!("{name}: {} searches, p50 {:.0} us, p99 {:.0} us", times.len(), of(0.5), of(0.99));
    }

    fn scoring(&self) {
        let clock = Arc::new(ManualClock::default());
        clock.advance(Duration::from_secs(100 * DAY as u64));
        let (_engine, items) = self.collection(&clock);
        // The distance to the 100th: a weight that counts.
        let query = Query::new(self.data.queries.row(0)).top(100);
        let answer = items.search(&query.exact()).expect("an answer");
        let [first, last] = [0, 99].map(|at| answer.hits().get(at).map_or(0.0, |hit| hit.distance));
        let span = last - first;
        let week = Duration::from_secs(7 * DAY as u64);
        for (name, weight) in
            [("no scoring", 0.0), ("a tenth", 0.1), ("the whole", 1.0), ("three times", 3.0)]
        {
            let scoring = Scoring::new()
                .decay("used", week, weight * span)
                .share("importance", 10.0, weight * span)
                .boost(Filter::eq("importance", 3), weight * span / 2.0);
            let ask = |query: &[f32], exact: bool| {
                let asked = Query::new(query).top(10).ef_search(50);
                let asked = if weight > 0.0 { asked.scoring(scoring.clone()) } else { asked };
                items.search(&if exact { asked.exact() } else { asked }).expect("an answer")
            };
            let (mut found, mut wanted, mut distances) = (0, 0, 0);
            let checked = self.data.queries.len().min(100);
            for query in self.data.queries.iter().take(checked) {
                let (exact, answer) = (ask(query, true), ask(query, false));
                wanted += exact.len();
                distances += answer.stats().distances;
                let is_found = |id| answer.hits().iter().any(|hit| &hit.id == id);
                found += exact.hits().iter().filter(|hit| is_found(&hit.id)).count();
            }
            let started = Instant::now();
            for query in self.data.queries.iter() {
                ask(query, false);
            }
            println!(
                "scoring, {name} of the distance to the 100th: recall {:.4}, {:.1} us a search, {} distances",
                found as f64 / wanted as f64,
                started.elapsed().as_secs_f64() * 1e6 / self.data.queries.len() as f64,
                distances / checked as u64,
            );
        }
    }
}

/// A keyword of 100, a number below 1,000 and a moment of the last year, to the
/// second: 1, 2 and 8 bytes.
const PACKED: f64 = 11.0;

#[expect(clippy::expect_used, reason = "a bench that cannot run may end")]
#[expect(clippy::print_stdout, reason = "the report is the product")]
fn bytes(rows: u64) {
    let engine = Engine::builder().build().expect("an engine");
    let config = CollectionConfig::new(1, Metric::L2).index(IndexSpec::Flat);
    let items = engine.create_collection("items", config).expect("a collection");
    let mut random = Random(1);
    let mut record = |id: u64| {
        let second = 1_800_000_000 - (random.next() % (365 * DAY as u64)) as i64;
        Record::new(id, [0.0])
            .with("kind", format!("keyword-{}", random.next() % 100))
            .with("price", (random.next() % 1_000) as i64)
            .with("at", Timestamp::from_secs(second))
    };
    for first in (0..rows).step_by(100_000) {
        let batch: Vec<Record> = (first..rows.min(first + 100_000)).map(&mut record).collect();
        let _ = items.upsert_batch(batch).expect("a write");
    }
    items.flush().expect("all is visible");
    items.optimize().expect("an order");
    // What stands beside columns moves into them when nothing is written.
    let (mut held, mut since) = (usize::MAX, Instant::now());
    while since.elapsed() < Duration::from_millis(300) {
        let now = items.stats().bytes.payload;
        if now < held {
            (held, since) = (now, Instant::now());
        }
        std::thread::yield_now();
    }
    let each = held as f64 / rows as f64;
    let of_packed = each / PACKED;
    println!(
        "bytes: {rows} records with three fields: {each:.2} a record, {of_packed:.2} of {PACKED} packed"
    );
    let started = Instant::now();
    let count = items.snapshot().count(&(Filter::eq("kind", "keyword-7") & Filter::lt("price", 500)));
    println!("  counted {} in {:.2} ms", count.expect("a count"), started.elapsed().as_secs_f64() * 1e3);
}

fn micros(time: &Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
