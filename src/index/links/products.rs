//! Links to the rows of the greatest inner products.
//!
//! Under the inner product the graph is the Euclidean one of the same rows (PSP, PVLDB 2025), and that alone
//! leads to long rows badly: few others are near them. So each row has a second list beside its neighbours: the rows whose inner
//! product with it is greatest. They are those that a query from where the row is would be answered with,
//! so a walk that comes near a query by the first list finds its answers in the second (as ip-NSW+ does with
//! two graphs; Liu et al., AAAI 2020). Such a list is not pruned, because nothing stands between rows by
//! inner product, and its links are not returned: most rows are in nobody's answer.
//!
//! Each row looks for its own list once, and a new row is told to the rows that it chose, which are the long
//! ones: so the lists of long rows keep up with what comes, and lead on from lists that do not.

use super::absorb::{Absorbed, add_mates, keep_live};
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

/// So many at least, however short the list is.
const KEPT_LEAST: usize = 16;

/// Rows near one that has lost most of its list, whose lists are looked through for it.
const ASKED: usize = 16;

/// A list is filled up again once more than one in so many of its places is empty: then many rows that came are
/// looked at at once.
const LOST: usize = 4;

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
        let limits = Limits::building((KEPT * most).max(KEPT_LEAST));
        walk.beam(0, limits, scratch, &mut effort);
        // The longest rows may be dead and not taken out yet: then they fill the pool.
        keep_live(job, walk, limits, most, scratch);
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
    // Who is told, and of whom.
    let mut told: Vec<(Row, Row)> = memory::list(absorbed.iter().map(|new| new.products.len()).sum());
    for new in absorbed {
        told.extend(new.products.iter().map(|row| (*row, new.row)));
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
        let told = told.iter().take_while(|(to, _)| *to == row).map(|(_, new)| *new);
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
    if job.executor.cancelled() && new.is_none() {
        return None;
    }
    let Worker { scratch: Scratch { candidates, rows, others: before, .. }, query, .. } = worker;
    before.clear();
    match new {
        Some(new) => memory::append(before, &new.products),
        None => memory::extend(before, job.graph.product_links(row)),
    }
    rows.clear();
    memory::extend(rows, before.iter().copied().filter(|link| !job.forgotten.contains(*link)));
    let staying = rows.len();
    memory::extend(rows, told);
    let has_lost = staying < before.len();
    let is_short = new.is_none() && staying < job.options.products - job.options.products / LOST;
    if rows.len() == staying && !is_short && new.is_none() {
        // As many lists lead to a long row as there are rows: what is lost with it is let go, no more.
        return has_lost.then(|| List { row, layer: 0, links: memory::copied(rows) });
    }
    if is_short {
        memory::append(rows, &substitutes(job, row, before, staying));
    }
    rows.sort_unstable();
    rows.dedup();
    let query = measure.row_query(row, query);
    candidates.clear();
    add_near(measure, query, rows, f32::INFINITY, candidates);
    let links = greatest(candidates, job.options.products);
    (new.is_some() || links != *before).then_some(List { row, layer: 0, links })
}

