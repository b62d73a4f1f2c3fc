//! What a thread asks of the system: to give way to others, to be let in at once
//! for little, to stay on a CPU, and how long it has worked. The only home of
//! rustix and libc.

use std::time::Duration;

/// How nice the pool's threads and the keeper of the files are: searches on the callers' threads and the
/// workers go first, and the pool still gets about a tenth of a core that is
/// fully taken.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// A turn on a CPU that is shared, of a thread that works in short pieces: long
/// enough for a piece of a worker or the coordinator (tens of microseconds), and
/// shorter than the system's usual 1.4 to 3 ms. Linux lets whoever asks for a
/// shorter turn in when it wakes, and lets nobody in before a turn is over: with
/// usual turns, an insert waits for a searching thread's to end, and a search for
/// the pool's.
#[cfg(target_os = "linux")]
const TURN: Duration = Duration::from_micros(250);

/// Asks for short turns, for a thread of usual policy. Linux has them since
/// 6.12; before that, and where it is forbidden, turns stay as they are.
pub(crate) fn take_short_turns() {
    #[cfg(target_os = "linux")]
    if let Err(error) = set_turn(TURN) {
        tracing::debug!(%error, "a thread has turns of usual length");
    }
}

#[cfg(target_os = "linux")]
#[expect(clippy::cast_possible_truncation, reason = "a structure of 48 bytes, a turn below a second")]
fn set_turn(turn: Duration) -> std::io::Result<()> {
    let size = size_of::<libc::sched_attr>() as u32;
    let mut attributes = libc::sched_attr {
        size,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: thread 0 is this one; the system writes at most `size` bytes to a
    // structure of that size, which is borrowed for the call alone.
    let read = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    if read != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // Another policy is somebody's choice.
    if attributes.sched_policy != libc::SCHED_OTHER as u32 {
        return Ok(());
    }
    (attributes.size, attributes.sched_flags) = (size, 0);
    attributes.sched_runtime = turn.as_nanos() as u64;
    // SAFETY: the system reads `size` bytes of a structure of that size; it
    // changes when this thread runs and nothing else.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if set == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Lets other threads go first. On Linux the priority belongs to the thread.
pub(crate) fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "the pool runs at normal priority");
    }
    take_short_turns();
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_gives_way_is_nicer_than_who_started_it_and_takes_short_turns() {
        let before = rustix::process::getpriority_process(None).unwrap();
        let ask = || {
            give_way();
            (rustix::process::getpriority_process(None).unwrap(), set_turn(TURN).is_ok())
        };
        let asked = std::thread::Builder::new().name("vecino-asks".to_owned()).spawn(ask).unwrap();
        let (nice, turn) = asked.join().unwrap();
        assert_eq!(nice, before.max(NICE));
        assert!(turn, "short turns are refused");
        assert_eq!(
            rustix::process::getpriority_process(None).unwrap(),
            before,
            "whoever started it is as before"
        );
    }
}
