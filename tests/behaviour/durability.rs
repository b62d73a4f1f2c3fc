//! Engines with a folder: what was acknowledged is there again, also after the
//! process was killed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use vecino::{
    CollectionConfig, CollectionError, Durability, Engine, EngineBuilder, FileError, FileKind, IndexSpec,
    Metric, OpenError, Payload, Query, Record, Snapshot, VectorStorage,
};

/// Every kind of index.
fn indexes() -> [IndexSpec; 6] {
    let named = |name: &str| name.parse().unwrap();
    let (graph, hnsw) = (IndexSpec::graph(), IndexSpec::hnsw());
    [IndexSpec::Flat, graph, hnsw, IndexSpec::ivf(), named("IVF20,PQ12x4fsr"), named("PQ12x4fs")]
}

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("vecino-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Folder(path)
    }

    fn open(&self) -> Engine {
        builder().open(&self.0).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn builder() -> EngineBuilder {
    Engine::builder().pool_threads(1)
}

/// No two are at the same distance from a third: places of rows, which decide
/// ties, may differ after a checkpoint.
fn vector(id: u64, dim: usize) -> Vec<f32> {
    let number = |at: u64| (id * 131 + at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    (0..dim as u64).map(|at| number(at) as f32 / 1e6 - 8.0).collect()
}

fn records(ids: std::ops::Range<u64>, dim: usize) -> impl Iterator<Item = Record> {
    ids.map(move |id| Record::new(id, vector(id, dim)))
}

#[test]
fn records_collections_and_numbers_are_there_again_after_reopening() {
    let folder = Folder::new("reopen");
    let engine = builder().workers(2).open(&folder.0).unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(8, Metric::Cosine)).unwrap();
    let gone = engine.create_collection("gone", CollectionConfig::new(8, Metric::L2)).unwrap();
    gone.upsert_batch(records(0..50, 8)).unwrap();
    items.upsert_batch(records(0..1_000, 8)).unwrap();
    items.delete_batch(0..100u64).unwrap();
    items.upsert(Record::new("text", vector(5, 8))).unwrap().wait().unwrap();
    items.optimize().unwrap();
    engine.drop_collection("gone").unwrap();
    let before = items.snapshot();
    engine.close().unwrap();

    let engine = folder.open();
    assert_eq!(engine.collections(), ["items"]);
    let items = engine.collection("items").unwrap();
    // What is visible again may still be on its way into the index.
    let deadline = Instant::now() + Duration::from_secs(60);
    while items.snapshot().index_digest() != before.index_digest() {
        assert!(Instant::now() < deadline, "the log alone decides the index");
        std::thread::sleep(Duration::from_millis(1));
    }
    let after = items.snapshot();
    assert_eq!((after.seq(), after.len()), (before.seq(), before.len()));
    assert_eq!(after.get("text"), before.get("text"));
    for id in [3, 77, 555] {
        let query = vector(id, 8);
        let query = Query::new(&query).top(20);
        assert_eq!(after.search(&query).unwrap().hits(), before.search(&query).unwrap().hits());
    }
    assert!(after.verify().unwrap().is_sound(), "{:?}", after.verify().unwrap());
    let next = items.upsert(Record::new(1, vector(1, 8))).unwrap();
    assert_eq!(next.seq().0, before.seq().0 + 1);
    assert!(matches!(builder().open(&folder.0), Err(OpenError::InUse)));
    engine.close().unwrap();
    assert!(matches!(builder().workers(3).open(&folder.0), Err(OpenError::Workers { stored: 2, asked: 3 })));
}

#[test]
fn checkpoints_take_the_place_of_logs_and_keep_answers_for_every_index_and_metric() {
    for (at, index) in indexes().into_iter().enumerate() {
        for metric in [Metric::L2, Metric::Cosine, Metric::Dot] {
            let folder = Folder::new(&format!("checkpoint-{at}-{metric}"));
            let engine = builder().workers(2).open(&folder.0).unwrap();
            let config = CollectionConfig::new(12, metric).index(index);
            let items = engine.create_collection("items", config).unwrap();
            items.upsert_batch(records(0..3_000, 12)).unwrap();
            items.delete_batch((0..300u64).step_by(2)).unwrap();
            items.upsert_batch(records(10..40, 12)).unwrap().wait().unwrap();
            engine.checkpoint().unwrap();
            items.upsert_batch(records(2_000..2_030, 12)).unwrap().wait().unwrap();
            let before = items.snapshot();
            engine.close().unwrap();

            let engine = folder.open();
            assert_eq!(engine.recovery().collections, 1);
            let after = engine.collection("items").unwrap().snapshot();
            assert_eq!((after.seq(), after.len()), (before.seq(), before.len()));
            for id in [3, 20, 555, 2_010] {
                let query = vector(id, 12);
                let exact = Query::new(&query).top(30).exact();
                assert_eq!(after.search(&exact).unwrap().hits(), before.search(&exact).unwrap().hits());
                let near = Query::new(&query).top(1);
                assert_eq!(after.search(&near).unwrap().hits().len(), 1);
            }
            assert!(after.verify().unwrap().is_sound(), "{metric} {index:?}: {:?}", after.verify().unwrap());
        }
    }
}

#[test]
fn every_storage_of_vectors_gives_the_same_answers_after_opening_as_before() {
    for storage in [VectorStorage::Lossless, VectorStorage::Full, VectorStorage::Half, VectorStorage::Byte] {
        for metric in [Metric::L2, Metric::Cosine, Metric::Dot] {
            let folder = Folder::new(&format!("storage-{storage:?}-{metric}"));
            std::fs::create_dir(&folder.0).unwrap();
            let path = folder.0.join("items.backup");
            let engine = builder().workers(1).build().unwrap();
            let config = CollectionConfig::new(24, metric).vectors(storage);
            let items = engine.create_collection("items", config).unwrap();
            items.upsert_batch(records(0..500, 24)).unwrap().wait().unwrap();
            items.optimize().unwrap();
            let before = items.snapshot();
            before.checkpoint(&path).unwrap();

            let after = Snapshot::open(&path).unwrap();
            assert_eq!(after.index_digest(), before.index_digest(), "{storage:?} {metric}");
            for id in [3, 77, 499] {
                assert_eq!(after.get(id), before.get(id), "{storage:?} {metric}");
                let query = vector(id, 24);
                for query in [Query::new(&query).top(30), Query::new(&query).top(30).exact()] {
                    let (after, before) = (after.search(&query).unwrap(), before.search(&query).unwrap());
                    assert_eq!(after.hits(), before.hits(), "{storage:?} {metric}");
                }
            }
        }
    }
}

#[test]
fn a_checkpoint_is_a_backup_for_snapshots_and_engines_with_any_number_of_workers() {
    let folder = Folder::new("backup");
    std::fs::create_dir(&folder.0).unwrap();
    let path = folder.0.join("items.backup");
    let engine = builder().workers(2).build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(8, Metric::L2)).unwrap();
    items.upsert_batch(records(0..2_000, 8)).unwrap().wait().unwrap();
    items.optimize().unwrap();
    let before = items.snapshot();
    let bytes = before.checkpoint(&path).unwrap();
    assert_eq!(bytes, std::fs::metadata(&path).unwrap().len());

    let opened = Snapshot::open(&path).unwrap();
    assert_eq!((opened.seq(), opened.len()), (before.seq(), before.len()));
    assert_eq!(opened.index_digest(), before.index_digest());
    let query = vector(77, 8);
    let query = Query::new(&query).top(10);
    assert_eq!(opened.search(&query).unwrap().hits(), before.search(&query).unwrap().hits());
    for workers in [1, 2, 3] {
        let other = builder().workers(workers).open(folder.0.join(format!("folder-{workers}"))).unwrap();
        let loaded = other.load("copy", &path).unwrap();
        loaded.upsert(Record::new("new", vector(1, 8))).unwrap().wait().unwrap();
        other.close().unwrap();
        drop((other, loaded));
        let other = builder().open(folder.0.join(format!("folder-{workers}"))).unwrap();
        let loaded = other.collection("copy").unwrap();
        assert_eq!(loaded.snapshot().len(), 2_001);
        assert_eq!(loaded.snapshot().get(77), before.get(77));
        assert!(loaded.snapshot().verify().unwrap().is_sound());
    }
}

