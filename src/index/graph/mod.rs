//! The quantized graph: a flat navigable graph that is walked by small codes,
//! with the stored vectors for the last word.
//!
//! A walk reads, for each row that it meets, one short [code](crate::quant)
//! instead of the vector: on 784 dimensions 128 bytes instead of 3,136. The
//! best rows by estimate are then measured exactly ([`rerank`](super::rerank)), so answers
//! carry exact distances.
//!
//! * One flat graph (`links`), up to 64 links a row, started from rows drawn at
//!   random; built by the same codes. Searches of large graphs start from entry
//!   points ([`entries`](mod@entries)).
//! * Where all codes are few they are read one after the other, and nothing is walked through ([`scan`]).
//! * Codes are trained on the rows themselves, again whenever their number has
//!   grown fourfold or they were turned over ([`train`]), and when the index is
//!   optimized.
//! * Inside, rows are *nodes*: `optimize` numbers them anew in the order in
//!   which walks meet them ([`layout`]), so what is read together lies together.
//!
//! LeanVec (Tepper et al., 2023) and LVQ (Aguerrebere et al., 2023) walk graphs
//! by projected and by rounded vectors and re-rank; what is new here is that
//! rows come and go meanwhile.

use std::sync::{Arc, Weak};

use super::cow::{Left, SharedMemory, Versions};
use super::links::{Graph, LinkOptions, Links, audit, digest};
use super::{
    Batch, Defect, Effort, Executor, Index, IndexVersion, Plan, Points, Request, Saved, Scratch, Settling,
    Trip,
};
use crate::bits::RowSet;
use crate::codec::{Decoder, Encoder, Malformed};
use crate::id::{Row, mix};
use crate::lease::Lease;
use crate::memory;
use crate::neighbor::TopK;
use crate::quant::{Codec, Copies};

mod among;
mod codes;
mod derived;
mod entries;
mod layout;
mod plan;
mod scan;
mod search;
mod train;

use codes::{CodeBlocks, Codes};
use derived::Derived;
pub(crate) use derived::MOST_READ;
use layout::Layout;
use plan::{CodeChange, GraphPlan, Relaid};
pub(crate) use train::Coding;
pub(super) use train::train;

/// Links that a new row chooses, and what share of its list they are at most:
/// its neighbours' choices fill up the rest. Of 16 to 48 (lists of 64), 24 to 32
/// searched fastest.
const FIRST_LINKS: usize = 28;
const FIRST_SHARE: (usize, usize) = (3, 4);

/// For each link by inner product so many to rows that are near. With fewer near ones walks read fewer codes in
/// more hops, which is dearer where lengths follow from directions (MovieLens); with fewer by inner product
/// they read more codes in more hops.
pub(crate) const PRODUCT_SHARE: usize = 2;

/// Tree edges that a row takes on when there is a choice.
const TREE_EDGES: usize = 8;

/// Vamana's alpha, squared because distances are. Long lists want less of it:
/// of 1.0, 1.05, 1.1, 1.2 and 1.44 with lists of 64.
const SLACK: f32 = 1.05;

/// How a graph is built.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct GraphOptions {
    /// Links of a row at most, to rows near it.
    pub(crate) degree: usize,
    /// Candidates that are looked at for the links of a new row.
    pub(crate) ef_construction: usize,
    /// Whether there are more links, one for each [`PRODUCT_SHARE`] of these, to the rows of the greatest inner products.
    pub(crate) products: bool,
    /// The codes that rows get.
    pub(crate) coding: Coding,
    /// Seed of everything that is drawn.
    pub(crate) seed: u64,
}

impl GraphOptions {
    fn links(self) -> LinkOptions {
        LinkOptions {
            degree: self.degree,
            products: if self.products { self.degree / PRODUCT_SHARE } else { 0 },
            upper: self.degree,
            first: FIRST_LINKS.min(self.degree * FIRST_SHARE.0 / FIRST_SHARE.1),
            tree: TREE_EDGES,
            ef_construction: self.ef_construction,
            slack: SLACK,
            layered: false,
            seed: self.seed,
        }
    }
}

