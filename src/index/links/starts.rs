//! More places to start a walk from than the entry row.
//!
//! A flat graph has no layers that lead into every region: some rows drawn at
//! random stand in for them. And under the inner product the best rows are
//! often those of large norm, far from the query in the Euclidean graph.

use std::cmp::Ordering;

use super::plan::Job;
use crate::bits::RowSet;
use crate::codec::{Decoder, Encoder, Malformed};
use crate::id::{Row, mix};
use crate::index::measure::RowMeasure;
use crate::memory;

/// Rows of each kind that are kept. Measured on graphs of 60,000 to
/// 390,000 rows: from 16 random rows a walk is at its goal after 4 to 7 hops.
const COUNT: usize = 32;

/// Below this many after losses, all rows are looked at again.
const REFILL_BELOW: usize = COUNT / 2;

/// A row to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// Rows of the greatest weight are kept.
    weight: u64,
    pub(super) row: Row,
}

impl Start {
    /// The heaviest first, among equals that of the lowest number.
    fn order(&self, other: &Start) -> Ordering {
        other.weight.cmp(&self.weight).then(self.row.cmp(&other.row))
    }
}

/// The rows to start from, each kind descending by weight.
#[derive(Clone, Debug, Default)]
pub(super) struct Starts {
    /// Rows of the largest norm; empty unless asked for.
    longest: Vec<Start>,
    /// Rows drawn at random; empty unless asked for.
    scattered: Vec<Start>,
}

impl Starts {
    pub(super) fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        self.longest().chain(self.scattered())
    }

    pub(super) fn longest(&self) -> impl Iterator<Item = Row> + '_ {
        self.longest.iter().map(|start| start.row)
    }

    pub(super) fn scattered(&self) -> impl Iterator<Item = Row> + '_ {
        self.scattered.iter().map(|start| start.row)
    }
}

impl Starts {
    /// The same rows under other numbers.
    pub(super) fn renamed(&self, renamed: &dyn Fn(Row) -> Row) -> Starts {
        let all = |starts: &[Start]| {
            starts.iter().map(|start| Start { row: renamed(start.row), ..*start }).collect()
        };
        Starts { longest: all(&self.longest), scattered: all(&self.scattered) }
    }

    pub(super) fn save(&self, out: &mut Encoder) {
        for starts in [&self.longest, &self.scattered] {
            out.size(starts.len());
            for start in starts {
                out.u64(start.weight);
                out.u32(start.row);
            }
        }
    }

    pub(super) fn load(held: &RowSet, input: &mut Decoder<'_>) -> Result<Starts, Malformed> {
        let mut list = || {
            let count = input.count(12)?;
            input.check(count <= COUNT, "there are too many rows to start from")?;
            let starts = (0..count).map(|_| Ok(Start { weight: input.u64()?, row: input.u32()? }));
            let starts: Vec<Start> = starts.collect::<Result<_, Malformed>>()?;
            let all_held = starts.iter().all(|start| held.contains(start.row));
            input.check(all_held, "a row to start from is not held").map(|()| starts)
        };
        Ok(Starts { longest: list()?, scattered: list()? })
    }
}

/// The starts after a batch.
pub(super) fn next<M: RowMeasure>(job: Job<'_, M>) -> Starts {
    let old = &job.graph.starts;
    let seed = job.options.seed;
    // Numbers that are not negative order like their bits.
    let length = |norm: &dyn Fn(Row) -> f32, row| u64::from(norm(row).to_bits());
    let longest = job.norm.map(|norm| heaviest(job, &old.longest, Enters::Heavier, |row| length(norm, row)));
    let scattered = (!job.options.layered)
        .then(|| heaviest(job, &old.scattered, Enters::Any, |row| mix(seed ^ u64::from(row))));
    Starts { longest: longest.unwrap_or_default(), scattered: scattered.unwrap_or_default() }
}

/// Which new rows come into a list that lost some.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Enters {
    Any,
    /// Those before the last that stays: others may be lighter than rows that
    /// are held and not in the list. It stays the beginning of the order of all
    /// rows, and grows shorter until all are looked at again.
    Heavier,
}

