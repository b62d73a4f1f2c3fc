//! Goal: what fields earn a record counts during the search, so no record is
//! missed that has a place in the answer.
//!
//! Method: a twin computes distance and bonus of every record and sorts.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{Rng, block_on, clustered, index_specs, watchdog};
use vecino::{
    Answer, Collection, CollectionConfig, Engine, Filter, ManualClock, Metric, ParamsError, Payload, Query,
    Record, Scoring, SearchError, Timestamp,
};

const DIM: usize = 16;
const ROWS: usize = 3_000;
const DAY: u64 = 86_400;

struct Twin {
    vectors: Vec<Vec<f32>>,
    payloads: Vec<Payload>,
    /// How much bonuses count: enough that many records that are far come first.
    weight: f64,
}

impl Twin {
    fn new(seed: u64) -> Twin {
        let mut rng = Rng::new(seed);
        let payload = |_| {
            let payload = Payload::new().with("kind", rng.below(4) as i64);
            // Some lack a field, or have another kind of value.
            let payload = match rng.below(5) {
                0 => payload,
                1 => payload.with("used", "yesterday"),
                _ => payload.with("used", Timestamp::from_secs((rng.below(100) as u64 * DAY) as i64)),
            };
            match rng.below(3) {
                0 => payload.with("importance", rng.below(11) as i64),
                1 => payload.with("importance", rng.below(100) as f64 / 10.0),
                _ => payload,
            }
        };
        let vectors = clustered(seed, ROWS, DIM, 40);
        let mut distances: Vec<f64> = vectors.iter().map(|vector| squared(&vectors[0], vector)).collect();
        distances.sort_by(f64::total_cmp);
        Twin { weight: distances[ROWS / 10], vectors, payloads: (0..ROWS).map(payload).collect() }
    }

    fn fill(&self, items: &Collection) {
        let records = (0..ROWS).map(|row| {
            Record::new(row as u64, self.vectors[row].clone()).with_payload(self.payloads[row].clone())
        });
        items.upsert_batch(records).unwrap().wait().unwrap();
    }

    /// The ranks of those that pass, least first, by the rules of the documentation.
    fn ranks(&self, query: &[f32], passes: impl Fn(&Payload) -> bool) -> Vec<(f64, u64)> {
        let bonus = |payload: &Payload| {
            let age = match payload.get("used") {
                Some(vecino::Value::Time(time)) => Some((100 * DAY) as f64 - time.0 as f64 / 1e6),
                _ => None,
            };
            let decay = age.map_or(0.0, |age| (-age / (10 * DAY) as f64).exp2());
            let importance = payload.get("importance").and_then(vecino::Value::as_float).unwrap_or(0.0);
            let kind = payload.get("kind").and_then(vecino::Value::as_int) == Some(2);
            let bonus = 0.5 * decay + 0.4 * (importance / 10.0).min(1.0) - 0.3 * f64::from(u8::from(kind));
            bonus * self.weight
        };
        let rows = (0..ROWS).filter(|row| passes(&self.payloads[*row]));
        let mut ranks: Vec<(f64, u64)> = rows
            .map(|row| (squared(query, &self.vectors[row]) - bonus(&self.payloads[row]), row as u64))
            .collect();
        ranks.sort_by(|a, b| a.partial_cmp(b).unwrap());
        ranks
    }
}

