//! Closing: an engine is closed, or dropped, while thousands of requests wait.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Instant;

use vecino::{
    Collection, CollectionConfig, Durability, Engine, Gone, Metric, Query, Record, SearchError, WaitError,
    WriteError,
};

use super::super::arguments::Arguments;
use super::super::load::Result;
use super::super::load::data::Data;
use super::super::load::target::Later;
use super::super::load::tasks::Tasks;
use super::Checks;

const IN_FLIGHT: u64 = 10_000;
const WITHIN_S: f64 = 1.0;
const DIM: usize = 32;
const ROWS: u64 = 2_000;
/// Given up then: a request without an answer is a fault, not a wait for ever.
const PATIENCE_NS: u64 = 30_000_000_000;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Answered,
    Refused,
    Closed,
    Other,
}

fn of_wait(error: &WaitError) -> End {
    if matches!(error, WaitError::Gone(Gone::Closed)) { End::Closed } else { End::Other }
}

fn of_write(error: &WriteError) -> End {
    match error {
        WriteError::Full { .. } => End::Refused,
        WriteError::Gone(Gone::Closed) => End::Closed,
        _ => End::Other,
    }
}

fn of_search(error: &SearchError) -> End {
    match error {
        SearchError::Full { .. } => End::Refused,
        SearchError::Gone(Gone::Closed) => End::Closed,
        SearchError::AtLeast(error) => of_wait(error),
        _ => End::Other,
    }
}

fn vector(number: u64) -> Vec<f32> {
    (0..DIM as u64).map(|at| ((number * 31 + at * 17) % 97) as f32).collect()
}

/// A request of each kind in turn.
fn request(items: &Collection, number: u64) -> Later<'_, End> {
    let record = move || Record::new(number, vector(number));
    match number % 4 {
        0 | 1 => Box::pin(async move {
            let found = items.search_async(Query::new(vector(number))).await;
            found.map_or_else(|error| of_search(&error), |_| End::Answered)
        }),
        2 => Box::pin(async move {
            let written = items.upsert_async(record()).await;
            written.map_or_else(|error| of_write(&error), |_| End::Answered)
        }),
        _ => Box::pin(async move {
            match items.upsert_async(record()).await {
                Ok(write) => write.wait_async().await.map_or_else(|error| of_wait(&error), |_| End::Answered),
                Err(error) => of_write(&error),
            }
        }),
    }
}

/// The engine's threads, and the files of this process. None on systems that do
/// not tell.
fn held() -> Option<(usize, usize)> {
    let tasks = fs::read_dir("/proc/self/task").ok()?;
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    let threads = tasks.filter_map(std::result::Result::ok).map(name);
    let threads = threads.filter(|name| name.starts_with("vecino-")).count();
    Some((threads, fs::read_dir("/proc/self/fd").ok()?.count()))
}

pub(super) fn measure(arguments: &Arguments, _data: &Data) -> Result<Checks> {
    let mut checks = Checks::new("closing");
    let folder = arguments.out.join("closing.vecino");
    for (name, is_dropped) in [("close", false), ("drop", true)] {
        let _ = fs::remove_dir_all(&folder);
        let before = held();
        let engine = Engine::builder().mailbox_capacity(64).durability(Durability::Logged).open(&folder)?;
        let items = engine.create_collection("items", CollectionConfig::new(DIM, Metric::L2))?;
        items.upsert_batch((0..ROWS).map(|key| Record::new(key, vector(key))))?.wait()?;
        let (pending, ends, seconds) = end_under_load(engine, &items, is_dropped);
        drop(items);
        let told: u64 = ends.values().sum();
        let what = format!("{name} with {pending} requests waiting: all are told within");
        checks.at_most(&what, WITHIN_S, " s", seconds);
        let is_whole = told == pending && !ends.contains_key(&End::Other);
        checks.fact(
            &format!("{name}: what they are told"),
            "an answer, or closed",
            format!("{ends:?}"),
            is_whole,
        );
        let after = settled(before);
        let measured = format!("{before:?} before, {after:?} after");
        checks.fact(&format!("{name}: threads and files"), "as before", measured, before == after);
    }
    let _ = fs::remove_dir_all(&folder);
    Ok(checks)
}

/// A thread that was joined stays listed for a moment.
fn settled(expected: Option<(usize, usize)>) -> Option<(usize, usize)> {
    for _ in 0..200 {
        if held() == expected {
            break;
        }
        thread::sleep(std::time::Duration::from_millis(5));
    }
    held()
}

/// How many waited, what became of them, and when the last of them was told.
fn end_under_load(engine: Engine, items: &Collection, is_dropped: bool) -> (u64, BTreeMap<End, u64>, f64) {
    let started = Instant::now();
    let mut tasks: Tasks<'_, End, ()> = Tasks::new(started);
    for number in 0..IN_FLIGHT {
        // Those that end at once did not wait.
        let _ = tasks.start(request(items, number), ());
    }
    let pending = tasks.pending() as u64;
    let mut ends = BTreeMap::new();
    let ended_at = Instant::now();
    thread::scope(|scope| {
        if is_dropped {
            scope.spawn(move || drop(engine));
        } else {
            // From several threads, and twice.
            for _ in 0..3 {
                let engine = engine.clone();
                scope.spawn(move || (0..2).for_each(|_| drop(engine.close())));
            }
        }
        while tasks.pending() > 0 {
            let ended = tasks.wait(PATIENCE_NS);
            if ended.is_empty() {
                break;
            }
            ended.into_iter().for_each(|ended| *ends.entry(ended.output).or_insert(0) += 1);
        }
    });
    (pending, ends, ended_at.elapsed().as_secs_f64())
}
