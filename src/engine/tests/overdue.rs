//! What a worker does by itself while the pool has no time.

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use crate::engine::{AutoConfig, Collection, CollectionConfig, Engine, IndexSpec};
use crate::error::WaitError;
use crate::metric::Metric;
use crate::query::Query;
use crate::shard::{Background, Width};
use crate::snapshot::Record;

const DIM: usize = 8;

fn record(id: u64) -> Record {
    let number = |at: u64| (id * 131 + at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    Record::new(id, (0..DIM as u64).map(|at| number(at) as f32 / 1e6).collect::<Vec<f32>>())
}

fn filled(index: IndexSpec, count: u64) -> (Engine, Collection) {
    let engine = Engine::builder().workers(1).pool_threads(1).build().unwrap();
    let items =
        engine.create_collection("items", CollectionConfig::new(DIM, Metric::L2).index(index)).unwrap();
    items.upsert_batch((0..count).map(record)).unwrap().wait().unwrap();
    items.optimize().unwrap();
    (engine, items)
}

/// The pool's thread is busy until the other end is dropped.
fn occupy(engine: &Engine) -> Sender<()> {
    let (busy, free) = channel();
    let wait = move |_: &dyn crate::index::Executor| {
        let _ = free.recv();
    };
    engine.owner.core.pool.spawn(Width::All, Box::new(wait));
    busy
}

#[test]
fn single_writes_go_on_while_the_pool_is_busy_with_something_else() {
    let (engine, items) = filled(IndexSpec::graph(), 2_000);
    let busy = occupy(&engine);
    for id in 3_000..3_200 {
        items.upsert(record(id)).unwrap().wait_timeout(Duration::from_secs(60)).unwrap();
    }
    let shard = &items.stats().shards[0];
    assert!(shard.tail <= 24 && shard.indexed >= 2_176, "{shard:?}");
    drop(busy);
    items.flush().unwrap();
    assert!(items.verify().unwrap().is_sound());
    engine.close().unwrap();
}

// A graph in place of the flat index is built in no turn of a worker: searches go on.
#[test]
fn what_takes_long_is_left_to_the_pool_however_busy_it_is() {
    let (engine, items) = filled(IndexSpec::Auto(AutoConfig::default().exact_below(500)), 490);
    let busy = occupy(&engine);
    let writes: Vec<_> = (1_000..1_100).map(|id| items.upsert(record(id)).unwrap()).collect();
    let last = writes.last().unwrap();
    assert!(matches!(last.wait_timeout(Duration::from_millis(200)), Err(WaitError::Timeout { .. })));
    assert_eq!(items.search(&Query::new(record(7).vector()).top(1)).unwrap().hits()[0].id, 7.into());
    assert_eq!(items.stats().shards[0].index, "flat");
    drop(busy);
    last.wait().unwrap();
    items.optimize().unwrap();
    assert_eq!(items.stats().shards[0].index, "graph");
    assert!(items.verify().unwrap().is_sound());
    engine.close().unwrap();
}
