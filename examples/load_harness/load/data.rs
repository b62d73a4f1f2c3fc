//! Vectors and queries, from files or made up.

use std::fs;
use std::path::Path;

use vecino::Metric;

use super::Result;
use super::rng::{Rng, mixed};

/// Vectors of one dimension, and queries.
pub(crate) struct Data {
    pub(crate) name: String,
    pub(crate) dim: usize,
    pub(crate) metric: Metric,
    rows: Vec<f32>,
    queries: Vec<f32>,
}

impl Data {
    /// Points around some centres, the same for a seed on every machine.
    pub(crate) fn generated(rows: usize, dim: usize, queries: usize, seed: u64) -> Data {
        let mut rng = Rng::new(mixed(seed ^ 3));
        // The sum of four uniform numbers is near enough to normal.
        let mut normal = || (0..4).map(|_| rng.unit() as f32 - 0.5).sum::<f32>();
        let centres: Vec<f32> = (0..(rows / 200).max(1) * dim).map(|_| normal()).collect();
        let mut points = |count: usize| -> Vec<f32> {
            let centre = |at: usize| &centres[at * dim % centres.len()..][..dim];
            (0..count).flat_map(centre).map(|component| component + 0.8 * normal()).collect()
        };
        let (rows, queries) = (points(rows), points(queries.max(1)));
        Data { name: "generated clusters".to_owned(), dim, metric: Metric::L2, rows, queries }
    }

    /// `base.fvecs`, `query.fvecs` and `metric` (`l2`, `cos` or `ip`) of a folder.
    pub(crate) fn read(folder: &Path) -> Result<Data> {
        let metric = fs::read_to_string(folder.join("metric"))?;
        let metric = match metric.trim() {
            "l2" => Metric::L2,
            "cos" => Metric::Cosine,
            "ip" => Metric::Dot,
            other => return Err(format!("the metric is {other:?}, but must be l2, cos or ip").into()),
        };
        let (dim, rows) = fvecs(&folder.join("base.fvecs"))?;
        let (query_dim, queries) = fvecs(&folder.join("query.fvecs"))?;
        if query_dim != dim {
            return Err(format!("rows have {dim} dimensions, queries {query_dim}").into());
        }
        let name = folder.file_name().unwrap_or(folder.as_os_str());
        Ok(Data { name: name.to_string_lossy().into_owned(), dim, metric, rows, queries })
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len() / self.dim
    }

    pub(crate) fn query_count(&self) -> usize {
        self.queries.len() / self.dim
    }

    /// Any number: rows begin again at the end.
    pub(crate) fn row(&self, row: u64) -> &[f32] {
        let at = (row % self.len() as u64) as usize;
        &self.rows[at * self.dim..][..self.dim]
    }

    /// Any number: queries begin again at the end.
    pub(crate) fn query(&self, query: u64) -> &[f32] {
        let at = (query % self.query_count() as u64) as usize;
        &self.queries[at * self.dim..][..self.dim]
    }
}

/// A file of vectors, each its dimension as a 32-bit integer and then that
/// many 32-bit floats, little endian: the dimension, and all components.
fn fvecs(path: &Path) -> Result<(usize, Vec<f32>)> {
    let bytes = fs::read(path).map_err(|fault| format!("{}: {fault}", path.display()))?;
    let words = bytes.as_chunks::<4>().0;
    let dim = words.first().map_or(0, |word| u32::from_le_bytes(*word) as usize);
    let is_whole = dim > 0 && bytes.len().is_multiple_of(4 * (dim + 1));
    if !is_whole || words.chunks(dim + 1).any(|vector| vector[0] != words[0]) {
        return Err(format!("{}: not a file of vectors of one dimension", path.display()).into());
    }
    let components = words.chunks(dim + 1).flat_map(|vector| &vector[1..]);
    Ok((dim, components.map(|word| f32::from_le_bytes(*word)).collect()))
}
