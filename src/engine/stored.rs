//! What collections are made of, as files say it.

use std::time::Duration;

use super::config::{
    AutoConfig, CollectionConfig, FlatConfig, GraphConfig, HnswConfig, IndexSpec, IvfConfig, IvfStorage,
    PqConfig, Quantization,
};
use crate::codec::{Decoder, Encoder, Malformed};
use crate::metric::Metric;
use crate::query::{Goal, SearchParams, Target};
use crate::vector::VectorStorage;

/// The number of the time after which records expire.
const TTL: u8 = 1;
/// The number of the memory budget.
const BUDGET: u8 = 2;

impl CollectionConfig {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        out.size(self.dimension());
        out.u8(match self.metric() {
            Metric::L2 => 0,
            Metric::Cosine => 1,
            Metric::Dot => 2,
        });
        encode_index(self.index_spec(), &mut out);
        out.u8(match self.vector_storage() {
            VectorStorage::Lossless => 0,
            VectorStorage::Full => 1,
            VectorStorage::Half => 2,
            VectorStorage::Byte => 3,
        });
        let (kind, value) = stored_search(self.search_params());
        out.u8(kind);
        out.u64(value);
        // What came later stands here, each with a number, and only if it is said.
        if let Some(ttl) = self.default_ttl() {
            out.u8(TTL);
            out.u64(u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX));
        }
        if let Some(bytes) = self.memory_budget_bytes() {
            out.u8(BUDGET);
            out.size(bytes);
        }
        out.into_bytes()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<CollectionConfig, Malformed> {
        let mut input = Decoder::new(bytes);
        let dimension = input.size()?;
        let metric = match input.u8()? {
            0 => Metric::L2,
            1 => Metric::Cosine,
            2 => Metric::Dot,
            _ => return Err(input.fault("the metric is unknown")),
        };
        let index = decode_index(&mut input)?;
        let storage = match input.u8()? {
            0 => VectorStorage::Lossless,
            1 => VectorStorage::Full,
            2 => VectorStorage::Half,
            3 => VectorStorage::Byte,
            _ => return Err(input.fault("how vectors are stored is unknown")),
        };
        let search = decode_search(&mut input)?;
        let (mut ttl, mut budget) = (None, None);
        while input.rest() > 0 {
            match input.u8()? {
                TTL => ttl = Some(Duration::from_micros(input.u64()?)),
                BUDGET => budget = Some(input.size()?),
                _ => return Err(input.fault("a setting is unknown")),
            }
        }
        let config = CollectionConfig::new(dimension, metric).index(index).vectors(storage);
        let config = search.map_or(config, |search| config.search(search));
        let config = ttl.map_or(config, |ttl| config.ttl(ttl));
        let config = budget.map_or(config, |bytes| config.memory_budget(bytes));
        let fault = input.fault("a setting is outside its bounds");
        config.check().map_err(|_| fault).map(|()| config)
    }
}

fn encode_index(index: IndexSpec, out: &mut Encoder) {
    match index {
        IndexSpec::Flat => out.u8(0),
        IndexSpec::Graph(graph) => {
            out.u8(1);
            encode_graph(graph, out);
        }
        IndexSpec::Auto(auto) => {
            out.u8(if auto.follows_budget { 8 } else { 7 });
            out.size(auto.exact_below);
            encode_graph(auto.graph, out);
        }
        IndexSpec::Hnsw(graph) => {
            let is_plain = graph.quantization == Quantization::None;
            out.u8(if is_plain { 2 } else { 6 });
            out.size(graph.m);
            out.size(graph.ef_construction);
            out.size(graph.ef_search);
            if !is_plain {
                encode_quantization(graph.quantization, out);
                // Never 0.
                out.size(graph.oversample.unwrap_or(0));
            }
            out.u64(graph.seed);
        }
        IndexSpec::Ivf(lists) => {
            out.u8(3);
            // Never 0.
            out.size(lists.nlist.unwrap_or(0));
            out.size(lists.nprobe);
            // Parts and bits: only product codes have parts.
            let (parts, bits) = match lists.storage {
                IvfStorage::Flat => (0, 0),
                IvfStorage::RaBitQ => (0, 1),
                IvfStorage::Sq8 => (0, 8),
                IvfStorage::F16 => (0, 16),
                IvfStorage::Pq { num_subquantizers, bits_per_code } => (num_subquantizers, bits_per_code),
            };
            out.size(parts);
            out.size(bits);
            out.u8(u8::from(lists.residual));
            // Never 0.
            out.size(lists.oversample.unwrap_or(0));
            out.u64(lists.seed);
        }
        IndexSpec::Pq(codes) => {
            out.u8(4);
            out.size(codes.num_subquantizers);
            out.size(codes.bits_per_code);
            out.size(codes.ef_search);
            out.u64(codes.seed);
        }
        IndexSpec::QuantizedFlat(flat) => {
            out.u8(5);
            encode_quantization(flat.quantization, out);
            // Never 0.
            out.size(flat.oversample.unwrap_or(0));
            out.u64(flat.seed);
        }
    }
}

