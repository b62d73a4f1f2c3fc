//! Exact while that is quick, a graph from some number of rows on.
//!
//! The number after a batch decides, so which index there is is a function of
//! the write log. The batch that comes to the bound has all rows put into a
//! graph; rows must become far fewer before they are put back, so that a number
//! of rows that goes up and down does not build again and again.

use std::sync::Arc;

use super::{
    Batch, Defect, Effort, Executor, Flat, GraphOptions, Hnsw, HnswOptions, Index, IndexVersion, Plan,
    Points, QuantizedGraph, Request, Saved, Scratch, Screened, Settling, Trip, bulk_rows,
};
use crate::bits::RowSet;
use crate::codec::{Decoder, Encoder, Malformed};
use crate::id::Row;
use crate::memory;
use crate::neighbor::TopK;
use crate::quant::Codec;

/// The exact index comes back when there are so many times fewer rows than its
/// bound...
const SHRUNK: usize = 4;

/// ...or so many, when the index is put in order.
const SHRUNK_IN_ORDER: usize = 2;

/// The graph that there is of many rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Grown {
    Graph(GraphOptions),
    Hnsw(HnswOptions),
}

/// When it is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AutoOptions {
    /// Fewer rows are searched exactly.
    pub(crate) exact_below: usize,
    pub(crate) grown: Grown,
    /// Why it is this graph.
    pub(crate) reason: &'static str,
}

impl Grown {
    fn empty(self) -> Box<dyn Index> {
        Box::new(Screened::new(match self {
            Grown::Graph(options) => Box::new(QuantizedGraph::new(options)),
            Grown::Hnsw(options) => Box::new(Hnsw::new(options)),
        }))
    }

    fn load(
        self,
        dim: usize,
        saved: &Saved<'_>,
        input: &mut Decoder<'_>,
    ) -> Result<Box<dyn Index>, Malformed> {
        let inner: Box<dyn Index> = match self {
            Grown::Graph(options) => Box::new(QuantizedGraph::load(options, dim, saved, input)?),
            Grown::Hnsw(options) => Box::new(Hnsw::load(options, dim, saved, input)?),
        };
        Ok(Box::new(Screened::loaded(inner, saved)))
    }
}

/// The index of the moment.
struct AutoVersion {
    options: AutoOptions,
    inner: Arc<dyn IndexVersion>,
    is_grown: bool,
    held: RowSet,
}

/// What a batch does.
enum Change {
    /// The index stays what it is.
    Inner { plan: Plan, absorb: Vec<Row>, forget: Vec<Row> },
    /// Another one takes its place.
    Other { inner: Box<dyn Index>, is_grown: bool, held: RowSet },
}

/// The writer's side.
pub(crate) struct Auto {
    inner: Box<dyn Index>,
    newest: Arc<AutoVersion>,
}

impl Auto {
    pub(crate) fn new(options: AutoOptions) -> Auto {
        Auto::of(options, Box::new(Flat::default()), false, RowSet::default())
    }

    pub(crate) fn load(
        options: AutoOptions,
        dim: usize,
        saved: &Saved<'_>,
        input: &mut Decoder<'_>,
    ) -> Result<Auto, Malformed> {
        let is_grown = input.u8()? == 1;
        let inner: Box<dyn Index> =
            if is_grown { options.grown.load(dim, saved, input)? } else { Box::new(Flat::load(saved)) };
        Ok(Auto::of(options, inner, is_grown, saved.held.clone()))
    }

    fn of(options: AutoOptions, inner: Box<dyn Index>, is_grown: bool, held: RowSet) -> Auto {
        let newest = Arc::new(AutoVersion { options, inner: inner.version(), is_grown, held });
        Auto { inner, newest }
    }

    /// Makes a version of what the inner index is now.
    fn show(&mut self, is_grown: bool, held: RowSet) {
        let (options, inner) = (self.newest.options, self.inner.version());
        self.newest = Arc::new(AutoVersion { options, inner, is_grown, held });
    }
}

/// An index of all these rows.
fn filled(
    mut index: Box<dyn Index>,
    points: Points<'_>,
    held: &RowSet,
    batch: &Batch<'_>,
    executor: &dyn Executor,
) -> Box<dyn Index> {
    let rows: Vec<Row> = memory::collect(held.iter());
    let mut next = 0;
    while next < rows.len() && !executor.cancelled() {
        let absorb = &rows[next..rows.len().min(next + bulk_rows(next))];
        let ordinals: Vec<u64> = memory::collect(absorb.iter().copied().map(u64::from));
        let piece = Batch { absorb, ordinals: &ordinals, forget: &[], dead: batch.dead, optimize: false };
        let plan = index.version().plan(points, &piece, executor);
        index.commit(plan);
        next += absorb.len();
    }
    index
}

