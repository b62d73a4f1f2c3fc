//! Computing a change: what a batch does to the lists of the graph.
//!
//! The order of work follows ParlayANN (Manohar et al., PPoPP 2024): search
//! for all new rows in the frozen graph, group the reverse edges by target,
//! rewrite every target once. Nothing depends on the order in which threads
//! get to their items. Rows of one batch find each other by an exact scan.

use super::absorb::{self, Absorbed};
use super::forget;
use super::graph::{Beacon, Entry, Graph};
use super::merge::{self, List};
use super::select::{Selector, Share};
use super::tree::TreeDraft;
use super::{HnswOptions, beacons};
use crate::bits::RowSet;
use crate::id::Row;
use crate::index::{Batch, Executor, Points, Scratch};

/// What a commit writes.
#[derive(Debug)]
pub(super) struct Change {
    /// New rows with their levels.
    pub(super) absorb: Vec<(Row, usize)>,
    pub(super) forget: Vec<Row>,
    pub(super) lists: Vec<List>,
    pub(super) entry: Option<Entry>,
    pub(super) beacons: Vec<Beacon>,
}

/// Working memory of one task.
#[derive(Debug, Default)]
pub(super) struct Worker {
    pub(super) scratch: Scratch,
    pub(super) selector: Selector,
    /// A stored row in the form of a query.
    pub(super) query: Vec<f32>,
}

/// Everything that the steps of a plan need to know.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) options: &'a HnswOptions,
    pub(super) graph: &'a Graph,
    /// The space in which the graph is built.
    pub(super) points: Points<'a>,
    pub(super) batch: &'a Batch<'a>,
    pub(super) forgotten: &'a RowSet,
    pub(super) executor: &'a dyn Executor,
    /// Links that a list is filled up to.
    pub(super) least: usize,
}

impl Job<'_> {
    pub(super) fn is_dead(&self, row: Row) -> bool {
        self.forgotten.contains(row) || (self.batch.dead)(row)
    }

    /// Links that a row may have on a layer, and should have.
    pub(super) fn share(&self, layer: usize) -> Share {
        Share { most: self.options.degree(layer), least: self.least }
    }

    /// Links that a new row chooses on any layer.
    pub(super) fn first_share(&self) -> Share {
        Share { most: self.options.m, least: self.least }
    }
}

pub(super) fn change(job: Job<'_>, norms: bool) -> Change {
    let mut workers: Vec<Worker> = Vec::new();
    workers.resize_with(job.executor.width().max(1), Worker::default);
    let absorbed = absorb::find_links(job, &mut workers);
    let dead = |row| job.is_dead(row);
    let mut tree = TreeDraft::new(job.graph, job.forgotten, &dead, job.options.m);
    tree.close_gaps();
    for row in &absorbed {
        tree.attach(row.row, row.links[0].iter().map(|near| near.row));
    }
    let added = tree.into_added();
    let holed = forget::holed_lists(job, &mut workers);
    let lists = merge::lists(job, &absorbed, &added, holed, &mut workers);
    Change {
        absorb: absorbed.iter().map(|row| (row.row, row.level())).collect(),
        forget: job.batch.forget.to_vec(),
        lists,
        entry: next_entry(job, &absorbed),
        beacons: if norms { beacons::next(job) } else { Vec::new() },
    }
}

/// The highest row is the entry; among equals the one that was there first.
fn next_entry(job: Job<'_>, absorbed: &[Absorbed]) -> Option<Entry> {
    let frozen = job.graph.entry.filter(|entry| !job.forgotten.contains(entry.row));
    let old = frozen.or_else(|| highest_held(job));
    let new = absorbed.iter().map(|row| Entry { row: row.row, level: row.level() });
    old.into_iter().chain(new).reduce(|best, next| if next.level > best.level { next } else { best })
}

fn highest_held(job: Job<'_>) -> Option<Entry> {
    let staying = job.graph.held.iter().filter(|row| !job.forgotten.contains(*row));
    staying
        .map(|row| Entry { row, level: job.graph.level(row) })
        .reduce(|best, next| if next.level > best.level { next } else { best })
}
