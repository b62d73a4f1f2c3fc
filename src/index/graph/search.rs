//! One search: a walk by codes, then the stored vectors.

use super::GraphVersion;
use super::codes::Coded;
use super::rerank::rerank;
use crate::id::Row;
use crate::index::flat;
use crate::index::links::{Limits, Walk};
use crate::index::{Effort, Points, Request, Scratch};
use crate::metric::Metric;
use crate::neighbor::TopK;
use crate::quant::Measure;

/// Candidates beyond k that are kept for re-ranking, however short the list:
/// at least so many, and one for so many of k.
const SPARE: usize = 8;
const SPARE_DIVISOR: usize = 2;

/// Squared distances are how many times the distances of the metric.
pub(super) fn scale(metric: Metric) -> f32 {
    match metric {
        Metric::L2 | Metric::Dot => 1.0,
        Metric::Cosine => 2.0,
    }
}

/// Searches the graph; false when looking at every row is the better way.
pub(super) fn walk(
    version: &GraphVersion,
    points: Points<'_>,
    request: &Request<'_>,
    scratch: &mut Scratch,
    found: &mut TopK,
    effort: &mut Effort,
) -> bool {
    let held = version.graph.held.len();
    let is_few = request.k < held.div_ceil(2) && request.ef < held;
    let Some(codes) = version.codes.as_ref().filter(|_| is_few) else {
        return false;
    };
    let metric = points.space.metric();
    let mut query = std::mem::take(&mut scratch.code_query);
    let measure = if metric == Metric::Dot { Measure::NegatedDot } else { Measure::SquaredL2 };
    codes.codec.prepare(request.query, measure, &mut query);
    let ef = request.ef;
    let kept = ef.max(request.k + SPARE.max(request.k / SPARE_DIVISOR)).min(held);
    let walk = Walk {
        graph: &version.graph,
        measure: Coded { codec: &codes.codec, source: &codes.blocks },
        query: &query,
    };
    let limits = Limits { bound: request.bound * scale(metric), k: request.k, ef };
    walk.find_starts(scratch, effort);
    let found_enough = match request.admit {
        None => {
            walk.beam(0, kept, limits, scratch, effort);
            scratch.candidates.clear();
            scratch.candidates.extend(scratch.pool.iter());
            true
        }
        Some(admit) => {
            let admit = |node: Row| admit(codes.row(node));
            let found = walk.filtered_beam(kept, limits, &admit, scratch, effort);
            scratch.candidates.clear();
            scratch.candidates.extend_from_slice(scratch.admitted.sorted());
            found
        }
    };
    scratch.code_query = query;
    if found_enough {
        scratch.candidates.iter_mut().for_each(|near| near.row = codes.row(near.row));
        effort.distances += rerank(points, request, scratch, found);
    }
    found_enough
}

/// Measures every held row.
pub(super) fn scan(
    version: &GraphVersion,
    points: Points<'_>,
    request: &Request<'_>,
    scratch: &mut Scratch,
    found: &mut TopK,
) -> u64 {
    let rows = version.graph.held.iter().map(|node| version.layout.row(node));
    flat::scan_rows(rows, points, request, scratch, found)
}
