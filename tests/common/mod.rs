//! Helpers of the integration tests: seeded numbers, a naive twin of the
//! engine, a watchdog, a small executor. Standard library only.

#![allow(clippy::print_stderr, reason = "the watchdog says what it ended")]
#![allow(dead_code, reason = "each test program uses a part of this")]

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use vecino::{
    Answer, AutoConfig, GraphConfig, HnswConfig, IndexSpec, IvfConfig, IvfStorage, Metric, Quantization,
    RecordId,
};

pub(crate) const METRICS: [Metric; 3] = [Metric::L2, Metric::Cosine, Metric::Dot];

/// How many kinds there are.
pub(crate) const KINDS: usize = 9;

/// Every kind of index, for vectors of any dimension.
pub(crate) fn index_specs() -> [IndexSpec; KINDS] {
    let walked = IndexSpec::Hnsw(HnswConfig::default().quantization(Quantization::Sq8));
    let auto = IndexSpec::Auto(AutoConfig::default().exact_below(400));
    let signs = IndexSpec::flat(Quantization::Binary);
    let codes = IvfStorage::Pq { num_subquantizers: 1, bits_per_code: 4 };
    let coded = IndexSpec::Ivf(IvfConfig::default().storage(codes));
    let trained = IndexSpec::Hnsw(HnswConfig::default().quantization(Quantization::Binary));
    let (graph, hnsw, lists) = (IndexSpec::graph(), IndexSpec::hnsw(), IndexSpec::ivf());
    [IndexSpec::Flat, graph, hnsw, lists, coded, walked, trained, signs, auto]
}

/// Every kind of index and of its codes, graphs such that they take less time to build.
pub(crate) fn quick_specs(ef_construction: usize) -> Vec<IndexSpec> {
    let graph = GraphConfig::default().ef_construction(ef_construction);
    let walked = HnswConfig::default().ef_construction(ef_construction);
    let parsed = ["SQ8", "RaBitQ", "IVF", "IVF,SQ8", "IVF,PQ16x4fs", "PQ16x4fs"];
    let mut specs: Vec<IndexSpec> = parsed.into_iter().map(|text| text.parse().unwrap()).collect();
    specs.extend([
        IndexSpec::Flat,
        IndexSpec::Graph(graph),
        IndexSpec::Hnsw(walked),
        IndexSpec::Hnsw(walked.quantization(Quantization::Sq8)),
        IndexSpec::Hnsw(walked.quantization(Quantization::Binary)),
        IndexSpec::Hnsw(walked.quantization(Quantization::Pq { num_subquantizers: 16, bits_per_code: 4 })),
        IndexSpec::Auto(AutoConfig::default().graph(graph).exact_below(4_000)),
    ]);
    specs
}

/// SplitMix64 (Steele, Lea, Flood): the same numbers from the same seed, everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// From 0 to `end - 1`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// From -1 to 1.
    pub(crate) fn signed(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// One time in `times`.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// Vectors around `clusters` centres: nearest neighbours mean something.
pub(crate) fn clustered(seed: u64, rows: usize, dim: usize, clusters: usize) -> Vec<Vec<f32>> {
    let mut rng = Rng::new(seed);
    let centres: Vec<Vec<f32>> =
        (0..clusters).map(|_| (0..dim).map(|_| rng.signed() * 4.0).collect()).collect();
    let row = |_| {
        let centre = &centres[rng.below(clusters)];
        centre.iter().map(|x| x + rng.signed()).collect()
    };
    (0..rows).map(row).collect()
}

/// Small whole numbers, never all zero: their squared distances and inner
/// products are exact in single precision, so a naive twin can demand equality,
/// and many distances are equal, so ties are exercised too.
pub(crate) fn whole_vector(seed: u64, dim: usize) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    let mut vector: Vec<f32> = (0..dim).map(|_| rng.below(9) as f32 - 4.0).collect();
    if vector.iter().all(|x| *x == 0.0) {
        vector[0] = 1.0;
    }
    vector
}

/// The distance, computed the slow and obvious way.
pub(crate) fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    match metric {
        Metric::L2 => a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum(),
        Metric::Dot => -dot(a, b),
        _ => 1.0 - dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt()),
    }
}

/// What a collection should show.
pub(crate) type State = BTreeMap<RecordId, Vec<f32>>;

