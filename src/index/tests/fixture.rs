//! An index with its vectors, driven as a shard drives it.

use std::collections::{BTreeSet, HashSet};

use crate::id::{Row, mix};
use crate::index::flat::Flat;
use crate::index::graph::{Coding, GraphOptions, QuantizedGraph};
use crate::index::hnsw::{Hnsw, HnswOptions};
use crate::index::ivf::{Ivf, IvfOptions, ListStorage};
use crate::index::{
    Batch, Copying, Effort, Ends, Executor, Index, IndexVersion, Points, Request, Scratch, Task,
};
use crate::memory::Lined;
use crate::metric::Metric;
use crate::neighbor::{Neighbor, TopK};
use crate::quant::{Bits, ProductShape, Shape, SingleShape};
use crate::vector::{Matrix, Rounded, Space, VectorStorage};

pub(super) const METRICS: [Metric; 3] = [Metric::L2, Metric::Cosine, Metric::Dot];

/// An index that may miss rows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Hnsw,
    /// Walked by copies.
    HnswOf(fn(usize) -> Copying),
    Graph(Coding),
    Lists(ListKind),
}

/// Lists of vectors of any dimension.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListKind {
    pub(super) nlist: Option<usize>,
    storage: fn(usize) -> ListStorage,
    residual: bool,
}

impl ListKind {
    pub(super) fn options(self, dim: usize) -> IvfOptions {
        let ListKind { nlist, storage, residual } = self;
        let storage = storage(dim);
        // A bit a number says little of few numbers.
        let oversample = if matches!(storage, ListStorage::Signs { .. }) { 40 } else { 10 };
        IvfOptions { nlist, storage, residual, oversample: Some(oversample), seed: 7 }
    }
}

/// Codes of two numbers a part, whatever the dimension.
fn cut(dim: usize, bits_per_code: usize) -> ProductShape {
    ProductShape { num_subquantizers: dim.div_ceil(2), bits_per_code }
}

fn product(dim: usize, bits_per_code: usize) -> ListStorage {
    ListStorage::Product(cut(dim, bits_per_code))
}

impl Kind {
    pub(super) const SEVEN: Kind = Kind::coded(Bits::Seven, 1);
    pub(super) const FOUR: Kind = Kind::coded(Bits::Four, 1);
    pub(super) const FOUR_TWICE: Kind = Kind::coded(Bits::Four, 2);
    pub(super) const GRAPHS: [Kind; 4] =
        [Kind::Graph(Coding::Measured), Kind::SEVEN, Kind::FOUR, Kind::FOUR_TWICE];

    pub(super) const HNSW_HALF: Kind = Kind::HnswOf(|dim| Copying::Rounded(Rounded::half(dim)));
    pub(super) const HNSW_BYTES: Kind = Kind::HnswOf(|dim| Copying::Rounded(Rounded::bytes(dim)));
    pub(super) const HNSW_SIGNS: Kind = Kind::HnswOf(|dim| Copying::Codes(SingleShape::Signs { dim }));
    pub(super) const HNSW_PQ: Kind = Kind::HnswOf(|dim| Copying::Codes(SingleShape::Product(cut(dim, 4))));
    pub(super) const HNSW_PQ_BYTES: Kind =
        Kind::HnswOf(|dim| Copying::Codes(SingleShape::Product(cut(dim, 8))));

    pub(super) const IVF: Kind = Kind::lists(None, |_| ListStorage::Vectors, false);
    pub(super) const IVF_PQ: Kind = Kind::lists(None, |dim| product(dim, 4), true);
    pub(super) const IVF_PQ_PLAIN: Kind = Kind::lists(Some(20), |dim| product(dim, 4), false);
    pub(super) const IVF_PQ_BYTES: Kind = Kind::lists(None, |dim| product(dim, 8), true);
    pub(super) const PQ: Kind = Kind::lists(Some(1), |dim| product(dim, 4), false);
    pub(super) const IVF_SQ8: Kind = Kind::lists(None, |dim| ListStorage::Rounded(Rounded::bytes(dim)), true);
    pub(super) const IVF_F16: Kind = Kind::lists(None, |dim| ListStorage::Rounded(Rounded::half(dim)), true);
    pub(super) const IVF_SIGNS: Kind = Kind::lists(None, |dim| ListStorage::Signs { dim }, true);
    pub(super) const SQ8: Kind = Kind::lists(Some(1), |dim| ListStorage::Rounded(Rounded::bytes(dim)), false);
    pub(super) const F16: Kind = Kind::lists(Some(1), |dim| ListStorage::Rounded(Rounded::half(dim)), false);
    pub(super) const SIGNS: Kind = Kind::lists(Some(1), |dim| ListStorage::Signs { dim }, false);

