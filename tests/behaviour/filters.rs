//! Goal: under a filter the nearest records that pass are found, however many
//! pass and wherever they lie, in every way of searching; and what is written
//! beside vectors survives restarts.

use std::path::PathBuf;
use std::time::Duration;

use crate::common::{METRICS, Rng, block_on, clustered, distance, eventually, watchdog};
use vecino::{
    Answer, Collection, CollectionConfig, Completeness, Durability, Engine, ExclusionSet, Filter,
    FilterError, FilterPlan, Groups, IndexSpec, Metric, Payload, PayloadUpdate, Query, Record, RecordId,
    Scoring, SearchError, Snapshot, Timestamp, Value, WriteError,
};

const ROWS: usize = 12_000;
const DIM: usize = 16;

/// From 32 on there are codes for exact searches.
const CODED_DIM: usize = 40;
const CLUSTERS: usize = 40;

/// Rows in thousands that pass: 90 % to 0.01 %.
const SHARES: [usize; 7] = [9_000, 5_000, 1_000, 300, 100, 10, 1];

struct Place {
    items: Collection,
    _engine: Engine,
    vectors: Vec<Vec<f32>>,
    metric: Metric,
    payloads: Vec<Payload>,
}

/// Fields: `random` is independent of the vector; `near` ranks the rows by their
/// distance to the first query: few that pass lie all near it, or all far away.
fn place(metric: Metric, index: IndexSpec, workers: usize, queries: &[Vec<f32>]) -> Place {
    let dim = queries[0].len();
    let engine = Engine::builder().workers(workers).pool_threads(2).build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(dim, metric).index(index)).unwrap();
    let vectors = clustered(5, ROWS, dim, CLUSTERS);
    let mut rng = Rng::new(3);
    let mut ranks: Vec<usize> = (0..ROWS).collect();
    let far = |row: &usize| distance(metric, &queries[0], &vectors[*row]);
    ranks.sort_by(|a, b| far(a).total_cmp(&far(b)));
    let mut near = vec![0; ROWS];
    ranks.iter().enumerate().for_each(|(rank, row)| near[*row] = rank * 10_000 / ROWS);
    let payloads: Vec<Payload> = (0..ROWS)
        .map(|row| Payload::new().with("random", rng.below(10_000) as i64).with("near", near[row] as i64))
        .collect();
    let records = (0..ROWS)
        .map(|row| Record::new(row as u64, vectors[row].clone()).with_payload(payloads[row].clone()));
    items.upsert_batch(records).unwrap();
    items.optimize().unwrap();
    Place { items, _engine: engine, vectors, metric, payloads }
}

impl Place {
    fn exact(&self, query: &[f32], filter: &Filter, k: usize) -> Vec<f64> {
        let passing = (0..ROWS).filter(|row| filter.matches(&(*row as u64).into(), &self.payloads[*row]));
        let mut all: Vec<f64> = passing.map(|row| distance(self.metric, query, &self.vectors[row])).collect();
        all.sort_by(f64::total_cmp);
        all.truncate(k);
        all
    }

    /// Hits that are as near as the true k-th, and those that there should be.
    fn judge(&self, query: &[f32], filter: &Filter, k: usize, answer: &Answer) -> (usize, usize) {
        let exact = self.exact(query, filter, k);
        assert_eq!(answer.len(), exact.len(), "never short while more pass");
        let is_full = answer.completeness() == Completeness::Complete;
        assert_eq!(is_full, exact.len() == k);
        let last = exact.last().copied().unwrap_or(0.0);
        for hit in answer {
            let row = hit.id.as_num().unwrap() as usize;
            assert!(filter.matches(&hit.id, &self.payloads[row]), "{} does not pass", hit.id);
        }
        let right =
            answer.hits().iter().filter(|hit| f64::from(hit.distance) <= last + 1e-4 * (1.0 + last.abs()));
        (right.count(), exact.len())
    }
}

