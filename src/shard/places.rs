//! The places of a mailbox: a counting semaphore for threads and futures.
//!
//! Whoever waits listens first and looks again then, so no place that is given
//! back in between is missed; a place may go to somebody who came later, but
//! is never lost. Threads and futures listen apart: a future that is woken may
//! not be polled for long, and must not keep a thread from a place. (flume,
//! which could queue permits as messages, is no base for this: its receiving
//! future looks for a message, then queues up again, and misses what is sent
//! in between.)
//!
//! Places are bounded in number, in bytes, and in work: the time that the
//! requests will take (estimated: `toll`). A request is let in while the
//! requests before it hold less than the bytes and are less than the work, so
//! a mailbox holds these and one request more at most, and a large one is never
//! passed over for ever. (Work is counted apart from the rest: threads that come
//! in the same instant may each be the one more.)

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use event_listener::{Event, Listener};

use super::pace::Pace;
use super::refusal::{Backpressure, Refusal, Refusals, Refused};
use super::wakes::FutureEvent;
use crate::error::FullReason;

/// What a message takes of its mailbox.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    pub(crate) bytes: usize,
    /// The time that it will take, estimated.
    pub(crate) work: Duration,
}

/// The right to have one message in a mailbox.
#[derive(Debug)]
pub(crate) struct Permit {
    home: Arc<Places>,
    bytes: u64,
    /// Nanoseconds.
    work: u64,
    since: Instant,
    /// Its time says how long messages take: it is not given back unused.
    used: bool,
    /// It is beyond those that there are.
    is_beyond: bool,
}

impl Permit {
    /// A message is sent with it.
    pub(super) fn used(mut self) -> Permit {
        self.used = true;
        self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_beyond {
            self.home.beyond.fetch_sub(1, Ordering::SeqCst);
        }
        self.home.give_back(self.bytes, self.work, self.used.then_some(self.since));
    }
}

/// Messages of the engine's own that may be in beyond the bounds, at most: of one collection there is one at a
/// time, of more collections some wait for the next turn.
pub(super) const BEYOND_MOST: usize = 16;

/// What a mailbox may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) requests: usize,
    pub(crate) bytes: usize,
    /// The time that they will take.
    pub(crate) work: Duration,
    /// Fewer requests while they take long.
    pub(crate) paced: bool,
}

impl Bounds {
    /// So many requests, however large.
    pub(crate) fn of_requests(requests: usize) -> Bounds {
        Bounds { requests, bytes: usize::MAX, work: Duration::MAX, paced: false }
    }
}

/// Requests and bytes in one word, so that both are taken in one step: the
/// lower bits are bytes.
const BYTE_BITS: u32 = 43;
const BYTES_MOST: u64 = (1 << BYTE_BITS) - 1;

/// A request counts as this much work at most (nanoseconds: an hour), so that
/// those of a full mailbox can be added up.
const WORK_MOST: u64 = 3_600_000_000_000;

/// The places of one mailbox.
#[derive(Debug)]
pub(super) struct Places {
    /// Requests and bytes that are in.
    taken: AtomicU64,
    bytes: u64,
    /// Nanoseconds of work that are in, and that may be.
    work_taken: AtomicU64,
    work: u64,
    /// Requests that may be in at present.
    limit: AtomicUsize,
    pace: Option<Mutex<Pace>>,
    started: Instant,
    closed: AtomicBool,
    threads: Event,
    futures: FutureEvent,
    refused: Refused,
    /// Threads that wait: whoever does not wait is refused meanwhile, or those
    /// who come again at once would take every place.
    waiting: AtomicUsize,
    /// Places that are taken beyond those there are.
    beyond: AtomicUsize,
}

impl Places {
    pub(super) fn new(bounds: Bounds) -> Arc<Places> {
        Arc::new(Places {
            taken: AtomicU64::new(0),
            bytes: (bounds.bytes as u64).clamp(1, BYTES_MOST),
            work_taken: AtomicU64::new(0),
            work: nanoseconds(bounds.work).max(1),
            limit: AtomicUsize::new(bounds.requests),
            pace: bounds.paced.then(|| Mutex::new(Pace::new(bounds.requests))),
            started: Instant::now(),
            closed: AtomicBool::new(false),
            threads: Event::new(),
            futures: FutureEvent::default(),
            refused: Refused::default(),
            waiting: AtomicUsize::new(0),
            beyond: AtomicUsize::new(0),
        })
    }

