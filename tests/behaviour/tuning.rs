//! Goal: a search to a target reaches it, on queries that the collection has
//! not seen, before and after it grows; and says what it did.
//!
//! Method: clustered rows, held-out queries from the same clusters, recall by
//! distance against the exact search.

use std::time::Duration;

use crate::common::{block_on, clustered, index_specs, patience, watchdog};
use vecino::{
    CalibrateError, Calibration, Collection, CollectionConfig, CollectionError, Engine, Gone, IndexSpec,
    Metric, ParamsError, Query, Reach, Record, SearchError, SearchParams,
};

const DIM: usize = 24;
const SEED: u64 = 11;
const HELD_OUT: usize = 500;

/// A graph, however few the records are: exact searches have nothing to tune.
fn graph(metric: Metric) -> CollectionConfig {
    CollectionConfig::new(DIM, metric).index(IndexSpec::graph())
}

/// Rows and queries from the same clusters.
fn rows_and_queries(rows: usize) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let mut all = clustered(SEED, rows + HELD_OUT, DIM, 30);
    let queries = all.split_off(rows);
    (all, queries)
}

fn put(items: &Collection, rows: &[Vec<f32>], first: usize) {
    let record = |(at, row): (usize, &Vec<f32>)| Record::new((first + at) as u64, row.as_slice());
    for (number, part) in rows.chunks(1_000).enumerate() {
        let part = part.iter().enumerate().map(|(at, row)| (number * 1_000 + at, row));
        items.upsert_batch(part.map(record)).unwrap().wait().unwrap();
    }
}

fn collection(engine: &Engine, config: CollectionConfig, rows: &[Vec<f32>]) -> Collection {
    let items = engine.create_collection("items", config).unwrap();
    put(&items, rows, 0);
    items.optimize().unwrap();
    items
}

fn recall(items: &Collection, queries: &[Vec<f32>], k: usize, params: SearchParams) -> f64 {
    let mut found = 0;
    for query in queries {
        let query = Query::new(query).top(k);
        let exact = items.search(&query.clone().exact()).unwrap();
        let farthest = exact.hits()[k - 1].distance;
        let answer = items.search(&query.params(params)).unwrap();
        found += answer.hits().iter().filter(|hit| hit.distance <= farthest).count();
    }
    found as f64 / (k * queries.len()) as f64
}

/// Looks until the condition holds: the pool gives way to all other work, so
/// only the watchdog limits how long that takes.
fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn ef(items: &Collection, k: usize, params: SearchParams) -> usize {
    items.search(&Query::new(&[0.5; DIM]).top(k).params(params)).unwrap().stats().ef
}

/// What must not depend on time: the table without its times.
fn recalls(table: &Calibration) -> Vec<(usize, usize, f64, f64)> {
    let points = table.curves.iter().flat_map(|curve| curve.points.iter().map(|point| (curve.k, point)));
    points.map(|(k, point)| (k, point.ef, point.recall, point.recall_at_least)).collect()
}

#[test]
fn held_out_queries_reach_the_recall_that_was_asked_for() {
    let _watchdog = watchdog(300);
    for workers in [1, 3] {
        let engine = Engine::builder().workers(workers).build().unwrap();
        let (rows, queries) = rows_and_queries(8_000);
        let items = collection(&engine, graph(Metric::L2), &rows);
        items.calibrate().unwrap();
        for target in [0.95, 0.99] {
            for k in [1, 10, 30] {
                let reached = recall(&items, &queries, k, SearchParams::recall(target));
                assert!(
                    reached >= target - 0.01,
                    "{workers} shards: {reached} of the {k} nearest, not {target}"
                );
            }
        }
        engine.close().unwrap();
    }
}

#[test]
fn a_higher_recall_takes_more_breadth_and_the_answer_says_how_much() {
    let _watchdog = watchdog(300);
    let engine = Engine::builder().build().unwrap();
    let (rows, _) = rows_and_queries(6_000);
    // Codes of so few rows would all be read, at any breadth.
    let hnsw = CollectionConfig::new(DIM, Metric::L2).index(IndexSpec::hnsw());
    let items = collection(&engine, hnsw, &rows);
    let table = items.calibrate().unwrap();
    let breadths = [0.5, 0.9, 0.97, 0.995].map(|target| ef(&items, 10, SearchParams::recall(target)));
    assert!(breadths.is_sorted() && breadths[0] >= 10 && breadths[3] > breadths[0], "{breadths:?}");
    assert_eq!(ef(&items, 10, SearchParams::ef_search(77)), 77);
    assert_eq!(ef(&items, 90, SearchParams::ef_search(77)), 77, "a graph needs no breadth of k");
    assert_eq!(ef(&items, 10, SearchParams::recall(1.0)), 0);
    let stats = items.stats().tuning;
    assert_eq!(stats.calibration, Some(table.clone()));
    let asked = stats.targets.iter().find(|listed| listed.target == SearchParams::recall(0.97)).unwrap();
    assert_eq!((asked.choices[1].k, asked.choices[1].ef), (10, breadths[2]));
    assert_eq!(asked.choices[1].reach, Reach::Reached);
    assert_eq!((table.number, table.rows, table.samples), (1, 6_000, 400));
    for curve in &table.curves {
        assert!(curve.points.iter().all(|point| point.recall_at_least <= point.recall));
        assert!(curve.points.iter().all(|point| point.p50 <= point.p99 && point.p50 > Duration::ZERO));
    }
    engine.close().unwrap();
}

