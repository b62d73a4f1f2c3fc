//! What `stats` tells of memory against what the allocator and the kernel
//! gave, and a budget against the same.

#![cfg(target_os = "linux")]
#![allow(missing_docs, reason = "a test has no readers of its interface")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test may fail loudly")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::quick_specs;
use vecino::{Backpressure, Collection, CollectionConfig, Engine, IndexSpec, Metric, Record};

static HELD: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: hands everything to the system's allocator, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes of mappings for which huge pages were asked: all of ours, and none else.
fn mapped() -> usize {
    of_mappings("Size:")
}

/// Those of their bytes that have memory.
fn touched() -> usize {
    of_mappings("Rss:")
}

fn of_mappings(what: &str) -> usize {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut sum, mut size) = (0, 0);
    for line in maps.lines() {
        if let Some(text) = line.strip_prefix(what) {
            size = text.split_whitespace().next().unwrap().parse::<usize>().unwrap() << 10;
        } else if line.starts_with("VmFlags:") && line.contains(" hg") {
            sum += size;
        }
    }
    sum
}

fn held() -> usize {
    HELD.load(Ordering::Relaxed) + mapped()
}

/// What is held once workers have given back what they can.
fn held_at_rest() -> usize {
    let mut before = held();
    for _ in 0..40 {
        thread::sleep(Duration::from_millis(150));
        let now = held();
        if now.abs_diff(before) < 4 << 10 {
            return now;
        }
        before = now;
    }
    before
}

/// The same, of mappings what has memory.
fn touched_at_rest() -> usize {
    held_at_rest() - mapped() + touched()
}

const DIM: usize = 64;
const ROWS: u64 = 8_000;

fn record(id: u64, seed: u64) -> Record {
    let number = |at: u64| ((id * 31 + at * 7 + seed) as f32 * 0.37).sin();
    Record::new(id, (0..DIM as u64).map(number).collect::<Vec<f32>>())
}

fn load(items: &Collection, seed: u64) {
    for first in (0..ROWS).step_by(1_000) {
        items.upsert_batch((first..first + 1_000).map(|id| record(id, seed))).unwrap();
    }
    items.optimize().unwrap();
}

/// All tests count what the whole process holds.
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Chunks that grow where they stand have the addresses of a whole one. What is told is what has memory, and the huge page
/// that will be touched next if there is room for rows in it.
#[test]
fn vectors_of_several_chunks_are_told_as_the_memory_that_they_touch() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let dim = 1_024;
    let engine = Engine::builder().pool_threads(1).build().unwrap();
    let before = touched_at_rest();
    let config = CollectionConfig::new(dim, Metric::L2).index(IndexSpec::Flat);
    let items = engine.create_collection("long", config).unwrap();
    let mut next = 0;
    // A chunk is 2,000 rows of floats, and a little more.
    for rows in [2_300u64, 3_000, 4_500, 6_200] {
        for id in next..rows {
            let vector: Vec<f32> =
                (0..dim as u64).map(|at| ((id * 31 + at * 7) % 1_009) as f32 / 1_009.0).collect();
            items.upsert(Record::new(id, vector)).unwrap();
        }
        next = rows;
        items.flush().unwrap();
        let taken = touched_at_rest() - before;
        let told = items.stats().bytes.total();
        let within = taken - taken / 33..=taken + taken / 33 + (2 << 20);
        assert!(within.contains(&told), "{rows} rows: {told} told, {taken} taken");
    }
    engine.close().unwrap();
}

#[test]
fn bytes_told_are_bytes_taken() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for spec in quick_specs(32) {
        let engine = Engine::builder().pool_threads(1).build().unwrap();
        let before = held_at_rest();
        let config = CollectionConfig::new(DIM, Metric::L2).index(spec);
        let items = engine.create_collection("items", config).unwrap();
        let mut failures = Vec::new();
        let mut judge = |step: &str| {
            let taken = held_at_rest() - before;
            let bytes = items.stats().bytes;
            let told = bytes.total();
            let off = told as f64 / taken as f64 - 1.0;
            eprintln!(
                "{} {step}: {told} told, {taken} taken, {:+.1} %",
                items.stats().shards[0].index,
                off * 100.0
            );
            if off.abs() > 0.03 {
                failures.push(format!("{spec:?}, {step}: {told} told, {taken} taken: {bytes:?}"));
            }
        };
        load(&items, 0);
        judge("loaded");
        let snapshot = items.snapshot();
        load(&items, 5);
        judge("replaced, with the snapshot before held");
        drop(snapshot);
        items.delete_batch((0..ROWS).filter(|id| id % 2 == 0)).unwrap();
        items.optimize().unwrap();
        judge("half deleted");
        assert!(failures.is_empty(), "{failures:#?}");
    }
}

