//! Finding the lists that lead to forgotten rows.

use super::plan::{Job, Worker};
use crate::id::Row;
use crate::index::measure::RowMeasure;
use crate::index::parallel::parallel_map;
use crate::memory;

/// Rows that one task looks at in a piece.
const PIECE: usize = 1024;

/// A list with links to forgotten rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Holed {
    pub(super) row: Row,
    pub(super) layer: usize,
}

/// Every list of a row that stays which leads to a forgotten row, by row.
/// There are no reverse links to follow: one pass over all lists.
pub(super) fn holed_lists<M: RowMeasure>(job: Job<'_, M>, workers: &mut [Worker<M>]) -> Vec<Holed> {
    each_staying(job, workers, |row, holed| collect(job, row, holed))
}

/// Every row that stays whose list by inner product leads to a forgotten row.
pub(super) fn holed_products<M: RowMeasure>(job: Job<'_, M>, workers: &mut [Worker<M>]) -> Vec<Row> {
    each_staying(job, workers, |row, holed| {
        if job.graph.product_links(row).any(|link| job.forgotten.contains(link)) {
            memory::push(holed, row);
        }
    })
}

/// What `collect` collects of the rows that stay, in their order. Nothing when none goes.
fn each_staying<M: RowMeasure, T: Send>(
    job: Job<'_, M>,
    workers: &mut [Worker<M>],
    collect: impl Fn(Row, &mut Vec<T>) + Sync,
) -> Vec<T> {
    if job.batch.forget.is_empty() {
        return Vec::new();
    }
    let pieces = job.graph.row_limit().div_ceil(PIECE);
    let parts = parallel_map(job.executor, pieces, workers, |piece, _| {
        let mut holed = Vec::new();
        for row in (piece * PIECE) as Row..((piece + 1) * PIECE) as Row {
            if job.graph.held.contains(row) && !job.forgotten.contains(row) {
                collect(row, &mut holed);
            }
        }
        holed
    });
    memory::collect(parts.into_iter().flatten())
}

fn collect<M: RowMeasure>(job: Job<'_, M>, row: Row, holed: &mut Vec<Holed>) {
    let is_forgotten = |link| job.forgotten.contains(link);
    for layer in 0..=job.graph.level(row) {
        if job.graph.links(layer, row).any(is_forgotten) {
            memory::push(holed, Holed { row, layer });
        }
    }
}
