//! Goal: payloads are what a naive map says, in every state that an answer or
//! a held snapshot shows, and filters let pass what the naive reading does.
//!
//! Method: as in `model.rs`, random operations on the engine and on a map;
//! every answer names the write that it shows and is compared with the map as
//! of that write. `VECINO_PAYLOAD_OPS` sets the number of operations.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::common::{
    METRICS, Rng, State, block_on, check_exhaustive, index_specs, setting, watchdog, whole_vector,
};
use vecino::{
    Answer, Collection, CollectionConfig, Completeness, Engine, Filter, IndexSpec, Metric, OrderBy, Payload,
    PayloadUpdate, Query, Record, RecordId, Seq, Snapshot, Write,
};

const DIM: usize = 5;
const IDS: usize = 900;

type Records = BTreeMap<RecordId, (Vec<f32>, Payload)>;

enum Change {
    Put(RecordId, Vec<f32>, Payload),
    Gone(RecordId),
    Set(RecordId, Payload),
    Merge(RecordId, Payload),
    Delete(RecordId, &'static str),
    Where(Filter),
}

fn record_id(id: usize) -> RecordId {
    if id.is_multiple_of(3) {
        RecordId::from(format!("id-{}", id % IDS))
    } else {
        RecordId::from((id % IDS) as u64)
    }
}

fn payload(rng: &mut Rng) -> Payload {
    let mut payload = Payload::new();
    if !rng.once_in(8) {
        payload = payload.with("genre", ["rock", "folk", "jazz", "pop"][rng.below(4)]);
    }
    if !rng.once_in(4) {
        payload = payload.with("year", 1960 + rng.below(60) as i64);
    }
    if rng.once_in(3) {
        payload = payload.with("author.name", format!("name-{}", rng.below(40)));
    }
    if rng.once_in(3) {
        payload = payload.with("tags", (0..rng.below(4)).map(|_| rng.below(6) as i64).collect::<Vec<_>>());
    }
    payload
}

fn filter(rng: &mut Rng) -> Filter {
    match rng.below(9) {
        0 => Filter::eq("genre", ["rock", "folk", "none"][rng.below(3)]),
        1 => Filter::range("year", 1960 + rng.below(60) as i64..2000),
        2 => Filter::prefix("author.name", ["name-1", "name-", "x"][rng.below(3)]),
        3 => Filter::contains_any("tags", [rng.below(6) as i64, 3]),
        4 => Filter::exists("genre"),
        5 => Filter::ids((0..rng.below(60)).map(|_| record_id(rng.below(IDS))).collect::<Vec<_>>()),
        6 => !filter(rng),
        7 => filter(rng) & filter(rng),
        _ => filter(rng) | filter(rng),
    }
}

struct Held {
    snapshot: Snapshot,
    records: Records,
}

struct Twins {
    engine: Engine,
    items: Collection,
    metric: Metric,
    records: Records,
    shown: Seq,
    log: VecDeque<(Seq, Vec<Change>)>,
    last: Seq,
    held: Vec<Held>,
}

impl Twins {
    fn new(workers: usize, index: IndexSpec, metric: Metric) -> Twins {
        let engine = Engine::builder().workers(workers).pool_threads(2).build().unwrap();
        let items =
            engine.create_collection("items", CollectionConfig::new(DIM, metric).index(index)).unwrap();
        let (records, log, held) = (Records::new(), VecDeque::new(), Vec::new());
        Twins { engine, items, metric, records, shown: Seq(0), log, last: Seq(0), held }
    }

    fn wrote(&mut self, write: &Write, change: Vec<Change>) {
        self.last = write.seq();
        self.log.push_back((write.seq(), change));
    }

    fn advance(&mut self, seq: Seq) {
        assert!(seq >= self.shown);
        self.shown = seq;
        while self.log.front().is_some_and(|(written, _)| *written <= seq) {
            let (_, changes) = self.log.pop_front().unwrap();
            changes.into_iter().for_each(|change| apply(&mut self.records, change));
        }
    }

