//! One shard as its worker sees it: a plain state machine, without threads,
//! channels or time.
//!
//! Writes are queued, then applied in bounded steps. Applied rows stand in the
//! tail; when enough have gathered, the write log *seals* them into a batch.
//! Sealed batches are absorbed one after the other: `next_job` gives the work,
//! `absorbed` commits its plan. `view` shows the state to readers.

mod reindex;
mod salvage;
mod seal;
mod show;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::batch::{AbsorbJob, Plans, SealedBatch};
use super::successor::{MakeIndex, Successor, SuccessorJob};
use crate::id::{RecordId, Row, Seq};
use crate::index::Index;
use crate::memory::{collect, push, reserve, reserve_back};
use crate::payload::{Filter, Resolver, Timestamp};
use crate::rows::{
    Allocation, Condition, Directory, Mutation, NewRow, RetiredRows, RowStore, Switched, Verdict,
};
use crate::vector::{Matrix, Space, VectorStorage};

/// Sealed batches that may wait to be absorbed. Places of rows that a batch
/// let go are used again this many batches later at the earliest: late enough that the batch
/// is committed by then on every run, so that the places are the same on
/// every run.
const OUTSTANDING_BATCHES: u64 = 2;

/// Sealed rows that may wait to be absorbed; writes wait beyond that, because
/// every search scans these rows.
const OUTSTANDING_ROWS: usize = 2_048;

/// What a shard is made of.
pub(crate) struct ShardSetup {
    pub(crate) space: Space,
    pub(crate) storage: VectorStorage,
    pub(crate) index: Box<dyn Index>,
    pub(crate) make_index: MakeIndex,
    pub(crate) directory: Arc<dyn Directory>,
}

/// The rows of a shard that come from a file.
pub(crate) struct RestoredShard {
    pub(crate) rows: RowStore,
    /// Live rows that the index does not hold, oldest first.
    pub(crate) tail: Vec<Row>,
    /// Dead rows that it holds.
    pub(crate) dead: Vec<Row>,
    /// Rows that it ever took in.
    pub(crate) absorbed: u64,
    pub(crate) live: usize,
    /// The index, if it is not the one that the collection was made with.
    pub(crate) switched: Option<Switched>,
    /// The write after which they stood like this.
    pub(crate) seq: Seq,
}

/// A queued write: `T` is kept until the write is applied.
struct PendingWrite<T> {
    seq: Seq,
    work: Work<T>,
}

enum Work<T> {
    /// Shared with `unshown`: they may have to be applied again.
    Mutations {
        all: Arc<Vec<Mutation>>,
        next: usize,
        keep: Option<T>,
        /// How its condition was decided, if it has one.
        verdict: Option<Verdict>,
    },
    Optimize(T),
    /// An optimization that is left out; who waits for it is told when its turn comes.
    Nothing(T),
}

/// What is left of a shard in whose state nobody trusts any more: all writes
/// that its last view does not show, in their order.
pub(crate) struct Salvage<T> {
    writes: Vec<PendingWrite<T>>,
    /// The write that was being applied.
    pub(crate) at: Option<Seq>,
}

impl<T> Salvage<T> {
    /// Leaves out what a write does; it counts as applied.
    pub(crate) fn leave_out(&mut self, seq: Seq) {
        let left_out = |mut write: PendingWrite<T>| {
            write.work = match write.work {
                Work::Mutations { next, keep, verdict, .. } if write.seq == seq => {
                    Work::Mutations { all: Arc::default(), next, keep, verdict }
                }
                Work::Optimize(keep) if write.seq == seq => Work::Nothing(keep),
                other => other,
            };
            write
        };
        self.writes = std::mem::take(&mut self.writes).into_iter().map(left_out).collect();
    }
}

/// A row that was applied and not sealed yet.
struct Entrant {
    row: Row,
    ordinal: u64,
}

/// Rows that a batch let go.
struct Retired {
    batch: u64,
    /// The write with which the last of them died.
    died: Seq,
    rows: RetiredRows,
}

/// What is under way on the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Running {
    Batch,
    Upkeep,
}

