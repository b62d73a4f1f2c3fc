//! Computing changes: batches of rows, and a new layout.

use std::sync::Arc;

use super::GraphVersion;
use super::codes::{CodeBlocks, CodeSource, Coded, Codes, Drafted, Fresh};
use super::derived::Derived;
use super::layout::Layout;
use super::train::{MEASURED, SETTLED, encode, train};
use crate::bits::RowSet;
use crate::id::Row;
use crate::index::links::{Change, Job, Laid, change as change_links};
use crate::index::{Batch, Executor, Points};
use crate::kernel::{Arch, ArchJob};
use crate::memory;
use crate::metric::Metric;
use crate::quant::{Codec, Measure};

/// What happens to the codes.
pub(super) enum CodeChange {
    Add(Fresh),
    /// A new codec, and the codes of all nodes by it.
    Replace(Box<CodeBlocks>),
}

/// What a batch does.
pub(super) struct GraphPlan {
    pub(super) change: Change,
    pub(super) codes: CodeChange,
    pub(super) derived: Derived,
}

/// The same rows under new numbers, with new codes.
pub(super) struct Relaid {
    pub(super) links: Laid,
    pub(super) codes: CodeBlocks,
    pub(super) layout: Layout,
    pub(super) derived: Derived,
}

/// The same batch by nodes.
pub(super) struct NodeBatch {
    pub(super) absorb: Vec<Row>,
    pub(super) forget: Vec<Row>,
    pub(super) forgotten: RowSet,
}

impl NodeBatch {
    fn new(layout: &Layout, batch: &Batch<'_>) -> NodeBatch {
        let nodes = |rows: &[Row]| memory::collect::<Row>(rows.iter().map(|row| layout.node(*row)));
        let (absorb, forget) = (nodes(batch.absorb), nodes(batch.forget));
        let mut forgotten = RowSet::default();
        forget.iter().for_each(|node| _ = forgotten.insert(*node));
        NodeBatch { absorb, forget, forgotten }
    }
}

pub(super) fn change(
    version: &GraphVersion,
    points: Points<'_>,
    batch: &Batch<'_>,
    executor: &dyn Executor,
) -> GraphPlan {
    let layout = &*version.layout;
    let nodes = NodeBatch::new(layout, batch);
    let row_of = |node: Row| layout.row(node);
    let mut fresh = memory::copied(&nodes.absorb);
    fresh.sort_unstable();
    if let Some(codes) = version.codes.as_ref().filter(|codes| !is_due(version, codes, &nodes, batch.renews))
    {
        let fresh = encode(&codes.codec, points, fresh, &row_of, executor);
        let mut bytes: Vec<u8> = memory::list(size_of_val(fresh.words.as_slice()));
        bytes.extend(fresh.words.iter().flat_map(|word| word.to_ne_bytes()));
        let held = &version.graph.held;
        let source = Drafted { blocks: &codes.blocks, held, fresh: &fresh, bytes: &bytes };
        let codec = &codes.codec;
        let work = Linking { version, points, codec, source, batch, nodes: &nodes, executor };
        let change = codec.level().run(work);
        let derived = Derived::after(version, codec, source, &nodes);
        return GraphPlan { change, codes: CodeChange::Add(fresh), derived };
    }
    let mut all: Vec<Row> = memory::collect(version.graph.held.iter().chain(fresh));
    all.sort_unstable();
    let staying: Vec<Row> =
        memory::collect(all.iter().copied().filter(|node| !nodes.forgotten.contains(*node)));
    let codec = train_on(version, points, &staying, layout);
    let (blocks, codes) = recode(codec, points, all, staying.len(), layout, executor);
    let (codec, source) = (&*codes.codec, &codes.blocks);
    let work = Linking { version, points, codec, source, batch, nodes: &nodes, executor };
    let change = codec.level().run(work);
    let held = version.graph.held.after(&nodes.forget, &nodes.absorb);
    let derived = Derived::of(&held, codec, source, &version.options);
    GraphPlan { change, codes: CodeChange::Replace(Box::new(blocks)), derived }
}

/// Whether the batch leaves rows that the codes are out of date for. Those of a
/// collection that was emptied always are, and nothing stands beside their new ones.
fn is_due(version: &GraphVersion, codes: &Codes, nodes: &NodeBatch, renews: bool) -> bool {
    let held = version.graph.held.len();
    let rows = held + nodes.absorb.len() - nodes.forget.len();
    !nodes.absorb.is_empty() && (held == 0 || renews && codes.training.is_due(rows, SETTLED))
}

