//! Settings of an engine, checked when it is built.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::clock::SystemClock;
use super::open::refused;
use super::{Engine, defaults};
use crate::clock::Clock;
use crate::durability::Durability;
use crate::error::{BuildError, OpenError};
use crate::persist::Disk;

/// Settings of an [`Engine`]; each has a sensible default.
///
/// ```
/// use vecino::Engine;
/// let engine = Engine::builder().workers(2).pool_threads(2).build()?;
/// # engine.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing runs until `build`"]
pub struct EngineBuilder {
    pub(super) workers: Option<usize>,
    pub(super) mailbox_capacity: usize,
    pub(super) mailbox_bytes: usize,
    pub(super) mailbox_work: Duration,
    pub(super) pool_threads: usize,
    pub(super) worker_cpus: Vec<usize>,
    pub(super) publish_interval: Duration,
    pub(super) slow_query: Option<Duration>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) durability: Option<Durability>,
    pub(super) log_bytes: u64,
    pub(super) repair: bool,
    pub(super) memory_budget: Option<usize>,
}

impl Default for EngineBuilder {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        EngineBuilder {
            workers: None,
            mailbox_capacity: defaults::MAILBOX_CAPACITY,
            mailbox_bytes: defaults::MAILBOX_BYTES,
            mailbox_work: defaults::MAILBOX_WORK,
            pool_threads: cores.min(defaults::POOL_THREADS_MOST),
            worker_cpus: Vec::new(),
            publish_interval: defaults::PUBLISH_INTERVAL,
            slow_query: None,
            clock: Arc::new(SystemClock::default()),
            durability: None,
            log_bytes: defaults::LOG_BYTES,
            repair: false,
            memory_budget: None,
        }
    }
}

impl EngineBuilder {
    /// Worker threads, each the only writer of one shard of every collection.
    /// Default 1, or what the folder that is opened was made with: shards buy
    /// write parallelism and cost search work.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Requests (single writes or batches) that may wait for one worker before
    /// [`Backpressure`](crate::Backpressure) sets in. Default 1,024. While
    /// every write waits longer than 20 ms it sets in earlier, from 16 requests
    /// on: searches through the workers wait for the writes before them.
    pub fn mailbox_capacity(mut self, requests: usize) -> Self {
        self.mailbox_capacity = requests;
        self
    }

    /// Bytes of the requests that may wait for one worker before
    /// [`Backpressure`](crate::Backpressure) sets in; the request that reaches
    /// it is still taken, so that one of any size can be. Default 64 MiB.
    pub fn mailbox_bytes(mut self, bytes: usize) -> Self {
        self.mailbox_bytes = bytes;
        self
    }

