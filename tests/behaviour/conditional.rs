//! Writes with a condition: decided once, by the writer, and decided the same
//! way when the log is read back.

use std::collections::BTreeMap;
use std::thread;

use crate::common::{Rng, distance, watchdog, whole_vector};
use vecino::{
    Collection, CollectionConfig, Durability, Engine, Metric, Outcome, ParamsError, Record, RecordId, Seq,
    VectorStorage, WriteError,
};

const DIM: usize = 4;

fn collection(engine: &Engine) -> Collection {
    engine.create_collection("items", CollectionConfig::new(DIM, Metric::L2)).unwrap()
}

fn record(id: u64, seed: u64) -> Record {
    Record::new(id, whole_vector(seed, DIM))
}

/// The version and the vector of each record.
type Twin = BTreeMap<RecordId, (Seq, Vec<f32>)>;

/// Does a random write with a condition on both; the outcome must be that of the twin.
fn write_both(items: &Collection, twin: &mut Twin, rng: &mut Rng) {
    let id: RecordId = (rng.below(40) as u64).into();
    let vector = whole_vector(rng.next(), DIM);
    let record = Record::new(id.clone(), vector.clone());
    let before = twin.get(&id).map(|(version, _)| *version);
    let (outcome, expected) = match rng.below(5) {
        0 => (items.insert(record).unwrap(), before.is_none()),
        1 => (items.replace(record).unwrap(), before.is_some()),
        2 => {
            let wanted = if rng.once_in(2) { before.unwrap_or(Seq(1)) } else { Seq(rng.next() % 100) };
            (items.replace_version(record, wanted).unwrap(), before == Some(wanted))
        }
        3 => {
            items.delete(id.clone()).unwrap();
            twin.remove(&id);
            return;
        }
        _ => {
            let others = twin.iter().filter(|(other, _)| **other != id);
            let nearest =
                others.map(|(_, (_, other))| distance(Metric::L2, &vector, other)).min_by(f64::total_cmp);
            let outcome = items.upsert_unless_near(record, 6.0).unwrap();
            if let Outcome::Near { distance, .. } = &outcome {
                assert_eq!(Some(f64::from(*distance)), nearest);
            }
            (outcome, nearest.is_none_or(|nearest| nearest > 6.0))
        }
    };
    match &outcome {
        Outcome::Written(write) => _ = twin.insert(id, (write.seq(), vector)),
        Outcome::Exists { version } => assert_eq!(Some(*version), before),
        Outcome::Changed { found } => assert_eq!(*found, before),
        Outcome::Missing => assert_eq!(before, None),
        _ => {}
    }
    assert_eq!(matches!(outcome, Outcome::Written(_)), expected, "{outcome:?}");
}

fn check(items: &Collection, twin: &Twin) {
    items.flush().unwrap();
    let snapshot = items.snapshot();
    assert_eq!(snapshot.len(), twin.len());
    for (id, (version, vector)) in twin {
        assert_eq!(snapshot.get(id.clone()).unwrap().unwrap().vector(), vector);
        assert_eq!(snapshot.version(id.clone()), Some(*version));
    }
}

#[test]
fn conditions_are_decided_as_a_naive_twin_decides_them() {
    for workers in [1, 3] {
        let engine = Engine::builder().workers(workers).build().unwrap();
        let (items, mut twin, mut rng) = (collection(&engine), Twin::new(), Rng::new(5));
        for round in 0..3_000 {
            write_both(&items, &mut twin, &mut rng);
            if round % 500 == 0 {
                check(&items, &twin);
            }
        }
        check(&items, &twin);
        assert!(items.verify().unwrap().is_sound());
    }
}

