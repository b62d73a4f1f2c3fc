//! Where walks of a large graph start.
//!
//! A flat graph has no layers that lead into every region. From a few rows
//! drawn at random a walk finds its way as long as there is one: where rows form thousands of
//! groups that lie equally far from each other no link is nearer to the right one than
//! another. So one row in some hundred is an entry point, and a scan of signs says
//! which are near ([`EntryPoints`]).
//!
//! Which nodes are entry points follows from their numbers and from how many are held, so
//! files do not have them.

use std::sync::Arc;

use super::GraphVersion;
use super::codes::CodeSource;
use super::plan::NodeBatch;
use crate::bits::RowSet;
use crate::id::{Row, mix};
use crate::memory;
use crate::quant::{Codec, EntryPoints};

/// Nodes below which the starts drawn at random are enough: of 60,000 to 100,000 real rows all
/// walks come to their goal.
const LEAST_NODES: usize = if cfg!(test) { 1_024 } else { 131_072 };

/// Nodes for each entry point, a power of two.
const NODES_AN_ENTRY: usize = if cfg!(test) { 32 } else { 256 };

/// Entry points at most, but for chance: a scan of so many takes some 3 us.
const MOST: usize = if cfg!(test) { 512 } else { 4_096 };

/// One in how many nodes is an entry point; none when there is no need for any.
fn share(nodes: usize) -> Option<u64> {
    let share = nodes.div_ceil(MOST).next_power_of_two().max(NODES_AN_ENTRY);
    (nodes >= LEAST_NODES).then_some(share as u64)
}

fn is_entry(node: Row, seed: u64, share: u64) -> bool {
    mix(seed ^ u64::from(node)).is_multiple_of(share)
}

/// The entry points of all nodes that are held.
pub(super) fn entries(
    held: &RowSet,
    codec: &Codec,
    source: impl CodeSource,
    seed: u64,
) -> Option<Arc<EntryPoints>> {
    let share = share(held.len())?;
    let nodes = memory::collect(held.iter().filter(|node| is_entry(*node, seed, share)));
    Some(Arc::new(of_nodes(codec, nodes, &source)))
}

/// Those after a batch that leaves the codec as it is.
pub(super) fn entries_after(
    version: &GraphVersion,
    codec: &Codec,
    source: impl CodeSource,
    batch: &NodeBatch,
) -> Option<Arc<EntryPoints>> {
    let held = &version.graph.held;
    let share = share(held.len() + batch.absorb.len() - batch.forget.len())?;
    let seed = version.options.seed;
    let is_new = |node: &Row| is_entry(*node, seed, share);
    let Some(before) = version.entries.as_ref().filter(|_| self::share(held.len()) == Some(share)) else {
        let staying = held.iter().filter(|node| !batch.forgotten.contains(*node));
        let mut nodes: Vec<Row> = memory::collect(staying.chain(batch.absorb.iter().copied()).filter(is_new));
        nodes.sort_unstable();
        return Some(Arc::new(of_nodes(codec, nodes, &source)));
    };
    if !batch.absorb.iter().chain(&batch.forget).any(is_new) {
        return Some(Arc::clone(before));
    }
    let staying = before.rows().iter().copied().filter(|node| !batch.forgotten.contains(*node));
    let mut nodes: Vec<Row> = memory::collect(staying.chain(batch.absorb.iter().copied().filter(is_new)));
    nodes.sort_unstable();
    Some(Arc::new(of_nodes(codec, nodes, &source)))
}

fn of_nodes<S: CodeSource>(codec: &Codec, nodes: Vec<Row>, source: &S) -> EntryPoints {
    EntryPoints::new(codec, nodes, |node| source.code(node))
}
