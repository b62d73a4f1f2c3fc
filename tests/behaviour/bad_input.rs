//! Goal: no input makes the engine panic, hang, or answer with a distance that
//! is not a number; what cannot be used is refused with a typed error that
//! names the offending value, and nothing of the refused request happens.
//!
//! Method: a table of vectors (good, extreme and bad) is generated and given to
//! every entry point, under every metric, index and number of workers; what
//! should happen follows from the documented limits alone. The same runs again
//! in child processes with every instruction set that the machine has.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::Duration;

use crate::common::{METRICS, Rng, block_on, index_specs, watchdog};
use vecino::{
    Answer, BuildError, Collection, CollectionConfig, CollectionError, Engine, HnswConfig, IndexSpec, Metric,
    Query, Record, RecordId, SearchError, Seq, VectorError, WaitError, WriteError,
};

const ISA: &str = "VECINO_ISA";

fn collection(workers: usize, config: CollectionConfig) -> (Engine, Collection) {
    let engine = Engine::builder().workers(workers).pool_threads(2).build().unwrap();
    let items = engine.create_collection("items", config).unwrap();
    (engine, items)
}

fn good_vector(rng: &mut Rng, dim: usize) -> Vec<f32> {
    (0..dim).map(|_| rng.signed() + 1.5).collect()
}

/// Vectors of all kinds around a dimension: `value` stands at `position`.
fn table(dim: usize) -> Vec<Vec<f32>> {
    let mut rng = Rng::new(dim as u64);
    let values = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MIN_POSITIVE / 8.0,
        f32::MAX,
        f32::MIN,
        1e30,
        1e-40,
        6.5e18,
        -6e18,
        -0.0,
    ];
    let mut vectors = Vec::new();
    for value in values {
        for position in [0, dim / 2, dim - 1] {
            let mut vector = good_vector(&mut rng, dim);
            vector[position] = value;
            vectors.push(vector);
        }
        vectors.push(vec![value; dim]);
    }
    vectors.push(vec![0.0; dim]);
    vectors.push(good_vector(&mut rng, dim));
    for wrong in [0, dim - 1, dim + 1, dim * 100] {
        vectors.push(good_vector(&mut rng, wrong));
    }
    vectors
}

/// What must be wrong with a vector, by the documented limits.
fn fault(metric: Metric, dim: usize, vector: &[f32]) -> Option<VectorError> {
    if vector.len() != dim {
        return Some(VectorError::Dimension { expected: dim, got: vector.len() });
    }
    if let Some(position) = vector.iter().position(|x| !x.is_finite()) {
        return Some(VectorError::NotFinite { position, value: vector[position] });
    }
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if length > 6.522e18 {
        return Some(VectorError::TooLong { length });
    }
    (metric == Metric::Cosine && length < 1e-30).then_some(VectorError::NoDirection { length })
}

/// Equal, where NaN is equal to NaN and lengths may be rounded.
fn same(a: VectorError, b: VectorError) -> bool {
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(b.abs());
    match (a, b) {
        (
            VectorError::NotFinite { position: p, value: v },
            VectorError::NotFinite { position: q, value: w },
        ) => p == q && v.to_bits() == w.to_bits(),
        (VectorError::TooLong { length: a }, VectorError::TooLong { length: b })
        | (VectorError::NoDirection { length: a }, VectorError::NoDirection { length: b }) => close(a, b),
        (a, b) => a == b,
    }
}

/// Hits are numbers, ascending, and not more than asked for.
fn check_answer(answer: &Answer, k: usize) {
    assert!(answer.len() <= k);
    assert!(answer.hits().iter().all(|hit| hit.distance.is_finite()), "{answer:?}");
    assert!(answer.hits().windows(2).all(|pair| pair[0].distance <= pair[1].distance), "{answer:?}");
}

/// Everything that a vector can be given to. Each gives the fault it met.
const DOORS: [&str; 7] =
    ["upsert", "upsert_async", "batch", "batch_async", "search", "search_async", "search_batch"];

