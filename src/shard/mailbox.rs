//! Bounded mailboxes and replies: the only home of channels.
//!
//! A mailbox has as many *permits* as places. A sender first gets a permit (by
//! waiting, with a limit, or not at all, as the caller chose), then sends:
//! sending itself never blocks, so it may happen inside a short critical
//! section. The permit travels with the message and is given back when the
//! receiver drops it, after the work is done: the bound covers what is queued
//! and what is being worked on.
//!
//! Messages travel over crossbeam channels; replies use crossbeam for blocked
//! threads and flume for futures. (A request and its reply took 42 us over
//! flume and 0.63 us over crossbeam-channel.)
//!
//! No caller waits for ever: a receiver that ends, also by a panic, marks the
//! mailbox as closed and drops what is queued, and with it the reply senders.
//! A message sent at that very moment is dropped by its sender: it looks at
//! the mark after sending, and the receiver looks at the queue after marking.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::places::{BEYOND_MOST, Bounds, Load, Permit, Places};
use super::refusal::{Backpressure, Refusal, Refusals};
use super::wakes::wake;

/// A message and the place that it takes.
#[derive(Debug)]
pub(crate) struct Envelope<T> {
    pub(crate) message: T,
    pub(crate) permit: Permit,
}

#[derive(Debug)]
struct Shared<T> {
    sender: crossbeam_channel::Sender<Envelope<T>>,
    receiver: crossbeam_channel::Receiver<Envelope<T>>,
    places: Arc<Places>,
    closed: AtomicBool,
    capacity: usize,
}

impl<T> Shared<T> {
    fn drain(&self) {
        while self.receiver.try_recv().is_ok() {}
    }
}

/// The senders' side of a mailbox.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Mailbox { shared: Arc::clone(&self.shared) }
    }
}

/// The receiver's side. Its drop closes the mailbox and drops what is queued.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    shared: Arc<Shared<T>>,
    gates: Vec<Arc<Places>>,
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.shared.places.close();
        self.gates.iter().for_each(|gate| gate.close());
        self.shared.drain();
    }
}

/// A mailbox for messages within some bounds.
pub(crate) fn mailbox<T>(bounds: Bounds) -> (Mailbox<T>, Inbox<T>) {
    let capacity = bounds.requests;
    let (sender, receiver) = crossbeam_channel::bounded(capacity + BEYOND_MOST);
    let places = Places::new(bounds);
    let closed = AtomicBool::new(false);
    let shared = Arc::new(Shared { sender, receiver, places, closed, capacity });
    (Mailbox { shared: Arc::clone(&shared) }, Inbox { shared, gates: Vec::new() })
}

impl<T> Mailbox<T> {
    /// Gets a place, as patiently as `backpressure` says.
    pub(crate) fn acquire(&self, backpressure: Backpressure) -> Result<Permit, Refusal> {
        self.acquire_for(Load::default(), backpressure)
    }

    /// Gets a place for a message that takes so much.
    pub(crate) fn acquire_for(&self, load: Load, backpressure: Backpressure) -> Result<Permit, Refusal> {
        self.shared.places.acquire(load, backpressure)
    }

    /// Gets a place beyond those that the mailbox has, if one is free: for what the engine asks for by itself and
    /// callers' requests must not keep out.
    pub(crate) fn acquire_beyond(&self) -> Option<Permit> {
        self.shared.places.acquire_beyond()
    }

    /// Gets a place for a message that takes so much; waits without blocking
    /// the thread, and without a limit.
    pub(crate) async fn acquire_async(
        &self,
        load: Load,
        backpressure: Backpressure,
    ) -> Result<Permit, Refusal> {
        match backpressure {
            Backpressure::Reject => self.acquire_for(load, backpressure),
            Backpressure::Wait | Backpressure::WaitAtMost(_) => self.shared.places.acquire_async(load).await,
        }
    }

