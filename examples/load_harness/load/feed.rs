//! The requests of a run in their order: what arrives when, and what nobody
//! has time for.
//!
//! Everything about a request is drawn here, under one short lock and in the
//! order of arrival, so a seed gives the same requests for any number of
//! threads. A thread takes the next request and waits for its moment itself;
//! there is no dispatcher whose wake-ups would be measured.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::arrivals::{Arrivals, Schedule};
use super::mix::{Mix, Operation};
use super::rng::{Popularity, Rng, mixed};

/// One request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Request {
    /// Its place in the run, from 0.
    pub(crate) number: u64,
    /// When it is due, in nanoseconds from the start.
    pub(crate) intended_ns: u64,
    pub(crate) operation: Operation,
    /// The record; the first of a batch.
    pub(crate) key: u64,
    /// The row of the data that the record gets; keys start with their own.
    pub(crate) row: u64,
    /// Which query a search asks.
    pub(crate) query: u64,
}

/// What requests are drawn from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FeedSettings {
    pub(crate) arrivals: Arrivals,
    pub(crate) length: Duration,
    pub(crate) mix: Mix,
    /// Which record an upsert replaces; rank 0 is the newest.
    pub(crate) keys: Popularity,
    /// Which query a search asks.
    pub(crate) queries: Popularity,
    /// Queries there are.
    pub(crate) query_count: u64,
    /// Records that are there when the run begins have keys from this...
    pub(crate) oldest: u64,
    /// ...to this, not included.
    pub(crate) newest: u64,
    /// Records of one batch.
    pub(crate) batch: u64,
    /// Requests that may be under way or waiting at a time.
    pub(crate) cap: usize,
    pub(crate) seed: u64,
}

struct Inner {
    schedule: Schedule,
    rng: Rng,
    /// Due, and not taken by anybody yet.
    waiting: VecDeque<Request>,
    /// Drawn, and not due yet.
    next: Option<Request>,
    numbered: u64,
    oldest: u64,
    newest: u64,
    /// Since somebody asked.
    counts: Counts,
}

/// Requests that came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// By operation.
    pub(crate) due: [u64; Operation::COUNT],
    /// Of them, those that were skipped.
    pub(crate) skipped: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Counts) {
        self.due.iter_mut().zip(other.due).for_each(|(mine, other)| *mine += other);
        self.skipped += other.skipped;
    }

    pub(crate) fn offered(&self) -> u64 {
        self.due.iter().sum()
    }
}

/// Gives out requests to any number of threads.
pub(crate) struct Feed {
    settings: FeedSettings,
    inner: Mutex<Inner>,
    in_flight: AtomicUsize,
}

impl Feed {
    pub(crate) fn new(settings: FeedSettings) -> Feed {
        let inner = Inner {
            schedule: Schedule::new(settings.arrivals, settings.length, mixed(mixed(settings.seed) ^ 1)),
            rng: Rng::new(mixed(mixed(settings.seed) ^ 2)),
            waiting: VecDeque::new(),
            next: None,
            numbered: 0,
            oldest: settings.oldest,
            newest: settings.newest,
            counts: Counts::default(),
        };
        Feed { settings, inner: Mutex::new(inner), in_flight: AtomicUsize::new(0) }
    }

    /// The next request, due or not; `None` when there are no more.
    pub(crate) fn take(&self, now_ns: u64) -> Option<Request> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if self.settings.arrivals.is_closed() {
            let over = now_ns >= self.settings.length.as_nanos() as u64;
            return (!over).then(|| {
                let request = inner.draw(&self.settings, now_ns);
                inner.comes(request);
                request
            });
        }
        // All that came due while everybody was busy: what does not fit under
        // the cap was turned away when it came.
        loop {
            if inner.next.is_none() {
                inner.next = inner.schedule.next().map(|at| inner.draw(&self.settings, at));
            }
            let Some(next) = inner.next.filter(|next| next.intended_ns <= now_ns) else { break };
            inner.next = None;
            inner.comes(next);
            if inner.waiting.len() + self.in_flight.load(Ordering::Relaxed) >= self.settings.cap {
                inner.counts.skipped += 1;
            } else {
                inner.waiting.push_back(next);
            }
        }
        inner.waiting.pop_front().or_else(|| {
            let next = inner.next.take();
            next.into_iter().for_each(|next| inner.comes(next));
            next
        })
    }

    /// A request begins; false, and it is skipped, when too many are under way.
    /// In a closed loop there are never more than its clients.
    pub(crate) fn begin(&self) -> bool {
        let cap = if self.settings.arrivals.is_closed() { usize::MAX } else { self.settings.cap };
        let one_more = |under_way: usize| (under_way < cap).then_some(under_way + 1);
        let begun = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok();
        if !begun {
            self.inner.lock().unwrap_or_else(PoisonError::into_inner).counts.skipped += 1;
        }
        begun
    }

    /// A request has ended.
    pub(crate) fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The keys that are there once everything was done: from, and up to.
    pub(crate) fn keys(&self) -> (u64, u64) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        (inner.oldest, inner.newest)
    }

    /// Requests that came since the last call.
    pub(crate) fn counts(&self) -> Counts {
        std::mem::take(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner).counts)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.settings.arrivals.is_closed()
    }
}

impl Inner {
    fn comes(&mut self, request: Request) {
        self.counts.due[request.operation as usize] += 1;
    }

    fn draw(&mut self, settings: &FeedSettings, intended_ns: u64) -> Request {
        let operation = settings.mix.draw(&mut self.rng);
        let live = self.newest - self.oldest;
        let mut request = Request {
            number: self.numbered,
            intended_ns,
            operation,
            key: self.newest,
            row: self.newest,
            query: 0,
        };
        self.numbered += 1;
        match operation {
            Operation::Search | Operation::Filtered => {
                request.query = settings.queries.draw(&mut self.rng, settings.query_count);
            }
            Operation::Insert => self.newest += 1,
            Operation::Batch => self.newest += settings.batch,
            Operation::Upsert | Operation::Update => {
                request.key = self.newest.saturating_sub(1 + settings.keys.draw(&mut self.rng, live));
                request.row = self.rng.next();
            }
            // Of a collection that is nearly empty nothing is deleted.
            Operation::Delete if live > 1 => {
                request.key = self.oldest;
                self.oldest += 1;
            }
            Operation::Delete | Operation::Page | Operation::Lapse => {
                request.key = self.rng.next();
            }
        }
        request
    }
}
