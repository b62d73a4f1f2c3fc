//! Workers and the shards that they own.
//!
//! `command` is the protocol, `journal` a worker's log, `mailbox` how it travels, `places` what bounds
//! it, `state` what a shard does with it (without threads), `batch` what goes
//! into the index together, `worker` the thread.

mod batch;
mod command;
mod journal;
mod expiry;
mod judge;
mod mailbox;
mod places;
mod state;
mod worker;

pub(crate) use command::{
    AskWorkers, Background, CollectionId, Job, Keep, LogPart, Note, Report, SearchOrder, ShardQuery, Signal,
    Slice, Width, WriteCommand,
};
pub(crate) use journal::{Journal, LogFault};
pub(crate) use mailbox::{
    Envelope, Inbox, Mailbox, NoAnswer, Reply, SignalInbox, Signals, mailbox, reply, reply_future, reports,
    signals, wait_for_either,
};
pub use places::Backpressure;
pub(crate) use places::{Permit, Refusal};
pub(crate) use state::{RestoredShard, ShardSetup, ShardState};
pub(crate) use worker::{Worker, WorkerPorts};
