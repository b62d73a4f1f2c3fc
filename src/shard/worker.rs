//! The thread that owns one shard of every collection: the only writer of its shards.
//!
//! A round of the loop: answer searches, commit what the pool finished, take
//! writes from the mailbox, apply them in bounded slices (every shard in
//! turn), show what changed. Searches and writes have turns that end by the
//! clock (`turns`). It sleeps when a round found nothing to do.
//! A defect (a panic) in the work on one shard fails that shard and no other;
//! one for which there is no memory waits for it (`pause`).

mod held_up;
mod jobs;
mod logging;
mod pause;
mod trouble;

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, error, trace};

use super::batch::Plans;
use super::budget::Meter;
use super::command::{
    Background, CollectionId, Keep, NoPlan, Note, Report, ShardQuery, Signal, WriteCommand,
};
use super::journal::{Journal, LogFault};
use super::mailbox::{Envelope, Inbox, SignalInbox, Signals, wait_for_any};
use super::places::Permit;
use super::rescue::{Rebuilder, Trouble, Troubles};
use super::state::ShardState;
use super::toll::ShardTolls;
use super::turns::Turns;
use crate::error::SearchError;
use crate::index::Settling;
use crate::rows::{ShardMeasure, ShardView};
use crate::snapshot::{Sight, search_one_shard};
use held_up::{HeldUp, LOOK};
use jobs::{JobAnswer, Offer, start};
use logging::{HeldBack, Taken};
use pause::Pause;

/// Writes taken from the mailbox in one round, with those that were held back.
const DRAIN_WRITES: usize = 256;

/// Mutations applied to one shard in one round: a fraction of a millisecond,
/// so that a long batch does not hold up searches and other collections.
const SLICE_MUTATIONS: usize = 256;

/// How long a worker has nothing to do before it gives back memory that only
/// older versions of its shards needed: longer than readers and the coordinator
/// take to move on...
const SETTLE_FIRST: Duration = Duration::from_millis(10);

/// ...and how long it waits at most, while snapshots are held, to look again.
const SETTLE_MOST: Duration = Duration::from_secs(1);

/// A shard on this worker.
struct Hosted {
    state: ShardState<Keep>,
    meter: Meter,
    /// They learn what its work takes.
    tolls: ShardTolls,
    /// It waits for readers to let go of memory.
    held_up: Option<HeldUp>,
    /// Whether the coordinator was told last that it does.
    told: bool,
    /// The job that is under way was begun without counting what it takes.
    is_uncounted: bool,
    /// There was no memory.
    pause: Option<Pause>,
    /// Writes that are logged and not queued yet: there is room for them.
    expected: usize,
    troubles: Troubles,
    rebuilder: Arc<dyn Rebuilder>,
    /// The job that is under way: others are of a state that was given up.
    job: u64,
    /// It, if it is small, and the pool may not have begun it.
    offer: Option<Offer>,
    /// Mutations until a defect on purpose, and how many of them.
    #[cfg(test)]
    fuse: (usize, u32),
    /// Readers have not seen the newest state yet.
    changed: bool,
    /// There is no memory to be given back.
    settled: bool,
}

impl Hosted {
    /// Tells the account what the shard holds.
    fn measured(&self, measure: &ShardMeasure) {
        self.meter.show(measure, self.state.is_changing() && !self.is_uncounted);
    }

    /// Whether its writes wait for memory, or for nothing that comes.
    fn waits(&self) -> bool {
        self.is_paused() || self.is_lost() || self.waits_for_readers()
    }

    /// Whether it is held up, and has not waited long enough.
    fn waits_for_readers(&self) -> bool {
        self.held_up.as_ref().is_some_and(|held_up| !held_up.was_over())
    }

    /// The state for readers, if there is one that can be shown: in the midst of a write that
    /// took rows out of the index there is none, and what nobody has is changed where it stands.
    fn show(&mut self) -> Option<Arc<ShardView>> {
        if self.state.is_between() {
            self.measured(&self.state.measure());
            return None;
        }
        let view = Arc::new(self.state.view());
        self.troubles.shows(Arc::clone(&view));
        self.measured(&view.measure());
        Some(view)
    }