    fn step(&mut self, rng: &mut Rng) {
        match rng.below(1_000) {
            0..300 => self.upsert(rng),
            300..330 => self.upsert_batch(rng),
            330..430 => {
                let id = record_id(rng.below(IDS));
                let write = self.items.delete(id.clone()).unwrap();
                self.wrote(&write, vec![Change::Gone(id)]);
            }
            430..690 => self.update(rng),
            690..700 => self.update_batch(rng),
            700..704 => {
                let filter = filter(rng) & Filter::prefix("author.name", "name-2");
                let write = self.items.delete_where(&filter).unwrap();
                self.wrote(&write, vec![Change::Where(filter)]);
            }
            704..850 => self.search(rng),
            850..930 => {
                let snapshot = self.items.snapshot();
                self.advance(snapshot.seq());
                let id = record_id(rng.below(IDS));
                check_record(&snapshot, &self.records, &id);
            }
            930..950 => self.hold(),
            950..958 => self.held.iter().for_each(|held| check_held(self.metric, held, rng.next())),
            958..970 if !self.held.is_empty() => {
                let which = rng.below(self.held.len());
                self.held.swap_remove(which);
            }
            970..973 => drop(self.items.optimize().unwrap()),
            973..978 => drop(self.items.flush().unwrap()),
            _ => {}
        }
    }

    fn upsert(&mut self, rng: &mut Rng) {
        let (id, vector, payload) = (record_id(rng.below(IDS)), whole_vector(rng.next(), DIM), payload(rng));
        let record = Record::new(id.clone(), vector.clone()).with_payload(payload.clone());
        let write = self.items.upsert(record).unwrap();
        self.wrote(&write, vec![Change::Put(id, vector, payload)]);
    }

    fn upsert_batch(&mut self, rng: &mut Rng) {
        let first = rng.below(IDS);
        let all: Vec<_> = (0..rng.below(120))
            .map(|n| (record_id(first + n), whole_vector(rng.next(), DIM), payload(rng)))
            .collect();
        let records = all.iter().map(|(id, vector, payload)| {
            Record::new(id.clone(), vector.clone()).with_payload(payload.clone())
        });
        let write = self.items.upsert_batch(records).unwrap();
        self.wrote(
            &write,
            all.into_iter().map(|(id, vector, payload)| Change::Put(id, vector, payload)).collect(),
        );
    }

    fn update(&mut self, rng: &mut Rng) {
        let (id, payload) = (record_id(rng.below(IDS)), payload(rng));
        let (write, change) = match rng.below(3) {
            0 => (self.items.set_payload(id.clone(), payload.clone()), Change::Set(id, payload)),
            1 => (self.items.merge_payload(id.clone(), payload.clone()), Change::Merge(id, payload)),
            _ => {
                let path = ["genre", "author", "tags"][rng.below(3)];
                (self.items.delete_fields(id.clone(), [path]), Change::Delete(id, path))
            }
        };
        self.wrote(&write.unwrap(), vec![change]);
    }

    /// Many records at once, over all shards: a snapshot shows all of it or nothing.
    fn update_batch(&mut self, rng: &mut Rng) {
        let (first, new) = (rng.below(IDS), payload(rng));
        let ids: Vec<RecordId> = (0..rng.below(400)).map(|n| record_id(first + n)).collect();
        let updates = ids.iter().map(|id| PayloadUpdate::merge(id, new.clone()));
        let write = self.items.update_payloads(updates).unwrap();
        self.wrote(&write, ids.into_iter().map(|id| Change::Merge(id, new.clone())).collect());
    }

