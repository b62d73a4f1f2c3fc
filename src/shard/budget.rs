//! Memory budgets: what a collection holds, and what was promised to writes
//! that are on their way, against a limit for it and one for the engine.
//!
//! A worker says what its shard holds whenever readers are shown a new view.
//! Between two such moments a write that was accepted counts as what its rows
//! will take. Both are sums under one short lock a shard, which only writers
//! take. So memory is counted before it is taken: see `design.md` for what may
//! go beyond a budget, and by how much.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event_listener::{Event, Listener};

use super::batch::dead_most;
use super::places::Backpressure;
use crate::error::BudgetScope;
use crate::rows::{Directory, ShardMeasure};
use crate::vector::rows_with_memory;

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
}

impl EngineBudget {
    pub(crate) fn new(limit: Option<usize>) -> Arc<EngineBudget> {
        Arc::new(EngineBudget { gauge: Gauge::new(limit), changed: Event::new() })
    }

    /// The limit, if there is one.
    pub(crate) fn limit(&self) -> Option<usize> {
        self.gauge.limit()
    }

    /// Bytes that are counted.
    pub(crate) fn used(&self) -> usize {
        self.gauge.used()
    }

    /// Whoever waits looks again.
    fn wake(&self) {
        self.changed.notify(usize::MAX);
    }
}

/// What a part of a write takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) shard: usize,
    /// Records that are new.
    pub(crate) rows: usize,
    /// Bytes from one of their vectors to the next, once stored.
    pub(crate) stride: usize,
    /// Bytes beside the rows: texts of ids, payloads.
    pub(crate) heap: usize,
    /// Bytes that it holds while it waits and that its rows do not take over.
    pub(crate) queued: usize,
}

impl Need {
    fn promised(&self) -> Promised {
        Promised { rows: self.rows, heap: self.heap, queued: self.queued }
    }
}

/// Rows and bytes that writes will take.
#[derive(Clone, Copy, Debug, Default)]
struct Promised {
    rows: usize,
    heap: usize,
    queued: usize,
}

impl Promised {
    fn add(&mut self, need: &Need) {
        self.rows += need.rows;
        self.heap += need.heap;
        self.queued += need.queued;
    }

    fn subtract(&mut self, other: Promised) {
        self.rows = self.rows.saturating_sub(other.rows);
        self.heap = self.heap.saturating_sub(other.heap);
        self.queued = self.queued.saturating_sub(other.queued);
    }
}

/// Indexes grow by pages of so many rows, the first one by doubling.
const PAGE_ROWS: usize = 1 << 14;

/// What a record takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowSizes {
    pub(crate) dim: usize,
    /// Bytes of what stands beside its vector, and of its place in the directory.
    pub(crate) cell: usize,
    /// Bytes of an index.
    pub(crate) index: usize,
}

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
    /// What it counts as.
    charged: usize,
    /// Its worker has let go of it.
    closed: bool,
}

impl ShardAccount {
    /// Bytes without what waits: what is allocated, or what it will be.
    fn stored(&self, of: &RowSizes) -> usize {
        let RowSizes { dim, cell, index } = *of;
        let ShardMeasure { capacity, live, id_bytes, row_bytes: cells, index_bytes, payload_bytes, .. } =
            self.measure;
        let live = live + self.promised.rows;
        // Replacing needs room for dead rows too, and must not be refused.
        let rows = if live == 0 { 0 } else { live + dead_most(live) };
        let grown = if rows > capacity { rows_with_memory(dim, rows).saturating_sub(capacity) } else { 0 };
        let vectors = self.measure.vector_bytes.iter().sum::<usize>() + grown.saturating_mul(self.stride);
        // Ids stand beside their rows and in the directory.
        let texts = 2 * id_bytes;
        let cells = (cells + self.directory).max(rows.saturating_mul(cell) + texts);
        let paged =
            if rows < PAGE_ROWS { rows.next_power_of_two() } else { rows.next_multiple_of(PAGE_ROWS) };
        vectors + payload_bytes + self.promised.heap + cells + index_bytes.max(paged.saturating_mul(index))
    }
}

