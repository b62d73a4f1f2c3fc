//! Candidates beside a crowd of equal rows.
//!
//! A few hundred equal rows that are nearer to a new row than most others fill
//! all places of its walk, which ends among them. Then a second walk goes by some
//! of them only, and meets the rows around.

use super::beam::Walk;
use super::limits::Limits;
use super::plan::Job;
use crate::id::{Row, mix};
use crate::index::measure::{Measure, RowMeasure, add_near};
use crate::index::{Effort, Scratch};
use crate::kernel::{Arch, ArchJob};
use crate::memory;
use crate::neighbor::Neighbor;
use crate::vector::BLOCK;

/// One in so many candidates may be of one crowd: more than any list has links to it.
const SHARE: usize = 8;

/// A second walk is made when one in so many candidates is too much of a crowd.
const CROWDED: usize = 4;

/// Rows of one crowd that are candidates at most.
fn most(ef: usize) -> usize {
    (ef / SHARE).max(1)
}

/// Drops rows of crowds from `candidates`, which ascend. Which ones stay differs
/// from row to row, so that links to a crowd, and the ways out of it, are spread.
/// Rows of one distance are a crowd when they are as far from the first of them as
/// that is from itself. Gives the number that was dropped.
pub(super) fn thin<M: RowMeasure>(
    job: Job<'_, M>,
    row: Row,
    candidates: &mut Vec<Neighbor>,
    buffer: &mut M::Buffer,
) -> usize {
    let most = most(job.options.ef_construction);
    let is_long = |pair: &[Neighbor]| pair.first().map(|a| a.distance) == pair.last().map(|b| b.distance);
    if !candidates.windows(most + 1).any(is_long) {
        return 0;
    }
    let mut kept: Vec<Neighbor> = memory::list(candidates.len());
    for run in candidates.chunk_by(|a, b| a.distance == b.distance) {
        if run.len() <= most || !are_equal(job, run, buffer) {
            kept.extend_from_slice(run);
            continue;
        }
        let turn = mix(job.options.seed ^ mix(u64::from(row))) % run.len() as u64;
        let (before, from) = run.split_at(turn as usize);
        let turned = || from.iter().chain(before).copied();
        let live = turned().filter(|near| !job.is_dead(near.row));
        kept.extend(live.chain(turned().filter(|near| job.is_dead(near.row))).take(most));
    }
    let dropped = candidates.len() - kept.len();
    *candidates = kept;
    dropped
}

/// Whether rows are as far from the first of them as that is from itself.
fn are_equal<M: RowMeasure>(job: Job<'_, M>, run: &[Neighbor], buffer: &mut M::Buffer) -> bool {
    let Some(first) = run.first() else { return true };
    let rows: Vec<Row> = memory::collect(run.iter().map(|near| near.row));
    let query = job.measure.row_query(first.row, buffer);
    let own = job.measure.distance(query, first.row);
    let mut near = Vec::new();
    add_near(job.measure, query, &rows, own, &mut near);
    near.len() == rows.len()
}

/// Leaves in `scratch.pool` candidates around the crowds that fill it, if any do.
pub(super) fn look_around<M: RowMeasure>(
    job: Job<'_, M>,
    walk: Walk<'_, M>,
    (layer, row): (usize, Row),
    scratch: &mut Scratch,
    buffer: &mut M::Buffer,
) {
    let ef = job.options.ef_construction;
    let mut met: Vec<Neighbor> = memory::collect(scratch.pool.iter());
    if thin(job, row, &mut met, buffer) * CROWDED < ef {
        return;
    }
    memory::extend(&mut scratch.starts, met);
    if !job.options.layered {
        let rows: Vec<Row> = memory::collect(job.graph.starts.scattered());
        add_near(job.measure, walk.query, &rows, f32::INFINITY, &mut scratch.starts);
    }
    let limits = Limits::building(ef);
    job.measure.arch().run(Around { walk: &walk, layer, limits, most: most(ef), scratch });
}

/// A walk that takes in only `most` rows of any one distance, to be compiled for
/// an instruction set.
struct Around<'a, 'b, M: Measure> {
    walk: &'a Walk<'b, M>,
    layer: usize,
    limits: Limits,
    most: usize,
    scratch: &'a mut Scratch,
}

impl<M: Measure> ArchJob for Around<'_, '_, M> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self, arch: A) {
        let Around { walk, layer, limits, most, scratch } = self;
        walk.start(limits.cap(), scratch);
        memory::resize(&mut scratch.distances, BLOCK, 0.0);
        while let Some(nearest) = scratch.pool.expand_next() {
            if limits.are_reached(0, scratch.pool.expanded()) {
                break;
            }
            walk.gather(layer, nearest.row, scratch, &mut Effort::default());
            let Scratch { visited, distances, pool, .. } = &mut *scratch;
            for rows in visited.fresh().chunks(BLOCK) {
                walk.measure.distances(walk.query, rows, pool.bound(), distances);
                for (row, distance) in rows.iter().zip(distances.iter()) {
                    if pool.count_at(*distance) < most {
                        pool.insert_all(arch, &[*row], &[*distance]);
                    }
                }
            }
        }
    }
}