    /// Whether it may copy and change what it holds: it waits a while where that
    /// would go beyond a budget. Readers cannot let go of the view before a write that
    /// took rows out of the index, which shows these: without others there is nothing to
    /// wait for, and blocks that were changed before are changed where they stand.
    fn may_change(&mut self) -> bool {
        if !self.meter.is_bounded() || self.meter.may_change(&self.state.measure()) {
            self.held_up = None;
            self.is_uncounted &= self.state.is_changing();
            return true;
        }
        // A job that is under way stays what it was begun as.
        if self.state.is_alone_between() {
            self.held_up = None;
            self.is_uncounted |= !self.state.is_changing();
            return true;
        }
        self.is_uncounted &= self.state.is_changing();
        // The coordinator is told that it waits.
        self.changed |= self.held_up.is_none();
        let for_us = self.state.is_changing() || self.meter.is_ahead();
        self.held_up.get_or_insert_with(HeldUp::begin).is_over(Instant::now(), for_us)
    }

    /// Whether it may apply writes. The end of a write shows what its unlinkings left, which
    /// a job that was not counted must not find held.
    fn may_step(&mut self) -> bool {
        !(self.is_uncounted && self.state.is_changing()) && self.may_change()
    }

    /// Whether it may give back memory now. That takes some for a while, which a
    /// change that is under way was not granted.
    fn may_settle(&self) -> bool {
        !(self.meter.is_bounded() && self.state.is_changing())
    }
}

/// What a worker is connected to.
pub(crate) struct WorkerPorts {
    pub(crate) writes: Inbox<WriteCommand>,
    pub(crate) queries: Inbox<ShardQuery>,
    pub(crate) signals: SignalInbox<Signal>,
    /// For background jobs to answer to.
    pub(crate) signal_sender: Signals<Signal>,
    pub(crate) reports: Signals<Report>,
    pub(crate) background: Arc<dyn Background>,
    pub(crate) log_fault: LogFault,
}

/// The state of a worker thread.
pub(crate) struct Worker {
    number: usize,
    ports: WorkerPorts,
    shards: BTreeMap<CollectionId, Hosted>,
    journal: Journal,
    /// What was taken from the mailbox in this round, and writes that are not
    /// logged yet for want of memory.
    taken: Taken,
    held_back: HeldBack,
    /// To whoever looks after the files.
    notes: Option<Signals<Note>>,
    jobs_begun: u64,
    /// Some shards wait for memory.
    has_pauses: bool,
    turns: Turns,
    /// The collection that was written last: a turn may end before all were.
    written: Option<CollectionId>,
    closing: bool,
}

/// Tells the coordinator when the thread ends without being told to.
struct DownGuard<'a> {
    worker: usize,
    reports: &'a Signals<Report>,
    orderly: bool,
}

impl Drop for DownGuard<'_> {
    fn drop(&mut self) {
        if !self.orderly {
            self.reports.send(Report::WorkerDown { worker: self.worker });
        }
    }
}

impl Worker {
    pub(crate) fn new(number: usize, ports: WorkerPorts) -> Worker {
        Worker {
            number,
            ports,
            shards: BTreeMap::new(),
            journal: Journal::default(),
            taken: logging::roomy(),
            held_back: HeldBack::default(),
            notes: None,
            jobs_begun: 0,
            has_pauses: false,
            turns: Turns::default(),
            written: None,
            closing: false,
        }
    }

    /// The body of the thread.
    pub(crate) fn run(self) {
        let reports = self.ports.reports.clone();
        let mut guard = DownGuard { worker: self.number, reports: &reports, orderly: false };
        // Dropped before the guard: once the coordinator hears of the end, the
        // mailboxes are closed and nothing can be sent into them any more.
        let mut worker = self;
        let mut patience = SETTLE_FIRST;
        while !worker.closing {
            if worker.round() {
                patience = SETTLE_FIRST;
                continue;
            }
            let looks = |hosted: &Hosted| !hosted.settled || hosted.held_up.is_some();
            let limit = worker.shards.values().any(looks).then_some(patience);
            let limit =
                if worker.shards.values().any(Hosted::waits_for_readers) { Some(LOOK) } else { limit };
            let limit = limit.into_iter().chain(worker.next_try()).chain(worker.next_overdue()).min();
            let WorkerPorts { writes, queries, signals, .. } = &worker.ports;
            if !wait_for_any(writes, queries, signals, limit) {
                patience = if worker.settle() { SETTLE_FIRST } else { (2 * patience).min(SETTLE_MOST) };
            }
        }
        // Whatever was applied and not logged yet; then the log has an end.
        worker.log_held_back();
        let _ = worker.journal.close().inspect_err(|fault| worker.fail_log(fault));
        guard.orderly = true;
    }