fn decode_index(input: &mut Decoder<'_>) -> Result<IndexSpec, Malformed> {
    Ok(match input.u8()? {
        0 => IndexSpec::Flat,
        1 => IndexSpec::Graph(decode_graph(input)?),
        kind @ (7 | 8) => IndexSpec::Auto(AutoConfig {
            exact_below: input.size()?,
            graph: decode_graph(input)?,
            follows_budget: kind == 8,
        }),
        kind @ (2 | 6) => {
            let graph = HnswConfig {
                m: input.size()?,
                ef_construction: input.size()?,
                ef_search: input.size()?,
                ..HnswConfig::default()
            };
            let (quantization, oversample) = match kind {
                6 => (decode_quantization(input)?, Some(input.size()?).filter(|oversample| *oversample > 0)),
                _ => (graph.quantization, graph.oversample),
            };
            IndexSpec::Hnsw(HnswConfig { quantization, oversample, seed: input.u64()?, ..graph })
        }
        3 => IndexSpec::Ivf(IvfConfig {
            nlist: Some(input.size()?).filter(|nlist| *nlist > 0),
            nprobe: input.size()?,
            storage: match (input.size()?, input.size()?) {
                (0, 0) => IvfStorage::Flat,
                (0, 1) => IvfStorage::RaBitQ,
                (0, 8) => IvfStorage::Sq8,
                (0, 16) => IvfStorage::F16,
                (num_subquantizers, bits_per_code) => IvfStorage::Pq { num_subquantizers, bits_per_code },
            },
            residual: input.u8()? == 1,
            oversample: Some(input.size()?).filter(|oversample| *oversample > 0),
            seed: input.u64()?,
        }),
        4 => IndexSpec::Pq(PqConfig {
            num_subquantizers: input.size()?,
            bits_per_code: input.size()?,
            ef_search: input.size()?,
            seed: input.u64()?,
        }),
        5 => IndexSpec::QuantizedFlat(FlatConfig {
            quantization: decode_quantization(input)?,
            oversample: Some(input.size()?).filter(|oversample| *oversample > 0),
            seed: input.u64()?,
        }),
        _ => return Err(input.fault("the index is unknown")),
    })
}

fn encode_graph(graph: GraphConfig, out: &mut Encoder) {
    out.size(graph.degree);
    out.size(graph.ef_construction);
    out.size(graph.ef_search);
    // Neither is ever 0.
    out.size(graph.code_bits.unwrap_or(0));
    out.size(graph.code_bytes.unwrap_or(0));
    out.u64(graph.seed);
}

fn decode_graph(input: &mut Decoder<'_>) -> Result<GraphConfig, Malformed> {
    Ok(GraphConfig {
        degree: input.size()?,
        ef_construction: input.size()?,
        ef_search: input.size()?,
        code_bits: Some(input.size()?).filter(|bits| *bits > 0),
        code_bytes: Some(input.size()?).filter(|bytes| *bytes > 0),
        seed: input.u64()?,
    })
}

fn encode_quantization(quantization: Quantization, out: &mut Encoder) {
    let (kind, parts, bits) = match quantization {
        Quantization::None => (0, 0, 0),
        Quantization::F16 => (1, 0, 0),
        Quantization::Sq8 => (2, 0, 0),
        Quantization::Binary => (3, 0, 0),
        Quantization::Pq { num_subquantizers, bits_per_code } => (4, num_subquantizers, bits_per_code),
    };
    out.u8(kind);
    out.size(parts);
    out.size(bits);
}

