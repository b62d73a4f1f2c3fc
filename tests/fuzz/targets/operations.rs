//! Bytes are operations on a collection, with numbers and arguments of any kind;
//! what is there afterwards is what a map of ids says, and exact searches find it.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use libfuzzer_sys::fuzz_target;
use vecino::{
    Collection, CollectionConfig, Engine, Filter, IndexSpec, Metric, Payload, Query, Record, SearchParams,
};

const DIM: usize = 3;
/// Beside the default and the graph.
const SPECS: [&str; 6] = ["Flat", "HNSW8", "IVF4,Flat", "IVF4,SQ8", "SQ8", "RaBitQ"];
/// An input is no longer than so many operations: each is a write of its own.
const OPERATIONS: usize = 40;

static ENGINE: LazyLock<Engine> =
    LazyLock::new(|| Engine::builder().workers(2).pool_threads(1).build().unwrap());
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Numbers out of bytes; zero behind their end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn id(&mut self) -> u64 {
        u64::from(self.byte() % 32)
    }

    /// Mostly small numbers, and now and then any bits.
    fn float(&mut self) -> f32 {
        match self.byte() {
            255 => f32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()]),
            byte => f32::from(byte as i8) / 4.0,
        }
    }

    fn vector(&mut self) -> Vec<f32> {
        let dim = if self.byte() == 255 { usize::from(self.byte() % 5) } else { DIM };
        (0..dim).map(|_| self.float()).collect()
    }

    fn record(&mut self) -> Record {
        let (id, kind) = (self.id(), i64::from(self.byte() % 4));
        Record::new(id, self.vector()).with_payload(Payload::new().with("kind", kind))
    }
}

type Model = BTreeMap<u64, Record>;

/// One operation on both.
fn operate(items: &Collection, model: &mut Model, input: &mut Input<'_>) {
    match input.byte() % 8 {
        0..=2 => {
            let record = input.record();
            if let Ok(write) = items.upsert(record.clone()) {
                write.wait().unwrap();
                model.insert(number(&record), record);
            }
        }
        3 => {
            let batch: Vec<Record> = (0..input.byte() % 40).map(|_| input.record()).collect();
            if let Ok(write) = items.upsert_batch(batch.clone()) {
                write.wait().unwrap();
                model.extend(batch.into_iter().map(|record| (number(&record), record)));
            }
        }
        4 => {
            let id = input.id();
            items.delete(id).unwrap().wait().unwrap();
            model.remove(&id);
        }
        5 if input.byte() > 200 => {
            // So many that lists and codes are trained, and perhaps none of them again.
            let bulk = (100..100 + 16 * u64::from(input.byte()))
                .map(|id| Record::new(id, [(id % 37) as f32, (id % 11) as f32 + 1.0, (id / 100) as f32]));
            let bulk: Vec<Record> = bulk.collect();
            items.upsert_batch(bulk.clone()).unwrap().wait().unwrap();
            model.extend(bulk.into_iter().map(|record| (number(&record), record)));
        }
        5 => {
            let kind = i64::from(input.byte() % 4);
            items.delete_where(&Filter::eq("kind", kind)).unwrap().wait().unwrap();
            model.retain(|_, record| record.payload().get("kind") != Some(&kind.into()));
        }
        6 => _ = items.optimize().unwrap(),
        _ => search(items, model, input),
    }
}

fn number(record: &Record) -> u64 {
    record.id().as_num().unwrap()
}

/// A search of any breadth, filtered or not: as many hits as there can be.
fn search(items: &Collection, model: &Model, input: &mut Input<'_>) {
    let (k, ef, kind) = (usize::from(input.byte()), usize::from(input.byte()), input.byte());
    let vector = input.vector();
    let filter = (kind < 4).then(|| Filter::eq("kind", i64::from(kind)));
    let there = model
        .values()
        .filter(|record| kind >= 4 || record.payload().get("kind") == Some(&i64::from(kind).into()));
    let most = there.count().min(k);
    let params = SearchParams::ef_search(ef);
    for is_exact in [false, true] {
        let mut query = Query::new(&vector).top(k).params(params);
        if let Some(filter) = &filter {
            query = query.filter(filter.clone());
        }
        let Ok(answer) = items.snapshot().search(&if is_exact { query.exact() } else { query }) else {
            continue;
        };
        let hits = answer.hits();
        assert_eq!(hits.len(), most, "{k} of {}, exact: {is_exact}", model.len());
        assert!(hits.is_sorted_by(|a, b| a.distance <= b.distance));
    }
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let metric = [Metric::L2, Metric::Cosine, Metric::Dot][usize::from(input.byte()) % 3];
    let spec = match usize::from(input.byte()) % (SPECS.len() + 2) {
        0 => IndexSpec::auto(),
        1 => IndexSpec::graph(),
        which => SPECS[which - 2].parse().unwrap(),
    };
    let name = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
    let config = CollectionConfig::new(DIM, metric).index(spec);
    let items = ENGINE.create_collection(&name, config).unwrap();
    let mut model = Model::new();
    for _ in 0..OPERATIONS {
        if input.0.is_empty() {
            break;
        }
        operate(&items, &mut model, &mut input);
    }
    let snapshot = items.snapshot();
    assert!(snapshot.verify().unwrap().is_sound());
    let found = snapshot.scroll(None, usize::MAX).unwrap().records;
    let found: BTreeMap<u64, Record> = found.into_iter().map(|record| (number(&record), record)).collect();
    assert_eq!(found, model);
    ENGINE.drop_collection(&name).unwrap();
});