fn filters(share: usize) -> [(&'static str, Filter); 3] {
    let share = share as i64;
    [
        ("independent", Filter::lt("random", share)),
        ("near the query", Filter::lt("near", share)),
        ("far from the query", Filter::ge("near", 10_000 - share)),
    ]
}

fn queries() -> Vec<Vec<f32>> {
    clustered(5, 30, DIM, CLUSTERS)
}

#[test]
fn the_nearest_that_pass_are_found_whatever_share_passes_and_wherever_they_lie() {
    let _watchdog = watchdog(240);
    let queries = queries();
    let mut plans = Vec::new();
    for (metric, index) in
        METRICS.iter().flat_map(|m| [IndexSpec::graph(), IndexSpec::hnsw()].map(|i| (*m, i)))
    {
        let place = place(metric, index, 1, &queries);
        for share in SHARES {
            for (name, filter) in filters(share) {
                let (mut right, mut all) = (0, 0);
                for query in &queries {
                    let asked = Query::new(query).ef_search(100).filter(filter.clone());
                    let answer = place.items.search(&asked).unwrap();
                    let (found, there) = place.judge(query, &filter, 10, &answer);
                    (right, all) = (right + found, all + there);
                    plans.push(answer.stats().filter.unwrap().plan);
                }
                let recall = right as f64 / all.max(1) as f64;
                assert!(recall >= 0.99 || all == 0, "{metric} {index:?} {name} {share}: {recall}");
            }
        }
    }
    for plan in [FilterPlan::Scan, FilterPlan::Walk] {
        assert!(plans.contains(&plan), "{plan:?} was never chosen");
    }
}

#[test]
fn every_way_of_searching_takes_a_filter_for_each_query() {
    let _watchdog = watchdog(120);
    let queries = queries();
    for (index, workers) in [(IndexSpec::graph(), 1), (IndexSpec::hnsw(), 3), (IndexSpec::Flat, 2)] {
        let place = place(Metric::L2, index, workers, &queries);
        let all: Vec<(usize, Option<Filter>)> = (0..queries.len())
            .map(|at| (at, (at % 4 > 0).then(|| filters(SHARES[at % 7])[at % 3].1.clone())))
            .collect();
        let asked: Vec<Query<'_>> = all
            .iter()
            .map(|(at, filter)| {
                let query = Query::new(&queries[*at]).ef_search(100);
                filter.clone().map_or(query.clone(), |filter| query.filter(filter))
            })
            .collect();
        let snapshot = place.items.snapshot();
        let single: Vec<Answer> = asked.iter().map(|query| snapshot.search(query).unwrap()).collect();
        let futures = asked.iter().map(|query| block_on(place.items.search_async(query.clone())).unwrap());
        for (way, answers) in [
            ("many", snapshot.search_many(&asked).unwrap()),
            ("batch", snapshot.search_batch(&asked).unwrap()),
            ("async", futures.collect()),
        ] {
            let (mut right, mut there) = (0, 0);
            for (((at, filter), answer), single) in all.iter().zip(&answers).zip(&single) {
                let filter = filter.clone().unwrap_or(Filter::all([]));
                let judged = place.judge(&queries[*at], &filter, 10, answer);
                (right, there) = (right + judged.0, there + judged.1);
                assert_eq!(answer.stats().filter.is_some(), single.stats().filter.is_some());
                if workers == 1 {
                    assert_eq!(answer.hits(), single.hits(), "{way}");
                }
            }
            assert!(right * 100 >= there * 99, "{way}: {right} of {there}");
        }
    }
}

#[test]
fn rows_that_are_not_in_the_index_yet_are_filtered_too() {
    let engine = Engine::builder().build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(1, Metric::L2)).unwrap();
    for id in 0..300u64 {
        items.upsert(Record::new(id, [id as f32]).with("odd", id % 2 == 1)).unwrap();
        if id % 10 == 9 {
            items.flush().unwrap();
            let filter = Filter::eq("odd", true);
            let answer = items.search(&Query::new(&[id as f32]).top(1_000).filter(filter)).unwrap();
            assert!(answer.hits().iter().all(|hit| hit.id.as_num().unwrap() % 2 == 1));
            assert_eq!((answer.len(), answer.hits()[0].distance), (id as usize / 2 + 1, 0.0));
            assert_eq!(answer.completeness(), Completeness::FewerMatch);
        }
    }
}

