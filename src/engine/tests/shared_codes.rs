//! Shards that were put in order walk by the codes of one of them.

use std::collections::BTreeSet;
use std::thread;

use super::rescue::Random;
use crate::durability::Durability;
use crate::engine::{Collection, CollectionConfig, Engine, IndexSpec};
use crate::metric::Metric;
use crate::query::{Answer, Query};
use crate::snapshot::Record;

const DIM: usize = 20;
const WORKERS: usize = 4;

/// A point near one of twenty.
fn vector(seed: u64) -> Vec<f32> {
    let (mut centre, mut random) = (Random(seed % 20), Random(seed + 1_000));
    (0..DIM).map(|_| centre.below(40) as f32 + random.below(1_000) as f32 / 200.0).collect()
}

fn config() -> CollectionConfig {
    CollectionConfig::new(DIM, Metric::L2).index(IndexSpec::graph())
}

fn fill(items: &Collection, ids: std::ops::Range<u64>) {
    items.upsert_batch(ids.map(|id| Record::new(id, vector(id)))).unwrap().wait().unwrap();
}

fn filled() -> (Engine, Collection) {
    let engine = Engine::builder().workers(WORKERS).pool_threads(1).build().unwrap();
    let items = engine.create_collection("items", config()).unwrap();
    fill(&items, 0..4_000);
    items.flush().unwrap();
    (engine, items)
}

/// The codes of the shards, those that are alike once.
fn codecs(items: &Collection) -> BTreeSet<u64> {
    let published = items.shared.cell.pin();
    published.shards.iter().map(|shard| shard.index().codec().unwrap().digest()).collect()
}

fn queries() -> Vec<Vec<f32>> {
    (0..60).map(|query| vector(100_000 + query)).collect()
}

fn of(query: &[f32]) -> Query<'_> {
    Query::new(query).top(10).ef_search(30)
}

fn ids(answer: &Answer) -> Vec<u64> {
    answer.hits().iter().map(|hit| hit.id.as_num().unwrap()).collect()
}

/// The part of the ten nearest that is found.
fn recall(items: &Collection) -> f64 {
    let found = queries().into_iter().map(|query| {
        let truth = ids(&items.search(&Query::new(&query).top(10).exact()).unwrap());
        let found = ids(&items.search(&Query::new(&query).top(10).ef_search(40)).unwrap());
        found.iter().filter(|id| truth.contains(id)).count()
    });
    found.sum::<usize>() as f64 / 600.0
}

#[test]
fn shards_in_order_have_the_same_codes_and_lose_nothing_by_it() {
    let (engine, items) = filled();
    assert_eq!(codecs(&items).len(), WORKERS, "each trains on rows of its own");
    let before = recall(&items);
    items.optimize().unwrap();
    assert_eq!(codecs(&items).len(), 1);
    assert!(recall(&items) >= before - 0.01, "{} after {before}", recall(&items));
    items.verify().unwrap();
    // Nothing has changed: nothing is trained or sent again.
    let codes = codecs(&items);
    items.optimize().unwrap();
    assert_eq!(codecs(&items), codes);
    engine.close().unwrap();
}

#[test]
fn shards_that_trained_again_share_their_codes_again() {
    let (engine, items) = filled();
    items.optimize().unwrap();
    let before = codecs(&items);
    fill(&items, 4_000..4_400);
    items.optimize().unwrap();
    let after = codecs(&items);
    assert!(after.len() == 1 && after != before, "{after:?} after {before:?}");
    items.verify().unwrap();
    engine.close().unwrap();
}

/// What a query leaves for the shards that come next must not be there for the
/// next query.
#[test]
fn queries_that_follow_each_other_get_what_each_gets_on_a_fresh_thread() {
    let (engine, items) = filled();
    items.optimize().unwrap();
    let queries = queries();
    let alone: Vec<Vec<u64>> = thread::scope(|scope| {
        let asked = queries.iter().map(|query| {
            let fresh = thread::Builder::new().name("fresh".into());
            let items = &items;
            let search = move || ids(&items.search(&of(query)).unwrap());
            fresh.spawn_scoped(scope, search).unwrap().join().unwrap()
        });
        asked.collect()
    });
    let (all, few): (Vec<Query<'_>>, _) =
        (queries.iter().map(|query| of(query)).collect(), Query::new(&queries[0]).top(3_000));
    for (query, alone) in all.iter().zip(&alone) {
        // Most of a shard: all of it is measured, and nothing prepared.
        items.search(&few).unwrap();
        assert_eq!(&ids(&items.search(query).unwrap()), alone);
    }
    let together = items.snapshot().search_batch(&all).unwrap();
    assert_eq!(together.iter().map(ids).collect::<Vec<_>>(), alone);
    engine.close().unwrap();
}

#[test]
fn shared_codes_are_there_after_a_restart() {
    let folder = std::env::temp_dir().join(format!("vecino-shared-codes-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let open = || {
        let builder = Engine::builder().workers(WORKERS).pool_threads(1);
        builder.durability(Durability::Logged).open(&folder).unwrap()
    };
    let engine = open();
    let items = engine.create_collection("items", config()).unwrap();
    fill(&items, 0..2_000);
    items.optimize().unwrap();
    let codes = codecs(&items);
    assert_eq!(codes.len(), 1);
    engine.close().unwrap();
    drop((items, engine));

    let engine = open();
    let items = engine.collection("items").unwrap();
    items.flush().unwrap();
    assert_eq!(codecs(&items), codes);
    items.verify().unwrap();
    engine.close().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}
