//! A small collection beside the one under load, of which every record is
//! known: what was acknowledged is there, at once and in the end, whatever
//! happens to the workers, and what was not asked for is not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vecino::{Collection, CollectionConfig, Metric, Query, Record};

use super::Result;
use super::rng::{Rng, mixed};
use super::tasks::block_on;

/// Keys that are written, again and again.
const KEYS: u64 = 400;
const DIM: usize = 12;

/// Writes from one search through the workers to the next...
const SEARCH_EVERY: u64 = 4;
/// ...and from one look at all records to the next.
const LOOK_EVERY: u64 = 100;

/// Between two writes: the load is the other collection's.
const REST: Duration = Duration::from_millis(1);

/// Keys and the number that the vector of each is made of.
type Known = BTreeMap<u64, u64>;

/// What was done, and what was wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    pub(crate) known: Known,
    pub(crate) writes: u64,
    pub(crate) searches: u64,
    /// From a write to its acknowledgement, at most.
    pub(crate) slowest: Duration,
    pub(crate) faults: Vec<String>,
}

/// Small whole numbers, the first of which tell the key.
fn vector(key: u64, number: u64) -> Vec<f32> {
    let digits = (0..DIM as u64 - 2).map(|at| (mixed(number ^ (at << 32)) % 50) as f32);
    [(key % 20) as f32, (key / 20) as f32].into_iter().chain(digits).collect()
}

pub(crate) fn config() -> CollectionConfig {
    CollectionConfig::new(DIM, Metric::L2)
}

/// Writes, and looks, until it is told to stop.
pub(crate) fn keep(items: &Collection, seed: u64, stop: &AtomicBool) -> Kept {
    let (mut kept, mut rng) = (Kept::default(), Rng::new(seed));
    while !stop.load(Ordering::Relaxed) {
        if let Err(fault) = step(items, &mut kept, &mut rng) {
            kept.faults.push(format!("ledger: {fault}"));
        }
        thread::sleep(REST);
    }
    kept
}

fn step(items: &Collection, kept: &mut Kept, rng: &mut Rng) -> Result<()> {
    let (key, number) = (rng.below(KEYS), rng.next());
    let began = Instant::now();
    let write = if rng.below(5) == 0 {
        kept.known.remove(&key);
        items.delete(key)?
    } else {
        kept.known.insert(key, number);
        items.upsert(Record::new(key, vector(key, number)))?
    };
    write.wait()?;
    kept.slowest = kept.slowest.max(began.elapsed());
    kept.writes += 1;
    let found = items.get(key)?.map(|record| record.vector().to_vec());
    if found != kept.known.get(&key).map(|number| vector(key, *number)) {
        return Err(format!("{key} is not what was acknowledged as {}", write.seq()).into());
    }
    if kept.writes.is_multiple_of(SEARCH_EVERY) {
        kept.searches += 1;
        search(items, &kept.known, key)?;
    }
    if kept.writes.is_multiple_of(LOOK_EVERY) {
        return compare(items, &kept.known);
    }
    Ok(())
}

/// Through the workers: a record that is there is the nearest to itself.
fn search(items: &Collection, known: &Known, key: u64) -> Result<()> {
    let Some(number) = known.get(&key) else { return Ok(()) };
    let answer = block_on(items.search_async(Query::new(vector(key, *number)).top(1).exact()))?;
    match answer.hits() {
        [hit] if hit.id == key.into() && hit.distance == 0.0 => Ok(()),
        other => Err(format!("{other:?} was found for {key}").into()),
    }
}

/// All records are there as they were acknowledged, and no others.
///
/// # Errors
/// When they are not.
pub(crate) fn compare(items: &Collection, known: &Known) -> Result<()> {
    let snapshot = items.snapshot();
    let is_same = |(key, number): (&u64, &u64)| {
        snapshot
            .get(*key)
            .is_ok_and(|found| found.is_some_and(|record| *record.vector() == *vector(*key, *number)))
    };
    let wrong: Vec<&u64> = known.iter().filter(|known| !is_same(*known)).map(|(key, _)| key).collect();
    if snapshot.len() != known.len() || !wrong.is_empty() {
        let (there, all) = (snapshot.len(), known.len());
        return Err(
            format!("{there} records where {all} were acknowledged; not as they were: {wrong:?}").into()
        );
    }
    Ok(())
}
