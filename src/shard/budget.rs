//! Memory budgets: what a collection holds, and what was promised to writes
//! that are on their way, against a limit for it and one for the engine.
//!
//! A worker says what its shard holds whenever that has changed.
//! Between two such moments a write that was accepted counts as what its rows
//! will take. Both are sums under one short lock a shard, which only writers
//! take. So memory is counted before it is taken: see `design.md` for what may
//! go beyond a budget, and by how much.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event_listener::{Event, Listener};

use super::batch::dead_most;
use super::footprint::{Contents, IndexSizes, RowSizes};
use super::refusal::Backpressure;
use super::wakes::FutureEvent;
use crate::error::BudgetScope;
use crate::rows::{Directory, ShardMeasure};

/// Bytes that are counted against a limit.
#[derive(Debug)]
struct Gauge {
    limit: usize,
    used: AtomicUsize,
}

impl Gauge {
    fn new(limit: Option<usize>) -> Gauge {
        Gauge { limit: limit.unwrap_or(usize::MAX), used: AtomicUsize::new(0) }
    }

    /// Counts more bytes if they fit.
    fn take(&self, bytes: usize) -> bool {
        let more = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        bytes == 0 || self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Counts `to` bytes where `from` were counted, whatever the limit.
    fn change(&self, from: usize, to: usize) {
        self.used.fetch_add(to.wrapping_sub(from), Ordering::Relaxed);
    }

    fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn limit(&self) -> Option<usize> {
        (self.limit < usize::MAX).then_some(self.limit)
    }
}

/// The budget of an engine, and what wakes those who wait for any budget.
#[derive(Debug)]
pub(crate) struct EngineBudget {
    gauge: Gauge,
    changed: Event,
    futures: FutureEvent,
}

impl EngineBudget {
    pub(crate) fn new(limit: Option<usize>) -> Arc<EngineBudget> {
        Arc::new(EngineBudget {
            gauge: Gauge::new(limit),
            changed: Event::new(),
            futures: FutureEvent::default(),
        })
    }

    /// The limit, if there is one.
    pub(crate) fn limit(&self) -> Option<usize> {
        self.gauge.limit()
    }

    /// Bytes that are counted.
    pub(crate) fn used(&self) -> usize {
        self.gauge.used()
    }

    /// Whoever waits looks again: maybe at once, on this thread. So nobody calls this who holds a lock.
    fn wake(&self) {
        self.changed.notify(usize::MAX);
        self.futures.call_all();
    }
}

/// What a part of a write takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) shard: usize,
    /// Records that are new...
    pub(crate) rows: usize,
    /// ...and records that take the place of others.
    pub(crate) renewed: usize,
    /// Bytes from one of their vectors to the next, once stored.
    pub(crate) stride: usize,
    /// Bytes beside the rows: texts of ids, payloads.
    pub(crate) texts: usize,
    pub(crate) payloads: usize,
    /// Bytes that it holds while it waits, and until readers see it.
    pub(crate) queued: usize,
}

impl Need {
    /// False for what only takes records out: it is never refused.
    pub(crate) fn takes(&self) -> bool {
        self.rows + self.renewed + self.texts + self.payloads > 0
    }
}

/// Rows and bytes that writes will take.
#[derive(Clone, Copy, Debug, Default)]
struct Promised {
    rows: usize,
    renewed: usize,
    texts: usize,
    payloads: usize,
    queued: usize,
}

impl Promised {
    fn of(need: &Need) -> Promised {
        let Need { rows, renewed, texts, payloads, queued, .. } = *need;
        Promised { rows, renewed, texts, payloads, queued }
    }

    fn add(&mut self, other: Promised) {
        self.rows += other.rows;
        self.renewed += other.renewed;
        self.texts += other.texts;
        self.payloads += other.payloads;
        self.queued += other.queued;
    }

    fn subtract(&mut self, other: Promised) {
        self.rows = self.rows.saturating_sub(other.rows);
        self.renewed = self.renewed.saturating_sub(other.renewed);
        self.texts = self.texts.saturating_sub(other.texts);
        self.payloads = self.payloads.saturating_sub(other.payloads);
        self.queued = self.queued.saturating_sub(other.queued);
    }
}

/// Places of a shard, and of its mailbox, that are kept for records that take
/// the place of others, so that these are taken when nothing else is.
const RENEWED: usize = 64;

/// Rows of a small shard.
const FEW_ROWS: usize = 256;

/// What is known of one shard.
#[derive(Debug, Default)]
struct ShardAccount {
    measure: ShardMeasure,
    /// Its part of the directory.
    directory: usize,
    /// To all writes that are on their way, those that were applied since the
    /// last measurement included.
    promised: Promised,
    applied: Promised,
    /// The widest vectors, stored or promised.
    stride: usize,
    /// Rows are being applied, until the next measurement.
    copying: bool,
    /// A batch is being absorbed.
    changing: bool,
    /// What it counts as.
    charged: usize,
    /// Its worker has let go of it.
    closed: bool,
    /// Its newest view is not shown yet, since another shard has writes to do.
    ahead: bool,
}