/// Live rows for a list that has lost many: those of the lists of all that was in it, since new rows
/// were told to these, and where most of it is lost, rows near the row and what these know.
fn substitutes<M: RowMeasure>(job: Job<'_, M>, row: Row, before: &[Row], staying: usize) -> Vec<Row> {
    let is_of_use = |link: &Row| *link != row && !job.is_dead(*link);
    let list_of = |link: &Row| job.graph.product_links(*link).filter(is_of_use);
    let mut rows: Vec<Row> = memory::collect(before.iter().flat_map(list_of));
    if staying < job.options.products / 2 {
        let near: Vec<Row> = memory::collect(job.graph.links(0, row).filter(is_of_use));
        near.iter().take(ASKED).for_each(|near| memory::extend(&mut rows, list_of(near)));
        memory::append(&mut rows, &near);
    }
    rows
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::bits::RowSet;
    use crate::id::mix;
    use crate::index::cow::Versions;
    use crate::index::links::{Graph, LinkOptions, Links, audit, change};
    use crate::index::measure::Measure;
    use crate::index::{Batch, Sequential};
    use crate::kernel::Portable;

    const DIM: usize = 8;
    const OPTIONS: LinkOptions = LinkOptions {
        degree: 16,
        products: 8,
        upper: 8,
        first: 8,
        tree: 8,
        ef_construction: 64,
        slack: 1.0,
        layered: false,
        seed: 7,
    };

    /// Vectors as they are.
    #[derive(Clone, Copy)]
    struct Plain<'a> {
        vectors: &'a [[f32; DIM]],
        is_dot: bool,
    }

    impl Measure for Plain<'_> {
        type Query = [f32; DIM];
        type Arch = Portable;

        fn arch(&self) -> Portable {
            Portable
        }

        fn distance(&self, query: &[f32; DIM], row: Row) -> f32 {
            let pairs = || query.iter().zip(&self.vectors[row as usize]);
            match self.is_dot {
                true => -pairs().map(|(a, b)| a * b).sum::<f32>(),
                false => pairs().map(|(a, b)| (a - b) * (a - b)).sum(),
            }
        }

        fn distances(&self, query: &[f32; DIM], rows: &[Row], _bound: f32, distances: &mut [f32]) {
            for (row, distance) in rows.iter().zip(distances) {
                *distance = self.distance(query, *row);
            }
        }

        fn prefetch(&self, _row: Row) {}
    }

    impl RowMeasure for Plain<'_> {
        type Buffer = ();

        fn row_query<'a>(&'a self, row: Row, _buffer: &'a mut ()) -> &'a [f32; DIM] {
            &self.vectors[row as usize]
        }
    }

    /// Directions at random, lengths from 1 to 4.
    fn vectors(count: u64) -> Vec<[f32; DIM]> {
        let number = |seed: u64| (mix(seed) % 2_001) as f32 / 1_000.0 - 1.0;
        let vector = |row: u64| {
            let length = 1.0 + (mix(row ^ 0xfeed) % 1_000) as f32 / 333.0;
            let parts: [f32; DIM] = std::array::from_fn(|at| number(row << 8 | at as u64));
            let own = parts.iter().map(|part| part * part).sum::<f32>().sqrt().max(0.1);
            parts.map(|part| part * length / own)
        };
        (0..count).map(vector).collect()
    }

    struct Grown<'a> {
        versions: Versions,
        links: Links,
        graph: Graph,
        vectors: &'a [[f32; DIM]],
    }

    impl Grown<'_> {
        fn new(vectors: &[[f32; DIM]]) -> Grown<'_> {
            let (mut versions, mut links) = (Versions::default(), Links::new(OPTIONS));
            let graph = links.empty(versions.begin(), &versions);
            Grown { versions, links, graph, vectors }
        }

        fn turn(&mut self, absorb: &[Row], forget: &[Row]) {
            self.turn_with_dead(absorb, forget, &|_| false);
        }

        fn turn_with_dead(&mut self, absorb: &[Row], forget: &[Row], dead: &(dyn Fn(Row) -> bool + Sync)) {
            let ordinals: Vec<u64> = absorb.iter().map(|row| u64::from(*row)).collect();
            let mut forgotten = RowSet::default();
            forget.iter().for_each(|row| _ = forgotten.insert(*row));
            let measure = Plain { vectors: self.vectors, is_dot: false };
            let lengths = |row: Row| self.vectors[row as usize].iter().map(|part| part * part).sum::<f32>();
            let plan = change(Job {
                options: &OPTIONS,
                graph: &self.graph,
                measure,
                products: Some(Plain { is_dot: true, ..measure }),
                batch: &Batch { forget, dead, ..Batch::of(absorb, &ordinals) },
                forgotten: &forgotten,
                executor: &Sequential,
                least: 8,
                norm: Some(&lengths),
            });
            let epoch = self.versions.begin();
            self.graph = self.links.apply(plan, &self.graph, epoch, &self.versions);
        }

        /// The part of the greatest inner products of all rows that their lists hold.
        fn held(&self) -> f64 {
            let (measure, mut held, mut all) = (Plain { vectors: self.vectors, is_dot: true }, 0, 0);
            for row in self.graph.held.iter() {
                let query = &self.vectors[row as usize];
                let others = self.graph.held.iter().filter(|other| *other != row);
                let mut others: Vec<Neighbor> =
                    others.map(|row| Neighbor { distance: measure.distance(query, row), row }).collect();
                others.sort_unstable_by(Neighbor::order);
                let links: HashSet<Row> = self.graph.product_links(row).collect();
                held += others.iter().take(OPTIONS.products).filter(|near| links.contains(&near.row)).count();
                all += OPTIONS.products.min(others.len());
            }
            held as f64 / all as f64
        }

        fn assert_whole(&self) {
            let defects = audit(&self.graph, &OPTIONS, &mut self.graph.held.iter());
            assert!(defects.is_empty(), "{:?}", defects.first());
        }
    }

    #[test]
    fn lists_hold_the_rows_of_the_greatest_inner_products_whatever_came_and_went() {
        let vectors = vectors(2_000);
        let mut grown = Grown::new(&vectors);
        for first in (0..1_500).step_by(60) {
            grown.turn(&(first..first + 60).collect::<Vec<Row>>(), &[]);
            grown.assert_whole();
        }
        let held = grown.held();
        assert!(held > 0.6, "{held} of the greatest");
        // One in three goes, and with them one in three of the longest.
        for first in (0..1_500).step_by(300) {
            let gone: Vec<Row> = (first..first + 300).filter(|row| row % 3 == 0).collect();
            grown.turn(&(1_500 + first / 3..1_600 + first / 3).collect::<Vec<Row>>(), &gone);
            grown.assert_whole();
        }
        let held = grown.held();
        assert!(held > 0.6, "{held} of the greatest after changes");
    }

    #[test]
    fn a_row_that_comes_while_the_longest_are_dead_has_a_whole_list_of_others() {
        let vectors = vectors(1_000);
        let mut grown = Grown::new(&vectors);
        grown.turn(&(0..900).collect::<Vec<Row>>(), &[]);
        let length = |row: Row| vectors[row as usize].iter().map(|part| part * part).sum::<f32>();
        let is_dead = |row: Row| length(row) > 12.0;
        assert!((0..900).filter(|row| is_dead(*row)).count() > 100);
        for row in (900..1_000).filter(|row| !is_dead(*row)) {
            grown.turn_with_dead(&[row], &[], &is_dead);
            assert_eq!(grown.graph.product_links(row).filter(|link| !is_dead(*link)).count(), 8, "{row}");
        }
    }

    #[test]
    fn a_row_that_is_longer_than_all_others_comes_into_many_lists() {
        let mut vectors = vectors(1_000);
        vectors[999] = vectors[999].map(|part| part * 4.0);
        let mut grown = Grown::new(&vectors);
        grown.turn(&(0..500).collect::<Vec<Row>>(), &[]);
        grown.turn(&[999], &[]);
        let in_lists = |grown: &Grown<'_>| {
            (0..999)
                .filter(|row| grown.graph.held.contains(*row))
                .filter(|row| grown.graph.product_links(*row).any(|link| link == 999))
                .count()
        };
        assert!(in_lists(&grown) >= 1, "nobody was told");
        grown.turn(&(500..999).collect::<Vec<Row>>(), &[]);
        assert!(in_lists(&grown) > 100, "{}", in_lists(&grown));
        grown.turn(&[], &[999]);
        assert_eq!(in_lists(&grown), 0);
        grown.assert_whole();
    }
}
