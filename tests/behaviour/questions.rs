//! The questions of recommenders and memories, against naive twins: all within
//! a distance, many hits, records like others, and unlike each other.

use std::time::Duration;

use crate::common::{METRICS, block_on, clustered, distance, index_specs};
use vecino::{
    Answer, Collection, CollectionConfig, Completeness, Engine, Example, IndexSpec, Metric, ParamsError,
    Query, Record, RecordId, SearchError, WaitError,
};

const DIM: usize = 24;

struct World {
    _engine: Engine,
    items: Collection,
    vectors: Vec<Vec<f32>>,
    metric: Metric,
}

/// Two shards; some rows replaced and deleted, some still in the tail.
fn world(metric: Metric, index: IndexSpec, rows: usize) -> World {
    let engine = Engine::builder().workers(2).build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(DIM, metric).index(index)).unwrap();
    let vectors = clustered(3, rows, DIM, 20);
    let records = vectors.iter().enumerate().map(|(id, vector)| Record::new(id as u64, vector.clone()));
    items.upsert_batch(records).unwrap().wait().unwrap();
    items.delete((rows / 2) as u64).unwrap();
    items.upsert(Record::new(0, vectors[0].clone())).unwrap().wait().unwrap();
    World { _engine: engine, items, vectors, metric }
}

impl World {
    /// All records by distance.
    fn ranked(&self, query: &[f32]) -> Vec<(f64, u64)> {
        let gone = self.vectors.len() / 2;
        let of = |id: usize| (distance(self.metric, query, &self.vectors[id]), id as u64);
        let mut all: Vec<_> = (0..self.vectors.len()).filter(|id| *id != gone).map(of).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all
    }

    fn search(&self, query: &Query<'_>) -> Answer {
        let answer = self.items.search(query).unwrap();
        let batch = self.items.search_batch(&[query.clone(), Query::new(&self.vectors[1])]).unwrap();
        // (The generation may differ: indexes are published anew in the background.)
        assert_eq!(batch[0].hits(), answer.hits(), "a batch answers as a single search does");
        assert_eq!(batch[0].completeness(), answer.completeness());
        answer
    }
}

fn ids(answer: &Answer) -> Vec<u64> {
    answer.hits().iter().map(|hit| hit.id.to_string().parse().unwrap()).collect()
}

/// A distance between two that differ clearly, near the `near`-th.
fn gap(ranked: &[(f64, u64)], near: usize) -> (usize, f32) {
    let clear = |at: &usize| ranked[*at].0 - ranked[at - 1].0 > 1e-4 * ranked[*at].0.abs().max(1e-2);
    let at = (near..).find(clear).unwrap();
    (at, ((ranked[at].0 + ranked[at - 1].0) / 2.0) as f32)
}

#[test]
fn a_range_search_finds_all_within_a_distance_and_nothing_else() {
    for metric in METRICS {
        for index in index_specs() {
            let world = world(metric, index, 4_000);
            for (query, near) in [(17, 1), (99, 40), (500, 300), (1_000, 1_500)] {
                let vector = &world.vectors[query];
                let ranked = world.ranked(vector);
                let (count, reach) = gap(&ranked, near);
                let mut expected: Vec<u64> = ranked[..count].iter().map(|(_, id)| *id).collect();
                let exact = world.search(&Query::new(vector).within(reach).exact());
                let mut found = ids(&exact);
                assert!(exact.hits().windows(2).all(|pair| pair[0].distance <= pair[1].distance));
                found.sort_unstable();
                expected.sort_unstable();
                assert_eq!(found, expected, "{metric} {index:?} {near}");
                assert_eq!(exact.completeness(), Completeness::FewerMatch);

                let answer = world.search(&Query::new(vector).within(reach));
                assert!(answer.hits().iter().all(|hit| exact.hits().contains(hit)), "nothing beyond");
                let recall = answer.len() as f64 / count as f64;
                assert!(recall >= 0.93, "{metric} {index:?} {near}: {recall}");
            }
        }
    }
}

