//! What a thread asks of the system: to give way to others, to stay on a CPU,
//! and how long it has worked. The only home of rustix.

use std::time::Duration;

use super::yielding;
use crate::pause::on_pause;

/// How nice the pool's threads and the keeper of the files are: searches on the callers' threads and the
/// workers go first, and the pool still gets about a tenth of a core that is
/// fully taken, less what it [yields](super::yielding).
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Lets other threads go first: by its priority, which on Linux belongs to the thread, and where its
/// work [pauses](crate::pause).
pub(crate) fn give_way() {
    on_pause(yielding::pause);
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "the pool runs at normal priority");
    }
}

/// Keeps this thread on one CPU; where that cannot be done it goes on anywhere.
pub(crate) fn stay_on(cpu: usize) {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_setaffinity};
        let mut only = CpuSet::new();
        if cpu < CpuSet::MAX_CPU {
            only.set(cpu);
        }
        if let Err(error) = sched_setaffinity(None, &only) {
            tracing::warn!(cpu, %error, "a worker is not pinned");
        }
    }
    #[cfg(not(target_os = "linux"))]
    tracing::warn!(cpu, "a worker is not pinned: only on Linux");
}

/// The time that this thread has worked, not counting waits for a core: a
/// thread that gives way to others measures as one that does not. Since some
/// moment that is the same for all calls on a thread; elsewhere than on Linux
/// waits count too.
#[cfg(target_os = "linux")]
pub(super) fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn worked() -> Duration {
    use std::sync::LazyLock;
    use std::time::Instant;

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}
