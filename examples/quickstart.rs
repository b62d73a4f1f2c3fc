//! A first look at vecino on real data: 30,000 English words as vectors.
//!
//!     cargo run --release --example quickstart
//!     cargo run --release --example quickstart -- violin thursday
//!
//! Prints the nearest words of some words, how good and how fast the index is,
//! and what a search notices while another thread inserts and deletes.
//! `--quick` uses fewer words and shorter runs. Where the vectors come from is
//! said in `examples/data/README.md`.

#![allow(clippy::print_stdout, reason = "an example shows its results")]

use std::collections::{HashSet, VecDeque};
use std::error::Error;
use std::io::{IsTerminal, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vecino::{
    Collection, CollectionConfig, Engine, IndexSpec, Metric, Query, Record, RecordId, SearchParams,
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/glove-30k-50d.bin");
const TOP: usize = 10;

/// What to do: everything, or a short form.
struct Plan {
    asked: Vec<String>,
    words: usize,
    sample: usize,
    alone: Duration,
    mixed: Duration,
}

impl Plan {
    fn from_arguments() -> Plan {
        let (options, asked): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|a| a.starts_with("--"));
        let quick = options.iter().any(|o| o == "--quick");
        Plan {
            asked,
            words: if quick { 6_000 } else { usize::MAX },
            sample: if quick { 100 } else { 500 },
            alone: Duration::from_millis(if quick { 200 } else { 1_000 }),
            mixed: Duration::from_millis(if quick { 400 } else { 2_000 }),
        }
    }
}

fn main() -> Result<()> {
    let plan = Plan::from_arguments();
    heading("English words as vectors (GloVe, trained on Wikipedia and news)");
    let words = Words::read(DATA, plan.words)?;
    println!("  read      {} words of {} dimensions", grouped(words.len()), words.dim);

    let engine = Engine::builder().workers(2).build()?;
    println!("  engine    2 workers, cosine distance, an HNSW graph with the default settings");
    let config = CollectionConfig::new(words.dim, Metric::Cosine).index(IndexSpec::hnsw());
    let items = engine.create_collection("words", config)?;
    load(&items, &words)?;

    show_neighbours(&items, &words, &plan.asked)?;
    show_quality(&items, &words, plan.sample)?;
    show_targets(&items, &words, plan.sample)?;
    show_mixed_load(&items, &words, &plan)?;
    show_state(&items)?;
    engine.close()?;
    Ok(())
}

/// The words and their vectors, most frequent first.
struct Words {
    dim: usize,
    names: Vec<String>,
    vectors: Vec<f32>,
}

impl Words {
    /// Reads at most `limit` words; the format is in `examples/data/README.md`.
    fn read(path: &str, limit: usize) -> Result<Words> {
        let bytes = std::fs::read(path).map_err(|fault| format!("{path}: {fault}"))?;
        Words::decode(&bytes, limit).ok_or_else(|| format!("{path}: not a word file, or cut short").into())
    }

    fn decode(bytes: &[u8], limit: usize) -> Option<Words> {
        let rest = bytes.strip_prefix(b"VCWORDS1")?;
        let (count, rest) = rest.split_first_chunk()?;
        let (dim, rest) = rest.split_first_chunk()?;
        let (count, dim) = (u32::from_le_bytes(*count) as usize, u32::from_le_bytes(*dim) as usize);
        let (scales, rest) = rest.split_at_checked(count.checked_mul(4)?)?;
        let (codes, text) = rest.split_at_checked(count.checked_mul(dim)?)?;
        let names: Vec<String> = std::str::from_utf8(text).ok()?.lines().map(str::to_owned).collect();
        let scales = scales.as_chunks::<4>().0.iter().map(|scale| f32::from_le_bytes(*scale));
        let decode = |(scale, codes): (f32, &[u8])| {
            codes.iter().map(move |code| f32::from(code.cast_signed()) * scale).collect::<Vec<_>>()
        };
        let vectors = scales.zip(codes.chunks_exact(dim)).take(limit).flat_map(decode).collect();
        let names = (names.len() == count).then_some(names)?.into_iter().take(limit).collect();
        Some(Words { dim, names, vectors })
    }

    fn len(&self) -> usize {
        self.names.len()
    }

    fn vector(&self, at: usize) -> &[f32] {
        &self.vectors[at * self.dim..][..self.dim]
    }

    /// `count` vectors from all over the list.
    fn sample(&self, count: usize) -> impl Iterator<Item = &[f32]> {
        let step = (self.len() / count).max(1);
        (0..count).map(move |i| self.vector(i * step % self.len()))
    }

    /// The word that is spelled most like `wrong`.
    fn like(&self, wrong: &str) -> &str {
        let by_edits = self.names.iter().min_by_key(|name| edits(name, wrong));
        by_edits.map_or("", String::as_str)
    }
}

/// Single-letter changes that turn one word into another (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Puts all words in, then waits until the graph holds them.
fn load(items: &Collection, words: &Words) -> Result<()> {
    const BATCH: usize = 1_000;
    let started = Instant::now();
    for first in (0..words.len()).step_by(BATCH) {
        let batch = first..words.len().min(first + BATCH);
        let record = |at: usize| Record::new(words.names[at].as_str(), words.vector(at));
        items.upsert_batch(batch.map(record))?.wait()?;
        progress(words.len().saturating_sub(items.stats().tail).min(first), words.len());
    }
    std::thread::scope(|scope| {
        let absorbing = scope.spawn(|| items.optimize());
        while !absorbing.is_finished() {
            progress(words.len().saturating_sub(items.stats().tail), words.len());
            std::thread::sleep(Duration::from_millis(20));
        }
        absorbing.join().map_err(|_| "the thread that waits for the index panicked")
    })??;
    progress(words.len(), words.len());
    let seconds = started.elapsed().as_secs_f64();
    println!("  indexed   {} rows in {seconds:.1} s", grouped(words.len()));
    Ok(())
}

/// A bar that redraws itself; nothing where the output is not a terminal.
fn progress(done: usize, all: usize) {
    const WIDTH: usize = 40;
    let mut out = std::io::stdout();
    if !out.is_terminal() {
        return;
    }
    let filled = WIDTH * done / all.max(1);
    let bar = "#".repeat(filled) + &".".repeat(WIDTH - filled);
    // A progress bar that cannot be drawn is no reason to stop.
    let _ = write!(out, "\r  index     [{bar}] {:>6}", grouped(done)).and_then(|()| out.flush());
    if done == all {
        let _ = write!(out, "\r{}\r", " ".repeat(70));
    }
}

fn show_neighbours(items: &Collection, words: &Words, asked: &[String]) -> Result<()> {
    heading("nearest words, with cosine distance");
    let shown = ["guitar", "monday", "paris", "physics", "coffee"].map(str::to_owned);
    for word in shown.iter().chain(asked) {
        let word = word.to_lowercase();
        let Some(record) = items.get(word.as_str())? else {
            let like = words.like(&word);
            println!("  {word:<9} is not among these {} words; did you mean '{like}'?", grouped(words.len()));
            continue;
        };
        let answer = items.search(&Query::new(record.vector()).top(7))?;
        let others = answer.hits().iter().filter(|hit| hit.id != *record.id()).take(6);
        let others: Vec<String> = others.map(|hit| format!("{} {:.3}", hit.id, hit.distance)).collect();
        println!("  {word:<9} {}", others.join("  "));
    }
    Ok(())
}

/// Times of single calls, in microseconds.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn measure<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = call();
        self.0.push(started.elapsed().as_secs_f64() * 1e6);
        result
    }

    fn percentile(&mut self, percent: usize) -> f64 {
        self.0.sort_by(f64::total_cmp);
        let at = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        self.0.get(at).copied().unwrap_or(0.0)
    }

    fn per_second(&self) -> f64 {
        self.0.len() as f64 * 1e6 / self.0.iter().sum::<f64>().max(1.0)
    }
}

