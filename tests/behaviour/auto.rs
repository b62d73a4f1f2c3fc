//! The index that follows the number of records, as callers meet it in a
//! memory budget.

use std::time::Duration;

use crate::common::eventually;
use vecino::{
    AutoConfig, Backpressure, Collection, CollectionConfig, Engine, GraphConfig, IndexSpec, Metric, Query,
    Record, VectorStorage,
};

const DIM: usize = 64;
const BUDGET: usize = 8 << 20;
const BOUND: usize = 600;

const LEAN: &str = "many records: a graph is faster, and a lean one holds more in the memory budget";
const ROOMY: &str = "many records: a graph is faster";
const FEW: &str = "few records: exact is quick";

/// Numbers that spread along all dimensions.
fn vector(id: u64, dim: usize) -> Vec<f32> {
    (0..dim).map(|at| ((id + 1) as f32 * (at as f32 * 0.618 + 1.37)).sin()).collect()
}

/// A graph that takes less time to build.
fn quick() -> GraphConfig {
    GraphConfig::default().ef_construction(20)
}

fn auto() -> AutoConfig {
    AutoConfig::default().exact_below(BOUND)
}

fn config(auto: AutoConfig) -> CollectionConfig {
    CollectionConfig::new(DIM, Metric::L2).index(IndexSpec::Auto(auto))
}

fn put(items: &Collection, ids: std::ops::Range<u64>) {
    let dim = items.config().dimension();
    items.upsert_batch(ids.map(|id| Record::new(id, vector(id, dim)))).unwrap();
    items.optimize().unwrap();
}

/// What an answer says of the graph: which records, and the work for them.
type Seen = (Vec<u64>, u64, u64);

fn search(items: &Collection) -> Seen {
    let query = vector(5_000, items.config().dimension());
    // Work for less than all records: so the graph is walked through.
    let answer = items.search(&Query::new(&query).top(20).ef_search(20).budget(690)).unwrap();
    let stats = answer.stats();
    (answer.hits().iter().filter_map(|hit| hit.id.as_num()).collect(), stats.hops, stats.distances)
}

/// Why the index of some records is what it is, and a search of it.
fn reason(config: CollectionConfig) -> (&'static str, Seen) {
    let engine = Engine::builder().pool_threads(1).build().unwrap();
    let items = engine.create_collection("items", config).unwrap();
    put(&items, 0..100);
    assert_eq!(items.stats().shards[0].index_reason, FEW);
    put(&items, 100..700);
    let stats = items.stats();
    assert_eq!(stats.shards[0].index, "graph");
    (stats.shards[0].index_reason, search(&items))
}

/// How many records a budget holds.
fn held(spec: IndexSpec) -> usize {
    let engine = Engine::builder().pool_threads(1).build().unwrap();
    let config = CollectionConfig::new(DIM, Metric::L2).index(spec).memory_budget(BUDGET);
    let items = engine.create_collection("items", config).unwrap();
    let patient = items.backpressure(Backpressure::WaitAtMost(Duration::from_millis(500)));
    let batch = |first: u64| (first..first + 50).map(|id| Record::new(id, vector(id, DIM)));
    while patient.upsert_batch(batch(items.len() as u64)).is_ok() {
        items.flush().unwrap();
    }
    items.optimize().unwrap();
    let stats = items.stats();
    assert!(stats.bytes.total() <= stats.budget.used && stats.budget.used <= BUDGET, "{stats:?}");
    assert_eq!(stats.shards[0].index, "graph");
    assert!(items.verify().unwrap().is_sound());
    items.len()
}

#[test]
fn in_a_budget_it_holds_clearly_more_records_than_with_the_default_graph() {
    let lean = held(IndexSpec::Auto(auto()));
    let roomy = held(IndexSpec::Auto(auto().graph(GraphConfig::default())));
    let graph = held(IndexSpec::graph());
    assert!(lean * 4 >= roomy * 5, "{lean} with the lean graph, {roomy} with the default one");
    assert!(lean * 6 >= graph * 7, "{lean} as Auto, {graph} as Graph");
}

#[test]
fn stats_say_that_the_budget_made_the_graph_a_lean_one() {
    let (free, roomy) = reason(config(auto()));
    assert_eq!(free, ROOMY);
    let (bounded, lean) = reason(config(auto()).memory_budget(BUDGET));
    assert_eq!(bounded, LEAN);
    assert_ne!(lean, roomy, "it is another graph");
}

#[test]
fn a_graph_that_was_asked_for_is_not_changed_by_a_budget() {
    let (_, roomy) = reason(config(auto()));
    assert_eq!(reason(config(auto().graph(GraphConfig::default())).memory_budget(BUDGET)), (ROOMY, roomy));
}

#[test]
fn long_vectors_leave_the_default_graph_and_short_ones_do_not() {
    let of = |dim| CollectionConfig::new(dim, Metric::L2).index(IndexSpec::Auto(auto()));
    let long = of(1_000).memory_budget(8 * BUDGET);
    assert_eq!(reason(long).0, ROOMY);
    // Stored in a byte a number they are not long.
    assert_eq!(reason(long.vectors(VectorStorage::Byte)).0, LEAN);
    assert_eq!(reason(of(300).memory_budget(8 * BUDGET)).0, LEAN);
}

#[test]
fn a_folder_that_is_opened_again_has_the_same_graph() {
    let folder = std::env::temp_dir().join(format!("vecino-auto-{}", std::process::id()));
    let lean = config(auto()).memory_budget(BUDGET);
    let asked = config(auto().graph(quick())).memory_budget(BUDGET);
    let plain = config(auto().graph(GraphConfig::default())).memory_budget(BUDGET);
    let all = [("lean", lean, LEAN), ("asked", asked, ROOMY), ("plain", plain, ROOMY)];
    let engine = Engine::builder().pool_threads(1).open(&folder).unwrap();
    for (name, config, _) in all {
        put(&engine.create_collection(name, config).unwrap(), 0..700);
    }
    engine.checkpoint().unwrap();
    for (name, ..) in all {
        put(&engine.collection(name).unwrap(), 700..900);
    }
    let seen = |engine: &Engine| {
        all.map(|(name, config, reason)| {
            let items = engine.collection(name).unwrap();
            items.flush().unwrap();
            assert_eq!((items.config(), items.stats().shards[0].index_reason), (config, reason), "{name}");
            search(&items)
        })
    };
    let before = seen(&engine);
    engine.close().unwrap();
    drop(engine);
    let engine = Engine::builder().pool_threads(1).open(&folder).unwrap();
    // What the log holds is absorbed while searches go on.
    eventually("the graph is the same", || seen(&engine) == before);
    engine.close().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}