#[test]
fn what_cannot_be_stored_or_asked_is_refused_with_its_reason() {
    let engine = Engine::builder().build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(1, Metric::L2)).unwrap();
    let bad = items.upsert_batch([Record::new(1, [0.0]), Record::new(2, [0.0]).with("a", f64::INFINITY)]);
    assert!(matches!(bad, Err(WriteError::Payload { position: 1, .. })), "{bad:?}");
    assert!(matches!(items.delete_fields(1, ["a..b"]), Err(WriteError::Payload { position: 0, .. })));
    assert!(matches!(items.set_payload(1, Payload::new().with("", 1)), Err(WriteError::Payload { .. })));
    items.flush().unwrap();
    assert!(items.is_empty());
    let filter = Filter::eq("a", [1, 2]);
    for outcome in [
        items.search(&Query::new(&[0.0]).filter(filter.clone())),
        items.search_batch(&[Query::new(&[0.0]).filter(filter.clone())]).map(|mut answers| answers.remove(0)),
        block_on(items.search_async(Query::new(&[0.0]).filter(filter.clone()))),
    ] {
        assert!(matches!(outcome, Err(SearchError::Filter(FilterError::Value { .. }))), "{outcome:?}");
    }
}

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("vecino-filters-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn every_kind(id: u64) -> Payload {
    let empty: Vec<Value> = Vec::new();
    Payload::new()
        .with("null", Value::Null)
        .with("truth", id.is_multiple_of(2))
        .with("whole", id as i64 - 50)
        .with("float", id as f64 / 4.0)
        .with("time", Timestamp::from_secs(id as i64))
        .with("text.inner", format!("text {id}"))
        .with("list", ["x", "y", "x"])
        .with("empty", empty)
}

fn content(snapshot: &Snapshot) -> Vec<(RecordId, Payload)> {
    let records = snapshot.scroll(None, usize::MAX).unwrap().records;
    let mut all: Vec<_> =
        records.into_iter().map(|record| (record.id().clone(), record.payload().clone())).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn payloads_are_there_again_after_reopening_from_logs_and_from_checkpoints() {
    let folder = Folder::new("reopen");
    let open = || Engine::builder().workers(2).durability(Durability::Logged).open(&folder.0).unwrap();
    let engine = open();
    let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2)).unwrap();
    let records = (0..100u64).map(|id| Record::new(id, [id as f32, 0.0]).with_payload(every_kind(id)));
    items.upsert_batch(records).unwrap();
    items.upsert(Record::new(500, [1.0, 1.0])).unwrap();
    items.merge_payload(3, Payload::new().with("whole", "text now").with("new.field", 1)).unwrap();
    items.delete_fields(4, ["text", "list"]).unwrap();
    items.set_payload(5, Payload::new()).unwrap();
    items.delete(6).unwrap().wait().unwrap();
    let expected = content(&items.snapshot());
    assert_eq!(expected.len(), 100);
    assert_eq!(items.get(7).unwrap().unwrap().payload(), &every_kind(7));
    engine.close().unwrap();

    let engine = open();
    let items = engine.collection("items").unwrap();
    assert_eq!(content(&items.snapshot()), expected, "from the logs");
    engine.checkpoint().unwrap();
    let updates = (10..20u64).map(|id| PayloadUpdate::merge(id, Payload::new().with("whole", 7)));
    items.update_payloads(updates).unwrap().wait().unwrap();
    let expected = content(&items.snapshot());
    let backup = folder.0.join("backup");
    items.snapshot().checkpoint(&backup).unwrap();
    engine.close().unwrap();

    let engine = open();
    let items = engine.collection("items").unwrap();
    assert_eq!(content(&items.snapshot()), expected, "from a checkpoint and the logs after it");
    let sevens = Query::new(&[0.0, 0.0]).top(50).filter(Filter::eq("whole", 7));
    assert_eq!(items.search(&sevens).unwrap().len(), 11);
    engine.close().unwrap();

    assert_eq!(content(&Snapshot::open(&backup).unwrap()), expected, "from a backup");
    let other = Engine::builder().workers(3).build().unwrap();
    let copy = other.load("copy", &backup).unwrap();
    assert_eq!(content(&copy.snapshot()), expected, "spread over other shards");
}