    /// Sends without blocking. The message is dropped when the mailbox is closed.
    pub(crate) fn send(&self, permit: Permit, message: T) -> Result<(), Refusal> {
        // The channel has a place for every permit.
        let sent = self.shared.sender.try_send(Envelope { message, permit: permit.used() }).is_ok();
        if self.is_closed() {
            self.shared.drain();
            return Err(Refusal::Closed);
        }
        if sent { Ok(()) } else { Err(Refusal::Closed) }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::SeqCst)
    }

    pub(crate) fn capacity(&self) -> usize {
        self.shared.capacity
    }

    /// Places taken: messages queued or being worked on.
    pub(crate) fn depth(&self) -> usize {
        self.shared.places.taken()
    }

    /// Bytes of these messages.
    pub(crate) fn bytes(&self) -> usize {
        self.shared.places.bytes_taken()
    }

    /// The time that these messages will take, estimated.
    pub(crate) fn work(&self) -> Duration {
        self.shared.places.work_taken()
    }

    /// Messages that it takes at present: fewer than its capacity while they
    /// take long.
    pub(crate) fn limit(&self) -> usize {
        self.shared.places.limit()
    }

    /// Whether a message would be refused.
    pub(crate) fn is_full(&self) -> bool {
        self.shared.places.is_full()
    }

    /// Refuses a message that nobody has looked at yet.
    pub(crate) fn refuse(&self) -> Refusal {
        self.shared.places.refuse::<()>(None, Duration::ZERO).err().unwrap_or(Refusal::Closed)
    }

    /// Messages that were refused so far.
    pub(crate) fn refused(&self) -> Refusals {
        self.shared.places.refused()
    }
}

/// Bounds one kind of message among all of a mailbox, so that those who may
/// be refused, and come again at once, do not keep the others out.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    places: Arc<Places>,
    capacity: usize,
}

impl Gate {
    /// Gets a place; waits without blocking the thread, and without a limit.
    pub(crate) async fn acquire_async(
        &self,
        load: Load,
        backpressure: Backpressure,
    ) -> Result<Permit, Refusal> {
        match backpressure {
            Backpressure::Reject => self.places.acquire(load, backpressure),
            Backpressure::Wait | Backpressure::WaitAtMost(_) => self.places.acquire_async(load).await,
        }
    }

    /// The time that the messages will take that are in, estimated.
    pub(crate) fn work(&self) -> Duration {
        self.places.work_taken()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Messages that were refused so far.
    pub(crate) fn refused(&self) -> Refusals {
        self.places.refused()
    }
}

impl<T> Inbox<T> {
    /// Whether a message would be refused, here or at a gate.
    pub(crate) fn is_full(&self) -> bool {
        self.shared.places.is_full() || self.gates.iter().any(|gate| gate.is_full())
    }

    /// A gate that ends with the mailbox.
    pub(crate) fn gate(&mut self, bounds: Bounds) -> Gate {
        let places = Places::new(bounds);
        self.gates.push(Arc::clone(&places));
        Gate { places, capacity: bounds.requests }
    }

    pub(crate) fn try_next(&self) -> Option<Envelope<T>> {
        self.shared.receiver.try_recv().ok()
    }

    /// Whether a message waits.
    pub(crate) fn has_next(&self) -> bool {
        !self.shared.receiver.is_empty()
    }

    fn receiver(&self) -> &crossbeam_channel::Receiver<Envelope<T>> {
        &self.shared.receiver
    }
}

/// The sender of signals: small messages that must arrive.
#[derive(Debug)]
pub(crate) struct Signals<T>(crossbeam_channel::Sender<T>);

impl<T> Clone for Signals<T> {
    fn clone(&self) -> Self {
        Signals(self.0.clone())
    }
}

impl<T> Signals<T> {
    pub(crate) fn send(&self, signal: T) {
        // A receiver that is gone needs no signal.
        let _ = self.0.send(signal);
    }

    /// Sends if there is room: for what may also happen on the receiver's own
    /// thread, which must not wait for itself.
    pub(crate) fn offer(&self, signal: T) {
        let _ = self.0.try_send(signal);
    }
}

/// The receiver of signals.
#[derive(Debug)]
pub(crate) struct SignalInbox<T>(crossbeam_channel::Receiver<T>);

impl<T> SignalInbox<T> {
    /// Waits for the next signal, at most so long; `None` when none came.
    pub(crate) fn next_within(&self, limit: Duration) -> Option<T> {
        self.0.recv_timeout(limit).ok()
    }

    /// Waits for the next signal; `None` when none can come any more.
    pub(crate) fn next(&self) -> Option<T> {
        self.0.recv().ok()
    }

