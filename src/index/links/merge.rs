//! Rewriting lists: every list that a batch touches, each once.

use std::collections::BTreeMap;

use super::absorb::Absorbed;
use super::forget::Holed;
use super::graph::TREE;
use super::plan::{Job, Worker};
use super::select::Share;
use crate::id::Row;
use crate::index::measure::RowMeasure;
use crate::index::parallel::parallel_map;
use crate::memory;
use crate::neighbor::Neighbor;
use crate::vector::BLOCK;

/// The new content of a list; links of layer 0 with their tree flags.
#[derive(Debug)]
pub(super) struct List {
    pub(super) row: Row,
    pub(super) layer: usize,
    pub(super) links: Vec<u32>,
}

/// What happens to one list.
#[derive(Debug, Default)]
struct Edit<'a> {
    /// The links that a new row chose.
    chosen: &'a [Neighbor],
    is_new: bool,
    /// Rows that chose this one.
    sources: Vec<Row>,
    /// New tree edges.
    tree: &'a [Row],
    /// True when links to forgotten rows fall away.
    holed: bool,
}

pub(super) fn lists<M: RowMeasure>(
    job: Job<'_, M>,
    absorbed: &[Absorbed],
    added: &BTreeMap<Row, Vec<Row>>,
    holed: Vec<Holed>,
    workers: &mut [Worker<M>],
) -> Vec<List> {
    let mut edits: BTreeMap<(usize, Row), Edit<'_>> = BTreeMap::new();
    for new in absorbed {
        for (layer, chosen) in new.links.iter().enumerate() {
            let edit = edits.entry((layer, new.row)).or_default();
            (edit.chosen, edit.is_new) = (chosen, true);
            for target in chosen {
                edits.entry((layer, target.row)).or_default().sources.push(new.row);
            }
        }
    }
    for (row, edges) in added {
        edits.entry((0, *row)).or_default().tree = edges;
    }
    for Holed { row, layer } in holed {
        edits.entry((layer, row)).or_default().holed = true;
    }
    let edits: Vec<((usize, Row), Edit<'_>)> = memory::collect(edits);
    let edits = edits.as_slice();
    parallel_map(job.executor, edits.len(), workers, |at, worker| {
        let ((layer, row), edit) = &edits[at];
        List { row: *row, layer: *layer, links: rewrite(job, *layer, *row, edit, worker) }
    })
}

fn rewrite<M: RowMeasure>(
    job: Job<'_, M>,
    layer: usize,
    row: Row,
    edit: &Edit<'_>,
    worker: &mut Worker<M>,
) -> Vec<u32> {
    let mut links = staying_links(job, layer, row, edit);
    let staying = links.len();
    if edit.holed {
        push_missing(&mut links, &substitutes(job, layer, row));
    }
    push_missing(&mut links, &edit.sources);
    push_missing(&mut links, edit.tree);
    for link in &mut links {
        if edit.tree.contains(link) {
            *link |= TREE;
        }
    }
    let share = job.share(layer);
    if edit.holed && staying + edit.tree.len() <= share.most {
        prune(job, row, &mut links, staying, share, worker);
    } else if links.len() > share.most {
        prune(job, row, &mut links, 0, share, worker);
    }
    links
}

fn staying_links<M: RowMeasure>(job: Job<'_, M>, layer: usize, row: Row, edit: &Edit<'_>) -> Vec<u32> {
    if edit.is_new {
        return memory::collect(edit.chosen.iter().map(|near| near.row));
    }
    let is_staying = |link: &u32| !job.forgotten.contains(link & !TREE);
    if layer == 0 {
        memory::collect(job.graph.base_links(row).filter(is_staying))
    } else {
        memory::collect(job.graph.links(layer, row).filter(is_staying))
    }
}

/// Live neighbours of the forgotten neighbours: FreshDiskANN (Singh et al.,
/// 2021), algorithm 4, reconnects around a deleted row in this way. Unlike
/// there, links that lead to live rows stay: pruning them with every loss
/// wears the long links away (measured: 3 points of recall in 20 turnovers).
fn substitutes<M: RowMeasure>(job: Job<'_, M>, layer: usize, row: Row) -> Vec<Row> {
    let forgotten = job.graph.links(layer, row).filter(|link| job.forgotten.contains(*link));
    let substitutes = forgotten.flat_map(|gone| job.graph.links(layer, gone));
    memory::collect(substitutes.filter(|link| *link != row && !job.is_dead(*link)))
}

fn push_missing(links: &mut Vec<u32>, more: &[Row]) {
    for row in more {
        if links.iter().all(|link| link & !TREE != *row) {
            memory::push(links, *row);
        }
    }
}

/// Prunes a list to its degree; tree edges and the first `kept` links stay.
fn prune<M: RowMeasure>(
    job: Job<'_, M>,
    row: Row,
    links: &mut Vec<u32>,
    kept: usize,
    share: Share,
    worker: &mut Worker<M>,
) {
    let Worker { scratch, selector, query } = worker;
    let (candidates, rows) = (&mut scratch.candidates, &mut scratch.rows);
    let query = job.measure.row_query(row, query);
    memory::resize(&mut scratch.distances, BLOCK, 0.0);
    candidates.clear();
    for part in links.chunks(BLOCK) {
        rows.clear();
        memory::extend(rows, part.iter().map(|link| link & !TREE));
        let distances = &mut scratch.distances;
        job.measure.distances(query, rows, f32::INFINITY, distances);
        let near = rows.iter().zip(distances.iter());
        memory::extend(candidates, near.map(|(row, distance)| Neighbor { distance: *distance, row: *row }));
    }
    candidates.sort_unstable_by(Neighbor::order);
    let is_tree = |row: Row| links.contains(&(row | TREE));
    let is_kept = |row: Row| links[..kept].iter().any(|link| link & !TREE == row) || is_tree(row);
    let chosen = selector.choose(job.measure, candidates, share, is_kept);
    let chosen = chosen.iter().map(|near| if is_tree(near.row) { near.row | TREE } else { near.row });
    *links = memory::collect(chosen);
}
