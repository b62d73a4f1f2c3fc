//! The thread that publishes: gathers shard views, swaps snapshots, wakes
//! those who wait, merges what the workers find, and has collections
//! calibrated.
//!
//! The coordinator never waits for anybody (its mailbox and its signals are
//! the only things it blocks on, together), so workers may wait for it.

mod admission;
mod board;
mod broom;
mod calibrations;
mod directory;
mod gather;
mod pool;
mod thread;
mod yielding;

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, error, trace};

pub(crate) use admission::{Admission, NotAdmitted};
pub(crate) use board::{Board, Waiter};
pub(crate) use broom::Broom;
pub(crate) use calibrations::AskCoordinator;
pub(crate) use directory::{ENTRY_BYTES_MOST, IdDirectory};
pub(crate) use pool::Pool;
pub(crate) use thread::{give_way, stay_on};

use crate::error::{CalibrateError, Gone, SearchError, WaitError};
use crate::id::{Generation, Seq};
use crate::payload::NEVER;
use crate::shard::{
    Background, Backpressure, CollectionId, Envelope, Inbox, LogFault, Mailbox, Permit, Refusal, Reply,
    Report, SearchOrder, ShardQuery, SignalInbox, Signals, Slice, wait_for_either,
};
use crate::snapshot::Published;
use crate::tuning::Calibration;
use calibrations::Calibrations;
use gather::Gather;

/// Reports taken in one round, so that a steady stream of them cannot keep
/// their news from being published.
const DRAIN_REPORTS: usize = 1_024;

/// Waits that are taken in before those that were given up are swept out.
const SWEEP_WAITS: usize = 256;

/// Least time between two looks whether searches waited for as long as they may.
const WAITS_LOOK: Duration = Duration::from_millis(1);

/// Time between two looks whether somebody who waits has given up, while all places are taken.
const FULL_LOOK: Duration = Duration::from_millis(100);

/// What callers ask of the coordinator.
pub(crate) enum Request {
    /// Keep a new collection published.
    Register { collection: CollectionId, board: Box<Board> },
    /// Take out what expires.
    Sweep { collection: CollectionId, broom: Box<Broom> },
    /// Forget a collection.
    Unregister { collection: CollectionId },
    /// Tell when a write is visible.
    Await { collection: CollectionId, seq: Seq, reply: Reply<Result<Generation, Gone>> },
    /// Search through the workers.
    Search(Arc<SearchOrder>),
    /// Measure recall and times: in any case when somebody waits for it, else
    /// if it is due.
    Calibrate { collection: CollectionId, reply: Option<Reply<Result<Arc<Calibration>, CalibrateError>>> },
}

/// The state of the coordinator's thread.
pub(crate) struct Coordinator {
    requests: Inbox<Request>,
    reports: SignalInbox<Report>,
    workers: Vec<Mailbox<ShardQuery>>,
    /// The least time between two generations of a collection.
    pace: Duration,
    boards: HashMap<CollectionId, Board>,
    /// Collections of which records may expire.
    expiring: BTreeSet<CollectionId>,
    gathers: HashMap<u64, Gather>,
    calibrations: Calibrations,
    log_fault: LogFault,
    next_ticket: u64,
    /// When what expires was looked at, and for how long that is enough.
    tidied_at: Option<(Instant, Duration)>,
    /// The collection that was looked at first then.
    tidied_first: CollectionId,
    /// Waits taken in since the last sweep, and when there was one because all places were taken.
    waits: usize,
    full_swept_at: Option<Instant>,
    /// When a search that waits may wait no longer, and when that was looked at.
    wait_due: Option<Instant>,
    waits_looked_at: Option<Instant>,
    /// When a calibration that failed is tried again.
    retry_at: Option<Instant>,
    closing: bool,
}

impl Coordinator {
    pub(crate) fn new(
        requests: Inbox<Request>,
        reports: SignalInbox<Report>,
        workers: Vec<Mailbox<ShardQuery>>,
        jobs: (Arc<dyn Background>, Signals<Report>),
        pace: Duration,
        log_fault: LogFault,
    ) -> Coordinator {
        Coordinator {
            requests,
            reports,
            workers,
            pace,
            boards: HashMap::new(),
            expiring: BTreeSet::new(),
            gathers: HashMap::new(),
            calibrations: Calibrations::new(jobs.0, jobs.1),
            log_fault,
            next_ticket: 0,
            tidied_at: None,
            tidied_first: CollectionId(u64::MAX),
            waits: 0,
            full_swept_at: None,
            wait_due: None,
            waits_looked_at: None,
            retry_at: None,
            closing: false,
        }
    }

