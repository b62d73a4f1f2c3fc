//! Indexes by the names that faiss's `index_factory` gave them.

use std::str::FromStr;

use super::{HnswConfig, IndexSpec, IvfConfig, IvfStorage, PqConfig, Quantization};
use crate::error::SpecError;

/// What follows the first part of a name.
enum Rest {
    Nothing,
    Flat,
    Pq(Codes),
    /// `SQ8`, `SQfp16`, `RaBitQ`.
    Scalar(Quantization),
}

/// `PQ48x4fsr`.
struct Codes {
    num_subquantizers: usize,
    bits_per_code: usize,
    residual: bool,
}

/// Reads an index by its name in faiss:
///
/// | name | index |
/// |---|---|
/// | `Flat` | [`IndexSpec::Flat`] |
/// | `SQ8`, `SQfp16`, `RaBitQ` | [`IndexSpec::QuantizedFlat`] |
/// | `PQ48x4fs`, `PQ48` (8 bits) | [`IndexSpec::Pq`] |
/// | `HNSW32`, `HNSW32,Flat`, `HNSW32_SQ8` and with `SQfp16`, `RaBitQ`, `PQ48x4fs`, `PQ48` | [`IndexSpec::Hnsw`] |
/// | `IVF1024,Flat` and with `SQ8`, `SQfp16`, `RaBitQ`, `PQ48x4fs`, `PQ48` | [`IndexSpec::Ivf`] |
///
/// Also `Auto`, `Graph`, `Graph32` (links of a record) and `IVF` without a number. `r`
/// behind `fs` says residual codes. `RFlat` at the end may be said: answers are
/// always measured by the stored vectors.
///
/// ```
/// use vecino::{IndexSpec, SpecError};
/// let spec: IndexSpec = "IVF1024,PQ48x4fs,RFlat".parse()?;
/// assert!(matches!(spec, IndexSpec::Ivf(_)));
/// assert!(matches!("LSH".parse::<IndexSpec>(), Err(SpecError::Unknown { .. })));
/// # Ok::<(), SpecError>(())
/// ```
impl FromStr for IndexSpec {
    type Err = SpecError;

    fn from_str(name: &str) -> Result<IndexSpec, SpecError> {
        let name = name.trim();
        let (first, rest) = parts(name);
        let rest = rest.strip_suffix("RFlat").map_or(rest, |rest| rest.strip_suffix(',').unwrap_or(rest));
        let unknown = |part: &str| SpecError::Unknown { part: part.to_owned(), name: name.to_owned() };
        let follows = match rest {
            "" => Rest::Nothing,
            "Flat" => Rest::Flat,
            _ => scalar(rest)
                .map_or_else(|| codes(rest, name).map(Rest::Pq), |codes| Ok(Rest::Scalar(codes)))?,
        };
        if let Some(m) = first.strip_prefix("HNSW") {
            let graph = number(m, first)?.map_or(HnswConfig::default(), |m| HnswConfig::default().m(m));
            return match follows {
                Rest::Nothing | Rest::Flat => Ok(IndexSpec::Hnsw(graph)),
                Rest::Scalar(codes) => Ok(IndexSpec::Hnsw(graph.quantization(codes))),
                // Codes of differences need lists.
                Rest::Pq(Codes { residual: true, bits_per_code: 4, .. }) => Err(unknown(rest)),
                Rest::Pq(Codes { num_subquantizers, bits_per_code, .. }) => Ok(IndexSpec::Hnsw(
                    graph.quantization(Quantization::Pq { num_subquantizers, bits_per_code }),
                )),
            };
        }
        if let Some(degree) = first.strip_prefix("Graph") {
            let graph = super::GraphConfig::default();
            let graph = number(degree, first)?.map_or(graph, |degree| graph.degree(degree));
            let is_alone = matches!(follows, Rest::Nothing | Rest::Flat);
            return if is_alone { Ok(IndexSpec::Graph(graph)) } else { Err(unknown(rest)) };
        }
        if let Some(nlist) = first.strip_prefix("IVF") {
            let lists = IvfConfig::default();
            let lists = number(nlist, first)?.map_or(lists, |nlist| lists.nlist(nlist));
            return Ok(IndexSpec::Ivf(with_storage(lists, follows)));
        }
        if !matches!(follows, Rest::Nothing) {
            return Err(unknown(first));
        }
        match first {
            "Flat" => return Ok(IndexSpec::Flat),
            "Auto" => return Ok(IndexSpec::auto()),
            _ => {}
        }
        if let Some(codes) = scalar(first) {
            return Ok(IndexSpec::flat(codes));
        }
        match codes(first, name) {
            Ok(Codes { residual: true, bits_per_code: 4, .. }) => Err(unknown(first)),
            Ok(Codes { num_subquantizers, bits_per_code, .. }) => {
                Ok(IndexSpec::Pq(PqConfig::new(num_subquantizers).bits_per_code(bits_per_code)))
            }
            Err(error) => Err(error),
        }
    }
}

