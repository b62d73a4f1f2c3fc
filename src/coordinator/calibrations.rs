//! Calibrations of all collections: one at a time, in slices on the pool.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::error;

use super::Request;
use super::thread::worked;
use crate::calibrate::{Progress, Run};
use crate::error::CalibrateError;
use crate::index::Executor;
use crate::pause::pause;
use crate::shard::{
    Background, Backpressure, CollectionId, Mailbox, Permit, Reply, Report, Signals, Slice, Width,
};
use crate::snapshot::{Calibrator, Published};
use crate::tuning::{Calibration, EXACT_ROWS, Extent};

/// How long a calibration keeps a thread of the pool before it goes to the end
/// of the queue: an absorption that waits there delays writers.
const SLICE: Duration = Duration::from_millis(5);

/// Times that a calibration that failed is tried again, the first time after a pause, then after four times as long each time.
const RETRIES: u32 = 4;
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Asks the coordinator to look at a collection.
pub(crate) struct AskCoordinator {
    pub(crate) requests: Mailbox<Request>,
    pub(crate) collection: CollectionId,
}

impl Calibrator for AskCoordinator {
    fn ask(&self) -> bool {
        let request = Request::Calibrate { collection: self.collection, reply: None };
        let permit = self.requests.acquire(Backpressure::Reject);
        permit.and_then(|permit| self.requests.send(permit, request)).is_ok()
    }
}

/// Somebody who waits for a calibration, and the place that this takes.
pub(super) type Waiter = (Reply<Result<Arc<Calibration>, CalibrateError>>, Permit);

/// What is known and wanted of one collection.
#[derive(Default)]
pub(super) struct Desk {
    /// The newest table.
    pub(super) table: Option<Arc<Calibration>>,
    /// What the last calibration that ended measured or tried to.
    tried: Option<Extent>,
    /// Calibrations that failed since one was done, and when the next is tried.
    failed: u32,
    retry_at: Option<Instant>,
    /// The index was changed since the calibration under way began.
    is_overtaken: bool,
    /// Calibrations that were begun.
    begun: u64,
    /// It stands in the queue.
    queued: bool,
    /// Who waits for the next calibration that begins, and for the one under way.
    waiting: Vec<Waiter>,
    served: Vec<Waiter>,
}

impl Desk {
    /// True when readers need another table than they have.
    fn is_due(&self, published: &Published) -> bool {
        if !published.context.tuning.targets.any() || published.is_exact() {
            return false;
        }
        let now = published.extent();
        let is_outdated = self.tried.is_none_or(|then| now.has_outgrown(&then));
        let may_retry = self.retry_at.is_none_or(|at| at <= Instant::now());
        now.indexed >= EXACT_ROWS && is_outdated && may_retry
    }

    /// Ends the calibration under way, which measured something or failed while the collection was like `now`; gives those
    /// who waited for it.
    pub(super) fn end<E>(&mut self, measured: Result<Extent, E>, now: Extent) -> Vec<Waiter> {
        self.retry_at = None;
        match measured {
            Ok(extent) => (self.tried, self.failed) = (Some(extent), 0),
            // Memory may be short for a moment.
            Err(_) if self.failed < RETRIES => {
                self.retry_at = Some(Instant::now() + RETRY_PAUSE * 4u32.pow(self.failed));
                self.failed += 1;
            }
            Err(_) => (self.tried, self.failed) = (Some(now), 0),
        }
        std::mem::take(&mut self.served)
    }

    /// When a calibration that failed is tried again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Another index has taken over: what is known is of the one before.
    pub(super) fn switch(&mut self) {
        self.is_overtaken = true;
        (self.table, self.tried) = (None, None);
        (self.failed, self.retry_at) = (0, None);
    }

    /// Whether the index was changed since the calibration under way began.
    pub(super) fn is_overtaken(&self) -> bool {
        self.is_overtaken
    }

    /// Who waited for the calibration that was under way waits for the next.
    pub(super) fn begin_again(&mut self) {
        self.waiting.append(&mut self.served);
    }
}

/// The queue of the engine.
pub(super) struct Calibrations {
    background: Arc<dyn Background>,
    reports: Signals<Report>,
    queue: VecDeque<CollectionId>,
    running: Option<CollectionId>,
}