    const fn lists(nlist: Option<usize>, storage: fn(usize) -> ListStorage, residual: bool) -> Kind {
        Kind::Lists(ListKind { nlist, storage, residual })
    }

    const fn coded(bits: Bits, lines: usize) -> Kind {
        Kind::Graph(Coding::Fixed(Shape { bits, lines }))
    }

    /// An empty index.
    pub(super) fn index(self, dim: usize, metric: Metric) -> Box<dyn Index> {
        let options = HnswOptions { products: metric == Metric::Dot, ..OPTIONS };
        let HnswOptions { ef_construction, products, seed, .. } = options;
        match self {
            Kind::Hnsw => Box::new(Hnsw::new(options)),
            Kind::HnswOf(copies) => {
                let copies = copies(dim);
                let oversample = match copies {
                    Copying::Rounded(_) => 1,
                    Copying::Codes(SingleShape::Product(_)) => 10,
                    Copying::Codes(SingleShape::Signs { .. }) => 40,
                };
                Box::new(Hnsw::new(HnswOptions { copies: Some(copies), oversample, ..options }))
            }
            Kind::Graph(coding) => Box::new(QuantizedGraph::new(GraphOptions {
                degree: 32,
                ef_construction,
                products,
                coding,
                seed,
            })),
            Kind::Lists(kind) => Box::new(Ivf::new(kind.options(dim))),
        }
    }

    /// How much recall codes may cost: coarse ones err more.
    pub(super) fn tolerance(self) -> f64 {
        match self {
            Kind::Graph(Coding::Fixed(Shape { bits: Bits::Four, .. })) => 0.025,
            Kind::Lists(kind) => match kind.options(1).storage {
                ListStorage::Product(_) if !kind.residual => 0.08,
                ListStorage::Signs { .. } => 0.08,
                _ => 0.0,
            },
            Kind::HnswOf(copies) => match copies(1) {
                Copying::Rounded(_) => 0.0,
                Copying::Codes(SingleShape::Product(_)) => 0.08,
                Copying::Codes(SingleShape::Signs { .. }) => 0.16,
            },
            _ => 0.0,
        }
    }

    /// Whether anything in it is trained on rows.
    pub(super) fn is_trained(self) -> bool {
        match self {
            Kind::Hnsw => false,
            Kind::HnswOf(copies) => matches!(copies(1), Copying::Codes(_)),
            Kind::Graph(_) | Kind::Lists(_) => true,
        }
    }

    /// A part of the bytes that may come and go: the last blocks of short lists
    /// are more or less full.
    pub(super) fn slack(self) -> usize {
        if matches!(self, Kind::Lists(_)) { 4 } else { 20 }
    }
}

/// A search without bound, filter or end.
pub(super) fn unlimited(query: &[f32], k: usize, ef: usize) -> Request<'_> {
    let (bound, ends) = (f32::INFINITY, Ends::default());
    Request { query, k, ef, bound, admit: None, filter: None, shards: 1, ends }
}