// Where records have to be spread anew they were written one batch after the other, for all to see, and a crash left some of them.
#[test]
fn a_backup_of_another_number_of_workers_is_there_whole_or_not_at_all() {
    let folder = Folder::new("whole");
    std::fs::create_dir(&folder.0).unwrap();
    let path = folder.0.join("items.backup");
    let engine = builder().workers(2).build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(8, Metric::L2)).unwrap();
    items.upsert_batch(records(0..25_000, 8)).unwrap().wait().unwrap();
    items.snapshot().checkpoint(&path).unwrap();

    let own = folder.0.join("folder");
    let other = builder().workers(3).open(&own).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let cut = folder.0.join("cut.backup");
    std::fs::write(&cut, &bytes[..bytes.len() - 1]).unwrap();
    other.load("copy", &cut).unwrap_err();
    assert!(matches!(other.collection("copy"), Err(CollectionError::NotFound(_))));

    std::thread::scope(|scope| {
        let loading = scope.spawn(|| other.load("copy", &path).unwrap());
        while !loading.is_finished() {
            if let Ok(copy) = other.collection("copy") {
                assert_eq!(copy.snapshot().len(), 25_000, "seen before it was whole");
            }
            std::thread::yield_now();
        }
    });
    // A crash on the way would find nothing: no record is in a log, all are in the checkpoint that the collection begins with.
    let logged: u64 = std::fs::read_dir(&own)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("log-"))
        .map(|entry| entry.metadata().unwrap().len())
        .sum();
    assert!(logged < 1_000, "{logged} bytes of logs");
    let copy = other.collection("copy").unwrap();
    copy.upsert(Record::new("new", vector(1, 8))).unwrap().wait().unwrap();
    other.close().unwrap();
    drop((other, copy));
    let other = builder().open(&own).unwrap();
    let copy = other.collection("copy").unwrap();
    assert_eq!(copy.snapshot().len(), 25_001);
    assert!(copy.snapshot().verify().unwrap().is_sound());
}

