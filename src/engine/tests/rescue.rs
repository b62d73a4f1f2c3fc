//! Shards that meet defects begin anew, and nobody can tell.

use std::collections::BTreeMap;

use super::{WORKERS, block_on, inject};
use crate::engine::{Collection, CollectionConfig, Engine, EngineBuilder, HnswConfig, IndexSpec, Outcome};
use crate::error::{Gone, SearchError, WaitError, WriteError};
use crate::metric::Metric;
use crate::query::{Answer, Completeness, Query};
use crate::shard::{Backpressure, WriteCommand};
use crate::snapshot::{Record, Snapshot};

const DIM: usize = 8;

/// Numbers that look random.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) % limit
    }
}

fn vector(number: u64) -> Vec<f32> {
    let mut random = Random(number);
    (0..DIM).map(|_| random.below(1_000) as f32 / 100.0).collect()
}

/// The shards on a worker meet a defect after so many mutations, so many times.
pub(super) fn light(items: &Collection, worker: usize, after: usize, times: u32) {
    let worker = &items.shared.core.writes[worker];
    let permit = worker.acquire(Backpressure::Wait).unwrap();
    worker.send(permit, WriteCommand::Fuse { collection: items.shared.id, after, times }).unwrap();
}

type Model = BTreeMap<u64, u64>;

/// One random operation on both.
fn operate(items: &Collection, model: &mut Model, random: &mut Random) -> crate::engine::Write {
    match random.below(10) {
        0..4 => {
            let (id, number) = (random.below(500), random.below(1 << 40));
            model.insert(id, number);
            items.upsert(Record::new(id, vector(number))).unwrap()
        }
        4..7 => {
            let batch: Vec<_> =
                (0..random.below(120)).map(|_| (random.below(500), random.below(1 << 40))).collect();
            model.extend(batch.iter().copied());
            items.upsert_batch(batch.into_iter().map(|(id, number)| Record::new(id, vector(number)))).unwrap()
        }
        _ => {
            let ids: Vec<_> = (0..random.below(60)).map(|_| random.below(500)).collect();
            ids.iter().for_each(|id| _ = model.remove(id));
            items.delete_batch(ids).unwrap()
        }
    }
}

fn check(snapshot: &Snapshot, model: &Model) {
    assert_eq!(snapshot.len(), model.len());
    for id in 0..500 {
        let found = snapshot.get(id).unwrap().map(|record| record.vector().to_vec());
        assert_eq!(found, model.get(&id).map(|number| vector(*number)), "{id}");
    }
    let query = vector(77);
    let hits = snapshot.search(&Query::new(&query).top(500).exact()).unwrap();
    let mut ids: Vec<_> = hits.hits().iter().map(|hit| hit.id.clone()).collect();
    ids.sort();
    assert_eq!(ids, model.keys().map(|id| (*id).into()).collect::<Vec<_>>());
    assert!(snapshot.verify().unwrap().is_sound(), "{:?}", snapshot.verify().unwrap());
}

fn indexes() -> [IndexSpec; 3] {
    [IndexSpec::Flat, IndexSpec::graph(), IndexSpec::Hnsw(HnswConfig::default().m(8))]
}

fn turmoil(items: &Collection, model: &mut Model, seed: u64, operations: usize) {
    let mut random = Random(seed);
    let mut held = Vec::new();
    for number in 0..operations {
        let is_lit = random.below(6) == 0;
        if is_lit {
            // Those of the fuse before and of this one add up, unless progress is shown between them.
            items.flush().unwrap();
            let after = random.below(150) as usize;
            light(items, random.below(WORKERS as u64) as usize, after, 1 + random.below(2) as u32);
            (0..random.below(4)).for_each(|_| drop(operate(items, model, &mut random)));
        }
        let write = operate(items, model, &mut random);
        if is_lit || random.below(4) == 0 {
            write.wait().unwrap();
        }
        if number % 50 == 20 {
            items.flush().unwrap();
            held.push((items.snapshot(), model.clone()));
        }
        if number % 70 == 60 {
            items.optimize().unwrap();
        }
    }
    items.flush().unwrap();
    for (snapshot, model) in &held {
        check(snapshot, model);
    }
}

#[test]
fn nothing_is_lost_when_shards_meet_defects_at_any_moment() {
    for (at, index) in indexes().into_iter().enumerate() {
        let engine = super::engine();
        let config = CollectionConfig::new(DIM, Metric::L2).index(index);
        let items = engine.create_collection("items", config).unwrap();
        let mut model = Model::new();
        turmoil(&items, &mut model, at as u64, 200);
        check(&items.snapshot(), &model);
        items.optimize().unwrap();
        check(&items.snapshot(), &model);
        assert_eq!(items.stats().left_out, []);
        engine.close().unwrap();
    }
}

