//! The running engine: its threads, how to reach them, how to end them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

use tracing::{error, info};

use super::builder::EngineBuilder;
use super::defaults;
use super::files::{Files, lock};
use crate::clock::Clock;
use crate::coordinator::{Coordinator, Pool, Request, stay_on};
use crate::durability::Durability;
use crate::error::BuildError;
use crate::kernel::isa;
use crate::shard::{
    Background, Bounds, CollectionId, EngineBudget, Gate, Inbox, LogFault, Mailbox, Report, ShardQuery,
    Signal, SignalInbox, Signals, Worker, WorkerPorts, WriteCommand, mailbox, reports, signals,
};

/// What handles share.
pub(super) struct Core {
    /// One for each worker.
    pub(super) writes: Vec<Mailbox<WriteCommand>>,
    pub(super) requests: Mailbox<Request>,
    /// What searches through the workers pass before they become requests.
    pub(super) searches: Gate,
    /// The work that may wait for a worker, of writes and of searches.
    pub(super) mailbox_work: Duration,
    pub(super) pool: Arc<Pool>,
    pub(super) slow_query: Option<Duration>,
    pub(super) clock: Arc<dyn Clock>,
    /// The instruction set of the kernels.
    pub(super) isa: &'static str,
    /// What writes reach that do not say it.
    pub(super) durability: Durability,
    pub(super) log_fault: LogFault,
    pub(super) budget: Arc<EngineBudget>,
    files: OnceLock<Arc<Files>>,
    pub(super) worker_signals: Vec<Signals<Signal>>,
    reports: Signals<Report>,
    closed: AtomicBool,
    /// Held by who joins them: the threads themselves never wait for it.
    threads: Mutex<Vec<JoinHandle<()>>>,
    own: Mutex<Vec<ThreadId>>,
    next_collection: AtomicU64,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("workers", &self.writes.len())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// The channels of all workers, before their threads start.
struct Lines {
    writes: Vec<Mailbox<WriteCommand>>,
    queries: Vec<Mailbox<ShardQuery>>,
    signals: Vec<Signals<Signal>>,
    inboxes: Vec<(Inbox<WriteCommand>, Inbox<ShardQuery>, SignalInbox<Signal>)>,
}

impl Lines {
    fn lay(workers: usize, bounds: Bounds) -> Lines {
        let mut lines =
            Lines { writes: Vec::new(), queries: Vec::new(), signals: Vec::new(), inboxes: Vec::new() };
        for _ in 0..workers {
            let (writes, write_inbox) = mailbox(bounds);
            let (queries, query_inbox) = mailbox(Bounds::of_requests(defaults::SEARCH_PLACES));
            let (sender, signal_inbox) = signals();
            lines.writes.push(writes);
            lines.queries.push(queries);
            lines.signals.push(sender);
            lines.inboxes.push((write_inbox, query_inbox, signal_inbox));
        }
        lines
    }
}

impl Core {
    pub(super) fn start(
        builder: &EngineBuilder,
        workers: usize,
        durability: Durability,
    ) -> Result<Arc<Core>, BuildError> {
        let isa = isa::selected().map_err(|fault| BuildError::Isa(fault.to_string()))?;
        let pool = Arc::new(Pool::start(builder.pool_threads).map_err(BuildError::Thread)?);
        let work = builder.mailbox_work;
        let bounds =
            Bounds { requests: builder.mailbox_capacity, bytes: builder.mailbox_bytes, work, paced: true };
        let lines = Lines::lay(workers, bounds);
        let log_fault = LogFault::default();
        let (requests, mut request_inbox) =
            mailbox(Bounds::of_requests(defaults::SEARCHES + defaults::WAITS));
        let searches = request_inbox.gate(Bounds {
            requests: defaults::SEARCHES,
            bytes: defaults::SEARCH_BYTES,
            work,
            paced: false,
        });
        let (reports, report_inbox) = reports();
        let core = Core {
            writes: lines.writes,
            requests,
            searches,
            mailbox_work: work,
            pool: Arc::clone(&pool),
            slow_query: builder.slow_query,
            clock: Arc::clone(&builder.clock),
            isa: isa.name(),
            durability,
            log_fault: log_fault.clone(),
            budget: EngineBudget::new(builder.memory_budget),
            files: OnceLock::new(),
            worker_signals: lines.signals,
            reports: reports.clone(),
            closed: AtomicBool::new(false),
            threads: Mutex::default(),
            own: Mutex::default(),
            next_collection: AtomicU64::new(0),
        };
        let jobs = (Arc::clone(&pool) as Arc<dyn Background>, reports.clone());
        let pace = builder.publish_interval;
        let coordinator =
            Coordinator::new(request_inbox, report_inbox, lines.queries, jobs, pace, log_fault.clone());
        // From here on `core` ends whatever was started when it is dropped.
        core.spawn("vecino-coordinator".to_owned(), move || coordinator.run())?;
        for (number, (writes, queries, signals)) in lines.inboxes.into_iter().enumerate() {
            let ports = WorkerPorts {
                writes,
                queries,
                signals,
                signal_sender: core.worker_signals[number].clone(),
                reports: reports.clone(),
                background: Arc::clone(&pool) as Arc<dyn Background>,
                log_fault: log_fault.clone(),
            };
            let worker = Worker::new(number, ports);
            let cpus = &builder.worker_cpus;
            let cpu = (!cpus.is_empty()).then(|| cpus[number % cpus.len()]);
            core.spawn(format!("vecino-worker-{number}"), move || {
                cpu.into_iter().for_each(stay_on);
                worker.run();
            })?;
        }
        info!(workers, pool_threads = builder.pool_threads, isa = isa.name(), "engine started");
        Ok(Arc::new(core))
    }

