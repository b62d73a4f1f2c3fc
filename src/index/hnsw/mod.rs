//! HNSW, the hierarchical navigable small world graph of Malkov & Yashunin
//! (TPAMI 2020), in persistent form.
//!
//! Differences from the paper, each for a reason:
//!
//! * Lists live in copy-on-write blocks ([`cow`](super::cow)), so readers hold
//!   a whole graph as of one moment while the writer goes on.
//! * Batches instead of single insertions (`plan`), so that work can be spread
//!   over threads and still give the same graph.
//! * A spanning tree that is never pruned (`tree`): no row is ever orphaned.
//! * Rows can be taken out again (`forget`).
//! * Under the inner product the graph is the Euclidean one of the same rows
//!   (PSP, PVLDB 2025): inner products have no neighbourhoods to prune by.
//!   Its lists are filled up to m, because the answers often lie outside all
//!   neighbourhoods of the query, and the walk starts at rows of large norm too.

use std::sync::Arc;

use super::cow::{Blocks, Epoch, NONE, Versions};
use super::{Batch, Defect, Effort, Executor, Index, IndexVersion, Plan, Points, Request, Scratch, flat};
use crate::bits::RowSet;
use crate::id::Row;
use crate::lease::Lease;
use crate::metric::Metric;
use crate::neighbor::TopK;
use crate::vector::Space;

mod absorb;
mod audit;
mod beacons;
mod beam;
mod forget;
mod graph;
mod merge;
mod plan;
mod select;
mod towers;
mod tree;

use beam::{Limits, Walk};
use graph::Graph;
use plan::{Change, Job};
use towers::Towers;

/// How a graph is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HnswOptions {
    /// Links of a row on the layers above 0; twice as many on layer 0. At least 2.
    pub(crate) m: usize,
    /// Candidates that are looked at for the links of a new row.
    pub(crate) ef_construction: usize,
    /// Seed of the rows' levels.
    pub(crate) seed: u64,
}

impl HnswOptions {
    /// Links that a row may have on a layer.
    fn degree(&self, layer: usize) -> usize {
        if layer == 0 { 2 * self.m } else { self.m }
    }
}

/// The graph as of one moment.
struct HnswVersion {
    options: HnswOptions,
    graph: Graph,
    _lease: Lease,
}

/// The writer's side of the graph.
pub(crate) struct Hnsw {
    versions: Versions,
    /// Layer 0, by row.
    base: Blocks,
    /// The layers above, by upper block.
    upper: Blocks,
    /// For each row its tower.
    towers: Blocks,
    places: Towers,
    newest: Arc<HnswVersion>,
}

impl Hnsw {
    /// An empty graph.
    ///
    /// # Panics
    /// When m is below 2: a tree needs inner nodes.
    pub(crate) fn new(options: HnswOptions) -> Hnsw {
        assert!(options.m >= 2);
        let mut versions = Versions::default();
        let (mut base, mut upper, mut towers) =
            (Blocks::new(options.degree(0)), Blocks::new(options.degree(1)), Blocks::new(1));
        let epoch = versions.begin();
        let graph = Graph {
            base: base.publish(epoch, &versions),
            upper: upper.publish(epoch, &versions),
            towers: towers.publish(epoch, &versions),
            held: RowSet::default(),
            entry: None,
            beacons: Vec::new(),
        };
        let newest = Arc::new(HnswVersion { options, graph, _lease: versions.publish() });
        Hnsw { versions, base, upper, towers, places: Towers::default(), newest }
    }

    /// Frees the towers of the rows that go, then builds those of new rows.
    fn place_towers(&mut self, change: &Change, epoch: Epoch) {
        for row in &change.forget {
            if let Some(word) = self.places.remove(*row) {
                self.places.release(word);
                self.towers.write(*row, &[NONE], epoch);
            }
        }
        for (row, level) in &change.absorb {
            if let Some(word) = self.places.allocate(*level) {
                self.places.insert(*row, word);
                self.towers.write(*row, &[word], epoch);
            } else {
                self.towers.write_first(*row, &[NONE], epoch);
            }
        }
    }

