//! The engine's own thread pool: absorbing, and batches of queries.
//!
//! The only home of rayon; its global pool is never used. The threads are
//! joined when the pool is closed, also when snapshots that refer to the pool
//! are still held: their batches then run on the calling thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::index::{Executor, Task};
use crate::shard::{Background, Job, Width};

/// The pool's threads and how to end them.
pub(crate) struct Pool {
    threads: usize,
    pool: RwLock<Option<Arc<ThreadPool>>>,
    handles: Mutex<Vec<JoinHandle<()>>>,
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
                handles.push(thread::Builder::new().name(name).spawn(|| body.run())?);
                Ok(())
            })
            .build()
            .map_err(std::io::Error::other)?;
        Ok(Pool {
            threads,
            pool: RwLock::new(Some(Arc::new(pool))),
            handles: Mutex::new(handles),
            closing: Arc::new(AtomicBool::new(false)),
        })
    }

    fn open(&self) -> Option<Arc<ThreadPool>> {
        self.pool.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells running jobs to stop and joins the threads.
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

/// Runs tasks from a thread outside the pool, which takes part.
impl Executor for Pool {
    fn width(&self) -> usize {
        self.threads
    }

    fn run<'a>(&self, tasks: Vec<Task<'a>>) {
        match self.open() {
            Some(pool) if self.threads > 1 && tasks.len() > 1 => {
                let helpers = self.threads.min(tasks.len()) - 1;
                let queue = Queue::new(tasks);
                pool.in_place_scope(|scope| {
                    (0..helpers).for_each(|_| scope.spawn(|_| queue.work()));
                    queue.work();
                });
            }
            _ => tasks.into_iter().for_each(|task| task()),
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
    use std::sync::atomic::AtomicUsize;

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
    fn every_task_runs_once_before_and_after_closing() {
        let pool = Pool::start(3).unwrap();
        assert_eq!(count_to(&pool, 100), 100);
        pool.close();
        assert_eq!(count_to(&pool, 100), 100);
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
