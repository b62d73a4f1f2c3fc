//! Defects on purpose: workers that panic in the midst of their work.
//!
//! A worker tells, as an event of `tracing`, of each slice of mutations that it
//! has applied, and whoever listens does so on its thread, while the shard is
//! half changed. Here a listener panics: to the engine that is a defect of its
//! own. It takes no seam in the engine, and a program that listens carelessly
//! could do the same.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, Subscriber, set_global_default};
use tracing::{Event, Metadata};

use super::load::Result;

/// Between two defects a shard must have got on: three without any progress are
/// taken for those of the write, which is left out then.
pub(super) const LEAST: u64 = 20;

/// What the panics say.
const ON_PURPOSE: &str = "a defect on purpose";

/// The event, by where it is told and one of its fields.
const TARGET: &str = "vecino::shard::worker";
const FIELD: &str = "mutations";

#[derive(Debug, Default)]
struct State {
    armed: AtomicBool,
    every: u64,
    steps: AtomicU64,
    thrown: AtomicU64,
}

/// Lets workers panic, from `arm` to `disarm`.
pub(super) struct Defects(Arc<State>);

impl Defects {
    /// One step of `every` steps of all workers panics. Once in a process, since
    /// it listens to all events.
    ///
    /// # Errors
    /// When there would be more than one of `LEAST` steps, or somebody listens already.
    pub(super) fn install(every: u64) -> Result<Defects> {
        if every < LEAST {
            return Err(format!("--panics {every}: at least {LEAST}, or 0").into());
        }
        let state = Arc::new(State { every, ..State::default() });
        set_global_default(Listener(Arc::clone(&state)))?;
        Ok(Defects(state))
    }

    pub(super) fn arm(&self) {
        self.0.armed.store(true, Ordering::SeqCst);
    }

    /// Gives the number of defects so far; there are no more.
    pub(super) fn disarm(&self) -> u64 {
        self.0.armed.store(false, Ordering::SeqCst);
        self.0.thrown.load(Ordering::SeqCst)
    }
}

struct Listener(Arc<State>);

fn is_step(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && metadata.target() == TARGET && metadata.fields().field(FIELD).is_some()
}

impl Subscriber for Listener {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_step(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_step(metadata)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        let State { armed, every, steps, thrown } = &*self.0;
        if armed.load(Ordering::SeqCst) && (steps.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(*every) {
            thrown.fetch_add(1, Ordering::SeqCst);
            // A panic of which nothing is printed: it was meant to happen.
            resume_unwind(Box::new(ON_PURPOSE));
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
