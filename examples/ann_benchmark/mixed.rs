//! One reader beside one writer: what searching loses while rows come in, and
//! how soon a row can be found.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use vecino::{Answer, Collection, Query, Record, RecordId};

use super::arguments::{Arguments, Index};
use super::data::Data;
use super::json::Line;
use super::machine::{self, Times};
use super::{Result, create, fill, line};

/// The recall that the reader's breadth is chosen for.
const RECALL: f64 = 0.99;
/// Every so many writes the writer waits until the row is visible, to time it.
const WAIT_EVERY: usize = 16;
/// Every so many writes, at another moment, it searches for the row.
const FIND_EVERY: usize = 64;

pub(super) fn run(arguments: &Arguments, data: &Data) -> Result<()> {
    let (engine, items) = create(arguments, data)?;
    let half = data.rows() / 2;
    let seconds = fill(&items, data, half, false)?;
    println!("{half} rows indexed in {seconds:.1} s");
    let (breadth, recall) = choose_breadth(arguments, data, &items)?;
    println!("search breadth {breadth}: recall {recall:.4}");
    let load = Load { data, items: &items, breadth, k: arguments.k, next: AtomicUsize::new(half) };

    // The reader has one CPU to itself, everything else shares the other.
    machine::pin_process(machine::OTHER);
    let alone = load.read(Duration::from_secs_f64(arguments.seconds.min(2.0)), &AtomicBool::new(false))?;
    let unread = load.write_for(Duration::from_secs_f64(arguments.seconds.min(2.0)), half + half / 4)?;
    let (mixed, writing) = load.read_and_write(Duration::from_secs_f64(arguments.seconds))?;
    // The collection has grown meanwhile: what that alone costs shows here.
    items.optimize()?;
    let after = load.read(Duration::from_secs_f64(arguments.seconds.min(2.0)), &AtomicBool::new(false))?;
    machine::pin_process(machine::BOTH);

    line("mixed", arguments, data)
        .whole("ef", breadth)
        .number("recall", recall, 4)
        .whole("n0", half)
        .whole("n1", load.next.load(Ordering::Relaxed))
        .object("search_only", alone.describe())
        .number("insert_only_per_s", unread.rate(), 1)
        .object("mixed", mixed.describe().number("inserts_per_s", writing.rate(), 1))
        .object("ratio", ratios(&alone, &mixed))
        .object("search_only_after", after.describe())
        .object("ratio_after", ratios(&after, &mixed))
        .object("visible_after", writing.freshness())
        .whole("acknowledged_checked", unread.checked + writing.checked)
        .whole("acknowledged_missing", unread.missing + writing.missing)
        .emit(arguments.out.as_deref())?;
    check(&items, half + unread.inserted + writing.inserted)?;
    engine.close()?;
    Ok(())
}

/// Every row that was acknowledged is there and can be reached.
fn check(items: &Collection, rows: usize) -> Result<()> {
    items.flush()?;
    let report = items.verify()?;
    if report.is_sound() && items.len() == rows {
        println!("verify: sound, {} records", report.records);
        Ok(())
    } else {
        Err(format!("{} of {rows} rows are there; {:?}", items.len(), report.findings).into())
    }
}

/// The least breadth whose recall, against exact search, reaches the goal.
fn choose_breadth(arguments: &Arguments, data: &Data, items: &Collection) -> Result<(usize, f64)> {
    let k = arguments.k;
    let sample = data.queries().min(200);
    let mut truth = Vec::new();
    for at in 0..sample {
        truth.push(items.search(&Query::new(data.query(at)).top(k).exact())?);
    }
    let mut last = (k, 0.0);
    for breadth in arguments.breadths.iter().copied().filter(|ef| *ef >= k) {
        let mut found = 0;
        for (at, truth) in truth.iter().enumerate() {
            let limit = truth.hits().last().map_or(0.0, |hit| hit.distance);
            let answer = items.search(&Query::new(data.query(at)).top(k).ef_search(breadth))?;
            found += answer.hits().iter().filter(|hit| hit.distance <= limit).count();
        }
        last = (breadth, found as f64 / (sample * k) as f64);
        if last.1 >= RECALL || arguments.index == Index::Flat {
            break;
        }
    }
    Ok(last)
}

/// What both threads share.
struct Load<'a> {
    data: &'a Data,
    items: &'a Collection,
    breadth: usize,
    k: usize,
    /// The next row that the writer inserts.
    next: AtomicUsize,
}

/// What the reader measured.
struct Reading {
    times: Times,
    seconds: f64,
}

impl Reading {
    fn rate(&self) -> f64 {
        self.times.len() as f64 / self.seconds
    }

