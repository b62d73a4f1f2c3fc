//! The engine through its public face: one caller.

use vecino::{CollectionConfig, Engine, IndexSpec, Metric, Query, Record, Seq};

fn vector(id: u64, dim: usize) -> Vec<f32> {
    let mut state = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..dim)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        })
        .collect()
}

/// Every kind of index.
#[allow(clippy::expect_used, reason = "a test may fail loudly")]
fn indexes() -> [IndexSpec; 6] {
    let (graph, hnsw) = (IndexSpec::graph(), IndexSpec::hnsw());
    let [lists, codes] = ["IVF20,PQ12x4fsr", "PQ12x4fs"].map(|name| name.parse().expect("a name"));
    [IndexSpec::Flat, graph, hnsw, IndexSpec::ivf(), lists, codes]
}

#[test]
fn records_are_found_replaced_and_deleted() {
    for workers in [1, 3] {
        for spec in indexes() {
            let engine = Engine::builder().workers(workers).build().unwrap();
            let config = CollectionConfig::new(16, Metric::L2).index(spec);
            let items = engine.create_collection("items", config).unwrap();
            items.upsert_batch((0..3_000).map(|id| Record::new(id, vector(id, 16)))).unwrap().wait().unwrap();
            assert_eq!(items.len(), 3_000);
            for id in [0, 1, 700, 2_999] {
                let answer = items.search(&Query::new(vector(id, 16)).top(3)).unwrap();
                assert_eq!((answer.hits()[0].id.as_num(), answer.hits()[0].distance), (Some(id), 0.0));
            }
            items.upsert(Record::new(700, vector(9_999, 16))).unwrap().wait().unwrap();
            let last = items.delete(1).unwrap();
            let answer = items.search(&Query::new(vector(9_999, 16)).at_least(last.seq())).unwrap();
            assert_eq!(answer.hits()[0].id.as_num(), Some(700));
            assert_eq!(items.get(700).unwrap().unwrap().vector(), vector(9_999, 16));
            assert!(!items.contains(1).unwrap() && items.contains(2).unwrap());
            items.optimize().unwrap();
            let stats = items.stats();
            assert_eq!((stats.rows, stats.tail, stats.dead), (2_999, 0, 0), "{stats:?}");
            let report = items.verify().unwrap();
            assert!(report.is_sound(), "{report:?}");
            assert_eq!(items.search(&Query::new(vector(1, 16)).top(10_000)).unwrap().len(), 2_999);
            assert!(items.snapshot().seq() > Seq(3));
            engine.close().unwrap();
        }
    }
}

#[test]
fn searches_that_take_turns_give_the_answers_of_single_ones() {
    for (workers, metric) in [(1, Metric::L2), (3, Metric::Cosine), (1, Metric::Dot)] {
        for spec in indexes() {
            let engine = Engine::builder().workers(workers).build().unwrap();
            let items =
                engine.create_collection("items", CollectionConfig::new(24, metric).index(spec)).unwrap();
            items.upsert_batch((0..2_000).map(|id| Record::new(id, vector(id, 24)))).unwrap();
            let last = items.delete(5).unwrap();
            last.wait().unwrap();
            let query = |at: u64| {
                let query = Query::new(vector(10_000 + at, 24));
                match at % 7 {
                    0 => query.top(0),
                    1 => query.top(1_500),
                    2 => query.exact(),
                    3 => query.ef_search(3),
                    _ => query.top(at as usize).ef_search(40),
                }
            };
            // Groups with odd queries among them, and groups without.
            let mut queries: Vec<Query<'_>> = (0..21).map(query).collect();
            queries.extend((0..20).map(|at| Query::new(vector(at, 24)).ef_search(20 + at as usize)));
            // With a dead row in the index every search is filtered; afterwards none is.
            for _ in 0..2 {
                let snapshot = items.snapshot();
                let single: Vec<_> = queries.iter().map(|query| snapshot.search(query).unwrap()).collect();
                assert_eq!(snapshot.search_many(&queries).unwrap(), single, "{spec:?} {metric:?}");
                items.optimize().unwrap();
            }
            let snapshot = items.snapshot();
            queries.push(Query::new(vec![0.0; 3]));
            assert_eq!(snapshot.search_many(&queries), Err(snapshot.search(&queries[41]).unwrap_err()));
            engine.close().unwrap();
        }
    }
}
