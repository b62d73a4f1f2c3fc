//! Workers and the shards that they own.
//!
//! `command` is the protocol, `mailbox` how it travels, `places` what bounds
//! it, `state` what a shard does with it (without threads), `batch` what goes
//! into the index together, `worker` the thread.

mod batch;
mod command;
mod mailbox;
mod places;
mod state;
mod worker;

pub(crate) use command::{
    AskWorkers, Background, CollectionId, Job, Keep, Report, SearchOrder, ShardQuery, Signal, Slice, Width,
    WriteCommand,
};
pub(crate) use mailbox::{
    Envelope, Inbox, Mailbox, NoAnswer, Reply, SignalInbox, Signals, mailbox, reply, reply_future, reports,
    signals, wait_for_either,
};
pub use places::Backpressure;
pub(crate) use places::{Permit, Refusal};
pub(crate) use state::{ShardSetup, ShardState};
pub(crate) use worker::{Worker, WorkerPorts};
