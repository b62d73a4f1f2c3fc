//! What budgets expect of lists, beside what lists take.

use crate::engine::{Collection, CollectionConfig, Engine, IndexSpec, IvfConfig, IvfStorage};
use crate::id::mix;
use crate::metric::Metric;
use crate::snapshot::Record;

const DIM: usize = 64;

/// Numbers between -1 and 1, from a seed.
fn vector(seed: u64) -> Vec<f32> {
    (0..DIM as u64).map(|at| (mix(mix(seed) ^ at) >> 40) as f32 / (1u32 << 23) as f32 - 1.0).collect()
}

/// Lists of all kinds: by the root of the rows, some, and one.
fn specs() -> Vec<IndexSpec> {
    let pq = |bits_per_code| IvfStorage::Pq { num_subquantizers: 16, bits_per_code };
    let storages = [IvfStorage::Flat, IvfStorage::F16, IvfStorage::Sq8, IvfStorage::RaBitQ, pq(4), pq(8)];
    let of = |storage| [None, Some(64), Some(4_096)].map(|nlist: Option<usize>| {
        let lists = IvfConfig::default().storage(storage);
        IndexSpec::Ivf(nlist.map_or(lists, |nlist| lists.nlist(nlist)))
    });
    let exhaustive = ["F16", "SQ8", "RaBitQ", "PQ16x4fs", "PQ16"].map(|text| text.parse().unwrap());
    storages.into_iter().flat_map(of).chain(exhaustive).collect()
}

/// So many records, of which `alike` each have one vector.
fn fill(items: &Collection, rows: u64, alike: u64) {
    for first in (0..rows).step_by(1_000) {
        let records = (first..first + 1_000).map(|id| Record::new(id, vector(id / alike)));
        items.upsert_batch(records).unwrap();
    }
    items.optimize().unwrap();
}

/// Bytes that lists take while nothing happens, and while all of them are there
/// twice: they were trained anew, and a snapshot shows the old ones.
fn taken(config: CollectionConfig, rows: u64, alike: u64) -> (usize, usize) {
    let engine = Engine::builder().workers(1).pool_threads(2).build().unwrap();
    let items = engine.create_collection("items", config).unwrap();
    fill(&items, rows, alike);
    let (rest, snapshot) = (items.stats().bytes.index, items.snapshot());
    items.delete(0).unwrap().wait().unwrap();
    items.optimize().unwrap();
    let both = items.stats().bytes.index;
    drop(snapshot);
    engine.close().unwrap();
    (rest, both)
}

#[test]
fn a_budget_expects_of_lists_what_they_take_at_most_and_not_twice_as_much() {
    for spec in specs() {
        for (rows, alike) in [(2_000, 1), (20_000, 1), (20_000, 33)] {
            let config = CollectionConfig::new(DIM, Metric::L2).index(spec);
            let (rest, both) = taken(config, rows, alike);
            let most = config.index_sizes().most(rows as usize);
            eprintln!("{spec:?}, {rows} rows, {alike} alike: {rest} taken, {both} at most, {most} expected, {:.2}", most as f64 / both as f64);
        }
    }
}