fn knock(items: &Collection, door: &str, vector: &[f32], dim: usize) -> Option<VectorError> {
    let mut rng = Rng::new(3);
    let record = Record::new("bad", vector);
    let batch = [
        Record::new("first", good_vector(&mut rng, dim)),
        record.clone(),
        Record::new("last", good_vector(&mut rng, dim)),
    ];
    let written = |outcome: Result<vecino::Write, WriteError>, place: usize| match outcome {
        Ok(write) => {
            write.wait().unwrap();
            None
        }
        Err(WriteError::Vector { id, position, fault }) => {
            assert_eq!((id, position), (RecordId::from("bad"), place));
            Some(fault)
        }
        Err(other) => panic!("{other:?}"),
    };
    let found = |outcome: Result<Answer, SearchError>| match outcome {
        Ok(answer) => {
            check_answer(&answer, 10);
            None
        }
        Err(SearchError::Vector(fault)) => Some(fault),
        Err(other) => panic!("{other:?}"),
    };
    match door {
        "upsert" => written(items.upsert(record), 0),
        "upsert_async" => written(block_on(items.upsert_async(record)), 0),
        "batch" => written(items.upsert_batch(batch), 1),
        "batch_async" => written(block_on(items.upsert_batch_async(batch)), 1),
        "search" => {
            found(items.search(&Query::new(vector).exact())).or(found(items.search(&Query::new(vector))))
        }
        "search_async" => found(block_on(items.search_async(Query::new(vector)))),
        _ => {
            let fine = good_vector(&mut rng, dim);
            let queries = [Query::new(&fine), Query::new(vector), Query::new(&fine)];
            found(items.search_batch(&queries).map(|answers| answers[1].clone()))
        }
    }
}

/// Gives the whole table to every door of one collection; counts the cases.
fn check_table(workers: usize, index: IndexSpec, metric: Metric, dim: usize) -> usize {
    let (engine, items) = collection(workers, CollectionConfig::new(dim, metric).index(index));
    let mut rng = Rng::new(9);
    items
        .upsert_batch((0..40u64).map(|id| Record::new(id, good_vector(&mut rng, dim))))
        .unwrap()
        .wait()
        .unwrap();
    let mut cases = 0;
    for vector in table(dim) {
        for door in DOORS {
            let context = || format!("{door} of {vector:?} ({metric}, {index:?}, {workers} workers)");
            let before = items.snapshot();
            let expected = fault(metric, dim, &vector);
            let met = catch_unwind(AssertUnwindSafe(|| knock(&items, door, &vector, dim)))
                .unwrap_or_else(|_| panic!("panicked: {}", context()));
            match (met, expected) {
                (None, None) => {}
                (Some(met), Some(expected)) if same(met, expected) => {
                    let stats = items.stats();
                    assert_eq!(stats.last_seq, before.seq(), "a refused write left a trace: {}", context());
                    assert_eq!(stats.rows, before.len());
                }
                (met, expected) => panic!("{met:?} instead of {expected:?}: {}", context()),
            }
            cases += 1;
        }
    }
    items.optimize().unwrap();
    let report = items.verify().unwrap();
    assert!(report.is_sound(), "{report:?}");
    check_answer(&items.search(&Query::new(good_vector(&mut rng, dim)).top(100)).unwrap(), 100);
    engine.close().unwrap();
    cases
}

#[test]
fn every_vector_is_either_taken_or_refused_with_its_fault() {
    let _watchdog = watchdog(120);
    let mut cases = 0;
    for metric in METRICS {
        for index in index_specs() {
            for workers in [1, 3] {
                cases += [1, 3, 17].map(|dim| check_table(workers, index, metric, dim)).iter().sum::<usize>();
            }
        }
    }
    eprintln!("{cases} cases");
    assert!(cases >= 5_000, "only {cases} cases");
}

