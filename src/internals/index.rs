//! One index over plain rows, without shards, tails and snapshots: what the
//! benchmarks compare with other graph libraries.

use std::sync::Arc;

use crate::id::{Row, mix};
use crate::index::{
    Batch, Coding, Effort, Ends, Executor, GraphOptions, Hnsw, HnswOptions, Index, IndexVersion, Points,
    QuantizedGraph, Request, Scratch, Task,
};
use crate::memory::Lined;
use crate::metric::Metric;
use crate::neighbor::TopK;
use crate::quant::{Bits, Shape};
use crate::vector::{Matrix, Space, VectorStorage};

/// Rows of the first batch; later ones hold a fiftieth of the rows before them.
const FIRST_BATCH: usize = 256;
const LARGEST_BATCH: usize = 1024;

/// How to build a [`BareIndex`].
#[derive(Clone, Copy, Debug)]
pub struct BareOptions {
    /// The metric.
    pub metric: Metric,
    /// Links on the upper layers; twice as many on layer 0. 0: a quantized graph.
    pub m: usize,
    /// Bits and 64-byte lines of the codes of a quantized graph; none: measured.
    pub code: Option<(usize, usize)>,
    /// Candidates for the links of a row.
    pub ef_construction: usize,
    /// Threads that build.
    pub threads: usize,
}

/// What the searches since the last question did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Graph nodes whose neighbours were looked at.
    pub hops: u64,
    /// Distances computed.
    pub distances: u64,
}

/// A graph over rows that never change.
pub struct BareIndex {
    space: Space,
    matrix: Matrix,
    version: Arc<dyn IndexVersion>,
    bytes: usize,
    scratch: Scratch,
    found: TopK,
    query: Lined<f32>,
    work: Effort,
}

impl std::fmt::Debug for BareIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BareIndex").field("rows", &self.version.len()).finish_non_exhaustive()
    }
}

/// Threads that live for one call.
pub(super) struct Scoped(pub(super) usize);

impl Executor for Scoped {
    fn width(&self) -> usize {
        self.0
    }

    fn run<'a>(&self, tasks: Vec<Task<'a>>) {
        std::thread::scope(|scope| {
            let mut tasks = tasks.into_iter();
            let own = tasks.next();
            for task in tasks {
                scope.spawn(task);
            }
            if let Some(task) = own {
                task();
            }
        });
    }
}

/// The rows in a matrix; `None` when one cannot be used or memory runs out.
pub(super) fn filled(space: &Space, rows: &[f32]) -> Option<Matrix> {
    let mut matrix = Matrix::new(space.dim(), VectorStorage::Lossless, space.metric());
    for (row, vector) in rows.chunks_exact(space.dim()).enumerate() {
        let scale = space.check(vector).ok()?;
        matrix.reserve(row as Row).ok()?;
        // SAFETY: no other thread knows the matrix yet.
        unsafe { matrix.write(row as Row, vector, scale) }.ok()?;
    }
    Some(matrix)
}

