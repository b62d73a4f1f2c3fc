//! Real processes that end: killed at any moment, or on a disk that is full.
//!
//! The test starts its own binary once more; `child` is what runs there. What a
//! write does follows from its number alone, so the folder must hold exactly
//! what the first so many writes leave, and no fewer than were acknowledged.

#![cfg(unix)]
#![allow(missing_docs, reason = "a test has no readers of its interface")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may fail loudly"
)]

mod common;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use common::Rng;
use vecino::{
    Collection, CollectionConfig, Durability, Engine, FileError, Gone, IndexSpec, Metric, Operation, Query,
    Record, WaitError, Write, WriteError,
};

/// What the child is to do, and in which folder.
const TASK: &str = "VECINO_KILL_TASK";
const FOLDER: &str = "VECINO_KILL_FOLDER";

const IDS: usize = 200;

/// Log files are short, so that they are closed and removed many times.
const LOG_BYTES: u64 = 16 << 10;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("vecino-kill-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn acknowledgements(&self) -> PathBuf {
        self.0.join("acknowledgements")
    }

    fn changes(&self) -> PathBuf {
        self.0.join("changes")
    }

    fn child(&self, task: &str) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(TASK, task)
            .env(FOLDER, &self.0)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

fn open(folder: &Path) -> (Engine, Collection) {
    let builder = Engine::builder().pool_threads(1).log_bytes(LOG_BYTES);
    let builder = if folder.join("db").exists() { builder } else { builder.workers(2) };
    let engine = builder.open(folder.join("db")).unwrap();
    let config = CollectionConfig::new(2, Metric::L2).index(IndexSpec::hnsw());
    let items = engine.collection("items").or_else(|_| engine.create_collection("items", config)).unwrap();
    (engine, items)
}

/// What write `number` puts in and takes out.
fn content(number: u64) -> (Vec<(u64, [f32; 2])>, Vec<u64>) {
    let mut rng = Rng::new(number);
    let ids: Vec<u64> = (0..1 + rng.below(6)).map(|_| rng.below(IDS) as u64).collect();
    if rng.once_in(4) {
        return (Vec::new(), ids);
    }
    (ids.into_iter().map(|id| (id, [number as f32, id as f32])).collect(), Vec::new())
}

fn write(items: &Collection, number: u64) -> Result<Write, WriteError> {
    let words = [Durability::Logged, Durability::Logged, Durability::Synced];
    let items = items.durability(words[number as usize % words.len()]);
    match content(number) {
        (put, gone) if put.is_empty() => items.delete_batch(gone),
        (put, _) => items.upsert_batch(put.into_iter().map(|(id, vector)| Record::new(id, vector))),
    }
}

/// Does a write and waits for it.
fn acknowledge(items: &Collection, number: u64) -> Result<(), Gone> {
    match write(items, number).map(|write| write.wait()) {
        Ok(Ok(_)) => Ok(()),
        Err(WriteError::Gone(gone)) | Ok(Err(WaitError::Gone(gone))) => Err(gone),
        other => panic!("{other:?}"),
    }
}

/// Fails unless the collection holds what its first writes leave.
fn check(items: &Collection) {
    let snapshot = items.snapshot();
    let mut expected = BTreeMap::new();
    for number in 1..=snapshot.seq().0 {
        let (put, gone) = content(number);
        expected.extend(put);
        gone.iter().for_each(|id| _ = expected.remove(id));
    }
    for id in 0..IDS as u64 {
        let found = snapshot.get(id).unwrap().map(|record| record.vector().to_vec());
        assert_eq!(found, expected.get(&id).map(|vector| vector.to_vec()), "id {id}");
    }
    assert!(snapshot.verify().unwrap().is_sound());
}

/// The newest write that was acknowledged.
fn acknowledged(folder: &Folder) -> u64 {
    last_told(&folder.acknowledgements()).unwrap_or_default()
}