    pub(super) fn spawn(&self, name: String, body: impl FnOnce() + Send + 'static) -> Result<(), BuildError> {
        let handle = thread::Builder::new().name(name).spawn(body).map_err(BuildError::Thread)?;
        lock(&self.own).push(handle.thread().id());
        lock(&self.threads).push(handle);
        Ok(())
    }

    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The folder that the engine keeps its collections in.
    pub(super) fn files(&self) -> Option<&Arc<Files>> {
        self.files.get()
    }

    pub(super) fn has_files(&self) -> bool {
        self.files.get().is_some()
    }

    /// From now on the engine has a folder.
    pub(super) fn set_files(&self, files: Arc<Files>) {
        let _ = self.files.set(files);
    }

    /// Numbers below this one were given out before.
    pub(super) fn skip_collections(&self, next: u64) {
        self.next_collection.fetch_max(next, Ordering::Relaxed);
    }

    pub(super) fn next_collection(&self) -> CollectionId {
        CollectionId(self.next_collection.fetch_add(1, Ordering::Relaxed))
    }

    /// Ends all threads and joins them. Who calls it second waits until the
    /// first is done. A thread of the engine itself (that runs a waker) cannot wait for its own end:
    /// there a thread is begun that does.
    pub(super) fn close(self: &Arc<Core>) {
        let was_closed = self.closed.swap(true, Ordering::AcqRel);
        if !self.is_own_thread() {
            return self.end();
        }
        // Whoever closed it first ends it, too.
        if was_closed {
            return;
        }
        let core = Arc::clone(self);
        let closing = thread::Builder::new().name("vecino-closing".to_owned());
        if closing.spawn(move || core.end()).is_err() {
            self.tell();
        }
    }

    fn is_own_thread(&self) -> bool {
        let own = thread::current().id();
        self.pool.has_thread(own) || lock(&self.own).contains(&own)
    }

    /// Tells all threads to end, as far as there is room to tell them: for one of themselves.
    fn tell(&self) {
        self.worker_signals.iter().for_each(|worker| worker.offer(Signal::Close));
        self.reports.offer(Report::Close);
        self.files().into_iter().for_each(|files| files.end());
    }

    fn end(&self) {
        let mut threads = lock(&self.threads);
        self.worker_signals.iter().for_each(|worker| worker.send(Signal::Close));
        self.reports.send(Report::Close);
        self.files().into_iter().for_each(|files| files.end());
        self.pool.close();
        if threads.is_empty() {
            return;
        }
        for thread in threads.drain(..) {
            if thread.join().is_err() {
                error!("a thread of the engine ended by a panic");
            }
        }
        // The logs have their ends: others may open the folder.
        self.files().into_iter().for_each(|files| files.close());
        info!("engine closed");
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Release);
        // Whoever owned the engine has closed it, unless it never came up.
        if self.is_own_thread() { self.tell() } else { self.end() }
    }
}
