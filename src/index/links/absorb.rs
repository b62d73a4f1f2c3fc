//! Finding the links of new rows.

use super::beam::Walk;
use super::crowds::{look_around, thin};
use super::graph::MAX_LEVEL;
use super::limits::Limits;
use super::plan::{Job, Worker};
use super::products;
use crate::id::{Row, mix};
use crate::index::measure::{RowMeasure, add_near};
use crate::index::parallel::parallel_map;
use crate::index::{Effort, Ends, Scratch};
use crate::memory;
use crate::neighbor::Neighbor;

/// A new row and its links, layer by layer from 0, nearest first.
#[derive(Debug)]
pub(super) struct Absorbed {
    pub(super) row: Row,
    pub(super) links: Vec<Vec<Neighbor>>,
    /// Its links by inner product, greatest first.
    pub(super) products: Vec<Row>,
}

impl Absorbed {
    pub(super) fn level(&self) -> usize {
        self.links.len() - 1
    }
}

/// The level of a row: each is reached by one in m of the rows below. Whole
/// numbers alone, so that every machine draws the same.
pub(super) fn level(seed: u64, ordinal: u64, m: usize) -> usize {
    let hash = mix(seed ^ mix(ordinal));
    let mut threshold = u64::MAX;
    for level in 0..MAX_LEVEL {
        threshold /= m as u64;
        if hash >= threshold {
            return level;
        }
    }
    MAX_LEVEL
}

/// Where a new row stands among the upper layers: for each layer, from the
/// highest, the nearest row that a greedy walk finds. The entry row is first.
/// In a flat graph, the row of the only layer where the greedy walk ends.
type Path = Vec<Neighbor>;

pub(super) fn find_links<M: RowMeasure>(job: Job<'_, M>, workers: &mut [Worker<M>]) -> Vec<Absorbed> {
    let batch = job.batch;
    assert_eq!(batch.absorb.len(), batch.ordinals.len());
    let count = batch.absorb.len();
    let draw = |ordinal: &u64| match job.options.layered {
        true => level(job.options.seed, *ordinal, job.options.upper),
        false => 0,
    };
    let levels: Vec<usize> = memory::collect(batch.ordinals.iter().map(draw));
    let paths = parallel_map(job.executor, count, workers, |at, worker| path(job, at, worker));
    let order = similar_together(&paths);
    let mut absorbed = parallel_map(job.executor, count, workers, |item, worker| {
        let at = order[item];
        let links = links(job, at, &levels, &paths[at], worker);
        let products = if job.executor.cancelled() { Vec::new() } else { products::find(job, at, worker) };
        (at, Absorbed { row: batch.absorb[at], links, products })
    });
    absorbed.sort_unstable_by_key(|(at, _)| *at);
    memory::collect(absorbed.into_iter().map(|(_, new)| new))
}

/// An order in which rows of one region follow each other: their searches read
/// the same vectors, which are still in the cache then.
fn similar_together(paths: &[Path]) -> Vec<usize> {
    let mut order: Vec<usize> = memory::collect(0..paths.len());
    let region = |at: usize| paths[at].iter().map(|near| near.row);
    order.sort_by(|a, b| region(*a).cmp(region(*b)));
    order
}

fn path<M: RowMeasure>(job: Job<'_, M>, at: usize, worker: &mut Worker<M>) -> Path {
    let Worker { scratch, query, .. } = worker;
    let query = job.measure.row_query(job.batch.absorb[at], query);
    let walk = Walk { graph: job.graph, measure: job.measure, query, products: false };
    let effort = &mut Effort::default();
    if !job.options.layered {
        return walk.descend_flat(scratch, effort).into_iter().collect();
    }
    let mut path: Path = walk.entry(effort).into_iter().collect();
    for layer in (1..=job.graph.entry.map_or(0, |entry| entry.level)).rev() {
        if let Some(start) = path.last() {
            path.push(walk.nearest_on(layer, *start, scratch, effort));
        }
    }
    path
}

