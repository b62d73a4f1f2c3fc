//! Walking the graph: greedy descent and beam search.
//!
//! The search of Malkov & Yashunin (HNSW, TPAMI 2020), algorithms 2 and 5,
//! with the candidate list of [`Pool`](crate::index::pool::Pool).

use super::graph::{Graph, TREE};
use super::limits::Limits;
use crate::id::Row;
use crate::index::cow::NONE;
use crate::index::measure::Measure;
use crate::index::{Effort, Ends, Scratch};
use crate::kernel::{Arch, ArchJob, prefetch};
use crate::memory;
use crate::neighbor::Neighbor;
use crate::vector::BLOCK;

/// One walk: where, and from whose point of view.
pub(in crate::index) struct Walk<'a, M: Measure> {
    pub(in crate::index) graph: &'a Graph,
    pub(in crate::index) measure: M,
    pub(in crate::index) query: &'a M::Query,
    /// Whether links by inner product are walked, too.
    pub(in crate::index) products: bool,
}

/// What a beam search does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::index) enum Step {
    /// Collect the links of a row.
    Gather(Row),
    /// Measure what was collected.
    Measure,
    End,
}

impl<M: Measure> Clone for Walk<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: Measure> Copy for Walk<'_, M> {}

/// A whole beam search, to be compiled for an instruction set.
struct Beam<'a, 'b, M: Measure> {
    walk: &'a Walk<'b, M>,
    layer: usize,
    limits: Limits,
    scratch: &'a mut Scratch,
    effort: &'a mut Effort,
}

impl<M: Measure> ArchJob for Beam<'_, '_, M> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self, _arch: A) {
        let Beam { walk, layer, limits, scratch, effort } = self;
        let mut step = walk.set_out(limits, scratch);
        while step != Step::End {
            step = walk.advance(layer, step, limits, scratch, effort);
        }
    }
}

/// A greedy walk, to be compiled for an instruction set.
struct Descent<'a, 'b, M: Measure> {
    walk: &'a Walk<'b, M>,
    scratch: &'a mut Scratch,
    effort: &'a mut Effort,
}

impl<M: Measure> ArchJob for Descent<'_, '_, M> {
    type Output = Option<Neighbor>;

    #[inline(always)]
    fn run<A: Arch>(self, _arch: A) -> Option<Neighbor> {
        self.walk.descend_from_starts(self.scratch, self.effort)
    }
}

