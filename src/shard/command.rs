//! The whole protocol between callers, workers and the coordinator, on one page.
//!
//! ```text
//!  caller ----- WriteCommand -----> worker i      (mailbox, one per worker)
//!  coordinator -- ShardQuery -----> worker i      (mailbox, served first)
//!  pool ---------- Signal --------> worker i      (an absorbed batch; the end)
//!  caller -------- Signal --------> worker i      (exact searches are wanted; once)
//!  worker i ------ Report --------> coordinator   (views, partial answers, failures)
//!  pool ---------- Report --------> coordinator   (a slice of a calibration)
//!  worker i ------ Note ----------> keeper        (a log file that is complete)
//! ```

use std::sync::Arc;
use std::time::Instant;

use super::batch::Plans;
use super::budget::{Grant, Meter};
use super::journal::Journal;
use super::mailbox::{Reply, Signals};
use super::places::Permit;
use super::rescue::Rebuilder;
use super::state::ShardState;
use super::toll::ShardTolls;
use crate::calibrate::Run;
use crate::durability::Durability;
use crate::error::{CheckpointError, SearchError};
use crate::id::Seq;
use crate::index::Executor;
use crate::memory::Shortage;
use crate::payload::Timestamp;
use crate::persist::ClosedLog;
use crate::query::{Answer, Query};
use crate::rows::{Mutation, ShardView, Verdict};
use crate::snapshot::{Published, Screener, Toil};
use crate::tuning::Calibration;

/// The number of a collection, never used twice in an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct CollectionId(pub(crate) u64);

/// What a queued write keeps until it is applied.
pub(crate) enum Keep {
    /// Its place in the mailbox, unless others need it, and the memory that it was promised.
    Place { _permit: Option<Permit>, _grant: Option<Grant> },
    /// Nothing: nobody sent it.
    #[cfg(test)]
    Nothing,
    /// Somebody waits for the end of an optimization.
    Optimized { done: Reply<Result<(), Shortage>>, _permit: Permit },
    /// Somebody waits for the verdict on a condition.
    Decided { verdict: Reply<Result<Verdict, Shortage>>, _permit: Permit, _grant: Option<Grant> },
}

impl Keep {
    /// There is no memory: gives the place back, and tells whoever waits. The
    /// write is done all the same, some time.
    pub(super) fn let_go(&mut self, shortage: Shortage) {
        let kept = std::mem::replace(self, Keep::Place { _permit: None, _grant: None });
        match kept {
            Keep::Place { _grant, .. } => *self = Keep::Place { _permit: None, _grant },
            Keep::Decided { verdict, _grant, .. } => {
                verdict.send(Err(shortage));
                *self = Keep::Place { _permit: None, _grant };
            }
            Keep::Optimized { done, .. } => done.send(Err(shortage)),
            #[cfg(test)]
            Keep::Nothing => {}
        }
    }
}

/// What the log is told of a part of a write. Parts that come from the log, or
/// of an engine that has none, have no such thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogPart {
    /// Shards that get a part of the write.
    pub(crate) parts: u32,
    /// How far it must be before it is applied.
    pub(crate) durability: Durability,
}

/// Sent by callers. Writes of one collection reach a worker in the order of
/// their sequence numbers.
pub(crate) enum WriteCommand {
    /// Host a shard.
    Create {
        collection: CollectionId,
        state: Box<ShardState<Keep>>,
        /// What readers see of it.
        view: Arc<ShardView>,
        rebuilder: Arc<dyn Rebuilder>,
        meter: Meter,
        /// They learn what its work takes.
        tolls: ShardTolls,
    },
    /// Apply the part of write `seq` that belongs to this shard.
    /// `verdict` is told how its condition was decided.
    Write {
        collection: CollectionId,
        seq: Seq,
        mutations: Vec<Mutation>,
        log: Option<LogPart>,
        verdict: Option<Reply<Result<Verdict, Shortage>>>,
        /// The memory that it was promised, where there is a budget.
        grant: Option<Grant>,
    },
    /// Absorb the whole tail and unlink all dead rows, then answer.
    /// Nobody is answered who was told already that there is no memory.
    Optimize {
        collection: CollectionId,
        seq: Seq,
        done: Option<Reply<Result<(), Shortage>>>,
        log: Option<LogPart>,
    },
    /// Let go of the shard.
    Drop { collection: CollectionId },
    /// From the engine, once what the log held was applied: log what comes.
    StartLog { journal: Box<Journal>, notes: Signals<Note> },
    /// A defect on purpose, for tests: in the work on a shard, or in the
    /// worker itself.
    #[cfg(test)]
    Panic { collection: Option<CollectionId> },
    /// Defects on purpose: after so many mutations, so many times.
    #[cfg(test)]
    Fuse { collection: CollectionId, after: usize, times: u32 },
    /// The worker does nothing until the other end is dropped.
    #[cfg(test)]
    Hold { until: std::sync::mpsc::Receiver<()> },
}