/// The graph as of one moment.
struct GraphVersion {
    options: GraphOptions,
    /// By node.
    graph: Graph,
    /// By node; none while no row was ever held.
    codes: Option<Codes>,
    layout: Arc<Layout>,
    /// By node.
    derived: Derived,
    /// True when nothing has changed since nodes were numbered and codes trained.
    is_laid_out: bool,
    lease: Lease,
}

/// The plan of a batch that changes nothing.
struct Unchanged;

fn laid(relaid: Option<Relaid>) -> Plan {
    match relaid {
        Some(relaid) => Plan(Box::new(relaid)),
        None => Plan(Box::new(Unchanged)),
    }
}

/// The writer's side of the graph.
pub(crate) struct QuantizedGraph {
    /// As it was said. A graph that was saved without links by inner product has none while it has rows.
    options: GraphOptions,
    versions: Versions,
    links: Links,
    codes: Option<CodeBlocks>,
    newest: Arc<GraphVersion>,
    /// What only older versions keep, since all was laid anew, or coded.
    left: Left,
    left_copies: Vec<Weak<Copies>>,
}

impl QuantizedGraph {
    /// An empty graph.
    pub(crate) fn new(options: GraphOptions) -> QuantizedGraph {
        let (mut versions, mut links) = (Versions::default(), Links::new(options.links()));
        let epoch = versions.begin();
        let newest = Arc::new(GraphVersion {
            options,
            graph: links.empty(epoch, &versions),
            codes: None,
            layout: Arc::default(),
            derived: Derived::default(),
            is_laid_out: true,
            lease: versions.publish(),
        });
        QuantizedGraph {
            options,
            versions,
            links,
            codes: None,
            newest,
            left: Left::default(),
            left_copies: Vec::new(),
        }
    }

    /// The graph that was saved of `held` rows below `limit`, over vectors of
    /// `dim` numbers.
    pub(crate) fn load(
        options: GraphOptions,
        dim: usize,
        saved: &Saved<'_>,
        input: &mut Decoder<'_>,
    ) -> Result<QuantizedGraph, Malformed> {
        let mut versions = Versions::default();
        let epoch = versions.begin();
        let layout = Layout::load(saved.limit, input)?;
        let is_laid_out = input.u8()? == 1;
        let mut nodes: Vec<Row> = memory::collect(saved.held.iter().map(|row| layout.node(row)));
        nodes.sort_unstable();
        let mut held = RowSet::default();
        nodes.into_iter().for_each(|node| _ = held.insert(node));
        let (links, graph) = Links::load(options.links(), &held, input, epoch, &versions)?;
        let found = GraphOptions { products: links.has_products(), ..options };
        let mut codes = match input.u8()? {
            0 => None,
            _ => Some(CodeBlocks::load(dim, &held, &layout, input, epoch)?),
        };
        input.check(codes.is_some() || held.len() == 0, "rows have no codes")?;
        let view = codes.as_mut().map(|codes| codes.publish(epoch, &versions));
        let derived = view.as_ref().map(|codes| Derived::of(&held, &codes.codec, &codes.blocks, &found));
        let newest = Arc::new(GraphVersion {
            options: found,
            graph,
            codes: view,
            layout: Arc::new(layout),
            derived: derived.unwrap_or_default(),
            is_laid_out,
            lease: versions.publish(),
        });
        Ok(QuantizedGraph {
            options,
            versions,
            links,
            codes,
            newest,
            left: Left::default(),
            left_copies: Vec::new(),
        })
    }