fn show_quality(items: &Collection, words: &Words, sample: usize) -> Result<()> {
    heading("one search after another, on the caller's thread");
    let query = |vector| Query::new(vector).top(TOP);
    let (mut graph, mut exact, mut shared) = (Times::default(), Times::default(), 0);
    let mut answers = Vec::new();
    for vector in words.sample(sample) {
        answers.push(graph.measure(|| items.search(&query(vector)))?);
    }
    for (vector, found) in words.sample(sample).zip(&answers) {
        let truth = exact.measure(|| items.search(&query(vector).exact()))?;
        let truth: HashSet<&RecordId> = truth.hits().iter().map(|hit| &hit.id).collect();
        shared += found.hits().iter().filter(|hit| truth.contains(&hit.id)).count();
    }
    let recall = shared as f64 / (sample * TOP) as f64;
    println!("                     recall@{TOP}   searches/s    p50 us    p99 us");
    for (name, recall, times) in [("HNSW", recall, &mut graph), ("exact", 1.0, &mut exact)] {
        println!("  {name:<18} {recall:>9.3} {}", speed(times, times.per_second()));
    }
    Ok(())
}

/// The same searches with a target in place of a breadth.
fn show_targets(items: &Collection, words: &Words, sample: usize) -> Result<()> {
    heading("to a target: the collection finds the breadth, by searching for its own rows");
    items.calibrate()?;
    println!("                       breadth   searches/s    p50 us    p99 us");
    let targets = [0.9, 0.95, 0.99].map(SearchParams::recall);
    for target in targets.into_iter().chain([SearchParams::p99(Duration::from_micros(100))]) {
        let (mut times, mut breadth) = (Times::default(), 0);
        for vector in words.sample(sample) {
            let query = Query::new(vector).top(TOP).params(target);
            breadth = times.measure(|| items.search(&query))?.stats().ef;
        }
        let rate = times.per_second();
        println!("  {:<18} {breadth:>9} {}", target.to_string(), speed(&mut times, rate));
    }
    Ok(())
}