    fn describe(&self) -> Line {
        Line::new()
            .number("qps", self.rate(), 1)
            .number("p50_us", self.times.quantile(0.5), 1)
            .number("p99_us", self.times.quantile(0.99), 1)
            .number("p999_us", self.times.quantile(0.999), 1)
    }
}

fn ratios(alone: &Reading, mixed: &Reading) -> Line {
    Line::new().number("qps", mixed.rate() / alone.rate(), 3).number(
        "p99",
        mixed.times.quantile(0.99) / alone.times.quantile(0.99),
        3,
    )
}

/// What the writer measured.
#[derive(Default)]
struct Writing {
    inserted: usize,
    seconds: f64,
    visible: Times,
    checked: usize,
    missing: usize,
}

impl Writing {
    fn rate(&self) -> f64 {
        self.inserted as f64 / self.seconds
    }

    fn freshness(&self) -> Line {
        Line::new()
            .whole("samples", self.visible.len())
            .number("p50_us", self.visible.quantile(0.5), 1)
            .number("p99_us", self.visible.quantile(0.99), 1)
    }
}

impl Load<'_> {
    /// Searches until the time is over or the writer is done.
    fn read(&self, how_long: Duration, done: &AtomicBool) -> Result<Reading> {
        let run = || -> Result<Reading> {
            machine::pin_thread(machine::ONE);
            let started = Instant::now();
            let mut times = Times::default();
            for at in (0..self.data.queries()).cycle() {
                if started.elapsed() >= how_long || done.load(Ordering::Relaxed) {
                    break;
                }
                let query = Query::new(self.data.query(at)).top(self.k).ef_search(self.breadth);
                times.measure(|| self.items.search(&query))?;
            }
            Ok(Reading { times, seconds: started.elapsed().as_secs_f64() })
        };
        // On a thread of its own, so that the pinning ends with it.
        std::thread::scope(|scope| scope.spawn(run).join().map_err(|_| "the reader panicked")?)
    }

    /// Inserts for so long, or up to this row, with nobody reading.
    fn write_for(&self, how_long: Duration, end: usize) -> Result<Writing> {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| self.write(&stop, end));
            let started = Instant::now();
            while started.elapsed() < how_long && !writer.is_finished() {
                std::thread::sleep(Duration::from_millis(5));
            }
            stop.store(true, Ordering::Relaxed);
            writer.join().map_err(|_| "the writer panicked")?
        })
    }

    fn read_and_write(&self, how_long: Duration) -> Result<(Reading, Writing)> {
        let (stop, done) = (AtomicBool::new(false), AtomicBool::new(false));
        let (reading, writing) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let writing = self.write(&stop, self.data.rows());
                done.store(true, Ordering::Relaxed);
                writing
            });
            let reading = self.read(how_long, &done);
            stop.store(true, Ordering::Relaxed);
            (reading, writer.join())
        });
        Ok((reading?, writing.map_err(|_| "the writer panicked")??))
    }

    /// Inserts one row after another up to row `end`, or until it is told to stop.
    fn write(&self, stop: &AtomicBool, end: usize) -> Result<Writing> {
        let started = Instant::now();
        let mut writing = Writing::default();
        while !stop.load(Ordering::Relaxed) {
            let row = self.next.load(Ordering::Relaxed);
            if row >= end {
                break;
            }
            let write = self.items.upsert(Record::new(row as u64, self.data.row(row)))?;
            self.next.store(row + 1, Ordering::Relaxed);
            writing.inserted += 1;
            if writing.inserted.is_multiple_of(WAIT_EVERY) {
                writing.visible.measure(|| write.wait())?;
            }
            if writing.inserted % FIND_EVERY == FIND_EVERY / 2 {
                let query = Query::new(self.data.row(row)).top(self.k).ef_search(self.breadth);
                let answer = self.items.search(&query.at_least(write.seq()))?;
                writing.checked += 1;
                writing.missing += usize::from(!self.is_found(row, &answer));
            }
        }
        writing.seconds = started.elapsed().as_secs_f64();
        Ok(writing)
    }

    /// True when the row is among the hits, or rightly not: when k others are
    /// as near to its vector (duplicates; longer vectors under inner product).
    fn is_found(&self, row: usize, answer: &Answer) -> bool {
        let own = self.data.distance_to_itself(row) as f32;
        let outdone = answer.len() == self.k && answer.hits().iter().all(|hit| hit.distance <= own + 1e-6);
        outdone || answer.hits().iter().any(|hit| hit.id == RecordId::Num(row as u64))
    }
}