// It replaced the manifest once, or a device.
#[test]
fn a_backup_does_not_take_the_place_of_an_engines_own_files() {
    let folder = Folder::new("own");
    let engine = builder().workers(1).open(&folder.0).unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(8, Metric::L2)).unwrap();
    items.upsert_batch(records(0..20, 8)).unwrap().wait().unwrap();
    engine.checkpoint().unwrap();
    let names = || -> Vec<String> {
        let entries = std::fs::read_dir(&folder.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    std::fs::create_dir(folder.0.join("a-folder")).unwrap();
    for name in names() {
        let refused = items.snapshot().checkpoint(folder.0.join(&name));
        assert!(matches!(refused, Err(FileError::Failed { .. })), "{name}: {refused:?}");
    }
    items.snapshot().checkpoint(folder.0.join("mine")).unwrap();
    items.snapshot().checkpoint(folder.0.join("mine")).unwrap();
    items.upsert(Record::new("new", vector(1, 8))).unwrap().wait().unwrap();
    engine.close().unwrap();
    drop((engine, items));
    let engine = builder().open(&folder.0).unwrap();
    assert_eq!(engine.collection("items").unwrap().snapshot().len(), 21);
    assert!(names().contains(&"mine".to_owned()));
}

// Both wrote to one draft once, and a file that mixed them got the name.
#[test]
fn backups_to_one_path_at_a_time_leave_one_that_is_whole() {
    let folder = Folder::new("at-a-time");
    std::fs::create_dir(&folder.0).unwrap();
    let path = folder.0.join("items.backup");
    let engine = builder().workers(1).build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(8, Metric::L2)).unwrap();
    for round in 1..=6 {
        items.upsert_batch(records(0..round * 300, 8)).unwrap().wait().unwrap();
        let snapshot = items.snapshot();
        std::thread::scope(|scope| {
            (0..4).for_each(|_| drop(scope.spawn(|| snapshot.checkpoint(&path).unwrap())));
        });
        let opened = Snapshot::open(&path).unwrap();
        assert_eq!(opened.len() as u64, round * 300);
        assert!(opened.verify().unwrap().is_sound());
    }
    let names: Vec<_> =
        std::fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["items.backup"]);
}

// Only what a caller gives is bounded; many small edits add up.
#[test]
fn payloads_that_grew_by_edits_are_read_from_logs_and_by_any_number_of_workers() {
    let folder = Folder::new("grown");
    std::fs::create_dir(&folder.0).unwrap();
    let path = folder.0.join("items.backup");
    let mut before = None;
    for workers in [1, 2, 3] {
        let own = folder.0.join(format!("folder-{workers}"));
        let engine = builder().workers(workers).open(&own).unwrap();
        let items = if workers == 1 {
            let config = CollectionConfig::new(8, Metric::L2);
            let items = engine.create_collection("items", config).unwrap();
            items.upsert_batch(records(0..20, 8)).unwrap();
            for piece in 0..3 {
                let payload =
                    (0..200).fold(Payload::new(), |payload, at| payload.with(format!("f{piece}-{at}"), at));
                items.merge_payload(7, payload).unwrap().wait().unwrap();
            }
            items.snapshot().checkpoint(&path).unwrap();
            items
        } else {
            engine.load("items", &path).unwrap()
        };
        let record = items.get(7).unwrap().unwrap();
        assert_eq!(record.payload().len(), 600);
        assert_eq!(*before.get_or_insert(record.clone()), record);
        engine.close().unwrap();
        drop((engine, items));
        let engine = builder().open(&own).unwrap();
        assert_eq!(engine.collection("items").unwrap().get(7).unwrap(), before);
        engine.close().unwrap();
    }
}