impl Calibrations {
    pub(super) fn new(background: Arc<dyn Background>, reports: Signals<Report>) -> Calibrations {
        Calibrations { background, reports, queue: VecDeque::new(), running: None }
    }

    /// Queues a collection if somebody waits, or if its table is out of date.
    pub(super) fn look(
        &mut self,
        collection: CollectionId,
        desk: &mut Desk,
        published: &Published,
        waiter: Option<Waiter>,
    ) {
        desk.waiting.extend(waiter);
        let wanted = !desk.waiting.is_empty();
        let idle = !desk.queued && (wanted || self.running != Some(collection));
        if idle && (wanted || desk.is_due(published)) {
            desk.queued = true;
            self.queue.push_back(collection);
        }
        // Once is enough.
        desk.retry_at = desk.retry_at.filter(|at| *at > Instant::now());
    }

    /// The collection whose turn it is, if none is being calibrated.
    pub(super) fn next(&mut self) -> Option<CollectionId> {
        if self.running.is_some() { None } else { self.queue.pop_front() }
    }

    /// Begins to calibrate a collection.
    pub(super) fn begin(&mut self, collection: CollectionId, desk: &mut Desk, published: Arc<Published>) {
        desk.queued = false;
        desk.begun += 1;
        desk.is_overtaken = false;
        desk.served.append(&mut desk.waiting);
        self.running = Some(collection);
        self.go_on(collection, Box::new(Run::new(published, desk.begun)));
    }

    /// Puts the next slice at the end of the pool's queue.
    pub(super) fn go_on(&self, collection: CollectionId, run: Box<Run>) {
        let answer = SliceAnswer { reports: self.reports.clone(), collection, sent: false };
        let work = move |executor: &dyn Executor| answer.send(work(run, executor));
        self.background.spawn(Width::Half, Box::new(work));
    }

    /// Nothing is being calibrated any more.
    pub(super) fn end(&mut self) {
        self.running = None;
    }
}

/// Answers for a slice, even when it is dropped unrun because the pool is
/// closing: then perhaps on the coordinator's own thread.
struct SliceAnswer {
    reports: Signals<Report>,
    collection: CollectionId,
    sent: bool,
}

impl SliceAnswer {
    fn send(mut self, slice: Slice) {
        self.sent = true;
        self.reports.send(Report::Calibrating { collection: self.collection, slice });
    }
}

impl Drop for SliceAnswer {
    fn drop(&mut self) {
        if !self.sent {
            self.reports.offer(Report::Calibrating { collection: self.collection, slice: Slice::Failed });
        }
    }
}

/// Measures until the slice is over.
fn work(mut run: Box<Run>, executor: &dyn Executor) -> Slice {
    let began = Instant::now();
    let steps = || loop {
        match run.step(&worked) {
            Ok(Progress::Done(table)) => return Slice::Done(table),
            Ok(Progress::More) if executor.cancelled() || began.elapsed() >= SLICE => {
                return Slice::More(run);
            }
            Ok(Progress::More) => pause(),
            Err(fault) => {
                error!(%fault, "calibration failed");
                return Slice::Failed;
            }
        }
    };
    catch_unwind(AssertUnwindSafe(steps)).unwrap_or_else(|_| {
        error!("calibration panicked");
        Slice::Failed
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_tried_again_later_but_not_for_ever() {
        let (mut desk, now) = (Desk::default(), Extent::default());
        let mut last = Duration::ZERO;
        for _ in 0..RETRIES {
            let began = Instant::now();
            desk.end::<()>(Err(()), now);
            let pause = desk.retry_at().unwrap().saturating_duration_since(began);
            assert!(desk.tried.is_none() && pause > last, "{pause:?}");
            last = pause;
        }
        desk.end::<()>(Err(()), now);
        assert!(desk.tried.is_some() && desk.retry_at().is_none());
    }

    #[test]
    fn nothing_is_known_of_an_index_that_took_over() {
        let mut desk = Desk::default();
        desk.end::<()>(Ok(Extent::default()), Extent::default());
        assert!(desk.tried.is_some() && !desk.is_overtaken());
        desk.switch();
        assert!(desk.tried.is_none() && desk.table.is_none() && desk.is_overtaken());
    }
}