    /// One round; false when there was nothing to do.
    fn round(&mut self) -> bool {
        let mut busy = self.answer_queries();
        busy |= self.try_again();
        busy |= self.handle_signals();
        if self.closing {
            return true;
        }
        busy |= self.write();
        self.show_changes();
        self.end_pauses();
        busy || self.flush_log()
    }

    /// Gives back memory that nobody needs any more; false when that was
    /// nothing, perhaps because old snapshots are held.
    fn settle(&mut self) -> bool {
        let is_open = |hosted: &Hosted| !hosted.settled && hosted.may_settle();
        let open: Vec<CollectionId> =
            self.shards.iter().filter(|(_, hosted)| is_open(hosted)).map(|(id, _)| *id).collect();
        for collection in open {
            self.guarded(collection, |hosted| {
                if hosted.is_lost() {
                    hosted.settled = true;
                    return Ok(());
                }
                let settling = hosted.state.settle();
                hosted.settled = settling == Settling::Settled;
                hosted.changed = settling == Settling::Stepped;
                hosted.measured(&hosted.state.measure());
                Ok(())
            });
        }
        self.shards.values().any(|hosted| hosted.changed)
    }

    fn answer_queries(&mut self) -> bool {
        let (began, limit) = (Instant::now(), self.turns.for_searches());
        let mut busy = false;
        let mut at = began;
        while let Some(Envelope { message, permit }) = self.ports.queries.try_next() {
            at = self.answer(message, permit, at);
            busy = true;
            if at - began >= limit {
                break;
            }
        }
        if busy {
            let can_step = |hosted: &Hosted| !hosted.waits() && hosted.state.can_step();
            let writes_wait = self.ports.writes.has_next() || self.shards.values().any(can_step);
            self.turns.searched(began.elapsed(), writes_wait);
        }
        busy
    }

    /// Searches one shard, from a moment on; gives that of its end.
    fn answer(&self, query: ShardQuery, permit: Permit, began: Instant) -> Instant {
        let ShardQuery { ticket, shard, published, now, order } = query;
        if order.reply.is_abandoned() {
            let answer = Err(SearchError::Failed { shard });
            self.ports.reports.send(Report::Partial { ticket, shard, answer });
            return began;
        }
        let abandoned = || order.reply.is_abandoned();
        let search = || search_one_shard(Sight::at(&published, now), &order.query, shard, &abandoned);
        let answer = catch_unwind(AssertUnwindSafe(search)).unwrap_or_else(|defect| {
            error!(worker = self.number, shard, defect = describe(&*defect), "search panicked");
            Err(SearchError::Failed { shard })
        });
        let ended = Instant::now();
        // What was cut short says nothing about the next.
        if answer.as_ref().is_ok_and(|answer| answer.completeness().is_whole())
            && let Some(hosted) = self.shards.get(&order.collection)
        {
            hosted.tolls.searching.took(order.toil, ended - began);
        }
        drop((published, permit));
        self.ports.reports.send(Report::Partial { ticket, shard, answer });
        ended
    }

    fn handle_signals(&mut self) -> bool {
        let mut busy = false;
        while let Some(signal) = self.ports.signals.try_next() {
            busy = true;
            match signal {
                Signal::Absorbed { collection, job, plan } => self.absorbed(collection, job, plan),
                // They take memory that no budget was asked for.
                Signal::WantExact { collection } => self.guarded(collection, |hosted| {
                    let may = !hosted.meter.is_bounded() && !hosted.is_paused() && !hosted.is_lost();
                    hosted.changed |= may && hosted.state.want_exact();
                    Ok(())
                }),
                Signal::Close => {
                    self.closing = true;
                    return true;
                }
            }
        }
        busy
    }