    fn search(&mut self, rng: &mut Rng) {
        let (vector, filter, k) = (whole_vector(rng.next(), DIM), filter(rng), rng.below(30));
        let query = Query::new(&vector).top(k).filter(filter.clone());
        let way = rng.below(5);
        let k = if way == 4 { IDS } else { k };
        let answer = match way {
            0 => self.items.search(&query.exact()).unwrap(),
            1 => self.items.search(&query.ef_search(usize::MAX).at_least(self.last)).unwrap(),
            2 => block_on(self.items.search_async(query.exact())).unwrap(),
            3 => {
                let other = Query::new(&vector).top(k).exact();
                let mut answers = self.items.search_batch(&[other, query.exact()]).unwrap();
                answers.pop().unwrap()
            }
            _ => self.items.search(&query.top(k)).unwrap(),
        };
        self.advance(answer.seq());
        check_answer(self.metric, &self.records, &vector, &filter, k, &answer);
    }

    fn hold(&mut self) {
        let snapshot = self.items.snapshot();
        self.advance(snapshot.seq());
        if self.held.len() == 5 {
            self.held.remove(1);
        }
        self.held.push(Held { snapshot, records: self.records.clone() });
    }

    fn end(mut self) {
        self.items.flush().unwrap();
        self.hold();
        self.items.optimize().unwrap();
        self.engine.close().unwrap();
        self.held.iter().for_each(|held| check_held(self.metric, held, 3));
    }
}

fn apply(records: &mut Records, change: Change) {
    match change {
        Change::Put(id, vector, payload) => _ = records.insert(id, (vector, payload)),
        Change::Gone(id) => _ = records.remove(&id),
        Change::Where(filter) => records.retain(|id, (_, payload)| !filter.matches(id, payload)),
        Change::Set(id, new) => {
            if let Some((_, payload)) = records.get_mut(&id) {
                *payload = new;
            }
        }
        Change::Merge(id, new) => {
            if let Some((_, payload)) = records.get_mut(&id) {
                for (path, value) in new.iter() {
                    *payload = payload.clone().with(path, value.clone());
                }
            }
        }
        Change::Delete(id, gone) => {
            if let Some((_, payload)) = records.get_mut(&id) {
                let kept = payload.iter().filter(|(path, _)| !path.starts_with(gone));
                *payload = kept.map(|(path, value)| (path, value.clone())).collect();
            }
        }
    }
}

fn check_record(snapshot: &Snapshot, records: &Records, id: &RecordId) {
    let found = snapshot.get(id).unwrap().map(|record| (record.vector().to_vec(), record.payload().clone()));
    assert_eq!(found.as_ref(), records.get(id), "{id}");
}

/// The answer has the nearest `k` of what the filter lets pass, with their payloads.
fn check_answer(
    metric: Metric,
    records: &Records,
    vector: &[f32],
    filter: &Filter,
    k: usize,
    answer: &Answer,
) {
    let passing: State = records
        .iter()
        .filter(|(id, (_, payload))| filter.matches(id, payload))
        .map(|(id, (vector, _))| (id.clone(), vector.clone()))
        .collect();
    check_exhaustive(metric, &passing, vector, k, answer);
    for hit in answer {
        assert_eq!(hit.payload, records[&hit.id].1);
    }
    let stats = answer.stats().filter.unwrap_or_default();
    assert!(stats.matching >= answer.len() || k == 0, "{stats:?}");
}

fn check_held(metric: Metric, held: &Held, seed: u64) {
    let Held { snapshot, records } = held;
    let mut rng = Rng::new(seed);
    let mut scrolled = Records::new();
    for record in snapshot.scroll(None, usize::MAX).unwrap().records {
        let payload = record.payload().clone();
        let (id, vector) = record.into_parts();
        scrolled.insert(id, (vector, payload));
    }
    assert_eq!(&scrolled, records);
    for _ in 0..4 {
        let (vector, filter) = (whole_vector(rng.next(), DIM), filter(&mut rng));
        let query = Query::new(&vector).top(IDS + 1).filter(filter.clone());
        let answer = snapshot.search(&query).unwrap();
        assert_eq!(answer.completeness(), Completeness::FewerMatch);
        check_answer(metric, records, &vector, &filter, IDS + 1, &answer);
        let few = snapshot.search(&query.top(7).exact()).unwrap();
        check_answer(metric, records, &vector, &filter, 7, &few);
        check_reading(snapshot, records, &filter);
    }
}

/// Counting, paging and facets say what the naive reading does.
fn check_reading(snapshot: &Snapshot, records: &Records, filter: &Filter) {
    let passing: BTreeMap<&RecordId, &Payload> = records
        .iter()
        .filter(|(id, (_, payload))| filter.matches(id, payload))
        .map(|(id, (_, payload))| (id, payload))
        .collect();
    assert_eq!(snapshot.count(filter).unwrap(), passing.len());
    let (mut scrolled, mut from) = (Vec::new(), None);
    loop {
        let page = snapshot.scroll_where(filter, from, 70).unwrap();
        scrolled.extend(page.records.into_iter().map(|record| record.id().clone()));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    scrolled.sort();
    assert!(scrolled.iter().eq(passing.keys().copied()));
    let years = |payload: &Payload| payload.get("year").and_then(|year| year.as_int());
    let mut expected: Vec<i64> = passing.values().filter_map(|payload| years(payload)).collect();
    expected.sort_by(|a, b| b.cmp(a));
    let (mut ordered, mut from) = (Vec::new(), None);
    loop {
        let page = snapshot.scroll_by(filter, &OrderBy::descending("year"), from.as_ref(), 50).unwrap();
        ordered.extend(page.records.iter().filter_map(|record| years(record.payload())));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(ordered, expected);
    for facet in snapshot.facets("tags", filter, 100).unwrap() {
        let own = filter.clone() & Filter::eq("tags", facet.value.clone());
        assert_eq!(facet.count, snapshot.count(&own).unwrap(), "{}", facet.value);
    }
}

#[test]
fn of_a_list_each_member_counts_once() {
    let engine = Engine::builder().build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(1, Metric::L2)).unwrap();
    let record = |id: u64| {
        let tags: Vec<i64> = (0..900).map(|at| if at % 3 == 0 { 7 } else { at + id as i64 }).collect();
        Record::new(id, [id as f32]).with("tags", tags)
    };
    items.upsert_batch((0..50).map(record)).unwrap().wait().unwrap();
    let facets = items.snapshot().facets("tags", &Filter::all([]), 1_000).unwrap();
    assert_eq!((&facets[0].value, facets[0].count), (&7.into(), 50));
    for facet in facets {
        let own = Filter::eq("tags", facet.value.clone());
        assert_eq!(facet.count, items.snapshot().count(&own).unwrap(), "{}", facet.value);
    }
}

fn run_all(workers: impl Fn(usize) -> usize) {
    let ops = setting("VECINO_PAYLOAD_OPS", 54_000);
    let _watchdog = watchdog(120 + ops as u64 / 200);
    for (at, metric) in METRICS.into_iter().enumerate() {
        for index in index_specs() {
            let workers = workers(at);
            let mut rng = Rng::new(70 + workers as u64);
            let mut twins = Twins::new(workers, index, metric);
            for step in 0..ops / 18 {
                let outcome = catch_unwind(AssertUnwindSafe(|| twins.step(&mut rng)));
                if let Err(failure) = outcome {
                    eprintln!("step {step}: {workers} workers, {index:?}, {metric}");
                    resume_unwind(failure);
                }
            }
            twins.end();
        }
    }
}

#[test]
fn random_operations_show_the_payloads_and_pass_the_filters_of_a_naive_map_with_one_worker() {
    run_all(|_| 1);
}

#[test]
fn random_operations_show_the_payloads_and_pass_the_filters_of_a_naive_map_with_two_to_four_workers() {
    run_all(|at| 2 + at);
}
