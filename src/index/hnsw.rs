//! HNSW, the hierarchical navigable small world graph of Malkov & Yashunin
//! (TPAMI 2020), in persistent form.
//!
//! Differences from the paper, each for a reason, are those of all
//! [`links`](super::links); and under the inner product the graph is the
//! Euclidean one of the same rows (PSP, PVLDB 2025): inner products have no
//! neighbourhoods to prune by. Its lists are filled up to m, because the
//! answers often lie outside all neighbourhoods of the query, each row has links to the rows of the
//! greatest inner products too, and the walk starts at rows of large norm.
//!
//! Rows may have rounded copies or codes ([`copies`](super::copies)): walks of
//! searches then go by these, and the best are measured. The graph is built by
//! the vectors all the same, so it is the same graph.

use std::sync::Arc;

use super::copies::{self, Copied, Copies, CopyBlocks, CopyChange, Copying};
use super::cow::{Epoch, Left, SharedMemory, Versions};
use super::links::{Change, Graph, Job, Limits, LinkOptions, Links, Step, Walk, audit, change, digest};
use super::measure::{Exact, Measure};
use super::rerank::{STEP, rerank, scale};
use super::{
    Batch, Defect, Effort, Executor, Index, IndexVersion, Plan, Points, Request, Saved, Scratch, Settling,
    flat,
};
use crate::bits::RowSet;
use crate::codec::{Decoder, Encoder, Malformed};
use crate::id::{Row, mix};
use crate::lease::Lease;
use crate::memory;
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
    /// Whether a row has `m` links more on layer 0, to the rows of the greatest inner products.
    pub(crate) products: bool,
    /// Seed of the rows' levels.
    pub(crate) seed: u64,
    /// Copies of rows that walks go by; none: the vectors themselves.
    pub(crate) copies: Option<Copying>,
    /// Rows that are candidates for re-ranking at least, for each that is
    /// wanted, when there are copies.
    pub(crate) oversample: usize,
}

/// Candidates beyond those wanted, however few these are: the estimates of
/// copies err little.
const SPARE: usize = 8;

/// Rows that are measured at a time where estimates err much: many are needed,
/// and their vectors can be on their way together.
const STEP_OF_MANY: usize = 8;

impl HnswOptions {
    fn links(self) -> LinkOptions {
        LinkOptions {
            degree: 2 * self.m,
            products: if self.products { self.m } else { 0 },
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
    options: HnswOptions,
    graph: Graph,
    copies: Option<Copies>,
    lease: Lease,
}

/// A computed change.
struct HnswPlan {
    change: Change,
    copies: CopyChange,
}

/// The writer's side of the graph.
pub(crate) struct Hnsw {
    /// As it was said. A graph that was saved without links by inner product has none while it has rows.
    options: HnswOptions,
    versions: Versions,
    links: Links,
    copies: Option<CopyBlocks>,
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
        let (mut versions, mut links) = (Versions::default(), Links::new(options.links()));
        let epoch = versions.begin();
        let graph = links.empty(epoch, &versions);
        let mut copies = options.copies.and_then(CopyBlocks::untrained);
        let view = copies.as_mut().map(|copies| copies.publish(epoch, &versions));
        let newest = Arc::new(HnswVersion { options, graph, copies: view, lease: versions.publish() });
        Hnsw { options, versions, links, copies, newest, left: Left::default() }
    }

    /// The graph that was saved, over vectors of `dim` numbers.
    pub(crate) fn load(
        options: HnswOptions,
        dim: usize,
        saved: &Saved<'_>,
        input: &mut Decoder<'_>,
    ) -> Result<Hnsw, Malformed> {
        let mut versions = Versions::default();
        let epoch = versions.begin();
        let (links, graph) = Links::load(options.links(), saved.held, input, epoch, &versions)?;
        let found = HnswOptions { products: links.has_products(), ..options };
        let load = |copying| CopyBlocks::load((copying, options.seed), dim, saved.held, input, epoch);
        let mut copies = options.copies.map(load).transpose()?.flatten();
        let view = copies.as_mut().map(|copies| copies.publish(epoch, &versions));
        let newest = Arc::new(HnswVersion { options: found, graph, copies: view, lease: versions.publish() });
        Ok(Hnsw { options, versions, links, copies, newest, left: Left::default() })
    }

    fn change_copies(&mut self, change: CopyChange, epoch: Epoch) {
        let others = match (change, self.newest.options.copies) {
            (CopyChange::Write(fresh), _) => {
                return self.copies.iter_mut().for_each(|copies| copies.write(&fresh, epoch));
            }
            (CopyChange::Begin(trained, fresh), Some(copying)) => {
                Some(CopyBlocks::begin(copying, trained, &fresh, epoch))
            }
            (CopyChange::Drop, _) => None,
            _ => return,
        };
        let before = std::mem::replace(&mut self.copies, others);
        self.left.add(before.iter().flat_map(CopyBlocks::shared));
    }

    /// Makes a version of a graph and of the copies as they are now.
    fn show(&mut self, options: HnswOptions, graph: Graph, epoch: Epoch) {
        let copies = self.copies.as_mut().map(|copies| copies.publish(epoch, &self.versions));
        self.newest = Arc::new(HnswVersion { options, graph, copies, lease: self.versions.publish() });
    }
}

impl Index for Hnsw {
    fn version(&self) -> Arc<dyn IndexVersion> {
        Arc::clone(&self.newest) as Arc<dyn IndexVersion>
    }