fn speed(times: &mut Times, per_second: f64) -> String {
    let rate = grouped(per_second as usize);
    format!("{rate:>12} {:>9.0} {:>9.0}", times.percentile(50), times.percentile(99))
}

/// What the reader saw.
struct Reading {
    times: Times,
    seconds: f64,
    generations: HashSet<u64>,
}

/// Searches without a pause for as long as it is told.
fn read(items: &Collection, words: &Words, how_long: Duration) -> Result<Reading> {
    let started = Instant::now();
    let (mut times, mut generations) = (Times::default(), HashSet::new());
    for vector in (0..words.len()).cycle().map(|i| words.vector(i * 7 % words.len())) {
        if started.elapsed() >= how_long {
            break;
        }
        let answer = times.measure(|| items.search(&Query::new(vector).top(TOP)))?;
        generations.insert(answer.generation().0);
    }
    Ok(Reading { times, seconds: started.elapsed().as_secs_f64(), generations })
}

/// What the writer did.
#[derive(Default)]
struct Writing {
    inserted: usize,
    deleted: usize,
    found: usize,
}

/// Inserts and deletes without a pause until told to stop, and looks up every
/// row right after its write was acknowledged. Leaves the collection as it was.
fn write(items: &Collection, words: &Words, stop: &AtomicBool) -> Result<Writing> {
    const BATCH: usize = 20;
    const ALIVE: usize = 50;
    let mut done = Writing::default();
    let mut alive: VecDeque<Vec<Record>> = VecDeque::new();
    while !stop.load(Ordering::Relaxed) {
        let batch: Vec<Record> = (0..BATCH).map(|i| variant(words, done.inserted + i)).collect();
        let write = items.upsert_batch(batch.iter().cloned())?;
        done.inserted += batch.len();
        for record in &batch {
            let query = Query::new(record.vector()).top(1).at_least(write.seq());
            let answer = items.search(&query)?;
            done.found += usize::from(answer.hits().iter().any(|hit| hit.id == *record.id()));
        }
        alive.push_back(batch);
        if alive.len() > ALIVE {
            done.deleted += delete(items, alive.pop_front().into_iter().flatten())?;
        }
    }
    done.deleted += delete(items, alive.into_iter().flatten())?;
    Ok(done)
}

