//! Goal: where there is no memory for what callers put in, they get an error,
//! and everything else goes on.
//!
//! Method: an allocator that refuses large pieces: of vectors where these are
//! long, of blocks of an index where they are short.

#![allow(missing_docs, reason = "a test has no readers of its interface")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test may fail loudly")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::watchdog;
use vecino::{
    Collection, CollectionConfig, Durability, Engine, Gone, Metric, Query, Record, WaitError, WriteError,
};

/// Pieces of so many bytes and more are refused.
static FROM: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Only of this alignment, a line of the cache: vectors, and blocks of indexes.
const ALIGNED: usize = 64;
const LARGE: usize = 512 << 10;
static REFUSED: AtomicUsize = AtomicUsize::new(0);

struct Refusing;

fn is_refused(layout: Layout) -> bool {
    let is_refused = layout.align() == ALIGNED && layout.size() >= FROM.load(Ordering::Relaxed);
    REFUSED.fetch_add(is_refused.into(), Ordering::Relaxed);
    is_refused
}

// SAFETY: gives nothing, or hands everything to the system's allocator, unchanged.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_refused(layout) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

fn record(id: u64, dim: usize) -> Record {
    let number = |at: u64| ((id * 31 + at * 7) as f32 * 0.37).sin();
    Record::new(id, (0..dim as u64).map(number).collect::<Vec<f32>>())
}

/// Puts in more until that fails; gives how many were acknowledged.
fn fill(items: &Collection, dim: usize) -> u64 {
    for id in (1_000..200_000).step_by(100) {
        match items.upsert_batch((id..id + 100).map(|id| record(id, dim))).map(|write| write.wait()) {
            Ok(Ok(_)) => {}
            Err(WriteError::Gone(gone)) | Ok(Err(WaitError::Gone(gone))) => {
                assert!(told(&gone) >= LARGE, "{gone:?}");
                return id;
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("nothing was refused");
}

/// The bytes that there was no memory for, as callers are told.
fn told(gone: &Gone) -> usize {
    match gone {
        Gone::NoMemory { collection, shard: 0, bytes } if collection == "items" => *bytes,
        other => panic!("{other:?}"),
    }
}

/// Writes once that is possible again.
fn write_again(items: &Collection, id: u64, dim: usize) {
    let started = Instant::now();
    loop {
        match items.upsert(record(id, dim)).map(|write| write.wait()) {
            Ok(Ok(_)) => return,
            Err(WriteError::Gone(Gone::NoMemory { .. })) | Ok(Err(WaitError::Gone(Gone::NoMemory { .. }))) => {
                assert!(started.elapsed() < Duration::from_secs(60), "it does not go on");
                std::thread::sleep(Duration::from_millis(5));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_shard_without_memory_waits_alone_and_goes_on_when_there_is_some() {
    let _watchdog = watchdog(300);
    for (name, dim) in [("Flat", 256), ("Graph", 8), ("HNSW", 4)] {
        let folder: PathBuf =
            std::env::temp_dir().join(format!("vecino-out-of-memory-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let open =
            || Engine::builder().workers(1).pool_threads(1).durability(Durability::Logged).open(&folder);
        let engine = open().unwrap();
        let config = CollectionConfig::new(dim, Metric::L2).index(name.parse().unwrap());
        let items = engine.create_collection("items", config).unwrap();
        let others = engine.create_collection("others", CollectionConfig::new(2, Metric::L2)).unwrap();
        items.upsert_batch((0..1_000).map(|id| record(id, dim))).unwrap().wait().unwrap();

        FROM.store(LARGE, Ordering::Relaxed);
        let acknowledged = fill(&items, dim);
        assert!(REFUSED.load(Ordering::Relaxed) > 0, "{name}");
        eprintln!("{name}: {acknowledged} records");
        // What was shown can be read and searched, and others are written.
        let query = record(7, dim);
        let answer = items.search(&Query::new(query.vector()).top(1)).unwrap();
        assert_eq!(answer.hits()[0].id, 7.into());
        assert!(items.verify().unwrap().is_sound(), "{name}");
        others.upsert_batch((0..500).map(|id| record(id, 2))).unwrap().wait().unwrap();
        assert_eq!(others.len(), 500);
        // Whoever comes is told, and nobody waits.
        assert!(matches!(items.delete(1), Err(WriteError::Gone(gone)) if told(&gone) >= LARGE));
        assert!(matches!(items.optimize(), Err(WaitError::Gone(gone)) if told(&gone) >= LARGE));
        let before = REFUSED.swap(0, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(500));
        let tried = REFUSED.load(Ordering::Relaxed);
        assert!(tried <= 20, "{name}: tried {tried} times after {before}");

        FROM.store(usize::MAX, Ordering::Relaxed);
        write_again(&items, 1_000_000, dim);
        assert!((0..acknowledged).all(|id| items.contains(id).unwrap()), "{name}");
        assert!(items.stats().left_out.is_empty());
        items.upsert_batch((0..500).map(|id| record(id, dim))).unwrap().wait().unwrap();
        items.optimize().unwrap();
        assert!(items.verify().unwrap().is_sound(), "{name}");
        let (last, len) = (items.flush().unwrap(), items.len());
        engine.close().unwrap();
        drop((engine, items, others));

        // And once more after opening.
        let engine = open().unwrap();
        let items = engine.collection("items").unwrap();
        items.flush().unwrap();
        assert_eq!(items.len(), len, "{name} {last:?}");
        assert!((0..acknowledged).chain([1_000_000]).all(|id| items.contains(id).unwrap()), "{name}");
        assert!(items.verify().unwrap().is_sound(), "{name}");
        engine.close().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
