//! Settings of an engine, checked when it is built.

use std::time::Duration;

use super::{Engine, defaults};
use crate::error::BuildError;

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
    pub(super) workers: usize,
    pub(super) mailbox_capacity: usize,
    pub(super) pool_threads: usize,
    pub(super) publish_interval: Duration,
    pub(super) slow_query: Option<Duration>,
}

impl Default for EngineBuilder {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        EngineBuilder {
            workers: defaults::WORKERS,
            mailbox_capacity: defaults::MAILBOX_CAPACITY,
            pool_threads: cores.min(defaults::POOL_THREADS_MOST),
            publish_interval: defaults::PUBLISH_INTERVAL,
            slow_query: None,
        }
    }
}

impl EngineBuilder {
    /// Worker threads, each the only writer of one shard of every collection.
    /// Default 1: shards buy write parallelism and cost search work.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Requests (single writes or batches) that may wait for one worker before
    /// [`Backpressure`](crate::Backpressure) sets in. Default 1,024.
    pub fn mailbox_capacity(mut self, requests: usize) -> Self {
        self.mailbox_capacity = requests;
        self
    }

    /// Threads of the engine's own pool, which absorbs rows into indexes and
    /// answers batches of queries. Default: one for each core. On Linux they run
    /// at a lower priority (nice 10), so that searches go first.
    pub fn pool_threads(mut self, threads: usize) -> Self {
        self.pool_threads = threads;
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
    /// (level WARN). Default: never, and then searches are not timed.
    pub fn slow_query(mut self, limit: Duration) -> Self {
        self.slow_query = Some(limit);
        self
    }

    /// Starts the engine: its workers, its coordinator, its pool.
    ///
    /// # Errors
    /// [`BuildError::Setting`] when a setting is outside its bounds,
    /// [`BuildError::Isa`] when the variable `VECINO_ISA` names no instruction
    /// set that this machine has, [`BuildError::Thread`] when the system gives
    /// no thread.
    pub fn build(self) -> Result<Engine, BuildError> {
        bounded("workers", self.workers, 1, defaults::WORKERS_MOST)?;
        bounded("mailbox_capacity", self.mailbox_capacity, 1, defaults::MAILBOX_CAPACITY_MOST)?;
        bounded("pool_threads", self.pool_threads, 1, defaults::POOL_THREADS_MOST)?;
        let interval = usize::try_from(self.publish_interval.as_millis()).unwrap_or(usize::MAX);
        bounded("publish_interval (ms)", interval, 0, defaults::PUBLISH_INTERVAL_MOST_MS)?;
        Engine::start(&self)
    }
}

fn bounded(parameter: &'static str, value: usize, least: usize, most: usize) -> Result<(), BuildError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(BuildError::Setting { parameter, value, least, most })
}