/// What a step did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// Mutations applied.
    pub(crate) applied: usize,
    /// The same by what they cost: see [`Mutation::units`].
    pub(crate) units: u64,
    /// Something that readers should see has changed.
    pub(crate) changed: bool,
}

/// One shard of one collection.
pub(crate) struct ShardState<T> {
    space: Space,
    rows: RowStore,
    index: Box<dyn Index>,
    make_index: MakeIndex,
    switched: Option<Switched>,
    successor: Option<Successor>,
    /// Those that take over with batches that are sealed, first to last: what
    /// comes after them in the log does not keep them from it.
    ending: VecDeque<Successor>,
    /// Exact searches are frequent.
    wants_exact: bool,
    directory: Arc<dyn Directory>,
    pending: VecDeque<PendingWrite<T>>,
    /// Writes that were applied and that no view shows yet.
    unshown: Vec<(Seq, Arc<Vec<Mutation>>)>,
    /// Rows since the last seal, and the same as a set.
    open: Vec<Entrant>,
    open_rows: HashSet<Row>,
    sealed: VecDeque<Arc<SealedBatch>>,
    /// The job that is under way, and whether the next one may be upkeep of the
    /// index: it takes turns with batches.
    running: Option<Running>,
    upkeep_next: bool,
    /// Dead rows that were sealed for the index and not let go since.
    dead_linked: Vec<Row>,
    /// Rows whose places become free a few batches later at the earliest.
    retired: VecDeque<Retired>,
    /// Batches that were sealed when places became free last.
    freed_at: u64,
    /// Optimizations under way: done when the batch is committed.
    optimizing: VecDeque<(u64, Seq, T)>,
    /// Writes with a condition that were decided, and who waits for that.
    decided: VecDeque<(Seq, T, Verdict)>,
    batches_sealed: u64,
    /// Rows that the index ever took in.
    absorbed: u64,
    /// Rows in the index once all sealed batches are committed.
    linked: usize,
    next_ordinal: u64,
    live: usize,
    /// `live` when the last complete write was applied.
    live_applied: usize,
    applied: Seq,
    index_newest: Seq,
    floor: Seq,
    /// The last write in whose midst a batch was sealed that lets go rows which died with it.
    let_go: Seq,
}

impl<T> ShardState<T> {
    pub(crate) fn new(setup: ShardSetup) -> ShardState<T> {
        let vectors = Matrix::new(setup.space.dim(), setup.storage, setup.space.metric());
        ShardState {
            rows: RowStore::new(vectors),
            space: setup.space,
            index: setup.index,
            make_index: setup.make_index,
            switched: None,
            successor: None,
            ending: VecDeque::new(),
            wants_exact: false,
            directory: setup.directory,
            pending: VecDeque::new(),
            unshown: Vec::new(),
            open: Vec::new(),
            open_rows: HashSet::new(),
            sealed: VecDeque::new(),
            running: None,
            upkeep_next: false,
            dead_linked: Vec::new(),
            retired: VecDeque::new(),
            freed_at: 0,
            optimizing: VecDeque::new(),
            decided: VecDeque::new(),
            batches_sealed: 0,
            absorbed: 0,
            linked: 0,
            next_ordinal: 0,
            live: 0,
            live_applied: 0,
            applied: Seq(0),
            index_newest: Seq(0),
            floor: Seq(0),
            let_go: Seq(0),
        }
    }

    /// A shard as it was after write `seq`: its rows come from a file, and the
    /// ids are in the directory already. Rows that no index holds wait to be
    /// absorbed, in batches as if they came in one write.
    pub(crate) fn restore(setup: ShardSetup, from: RestoredShard) -> ShardState<T> {
        let RestoredShard { rows, tail, dead, absorbed, live, switched, seq } = from;
        let linked = setup.index.version().len();
        let mut state = ShardState {
            rows,
            linked,
            switched,
            absorbed,
            next_ordinal: absorbed,
            dead_linked: dead,
            live,
            live_applied: live,
            applied: seq,
            index_newest: seq,
            floor: seq,
            ..ShardState::new(setup)
        };
        let mut coming = tail.len();
        for row in tail {
            coming -= 1;
            push(&mut state.open, Entrant { row, ordinal: state.next_ordinal });
            state.open_rows.insert(row);
            state.next_ordinal += 1;
            state.seal_if_due(seq, coming);
        }
        state
    }