    fn write_lists(&mut self, change: &Change, epoch: Epoch) {
        for list in &change.lists {
            if list.layer == 0 {
                self.base.write(list.row, &list.links, epoch);
            } else if let Some(block) = self.places.block(list.row, list.layer) {
                self.upper.write(block, &list.links, epoch);
            }
        }
    }
}

impl Index for Hnsw {
    fn version(&self) -> Arc<dyn IndexVersion> {
        Arc::clone(&self.newest) as Arc<dyn IndexVersion>
    }

    fn commit(&mut self, plan: Plan) {
        let Ok(change) = plan.0.downcast::<Change>() else { return };
        let epoch = self.versions.begin();
        self.place_towers(&change, epoch);
        self.write_lists(&change, epoch);
        let mut held = self.newest.graph.held.clone();
        for row in &change.forget {
            held.remove(*row);
        }
        for (row, _) in &change.absorb {
            held.insert(*row);
        }
        let graph = Graph {
            base: self.base.publish(epoch, &self.versions),
            upper: self.upper.publish(epoch, &self.versions),
            towers: self.towers.publish(epoch, &self.versions),
            held,
            entry: change.entry,
            beacons: change.beacons,
        };
        let options = self.newest.options;
        self.newest = Arc::new(HnswVersion { options, graph, _lease: self.versions.publish() });
    }

    fn bytes(&self) -> usize {
        let blocks = self.base.bytes() + self.upper.bytes() + self.towers.bytes();
        blocks + self.places.bytes() + self.newest.graph.held.bytes()
    }

    fn kind(&self) -> &'static str {
        "hnsw"
    }
}

impl HnswVersion {
    /// Searches the graph; false when looking at every row is the better way.
    fn walk(
        &self,
        points: Points<'_>,
        request: &Request<'_>,
        scratch: &mut Scratch,
        found: &mut TopK,
        effort: &mut Effort,
    ) -> bool {
        let held = self.graph.held.len();
        if request.k >= held.div_ceil(2) {
            return false;
        }
        let ef = request.ef.max(request.k).min(held);
        let walk = Walk { graph: &self.graph, points, query: request.query };
        let limits = Limits { bound: request.bound, k: request.k, ef };
        walk.find_starts(scratch, effort);
        match request.admit {
            None => {
                walk.beam(0, ef, limits, scratch, effort);
                scratch.pool.iter().take(request.k).for_each(|near| found.offer(near));
            }
            Some(admit) => {
                if !walk.filtered_beam(ef, limits, admit, scratch, effort) {
                    return false;
                }
                scratch.admitted.sorted().iter().take(request.k).for_each(|near| found.offer(*near));
            }
        }
        true
    }
}

impl IndexVersion for HnswVersion {
    fn len(&self) -> usize {
        self.graph.held.len()
    }

    fn search(
        &self,
        points: Points<'_>,
        request: &Request<'_>,
        scratch: &mut Scratch,
        found: &mut TopK,
    ) -> Effort {
        let mut effort = Effort::default();
        if request.k > 0 && !self.walk(points, request, scratch, found, &mut effort) {
            effort.distances += flat::scan(&self.graph.held, points, request, scratch, found);
        }
        effort
    }

    fn plan(&self, points: Points<'_>, batch: &Batch<'_>, executor: &dyn Executor) -> Plan {
        let is_dot = points.space.metric() == Metric::Dot;
        let euclidean = Space::new(Metric::L2, points.space.dim());
        let points = if is_dot { Points { space: &euclidean, ..points } } else { points };
        let mut forgotten = RowSet::default();
        for row in batch.forget {
            forgotten.insert(*row);
        }
        let job = Job {
            options: &self.options,
            graph: &self.graph,
            points,
            batch,
            forgotten: &forgotten,
            executor,
            least: if is_dot { self.options.m } else { 0 },
        };
        Plan(Box::new(plan::change(job, is_dot)))
    }

    fn audit(&self, expected: &mut dyn Iterator<Item = Row>) -> Vec<Defect> {
        audit::audit(&self.graph, &self.options, expected)
    }

    fn digest(&self) -> u64 {
        audit::digest(&self.graph)
    }

    fn bytes(&self) -> usize {
        self.graph.bytes()
    }
}

#[cfg(test)]
mod tests;