/// The first part of a name and the rest; `HNSW32_SQ8` is written so too.
fn parts(name: &str) -> (&str, &str) {
    let underscored = || name.split_once('_').filter(|(first, _)| first.starts_with("HNSW"));
    name.split_once(',').or_else(underscored).unwrap_or((name, ""))
}

fn with_storage(lists: IvfConfig, follows: Rest) -> IvfConfig {
    match follows {
        Rest::Nothing | Rest::Flat => lists,
        Rest::Scalar(Quantization::F16) => lists.storage(IvfStorage::F16),
        Rest::Scalar(Quantization::Binary) => lists.storage(IvfStorage::RaBitQ),
        Rest::Scalar(_) => lists.storage(IvfStorage::Sq8),
        Rest::Pq(Codes { num_subquantizers, bits_per_code, residual }) => {
            lists.storage(IvfStorage::Pq { num_subquantizers, bits_per_code }).residual(residual)
        }
    }
}

/// Codes of a number each.
fn scalar(part: &str) -> Option<Quantization> {
    match part {
        "SQ8" => Some(Quantization::Sq8),
        "SQfp16" => Some(Quantization::F16),
        "RaBitQ" => Some(Quantization::Binary),
        _ => None,
    }
}

/// `PQ48`, `PQ48x8`, `PQ48x4fs`, `PQ48x4fsr`.
fn codes(part: &str, name: &str) -> Result<Codes, SpecError> {
    let unknown = || SpecError::Unknown { part: part.to_owned(), name: name.to_owned() };
    let numbers = part.strip_prefix("PQ").ok_or_else(unknown)?;
    let (count, kind) = numbers.split_once('x').unwrap_or((numbers, "8"));
    let num_subquantizers = number(count, part)?.ok_or_else(unknown)?;
    let (bits_per_code, residual) = match kind {
        "8" => (8, true),
        "4fs" => (4, false),
        "4fsr" => (4, true),
        _ => return Err(unknown()),
    };
    Ok(Codes { num_subquantizers, bits_per_code, residual })
}

