//! Structures that find near rows, one shard each: the trait that they share.
//!
//! An index is *persistent* in the functional sense. What readers see is an
//! [`IndexVersion`]: immutable, shared, kept for as long as anybody holds it.
//! The writer's side is an [`Index`]. A change takes two steps: any thread
//! computes a [`Plan`] against a frozen version (the expensive part, spread
//! over an [`Executor`]), then the one writer commits it (the cheap part),
//! which makes the next version. Plans depend on the version, the batch and
//! the vectors alone, never on time or on the number of threads.

use std::any::Any;
use std::sync::Arc;

use crate::bits::RowSet;
use crate::codec::Encoder;
use crate::id::Row;
use crate::neighbor::TopK;
use crate::quant::Codec;
use crate::stop::Stop;
use crate::vector::{MatrixView, Space};

mod auto;
mod bulk;
mod copies;
mod cow;
mod flat;
mod graph;
mod hnsw;
mod ivf;
mod links;
mod measure;
mod parallel;
mod pool;
mod rerank;
mod resolution;
mod scratch;
mod screened;
mod sift;
mod sifted;
mod training;

pub(crate) use auto::{Auto, AutoOptions, Grown};
pub(crate) use bulk::bulk_rows;
pub(crate) use copies::Copying;
#[cfg(any(feature = "internals", all(test, not(vecino_loom))))]
pub(crate) use cow::{BlockView, Blocks, Versions};
pub(crate) use flat::Flat;
pub(crate) use graph::{Coding, GraphOptions, MOST_READ, PRODUCT_SHARE, QuantizedGraph};
pub(crate) use hnsw::{Hnsw, HnswOptions};
pub(crate) use ivf::{
    Ivf, IvfOptions, LEAST_FILED, LIST_BLOCK, ListStorage, MAX_LISTS, MEETING_DIM, ROWS_A_LIST,
    TRAINED_A_LIST,
};
pub(crate) use links::walked;
#[cfg(any(test, feature = "internals"))]
pub(crate) use pool::Pool;
pub(crate) use scratch::Scratch;
pub(crate) use screened::Screened;

/// A piece of work for an [`Executor`].
pub(crate) type Task<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Runs tasks, perhaps in parallel. The floors up to the shards own no
/// threads: they are handed one of these.
pub(crate) trait Executor: Sync {
    /// Tasks that can run at the same time.
    fn width(&self) -> usize;

    /// Runs all tasks and returns when the last has ended.
    fn run<'a>(&self, tasks: Vec<Task<'a>>);

    /// True when the result will not be used any more: long loops may end
    /// early with whatever they have.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Runs every task on the calling thread, in order.
#[derive(Debug)]
pub(crate) struct Sequential;

impl Executor for Sequential {
    fn width(&self) -> usize {
        1
    }

    fn run<'a>(&self, tasks: Vec<Task<'a>>) {
        tasks.into_iter().for_each(|task| task());
    }
}

/// The stored vectors and how to measure them.
#[derive(Clone, Copy)]
pub(crate) struct Points<'a> {
    pub(crate) space: &'a Space,
    pub(crate) vectors: &'a MatrixView,
}

/// What to change: rows to take in, rows to let go.
pub(crate) struct Batch<'a> {
    /// Live rows that the version does not hold yet, oldest first.
    pub(crate) absorb: &'a [Row],
    /// For each row of `absorb` a number that no other row of the shard ever
    /// had, counted up by the write log: the seed of its random choices.
    pub(crate) ordinals: &'a [u64],
    /// Dead rows that the version holds: no link may lead to them afterwards.
    pub(crate) forget: &'a [Row],
    /// True for rows that are dead; such rows may be walked through but must
    /// not be linked anew.
    pub(crate) dead: &'a (dyn Fn(Row) -> bool + Sync),
    /// True when the index should put itself in the best order it knows; such a
    /// batch absorbs and forgets nothing.
    pub(crate) optimize: bool,
    /// False when nothing may begin to be trained anew yet, however out of date: what
    /// stands there is kept for readers already, and again as it was changed since.
    pub(crate) renews: bool,
}

impl<'a> Batch<'a> {
    /// Takes rows in and does nothing else; none of them is dead.
    pub(crate) fn of(absorb: &'a [Row], ordinals: &'a [u64]) -> Batch<'a> {
        Batch { absorb, ordinals, forget: &[], dead: &|_| false, optimize: false, renews: true }
    }
}

/// A computed change, private to the index that made it.
pub(crate) struct Plan(pub(crate) Box<dyn Any + Send>);

/// What is known of the rows of an index that is loaded.
pub(crate) struct Saved<'a> {
    /// The rows that it held.
    pub(crate) held: &'a RowSet,
    /// Every row is below this number.
    pub(crate) limit: usize,
}

