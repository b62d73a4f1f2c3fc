//! Changing the index of a collection while it is read and written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::common::{METRICS, State, check_exhaustive, eventually, index_specs, watchdog, whole_vector};
use vecino::{
    Collection, CollectionConfig, CollectionError, Durability, Engine, HnswConfig, IndexSpec, Metric, Query,
    Record, RecordId, ReindexError, Snapshot,
};

const DIM: usize = 12;

fn record(id: u64, seed: u64) -> Record {
    Record::new(id, whole_vector(seed, DIM))
}

/// Puts records in and takes some out; the same for the same numbers.
fn fill(items: &Collection, state: &mut State, from: u64, count: u64) {
    items.upsert_batch((from..from + count).map(|id| record(id, id))).unwrap();
    state.extend((from..from + count).map(|id| (RecordId::from(id), whole_vector(id, DIM))));
    for id in (from..from + count).step_by(7) {
        items.delete(id).unwrap();
        state.remove(&RecordId::from(id));
    }
    for id in (from + 1..from + count).step_by(13) {
        items.upsert(record(id, id + 1_000_000)).unwrap();
        state.insert(RecordId::from(id), whole_vector(id + 1_000_000, DIM));
    }
    items.flush().unwrap();
}

fn check(snapshot: &Snapshot, metric: Metric, state: &State) {
    assert_eq!(snapshot.len(), state.len());
    for seed in 0..12 {
        let query = whole_vector(50_000 + seed, DIM);
        let exact = snapshot.search(&Query::new(&query).top(15).exact()).unwrap();
        check_exhaustive(metric, state, &query, 15, &exact);
        let all = snapshot.search(&Query::new(&query).top(state.len())).unwrap();
        check_exhaustive(metric, state, &query, state.len(), &all);
        let near = snapshot.search(&Query::new(&query).top(10)).unwrap();
        assert_eq!(near.len(), 10.min(state.len()));
    }
}

#[test]
fn every_index_can_take_the_place_of_every_other() {
    let _watchdog = watchdog(300);
    let specs = index_specs();
    for (at, from) in specs.into_iter().enumerate() {
        let (metric, workers) = (METRICS[at % 3], 1 + at % 2);
        let engine = Engine::builder().workers(workers).build().unwrap();
        let config = CollectionConfig::new(DIM, metric).index(from);
        let items = engine.create_collection("items", config).unwrap();
        let mut state = State::new();
        fill(&items, &mut state, 0, 1_500);
        let (held, before) = (items.snapshot(), state.clone());
        for to in specs.into_iter().cycle().skip(at + 1).take(3) {
            items.reindex(to).unwrap();
            assert_eq!(items.config(), config.index(to));
            let stats = items.stats();
            assert!(stats.shards.iter().all(|shard| !shard.reindexing && shard.tail == 0), "{from:?} {to:?}");
            assert!(items.verify().unwrap().is_sound(), "{from:?} to {to:?}");
            check(&items.snapshot(), metric, &state);
            fill(&items, &mut state, 1_400, 300);
            check(&items.snapshot(), metric, &state);
            assert!(items.verify().unwrap().is_sound(), "{from:?} to {to:?}");
        }
        check(&held, metric, &before);
        engine.close().unwrap();
    }
}