    /// Makes room for so many more writes in the queue. Unwinds where there is no
    /// memory for that.
    pub(crate) fn reserve(&mut self, writes: usize) {
        reserve_back(&mut self.pending, writes);
    }

    /// Queues a write; `keep` is dropped when it is applied.
    pub(crate) fn enqueue(&mut self, seq: Seq, mutations: Vec<Mutation>, keep: T) {
        let work = Work::Mutations { all: Arc::new(mutations), next: 0, keep: Some(keep), verdict: None };
        self.pending.push_back(PendingWrite { seq, work });
    }

    /// Queues an optimization; `done` comes back from [`ShardState::optimized`].
    pub(crate) fn enqueue_optimize(&mut self, seq: Seq, done: T) {
        self.pending.push_back(PendingWrite { seq, work: Work::Optimize(done) });
    }

    /// True when `step` would do something.
    pub(crate) fn can_step(&self) -> bool {
        !self.pending.is_empty() && !self.is_stalled()
    }

    /// Whether writes wait until a batch is absorbed.
    pub(crate) fn waits_for_pool(&self) -> bool {
        !self.pending.is_empty() && self.is_stalled()
    }

    fn is_stalled(&self) -> bool {
        self.sealed.len() as u64 >= OUTSTANDING_BATCHES
            || self.sealed.iter().map(|batch| batch.absorb.len()).sum::<usize>() >= OUTSTANDING_ROWS
    }

    /// Applies at most `budget` queued mutations; fewer when chunks had to grow or to be
    /// copied, so that whoever counts can look.
    ///
    /// # Errors
    /// [`Allocation`] when a row cannot be stored: the step may be done again.
    pub(crate) fn step(&mut self, budget: usize) -> Result<Step, Allocation> {
        let mut step = Step::default();
        let before = self.rows.chunk_changes();
        while step.applied < budget && self.rows.chunk_changes() == before && self.can_step() {
            let Some(write) = self.pending.front_mut() else { break };
            let seq = write.seq;
            let next = match &mut write.work {
                Work::Mutations { all, next, .. } if *next < all.len() => {
                    *next += 1;
                    Some((Arc::clone(all), *next))
                }
                _ => None,
            };
            step.changed = true;
            match next {
                Some((all, next)) => {
                    let coming = all.len() - next;
                    self.apply(&all[next - 1], seq).inspect_err(|_| self.apply_again())?;
                    self.seal_if_due(seq, coming);
                    step.applied += 1;
                    step.units += all[next - 1].units(self.rows.high_water());
                    if coming == 0 {
                        self.finish_write();
                    }
                }
                None => self.finish_write(),
            }
        }
        Ok(step)
    }

    /// The front write is applied completely.
    fn finish_write(&mut self) {
        let Some(PendingWrite { seq, work }) = self.pending.front() else { return };
        let (seq, is_order) = (*seq, matches!(work, Work::Optimize(_)));
        // What may unwind comes before the write leaves the queue: it is done again then.
        reserve(&mut self.unshown, 1);
        reserve_back(&mut self.decided, 1);
        reserve_back(&mut self.optimizing, 1);
        if is_order {
            self.put_in_order(seq, None);
        }
        let Some(write) = self.pending.pop_front() else { return };
        // A write that is done again after a defect may be older.
        self.applied = self.applied.max(write.seq);
        self.live_applied = self.live;
        self.free_retired();
        match write.work {
            Work::Mutations { all, keep, verdict, .. } => {
                if let (Some(keep), Some(verdict)) = (keep, verdict) {
                    self.decided.push_back((write.seq, keep, verdict));
                }
                self.unshown.push((write.seq, all));
            }
            Work::Optimize(done) | Work::Nothing(done) => {
                self.optimizing.push_back((self.batches_sealed, seq, done));
            }
        }
    }

    /// Who waits for the verdict on a condition, and the verdict.
    pub(crate) fn decided(&mut self) -> Option<(T, Verdict)> {
        self.decided.pop_front().map(|(_, keep, verdict)| (keep, verdict))
    }