impl ShardAccount {
    /// No more rows can have been used than that once all writes are applied.
    fn used(&self) -> usize {
        self.measure.high_water + self.promised.rows + self.promised.renewed
    }

    fn is_small(&self) -> bool {
        self.used() <= FEW_ROWS
    }

    fn contents(&self) -> Contents {
        let Promised { rows, renewed, texts, payloads, .. } = self.promised;
        let of = self.measure;
        let live = of.live + rows + renewed.max(RENEWED);
        // There may be many small shards: no room is kept for their dead rows.
        Contents {
            rows: if self.is_small() { self.used() } else { live + dead_most(live) },
            capacity: of.capacity,
            stride: self.stride,
            vectors: of.vector_bytes.iter().sum(),
            kept: of.kept_bytes,
            cells: of.row_bytes + self.directory,
            texts: of.id_bytes + texts,
            payloads: of.payload_bytes + payloads,
            index: of.index_bytes,
            copying: self.copying,
            changing: self.changing,
        }
    }
}

/// What a collection holds and may hold.
pub(crate) struct Account {
    engine: Arc<EngineBudget>,
    gauge: Gauge,
    directory: Arc<dyn Directory>,
    /// Changed with the index, by who holds all shards.
    sizes: Mutex<RowSizes>,
    shards: Box<[Mutex<ShardAccount>]>,
    /// Held while both sums are asked: what one refuses was never counted in the other, for nobody to see.
    taking: Mutex<()>,
}

impl Drop for Account {
    fn drop(&mut self) {
        self.engine.gauge.change(self.gauge.used(), 0);
        self.engine.wake();
    }
}

/// What an account is made of.
pub(crate) struct AccountSetup {
    pub(crate) engine: Arc<EngineBudget>,
    pub(crate) limit: Option<usize>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) sizes: RowSizes,
    pub(crate) shards: usize,
}

/// Why a write was not promised its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Its worker does not write this shard any more.
    Closed {
        shard: usize,
    },
    Short {
        scope: BudgetScope,
        budget: usize,
        used: usize,
        needed: usize,
        waited: Duration,
    },
}

impl Account {
    pub(crate) fn new(setup: AccountSetup) -> Arc<Account> {
        let AccountSetup { engine, limit, directory, sizes, shards } = setup;
        let shards = (0..shards).map(|_| Mutex::default()).collect();
        let (gauge, sizes) = (Gauge::new(limit), Mutex::new(sizes));
        Arc::new(Account { engine, gauge, directory, sizes, shards, taking: Mutex::default() })
    }

    /// The limit, if there is one.
    pub(crate) fn limit(&self) -> Option<usize> {
        self.gauge.limit()
    }

    /// Bytes that are counted.
    pub(crate) fn used(&self) -> usize {
        self.gauge.used()
    }

    /// What a shard held when its worker last looked.
    pub(crate) fn measure(&self, shard: usize) -> ShardMeasure {
        self.lock(shard).map_or(ShardMeasure::default(), |shard| shard.measure)
    }

    /// Whether anything is bounded.
    pub(crate) fn is_bounded(&self) -> bool {
        self.limit().is_some() || self.engine.limit().is_some()
    }

    /// Whether a shard keeps older views only until another one has done its writes.
    pub(crate) fn set_ahead(&self, shard: usize, ahead: bool) {
        self.lock(shard).into_iter().for_each(|mut shard| shard.ahead = ahead);
    }

    fn lock(&self, shard: usize) -> Option<MutexGuard<'_, ShardAccount>> {
        // What a panic may leave half-changed is measured anew.
        self.shards.get(shard).map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Promises memory for all parts of a write (of ascending shards), or for
    /// none. What grows nothing is always promised: or nothing could be given
    /// back.
    fn promise(self: &Arc<Self>, needs: &[Need]) -> Result<Vec<Grant>, Denied> {
        let mut shards = Vec::with_capacity(needs.len());
        for need in needs {
            let open = self.lock(need.shard).filter(|shard| !shard.closed);
            shards.push(open.ok_or(Denied::Closed { shard: need.shard })?);
        }
        let (mut grows, mut bytes) = (false, 0usize);
        let strides: Vec<usize> = shards.iter().map(|shard| shard.stride).collect();
        for (shard, need) in shards.iter_mut().zip(needs) {
            let before = self.due(shard);
            shard.promised.add(Promised::of(need));
            if need.rows + need.renewed > 0 {
                shard.stride = shard.stride.max(need.stride);
            }
            grows |= need.takes() && self.due(shard) > before;
            bytes = bytes.saturating_add(self.due(shard).saturating_sub(shard.charged));
        }
        if let Some(denied) = grows.then(|| self.take(bytes).err()).flatten() {
            for ((shard, need), stride) in shards.iter_mut().zip(needs).zip(strides) {
                shard.promised.subtract(Promised::of(need));
                shard.stride = stride;
            }
            return Err(denied);
        }
        self.charge(shards, grows);
        Ok(needs
            .iter()
            .map(|need| Grant { account: Arc::clone(self), need: *need, is_sent: false })
            .collect())
    }

