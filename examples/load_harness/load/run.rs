//! One run: the threads that send, the thread that judges, and whoever looks
//! at the clock and adds up.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Result;
use super::arrivals::Arrivals;
use super::check::{Judge, Judged};
use super::feed::{Counts, Feed, FeedSettings};
use super::histogram_log::HistogramLog;
use super::issue::Issuing;
use super::machine;
use super::mix::Operation;
use super::report::{FORMAT, Interval, Quantiles, Report, Totals, operations};
use super::target::{Target, Unsupported};
use super::window::Window;

/// Senders have come to their end so long after the length of a run, when
/// nothing is late.
const END: Duration = Duration::from_millis(2);

/// How long requests that are under way at the end are waited for.
const DRAIN: Duration = Duration::from_secs(10);

/// A second stream of requests with threads of its own: a writer that never
/// rests, say. Only one of the two streams may insert or delete, since each
/// counts its keys by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beside {
    pub(crate) feed: FeedSettings,
    pub(crate) threads: usize,
}

/// What is run.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) title: String,
    pub(crate) feed: FeedSettings,
    /// Threads that send.
    pub(crate) threads: usize,
    pub(crate) beside: Option<Beside>,
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

/// The streams of a scenario, each with its threads.
fn streams(scenario: &Scenario) -> Vec<(FeedSettings, usize)> {
    let beside = scenario.beside.map(|beside| (beside.feed, beside.threads));
    [(scenario.feed, scenario.threads)].into_iter().chain(beside).collect()
}

fn issuing<'t>(scenario: &Scenario, target: &'t dyn Target) -> Vec<Issuing<'t>> {
    let started = Instant::now();
    let limit_ns = scenario.useful_within.map_or(u64::MAX, |limit| limit.as_nanos() as u64);
    let of = |(feed, threads): (FeedSettings, usize)| {
        let clients = match feed.arrivals {
            Arrivals::Closed { clients } => Some(clients.div_ceil(threads).max(1)),
            _ => None,
        };
        let (feed, stop) = (Feed::new(feed), AtomicBool::new(false));
        Issuing { target, feed, started, clients, limit_ns, patience: DRAIN, stop }
    };
    streams(scenario).into_iter().map(of).collect()
}

fn check_that_all_is_supported(scenario: &Scenario, target: &dyn Target) -> Result<()> {
    for (operation, name) in streams(scenario).iter().flat_map(|(feed, _)| feed.mix.used()) {
        if let Some(why) = target.lacks(operation) {
            return Err(Unsupported { target: target.describe(), operation: name, why }.into());
        }
    }
    let changes_keys =
        |(feed, _): &&(FeedSettings, usize)| feed.mix.used().any(|(of, _)| KEYED.contains(&of));
    if streams(scenario).iter().filter(changes_keys).count() > 1 {
        return Err(
            "only one of two streams may insert, batch or delete: they would take the same keys".into()
        );
    }
    Ok(())
}

/// What takes the next key, or the oldest.
const KEYED: [Operation; 3] = [Operation::Insert, Operation::Batch, Operation::Delete];

/// Does something when it is dropped, also when a panic or an error is why.
pub(crate) struct AtEnd<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Judges until nobody sends any more and nothing is left.
fn judge_while(sending: &AtomicUsize, judge: &Judge<'_>) {
    while judge.work(Duration::from_millis(20)) || sending.load(Ordering::SeqCst) > 0 {}
}

/// One of those who may hand something in, until it is dropped.
fn one_more(sending: &AtomicUsize) -> AtEnd<impl FnMut() + Send> {
    sending.fetch_add(1, Ordering::SeqCst);
    AtEnd(|| {
        sending.fetch_sub(1, Ordering::SeqCst);
    })
}

