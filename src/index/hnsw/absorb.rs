//! Finding the links of new rows.

use super::beam::{Limits, Walk};
use super::graph::MAX_LEVEL;
use super::plan::{Job, Worker};
use crate::id::{Row, mix};
use crate::index::parallel::parallel_map;
use crate::index::{Effort, Points, Scratch};
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
    let mates = mates(job, at, &query, &mut worker.scratch);
    let start = walk.descend(levels[at], &mut worker.scratch, &mut Effort::default());
    worker.scratch.starts.clear();
    worker.scratch.starts.extend(start);
    for layer in (0..=levels[at]).rev() {
        worker.scratch.candidates.clear();
        if layer <= top && job.graph.entry.is_some() {
            candidates(job, walk, layer, &mut worker.scratch);
        }
        let reached = mates.iter().zip(levels).filter(|(_, level)| **level >= layer).map(|(mate, _)| *mate);
        let candidates = &mut worker.scratch.candidates;
        candidates.extend(reached.filter(|mate| mate.distance.is_finite()));
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

/// The earlier rows of the batch, in their order, with their distances.
fn mates(job: Job<'_>, at: usize, query: &[f32], scratch: &mut Scratch) -> Vec<Neighbor> {
    let mut mates = Vec::with_capacity(at);
    measure_all(job.points, query, &job.batch.absorb[..at], &mut scratch.distances, &mut mates);
    mates
}

fn measure_all(
    points: Points<'_>,
    query: &[f32],
    rows: &[Row],
    distances: &mut Vec<f32>,
    all: &mut Vec<Neighbor>,
) {
    distances.resize(BLOCK, 0.0);
    for rows in rows.chunks(BLOCK) {
        points.space.distances(query, points.vectors, rows, f32::INFINITY, distances);
        all.extend(
            rows.iter()
                .zip(distances.iter())
                .map(|(row, distance)| Neighbor { distance: *distance, row: *row }),
        );
    }
}