const BUDGET: usize = 24 << 20;

/// Scratch of the pool, plans that are on their way, the mailboxes' table.
const BESIDE: usize = 2 << 20;

/// What training codes takes meanwhile: see design.md.
const TRAINING: usize = 4_096 * (12 * DIM + 1_536);

/// On a machine that does other work as well it may take so many times as long until enough is held.
const TIMES_AT_MOST: u32 = 20;

/// Writes, replaces and deletes as much as it is let, in three threads, while
/// `meanwhile` runs over and over, for some time and until `enough` is held; gives the most that was really held.
fn press(
    items: &Collection,
    before: usize,
    (time, enough): (Duration, usize),
    meanwhile: impl Fn(usize) + Sync,
) -> usize {
    let (most, started) = (AtomicUsize::new(0), Instant::now());
    let is_time = || {
        let lacks = most.load(Ordering::Relaxed) < enough && started.elapsed() < TIMES_AT_MOST * time;
        lacks || started.elapsed() < time
    };
    thread::scope(|scope| {
        let write = |writer: u64| {
            for first in (0..).step_by(100).take_while(|_| is_time()) {
                let base = writer * 1_000_000 + first;
                let _ = items.upsert_batch((base..base + 100).map(|id| record(id, 0)));
                let _ = items.upsert_batch((base / 2..base / 2 + 20).map(|id| record(id, 1)));
                if first % 1_000 == 0 {
                    let _ = items.delete_batch(base / 3..base / 3 + 50);
                    let _ = items.flush();
                }
            }
        };
        let mut threads: Vec<_> = (0..3).map(|writer| scope.spawn(move || write(writer))).collect();
        threads.push(scope.spawn(|| (0..).take_while(|_| is_time()).for_each(&meanwhile)));
        while threads.iter().any(|thread| !thread.is_finished()) {
            most.fetch_max(held() - before, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(5));
        }
    });
    items.flush().unwrap();
    most.into_inner()
}

#[test]
fn a_budget_holds_for_what_is_really_taken() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut failures = Vec::new();
    for spec in quick_specs(32) {
        let beside = if spec == IndexSpec::Flat { BESIDE } else { BESIDE + TRAINING };
        let engine = Engine::builder().pool_threads(1).memory_budget(BUDGET).build().unwrap();
        let before = held_at_rest();
        let config = CollectionConfig::new(DIM, Metric::L2).index(spec);
        let items = engine.create_collection("items", config).unwrap().backpressure(Backpressure::Reject);
        let time = Duration::from_secs(2);
        let most = press(&items, before, (time, BUDGET / 6), |_| thread::sleep(Duration::from_millis(10)));
        let told = items.stats();
        eprintln!(
            "{spec:?}: {most} at most of {BUDGET}; {:?}, {:?}, {} rows",
            told.budget, told.bytes, told.rows
        );
        if most > BUDGET + beside || engine.stats().budget.used > BUDGET || most < BUDGET / 6 {
            failures.push(format!("{spec:?}: {most}, {told:?}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// One index in place of another, both ways, while others write; a change that
/// the budget has no room for is refused.
#[test]
fn a_budget_holds_while_the_index_is_changed() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut failures = Vec::new();
    let kinds = quick_specs(32);
    for (at, from) in kinds.iter().enumerate() {
        let both = [kinds[(at + 4) % kinds.len()], *from];
        let engine = Engine::builder().pool_threads(1).memory_budget(BUDGET).build().unwrap();
        let before = held_at_rest();
        let config = CollectionConfig::new(DIM, Metric::L2).index(*from);
        let items = engine.create_collection("items", config).unwrap().backpressure(Backpressure::Reject);
        items.upsert_batch((9_000_000..9_004_000).map(|id| record(id, 3))).unwrap();
        let done = AtomicUsize::new(0);
        let most = press(&items, before, (Duration::from_millis(1_500), 0), |turn| {
            match items.backpressure(Backpressure::Wait).reindex(both[turn % 2]) {
                Ok(_) => _ = done.fetch_add(1, Ordering::Relaxed),
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        });
        let (told, used) = (items.stats(), engine.stats().budget.used);
        let turns = done.into_inner();
        eprintln!(
            "{both:?}: {most} at most of {BUDGET}; {turns} changes, {:?}, {} rows",
            told.budget, told.rows
        );
        if most > BUDGET + BESIDE + 2 * TRAINING || used > BUDGET || turns == 0 {
            failures.push(format!("{both:?}: {most}, {turns} changes, {told:?}"));
        }
        assert!(items.verify().unwrap().is_sound());
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
