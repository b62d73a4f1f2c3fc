//! Workers and the shards that they own.
//!
//! `command` is the protocol, `mailbox` how it travels, `state` what a shard
//! does with it (without threads), `worker` the thread.

mod batch;
mod command;
mod mailbox;
mod places;
mod state;
mod worker;

pub(crate) use command::{
    Background, CollectionId, Job, Keep, Report, SearchOrder, ShardQuery, ShardSetup, Signal, Width,
    WriteCommand,
};
pub use mailbox::Backpressure;
pub(crate) use mailbox::{
    Envelope, Inbox, Mailbox, NoAnswer, Refusal, Reply, SignalInbox, Signals, mailbox, reply, reply_future,
    reports, signals, wait_for_either,
};
pub(crate) use places::Permit;
pub(crate) use state::ShardState;
pub(crate) use worker::{Worker, WorkerPorts};