/// What to look for.
pub(crate) struct Request<'a> {
    /// The query in the form of [`Space::prepare`].
    pub(crate) query: &'a [f32],
    /// Rows wanted.
    pub(crate) k: usize,
    /// Breadth of the search: the list length of graph indexes (`ef_search`).
    pub(crate) ef: usize,
    /// A distance known to be among the k best already (from another shard):
    /// rows beyond it are of no use. Infinite when nothing is known.
    pub(crate) bound: f32,
    /// Rows that may be in the answer; `None`: all. Others may be walked through.
    pub(crate) admit: Option<&'a (dyn Fn(Row) -> bool + 'a)>,
    /// The filter that is a part of it.
    pub(crate) filter: Option<RowFilter<'a>>,
    /// Indexes that are searched for the query one after the other, this one among them.
    pub(crate) shards: usize,
    pub(crate) ends: Ends<'a>,
}

/// Rows that pass a filter, those included that are not visible.
#[derive(Clone, Copy)]
pub(crate) struct RowFilter<'a> {
    /// As bits.
    pub(crate) words: &'a [u64],
    /// About this part of all rows.
    pub(crate) share: f32,
    /// `admit` asks for no more than these bits.
    pub(crate) is_all: bool,
}

impl RowFilter<'_> {
    #[inline(always)]
    pub(crate) fn passes(&self, row: Row) -> bool {
        self.words.get(row as usize / 64).is_some_and(|word| word & 1 << (row % 64) != 0)
    }
}

/// Where a search ends, besides with the k nearest.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ends<'a> {
    /// Asked every few distances whether to end.
    pub(crate) stop: Option<&'a Stop<'a>>,
    /// All rows up to this distance are wanted, as far as k has room.
    pub(crate) reach: Option<f32>,
}

impl Ends<'_> {
    /// Whether to end, after so many distances.
    #[inline(always)]
    pub(crate) fn are_due(&self, distances: u64) -> bool {
        self.stop.is_some_and(|stop| stop.is_due(distances))
    }

    /// The same, for loops that do other work than distances: asks the clock at once.
    fn are_due_now(&self, distances: u64) -> bool {
        self.stop.is_some_and(|stop| stop.look(distances))
    }

    /// Whether a part that begins may compute so many distances.
    pub(crate) fn allow(&self, distances: u64) -> bool {
        self.stop.is_none_or(|stop| stop.allows(distances))
    }

    /// Notes the distances of a loop that is over.
    pub(crate) fn spend(&self, distances: u64) {
        if let Some(stop) = self.stop {
            stop.spend(distances);
        }
    }
}

/// One of several searches that are done together.
pub(crate) struct Trip<'a> {
    pub(crate) request: Request<'a>,
    pub(crate) scratch: &'a mut Scratch,
    /// Already reset to k.
    pub(crate) found: &'a mut TopK,
    /// What it took.
    pub(crate) effort: Effort,
}

/// What a search did, as plain counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effort {
    /// Distances computed (also those that stopped early).
    pub(crate) distances: u64,
    /// Graph nodes whose neighbours were looked at.
    pub(crate) hops: u64,
}

/// A defect that `audit` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// A held row that no search can reach.
    Unreachable(Row),
    /// A link from one row to a row that the index does not hold.
    Dangling { from: Row, to: Row },
    /// The index does not hold a row that it should, or holds one that it should not.
    Membership(Row),
    /// A list is longer than its degree, or names a row twice; or what is kept of the row
    /// is not what follows from others.
    Malformed(Row),
}

impl Defect {
    /// The same defect of rows under other numbers.
    fn renamed(self, renamed: impl Fn(Row) -> Row) -> Defect {
        match self {
            Defect::Unreachable(row) => Defect::Unreachable(renamed(row)),
            Defect::Dangling { from, to } => Defect::Dangling { from: renamed(from), to: renamed(to) },
            Defect::Membership(row) => Defect::Membership(renamed(row)),
            Defect::Malformed(row) => Defect::Malformed(renamed(row)),
        }
    }
}

/// The immutable side: what readers and planners use.
pub(crate) trait IndexVersion: Send + Sync {
    /// Rows that the version holds, dead ones that are not forgotten yet included.
    fn len(&self) -> usize;

    /// Offers near admitted rows to `found` (already reset to k). Finds at
    /// least `min(k, admitted rows)` of them unless `bound` excludes them.
    fn search(
        &self,
        points: Points<'_>,
        request: &Request<'_>,
        scratch: &mut Scratch,
        found: &mut TopK,
    ) -> Effort;