/// Sent by the coordinator: search one shard of a pinned snapshot.
pub(crate) struct ShardQuery {
    /// Which search this is a part of.
    pub(crate) ticket: u64,
    pub(crate) shard: usize,
    pub(crate) published: Arc<Published>,
    /// The time as of which all shards show what has not expired.
    pub(crate) now: Timestamp,
    pub(crate) order: Arc<SearchOrder>,
}

/// Why a job came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlan {
    /// It met a defect or was cancelled.
    Abandoned,
    /// There was no memory for it.
    Short(Shortage),
}

/// Sent by the pool, by the engine and by readers: never refused, taken before writes.
pub(crate) enum Signal {
    /// A plan to commit. `job` is the number it was begun with.
    Absorbed { collection: CollectionId, job: u64, plan: Result<Plans, NoPlan> },
    /// From a reader: exact searches of a collection are frequent.
    WantExact { collection: CollectionId },
    /// From the engine: end the thread; what is queued is dropped.
    Close,
}

/// Asks the workers of a collection to get ready for exact searches.
pub(crate) struct AskWorkers {
    pub(crate) workers: Vec<Signals<Signal>>,
    pub(crate) collection: CollectionId,
}

impl Screener for AskWorkers {
    fn ask(&self) {
        let collection = self.collection;
        self.workers.iter().for_each(|worker| worker.send(Signal::WantExact { collection }));
    }
}

/// Sent by workers, by the pool and by the engine.
pub(crate) enum Report {
    /// A shard's newest view; none: none can be shown that is newer. And whether it
    /// waits for memory that older ones keep.
    View { collection: CollectionId, shard: usize, view: Option<Arc<ShardView>>, waits_for_memory: bool },
    /// A part of a search.
    Partial { ticket: u64, shard: usize, answer: Result<Answer, SearchError> },
    /// A write met one defect after the other: a shard leaves its part out.
    LeftOut { collection: CollectionId, shard: usize, seq: Seq },
    /// A shard met a defect and is not written any more.
    ShardFailed { collection: CollectionId, shard: usize },
    /// A shard has no memory for now: whoever waits for its writes waits long.
    ShardShort { collection: CollectionId, shard: usize, shortage: Shortage },
    /// A worker's log could not be written: nothing is accepted any more.
    LogFailed,
    /// A worker thread has ended without being told to.
    WorkerDown { worker: usize },
    /// The pool has measured for a while.
    Calibrating { collection: CollectionId, slice: Slice },
    /// From the engine: end the thread; whoever waits is told.
    Close,
}

/// Sent by workers and by the engine to the keeper of the files.
pub(crate) enum Note {
    /// A log file is complete.
    Closed(ClosedLog),
    /// From the engine: write checkpoints of all collections, then answer.
    Checkpoint(Reply<Result<(), CheckpointError>>),
    /// From the engine: end the thread.
    Close,
}

/// How a slice of a calibration ended.
pub(crate) enum Slice {
    /// Its time was up; the rest is to be done.
    More(Box<Run>),
    /// The table is complete.
    Done(Box<Calibration>),
    /// It met a defect, or was dropped because the pool is closing.
    Failed,
}

/// A search through the workers: what a caller hands to the coordinator.
pub(crate) struct SearchOrder {
    pub(crate) collection: CollectionId,
    pub(crate) query: Query<'static>,
    /// The answer must show this write.
    pub(crate) required: Seq,
    pub(crate) reply: Reply<Result<Answer, SearchError>>,
    /// What it is for each worker.
    pub(crate) toil: Toil,
    /// How long it may wait for that write; none: as long as it takes.
    pub(crate) wait: Option<SearchWait>,
    /// Its place among the searches under way.
    pub(crate) _place: Permit,
}

/// How long a search waits for a write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SearchWait {
    pub(crate) asked: Instant,
    pub(crate) until: Instant,
    /// Its own time is up then, and no write was demanded: an answer with what was seen by then is right, if it is nothing.
    pub(crate) is_deadline: bool,
}

/// How much of the pool a background job may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// Half of it, so that readers keep their cores: absorbing single writes.
    Half,
    /// All of it: bulk loads, on which somebody waits.
    All,
}

/// A job for the pool.
pub(crate) type Job = Box<dyn FnOnce(&dyn Executor) + Send>;

/// Runs jobs beside the workers.
pub(crate) trait Background: Send + Sync {
    /// Starts a job on the engine's pool. When the pool is closing the job is
    /// dropped.
    fn spawn(&self, width: Width, job: Job);
}
