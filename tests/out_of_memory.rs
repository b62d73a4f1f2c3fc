//! Goal: where there is no memory for what callers put in, they get an error,
//! and everything else goes on.
//!
//! Method: an allocator that refuses large pieces: of vectors where these are
//! long, of blocks of an index where they are short.

#![allow(missing_docs, reason = "a test has no readers of its interface")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test may fail loudly")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use common::watchdog;
use vecino::{
    CheckpointError, Collection, CollectionConfig, CollectionError, Durability, Engine, FileError, Filter,
    Gone, IndexSpec, Metric, OpenError, Query, Record, WaitError, Write, WriteError,
};

/// Pieces of so many bytes and more are refused.
static FROM: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Only of this alignment, a line of the cache: vectors, and blocks of indexes.
const ALIGNED: usize = 64;
const LARGE: usize = 512 << 10;
static REFUSED: AtomicUsize = AtomicUsize::new(0);

/// One large piece in [`ONE_IN`] is refused, whatever it is for, when this is set.
static REFUSES: AtomicBool = AtomicBool::new(false);

/// More than what is done in one go takes: it would never be done. The next
/// ones are ever further away, so that what is tried again meets another.
static ONE_IN: AtomicUsize = AtomicUsize::new(61);
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Large pieces so far.
static COUNTED: AtomicUsize = AtomicUsize::new(0);

/// What may be taken for granted: smaller pieces are of fixed sizes, or there is
/// nothing left of the machine when they cannot be had.
static SMALL: AtomicUsize = AtomicUsize::new((4 << 10) + 1);

/// Pieces of so many bytes that are aligned to bytes: frames of a log where
/// nothing else is a long list of bytes.
static FRAMES_FROM: AtomicUsize = AtomicUsize::new(usize::MAX);

thread_local! {
    /// The piece that the thread gave back last: it can have it again, as from
    /// any allocator of today. (What is shared can be asked for in no other way.)
    static GIVEN_BACK: Cell<usize> = const { Cell::new(0) };
}

/// Sizes that an engine or a collection takes when it starts, by its settings:
/// those of its mailboxes.
static OF_STARTS: [AtomicUsize; 16] = [const { AtomicUsize::new(0) }; 16];
static STARTS: AtomicBool = AtomicBool::new(false);

fn is_of_starts(bytes: usize) -> bool {
    if STARTS.load(Ordering::Relaxed) && bytes >= SMALL.load(Ordering::Relaxed) {
        let place = OF_STARTS.iter().find(|size| [0, bytes].contains(&size.load(Ordering::Relaxed)));
        place.into_iter().for_each(|size| size.store(bytes, Ordering::Relaxed));
    }
    OF_STARTS.iter().any(|size| size.load(Ordering::Relaxed) == bytes)
}

/// One test at a time: there is but one allocator.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Refusing;

