//! Where long work lets others go first.
//!
//! Training, absorbing and calibrating take milliseconds to seconds, on threads that give way to searches. A
//! system that hands out processors in slices of some milliseconds does not take one away
//! because a thread of higher priority has woken: searches wait until the slice ends. So long loops call
//! [`pause`] every few microseconds up to some hundred, and the thread that they run on
//! decides what comes of it: those of the pool have asked for a call
//! ([`on_pause`]), all others have not, and for them it costs a look at a variable.

use std::cell::Cell;

thread_local! {
    static HOOK: Cell<Option<fn()>> = const { Cell::new(None) };
}

/// A moment at which this thread can do without the processor.
#[inline]
pub(crate) fn pause() {
    if let Some(hook) = HOOK.get() {
        hook();
    }
}

/// From here on `hook` is called at each pause of this thread.
pub(crate) fn on_pause(hook: fn()) {
    HOOK.set(Some(hook));
}

/// How often this thread pauses during some work.
#[cfg(test)]
pub(crate) fn pauses_of(work: impl FnOnce()) -> usize {
    thread_local! {
        static PAUSES: Cell<usize> = const { Cell::new(0) };
    }
    PAUSES.set(0);
    let before = HOOK.replace(Some(|| PAUSES.set(PAUSES.get() + 1)));
    work();
    HOOK.set(before);
    PAUSES.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_thread_that_asked_is_called() {
        let paused = pauses_of(|| {
            pause();
            std::thread::scope(|scope| drop(scope.spawn(pause)));
            pause();
        });
        assert_eq!(paused, 2);
        pause();
    }
}