// Rows of extreme lengths (the longest and the shortest that are let in)
// among one another: no sum may overflow, in the index either.
#[test]
fn distances_of_extreme_vectors_are_numbers_also_in_the_index() {
    let _watchdog = watchdog(120);
    for metric in METRICS {
        for index in index_specs() {
            let (_engine, items) = collection(1, CollectionConfig::new(8, metric).index(index));
            let mut rng = Rng::new(4);
            let lengths = [2e18, 1e18, 1.0, 1e-10, 1e-20];
            let mut vector = |id: usize| -> Vec<f32> {
                (0..8).map(|_| rng.signed() * lengths[id % lengths.len()]).collect()
            };
            let vectors: Vec<_> = (0..700).map(&mut vector).collect();
            let records = vectors.iter().enumerate();
            items
                .upsert_batch(records.map(|(id, vector)| Record::new(id as u64, vector.clone())))
                .unwrap()
                .wait()
                .unwrap();
            items.optimize().unwrap();
            for vector in vectors.iter().step_by(7) {
                let answer = items.search(&Query::new(vector).top(700)).unwrap();
                check_answer(&answer, 700);
                assert_eq!(answer.len(), 700, "{metric} {index:?}");
            }
        }
    }
}

#[test]
fn every_k_and_every_breadth_is_answered() {
    let _watchdog = watchdog(120);
    let n = 600;
    for metric in METRICS {
        for index in index_specs() {
            for workers in [1, 3] {
                let (_engine, items) = collection(workers, CollectionConfig::new(5, metric).index(index));
                let mut rng = Rng::new(5);
                check_widths(&items, 0, &good_vector(&mut rng, 5));
                let records = (0..n as u64).map(|id| Record::new(id, good_vector(&mut rng, 5)));
                items.upsert_batch(records.collect::<Vec<_>>()).unwrap().wait().unwrap();
                check_widths(&items, n, &good_vector(&mut rng, 5));
                items.optimize().unwrap();
                check_widths(&items, n, &good_vector(&mut rng, 5));
            }
        }
    }
}

fn check_widths(items: &Collection, n: usize, vector: &[f32]) {
    for k in [0, 1, n.saturating_sub(1), n, n + 1, usize::MAX] {
        let plain = Query::new(vector).top(k);
        let exact = items.search(&plain.clone().exact()).unwrap();
        assert_eq!(exact.len(), k.min(n));
        for ef in [0, 1, 64, usize::MAX] {
            let query = plain.clone().ef_search(ef);
            let answers = [
                items.search(&query).unwrap(),
                block_on(items.search_async(query.clone())).unwrap(),
                items.search_batch(std::slice::from_ref(&query)).unwrap().remove(0),
            ];
            for answer in answers {
                check_answer(&answer, k);
                assert_eq!(answer.len(), k.min(n), "k {k}, ef {ef}");
                let is_all = k >= n || ef == usize::MAX;
                assert!(!is_all || distances(&answer) == distances(&exact), "k {k}, ef {ef} must be exact");
            }
        }
    }
    assert!(items.search_batch(&[]).unwrap().is_empty());
}

fn distances(answer: &Answer) -> Vec<f32> {
    answer.hits().iter().map(|hit| hit.distance).collect()
}

// A write of nothing has a number like any other: whoever waits for it, or
// flushes after it, must not wait for ever.
#[test]
fn empty_batches_become_visible_at_once() {
    let _watchdog = watchdog(20);
    for workers in [1, 3] {
        let (_engine, items) = collection(workers, CollectionConfig::new(2, Metric::L2));
        items.upsert_batch([]).unwrap().wait().unwrap();
        items.upsert(Record::new(1, [1.0, 0.0])).unwrap().wait().unwrap();
        let nothing = items.delete_batch(Vec::<u64>::new()).unwrap();
        assert!(items.flush().is_ok() && nothing.is_visible());
        let nothing = block_on(items.upsert_batch_async([])).unwrap();
        let query = Query::new(&[0.0, 0.0]).at_least(nothing.seq());
        assert_eq!(items.search(&query).unwrap().len(), 1);
        let _ = items.upsert_batch([]).unwrap();
        assert_eq!(block_on(items.search_async(Query::new(&[0.0, 0.0]))).unwrap().len(), 1);
        block_on(items.delete_batch([] as [u64; 0]).unwrap().wait_async()).unwrap();
    }
}