impl BareIndex {
    /// Builds over `rows`, one after the other; `None` when a row cannot be
    /// used or memory runs out.
    #[must_use]
    pub fn build(rows: &[f32], dim: usize, options: BareOptions) -> Option<BareIndex> {
        let space = Space::new(options.metric, dim);
        let matrix = filled(&space, rows)?;
        let BareOptions { m, ef_construction, threads, .. } = options;
        let shape = |(bits, lines)| Shape { bits: if bits == 7 { Bits::Seven } else { Bits::Four }, lines };
        let coding = options.code.map_or(Coding::Measured, |code| Coding::Fixed(shape(code)));
        let products = options.metric == Metric::Dot;
        let mut index: Box<dyn Index> = match m {
            0 => Box::new(QuantizedGraph::new(GraphOptions {
                degree: 64,
                ef_construction,
                products,
                coding,
                seed: 1,
            })),
            _ => Box::new(Hnsw::new(HnswOptions {
                m,
                ef_construction,
                products,
                seed: 1,
                copies: None,
                oversample: 1,
            })),
        };
        let count = rows.len() / dim;
        let mut next = 0;
        while next < count {
            let size = if next == 0 { FIRST_BATCH } else { (next / 50).clamp(1, LARGEST_BATCH) };
            let end = count.min(next + size);
            let absorb: Vec<Row> = (next as Row..end as Row).collect();
            let ordinals: Vec<u64> = (next as u64..end as u64).collect();
            let points = Points { space: &space, vectors: matrix.view() };
            let plan = index.version().plan(points, &Batch::of(&absorb, &ordinals), &Scoped(threads));
            index.commit(plan);
            next = end;
        }
        let order = Batch { optimize: true, ..Batch::of(&[], &[]) };
        let points = Points { space: &space, vectors: matrix.view() };
        let plan = index.version().plan(points, &order, &Scoped(threads));
        index.commit(plan);
        Some(BareIndex {
            space,
            matrix,
            version: index.version(),
            bytes: index.bytes(),
            scratch: Scratch::default(),
            found: TopK::default(),
            query: Lined::default(),
            work: Effort::default(),
        })
    }

    /// Puts the rows near a query into `rows`, nearest first; false when the
    /// query cannot be used.
    pub fn search(&mut self, query: &[f32], k: usize, ef: usize, rows: &mut Vec<u32>) -> bool {
        rows.clear();
        let found = self.search_within(query, k, ef, f32::INFINITY);
        rows.extend(self.found.sorted().iter().map(|near| near.row));
        found
    }

    /// Like `search`, with a distance beyond which rows are of no use; shows
    /// each row with its distance.
    pub fn search_sharded(
        &mut self,
        query: &[f32],
        k: usize,
        ef: usize,
        bound: f32,
        mut show: impl FnMut(f32, u32),
    ) -> bool {
        let found = self.search_within(query, k, ef, bound);
        self.found.sorted().iter().for_each(|near| show(near.distance, near.row));
        found
    }

    fn search_within(&mut self, query: &[f32], k: usize, ef: usize, bound: f32) -> bool {
        self.found.reset(k);
        let Ok(scale) = self.space.check(query) else { return false };
        self.space.prepare(query, scale, &mut self.query);
        let request = Request {
            query: &self.query,
            k,
            ef,
            bound,
            admit: None,
            filter: None,
            shards: 1,
            ends: Ends::default(),
        };
        let points = Points { space: &self.space, vectors: self.matrix.view() };
        let effort = self.version.search(points, &request, &mut self.scratch, &mut self.found);
        self.work.distances += effort.distances;
        self.work.hops += effort.hops;
        true
    }

    /// What the searches did since this was last asked.
    pub fn take_work(&mut self) -> Work {
        let Effort { distances, hops } = std::mem::take(&mut self.work);
        Work { hops, distances }
    }

    /// Defects of the graph.
    #[must_use]
    pub fn defects(&self) -> usize {
        self.version.audit(&mut (0..self.version.len() as Row)).len()
    }

    /// A number that names the graph.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.version.digest()
    }

    /// Bytes of the graph alone.
    #[must_use]
    pub fn graph_bytes(&self) -> usize {
        self.bytes
    }
}

/// `count` rows around cluster centres: the stand-in when there is no data set.
#[must_use]
pub fn clustered_rows(count: usize, dim: usize, clusters: u64, seed: u64) -> Vec<f32> {
    let unit = |key: u64| (mix(key) >> 40) as f32 / (1 << 24) as f32 - 0.5;
    let mut rows = Vec::with_capacity(count * dim);
    for row in 0..count as u64 {
        let own = mix(seed ^ (row << 20));
        for axis in 0..dim as u64 {
            rows.push(unit(mix((own % clusters) << 8) ^ axis) * 2.0 + unit(own ^ (axis << 1) ^ 1));
        }
    }
    rows
}