fn last_told(file: &Path) -> Option<u64> {
    let bytes = std::fs::read(file).unwrap_or_default();
    bytes.as_chunks::<8>().0.last().map(|bytes| u64::from_le_bytes(*bytes))
}

/// What the other process runs; nothing unless it was started for it.
#[test]
fn child() {
    let (Ok(task), Ok(folder)) = (std::env::var(TASK), std::env::var(FOLDER)) else { return };
    let folder = PathBuf::from(folder);
    match task.as_str() {
        "fill" => fill_the_disk(&folder),
        "reindex" => write_and_reindex_for_ever(&folder),
        task => write_for_ever(&folder, task == "early"),
    }
}

/// Tells the other process which writes were acknowledged.
fn teller(folder: &Path, file: &str) -> impl FnMut(u64) + use<> {
    let mut told = OpenOptions::new().create(true).append(true).open(folder.join(file)).unwrap();
    move |number| told.write_all(&number.to_le_bytes()).unwrap()
}

fn write_for_ever(folder: &Path, is_early: bool) {
    let mut tell = teller(folder, "acknowledgements");
    let (_engine, items) = open(folder);
    for number in items.snapshot().seq().0 + 1.. {
        if is_early {
            tell(number);
        }
        acknowledge(&items, number).unwrap();
        if !is_early {
            tell(number);
        }
    }
}

/// The record that says which write was the last: a change of index has places in
/// the order of writes too, and nobody knows how many.
const LAST: u64 = IDS as u64;

/// What write `number` puts in while the index changes.
fn replaced(number: u64) -> Vec<(u64, [f32; 2])> {
    let mut rng = Rng::new(number);
    let ids: Vec<u64> = (0..1 + rng.below(6)).map(|_| rng.below(IDS) as u64).collect();
    let vector = |id| (id, [number as f32, id as f32]);
    ids.into_iter().chain([LAST]).map(vector).collect()
}

/// The indexes that the collection gets, one after the other; the last one it has first.
fn indexes() -> [IndexSpec; 3] {
    [IndexSpec::Flat, IndexSpec::graph(), IndexSpec::hnsw()]
}

/// Which of them it has.
fn index_of(items: &Collection) -> usize {
    let spec = items.config().index_spec();
    indexes().into_iter().position(|index| index == spec).unwrap()
}

/// Writes, while another thread changes the index again and again, and tells of each
/// change that is done.
fn write_and_reindex_for_ever(folder: &Path) {
    let (mut tell, mut tell_change) = (teller(folder, "acknowledgements"), teller(folder, "changes"));
    let (engine, items) = open(folder);
    let other = items.clone();
    let reindex = move || {
        for index in (0..indexes().len()).cycle().skip(index_of(&other) + 1) {
            other.durability(Durability::Logged).reindex(indexes()[index]).unwrap();
            tell_change(index as u64);
            // With two of three changes, so that others are in the log alone.
            if index > 0 {
                engine.checkpoint().unwrap();
            }
        }
    };
    // It ends with the process.
    std::thread::Builder::new().name("reindex".to_owned()).spawn(reindex).unwrap();
    for number in last_written(&items) + 1.. {
        let records = replaced(number).into_iter().map(|(id, vector)| Record::new(id, vector));
        let write = items.durability(Durability::Logged).upsert_batch(records).unwrap();
        write.wait().unwrap();
        tell(number);
    }
}

fn last_written(items: &Collection) -> u64 {
    items.snapshot().get(LAST).unwrap().map_or(0, |record| record.vector()[0] as u64)
}

/// Fails unless the collection holds what the writes up to the last one leave.
fn check_replaced(items: &Collection) {
    let snapshot = items.snapshot();
    let expected: BTreeMap<u64, [f32; 2]> = (1..=last_written(items)).flat_map(replaced).collect();
    assert_eq!(snapshot.len(), expected.len());
    for (id, vector) in &expected {
        let found = snapshot.get(*id).unwrap().map(|record| record.vector().to_vec());
        assert_eq!(found, Some(vector.to_vec()), "id {id}");
        let near = snapshot.search(&Query::new(vector).top(1)).unwrap();
        assert!(near.hits()[0].distance <= 0.0, "id {id}: {near:?}");
    }
    assert!(snapshot.verify().unwrap().is_sound());
}

