//! Links to the rows of the greatest inner products.
//!
//! Under the inner product the graph is the Euclidean one of the same rows (PSP, PVLDB 2025), and that alone
//! leads to long rows badly: few others are near them. So each row has a second list beside its neighbours: the rows whose inner
//! product with it is greatest. They are those that a query from where the row is would be answered with,
//! so a walk that comes near a query by the first list finds its answers in the second (as ip-NSW+ does with
//! two graphs; Liu et al., AAAI 2020). Such a list is not pruned, because nothing stands between rows by
//! inner product, and its links are not returned: most rows are in nobody's answer.
//!
//! A new row is told to the rows that it chose: so their lists hold the greatest of all rows that came,
//! though each row looks for its own once.

use super::absorb::{Absorbed, add_mates};
use super::beam::Walk;
use super::forget::holed_products;
use super::limits::Limits;
use super::merge::List;
use super::plan::{Job, Worker};
use crate::id::Row;
use crate::index::measure::{RowMeasure, add_near};
use crate::index::parallel::parallel_map;
use crate::index::{Effort, Scratch};
use crate::memory;
use crate::neighbor::Neighbor;

/// Rows that the walk for such a list keeps, for each place in it: half of them
/// are walked through.
const KEPT: usize = 2;

/// The rows of the greatest inner products with the new row `at` of the batch,
/// greatest first.
pub(super) fn find<M: RowMeasure>(job: Job<'_, M>, at: usize, worker: &mut Worker<M>) -> Vec<Row> {
    let Some(measure) = job.products else { return Vec::new() };
    let Worker { scratch, query, .. } = worker;
    let query = measure.row_query(job.batch.absorb[at], query);
    scratch.candidates.clear();
    let (most, mut effort) = (job.options.products, Effort::default());
    if job.graph.entry.is_some() {
        let walk = Walk { graph: job.graph, measure, query, products: true };
        walk.find_starts(scratch, &mut effort);
        walk.beam(0, Limits::building(KEPT * most), scratch, &mut effort);
        let Scratch { pool, candidates, .. } = &mut *scratch;
        memory::extend(candidates, pool.iter().filter(|near| !job.is_dead(near.row)).take(most));
    }
    add_mates(measure, &job.batch.absorb[..at], most, query, scratch);
    greatest(&mut scratch.candidates, most)
}

fn greatest(candidates: &mut [Neighbor], most: usize) -> Vec<Row> {
    candidates.sort_unstable_by(Neighbor::order);
    memory::collect(candidates.iter().take(most).map(|near| near.row))
}

/// Every list of products that a batch changes.
pub(super) fn lists<M: RowMeasure>(
    job: Job<'_, M>,
    absorbed: &[Absorbed],
    workers: &mut [Worker<M>],
) -> Vec<List> {
    let Some(measure) = job.products else { return Vec::new() };
    let mut told: Vec<(Row, usize)> = memory::list(absorbed.iter().map(|new| new.products.len()).sum());
    for (at, new) in absorbed.iter().enumerate() {
        told.extend(new.products.iter().map(|row| (*row, at)));
    }
    told.sort_unstable();
    let mut own: Vec<(Row, usize)> =
        memory::collect(absorbed.iter().enumerate().map(|(at, new)| (new.row, at)));
    own.sort_unstable();
    let holed = holed_products(job, workers);
    let mut rows: Vec<Row> =
        memory::collect(told.iter().map(|(row, _)| *row).chain(own.iter().map(|(row, _)| *row)).chain(holed));
    rows.sort_unstable();
    rows.dedup();
    let lists = parallel_map(job.executor, rows.len(), workers, |item, worker| {
        let row = rows[item];
        let new = own.binary_search_by_key(&row, |(row, _)| *row).ok().map(|at| &absorbed[own[at].1]);
        let told = &told[told.partition_point(|(to, _)| *to < row)..];
        let told = told.iter().take_while(|(to, _)| *to == row).map(|(_, at)| absorbed[*at].row);
        rewrite(job, measure, (row, new), told, worker)
    });
    memory::collect(lists.into_iter().flatten())
}

/// The list of a row; none when it stays as it is.
fn rewrite<M: RowMeasure>(
    job: Job<'_, M>,
    measure: M,
    (row, new): (Row, Option<&Absorbed>),
    told: impl Iterator<Item = Row>,
    worker: &mut Worker<M>,
) -> Option<List> {
    let Worker { scratch: Scratch { candidates, rows, others: before, .. }, query, .. } = worker;
    before.clear();
    match new {
        Some(new) => memory::append(before, &new.products),
        None => memory::extend(before, job.graph.product_links(row)),
    }
    let is_forgotten = |row: &Row| job.forgotten.contains(*row);
    rows.clear();
    memory::extend(rows, before.iter().copied().filter(|link| !is_forgotten(link)));
    // What they led to is as near as anything to what is lost.
    for gone in before.iter().filter(|link| is_forgotten(link)) {
        memory::extend(
            rows,
            job.graph.product_links(*gone).filter(|link| *link != row && !job.is_dead(*link)),
        );
    }
    memory::extend(rows, told);
    rows.sort_unstable();
    rows.dedup();
    let query = measure.row_query(row, query);
    candidates.clear();
    add_near(measure, query, rows, f32::INFINITY, candidates);
    let links = greatest(candidates, job.options.products);
    (new.is_some() || links != *before).then_some(List { row, layer: 0, links })
}
