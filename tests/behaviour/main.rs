//! What the engine promises its users, a file for each promise. They are one
//! program, since those that keep one processor busy run beside each other so.
//!
//! `cargo test --test behaviour filters::` runs those of a file. Tests that
//! weigh the time or the memory of the whole process, end it or have an allocator of their own are
//! programs of their own, beside this one.

#![allow(missing_docs, unreachable_pub, reason = "a test has no readers of its interface")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test may fail loudly"
)]

mod auto;
mod bad_input;
mod bad_settings;
mod churn;
mod codes;
#[path = "../common/mod.rs"]
mod common;
mod conditional;
mod determinism;
mod durability;
mod engine;
mod exact;
mod expiry;
mod filters;
mod fixtures;
mod isolation;
mod model;
mod payloads;
mod quantization;
mod questions;
mod reindexing;
mod scoring;
mod tuning;