/// Runs functions of a [`Kind`] as tests of every kind.
macro_rules! on_every_kind {
    ($($test:ident),+ $(,)?) => {
        mod hnsw {
            $(#[test] fn $test() { super::$test(super::Kind::Hnsw); })+
        }
        mod hnsw_of_halves {
            $(#[test] fn $test() { super::$test(super::Kind::HNSW_HALF); })+
        }
        mod hnsw_of_bytes {
            $(#[test] fn $test() { super::$test(super::Kind::HNSW_BYTES); })+
        }
        mod hnsw_of_signs {
            $(#[test] fn $test() { super::$test(super::Kind::HNSW_SIGNS); })+
        }
        mod hnsw_of_products {
            $(#[test] fn $test() { super::$test(super::Kind::HNSW_PQ); })+
        }
        mod hnsw_of_products_of_bytes {
            $(#[test] fn $test() { super::$test(super::Kind::HNSW_PQ_BYTES); })+
        }
        mod graph {
            $(#[test] fn $test() { super::$test(super::Kind::GRAPHS[0]); })+
        }
        mod graph_of_seven_bits {
            $(#[test] fn $test() { super::$test(super::Kind::SEVEN); })+
        }
        mod graph_of_four_bits {
            $(#[test] fn $test() { super::$test(super::Kind::FOUR); })+
        }
        mod graph_of_two_lines {
            $(#[test] fn $test() { super::$test(super::Kind::FOUR_TWICE); })+
        }
    };
}
pub(super) use on_every_kind;

/// Runs functions of a [`Kind`] as tests of every kind of lists.
macro_rules! on_lists {
    ($($test:ident),+ $(,)?) => {
        mod ivf {
            $(#[test] fn $test() { super::$test(super::Kind::IVF); })+
        }
        mod ivf_pq {
            $(#[test] fn $test() { super::$test(super::Kind::IVF_PQ); })+
        }
        mod ivf_pq_plain {
            $(#[test] fn $test() { super::$test(super::Kind::IVF_PQ_PLAIN); })+
        }
        mod ivf_pq_bytes {
            $(#[test] fn $test() { super::$test(super::Kind::IVF_PQ_BYTES); })+
        }
        mod pq {
            $(#[test] fn $test() { super::$test(super::Kind::PQ); })+
        }
        mod ivf_sq8 {
            $(#[test] fn $test() { super::$test(super::Kind::IVF_SQ8); })+
        }
        mod ivf_f16 {
            $(#[test] fn $test() { super::$test(super::Kind::IVF_F16); })+
        }
        mod ivf_signs {
            $(#[test] fn $test() { super::$test(super::Kind::IVF_SIGNS); })+
        }
        mod sq8 {
            $(#[test] fn $test() { super::$test(super::Kind::SQ8); })+
        }
        mod f16 {
            $(#[test] fn $test() { super::$test(super::Kind::F16); })+
        }
        mod signs {
            $(#[test] fn $test() { super::$test(super::Kind::SIGNS); })+
        }
    };
}
pub(super) use on_lists;

/// Runs task i on thread i modulo the width.
pub(super) struct Threads(pub(super) usize);

impl Executor for Threads {
    fn width(&self) -> usize {
        self.0
    }

    fn run<'a>(&self, tasks: Vec<Task<'a>>) {
        std::thread::scope(|scope| {
            for task in tasks {
                scope.spawn(task);
            }
        });
    }
}

/// Rows around cluster centres; the same for the same seed.
pub(super) fn clustered(dim: usize, clusters: u64, seed: u64, index: u64) -> Vec<f32> {
    let unit = |key: u64| (mix(key) >> 40) as f32 / (1 << 24) as f32 - 0.5;
    let cluster = mix(seed ^ index << 20) % clusters;
    (0..dim as u64)
        .map(|axis| {
            let centre = unit(mix(cluster << 8 ^ 77) ^ axis) * 4.0;
            centre + unit(mix(seed ^ index << 20) ^ axis << 1 ^ 1) + unit(mix(seed ^ index << 20) ^ axis << 9)
        })
        .collect()
}

pub(super) const OPTIONS: HnswOptions =
    HnswOptions { m: 8, ef_construction: 64, products: false, seed: 7, copies: None, oversample: 1 };

pub(super) struct Fixture {
    pub(super) space: Space,
    pub(super) matrix: Matrix,
    pub(super) index: Box<dyn Index>,
    pub(super) held: BTreeSet<Row>,
    pub(super) next_ordinal: u64,
    /// Rows that `fill` makes, and the queries of `recall`, are so many times as long.
    pub(super) scale: f32,
    /// What was trained may be trained anew.
    pub(super) renews: bool,
}

impl Fixture {
    pub(super) fn of(kind: Kind, metric: Metric, dim: usize) -> Fixture {
        Fixture::with(kind.index(dim, metric), metric, dim)
    }

    pub(super) fn flat(metric: Metric, dim: usize) -> Fixture {
        Fixture::with(Box::new(Flat::default()), metric, dim)
    }

    pub(super) fn with(index: Box<dyn Index>, metric: Metric, dim: usize) -> Fixture {
        Fixture {
            space: Space::new(metric, dim),
            matrix: Matrix::new(dim, VectorStorage::Lossless, metric),
            index,
            held: BTreeSet::new(),
            next_ordinal: 0,
            scale: 1.0,
            renews: true,
        }
    }

    pub(super) fn put(&mut self, row: Row, vector: &[f32]) {
        let scale = self.space.check(vector).unwrap();
        self.matrix.reserve(row).unwrap();
        self.matrix.detach(row).unwrap();
        // SAFETY: the chunk was detached from all views.
        unsafe { self.matrix.write(row, vector, scale) }.unwrap();
    }

    pub(super) fn change(&mut self, absorb: &[Row], forget: &[Row], executor: &dyn Executor) {
        self.change_with_dead(absorb, forget, &|_| false, executor);
    }

    pub(super) fn change_with_dead(
        &mut self,
        absorb: &[Row],
        forget: &[Row],
        dead: &(dyn Fn(Row) -> bool + Sync),
        executor: &dyn Executor,
    ) {
        let ordinals: Vec<u64> = (self.next_ordinal..).take(absorb.len()).collect();
        self.next_ordinal += absorb.len() as u64;
        let gone: HashSet<Row> = forget.iter().copied().collect();
        let dead = |row: Row| gone.contains(&row) || dead(row);
        let renews = self.renews;
        let batch = Batch { absorb, ordinals: &ordinals, forget, dead: &dead, optimize: false, renews };
        let points = Points { space: &self.space, vectors: self.matrix.view() };
        let plan = self.index.version().plan(points, &batch, executor);
        self.index.commit(plan);
        self.held.extend(absorb);
        forget.iter().for_each(|row| _ = self.held.remove(row));
    }

    pub(super) fn points(&self) -> Points<'_> {
        Points { space: &self.space, vectors: self.matrix.view() }
    }

    /// Lets the index put itself in order.
    pub(super) fn optimize(&mut self, executor: &dyn Executor) {
        let batch = Batch { optimize: true, ..Batch::of(&[], &[]) };
        let points = Points { space: &self.space, vectors: self.matrix.view() };
        let plan = self.index.version().plan(points, &batch, executor);
        self.index.commit(plan);
    }

    fn scaled(&self, seed: u64, index: u64) -> Vec<f32> {
        clustered(self.space.dim(), 20, seed, index).into_iter().map(|x| x * self.scale).collect()
    }

    /// Takes in `count` clustered rows from number `from`, in batches like a shard's.
    pub(super) fn fill(&mut self, from: Row, count: u32, seed: u64, executor: &dyn Executor) {
        let mut next = from;
        while next < from + count {
            let size = (self.held.len() / 50).clamp(64, 1024).min((from + count - next) as usize) as u32;
            let rows: Vec<Row> = (next..next + size).collect();
            for row in &rows {
                self.put(*row, &self.scaled(seed, u64::from(*row)));
            }
            self.change(&rows, &[], executor);
            next += size;
        }
    }

    pub(super) fn prepared(&self, query: &[f32]) -> Lined<f32> {
        let mut prepared = Lined::default();
        self.space.prepare(query, self.space.check(query).unwrap(), &mut prepared);
        prepared
    }

    pub(super) fn search_in(
        &self,
        version: &dyn IndexVersion,
        request: &Request<'_>,
    ) -> (Vec<Neighbor>, Effort) {
        let (mut scratch, mut found) = (Scratch::default(), TopK::default());
        found.reset(request.k);
        let points = Points { space: &self.space, vectors: self.matrix.view() };
        let effort = version.search(points, request, &mut scratch, &mut found);
        (found.sorted().to_vec(), effort)
    }

    pub(super) fn search(
        &self,
        query: &[f32],
        k: usize,
        ef: usize,
        admit: Option<&dyn Fn(Row) -> bool>,
    ) -> Vec<Row> {
        let query = self.prepared(query);
        let (found, _) =
            self.search_in(&*self.index.version(), &Request { admit, ..unlimited(&query, k, ef) });
        found.iter().map(|near| near.row).collect()
    }

    /// The exact answer among the held rows.
    pub(super) fn exact(&self, query: &[f32], k: usize, admit: Option<&dyn Fn(Row) -> bool>) -> Vec<Row> {
        let query = self.prepared(query);
        let mut top = TopK::default();
        top.reset(k);
        for row in self.held.iter().copied().filter(|row| admit.is_none_or(|admit| admit(*row))) {
            top.offer(Neighbor { distance: self.space.distance(&query, self.matrix.view(), row), row });
        }
        top.sorted().iter().map(|near| near.row).collect()
    }

    /// Mean share of the exact answers that were found, over 100 queries.
    pub(super) fn recall(&self, k: usize, ef: usize, admit: Option<&dyn Fn(Row) -> bool>) -> f64 {
        let (mut hits, mut wanted) = (0, 0);
        for index in 0..100 {
            let query = self.scaled(4_242, 1_000_000 + index);
            let exact: HashSet<Row> = self.exact(&query, k, admit).into_iter().collect();
            wanted += exact.len();
            hits += self.search(&query, k, ef, admit).iter().filter(|row| exact.contains(row)).count();
        }
        hits as f64 / wanted as f64
    }

    pub(super) fn assert_whole(&self) {
        let defects = self.index.version().audit(&mut self.held.iter().copied());
        assert!(defects.is_empty(), "{} defects, first {:?}", defects.len(), defects.first());
    }
}
