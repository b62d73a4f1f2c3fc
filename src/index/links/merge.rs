//! Rewriting lists: every list that a batch touches, each once.

use std::collections::BTreeMap;

use super::absorb::Absorbed;
use super::forget::Holed;
use super::graph::TREE;
use super::plan::{Job, Worker};
use super::select::Share;
use crate::id::Row;
use crate::index::Scratch;
use crate::index::measure::{RowMeasure, add_near};
use crate::index::parallel::parallel_map;
use crate::memory;
use crate::neighbor::Neighbor;

/// The new content of a list; links of layer 0 with their tree flags.
#[derive(Debug)]
pub(super) struct List {
    pub(super) row: Row,
    pub(super) layer: usize,
    pub(super) links: Vec<u32>,
}

/// A list: its layer and its row.
type Place = (usize, Row);

/// A new row, by its number in the batch, chose the row of a list.
type Source = (Place, usize);

/// What happens to one list.
#[derive(Debug)]
struct Edit<'a> {
    at: Place,
    /// The links that a new row chose.
    chosen: Option<&'a [Neighbor]>,
    /// Rows that chose this one.
    sources: &'a [Source],
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
    let sources = sources(absorbed);
    let edits = edits(absorbed, &sources, added, holed);
    parallel_map(job.executor, edits.len(), workers, |at, worker| {
        let edit = &edits[at];
        let (layer, row) = edit.at;
        List { row, layer, links: rewrite(job, absorbed, edit, worker) }
    })
}

/// Who chose whom, by list and then in the order of the batch.
fn sources(absorbed: &[Absorbed]) -> Vec<Source> {
    let mut sources = memory::list(absorbed.iter().flat_map(|new| &new.links).map(Vec::len).sum());
    for (at, new) in absorbed.iter().enumerate() {
        for (layer, chosen) in new.links.iter().enumerate() {
            sources.extend(chosen.iter().map(|target| ((layer, target.row), at)));
        }
    }
    sources.sort_unstable();
    sources
}

/// What happens to each list that is touched, ascending. (Sorted and merged, not
/// looked up in a map: one thread does it while all others wait.)
fn edits<'a>(
    absorbed: &'a [Absorbed],
    sources: &'a [Source],
    added: &'a BTreeMap<Row, Vec<Row>>,
    holed: Vec<Holed>,
) -> Vec<Edit<'a>> {
    let mut chosen: Vec<(Place, &[Neighbor])> =
        memory::list(absorbed.iter().map(|new| new.links.len()).sum());
    for new in absorbed {
        let layers = new.links.iter().enumerate();
        chosen.extend(layers.map(|(layer, chosen)| ((layer, new.row), chosen.as_slice())));
    }
    chosen.sort_unstable_by_key(|(at, _)| *at);
    let mut holed: Vec<Place> = memory::collect(holed.into_iter().map(|list| (list.layer, list.row)));
    holed.sort_unstable();
    let mut targets: Vec<Place> = memory::collect(sources.iter().map(|(at, _)| *at));
    targets.dedup();
    let edged = added.keys().map(|row| (0, *row));
    let mut places: Vec<Place> = memory::collect(
        chosen.iter().map(|(at, _)| *at).chain(targets).chain(edged).chain(holed.iter().copied()),
    );
    places.sort_unstable();
    places.dedup();

    let (mut chosen, mut sources) = (chosen.into_iter().peekable(), sources);
    let (mut added, mut holed) = (added.iter().peekable(), holed.into_iter().peekable());
    let edit = |at: Place| {
        let (own, others) = sources.split_at(sources.iter().take_while(|(target, _)| *target == at).count());
        sources = others;
        Edit {
            at,
            chosen: chosen.next_if(|(row, _)| *row == at).map(|(_, chosen)| chosen),
            sources: own,
            tree: added.next_if(|(row, _)| (0, **row) == at).map_or(&[], |(_, edges)| edges),
            holed: holed.next_if_eq(&at).is_some(),
        }
    };
    memory::collect(places.into_iter().map(edit))
}

fn rewrite<M: RowMeasure>(
    job: Job<'_, M>,
    absorbed: &[Absorbed],
    edit: &Edit<'_>,
    worker: &mut Worker<M>,
) -> Vec<u32> {
    let (layer, row) = edit.at;
    let mut links = staying_links(job, edit);
    let staying = links.len();
    if edit.holed {
        push_missing(&mut links, substitutes(job, layer, row));
    }
    push_missing(&mut links, edit.sources.iter().map(|(_, at)| absorbed[*at].row));
    push_missing(&mut links, edit.tree.iter().copied());
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

fn staying_links<M: RowMeasure>(job: Job<'_, M>, edit: &Edit<'_>) -> Vec<u32> {
    if let Some(chosen) = edit.chosen {
        return memory::collect(chosen.iter().map(|near| near.row));
    }
    let (layer, row) = edit.at;
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

fn push_missing(links: &mut Vec<u32>, more: impl IntoIterator<Item = Row>) {
    for row in more {
        if links.iter().all(|link| link & !TREE != row) {
            memory::push(links, row);
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
    let Worker { scratch, selector, query, .. } = worker;
    let Scratch { candidates, rows, others: tree, .. } = scratch;
    let query = job.measure.row_query(row, query);
    rows.clear();
    memory::extend(rows, links.iter().map(|link| link & !TREE));
    // Few.
    tree.clear();
    memory::extend(tree, links.iter().filter(|link| **link & TREE != 0).map(|link| link & !TREE));
    candidates.clear();
    add_near(job.measure, query, rows, f32::INFINITY, candidates);
    candidates.sort_unstable_by(Neighbor::order);
    let is_tree = |row: Row| tree.contains(&row);
    let is_kept = |row: Row| links[..kept].iter().any(|link| link & !TREE == row) || is_tree(row);
    let chosen = selector.choose(job.measure, candidates, share, is_kept);
    let chosen = chosen.iter().map(|near| if is_tree(near.row) { near.row | TREE } else { near.row });
    *links = memory::collect(chosen);
}
