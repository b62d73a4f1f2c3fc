//! Indexes by the names that faiss's `index_factory` gave them.

use std::str::FromStr;

use super::{HnswConfig, IndexSpec, IvfConfig, IvfStorage, PqConfig};
use crate::error::SpecError;

/// What follows the first part of a name.
enum Rest {
    Nothing,
    Flat,
    Pq(Codes),
}

/// `PQ48x4fsr`.
struct Codes {
    num_subquantizers: usize,
    bits_per_code: usize,
    residual: bool,
}

/// Reads an index by its name in faiss: `Flat`, `HNSW32`, `IVF1024,Flat`,
/// `IVF1024,PQ48x4fs`, `IVF1024,PQ48` (8 bits), `PQ48x4fs`; also `Graph`,
/// `Graph32` (links of a record) and `IVF` without a number. `r` behind `fs`
/// says residual codes. `RFlat` at the end may be said: answers are always
/// measured by the stored vectors.
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
        let (first, rest) = name.split_once(',').unwrap_or((name, ""));
        let rest = rest.strip_suffix("RFlat").map_or(rest, |rest| rest.strip_suffix(',').unwrap_or(rest));
        let refused = || SpecError::Unknown { part: first.to_owned(), name: name.to_owned() };
        let follows = match rest {
            "" => Rest::Nothing,
            "Flat" => Rest::Flat,
            _ => Rest::Pq(codes(rest, name)?),
        };
        let alone = matches!(follows, Rest::Nothing | Rest::Flat);
        let unknown_rest = || SpecError::Unknown { part: rest.to_owned(), name: name.to_owned() };
        if first == "Flat" && matches!(follows, Rest::Nothing) {
            return Ok(IndexSpec::Flat);
        }
        if let Some(m) = first.strip_prefix("HNSW") {
            let graph = HnswConfig::default();
            let graph = number(m, first)?.map_or(graph, |m| graph.m(m));
            return if alone { Ok(IndexSpec::Hnsw(graph)) } else { Err(unknown_rest()) };
        }
        if let Some(degree) = first.strip_prefix("Graph") {
            let graph = super::GraphConfig::default();
            let graph = number(degree, first)?.map_or(graph, |degree| graph.degree(degree));
            return if alone { Ok(IndexSpec::Graph(graph)) } else { Err(unknown_rest()) };
        }
        if let Some(nlist) = first.strip_prefix("IVF") {
            let lists = IvfConfig::default();
            let lists = number(nlist, first)?.map_or(lists, |nlist| lists.nlist(nlist));
            return Ok(IndexSpec::Ivf(match follows {
                Rest::Nothing | Rest::Flat => lists,
                Rest::Pq(Codes { num_subquantizers, bits_per_code, residual }) => {
                    let codes = IvfStorage::Pq { num_subquantizers, bits_per_code };
                    lists.storage(codes).residual(residual)
                }
            }));
        }
        if first.starts_with("PQ") {
            let Codes { num_subquantizers, bits_per_code, residual } = codes(first, name)?;
            let codes = PqConfig::new(num_subquantizers).bits_per_code(bits_per_code);
            let is_plain = matches!(follows, Rest::Nothing) && !(residual && bits_per_code == 4);
            return if is_plain { Ok(IndexSpec::Pq(codes)) } else { Err(refused()) };
        }
        Err(refused())
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
            ("PQ16x8", IndexSpec::Pq(PqConfig::new(16).bits_per_code(8))),
        ];
        for (name, spec) in cases {
            assert_eq!(name.parse(), Ok(spec), "{name}");
        }
    }

    #[test]
    fn what_does_not_exist_is_refused_and_named() {
        for name in ["", "LSH", "Flat,Flat", "IVF16,LSH", "HNSW32,PQ8", "PQ8x5", "PQ", "PQ8,Flat", "PQ8x4fsr"]
        {
            assert!(matches!(name.parse::<IndexSpec>(), Err(SpecError::Unknown { .. })), "{name}");
        }
        for name in ["HNSWx", "IVF-1", "PQ+4", "IVF99999999999999999999999", "Graph3.5"] {
            assert!(matches!(name.parse::<IndexSpec>(), Err(SpecError::Number { .. })), "{name}");
        }
        let error = "IVF16,LSH".parse::<IndexSpec>().unwrap_err().to_string();
        assert_eq!(error, "there is no index \"LSH\" (in \"IVF16,LSH\")");
    }
}
