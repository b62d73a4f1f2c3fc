//! One run: the threads that send, the thread that judges, and whoever looks
//! at the clock and adds up.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Result;
use super::arrivals::Arrivals;
use super::check::{Judge, Judged};
use super::feed::{Feed, FeedSettings};
use super::histogram_log::HistogramLog;
use super::issue::Issuing;
use super::machine;
use super::mix::Operation;
use super::report::{FORMAT, Interval, Quantiles, Report, Totals, operations};
use super::target::Target;
use super::window::Window;

/// What is run.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) title: String,
    pub(crate) feed: FeedSettings,
    /// Threads that send.
    pub(crate) threads: usize,
    /// From the start, left out of the totals.
    pub(crate) warm_up: Duration,
    pub(crate) interval: Duration,
    /// An answer later than this is no use.
    pub(crate) useful_within: Option<Duration>,
    /// What the report says was set, besides what stands here.
    pub(crate) notes: BTreeMap<String, String>,
}

/// What a run leaves.
pub(crate) struct Outcome {
    pub(crate) report: Report,
    /// The histograms of every stretch, one for each operation, as an HdrHistogram log.
    pub(crate) log: Vec<u8>,
    /// The keys that the next run on the same target finds: from, and up to.
    pub(crate) keys: (u64, u64),
}

/// Runs a scenario; `watch` is told of every stretch as it ends.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn run(
    scenario: &Scenario,
    target: &dyn Target,
    judge: Option<&Judge>,
    watch: &mut dyn FnMut(&Interval),
) -> Result<Outcome> {
    let machine = machine::describe();
    let clients = match scenario.feed.arrivals {
        Arrivals::Closed { clients } => Some(clients.div_ceil(scenario.threads).max(1)),
        _ => None,
    };
    let shared = Issuing {
        target,
        feed: Feed::new(scenario.feed),
        started: Instant::now(),
        clients,
        limit_ns: scenario.useful_within.map_or(u64::MAX, |limit| limit.as_nanos() as u64),
        stop: AtomicBool::new(false),
    };
    let windows: Vec<Mutex<Window>> = (0..scenario.threads).map(|_| Mutex::default()).collect();
    let judging = AtomicBool::new(true);
    let gathered = thread::scope(|scope| -> Result<Gathered> {
        let mut senders = Vec::new();
        for (number, window) in windows.iter().enumerate() {
            let builder = thread::Builder::new().name(format!("load-{number}"));
            senders.push(builder.spawn_scoped(scope, || shared.run(window))?);
        }
        if let Some(judge) = judge {
            let work = || while judge.work(Duration::from_millis(20)) || judging.load(Ordering::Relaxed) {};
            thread::Builder::new().name("load-judge".to_owned()).spawn_scoped(scope, work)?;
        }
        let mut gathered = Gathered::new(scenario, &shared, &windows, judge);
        loop {
            thread::sleep(gathered.until_next());
            // Asked before the interval is closed: the last one has all that was done.
            let is_over = senders.iter().all(thread::ScopedJoinHandle::is_finished);
            watch(gathered.close_interval());
            if is_over {
                break;
            }
        }
        judging.store(false, Ordering::Relaxed);
        gathered.report.totals.threads = machine::threads();
        Ok(gathered)
    })?;
    Ok(gathered.finish(machine, target.describe(), judge))
}

/// What was added up so far.
struct Gathered<'a> {
    scenario: &'a Scenario,
    shared: &'a Issuing<'a>,
    sources: &'a [Mutex<Window>],
    judge: Option<&'a Judge>,
    report: Report,
    log: HistogramLog,
    total: Window,
    judged: Judged,
    last_s: f64,
    worked_s: f64,
}