    fn sizes(&self) -> RowSizes {
        *self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace_index_sizes(&self, index: IndexSizes) -> IndexSizes {
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut sizes.index, index)
    }

    fn lock_all(&self) -> Vec<MutexGuard<'_, ShardAccount>> {
        (0..self.shards.len()).filter_map(|shard| self.lock(shard)).collect()
    }

    /// From now on records take so much in indexes, if that fits.
    pub(crate) fn expect(&self, index: IndexSizes) -> Result<(), Denied> {
        let shards = self.lock_all();
        let before = self.replace_index_sizes(index);
        let more = shards.iter().map(|shard| self.due(shard).saturating_sub(shard.charged)).sum();
        self.take(more).inspect_err(|_| _ = self.replace_index_sizes(before))?;
        self.charge(shards, true);
        Ok(())
    }

    /// Records do take so much in indexes, whatever the limits.
    pub(crate) fn assume(&self, index: IndexSizes) {
        let shards = self.lock_all();
        let _ = self.replace_index_sizes(index);
        self.charge(shards, false);
    }

    /// What a shard is to count as.
    fn due(&self, shard: &ShardAccount) -> usize {
        let contents = shard.contents();
        let sizes = self.sizes();
        let kept = if shard.is_small() { 0 } else { RENEWED * sizes.queued() };
        sizes.most(&contents) + shard.promised.queued.max(kept)
    }

    /// Whether a shard may copy what older views keep, and begin to change its
    /// index: counts what that takes if it fits. Writes that were applied since
    /// it was measured still count as promised.
    fn may_change(&self, number: usize, measure: &ShardMeasure) -> bool {
        let Some(mut shard) = self.lock(number) else { return true };
        let ShardMeasure { vector_bytes, kept_bytes, row_bytes, index_bytes, capacity, .. } = *measure;
        let before = (shard.measure, shard.copying, shard.changing);
        shard.measure =
            ShardMeasure { vector_bytes, kept_bytes, row_bytes, index_bytes, capacity, ..before.0 };
        (shard.copying, shard.changing) = (true, true);
        let more = self.due(&shard).saturating_sub(shard.charged);
        if self.take(more).is_err() {
            (shard.measure, shard.copying, shard.changing) = before;
            return false;
        }
        shard.charged += more;
        true
    }

    fn take(&self, bytes: usize) -> Result<(), Denied> {
        let denied = |scope, gauge: &Gauge| {
            let (budget, used) = (gauge.limit, gauge.used());
            Denied::Short { scope, budget, used, needed: bytes, waited: Duration::ZERO }
        };
        let _taking = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.gauge.take(bytes) {
            return Err(denied(BudgetScope::Collection, &self.gauge));
        }
        if !self.engine.gauge.take(bytes) {
            self.gauge.change(bytes, 0);
            return Err(denied(BudgetScope::Engine, &self.engine.gauge));
        }
        Ok(())
    }

    /// Counts shards as what they are to count as, whatever the limits; what that is more `is_taken` already, or is not.
    /// Where one is less than before whoever waits looks again, once no lock is held.
    fn charge<'a>(&self, mut shards: impl AsMut<[MutexGuard<'a, ShardAccount>]>, is_taken: bool) {
        let mut is_less = false;
        for shard in shards.as_mut() {
            let (due, before) = (self.due(shard), shard.charged);
            let counted = if is_taken { before.max(due) } else { before };
            self.gauge.change(counted, due);
            self.engine.gauge.change(counted, due);
            shard.charged = due;
            is_less |= due < before;
        }
        drop(shards);
        if is_less {
            self.engine.wake();
        }
    }

    /// A worker tells what its shard holds: all writes that were applied are in it.
    fn measured(&self, number: usize, measure: &ShardMeasure, changing: bool) {
        let directory = self.directory.bytes() / self.shards.len().max(1);
        let Some(mut shard) = self.lock(number) else { return };
        shard.measure = *measure;
        // Whoever copies more asks before.
        (shard.copying, shard.changing) = (false, changing);
        shard.directory = directory;
        let applied = std::mem::take(&mut shard.applied);
        shard.promised.subtract(applied);
        shard.stride = if shard.promised.rows + shard.promised.renewed == 0 {
            measure.stride
        } else {
            shard.stride.max(measure.stride)
        };
        self.charge([shard], false);
    }

    /// Memory for all parts of a write, as patiently as `backpressure` says; `is_open` tells whether
    /// waiting makes sense.
    pub(crate) fn acquire(
        self: &Arc<Self>,
        needs: &[Need],
        backpressure: Backpressure,
        is_open: &dyn Fn() -> bool,
    ) -> Result<Vec<Grant>, Denied> {
        if let Ok(grants) = self.promise(needs) {
            return Ok(grants);
        }
        let started = Instant::now();
        loop {
            // Listens first and looks again then: nothing is missed in between.
            let listener = self.engine.changed.listen();
            let denied = match self.promise(needs) {
                Err(denied @ Denied::Short { .. }) => denied,
                outcome => return outcome,
            };
            let waited = started.elapsed();
            let limit = match backpressure {
                Backpressure::Reject => Some(Duration::ZERO),
                Backpressure::Wait => None,
                Backpressure::WaitAtMost(limit) => Some(limit),
            };
            if denied.is_final() || !is_open() || limit.is_some_and(|limit| waited >= limit) {
                return Err(denied.after(waited));
            }
            match limit {
                Some(limit) => drop(listener.wait_timeout(limit - waited)),
                None => listener.wait(),
            }
        }
    }

    /// The same, waiting without blocking the thread and without a limit.
    pub(crate) async fn acquire_async(
        self: &Arc<Self>,
        needs: &[Need],
        backpressure: Backpressure,
        is_open: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Grant>, Denied> {
        if let Ok(grants) = self.promise(needs) {
            return Ok(grants);
        }
        loop {
            let listener = self.engine.futures.listen();
            match self.promise(needs) {
                Err(denied @ Denied::Short { .. }) => {
                    if denied.is_final() || !is_open() || backpressure == Backpressure::Reject {
                        return Err(denied);
                    }
                }
                outcome => return outcome,
            }
            listener.await;
        }
    }

    /// Whoever waits looks again whether that makes sense.
    pub(crate) fn wake(&self) {
        self.engine.wake();
    }
}

