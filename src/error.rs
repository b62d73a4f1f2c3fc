//! What can go wrong, one enum for each kind of operation.

mod files;

use std::time::Duration;

pub use files::{CheckpointError, FileError, LoadError, OpenError, Operation};

use crate::durability::Durability;
use crate::id::{RecordId, Seq};
use crate::memory::Shortage;
use crate::payload::{FilterError, PayloadError};
use crate::vector::VectorError;

/// A collection, or its engine, takes no more requests: for good, or for a while.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Gone {
    /// The engine was closed or its last handle dropped.
    #[error("the engine is closed")]
    Closed,
    /// The collection was dropped.
    #[error("collection {0:?} was dropped")]
    Dropped(String),
    /// The worker that owns a shard met a defect (it is logged as an error
    /// event) and accepts nothing more for it; reads of what was published go on.
    #[error("shard {shard} of collection {collection:?} has failed")]
    ShardFailed {
        /// The collection's name.
        collection: String,
        /// The shard's number.
        shard: usize,
    },
    /// There is no memory for what a shard was given: for now it takes no writes.
    /// Reads go on. It tries again by itself, at last every few seconds, and
    /// what was accepted before becomes visible once there is memory; then
    /// writes are accepted again.
    #[error(
        "shard {shard} of collection {collection:?} has no memory for {bytes} bytes: it takes no writes for now"
    )]
    NoMemory {
        /// The collection's name.
        collection: String,
        /// The shard's number.
        shard: usize,
        /// Bytes that were asked for in vain.
        bytes: usize,
    },
    /// The log could not be written, so no write can be kept any more; reads
    /// go on. Opening the folder again heals it; a checkpoint ([`Engine::checkpoint`](crate::Engine::checkpoint)) then puts all
    /// into new files.
    #[error("writes are not accepted any more: {0}")]
    LogFailed(FileError),
}

/// Why an engine could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A setting is outside its bounds.
    #[error("{parameter} is {value}, but must be {least} to {most}")]
    Setting {
        /// Its name.
        parameter: &'static str,
        /// What it was set to.
        value: usize,
        /// The least allowed.
        least: usize,
        /// The most allowed.
        most: usize,
    },
    /// The variable that forces an instruction set names none that this machine has.
    #[error("{0}")]
    Isa(String),
    /// Writes were to survive something, but the engine has no folder: see
    /// [`EngineBuilder::open`](crate::EngineBuilder::open).
    #[error("an engine without a folder cannot keep writes: they were to be {asked}")]
    InMemory {
        /// What was asked for.
        asked: Durability,
    },
    /// The system gave no thread.
    #[error("a thread could not be started")]
    Thread(#[source] std::io::Error),
}

/// Why a collection could not be created, found or dropped.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CollectionError {
    /// The engine takes no more requests.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// A collection with this name exists.
    #[error("a collection named {0:?} exists already")]
    Exists(String),
    /// There is no collection with this name.
    #[error("there is no collection named {0:?}")]
    NotFound(String),
    /// Names are 1 to 255 bytes long.
    #[error("a collection's name must be 1 to 255 bytes long, got {length}")]
    Name {
        /// The name's length in bytes.
        length: usize,
    },
    /// The folder could not be changed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A setting is outside its bounds.
    #[error("{parameter} is {value}, but must be {least} to {most}")]
    Setting {
        /// Its name.
        parameter: &'static str,
        /// What it was set to.
        value: usize,
        /// The least allowed.
        least: usize,
        /// The most allowed.
        most: usize,
    },
    /// A setting is not one of those that there are.
    #[error("{parameter} is {value}, but must be {allowed}")]
    Choice {
        /// Its name.
        parameter: &'static str,
        /// What it was set to.
        value: usize,
        /// What it may be, in words.
        allowed: &'static str,
    },
    /// The default of its searches is a target that cannot be.
    #[error(transparent)]
    Params(#[from] ParamsError),
}

/// Why an index could not be changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReindexError {
    /// There is no such index: a setting is outside its bounds.
    #[error(transparent)]
    Spec(#[from] CollectionError),
    /// The collection's index is being changed by another thread.
    #[error("the index of the collection is being changed already")]
    UnderWay,
    /// The collection cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// It was written, and will not become visible.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// Shards met one defect after the other.
    #[error("shards lost the new index again and again")]
    Lost,
}

/// Why a name is not that of an index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// There is no such index, or it does not stand with the rest of the name.
    #[error("there is no index {part:?} (in {name:?})")]
    Unknown {
        /// What was not understood.
        part: String,
        /// The whole name.
        name: String,
    },
    /// What stands in the place of a number is none.
    #[error("{text:?} is no number (in {part:?})")]
    Number {
        /// What stands there.
        text: String,
        /// The part of the name.
        part: String,
    },
}