    fn commit_change(&mut self, plan: GraphPlan) {
        let epoch = self.versions.begin_after(&mut self.newest, |newest| &mut newest.lease);
        let before = Arc::clone(&self.newest);
        let graph = self.links.apply(plan.change, &before.graph, epoch, &self.versions);
        if graph.held.len() == 0 {
            return self.begin_anew();
        }
        self.leave_copies(&plan.derived);
        match plan.codes {
            CodeChange::Add(words) => {
                if let Some(codes) = &mut self.codes {
                    codes.write(&words, epoch);
                }
            }
            CodeChange::Replace(codes) => {
                let before = self.codes.replace(*codes);
                self.left.add(before.iter().flat_map(CodeBlocks::shared));
            }
        }
        let codes = self.codes.as_mut().map(|codes| codes.publish(epoch, &self.versions));
        self.newest = Arc::new(GraphVersion {
            options: before.options,
            graph,
            codes,
            layout: Arc::clone(&before.layout),
            derived: plan.derived,
            is_laid_out: false,
            lease: self.versions.publish(),
        });
    }

    /// Nothing is held any more: no more memory is needed than at first.
    fn begin_anew(&mut self) {
        self.leave();
        self.leave_copies(&Derived::default());
        let options = self.options;
        let epoch = self.versions.begin();
        self.links = Links::new(options.links());
        self.codes = None;
        self.newest = Arc::new(GraphVersion {
            options,
            graph: self.links.empty(epoch, &self.versions),
            codes: None,
            layout: Arc::default(),
            derived: Derived::default(),
            is_laid_out: true,
            lease: self.versions.publish(),
        });
    }

    /// Copies that the newest version has and the next one has not are older versions' from now on.
    fn leave_copies(&mut self, next: &Derived) {
        self.left_copies.retain(|copies| copies.strong_count() > 0);
        memory::extend(&mut self.left_copies, self.newest.derived.not_in(next));
    }

    /// What older versions hold is theirs alone from now on.
    fn leave(&mut self) {
        self.left.add(self.links.shared().chain(self.codes.iter().flat_map(CodeBlocks::shared)));
    }

    fn commit_relaid(&mut self, relaid: Relaid) {
        self.leave();
        self.leave_copies(&relaid.derived);
        let epoch = self.versions.begin_after(&mut self.newest, |newest| &mut newest.lease);
        let before = Arc::clone(&self.newest);
        let graph = self.links.replace(relaid.links, epoch, &self.versions);
        let mut codes = relaid.codes;
        let view = codes.publish(epoch, &self.versions);
        self.codes = Some(codes);
        self.newest = Arc::new(GraphVersion {
            options: before.options,
            graph,
            codes: Some(view),
            layout: Arc::new(relaid.layout),
            derived: relaid.derived,
            is_laid_out: true,
            lease: self.versions.publish(),
        });
    }
}

impl Index for QuantizedGraph {
    fn version(&self) -> Arc<dyn IndexVersion> {
        Arc::clone(&self.newest) as Arc<dyn IndexVersion>
    }

    fn commit(&mut self, plan: Plan) {
        match plan.0.downcast::<GraphPlan>() {
            Ok(plan) => self.commit_change(*plan),
            Err(other) => {
                if let Ok(relaid) = other.downcast::<Relaid>() {
                    self.commit_relaid(*relaid);
                }
            }
        }
    }

    fn settle(&mut self) -> Settling {
        if self.links.is_settled() && self.codes.as_ref().is_none_or(CodeBlocks::is_settled) {
            return self.versions.settled();
        }
        if !self.versions.is_newest_alone() {
            return Settling::Waiting;
        }
        let (before, epoch) = (Arc::clone(&self.newest), self.versions.begin());
        let graph = self.links.again(&before.graph, epoch, &self.versions);
        let codes = self.codes.as_mut().map(|codes| codes.publish(epoch, &self.versions));
        self.newest = Arc::new(GraphVersion {
            options: before.options,
            graph,
            codes,
            layout: Arc::clone(&before.layout),
            derived: before.derived.clone(),
            is_laid_out: before.is_laid_out,
            lease: self.versions.publish(),
        });
        Settling::Stepped
    }

