//! usearch: C++ behind `cxx`; room is reserved in advance, and as many threads
//! as were said may add and search at a time.

use ::usearch::{Index, IndexOptions, MetricKind, ScalarKind};
use vecino::Metric;

use super::{EF_CONSTRUCTION, M, Passing, Peer, Plan, lacks_of_bare_vectors};
use crate::load::Result;
use crate::load::mix::Operation;

/// What it says of itself (`size`, `memory_usage`) is not asked: these walk over
/// all nodes without a lock, and crash beside an `add`.
pub(super) struct Usearch {
    index: Index,
}

impl Usearch {
    pub(super) fn new(plan: &Plan) -> Result<Usearch> {
        let options = IndexOptions {
            dimensions: plan.dim,
            metric: match plan.metric {
                Metric::L2 => MetricKind::L2sq,
                Metric::Dot => MetricKind::IP,
                Metric::Cosine => MetricKind::Cos,
                other => return Err(format!("usearch has no metric {other}").into()),
            },
            // The fastest of its kinds at a recall of 0.99 on the data of the README.
            quantization: ScalarKind::BF16,
            connectivity: M,
            expansion_add: EF_CONSTRUCTION,
            expansion_search: 64,
            multi: false,
        };
        let index = Index::new(&options)?;
        index.reserve_capacity_and_threads(plan.capacity, plan.threads)?;
        Ok(Usearch { index })
    }
}

impl Peer for Usearch {
    fn describe(&self) -> String {
        let ef = self.index.expansion_search();
        let version = ::usearch::version();
        format!(
            "usearch {version}, bf16, M {M}, ef_construction {EF_CONSTRUCTION}, ef {ef}, kernels {}",
            self.index.hardware_acceleration()
        )
    }

    fn lacks(&self, operation: Operation) -> Option<&'static str> {
        lacks_of_bare_vectors(operation)
    }

    fn set_ef(&self, ef: usize) {
        self.index.change_expansion_search(ef);
    }

    fn search(&self, query: &[f32], k: usize, passing: Option<Passing>) -> Result<Vec<u64>> {
        let found = match passing {
            None => self.index.search(query, k)?,
            Some(passing) => self.index.filtered_search(query, k, |key| passing.lets_pass(key))?,
        };
        Ok(found.keys)
    }

    fn insert(&self, key: u64, vector: &[f32]) -> Result<()> {
        Ok(self.index.add(key, vector)?)
    }

    /// Two steps, because it has no single one: between them the key is gone.
    fn replace(&self, key: u64, vector: &[f32]) -> Result<()> {
        self.index.remove(key)?;
        Ok(self.index.add(key, vector)?)
    }

    fn delete(&self, key: u64) -> Result<()> {
        self.index.remove(key)?;
        Ok(())
    }
}