#[test]
fn of_equal_ids_in_a_batch_the_last_one_counts() {
    let _watchdog = watchdog(20);
    for index in index_specs() {
        let (_engine, items) = collection(3, CollectionConfig::new(1, Metric::L2).index(index));
        let records = (0..900u64).map(|n| Record::new(n % 9, [n as f32]));
        items.upsert_batch(records).unwrap().wait().unwrap();
        let answer = items.search(&Query::new(&[899.0]).top(100)).unwrap();
        let found: Vec<_> =
            answer.hits().iter().map(|hit| (hit.id.as_num().unwrap(), hit.distance)).collect();
        let expected: Vec<_> = (0..9u64).rev().map(|id| (id, ((8 - id) as f32).powi(2))).collect();
        assert_eq!((items.len(), found), (9, expected));
    }
}

#[test]
fn deleting_what_is_not_there_changes_nothing() {
    let _watchdog = watchdog(20);
    for index in index_specs() {
        let (_engine, items) = collection(3, CollectionConfig::new(2, Metric::Cosine).index(index));
        items.delete("absent").unwrap().wait().unwrap();
        let _ = items.upsert(Record::new(7, [1.0, 1.0])).unwrap();
        let _ = items.delete("7").unwrap();
        items.delete_batch((8..400u64).chain(8..400)).unwrap().wait().unwrap();
        assert_eq!(items.len(), 1);
        let _ = items.delete(7).unwrap();
        items.delete(7).unwrap().wait().unwrap();
        assert!(items.is_empty() && items.get(7).unwrap().is_none());
        assert!(items.search(&Query::new(&[1.0, 0.0])).unwrap().is_empty());
        items.optimize().unwrap();
        assert!(items.verify().unwrap().is_sound());
    }
}

#[test]
fn a_write_of_the_future_is_refused_and_one_that_is_late_times_out() {
    let _watchdog = watchdog(20);
    let engine = Engine::builder().publish_interval(Duration::from_secs(3)).build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(1, Metric::L2)).unwrap();
    let first = items.upsert(Record::new(1, [1.0])).unwrap();
    first.wait().unwrap();
    let ahead = |seq: u64| Query::new(&[0.0]).at_least(Seq(seq));
    for seq in [first.seq().0 + 1, u64::MAX] {
        let expected = SearchError::AtLeast(WaitError::Future { seq: Seq(seq), last: first.seq() });
        assert_eq!(items.search(&ahead(seq)).unwrap_err(), expected);
        assert_eq!(items.search_batch(&[Query::new(&[0.0]), ahead(seq)]).unwrap_err(), expected);
        assert_eq!(block_on(items.search_async(ahead(seq))).unwrap_err(), expected);
        let stale = SearchError::Stale { shown: first.seq(), demanded: Seq(seq) };
        assert_eq!(items.snapshot().search(&ahead(seq)).unwrap_err(), stale);
    }
    let late = items.upsert(Record::new(2, [2.0])).unwrap();
    let impatient = ahead(late.seq().0).wait_at_most(Duration::from_millis(5));
    match items.search(&impatient) {
        Err(SearchError::AtLeast(WaitError::Timeout { seq, waited })) => {
            assert!(seq == late.seq() && waited >= Duration::from_millis(5));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(late.wait_timeout(Duration::ZERO), Err(WaitError::Timeout { .. })));
}

#[test]
fn names_of_collections_have_bounds_and_are_unique() {
    let _watchdog = watchdog(20);
    let engine = Engine::builder().build().unwrap();
    let config = CollectionConfig::new(2, Metric::L2);
    let create = |name: &str| engine.create_collection(name, config).map(|items| items.name().to_owned());
    assert_eq!(create("").unwrap_err(), CollectionError::Name { length: 0 });
    assert_eq!(create(&"é".repeat(128)).unwrap_err(), CollectionError::Name { length: 256 });
    let longest = "x".repeat(255);
    assert_eq!(create(&longest).unwrap(), longest);
    for name in ["a", " ", "a/b", "\0", "\u{202e}"] {
        assert_eq!(create(name).unwrap(), name);
        assert_eq!(create(name).unwrap_err(), CollectionError::Exists(name.to_owned()));
    }
    let absent = || CollectionError::NotFound("absent".to_owned());
    assert_eq!(engine.collection("absent").unwrap_err(), absent());
    assert_eq!(engine.drop_collection("absent").unwrap_err(), absent());
    engine.drop_collection("a").unwrap();
    assert_eq!(create("a").unwrap(), "a");
}