    /// Work that may wait for one worker before
    /// [`Backpressure`](crate::Backpressure) sets in, as the time of its thread
    /// that it will take: so much of writes, and so much of searches through the
    /// workers ([`Collection::search_async`](crate::Collection::search_async)). The
    /// request that reaches it is still taken, so that one of any size can be.
    /// Default 100 ms; 1 microsecond to an hour.
    ///
    /// Work is estimated: what the request asks for (records to put in, rows to
    /// compare, the breadth of a walk), times what that took lately in the
    /// collection. So a few exact searches of millions of rows, or inserts that
    /// [compare with every row](crate::Collection::upsert_unless_near), fill a
    /// mailbox that thousands of cheap requests do not. What the pool does
    /// (indexing), and waits for the disk, are no time of the worker's.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use vecino::Engine;
    /// let engine = Engine::builder().mailbox_work(Duration::from_millis(20)).build()?;
    /// assert_eq!(engine.stats().mailbox_work_limit, Duration::from_millis(20));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn mailbox_work(mut self, work: Duration) -> Self {
        self.mailbox_work = work;
        self
    }

    /// Threads of the engine's own pool, which absorbs rows into indexes and
    /// answers batches of queries. Default: one for each core. On Linux they run
    /// at a lower priority (nice 10), so that searches go first; and where they absorb or train
    /// they yield to threads that wait for their core, every 100 microseconds at most.
    pub fn pool_threads(mut self, threads: usize) -> Self {
        self.pool_threads = threads;
        self
    }

    /// Pins workers to CPUs: worker *i* to the *i*-th of these, beginning again
    /// at their end. Default: they run anywhere. Only on Linux; a CPU that the
    /// process may not use leaves its worker unpinned, with a WARN event.
    pub fn pin_workers(mut self, cpus: impl Into<Vec<usize>>) -> Self {
        self.worker_cpus = cpus.into();
        self
    }

    /// The least time between two generations of a collection. Default 0:
    /// every drained batch is published at once. A longer interval saves work
    /// under many small writes and delays their visibility by at most itself. At
    /// most 10 seconds.
    pub fn publish_interval(mut self, interval: Duration) -> Self {
        self.publish_interval = interval;
        self
    }

    /// Reports searches that take longer than this as `slow query` events
    /// (level WARN): those of [`Collection::search`](crate::Collection::search), without what they waited for a write, and of
    /// [`Collection::search_async`](crate::Collection::search_async), with all that they waited. Default: never, and then
    /// searches are not timed.
    pub fn slow_query(mut self, limit: Duration) -> Self {
        self.slow_query = Some(limit);
        self
    }

    /// What tells the time: the system's clocks, or another for tests and
    /// simulations, such as [`ManualClock`](crate::ManualClock).
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// What writes survive that do not say it themselves
    /// ([`Collection::durability`](crate::Collection::durability)). Default
    /// [`Durability::Logged`] for an engine with a folder; one without has
    /// [`Durability::Applied`] and nothing else.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// Bytes of a log file, after which the next is begun. Default 64 MiB; at
    /// least 4 KiB. Once complete log files hold more than that, and more than
    /// all checkpoints, new checkpoints take their place, in the background.
    pub fn log_bytes(mut self, bytes: u64) -> Self {
        self.log_bytes = bytes;
        self
    }

    /// Bytes that all collections together may hold: vectors, ids, indexes, and
    /// what waits to be written. A write that would go beyond is refused with
    /// [`WriteError::Budget`](crate::WriteError::Budget), or waits for others to
    /// delete, as the handle's [`Backpressure`](crate::Backpressure) says.
    /// Counted is the most that the records can take while they change: what
    /// lies in a full budget at rest is a third of it or more (of vectors of 64
    /// numbers 35 to 60 % with a graph or none; a fifth with lists of codes; of a budget of some megabytes 5 to 25 %, since
    /// what structures grow by is kept free for each).
    /// Deletes are always taken. One thing may go beyond the limit for a while: what
    /// is copied of an index while a snapshot is held for more than two seconds. A
    /// folder that holds more is opened all the same. Default: no budget.
    ///
    /// ```
    /// use vecino::{Backpressure, CollectionConfig, Engine, IndexSpec, Metric, Record, WriteError};
    ///
    /// let engine = Engine::builder().memory_budget(8 << 20).build()?;
    /// let config = CollectionConfig::new(256, Metric::L2).index(IndexSpec::Flat);
    /// let items = engine.create_collection("items", config)?.backpressure(Backpressure::Reject);
    /// let records = (0..100_000).map(|id| Record::new(id, vec![id as f32 + 0.1; 256]));
    /// let refused = items.upsert_batch(records).unwrap_err();
    /// assert!(matches!(refused, WriteError::Budget { budget: 8_388_608, .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn memory_budget(mut self, bytes: usize) -> Self {
        self.memory_budget = Some(bytes);
        self
    }

    /// Opens a folder in spite of damage: what cannot be read is given up, and
    /// [`Engine::recovery`] tells what that was. Collections come to the last
    /// state before the first write that was lost; files in which something was damaged are
    /// kept as `NAME.damaged`. (A manifest that is damaged is not repaired.) Default: damage is
    /// an error, and nothing is changed.
    pub fn repair(mut self, repair: bool) -> Self {
        self.repair = repair;
        self
    }

    /// Opens the folder, or makes it (its parent must exist), and starts an
    /// engine that keeps its collections in it. Returns when all that was
    /// logged is visible again: collections, records, numbers of writes and
    /// answers are as they were.
    ///
    /// ```
    /// use vecino::{CollectionConfig, Engine, Metric, Record};
    ///
    /// # let folder = std::env::temp_dir().join(format!("vecino-doc-open-{}", std::process::id()));
    /// let engine = Engine::builder().open(&folder)?;
    /// let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2))?;
    /// items.upsert(Record::new("a", [1.0, 2.0]))?.wait()?;
    /// drop((engine, items));
    ///
    /// let engine = Engine::builder().open(&folder)?;
    /// assert_eq!(engine.collection("items")?.snapshot().get("a")?.unwrap().vector(), [1.0, 2.0]);
    /// # engine.close()?;
    /// # std::fs::remove_dir_all(&folder)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`OpenError`]: a setting is outside its bounds, the folder is in use, or
    /// a file cannot be read, is damaged, or missing. Nothing is changed then.
    pub fn open(self, folder: impl AsRef<Path>) -> Result<Engine, OpenError> {
        self.check()?;
        let folder = folder.as_ref();
        let disk = Disk::new(folder).map_err(|fault| refused(folder, &fault))?;
        Engine::open(&self, Arc::new(disk))
    }

    /// Starts an engine that keeps nothing on disk: its workers, its coordinator, its pool.
    ///
    /// # Errors
    /// [`BuildError::Setting`] when a setting is outside its bounds,
    /// [`BuildError::Isa`] when the variable `VECINO_ISA` names no instruction
    /// set that this machine has, [`BuildError::Thread`] when the system gives
    /// no thread, [`BuildError::InMemory`] when writes were to survive something.
    pub fn build(self) -> Result<Engine, BuildError> {
        self.check()?;
        match self.durability {
            Some(asked) if asked > Durability::Applied => Err(BuildError::InMemory { asked }),
            _ => Engine::start(&self),
        }
    }

    pub(super) fn workers_or(&self, default: usize) -> usize {
        self.workers.unwrap_or(default)
    }

    fn check(&self) -> Result<(), BuildError> {
        let workers = self.workers_or(defaults::WORKERS);
        bounded("workers", workers, 1, defaults::WORKERS_MOST)?;
        bounded("mailbox_capacity", self.mailbox_capacity, 1, defaults::MAILBOX_CAPACITY_MOST)?;
        bounded("mailbox_bytes", self.mailbox_bytes, 1, usize::MAX)?;
        let work = usize::try_from(self.mailbox_work.as_micros()).unwrap_or(usize::MAX);
        bounded("mailbox_work (us)", work, 1, defaults::MAILBOX_WORK_MOST_US)?;
        bounded("pool_threads", self.pool_threads, 1, defaults::POOL_THREADS_MOST)?;
        let interval = usize::try_from(self.publish_interval.as_millis()).unwrap_or(usize::MAX);
        bounded("publish_interval (ms)", interval, 0, defaults::PUBLISH_INTERVAL_MOST_MS)?;
        let log_bytes = usize::try_from(self.log_bytes).unwrap_or(usize::MAX);
        bounded("log_bytes", log_bytes, defaults::LOG_BYTES_LEAST, usize::MAX)?;
        bounded("memory_budget", self.memory_budget.unwrap_or(usize::MAX), 1, usize::MAX)
    }
}

fn bounded(parameter: &'static str, value: usize, least: usize, most: usize) -> Result<(), BuildError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(BuildError::Setting { parameter, value, least, most })
}