#[test]
fn a_range_search_is_bounded_by_its_limit_and_may_find_nothing() {
    for index in index_specs() {
        let world = world(Metric::L2, index, 2_000);
        let vector = &world.vectors[5];
        let ranked = world.ranked(vector);
        let (_, reach) = gap(&ranked, 100);
        let some = world.search(&Query::new(vector).within(reach).top(20).exact());
        assert_eq!((some.len(), some.completeness()), (20, Completeness::Complete));
        assert_eq!(ids(&some)[..], ranked[..20].iter().map(|(_, id)| *id).collect::<Vec<_>>()[..]);
        let none = world.search(&Query::new(vector).within(-1.0));
        assert_eq!((none.len(), none.completeness()), (0, Completeness::FewerMatch));
        let of_workers =
            block_on(world.items.search_async(Query::new(vector).within(reach).exact())).unwrap();
        assert_eq!(of_workers.hits(), world.search(&Query::new(vector).within(reach).exact()).hits());
    }
}

// k from 1 to all: no step in what is found, and never an error.
#[test]
fn many_hits_are_found_as_well_as_few() {
    for metric in [Metric::L2, Metric::Cosine] {
        for index in [IndexSpec::graph(), IndexSpec::hnsw()] {
            let world = world(metric, index, 8_000);
            for k in [1, 10, 100, 1_000, 3_000, 7_999, 10_000] {
                let mut found = 0;
                for query in [11, 222, 3_333] {
                    let truth =
                        world.items.search(&Query::new(&world.vectors[query]).top(k).exact()).unwrap();
                    let answer = world.items.search(&Query::new(&world.vectors[query]).top(k)).unwrap();
                    assert_eq!(answer.len(), k.min(7_999));
                    let last = truth.hits().last().unwrap().distance;
                    found += answer.hits().iter().filter(|hit| hit.distance <= last).count();
                }
                let recall = found as f64 / (3 * k.min(7_999)) as f64;
                assert!(recall >= 0.9, "{metric} {index:?} k {k}: {recall}");
            }
        }
    }
}

/// What a recommendation searches for, the slow way.
fn naive_taste(world: &World, positive: &[u64], negative: &[u64]) -> Vec<f32> {
    let mean = |ids: &[u64]| -> Vec<f64> {
        let mut sum = vec![0.0; DIM];
        for id in ids {
            let vector = &world.vectors[*id as usize];
            let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            let scale = if world.metric == Metric::Cosine { 1.0 / length } else { 1.0 };
            sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += f64::from(*x) * scale / ids.len() as f64);
        }
        sum
    };
    let (positive, is_plain) = (mean(positive), negative.is_empty());
    let negative = if is_plain { positive.clone() } else { mean(negative) };
    positive.iter().zip(negative).map(|(positive, negative)| (2.0 * positive - negative) as f32).collect()
}

#[test]
fn a_recommendation_is_a_search_between_its_examples_without_them() {
    for metric in METRICS {
        for index in index_specs() {
            let world = world(metric, index, 2_000);
            for (positive, negative) in
                [(vec![3], vec![]), (vec![3, 4, 5], vec![]), (vec![8, 9], vec![10, 11])]
            {
                let taste = naive_taste(&world, &positive, &negative);
                let ranked = world.ranked(&taste);
                let is_example = |id: &u64| positive.contains(id) || negative.contains(id);
                let expected: Vec<f64> = ranked
                    .iter()
                    .filter(|(_, id)| !is_example(id))
                    .map(|(distance, _)| *distance)
                    .take(10)
                    .collect();
                let of = |ids: &[u64]| ids.iter().map(|id| Example::from(*id)).collect::<Vec<_>>();
                let query = Query::recommend(of(&positive), of(&negative)).exact();
                let answer = world.search(&query);
                assert_eq!(answer.len(), 10);
                assert!(!ids(&answer).iter().any(is_example));
                for (hit, expected) in answer.hits().iter().zip(&expected) {
                    let error = (f64::from(hit.distance) - expected).abs();
                    assert!(error <= 1e-4 * expected.abs().max(1.0), "{metric}: {} {expected}", hit.distance);
                }
                assert_eq!(block_on(world.items.search_async(query)).unwrap().hits(), answer.hits());
            }
        }
    }
}

