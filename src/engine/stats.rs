//! Counts and sizes, read from what is published: asking delays nobody.

use std::time::Duration;

use super::collection::Collection;
use super::core::Core;
use super::tuning::{self, TuningStats};
use crate::id::{Generation, Seq};
use crate::rows::Reindexing;
use crate::shard::{Mailbox, Refusals};

/// Bytes of a collection by what they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bytes {
    /// Vectors, with room that is reserved for more.
    pub vectors: usize,
    /// Vectors that only older snapshots keep.
    pub kept: usize,
    /// Ids, birth and death numbers.
    pub rows: usize,
    /// Payloads.
    pub payload: usize,
    /// Indexes.
    pub index: usize,
    /// The map from ids to rows.
    pub directory: usize,
}

impl Bytes {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> usize {
        self.vectors + self.kept + self.rows + self.payload + self.index + self.directory
    }
}

/// Bytes of stored vectors by the form they are in, with room that is reserved
/// for more: see [`VectorStorage`](crate::VectorStorage).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VectorBytes {
    /// A byte a number.
    pub bytes: usize,
    /// Half precision.
    pub half: usize,
    /// Floats.
    pub full: usize,
}

impl VectorBytes {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> usize {
        self.bytes + self.half + self.full
    }
}

/// A memory budget: see [`EngineBuilder::memory_budget`](crate::EngineBuilder::memory_budget).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetStats {
    /// Bytes that it allows; none: there is no budget.
    pub limit: Option<usize>,
    /// Bytes that count against it: the most that what is held, and what was
    /// promised to writes that were accepted, can take while it changes. May be
    /// more than the limit after a folder was opened, and while an old snapshot
    /// is held.
    pub used: usize,
}

/// One shard, as of the newest snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardStats {
    /// The kind of its index: "graph", "hnsw", "ivf", "pq", "flat".
    pub index: &'static str,
    /// Why it is that one: "as configured", or what [`IndexSpec::Auto`](crate::IndexSpec::Auto)
    /// goes by.
    pub index_reason: &'static str,
    /// Another index is being built in its place
    /// ([`Collection::reindex`](crate::Collection::reindex)).
    pub reindexing: bool,
    /// Its vectors.
    pub vectors: VectorBytes,
    /// Rows that every search scans because the index does not hold them yet.
    pub tail: usize,
    /// Rows in the index, dead ones that are not unlinked yet included.
    pub indexed: usize,
    /// Dead rows in the index.
    pub dead: usize,
    /// Places of dead rows that wait for new records.
    pub free_places: usize,
    /// Batches that the index took in so far.
    pub batches: u64,
    /// Writes that were taken from the mailbox and not applied yet.
    pub pending: usize,
    /// Views of the shard that somebody holds (the published one included).
    pub views_held: usize,
    /// Requests in the mailbox of the shard's worker, or being worked on.
    pub mailbox_depth: usize,
}

/// A collection, as of its newest snapshot.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CollectionStats {
    /// Visible records.
    pub rows: usize,
    /// Rows in all tails.
    pub tail: usize,
    /// Dead rows in all indexes.
    pub dead: usize,
    /// The newest generation.
    pub generation: Generation,
    /// The last write that it shows.
    pub seq: Seq,
    /// The last write that was accepted.
    pub last_seq: Seq,
    /// Searches answered so far.
    pub searches: u64,
    /// Distances that searches computed so far.
    pub distances: u64,
    /// Memory.
    pub bytes: Bytes,
    /// What counts against its memory budget.
    pub budget: BudgetStats,
    /// Every shard.
    pub shards: Vec<ShardStats>,
    /// What searches to a target come to.
    pub tuning: TuningStats,
    /// Times that a shard was made anew, from its last view and the writes behind
    /// that, after a defect (a panic) in the work on it: nothing was lost. Also
    /// where it had no memory in the midst of a change.
    pub rebuilt: u64,
    /// Writes of which a shard left its part out: see [`WaitError::LeftOut`](crate::WaitError::LeftOut).
    pub left_out: Vec<Seq>,
}

