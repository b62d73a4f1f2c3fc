//! Searching among given rows: all of them by their codes, then the best by
//! their vectors.

use super::GraphVersion;
use super::search::Ground;
use crate::id::Row;
use crate::index::links::Walk;
use crate::index::measure::Measure as _;
use crate::index::{Effort, Points, Request, Scratch};
use crate::kernel::{Arch, ArchJob};
use crate::memory;
use crate::neighbor::{Neighbor, TopK};
use crate::quant::CodeQuery;
use crate::vector::BLOCK;

/// Candidates for each hit that are kept for their vectors to be looked at.
/// Looking ends by itself once no further one can be near enough.
const KEPT: usize = 4;

/// Such a search, to be compiled for an instruction set.
pub(super) struct Among<'a, 'b> {
    pub(super) version: &'a GraphVersion,
    pub(super) points: Points<'a>,
    pub(super) request: &'a Request<'a>,
    pub(super) rows: &'b mut dyn Iterator<Item = Row>,
    pub(super) query: &'a CodeQuery,
    pub(super) scratch: &'b mut Scratch,
    pub(super) found: &'b mut TopK,
}

impl ArchJob for Among<'_, '_> {
    type Output = Option<Effort>;

    #[inline(always)]
    fn run<A: Arch>(self, arch: A) -> Option<Effort> {
        let Among { version, points, request, rows, query, scratch, found } = self;
        let codes = version.codes.as_ref()?;
        let ground = Ground { version, codes, points, arch };
        let walk = ground.walk(query);
        let mut effort = Effort::default();
        let kept = request.ef.max(request.k.saturating_mul(KEPT));
        scratch.admitted.reset(kept.min(version.graph.held.len()));
        let held =
            |row: Row| Some(version.layout.node(row)).filter(|node| version.graph.held.contains(*node));
        let mut nodes = rows.filter_map(held);
        let (mut next, mut distances) = ([0; BLOCK], [0.0; BLOCK]);
        let mut count = fill(&walk, &mut nodes, &mut next);
        while count > 0 && !request.ends.are_due(effort.distances) {
            let (block, measured) = (next, count);
            // On its way while this block is measured.
            count = fill(&walk, &mut nodes, &mut next);
            let block = &block[..measured];
            let bound = scratch.admitted.bound();
            walk.measure.distances(query, block, bound, &mut distances);
            for (row, distance) in block.iter().zip(distances) {
                if distance <= bound {
                    scratch.admitted.offer(Neighbor { distance, row: *row });
                }
            }
            effort.distances += measured as u64;
        }
        scratch.candidates.clear();
        memory::append(&mut scratch.candidates, scratch.admitted.sorted());
        ground.rerank(request, scratch, found, &mut effort);
        Some(effort)
    }
}

/// Takes the next nodes and asks the processor for their codes; gives their number.
#[inline(always)]
fn fill<M: crate::index::measure::Measure>(
    walk: &Walk<'_, M>,
    nodes: &mut impl Iterator<Item = Row>,
    block: &mut [Row; BLOCK],
) -> usize {
    let mut count = 0;
    for (place, node) in block.iter_mut().zip(nodes) {
        *place = node;
        walk.measure.prefetch(node);
        count += 1;
    }
    count
}
