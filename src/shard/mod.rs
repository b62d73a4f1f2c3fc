//! Workers and the shards that they own.
//!
//! `command` is the protocol, `journal` a worker's log, `mailbox` how it travels, `places` (and `refusal`) what bounds
//! it, `pace` and `toll` by how much, `wakes` how futures are woken, `budget` what bounds memory, `state` what a shard does with it (without
//! threads), `batch` what goes into the index together, `successor` how another index takes over, `turns`
//! how a worker shares its time, `worker` the thread.

mod batch;
mod budget;
mod command;
mod expiry;
mod footprint;
mod journal;
mod judge;
mod mailbox;
mod pace;
mod places;
mod refusal;
mod rescue;
mod state;
mod successor;
mod toll;
mod turns;
mod wakes;
mod worker;

pub(crate) use budget::{Account, AccountSetup, Denied, EngineBudget, Grant, Meter, Need};
pub(crate) use command::{
    AskWorkers, Background, CollectionId, Job, Keep, LogPart, Note, Report, SearchOrder, SearchWait,
    ShardQuery, Signal, Slice, Width, WriteCommand,
};
pub(crate) use footprint::{IndexSizes, RowSizes, Sampled};
pub(crate) use journal::{Journal, LogFault};
pub(crate) use mailbox::{
    Envelope, Gate, Inbox, Mailbox, NoAnswer, Reply, SignalInbox, Signals, mailbox, reply, reply_future,
    reports, signals, wait_for_either,
};
pub(crate) use places::{Bounds, Load, Permit};
pub(crate) use refusal::Refusal;
pub use refusal::{Backpressure, Refusals};
pub(crate) use rescue::{Rebuilder, Trouble};
pub(crate) use state::{RestoredShard, ShardSetup, ShardState};
pub(crate) use toll::{SearchTolls, ShardTolls, Toll};
pub(crate) use worker::{Worker, WorkerPorts};