#[test]
fn the_most_breadth_within_a_time_is_used() {
    let _watchdog = watchdog(300);
    let engine = Engine::builder().build().unwrap();
    let (rows, _) = rows_and_queries(4_000);
    let items = collection(&engine, graph(Metric::L2), &rows);
    let table = items.calibrate().unwrap();
    let points = &table.curves[1].points;
    let (first, last) = (points[0], points[points.len() - 1]);
    assert_eq!(ef(&items, 10, SearchParams::p99(Duration::from_secs(60))), last.ef);
    assert_eq!(ef(&items, 10, SearchParams::p99(Duration::from_nanos(1))), first.ef);
    let reach = items.stats().tuning.targets.into_iter().map(|target| target.choices[1].reach);
    assert_eq!(reach.collect::<Vec<_>>(), [Reach::Reached, Reach::BestAvailable]);
    engine.close().unwrap();
}

#[test]
fn a_recall_that_no_sample_can_show_gets_the_best_there_is_and_stats_say_so() {
    let _watchdog = watchdog(300);
    let engine = Engine::builder().build().unwrap();
    let (rows, _) = rows_and_queries(4_000);
    let items = collection(&engine, graph(Metric::L2), &rows);
    let table = items.calibrate().unwrap();
    let best = table.curves[0].points.last().unwrap().ef;
    assert!(ef(&items, 1, SearchParams::recall(0.999_999)) >= best);
    assert_eq!(items.stats().tuning.targets[0].choices[0].reach, Reach::BestAvailable);
    engine.close().unwrap();
}

#[test]
fn the_first_search_to_a_target_starts_a_calibration_and_growth_repeats_it() {
    let _watchdog = watchdog(300);
    let engine = Engine::builder().build().unwrap();
    let (rows, queries) = rows_and_queries(8_000);
    let items = collection(&engine, graph(Metric::L2), &rows[..2_000]);
    assert_eq!(items.stats().tuning.calibration, None);
    let target = SearchParams::recall(0.95);
    assert_eq!(ef(&items, 10, target), 512, "the breadth while nothing is known");
    let tuning = items.stats().tuning;
    assert!(tuning.calibration.is_some() || tuning.targets[0].choices[1].reach == Reach::Unknown);
    let rows_measured = || items.stats().tuning.calibration.map_or(0, |table| table.rows);
    until(|| rows_measured() == 2_000);
    assert!(ef(&items, 10, target) < 512);

    put(&items, &rows[2_000..], 2_000);
    items.flush().unwrap();
    until(|| rows_measured() >= 8_000 * 2 / 3);
    let reached = recall(&items, &queries, 10, target);
    assert!(reached >= 0.94, "{reached} after growing");
    engine.close().unwrap();
}

#[test]
fn collections_that_nobody_searches_to_a_target_are_never_calibrated() {
    let _watchdog = watchdog(300);
    let engine = Engine::builder().build().unwrap();
    let (rows, queries) = rows_and_queries(4_000);
    let items = collection(&engine, graph(Metric::L2), &rows);
    for query in &queries {
        items.search(&Query::new(query).ef_search(20)).unwrap();
    }
    items.optimize().unwrap();
    let tuning = items.stats().tuning;
    assert!(tuning.calibration.is_none() && tuning.targets.is_empty());
    engine.close().unwrap();
}

#[test]
fn optimizing_calibrates_anew_where_targets_are_in_use() {
    let _watchdog = watchdog(300);
    let engine = Engine::builder().build().unwrap();
    let (rows, _) = rows_and_queries(2_000);
    let config = graph(Metric::L2).search(SearchParams::recall(0.9));
    let items = collection(&engine, config, &rows);
    let by_default = items.search(&Query::new(&rows[0])).unwrap().stats().ef;
    assert_eq!(by_default, 512);
    let generation = items.optimize().unwrap();
    let table = items.stats().tuning.calibration.unwrap();
    assert!(table.generation >= generation, "{} < {generation}", table.generation);
    assert!(items.search(&Query::new(&rows[0])).unwrap().stats().ef < 512);
    assert_eq!(items.stats().tuning.targets.len(), 1);
    engine.close().unwrap();
}

