//! Exact while that is quick, a graph from some number of rows on.
//!
//! The number after a batch decides, so which index there is is a function of
//! the write log. The batch that comes to the bound has all rows put into a
//! graph; rows must become far fewer before they are put back, so that a number
//! of rows that goes up and down does not build again and again.
//!
//! A graph that is walked by codes is of use where [codes are fine
//! enough](super::resolution). That is tried when rows are first put into it,
//! as they become more, and when the index is put in order; where codes are too
//! coarse another graph takes its place, which compares vectors.

use std::sync::Arc;

use super::cow::{Left, SharedMemory};
use super::graph::train;
use super::resolution::{self, Before};
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

/// Rows are looked at again when they come to a power of this: as often as codes
/// are trained again...
const GROWTH: usize = 4;

/// ...up to so many. More are looked at only when the index is put in order:
/// all of them are put into another graph then if codes are too coarse, and a
/// batch must not wait for that.
const WATCHED: usize = 1 << 14;

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

/// Beside the tag of a form in files: rows are still to be looked at.
const POSTPONED: u8 = 4;

/// Which of its indexes is used; the number is its tag in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Exact = 0,
    Grown = 1,
    /// A graph that is walked by vectors.
    ByVectors = 2,
}

impl Grown {
    /// What there is in place of a graph whose codes are too coarse: one of no
    /// more links, whatever they cost in speed.
    fn by_vectors(self) -> Grown {
        match self {
            Grown::Graph(GraphOptions { degree, ef_construction, products, seed, .. }) => {
                Grown::Hnsw(HnswOptions {
                    m: (degree / 2).max(2),
                    ef_construction,
                    products,
                    seed,
                    copies: None,
                    oversample: 1,
                })
            }
            Grown::Hnsw(options) => Grown::Hnsw(options),
        }
    }

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
    form: Form,
    /// Rows came to where they are looked at, in the midst of a write: the next batch
    /// that may put them into another graph looks.
    is_postponed: bool,
    held: RowSet,
}

/// What a batch does.
enum Change {
    /// The index stays what it is.
    Inner { plan: Plan, absorb: Vec<Row>, forget: Vec<Row>, is_postponed: bool },
    /// Another one takes its place.
    Other { inner: Box<dyn Index>, form: Form, held: RowSet },
}

/// The writer's side.
pub(crate) struct Auto {
    inner: Box<dyn Index>,
    newest: Arc<AutoVersion>,
    /// What an unshared version has in place of the inner one while that changes.
    nothing: Arc<dyn IndexVersion>,
    /// What only older versions keep of indexes that others took the place of.
    left: Left,
}

impl Auto {
    pub(crate) fn new(options: AutoOptions) -> Auto {
        Auto::of(options, Box::new(Flat::default()), (Form::Exact, false), RowSet::default())
    }

    pub(crate) fn load(
        options: AutoOptions,
        dim: usize,
        saved: &Saved<'_>,
        input: &mut Decoder<'_>,
    ) -> Result<Auto, Malformed> {
        let fault = input.fault("there is no such form of an index");
        let tag = input.u8()?;
        let form = match tag & !POSTPONED {
            0 => Form::Exact,
            1 => Form::Grown,
            2 => Form::ByVectors,
            _ => return Err(fault),
        };
        let inner: Box<dyn Index> = match options.graph(form) {
            Some(graph) => graph.load(dim, saved, input)?,
            None => Box::new(Flat::load(saved)),
        };
        Ok(Auto::of(options, inner, (form, tag & POSTPONED != 0), saved.held.clone()))
    }

    fn of(
        options: AutoOptions,
        inner: Box<dyn Index>,
        (form, is_postponed): (Form, bool),
        held: RowSet,
    ) -> Auto {
        let newest = Arc::new(AutoVersion { options, inner: inner.version(), form, is_postponed, held });
        Auto { inner, newest, nothing: Flat::default().version(), left: Left::default() }
    }

    /// Makes a version of what the inner index is now.
    fn show(&mut self, form: Form, is_postponed: bool, held: RowSet) {
        let (options, inner) = (self.newest.options, self.inner.version());
        self.newest = Arc::new(AutoVersion { options, inner, form, is_postponed, held });
    }

    /// The same after the inner index has made a version that holds the same.
    fn show_again(&mut self) {
        self.show(self.newest.form, self.newest.is_postponed, self.newest.held.clone());
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
        let piece = Batch { dead: batch.dead, ..Batch::of(absorb, &ordinals) };
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
            Change::Inner { plan, absorb, forget, is_postponed } => {
                if let Some(newest) = Arc::get_mut(&mut self.newest) {
                    newest.inner = Arc::clone(&self.nothing);
                }
                self.inner.commit(plan);
                let held = self.newest.held.after(&forget, &absorb);
                self.show(self.newest.form, is_postponed, held);
            }
            Change::Other { inner, form, held } => {
                self.left.add(self.inner.shared().into_iter());
                self.inner = inner;
                self.show(form, false, held);
            }
        }
    }

    fn settle(&mut self) -> Settling {
        let settling = self.inner.settle();
        if settling == Settling::Stepped {
            self.show_again();
        }
        settling
    }

    fn want_exact(&mut self) -> bool {
        let is_news = self.inner.want_exact();
        if is_news {
            self.show_again();
        }
        is_news
    }

    fn bytes(&self) -> usize {
        self.inner.bytes() + self.newest.held.bytes() + self.left.bytes()
    }

    fn shared(&self) -> SharedMemory {
        memory::collect(self.inner.shared().into_iter().chain(self.left.iter()))
    }

    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn reason(&self) -> &'static str {
        match self.newest.form {
            Form::Exact => "few records: exact is quick",
            Form::Grown => self.newest.options.reason,
            Form::ByVectors => "many records too alike for codes: a graph walked by vectors finds them",
        }
    }
}