/// Runs a scenario; `watch` is told of every stretch as it ends.
///
/// # Errors
/// When the target lacks an operation of the mix ([`Unsupported`]), or the
/// system gives no thread.
pub(crate) fn run(
    scenario: &Scenario,
    target: &dyn Target,
    judge: Option<&Judge<'_>>,
    watch: &mut dyn FnMut(&Interval),
) -> Result<Outcome> {
    check_that_all_is_supported(scenario, target)?;
    let machine = machine::describe();
    let streams = issuing(scenario, target);
    let threads = scenario.threads + scenario.beside.map_or(0, |beside| beside.threads);
    let windows: Vec<Mutex<Window>> = (0..threads).map(|_| Mutex::default()).collect();
    let sending = AtomicUsize::new(0);
    let gathered = thread::scope(|scope| -> Result<Gathered> {
        // Whatever happens here, all others come to their end.
        let _stop = AtEnd(|| streams.iter().for_each(|stream| stream.stop.store(true, Ordering::Relaxed)));
        let _started = one_more(&sending);
        if let Some(judge) = judge {
            let builder = thread::Builder::new().name("load-judge".to_owned());
            builder.spawn_scoped(scope, || judge_while(&sending, judge))?;
        }
        let mut senders = Vec::new();
        for (number, window) in windows.iter().enumerate() {
            let stream = &streams[usize::from(number >= scenario.threads)];
            let builder = thread::Builder::new().name(format!("load-{number}"));
            let sends = one_more(&sending);
            senders.push(builder.spawn_scoped(scope, move || {
                let _sends = sends;
                stream.run(window);
            })?);
        }
        let mut gathered = Gathered::new(scenario, &streams, &windows, judge);
        loop {
            thread::sleep(gathered.until_next());
            // Asked before the interval is closed: the last one has all that was done.
            let is_over = senders.iter().all(thread::ScopedJoinHandle::is_finished);
            watch(gathered.close_interval());
            if is_over {
                break;
            }
        }
        gathered.report.totals.threads = machine::threads();
        Ok(gathered)
    })?;
    Ok(gathered.finish(machine, target.describe(), judge))
}

/// What was added up so far.
struct Gathered<'a, 'd> {
    scenario: &'a Scenario,
    streams: &'a [Issuing<'a>],
    sources: &'a [Mutex<Window>],
    judge: Option<&'a Judge<'d>>,
    report: Report,
    log: HistogramLog,
    total: Window,
    counts: Counts,
    judged: Judged,
    /// Where the last stretch ended.
    last: Duration,
    worked_s: f64,
}