    /// Requests that are in.
    pub(super) fn taken(&self) -> usize {
        (self.taken.load(Ordering::Relaxed) >> BYTE_BITS) as usize
    }

    /// Bytes of the requests that are in.
    pub(super) fn bytes_taken(&self) -> usize {
        (self.taken.load(Ordering::Relaxed) & BYTES_MOST) as usize
    }

    /// The time that the requests will take that are in.
    pub(super) fn work_taken(&self) -> Duration {
        Duration::from_nanos(self.work_taken.load(Ordering::Relaxed))
    }

    /// Requests that may be in at present.
    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Requests that were refused so far.
    pub(super) fn refused(&self) -> Refusals {
        self.refused.counted()
    }

    fn has_room(&self, taken: u64) -> bool {
        (taken >> BYTE_BITS) < self.limit() as u64 && taken & BYTES_MOST < self.bytes
    }

    fn has_time(&self) -> bool {
        self.work_taken.load(Ordering::Relaxed) < self.work
    }

    /// Whether a request would have to wait.
    pub(super) fn is_full(&self) -> bool {
        let has_room = self.has_room(self.taken.load(Ordering::Relaxed)) && self.has_time();
        !has_room && !self.closed.load(Ordering::SeqCst)
    }

    /// What there is too much of for a request, of which the work may be known.
    fn reason(&self, asked: Option<Duration>) -> FullReason {
        let (requests, bytes) = (self.taken(), self.bytes_taken());
        if requests >= self.limit() {
            FullReason::Requests { most: self.limit() }
        } else if bytes as u64 >= self.bytes {
            FullReason::Bytes { queued: bytes, most: self.bytes as usize }
        } else if !self.has_time() {
            FullReason::Work { asked, queued: self.work_taken(), most: Duration::from_nanos(self.work) }
        } else {
            FullReason::Turn
        }
    }

    /// A place, if one is free; `None` when the caller has to wait.
    fn take(self: &Arc<Self>, load: Load) -> Option<Result<Permit, Refusal>> {
        if self.closed.load(Ordering::SeqCst) {
            return Some(Err(Refusal::Closed));
        }
        if !self.has_time() {
            return None;
        }
        // With it the bytes of all stay within their bits.
        let bytes = (load.bytes as u64).min(BYTES_MOST - self.bytes);
        let one_more = |taken| self.has_room(taken).then_some(taken + (1 << BYTE_BITS) + bytes);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).ok()?;
        let work = nanoseconds(load.work).min(WORK_MOST);
        self.work_taken.fetch_add(work, Ordering::Relaxed);
        Some(Ok(self.permit(bytes, work, false)))
    }

    fn permit(self: &Arc<Self>, bytes: u64, work: u64, is_beyond: bool) -> Permit {
        Permit { home: Arc::clone(self), bytes, work, since: Instant::now(), used: false, is_beyond }
    }

    /// A place beyond those there are, of which [`BEYOND_MOST`] can be taken; it counts as one of them. None
    /// once it is closed.
    pub(super) fn acquire_beyond(self: &Arc<Self>) -> Option<Permit> {
        if self.closed.load(Ordering::SeqCst) {
            return None;
        }
        let one_more = |beyond| (beyond < BEYOND_MOST).then_some(beyond + 1);
        self.beyond.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).ok()?;
        self.taken.fetch_add(1 << BYTE_BITS, Ordering::SeqCst);
        Some(self.permit(0, 0, true))
    }

    /// Counts a refusal of a request, of which the work may be known.
    pub(super) fn refuse<T>(&self, asked: Option<Duration>, waited: Duration) -> Result<T, Refusal> {
        let reason = self.reason(asked);
        self.refused.count(reason);
        Err(Refusal::Full { waited, reason })
    }

    /// Gets a place, as patiently as `backpressure` says.
    pub(super) fn acquire(
        self: &Arc<Self>,
        load: Load,
        backpressure: Backpressure,
    ) -> Result<Permit, Refusal> {
        let is_late = self.waiting.load(Ordering::SeqCst) > 0 && !self.closed.load(Ordering::SeqCst);
        if backpressure == Backpressure::Reject && is_late {
            return self.refuse(Some(load.work), Duration::ZERO);
        }
        match (self.take(load), backpressure) {
            (Some(outcome), _) => outcome,
            (None, Backpressure::Reject) => self.refuse(Some(load.work), Duration::ZERO),
            (None, Backpressure::Wait) => self.wait(load, None),
            (None, Backpressure::WaitAtMost(limit)) => self.wait(load, Some(limit)),
        }
    }

    fn wait(self: &Arc<Self>, load: Load, limit: Option<Duration>) -> Result<Permit, Refusal> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let outcome = self.wait_in_line(load, limit);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        outcome
    }

    fn wait_in_line(self: &Arc<Self>, load: Load, limit: Option<Duration>) -> Result<Permit, Refusal> {
        let started = Instant::now();
        loop {
            let listener = self.threads.listen();
            if let Some(outcome) = self.take(load) {
                self.call_next();
                return outcome;
            }
            let waited = started.elapsed();
            match limit {
                Some(limit) if waited >= limit => return self.refuse(Some(load.work), waited),
                Some(limit) => drop(listener.wait_timeout(limit - waited)),
                None => listener.wait(),
            }
        }
    }

    /// Gets a place, waiting without blocking the thread.
    pub(super) async fn acquire_async(self: &Arc<Self>, load: Load) -> Result<Permit, Refusal> {
        if let Some(outcome) = self.take(load) {
            return outcome;
        }
        loop {
            let listener = self.futures.listen();
            if let Some(outcome) = self.take(load) {
                self.call_next();
                return outcome;
            }
            listener.await;
        }
    }

    fn give_back(&self, bytes: u64, work: u64, since: Option<Instant>) {
        self.work_taken.fetch_sub(work, Ordering::Relaxed);
        let taken = self.taken.fetch_sub((1 << BYTE_BITS) + bytes, Ordering::SeqCst);
        if let (Some(pace), Some(since)) = (&self.pace, since) {
            let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let waiting = (taken >> BYTE_BITS) as usize - 1;
            let limit = pace.done(now - self.started, now - since, waiting);
            self.limit.store(limit, Ordering::SeqCst);
        }
        self.call_one();
    }

    /// One place may have been given back and there is room for several: a
    /// large request has gone, or more requests may wait. Whoever was called
    /// and got in calls the next.
    fn call_next(&self) {
        if !self.is_full() {
            self.call_one();
        }
    }

    fn call_one(&self) {
        self.threads.notify_additional(1);
        self.futures.call_one();
    }

    /// Refuses everybody from now on and wakes all who wait.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.threads.notify(usize::MAX);
        self.futures.call_all();
    }
}

