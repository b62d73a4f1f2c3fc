//! Proving that a graph is whole, and a number that names its content.

use super::LinkOptions;
use super::graph::{Graph, TREE};
use crate::bits::RowSet;
use crate::id::{Row, mix};
use crate::index::{Defect, flat};
use crate::memory;

pub(in crate::index) fn audit(
    graph: &Graph,
    options: &LinkOptions,
    expected: &mut dyn Iterator<Item = Row>,
) -> Vec<Defect> {
    let mut defects = flat::membership(&graph.held, expected);
    for row in graph.held.iter() {
        for layer in 0..=graph.level(row) {
            check_list(graph, options, layer, row, &mut defects);
        }
        check_products(graph, options, row, &mut defects);
        check_tree(graph, row, &mut defects);
    }
    let reached = reached(graph);
    let others = graph.held.iter().filter(|row| !reached.contains(*row));
    memory::extend(&mut defects, others.map(Defect::Unreachable));
    defects
}

fn check_list(graph: &Graph, options: &LinkOptions, layer: usize, row: Row, defects: &mut Vec<Defect>) {
    let links: Vec<Row> = memory::collect(graph.links(layer, row));
    let dangling = links.iter().filter(|to| !graph.held.contains(**to) || graph.level(**to) < layer);
    memory::extend(defects, dangling.map(|to| Defect::Dangling { from: row, to: *to }));
    check_links(row, links, options.degree(layer), defects);
}

fn check_products(graph: &Graph, options: &LinkOptions, row: Row, defects: &mut Vec<Defect>) {
    let links: Vec<Row> = memory::collect(graph.product_links(row));
    let dangling = links.iter().filter(|to| !graph.held.contains(**to));
    memory::extend(defects, dangling.map(|to| Defect::Dangling { from: row, to: *to }));
    check_links(row, links, options.products, defects);
    // (Of rows below the last with a list it is not known whether theirs was ever written.)
    if options.products > 0 && graph.products.get(row).is_none() {
        memory::push(defects, Defect::Malformed(row));
    }
}

/// A list has no row twice, nor its own, nor more than it may.
fn check_links(row: Row, mut links: Vec<Row>, most: usize, defects: &mut Vec<Defect>) {
    let count = links.len();
    links.sort_unstable();
    links.dedup();
    if links.len() < count || count > most || links.contains(&row) {
        memory::push(defects, Defect::Malformed(row));
    }
}

/// Tree edges stand at both ends.
fn check_tree(graph: &Graph, row: Row, defects: &mut Vec<Defect>) {
    let edges = graph.base_links(row).filter(|link| link & TREE != 0).map(|link| link & !TREE);
    let is_returned =
        |to: &Row| graph.held.contains(*to) && graph.base_links(*to).any(|link| link == row | TREE);
    if !edges.into_iter().all(|to| is_returned(&to)) {
        memory::push(defects, Defect::Malformed(row));
    }
}

/// The rows that a walk over layer 0 meets from the entry row.
fn reached(graph: &Graph) -> RowSet {
    let mut reached = RowSet::default();
    let mut waiting: Vec<Row> = memory::collect(graph.entry.iter().map(|entry| entry.row));
    waiting.iter().for_each(|row| _ = reached.insert(*row));
    while let Some(row) = waiting.pop() {
        if graph.held.contains(row) {
            memory::extend(&mut waiting, graph.links(0, row).filter(|link| reached.insert(*link)));
        }
    }
    reached
}

/// Hashes entry, levels and lists, in the order of the rows: where blocks
/// stand makes no difference.
pub(in crate::index) fn digest(graph: &Graph) -> u64 {
    let entry = graph.entry.map_or(u64::MAX, |entry| u64::from(entry.row) << 8 | entry.level as u64);
    let mut hash = mix(entry);
    let mut add = |word: u32| hash = mix(hash ^ u64::from(word));
    graph.starts.rows().for_each(&mut add);
    for row in graph.held.iter() {
        add(row);
        graph.base_links(row).for_each(&mut add);
        graph.product_links(row).for_each(&mut add);
        for layer in 1..=graph.level(row) {
            add(u32::MAX - layer as u32);
            graph.links(layer, row).for_each(&mut add);
        }
    }
    hash
}