#[test]
fn the_recalls_of_a_table_are_a_function_of_the_writes() {
    let _watchdog = watchdog(300);
    let (rows, _) = rows_and_queries(3_000);
    let table_of = |threads| {
        let engine = Engine::builder().workers(2).pool_threads(threads).build().unwrap();
        let items = collection(&engine, graph(Metric::L2), &rows);
        let tables = [items.calibrate().unwrap(), items.calibrate().unwrap()];
        assert_eq!((tables[0].number, tables[1].number), (1, 2));
        assert_eq!(recalls(&tables[0]), recalls(&tables[1]));
        engine.close().unwrap();
        recalls(&tables[0])
    };
    assert_eq!(table_of(1), table_of(3));
}

#[test]
fn rows_that_are_all_the_same_or_in_many_copies_are_calibrated_like_others() {
    let _watchdog = watchdog(300);
    let engine = Engine::builder().build().unwrap();
    let copies = clustered(5, 60, DIM, 10);
    let copied: Vec<Vec<f32>> = (0..3_000).map(|at| copies[at % copies.len()].clone()).collect();
    let same = vec![copies[0].clone(); 1_500];
    for (name, rows) in [("copies", &copied), ("same", &same)] {
        let items = engine.create_collection(name, graph(Metric::Cosine)).unwrap();
        put(&items, rows, 0);
        items.optimize().unwrap();
        let table = items.calibrate().unwrap();
        let worst = table.curves.iter().map(|curve| curve.points[curve.points.len() - 1].recall);
        assert!(worst.clone().all(|recall| recall > 0.97), "{name}: {:?}", worst.collect::<Vec<_>>());
        let answer = items.search(&Query::new(&rows[0]).params(SearchParams::recall(0.9))).unwrap();
        assert_eq!(answer.len(), 10);
    }
    engine.close().unwrap();
}

#[test]
fn empty_and_tiny_collections_answer_targets_exactly() {
    let _watchdog = watchdog(60);
    let engine = Engine::builder().workers(2).build().unwrap();
    let items = engine.create_collection("items", graph(Metric::L2)).unwrap();
    let rows = clustered(3, 900, DIM, 5);
    for count in [0, 1, 2, 11, 900] {
        put(&items, &rows[..count], 0);
        for params in [SearchParams::recall(0.5), SearchParams::p99(Duration::from_millis(5))] {
            let answer = items.search(&Query::new(&rows[0]).params(params)).unwrap();
            let exact = items.search(&Query::new(&rows[0]).exact()).unwrap();
            assert_eq!((answer.hits(), answer.stats().ef), (exact.hits(), 0), "{count} rows");
        }
        let table = items.calibrate().unwrap();
        assert_eq!(table.rows, count);
        assert!(table.curves.iter().all(|curve| curve.k < count && !curve.points.is_empty()));
        assert!(items.stats().tuning.targets.iter().all(|target| target.choices[1].reach == Reach::Exact));
    }
    engine.close().unwrap();
}

#[test]
fn flat_collections_take_targets_and_stay_exact() {
    let _watchdog = watchdog(60);
    let engine = Engine::builder().build().unwrap();
    let (rows, queries) = rows_and_queries(3_000);
    let config = CollectionConfig::new(DIM, Metric::Dot).index(IndexSpec::Flat);
    let items = collection(&engine, config.search(SearchParams::p99(Duration::from_micros(1))), &rows);
    for target in [0.1, 0.99, 1.0] {
        assert_eq!(recall(&items, &queries[..50], 10, SearchParams::recall(target)), 1.0);
    }
    assert!(items.calibrate().unwrap().curves.is_empty());
    let choices = items.stats().tuning.targets.into_iter().flat_map(|target| target.choices);
    assert!(choices.map(|choice| (choice.ef, choice.reach)).all(|choice| choice == (0, Reach::Exact)));
    engine.close().unwrap();
}