/// Why a target cannot be searched to, or a wish not fulfilled.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ParamsError {
    /// A recall is more than 0 and at most 1.
    #[error("a recall of {got} cannot be searched to: it must be more than 0 and at most 1")]
    Recall {
        /// What was asked for.
        got: f64,
    },
    /// No search takes no time.
    #[error("a p99 of 0 cannot be searched to: it must be more")]
    P99,
    /// A recommendation needs something that is liked.
    #[error("a recommendation needs a positive example")]
    NoPositive,
    /// A diversity is from 0 to 1.
    #[error("a diversity of {got} cannot be searched for: it must be from 0 to 1")]
    Diversity {
        /// What was asked for.
        got: f32,
    },
    /// A weight is a number.
    #[error("a weight of {got} weighs nothing: it must be finite")]
    Weight {
        /// What was asked for.
        got: f32,
    },
    /// Half-lives, and what a number is measured by, are above 0.
    #[error("nothing can be measured by {got}: it must be more than 0, and finite")]
    Measure {
        /// What was asked for: of a half-life, seconds.
        got: f64,
    },
    /// There are too many terms.
    #[error("a scoring of {count} terms is too much: at most {most} are allowed")]
    Terms {
        /// What was asked for.
        count: usize,
        /// What is allowed.
        most: usize,
    },
    /// A distance is a number.
    #[error("no record is within a distance that is not a number")]
    Within,
}

/// Whose memory budget it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BudgetScope {
    /// The collection's: [`CollectionConfig::memory_budget`](crate::CollectionConfig::memory_budget).
    Collection,
    /// The engine's: [`EngineBuilder::memory_budget`](crate::EngineBuilder::memory_budget).
    Engine,
}

impl std::fmt::Display for BudgetScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            BudgetScope::Collection => "collection",
            BudgetScope::Engine => "engine",
        })
    }
}

/// What there was too much of for a request to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FullReason {
    /// Requests wait, or are being worked on.
    Requests {
        /// So many may at present.
        most: usize,
    },
    /// They hold memory.
    Bytes {
        /// So much do they hold,
        queued: usize,
        /// and so much may they.
        most: usize,
    },
    /// They will take a worker's time: see
    /// [`EngineBuilder::mailbox_work`](crate::EngineBuilder::mailbox_work).
    Work {
        /// What the refused request would have taken, by the same estimate;
        /// none: it was refused before it was looked at.
        asked: Option<Duration>,
        /// What those before it will take,
        queued: Duration,
        /// and what they may.
        most: Duration,
    },
    /// Threads wait for a place already and go first.
    Turn,
}

impl std::fmt::Display for FullReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FullReason::Requests { most } => write!(f, "{most} requests"),
            FullReason::Bytes { queued, most } => write!(f, "{queued} bytes of {most}"),
            FullReason::Work { asked: None, queued, most } => write!(f, "{queued:?} of work of {most:?}"),
            FullReason::Work { asked: Some(asked), queued, most } => {
                write!(f, "{queued:?} of work of {most:?}, and {asked:?} more")
            }
            FullReason::Turn => f.write_str("others go first"),
        }
    }
}

/// Why a write was not accepted. Nothing of it happened.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The collection takes no more requests.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// A vector cannot be used.
    #[error("record {id}: {fault}")]
    Vector {
        /// The record.
        id: RecordId,
        /// Its place in the batch; 0 for a single write.
        position: usize,
        /// What is wrong with its vector.
        #[source]
        fault: VectorError,
    },
    /// A payload cannot be stored.
    #[error("record {id}: {fault}")]
    Payload {
        /// The record.
        id: RecordId,
        /// Its place in the batch; 0 for a single write.
        position: usize,
        /// What is wrong with its payload.
        #[source]
        fault: PayloadError,
    },
    /// The filter cannot be used.
    #[error("filter: {0}")]
    Filter(#[from] FilterError),
    /// A condition makes no sense.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// A batch holds more records than fit.
    #[error("a batch of {got} records is too large: the limit is {most}")]
    BatchTooLarge {
        /// Records in the batch.
        got: usize,
        /// The limit.
        most: usize,
    },
    /// The mailbox of a worker is full, and the handle's
    /// [`Backpressure`](crate::Backpressure) says not to wait (any longer).
    #[error("the mailbox of worker {worker} is full ({reason}) after {waited:?}")]
    Full {
        /// The worker.
        worker: usize,
        /// Requests that its mailbox takes at present: fewer than its setting while
        /// writes take long.
        capacity: usize,
        /// What there is too much of in it.
        reason: FullReason,
        /// How long the call waited.
        waited: Duration,
    },
    /// It would take more memory than a budget has left, and the handle's
    /// [`Backpressure`](crate::Backpressure) says not to wait (any longer), or
    /// the write is larger than the whole budget.
    #[error(
        "{needed} bytes do not fit the {scope}'s memory budget of {budget}, of which {used} are used, after {waited:?}"
    )]
    Budget {
        /// Whose budget it is.
        scope: BudgetScope,
        /// Bytes that it allows.
        budget: usize,
        /// Bytes that are used or promised to writes that were accepted.
        used: usize,
        /// Bytes that the write would take beyond.
        needed: usize,
        /// How long the call waited.
        waited: Duration,
    },
    /// There is no memory for the write itself.
    #[error("there is no memory for {bytes} bytes of the write")]
    NoMemory {
        /// Bytes that were asked for in vain.
        bytes: usize,
    },
    /// The engine has no folder, so nothing survives its end.
    #[error("the engine has no folder: a write cannot be {asked}")]
    InMemory {
        /// What was asked for.
        asked: Durability,
    },
}