    /// Does all searches, each with the same result as [`IndexVersion::search`].
    fn search_many(&self, points: Points<'_>, trips: &mut [Trip<'_>]) {
        for Trip { request, scratch, found, effort } in trips {
            *effort = self.search(points, request, scratch, found);
        }
    }

    /// Computes how to take in and let go the rows of a batch.
    fn plan(&self, points: Points<'_>, batch: &Batch<'_>, executor: &dyn Executor) -> Plan;

    /// What makes the codes by which searches walk, where other shards of the
    /// collection could use the same.
    fn codec(&self) -> Option<&Codec> {
        None
    }

    /// Computes how to go over to the codes of another shard, and to put itself
    /// in order; none: it has no such codes.
    fn adopt(&self, _points: Points<'_>, _codec: Codec, _executor: &dyn Executor) -> Option<Plan> {
        None
    }

    /// Checks the whole structure: every row of `expected` (ascending) and no
    /// other is held, all are reachable, nothing dangles. O(rows).
    fn audit(&self, expected: &mut dyn Iterator<Item = Row>) -> Vec<Defect>;

    /// Writes the structure in a form that the index's `load` takes; gives the
    /// rows that it holds. `None`: it has no such form, and must be built anew.
    fn save(&self, _out: &mut Encoder) -> Option<RowSet> {
        None
    }

    /// A number that is the same exactly when the structure is the same.
    fn digest(&self) -> u64;

    /// True while all of it is trained anew, a part with each batch.
    #[cfg(test)]
    fn is_renewing(&self) -> bool {
        false
    }

    /// True when every search finds the nearest rows, whatever its breadth.
    fn is_exact(&self) -> bool {
        false
    }

    /// True when the breadth of a search is a number of lists, not of rows.
    fn counts_lists(&self) -> bool {
        false
    }

    /// Like [`IndexVersion::search`], but finds the nearest of all admitted rows
    /// for certain; `None`, having done nothing, when the version knows no
    /// faster way than looking at each.
    fn search_exact(
        &self,
        _points: Points<'_>,
        _request: &Request<'_>,
        _scratch: &mut Scratch,
        _found: &mut TopK,
    ) -> Option<Effort> {
        None
    }

    /// Like [`IndexVersion::search`], among some of the rows that the version
    /// holds, all of which are admitted (others are passed over); `None`, having
    /// done nothing, when it knows no faster way than measuring each.
    fn search_among(
        &self,
        _points: Points<'_>,
        _request: &Request<'_>,
        _rows: &mut dyn Iterator<Item = Row>,
        _scratch: &mut Scratch,
        _found: &mut TopK,
    ) -> Option<Effort> {
        None
    }

    /// False when taking in a few rows (and letting go none) is no more than that: nothing is trained, and no
    /// other index takes its place. True where that is not known.
    fn takes_long(&self, _rows: usize) -> bool {
        true
    }

    /// True when [`IndexVersion::upkeep`] has something to do for vectors of
    /// this dimension.
    fn needs_upkeep(&self, _dim: usize) -> bool {
        false
    }

    /// Computes a piece of work that belongs to no batch: it makes searches
    /// cheaper and changes no answer. Bounded, so that batches need not wait long.
    fn upkeep(&self, _points: Points<'_>, _executor: &dyn Executor) -> Option<Plan> {
        None
    }
}

/// How far an index has come in giving back memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settling {
    /// There is nothing to give back.
    Settled,
    /// There may be, once nobody holds an older version.
    Waiting,
    /// There is a new version; perhaps more can be given back later.
    Stepped,
}

/// The writer's side.
pub(crate) trait Index: Send {
    /// The newest version.
    fn version(&self) -> Arc<dyn IndexVersion>;

    /// Applies a plan that was made against the newest version; `version`
    /// gives the next one afterwards.
    fn commit(&mut self, plan: Plan);

    /// Lets go of memory that only older versions needed, a step at a time, as
    /// far as these are gone. For moments in which nothing is written: it makes
    /// a version, which holds the same.
    fn settle(&mut self) -> Settling;

    /// Exact searches are wanted often: they may take memory. True when that is
    /// news, and the version has changed.
    fn want_exact(&mut self) -> bool {
        false
    }

    /// Bytes of the whole index, with blocks that wait to be reused.
    fn bytes(&self) -> usize;

    /// The blocks that versions share with it, and those that only older versions keep: who puts another index in its place
    /// goes on counting these.
    fn shared(&self) -> cow::SharedMemory;

    /// The kind, for statistics: "graph", "hnsw", "ivf", "pq", "flat".
    fn kind(&self) -> &'static str;

    /// Why it is of that kind, for statistics.
    fn reason(&self) -> &'static str {
        "as configured"
    }
}

#[cfg(test)]
mod tests;
