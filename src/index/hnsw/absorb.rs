//! Finding the links of new rows.

use super::beam::{Limits, Walk};
use super::graph::MAX_LEVEL;
use super::plan::{Job, Worker};
use crate::id::{Row, mix};
use crate::index::parallel::parallel_map;
use crate::index::{Effort, Scratch};
use crate::neighbor::Neighbor;
use crate::vector::BLOCK;

/// A new row and its links, layer by layer from 0, nearest first.
#[derive(Debug)]
pub(super) struct Absorbed {
    pub(super) row: Row,
    pub(super) links: Vec<Vec<Neighbor>>,
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

pub(super) fn find_links(job: Job<'_>, workers: &mut [Worker]) -> Vec<Absorbed> {
    let batch = job.batch;
    assert_eq!(batch.absorb.len(), batch.ordinals.len());
    let levels: Vec<usize> =
        batch.ordinals.iter().map(|ordinal| level(job.options.seed, *ordinal, job.options.m)).collect();
    let levels = levels.as_slice();
    parallel_map(job.executor, batch.absorb.len(), workers, |at, worker| Absorbed {
        row: batch.absorb[at],
        links: links(job, at, levels, worker),
    })
}

fn links(job: Job<'_>, at: usize, levels: &[usize], worker: &mut Worker) -> Vec<Vec<Neighbor>> {
    let mut links = vec![Vec::new(); levels[at] + 1];
    if job.executor.cancelled() {
        return links;
    }
    let row = job.batch.absorb[at];
    let mut query = std::mem::take(&mut worker.scratch.query);
    job.points.space.prepare_row(job.points.vectors, row, &mut query);
    let walk = Walk { graph: job.graph, points: job.points, query: &query };
    let top = job.graph.entry.map_or(0, |entry| entry.level);
    let start = walk.descend(levels[at], &mut worker.scratch, &mut Effort::default());
    worker.scratch.starts.clear();
    worker.scratch.starts.extend(start);
    for layer in (0..=levels[at]).rev() {
        worker.scratch.candidates.clear();
        if layer <= top && job.graph.entry.is_some() {
            candidates(job, walk, layer, &mut worker.scratch);
        }
        add_mates(job, at, levels, layer, &query, &mut worker.scratch);
        let candidates = &mut worker.scratch.candidates;
        candidates.sort_unstable_by(Neighbor::order);
        candidates.truncate(job.options.ef_construction);
        links[layer] = worker.selector.choose(job.points, candidates, job.options.m, |_| false).to_vec();
    }
    worker.scratch.query = query;
    links
}

/// Live rows of the frozen graph near the query, into `scratch.candidates`.
/// The rows found are where the search of the layer below starts.
fn candidates(job: Job<'_>, walk: Walk<'_>, layer: usize, scratch: &mut Scratch) {
    let (ef, mut effort) = (job.options.ef_construction, Effort::default());
    walk.beam(layer, ef, Limits::NONE, scratch, &mut effort);
    let Scratch { pool, candidates, .. } = scratch;
    candidates.extend(pool.iter().filter(|near| !job.is_dead(near.row)));
    if layer == 0 && candidates.len() < job.options.m.min(pool.len()) {
        let live = |row: Row| !job.is_dead(row);
        walk.filtered_beam(ef, Limits::NONE, &live, scratch, &mut effort);
        scratch.candidates.clear();
        scratch.candidates.extend(scratch.admitted.sorted());
    }
    scratch.starts.clear();
    scratch.starts.extend(scratch.pool.iter());
}

/// Adds the earlier rows of the batch to the candidates, as far as they are
/// near enough: rows of one batch do not find each other in the frozen graph.
fn add_mates(job: Job<'_>, at: usize, levels: &[usize], layer: usize, query: &[f32], scratch: &mut Scratch) {
    let Scratch { rows, distances, candidates, .. } = scratch;
    let is_full = candidates.len() >= job.options.ef_construction;
    let bound = candidates.last().filter(|_| is_full).map_or(f32::INFINITY, |last| last.distance);
    rows.clear();
    let mates = job.batch.absorb[..at].iter().zip(levels);
    rows.extend(mates.filter(|(_, level)| **level >= layer).map(|(row, _)| *row));
    distances.resize(BLOCK, 0.0);
    for rows in rows.chunks(BLOCK) {
        job.points.space.distances(query, job.points.vectors, rows, bound, distances);
        let near = rows.iter().zip(distances.iter()).filter(|(_, distance)| **distance <= bound);
        candidates.extend(near.map(|(row, distance)| Neighbor { distance: *distance, row: *row }));
    }
}