    /// The mutation that was begun last is still to be applied.
    fn apply_again(&mut self) {
        if let Some(PendingWrite { work: Work::Mutations { next, .. }, .. }) = self.pending.front_mut() {
            *next -= 1;
        }
    }

    /// Applies an upsert of the front write if its condition holds.
    fn upsert_if(
        &mut self,
        new: &NewRow,
        (condition, now): (Condition, Timestamp),
        seq: Seq,
    ) -> Result<(), Allocation> {
        let judged = self.judge(new, condition, now);
        if let Some(PendingWrite { work: Work::Mutations { verdict, .. }, .. }) = self.pending.front_mut() {
            *verdict = Some(judged.clone());
        }
        if judged == Verdict::Written { self.upsert(new, seq) } else { Ok(()) }
    }

    pub(super) fn space(&self) -> &Space {
        &self.space
    }

    pub(super) fn rows(&self) -> &RowStore {
        &self.rows
    }

    pub(super) fn rows_mut(&mut self) -> &mut RowStore {
        &mut self.rows
    }

    fn apply(&mut self, mutation: &Mutation, seq: Seq) -> Result<(), Allocation> {
        match mutation {
            Mutation::Upsert(new) => self.upsert(new, seq),
            Mutation::Conditional(new, condition, now) => self.upsert_if(new, (*condition, *now), seq),
            Mutation::Delete(id) => {
                if let Some(row) = self.live_row(id) {
                    self.kill_live(row, seq);
                }
                Ok(())
            }
            Mutation::DeleteWhere(filter) => {
                self.delete_where(filter, seq);
                Ok(())
            }
            Mutation::Reindex(step) => {
                self.reindex(step, seq);
                Ok(())
            }
            Mutation::Adopt(codes) => {
                self.put_in_order(seq, Some(Arc::clone(codes)));
                Ok(())
            }
            Mutation::Expiry(change) => {
                self.change_expiry(change, seq);
                Ok(())
            }
            Mutation::Sweep { now, most } => {
                self.sweep(*now, *most, seq);
                Ok(())
            }
            Mutation::Payload(update) => {
                if let Some(row) = self.live_row(&update.id) {
                    let payloads = self.rows.payloads_mut();
                    let after = update.edit.clone().apply(payloads.get(row));
                    payloads.change(row, after, seq);
                }
                Ok(())
            }
        }
    }

    /// Kills all records that pass a filter as of now.
    fn delete_where(&mut self, filter: &Filter, seq: Seq) {
        self.passing(filter, usize::MAX).into_iter().for_each(|row| self.kill_live(row, seq));
    }

    /// The first living rows that pass a filter, ascending, `most` of them.
    pub(super) fn passing(&mut self, filter: &Filter, most: usize) -> Vec<Row> {
        let payloads = self.rows.payloads_mut().view(self.applied);
        let find = |id: &RecordId| self.live_row(id);
        // No change is later than that: the newest payloads count.
        let newest = Seq(u64::MAX);
        let limit = self.rows.high_water() as Row;
        Resolver::new(filter, &payloads, newest, &find).first(limit, most, &|row| self.rows.is_alive(row))
    }

    /// Kills a living record.
    pub(super) fn kill_live(&mut self, row: Row, seq: Seq) {
        self.kill(row, seq);
        self.live -= 1;
    }

    fn upsert(&mut self, new: &NewRow, seq: Seq) -> Result<(), Allocation> {
        let before = self.live_row(&new.id);
        let row = self.rows.insert(new, seq)?;
        match before {
            Some(before) => self.kill(before, seq),
            None => self.live += 1,
        }
        self.directory.push(&new.id, row);
        push(&mut self.open, Entrant { row, ordinal: self.next_ordinal });
        self.open_rows.insert(row);
        self.next_ordinal += 1;
        Ok(())
    }

    pub(super) fn live_row(&self, id: &RecordId) -> Option<Row> {
        self.directory.find(id, &mut |row| self.rows.holds(row, id))
    }

    fn kill(&mut self, row: Row, seq: Seq) {
        self.rows.kill(row, seq);
        if !self.open_rows.contains(&row) {
            push(&mut self.dead_linked, row);
        }
    }

