//! Vectors and graphs of a large collection stand on huge pages, where the
//! machine has them. (They once did not: zeros were written into the memory
//! before the kernel was asked, and what was touched stays on small pages.)

#![cfg(target_os = "linux")]
#![allow(missing_docs, reason = "a test has no readers of its interface")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may fail loudly")]

use vecino::{CollectionConfig, Engine, IndexSpec, Metric, Query, Record, VectorStorage};

const HUGE: usize = 2 << 20;

/// Bytes of this process on huge pages.
fn on_huge_pages() -> usize {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let sizes = maps.lines().filter_map(|line| line.strip_prefix("AnonHugePages:"));
    sizes.filter_map(|size| size.split_whitespace().next()?.parse::<usize>().ok()).sum::<usize>() << 10
}

/// Whether a plain mapping gets a huge page on this machine, now.
fn machine_gives_huge_pages() -> bool {
    let before = on_huge_pages();
    // SAFETY: a new private mapping at a place of the kernel's choice; it is
    // written within its bounds and unmapped before anybody else learns of it.
    unsafe {
        let bytes = 4 * HUGE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let start =
            libc::mmap(std::ptr::null_mut(), bytes, access, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
        if start == libc::MAP_FAILED {
            return false;
        }
        libc::madvise(start, bytes, libc::MADV_HUGEPAGE);
        start.cast::<u8>().write_bytes(1, bytes);
        let gained = on_huge_pages() - before;
        libc::munmap(start, bytes);
        gained >= 2 * HUGE
    }
}

#[test]
fn a_large_collection_stands_on_huge_pages_and_a_small_one_takes_none() {
    if !machine_gives_huge_pages() {
        eprintln!("note: this machine gives no huge pages, or has none free: nothing was tested");
        return;
    }
    let engine = Engine::builder().workers(1).build().unwrap();
    let before = on_huge_pages();
    let small = engine.create_collection("small", CollectionConfig::new(64, Metric::L2)).unwrap();
    let record = |id: u64, dim: usize| Record::new(id, vec![(id % 1_009) as f32; dim]);
    let write = small.upsert_batch((0..300).map(|id| record(id, 64)).collect::<Vec<_>>()).unwrap();
    write.wait().unwrap();
    assert_eq!(on_huge_pages(), before);

    for storage in [VectorStorage::Full, VectorStorage::Lossless] {
        large_collection(&engine, storage, record);
    }
}

fn large_collection(engine: &Engine, storage: VectorStorage, record: impl Fn(u64, usize) -> Record) {
    let before = on_huge_pages();
    let (rows, dim) = (9_000, 1_000);
    let config = CollectionConfig::new(dim, Metric::L2).index(IndexSpec::Flat).vectors(storage);
    let large = engine.create_collection(&format!("{storage:?}"), config).unwrap();
    for from in (0..rows).step_by(500) {
        let records: Vec<_> = (from..from + 500).map(|id| record(id, dim)).collect();
        large.upsert_batch(records).unwrap().wait().unwrap();
    }
    let number = if storage == VectorStorage::Full { size_of::<f32>() } else { 1 };
    let vectors = rows as usize * dim * number;
    let gained = on_huge_pages() - before;
    assert!(gained >= vectors / 4 * 3, "{storage:?}: {gained} of {vectors} bytes");
    // A page may be used twice by rows beside one another, never counted twice.
    assert!(gained <= vectors + vectors / 2 + 4 * HUGE, "{storage:?}: {gained} of {vectors} bytes");
    assert_eq!(large.search(&Query::new(vec![3.0; dim].as_slice()).top(1)).unwrap().into_iter().count(), 1);
}