/// A worker once took the order to log and the first write in one round, and
/// logged only what came in the next.
#[test]
fn the_first_write_after_opening_is_logged() {
    let folder = Folder::new("first");
    drop(
        builder()
            .workers(2)
            .open(&folder.0)
            .unwrap()
            .create_collection("items", CollectionConfig::new(2, Metric::L2)),
    );
    for round in 0..40 {
        let engine = folder.open();
        let items = engine.collection("items").unwrap();
        assert_eq!(items.snapshot().seq().0, round);
        items.upsert(Record::new(round, [0.0, 1.0])).unwrap().wait().unwrap();
        engine.close().unwrap();
    }
}

#[test]
fn an_acknowledgement_says_how_far_it_got() {
    let folder = Folder::new("words");
    let engine = builder().workers(2).durability(Durability::Applied).open(&folder.0).unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2)).unwrap();
    for durability in [Durability::Applied, Durability::Logged, Durability::Synced] {
        let write = items.durability(durability).upsert(Record::new(1, [0.0, 1.0])).unwrap();
        write.wait().unwrap();
        assert_eq!((write.durability(), write.reached()), (durability, Some(durability)));
    }
    let memory = builder().build().unwrap();
    let items = memory.create_collection("items", CollectionConfig::new(2, Metric::L2)).unwrap();
    let refused = items.durability(Durability::Logged).upsert(Record::new(1, [0.0, 1.0]));
    assert!(refused.unwrap_err().to_string().contains("has no folder"));
    assert!(builder().durability(Durability::Synced).build().is_err());
}

#[test]
fn logs_that_have_grown_give_way_to_checkpoints_by_themselves() {
    let folder = Folder::new("automatic");
    let open = || builder().workers(2).log_bytes(4 << 10).open(&folder.0).unwrap();
    let engine = open();
    let items = engine.create_collection("items", CollectionConfig::new(8, Metric::L2)).unwrap();
    for start in (0..4_000).step_by(10) {
        items.upsert_batch(records(start..start + 10, 8)).unwrap();
    }
    let before = items.flush().map(|_| items.snapshot()).unwrap();
    let bytes = |prefix: &str| -> u64 {
        let entries = std::fs::read_dir(&folder.0).unwrap().flatten();
        let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        ours.filter_map(|entry| entry.metadata().ok()).map(|data| data.len()).sum()
    };
    // 200,000 bytes were logged; what is left is less than a checkpoint takes.
    let deadline = Instant::now() + Duration::from_secs(60);
    while bytes("checkpoint-") == 0 || bytes("log-") > bytes("checkpoint-") + (16 << 10) {
        assert!(Instant::now() < deadline, "{} bytes of logs", bytes("log-"));
        std::thread::sleep(Duration::from_millis(5));
    }
    engine.close().unwrap();
    drop((engine, items));
    let engine = open();
    let after = engine.collection("items").unwrap().snapshot();
    assert_eq!((after.seq(), after.len()), (before.seq(), before.len()));
    assert!(after.verify().unwrap().is_sound());
    assert!(Engine::inspect(&folder.0).is_err(), "it is open");
    engine.close().unwrap();
    assert!(Engine::inspect(&folder.0).unwrap().is_sound());
}

#[test]
fn a_damaged_folder_is_an_error_that_names_the_place_until_it_is_repaired() {
    let folder = Folder::new("repair");
    let engine = builder().open(&folder.0).unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(8, Metric::L2)).unwrap();
    items.upsert_batch(records(0..500, 8)).unwrap().wait().unwrap();
    engine.checkpoint().unwrap();
    for id in 500..600 {
        items.upsert(Record::new(id, vector(id, 8))).unwrap();
    }
    items.flush().unwrap();
    engine.close().unwrap();
    drop((engine, items));
    let log = Engine::inspect(&folder.0).unwrap();
    let log = log.files.iter().find(|file| file.kind == FileKind::Log && file.bytes > 1_000).unwrap();
    let path = folder.0.join(&log.name);
    let mut bytes = std::fs::read(&path).unwrap();
    // Among the small frames, behind the one with the first 500 records.
    let place = bytes.len() - bytes.len() / 10;
    bytes[place] ^= 1;
    std::fs::write(&path, bytes).unwrap();

    let fault = builder().open(&folder.0).unwrap_err();
    let OpenError::File(FileError::Damaged { file, offset, .. }) = &fault else { panic!("{fault:?}") };
    assert!(*file == log.name && (place - 200..=place).contains(&(*offset as usize)), "{fault}");
    let report = Engine::inspect(&folder.0).unwrap();
    assert!(!report.is_sound() && report.given_up[0].file == log.name);

    let engine = builder().repair(true).open(&folder.0).unwrap();
    assert_eq!(engine.recovery().given_up, report.given_up);
    let items = engine.collection("items").unwrap();
    let kept = items.len();
    assert!((500..600).contains(&kept), "{kept}");
    // A checkpoint took its place: what it held is there for whoever wants to look for more.
    assert!(folder.0.join(format!("{}.damaged", log.name)).exists() && !path.exists());
    items.upsert(Record::new(9_999, vector(9_999, 8))).unwrap().wait().unwrap();
    engine.close().unwrap();
    drop((engine, items));
    let engine = folder.open();
    assert_eq!(engine.collection("items").unwrap().len(), kept + 1);
    assert!(engine.recovery().given_up.is_empty());
}

