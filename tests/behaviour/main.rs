//! What the engine promises its users, a file for each promise. They are one
//! program, since the parts that need one processor run beside each other so,
//! and one is built in a fraction of the time that twenty take.
//!
//! `cargo test --test behaviour filters::` runs those of a file. Tests that
//! weigh time or memory, end processes or have an allocator of their own are
//! programs of their own, beside this one.

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