// The index lets rows go whose successors nobody sees before all of the batch is applied.
#[test]
fn a_defect_in_the_midst_of_a_large_batch_costs_nothing() {
    for index in indexes() {
        let engine = super::engine();
        let config = CollectionConfig::new(DIM, Metric::L2).index(index);
        let items = engine.create_collection("items", config).unwrap();
        let mut model = Model::new();
        let put = |model: &mut Model, seed: u64| {
            let batch: Vec<(u64, u64)> = (0..6_000).map(|id| (id, seed * 20_000 + id)).collect();
            model.extend(batch.iter().copied());
            items.upsert_batch(batch.into_iter().map(|(id, number)| Record::new(id, vector(number)))).unwrap()
        };
        put(&mut model, 0).wait().unwrap();
        for (seed, worker) in (1..).zip([0, 1]) {
            light(&items, worker, 1_500, 1);
            put(&mut model, seed).wait().unwrap();
            let shown = items.snapshot();
            for id in (0..6_000).step_by(7) {
                let found = shown.get(id).unwrap().map(|record| record.vector().to_vec());
                assert_eq!(found, model.get(&id).map(|number| vector(*number)), "{id}");
            }
            assert!(shown.len() == 6_000 && shown.verify().unwrap().is_sound());
        }
        assert_eq!(items.stats().left_out, []);
        engine.close().unwrap();
    }
}

#[test]
fn what_was_logged_before_a_defect_is_there_once_and_again_after_opening() {
    let folder = std::env::temp_dir().join(format!("vecino-rescue-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let builder = || EngineBuilder::default().workers(WORKERS).pool_threads(1);
    let engine = builder().open(&folder).unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(DIM, Metric::L2)).unwrap();
    let mut model = Model::new();
    turmoil(&items, &mut model, 5, 60);
    engine.checkpoint().unwrap();
    turmoil(&items, &mut model, 6, 60);
    check(&items.snapshot(), &model);
    engine.close().unwrap();
    let engine = builder().open(&folder).unwrap();
    check(&engine.collection("items").unwrap().snapshot(), &model);
    engine.close().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_write_that_meets_one_defect_after_the_other_is_left_out_and_told() {
    let engine = Engine::builder().workers(1).pool_threads(1).build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(DIM, Metric::L2)).unwrap();
    items.upsert_batch((0..200).map(|id| Record::new(id, vector(id)))).unwrap().wait().unwrap();
    light(&items, 0, 5, 3);
    let bad = items.upsert_batch((195..210).map(|id| Record::new(id, vector(0)))).unwrap();
    let good = items.upsert(Record::new(1_000, vector(1))).unwrap();
    assert_eq!(bad.wait(), Err(WaitError::LeftOut { seq: bad.seq() }));
    assert_eq!(bad.reached(), None);
    good.wait().unwrap();
    assert_eq!(items.stats().left_out, [bad.seq()]);
    assert_eq!(items.len(), 201);
    // Who demands it is told, or gets an answer that says what it is.
    let near = vector(0);
    let query = Query::new(&near).top(3).at_least(bad.seq());
    let told = |answer: Result<Answer, SearchError>| {
        assert!(matches!(answer, Err(SearchError::AtLeast(WaitError::LeftOut { .. }))), "{answer:?}");
    };
    told(items.search(&query));
    told(items.search_batch(std::slice::from_ref(&query)).map(|mut all| all.remove(0)));
    told(block_on(items.search_async(query.clone())));
    let query = query.allow_partial();
    assert_eq!(items.search(&query).unwrap().completeness(), Completeness::Partial);
    assert_eq!(block_on(items.search_async(query)).unwrap().completeness(), Completeness::Partial);
    assert_eq!(items.get(195).unwrap().unwrap().vector(), vector(195));
    assert!(items.verify().unwrap().is_sound());
    engine.close().unwrap();
}

#[test]
fn a_shard_with_defects_without_end_and_without_a_write_fails() {
    let engine = super::engine();
    let items = super::filled(&engine, "items");
    (0..3).for_each(|_| inject(&items, false));
    assert!(matches!(super::failure(&items), Gone::ShardFailed { shard: 1, .. }));
    assert!(matches!(items.delete(super::id_of_worker_1()), Err(WriteError::Gone(_))));
    assert_eq!(items.search(&Query::new(&[7.0, 0.0]).top(1)).unwrap().hits()[0].id, 7.into());
    engine.close().unwrap();
}

#[test]
fn a_few_defects_without_a_write_change_nothing() {
    let engine = super::engine();
    let items = super::filled(&engine, "items");
    for round in 0..5 {
        (0..2).for_each(|_| inject(&items, false));
        items.upsert_batch((0..20).map(|id| Record::new(id, [round as f32, 1.0]))).unwrap().wait().unwrap();
        assert_eq!(items.len(), 100);
        assert!(items.verify().unwrap().is_sound());
        assert_eq!(items.stats().rebuilt, 2 * (round + 1));
    }
    engine.close().unwrap();
}

#[test]
fn an_optimization_that_meets_one_defect_after_the_other_is_left_out_and_told() {
    let engine = Engine::builder().workers(1).pool_threads(1).build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(DIM, Metric::L2)).unwrap();
    let bad = items.upsert_batch((0..200).map(|id| Record::new(id, vector(id)))).unwrap();
    bad.wait().unwrap();
    light(&items, 0, 0, 3);
    let told = items.optimize();
    assert!(matches!(told, Err(WaitError::LeftOut { seq }) if seq > bad.seq()), "{told:?}");
    assert_eq!((items.len(), items.stats().left_out.len()), (200, 1));
    items.optimize().unwrap();
    assert!(items.verify().unwrap().is_sound());
    engine.close().unwrap();
}