// Versions come back from the log and from checkpoints, so conditions that were
// decided with them are decided again the same way.
#[test]
fn versions_and_verdicts_survive_restarts() {
    for workers in [1, 2] {
        let folder =
            std::env::temp_dir().join(format!("vecino-conditional-{}-{workers}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let (mut twin, mut rng) = (Twin::new(), Rng::new(9));
        for round in 0..6 {
            let engine = Engine::builder().workers(workers).open(&folder).unwrap();
            let items = if round == 0 { collection(&engine) } else { engine.collection("items").unwrap() };
            check(&items, &twin);
            for _ in 0..150 {
                let id = rng.below(30) as u64;
                let vector = whole_vector(rng.next(), DIM);
                let record = Record::new(id, vector.clone());
                let before = twin.get(&id.into()).map(|(version, _)| *version);
                let outcome = match before {
                    Some(version) => items.replace_version(record, version).unwrap(),
                    None => items.insert(record).unwrap(),
                };
                let write = outcome.written().expect("nobody else writes");
                twin.insert(id.into(), (write.seq(), vector));
            }
            if round % 2 == 1 {
                engine.checkpoint().unwrap();
            }
            engine.close().unwrap();
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn of_many_who_insert_the_same_id_one_succeeds() {
    let _watchdog = watchdog(60);
    let engine = Engine::builder().workers(2).build().unwrap();
    let items = collection(&engine);
    for id in 0..50 {
        let written: usize = thread::scope(|scope| {
            let insert =
                |seed| usize::from(matches!(items.insert(record(id, seed)).unwrap(), Outcome::Written(_)));
            let threads: Vec<_> = (0..4).map(|seed| scope.spawn(move || insert(seed))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(written, 1);
    }
}

// Each thread reads, adds 1, and writes if nobody wrote since: nothing is lost.
#[test]
fn counting_by_version_loses_no_step() {
    let _watchdog = watchdog(120);
    let engine = Engine::builder().build().unwrap();
    let items = collection(&engine);
    items.upsert(Record::new(1, [0.0, 1.0, 0.0, 0.0])).unwrap().wait().unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..100 {
                    loop {
                        let snapshot = items.snapshot();
                        let mut vector = snapshot.get(1).unwrap().unwrap().vector().to_vec();
                        vector[0] += 1.0;
                        let version = snapshot.version(1).unwrap();
                        if let Some(write) =
                            items.replace_version(Record::new(1, vector), version).unwrap().written()
                        {
                            write.wait().unwrap();
                            break;
                        }
                    }
                }
            });
        }
    });
    assert_eq!(items.get(1).unwrap().unwrap().vector()[0], 300.0);
}

#[test]
fn a_near_duplicate_is_found_in_the_other_shard_once_it_is_visible() {
    let engine = Engine::builder().workers(4).build().unwrap();
    let items = collection(&engine);
    for id in 0..100u64 {
        items.upsert(Record::new(id, [id as f32 * 10.0, 0.0, 0.0, 0.0])).unwrap().wait().unwrap();
        let near = Record::new(1_000 + id, [id as f32 * 10.0 + 1.0, 0.0, 0.0, 0.0]);
        let outcome = items.upsert_unless_near(near, 2.0).unwrap();
        assert!(
            matches!(outcome, Outcome::Near { id: found, distance } if found == id.into() && distance == 1.0)
        );
    }
    assert_eq!(items.len(), 100);
}

// A record may be written anew beside its own former self.
#[test]
fn a_record_is_no_duplicate_of_itself() {
    let engine = Engine::builder().build().unwrap();
    let items = collection(&engine);
    items.upsert(record(1, 7)).unwrap();
    assert!(matches!(items.upsert_unless_near(record(1, 7), 5.0).unwrap(), Outcome::Written(_)));
    assert!(matches!(items.upsert_unless_near(record(2, 7), 0.0).unwrap(), Outcome::Near { .. }));
    let nowhere = items.upsert_unless_near(record(3, 8), f32::NAN).unwrap_err();
    assert_eq!(nowhere, WriteError::Params(ParamsError::Within));
}

// What is in other shards was compared with the vector as it was given, not as it is stored.
#[test]
fn a_rounded_vector_is_near_its_own_copy_in_whatever_shard() {
    for (workers, storage) in [
        (1, VectorStorage::Half),
        (1, VectorStorage::Byte),
        (2, VectorStorage::Half),
        (2, VectorStorage::Byte),
    ] {
        let engine = Engine::builder().workers(workers).build().unwrap();
        let config = CollectionConfig::new(32, Metric::L2).vectors(storage);
        let items = engine.create_collection("items", config).unwrap();
        let vector: [f32; 32] = std::array::from_fn(|at| 0.1 + 0.3 * (at as f32).sin());
        for id in 0..40u64 {
            let outcome = items.upsert_unless_near(Record::new(id, vector), 0.0).unwrap();
            assert_eq!(matches!(outcome, Outcome::Written(_)), id == 0, "{workers} {storage:?} {outcome:?}");
        }
        items.flush().unwrap();
        assert_eq!(items.len(), 1);
        // It is stored as one that was upserted.
        items.upsert(Record::new(100, vector)).unwrap().wait().unwrap();
        let stored = |id: u64| items.get(id).unwrap().unwrap().vector().to_vec();
        assert_eq!(stored(0), stored(100));
    }
}

// With several workers the answer was given before anybody asked whether the record may be written.
#[test]
fn a_record_that_cannot_be_written_is_an_error_also_where_another_is_near() {
    for workers in [1, 3] {
        let engine = Engine::builder().workers(workers).build().unwrap();
        let items = collection(&engine);
        items.upsert(record(1, 7)).unwrap().wait().unwrap();
        let bad = record(2, 7).with("not..a path", 1);
        assert!(matches!(items.upsert_unless_near(bad, 5.0), Err(WriteError::Payload { .. })));
        let synced = items.durability(Durability::Synced);
        assert!(matches!(synced.upsert_unless_near(record(2, 7), 5.0), Err(WriteError::InMemory { .. })));
        engine.close().unwrap();
        assert!(matches!(items.upsert_unless_near(record(2, 7), 5.0), Err(WriteError::Gone(_))));
    }
}