fn links<M: RowMeasure>(
    job: Job<'_, M>,
    at: usize,
    levels: &[usize],
    path: &Path,
    worker: &mut Worker<M>,
) -> Vec<Vec<Neighbor>> {
    let mut links = vec![Vec::new(); levels[at] + 1];
    if job.executor.cancelled() {
        return links;
    }
    let Worker { scratch, selector, query, other } = worker;
    let row = job.batch.absorb[at];
    let query = job.measure.row_query(row, query);
    let walk = Walk { graph: job.graph, measure: job.measure, query, products: false };
    let top = job.graph.entry.map_or(0, |entry| entry.level);
    scratch.starts.clear();
    scratch.starts.extend(path.get(top.saturating_sub(levels[at])));
    for layer in (0..=levels[at]).rev() {
        scratch.candidates.clear();
        if layer <= top && job.graph.entry.is_some() {
            candidates(job, walk, (layer, row), scratch, other);
        }
        let mates = job.batch.absorb[..at].iter().zip(levels).filter(|(_, level)| **level >= layer);
        add_mates(job.measure, mates.map(|(row, _)| row), job.options.ef_construction, query, scratch);
        let candidates = &mut scratch.candidates;
        candidates.sort_unstable_by(Neighbor::order);
        thin(job, row, candidates, other);
        candidates.truncate(job.options.ef_construction);
        let chosen = selector.choose(job.measure, candidates, job.first_share(), |_| false);
        links[layer] = memory::copied(chosen);
    }
    links
}

/// Live rows of the frozen graph near the query, into `scratch.candidates`.
/// The rows found are where the search of the layer below starts.
fn candidates<M: RowMeasure>(
    job: Job<'_, M>,
    walk: Walk<'_, M>,
    (layer, row): (usize, Row),
    scratch: &mut Scratch,
    other: &mut M::Buffer,
) {
    let (limits, mut effort) = (Limits::building(job.options.ef_construction), Effort::default());
    walk.beam(layer, limits, scratch, &mut effort);
    look_around(job, walk, (layer, row), scratch, other);
    keep_live(job, walk, limits, if layer == 0 { job.options.first } else { 0 }, scratch);
    scratch.starts.clear();
    memory::extend(&mut scratch.starts, scratch.pool.iter());
}

/// The live rows that a walk of layer 0 or above left in `scratch.pool`, into `scratch.candidates`. Where these are
/// fewer than `least`, those of another walk on layer 0 that counts live rows only.
pub(super) fn keep_live<M: RowMeasure>(
    job: Job<'_, M>,
    walk: Walk<'_, M>,
    limits: Limits,
    least: usize,
    scratch: &mut Scratch,
) {
    let live = |row: Row| !job.is_dead(row);
    let Scratch { pool, candidates, .. } = scratch;
    memory::extend(candidates, pool.iter().filter(|near| live(near.row)));
    if candidates.len() < least.min(pool.len()) {
        walk.filtered_beam(limits, Ends::default(), live, scratch, &mut Effort::default());
        scratch.candidates.clear();
        memory::append(&mut scratch.candidates, scratch.admitted.sorted());
    }
}

/// Adds the earlier rows of the batch to the `most` candidates, which ascend, as far as they are
/// near enough: rows of one batch do not find each other in the frozen graph.
pub(super) fn add_mates<'a, M: RowMeasure>(
    measure: M,
    mates: impl IntoIterator<Item = &'a Row>,
    most: usize,
    query: &M::Query,
    scratch: &mut Scratch,
) {
    let Scratch { rows, candidates, .. } = scratch;
    let is_full = candidates.len() >= most;
    let bound = candidates.last().filter(|_| is_full).map_or(f32::INFINITY, |last| last.distance);
    rows.clear();
    memory::extend(rows, mates.into_iter().copied());
    add_near(measure, query, rows, bound, candidates);
}
