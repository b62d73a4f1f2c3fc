//! Goal: whatever is done to a collection, through restarts and defects of its
//! workers, it shows exactly what a naive map would.
//!
//! Method: random operations on every kind of index, each on the engine and on
//! a `BTreeMap`: writes, deletes, times of expiry, changes of the index,
//! checkpoints; now and then a worker panics in the middle of a write, or the
//! engine is closed and opened. Vectors are small whole numbers, so distances
//! are exact and are compared for equality.
//!
//! `VECINO_TWINS_OPS` sets the number of operations, each record of a batch being
//! one (default 500,000). A failure prints the seed and the step.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::WORKERS;
use super::rescue::{Random, light};
use crate::clock::ManualClock;
use crate::engine::{Collection, CollectionConfig, Engine, IndexSpec};
use crate::metric::Metric;
use crate::payload::Timestamp;
use crate::query::Query;
use crate::snapshot::Record;

const DIM: usize = 6;

/// Few, so that records are replaced, deleted and put in again all the time.
const IDS: u64 = 400;

/// The engine's time is whole milliseconds, in microseconds.
const MILLISECOND: i64 = 1_000;

const OPERATIONS: usize = 500_000;

const KINDS: [&str; 11] = [
    "Flat",
    "Graph",
    "HNSW8",
    "HNSW8_SQ8",
    "HNSW8_RaBitQ",
    "HNSW8_PQ2x4fs",
    "IVF",
    "IVF,PQ2x4fs",
    "SQ8",
    "RaBitQ",
    "PQ2x4fs",
];

fn vector(seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    let mut vector: Vec<f32> = (0..DIM).map(|_| random.below(9) as f32 - 4.0).collect();
    vector[0] = if vector.iter().all(|x| *x == 0.0) { 1.0 } else { vector[0] };
    vector
}

fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f32 {
    let pairs = a.iter().zip(b);
    match metric {
        Metric::L2 => pairs.map(|(a, b)| (a - b) * (a - b)).sum(),
        _ => -pairs.map(|(a, b)| a * b).sum::<f32>(),
    }
}

/// What a record holds, and when it expires.
type Held = (Vec<f32>, i64);

/// The engine beside its naive twin.
struct Twins {
    folder: PathBuf,
    clock: Arc<ManualClock>,
    engine: Option<Engine>,
    items: Collection,
    metric: Metric,
    records: BTreeMap<u64, Held>,
    now: i64,
    done: usize,
    restarts: usize,
    defects: usize,
}

fn open(folder: &PathBuf, clock: &Arc<ManualClock>) -> Engine {
    let builder = Engine::builder().workers(WORKERS).pool_threads(1).clock(Arc::clone(clock) as _);
    builder.log_bytes(1 << 20).open(folder).unwrap()
}

