//! A small executor: the futures of one thread, polled when they are woken,
//! while the thread waits for its next request.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::target::Later;

/// A thread spins for the last part of a wait: sleeps end late by about that.
const SPIN: Duration = Duration::from_micros(20);

struct Queue {
    woken: Mutex<Vec<usize>>,
    count: AtomicUsize,
    thread: Thread,
    started: Instant,
}

struct Handle {
    slot: usize,
    queued: AtomicBool,
    /// Nanoseconds from the start of the run.
    woken_ns: AtomicU64,
    queue: Arc<Queue>,
}

impl Wake for Handle {
    fn wake(self: Arc<Self>) {
        self.woken_ns.store(self.queue.started.elapsed().as_nanos() as u64, Ordering::Relaxed);
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.queue.woken.lock().unwrap_or_else(PoisonError::into_inner).push(self.slot);
            self.queue.count.fetch_add(1, Ordering::Release);
            self.queue.thread.unpark();
        }
    }
}

/// Drives one future on the calling thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut future = std::pin::pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

struct Task<'a, T, N> {
    handle: Arc<Handle>,
    note: N,
    future: Later<'a, T>,
}

/// Futures of one thread, each with a note of what it is for.
pub(crate) struct Tasks<'a, T, N> {
    tasks: Vec<Option<Task<'a, T, N>>>,
    free: Vec<usize>,
    queue: Arc<Queue>,
    pending: usize,
}

/// A future that has ended.
pub(crate) struct Ended<T, N> {
    pub(crate) output: T,
    pub(crate) note: N,
    /// When it was woken for the last time, or 0 when it never had to wait.
    pub(crate) woken_ns: u64,
}

impl<'a, T, N> Tasks<'a, T, N> {
    /// For the calling thread.
    pub(crate) fn new(started: Instant) -> Tasks<'a, T, N> {
        let queue = Queue {
            woken: Mutex::default(),
            count: AtomicUsize::new(0),
            thread: std::thread::current(),
            started,
        };
        Tasks { tasks: Vec::new(), free: Vec::new(), queue: Arc::new(queue), pending: 0 }
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    /// Polls a new future for the first time; gives what ended at once.
    pub(crate) fn start(&mut self, future: Later<'a, T>, note: N) -> Option<Ended<T, N>> {
        let slot = self.free.pop().unwrap_or(self.tasks.len());
        if slot == self.tasks.len() {
            self.tasks.push(None);
        }
        let handle = Arc::new(Handle {
            slot,
            queued: AtomicBool::new(false),
            woken_ns: AtomicU64::new(0),
            queue: Arc::clone(&self.queue),
        });
        self.tasks[slot] = Some(Task { handle, note, future });
        self.pending += 1;
        self.poll(slot)
    }

    fn poll(&mut self, slot: usize) -> Option<Ended<T, N>> {
        let task = self.tasks.get_mut(slot)?.as_mut()?;
        task.handle.queued.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&task.handle));
        let Poll::Ready(output) = task.future.as_mut().poll(&mut Context::from_waker(&waker)) else {
            return None;
        };
        let task = self.tasks[slot].take()?;
        self.free.push(slot);
        self.pending -= 1;
        Some(Ended { output, note: task.note, woken_ns: task.handle.woken_ns.load(Ordering::Relaxed) })
    }

    fn poll_woken(&mut self) -> Vec<Ended<T, N>> {
        if self.queue.count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let woken = std::mem::take(&mut *self.queue.woken.lock().unwrap_or_else(PoisonError::into_inner));
        self.queue.count.fetch_sub(woken.len(), Ordering::AcqRel);
        woken.into_iter().filter_map(|slot| self.poll(slot)).collect()
    }

    /// Drives the futures until some have ended, or `until_ns` nanoseconds
    /// from the start have passed: then there are none.
    pub(crate) fn wait(&mut self, until_ns: u64) -> Vec<Ended<T, N>> {
        let until = Duration::from_nanos(until_ns);
        loop {
            let ended = self.poll_woken();
            let left = until.saturating_sub(self.queue.started.elapsed());
            if left.is_zero() || !ended.is_empty() {
                return ended;
            }
            if left > SPIN {
                std::thread::park_timeout(left - SPIN);
            } else {
                std::hint::spin_loop();
            }
        }
    }
}