#[test]
fn vectors_are_examples_too_and_are_not_left_out() {
    let world = world(Metric::L2, IndexSpec::graph(), 1_000);
    let answer = world.search(&Query::recommend([Example::vector(world.vectors[7].clone())], []).top(1));
    assert_eq!(ids(&answer), [7]);
    assert_ne!(ids(&world.search(&Query::like(7).top(1))), [7]);
}

#[test]
fn wishes_that_cannot_be_are_errors() {
    let world = world(Metric::Cosine, IndexSpec::graph(), 100);
    let fault = |query: Query<'_>| {
        let error = world.items.search(&query).unwrap_err();
        assert_eq!(world.items.search_batch(std::slice::from_ref(&query)).unwrap_err(), error);
        assert_eq!(block_on(world.items.search_async(query)).unwrap_err(), error);
        error
    };
    let id: RecordId = "nobody".into();
    assert_eq!(fault(Query::like("nobody")), SearchError::NoExample { id });
    assert_eq!(fault(Query::like(50)), SearchError::NoExample { id: 50.into() }, "deleted");
    assert_eq!(fault(Query::recommend([], [Example::from(1)])), ParamsError::NoPositive.into());
    let vector = &world.vectors[1];
    assert_eq!(fault(Query::new(vector).diversity(1.5)), ParamsError::Diversity { got: 1.5 }.into());
    assert_eq!(fault(Query::new(vector).within(f32::NAN)), ParamsError::Within.into());
    let short = Query::recommend([Example::vector([1.0])], []);
    assert!(matches!(fault(short), SearchError::Vector(_)));
    let opposite = Example::vector(vector.iter().map(|x| -x).collect::<Vec<_>>());
    assert!(matches!(fault(Query::recommend([Example::from(1), opposite], [])), SearchError::Vector(_)));
}

#[test]
fn excluded_records_make_room_for_the_next() {
    for index in index_specs() {
        let world = world(Metric::L2, index, 2_000);
        let vector = &world.vectors[77];
        let plain = world.search(&Query::new(vector).top(60).exact());
        let excluded: Vec<u64> = ids(&plain).into_iter().step_by(2).collect();
        let query = Query::new(vector).exclude(excluded.clone()).exclude(["nobody"]).top(30);
        let answer = world.search(&query.clone().exact());
        let expected: Vec<u64> = ids(&plain).into_iter().filter(|id| !excluded.contains(id)).collect();
        assert_eq!(ids(&answer), expected);
        let answer = world.search(&query);
        assert_eq!((answer.len(), answer.completeness()), (30, Completeness::Complete));
        assert!(!ids(&answer).iter().any(|id| excluded.contains(id)));
        let of_workers = block_on(world.items.search_async(query.exact())).unwrap();
        assert_eq!(ids(&of_workers), expected);
    }
}

/// Maximal marginal relevance over candidates, the slow and obvious way.
fn naive_diversity(world: &World, query: &[f32], candidates: &[u64], k: usize, diversity: f64) -> Vec<u64> {
    let mut waiting = candidates.to_vec();
    let mut chosen: Vec<u64> = Vec::new();
    while chosen.len() < k && !waiting.is_empty() {
        let between =
            |a: u64, b: u64| distance(world.metric, &world.vectors[a as usize], &world.vectors[b as usize]);
        let gain = |id: u64| {
            let nearest = chosen.iter().map(|chosen| between(*chosen, id)).fold(f64::INFINITY, f64::min);
            let unlike = if chosen.is_empty() { 0.0 } else { diversity * nearest };
            unlike - (1.0 - diversity) * distance(world.metric, query, &world.vectors[id as usize])
        };
        let best =
            waiting.iter().copied().reduce(|best, next| if gain(next) > gain(best) { next } else { best });
        chosen.push(best.unwrap());
        waiting.retain(|id| Some(*id) != best);
    }
    chosen
}