#[test]
fn the_bounds_themselves_are_allowed() {
    let _watchdog = watchdog(60);
    let engine = Engine::builder().workers(64).mailbox_capacity(1).pool_threads(1).build().unwrap();
    let least = HnswConfig::default().m(2).ef_construction(1).ef_search(1).seed(u64::MAX);
    let most = HnswConfig::default().m(512).ef_construction(10_000).ef_search(1 << 20);
    for (name, dim, graph) in [("least", 1, least), ("most", 1 << 16, most)] {
        let config = CollectionConfig::new(dim, Metric::L2).index(IndexSpec::Hnsw(graph));
        let items = engine.create_collection(name, config).unwrap();
        items.upsert_batch((0..100).map(|id| Record::new(id, vec![id as f32; dim]))).unwrap().wait().unwrap();
        items.optimize().unwrap();
        let answer = items.search(&Query::new(vec![42.0; dim]).top(100)).unwrap();
        assert_eq!((answer.len(), answer.hits()[0].id.as_num()), (100, Some(42)));
        assert!(items.verify().unwrap().is_sound());
    }
}

#[test]
fn text_ids_may_be_empty_and_very_long() {
    let _watchdog = watchdog(20);
    let long = "ü".repeat(50_000);
    let ids = ["", "\0", " ", "7", long.as_str()];
    let (_engine, items) = collection(3, CollectionConfig::new(1, Metric::L2));
    let _ = items.upsert(Record::new(7, [70.0])).unwrap();
    for (n, id) in ids.iter().enumerate() {
        items.upsert(Record::new(*id, [n as f32])).unwrap().wait().unwrap();
    }
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(items.get(*id).unwrap().unwrap().vector(), [n as f32]);
        let answer = items.search(&Query::new(&[n as f32]).top(1)).unwrap();
        assert_eq!(answer.hits()[0].id.as_text(), Some(*id));
    }
    items.delete_batch(ids).unwrap().wait().unwrap();
    assert_eq!((items.len(), items.contains(7).unwrap()), (1, true));
}

/// Runs one test of this file in a process of its own.
fn run_again(test: &str, isa: &str) {
    let binary = std::env::current_exe().unwrap();
    let test = format!("bad_input::{test}");
    let output = Command::new(binary).args(["--exact", &test]).env(ISA, isa).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{ISA}={isa}: {text}");
}

fn has(isa: &str) -> bool {
    match isa {
        "scalar" => true,
        #[cfg(target_arch = "x86_64")]
        "avx2" => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        #[cfg(target_arch = "x86_64")]
        "avx512" => is_x86_feature_detected!("avx512f"),
        #[cfg(target_arch = "aarch64")]
        "neon" => std::arch::is_aarch64_feature_detected!("neon"),
        _ => false,
    }
}

#[test]
fn every_instruction_set_of_this_machine_passes_the_same_tests() {
    let _watchdog = watchdog(300);
    for isa in ["scalar", "avx2", "avx512", "neon"].into_iter().filter(|isa| has(isa)) {
        run_again("every_vector_is_either_taken_or_refused_with_its_fault", isa);
        run_again("distances_of_extreme_vectors_are_numbers_also_in_the_index", isa);
    }
}

// Runs itself with the variable set: the variable is read once a process.
#[test]
fn an_instruction_set_that_is_not_there_is_refused_by_name() {
    let _watchdog = watchdog(60);
    let test = "an_instruction_set_that_is_not_there_is_refused_by_name";
    let absent = if has("neon") { "avx2" } else { "neon" };
    match std::env::var(ISA) {
        Ok(isa) if isa == "nonsense" || isa == absent => match Engine::builder().build() {
            Err(BuildError::Isa(text)) => assert!(text.contains(&isa) && text.contains("scalar"), "{text}"),
            other => panic!("{other:?}"),
        },
        _ => ["nonsense", absent].into_iter().for_each(|isa| run_again(test, isa)),
    }
}