    /// The body of the thread.
    pub(crate) fn run(mut self) {
        while !self.closing {
            let mut busy = self.take_requests();
            busy |= self.take_reports();
            let news = [self.publish_changed(), self.tidy(), self.retry_calibrations()];
            let waits = [self.end_waits(), self.sweep_full()];
            let due = news.into_iter().chain(waits).flatten().min();
            if !busy && !self.closing {
                wait_for_either(&self.requests, &self.reports, due);
            }
        }
    }

    /// Ends the waits of searches that may wait no longer. Gives the time until the next look.
    fn end_waits(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let left = self.wait_due?.saturating_duration_since(now);
        if !left.is_zero() {
            return Some(left);
        }
        (self.wait_due, self.waits_looked_at) = (None, Some(now));
        let mut all: Vec<(Arc<Published>, Vec<Waiter>)> = Vec::new();
        for board in self.boards.values_mut() {
            let mut over = Vec::new();
            let next = board.take_overdue(now, &mut over);
            self.wait_due = sooner(self.wait_due, next);
            if !over.is_empty() {
                all.push((board.cell.pin(), over));
            }
        }
        for (published, over) in all {
            over.into_iter().for_each(|waiter| self.time_out(waiter, &published));
        }
        // Each look passes by all who wait.
        self.wait_due = self.wait_due.map(|due| due.max(now + WAITS_LOOK));
        self.wait_due.map(|due| due.saturating_duration_since(now))
    }

    /// A search waited for a write for as long as it may.
    fn time_out(&mut self, waiter: Waiter, published: &Arc<Published>) {
        let Waiter::Search { order, permit } = waiter else { return };
        let waited = order.wait.map_or(Duration::ZERO, |wait| wait.asked.elapsed());
        if order.wait.is_some_and(|wait| wait.is_deadline) {
            return self.fan_out(order, permit, published, None);
        }
        let timeout = WaitError::Timeout { seq: order.required, waited };
        self.refuse_search(order, permit, published, timeout);
    }

    /// Where those who wait take all places nobody else comes in, whose turn it would be to sweep out who gave up. Gives
    /// the time until the next look.
    fn sweep_full(&mut self) -> Option<Duration> {
        if !self.requests.is_full() {
            return None;
        }
        let since = self.full_swept_at.map_or(FULL_LOOK, |at| at.elapsed());
        if since < FULL_LOOK {
            return Some(FULL_LOOK - since);
        }
        self.boards.values_mut().for_each(Board::sweep);
        self.full_swept_at = Some(Instant::now());
        Some(FULL_LOOK)
    }

