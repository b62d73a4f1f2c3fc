//! Settings outside their bounds are typed errors with the value.

use std::time::Duration;

use vecino::{
    AutoConfig, BuildError, CollectionConfig, CollectionError, Engine, FlatConfig, GraphConfig, HnswConfig,
    IndexSpec, IvfConfig, IvfStorage, Metric, PqConfig, Quantization,
};

/// No such collection is created, and the error names the setting.
fn refuses(engine: &Engine, config: CollectionConfig, name: &str, wrong: usize) {
    match engine.create_collection("items", config) {
        Err(CollectionError::Setting { parameter, value, least, most }) => {
            assert_eq!((parameter, value), (name, wrong));
            assert!(value < least || value > most);
        }
        // Not every number between the bounds is allowed.
        Err(fault @ CollectionError::Choice { parameter, value, allowed }) => {
            assert_eq!((parameter, value), (name, wrong));
            assert!(name.starts_with("code_") || ["bits_per_code", "degree"].contains(&name));
            assert_eq!(fault.to_string(), format!("{name} is {wrong}, but must be {allowed}"));
        }
        other => panic!("{config:?}: {other:?}"),
    }
    assert!(engine.collections().is_empty());
}

#[test]
fn settings_of_graphs_are_named_with_their_value() {
    let engine = Engine::builder().build().unwrap();
    let graph = HnswConfig::default();
    let dims = |dim| CollectionConfig::new(dim, Metric::L2);
    let with = |graph| dims(2).index(IndexSpec::Hnsw(graph));
    let codes = GraphConfig::default();
    let coded = |codes| dims(2).index(IndexSpec::Graph(codes));
    let refused = [
        (dims(0), "dimension", 0),
        (dims(65_537), "dimension", 65_537),
        (dims(usize::MAX), "dimension", usize::MAX),
        (with(graph.m(1)), "m", 1),
        (with(graph.m(513)), "m", 513),
        (with(graph.ef_construction(0)), "ef_construction", 0),
        (with(graph.ef_construction(10_001)), "ef_construction", 10_001),
        (with(graph.ef_search(0)), "ef_search", 0),
        (with(graph.ef_search(usize::MAX)), "ef_search", usize::MAX),
        (coded(codes.ef_construction(0)), "ef_construction", 0),
        (coded(codes.ef_construction(10_001)), "ef_construction", 10_001),
        (coded(codes.ef_search(0)), "ef_search", 0),
        (coded(codes.ef_search(usize::MAX)), "ef_search", usize::MAX),
        (coded(codes.code_bits(0)), "code_bits", 0),
        (coded(codes.code_bits(5)), "code_bits", 5),
        (coded(codes.code_bits(usize::MAX)), "code_bits", usize::MAX),
        (coded(codes.code_bytes(0)), "code_bytes", 0),
        (coded(codes.code_bytes(100)), "code_bytes", 100),
        (coded(codes.code_bytes(1_024)), "code_bytes", 1_024),
        (coded(codes.code_bits(4).code_bytes(usize::MAX)), "code_bytes", usize::MAX),
    ];
    refused.into_iter().for_each(|(config, name, wrong)| refuses(&engine, config, name, wrong));
}

#[test]
fn settings_of_lists_and_codes_are_named_with_their_value() {
    let engine = Engine::builder().build().unwrap();
    let lists = IvfConfig::default();
    let listed = |lists| CollectionConfig::new(8, Metric::L2).index(IndexSpec::Ivf(lists));
    let cut = |num_subquantizers, bits_per_code| {
        listed(lists.storage(IvfStorage::Pq { num_subquantizers, bits_per_code }))
    };
    let all = |codes| CollectionConfig::new(8, Metric::L2).index(IndexSpec::Pq(codes));
    let dims = CollectionConfig::new(8, Metric::L2);
    let flat = |flat| dims.index(IndexSpec::QuantizedFlat(flat));
    let auto = |auto| dims.index(IndexSpec::Auto(auto));
    let walked = |graph| dims.index(IndexSpec::Hnsw(graph));
    let refused = [
        (listed(lists.nlist(1)), "nlist", 1),
        (listed(lists.nlist(usize::MAX)), "nlist", usize::MAX),
        (listed(lists.nprobe(0)), "nprobe", 0),
        (listed(lists.nprobe(usize::MAX)), "nprobe", usize::MAX),
        (listed(lists.oversample(0)), "oversample", 0),
        (listed(lists.oversample(usize::MAX)), "oversample", usize::MAX),
        (cut(0, 4), "num_subquantizers", 0),
        (cut(9, 4), "num_subquantizers", 9),
        (cut(8, 5), "bits_per_code", 5),
        (all(PqConfig::new(0)), "num_subquantizers", 0),
        (all(PqConfig::new(usize::MAX)), "num_subquantizers", usize::MAX),
        (all(PqConfig::new(8).bits_per_code(0)), "bits_per_code", 0),
        (all(PqConfig::new(8).ef_search(0)), "ef_search", 0),
        (flat(FlatConfig::default().oversample(0)), "oversample", 0),
        (flat(FlatConfig::default().oversample(10_001)), "oversample", 10_001),
        (flat(FlatConfig::default().quantization(product(9, 4))), "num_subquantizers", 9),
        (flat(FlatConfig::default().quantization(product(4, 6))), "bits_per_code", 6),
        (walked(HnswConfig::default().oversample(0)), "oversample", 0),
        (walked(HnswConfig::default().quantization(product(9, 4))), "num_subquantizers", 9),
        (walked(HnswConfig::default().quantization(product(4, 6))), "bits_per_code", 6),
        (auto(AutoConfig::default().exact_below(0)), "exact_below", 0),
        (auto(AutoConfig::default().exact_below(1_000_001)), "exact_below", 1_000_001),
        (auto(AutoConfig::default().graph(GraphConfig::default().degree(33))), "degree", 33),
    ];
    refused.into_iter().for_each(|(config, name, wrong)| refuses(&engine, config, name, wrong));
}

fn product(num_subquantizers: usize, bits_per_code: usize) -> Quantization {
    Quantization::Pq { num_subquantizers, bits_per_code }
}

#[test]
fn settings_of_engines_are_named_with_their_value() {
    let builders = [
        (Engine::builder().workers(0), 0),
        (Engine::builder().workers(65), 65),
        (Engine::builder().mailbox_capacity(0), 0),
        (Engine::builder().mailbox_capacity(usize::MAX), usize::MAX),
        (Engine::builder().mailbox_bytes(0), 0),
        (Engine::builder().mailbox_work(Duration::ZERO), 0),
        (Engine::builder().mailbox_work(Duration::from_secs(3_601)), 3_601_000_000),
        (Engine::builder().mailbox_work(Duration::MAX), usize::MAX),
        (Engine::builder().pool_threads(0), 0),
        (Engine::builder().pool_threads(100_000), 100_000),
        (Engine::builder().publish_interval(Duration::from_secs(11)), 11_000),
        (Engine::builder().publish_interval(Duration::MAX), usize::MAX),
    ];
    for (builder, wrong) in builders {
        match builder.clone().build() {
            Err(BuildError::Setting { value, least, most, .. }) => {
                assert!(value == wrong && (value < least || value > most));
            }
            other => panic!("{builder:?}: {other:?}"),
        }
    }
}