#[test]
fn a_process_that_is_killed_while_its_index_changes_loses_nothing_that_it_acknowledged() {
    let folder = Folder::new("reindex");
    let mut rng = Rng::new(2);
    let (mut known, mut changes) = (indexes().len() - 1, 0);
    for round in 0..12 {
        let least = run_and_kill(&folder, "reindex", 1 + rng.below(250) as u64);
        let report = Engine::inspect(folder.0.join("db")).unwrap();
        assert!(report.is_sound(), "{report:?}");
        let (engine, items) = open(&folder.0);
        assert!(last_written(&items) >= least, "round {round}: {least}");
        check_replaced(&items);
        // The last change that was done, or one that was done and not told of yet.
        let told = last_told(&folder.changes()).map(|index| index as usize);
        changes += told.iter().len();
        let (done, found) = (told.unwrap_or(known), index_of(&items));
        assert!([done, (done + 1) % indexes().len()].contains(&found), "round {round}: {found} after {done}");
        known = found;
        let _ = std::fs::remove_file(folder.changes());
        engine.close().unwrap();
    }
    assert!(changes > 0, "no change was done in any round");
}

/// Kills the child after a while; gives what it had acknowledged.
fn run_and_kill(folder: &Folder, task: &str, more: u64) -> u64 {
    let mut child = folder.child(task);
    let until = acknowledged(folder) + more;
    while acknowledged(folder) < until {
        assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
        std::thread::sleep(Duration::from_micros(300));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    acknowledged(folder)
}

#[test]
fn a_process_that_is_killed_at_any_moment_loses_nothing_that_it_acknowledged() {
    let folder = Folder::new("loop");
    let mut rng = Rng::new(1);
    for round in 0..20 {
        let least = run_and_kill(&folder, "write", 1 + rng.below(400) as u64);
        let report = Engine::inspect(folder.0.join("db")).unwrap();
        assert!(report.is_sound(), "{report:?}");
        assert!(report.collections[0].seq.0 >= least, "round {round}: {least} of {report:?}");
        // In turns it is the next child that comes upon what was left.
        if round % 2 == 0 {
            let (engine, items) = open(&folder.0);
            assert!(items.snapshot().seq().0 >= least);
            check(&items);
            engine.close().unwrap();
        }
    }
    assert!(acknowledged(&folder) > 1_000);
}

/// The harness finds an engine that acknowledges too early: sooner or later, since it
/// is only found when the process is killed before its worker has come to write.
#[test]
fn acknowledgements_that_come_too_early_are_found() {
    let folder = Folder::new("early");
    let is_lost = (0..200).any(|round| {
        let told = run_and_kill(&folder, "early", 50 + round % 50);
        let (engine, items) = open(&folder.0);
        let is_lost = items.snapshot().seq().0 < told;
        engine.close().unwrap();
        std::fs::remove_file(folder.acknowledgements()).unwrap();
        is_lost
    });
    assert!(is_lost);
}

/// Bytes that a file of the child may have.
fn limit_files(bytes: u64) {
    // SAFETY: both calls take plain values; the struct lives until they return.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        assert_eq!(libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit), 0);
        limit.rlim_cur = bytes.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
    }
}

