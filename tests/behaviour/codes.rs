//! The codes of the quantized graph as a caller sees them: their settings.

use crate::common::{Rng, watchdog};
use vecino::{CollectionConfig, Engine, GraphConfig, IndexSpec, Metric, Query, Record};

fn good_vector(rng: &mut Rng, dim: usize) -> Vec<f32> {
    (0..dim).map(|_| rng.signed() + 1.5).collect()
}

// Codes of every size, and more dimensions than codes are trained for.
#[test]
fn the_bounds_of_codes_are_allowed() {
    let _watchdog = watchdog(120);
    let engine = Engine::builder().pool_threads(2).build().unwrap();
    let codes = GraphConfig::default().ef_construction(40);
    let cases = [
        (1, codes.code_bits(4).code_bytes(64)),
        (2, codes.code_bits(7).code_bytes(512)),
        (700, codes.code_bits(7).code_bytes(64)),
        (1_200, codes.code_bits(4).code_bytes(512)),
        (8_192, codes.ef_construction(1).ef_search(1).seed(u64::MAX)),
        (8_193, codes),
        (8_193, codes.code_bits(4)),
    ];
    for (number, (dim, graph)) in cases.into_iter().enumerate() {
        let config = CollectionConfig::new(dim, Metric::L2).index(IndexSpec::Graph(graph));
        let items = engine.create_collection(&number.to_string(), config).unwrap();
        let mut rng = Rng::new(6);
        let vectors: Vec<_> = (0..130).map(|_| good_vector(&mut rng, dim)).collect();
        let records = vectors.iter().enumerate();
        let records = records.map(|(id, vector)| Record::new(id as u64, vector.clone()));
        items.upsert_batch(records).unwrap().wait().unwrap();
        items.optimize().unwrap();
        let kind = items.stats().shards[0].index;
        assert_eq!(kind, if dim > 8_192 { "hnsw" } else { "graph" });
        for (id, vector) in vectors.iter().enumerate().step_by(10) {
            let answer = items.search(&Query::new(vector).top(10).ef_search(129)).unwrap();
            assert_eq!((answer.len(), answer.hits()[0].id.as_num()), (10, Some(id as u64)), "{dim}");
        }
        assert!(items.verify().unwrap().is_sound());
    }
}
