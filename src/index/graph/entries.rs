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

/// Entry points at most, but for chance: a scan of so many takes 3 to 5 us (codes of
/// one and of two lines, AVX-512: `benches/entry_points.rs`).
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
    Some(Arc::new(EntryPoints::new(codec, nodes, |node| source.code(node))))
}

/// Those after a batch that leaves the codec as it is: the same as `entries` of what is
/// held then, but nodes are looked through only when there are to be more or fewer.
pub(super) fn entries_after(
    version: &GraphVersion,
    codec: &Codec,
    source: impl CodeSource,
    batch: &NodeBatch,
) -> Option<Arc<EntryPoints>> {
    let (held, seed) = (&version.graph.held, version.options.seed);
    let count = held.len() + batch.absorb.len() - batch.forget.len();
    let share = share(count)?;
    let Some(before) = version.derived.entries.as_ref().filter(|_| self::share(held.len()) == Some(share))
    else {
        return entries(&held.after(&batch.forget, &batch.absorb), codec, source, seed);
    };
    debug_assert!(
        batch.absorb.iter().all(|node| !batch.forgotten.contains(*node)),
        "its code may be another"
    );
    let is_entry = |node: &Row| is_entry(*node, seed, share);
    if !batch.absorb.iter().chain(&batch.forget).any(is_entry) {
        return Some(Arc::clone(before));
    }
    let staying = before.rows().iter().filter(|node| !batch.forgotten.contains(**node));
    let new = batch.absorb.iter().filter(|node| is_entry(node));
    let mut nodes: Vec<Row> = memory::collect(staying.chain(new).copied());
    nodes.sort_unstable();
    Some(Arc::new(before.after(codec, nodes, |node| source.code(node))))
}
