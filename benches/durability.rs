//! What durability costs: ingest with each of its words beside an engine in
//! memory, checkpoints beside the disk, searches while one is written, opening
//! beside reading the bytes.
//!
//! `cargo bench --bench durability [-- --quick] [--opening]`: `--opening` leaves
//! the ingest out.

#![expect(clippy::print_stdout, reason = "a bench reports to the terminal")]
#![expect(clippy::expect_used, reason = "a bench that cannot run may end")]

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use vecino::{Collection, CollectionConfig, Durability, Engine, Metric, Query, Record};

const DIM: usize = 784;
const BATCH: usize = 100;
const ROUNDS: usize = 3;

/// Splitmix64: seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }
}

/// Points around 64 centres.
fn clustered(count: usize) -> Vec<Vec<f32>> {
    let mut random = Random(7);
    let centres: Vec<Vec<f32>> = (0..64).map(|_| (0..DIM).map(|_| random.unit()).collect()).collect();
    let mut row = |at: usize| centres[at % 64].iter().map(|x| x + 0.3 * random.unit()).collect();
    (0..count).map(&mut row).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Seconds to write all rows in batches, each acknowledged before the next.
fn ingest(engine: &Engine, rows: &[Vec<f32>]) -> (f64, Collection) {
    let items = engine.create_collection("items", CollectionConfig::new(DIM, Metric::L2)).expect("created");
    let started = Instant::now();
    for (at, batch) in rows.chunks(BATCH).enumerate() {
        let records = batch.iter().zip(at as u64 * BATCH as u64..);
        let records = records.map(|(row, id)| Record::new(id, row.clone()));
        items.upsert_batch(records).expect("written").wait().expect("visible");
    }
    (started.elapsed().as_secs_f64(), items)
}

fn fresh(path: &Path) {
    let _ = fs::remove_dir_all(path);
}

fn compare_ingest(folder: &Path, rows: &[Vec<f32>]) {
    let mut times = vec![Vec::new(); 4];
    for _ in 0..ROUNDS {
        times[0].push(ingest(&Engine::builder().build().expect("built"), rows).0);
        let words = [Durability::Applied, Durability::Logged, Durability::Synced];
        for (times, word) in times[1..].iter_mut().zip(words) {
            fresh(folder);
            times.push(ingest(&Engine::builder().durability(word).open(folder).expect("opened"), rows).0);
        }
    }
    let times: Vec<f64> = times.into_iter().map(median).collect();
    println!("ingest of {} x {DIM} in acknowledged batches of {BATCH}:", rows.len());
    for (name, time) in ["in memory", "applied", "logged", "synced"].iter().zip(&times) {
        println!(
            "  {name:<10} {:>8.0} rows/s, {:.2} of in memory",
            rows.len() as f64 / time,
            times[0] / time
        );
    }
}

/// Reads a file into fresh memory.
fn read(path: &Path) -> f64 {
    let started = Instant::now();
    let mut file = fs::File::open(path).expect("opened");
    let mut bytes = vec![0; file.metadata().expect("known").len() as usize];
    file.read_exact(&mut bytes).expect("read");
    started.elapsed().as_secs_f64()
}

fn copy(bytes: &[u8], path: &Path) -> f64 {
    let started = Instant::now();
    let mut file = fs::File::create(path).expect("created");
    bytes.chunks(1 << 20).for_each(|piece| file.write_all(piece).expect("written"));
    file.sync_data().expect("synced");
    started.elapsed().as_secs_f64()
}

/// The time that 99 of 100 searches stay below, while `is_going`; in microseconds.
fn slowest(items: &Collection, rows: &[Vec<f32>], is_going: impl Fn(usize) -> bool) -> (f64, usize) {
    let mut times = Vec::new();
    while is_going(times.len()) {
        let started = Instant::now();
        let query = Query::new(&rows[times.len() * 61 % rows.len()]).top(10);
        assert_eq!(items.search(&query).expect("answered").len(), 10);
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    (times[times.len() * 99 / 100], times.len())
}

/// Searches of one thread alone, and while another writes checkpoints.
fn compare_searches(items: &Collection, rows: &[Vec<f32>], backup: &Path) {
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.push(slowest(items, rows, |searches| searches < 5_000).0);
        let going = AtomicBool::new(true);
        let (p99, searches) = std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..3).for_each(|_| _ = items.snapshot().checkpoint(backup).expect("written"));
                going.store(false, Ordering::Relaxed);
            });
            slowest(items, rows, |searches| searches < 100 || going.load(Ordering::Relaxed))
        });
        println!("  {searches} searches during three checkpoints");
        beside.push(p99);
    }
    let (alone, beside) = (median(alone), median(beside));
    println!("p99 of searches: {alone:.0} us alone, {beside:.0} us beside; ratio {:.2}", beside / alone);
}

fn compare_opening(folder: &Path, rows: &[Vec<f32>]) {
    fresh(folder);
    let engine = Engine::builder().open(folder).expect("opened");
    let (_, items) = ingest(&engine, rows);
    items.optimize().expect("in order");
    let plain = folder.join("plain");
    let (mut written, mut plainly) = (Vec::new(), Vec::new());
    let backup = folder.join("backup");
    for _ in 0..ROUNDS {
        let started = Instant::now();
        items.snapshot().checkpoint(&backup).expect("written");
        written.push(started.elapsed().as_secs_f64());
        plainly.push(copy(&fs::read(&backup).expect("read"), &plain));
    }
    let megabytes = fs::metadata(&backup).expect("known").len() as f64 / 1e6;
    let (written, plainly) = (median(written), median(plainly));
    println!("checkpoint of {megabytes:.0} MB: {written:.3} s, {:.0} MB/s", megabytes / written);
    println!("  the same bytes written and synced: {plainly:.3} s; ratio of rates {:.2}", plainly / written);
    compare_searches(&items, rows, &backup);
    engine.checkpoint().expect("written");
    engine.close().expect("closed");
    drop((engine, items));
    let (mut opened, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        plain.push(read(&backup));
        let started = Instant::now();
        let engine = Engine::builder().open(folder).expect("opened");
        opened.push(started.elapsed().as_secs_f64());
        assert_eq!(engine.collection("items").expect("there").len(), rows.len());
    }
    let (opened, plain) = (median(opened), median(plain));
    println!("opening: {opened:.3} s; reading the bytes (cached) {plain:.3} s; ratio {:.2}", opened / plain);
}

fn main() {
    let is_quick = std::env::args().any(|argument| argument == "--quick" || argument == "--test");
    let rows = clustered(if is_quick { 5_000 } else { 60_000 });
    let folder: PathBuf = std::env::temp_dir().join(format!("vecino-bench-{}", std::process::id()));
    if !std::env::args().any(|argument| argument == "--opening") {
        compare_ingest(&folder, &rows[..rows.len().min(20_000)]);
    }
    compare_opening(&folder, &rows);
    fresh(&folder);
}
