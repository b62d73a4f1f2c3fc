//! Recall against speed, from a narrow search to a broad one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use vecino::{Answer, Collection, Query};

use super::arguments::{Arguments, Index};
use super::data::Data;
use super::machine::{self, Times, median};
use super::{Result, create, fill, line};

const PASSES: usize = 3;
/// A pass that takes longer than this is not repeated.
const LONG: Duration = Duration::from_secs(3);
/// The sweep ends at this recall.
const ENOUGH: f64 = 0.9985;
/// For so long a collection may go on giving memory back after it was built.
const REST: Duration = Duration::from_secs(1);
/// No further point is begun after this long.
const BUDGET: Duration = Duration::from_secs(90);

pub(super) fn run(arguments: &Arguments, data: &Data) -> Result<()> {
    let before = machine::resident_mb();
    let (engine, items) = create(arguments, data)?;
    let seconds = fill(&items, data, data.rows(), false)?;
    let counted = at_rest(&items);
    let memory = machine::resident_mb() - before;
    line("build", arguments, data)
        .whole("threads", arguments.threads)
        .number("build_s", seconds, 2)
        .number("rss_mb", memory, 1)
        .number("counted_mb", counted as f64 / 1e6, 1)
        .number("raw_mb", (data.rows() * data.dim * 4) as f64 / 1e6, 1)
        .emit(arguments.out.as_deref())?;

    let started = Instant::now();
    for breadth in breadths(arguments) {
        if started.elapsed() > BUDGET {
            println!("the time for the sweep is used up");
            break;
        }
        if point(arguments, data, &items, breadth)? >= ENOUGH {
            break;
        }
    }
    engine.close()?;
    Ok(())
}

/// Bytes that a collection says it holds, once it has let go of what its index was made from.
fn at_rest(items: &Collection) -> usize {
    let started = Instant::now();
    let mut least = usize::MAX;
    while started.elapsed() < REST {
        least = least.min(items.stats().bytes.total());
        std::thread::sleep(REST / 20);
    }
    least
}

/// Exact search has nothing to vary.
fn breadths(arguments: &Arguments) -> Vec<usize> {
    match arguments.index {
        Index::Flat => vec![0],
        Index::Hnsw => arguments.breadths.iter().copied().filter(|ef| *ef >= arguments.k).collect(),
        Index::Named(_) => arguments.breadths.clone(),
        // The graph keeps candidates enough for k whatever its breadth.
        Index::Graph => arguments.breadths.iter().copied().filter(|ef| 3 * *ef >= arguments.k).collect(),
    }
}

/// Measures one breadth; gives the recall.
fn point(arguments: &Arguments, data: &Data, items: &Collection, breadth: usize) -> Result<f64> {
    let k = arguments.k;
    let query = |at: usize| Query::new(data.query(at)).top(k).ef_search(breadth.max(1));

    machine::pin_process(machine::ONE);
    for at in 0..data.queries().min(200) {
        items.search(&query(at))?;
    }
    let singles = passes(|times| {
        for at in 0..data.queries() {
            times.measure(|| items.search(&query(at)))?;
        }
        Ok(())
    })?;
    let prepared: Vec<Query<'_>> = (0..data.queries()).map(query).collect();
    let snapshot = items.snapshot();
    let mut answers: Vec<Answer> = Vec::new();
    let batches = passes(|times| {
        answers = times.measure(|| snapshot.search_many(&prepared))?;
        Ok(())
    })?;

    machine::pin_process(machine::BOTH);
    two_threads(items, data.queries().min(200), &query)?;
    let pairs = passes(|times| times.measure(|| two_threads(items, data.queries(), &query)))?;

    let recall = data.recall(&answers, k);
    let each = |passes: &[Times], of: fn(&Times) -> f64| median(passes.iter().map(of).collect());
    let rate = |passes: &[Times]| data.queries() as f64 / each(passes, Times::sum_seconds);
    line("point", arguments, data)
        .whole("param", breadth)
        .number("recall", recall, 5)
        .number("qps1_single", rate(&singles), 1)
        .number("qps1_batch", rate(&batches), 1)
        .number("qps2_batch", rate(&pairs), 1)
        .number("p50_us", each(&singles, |times| times.quantile(0.5)), 1)
        .number("p99_us", each(&singles, |times| times.quantile(0.99)), 1)
        .emit(arguments.out.as_deref())?;
    Ok(recall)
}

/// Runs a pass three times, or fewer when one takes long.
fn passes(mut pass: impl FnMut(&mut Times) -> Result<()>) -> Result<Vec<Times>> {
    let mut all = Vec::new();
    while all.len() < PASSES {
        let mut times = Times::default();
        pass(&mut times)?;
        let long = times.sum_seconds() > LONG.as_secs_f64();
        all.push(times);
        if long {
            break;
        }
    }
    Ok(all)
}

/// Queries that one of two threads takes at a time.
const TURN: usize = 32;

/// Answers all queries from two threads that take them in turn.
fn two_threads<'a>(
    items: &Collection,
    queries: usize,
    query: &(impl Fn(usize) -> Query<'a> + Sync),
) -> Result<()> {
    let (next, snapshot) = (AtomicUsize::new(0), items.snapshot());
    let work = || -> Result<()> {
        loop {
            let from = next.fetch_add(TURN, Ordering::Relaxed);
            if from >= queries {
                return Ok(());
            }
            let part: Vec<Query<'_>> = (from..queries.min(from + TURN)).map(query).collect();
            snapshot.search_many(&part)?;
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(work);
        let mine = work();
        let theirs = other.join().map_err(|_| "a searching thread panicked")?;
        mine.and(theirs)
    })
}