#[test]
fn payloads_are_counted_and_given_back() {
    let engine = Engine::builder().build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2)).unwrap();
    items.upsert_batch((0..5_000u64).map(|id| Record::new(id, [id as f32, 0.0]))).unwrap().wait().unwrap();
    assert_eq!(items.stats().bytes.payload, 0);
    let records = (0..5_000u64).map(|id| Record::new(id, [id as f32, 0.0]).with_payload(every_kind(id)));
    items.upsert_batch(records).unwrap().wait().unwrap();
    let full = items.stats().bytes.payload;
    assert!(full > 5_000 * 40 && full < 5_000 * 200, "{full}");
    items.delete_batch(0..5_000u64).unwrap();
    items.optimize().unwrap();
    items.upsert(Record::new(1, [0.0, 0.0])).unwrap().wait().unwrap();
    eventually("payloads of deleted records are given back", || items.stats().bytes.payload < full / 10);
}

#[test]
fn excluded_records_are_left_out_and_the_nearest_others_found() {
    let _watchdog = watchdog(120);
    let queries = queries();
    for (index, workers) in [(IndexSpec::graph(), 1), (IndexSpec::hnsw(), 2), (IndexSpec::Flat, 1)] {
        let place = place(Metric::L2, index, workers, &queries);
        let mut seen = ExclusionSet::new();
        for (at, query) in queries.iter().enumerate() {
            let filter = if at % 3 == 0 { Filter::all([]) } else { Filter::lt("random", 10_000 / at as i64) };
            let base = Query::new(query).top(20).ef_search(100).exclude_set(&seen);
            let asked = if at % 3 == 0 { base } else { base.filter(filter.clone()) };
            let answer = match at % 2 {
                0 => place.items.search(&asked).unwrap(),
                _ => block_on(place.items.search_async(asked.clone())).unwrap(),
            };
            assert_eq!(place.items.search_batch(&[asked]).unwrap()[0].len(), answer.len());
            assert!(answer.hits().iter().all(|hit| !seen.contains(&hit.id)));
            let others =
                filter & !Filter::ids((0..ROWS as u64).map(RecordId::from).filter(|id| seen.contains(id)));
            let (right, there) = place.judge(query, &others, 20, &answer);
            assert!(right + 1 >= there, "{index:?} {at}: {right} of {there}");
            seen.extend(answer.hits().iter().map(|hit| hit.id.clone()));
        }
        seen.extend(0..ROWS as u64 - 3);
        let rest = place.items.search(&Query::new(&queries[0]).top(9).exclude_set(&seen)).unwrap();
        let left = (0..ROWS as u64).filter(|id| !seen.contains(&(*id).into())).count();
        assert!(left > 0);
        assert_eq!((rest.len(), rest.completeness()), (left, Completeness::FewerMatch));
    }
}

// What is excluded may be on other shards, or not there at all.
#[test]
fn a_large_set_of_excluded_records_does_not_make_a_search_look_at_everything() {
    let _watchdog = watchdog(120);
    let queries = queries();
    for workers in [1, 2] {
        let place = place(Metric::L2, IndexSpec::graph(), workers, &queries);
        let mut seen = ExclusionSet::new();
        seen.extend(0..ROWS as u64 / 4);
        seen.extend(1_000_000..1_000_000 + ROWS as u64);
        let query = Query::new(&queries[0]).ef_search(10).exclude_set(&seen);
        let answer = place.items.search(&query).unwrap();
        assert_eq!(answer.len(), 10);
        assert_eq!(answer.stats().filter.unwrap().plan, FilterPlan::Walk, "{workers} workers");
    }
}

