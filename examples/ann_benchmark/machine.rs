//! What the measurements need of the machine: pinning, resident memory, and
//! the arithmetic of timings. Where a system has no such call, nothing happens.

use std::time::Instant;

/// CPUs that one-thread runs, and the rest, are pinned to.
pub(super) const ONE: &[usize] = &[1];
pub(super) const OTHER: &[usize] = &[0];
pub(super) const BOTH: &[usize] = &[0, 1];

/// Pins every thread of this process; threads started later inherit it.
pub(super) fn pin_process(cpus: &[usize]) {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    for task in tasks.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        pin(task, cpus);
    }
}

/// Pins the calling thread.
pub(super) fn pin_thread(cpus: &[usize]) {
    pin(0, cpus);
}

#[cfg(target_os = "linux")]
fn pin(thread: i32, cpus: &[usize]) {
    // A machine with one CPU has nothing to pin to: the call then fails and
    // everything stays as it was.
    // SAFETY: an all-zero `cpu_set_t` is the empty set, and the kernel reads
    // exactly the size that is passed.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for cpu in cpus {
            libc::CPU_SET(*cpu, &mut set);
        }
        libc::sched_setaffinity(thread, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

#[cfg(not(target_os = "linux"))]
fn pin(_thread: i32, _cpus: &[usize]) {}

/// Seconds that the calling thread has worked; NaN where the system does not say.
pub(super) fn worked_seconds() -> f64 {
    #[cfg(target_os = "linux")]
    // SAFETY: the call fills the structure that it is handed.
    unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    }
    #[cfg(not(target_os = "linux"))]
    f64::NAN
}

/// Resident memory in megabytes, after giving free memory back to the system;
/// NaN where the system does not say.
pub(super) fn resident_mb() -> f64 {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kilobytes.map_or(f64::NAN, |kilobytes| kilobytes * 1024.0 / 1e6)
}

/// Times of single calls, in microseconds.
#[derive(Clone, Default)]
pub(super) struct Times {
    micros: Vec<f64>,
}

impl Times {
    pub(super) fn measure<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = call();
        self.micros.push(started.elapsed().as_secs_f64() * 1e6);
        result
    }

    pub(super) fn len(&self) -> usize {
        self.micros.len()
    }

    pub(super) fn sum_seconds(&self) -> f64 {
        self.micros.iter().sum::<f64>() / 1e6
    }

    /// The time that this share of the calls does not exceed.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.micros.clone();
        sorted.sort_by(f64::total_cmp);
        let at = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
        sorted.get(at).copied().unwrap_or(f64::NAN)
    }
}

/// The middle one; NaN of none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
