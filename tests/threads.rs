//! Goal: an engine uses the threads it was given and no others, all named, and
//! leaves the pools of the program around it alone.
//!
//! Method: the names of the process's threads are read from the system while
//! everything that could start one is done. One test, because the threads of
//! tests that run beside each other could not be told apart.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test may fail loudly")]

mod common;

use std::collections::BTreeMap;

use common::{block_on, clustered, eventually, watchdog};
use vecino::{CollectionConfig, Durability, Engine, Metric, Query, Record, SearchParams};

/// Threads by their names; the names of the engine's are those of its parts.
fn threads() -> BTreeMap<String, usize> {
    let mut threads = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        // It may have ended since it was listed.
        if let Ok(name) = std::fs::read_to_string(task.path().join("comm")) {
            *threads.entry(name.trim().to_owned()).or_default() += 1;
        }
    }
    threads
}

fn use_everything(engine: &Engine, folder: &std::path::Path) {
    let items = engine.create_collection("items", CollectionConfig::new(16, Metric::L2)).unwrap();
    let rows = clustered(3, 5_000, 16, 50);
    let records = (0_u64..).zip(&rows).map(|(id, row)| Record::new(id, row.clone()));
    items.upsert_batch(records).unwrap().wait().unwrap();
    (0_u64..500).for_each(|id| drop(items.delete(id).unwrap()));
    items.optimize().unwrap();
    items.calibrate().unwrap();
    let queries: Vec<Query<'_>> = rows[..200].iter().map(Query::new).collect();
    assert_eq!(items.search_batch(&queries).unwrap().len(), 200);
    let query = Query::new(&rows[0]).params(SearchParams::recall(0.9));
    assert_eq!(items.search(&query).unwrap().len(), 10);
    assert_eq!(items.search(&Query::new(&rows[0]).exact()).unwrap().len(), 10);
    assert_eq!(block_on(items.search_async(Query::new(&rows[1]))).unwrap().len(), 10);
    items.snapshot().checkpoint(folder.join("backup")).unwrap();
    assert!(items.verify().unwrap().is_sound());
}

#[test]
fn an_engine_uses_its_own_threads_and_no_others() {
    let _watchdog = watchdog(120);
    let folder = std::env::temp_dir().join(format!("vecino-threads-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    // A thread gets its name when it runs.
    eventually("the watchdog has its name", || threads().contains_key("watchdog"));
    let before = threads();
    let builder = Engine::builder().workers(3).pool_threads(2).durability(Durability::Logged);
    let engine = builder.open(folder.join("db")).unwrap();
    use_everything(&engine, &folder);
    let mut own = threads();
    before.iter().for_each(|(name, count)| {
        let left = own.remove(name).unwrap_or_default();
        assert!(left <= *count, "{left} threads are called {name}, there were {count}");
    });
    // The system cuts names at 15 letters.
    let expected = [
        ("vecino-coordina", 1),
        ("vecino-keeper", 1),
        ("vecino-pool-0", 1),
        ("vecino-pool-1", 1),
        ("vecino-worker-0", 1),
        ("vecino-worker-1", 1),
        ("vecino-worker-2", 1),
    ];
    assert_eq!(own, expected.map(|(name, count)| (name.to_owned(), count)).into());

    pinned_workers_stay_on_their_cpus();

    // Fails when somebody has used the global pool.
    rayon::ThreadPoolBuilder::new().num_threads(1).thread_name(|_| "mine".to_owned()).build_global().unwrap();
    // From within a program's own pool the engine's pool does the engine's work.
    let items = engine.collection("items").unwrap();
    let outside =
        rayon::ThreadPoolBuilder::new().num_threads(2).thread_name(|_| "mine".to_owned()).build().unwrap();
    let queries = [Query::new(vec![0.0; 16]), Query::new(vec![1.0; 16])];
    assert_eq!(outside.install(|| items.search_batch(&queries)).unwrap().len(), 2);
    drop(outside);
    engine.close().unwrap();
    eventually("the engine's threads are gone", || threads().keys().all(|name| !name.starts_with("vecino-")));
    std::fs::remove_dir_all(&folder).unwrap();
}

/// CPUs that a thread of this process may run on, as the system writes them.
fn cpus_of(thread: &str) -> Vec<String> {
    let mut found = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |file| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        if read("comm").trim() == thread {
            let status = read("status");
            let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            found.push(line.unwrap_or_default().trim().to_owned());
        }
    }
    found.sort_unstable();
    found
}

fn pinned_workers_stay_on_their_cpus() {
    let allowed = cpus_of("vecino-worker-0");
    // Any CPU that this process may use.
    let first = allowed[0].split(['-', ',']).next().unwrap().to_owned();
    let engine =
        Engine::builder().workers(1).pool_threads(1).pin_workers([first.parse().unwrap()]).build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2)).unwrap();
    items.upsert(Record::new(1, [1.0, 2.0])).unwrap().wait().unwrap();
    let both = cpus_of("vecino-worker-0");
    assert!(both.contains(&first) && both.contains(&allowed[0]), "{both:?}: one is pinned, the other not");
    engine.close().unwrap();
}
