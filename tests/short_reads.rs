//! Goal: a read for which there is no memory gives an error of its type, and
//! the next one on the same thread gives the right answer.
//!
//! Method: an allocator that refuses one piece of memory of the calling thread:
//! the first, then the second, until a read has all that it asks for. Each
//! begins on a thread that has not searched yet, so that all its memory is new.

#![allow(missing_docs, reason = "a test has no readers of its interface")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test may fail loudly")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{block_on, watchdog};
use vecino::{
    Answer, Collection, CollectionConfig, Engine, Example, ExclusionSet, Filter, Metric, OrderBy, Query,
    ReadError, Record, Scoring, SearchError,
};

/// Smaller pieces are never refused: they are of fixed sizes, or of a text.
const LEAST: usize = 640;

thread_local! {
    /// Pieces of this thread until one is refused; 0: none is.
    static UNTIL: Cell<usize> = const { Cell::new(0) };
}

/// The same for all threads.
static UNTIL_OF_ANY: AtomicUsize = AtomicUsize::new(0);

struct Refusing;

fn is_refused(bytes: usize) -> bool {
    if bytes < LEAST {
        return false;
    }
    let left = UNTIL.get();
    UNTIL.set(left.saturating_sub(1));
    let minus = |left: usize| left.checked_sub(1);
    left == 1 || UNTIL_OF_ANY.fetch_update(Ordering::Relaxed, Ordering::Relaxed, minus) == Ok(1)
}

// SAFETY: gives nothing, or hands everything to the system's allocator, unchanged.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_refused(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // Giving memory back never fails.
        if bytes > layout.size() && is_refused(bytes) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(place, layout, bytes) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

const DIM: usize = 192;
const RECORDS: u64 = 2_500;

fn vector(seed: u64) -> Vec<f32> {
    (0..DIM as u64).map(|at| ((seed * 31 + at * 7) as f32 * 0.37).sin()).collect()
}

fn record(id: u64) -> Record {
    let record = Record::new(format!("record {id}"), vector(id));
    record.with("tag", id as i64 % 7).with("text", format!("{id} with {}", "words ".repeat(40)))
}

fn collection(engine: &Engine, kind: &str) -> Collection {
    let config = CollectionConfig::new(DIM, Metric::L2).index(kind.parse().unwrap());
    let items = engine.create_collection(kind, config).unwrap();
    items.upsert_batch((0..RECORDS).map(record)).unwrap().wait().unwrap();
    items.optimize().unwrap();
    // Some rows that no index holds, and some that are hidden.
    items.upsert_batch((RECORDS..RECORDS + 5).map(record)).unwrap().wait().unwrap();
    items.delete_batch((0..RECORDS).step_by(100).map(|id| format!("record {id}"))).unwrap().wait().unwrap();
    items
}

/// Reads on new threads, each time with another piece refused: first the error,
/// then on the same thread the answer that it should be.
fn refuse_each<T, S: PartialEq + Debug + Sync, E: PartialEq + Debug>(
    of: &str,
    read: impl Fn() -> Result<T, E> + Sync,
    show: impl Fn(T) -> S + Sync,
    is_no_memory: impl Fn(&E) -> bool + Sync,
) {
    let expected = show(read().unwrap());
    let attempt = |piece: usize| {
        UNTIL.set(piece);
        let first = read();
        let has_all = UNTIL.replace(0) > 0;
        match first {
            Ok(found) => assert_eq!(show(found), expected, "{of}: {piece}"),
            Err(fault) => assert!(is_no_memory(&fault) && !has_all, "{of}: {piece}: {fault:?}"),
        }
        assert_eq!(read().map(&show).as_ref(), Ok(&expected), "{of}: after {piece}");
        has_all
    };
    let attempt = &attempt;
    let mut piece = 1;
    while !std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("reader".to_owned());
        thread.spawn_scoped(scope, move || attempt(piece)).unwrap().join().unwrap()
    }) {
        // Of many alike (the payloads of all hits) some will do.
        piece += 1 + piece / 30;
        assert!(piece < 100_000, "{of}: there is no end");
    }
    eprintln!("{of}: {} pieces", piece - 1);
}

fn is_short(fault: &SearchError) -> bool {
    matches!(fault, SearchError::NoMemory { bytes } if *bytes > 0)
}

fn is_short_read(fault: &ReadError) -> bool {
    matches!(fault, ReadError::NoMemory { bytes } if *bytes > 0)
}

/// Hits without what counts work.
fn ids(answer: Answer) -> Vec<(String, f32, bool)> {
    answer.into_iter().map(|hit| (hit.id.to_string(), hit.distance, hit.payload.is_empty())).collect()
}

fn all_ids(answers: Vec<Answer>) -> Vec<Vec<(String, f32, bool)>> {
    answers.into_iter().map(ids).collect()
}

fn queries(vector: &[f32]) -> Vec<(&'static str, Query<'_>)> {
    let excluded: ExclusionSet = (0..50).map(|id| format!("record {id}")).collect();
    let scoring = Scoring::new().share("tag", 10.0, 0.5);
    vec![
        ("plain", Query::new(vector).top(20)),
        ("of all", Query::new(vector).top(usize::MAX)),
        ("as broad as can be", Query::new(vector).top(5).ef_search(usize::MAX)),
        ("exact", Query::new(vector).top(10).exact()),
        ("within", Query::new(vector).within(30.0)),
        ("filtered", Query::new(vector).top(10).filter(Filter::lt("tag", 5))),
        ("rarely passing", Query::new(vector).top(10).filter(Filter::ids([7u64, 8]) | Filter::eq("tag", 3))),
        ("without some", Query::new(vector).top(10).exclude_set(&excluded).exclude(["record 77"])),
        ("unlike each other", Query::new(vector).top(10).diversity(0.5)),
        ("scored", Query::new(vector).top(10).scoring(scoring)),
        ("like some", Query::recommend([Example::from("record 5"), Example::vector(vector)], []).top(5)),
    ]
}