/// Trains on the rows of `nodes`.
fn train_on(version: &GraphVersion, points: Points<'_>, nodes: &[Row], layout: &Layout) -> Arc<Codec> {
    let mut rows: Vec<Row> = memory::collect(nodes.iter().map(|node| layout.row(*node)));
    rows.sort_unstable();
    // Measured anew while samples still grow.
    let settled = version.codes.as_ref().filter(|codes| codes.training.rows >= MEASURED);
    train(&version.options, points, &rows, settled.map(|codes| codes.codec.shape()))
}

/// Encodes all `nodes` by a codec that is for so many rows.
fn recode(
    codec: Arc<Codec>,
    points: Points<'_>,
    nodes: Vec<Row>,
    rows: usize,
    layout: &Layout,
    executor: &dyn Executor,
) -> (CodeBlocks, Codes) {
    let all = encode(&codec, points, nodes, &|node| layout.row(node), executor);
    let mut blocks = CodeBlocks::filled(codec, rows, &all.nodes, &all.words);
    let codes = blocks.draft();
    (blocks, codes)
}

/// Finding the links of a batch, to be compiled for an instruction set.
struct Linking<'a, S> {
    version: &'a GraphVersion,
    points: Points<'a>,
    codec: &'a Codec,
    source: S,
    batch: &'a Batch<'a>,
    nodes: &'a NodeBatch,
    executor: &'a dyn Executor,
}

impl<S: CodeSource> ArchJob for Linking<'_, S> {
    type Output = Change;

    fn run<A: Arch>(self, arch: A) -> Change {
        let Linking { version, points, codec, source, batch, nodes, executor } = self;
        let (layout, options) = (&*version.layout, version.options.links());
        let is_dot = points.space.metric() == Metric::Dot;
        let norm = |node: Row| points.vectors.squared_length(layout.row(node));
        let dead = |node: Row| (batch.dead)(layout.row(node));
        let by_node = Batch {
            absorb: &nodes.absorb,
            ordinals: batch.ordinals,
            forget: &nodes.forget,
            dead: &dead,
            optimize: false,
            renews: batch.renews,
        };
        // Walks that start near the new row would give it near links alone.
        let measure = Coded { codec, source, arch, between: Measure::SquaredL2, entries: None };
        change_links(Job {
            options: &options,
            graph: &version.graph,
            measure,
            products: version.options.products.then_some(Coded { between: Measure::NegatedDot, ..measure }),
            batch: &by_node,
            forgotten: &nodes.forgotten,
            executor,
            least: options.degree / 2,
            norm: is_dot.then_some(&norm),
        })
    }
}

/// A new layout, with codes trained on all rows; none when there is nothing to
/// gain.
pub(super) fn relay(version: &GraphVersion, points: Points<'_>, executor: &dyn Executor) -> Option<Relaid> {
    if version.is_laid_out || version.graph.held.len() == 0 {
        return None;
    }
    let nodes: Vec<Row> = memory::collect(version.graph.held.iter());
    let codec = train_on(version, points, &nodes, &version.layout);
    Some(relay_by(version, points, codec, executor))
}

/// A new layout, with codes by the codec of another shard; none when all is so
/// already.
pub(super) fn adopt(
    version: &GraphVersion,
    points: Points<'_>,
    codec: Codec,
    executor: &dyn Executor,
) -> Option<Relaid> {
    let has_it = version.codes.as_ref().is_none_or(|codes| codes.codec.digest() == codec.digest());
    if (version.is_laid_out && has_it) || version.graph.held.len() == 0 {
        return None;
    }
    Some(relay_by(version, points, Arc::new(codec), executor))
}

fn relay_by(
    version: &GraphVersion,
    points: Points<'_>,
    codec: Arc<Codec>,
    executor: &dyn Executor,
) -> Relaid {
    let layout = version.layout.following(&version.graph);
    let renamed = |node: Row| layout.node(version.layout.row(node));
    let links = Laid::new(&version.graph, &version.options.links(), &renamed);
    let mut nodes: Vec<Row> = memory::collect(version.graph.held.iter().map(renamed));
    nodes.sort_unstable();
    let rows = nodes.len();
    let (codes, view) = recode(codec, points, nodes, rows, &layout, executor);
    let derived = Derived::of(links.held(), &view.codec, &view.blocks, &version.options);
    Relaid { links, codes, layout, derived }
}
