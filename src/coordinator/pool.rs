//! The engine's own thread pool: absorbing, and batches of queries.
//!
//! The only home of rayon; its global pool is never used. The threads are
//! joined when the pool is closed, also when snapshots that refer to the pool
//! are still held: their batches then run on the calling thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle, ThreadId};

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::thread::give_way;
use crate::index::{Executor, Task};
use crate::shard::{Background, Job, Width};
use crate::snapshot::Helpers;

/// The pool's threads and how to end them.
pub(crate) struct Pool {
    threads: usize,
    pool: RwLock<Option<Arc<ThreadPool>>>,
    handles: Mutex<Vec<JoinHandle<()>>>,
    own: Vec<ThreadId>,
    closing: Arc<AtomicBool>,
}

impl Pool {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(threads: usize) -> std::io::Result<Pool> {
        let mut handles = Vec::new();
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|number| format!("vecino-pool-{number}"))
            .spawn_handler(|body| {
                let name = body.name().unwrap_or("vecino-pool").to_owned();
                let run = || {
                    give_way();
                    body.run();
                };
                handles.push(thread::Builder::new().name(name).spawn(run)?);
                Ok(())
            })
            .build()
            .map_err(std::io::Error::other)?;
        Ok(Pool {
            threads,
            pool: RwLock::new(Some(Arc::new(pool))),
            own: handles.iter().map(|handle| handle.thread().id()).collect(),
            handles: Mutex::new(handles),
            closing: Arc::new(AtomicBool::new(false)),
        })
    }

    fn open(&self) -> Option<Arc<ThreadPool>> {
        self.pool.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it is one of these threads.
    pub(crate) fn has_thread(&self, thread: ThreadId) -> bool {
        self.own.contains(&thread)
    }

    /// Tells running jobs to stop and joins the threads; not to be called on one of them.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        let pool = self.pool.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(pool);
        let handles = std::mem::take(&mut *self.handles.lock().unwrap_or_else(PoisonError::into_inner));
        for handle in handles {
            // Jobs catch their own panics.
            let _ = handle.join();
        }
    }
}

impl Background for Pool {
    fn spawn(&self, width: Width, job: Job) {
        let width = match width {
            Width::Half => self.threads.div_ceil(2),
            Width::All => self.threads,
        };
        if let Some(pool) = self.open() {
            let executor = Inside { width, closing: Arc::clone(&self.closing) };
            pool.spawn(move || job(&executor));
        }
    }
}

impl Helpers for Pool {
    fn share(&self, pieces: usize, work: Arc<dyn Fn(usize) + Send + Sync>) {
        let shared = Arc::new(Shared {
            pieces,
            work,
            next: AtomicUsize::new(0),
            ended: Mutex::new(0),
            all_ended: Condvar::new(),
        });
        if let Some(pool) = self.open() {
            for _ in 1..self.threads.min(pieces) {
                let shared = Arc::clone(&shared);
                pool.spawn(move || shared.take_part());
            }
        }
        shared.take_part();
        shared.wait();
    }
}

/// Work that is taken piece by piece by whoever has time.
struct Shared {
    pieces: usize,
    work: Arc<dyn Fn(usize) + Send + Sync>,
    next: AtomicUsize,
    ended: Mutex<usize>,
    all_ended: Condvar,
}

impl Shared {
    fn take_part(&self) {
        loop {
            let piece = self.next.fetch_add(1, Ordering::Relaxed);
            if piece >= self.pieces {
                return;
            }
            // Whoever asked sees that the piece has no result.
            let _ = catch_unwind(AssertUnwindSafe(|| (self.work)(piece)));
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            *ended += 1;
            if *ended == self.pieces {
                self.all_ended.notify_all();
            }
        }
    }

    /// Waits for the pieces that others have begun.
    fn wait(&self) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        while *ended < self.pieces {
            ended = self.all_ended.wait(ended).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Runs tasks from a thread of the pool.
struct Inside {
    width: usize,
    closing: Arc<AtomicBool>,
}

impl Executor for Inside {
    fn width(&self) -> usize {
        self.width
    }

    #[expect(clippy::disallowed_methods, reason = "called on a thread of our pool: the scope is the pool's")]
    fn run<'a>(&self, tasks: Vec<Task<'a>>) {
        let helpers = self.width.min(tasks.len()).saturating_sub(1);
        let queue = Queue::new(tasks);
        rayon::scope(|scope| {
            (0..helpers).for_each(|_| scope.spawn(|_| queue.work()));
            queue.work();
        });
    }

    fn cancelled(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}

/// Tasks that several threads take one by one: never more threads than were
/// told to `work`.
struct Queue<'a> {
    tasks: Mutex<std::vec::IntoIter<Task<'a>>>,
}

impl<'a> Queue<'a> {
    fn new(tasks: Vec<Task<'a>>) -> Queue<'a> {
        Queue { tasks: Mutex::new(tasks.into_iter()) }
    }

    fn work(&self) {
        while let Some(task) = self.next() {
            task();
        }
    }

    fn next(&self) -> Option<Task<'a>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_to(executor: &dyn Executor, tasks: usize) -> usize {
        let count = AtomicUsize::new(0);
        let task = || -> Task<'_> {
            Box::new(|| {
                count.fetch_add(1, Ordering::Relaxed);
            })
        };
        executor.run((0..tasks).map(|_| task()).collect());
        count.into_inner()
    }

    #[test]
    fn every_piece_is_worked_on_once_before_and_after_closing() {
        let pool = Pool::start(3).unwrap();
        for closed in [false, true] {
            if closed {
                pool.close();
            }
            let calls: Arc<Vec<AtomicUsize>> = Arc::new((0..100).map(|_| AtomicUsize::new(0)).collect());
            let counted = Arc::clone(&calls);
            let count = move |piece: usize| {
                counted[piece].fetch_add(1, Ordering::Relaxed);
            };
            pool.share(100, Arc::new(count));
            assert!(calls.iter().all(|calls| calls.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn sharing_does_not_wait_for_a_pool_that_is_busy() {
        let pool = Pool::start(2).unwrap();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        for _ in 0..2 {
            let held = Arc::clone(&held);
            let block = move |_: &dyn Executor| {
                let _ = held.lock().unwrap().recv();
            };
            pool.spawn(Width::Half, Box::new(block));
        }
        pool.share(100, Arc::new(|_| {}));
        drop(release);
        pool.close();
    }

    #[test]
    fn a_piece_that_panics_does_not_hold_up_the_others() {
        let pool = Pool::start(2).unwrap();
        pool.share(50, Arc::new(|piece| assert_ne!(piece, 7)));
        pool.close();
    }

    #[test]
    fn jobs_get_half_or_all_of_the_threads() {
        let pool = Pool::start(4).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        for width in [Width::Half, Width::All] {
            let sender = sender.clone();
            let job = move |executor: &dyn Executor| {
                let done = count_to(executor, 50);
                sender.send((executor.width(), done)).unwrap();
            };
            pool.spawn(width, Box::new(job));
        }
        let mut widths: Vec<_> = receiver.iter().take(2).collect();
        widths.sort_unstable();
        assert_eq!(widths, [(2, 50), (4, 50)]);
        pool.close();
    }
}