#[test]
fn reads_and_writes_go_on_meanwhile() {
    let _watchdog = watchdog(300);
    // What was found, and searches, while an index was being made.
    let (found, asked) = (AtomicU64::new(0), AtomicU64::new(0));
    for (from, to) in [("Flat", "HNSW"), ("Graph", "IVF,SQ8"), ("HNSW", "Graph")] {
        let engine = Engine::builder().workers(2).build().unwrap();
        let config = CollectionConfig::new(DIM, Metric::L2).index(from.parse().unwrap());
        let items = engine.create_collection("items", config).unwrap();
        let mut state = State::new();
        fill(&items, &mut state, 0, 6_000);
        let done = AtomicBool::new(false);
        let (written, searched) = thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut written: BTreeMap<u64, u64> = BTreeMap::new();
                for turn in 0.. {
                    let id = (turn * 37) % 7_000;
                    let write = items.upsert(record(id, turn + 5_000_000)).unwrap();
                    written.insert(id, turn + 5_000_000);
                    if turn % 20 == 0 {
                        write.wait().unwrap();
                        found.fetch_add(u64::from(is_reindexing(&items)), Ordering::Relaxed);
                    }
                    if done.load(Ordering::Relaxed) && turn > 500 {
                        break;
                    }
                }
                written
            });
            let reader = scope.spawn(|| {
                let mut searched = 0;
                while !done.load(Ordering::Relaxed) {
                    let snapshot = items.snapshot();
                    let query = whole_vector(searched, DIM);
                    assert_eq!(snapshot.search(&Query::new(&query).top(10)).unwrap().len(), 10);
                    searched += 1;
                    asked.fetch_add(u64::from(is_reindexing(&items)), Ordering::Relaxed);
                }
                searched
            });
            items.reindex(to.parse().unwrap()).unwrap();
            done.store(true, Ordering::Relaxed);
            (writer.join().unwrap(), reader.join().unwrap())
        });
        eprintln!("{from} to {to}: {} records written, {searched} searches", written.len());
        state.extend(written.into_iter().map(|(id, seed)| (RecordId::from(id), whole_vector(seed, DIM))));
        items.flush().unwrap();
        check(&items.snapshot(), Metric::L2, &state);
        items.optimize().unwrap();
        check(&items.snapshot(), Metric::L2, &state);
        assert!(items.verify().unwrap().is_sound());
        assert_eq!(items.config().index_spec(), to.parse().unwrap());
    }
    assert!(found.into_inner() > 0 && asked.into_inner() > 0, "nothing was written or asked meanwhile");
}

