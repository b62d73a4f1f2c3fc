//! A thread that sends requests at their moments.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::feed::{Feed, Request};
use super::machine;
use super::mix::Operation;
use super::target::{Call, Later, Reply, Target};
use super::tasks::{Ended, Tasks};
use super::window::{Moments, Window};

/// What all threads of a run share.
pub(crate) struct Issuing<'t> {
    pub(crate) target: &'t dyn Target,
    pub(crate) feed: Feed,
    pub(crate) started: Instant,
    /// For closed loops: requests of one thread that may be under way, writes
    /// that are watched until they are visible included.
    pub(crate) clients: Option<usize>,
    /// An answer later than this is no use.
    pub(crate) limit_ns: u64,
    /// How long requests that are under way at the end are waited for.
    pub(crate) patience: Duration,
    pub(crate) stop: AtomicBool,
}

/// What a future is for.
#[derive(Clone, Copy)]
enum Note {
    Answer { operation: Operation, intended_ns: u64, began_ns: u64 },
    Visible { acknowledged_ns: u64 },
}

enum Output<'a> {
    Answer(Reply<'a>),
    Visible(bool),
}

/// The state of one thread.
struct Issuer<'s, 't> {
    shared: &'s Issuing<'t>,
    window: &'s Mutex<Window>,
    tasks: Tasks<'s, Output<'s>, Note>,
    /// Answers that it waits for.
    answers: usize,
}

impl Issuing<'_> {
    fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// The body of a thread; what it measures goes into `window`.
    pub(crate) fn run<'s>(&'s self, window: &'s Mutex<Window>) {
        machine::sharpen_sleeps();
        let mut issuer = Issuer { shared: self, window, tasks: Tasks::new(self.started), answers: 0 };
        while !self.stop.load(Ordering::Relaxed) {
            if let Some(clients) = self.clients {
                issuer.drive(self.in_a_while(), |issuer| issuer.tasks.pending() < clients);
            }
            let Some(request) = self.feed.take(self.now_ns()) else { break };
            issuer.issue(request);
        }
        issuer.drive(self.in_a_while(), |issuer| issuer.tasks.pending() == 0);
        // What is left: answers, and writes that were acknowledged and cannot be found.
        let unseen = issuer.tasks.pending() - issuer.answers;
        issuer.with_window(|window| {
            window.unfinished += issuer.answers as u64;
            window.missing += unseen as u64;
        });
    }

    fn in_a_while(&self) -> u64 {
        self.now_ns() + self.patience.as_nanos() as u64
    }
}

impl<'s> Issuer<'s, '_> {
    fn issue(&mut self, request: Request) {
        let prepared = self.shared.target.prepare(request);
        // Without a schedule a request is due when it is ready to be sent.
        let is_closed = self.shared.feed.is_closed();
        let intended_ns = if is_closed { self.shared.now_ns() } else { request.intended_ns };
        self.drive(intended_ns, |_| false);
        if !self.shared.feed.begin() {
            return;
        }
        let began_ns = self.shared.now_ns();
        let operation = request.operation;
        match self.shared.target.call(prepared) {
            Call::Now(reply) => self.answered(operation, intended_ns, began_ns, reply),
            Call::Later(future) => {
                self.answers += 1;
                let future: Later<'s, Output<'s>> = Box::pin(async { Output::Answer(future.await) });
                self.start(future, Note::Answer { operation, intended_ns, began_ns });
            }
        }
    }

    fn start(&mut self, future: Later<'s, Output<'s>>, note: Note) {
        if let Some(ended) = self.tasks.start(future, note) {
            self.ended(ended);
        }
    }

    /// Drives what is under way until a moment, or until it is enough.
    fn drive(&mut self, until_ns: u64, is_enough: impl Fn(&Self) -> bool) {
        while !is_enough(self) {
            let ended = self.tasks.wait(until_ns);
            if ended.is_empty() {
                return;
            }
            ended.into_iter().for_each(|ended| self.ended(ended));
        }
    }

    fn ended(&mut self, ended: Ended<Output<'s>, Note>) {
        match (ended.note, ended.output) {
            (Note::Answer { operation, intended_ns, began_ns }, Output::Answer(reply)) => {
                self.answers -= 1;
                self.answered(operation, intended_ns, began_ns, reply);
            }
            (Note::Visible { acknowledged_ns }, Output::Visible(found)) => {
                let visible_ns = if ended.woken_ns == 0 { self.shared.now_ns() } else { ended.woken_ns };
                self.with_window(|window| {
                    if found {
                        window.fresh.record(visible_ns.saturating_sub(acknowledged_ns));
                    } else {
                        window.missing += 1;
                    }
                });
            }
            // A note and its future are made together.
            (Note::Answer { .. }, Output::Visible(_)) | (Note::Visible { .. }, Output::Answer(_)) => {}
        }
    }

    fn answered(&mut self, operation: Operation, intended_ns: u64, began_ns: u64, reply: Reply<'s>) {
        let ended_ns = self.shared.now_ns();
        self.shared.feed.end();
        let moments = Moments { intended_ns, began_ns, ended_ns };
        let limit_ns = self.shared.limit_ns;
        self.with_window(|window| window.record(operation, moments, reply.outcome, limit_ns));
        if let Some(after) = reply.after {
            after();
        }
        if let Some(visible) = reply.visible {
            let future: Later<'s, Output<'s>> = Box::pin(async { Output::Visible(visible.await) });
            self.start(future, Note::Visible { acknowledged_ns: ended_ns });
        }
    }

    fn with_window<T>(&self, write: impl FnOnce(&mut Window) -> T) -> T {
        write(&mut self.window.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
