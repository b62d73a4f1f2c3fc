//! More places to start a walk from than the entry row.
//!
//! A flat graph has no layers that lead into every region: some rows drawn at
//! random stand in for them. And under the inner product the best rows are
//! often those of large norm, far from the query in the Euclidean graph.

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
    let longest = job.norm.map(|norm| heaviest(job, &old.longest, |row| u64::from(norm(row).to_bits())));
    let scattered =
        (!job.options.layered).then(|| heaviest(job, &old.scattered, |row| mix(seed ^ u64::from(row))));
    Starts { longest: longest.unwrap_or_default(), scattered: scattered.unwrap_or_default() }
}

fn heaviest<M: RowMeasure>(job: Job<'_, M>, old: &[Start], weight: impl Fn(Row) -> u64) -> Vec<Start> {
    let start = |row: Row| Start { weight: weight(row), row };
    let staying = old.iter().filter(|start| !job.forgotten.contains(start.row));
    let mut starts: Vec<Start> = memory::collect(staying.copied());
    if starts.len() < REFILL_BELOW {
        let staying = job.graph.held.iter().filter(|row| !job.forgotten.contains(*row));
        starts = memory::collect(staying.map(start));
    }
    memory::extend(&mut starts, job.batch.absorb.iter().map(|row| start(*row)));
    starts.sort_unstable_by(|a, b| b.weight.cmp(&a.weight).then(a.row.cmp(&b.row)));
    starts.truncate(COUNT);
    starts
}
