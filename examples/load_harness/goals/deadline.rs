//! Deadlines: a search ends at its deadline and says so; one that nobody waits for any
//! more is not worked on.

use std::time::{Duration, Instant};

use vecino::{Collection, CollectionConfig, Completeness, Engine, IndexSpec, Query, Record};

use super::super::arguments::Arguments;
use super::super::load::Result;
use super::super::load::data::Data;
use super::super::load::target::Later;
use super::super::load::tasks::{Tasks, block_on};
use super::super::setup;
use super::Checks;

/// A search may go on for this long beyond its deadline.
const BEYOND_US: f64 = 1_000.0;
/// Searches of each deadline.
const SEARCHES: u64 = 400;
const DEADLINES: [Duration; 4] = [
    Duration::from_micros(20),
    Duration::from_micros(100),
    Duration::from_micros(500),
    Duration::from_millis(2),
];
/// In turn.
const KINDS: [&str; 4] =
    ["exact searches", "walks", "exact searches through the workers", "walks through the workers"];
/// Hits that make a search take long, and a breadth that does.
const HITS: usize = 1_000;
const BREADTH: usize = 10_000;
/// Futures that are dropped.
const DROPPED: u64 = 2_000;
/// How long nothing is published meanwhile.
const HELD_BACK: Duration = Duration::from_millis(400);

pub(super) fn measure(arguments: &Arguments, data: &Data) -> Result<Checks> {
    let mut checks = Checks::new("deadline");
    let target = setup::under_load(arguments, data)?;
    let mut beyond = KINDS.map(|_| Vec::new());
    let mut silent = 0;
    for deadline in DEADLINES {
        for number in 0..SEARCHES {
            let kind = number as usize % KINDS.len();
            let query = Query::new(data.query(number)).top(HITS).deadline(deadline);
            let query = if kind.is_multiple_of(2) { query.exact() } else { query.ef_search(BREADTH) };
            let started = Instant::now();
            let answer = if kind < 2 {
                target.items.search(&query)?
            } else {
                block_on(target.items.search_async(query))?
            };
            let over = started.elapsed().saturating_sub(deadline);
            let is_cut = answer.completeness() == Completeness::Deadline;
            silent += u64::from(!is_cut && answer.len() < HITS.min(target.items.len()));
            if is_cut || !over.is_zero() {
                beyond[kind].push(over.as_secs_f64() * 1e6);
            }
        }
    }
    target.engine.close()?;
    let mut latest = f64::NAN;
    for (kind, mut beyond) in KINDS.into_iter().zip(beyond) {
        beyond.sort_by(f64::total_cmp);
        let late = beyond.get(beyond.len() * 99 / 100).copied().unwrap_or(f64::NAN);
        let what = format!(
            "99 % of {} {kind} that were cut, or late, end after their deadline within",
            beyond.len()
        );
        checks.at_most(&what, BEYOND_US, " us", late);
        latest = beyond.last().copied().unwrap_or(f64::NAN).max(latest);
    }
    checks.at_most("the latest of them (the system may have taken the thread away)", 20_000.0, " us", latest);
    checks.fact("short answers that do not say so", "0", silent.to_string(), silent == 0);
    let (pending, distances) = dropped(data)?;
    let what = format!("distances that {pending} dropped searches cost");
    checks.fact(&what, "0", distances.to_string(), distances == 0 && pending > 0);
    Ok(checks)
}

/// Futures that wait for a write, dropped before it shows: how many, and what
/// they cost afterwards.
fn dropped(data: &Data) -> Result<(usize, u64)> {
    let engine = Engine::builder().publish_interval(HELD_BACK).build()?;
    let config = CollectionConfig::new(data.dim, data.metric).index(IndexSpec::Flat);
    let items: Collection = engine.create_collection("dropped", config)?;
    let record = |key: u64| Record::new(key, data.row(key));
    items.upsert(record(0))?.wait()?;
    items.upsert(record(1))?;
    let mut tasks: Tasks<'_, bool, ()> = Tasks::new(Instant::now());
    for number in 0..DROPPED {
        let query = Query::new(data.query(number));
        let items = &items;
        let search: Later<'_, bool> = Box::pin(async move { items.search_async(query).await.is_ok() });
        tasks.start(search, ());
    }
    let pending = tasks.pending();
    let before = items.stats().distances;
    drop(tasks);
    items.flush()?;
    let after = items.stats().distances;
    engine.close()?;
    Ok((pending, after - before))
}