/// What a collection holds and may hold.
pub(crate) struct Account {
    engine: Arc<EngineBudget>,
    gauge: Gauge,
    directory: Arc<dyn Directory>,
    sizes: RowSizes,
    shards: Box<[Mutex<ShardAccount>]>,
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
        Arc::new(Account { engine, gauge: Gauge::new(limit), directory, sizes, shards })
    }

    /// The limit, if there is one.
    pub(crate) fn limit(&self) -> Option<usize> {
        self.gauge.limit()
    }

    /// Bytes that are counted.
    pub(crate) fn used(&self) -> usize {
        self.gauge.used()
    }

    /// Bytes of a record beside its vector.
    pub(crate) fn row_bytes(&self) -> usize {
        self.sizes.cell + self.sizes.index
    }

    /// Whether anything is bounded.
    pub(crate) fn is_bounded(&self) -> bool {
        self.limit().is_some() || self.engine.limit().is_some()
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
            let before = self.stored(shard);
            shard.promised.add(need);
            if need.rows > 0 {
                shard.stride = shard.stride.max(need.stride);
            }
            grows |= self.stored(shard) > before;
            bytes = bytes.saturating_add(self.due(shard).saturating_sub(shard.charged));
        }
        if let Some(denied) = grows.then(|| self.take(bytes).err()).flatten() {
            for ((shard, need), stride) in shards.iter_mut().zip(needs).zip(strides) {
                shard.promised.subtract(need.promised());
                shard.stride = stride;
            }
            return Err(denied);
        }
        for shard in &mut shards {
            let due = self.due(shard);
            if !grows {
                self.charge(shard, due);
            }
            shard.charged = due;
        }
        drop(shards);
        Ok(needs
            .iter()
            .map(|need| Grant { account: Arc::clone(self), need: *need, is_sent: false })
            .collect())
    }

    fn stored(&self, shard: &ShardAccount) -> usize {
        shard.stored(&self.sizes)
    }

    /// What a shard is to count as.
    fn due(&self, shard: &ShardAccount) -> usize {
        self.stored(shard) + shard.promised.queued
    }

    fn take(&self, bytes: usize) -> Result<(), Denied> {
        let denied = |scope, gauge: &Gauge| {
            let (budget, used) = (gauge.limit, gauge.used());
            Denied::Short { scope, budget, used, needed: bytes, waited: Duration::ZERO }
        };
        if !self.gauge.take(bytes) {
            return Err(denied(BudgetScope::Collection, &self.gauge));
        }
        if !self.engine.gauge.take(bytes) {
            self.gauge.change(bytes, 0);
            return Err(denied(BudgetScope::Engine, &self.engine.gauge));
        }
        Ok(())
    }

    /// Counts a shard as so many bytes, whatever the limits.
    fn charge(&self, shard: &mut ShardAccount, bytes: usize) {
        self.gauge.change(shard.charged, bytes);
        self.engine.gauge.change(shard.charged, bytes);
        let is_less = bytes < shard.charged;
        shard.charged = bytes;
        if is_less {
            self.engine.wake();
        }
    }

    /// A worker tells what its shard holds: all writes that were applied are in it.
    fn measured(&self, number: usize, measure: &ShardMeasure) {
        let directory = self.directory.bytes() / self.shards.len().max(1);
        let Some(mut shard) = self.lock(number) else { return };
        shard.measure = *measure;
        shard.directory = directory;
        let applied = std::mem::take(&mut shard.applied);
        shard.promised.subtract(applied);
        shard.stride =
            if shard.promised.rows == 0 { measure.stride } else { shard.stride.max(measure.stride) };
        let bytes = self.due(&shard);
        self.charge(&mut shard, bytes);
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
            let listener = self.engine.changed.listen();
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
            shard.applied.add(&self.need);
            return;
        }
        shard.promised.subtract(self.need.promised());
        let bytes = self.account.due(&shard);
        self.account.charge(&mut shard, bytes);
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

    /// Tells what the shard holds.
    pub(crate) fn show(&self, measure: &ShardMeasure) {
        self.account.measured(self.shard, measure);
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
