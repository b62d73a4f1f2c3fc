//! The places of a mailbox: a counting semaphore for threads and futures.
//!
//! Whoever is woken looks again under the lock, so a place may go to somebody
//! who came later, but is never lost: every place given back wakes a thread
//! and a future, a future that was woken and dropped passes the call on, and
//! closing wakes all of them. (flume, which could queue permits as messages,
//! is no base for this: its receiving future looks for a message, then queues
//! up again, and misses what is sent in between.)

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::mailbox::{Backpressure, Refusal};

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
    state: Mutex<State>,
    given_back: Condvar,
}

#[derive(Debug)]
struct State {
    free: usize,
    closed: bool,
    /// Threads that wait.
    threads: usize,
    /// Futures that wait and were not woken since, by ascending ticket.
    futures: VecDeque<(u64, Waker)>,
    next_ticket: u64,
}

impl State {
    /// Where the future with this ticket stands in the queue, or would stand.
    fn position(&self, ticket: u64) -> Result<usize, usize> {
        self.futures.binary_search_by_key(&ticket, |(queued, _)| *queued)
    }

    /// Queues a future under its ticket, a new one if it has none. Who was
    /// woken in vain stands where it stood before.
    fn queue(&mut self, ticket: Option<u64>, waker: &Waker) -> u64 {
        let ticket = ticket.unwrap_or(self.next_ticket);
        self.next_ticket = self.next_ticket.max(ticket + 1);
        match self.position(ticket) {
            Ok(at) => self.futures[at].1.clone_from(waker),
            Err(at) => self.futures.insert(at, (ticket, waker.clone())),
        }
        ticket
    }
}

impl Places {
    pub(super) fn new(capacity: usize) -> Arc<Places> {
        let state =
            State { free: capacity, closed: false, threads: 0, futures: VecDeque::new(), next_ticket: 0 };
        Arc::new(Places { state: Mutex::new(state), given_back: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn free(&self) -> usize {
        self.lock().free
    }

    /// A place, if one is free; `None` when the caller has to wait.
    fn take(self: &Arc<Self>, state: &mut State) -> Option<Result<Permit, Refusal>> {
        if state.closed {
            return Some(Err(Refusal::Closed));
        }
        state.free = state.free.checked_sub(1)?;
        Some(Ok(Permit { home: Arc::clone(self) }))
    }

    /// Gets a place, as patiently as `backpressure` says.
    pub(super) fn acquire(self: &Arc<Self>, backpressure: Backpressure) -> Result<Permit, Refusal> {
        let at_once = self.take(&mut self.lock());
        match (at_once, backpressure) {
            (Some(outcome), _) => outcome,
            (None, Backpressure::Reject) => Err(Refusal::Full { waited: Duration::ZERO }),
            (None, Backpressure::Wait) => self.wait(Duration::MAX),
            (None, Backpressure::WaitAtMost(limit)) => self.wait(limit),
        }
    }

    fn wait(self: &Arc<Self>, limit: Duration) -> Result<Permit, Refusal> {
        let started = Instant::now();
        let mut state = self.lock();
        state.threads += 1;
        let outcome = loop {
            if let Some(outcome) = self.take(&mut state) {
                break outcome;
            }
            let waited = started.elapsed();
            if waited >= limit {
                break Err(Refusal::Full { waited });
            }
            let woken = self.given_back.wait_timeout(state, limit - waited);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        };
        state.threads -= 1;
        outcome
    }

    /// Gets a place, waiting without blocking the thread.
    pub(super) fn acquire_async(self: &Arc<Self>) -> Acquire {
        Acquire { places: Arc::clone(self), ticket: None }
    }

    fn give_back(&self) {
        let mut state = self.lock();
        state.free += 1;
        self.call_next(state);
    }

    /// Wakes a thread and a future: either may be slow to come, or never come.
    fn call_next(&self, mut state: MutexGuard<'_, State>) {
        let future = state.futures.pop_front();
        let threads = state.threads;
        drop(state);
        if threads > 0 {
            self.given_back.notify_one();
        }
        if let Some((_, waker)) = future {
            waker.wake();
        }
    }

    /// Refuses everybody from now on and wakes all who wait.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let futures = std::mem::take(&mut state.futures);
        drop(state);
        self.given_back.notify_all();
        futures.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

/// A place to come.
#[derive(Debug)]
pub(super) struct Acquire {
    places: Arc<Places>,
    /// Set while the future waits.
    ticket: Option<u64>,
}

impl Future for Acquire {
    type Output = Result<Permit, Refusal>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let places = Arc::clone(&self.places);
        let mut state = places.lock();
        let Some(outcome) = places.take(&mut state) else {
            self.ticket = Some(state.queue(self.ticket, context.waker()));
            return Poll::Pending;
        };
        if let Some(ticket) = self.ticket.take()
            && let Ok(at) = state.position(ticket)
        {
            state.futures.remove(at);
        }
        Poll::Ready(outcome)
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut state = self.places.lock();
        match state.position(ticket) {
            Ok(at) => drop(state.futures.remove(at)),
            // It was called for a place and does not come.
            Err(_) if state.free > 0 => self.places.call_next(state),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

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

    fn poll(future: Pin<&mut Acquire>, waker: &Waker) -> Poll<Result<Permit, Refusal>> {
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
    fn a_future_that_was_called_in_vain_stands_before_those_who_came_later() {
        let places = Places::new(1);
        let taken = places.acquire(Backpressure::Reject).unwrap();
        let (calls, waker) = caller();
        let mut first = pin!(places.acquire_async());
        let mut second = pin!(places.acquire_async());
        assert!(poll(first.as_mut(), &waker).is_pending());
        assert!(poll(second.as_mut(), Waker::noop()).is_pending());
        drop(taken);
        let stolen = places.acquire(Backpressure::Reject).unwrap();
        assert!(poll(first.as_mut(), &waker).is_pending());
        drop(stolen);
        assert_eq!(count(&calls), 2);
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
        assert_eq!(places.lock().futures.len(), 0);
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