    /// Tries calibrations again that failed a while ago. Gives the time until the next is due.
    fn retry_calibrations(&mut self) -> Option<Duration> {
        let left = self.retry_at?.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return Some(left);
        }
        self.retry_at = None;
        let collections: Vec<CollectionId> = self.boards.keys().copied().collect();
        collections.into_iter().for_each(|collection| self.look_at_calibration(collection, None));
        self.retry_at = self.boards.values().filter_map(|board| board.desk.retry_at()).min();
        Some(self.retry_at?.saturating_duration_since(Instant::now()))
    }

    /// Has what has expired taken out, now and then. Gives the time until the
    /// next look.
    fn tidy(&mut self) -> Option<Duration> {
        let left = self.tidied_at.map(|(at, pause)| pause.saturating_sub(at.elapsed()));
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            return Some(left);
        }
        let mut pause: Option<Duration> = None;
        // Places are few: another one is the first each time.
        let turn = in_turn(&self.expiring, self.tidied_first);
        self.tidied_first = turn.first().copied().unwrap_or(self.tidied_first);
        for collection in turn {
            let next = self.boards.get_mut(&collection).and_then(Board::tidy);
            pause = sooner(pause, next);
            if next.is_none() {
                self.expiring.remove(&collection);
            }
        }
        self.tidied_at = pause.map(|pause| (Instant::now(), pause));
        pause
    }

    fn take_requests(&mut self) -> bool {
        let mut busy = false;
        while let Some(Envelope { message, permit }) = self.requests.try_next() {
            busy = true;
            match message {
                Request::Register { collection, board } => {
                    self.boards.insert(collection, *board);
                }
                Request::Sweep { collection, broom } => {
                    if let Some(board) = self.boards.get_mut(&collection) {
                        board.broom = Some(*broom);
                        self.expiring.insert(collection);
                        self.tidied_at = None;
                    }
                }
                // Dropped waiters learn that the collection is gone.
                Request::Unregister { collection } => drop(self.boards.remove(&collection)),
                Request::Await { collection, seq, reply } => {
                    self.wait(collection, seq, Waiter::Visible { reply, _permit: permit });
                }
                Request::Search(order) => {
                    let (collection, required) = (order.collection, order.required);
                    self.wait(collection, required, Waiter::Search { order, permit });
                }
                Request::Calibrate { collection, reply } => {
                    self.look_at_calibration(collection, reply.map(|reply| (reply, permit)));
                }
            }
        }
        busy
    }

    fn take_reports(&mut self) -> bool {
        let mut busy = false;
        for _ in 0..DRAIN_REPORTS {
            let Some(report) = self.reports.try_next() else { break };
            busy = true;
            match report {
                Report::View { collection, shard, view, waits_for_memory } => {
                    if !self.boards.contains_key(&collection) {
                        // Its registration was sent before the first view.
                        self.take_requests();
                    }
                    if let Some(board) = self.boards.get_mut(&collection) {
                        board.receive(shard, view, waits_for_memory);
                    }
                }
                Report::Partial { ticket, shard, answer } => {
                    let Some(gather) = self.gathers.get_mut(&ticket) else { continue };
                    gather.add(shard, answer);
                    if gather.is_over() {
                        self.gathers.remove(&ticket);
                    }
                }
                Report::Calibrating { collection, slice } => self.calibrating(collection, slice),
                Report::LeftOut { collection, shard, seq } => {
                    if let Some(board) = self.boards.get(&collection) {
                        board.context.health.leave_out(shard, seq);
                        // After some it counts as failed.
                        board.wake_writers();
                    }
                }
                Report::ShardFailed { collection, shard } => self.fail_shard(collection, shard),
                Report::ShardShort { collection, shard, shortage } => {
                    let Some(board) = self.boards.get_mut(&collection) else { continue };
                    let gone = board.context.no_memory(shard, shortage.bytes);
                    self.turn_away(collection, &gone);
                }
                Report::LogFailed => self.fail_log(),
                Report::WorkerDown { worker } => self.fail_worker(worker),
                Report::Close => self.closing = true,
            }
        }
        busy
    }

    /// Publishes what changed. Gives the time until the next publication is
    /// due when the pace holds one back.
    fn publish_changed(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let mut next: Option<Duration> = None;
        let changed: Vec<CollectionId> =
            self.boards.iter().filter(|(_, board)| board.changed).map(|(id, _)| *id).collect();
        for collection in changed {
            let Some(board) = self.boards.get_mut(&collection) else { continue };
            let since = board.published_at.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
            if since < self.pace {
                let due = self.pace - since;
                next = Some(next.map_or(due, |next| next.min(due)));
                continue;
            }
            self.publish(collection, now);
            self.look_at_calibration(collection, None);
        }
        next
    }

    /// Publishes what is new of a collection.
    fn publish(&mut self, collection: CollectionId, now: Instant) {
        let Some(board) = self.boards.get_mut(&collection) else { return };
        let Some((published, served)) = board.publish() else { return };
        board.published_at = Some(now);
        trace!(
            collection = published.context.name,
            generation = published.generation.0,
            seq = published.seq.0,
            waiters = served.len(),
            "publish"
        );
        if board.is_swept() && published.soonest_expiry() != NEVER && self.expiring.insert(collection) {
            self.tidied_at = None;
        }
        served.into_iter().for_each(|waiter| self.serve(waiter, &published));
    }

    /// Has a collection calibrated if it is due or somebody waits for it.
    fn look_at_calibration(&mut self, collection: CollectionId, waiter: Option<calibrations::Waiter>) {
        // Dropping the waiter tells it that the collection is gone.
        let Some(board) = self.boards.get_mut(&collection) else { return };
        self.calibrations.look(collection, &mut board.desk, &board.cell.load(), waiter);
        self.begin_calibration();
    }

    fn begin_calibration(&mut self) {
        while let Some(collection) = self.calibrations.next() {
            // It may have been dropped since it was queued.
            if let Some(board) = self.boards.get_mut(&collection) {
                self.calibrations.begin(collection, &mut board.desk, board.cell.pin());
            }
        }
    }

    /// Goes on after a slice of a calibration.
    fn calibrating(&mut self, collection: CollectionId, slice: Slice) {
        let known = self.boards.contains_key(&collection);
        let slice = match slice {
            Slice::More(run) if known && !self.closing => return self.calibrations.go_on(collection, run),
            ended => ended,
        };
        self.calibrations.end();
        self.end_calibration(collection, slice);
        self.look_at_calibration(collection, None);
        self.begin_calibration();
    }

    /// Publishes a calibration, then tells those who wait for it.
    fn end_calibration(&mut self, id: CollectionId, slice: Slice) {
        let Some(board) = self.boards.get_mut(&id) else { return };
        let outcome = match slice {
            Slice::Done(table) => Ok(Arc::<Calibration>::from(table)),
            Slice::More(_) | Slice::Failed => Err(CalibrateError::Failed),
        };
        if !board.desk.is_overtaken()
            && let Ok(table) = &outcome
        {
            let (collection, generation) = (&board.context.name, table.generation.0);
            debug!(collection, generation, rows = table.rows, "calibrated");
            board.desk.table = Some(Arc::clone(table));
            self.publish(id, Instant::now());
        }
        let Some(board) = self.boards.get_mut(&id) else { return };
        if board.desk.is_overtaken() {
            // It measured an index that is no more: publishing may have shown that.
            return board.desk.begin_again();
        }
        let now = board.cell.load().extent();
        let waiters = board.desk.end(outcome.as_ref().map(|table| table.extent), now);
        self.retry_at = sooner(self.retry_at, board.desk.retry_at());
        waiters.into_iter().for_each(|(reply, _permit)| reply.send(outcome.clone()));
    }

    /// Serves a waiter now, or when its write is visible.
    fn wait(&mut self, collection: CollectionId, seq: Seq, waiter: Waiter) {
        self.waits += 1;
        if self.waits >= SWEEP_WAITS {
            self.waits = 0;
            self.boards.values_mut().for_each(Board::sweep);
        }
        let Some(board) = self.boards.get_mut(&collection) else {
            // Dropping the waiter tells it that the collection is gone.
            return;
        };
        let lost = board.context.lost(self.log_fault.get());
        let until = waiter.until();
        let Some(waiter) = board.wait(seq, waiter, lost.is_some()) else {
            let earliest = self.waits_looked_at.map(|at| at + WAITS_LOOK);
            let until = until.map(|until| earliest.map_or(until, |earliest| until.max(earliest)));
            self.wait_due = sooner(self.wait_due, until);
            return;
        };
        let published = board.cell.pin();
        match lost {
            Some(lost) if seq > published.seq => self.refuse(waiter, &published, lost),
            _ => self.serve(waiter, &published),
        }
    }

    /// Gives a waiter what it waited for.
    fn serve(&mut self, waiter: Waiter, published: &Arc<Published>) {
        match waiter {
            Waiter::Visible { reply, .. } => reply.send(Ok(published.generation)),
            Waiter::Search { order, permit } => self.fan_out(order, permit, published, None),
        }
    }

    /// Sends a search to all workers; `lacking` is what its answer will not show.
    fn fan_out(
        &mut self,
        order: Arc<SearchOrder>,
        permit: Permit,
        published: &Arc<Published>,
        lacking: Option<SearchError>,
    ) {
        if order.reply.is_abandoned() {
            return;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let mut gather = Gather::new(Arc::clone(&order), Arc::clone(published), permit);
        if let Some(lacking) = lacking {
            gather.lack(lacking);
        }
        let now = published.sight().now();
        for (shard, worker) in self.workers.iter().enumerate().take(published.shards.len()) {
            if gather.has_failed() {
                gather.lose(shard, SearchError::Failed { shard });
                continue;
            }
            let (published, order) = (Arc::clone(published), Arc::clone(&order));
            let query = ShardQuery { ticket, shard, published, now, order };
            let refusal =
                match worker.acquire(Backpressure::Reject).and_then(|place| worker.send(place, query)) {
                    Ok(()) => continue,
                    Err(Refusal::Full { reason, .. }) => {
                        SearchError::Full { capacity: worker.capacity(), reason }
                    }
                    Err(Refusal::Closed) => SearchError::Failed { shard },
                };
            gather.lose(shard, refusal);
        }
        if !gather.is_over() {
            self.gathers.insert(ticket, gather);
        }
    }

    fn fail_worker(&mut self, worker: usize) {
        error!(worker, "worker ended");
        let collections: Vec<CollectionId> = self.boards.keys().copied().collect();
        collections.into_iter().for_each(|collection| self.fail_shard(collection, worker));
        // The parts of the worker that ended will never come.
        self.gathers.retain(|_, gather| {
            gather.lose(worker, SearchError::Failed { shard: worker });
            !gather.is_over()
        });
    }

    fn fail_shard(&mut self, collection: CollectionId, shard: usize) {
        let Some(board) = self.boards.get_mut(&collection) else { return };
        board.context.health.fail(shard);
        // Nothing is written any more: whoever waits for memory waits in vain.
        board.wake_writers();
        let lost = board.context.lost(None).unwrap_or(Gone::Closed);
        self.turn_away(collection, &lost);
    }

    /// Tells all who wait that their writes will not be visible, or not soon.
    fn turn_away(&mut self, collection: CollectionId, gone: &Gone) {
        let Some(board) = self.boards.get_mut(&collection) else { return };
        let (published, waiters) = (board.cell.pin(), board.lose());
        waiters.into_iter().for_each(|waiter| self.refuse(waiter, &published, gone.clone()));
    }

    /// No collection is written any more: whoever waits for a write waits in vain.
    fn fail_log(&mut self) {
        let Some(fault) = self.log_fault.get().cloned() else { return };
        let collections: Vec<CollectionId> = self.boards.keys().copied().collect();
        let gone = Gone::LogFailed(fault);
        collections.into_iter().for_each(|collection| self.turn_away(collection, &gone));
    }

    /// Tells a waiter why its write will not be visible.
    fn refuse(&mut self, waiter: Waiter, published: &Arc<Published>, gone: Gone) {
        match waiter {
            Waiter::Visible { reply, .. } => reply.send(Err(gone)),
            Waiter::Search { order, permit } => {
                self.refuse_search(order, permit, published, WaitError::Gone(gone));
            }
        }
    }

    /// A search will not be shown its write: searches without it if that is put up with.
    fn refuse_search(
        &mut self,
        order: Arc<SearchOrder>,
        permit: Permit,
        published: &Arc<Published>,
        fault: WaitError,
    ) {
        let lacking = SearchError::AtLeast(fault);
        if order.query.allows_partial() {
            self.fan_out(order, permit, published, Some(lacking));
        } else {
            order.reply.send(Err(lacking));
        }
    }
}

/// The sooner of two times that may not come.
fn sooner<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    [one, other].into_iter().flatten().min()
}

/// All of them, beginning with the one that follows another.
fn in_turn(all: &BTreeSet<CollectionId>, after: CollectionId) -> Vec<CollectionId> {
    let later = all.range((Bound::Excluded(after), Bound::Unbounded));
    later.chain(all.range(..=after)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_collection_is_the_first_in_its_turn() {
        let all: BTreeSet<CollectionId> = (0..40).map(|number| CollectionId(number * 3)).collect();
        let mut first = CollectionId(u64::MAX);
        for round in 0..80 {
            let turn = in_turn(&all, first);
            assert_eq!(turn.iter().copied().collect::<BTreeSet<_>>(), all);
            first = turn[0];
            assert_eq!(first, CollectionId(round % 40 * 3));
        }
    }
}