#[test]
fn exact_searches_under_a_filter_are_exact_with_and_without_codes() {
    let queries = clustered(5, 30, CODED_DIM, CLUSTERS);
    for index in [IndexSpec::graph(), IndexSpec::hnsw(), IndexSpec::Flat] {
        let place = place(Metric::Cosine, index, 1, &queries);
        // Exact searches are frequent: the index gets ready for them.
        eventually("codes rule rows out", || {
            let answer = place.items.search(&Query::new(&queries[0]).exact()).unwrap();
            answer.stats().distances * 2 < ROWS as u64
        });
        for share in SHARES {
            for (name, filter) in filters(share) {
                let answer =
                    place.items.search(&Query::new(&queries[1]).filter(filter.clone()).exact()).unwrap();
                let (right, there) = place.judge(&queries[1], &filter, 10, &answer);
                assert_eq!(right, there, "{index:?} {name} {share}");
                assert_eq!(answer.stats().filter.unwrap().plan, FilterPlan::Scan);
                let passing =
                    (0..ROWS).filter(|row| filter.matches(&0.into(), &place.payloads[*row])).count();
                assert_eq!(answer.stats().filter.unwrap().matching, passing);
            }
        }
    }
}

#[test]
fn a_record_that_is_in_several_groups_counts_in_each_of_them() {
    let engine = Engine::builder().build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(1, Metric::L2)).unwrap();
    // The group "all" is nearest everywhere; each of the others has a few records, ever farther away.
    let record = |id: u64| {
        Record::new(id, [id as f32]).with("tags", vec!["all".to_owned(), format!("of {}", id / 50)])
    };
    items.upsert_batch((0..400).map(record)).unwrap().wait().unwrap();
    for size in [1, 3] {
        let groups = items.snapshot().search_groups(&Query::new(&[0.0]), "tags", 6, size).unwrap();
        let names: Vec<&str> = groups.iter().filter_map(|group| group.value.as_text()).collect();
        assert_eq!(names, ["all", "of 0", "of 1", "of 2", "of 3", "of 4"]);
        assert!(groups.iter().all(|group| group.hits.len() == size));
    }
}

#[test]
fn groups_share_the_filter_the_time_and_the_ranking_of_their_query() {
    let engine = Engine::builder().build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(1, Metric::L2)).unwrap();
    let record =
        |id: u64| Record::new(id, [id as f32]).with("decade", id as i64 / 10).with("pinned", id / 10 == 4);
    items.upsert_batch((0..100).map(record)).unwrap().wait().unwrap();
    let (snapshot, query) = (items.snapshot(), Query::new(&[0.0]));
    let decades =
        |groups: &Groups| -> Vec<Option<i64>> { groups.iter().map(|group| group.value.as_int()).collect() };

    // As deep as a filter may be.
    let deep = (0..31).fold(Filter::ge("decade", 3), |inner, at| {
        if at == 0 { Filter::any([inner]) } else { Filter::all([inner]) }
    });
    let found = snapshot.search_groups(&query.clone().filter(deep), "decade", 2, 1).unwrap();
    assert_eq!((decades(&found), found.completeness), (vec![Some(3), Some(4)], Completeness::Complete));
    let all = snapshot.search_groups(&query, "decade", 11, 1).unwrap();
    assert_eq!((all.len(), all.completeness), (10, Completeness::FewerMatch));

    // By rank, as hits.
    let scored = query.clone().scoring(Scoring::new().boost(Filter::eq("pinned", true), 1e6));
    assert_eq!(decades(&snapshot.search_groups(&scored, "decade", 2, 3).unwrap()), [Some(4), Some(0)]);

    let late = snapshot.search_groups(&query.clone().deadline(Duration::ZERO), "decade", 3, 1).unwrap();
    assert_eq!((late.len(), late.completeness), (0, Completeness::Deadline));
    let spent = snapshot.search_groups(&query.clone().budget(150), "decade", 5, 1).unwrap();
    assert!(spent.completeness == Completeness::Budget && spent.distances <= 400, "{}", spent.distances);
    // What was seen by then is not thrown away, and nothing is looked for any more.
    assert_eq!((decades(&spent)[0], spent[0].hits[0].id.as_num()), (Some(0), Some(0)));
    let first = snapshot.search_groups(&query.budget(50), "decade", 3, 2).unwrap();
    assert!(first.completeness == Completeness::Budget && first.distances <= 200, "{}", first.distances);
    assert!(!first.is_empty() && first.iter().all(|group| !group.hits.is_empty()), "{first:?}");
}
