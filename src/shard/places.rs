//! The places of a mailbox: a counting semaphore for threads and futures.
//!
//! Whoever waits listens first and looks again then, so no place that is given
//! back in between is missed; a place may go to somebody who came later, but
//! is never lost. Threads and futures listen apart: a future that is woken may
//! not be polled for long, and must not keep a thread from a place. (flume,
//! which could queue permits as messages, is no base for this: its receiving
//! future looks for a message, then queues up again, and misses what is sent
//! in between.)

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use event_listener::{Event, Listener};

/// What a writer does when the mailbox of a worker is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backpressure {
    /// Waits for a place.
    #[default]
    Wait,
    /// Waits for a place at most so long. Async calls wait without a limit:
    /// wrap them in your executor's timeout, dropping them is safe.
    WaitAtMost(Duration),
    /// Gives up at once.
    Reject,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Closed,
    Full { waited: Duration },
}

/// The right to have one message in a mailbox.
#[derive(Debug)]
pub(crate) struct Permit {
    home: Arc<Places>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.home.give_back();
    }
}

/// The places of one mailbox.
#[derive(Debug)]
pub(super) struct Places {
    free: AtomicUsize,
    closed: AtomicBool,
    threads: Event,
    futures: Event,
}

impl Places {
    pub(super) fn new(capacity: usize) -> Arc<Places> {
        Arc::new(Places {
            free: AtomicUsize::new(capacity),
            closed: AtomicBool::new(false),
            threads: Event::new(),
            futures: Event::new(),
        })
    }

    pub(super) fn free(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }

    /// A place, if one is free; `None` when the caller has to wait.
    fn take(self: &Arc<Self>) -> Option<Result<Permit, Refusal>> {
        if self.closed.load(Ordering::SeqCst) {
            return Some(Err(Refusal::Closed));
        }
        let one_less = |free: usize| free.checked_sub(1);
        self.free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).ok()?;
        Some(Ok(Permit { home: Arc::clone(self) }))
    }

    /// Gets a place, as patiently as `backpressure` says.
    pub(super) fn acquire(self: &Arc<Self>, backpressure: Backpressure) -> Result<Permit, Refusal> {
        match (self.take(), backpressure) {
            (Some(outcome), _) => outcome,
            (None, Backpressure::Reject) => Err(Refusal::Full { waited: Duration::ZERO }),
            (None, Backpressure::Wait) => self.wait(None),
            (None, Backpressure::WaitAtMost(limit)) => self.wait(Some(limit)),
        }
    }

    fn wait(self: &Arc<Self>, limit: Option<Duration>) -> Result<Permit, Refusal> {
        let started = Instant::now();
        loop {
            let listener = self.threads.listen();
            if let Some(outcome) = self.take() {
                return outcome;
            }
            let waited = started.elapsed();
            match limit {
                Some(limit) if waited >= limit => return Err(Refusal::Full { waited }),
                Some(limit) => drop(listener.wait_timeout(limit - waited)),
                None => listener.wait(),
            }
        }
    }

    /// Gets a place, waiting without blocking the thread.
    pub(super) async fn acquire_async(self: &Arc<Self>) -> Result<Permit, Refusal> {
        loop {
            if let Some(outcome) = self.take() {
                return outcome;
            }
            let listener = self.futures.listen();
            if let Some(outcome) = self.take() {
                return outcome;
            }
            listener.await;
        }
    }

    fn give_back(&self) {
        self.free.fetch_add(1, Ordering::SeqCst);
        self.threads.notify_additional(1);
        self.futures.notify_additional(1);
    }

    /// Refuses everybody from now on and wakes all who wait.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.threads.notify(usize::MAX);
        self.futures.notify(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Wake, Waker};

    #[derive(Default)]
    struct Calls(AtomicUsize);

    impl Wake for Calls {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn caller() -> (Arc<Calls>, Waker) {
        let calls = Arc::new(Calls::default());
        (Arc::clone(&calls), Waker::from(calls))
    }

    fn count(calls: &Calls) -> usize {
        calls.0.load(Ordering::SeqCst)
    }

    fn poll<F: Future>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(waker))
    }

    #[test]
    fn a_future_that_is_called_in_vain_is_called_again() {
        let places = Places::new(1);
        let taken = places.acquire(Backpressure::Reject).unwrap();
        let (calls, waker) = caller();
        let mut future = pin!(places.acquire_async());
        assert!(poll(future.as_mut(), &waker).is_pending());
        drop(taken);
        let stolen = places.acquire(Backpressure::Reject).unwrap();
        assert!(poll(future.as_mut(), &waker).is_pending());
        drop(stolen);
        assert_eq!(count(&calls), 2);
        assert!(poll(future.as_mut(), &waker).is_ready());
        assert_eq!(places.free(), 1);
    }

    #[test]
    fn a_future_that_is_dropped_passes_its_call_on() {
        let places = Places::new(1);
        let taken = places.acquire(Backpressure::Reject).unwrap();
        let (calls, waker) = caller();
        let mut first = Box::pin(places.acquire_async());
        let mut second = pin!(places.acquire_async());
        assert!(poll(first.as_mut(), Waker::noop()).is_pending());
        assert!(poll(second.as_mut(), &waker).is_pending());
        drop(taken);
        assert_eq!(count(&calls), 0);
        drop(first);
        assert_eq!(count(&calls), 1);
        assert!(poll(second.as_mut(), &waker).is_ready());
    }

    #[test]
    fn a_future_that_is_polled_twice_is_queued_once() {
        let places = Places::new(1);
        let taken = places.acquire(Backpressure::Reject).unwrap();
        let (old, new) = (caller(), caller());
        let mut future = Box::pin(places.acquire_async());
        assert!(poll(future.as_mut(), &old.1).is_pending());
        assert!(poll(future.as_mut(), &new.1).is_pending());
        drop(taken);
        assert_eq!((count(&old.0), count(&new.0)), (0, 1));
        drop(future);
        assert_eq!(places.free(), 1);
    }

    #[test]
    fn a_thread_gets_a_place_that_a_future_was_called_for_and_does_not_take() {
        let places = Places::new(1);
        let taken = places.acquire(Backpressure::Reject).unwrap();
        let mut idle = pin!(places.acquire_async());
        assert!(poll(idle.as_mut(), Waker::noop()).is_pending());
        std::thread::scope(|scope| {
            let blocked = scope.spawn(|| places.acquire(Backpressure::Wait).map(drop));
            drop(taken);
            assert_eq!(blocked.join().unwrap(), Ok(()));
        });
    }

    #[test]
    fn closing_calls_everybody_though_all_places_are_taken() {
        let places = Places::new(1);
        let _taken = places.acquire(Backpressure::Reject).unwrap();
        let (calls, waker) = caller();
        let mut future = pin!(places.acquire_async());
        assert!(poll(future.as_mut(), &waker).is_pending());
        std::thread::scope(|scope| {
            let blocked: Vec<_> =
                (0..3).map(|_| scope.spawn(|| places.acquire(Backpressure::Wait).map(drop))).collect();
            places.close();
            for thread in blocked {
                assert_eq!(thread.join().unwrap(), Err(Refusal::Closed));
            }
        });
        assert_eq!(count(&calls), 1);
        assert!(matches!(poll(future.as_mut(), &waker), Poll::Ready(Err(Refusal::Closed))));
    }

    #[test]
    fn no_place_is_lost_among_threads_and_futures() {
        const ROUNDS: usize = 2_000;
        let places = Places::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..ROUNDS).for_each(|_| drop(places.acquire(Backpressure::Wait).unwrap())));
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
                        let mut future = pin!(places.acquire_async());
                        while poll(future.as_mut(), &waker).is_pending() {
                            std::thread::park();
                        }
                    }
                });
            }
        });
        assert_eq!(places.free(), 2);
    }

    struct Unpark(std::thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
}
