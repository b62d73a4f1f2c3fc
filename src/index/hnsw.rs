//! HNSW, the hierarchical navigable small world graph of Malkov & Yashunin
//! (TPAMI 2020), in persistent form.
//!
//! Differences from the paper, each for a reason, are those of all
//! [`links`](super::links); and under the inner product the graph is the
//! Euclidean one of the same rows (PSP, PVLDB 2025): inner products have no
//! neighbourhoods to prune by. Its lists are filled up to m, because the
//! answers often lie outside all neighbourhoods of the query, and the walk
//! starts at rows of large norm too.

use std::sync::Arc;

use super::cow::{Left, Versions};
use super::links::{Change, Graph, Job, Limits, LinkOptions, Links, Step, Walk, audit, change, digest};
use super::measure::Exact;
use super::{
    Batch, Defect, Effort, Executor, Index, IndexVersion, Plan, Points, Request, Saved, Scratch, Settling,
    flat,
};
use crate::bits::RowSet;
use crate::codec::{Decoder, Encoder, Malformed};
use crate::id::Row;
use crate::lease::Lease;
use crate::metric::Metric;
use crate::neighbor::TopK;
use crate::vector::Space;

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
    fn links(self) -> LinkOptions {
        LinkOptions {
            degree: 2 * self.m,
            upper: self.m,
            first: self.m,
            tree: self.m,
            ef_construction: self.ef_construction,
            slack: 1.0,
            layered: true,
            seed: self.seed,
        }
    }
}

/// The graph as of one moment.
struct HnswVersion {
    options: LinkOptions,
    graph: Graph,
    _lease: Lease,
}

/// The writer's side of the graph.
pub(crate) struct Hnsw {
    versions: Versions,
    links: Links,
    newest: Arc<HnswVersion>,
    /// What only older versions keep, since the graph was emptied.
    left: Left,
}

impl Hnsw {
    /// An empty graph.
    ///
    /// # Panics
    /// When m is below 2: a tree needs inner nodes.
    pub(crate) fn new(options: HnswOptions) -> Hnsw {
        let options = options.links();
        let (mut versions, mut links) = (Versions::default(), Links::new(options));
        let epoch = versions.begin();
        let graph = links.empty(epoch, &versions);
        let newest = Arc::new(HnswVersion { options, graph, _lease: versions.publish() });
        Hnsw { versions, links, newest, left: Left::default() }
    }

    /// The graph that was saved.
    pub(crate) fn load(
        options: HnswOptions,
        saved: &Saved<'_>,
        input: &mut Decoder<'_>,
    ) -> Result<Hnsw, Malformed> {
        let options = options.links();
        let mut versions = Versions::default();
        let epoch = versions.begin();
        let (links, graph) = Links::load(options, saved.held, input, epoch, &versions)?;
        let newest = Arc::new(HnswVersion { options, graph, _lease: versions.publish() });
        Ok(Hnsw { versions, links, newest, left: Left::default() })
    }
}

impl Index for Hnsw {
    fn version(&self) -> Arc<dyn IndexVersion> {
        Arc::clone(&self.newest) as Arc<dyn IndexVersion>
    }

    fn commit(&mut self, plan: Plan) {
        let Ok(change) = plan.0.downcast::<Change>() else { return };
        let epoch = self.versions.begin();
        let mut graph = self.links.apply(*change, &self.newest.graph, epoch, &self.versions);
        if graph.held.len() == 0 {
            // Begins anew, with no more memory than at first.
            self.left.add(self.links.shared());
            self.links = Links::new(self.newest.options);
            graph = self.links.empty(epoch, &self.versions);
        }
        let options = self.newest.options;
        self.newest = Arc::new(HnswVersion { options, graph, _lease: self.versions.publish() });
    }

    fn settle(&mut self) -> Settling {
        if self.links.is_settled() {
            return self.versions.settled();
        }
        if !self.versions.is_newest_alone() {
            return Settling::Waiting;
        }
        let epoch = self.versions.begin();
        let graph = self.links.again(&self.newest.graph, epoch, &self.versions);
        let options = self.newest.options;
        self.newest = Arc::new(HnswVersion { options, graph, _lease: self.versions.publish() });
        Settling::Stepped
    }

    fn bytes(&self) -> usize {
        self.links.bytes() + self.newest.graph.held.bytes() + self.left.bytes()
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
        let walk = Walk { graph: &self.graph, measure: Exact::new(points), query: request.query };
        let exhausts = request.ends.reach.is_some();
        let limits = Limits { bound: request.bound, k: request.k, ef, exhausts };
        walk.find_starts(scratch, effort);
        match request.admit {
            None => {
                let mut step = walk.set_out(ef, limits, scratch);
                while step != Step::End && !request.ends.are_due(effort.distances) {
                    step = walk.advance(0, step, limits, scratch, effort);
                }
                scratch.pool.iter().take(request.k).for_each(|near| found.offer(near));
            }
            Some(admit) => {
                if let Some(filter) = request.filter {
                    let passes = |row: Row| filter.passes(row) && (filter.is_all || admit(row));
                    let (ends, passes) = (request.ends, (filter, passes));
                    let is_found = walk.thinned_beam(ef, limits, ends, passes, scratch, effort);
                    scratch.passing.iter().take(request.k).for_each(|near| found.offer(near));
                    return is_found;
                }
                if !walk.filtered_beam(ef, limits, request.ends, admit, scratch, effort) {
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
        if request.k == 0 {
            return effort;
        }
        let is_found = self.walk(points, request, scratch, found, &mut effort);
        request.ends.spend(effort.distances);
        if !is_found {
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
        let norm = |row: Row| points.vectors.squared_length(row);
        Plan(Box::new(change(Job {
            options: &self.options,
            graph: &self.graph,
            measure: Exact::new(points),
            batch,
            forgotten: &forgotten,
            executor,
            least: if is_dot { self.options.first } else { 0 },
            norm: is_dot.then_some(&norm),
        })))
    }

    fn audit(&self, expected: &mut dyn Iterator<Item = Row>) -> Vec<Defect> {
        audit(&self.graph, &self.options, expected)
    }

    fn save(&self, out: &mut Encoder) -> Option<RowSet> {
        self.graph.save(&self.options, out);
        Some(self.graph.held.clone())
    }

    fn digest(&self) -> u64 {
        digest(&self.graph)
    }
}
