//! Damaged backups cost no memory: every bit flip and every length of a small
//! one, with an allocator that counts.

#![allow(missing_docs, reason = "a test has no readers of its interface")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use vecino::{CollectionConfig, Engine, FileError, HnswConfig, IndexSpec, Metric, Record, Snapshot};

/// Bytes that are allocated, and the most that ever were since it was reset.
static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: hands everything to the system's allocator, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
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

/// What happens beside on threads of the test harness.
const NOISE: usize = 4 << 10;

/// Opens a backup; gives the most bytes that were held meanwhile beyond before.
fn open(path: &std::path::Path) -> (Result<Snapshot, FileError>, usize) {
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let opened = Snapshot::open(path);
    (opened, PEAK.load(Ordering::Relaxed).saturating_sub(before))
}

#[test]
fn a_damaged_backup_is_named_and_takes_no_more_memory_than_twice_the_file_beyond_a_sound_one() {
    let path = std::env::temp_dir().join(format!("vecino-damaged-{}", std::process::id()));
    let engine = Engine::builder().pool_threads(1).build().unwrap();
    let hnsw = IndexSpec::Hnsw(HnswConfig::default().m(2));
    let items = engine.create_collection("items", CollectionConfig::new(3, Metric::L2).index(hnsw)).unwrap();
    items.upsert_batch((0..20).map(|id| Record::new(id, [id as f32, 1.0, 0.5]))).unwrap();
    items.optimize().unwrap();
    items.snapshot().checkpoint(&path).unwrap();
    engine.close().unwrap();
    drop((items, engine));
    let bytes = std::fs::read(&path).unwrap();
    let (sound, usual) = open(&path);
    assert_eq!(sound.unwrap().len(), 20);
    let most = usual + 2 * bytes.len() + NOISE;
    let judge = |damaged: &[u8], what: &str| {
        std::fs::write(&path, damaged).unwrap();
        let (opened, peak) = open(&path);
        match opened {
            Err(FileError::Damaged { offset, .. }) => assert!(offset <= bytes.len() as u64, "{what}"),
            Err(FileError::Newer { .. }) => {}
            other => panic!("{what}: {:?}", other.map(|snapshot| snapshot.len())),
        }
        assert!(peak <= most, "{what}: {peak} of {most} bytes");
    };
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        judge(&damaged, &format!("bit {bit}"));
    }
    for length in 0..bytes.len() {
        judge(&bytes[..length], &format!("length {length}"));
    }
    std::fs::remove_file(&path).unwrap();
}