impl<'a, 'd> Gathered<'a, 'd> {
    fn new(
        scenario: &'a Scenario,
        streams: &'a [Issuing<'a>],
        sources: &'a [Mutex<Window>],
        judge: Option<&'a Judge<'d>>,
    ) -> Gathered<'a, 'd> {
        Gathered {
            scenario,
            streams,
            sources,
            judge,
            report: Report { format: FORMAT, title: scenario.title.clone(), ..Report::default() },
            log: HistogramLog::default(),
            total: Window::default(),
            counts: Counts::default(),
            judged: Judged::default(),
            last: Duration::ZERO,
            worked_s: machine::worked_seconds(),
        }
    }

    fn until_next(&self) -> Duration {
        let interval = self.scenario.interval.max(Duration::from_millis(1));
        let ended = (self.last.as_nanos() / interval.as_nanos()) as u32;
        // The last stretch is not longer than the run, or its rates would be too
        // low; and none has a part of the warm-up.
        let cuts = [self.scenario.feed.length + END, self.scenario.warm_up];
        let cuts = cuts.into_iter().filter(|cut| *cut > self.last);
        let next = cuts.fold((ended + 1) * interval, Duration::min);
        next.saturating_sub(self.elapsed()).max(Duration::from_millis(1))
    }

    /// Since the start, which all streams share.
    fn elapsed(&self) -> Duration {
        self.streams.first().map_or(Duration::ZERO, |stream| stream.started.elapsed())
    }

    /// Requests that came since the last call.
    fn new_counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.streams.iter().for_each(|stream| counts.add(&stream.feed.counts()));
        counts
    }

    /// The keys that the next run on the same target finds.
    fn keys(&self) -> (u64, u64) {
        let keys = self.streams.iter().map(|stream| stream.feed.keys());
        keys.fold((0, 0), |most, of| (most.0.max(of.0), most.1.max(of.1)))
    }

    /// Takes what the threads measured since the last time.
    fn close_interval(&mut self) -> &Interval {
        let mut window = Window::default();
        for source in self.sources {
            window.add(&std::mem::take(&mut *source.lock().unwrap_or_else(PoisonError::into_inner)));
        }
        let judged = self.judge.map(Judge::take).unwrap_or_default();
        let at = self.elapsed();
        let at_s = at.as_secs_f64();
        let worked_s = machine::worked_seconds();
        let counts = self.new_counts();
        let gauges = self.streams.first().map(|stream| stream.target.gauges()).unwrap_or_default();
        let seconds = at.saturating_sub(self.last).as_secs_f64().max(1e-9);
        let interval = Interval {
            at_s,
            seconds,
            warm_up: self.last < self.scenario.warm_up,
            offered: counts.offered(),
            skipped: counts.skipped,
            done: window.sum(|of| of.done),
            good: window.sum(|of| of.good),
            refused: window.sum(|of| of.refused),
            failed: window.sum(|of| of.failed),
            latency: Quantiles::of(&window.all(|of| &of.latency)),
            search: Quantiles::of(&window.searches()),
            fresh: Quantiles::of(&window.fresh),
            recall: judged.recall(),
            resident_mb: machine::resident_bytes() as f64 / 1e6,
            counted_mb: gauges.bytes as f64 / 1e6,
            rows: gauges.rows,
            tail: gauges.tail,
            queued: gauges.queued,
            in_flight: self.streams.iter().map(|stream| stream.feed.in_flight()).sum(),
            cores: (worked_s - self.worked_s) / seconds,
        };
        let start_s = self.last.as_secs_f64();
        (self.last, self.worked_s) = (at, worked_s);
        if !interval.warm_up {
            self.add_to_totals(&interval);
            self.total.add(&window);
            self.counts.add(&counts);
            self.judged.add(&judged);
        }
        self.log.add(start_s, seconds, &window);
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
        let length_s = self.scenario.feed.length.as_secs_f64();
        totals.due_seconds += (interval.seconds - (interval.at_s - length_s).max(0.0)).max(0.0);
        totals.offered += interval.offered;
        totals.done += interval.done;
        totals.good += interval.good;
        totals.refused += interval.refused;
        totals.skipped += interval.skipped;
        totals.failed += interval.failed;
        totals.resident_last_mb = interval.resident_mb;
        totals.resident_most_mb = totals.resident_most_mb.max(interval.resident_mb);
    }

    fn finish(mut self, machine: String, target: String, judge: Option<&Judge<'_>>) -> Outcome {
        // The judge may have been behind.
        self.judged.add(&judge.map(Judge::take).unwrap_or_default());
        let (total, judged) = (&self.total, &self.judged);
        let totals = Totals {
            unfinished: total.unfinished,
            short: total.sum(|of| of.short),
            latency: Quantiles::of(&total.all(|of| &of.latency)),
            search: Quantiles::of(&total.searches()),
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
        let keys = self.keys();
        let report = Report {
            target,
            machine,
            settings: settings(self.scenario, judge),
            operations: operations(total, &self.counts),
            totals,
            ..self.report
        };
        Outcome { report, log: self.log.into_bytes(), keys }
    }
}

fn settings(scenario: &Scenario, judge: Option<&Judge<'_>>) -> BTreeMap<String, String> {
    let feed = &scenario.feed;
    let mut settings = scenario.notes.clone();
    let mut set = |name: &str, value: String| drop(settings.insert(name.to_owned(), value));
    set("arrivals", feed.arrivals.describe());
    set("seconds", feed.length.as_secs_f64().to_string());
    set("warm-up", scenario.warm_up.as_secs_f64().to_string());
    set("interval", scenario.interval.as_secs_f64().to_string());
    let judged = match judge {
        None => "nothing",
        Some(judge) if judge.is_strict() => "all that is handed in: senders wait",
        Some(_) => "what there is time for",
    };
    set("judged", judged.to_owned());
    set("mix", feed.mix.describe());
    set("keys", format!("{:?}", feed.keys));
    set("queries", format!("{:?} of {}", feed.queries, feed.query_count));
    set("loaded", (feed.newest - feed.oldest).to_string());
    set("threads", scenario.threads.to_string());
    set("in-flight", feed.cap.to_string());
    set("seed", feed.seed.to_string());
    if let Some(beside) = scenario.beside {
        let (feed, threads) = (beside.feed, beside.threads);
        set("beside", format!("{}, {}, {threads} threads", feed.arrivals.describe(), feed.mix.describe()));
    }
    if let Some(limit) = scenario.useful_within {
        set("useful-within-ms", (limit.as_secs_f64() * 1e3).to_string());
    }
    settings
}