#[test]
fn diverse_hits_are_those_of_maximal_marginal_relevance() {
    for metric in METRICS {
        let world = world(metric, IndexSpec::graph(), 2_000);
        for (query, k, diversity) in [(5, 10, 0.0), (5, 10, 0.3), (800, 20, 0.5), (801, 5, 0.9), (9, 5, 1.0)]
        {
            let vector = &world.vectors[query];
            let candidates = ids(&world.search(&Query::new(vector).top(4 * k).exact()));
            let expected = naive_diversity(&world, vector, &candidates, k, f64::from(diversity));
            let wish = Query::new(vector).top(k).diversity(diversity).exact();
            assert_eq!(ids(&world.search(&wish)), expected, "{metric} {diversity}");
            assert_eq!(ids(&block_on(world.items.search_async(wish)).unwrap()), expected);
        }
    }
}

#[test]
fn more_hits_than_are_diversified_follow_by_distance() {
    let world = world(Metric::L2, IndexSpec::Flat, 2_000);
    let query = Query::new(&world.vectors[0]).top(400);
    let (plain, diverse) = (world.search(&query), world.search(&query.clone().diversity(0.5)));
    assert_eq!(diverse.len(), 400);
    assert_eq!(diverse.hits()[256..], plain.hits()[256..]);
    assert_ne!(diverse.hits()[..256], plain.hits()[..256]);
}

#[test]
fn unit_scores_are_from_0_to_1_and_fall_with_distance() {
    for metric in METRICS {
        let world = world(metric, IndexSpec::Flat, 500);
        let answer = world.search(&Query::new(&world.vectors[3]).top(500));
        let scores: Vec<f32> = answer.hits().iter().map(|hit| answer.unit_score(hit)).collect();
        assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)), "{metric}");
        assert!(scores.windows(2).all(|pair| pair[0] >= pair[1]));
        assert!(scores[0] > scores[498]);
    }
}

// Every query of a batch has its own k, breadth and wishes.
#[test]
fn queries_of_a_batch_may_differ_in_everything() {
    let world = world(Metric::L2, IndexSpec::graph(), 3_000);
    // Nothing is absorbed between the two ways to ask.
    world.items.optimize().unwrap();
    let vector = |at: usize| &world.vectors[at];
    let queries = [
        Query::new(vector(1)).top(3),
        Query::new(vector(2)).top(500).ef_search(300),
        Query::like(3).top(7),
        Query::new(vector(4)).exact(),
        Query::new(vector(5)).within(20.0),
        Query::new(vector(6)).top(5).diversity(0.5).exclude([6]),
        Query::new(vector(7)).top(0),
        Query::new(vector(8)).budget(100),
        Query::new(vector(9)).top(100_000),
    ];
    let answers = world.items.search_batch(&queries).unwrap();
    for (query, answer) in queries.iter().zip(&answers) {
        let alone = world.items.search(query).unwrap();
        assert_eq!((answer.hits(), answer.completeness()), (alone.hits(), alone.completeness()));
    }
}

#[test]
fn each_query_of_a_batch_waits_as_patiently_as_it_says() {
    let engine = Engine::builder().publish_interval(Duration::from_secs(10)).build().unwrap();
    let items = engine.create_collection("items", CollectionConfig::new(1, Metric::L2)).unwrap();
    items.upsert(Record::new(1, [0.0])).unwrap().wait().unwrap();
    let unseen = items.upsert(Record::new(2, [0.0])).unwrap().seq();
    let patient = Query::new(&[0.0]).at_least(unseen).wait_at_most(Duration::from_millis(50));
    let other = Query::new(&[0.0]).at_least(unseen).allow_partial().wait_at_most(Duration::from_millis(1));
    let late = |answers: Result<Vec<Answer>, SearchError>| {
        let _: Vec<Answer> = match answers {
            Err(SearchError::AtLeast(WaitError::Timeout { .. })) => return,
            other => other.unwrap(),
        };
        panic!("nobody could see it");
    };
    late(items.search_batch(&[patient.clone(), other.clone()]));
    late(items.search_batch(&[other.clone(), patient]));
    assert_eq!(items.search_batch(&[other]).unwrap()[0].len(), 1);
}