/// An engine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineStats {
    /// The instruction set of the distance kernels: "avx512", "avx2", "neon", "scalar".
    pub isa: &'static str,
    /// Requests in each worker's mailbox, or being worked on.
    pub mailbox_depths: Vec<usize>,
    /// Places in each mailbox.
    pub mailbox_capacity: usize,
    /// Of these, how many may be taken at present: fewer while writes take long.
    pub mailbox_limits: Vec<usize>,
    /// Bytes of the requests in each worker's mailbox, or being worked on.
    pub mailbox_bytes: Vec<usize>,
    /// The work in each worker's mailbox, or being done: the time of its thread
    /// that the writes will take, as estimated when they were accepted.
    pub mailbox_work: Vec<Duration>,
    /// The same of searches through the workers: what those that are accepted
    /// will take of each worker.
    pub search_work: Duration,
    /// How much of either may wait ([`EngineBuilder::mailbox_work`](crate::EngineBuilder::mailbox_work)).
    pub mailbox_work_limit: Duration,
    /// Writes that were refused so far because a mailbox was full.
    pub writes_refused: u64,
    /// The same by what there was too much of.
    pub writes_refused_for: Refusals,
    /// Searches through the workers that were refused so far.
    pub searches_refused: u64,
    /// The same by what there was too much of.
    pub searches_refused_for: Refusals,
    /// Searches and waits that the coordinator keeps.
    pub coordinator_depth: usize,
    /// Collections.
    pub collections: usize,
    /// Records in all of them.
    pub rows: usize,
    /// Memory of all of them.
    pub bytes: usize,
    /// What counts against the engine's memory budget.
    pub budget: BudgetStats,
}

pub(super) fn of_collection(collection: &Collection) -> CollectionStats {
    let shared = &collection.shared;
    let published = shared.cell.pin();
    let mut bytes = Bytes { directory: shared.context.directory.bytes(), ..Bytes::default() };
    let mut shards = Vec::with_capacity(published.shards.len());
    for (number, (view, mailbox)) in published.shards.iter().zip(&shared.core.writes).enumerate() {
        let measure = view.measure();
        // Newer: readers may have let go of memory since the view was made.
        let memory = shared.account.measure(number);
        let [narrow, half, full] = memory.vector_bytes;
        let vectors = VectorBytes { bytes: narrow, half, full };
        bytes.vectors += vectors.total();
        bytes.kept += memory.kept_bytes;
        bytes.rows += memory.row_bytes;
        bytes.payload += memory.payload_bytes;
        bytes.index += memory.index_bytes;
        shards.push(ShardStats {
            index: measure.index_kind,
            index_reason: measure.index_reason,
            reindexing: measure.reindexing != Reindexing::No,
            vectors,
            tail: measure.tail,
            indexed: measure.indexed,
            dead: measure.dead,
            free_places: measure.free_places,
            batches: measure.batches,
            pending: measure.pending,
            views_held: measure.views_held,
            mailbox_depth: mailbox.depth(),
        });
    }
    CollectionStats {
        rows: published.sight().len(),
        tail: shards.iter().map(|shard| shard.tail).sum(),
        dead: shards.iter().map(|shard| shard.dead).sum(),
        generation: published.generation,
        seq: published.seq,
        last_seq: shared.admission.last(),
        searches: shared.context.searches.sum(),
        distances: shared.context.distances.sum(),
        bytes,
        budget: BudgetStats { limit: shared.account.limit(), used: shared.account.used() },
        shards,
        tuning: tuning::of_published(&published),
        rebuilt: shared.context.health.rebuilt(),
        left_out: shared.context.health.left_out().collect(),
    }
}

pub(super) fn of_engine(core: &Core, collections: &[Collection]) -> EngineStats {
    let writes_refused: Refusals = core.writes.iter().map(Mailbox::refused).sum();
    let searches_refused = core.searches.refused();
    let mut stats = EngineStats {
        isa: core.isa,
        mailbox_depths: core.writes.iter().map(Mailbox::depth).collect(),
        mailbox_capacity: core.writes.first().map_or(0, Mailbox::capacity),
        mailbox_limits: core.writes.iter().map(Mailbox::limit).collect(),
        mailbox_bytes: core.writes.iter().map(Mailbox::bytes).collect(),
        mailbox_work: core.writes.iter().map(Mailbox::work).collect(),
        search_work: core.searches.work(),
        mailbox_work_limit: core.mailbox_work,
        writes_refused: writes_refused.total(),
        writes_refused_for: writes_refused,
        searches_refused: searches_refused.total(),
        searches_refused_for: searches_refused,
        coordinator_depth: core.requests.depth(),
        collections: 0,
        rows: 0,
        bytes: 0,
        budget: BudgetStats { limit: core.budget.limit(), used: core.budget.used() },
    };
    for collection in collections.iter().map(of_collection) {
        stats.collections += 1;
        stats.rows += collection.rows;
        stats.bytes += collection.bytes.total();
    }
    stats
}