fn nanoseconds(work: Duration) -> u64 {
    u64::try_from(work.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Wake, Waker};

    fn load(bytes: usize) -> Load {
        Load { bytes, work: Duration::ZERO }
    }

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
    fn places_beyond_are_there_though_others_wait_and_are_bounded_themselves() {
        let places = Places::new(Bounds::of_requests(1));
        let taken = places.acquire(load(0), Backpressure::Reject).unwrap();
        places.waiting.store(1, Ordering::SeqCst);
        let beyond: Vec<Permit> = (0..BEYOND_MOST).map(|_| places.acquire_beyond().unwrap()).collect();
        assert!(places.acquire_beyond().is_none());
        assert_eq!((places.taken(), places.refused().total()), (1 + BEYOND_MOST, 0));
        drop(taken);
        assert!(places.is_full(), "they count");
        drop(beyond);
        assert_eq!(places.taken(), 0);
        assert!(places.acquire_beyond().is_some() && !places.is_full());
        places.close();
        assert!(places.acquire_beyond().is_none());
    }

    #[test]
    fn a_future_that_is_called_in_vain_is_called_again() {
        let places = Places::new(Bounds::of_requests(1));
        let taken = places.acquire(load(0), Backpressure::Reject).unwrap();
        let (calls, waker) = caller();
        let mut future = pin!(places.acquire_async(load(0)));
        assert!(poll(future.as_mut(), &waker).is_pending());
        drop(taken);
        let stolen = places.acquire(load(0), Backpressure::Reject).unwrap();
        assert!(poll(future.as_mut(), &waker).is_pending());
        drop(stolen);
        assert_eq!(count(&calls), 2);
        assert!(poll(future.as_mut(), &waker).is_ready());
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn a_future_that_is_dropped_passes_its_call_on() {
        let places = Places::new(Bounds::of_requests(1));
        let taken = places.acquire(load(0), Backpressure::Reject).unwrap();
        let (calls, waker) = caller();
        let mut first = Box::pin(places.acquire_async(load(0)));
        let mut second = pin!(places.acquire_async(load(0)));
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
        let places = Places::new(Bounds::of_requests(1));
        let taken = places.acquire(load(0), Backpressure::Reject).unwrap();
        let (old, new) = (caller(), caller());
        let mut future = Box::pin(places.acquire_async(load(0)));
        assert!(poll(future.as_mut(), &old.1).is_pending());
        assert!(poll(future.as_mut(), &new.1).is_pending());
        drop(taken);
        assert_eq!((count(&old.0), count(&new.0)), (0, 1));
        drop(future);
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn a_thread_gets_a_place_that_a_future_was_called_for_and_does_not_take() {
        let places = Places::new(Bounds::of_requests(1));
        let taken = places.acquire(load(0), Backpressure::Reject).unwrap();
        let mut idle = pin!(places.acquire_async(load(0)));
        assert!(poll(idle.as_mut(), Waker::noop()).is_pending());
        std::thread::scope(|scope| {
            let blocked = scope.spawn(|| places.acquire(load(0), Backpressure::Wait).map(drop));
            drop(taken);
            assert_eq!(blocked.join().unwrap(), Ok(()));
        });
    }

    #[test]
    fn closing_calls_everybody_though_all_places_are_taken() {
        let places = Places::new(Bounds::of_requests(1));
        let _taken = places.acquire(load(0), Backpressure::Reject).unwrap();
        let (calls, waker) = caller();
        let mut future = pin!(places.acquire_async(load(0)));
        assert!(poll(future.as_mut(), &waker).is_pending());
        std::thread::scope(|scope| {
            let blocked: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| places.acquire(load(0), Backpressure::Wait).map(drop)))
                .collect();
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
        let places = Places::new(Bounds::of_requests(2));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    (0..ROUNDS).for_each(|_| drop(places.acquire(load(0), Backpressure::Wait).unwrap()))
                });
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
                        let mut future = pin!(places.acquire_async(load(0)));
                        while poll(future.as_mut(), &waker).is_pending() {
                            std::thread::park();
                        }
                    }
                });
            }
        });
        assert_eq!(places.taken(), 0);
    }

    struct Unpark(std::thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn within(requests: usize, bytes: usize) -> Arc<Places> {
        Places::new(Bounds { bytes, ..Bounds::of_requests(requests) })
    }

    #[test]
    fn requests_are_let_in_until_they_hold_the_bytes() {
        let places = within(10, 100);
        let first = places.acquire(load(60), Backpressure::Reject).unwrap();
        let second = places.acquire(load(1_000), Backpressure::Reject).unwrap();
        assert_eq!((places.taken(), places.bytes_taken()), (2, 1_060));
        for bytes in [0, 1, 1_000] {
            let refused = places.acquire(load(bytes), Backpressure::Reject);
            assert!(matches!(refused, Err(Refusal::Full { .. })), "{bytes} bytes");
        }
        assert_eq!(places.refused().bytes, 3);
        drop(second);
        assert_eq!(places.bytes_taken(), 60);
        drop((places.acquire(load(40), Backpressure::Reject).unwrap(), first));
        assert_eq!((places.taken(), places.bytes_taken()), (0, 0));
    }

    #[test]
    fn a_request_of_any_size_gets_in_alone() {
        let places = within(10, 100);
        let huge = places.acquire(load(usize::MAX), Backpressure::Reject).unwrap();
        assert!(places.is_full() && places.taken() == 1);
        drop(huge);
        assert_eq!(places.bytes_taken(), 0);
    }

    #[test]
    fn everybody_who_fits_is_called_when_a_large_request_has_gone() {
        let places = within(10, 100);
        let large = places.acquire(load(200), Backpressure::Reject).unwrap();
        std::thread::scope(|scope| {
            let blocked: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| places.acquire(load(1), Backpressure::Wait).unwrap()))
                .collect();
            drop(large);
            // All at a time: none gives its place back before the last has one.
            let held: Vec<Permit> = blocked.into_iter().map(|thread| thread.join().unwrap()).collect();
            assert_eq!(held.len(), 4);
        });
    }

    #[test]
    fn whoever_does_not_wait_passes_nobody_who_does() {
        let places = within(1, 100);
        let taken = places.acquire(load(1), Backpressure::Reject).unwrap();
        let (tell, told) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let waiting = &places;
            let patient = scope.spawn(move || {
                let places = waiting;
                let place = places.acquire(load(1), Backpressure::Wait);
                // Held until the others have tried.
                let _ = told.recv();
                place.map(drop)
            });
            while places.waiting.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            drop(taken);
            for _ in 0..10_000 {
                assert!(places.acquire(load(1), Backpressure::Reject).is_err(), "passed somebody who waits");
            }
            drop(tell);
            assert_eq!(patient.join().unwrap(), Ok(()));
        });
    }

    fn of_work(work: Duration) -> Load {
        Load { bytes: 8, work }
    }

    fn worth(millis: u64) -> Load {
        of_work(Duration::from_millis(millis))
    }

    fn within_work(millis: u64) -> Arc<Places> {
        Places::new(Bounds { work: Duration::from_millis(millis), ..Bounds::of_requests(1_000) })
    }

    #[test]
    fn a_few_dear_requests_fill_what_many_cheap_ones_do_not() {
        let places = within_work(100);
        let cheap = of_work(Duration::from_micros(50));
        let mut held: Vec<Permit> =
            (0..900).map(|_| places.acquire(cheap, Backpressure::Reject).unwrap()).collect();
        assert_eq!((places.taken(), places.work_taken()), (900, Duration::from_millis(45)));
        held.extend((0..2).map(|_| places.acquire(worth(30), Backpressure::Reject).unwrap()));
        assert!(places.is_full());
        let refused = places.acquire(cheap, Backpressure::Reject).map(drop);
        let reason = FullReason::Work {
            asked: Some(Duration::from_micros(50)),
            queued: Duration::from_millis(105),
            most: Duration::from_millis(100),
        };
        assert_eq!(refused, Err(Refusal::Full { waited: Duration::ZERO, reason }));
        assert_eq!(places.refused(), Refusals { work: 1, ..Refusals::default() });
        drop(held);
        assert_eq!((places.taken(), places.bytes_taken(), places.work_taken()), (0, 0, Duration::ZERO));
    }

    #[test]
    fn work_beyond_all_bounds_gets_in_alone_and_is_given_back_whole() {
        let places = within_work(100);
        for work in [Duration::from_secs(1), Duration::MAX] {
            let huge = places.acquire(of_work(work), Backpressure::Reject).unwrap();
            assert!(places.is_full() && places.work_taken() >= Duration::from_secs(1));
            assert!(places.acquire(load(0), Backpressure::Reject).is_err());
            drop(huge);
            assert_eq!(places.work_taken(), Duration::ZERO);
        }
        // So many as a mailbox may have, all of them as large as can be.
        let places = Places::new(Bounds::of_requests(1 << 20));
        let counted: Vec<Permit> =
            (0..64).map(|_| places.acquire(of_work(Duration::MAX), Backpressure::Reject).unwrap()).collect();
        assert!(counted[0].work <= u64::MAX >> 20);
    }

    #[test]
    fn whoever_waits_for_work_to_be_done_is_called_when_it_is() {
        let places = within_work(100);
        let huge = places.acquire(worth(5_000), Backpressure::Reject).unwrap();
        let (calls, waker) = caller();
        let mut future = pin!(places.acquire_async(worth(1)));
        assert!(poll(future.as_mut(), &waker).is_pending());
        std::thread::scope(|scope| {
            let blocked: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| places.acquire(worth(1), Backpressure::Wait).unwrap()))
                .collect();
            drop(huge);
            let held: Vec<Permit> = blocked.into_iter().map(|thread| thread.join().unwrap()).collect();
            assert_eq!(held.len(), 4);
        });
        assert!(count(&calls) > 0 && poll(future.as_mut(), &waker).is_ready());
        assert_eq!(places.work_taken(), Duration::ZERO);
    }

    #[test]
    fn a_refusal_says_what_there_is_too_much_of() {
        let reason = |places: &Arc<Places>| match places.acquire(load(1), Backpressure::Reject) {
            Err(Refusal::Full { reason, .. }) => reason,
            other => panic!("{other:?}"),
        };
        let places = Places::new(Bounds { bytes: 10, ..Bounds::of_requests(2) });
        let first = places.acquire(load(10), Backpressure::Reject).unwrap();
        assert_eq!(reason(&places), FullReason::Bytes { queued: 10, most: 10 });
        drop(first);
        let _both = [(); 2].map(|()| places.acquire(load(1), Backpressure::Reject).unwrap());
        assert_eq!(reason(&places), FullReason::Requests { most: 2 });
        assert_eq!(places.refused(), Refusals { requests: 1, bytes: 1, ..Refusals::default() });
        assert_eq!(places.refused().total(), 2);
    }
}