impl From<Shortage> for WriteError {
    fn from(Shortage { bytes }: Shortage) -> Self {
        WriteError::NoMemory { bytes }
    }
}

/// Why waiting for a write ended without it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// It will never become visible; after [`Gone::NoMemory`] it will once there
    /// is memory again.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// It is not visible yet.
    #[error("write {seq} was not visible after {waited:?}")]
    Timeout {
        /// The write.
        seq: Seq,
        /// How long the call waited.
        waited: Duration,
    },
    /// A shard met one defect after the other when it applied its part of the
    /// write, and left that part out for good. What belongs to other shards is
    /// there. This is a bug of the engine: please report it.
    #[error("a part of write {seq} was left out: applying it met one defect after the other")]
    LeftOut {
        /// The write.
        seq: Seq,
    },
    /// No write has this number yet.
    #[error("write {seq} does not exist yet: the last one is {last}")]
    Future {
        /// The number asked for.
        seq: Seq,
        /// The last number given out.
        last: Seq,
    },
}

/// Why a search has no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SearchError {
    /// The collection takes no more requests.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// The query's vector cannot be used.
    #[error("query: {0}")]
    Vector(#[from] VectorError),
    /// The query's target cannot be searched to.
    #[error("query: {0}")]
    Params(#[from] ParamsError),
    /// The filter cannot be used.
    #[error("filter: {0}")]
    Filter(#[from] FilterError),
    /// The write that the query demands did not become visible.
    #[error("query: {0}")]
    AtLeast(#[from] WaitError),
    /// A held snapshot never shows later writes.
    #[error("the snapshot shows writes up to {shown}, the query demands {demanded}")]
    Stale {
        /// The snapshot's last write.
        shown: Seq,
        /// What the query demands.
        demanded: Seq,
    },
    /// An example is no record that the snapshot shows.
    #[error("query: there is no record {id} to be an example")]
    NoExample {
        /// The record.
        id: RecordId,
    },
    /// Too many searches wait for the workers already, or too large ones.
    #[error("searches wait already ({reason})")]
    Full {
        /// Searches that may wait at a time.
        capacity: usize,
        /// What there is too much of.
        reason: FullReason,
    },
    /// There is no memory for what the search takes, or for its answer. The
    /// collection goes on as it was, and so does the next search.
    #[error("there is no memory for {bytes} bytes of the search")]
    NoMemory {
        /// Bytes that were asked for in vain.
        bytes: usize,
    },
    /// The search met a defect in the engine; it is logged as an error event.
    #[error("the search failed on shard {shard}")]
    Failed {
        /// The shard that it was searching.
        shard: usize,
    },
}

impl From<Shortage> for SearchError {
    fn from(Shortage { bytes }: Shortage) -> Self {
        SearchError::NoMemory { bytes }
    }
}

/// Why something about a collection could not be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The filter cannot be used.
    #[error("filter: {0}")]
    Filter(#[from] FilterError),
    /// The collection takes no more requests.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// There is no memory for what was to be read, or for finding it.
    #[error("there is no memory for {bytes} bytes of what was to be read")]
    NoMemory {
        /// Bytes that were asked for in vain.
        bytes: usize,
    },
}

impl From<Shortage> for ReadError {
    fn from(Shortage { bytes }: Shortage) -> Self {
        ReadError::NoMemory { bytes }
    }
}

/// Why a collection was not calibrated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrateError {
    /// The collection takes no more requests.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// The calibration met a defect in the engine; it is logged as an error event.
    #[error("the calibration failed")]
    Failed,
}