    /// Lets places be taken again. Batches are counted as of the last seal that came here, not of
    /// an order to lay the index, which follows another batch at once: so what they let go is committed.
    fn free_retired(&mut self) {
        // In the midst of the write with which rows died readers are shown the view before it:
        // whoever takes their places copies the chunk first. One chunk is worth it, but not one
        // after the other for one write.
        let one_chunk = self.rows.has_one_chunk();
        let is_free = |retired: &Retired| {
            retired.batch + OUTSTANDING_BATCHES <= self.freed_at
                && (one_chunk || retired.died <= self.applied)
        };
        while self.retired.front().is_some_and(is_free) {
            if let Some(retired) = self.retired.pop_front() {
                self.rows.reuse(retired.rows);
            }
        }
    }

    /// The next batch to absorb, or upkeep of the index, unless one is under
    /// way. Batches that leave the index alone are committed on the spot.
    pub(crate) fn next_job(&mut self) -> Option<AbsorbJob> {
        if self.running.is_some() {
            return None;
        }
        while self.sealed.front().is_some_and(|batch| batch.is_void()) {
            self.finish_batch();
        }
        let version = self.index.version();
        // What upkeep trains would lie beside what the write under way has changed: it can wait.
        let may_keep_up = !self.is_between() && (self.upkeep_next || self.sealed.is_empty());
        let (running, batch) = if may_keep_up && version.needs_upkeep(self.space.dim()) {
            (Running::Upkeep, None)
        } else {
            (Running::Batch, Some(Arc::clone(self.sealed.front()?)))
        };
        self.running = Some(running);
        self.upkeep_next = running == Running::Batch;
        let vectors = self.rows.vectors().clone();
        let number = batch.as_ref().map_or(0, |batch| batch.number);
        let successor = self.ending.front().or(self.successor.as_ref());
        let successor = successor.filter(|successor| number >= successor.since);
        let successor = successor
            .map(|successor| SuccessorJob { since: successor.since, version: successor.index.version() });
        Some(AbsorbJob { batch, version, successor, space: self.space, vectors })
    }

    /// True when no newer view can be shown before the write that was begun ends.
    pub(crate) fn is_between(&self) -> bool {
        self.floor > self.applied
    }

    /// True between when no views are held but the one that must be shown until the write
    /// ends: what lies there beside what that one keeps is for the writer alone.
    pub(crate) fn is_alone_between(&self) -> bool {
        self.is_between() && self.rows.views_held() <= 1
    }

    /// True while a job is under way.
    pub(crate) fn is_changing(&self) -> bool {
        self.running.is_some()
    }

    /// Commits the plan of the job that is under way.
    pub(crate) fn absorbed(&mut self, plans: Plans) {
        self.index.commit(plans.index);
        let successor = self.ending.front_mut().or(self.successor.as_mut());
        if let (Some((since, plan)), Some(successor)) = (plans.successor, successor)
            && successor.since == since
        {
            successor.index.commit(plan);
        }
        if self.running.take() == Some(Running::Batch) {
            self.finish_batch();
        }
    }

    /// The job that is under way came to nothing: it can be begun again.
    pub(crate) fn abandon_job(&mut self) {
        self.running = None;
    }

    fn finish_batch(&mut self) {
        let Some(batch) = self.sealed.pop_front() else { return };
        if self.ending.front().is_some_and(|it| it.ends_at == Some(batch.number))
            && let Some(mut successor) = self.ending.pop_front()
        {
            if self.wants_exact {
                successor.index.want_exact();
            }
            (self.index, self.switched) = (successor.index, Some(successor.switched));
        }
        self.absorbed += batch.absorb.len() as u64;
        if !batch.absorb.is_empty() {
            self.index_newest = self.index_newest.max(batch.cut);
        }
        let gone: Vec<Row> = collect(batch.dropped.iter().chain(&batch.forget).copied());
        if !gone.is_empty() {
            let died = gone.iter().map(|row| self.rows.died(*row)).fold(Seq(0), Seq::max);
            self.floor = self.floor.max(died);
            let rows = self.rows.retire(gone);
            self.retired.push_back(Retired { batch: batch.number, died, rows });
        }
    }
}