impl<M: Measure> Walk<'_, M> {
    #[inline(always)]
    fn distance(&self, row: Row) -> f32 {
        self.measure.distance(self.query, row)
    }

    /// Puts the start of a search of layer 0 into `scratch.starts`.
    #[inline(always)]
    pub(in crate::index) fn find_starts(&self, scratch: &mut Scratch, effort: &mut Effort) {
        scratch.starts.clear();
        let nearest = self.descend(0, scratch, effort);
        memory::extend(&mut scratch.starts, nearest);
        let Scratch { rows, distances, starts, estimates, .. } = scratch;
        rows.clear();
        memory::extend(rows, self.graph.starts.longest());
        if !self.measure.entry_points(self.query, estimates, |row| memory::push(rows, row)) {
            memory::extend(rows, self.graph.starts.scattered());
        }
        memory::reserve(starts, rows.len());
        self.show_within(rows, distances, f32::INFINITY, effort, |near| starts.push(near));
    }

    /// Walks from the entry row to ever nearer rows on the layers above
    /// `target`; gives the nearest row found there.
    fn descend(&self, target: usize, scratch: &mut Scratch, effort: &mut Effort) -> Option<Neighbor> {
        let entry = self.graph.entry?;
        let start = self.entry(effort)?;
        let layers = (target + 1..=entry.level).rev();
        Some(layers.fold(start, |best, layer| self.nearest_on(layer, best, scratch, effort)))
    }

    /// Walks greedily from the nearest of all starts of a flat graph.
    pub(super) fn descend_flat(&self, scratch: &mut Scratch, effort: &mut Effort) -> Option<Neighbor> {
        self.measure.arch().run(Descent { walk: self, scratch, effort })
    }

    #[inline(always)]
    fn descend_from_starts(&self, scratch: &mut Scratch, effort: &mut Effort) -> Option<Neighbor> {
        self.find_starts(scratch, effort);
        let nearest = scratch.starts.iter().copied().min_by(Neighbor::order)?;
        Some(self.nearest_on(0, nearest, scratch, effort))
    }

    /// The entry row with its distance.
    pub(super) fn entry(&self, effort: &mut Effort) -> Option<Neighbor> {
        effort.distances += 1;
        self.graph.entry.map(|entry| Neighbor { distance: self.distance(entry.row), row: entry.row })
    }

    /// Walks to ever nearer rows of one layer.
    #[inline(always)]
    pub(super) fn nearest_on(
        &self,
        layer: usize,
        start: Neighbor,
        scratch: &mut Scratch,
        effort: &mut Effort,
    ) -> Neighbor {
        let mut best = start;
        while let Some(nearer) = self.nearest_link(layer, best, scratch, effort) {
            best = nearer;
        }
        best
    }

    /// The nearest link of a row that is nearer than the row itself.
    #[inline(always)]
    fn nearest_link(
        &self,
        layer: usize,
        from: Neighbor,
        scratch: &mut Scratch,
        effort: &mut Effort,
    ) -> Option<Neighbor> {
        let Scratch { rows, distances, .. } = scratch;
        rows.clear();
        let block = if layer == 0 { &self.graph.base } else { &self.graph.upper };
        memory::reserve(rows, block.stride());
        rows.extend(self.graph.links(layer, from.row));
        effort.hops += 1;
        let mut best = from;
        self.show_within(rows, distances, from.distance, effort, |near| {
            if near.distance < best.distance {
                best = near;
            }
        });
        (best.row != from.row).then_some(best)
    }

    /// Computes the distances of `rows` and shows those within `bound`.
    #[inline(always)]
    fn show_within(
        &self,
        rows: &[Row],
        distances: &mut Vec<f32>,
        bound: f32,
        effort: &mut Effort,
        mut show: impl FnMut(Neighbor),
    ) {
        effort.distances += rows.len() as u64;
        memory::resize(distances, BLOCK, 0.0);
        for rows in rows.chunks(BLOCK) {
            self.measure.distances(self.query, rows, bound, distances);
            for (row, distance) in rows.iter().zip(distances.iter()) {
                if *distance <= bound {
                    show(Neighbor { distance: *distance, row: *row });
                }
            }
        }
    }

    /// Beam search on a layer from `scratch.starts`: the nearest `limits.ef` rows
    /// are walked through, and more while fewer than `limits.k` were met. Afterwards `scratch.pool` holds the nearest rows
    /// that were met, as many as the limits keep.
    pub(super) fn beam(&self, layer: usize, limits: Limits, scratch: &mut Scratch, effort: &mut Effort) {
        self.measure.arch().run(Beam { walk: self, layer, limits, scratch, effort });
    }

    /// Begins a beam search on layer 0 or above from `scratch.starts`.
    #[inline(always)]
    pub(in crate::index) fn set_out(&self, limits: Limits, scratch: &mut Scratch) -> Step {
        self.start(limits.cap(), scratch);
        memory::resize(&mut scratch.distances, BLOCK, 0.0);
        self.next(limits, scratch)
    }

    /// Does one step of a beam search and asks the processor for what the next
    /// step will read: other work may be done meanwhile.
    #[inline(always)]
    pub(in crate::index) fn advance(
        &self,
        layer: usize,
        step: Step,
        limits: Limits,
        scratch: &mut Scratch,
        effort: &mut Effort,
    ) -> Step {
        match step {
            Step::Gather(row) => {
                self.gather(layer, row, scratch, effort);
                for row in scratch.visited.fresh() {
                    self.measure.prefetch(*row);
                }
                Step::Measure
            }
            Step::Measure => {
                let Scratch { visited, distances, pool, .. } = scratch;
                let rows = visited.fresh();
                effort.distances += rows.len() as u64;
                for rows in rows.chunks(BLOCK) {
                    self.measure.distances(self.query, rows, pool.bound(), distances);
                    pool.insert_all(self.measure.arch(), rows, distances);
                }
                limits.trim(pool);
                self.next(limits, scratch)
            }
            Step::End => Step::End,
        }
    }

    /// The next row to walk through; its links are asked for.
    #[inline(always)]
    fn next(&self, limits: Limits, scratch: &mut Scratch) -> Step {
        let Some(nearest) = scratch.pool.expand_next() else { return Step::End };
        let pool = &scratch.pool;
        let (nearer, kth) = (pool.expanded(), pool.distance_at(limits.k));
        if pool.len() >= limits.k
            && limits.suffice(nearer, nearest.distance, kth)
            && !(limits.exhausts && nearest.distance <= limits.bound)
        {
            return Step::End;
        }
        if nearest.distance > limits.bound {
            let useful = pool.within(limits.bound);
            if limits.are_reached_at(useful, nearer, nearest.distance, kth) {
                return Step::End;
            }
        }
        self.prefetch_links(nearest.row);
        Step::Gather(nearest.row)
    }

    /// Beam search on layer 0 that counts only admitted rows: others are
    /// walked through. Afterwards `scratch.admitted` holds the `limits.kept` nearest
    /// admitted rows that were met. False when it gave up: rows that are
    /// admitted are so rare that looking at each of them costs less.
    #[inline(always)]
    pub(in crate::index) fn filtered_beam(
        &self,
        limits: Limits,
        ends: Ends<'_>,
        admit: impl Fn(Row) -> bool,
        scratch: &mut Scratch,
        effort: &mut Effort,
    ) -> bool {
        self.start(usize::MAX, scratch);
        scratch.admitted.reset(limits.kept);
        memory::resize(&mut scratch.distances, BLOCK, 0.0);
        for start in scratch.pool.iter().filter(|start| admit(start.row)) {
            scratch.admitted.offer(start);
        }
        let waiting = limits.waiting(self.graph.held.len());
        while let Some(nearest) = scratch.pool.expand_next() {
            if ends.are_due(effort.distances) {
                break;
            }
            if nearest.distance > limits.bound {
                let admitted = &scratch.admitted;
                let (useful, nearer) = (admitted.within(limits.bound), admitted.within(nearest.distance));
                if limits.are_reached(useful, nearer) {
                    break;
                }
            }
            self.gather(0, nearest.row, scratch, effort);
            let Scratch { visited, distances, pool, admitted, .. } = scratch;
            // All are asked for before the first is read.
            visited.fresh().iter().for_each(|row| self.measure.prefetch(*row));
            effort.distances += visited.fresh().len() as u64;
            for rows in visited.fresh().chunks(BLOCK) {
                self.measure.distances(self.query, rows, admitted.bound(), distances);
                for (row, distance) in rows.iter().zip(distances.iter()) {
                    if *distance <= admitted.bound() && admit(*row) {
                        admitted.offer(Neighbor { distance: *distance, row: *row });
                    }
                }
                pool.insert_within(self.measure.arch(), rows, distances, admitted.bound());
            }
            pool.truncate_beyond(admitted.bound());
            if pool.len() > waiting {
                return false;
            }
        }
        true
    }

    #[inline(always)]
    pub(super) fn start(&self, cap: usize, scratch: &mut Scratch) {
        let Scratch { pool, visited, starts, rows, distances, .. } = scratch;
        pool.reset(cap);
        visited.reset(self.graph.row_limit());
        rows.clear();
        distances.clear();
        memory::reserve(rows, starts.len());
        memory::reserve(distances, starts.len());
        for start in starts.iter().filter(|start| visited.insert(start.row)) {
            rows.push(start.row);
            distances.push(start.distance);
        }
        pool.insert_all(self.measure.arch(), rows, distances);
    }

    /// Collects the links of a row that were not met before.
    #[inline(always)]
    pub(super) fn gather(&self, layer: usize, row: Row, scratch: &mut Scratch, effort: &mut Effort) {
        effort.hops += 1;
        let Scratch { visited, pool, .. } = scratch;
        let links = self.graph.list(layer, row);
        // Links stand before what is empty.
        let count = links.iter().filter(|link| **link != NONE).count();
        visited.extend(&links[..count], !TREE);
        if layer > 0 {
            return;
        }
        if self.products {
            let links = self.graph.products.words_of(row);
            let count = links.iter().filter(|link| **link != NONE).count();
            visited.extend_more(&links[..count]);
        }
        if let Some(next) = pool.peek() {
            self.prefetch_links(next);
        }
    }

    /// Asks the processor for the links of a row on layer 0.
    #[inline(always)]
    fn prefetch_links(&self, row: Row) {
        prefetch(self.graph.base.words_of(row));
        if self.products {
            prefetch(self.graph.products.words_of(row));
        }
    }
}