impl Twins {
    fn new(number: usize, index: IndexSpec) -> Twins {
        let name = format!("vecino-twins-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&folder);
        let clock = Arc::new(ManualClock::default());
        let engine = open(&folder, &clock);
        let metric = [Metric::L2, Metric::Dot][number % 2];
        let items =
            engine.create_collection("items", CollectionConfig::new(DIM, metric).index(index)).unwrap();
        let (records, engine) = (BTreeMap::new(), Some(engine));
        Twins { folder, clock, engine, items, metric, records, now: 0, done: 0, restarts: 0, defects: 0 }
    }

    fn lives(&self, id: u64) -> bool {
        self.records.get(&id).is_some_and(|(_, expires)| *expires > self.now)
    }

    fn step(&mut self, random: &mut Random) {
        let is_lit = random.below(60) == 0;
        if is_lit {
            // Defects of one write add up, until it is left out.
            self.items.flush().unwrap();
            let (worker, after) = (random.below(WORKERS as u64) as usize, random.below(60) as usize);
            light(&self.items, worker, after, 1 + random.below(2) as u32);
            self.defects += 1;
        }
        let write = match random.below(100) {
            0..45 => self.upsert(1, random),
            45..55 => self.upsert(random.below(60), random),
            55..75 => self.delete(1 + random.below(3), random),
            75..78 => self.delete(random.below(40), random),
            78..88 => self.change_expiry(random),
            _ => return self.others(random),
        };
        if is_lit || random.below(10) == 0 {
            write.wait().unwrap();
        }
    }

    fn upsert(&mut self, count: u64, random: &mut Random) -> crate::engine::Write {
        let mut record = |_| {
            let (id, seed) = (random.below(IDS), random.below(1 << 30));
            let expires = if random.below(4) == 0 {
                self.now + (1 + random.below(50) as i64) * MILLISECOND
            } else {
                i64::MAX
            };
            self.records.insert(id, (vector(seed), expires));
            let record = Record::new(id, vector(seed));
            if expires < i64::MAX { record.expires_at(Timestamp(expires)) } else { record }
        };
        let batch: Vec<Record> = (0..count).map(&mut record).collect();
        self.done += batch.len();
        self.items.upsert_batch(batch).unwrap()
    }

    fn delete(&mut self, count: u64, random: &mut Random) -> crate::engine::Write {
        let ids: Vec<u64> = (0..count).map(|_| random.below(IDS)).collect();
        ids.iter().for_each(|id| _ = self.records.remove(id));
        self.done += ids.len();
        self.items.delete_batch(ids).unwrap()
    }

    fn change_expiry(&mut self, random: &mut Random) -> crate::engine::Write {
        let (id, time, now) = (random.below(IDS), (1 + random.below(80) as i64) * MILLISECOND, self.now);
        let (lives, puts_off) = (self.lives(id), random.below(2) == 0);
        if let Some((_, expires)) = self.records.get_mut(&id).filter(|_| lives) {
            let then = now + time;
            *expires = if puts_off { then.max(*expires) } else { then };
        }
        self.done += 1;
        if puts_off {
            self.items.touch(id, Duration::from_micros(time as u64)).unwrap()
        } else {
            self.items.expire(id, Some(Timestamp(now + time))).unwrap()
        }
    }

    /// Everything but writes.
    fn others(&mut self, random: &mut Random) {
        self.done += 1;
        match random.below(400) {
            0..20 => {
                self.clock.advance(Duration::from_millis(7));
                self.now += 7 * MILLISECOND;
            }
            20..26 => self.items.optimize().map(drop).unwrap(),
            26..31 => self.engine.as_ref().unwrap().checkpoint().map(drop).unwrap(),
            31..33 => {
                let to = KINDS[random.below(KINDS.len() as u64) as usize].parse().unwrap();
                self.items.reindex(to).map(drop).unwrap();
            }
            33..39 => self.restart(),
            39..45 => self.check_all(),
            _ => self.search(random),
        }
    }

    fn restart(&mut self) {
        // What is not visible yet is lost by closing.
        self.items.flush().unwrap();
        self.engine.take().unwrap().close().unwrap();
        let engine = open(&self.folder, &self.clock);
        self.items = engine.collection("items").unwrap();
        self.engine = Some(engine);
        self.restarts += 1;
        self.check_all();
    }

    fn search(&mut self, random: &mut Random) {
        self.items.flush().unwrap();
        let (query, k) = (vector(random.below(1 << 30)), 1 + random.below(30) as usize);
        let living = self.records.iter().filter(|(id, _)| self.lives(**id));
        let mut expected: Vec<f32> =
            living.map(|(_, (vector, _))| distance(self.metric, &query, vector)).collect();
        expected.sort_by(f32::total_cmp);
        let all = expected.len();
        let asked = |k| Query::new(&query).top(k);
        for (asked, k) in [(asked(k).exact(), k), (asked(IDS as usize), all)] {
            let answer = self.items.search(&asked).unwrap();
            let found: Vec<f32> = answer.hits().iter().map(|hit| hit.distance).collect();
            assert_eq!(found, expected[..k.min(all)]);
            for hit in answer.hits() {
                let id = hit.id.as_num().unwrap();
                assert!(self.lives(id), "{id}");
                assert_eq!(hit.distance, distance(self.metric, &query, &self.records[&id].0), "{id}");
            }
        }
    }

    fn check_all(&mut self) {
        self.items.flush().unwrap();
        let snapshot = self.items.snapshot();
        let found = snapshot.scroll(None, usize::MAX).unwrap().records.into_iter().map(|record| {
            let expires = record.expires().map_or(i64::MAX, |time| time.0);
            let (id, vector) = record.into_parts();
            (id.as_num().unwrap(), (vector, expires))
        });
        let living = self.records.iter().filter(|(id, _)| self.lives(**id));
        let expected: BTreeMap<u64, Held> = living.map(|(id, held)| (*id, held.clone())).collect();
        assert_eq!(found.collect::<BTreeMap<_, _>>(), expected);
        let report = snapshot.verify().unwrap();
        assert!(report.is_sound(), "{report:?}");
    }
}

/// Runs so many operations; gives how often it was restarted and met defects.
fn run(number: usize, kind: &str, operations: usize) -> (usize, usize) {
    let (seed, mut twins) = (4_000 + number as u64, Twins::new(number, kind.parse().unwrap()));
    let mut random = Random(seed);
    for step in 0.. {
        if twins.done >= operations {
            break;
        }
        if let Err(failure) = catch_unwind(AssertUnwindSafe(|| twins.step(&mut random))) {
            eprintln!("{kind}, seed {seed}, step {step}, {} operations", twins.done);
            resume_unwind(failure);
        }
    }
    twins.restart();
    assert_eq!(twins.items.stats().left_out, []);
    twins.engine.take().unwrap().close().unwrap();
    std::fs::remove_dir_all(&twins.folder).unwrap();
    (twins.restarts, twins.defects)
}

#[test]
fn random_operations_with_restarts_and_defects_show_what_a_naive_map_shows() {
    let asked = std::env::var("VECINO_TWINS_OPS").ok().and_then(|text| text.parse().ok());
    let operations = asked.unwrap_or(OPERATIONS).div_ceil(KINDS.len());
    let counts = KINDS.iter().enumerate().map(|(number, kind)| run(number, kind, operations));
    let (restarts, defects) = counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    assert!(restarts > KINDS.len() && defects > operations / 1_000, "{restarts} {defects}");
}