/// The number of a part; `None` when there is none.
fn number(text: &str, part: &str) -> Result<Option<usize>, SpecError> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits => Ok(Some(number)),
        _ => Err(SpecError::Number { text: text.to_owned(), part: part.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::config::GraphConfig;

    #[test]
    fn names_of_faiss_are_read() {
        let pq = |num_subquantizers, bits_per_code| IvfStorage::Pq { num_subquantizers, bits_per_code };
        let ivf = IvfConfig::default();
        let cases = [
            ("Flat", IndexSpec::Flat),
            ("Auto", IndexSpec::auto()),
            ("HNSW32", IndexSpec::Hnsw(HnswConfig::default().m(32))),
            ("HNSW,Flat", IndexSpec::hnsw()),
            ("Graph", IndexSpec::graph()),
            ("Graph32,RFlat", IndexSpec::Graph(GraphConfig::default().degree(32))),
            ("IVF", IndexSpec::Ivf(ivf)),
            (" IVF1024,Flat ", IndexSpec::Ivf(ivf.nlist(1_024))),
            ("IVF1024,PQ48x4fs,RFlat", IndexSpec::Ivf(ivf.nlist(1_024).storage(pq(48, 4)).residual(false))),
            ("IVF256,PQ48x4fsr", IndexSpec::Ivf(ivf.nlist(256).storage(pq(48, 4)))),
            ("IVF256,PQ16", IndexSpec::Ivf(ivf.nlist(256).storage(pq(16, 8)))),
            ("PQ48x4fs,RFlat", IndexSpec::Pq(PqConfig::new(48))),
            ("SQ8", IndexSpec::flat(Quantization::Sq8)),
            ("SQfp16,RFlat", IndexSpec::flat(Quantization::F16)),
            ("RaBitQ", IndexSpec::flat(Quantization::Binary)),
            ("HNSW32_SQ8", IndexSpec::Hnsw(HnswConfig::default().m(32).quantization(Quantization::Sq8))),
            ("HNSW32,SQ8", IndexSpec::Hnsw(HnswConfig::default().m(32).quantization(Quantization::Sq8))),
            ("HNSW,SQfp16,RFlat", IndexSpec::Hnsw(HnswConfig::default().quantization(Quantization::F16))),
            ("HNSW_RaBitQ", IndexSpec::Hnsw(HnswConfig::default().quantization(Quantization::Binary))),
            (
                "HNSW32_PQ12",
                IndexSpec::Hnsw(
                    HnswConfig::default()
                        .m(32)
                        .quantization(Quantization::Pq { num_subquantizers: 12, bits_per_code: 8 }),
                ),
            ),
            (
                "HNSW,PQ12x4fs",
                IndexSpec::Hnsw(
                    HnswConfig::default()
                        .quantization(Quantization::Pq { num_subquantizers: 12, bits_per_code: 4 }),
                ),
            ),
            ("IVF1024,SQ8", IndexSpec::Ivf(ivf.nlist(1_024).storage(IvfStorage::Sq8))),
            ("IVF1024,SQfp16,RFlat", IndexSpec::Ivf(ivf.nlist(1_024).storage(IvfStorage::F16))),
            ("IVF1024,RaBitQ", IndexSpec::Ivf(ivf.nlist(1_024).storage(IvfStorage::RaBitQ))),
            ("PQ16x8", IndexSpec::Pq(PqConfig::new(16).bits_per_code(8))),
        ];
        for (name, spec) in cases {
            assert_eq!(name.parse(), Ok(spec), "{name}");
        }
    }

    #[test]
    fn what_does_not_exist_is_refused_and_named() {
        for name in [
            "",
            "LSH",
            "Flat,Flat",
            "IVF16,LSH",
            "HNSW32,PQ8x4fsr",
            "PQ8x5",
            "PQ",
            "PQ8,Flat",
            "PQ8x4fsr",
            "SQ4",
            "Auto,SQ8",
            "SQ8,Flat",
            "HNSW32,SQ6",
            "Graph,SQ8",
            "IVF16,SQ6",
        ] {
            assert!(matches!(name.parse::<IndexSpec>(), Err(SpecError::Unknown { .. })), "{name}");
        }
        for name in
            ["HNSWx", "IVF-1", "PQ+4", "IVF99999999999999999999999", "Graph3.5", "Graph_SQ8", "IVF16_SQ8"]
        {
            assert!(matches!(name.parse::<IndexSpec>(), Err(SpecError::Number { .. })), "{name}");
        }
        let error = "IVF16,LSH".parse::<IndexSpec>().unwrap_err().to_string();
        assert_eq!(error, "there is no index \"LSH\" (in \"IVF16,LSH\")");
    }
}
