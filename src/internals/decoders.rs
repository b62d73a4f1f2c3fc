//! Every decoder that can be called alone, as a function of bytes for a fuzzer:
//! it may refuse them, and must neither panic, nor recurse or allocate by what they
//! say. What it accepts it must write and read again as the same. Whole files:
//! `engine/tests/crash/damage.rs` and `tests/fuzz`.

use crate::codec::{Decoder, Encoder};
use crate::engine::{CollectionConfig, IndexSpec};
use crate::metric::Metric;
use crate::payload::{decode_fields, decode_filter, encode_filter, encode_payload};
#[cfg(feature = "json")]
pub use crate::payload::{fuzz_filter as json_filter, fuzz_payload as json_payload};
use crate::persist::{EntryHead, decode_mutations, encode_mutation};
use crate::vector::{Space, VectorStorage};

/// Numbers of the vectors.
const DIM: usize = 3;

fn bytes(encode: impl FnOnce(&mut Encoder)) -> Vec<u8> {
    let mut out = Encoder::default();
    encode(&mut out);
    out.into_bytes()
}

/// Of a frame of a log: its head and the mutations.
pub fn entry(input: &[u8]) {
    let space = Space::new(Metric::L2, DIM);
    let mut decoder = Decoder::new(input);
    let Ok(head) = EntryHead::decode(&mut decoder) else { return };
    let Ok(mutations) = decode_mutations(&mut decoder, &space) else { return };
    let again = bytes(|out| {
        head.encode(out);
        mutations.iter().for_each(|mutation| encode_mutation(mutation, out));
    });
    let mut decoder = Decoder::new(&again);
    assert_eq!(EntryHead::decode(&mut decoder), Ok(head));
    let twice = decode_mutations(&mut decoder, &space);
    let twice = twice.map(|twice| {
        bytes(|out| {
            head.encode(out);
            twice.iter().for_each(|mutation| encode_mutation(mutation, out));
        })
    });
    assert_eq!(twice, Ok(again.clone()));
}

/// The settings of a collection, as the manifest and checkpoints have them.
pub fn settings(input: &[u8]) {
    if let Ok(config) = CollectionConfig::decode(input) {
        assert_eq!(CollectionConfig::decode(&config.encode()), Ok(config));
    }
}

/// A filter as logs have it.
pub fn stored_filter(input: &[u8]) {
    if let Ok(filter) = decode_filter(&mut Decoder::new(input)) {
        let again = bytes(|out| encode_filter(&filter, out));
        let twice = decode_filter(&mut Decoder::new(&again));
        assert_eq!(twice.map(|twice| bytes(|out| encode_filter(&twice, out))), Ok(again.clone()));
    }
}

/// A payload as logs and checkpoints have it.
pub fn stored_payload(input: &[u8]) {
    if let Ok(payload) = decode_fields(&mut Decoder::new(input)) {
        let again = bytes(|out| encode_payload(&payload, out));
        let twice = decode_fields(&mut Decoder::new(&again));
        assert_eq!(twice.map(|twice| bytes(|out| encode_payload(&twice, out))), Ok(again.clone()));
    }
}

/// The names of indexes, as faiss writes them.
pub fn index_name(input: &[u8]) {
    if let Ok(spec) = String::from_utf8_lossy(input).parse::<IndexSpec>() {
        let config = CollectionConfig::new(64, Metric::L2).index(spec);
        let _ = config.check();
    }
}

/// Vectors as callers give them, of any bits.
pub fn vector(input: &[u8]) {
    let (quads, _) = input.as_chunks::<4>();
    let vector: Vec<f32> = quads.iter().map(|quad| f32::from_le_bytes(*quad)).collect();
    for metric in [Metric::L2, Metric::Dot, Metric::Cosine] {
        for storage in [VectorStorage::Lossless, VectorStorage::Half, VectorStorage::Byte] {
            let mut vector = vector.clone();
            if let Ok(scale) = storage.admit(&Space::new(metric, DIM), &mut vector) {
                assert!(scale.is_finite() && vector.iter().all(|number| number.is_finite()), "{vector:?}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::codec::fuzz::fuzz;
    use crate::payload::{Filter, Payload, PayloadUpdate, Timestamp};
    use crate::persist::Asked;
    use crate::rows::{Condition, Mutation, NewExpiry, NewRow};

    fn payload() -> Payload {
        let payload = Payload::new().with("a", 1).with("b.c", "text").with("list", [1, -2, i64::MAX]);
        payload.with("t", Timestamp(i64::MIN)).with("x", f64::MIN_POSITIVE).with("flag", true)
    }

    fn filters() -> Vec<Filter> {
        let year = Filter::lt("year", 1970);
        vec![
            year.clone(),
            Filter::eq("a", "text") & !year.clone(),
            (Filter::ge("x", 0.5) | year) & Filter::eq("flag", true),
        ]
    }

    #[test]
    fn entries_of_logs_are_read_or_refused() {
        let new =
            |id: &str| NewRow { id: id.into(), vector: Box::new([1.0; DIM]), scale: 1.0, payload: payload() };
        let expiry = NewExpiry { id: 7.into(), now: Timestamp(1), expires: Timestamp(9), gain: Some(3) };
        let mutations = [
            Mutation::Upsert(new("a")),
            Mutation::Delete(5.into()),
            Mutation::DeleteWhere(filters().remove(2)),
            Mutation::Payload(PayloadUpdate::merge("b", payload())),
            Mutation::Conditional(new(""), Condition::NotNear(0.5), Timestamp(3)),
            Mutation::Expiry(expiry),
            Mutation::Sweep { now: Timestamp(77), most: 5 },
        ];
        let head = EntryHead::new(1, crate::id::Seq(9), 1, Asked::Mutations);
        let one = |mutation: &Mutation| {
            bytes(|out| {
                head.encode(out);
                encode_mutation(mutation, out);
            })
        };
        fuzz(&mutations.iter().map(one).collect::<Vec<_>>(), entry);
    }

    #[test]
    fn settings_of_collections_are_read_or_refused() {
        let base = CollectionConfig::new(64, Metric::Cosine);
        let specs = ["HNSW16,Flat", "IVF100,PQ8x4fsr", "Flat", "PQ8"];
        let of = |name: &str| name.parse().map(|spec| base.index(spec)).unwrap_or(base);
        let mut corpus: Vec<Vec<u8>> = specs.into_iter().map(|name| of(name).encode()).collect();
        corpus.push(base.ttl(Duration::from_secs(3)).memory_budget(1 << 20).encode());
        fuzz(&corpus, settings);
    }

    #[test]
    fn stored_filters_and_payloads_are_read_or_refused() {
        let corpus: Vec<_> = filters().iter().map(|filter| bytes(|out| encode_filter(filter, out))).collect();
        fuzz(&corpus, stored_filter);
        fuzz(&[bytes(|out| encode_payload(&payload(), out))], stored_payload);
    }

    #[test]
    fn names_of_indexes_are_read_or_refused() {
        let names =
            ["Flat", "HNSW32,Flat", "IVF1024,PQ48x4fsr", "IVF4096,Flat", "PQ16x8", "IVF65536_HNSW32,PQ32"];
        fuzz(&names.map(|name| name.as_bytes().to_vec()), index_name);
    }

    #[test]
    fn vectors_of_any_bits_are_checked() {
        let of =
            |numbers: [f32; DIM]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
        let edges =
            [[0.0; DIM], [1e-30, 0.0, 1e18], [f32::NAN, 1.0, -0.0], [65_519.0, 6.5e18, f32::INFINITY]];
        fuzz(&edges.map(of), vector);
    }
}
