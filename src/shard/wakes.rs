//! An event that futures wait for. `event-listener` wakes them while it holds a
//! lock; an executor may poll them then and there, drop them, or panic. So what it
//! wakes is noted, and woken when the lock is free again.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};

use event_listener::{Event, EventListener};
use tracing::error;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct FutureEvent {
    event: Event,
    noted: Arc<Noted>,
}

impl FutureEvent {
    /// From now on calls count; await it for one.
    pub(super) fn listen(&self) -> FutureListener {
        let call = Arc::new(Call { waker: Mutex::default(), noted: Arc::clone(&self.noted) });
        FutureListener { listener: Some(self.event.listen()), call }
    }

    /// Calls one more of those who listen.
    pub(super) fn call_one(&self) {
        self.event.notify_additional(1);
        self.noted.wake_all();
    }

    /// Calls all who listen.
    pub(super) fn call_all(&self) {
        self.event.notify(usize::MAX);
        self.noted.wake_all();
    }
}

/// Waits for a call.
#[derive(Debug)]
pub(super) struct FutureListener {
    /// None once it is dropped.
    listener: Option<EventListener>,
    call: Arc<Call>,
}

impl Future for FutureListener {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let before = self.call.lock().replace(context.waker().clone());
        // Not while a lock is held: its end may be that of a future.
        drop(before);
        // The same for the event each time, so it keeps the one that it has.
        let waker = Waker::from(Arc::clone(&self.call));
        let Some(listener) = &mut self.listener else { return Poll::Ready(()) };
        Pin::new(listener).poll(&mut Context::from_waker(&waker))
    }
}

impl Drop for FutureListener {
    fn drop(&mut self) {
        // One that was called and did not come calls another.
        self.listener = None;
        self.call.noted.wake_all();
    }
}

/// Wakes a future, whose executor may panic then.
pub(super) fn wake(waker: Waker) {
    if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
        error!("the waker of a future panicked");
    }
}

/// Who is to be woken.
struct Call {
    waker: Mutex<Option<Waker>>,
    noted: Arc<Noted>,
}

impl Call {
    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.waker.fmt(f)
    }
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        let noted = Arc::clone(&self.noted);
        noted.count.fetch_add(1, Ordering::SeqCst);
        noted.lock().calls.push_back(self);
    }
}

#[derive(Debug, Default)]
struct Noted {
    /// Calls that were noted and not taken.
    count: AtomicUsize,
    turn: Mutex<Turn>,
}

#[derive(Debug, Default)]
struct Turn {
    calls: VecDeque<Arc<Call>>,
    /// Threads that are waking: what they note meanwhile is their turn as well, further out.
    waking: Vec<ThreadId>,
}

impl Noted {
    fn lock(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes all who were noted. Whoever notes some does this afterwards, on the same thread.
    fn wake_all(&self) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let own = thread::current().id();
        let mut turn = self.lock();
        if turn.waking.contains(&own) {
            return;
        }
        turn.waking.push(own);
        while let Some(call) = turn.calls.pop_front() {
            drop(turn);
            self.count.fetch_sub(1, Ordering::SeqCst);
            let waker = call.lock().take();
            waker.into_iter().for_each(wake);
            drop(call);
            turn = self.lock();
        }
        turn.waking.retain(|thread| *thread != own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, PartialEq)]
    enum Habit {
        Polls,
        Drops,
        Panics,
    }

    /// A listener, and what its executor does with it when it is woken.
    struct Woken {
        habit: Habit,
        listener: Mutex<Option<FutureListener>>,
        woken: AtomicUsize,
        done: AtomicUsize,
    }

    impl Woken {
        fn on(event: &FutureEvent, habit: Habit) -> Arc<Woken> {
            let listener = Mutex::new(Some(event.listen()));
            let woken = Woken { habit, listener, woken: AtomicUsize::new(0), done: AtomicUsize::new(0) };
            let woken = Arc::new(woken);
            woken.poll();
            woken
        }

        fn poll(self: &Arc<Self>) {
            let waker = Waker::from(Arc::clone(self));
            let Some(mut listener) = self.listener.lock().unwrap().take() else { return };
            match Pin::new(&mut listener).poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(()) => _ = self.done.fetch_add(1, Ordering::SeqCst),
                Poll::Pending => *self.listener.lock().unwrap() = Some(listener),
            }
        }
    }

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.woken.fetch_add(1, Ordering::SeqCst);
            match self.habit {
                Habit::Polls => self.poll(),
                Habit::Drops => drop(self.listener.lock().unwrap().take()),
                Habit::Panics => panic!("a waker that panics, on purpose"),
            }
        }
    }

    #[test]
    fn whoever_is_called_may_poll_at_once() {
        let event = FutureEvent::default();
        let all: Vec<_> = (0..3).map(|_| Woken::on(&event, Habit::Polls)).collect();
        event.call_one();
        let done = || all.iter().map(|one| one.done.load(Ordering::SeqCst)).sum::<usize>();
        assert_eq!(done(), 1);
        event.call_all();
        assert_eq!(done(), 3);
    }

    #[test]
    fn whoever_is_called_and_does_not_come_calls_the_next() {
        let event = FutureEvent::default();
        let gone: Vec<_> = (0..2_000).map(|_| Woken::on(&event, Habit::Drops)).collect();
        let last = Woken::on(&event, Habit::Polls);
        event.call_one();
        assert!(gone.iter().all(|one| one.woken.load(Ordering::SeqCst) == 1));
        assert_eq!(last.done.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_waker_that_panics_stops_nobody() {
        let event = FutureEvent::default();
        let (first, last) = (Woken::on(&event, Habit::Panics), Woken::on(&event, Habit::Polls));
        event.call_all();
        assert_eq!(first.woken.load(Ordering::SeqCst), 1);
        assert_eq!(last.done.load(Ordering::SeqCst), 1);
        // Nobody waits any more.
        event.call_one();
    }
}