#[test]
fn what_is_no_target_is_a_typed_error_on_every_way_in() {
    let _watchdog = watchdog(60);
    let engine = Engine::builder().build().unwrap();
    let bad = [0.0, -0.0, -1.0, 1.000_001, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    let bad = bad.into_iter().map(SearchParams::recall).chain([SearchParams::p99(Duration::ZERO)]);
    for (number, index) in index_specs().into_iter().enumerate() {
        let config = graph(Metric::L2).index(index);
        let items = engine.create_collection(&number.to_string(), config).unwrap();
        for params in bad.clone() {
            let query = Query::new(&[0.5; DIM]).params(params);
            let is_named = |fault: SearchError| match fault {
                SearchError::Params(ParamsError::Recall { got }) => !(got > 0.0 && got <= 1.0),
                SearchError::Params(ParamsError::P99) => true,
                _ => false,
            };
            assert!(is_named(items.search(&query).unwrap_err()), "{params}");
            assert!(is_named(items.snapshot().search(&query).unwrap_err()), "{params}");
            assert!(is_named(items.search_batch(std::slice::from_ref(&query)).unwrap_err()), "{params}");
            assert!(is_named(block_on(items.search_async(query)).unwrap_err()), "{params}");
            let refused = engine.create_collection("bad", config.search(params)).unwrap_err();
            assert!(matches!(refused, CollectionError::Params(_)), "{refused}");
        }
        let breadth = config.search(SearchParams::ef_search(0));
        let refused = engine.create_collection("bad", breadth).unwrap_err();
        assert!(matches!(refused, CollectionError::Setting { parameter: "ef_search", value: 0, .. }));
    }
    engine.close().unwrap();
}

#[test]
fn the_workers_search_to_the_same_target_as_the_caller() {
    let _watchdog = watchdog(300);
    let engine = Engine::builder().workers(2).build().unwrap();
    let (rows, queries) = rows_and_queries(3_000);
    let items = collection(&engine, graph(Metric::L2), &rows);
    items.calibrate().unwrap();
    let query = Query::new(&queries[0]).params(SearchParams::recall(0.97));
    let here = items.search(&query).unwrap();
    let there = block_on(items.search_async(query.clone())).unwrap();
    assert_eq!(here.stats().ef, there.stats().ef);
    assert_eq!(items.search_batch(&[query]).unwrap()[0].stats().ef, here.stats().ef);
    engine.close().unwrap();
}

#[test]
fn a_held_snapshot_goes_by_the_table_that_it_was_taken_with() {
    let _watchdog = watchdog(300);
    let engine = Engine::builder().build().unwrap();
    let (rows, queries) = rows_and_queries(2_000);
    let items = collection(&engine, graph(Metric::L2), &rows);
    let query = Query::new(&queries[0]).params(SearchParams::recall(0.9));
    let before = items.snapshot();
    items.calibrate().unwrap();
    assert_eq!(before.search(&query).unwrap().stats().ef, 512);
    assert!(items.snapshot().search(&query).unwrap().stats().ef < 512);
    engine.close().unwrap();
}

#[test]
fn closing_the_engine_or_dropping_the_collection_ends_a_calibration_at_once() {
    let _watchdog = watchdog(120);
    let (rows, _) = rows_and_queries(6_000);
    for close in [true, false] {
        let engine = Engine::builder().build().unwrap();
        let config = graph(Metric::L2).index(IndexSpec::hnsw());
        let items = collection(&engine, config, &rows);
        let gone = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..4).map(|_| scope.spawn(|| calibrate_until_gone(&items))).collect();
            // When the first one is done, those of the others are queued or under way.
            items.calibrate().unwrap();
            let started = std::time::Instant::now();
            if close {
                engine.close().unwrap()
            } else {
                engine.drop_collection("items").unwrap()
            }
            let limit = Duration::from_secs(10) * patience();
            assert!(started.elapsed() < limit, "took {:?}", started.elapsed());
            callers.into_iter().map(|caller| caller.join().unwrap()).collect::<Vec<_>>()
        });
        let expected = if close { Gone::Closed } else { Gone::Dropped("items".to_owned()) };
        assert!(gone.into_iter().all(|told| told == expected));
        assert_eq!(items.calibrate(), Err(CalibrateError::Gone(expected)));
        engine.close().unwrap();
    }
}

fn calibrate_until_gone(items: &Collection) -> Gone {
    loop {
        match items.calibrate() {
            Ok(_) => {}
            Err(CalibrateError::Gone(gone)) => return gone,
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn writes_go_on_during_calibrations_on_a_pool_of_one_thread() {
    let _watchdog = watchdog(120);
    let engine = Engine::builder().pool_threads(1).build().unwrap();
    let (rows, _) = rows_and_queries(6_000);
    let items = collection(&engine, graph(Metric::L2), &rows[..2_000]);
    std::thread::scope(|scope| {
        let calibrating = scope.spawn(|| (0..3).map(|_| items.calibrate().unwrap().rows).collect::<Vec<_>>());
        let mut during = 0;
        for (id, row) in (2_000u64..).zip(&rows[2_000..2_500]) {
            items.upsert(Record::new(id, row.as_slice())).unwrap().wait().unwrap();
            during += u32::from(!calibrating.is_finished());
        }
        put(&items, &rows[2_500..], 2_500);
        assert!(during > 0, "no write was found during a calibration");
        let measured = calibrating.join().unwrap();
        assert!(measured.is_sorted(), "{measured:?}");
    });
    items.optimize().unwrap();
    let stats = items.stats();
    assert_eq!((stats.rows, stats.tail), (6_000, 0));
    assert!(items.verify().unwrap().is_sound());
    engine.close().unwrap();
}