impl<'a> Gathered<'a> {
    fn new(
        scenario: &'a Scenario,
        shared: &'a Issuing<'a>,
        sources: &'a [Mutex<Window>],
        judge: Option<&'a Judge>,
    ) -> Gathered<'a> {
        Gathered {
            scenario,
            shared,
            sources,
            judge,
            report: Report { format: FORMAT, title: scenario.title.clone(), ..Report::default() },
            log: HistogramLog::default(),
            total: Window::default(),
            judged: Judged::default(),
            last_s: 0.0,
            worked_s: machine::worked_seconds(),
        }
    }

    fn until_next(&self) -> Duration {
        let next = (self.report.intervals.len() as u32 + 1) * self.scenario.interval;
        next.saturating_sub(self.shared.started.elapsed()).max(Duration::from_millis(1))
    }

    /// Takes what the threads measured since the last time.
    fn close_interval(&mut self) -> &Interval {
        let mut window = Window::default();
        for source in self.sources {
            window.add(&std::mem::take(&mut *source.lock().unwrap_or_else(PoisonError::into_inner)));
        }
        let judged = self.judge.map(Judge::take).unwrap_or_default();
        let at_s = self.shared.started.elapsed().as_secs_f64();
        let worked_s = machine::worked_seconds();
        let (offered, skipped) = self.shared.feed.counts();
        let gauges = self.shared.target.gauges();
        let seconds = (at_s - self.last_s).max(1e-9);
        let interval = Interval {
            at_s,
            seconds,
            warm_up: at_s <= self.scenario.warm_up.as_secs_f64() + 1e-3,
            offered,
            skipped,
            done: window.sum(|of| of.done),
            good: window.sum(|of| of.good),
            refused: window.sum(|of| of.refused),
            failed: window.sum(|of| of.failed),
            latency: Quantiles::of(&window.all(|of| &of.latency)),
            search: Quantiles::of(&window.operations[Operation::Search as usize].latency),
            fresh: Quantiles::of(&window.fresh),
            recall: judged.recall(),
            resident_mb: machine::resident_bytes() as f64 / 1e6,
            counted_mb: gauges.bytes as f64 / 1e6,
            rows: gauges.rows,
            tail: gauges.tail,
            queued: gauges.queued,
            in_flight: self.shared.feed.in_flight(),
            cores: (worked_s - self.worked_s) / seconds,
        };
        (self.last_s, self.worked_s) = (at_s, worked_s);
        if !interval.warm_up {
            self.add_to_totals(&interval);
            self.total.add(&window);
            self.judged.add(&judged);
        }
        self.log.add(self.last_s - seconds, seconds, &window);
        self.report.intervals.push(interval);
        // Pushed the line before.
        &self.report.intervals[self.report.intervals.len() - 1]
    }

    fn add_to_totals(&mut self, interval: &Interval) {
        let totals = &mut self.report.totals;
        if totals.seconds == 0.0 {
            totals.resident_first_mb = interval.resident_mb;
        }
        totals.cores += interval.cores * interval.seconds;
        totals.seconds += interval.seconds;
        totals.offered += interval.offered;
        totals.done += interval.done;
        totals.good += interval.good;
        totals.refused += interval.refused;
        totals.skipped += interval.skipped;
        totals.failed += interval.failed;
        totals.resident_last_mb = interval.resident_mb;
        totals.resident_most_mb = totals.resident_most_mb.max(interval.resident_mb);
    }

    fn finish(mut self, machine: String, target: String, judge: Option<&Judge>) -> Outcome {
        // The judge may have been behind.
        self.judged.add(&judge.map(Judge::take).unwrap_or_default());
        let (total, judged) = (&self.total, &self.judged);
        let totals = Totals {
            unfinished: total.unfinished,
            short: total.sum(|of| of.short),
            latency: Quantiles::of(&total.all(|of| &of.latency)),
            delay: Quantiles::of(&total.delay),
            refusal: Quantiles::of(&total.all(|of| &of.refusal)),
            fresh: Quantiles::of(&total.fresh),
            missing: total.missing,
            recall: judged.recall(),
            judged: judged.answers,
            judged_again: judged.asked_again,
            wrong_hits: judged.wrong,
            cores: self.report.totals.cores / self.report.totals.seconds.max(1e-9),
            ..self.report.totals
        };
        let report = Report {
            target,
            machine,
            settings: settings(self.scenario),
            operations: operations(total),
            totals,
            ..self.report
        };
        Outcome { report, log: self.log.into_bytes(), keys: self.shared.feed.keys() }
    }
}

fn settings(scenario: &Scenario) -> BTreeMap<String, String> {
    let feed = &scenario.feed;
    let mut settings = scenario.notes.clone();
    let mut set = |name: &str, value: String| drop(settings.insert(name.to_owned(), value));
    set("arrivals", feed.arrivals.describe());
    set("seconds", feed.length.as_secs_f64().to_string());
    set("warm-up", scenario.warm_up.as_secs_f64().to_string());
    set("mix", feed.mix.describe());
    set("keys", format!("{:?}", feed.keys));
    set("queries", format!("{:?} of {}", feed.queries, feed.query_count));
    set("loaded", (feed.newest - feed.oldest).to_string());
    set("threads", scenario.threads.to_string());
    set("in-flight", feed.cap.to_string());
    set("seed", feed.seed.to_string());
    if let Some(limit) = scenario.useful_within {
        set("useful-within-ms", (limit.as_secs_f64() * 1e3).to_string());
    }
    settings
}