impl AutoOptions {
    fn graph(&self, form: Form) -> Option<Grown> {
        match form {
            Form::Exact => None,
            Form::Grown => Some(self.grown),
            Form::ByVectors => Some(self.grown.by_vectors()),
        }
    }
}

impl AutoVersion {
    /// Another index, if one is to take the place of this one after the batch.
    fn other(&self, points: Points<'_>, batch: &Batch<'_>, executor: &dyn Executor) -> Option<Change> {
        let count = self.held.len() + batch.absorb.len() - batch.forget.len();
        let shrunk = if batch.optimize { SHRUNK_IN_ORDER } else { SHRUNK };
        let put = |form: Form, held: &RowSet| {
            let empty = self.options.graph(form).map_or_else(|| Box::new(Flat::default()) as _, Grown::empty);
            filled(empty, points, held, batch, executor)
        };
        let other = |form, inner, held| Some(Change::Other { inner, form, held });
        if self.form == Form::Exact {
            if count < self.options.exact_below {
                return None;
            }
            let held = self.held.after(batch.forget, batch.absorb);
            let graph = put(Form::Grown, &held);
            if self.is_fine(&*graph.version(), points, &held, executor) {
                return other(Form::Grown, graph, held);
            }
            return other(Form::ByVectors, put(Form::ByVectors, &held), held);
        }
        if count < self.options.exact_below / shrunk {
            let held = self.held.after(batch.forget, batch.absorb);
            return other(Form::Exact, put(Form::Exact, &held), held);
        }
        if !(batch.optimize || batch.renews && self.comes_to_be_looked_at(batch)) {
            return None;
        }
        let held = self.held.after(batch.forget, batch.absorb);
        let is_fine = self.is_fine(&*self.inner, points, &held, executor);
        let form = if is_fine { Form::Grown } else { Form::ByVectors };
        if form == self.form { None } else { other(form, put(form, &held), held) }
    }

    /// A change of the inner index that takes no rows in or out.
    fn changed(&self, plan: Plan) -> Change {
        let is_postponed = self.is_postponed;
        Change::Inner { plan, absorb: Vec::new(), forget: Vec::new(), is_postponed }
    }

    /// Whether rows are to be looked at once the batch is there.
    fn comes_to_be_looked_at(&self, batch: &Batch<'_>) -> bool {
        let count = self.held.len() + batch.absorb.len() - batch.forget.len();
        self.is_postponed || self.form != Form::Exact && comes_to_power(self.held.len(), count)
    }

    /// Whether codes tell the rows of `held` apart: those that a graph has, or
    /// such as it would be given now.
    fn is_fine(
        &self,
        graph: &dyn IndexVersion,
        points: Points<'_>,
        held: &RowSet,
        executor: &dyn Executor,
    ) -> bool {
        let Grown::Graph(options) = self.options.grown else { return true };
        let rows: Vec<Row> = memory::collect(held.iter());
        let before = if self.form == Form::ByVectors { Before::Coarse } else { Before::Fine };
        let is_fine =
            |codec: &Codec| resolution::is_fine(codec, (options.coding, before), points, &rows, executor);
        // While that had to wait, training codes anew had to wait as well: those that there are will go.
        let stays = !self.is_postponed;
        stays && graph.codec().is_some_and(is_fine) || is_fine(&train(&options, points, &rows, None))
    }
}

/// Whether rows that become more are to be looked at.
fn comes_to_power(before: usize, after: usize) -> bool {
    let power = |count: usize| count.checked_ilog(GROWTH);
    after <= WATCHED + WATCHED / GROWTH && power(after) > power(before)
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
        Plan(Box::new(match self.other(points, batch, executor) {
            Some(other) => other,
            None => {
                let plan = self.inner.plan(points, batch, executor);
                Change::Inner {
                    plan,
                    absorb: memory::copied(batch.absorb),
                    forget: memory::copied(batch.forget),
                    is_postponed: !batch.renews && !batch.optimize && self.comes_to_be_looked_at(batch),
                }
            }
        }))
    }

    fn codec(&self) -> Option<&Codec> {
        self.inner.codec()
    }

    fn adopt(&self, points: Points<'_>, codec: Codec, executor: &dyn Executor) -> Option<Plan> {
        let plan = self.inner.adopt(points, codec, executor)?;
        Some(Plan(Box::new(self.changed(plan))))
    }

    fn takes_long(&self, rows: usize) -> bool {
        let count = self.held.len() + rows;
        let is_at_home = self.form != Form::Exact && count >= self.options.exact_below;
        let is_looked_at = self.is_postponed || comes_to_power(self.held.len(), count);
        !is_at_home || is_looked_at || self.inner.takes_long(rows)
    }

    fn needs_upkeep(&self, dim: usize) -> bool {
        self.inner.needs_upkeep(dim)
    }

    fn upkeep(&self, points: Points<'_>, executor: &dyn Executor) -> Option<Plan> {
        let plan = self.inner.upkeep(points, executor)?;
        Some(Plan(Box::new(self.changed(plan))))
    }

    fn audit(&self, expected: &mut dyn Iterator<Item = Row>) -> Vec<Defect> {
        let expected: Vec<Row> = memory::collect(expected);
        let mut defects = self.inner.audit(&mut expected.iter().copied());
        memory::extend(&mut defects, super::flat::membership(&self.held, &mut expected.into_iter()));
        defects
    }

    fn save(&self, out: &mut Encoder) -> Option<RowSet> {
        out.u8(self.form as u8 | if self.is_postponed { POSTPONED } else { 0 });
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