    fn bytes(&self) -> usize {
        let codes = self.codes.as_ref().map_or(0, CodeBlocks::bytes);
        let links = self.links.bytes() + self.left.bytes();
        let left = self.left_copies.iter().filter_map(Weak::upgrade).map(|copies| copies.bytes());
        let derived = self.newest.derived.bytes() + left.sum::<usize>();
        links + self.newest.graph.held.bytes() + codes + self.newest.layout.bytes() + derived
    }

    fn shared(&self) -> SharedMemory {
        let codes = self.codes.iter().flat_map(CodeBlocks::shared);
        memory::collect(self.links.shared().chain(codes).chain(self.left.iter()))
    }

    fn kind(&self) -> &'static str {
        "graph"
    }
}

impl IndexVersion for GraphVersion {
    fn len(&self) -> usize {
        self.graph.held.len()
    }

    fn takes_long(&self, rows: usize) -> bool {
        let held = self.graph.held.len();
        // Without codes they are trained.
        held == 0
            || self.codes.as_ref().is_none_or(|codes| codes.training.is_due(held + rows, train::SETTLED))
    }

    fn search(
        &self,
        points: Points<'_>,
        request: &Request<'_>,
        scratch: &mut Scratch,
        found: &mut TopK,
    ) -> Effort {
        search::search(self, points, request, scratch, found)
    }

    fn search_many(&self, points: Points<'_>, trips: &mut [Trip<'_>]) {
        search::take_turns(self, points, trips);
    }

    fn search_among(
        &self,
        points: Points<'_>,
        request: &Request<'_>,
        rows: &mut dyn Iterator<Item = Row>,
        scratch: &mut Scratch,
        found: &mut TopK,
    ) -> Option<Effort> {
        search::among(self, points, request, rows, scratch, found)
    }

    fn plan(&self, points: Points<'_>, batch: &Batch<'_>, executor: &dyn Executor) -> Plan {
        if !batch.absorb.is_empty() || !batch.forget.is_empty() {
            return Plan(Box::new(plan::change(self, points, batch, executor)));
        }
        laid(batch.optimize.then(|| plan::relay(self, points, executor)).flatten())
    }

    fn codec(&self) -> Option<&Codec> {
        self.codes.as_ref().map(|codes| &*codes.codec)
    }

    fn adopt(&self, points: Points<'_>, codec: Codec, executor: &dyn Executor) -> Option<Plan> {
        Some(laid(plan::adopt(self, points, codec, executor)))
    }

    fn audit(&self, expected: &mut dyn Iterator<Item = Row>) -> Vec<Defect> {
        let mut nodes = expected.map(|row| self.layout.node(row));
        let defects = audit(&self.graph, &self.options.links(), &mut nodes);
        let renamed = defects.into_iter().map(|defect| defect.renamed(|node| self.layout.row(node)));
        let mut defects: Vec<Defect> = memory::collect(renamed);
        if let Some(codes) = &self.codes {
            codes.audit(&self.graph.held, &self.layout, &mut defects);
            let Codes { codec, blocks, .. } = codes;
            let is_right = self.derived.are_of(&self.graph.held, codec, blocks, &self.options);
            let wrong = (!is_right).then(|| self.graph.held.iter().next()).flatten();
            memory::extend(&mut defects, wrong.map(|node| Defect::Malformed(self.layout.row(node))));
        }
        defects
    }

    fn save(&self, out: &mut Encoder) -> Option<RowSet> {
        self.layout.save(out);
        out.u8(u8::from(self.is_laid_out));
        self.graph.save(&self.options.links(), out);
        out.u8(u8::from(self.codes.is_some()));
        if let Some(codes) = &self.codes {
            codes.save(&self.graph.held, out);
        }
        let mut held = RowSet::default();
        self.graph.held.iter().for_each(|node| _ = held.insert(self.layout.row(node)));
        Some(held)
    }

    fn digest(&self) -> u64 {
        let codes = self.codes.as_ref().map_or(0, |codes| codes.digest(&self.graph.held));
        mix(digest(&self.graph) ^ mix(codes ^ self.layout.digest()))
    }
}