/// One test at a time: there is but one allocator.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_search_without_memory_gives_an_error_and_the_next_one_its_answer() {
    let (_alone, _watchdog) = (alone(), watchdog(600));
    let engine = Engine::builder().workers(2).pool_threads(1).build().unwrap();
    for kind in [
        "Flat",
        "Graph",
        "HNSW",
        "HNSW_SQ8",
        "IVF,SQ8",
        "IVF,PQ12x4fs",
        "IVF,Flat",
        "HNSW_PQ12",
        "IVF,RaBitQ",
    ] {
        let items = collection(&engine, kind);
        let snapshot = items.snapshot();
        let vector = vector(1_717);
        for (name, query) in queries(&vector) {
            let of = format!("{kind}, {name}");
            refuse_each(&of, || snapshot.search(&query), ids, is_short);
        }
        let many: Vec<Query<'_>> = queries(&vector).into_iter().map(|(_, query)| query).collect();
        let alike: Vec<Query<'_>> = (0..20).map(|at| Query::new(&vector).top(at)).collect();
        for (name, queries) in [("many", &many), ("many alike", &alike)] {
            let of = format!("{kind}, {name}");
            refuse_each(&of, || snapshot.search_many(queries), all_ids, is_short);
        }
    }
    engine.close().unwrap();
}

/// The texts of records, and what they are like.
fn records(records: Vec<Record>) -> Vec<(String, Vec<f32>, usize)> {
    let shown =
        |record: Record| (record.id().to_string(), record.vector().to_vec(), record.payload().iter().count());
    records.into_iter().map(shown).collect()
}

#[test]
fn any_other_read_without_memory_gives_an_error_and_the_next_one_its_answer() {
    let (_alone, _watchdog) = (alone(), watchdog(600));
    let engine = Engine::builder().workers(2).pool_threads(1).build().unwrap();
    let items = collection(&engine, "Graph");
    let wide = CollectionConfig::new(1_000, Metric::L2).index("Flat".parse().unwrap());
    let wide = engine.create_collection("wide", wide).unwrap();
    wide.upsert(Record::new(1, vec![0.5; 1_000])).unwrap().wait().unwrap();
    let (snapshot, filter, vector) = (items.snapshot(), Filter::lt("tag", 3), vector(1_717));
    let whole = |record: Option<Record>| records(record.into_iter().collect());
    refuse_each("get", || wide.get(1), whole, is_short_read);
    refuse_each("scroll", || snapshot.scroll(None, 300), |page| records(page.records), is_short_read);
    let scroll_where = || snapshot.scroll_where(&filter, None, usize::MAX);
    refuse_each("scroll_where", scroll_where, |page| records(page.records), is_short_read);
    let latest = OrderBy::descending("text");
    let scroll_by = || snapshot.scroll_by(&filter, &latest, None, 200);
    refuse_each("scroll_by", scroll_by, |page| records(page.records), is_short_read);
    refuse_each("count", || snapshot.count(&filter), |count| count, is_short_read);
    refuse_each("facets", || snapshot.facets("text", &filter, usize::MAX), |facets| facets, is_short_read);
    refuse_each("verify", || snapshot.verify(), |report| report, is_short_read);
    let query = Query::new(&vector).filter(Filter::ge("tag", 1));
    refuse_each("groups", || snapshot.search_groups(&query, "tag", 5, 3), |groups| groups, is_short);
    engine.close().unwrap();
}

#[test]
fn searches_on_other_threads_without_memory_give_an_error_too() {
    let (_alone, _watchdog) = (alone(), watchdog(600));
    let engine = Engine::builder().workers(2).pool_threads(2).build().unwrap();
    for kind in ["Graph", "IVF,SQ8"] {
        let items = collection(&engine, kind);
        let vector = vector(1_717);
        let many: Vec<Query<'_>> = (0..100).map(|at| Query::new(&vector).top(at)).collect();
        let one = || Query::new(&vector).top(30).exact();
        let batch = || items.search_batch(&many);
        let through_workers = || block_on(items.search_async(one()));
        let (all, single) = (all_ids(batch().unwrap()), ids(through_workers().unwrap()));
        let mut refused = 0;
        for piece in 1..120 {
            let outcome = with_one_refused(piece, batch).map(|found| assert_eq!(all_ids(found), all));
            let other = with_one_refused(piece, through_workers).map(|found| assert_eq!(ids(found), single));
            for outcome in [outcome, other] {
                refused += usize::from(outcome.is_err());
                assert!(outcome.as_ref().err().is_none_or(is_short), "{kind}, {piece}: {outcome:?}");
            }
            assert_eq!(batch().map(all_ids).as_ref(), Ok(&all), "{piece}");
            assert_eq!(through_workers().map(ids).as_ref(), Ok(&single), "{piece}");
        }
        eprintln!("{kind}: {refused} searches had no memory");
        assert!(refused > 0);
    }
    engine.close().unwrap();
}

/// One piece of memory of whatever thread is refused meanwhile.
fn with_one_refused<T>(piece: usize, work: impl FnOnce() -> T) -> T {
    UNTIL_OF_ANY.store(piece, Ordering::Relaxed);
    let outcome = work();
    UNTIL_OF_ANY.store(0, Ordering::Relaxed);
    outcome
}