fn heaviest<M: RowMeasure>(
    job: Job<'_, M>,
    old: &[Start],
    enters: Enters,
    weight: impl Fn(Row) -> u64,
) -> Vec<Start> {
    let start = |row: Row| Start { weight: weight(row), row };
    let staying = old.iter().filter(|start| !job.forgotten.contains(start.row));
    let mut starts: Vec<Start> = memory::collect(staying.copied());
    let mut holds_all = old.len() == job.graph.held.len();
    if starts.len() < REFILL_BELOW {
        let staying = job.graph.held.iter().filter(|row| !job.forgotten.contains(*row));
        starts = memory::collect(staying.map(start));
        holds_all = true;
    }
    let last = starts.last().copied().filter(|_| enters == Enters::Heavier && !holds_all);
    let new = job.batch.absorb.iter().map(|row| start(*row));
    memory::extend(&mut starts, new.filter(|new| last.is_none_or(|last| new.order(&last).is_lt())));
    starts.sort_unstable_by(Start::order);
    starts.truncate(COUNT);
    starts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::cow::Versions;
    use crate::index::links::graph::Graph;
    use crate::index::links::{LinkOptions, Links};
    use crate::index::measure::Exact;
    use crate::index::{Batch, Points, Sequential};
    use crate::metric::Metric;
    use crate::vector::{Matrix, Space, VectorStorage};

    const OPTIONS: LinkOptions = LinkOptions {
        degree: 16,
        products: 0,
        upper: 8,
        first: 8,
        tree: 8,
        ef_construction: 64,
        slack: 1.0,
        layered: false,
        seed: 7,
    };

    /// Rows of which those below 2,000 are the longer the later, and all others short.
    fn norm(row: Row) -> f32 {
        if row < 2_000 { row as f32 + 1.0 } else { 1.0 / row as f32 }
    }

    fn turn(graph: &mut Graph, absorb: &[Row], forget: &[Row]) {
        let (space, matrix) =
            (Space::new(Metric::L2, 1), Matrix::new(1, VectorStorage::Lossless, Metric::L2));
        let points = Points { space: &space, vectors: matrix.view() };
        let mut forgotten = RowSet::default();
        forget.iter().for_each(|row| _ = forgotten.insert(*row));
        let ordinals: Vec<u64> = absorb.iter().map(|row| u64::from(*row)).collect();
        let starts = next(Job {
            options: &OPTIONS,
            graph,
            measure: Exact::new(points),
            products: None,
            batch: &Batch { forget, ..Batch::of(absorb, &ordinals) },
            forgotten: &forgotten,
            executor: &Sequential,
            least: 0,
            norm: Some(&norm),
        });
        graph.held = graph.held.after(forget, absorb);
        graph.starts = starts;
    }

    /// The held rows, the longest first.
    fn by_length(graph: &Graph) -> Vec<Row> {
        let mut rows: Vec<Row> = graph.held.iter().collect();
        rows.sort_by(|a, b| norm(*b).total_cmp(&norm(*a)).then(a.cmp(b)));
        rows
    }

    #[test]
    fn the_longest_rows_are_starts_whatever_came_and_went() {
        let mut versions = Versions::default();
        let epoch = versions.begin();
        let mut graph = Links::new(OPTIONS).empty(epoch, &versions);
        let mut next = 0;
        let mut rows = |count: Row| {
            next += count;
            (next - count..next).collect::<Vec<Row>>()
        };
        // All of few rows.
        for count in [10, 10] {
            turn(&mut graph, &rows(count), &[]);
            assert_eq!(graph.starts.longest().collect::<Vec<Row>>(), by_length(&graph));
        }
        turn(&mut graph, &rows(1_980), &[]);
        for _ in 0..40 {
            let longest = by_length(&graph);
            turn(&mut graph, &rows(COUNT as Row / 2), &longest[..COUNT / 2]);
            let starts: Vec<Row> = graph.starts.longest().collect();
            assert!(starts.len() >= REFILL_BELOW && by_length(&graph).starts_with(&starts), "{starts:?}");
            assert_eq!(graph.starts.scattered().count(), COUNT);
        }
    }
}