fn fill_the_disk(folder: &Path) {
    let (engine, items) = open(folder);
    limit_files(LOG_BYTES / 2);
    let fault = (1..).find_map(|number| acknowledge(&items, number).err().map(|fault| (number, fault)));
    let (number, fault) = fault.unwrap();
    let Gone::LogFailed(FileError::Failed { operation, file, .. }) = &fault else {
        panic!("{fault:?}");
    };
    assert_eq!((*operation, file.starts_with("log-")), (Operation::Append, true), "{fault:?}");
    // Reads go on; nothing is accepted behind the gap, also when there is space.
    assert_eq!(items.search(&Query::new(&[0.0, 0.0]).top(1)).unwrap().hits().len(), 1);
    limit_files(u64::MAX);
    assert!(matches!(write(&items, number), Err(WriteError::Gone(Gone::LogFailed(_)))));
    assert!(matches!(engine.close(), Err(Gone::LogFailed(_))));
    drop((engine, items));
    // Opening it again heals.
    let (engine, items) = open(folder);
    let next = items.snapshot().seq().0 + 1;
    assert!(next >= number, "{next} {number}");
    check(&items);
    (next..next + 50).for_each(|number| acknowledge(&items, number).unwrap());
    check(&items);
    engine.close().unwrap();
}

#[test]
fn a_full_disk_is_a_typed_error_reads_go_on_and_opening_again_heals() {
    let folder = Folder::new("full");
    let status = folder.child("fill").wait().unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn folders_that_cannot_be_used_are_typed_errors() {
    let folder = Folder::new("bad");
    let open = |path: PathBuf| Engine::builder().open(path).map(drop).unwrap_err().to_string();
    let file = folder.0.join("file");
    drop(File::create(&file).unwrap());
    assert!(open(file).contains("using the folder"));
    assert!(open(folder.0.join("no/parent")).contains("using the folder"));
    // A folder of which only logs and checkpoints are left is not taken for a new one.
    std::fs::create_dir(folder.0.join("part")).unwrap();
    std::fs::write(folder.0.join("part/log-0-1"), [7; 200]).unwrap();
    assert_eq!(open(folder.0.join("part")), "\"manifest\" is missing");
    // Nobody is kept from writing here by permissions when tests run as root.
    let sealed = folder.0.join("sealed");
    std::fs::create_dir(&sealed).unwrap();
    let mut permissions = std::fs::metadata(&sealed).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&sealed, permissions.clone()).unwrap();
    match Engine::builder().open(&sealed) {
        Err(fault) => assert!(fault.to_string().contains("locking"), "{fault}"),
        Ok(_) => eprintln!("note: permissions do not bind this user; a read-only folder was not tried"),
    }
}

#[test]
fn files_of_others_and_left_overs_are_never_an_error() {
    let folder = Folder::new("strangers");
    let (engine, items) = open(&folder.0);
    (1..=20).for_each(|number| acknowledge(&items, number).unwrap());
    engine.close().unwrap();
    let db = folder.0.join("db");
    for name in [
        "notes.txt",
        "log-x-1",
        "log-00-1",
        "log-99-3",
        "checkpoint-7-1",
        "checkpoint-0-9.new",
        "manifest.new",
    ] {
        std::fs::write(db.join(name), b"something").unwrap();
    }
    std::fs::create_dir(db.join("sub")).unwrap();
    let (engine, items) = open(&folder.0);
    check(&items);
    engine.close().unwrap();
    let report = Engine::inspect(&db).unwrap();
    let names: Vec<&str> = report.files.iter().map(|file| file.name.as_str()).collect();
    for kept in ["notes.txt", "log-x-1", "log-00-1"] {
        assert!(names.contains(&kept), "{kept} of {names:?}");
    }
    for removed in ["log-99-3", "checkpoint-7-1", "checkpoint-0-9.new", "manifest.new"] {
        assert!(!names.contains(&removed), "{removed} of {names:?}");
    }
}

#[test]
fn a_folder_that_vanishes_is_noticed() {
    let folder = Folder::new("vanish");
    let (engine, items) = open(&folder.0);
    acknowledge(&items, 1).unwrap();
    std::fs::remove_dir_all(folder.0.join("db")).unwrap();
    let told = acknowledge(&items, 2);
    assert!(matches!(told, Err(Gone::LogFailed(_))), "{told:?}");
    assert_eq!(items.search(&Query::new(&[0.0, 0.0]).top(1)).unwrap().hits().len(), 1);
    assert!(engine.checkpoint().is_err());
}
