//! What time it is, handed in by whoever starts the engine.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Tells an engine the time: [`EngineBuilder::clock`](crate::EngineBuilder::clock).
///
/// Engines use the system's clocks unless they are given another, which is for
/// tests and simulations: see [`ManualClock`].
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time since some fixed moment; it never goes back. Deadlines are
    /// measured with it. Called from the loops of searches that have a
    /// deadline, so it should take nanoseconds.
    fn elapsed(&self) -> Duration;

    /// The time since the Unix epoch, 1970-01-01. Records expire by it. Should
    /// it go back, the engine takes the latest time that it was told.
    fn unix_time(&self) -> Duration;
}

/// The wall clock of an engine, which never goes back.
#[derive(Debug)]
pub(crate) struct Wall {
    clock: Arc<dyn Clock>,
    latest: AtomicI64,
}

impl Wall {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Wall {
        Wall { clock, latest: AtomicI64::new(0) }
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Microseconds since the Unix epoch, whole milliseconds: so searches of the
    /// same moment share what has expired. Writes only when there is a new one.
    pub(crate) fn now(&self) -> i64 {
        let now = micros(self.clock.unix_time()) / 1_000 * 1_000;
        let latest = self.latest.load(Ordering::Relaxed);
        if now <= latest {
            return latest;
        }
        self.latest.fetch_max(now, Ordering::Relaxed).max(now)
    }

    /// So long from now, and now; the end of all times is never reached.
    pub(crate) fn after(&self, span: Duration) -> (i64, i64) {
        let now = self.now();
        (now.saturating_add(micros(span)).min(i64::MAX - 1), now)
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// A clock that stands still until it is told to go on.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use vecino::{Clock, Engine, ManualClock};
///
/// let clock = Arc::new(ManualClock::default());
/// let engine = Engine::builder().clock(clock.clone()).build()?;
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.elapsed(), Duration::from_secs(60));
/// # engine.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct ManualClock {
    nanoseconds: AtomicU64,
}

impl ManualClock {
    /// Moves the time on.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        let later = |now: u64| Some(now.saturating_add(by));
        let _ = self.nanoseconds.fetch_update(Ordering::AcqRel, Ordering::Acquire, later);
    }
}

impl Clock for ManualClock {
    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.load(Ordering::Acquire))
    }

    /// The same: the clock begins at the Unix epoch.
    fn unix_time(&self) -> Duration {
        self.elapsed()
    }
}
