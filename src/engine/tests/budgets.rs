//! Budgets while lists are trained anew beside those that are searched.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::engine::{Collection, CollectionConfig, Engine};
use crate::error::{BudgetScope, WriteError};
use crate::id::mix;
use crate::metric::Metric;
use crate::shard::Backpressure;
use crate::snapshot::Record;

const DIM: usize = 32;

/// For some five thousand records.
const BUDGET: usize = 8 << 20;

/// Fewer records are trained at once.
const AT_ONCE: usize = 2_048;

/// A vector of a record by its id and its version: later versions are farther from
/// the origin, so that what was trained on earlier ones is out of date.
fn vector(id: u64, version: u64) -> Vec<f32> {
    let number = |at: u64| (mix(mix(id) ^ at) >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
    (0..DIM as u64).map(|at| number(at) * (1 + 4 * version) as f32).collect()
}

/// A collection at the limit of its budget, and what it should hold.
struct Full {
    items: Collection,
    versions: BTreeMap<u64, u64>,
    refused: usize,
}

impl Full {
    /// Puts records in, as a whole; false where the budget has no room for them.
    fn put(&mut self, ids: impl Iterator<Item = u64> + Clone, version: u64) -> bool {
        let records = ids.clone().map(|id| Record::new(id, vector(id, version)));
        match self.items.upsert_batch(records) {
            Ok(write) => _ = write.wait().unwrap(),
            Err(WriteError::Budget { scope, budget, used, needed, .. }) => {
                assert_eq!((scope, budget), (BudgetScope::Collection, BUDGET));
                assert!(used <= budget && used + needed > budget, "{used} {needed}");
                self.refused += 1;
                return false;
            }
            Err(other) => panic!("{other}"),
        }
        self.versions.extend(ids.map(|id| (id, version)));
        true
    }

    fn is_renewing(&self) -> bool {
        let snapshot = self.items.snapshot();
        snapshot.published().shards.iter().any(|shard| shard.index().is_renewing())
    }

    /// Replaces records in turn until a training has begun, or has ended.
    fn replace_until(&mut self, version: u64, is_renewing: bool) {
        let ids: Vec<u64> = self.versions.keys().copied().collect();
        for some in ids.chunks(50).cycle().take(8 * ids.len() / 50) {
            if self.is_renewing() == is_renewing {
                return;
            }
            self.put(some.iter().copied(), version);
        }
        panic!("a training under way: {}", !is_renewing);
    }

    fn delete(&mut self, ids: impl Iterator<Item = u64> + Clone) {
        self.items.delete_batch(ids.clone()).unwrap().wait().unwrap();
        ids.for_each(|id| _ = self.versions.remove(&id));
    }

    fn check(&self) {
        let snapshot = self.items.snapshot();
        assert_eq!(snapshot.len(), self.versions.len());
        for (id, version) in &self.versions {
            let found = snapshot.get(*id).unwrap().map(|record| record.vector().to_vec());
            assert_eq!(found, Some(vector(*id, *version)), "{id}");
        }
        assert!(self.items.verify().unwrap().is_sound());
    }
}

fn fill_renew_and_delete(full: &mut Full) {
    let mut next = 0;
    while full.put(next..next + 50, 0) {
        next += 50;
    }
    full.check();
    assert!(full.versions.len() > AT_ONCE, "{} records", full.versions.len());
    full.replace_until(1, true);
    // More records are refused, and nothing of them is there; deletes make room at once.
    let (begun, refused) = (full.versions.len(), full.refused);
    while full.put(next..next + 50, 1) {
        next += 50;
    }
    assert!(full.refused > refused, "{begun} records");
    full.check();
    full.delete((0..next).filter(|id| id % 5 == 0));
    assert!(full.is_renewing(), "deletes do not end it");
    assert!(full.put(next..next + 50, 1), "service resumes");
    full.replace_until(1, false);
    full.check();
    full.items.optimize().unwrap();
    full.check();
}

#[test]
fn a_budget_holds_while_lists_are_trained_anew_and_writes_are_taken_or_refused_as_a_whole() {
    for spec in ["IVF", "IVF,SQ8", "IVF,PQ8x4fs"] {
        let engine = Engine::builder().workers(1).pool_threads(1).build().unwrap();
        let config = CollectionConfig::new(DIM, Metric::L2).index(spec.parse().unwrap());
        let items = engine.create_collection("items", config.memory_budget(BUDGET)).unwrap();
        let items = items.backpressure(Backpressure::WaitAtMost(Duration::from_millis(300)));
        let (is_over, most_used) = (AtomicBool::new(false), AtomicUsize::new(0));
        let mut full = Full { items, versions: BTreeMap::new(), refused: 0 };
        thread::scope(|scope| {
            let items = full.items.clone();
            let (is_over, most_used) = (&is_over, &most_used);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let stats = items.stats();
                    assert!(stats.bytes.total() <= stats.budget.used.max(BUDGET), "{stats:?}");
                    most_used.fetch_max(stats.budget.used, Ordering::Relaxed);
                    thread::yield_now();
                }
            });
            let outcome =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fill_renew_and_delete(&mut full)));
            is_over.store(true, Ordering::Relaxed);
            if let Err(told) = outcome {
                std::panic::resume_unwind(told);
            }
        });
        let most_used = most_used.into_inner();
        assert!(most_used <= BUDGET && most_used > BUDGET / 10 * 9, "{spec}: {most_used} of {BUDGET}");
        engine.close().unwrap();
    }
}