    /// Commits what the pool did, or has it done again.
    fn absorbed(&mut self, collection: CollectionId, job: u64, plan: Result<Plans, NoPlan>) {
        self.guarded(collection, |hosted| {
            if hosted.job != job {
                return Ok(());
            }
            (hosted.changed, hosted.offer) = (true, None);
            match plan {
                Ok(plan) => {
                    hosted.state.absorbed(plan);
                    hosted.troubles.job_is_done();
                    debug!(collection = hosted.rebuilder.name(), "absorbed");
                    Ok(())
                }
                Err(NoPlan::Short(shortage)) => {
                    hosted.state.abandon_job();
                    Err(shortage.into())
                }
                Err(NoPlan::Abandoned) if hosted.troubles.may_try_again() => {
                    hosted.state.abandon_job();
                    Ok(())
                }
                Err(NoPlan::Abandoned) => Err(Trouble::Fault("a batch could not be absorbed".to_owned())),
            }
        });
    }

    /// Takes writes and applies them until there are no more, or until it is
    /// the turn of searches.
    fn write(&mut self) -> bool {
        let (began, limit) = (Instant::now(), self.turns.for_writes());
        let mut busy = false;
        loop {
            let more = self.take_writes() | self.step_shards(began, limit);
            busy |= more;
            if !more || !self.ports.queries.has_next() || began.elapsed() >= limit {
                break;
            }
        }
        busy |= self.do_overdue();
        if busy {
            self.turns.wrote(began.elapsed(), self.ports.queries.has_next());
        } else {
            self.turns.had_nothing_to_write();
        }
        busy
    }

    /// Lets a shard have a write; one for which there was no memory before has no
    /// place in the mailbox any more.
    fn take_write(&mut self, command: WriteCommand, permit: Option<Permit>) {
        match command {
            WriteCommand::Create { collection, state, view, rebuilder, meter, tolls } => {
                self.host(collection, (*state, view), rebuilder, (meter, tolls));
            }
            WriteCommand::Write { collection, seq, mutations, verdict, grant, .. } => {
                if let Some(hosted) = self.shards.get_mut(&collection) {
                    let keep = match (verdict, permit) {
                        (Some(verdict), Some(permit)) => {
                            Keep::Decided { verdict, _permit: permit, _grant: grant }
                        }
                        (_, permit) => Keep::Place { _permit: permit, _grant: grant },
                    };
                    hosted.expected = hosted.expected.saturating_sub(1);
                    hosted.state.enqueue(seq, mutations, hosted.kept(keep));
                }
            }
            WriteCommand::Optimize { collection, seq, done, .. } => {
                if let Some(hosted) = self.shards.get_mut(&collection) {
                    let keep = match (done, permit) {
                        (Some(done), Some(permit)) => Keep::Optimized { done, _permit: permit },
                        (_, permit) => Keep::Place { _permit: permit, _grant: None },
                    };
                    hosted.expected = hosted.expected.saturating_sub(1);
                    hosted.state.enqueue_optimize(seq, hosted.kept(keep));
                }
            }
            WriteCommand::StartLog { journal, notes } => {
                (self.journal, self.notes) = (*journal, Some(notes));
            }
            WriteCommand::Drop { collection } => {
                self.held_back.forget(collection);
                drop(self.shards.remove(&collection));
            }
            #[cfg(test)]
            WriteCommand::Panic { collection: Some(collection) } => {
                self.guarded(collection, |_| panic!("a defect on purpose"));
            }
            #[cfg(test)]
            WriteCommand::Panic { collection: None } => panic!("a defect on purpose"),
            #[cfg(test)]
            WriteCommand::Fuse { collection, after, times } => {
                self.shards.get_mut(&collection).into_iter().for_each(|hosted| hosted.fuse = (after, times));
            }
            #[cfg(test)]
            WriteCommand::Hold { until } => _ = until.recv(),
        }
    }

    fn host(
        &mut self,
        collection: CollectionId,
        (state, view): (ShardState<Keep>, Arc<ShardView>),
        rebuilder: Arc<dyn Rebuilder>,
        (meter, tolls): (Meter, ShardTolls),
    ) {
        let hosted = Hosted {
            troubles: Troubles::new(view),
            rebuilder,
            meter,
            tolls,
            held_up: None,
            told: false,
            is_uncounted: false,
            pause: None,
            expected: 0,
            job: 0,
            offer: None,
            changed: state.has_batches(),
            settled: true,
            state,
            #[cfg(test)]
            fuse: (0, 0),
        };
        self.shards.insert(collection, hosted);
    }