/// Checks an answer of an exhaustive search against the state that it should
/// be from: as many hits as there can be, no record twice, distances right,
/// ascending, and those of the nearest.
pub(crate) fn check_exhaustive(metric: Metric, state: &State, query: &[f32], k: usize, answer: &Answer) {
    let tolerance = if metric == Metric::Cosine { 2e-6 } else { 0.0 };
    assert_eq!(answer.len(), k.min(state.len()), "number of hits");
    let mut expected: Vec<f64> = state.values().map(|vector| distance(metric, query, vector)).collect();
    expected.sort_by(f64::total_cmp);
    let mut ids: Vec<&RecordId> = Vec::new();
    for (hit, expected) in answer.hits().iter().zip(&expected) {
        let Some(vector) = state.get(&hit.id) else { panic!("{} was found, but is not there", hit.id) };
        let own = distance(metric, query, vector);
        let found = f64::from(hit.distance);
        assert!((found - own).abs() <= tolerance, "{}: distance {found}, but is {own}", hit.id);
        assert!((found - expected).abs() <= tolerance, "{}: {found}, but a nearer one is {expected}", hit.id);
        ids.push(&hit.id);
    }
    assert!(answer.hits().windows(2).all(|pair| pair[0].distance <= pair[1].distance), "not ascending");
    ids.sort_unstable();
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "a record was found twice");
}

/// A number from the environment, or a default.
pub(crate) fn setting(variable: &str, default: usize) -> usize {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
        Err(_) => default,
    }
}

/// Ends the whole test process when it is not dropped in time: a test that
/// would hang fails.
pub(crate) struct Watchdog {
    _alive: Sender<()>,
}

/// How many times longer watchdogs and [`eventually`] wait: `VECINO_PATIENCE`, for sanitizers.
pub(crate) fn patience() -> u32 {
    setting("VECINO_PATIENCE", 1) as u32
}

/// A watchdog waits so many times what a test was given: it is there for what never ends, and a machine that
/// has much else to do takes several times as long for what does.
const SLOW_MACHINE: u64 = 6;

/// Aborts if the calling test takes many times so many seconds; as many more as `VECINO_PATIENCE` says.
pub(crate) fn watchdog(seconds: u64) -> Watchdog {
    let seconds = seconds * SLOW_MACHINE * u64::from(patience());
    let (alive, ended) = channel::<()>();
    let test = thread::current().name().unwrap_or("test").to_owned();
    let wait = move || {
        if ended.recv_timeout(Duration::from_secs(seconds)) == Err(RecvTimeoutError::Timeout) {
            eprintln!("watchdog: {test} did not end within {seconds} s");
            std::process::abort();
        }
    };
    thread::Builder::new().name("watchdog".to_owned()).spawn(wait).unwrap();
    Watchdog { _alive: alive }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on the calling thread, which sleeps while it waits.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

struct Task {
    woken: AtomicBool,
    executor: Thread,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.executor.unpark();
    }
}

/// Runs many futures on the calling thread, as an executor does: each one is
/// polled whenever it was woken. Tells every output as it comes.
pub(crate) fn drive<'a, T>(
    futures: impl IntoIterator<Item = Pin<Box<dyn Future<Output = T> + 'a>>>,
    mut done: impl FnMut(T),
) {
    let task = || Arc::new(Task { woken: AtomicBool::new(true), executor: thread::current() });
    let mut tasks: Vec<_> = futures.into_iter().map(|future| (task(), future)).collect();
    while !tasks.is_empty() {
        let mut idle = true;
        tasks.retain_mut(|(task, future)| {
            if !task.woken.swap(false, Ordering::SeqCst) {
                return true;
            }
            idle = false;
            let waker = Waker::from(Arc::clone(task));
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(output) => done(output),
                Poll::Pending => return true,
            }
            false
        });
        if idle {
            thread::park();
        }
    }
}

/// Polls a future once, as an executor would that then turns to something else.
pub(crate) fn poll_once<F: Future + ?Sized>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// How long something may take that must happen at some time: far more than it needs, since other tests and
/// other programs may have the processors meanwhile.
const AT_LAST: Duration = Duration::from_secs(60);

/// How long a thread that waits for a condition leaves the processor to others before it looks again.
const LOOK_AGAIN: Duration = Duration::from_micros(50);

/// Looks until the condition holds; panics when it does not within a minute.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < AT_LAST * patience(), "not within {AT_LAST:?}: {what}");
        thread::sleep(LOOK_AGAIN);
    }
}