// As many as can be told of: what is left out beyond must not pass for done.
#[test]
fn a_shard_that_left_out_too_many_writes_fails_and_says_so_of_each_beyond() {
    let engine = Engine::builder().workers(1).pool_threads(1).build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(DIM, Metric::L2)).unwrap();
    items.upsert(Record::new(0, vector(0))).unwrap().wait().unwrap();
    for number in 1..=16 {
        light(&items, 0, 0, 3);
        let bad = items.upsert(Record::new(number, vector(number))).unwrap();
        assert_eq!(bad.wait(), Err(WaitError::LeftOut { seq: bad.seq() }));
    }
    light(&items, 0, 0, 3);
    let beyond = items.upsert(Record::new(17, vector(17))).unwrap();
    assert!(matches!(beyond.wait(), Err(WaitError::Gone(Gone::ShardFailed { shard: 0, .. }))));
    assert_eq!(beyond.reached(), None);
    assert_eq!((items.len(), items.stats().left_out.len()), (1, 16));
    engine.close().unwrap();
}

// Each of two shards has not left out too many, both together have.
#[test]
fn what_is_left_out_beyond_those_that_can_be_told_of_does_not_pass_for_done() {
    let engine = Engine::builder().workers(2).pool_threads(1).build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(DIM, Metric::L2)).unwrap();
    let good = items.upsert(Record::new(0, vector(0))).unwrap();
    good.wait().unwrap();
    let ids = |shard| (1..1_000).filter(move |id| crate::snapshot::shard_of(&(*id).into(), 2) == shard);
    let outcomes: Vec<_> = (0..2)
        .flat_map(|shard| ids(shard).take(9 - shard).map(move |id| (shard, id)))
        .map(|(shard, id)| {
            light(&items, shard, 0, 3);
            let bad = items.upsert(Record::new(id, vector(id))).unwrap();
            (bad.seq(), bad.wait())
        })
        .collect();
    let told = |(seq, outcome): &(_, _)| *outcome == Err(WaitError::LeftOut { seq: *seq });
    assert!(outcomes[..16].iter().all(told), "{outcomes:?}");
    assert!(matches!(outcomes[16].1, Err(WaitError::Gone(Gone::ShardFailed { shard: 1, .. }))));
    good.wait().unwrap();
    engine.close().unwrap();
}

#[test]
fn a_conditional_write_that_is_left_out_says_so() {
    let engine = Engine::builder().workers(1).pool_threads(1).build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(DIM, Metric::L2)).unwrap();
    light(&items, 0, 0, 3);
    let Outcome::Written(write) = items.insert(Record::new(1, vector(1))).unwrap() else {
        panic!("not written")
    };
    assert_eq!(write.wait(), Err(WaitError::LeftOut { seq: write.seq() }));
    assert!(matches!(items.insert(Record::new(1, vector(1))).unwrap(), Outcome::Written(_)));
    engine.close().unwrap();
}

// It is left out again when the log is read, and the others are there.
#[test]
fn a_checkpoint_is_written_although_the_newest_write_was_left_out() {
    let folder = std::env::temp_dir().join(format!("vecino-left-out-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let engine = EngineBuilder::default().workers(1).pool_threads(1).open(&folder).unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(DIM, Metric::L2)).unwrap();
    items.upsert(Record::new(0, vector(0))).unwrap().wait().unwrap();
    light(&items, 0, 0, 3);
    let bad = items.upsert(Record::new(1, vector(1))).unwrap();
    assert_eq!(bad.wait(), Err(WaitError::LeftOut { seq: bad.seq() }));
    engine.checkpoint().unwrap();
    engine.close().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}
