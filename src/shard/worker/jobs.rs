//! Jobs for the pool, and those that the worker does by itself.
//!
//! The pool gives way to everything else, and may be busy with something large:
//! then a small job that writes wait for would wait long for its turn. One that
//! nobody has begun after a while is done by the worker, as a part of its turn
//! of writes. The plan is the same, whoever computes it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{debug_span, error};

use super::{Hosted, Worker, describe};
use crate::index::{Executor, Sequential};
use crate::memory::shortage;
use crate::shard::batch::{AbsorbJob, Plans};
use crate::shard::command::{Background, CollectionId, Job, NoPlan, Signal, Width};
use crate::shard::mailbox::Signals;
use crate::shard::rescue::Rebuilder;

/// How long a job is left to the pool: one that has a processor begins sooner by far, and one that gives way
/// on processors that are all taken waits for tens of milliseconds.
const PATIENCE: Duration = Duration::from_millis(4);

/// Answers for a job, even when it panics or is dropped unrun.
pub(super) struct JobAnswer {
    signals: Signals<Signal>,
    collection: CollectionId,
    job: u64,
    sent: bool,
}

impl Drop for JobAnswer {
    fn drop(&mut self) {
        if !self.sent {
            self.send(Err(NoPlan::Abandoned));
        }
    }
}

impl JobAnswer {
    pub(super) fn new(signals: Signals<Signal>, collection: CollectionId, job: u64) -> JobAnswer {
        JobAnswer { signals, collection, job, sent: false }
    }

    fn send(&mut self, plan: Result<Plans, NoPlan>) {
        self.sent = true;
        self.signals.send(Signal::Absorbed { collection: self.collection, job: self.job, plan });
    }
}

/// A job that the pool was given and may not have begun.
pub(super) struct Offer {
    job: Arc<Mutex<Option<Job>>>,
    since: Instant,
}

impl Offer {
    fn new(job: Job) -> Offer {
        Offer { job: Arc::new(Mutex::new(Some(job))), since: Instant::now() }
    }

    /// Whoever comes first has it.
    fn take(job: &Mutex<Option<Job>>) -> Option<Job> {
        job.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Absorbs a batch on the pool; the plan comes back as a signal. A small one may
/// be taken back.
pub(super) fn start(
    background: &dyn Background,
    mut answer: JobAnswer,
    job: AbsorbJob,
    rebuilder: &Arc<dyn Rebuilder>,
) -> Option<Offer> {
    let named = Arc::clone(rebuilder);
    let width = if job.is_bulk() { Width::All } else { Width::Half };
    let is_small = job.is_small();
    let run = move |executor: &dyn Executor| {
        let span = debug_span!("absorb", collection = named.name(), rows = job.rows(), bulk = job.is_bulk());
        let _entered = span.enter();
        let plan = catch_unwind(AssertUnwindSafe(|| job.run(executor)));
        let plan = match plan {
            Ok(plan) => plan.filter(|_| !executor.cancelled()).ok_or(NoPlan::Abandoned),
            Err(unwound) => Err(shortage(&*unwound).map_or_else(
                || {
                    error!(collection = named.name(), defect = describe(&*unwound), "absorbing panicked");
                    NoPlan::Abandoned
                },
                NoPlan::Short,
            )),
        };
        // Its version is let go of before the worker replaces it.
        drop(job);
        answer.send(plan);
    };
    if !is_small {
        background.spawn(width, Box::new(run));
        return None;
    }
    let offer = Offer::new(Box::new(run));
    let job = Arc::clone(&offer.job);
    let first = move |executor: &dyn Executor| {
        if let Some(run) = Offer::take(&job) {
            run(executor);
        }
    };
    background.spawn(width, Box::new(first));
    Some(offer)
}

impl Hosted {
    /// True when writes wait for a small job.
    fn waits_for_offer(&self) -> bool {
        self.offer.is_some() && self.state.waits_for_pool() && !self.is_paused() && !self.is_lost()
    }

    /// The small job that they have waited for too long, unless the pool has begun it.
    fn overdue(&mut self, now: Instant) -> Option<Job> {
        if !self.waits_for_offer() {
            return None;
        }
        let offer = self.offer.take_if(|offer| now.saturating_duration_since(offer.since) >= PATIENCE)?;
        Offer::take(&offer.job)
    }
}

impl Worker {
    /// Does a small job that the pool has not begun in time; false when there is none.
    pub(super) fn do_overdue(&mut self) -> bool {
        let now = Instant::now();
        let job = self.shards.values_mut().find_map(|hosted| hosted.overdue(now));
        job.map(|job| job(&Sequential)).is_some()
    }

    /// The time until there may be one.
    pub(super) fn next_overdue(&self) -> Option<Duration> {
        let waiting = self.shards.values().filter(|hosted| hosted.waits_for_offer());
        let offers = waiting.filter_map(|hosted| hosted.offer.as_ref());
        offers.map(|offer| PATIENCE.saturating_sub(offer.since.elapsed())).min()
    }
}
