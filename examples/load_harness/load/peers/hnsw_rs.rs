//! hnsw_rs: a graph behind locks of its nodes; rows come and never go.

use std::sync::atomic::{AtomicUsize, Ordering};

use ::hnsw_rs::prelude::{DistL2, Hnsw};
use vecino::Metric;

use super::{EF_CONSTRUCTION, M, Passing, Peer, Plan, lacks_of_bare_vectors};
use crate::load::Result;
use crate::load::mix::Operation;

/// Layers at most: the library's own limit.
const LAYERS: usize = 16;

pub(super) struct HnswRs {
    graph: Hnsw<'static, f32, DistL2>,
    /// Under cosine: by length 1 the order is that of L2, whose kernel is fast.
    normalised: bool,
    ef: AtomicUsize,
}

impl HnswRs {
    pub(super) fn new(plan: &Plan) -> Result<HnswRs> {
        if plan.metric == Metric::Dot {
            return Err("hnsw_rs has no inner product of vectors of any length".into());
        }
        Ok(HnswRs {
            graph: Hnsw::new(M, plan.capacity, LAYERS, EF_CONSTRUCTION, DistL2),
            normalised: plan.metric == Metric::Cosine,
            ef: AtomicUsize::new(64),
        })
    }

    fn as_stored<T>(&self, vector: &[f32], with: impl FnOnce(&[f32]) -> T) -> T {
        if !self.normalised {
            return with(vector);
        }
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        with(&vector.iter().map(|x| x / length).collect::<Vec<f32>>())
    }
}

impl Peer for HnswRs {
    fn describe(&self) -> String {
        let ef = self.ef.load(Ordering::Relaxed);
        format!("hnsw_rs 0.3.5, f32, M {M}, ef_construction {EF_CONSTRUCTION}, ef {ef}")
    }

    fn lacks(&self, operation: Operation) -> Option<&'static str> {
        match operation {
            Operation::Upsert | Operation::Delete => Some("a row stays for good"),
            other => lacks_of_bare_vectors(other),
        }
    }

    fn set_ef(&self, ef: usize) {
        self.ef.store(ef, Ordering::Relaxed);
    }

    fn search(&self, query: &[f32], k: usize, passing: Option<Passing>) -> Result<Vec<u64>> {
        let ef = self.ef.load(Ordering::Relaxed);
        let found = self.as_stored(query, |query| match passing {
            None => self.graph.search(query, k, ef),
            Some(passing) => {
                let passes = |id: &usize| passing.lets_pass(*id as u64);
                self.graph.search_filter(query, k, ef, Some(&passes))
            }
        });
        Ok(found.iter().map(|neighbour| neighbour.d_id as u64).collect())
    }

    fn insert(&self, key: u64, vector: &[f32]) -> Result<()> {
        self.as_stored(vector, |vector| self.graph.insert((vector, key as usize)));
        Ok(())
    }

    fn replace(&self, _key: u64, _vector: &[f32]) -> Result<()> {
        Err("hnsw_rs cannot replace".into())
    }

    fn delete(&self, _key: u64) -> Result<()> {
        Err("hnsw_rs cannot delete".into())
    }
}