impl Denied {
    /// True when no deleting helps.
    fn is_final(&self) -> bool {
        match self {
            Denied::Closed { .. } => true,
            Denied::Short { budget, needed, .. } => needed > budget,
        }
    }

    fn after(self, time: Duration) -> Denied {
        match self {
            Denied::Closed { .. } => self,
            Denied::Short { scope, budget, used, needed, .. } => {
                Denied::Short { scope, budget, used, needed, waited: time }
            }
        }
    }
}

/// The memory that was promised to a part of a write. Dropped before the part
/// was sent, the promise is void; afterwards it counts until the worker says
/// what its shard holds with it.
pub(crate) struct Grant {
    account: Arc<Account>,
    need: Need,
    is_sent: bool,
}

impl Grant {
    pub(crate) fn shard(&self) -> usize {
        self.need.shard
    }

    /// The part is on its way.
    pub(crate) fn sent(mut self) -> Grant {
        self.is_sent = true;
        self
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let Some(mut shard) = self.account.lock(self.need.shard) else { return };
        if self.is_sent {
            shard.applied.add(Promised::of(&self.need));
            return;
        }
        shard.promised.subtract(Promised::of(&self.need));
        self.account.charge([shard], false);
    }
}

/// A worker's end of an account: whoever waits for memory of the shard is told
/// when the worker lets go of it.
pub(crate) struct Meter {
    account: Arc<Account>,
    shard: usize,
}

impl Meter {
    pub(crate) fn new(account: &Arc<Account>, shard: usize) -> Meter {
        account.lock(shard).into_iter().for_each(|mut shard| shard.closed = false);
        Meter { account: Arc::clone(account), shard }
    }

    /// Tells what the shard holds, and whether a batch is being absorbed.
    pub(crate) fn show(&self, measure: &ShardMeasure, changing: bool) {
        self.account.measured(self.shard, measure, changing);
    }

    /// Whether anything is bounded.
    pub(crate) fn is_bounded(&self) -> bool {
        self.account.is_bounded()
    }

    /// Whether the shard may copy and change what it holds now; it does not
    /// where that would go beyond a budget, while readers of older versions are
    /// about to let go of theirs.
    pub(crate) fn may_change(&self, measure: &ShardMeasure) -> bool {
        !self.is_bounded() || self.account.may_change(self.shard, measure)
    }

    /// Whether its newest view is not shown yet, since another shard has writes to do.
    pub(crate) fn is_ahead(&self) -> bool {
        self.account.lock(self.shard).is_some_and(|shard| shard.ahead)
    }

    /// Something happened that those who wait should know of.
    pub(crate) fn wake(&self) {
        self.account.wake();
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.account.lock(self.shard).into_iter().for_each(|mut shard| shard.closed = true);
        self.account.wake();
    }
}