#[test]
fn a_repair_keeps_the_index_that_took_the_place_of_another_though_the_first_shard_is_lost() {
    let folder = Folder::new("repair-index");
    let engine = builder().workers(2).open(&folder.0).unwrap();
    let config = CollectionConfig::new(8, Metric::L2);
    let items = engine.create_collection("items", config).unwrap();
    items.upsert_batch(records(0..600, 8)).unwrap().wait().unwrap();
    items.reindex(IndexSpec::hnsw()).unwrap();
    let indexed = items.stats().shards[0].indexed;
    engine.checkpoint().unwrap();
    engine.close().unwrap();
    drop((engine, items));
    let report = Engine::inspect(&folder.0).unwrap();
    let name = &report.files.iter().find(|file| file.kind == FileKind::Checkpoint).unwrap().name;
    let mut bytes = std::fs::read(folder.0.join(name)).unwrap();
    // In what the first shard writes first.
    let place = bytes.windows(4).position(|four| four == b"rows").unwrap() + 64;
    bytes[place] ^= 1;
    std::fs::write(folder.0.join(name), &bytes).unwrap();

    assert!(builder().open(&folder.0).is_err());
    let engine = builder().repair(true).open(&folder.0).unwrap();
    let items = engine.collection("items").unwrap();
    assert_eq!((items.len(), items.config()), (600 - indexed, config.index(IndexSpec::hnsw())));
    assert!(items.snapshot().verify().unwrap().is_sound());
    assert_eq!(std::fs::read(folder.0.join(format!("{name}.damaged"))).unwrap(), bytes);
    engine.close().unwrap();
    drop((engine, items));
    assert_eq!(folder.open().collection("items").unwrap().len(), 600 - indexed);
}

#[test]
fn vectors_at_the_edges_of_what_is_accepted_are_the_same_after_opening() {
    /// The longest vector, and the shortest that has a direction.
    const LENGTHS: [f64; 2] = [6.521e18, 1e-30];
    for (number, metric) in [Metric::L2, Metric::Cosine, Metric::Dot].into_iter().enumerate() {
        for storage in [VectorStorage::Byte, VectorStorage::Lossless] {
            let folder = Folder::new(&format!("edges-{number}-{storage:?}"));
            let engine = folder.open();
            let config = CollectionConfig::new(32, metric).vectors(storage).index(IndexSpec::Flat);
            let items = engine.create_collection("items", config).unwrap();
            let mut accepted = 0;
            for id in 0..600u64 {
                // Some are refused.
                let given = vector(id, 32);
                let given: Vec<f32> = match id % 3 {
                    2 => given.iter().map(|x| 1_000.0 + x / [1.0, 5.0, 50.0][id as usize / 3 % 3]).collect(),
                    edge => {
                        let length = given.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
                        let near = 1.0 + (id as f64 / 100.0 - 3.0) * 1e-6;
                        given
                            .iter()
                            .map(|x| (f64::from(*x) * LENGTHS[edge as usize] * near / length) as f32)
                            .collect()
                    }
                };
                accepted += usize::from(items.upsert(Record::new(id, given)).is_ok());
            }
            assert!(accepted > 300, "{metric} {storage:?}: {accepted}");
            items.flush().unwrap();
            let all = |snapshot: Snapshot| snapshot.scroll(None, 600).unwrap().records;
            let before = all(items.snapshot());
            engine.checkpoint().unwrap();
            engine.close().unwrap();
            drop((engine, items));
            let engine = folder.open();
            assert_eq!(all(engine.collection("items").unwrap().snapshot()), before, "{metric} {storage:?}");
        }
    }
}