    fn commit(&mut self, plan: Plan) {
        let Ok(plan) = plan.0.downcast::<HnswPlan>() else { return };
        let epoch = self.versions.begin_after(&mut self.newest, |newest| &mut newest.lease);
        let mut options = self.newest.options;
        let mut graph = self.links.apply(plan.change, &self.newest.graph, epoch, &self.versions);
        self.change_copies(plan.copies, epoch);
        if graph.held.len() == 0 {
            // Begins anew, with no more memory than at first.
            let copies = self.copies.iter().flat_map(CopyBlocks::shared);
            self.left.add(self.links.shared().chain(copies));
            options = self.options;
            self.links = Links::new(options.links());
            self.copies = options.copies.and_then(CopyBlocks::untrained);
            graph = self.links.empty(epoch, &self.versions);
        }
        self.show(options, graph, epoch);
    }

    fn settle(&mut self) -> Settling {
        if self.links.is_settled() && self.copies.as_ref().is_none_or(CopyBlocks::is_settled) {
            return self.versions.settled();
        }
        if !self.versions.is_newest_alone() {
            return Settling::Waiting;
        }
        let epoch = self.versions.begin();
        let graph = self.links.again(&self.newest.graph, epoch, &self.versions);
        self.show(self.newest.options, graph, epoch);
        Settling::Stepped
    }

    fn bytes(&self) -> usize {
        let copies = self.copies.as_ref().map_or(0, CopyBlocks::bytes) + self.left.bytes();
        self.links.bytes() + self.newest.graph.held.bytes() + copies
    }

    fn shared(&self) -> SharedMemory {
        let copies = self.copies.iter().flat_map(CopyBlocks::shared);
        memory::collect(self.links.shared().chain(copies).chain(self.left.iter()))
    }

    fn kind(&self) -> &'static str {
        "hnsw"
    }
}

impl HnswVersion {
    /// Finds the candidates by a walk; false when looking at every row is the better way.
    fn walk<M: Measure>(
        &self,
        walk: Walk<'_, M>,
        request: &Request<'_>,
        limits: Limits,
        scratch: &mut Scratch,
        effort: &mut Effort,
    ) -> bool {
        walk.find_starts(scratch, effort);
        match request.admit {
            None => {
                let mut step = walk.set_out(limits, scratch);
                while step != Step::End && !request.ends.are_due(effort.distances) {
                    step = walk.advance(0, step, limits, scratch, effort);
                }
                scratch.candidates.clear();
                memory::extend(&mut scratch.candidates, scratch.pool.iter());
            }
            Some(admit) => {
                if let Some(filter) = request.filter {
                    let passes = |row: Row| filter.passes(row) && (filter.is_all || admit(row));
                    let (ends, passes) = (request.ends, (filter, passes));
                    let is_found = walk.thinned_beam(limits, ends, passes, scratch, effort);
                    scratch.candidates.clear();
                    memory::extend(&mut scratch.candidates, scratch.passing.iter());
                    return is_found;
                }
                if !walk.filtered_beam(limits, request.ends, admit, scratch, effort) {
                    return false;
                }
                scratch.candidates.clear();
                memory::append(&mut scratch.candidates, scratch.admitted.sorted());
            }
        }
        true
    }

