//! The exact index beside a plain scan of the same rows.

use std::sync::Arc;

use super::index::{Scoped, filled};
use crate::id::Row;
use crate::index::{Batch, Ends, Flat, Index, IndexVersion, Points, Request, Scratch};
use crate::memory::Lined;
use crate::metric::Metric;
use crate::neighbor::{Neighbor, TopK};
use crate::vector::{BLOCK, Matrix, Space};

/// An exact index over rows that never change.
pub struct ExactIndex {
    space: Space,
    matrix: Matrix,
    version: Arc<dyn IndexVersion>,
    bytes: usize,
    rows: u32,
    scratch: Scratch,
    found: TopK,
    query: Lined<f32>,
}

impl std::fmt::Debug for ExactIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExactIndex").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl ExactIndex {
    /// Takes in `rows`, one after the other, in one batch; `None` when a row
    /// cannot be used or memory runs out.
    #[must_use]
    pub fn build(rows: &[f32], dim: usize, metric: Metric, threads: usize) -> Option<ExactIndex> {
        let space = Space::new(metric, dim);
        let matrix = filled(&space, rows)?;
        let count = (rows.len() / dim) as u32;
        let absorb: Vec<Row> = (0..count).collect();
        let ordinals: Vec<u64> = (0..u64::from(count)).collect();
        let mut index = Flat::default();
        let points = Points { space: &space, vectors: matrix.view() };
        let plan = index.version().plan(points, &Batch::of(&absorb, &ordinals), &Scoped(threads));
        index.commit(plan);
        Some(ExactIndex {
            space,
            matrix,
            version: index.version(),
            bytes: index.bytes(),
            rows: count,
            scratch: Scratch::default(),
            found: TopK::default(),
            query: Lined::default(),
        })
    }

    /// Bytes beside the vectors.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Shows the k nearest rows and gives the number of distances computed;
    /// 0 when the query cannot be used.
    pub fn search(&mut self, query: &[f32], k: usize, show: impl FnMut(f32, u32)) -> u64 {
        if !self.prepare(query, k) {
            return 0;
        }
        let request = Request {
            query: &self.query,
            k,
            ef: 0,
            bound: f32::INFINITY,
            admit: None,
            filter: None,
            shards: 1,
            ends: Ends::default(),
        };
        let points = Points { space: &self.space, vectors: self.matrix.view() };
        let effort = self.version.search(points, &request, &mut self.scratch, &mut self.found);
        self.show(show);
        effort.distances
    }

    /// The same, and every row is measured.
    pub fn scan(&mut self, query: &[f32], k: usize, show: impl FnMut(f32, u32)) -> u64 {
        if !self.prepare(query, k) {
            return 0;
        }
        let (mut rows, mut distances) = ([0; BLOCK], [0.0; BLOCK]);
        for first in (0..self.rows).step_by(BLOCK) {
            let count = BLOCK.min((self.rows - first) as usize);
            rows.iter_mut().zip(first..).for_each(|(slot, row)| *slot = row);
            let bound = self.found.bound();
            self.space.distances(&self.query, self.matrix.view(), &rows[..count], bound, &mut distances);
            for (row, distance) in rows[..count].iter().zip(distances) {
                if distance <= bound {
                    self.found.offer(Neighbor { distance, row: *row });
                }
            }
        }
        self.show(show);
        u64::from(self.rows)
    }

    fn prepare(&mut self, query: &[f32], k: usize) -> bool {
        self.found.reset(k);
        let Ok(scale) = self.space.check(query) else { return false };
        self.space.prepare(query, scale, &mut self.query);
        true
    }

    fn show(&mut self, mut show: impl FnMut(f32, u32)) {
        self.found.sorted().iter().for_each(|near| show(near.distance, near.row));
    }
}