fn squared(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

fn scoring(weight: f64) -> Scoring {
    let weight = weight as f32;
    Scoring::new()
        .decay("used", Duration::from_secs(10 * DAY), 0.5 * weight)
        .share("importance", 10.0, 0.4 * weight)
        .boost(Filter::eq("kind", 2), -0.3 * weight)
}

fn clock() -> Arc<ManualClock> {
    let clock = Arc::new(ManualClock::default());
    clock.advance(Duration::from_secs(100 * DAY));
    clock
}

/// The share of the twin's first k that an answer has; checks what holds for all.
fn recall(answer: &Answer, ranks: &[(f64, u64)], k: usize) -> f64 {
    assert_eq!(answer.len(), k.min(ranks.len()));
    let worst = ranks[answer.len() - 1].0;
    let worst = worst + 1e-5 * (1.0 + worst.abs());
    let mut last = f32::NEG_INFINITY;
    let mut found = 0;
    for hit in answer {
        let rank = hit.distance - hit.bonus;
        assert!(rank >= last, "out of order");
        last = rank;
        let own = ranks.iter().find(|(_, id)| hit.id == (*id).into()).unwrap();
        assert!((own.0 - f64::from(rank)).abs() < 1e-4 * (1.0 + own.0.abs()), "{rank} is {}", own.0);
        found += usize::from(own.0 <= worst);
    }
    found as f64 / answer.len() as f64
}

#[test]
fn no_better_record_is_missed() {
    let _watchdog = watchdog(300);
    for (index, workers) in index_specs().into_iter().flat_map(|index| [(index, 1), (index, 2)]) {
        let twin = Twin::new(5);
        let engine = Engine::builder().workers(workers).clock(clock()).build().unwrap();
        let config = CollectionConfig::new(DIM, Metric::L2).index(index);
        let items = engine.create_collection("items", config).unwrap();
        twin.fill(&items);
        let few = Filter::lt("kind", 2);
        let (mut sum, mut count) = (0.0, 0.0);
        for query in clustered(6, 20, DIM, 40) {
            let all = twin.ranks(&query, |_| true);
            let some = twin.ranks(&query, |payload| payload.get("kind").unwrap().as_int() < Some(2));
            for k in [1, 10, 100] {
                let asked = Query::new(&query).top(k).scoring(scoring(twin.weight)).ef_search(100);
                let exact = items.search(&asked.clone().exact()).unwrap();
                assert_eq!(recall(&exact, &all, k), 1.0, "{index:?}");
                let exact = items.search(&asked.clone().exact().filter(few.clone())).unwrap();
                assert_eq!(recall(&exact, &some, k), 1.0, "{index:?}");
                sum += recall(&items.search(&asked).unwrap(), &all, k);
                sum += recall(&block_on(items.search_async(asked.clone())).unwrap(), &all, k);
                sum += recall(&items.search(&asked.filter(few.clone())).unwrap(), &some, k);
                count += 3.0;
            }
        }
        assert!(sum / count > 0.98, "{index:?}: {}", sum / count);
    }
}

#[test]
fn a_scoring_goes_together_with_a_distance_that_bounds_it_and_with_expiry() {
    let clock = clock();
    let engine = Engine::builder().clock(Arc::clone(&clock) as _).build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(1, Metric::L2)).unwrap();
    let record = |id: u64| Record::new(id, [id as f32]).with("importance", id as i64);
    items.upsert_batch((0..100).map(|id| record(id).ttl(Duration::from_secs(100 + id)))).unwrap();
    items.flush().unwrap();
    let scoring = Scoring::new().share("importance", 100.0, 1_000.0);
    let query = Query::new(&[0.0]).top(3).scoring(scoring);
    let ids = |query: &Query<'_>| -> Vec<String> {
        items.search(query).unwrap().hits().iter().map(|hit| hit.id.to_string()).collect()
    };
    // The bonus of id is 10 id, the distance its square: 5 comes first.
    assert_eq!(ids(&query), ["5", "4", "6"]);
    assert_eq!(ids(&query.clone().within(9.0)), ["3", "2", "1"]);
    assert_eq!(ids(&query.clone().exclude([5])), ["4", "6", "3"]);
    clock.advance(Duration::from_secs(105));
    assert_eq!(ids(&query), ["6", "7", "8"]);
}

// Some indexes give rows beyond the distance that they were asked for.
#[test]
fn a_scoring_never_brings_back_what_lies_beyond_the_distance() {
    let _watchdog = watchdog(240);
    for index in index_specs() {
        let engine = Engine::builder().build().unwrap();
        let config = CollectionConfig::new(1, Metric::L2).index(index);
        let items = engine.create_collection("items", config).unwrap();
        let record = |id: u64| Record::new(id, [id as f32]).with("importance", id as i64);
        items.upsert_batch((0..3_000).map(record)).unwrap().wait().unwrap();
        items.flush().unwrap();
        let scoring = Scoring::new().share("importance", 3_000.0, 1.0);
        let query = Query::new(&[0.0]).top(10).within(9.0).scoring(scoring);
        let odd = query.clone().exclude([1, 3]);
        let answers = [items.search(&query), items.search(&odd), block_on(items.search_async(query.clone()))];
        for answer in answers {
            let answer = answer.unwrap();
            assert!(answer.hits().iter().all(|hit| hit.distance <= 9.0), "{index:?}: {:?}", answer.hits());
            assert!(!answer.hits().is_empty() && answer.len() <= 4, "{index:?}");
        }
    }
}

#[test]
fn the_time_of_a_scoring_can_be_said() {
    let engine = Engine::builder().build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(1, Metric::L2)).unwrap();
    for (id, seconds) in [(1, 0), (2, 100)] {
        items.upsert(Record::new(id, [id as f32]).with("at", Timestamp::from_secs(seconds))).unwrap();
    }
    items.flush().unwrap();
    let of = |now: i64| {
        let decay = Scoring::new().decay("at", Duration::from_secs(1), 10.0).now(Timestamp::from_secs(now));
        items.search(&Query::new(&[0.0]).scoring(decay)).unwrap().hits()[0].clone()
    };
    assert_eq!((of(0).id, of(0).bonus), (1.into(), 10.0));
    assert_eq!((of(100).id, of(101).bonus), (2.into(), 5.0));
}

#[test]
fn what_cannot_be_weighed_is_an_error() {
    let engine = Engine::builder().build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(1, Metric::L2)).unwrap();
    let query = Query::new(&[0.0]);
    let bad = query.clone().scoring(Scoring::new().share("a", 0.0, 1.0));
    assert!(matches!(items.search(&bad), Err(SearchError::Params(ParamsError::Measure { .. }))));
    assert!(matches!(block_on(items.search_async(bad)), Err(SearchError::Params(_))));
    let bad = query.scoring(Scoring::new().boost(Filter::eq("", 1), 1.0));
    assert!(matches!(items.search(&bad), Err(SearchError::Filter(_))));
    assert!(matches!(block_on(items.search_async(bad)), Err(SearchError::Filter(_))));
}