fn is_reindexing(items: &Collection) -> bool {
    items.stats().shards.iter().any(|shard| shard.reindexing)
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("vecino-reindexing-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

#[test]
fn the_new_index_is_there_after_reopening_and_in_backups() {
    let _watchdog = watchdog(300);
    for (number, to) in ["HNSW_SQ8", "IVF,PQ6x4fs", "Flat", "RaBitQ"].into_iter().enumerate() {
        let to: IndexSpec = to.parse().unwrap();
        let place = folder(&format!("reopen-{number}"));
        let open = || Engine::builder().workers(2).durability(Durability::Logged).open(&place).unwrap();
        let engine = open();
        let config = CollectionConfig::new(DIM, Metric::L2);
        let items = engine.create_collection("items", config).unwrap();
        let mut state = State::new();
        fill(&items, &mut state, 0, 2_500);
        items.reindex(to).unwrap();
        let digest = items.snapshot().index_digest();
        let backup = place.join("backup");
        items.snapshot().checkpoint(&backup).unwrap();
        engine.close().unwrap();

        // From the log alone: the same index, bit for bit.
        let engine = open();
        let items = engine.collection("items").unwrap();
        eventually("the log is absorbed", || items.snapshot().index_digest() == digest);
        assert_eq!(items.config(), config.index(to));
        check(&items.snapshot(), Metric::L2, &state);

        // From a checkpoint and what was logged after it.
        engine.checkpoint().unwrap();
        fill(&items, &mut state, 2_400, 200);
        engine.close().unwrap();
        let engine = open();
        let items = engine.collection("items").unwrap();
        assert_eq!(items.config(), config.index(to));
        check(&items.snapshot(), Metric::L2, &state);
        assert!(items.verify().unwrap().is_sound());
        engine.close().unwrap();

        // Backups, also into another number of shards.
        for workers in [2, 3] {
            let other = Engine::builder().workers(workers).build().unwrap();
            let copy = other.load("copy", &backup).unwrap();
            assert_eq!(copy.config(), config.index(to), "{workers} workers");
            assert!(copy.verify().unwrap().is_sound());
        }
        let mut first = State::new();
        let memory = Engine::builder().build().unwrap();
        fill(&memory.create_collection("items", config).unwrap(), &mut first, 0, 2_500);
        check(&Snapshot::open(&backup).unwrap(), Metric::L2, &first);
        std::fs::remove_dir_all(&place).unwrap();
    }
}

#[test]
fn a_change_that_was_broken_off_is_as_if_it_had_not_been_asked_for_and_can_be_asked_for_again() {
    let _watchdog = watchdog(300);
    let place = folder("broken-off");
    let open = || Engine::builder().durability(Durability::Logged).open(&place).unwrap();
    let engine = open();
    let config = CollectionConfig::new(DIM, Metric::Cosine).index(IndexSpec::Flat);
    let items = engine.create_collection("items", config).unwrap();
    let mut state = State::new();
    fill(&items, &mut state, 0, 9_000);
    let outcome = thread::scope(|scope| {
        let change = scope.spawn(|| items.reindex(IndexSpec::hnsw()));
        eventually("it has begun", || items.stats().shards[0].reindexing);
        engine.close().unwrap();
        change.join().unwrap()
    });
    assert!(matches!(outcome, Err(ReindexError::Wait(_) | ReindexError::Write(_))), "{outcome:?}");
    let engine = open();
    let items = engine.collection("items").unwrap();
    eventually("it is given up", || !items.stats().shards[0].reindexing);
    assert_eq!(items.config(), config);
    check(&items.snapshot(), Metric::Cosine, &state);
    items.reindex(IndexSpec::hnsw()).unwrap();
    assert_eq!(items.stats().shards[0].index, "hnsw");
    check(&items.snapshot(), Metric::Cosine, &state);
    engine.close().unwrap();
    std::fs::remove_dir_all(&place).unwrap();
}

#[test]
fn the_log_alone_decides_about_the_new_index() {
    let _watchdog = watchdog(300);
    let run = |threads: usize, holds: bool| {
        let engine = Engine::builder().pool_threads(threads).build().unwrap();
        let items = engine.create_collection("items", CollectionConfig::new(DIM, Metric::Dot)).unwrap();
        let (mut state, mut held) = (State::new(), Vec::new());
        fill(&items, &mut state, 0, 2_000);
        held.extend(holds.then(|| items.snapshot()));
        items.reindex("HNSW_SQ8".parse().unwrap()).unwrap();
        fill(&items, &mut state, 1_900, 300);
        held.extend(holds.then(|| items.snapshot()));
        items.reindex(IndexSpec::graph()).unwrap();
        items.snapshot().index_digest()
    };
    assert_eq!(run(1, false), run(3, true));
}

/// A checkpoint has but the index of its moment, and takes the place of the log before it.
#[test]
fn a_change_that_was_done_is_there_after_reopening_whenever_a_checkpoint_was_written() {
    let _watchdog = watchdog(300);
    let place = folder("checkpoint-meanwhile");
    let open = || Engine::builder().workers(2).pool_threads(1).open(&place).unwrap();
    let mut engine = open();
    let config = CollectionConfig::new(DIM, Metric::L2).index(IndexSpec::Flat);
    let items = engine.create_collection("items", config).unwrap();
    let mut state = State::new();
    fill(&items, &mut state, 0, 3_000);
    let mut began = 0;
    for (round, to) in ["HNSW", "Flat", "IVF,SQ8", "Graph"].into_iter().cycle().take(16).enumerate() {
        let (items, to) = (engine.collection("items").unwrap(), to.parse::<IndexSpec>().unwrap());
        thread::scope(|scope| {
            let change = scope.spawn(|| items.reindex(to).unwrap());
            let is_under_way = || items.stats().shards.iter().any(|shard| shard.reindexing);
            while !is_under_way() && !change.is_finished() {
                thread::yield_now();
            }
            thread::sleep(std::time::Duration::from_millis(round as u64 * 3));
            began += u32::from(!change.is_finished());
            engine.checkpoint().unwrap();
            change.join().unwrap();
        });
        engine.close().unwrap();
        engine = open();
        let items = engine.collection("items").unwrap();
        assert_eq!(items.config().index_spec(), to, "round {round}");
        let kinds: Vec<_> = items.stats().shards.iter().map(|shard| shard.index).collect();
        assert!(kinds.iter().all(|kind| *kind == kinds[0]), "{kinds:?}");
        check(&items.snapshot(), Metric::L2, &state);
    }
    assert!(began > 4, "a checkpoint was written meanwhile {began} times");
    engine.close().unwrap();
    std::fs::remove_dir_all(&place).unwrap();
}

#[test]
fn memory_of_the_old_index_is_given_back() {
    let _watchdog = watchdog(300);
    let engine = Engine::builder().build().unwrap();
    let index = IndexSpec::Hnsw(HnswConfig::default().m(64).ef_construction(40));
    let config = CollectionConfig::new(DIM, Metric::L2).index(index);
    let items = engine.create_collection("items", config).unwrap();
    fill(&items, &mut State::new(), 0, 5_000);
    items.optimize().unwrap();
    let full = items.stats().bytes.index;
    items.reindex(IndexSpec::Flat).unwrap();
    eventually("it is given back", || items.stats().bytes.index * 10 < full);
}

#[test]
fn a_reopened_collection_counts_the_index_that_it_has_against_its_budget() {
    let _watchdog = watchdog(300);
    let place = folder("budget");
    let open = || Engine::builder().workers(1).durability(Durability::Logged).open(&place).unwrap();
    let mut engine = open();
    let config = CollectionConfig::new(DIM, Metric::L2).index(IndexSpec::Flat).memory_budget(64 << 20);
    let items = engine.create_collection("items", config).unwrap();
    fill(&items, &mut State::new(), 0, 3_000);
    items.reindex(IndexSpec::graph()).unwrap();
    let used = items.stats().budget.used;
    for _ in 0..2 {
        engine.checkpoint().unwrap();
        engine.close().unwrap();
        engine = open();
        let items = engine.collection("items").unwrap();
        eventually("as much is counted", || items.stats().budget.used.abs_diff(used) * 20 < used);
    }
    engine.close().unwrap();
    std::fs::remove_dir_all(&place).unwrap();
}

#[test]
fn what_cannot_be_is_a_typed_error_and_changes_nothing() {
    let _watchdog = watchdog(120);
    let engine = Engine::builder().build().unwrap();
    let config = CollectionConfig::new(DIM, Metric::L2).index(IndexSpec::Flat);
    let items = engine.create_collection("items", config).unwrap();
    fill(&items, &mut State::new(), 0, 20_000);
    let bad = items.reindex(IndexSpec::Hnsw(HnswConfig::default().m(1)));
    assert!(matches!(
        bad,
        Err(ReindexError::Spec(CollectionError::Setting { parameter: "m", value: 1, .. }))
    ));
    items.reindex(IndexSpec::Flat).unwrap();
    assert_eq!(items.config(), config);
    thread::scope(|scope| {
        let change = scope.spawn(|| items.reindex(IndexSpec::graph()));
        eventually("it has begun", || items.stats().shards[0].reindexing);
        assert_eq!(items.reindex(IndexSpec::hnsw()), Err(ReindexError::UnderWay));
        change.join().unwrap().unwrap();
    });
    assert_eq!(items.stats().shards[0].index, "graph");
    engine.close().unwrap();
    assert!(matches!(items.reindex(IndexSpec::hnsw()), Err(ReindexError::Write(_))));
}

// The steps are the engine's own: they wait, whatever the handle does with its writes.
#[test]
fn an_index_is_changed_through_a_handle_that_does_not_wait_while_others_fill_the_mailbox() {
    let engine = Engine::builder().workers(1).mailbox_capacity(2).pool_threads(1).build().unwrap();
    let config = CollectionConfig::new(DIM, Metric::L2).index(IndexSpec::Flat);
    let items = engine.create_collection("items", config).unwrap();
    items.upsert_batch((0..3_000).map(|id| record(id, 1))).unwrap().wait().unwrap();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let (items, over) = (items.clone(), &over);
            scope.spawn(move || {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    items.upsert_batch((0..20).map(|at| record(writer, at))).unwrap();
                }
            });
        }
        let changed = items.backpressure(vecino::Backpressure::Reject).reindex(IndexSpec::graph());
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        changed.unwrap();
    });
    assert_eq!(items.config().index_spec(), IndexSpec::graph());
    assert!(items.verify().unwrap().is_sound());
}