fn is_refused(layout: Layout) -> bool {
    is_of_starts(layout.size());
    let is_given_back = GIVEN_BACK.replace(0) == layout.size();
    let is_counted =
        REFUSES.load(Ordering::Relaxed) && layout.size() >= SMALL.load(Ordering::Relaxed) && !is_given_back;
    let is_refused = if is_counted && !is_of_starts(layout.size()) {
        let is_next = COUNTED.fetch_add(1, Ordering::Relaxed) + 1 == NEXT.load(Ordering::Relaxed);
        NEXT.fetch_add(
            if is_next { ONE_IN.load(Ordering::Relaxed) + 7 * REFUSED.load(Ordering::Relaxed) } else { 0 },
            Ordering::Relaxed,
        );
        is_next
    } else {
        (layout.align() == ALIGNED && layout.size() >= FROM.load(Ordering::Relaxed))
            || (layout.align() == 1 && layout.size() >= FRAMES_FROM.load(Ordering::Relaxed))
    };
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

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // Giving memory back never fails.
        if bytes > layout.size() && is_refused(Layout::from_size_align(bytes, layout.align()).unwrap()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(place, layout, bytes) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        GIVEN_BACK.set(layout.size());
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
            Err(WriteError::Gone(Gone::NoMemory { .. }))
            | Ok(Err(WaitError::Gone(Gone::NoMemory { .. }))) => {
                assert!(started.elapsed() < Duration::from_secs(60), "it does not go on");
                std::thread::sleep(Duration::from_millis(5));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_shard_without_memory_waits_alone_and_goes_on_when_there_is_some() {
    let (_alone, _watchdog) = (alone(), watchdog(600));
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
        let since = Instant::now();
        std::thread::sleep(Duration::from_millis(500));
        let tried = REFUSED.load(Ordering::Relaxed);
        let most = 20 * (1 + since.elapsed().as_millis() / 500);
        assert!(tried as u128 <= most, "{name}: tried {tried} times after {before}");

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

#[test]
fn a_write_waits_alone_for_the_memory_of_its_frame_and_the_log_stays_whole() {
    let (_alone, _watchdog) = (alone(), watchdog(600));
    let folder = std::env::temp_dir().join(format!("vecino-frame-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let open = || Engine::builder().workers(1).pool_threads(1).durability(Durability::Logged).open(&folder);
    let engine = open().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(64, Metric::L2)).unwrap();
    let others = engine.create_collection("others", CollectionConfig::new(2, Metric::L2)).unwrap();
    items.upsert_batch((0..100).map(|id| record(id, 64))).unwrap().wait().unwrap();

    FRAMES_FROM.store(LARGE, Ordering::Relaxed);
    // Twice what there is was asked for, and half of it needed. Longer than one frame; what comes behind it has to wait, too.
    let large = items.upsert_batch((100..6_000).map(|id| record(id, 64))).unwrap();
    let small = items.upsert(record(6_000, 64));
    assert!(matches!(large.wait(), Err(WaitError::Gone(gone)) if told(&gone) >= LARGE / 2));
    if let Err(fault) = small.map(|write| write.wait()) {
        assert!(matches!(fault, WriteError::Gone(gone) if told(&gone) >= LARGE / 2));
    }
    assert!(matches!(items.delete(1), Err(WriteError::Gone(gone)) if told(&gone) >= LARGE / 2));
    // What was shown is shown, and the log takes what there is memory for.
    assert_eq!((items.len(), items.search(&Query::new(&[0.5; 64]).top(3)).unwrap().len()), (100, 3));
    others.upsert_batch((0..500).map(|id| record(id, 2))).unwrap().wait().unwrap();

    FRAMES_FROM.store(usize::MAX, Ordering::Relaxed);
    write_again(&items, 7_000, 64);
    let all: Vec<u64> = (0..7_001).filter(|id| items.contains(*id).unwrap()).collect();
    assert!((0..6_000).chain([7_000]).all(|id| all.contains(&id)), "{}", all.len());
    engine.close().unwrap();
    drop((engine, items, others));

    let engine = open().unwrap();
    let items = engine.collection("items").unwrap();
    assert!(all.iter().all(|id| items.get(*id).unwrap() == Some(record(*id, 64))));
    assert_eq!((items.len(), engine.collection("others").unwrap().len()), (all.len(), 500));
    engine.close().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_write_that_comes_with_its_collection_waits_for_the_memory_of_its_frame_too() {
    let (_alone, _watchdog) = (alone(), watchdog(600));
    let folder = std::env::temp_dir().join(format!("vecino-first-frame-{}", std::process::id()));
    for _ in 0..3 {
        let _ = std::fs::remove_dir_all(&folder);
        let builder = Engine::builder().workers(1).pool_threads(1).durability(Durability::Logged);
        let engine = builder.open(&folder).unwrap();
        let flat = CollectionConfig::new(64, Metric::L2).index(IndexSpec::Flat);
        let many = engine.create_collection("many", flat).unwrap();
        // Frames short enough that the log has no room for a long one yet.
        for first in (0..30_000).step_by(100) {
            many.upsert_batch((first..first + 100).map(|id| record(id, 64))).unwrap().wait().unwrap();
        }
        let records: Vec<Record> = (0..6_000).map(|id| record(id, 64)).collect();

        // The worker has searches to do, so that it takes what follows at once.
        let query = [0.5; 64];
        let search = || Box::pin(many.search_async(Query::new(&query).top(3).exact()));
        let mut searches: Vec<_> = (0..20).map(|_| search()).collect();
        for search in &mut searches {
            let _ = search.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        FRAMES_FROM.store(LARGE, Ordering::Relaxed);
        let items = engine.create_collection("items", CollectionConfig::new(64, Metric::L2)).unwrap();
        let refused = items.upsert_batch(records).unwrap().wait_timeout(Duration::from_secs(20));
        FRAMES_FROM.store(usize::MAX, Ordering::Relaxed);
        assert!(matches!(&refused, Err(WaitError::Gone(gone)) if told(gone) >= LARGE / 2), "{refused:?}");
        write_again(&items, 7_000, 64);
        assert_eq!(items.len(), 6_001);
        engine.close().unwrap();
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn closing_while_a_write_waits_for_the_memory_of_its_frame_leaves_all_of_it_or_nothing() {
    let (_alone, _watchdog) = (alone(), watchdog(600));
    let folder = std::env::temp_dir().join(format!("vecino-closing-frame-{}", std::process::id()));
    for is_back in [false, true] {
        let _ = std::fs::remove_dir_all(&folder);
        let open =
            || Engine::builder().workers(1).pool_threads(1).durability(Durability::Logged).open(&folder);
        let engine = open().unwrap();
        let items = engine.create_collection("items", CollectionConfig::new(64, Metric::L2)).unwrap();
        items.upsert_batch((0..100).map(|id| record(id, 64))).unwrap().wait().unwrap();

        FRAMES_FROM.store(LARGE, Ordering::Relaxed);
        let large = items.upsert_batch((100..6_000).map(|id| record(id, 64))).unwrap();
        assert!(matches!(large.wait(), Err(WaitError::Gone(gone)) if told(&gone) >= LARGE / 2));
        if is_back {
            FRAMES_FROM.store(usize::MAX, Ordering::Relaxed);
        }
        let started = Instant::now();
        engine.close().unwrap();
        assert!(started.elapsed() < Duration::from_secs(60), "it waits for memory");
        FRAMES_FROM.store(usize::MAX, Ordering::Relaxed);
        drop((engine, items));

        let engine = open().unwrap();
        let items = engine.collection("items").unwrap();
        // There was no memory till the end, or a last attempt was made then.
        assert_eq!(items.len(), if is_back { 6_000 } else { 100 });
        assert!(items.verify().unwrap().is_sound());
        engine.close().unwrap();
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// One engine in a folder, and what its collection should hold.
struct Run {
    folder: PathBuf,
    engine: Option<Engine>,
    state: BTreeMap<u64, (u64, i64)>,
    records: u64,
}

const RECORDS: u64 = 4_000;

/// Lists are trained anew when there are four times as many rows as at first, which
/// takes another quarter of them.
const RECORDS_IN_LISTS: u64 = 5_750;
const WIDTH: usize = 48;

fn rich(id: u64, version: u64, tag: i64) -> Record {
    Record::new(id, record(id * 31 + version, WIDTH).vector().to_vec())
        .with("tag", tag)
        .with("text", format!("{id} of {version} with {}", "words ".repeat((id % 7) as usize)))
}

/// Does something until there is memory for it. All that is done here may be done twice.
impl Run {
    fn new(name: &str) -> Run {
        let folder = std::env::temp_dir().join(format!("vecino-refused-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        Run { folder, engine: None, state: BTreeMap::new(), records: RECORDS }
    }

    fn open(&mut self) -> &Engine {
        let started = Instant::now();
        while self.engine.is_none() {
            assert!(started.elapsed() < Duration::from_secs(60), "it does not open");
            let builder = Engine::builder().workers(1).pool_threads(1).durability(Durability::Logged);
            match builder.open(&self.folder) {
                Ok(engine) => self.engine = Some(engine),
                Err(OpenError::File(FileError::Failed { kind: ErrorKind::OutOfMemory, .. }))
                | Err(OpenError::Gone(Gone::NoMemory { .. } | Gone::LogFailed(_))) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        self.engine.as_ref().unwrap()
    }

    fn close(&mut self) {
        match self.engine.take().map(|engine| engine.close()) {
            None | Some(Ok(())) | Some(Err(Gone::LogFailed(_))) => {}
            other => panic!("{other:?}"),
        }
    }

    /// Does it until it is done; opens again where a log could not be written.
    fn until_done<E: std::fmt::Debug>(
        &mut self,
        work: impl Fn(&Engine) -> Result<(), E>,
        gone: impl Fn(&E) -> Option<Gone>,
    ) {
        let started = Instant::now();
        loop {
            assert!(started.elapsed() < Duration::from_secs(60), "it does not go on");
            match work(self.open()) {
                Ok(()) => return,
                Err(fault) => match gone(&fault) {
                    Some(Gone::NoMemory { .. }) => std::thread::sleep(Duration::from_millis(3)),
                    Some(Gone::LogFailed(_)) => self.close(),
                    _ => panic!("{fault:?}"),
                },
            }
        }
    }

    fn write(&mut self, write: impl Fn(&Collection) -> Result<Write, WriteError>) {
        let work = |engine: &Engine| -> Result<(), WaitOrWrite> {
            let items = engine.collection("items").unwrap();
            write(&items).map_err(WaitOrWrite::Write)?.wait().map(drop).map_err(WaitOrWrite::Wait)
        };
        self.until_done(work, |fault| match fault {
            WaitOrWrite::Write(WriteError::Gone(gone)) | WaitOrWrite::Wait(WaitError::Gone(gone)) => {
                Some(gone.clone())
            }
            WaitOrWrite::Write(WriteError::NoMemory { bytes }) => {
                Some(Gone::NoMemory { collection: "items".to_owned(), shard: 0, bytes: *bytes })
            }
            _ => None,
        });
    }

    fn check(&mut self, of: &str) {
        let items = self.open().collection("items").unwrap();
        assert_eq!(items.len(), self.state.len(), "{of}");
        let snapshot = items.snapshot();
        for (id, (version, tag)) in &self.state {
            let found = snapshot.get(*id).unwrap().unwrap_or_else(|| panic!("{of}: {id} is lost"));
            assert!(found == rich(*id, *version, *tag), "{of}: {found:?}");
        }
        for id in (0..self.records).step_by(397) {
            let query = record(id * 31, WIDTH);
            let query = Query::new(query.vector()).top(10);
            let (exact, near) =
                (snapshot.search(&query.clone().exact()).unwrap(), snapshot.search(&query).unwrap());
            let ids =
                |answer: &vecino::Answer| answer.hits().iter().map(|hit| hit.id.clone()).collect::<Vec<_>>();
            let found = ids(&near).iter().filter(|id| ids(&exact).contains(id)).count();
            assert!(found >= 5, "{of}: {found} of 10");
        }
        assert!(items.verify().unwrap().is_sound(), "{of}");
    }

    /// Everything that takes memory, and what it comes to.
    fn script(&mut self, index: IndexSpec, of: &str) {
        let create = |engine: &Engine| match engine
            .create_collection("items", CollectionConfig::new(WIDTH, Metric::L2).index(index))
        {
            Ok(_) | Err(CollectionError::Exists(_)) => Ok(()),
            Err(other) => Err(other),
        };
        self.until_done(create, |fault| match fault {
            CollectionError::Gone(gone) => Some(gone.clone()),
            CollectionError::File(fault) => Some(Gone::LogFailed(fault.clone())),
            _ => None,
        });
        self.records = if matches!(index, IndexSpec::Ivf(_)) { RECORDS_IN_LISTS } else { RECORDS };
        for first in (0..self.records).step_by(250) {
            self.write(|items| items.upsert_batch((first..first + 250).map(|id| rich(id, 0, 1))));
            self.state.extend((first..first + 250).map(|id| (id, (0, 1))));
        }
        for first in (0..self.records).step_by(1_000) {
            self.write(|items| items.upsert_batch((first..first + 200).map(|id| rich(id, 1, 2))));
            self.state.extend((first..first + 200).map(|id| (id, (1, 2))));
            self.write(|items| items.delete_batch(first + 500..first + 700));
            self.state.retain(|id, _| !(first + 500..first + 700).contains(id));
        }
        self.write(|items| items.delete_where(&(Filter::eq("tag", 2) & Filter::lt("tag", 3))));
        self.state.retain(|_, (_, tag)| *tag != 2);
        self.until_done(
            |engine| engine.collection("items").unwrap().optimize().map(drop),
            |fault| match fault {
                WaitError::Gone(gone) => Some(gone.clone()),
                _ => None,
            },
        );
        self.until_done(Engine::checkpoint, |fault| match fault {
            CheckpointError::Gone(gone) => Some(gone.clone()),
            CheckpointError::File(FileError::Failed { kind: ErrorKind::OutOfMemory, .. }) => {
                Some(Gone::NoMemory { collection: "items".to_owned(), shard: 0, bytes: 0 })
            }
            _ => None,
        });
        for first in (0..self.records).step_by(2_000) {
            self.write(|items| items.upsert_batch((first..first + 250).map(|id| rich(id, 3, 4))));
            self.state.extend((first..first + 250).map(|id| (id, (3, 4))));
        }
        self.close();
        self.open();
        REFUSES.store(false, Ordering::Relaxed);
        self.check(of);
        self.close();
        self.check(of);
        self.close();
        std::fs::remove_dir_all(&self.folder).unwrap();
        self.state.clear();
    }
}

#[derive(Debug)]
enum WaitOrWrite {
    Wait(WaitError),
    Write(WriteError),
}

#[test]
fn whatever_large_piece_of_memory_is_refused_nothing_is_lost_and_answers_are_right() {
    // Every large piece is refused in one of as many runs as there are pieces
    // from one that is refused to the next: all of them with `VECINO_REFUSED_ALL=1`,
    // of one kind of index with `VECINO_REFUSED_KIND=IVF`.
    let step = if std::env::var_os("VECINO_REFUSED_ALL").is_some() { 1 } else { 10 };
    refuse_in_runs(64 << 10, 61, step);
}

#[test]
fn whatever_piece_beyond_a_page_is_refused_nothing_is_lost_and_answers_are_right() {
    // There are many more of them: some of the runs will do.
    let step = if std::env::var_os("VECINO_REFUSED_ALL").is_some() { 41 } else { 331 };
    refuse_in_runs((4 << 10) + 1, 1_993, step);
}

fn refuse_in_runs(small: usize, one_in: usize, step: usize) {
    let (_alone, _watchdog) = (alone(), watchdog(900));
    SMALL.store(small, Ordering::Relaxed);
    ONE_IN.store(one_in, Ordering::Relaxed);
    STARTS.store(true, Ordering::Relaxed);
    let engine = Engine::builder().workers(1).pool_threads(1).build().unwrap();
    let config = CollectionConfig::new(WIDTH, Metric::L2);
    let others = engine.create_collection("others", config).unwrap();
    others.upsert(record(1, WIDTH)).unwrap().wait().unwrap();
    engine.close().unwrap();
    STARTS.store(false, Ordering::Relaxed);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |told| {
        REFUSES.store(false, Ordering::Relaxed);
        hook(told);
    }));
    let kinds = ["Flat", "Graph", "HNSW_SQ8", "IVF,PQ12x4fs", "IVF,SQ8", "IVF"];
    let only = std::env::var("VECINO_REFUSED_KIND").ok();
    let is_meant = |kind: &str| only.as_deref().is_none_or(|only| only == kind);
    for (at, kind) in kinds.into_iter().enumerate().filter(|(_, kind)| is_meant(kind)) {
        let (started, mut counts) = (Instant::now(), (0, 0, 0));
        for first in (at..one_in).step_by(step) {
            REFUSED.store(0, Ordering::Relaxed);
            COUNTED.store(0, Ordering::Relaxed);
            NEXT.store(first + 1, Ordering::Relaxed);
            REFUSES.store(true, Ordering::Relaxed);
            Run::new("script").script(kind.parse().unwrap(), &format!("{kind}, from {first}"));
            counts.0 += 1;
            counts.1 += COUNTED.load(Ordering::Relaxed);
            counts.2 += REFUSED.load(Ordering::Relaxed);
        }
        let (runs, counted, refused) = counts;
        eprintln!("{kind}: {refused} of {counted} refused in {runs} runs, {:?}", started.elapsed());
        assert!(refused > 0, "{kind}");
    }
}