impl Index for Auto {
    fn version(&self) -> Arc<dyn IndexVersion> {
        Arc::clone(&self.newest) as Arc<dyn IndexVersion>
    }

    fn commit(&mut self, plan: Plan) {
        let Ok(change) = plan.0.downcast::<Change>() else { return };
        match *change {
            Change::Inner { plan, absorb, forget } => {
                self.inner.commit(plan);
                let held = self.newest.held.after(&forget, &absorb);
                self.show(self.newest.is_grown, held);
            }
            Change::Other { inner, is_grown, held } => {
                self.inner = inner;
                self.show(is_grown, held);
            }
        }
    }

    fn settle(&mut self) -> Settling {
        let settling = self.inner.settle();
        if settling == Settling::Stepped {
            self.show(self.newest.is_grown, self.newest.held.clone());
        }
        settling
    }

    fn want_exact(&mut self) -> bool {
        let is_news = self.inner.want_exact();
        if is_news {
            self.show(self.newest.is_grown, self.newest.held.clone());
        }
        is_news
    }

    fn bytes(&self) -> usize {
        self.inner.bytes() + self.newest.held.bytes()
    }

    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn reason(&self) -> &'static str {
        if self.newest.is_grown { self.newest.options.reason } else { "few records: exact is quick" }
    }
}

impl IndexVersion for AutoVersion {
    fn len(&self) -> usize {
        self.inner.len()
    }

    fn search(
        &self,
        points: Points<'_>,
        request: &Request<'_>,
        scratch: &mut Scratch,
        found: &mut TopK,
    ) -> Effort {
        self.inner.search(points, request, scratch, found)
    }

    fn search_many(&self, points: Points<'_>, trips: &mut [Trip<'_>]) {
        self.inner.search_many(points, trips);
    }

    fn search_exact(
        &self,
        points: Points<'_>,
        request: &Request<'_>,
        scratch: &mut Scratch,
        found: &mut TopK,
    ) -> Option<Effort> {
        self.inner.search_exact(points, request, scratch, found)
    }

    fn search_among(
        &self,
        points: Points<'_>,
        request: &Request<'_>,
        rows: &mut dyn Iterator<Item = Row>,
        scratch: &mut Scratch,
        found: &mut TopK,
    ) -> Option<Effort> {
        self.inner.search_among(points, request, rows, scratch, found)
    }

    fn plan(&self, points: Points<'_>, batch: &Batch<'_>, executor: &dyn Executor) -> Plan {
        let count = self.held.len() + batch.absorb.len() - batch.forget.len();
        let shrunk = if batch.optimize { SHRUNK_IN_ORDER } else { SHRUNK };
        let other = if self.is_grown {
            (count < self.options.exact_below / shrunk).then(|| Box::new(Flat::default()) as Box<dyn Index>)
        } else {
            (count >= self.options.exact_below).then(|| self.options.grown.empty())
        };
        Plan(Box::new(match other {
            Some(other) => {
                let held = self.held.after(batch.forget, batch.absorb);
                let inner = filled(other, points, &held, batch, executor);
                Change::Other { inner, is_grown: !self.is_grown, held }
            }
            None => {
                let plan = self.inner.plan(points, batch, executor);
                Change::Inner {
                    plan,
                    absorb: memory::copied(batch.absorb),
                    forget: memory::copied(batch.forget),
                }
            }
        }))
    }

    fn codec(&self) -> Option<&Codec> {
        self.inner.codec()
    }

    fn adopt(&self, points: Points<'_>, codec: Codec, executor: &dyn Executor) -> Option<Plan> {
        let plan = self.inner.adopt(points, codec, executor)?;
        Some(Plan(Box::new(Change::Inner { plan, absorb: Vec::new(), forget: Vec::new() })))
    }

    fn needs_upkeep(&self, dim: usize) -> bool {
        self.inner.needs_upkeep(dim)
    }

    fn upkeep(&self, points: Points<'_>, executor: &dyn Executor) -> Option<Plan> {
        let plan = self.inner.upkeep(points, executor)?;
        Some(Plan(Box::new(Change::Inner { plan, absorb: Vec::new(), forget: Vec::new() })))
    }

    fn audit(&self, expected: &mut dyn Iterator<Item = Row>) -> Vec<Defect> {
        let expected: Vec<Row> = memory::collect(expected);
        let mut defects = self.inner.audit(&mut expected.iter().copied());
        memory::extend(&mut defects, super::flat::membership(&self.held, &mut expected.into_iter()));
        defects
    }

    fn save(&self, out: &mut Encoder) -> Option<RowSet> {
        out.u8(u8::from(self.is_grown));
        self.inner.save(out)
    }

    fn digest(&self) -> u64 {
        self.inner.digest()
    }

    fn is_exact(&self) -> bool {
        self.inner.is_exact()
    }

    fn counts_lists(&self) -> bool {
        self.inner.counts_lists()
    }
}