    /// Searches the graph; false when looking at every row is the better way.
    fn find(
        &self,
        points: Points<'_>,
        request: &Request<'_>,
        scratch: &mut Scratch,
        found: &mut TopK,
        effort: &mut Effort,
    ) -> bool {
        let (held, k) = (self.graph.held.len(), request.k);
        if k >= held.div_ceil(2) {
            return false;
        }
        let ef = request.ef.max(k).min(held);
        let exhausts = request.ends.reach.is_some();
        let metric = points.space.metric();
        let limits_of = |bound, ef, is_coarse| {
            // Inner products are no lengths, and whoever asks for all rows gets them.
            let is_rigid = is_coarse || metric == Metric::Dot || ef == held;
            let limits = if is_rigid { Limits::rigid } else { Limits::adaptive };
            limits(bound, k, ef).exhausting(exhausts)
        };
        let Some(copies) = &self.copies else {
            let walk = Walk {
                graph: &self.graph,
                measure: Exact::new(points),
                query: request.query,
                products: self.options.products,
            };
            let is_found = self.walk(walk, request, limits_of(request.bound, ef, false), scratch, effort);
            if is_found {
                scratch.candidates.iter().take(k).for_each(|near| found.offer(*near));
            }
            return is_found;
        };
        let wanted = k.saturating_mul(self.options.oversample).max(k + SPARE).min(held);
        let limits = limits_of(request.bound * scale(metric), ef.max(wanted), copies.are_coarse());
        let mut room = std::mem::take(&mut scratch.single);
        let query = copies.query(metric, request.query, &mut room);
        let walk = Walk {
            graph: &self.graph,
            measure: Copied(copies),
            query: &query,
            products: self.options.products,
        };
        let is_found = self.walk(walk, request, limits, scratch, effort);
        scratch.single = room;
        if is_found && copies.are_coarse() {
            let request = Request { ef: limits.ef, ..*request };
            rerank(points, &request, (STEP_OF_MANY, copies.is_unbiased()), scratch, found, effort);
        } else if is_found {
            rerank(points, request, (STEP, false), scratch, found, effort);
        }
        is_found
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
        let is_found = self.find(points, request, scratch, found, &mut effort);
        request.ends.spend(effort.distances);
        if !is_found {
            effort.distances += flat::scan(&self.graph.held, points, request, scratch, found);
        }
        effort
    }

    fn plan(&self, points: Points<'_>, batch: &Batch<'_>, executor: &dyn Executor) -> Plan {
        let is_dot = points.space.metric() == Metric::Dot;
        let euclidean = Space::new(Metric::L2, points.space.dim());
        let given = points;
        let points = if is_dot { Points { space: &euclidean, ..points } } else { points };
        let mut forgotten = RowSet::default();
        for row in batch.forget {
            forgotten.insert(*row);
        }
        let norm = |row: Row| points.vectors.squared_length(row);
        let copies = self.options.copies.map_or(CopyChange::Nothing, |copying| {
            let (copies, held) = (self.copies.as_ref(), &self.graph.held);
            copies::change((copying, self.options.seed), copies, held, given, batch, executor)
        });
        let options = self.options.links();
        let change = change(Job {
            options: &options,
            graph: &self.graph,
            measure: Exact::new(points),
            products: options.products.gt(&0).then(|| Exact::new(given)),
            batch,
            forgotten: &forgotten,
            executor,
            least: if is_dot { options.first } else { 0 },
            norm: is_dot.then_some(&norm),
        });
        Plan(Box::new(HnswPlan { change, copies }))
    }

    fn audit(&self, expected: &mut dyn Iterator<Item = Row>) -> Vec<Defect> {
        audit(&self.graph, &self.options.links(), expected)
    }

    fn save(&self, out: &mut Encoder) -> Option<RowSet> {
        self.graph.save(&self.options.links(), out);
        if let Some(copying) = self.options.copies {
            copies::save(copying, self.copies.as_ref(), &self.graph.held, out);
        }
        Some(self.graph.held.clone())
    }

    fn digest(&self) -> u64 {
        let copies = self.copies.as_ref().map_or(0, |copies| copies.digest(&self.graph.held));
        if copies == 0 { digest(&self.graph) } else { mix(digest(&self.graph) ^ copies) }
    }
}