    /// Applies a slice of every shard's queue, one after the other from where
    /// the last turn ended, until it is the turn of searches.
    fn step_shards(&mut self, began: Instant, limit: Duration) -> bool {
        let mut busy = false;
        let can_step = |hosted: &mut Hosted| {
            !hosted.is_paused() && !hosted.is_lost() && hosted.state.can_step() && hosted.may_step()
        };
        let mut due: Vec<CollectionId> =
            self.shards.iter_mut().filter_map(|(id, hosted)| can_step(hosted).then_some(*id)).collect();
        let first = due.partition_point(|id| Some(*id) <= self.written);
        due.rotate_left(first);
        for collection in due {
            busy = true;
            self.written = Some(collection);
            self.guarded_write(collection, |hosted| {
                #[cfg(test)]
                hosted.blow();
                let began = Instant::now();
                let step = hosted.state.step(SLICE_MUTATIONS)?;
                hosted.tolls.writing.took(step.units, began.elapsed());
                trace!(collection = hosted.rebuilder.name(), mutations = step.applied, "applied");
                hosted.changed |= step.changed;
                while let Some((keep, decided)) = hosted.state.decided() {
                    if let Keep::Decided { verdict, .. } = keep {
                        verdict.send(Ok(decided));
                    }
                }
                Ok(())
            });
            if self.ports.queries.has_next() && began.elapsed() >= limit {
                break;
            }
        }
        busy
    }

    /// Starts jobs, hands new views to the coordinator, ends optimizations.
    fn show_changes(&mut self) {
        let is_due = |hosted: &Hosted| (hosted.changed || hosted.held_up.is_some()) && !hosted.is_lost();
        let due: Vec<CollectionId> =
            self.shards.iter().filter(|(_, hosted)| is_due(hosted)).map(|(id, _)| *id).collect();
        for collection in due {
            let (shard, ports) = (self.number, self.ports.reports.clone());
            let background = Arc::clone(&self.ports.background);
            let signals = self.ports.signal_sender.clone();
            self.jobs_begun += 1;
            let number = self.jobs_begun;
            self.guarded(collection, |hosted| {
                if hosted.is_paused() {
                    // Nothing that takes memory.
                } else if hosted.may_change() {
                    if let Some(job) = hosted.state.next_job() {
                        hosted.job = number;
                        let answer = JobAnswer::new(signals, collection, number);
                        hosted.offer = start(background.as_ref(), answer, job, &hosted.rebuilder);
                        hosted.changed = true;
                    }
                } else if hosted.may_settle() {
                    hosted.changed |= hosted.state.settle() == Settling::Stepped;
                }
                if !std::mem::take(&mut hosted.changed) && hosted.told == hosted.held_up.is_some() {
                    return Ok(());
                }
                hosted.settled = false;
                let view = hosted.show();
                let waits_for_memory = hosted.held_up.is_some();
                if view.is_some() || waits_for_memory != hosted.told {
                    hosted.told = waits_for_memory;
                    ports.send(Report::View { collection, shard, view, waits_for_memory });
                }
                while let Some(kept) = hosted.state.optimized() {
                    if let Keep::Optimized { done, .. } = kept {
                        done.send(Ok(()));
                    }
                }
                Ok(())
            });
        }
    }
}

/// The text of a panic.
fn describe(defect: &(dyn Any + Send)) -> &str {
    let text = defect.downcast_ref::<&str>().copied();
    text.or_else(|| defect.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown")
}

#[cfg(test)]
impl Hosted {
    /// A defect on purpose, in the middle of the work.
    fn blow(&mut self) {
        if self.fuse.1 > 0 && self.fuse.0 > SLICE_MUTATIONS {
            // Some steps later.
            self.fuse.0 -= SLICE_MUTATIONS;
        } else if self.fuse.1 > 0 {
            self.fuse.1 -= 1;
            let _ = self.state.step(self.fuse.0);
            panic!("a defect on purpose");
        }
    }
}
