//! What time it is, handed in by whoever starts the engine.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
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
        let _ = self.nanoseconds.try_update(Ordering::AcqRel, Ordering::Acquire, |now| now.checked_add(by));
    }
}

impl Clock for ManualClock {
    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.load(Ordering::Acquire))
    }
}
