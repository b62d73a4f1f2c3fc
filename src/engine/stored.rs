//! What collections are made of, as files say it.

use std::time::Duration;

use super::config::{CollectionConfig, GraphConfig, HnswConfig, IndexSpec};
use crate::codec::{Decoder, Encoder, Malformed};
use crate::metric::Metric;
use crate::query::{Goal, SearchParams, Target};
use crate::vector::VectorStorage;

/// The tag of the default expiry, behind what every configuration has.
const TTL: u8 = 1;

impl CollectionConfig {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        out.size(self.dimension());
        out.u8(match self.metric() {
            Metric::L2 => 0,
            Metric::Cosine => 1,
            Metric::Dot => 2,
        });
        match self.index_spec() {
            IndexSpec::Flat => out.u8(0),
            IndexSpec::Graph(graph) => {
                out.u8(1);
                out.size(graph.degree);
                out.size(graph.ef_construction);
                out.size(graph.ef_search);
                // Neither is ever 0.
                out.size(graph.code_bits.unwrap_or(0));
                out.size(graph.code_bytes.unwrap_or(0));
                out.u64(graph.seed);
            }
            IndexSpec::Hnsw(graph) => {
                out.u8(2);
                out.size(graph.m);
                out.size(graph.ef_construction);
                out.size(graph.ef_search);
                out.u64(graph.seed);
            }
        }
        out.u8(match self.vector_storage() {
            VectorStorage::Lossless => 0,
            VectorStorage::Full => 1,
            VectorStorage::Half => 2,
            VectorStorage::Byte => 3,
        });
        let (kind, value) = match self.search_params().map(SearchParams::goal) {
            None => (0, 0),
            Some(Goal::Breadth(ef_search)) => (1, ef_search as u64),
            Some(Goal::Target(Target::Recall(share))) => (2, share.get().to_bits()),
            Some(Goal::Target(Target::P99(limit))) => {
                (3, u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX))
            }
        };
        out.u8(kind);
        out.u64(value);
        if let Some(ttl) = self.default_ttl() {
            out.u8(TTL);
            out.u64(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        }
        out.into_bytes()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<CollectionConfig, Malformed> {
        let mut input = Decoder::new(bytes);
        let dimension = input.size()?;
        let metric = match input.u8()? {
            0 => Metric::L2,
            1 => Metric::Cosine,
            2 => Metric::Dot,
            _ => return Err(input.fault("the metric is unknown")),
        };
        let index = match input.u8()? {
            0 => IndexSpec::Flat,
            1 => IndexSpec::Graph(GraphConfig {
                degree: input.size()?,
                ef_construction: input.size()?,
                ef_search: input.size()?,
                code_bits: Some(input.size()?).filter(|bits| *bits > 0),
                code_bytes: Some(input.size()?).filter(|bytes| *bytes > 0),
                seed: input.u64()?,
            }),
            2 => IndexSpec::Hnsw(HnswConfig {
                m: input.size()?,
                ef_construction: input.size()?,
                ef_search: input.size()?,
                seed: input.u64()?,
            }),
            _ => return Err(input.fault("the index is unknown")),
        };
        let storage = match input.u8()? {
            0 => VectorStorage::Lossless,
            1 => VectorStorage::Full,
            2 => VectorStorage::Half,
            3 => VectorStorage::Byte,
            _ => return Err(input.fault("how vectors are stored is unknown")),
        };
        let (kind, value) = (input.u8()?, input.u64()?);
        let search = match kind {
            0 => None,
            1 => Some(SearchParams::ef_search(usize::try_from(value).unwrap_or(usize::MAX))),
            2 => Some(SearchParams::recall(f64::from_bits(value))),
            3 => Some(SearchParams::p99(Duration::from_nanos(value))),
            _ => return Err(input.fault("the default of searches is unknown")),
        };
        let mut config = CollectionConfig::new(dimension, metric).index(index).vectors(storage);
        while input.rest() > 0 {
            match input.u8()? {
                TTL => config = config.ttl(Duration::from_millis(input.u64()?)),
                _ => return Err(input.fault("a setting is of an unknown kind")),
            }
        }
        let config = search.map_or(config, |search| config.search(search));
        let fault = input.fault("a setting is outside its bounds");
        config.check().map_err(|_| fault).map(|()| config)
    }
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
            base.vectors(VectorStorage::Half),
            base.lean(),
            base.ttl(Duration::from_secs(3)),
            CollectionConfig::new(3, Metric::Dot).search(SearchParams::p99(Duration::from_micros(70))),
        ];
        for config in all {
            let bytes = config.encode();
            assert_eq!(CollectionConfig::decode(&bytes), Ok(config));
            for cut in 0..bytes.len() {
                // What may stand behind is missing as a whole, or broken off.
                assert_ne!(CollectionConfig::decode(&bytes[..cut]), Ok(config));
            }
        }
        assert!(CollectionConfig::decode(&CollectionConfig::new(0, Metric::L2).encode()).is_err());
    }
}