fn delete(items: &Collection, records: impl IntoIterator<Item = Record>) -> Result<usize> {
    let ids: Vec<RecordId> = records.into_iter().map(|record| record.into_parts().0).collect();
    let count = ids.len();
    items.delete_batch(ids)?.wait()?;
    Ok(count)
}

/// A new record near a word: its vector, a little off in its own direction.
fn variant(words: &Words, number: usize) -> Record {
    let mut state = number as u64;
    let mut noise = || {
        // SplitMix64 (Steele, Lea, Flood 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let near = words.vector(number * 7 % words.len());
    let vector: Vec<f32> = near.iter().map(|component| component + 0.4 * noise()).collect();
    Record::new(format!("new-{number}"), vector)
}

fn show_mixed_load(items: &Collection, words: &Words, plan: &Plan) -> Result<()> {
    heading("searching while another thread inserts, deletes and searches");
    println!("                               searches/s    p50 us    p99 us");
    let mut alone = read(items, words, plan.alone)?;
    let rate = alone.times.0.len() as f64 / alone.seconds;
    println!("  this thread alone            {}", speed(&mut alone.times, rate));

    let stop = AtomicBool::new(false);
    let (reading, writing) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(items, words, &stop));
        let reading = read(items, words, plan.mixed);
        stop.store(true, Ordering::Relaxed);
        (reading, writer.join())
    });
    let mut reading = reading?;
    let writing = writing.map_err(|_| "the writing thread panicked")??;
    let rate = reading.times.0.len() as f64 / reading.seconds;
    println!("  while the other writes       {}", speed(&mut reading.times, rate));
    println!(
        "  {} rows inserted and {} deleted in {:.1} s; {} searches answered from {} generations",
        grouped(writing.inserted),
        grouped(writing.deleted),
        reading.seconds,
        grouped(reading.times.0.len()),
        grouped(reading.generations.len()),
    );
    println!(
        "  {} of {} acknowledged rows found by the writer's next search (at_least)",
        grouped(writing.found),
        grouped(writing.inserted)
    );
    Ok(())
}

fn show_state(items: &Collection) -> Result<()> {
    heading("afterwards");
    let report = items.verify()?;
    let stats = items.stats();
    let verdict = if report.is_sound() { "sound" } else { "DEFECTS" };
    println!(
        "  verify    {verdict}: {} records reachable; {} rows in the graph, {} in the tail, {} deleted ones among them",
        grouped(report.records),
        grouped(report.indexed_rows),
        grouped(report.tail_rows),
        grouped((report.indexed_rows + report.tail_rows).saturating_sub(report.records))
    );
    let megabytes = |bytes: usize| format!("{:.1} MB", bytes as f64 / 1e6);
    let bytes = &stats.bytes;
    println!(
        "  memory    vectors {}, graph {}, rows {}, ids {}",
        megabytes(bytes.vectors),
        megabytes(bytes.index),
        megabytes(bytes.rows),
        megabytes(bytes.directory)
    );
    println!(
        "  history   write {}, generation {}, {} searches",
        grouped(stats.seq.0 as usize),
        grouped(stats.generation.0 as usize),
        grouped(stats.searches as usize)
    );
    for finding in &report.findings {
        println!("  defect    {finding:?}");
    }
    if report.is_sound() { Ok(()) } else { Err("verify found defects".into()) }
}

fn heading(text: &str) {
    println!("\n{text}");
}

/// 12345 as "12,345".
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