    pub(crate) fn try_next(&self) -> Option<T> {
        self.0.try_recv().ok()
    }
}

impl<T> Drop for SignalInbox<T> {
    fn drop(&mut self) {
        while self.0.try_recv().is_ok() {}
    }
}

/// Reports that may be queued: the coordinator drains them in one go, so this
/// only bounds memory when it is held up.
const REPORT_CAPACITY: usize = 4_096;

/// A channel for signals; sending waits while `REPORT_CAPACITY` are queued.
pub(crate) fn reports<T>() -> (Signals<T>, SignalInbox<T>) {
    let (sender, receiver) = crossbeam_channel::bounded(REPORT_CAPACITY);
    (Signals(sender), SignalInbox(receiver))
}

/// A channel for signals; sending never waits. For senders that are bounded by
/// themselves: a shard has one background job at a time.
pub(crate) fn signals<T>() -> (Signals<T>, SignalInbox<T>) {
    let (sender, receiver) = crossbeam_channel::unbounded();
    (Signals(sender), SignalInbox(receiver))
}

/// Sleeps until one of the three has something, or `limit` has passed: false.
pub(crate) fn wait_for_any<A, B>(
    first: &Inbox<A>,
    second: &Inbox<B>,
    signals: &SignalInbox<impl Sized>,
    limit: Option<Duration>,
) -> bool {
    let mut select = crossbeam_channel::Select::new();
    select.recv(first.receiver());
    select.recv(second.receiver());
    select.recv(&signals.0);
    match limit {
        Some(limit) => select.ready_timeout(limit).is_ok(),
        None => {
            select.ready();
            true
        }
    }
}

/// Sleeps until one of the two has something, or `limit` has passed.
pub(crate) fn wait_for_either<A>(
    inbox: &Inbox<A>,
    signals: &SignalInbox<impl Sized>,
    limit: Option<Duration>,
) {
    let mut select = crossbeam_channel::Select::new();
    select.recv(inbox.receiver());
    select.recv(&signals.0);
    match limit {
        Some(limit) => {
            let _ = select.ready_timeout(limit);
        }
        None => {
            select.ready();
        }
    }
}

/// Where an answer goes: to a blocked thread or to a future.
#[derive(Debug)]
pub(crate) enum Reply<T> {
    /// The second part says whether the thread still waits.
    Thread(crossbeam_channel::Sender<T>, Weak<()>),
    Future(FutureReply<T>),
}

impl<T> Reply<T> {
    /// Answers. Nobody may be waiting any more: then the answer is dropped.
    pub(crate) fn send(&self, answer: T) {
        match self {
            Reply::Thread(sender, _) => drop(sender.try_send(answer)),
            Reply::Future(reply) => reply.send(answer),
        }
    }

    /// True when nobody waits any more (a future was dropped, a thread's time
    /// was up): the work can be skipped.
    pub(crate) fn is_abandoned(&self) -> bool {
        match self {
            Reply::Thread(_, waits) => waits.strong_count() == 0,
            Reply::Future(reply) => reply.sender.as_ref().is_none_or(flume::Sender::is_disconnected),
        }
    }
}

/// The other end of a [`Reply`] for a thread.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    answer: crossbeam_channel::Receiver<T>,
    _waits: Arc<()>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// Whoever should answer is gone.
    Lost,
    /// The time is up.
    Timeout,
}

impl<T> Waiting<T> {
    /// Blocks until the answer is there, for at most `limit` if one is given.
    pub(crate) fn wait(&self, limit: Option<Duration>) -> Result<T, NoAnswer> {
        match limit {
            None => self.answer.recv().map_err(|_| NoAnswer::Lost),
            Some(limit) => self.answer.recv_timeout(limit).map_err(|error| match error {
                crossbeam_channel::RecvTimeoutError::Timeout => NoAnswer::Timeout,
                crossbeam_channel::RecvTimeoutError::Disconnected => NoAnswer::Lost,
            }),
        }
    }
}

pub(crate) fn reply<T>() -> (Reply<T>, Waiting<T>) {
    let (sender, answer) = crossbeam_channel::bounded(1);
    let waits = Arc::new(());
    (Reply::Thread(sender, Arc::downgrade(&waits)), Waiting { answer, _waits: waits })
}

/// Who is to be told that there is an answer.
type Waking = Arc<Mutex<Option<Waker>>>;

/// Answers a future, which is woken by code of its executor: that may poll the future, drop it, or panic. So no lock is
/// held meanwhile, not that of the channel either.
#[derive(Debug)]
pub(crate) struct FutureReply<T> {
    /// None once it is dropped.
    sender: Option<flume::Sender<T>>,
    waking: Waking,
}

