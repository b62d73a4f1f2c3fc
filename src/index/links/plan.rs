//! Computing a change: what a batch does to the lists of the graph.
//!
//! The order of work follows ParlayANN (Manohar et al., PPoPP 2024): search
//! for all new rows in the frozen graph, group the reverse edges by target,
//! rewrite every target once. Nothing depends on the order in which threads
//! get to their items. Rows of one batch find each other by an exact scan.

use super::LinkOptions;
use super::absorb::{self, Absorbed};
use super::forget;
use super::graph::{Entry, Graph};
use super::merge::{self, List};
use super::products;
use super::select::{Selector, Share};
use super::starts::{self, Starts};
use super::tree::TreeDraft;
use crate::bits::RowSet;
use crate::id::Row;
use crate::index::measure::RowMeasure;
use crate::index::{Batch, Executor, Scratch};
use crate::memory;
use crate::pause::pause;

/// What a commit writes.
#[derive(Debug)]
pub(in crate::index) struct Change {
    /// New rows with their levels.
    pub(super) absorb: Vec<(Row, usize)>,
    pub(super) forget: Vec<Row>,
    pub(super) lists: Vec<List>,
    /// Lists by inner product.
    pub(super) products: Vec<List>,
    pub(super) entry: Option<Entry>,
    pub(super) starts: Starts,
}

/// Working memory of one task.
#[derive(Debug)]
pub(super) struct Worker<M: RowMeasure> {
    pub(super) scratch: Scratch,
    pub(super) selector: Selector<M>,
    /// A stored row in the form of a query.
    pub(super) query: M::Buffer,
    /// Another one beside it.
    pub(super) other: M::Buffer,
}

impl<M: RowMeasure> Default for Worker<M> {
    fn default() -> Worker<M> {
        Worker {
            scratch: Scratch::default(),
            selector: Selector::default(),
            query: M::Buffer::default(),
            other: M::Buffer::default(),
        }
    }
}

/// Everything that the steps of a plan need to know.
pub(in crate::index) struct Job<'a, M: RowMeasure> {
    pub(in crate::index) options: &'a LinkOptions,
    pub(in crate::index) graph: &'a Graph,
    /// The distances by which the graph is built.
    pub(in crate::index) measure: M,
    pub(in crate::index) batch: &'a Batch<'a>,
    pub(in crate::index) forgotten: &'a RowSet,
    pub(in crate::index) executor: &'a dyn Executor,
    /// The inner products of rows, negated, where rows have links by them.
    pub(in crate::index) products: Option<M>,
    /// Links that a list is filled up to.
    pub(in crate::index) least: usize,
    /// The lengths of rows, where long rows are to be starts.
    pub(in crate::index) norm: Option<&'a (dyn Fn(Row) -> f32 + Sync)>,
}

impl<M: RowMeasure> Clone for Job<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: RowMeasure> Copy for Job<'_, M> {}

impl<M: RowMeasure> Job<'_, M> {
    pub(super) fn is_dead(&self, row: Row) -> bool {
        self.forgotten.contains(row) || (self.batch.dead)(row)
    }

    /// Links that a row may have on a layer, and should have.
    pub(super) fn share(&self, layer: usize) -> Share {
        Share { most: self.options.degree(layer), least: self.least, slack: self.options.slack }
    }

    /// Links that a new row chooses on any layer.
    pub(super) fn first_share(&self) -> Share {
        Share { most: self.options.first, least: self.least, slack: self.options.slack }
    }
}

pub(in crate::index) fn change<M: RowMeasure>(job: Job<'_, M>) -> Change {
    let mut workers: Vec<Worker<M>> = Vec::new();
    memory::lengthen(&mut workers, job.executor.width().max(1));
    let absorbed = absorb::find_links(job, &mut workers);
    let dead = |row| job.is_dead(row);
    let mut tree = TreeDraft::new(job.graph, job.forgotten, &dead, job.options.tree);
    tree.close_gaps();
    for row in &absorbed {
        pause();
        tree.attach(row.row, row.links[0].iter().map(|near| near.row));
    }
    let added = tree.into_added();
    let holed = forget::holed_lists(job, &mut workers);
    let lists = merge::lists(job, &absorbed, &added, holed, &mut workers);
    Change {
        absorb: memory::collect(absorbed.iter().map(|row| (row.row, row.level()))),
        forget: memory::copied(job.batch.forget),
        lists,
        products: products::lists(job, &absorbed, &mut workers),
        entry: next_entry(job, &absorbed),
        starts: starts::next(job),
    }
}

/// The highest row is the entry; among equals the one that was there first.
fn next_entry<M: RowMeasure>(job: Job<'_, M>, absorbed: &[Absorbed]) -> Option<Entry> {
    let frozen = job.graph.entry.filter(|entry| !job.forgotten.contains(entry.row));
    let old = frozen.or_else(|| highest_held(job));
    let new = absorbed.iter().map(|row| Entry { row: row.row, level: row.level() });
    old.into_iter().chain(new).reduce(|best, next| if next.level > best.level { next } else { best })
}

fn highest_held<M: RowMeasure>(job: Job<'_, M>) -> Option<Entry> {
    let staying = job.graph.held.iter().filter(|row| !job.forgotten.contains(*row));
    staying
        .map(|row| Entry { row, level: job.graph.level(row) })
        .reduce(|best, next| if next.level > best.level { next } else { best })
}