fn decode_quantization(input: &mut Decoder<'_>) -> Result<Quantization, Malformed> {
    let fault = input.fault("the codes are unknown");
    match (input.u8()?, input.size()?, input.size()?) {
        (0, 0, 0) => Ok(Quantization::None),
        (1, 0, 0) => Ok(Quantization::F16),
        (2, 0, 0) => Ok(Quantization::Sq8),
        (3, 0, 0) => Ok(Quantization::Binary),
        (4, num_subquantizers, bits_per_code) => Ok(Quantization::Pq { num_subquantizers, bits_per_code }),
        _ => Err(fault),
    }
}

/// How hard searches try, as a kind and a value.
fn stored_search(search: Option<SearchParams>) -> (u8, u64) {
    match search.map(SearchParams::goal) {
        None => (0, 0),
        Some(Goal::Breadth(ef_search)) => (1, ef_search as u64),
        Some(Goal::Target(Target::Recall(share))) => (2, share.get().to_bits()),
        Some(Goal::Target(Target::P99(limit))) => (3, u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX)),
    }
}

fn decode_search(input: &mut Decoder<'_>) -> Result<Option<SearchParams>, Malformed> {
    let (kind, value) = (input.u8()?, input.u64()?);
    Ok(match kind {
        0 => None,
        1 => Some(SearchParams::ef_search(usize::try_from(value).unwrap_or(usize::MAX))),
        2 => Some(SearchParams::recall(f64::from_bits(value))),
        3 => Some(SearchParams::p99(Duration::from_nanos(value))),
        _ => return Err(input.fault("the default of searches is unknown")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_read_back_as_they_were_and_never_with_bad_settings() {
        let base = CollectionConfig::new(384, Metric::Cosine);
        let all = [
            base,
            base.index(IndexSpec::Flat).search(SearchParams::ef_search(17)),
            base.index(IndexSpec::Hnsw(HnswConfig::default().m(8).seed(3))),
            base.index(IndexSpec::Graph(GraphConfig::default().code_bits(7).code_bytes(128)))
                .search(SearchParams::recall(0.95)),
            base.index(IndexSpec::ivf()),
            base.index("IVF100,PQ48x4fsr".parse().unwrap()),
            base.index(IndexSpec::Ivf(IvfConfig::default().oversample(7))),
            base.index(IndexSpec::Pq(PqConfig::new(384).bits_per_code(8).seed(7))),
            base.index(IndexSpec::auto()),
            base.index(IndexSpec::Auto(
                AutoConfig::default().exact_below(7).graph(GraphConfig::default().seed(5)),
            )),
            base.index(IndexSpec::Auto(AutoConfig::default().graph(GraphConfig::default()))),
            base.index("IVF100,SQ8".parse().unwrap()),
            base.index("IVF,SQfp16".parse().unwrap()),
            base.index("IVF7,RaBitQ".parse().unwrap()),
            base.index("HNSW32_SQ8".parse().unwrap()),
            base.index(IndexSpec::flat(Quantization::F16)),
            base.index("RaBitQ".parse().unwrap()),
            base.index(IndexSpec::QuantizedFlat(FlatConfig::default().oversample(3).seed(1))),
            base.index(IndexSpec::flat(Quantization::Pq { num_subquantizers: 8, bits_per_code: 4 })),
            base.vectors(VectorStorage::Half),
            CollectionConfig::new(20, Metric::Cosine).lean(),
            base.lean().ttl(Duration::from_micros(1_500)),
            base.ttl(Duration::from_secs(9)).memory_budget(1 << 30),
            CollectionConfig::new(3, Metric::Dot).search(SearchParams::p99(Duration::from_micros(70))),
        ];
        for config in all {
            let bytes = config.encode();
            assert_eq!(CollectionConfig::decode(&bytes), Ok(config));
            for cut in 0..bytes.len() {
                // Without what came later it is another one.
                assert_ne!(CollectionConfig::decode(&bytes[..cut]), Ok(config));
            }
        }
        assert!(CollectionConfig::decode(&CollectionConfig::new(0, Metric::L2).encode()).is_err());
    }
}