impl<T> FutureReply<T> {
    fn send(&self, answer: T) {
        if let Some(sender) = &self.sender {
            // Nobody waits within the channel.
            drop(sender.try_send(answer));
            self.wake();
        }
    }

    fn wake(&self) {
        let waker = self.waking.lock().unwrap_or_else(PoisonError::into_inner).take();
        waker.into_iter().for_each(wake);
    }
}

impl<T> Drop for FutureReply<T> {
    fn drop(&mut self) {
        // Before the future looks whether anybody is left who may answer.
        self.sender = None;
        self.wake();
    }
}

/// The other end of a [`Reply`] for a future.
#[derive(Debug)]
pub(crate) struct WaitingFuture<T> {
    answer: flume::Receiver<T>,
    waking: Waking,
}

impl<T> WaitingFuture<T> {
    pub(crate) async fn wait(self) -> Result<T, NoAnswer> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&self, context: &Context<'_>) -> Poll<Result<T, NoAnswer>> {
        let waker = context.waker().clone();
        let before = self.waking.lock().unwrap_or_else(PoisonError::into_inner).replace(waker);
        // Not while the lock is held: what it drops may be anything.
        drop(before);
        // After the waker is there: an answer that comes now wakes it.
        match self.answer.try_recv() {
            Ok(answer) => Poll::Ready(Ok(answer)),
            Err(flume::TryRecvError::Empty) => Poll::Pending,
            Err(flume::TryRecvError::Disconnected) => Poll::Ready(Err(NoAnswer::Lost)),
        }
    }
}

pub(crate) fn reply_future<T>() -> (Reply<T>, WaitingFuture<T>) {
    let (sender, answer) = flume::bounded(1);
    let waking = Waking::default();
    let reply = FutureReply { sender: Some(sender), waking: Arc::clone(&waking) };
    (Reply::Future(reply), WaitingFuture { answer, waking })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_mailbox_refuses_until_the_work_is_done() {
        let (mailbox, inbox) = mailbox(Bounds::of_requests(1));
        let permit = mailbox.acquire(Backpressure::Reject).unwrap();
        mailbox.send(permit, "a").unwrap();
        assert!(matches!(mailbox.acquire(Backpressure::Reject), Err(Refusal::Full { .. })));
        let envelope = inbox.try_next().unwrap();
        let limited = Backpressure::WaitAtMost(Duration::from_millis(1));
        assert!(matches!(mailbox.acquire(limited), Err(Refusal::Full { .. })));
        drop(envelope);
        assert_eq!(mailbox.depth(), 0);
        assert!(mailbox.acquire(Backpressure::Reject).is_ok());
    }

    #[test]
    fn whoever_waits_for_a_place_or_an_answer_learns_that_the_receiver_is_gone() {
        let (mailbox, inbox) = mailbox(Bounds::of_requests(1));
        let (reply, waiting) = reply::<u32>();
        let permit = mailbox.acquire(Backpressure::Wait).unwrap();
        mailbox.send(permit, reply).unwrap();
        std::thread::scope(|scope| {
            let blocked: Vec<_> =
                (0..3).map(|_| scope.spawn(|| mailbox.acquire(Backpressure::Wait).map(drop))).collect();
            let asked = scope.spawn(|| waiting.wait(None));
            drop(inbox);
            assert_eq!(asked.join().unwrap(), Err(NoAnswer::Lost));
            for thread in blocked {
                assert_eq!(thread.join().unwrap(), Err(Refusal::Closed));
            }
        });
    }

    #[test]
    fn no_message_is_stranded_when_sending_races_with_closing() {
        for _ in 0..500 {
            let (mailbox, inbox) = mailbox(Bounds::of_requests(4));
            let (reply, waiting) = reply::<u32>();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let permit = mailbox.acquire(Backpressure::Wait);
                    if let Ok(permit) = permit {
                        let _ = mailbox.send(permit, reply);
                    }
                });
                scope.spawn(|| drop(inbox));
                assert_eq!(waiting.wait(Some(Duration::from_secs(10))), Err(NoAnswer::Lost));
            });
        }
    }

    #[test]
    fn whoever_answers_sees_that_nobody_waits_any_more() {
        let (future_reply, future) = reply_future::<u32>();
        let (thread_reply, thread) = reply::<u32>();
        assert!(!future_reply.is_abandoned() && !thread_reply.is_abandoned());
        drop((future, thread));
        assert!(future_reply.is_abandoned() && thread_reply.is_abandoned());
    }
}
