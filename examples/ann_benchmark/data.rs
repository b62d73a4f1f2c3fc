//! Vectors, queries and exact answers, from files or made up.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use vecino::{Answer, Metric, RecordId};

use super::Result;
use super::arguments::Arguments;

/// How far two vectors are apart, with the short names of the data sets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    L2,
    Cos,
    Ip,
}

impl Measure {
    fn from_name(name: &str) -> Result<Measure> {
        match name.trim() {
            "l2" | "euclidean" => Ok(Measure::L2),
            "cos" | "cosine" | "angular" => Ok(Measure::Cos),
            "ip" | "dot" => Ok(Measure::Ip),
            other => Err(format!("the metric is {other:?}, but must be l2, cos or ip").into()),
        }
    }

    pub(super) fn of_collection(self) -> Metric {
        match self {
            Measure::L2 => Metric::L2,
            Measure::Cos => Metric::Cosine,
            Measure::Ip => Metric::Dot,
        }
    }

    /// The distance in double precision. Written for clarity: it is the judge.
    fn distance(self, a: &[f32], b: &[f32]) -> f64 {
        let pairs = || a.iter().zip(b).map(|(x, y)| (f64::from(*x), f64::from(*y)));
        let dot = || pairs().map(|(x, y)| x * y).sum::<f64>();
        match self {
            Measure::L2 => pairs().map(|(x, y)| (x - y) * (x - y)).sum(),
            Measure::Ip => -dot(),
            Measure::Cos => {
                let lengths = pairs().fold((0.0, 0.0), |(a, b), (x, y)| (a + x * x, b + y * y));
                1.0 - dot() / (lengths.0 * lengths.1).sqrt().max(1e-30)
            }
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Measure::L2 => "l2",
            Measure::Cos => "cos",
            Measure::Ip => "ip",
        })
    }
}

/// One data set.
pub(super) struct Data {
    pub(super) name: String,
    pub(super) dim: usize,
    pub(super) metric: Measure,
    base: Vec<f32>,
    queries: Vec<f32>,
    /// For each query the rows of the base, nearest first.
    truth: Vec<Vec<u32>>,
}

impl Data {
    pub(super) fn load(arguments: &Arguments) -> Result<Data> {
        let files = Files::of(arguments);
        let mut data = match &files.base {
            Some(base) if !arguments.quick || arguments.data.is_some() => {
                read(&files, base, arguments.queries)?
            }
            _ => made_up(arguments),
        };
        if data.rows() < arguments.k {
            return Err(format!("{} rows are too few for k = {}", data.rows(), arguments.k).into());
        }
        if data.truth.iter().any(|rows| rows.len() < arguments.k) || data.truth.is_empty() {
            data.truth = data.exact(&|_| true, arguments.k, arguments.threads);
        }
        if data.truth.len() < data.queries() {
            return Err("there are fewer exact answers than queries".into());
        }
        Ok(data)
    }

    pub(super) fn rows(&self) -> usize {
        self.base.len() / self.dim
    }

    pub(super) fn row(&self, at: usize) -> &[f32] {
        &self.base[at * self.dim..][..self.dim]
    }

    pub(super) fn queries(&self) -> usize {
        self.queries.len() / self.dim
    }

    pub(super) fn query(&self, at: usize) -> &[f32] {
        &self.queries[at * self.dim..][..self.dim]
    }

    /// 0, except for the inner product.
    pub(super) fn distance_to_itself(&self, row: usize) -> f64 {
        self.metric.distance(self.row(row), self.row(row))
    }

    /// Tie-aware recall of the answers to the first queries: a hit counts when
    /// its true distance is no more than that of the true k-th.
    pub(super) fn recall(&self, answers: &[Answer], k: usize) -> f64 {
        self.recall_of(&self.truth, answers, k)
    }

    /// The same, given the exact answers; these may have fewer than k rows.
    pub(super) fn recall_of(&self, truth: &[Vec<u32>], answers: &[Answer], k: usize) -> f64 {
        let all = answers.iter().zip(truth).enumerate();
        let found: usize = all.map(|(query, (answer, truth))| self.found(query, truth, answer, k)).sum();
        let there: usize = truth.iter().take(answers.len()).map(|truth| truth.len().min(k)).sum();
        found as f64 / there.max(1) as f64
    }

    fn found(&self, query: usize, truth: &[u32], answer: &Answer, k: usize) -> usize {
        let truth = &truth[..truth.len().min(k)];
        let Some(last) = truth.last() else { return 0 };
        let distance = |row: u32| self.metric.distance(self.query(query), self.row(row as usize));
        let last = distance(*last);
        let limit = last + last.abs() * 1e-6 + 1e-9;
        let rows = answer.hits().iter().take(k).filter_map(|hit| match hit.id {
            RecordId::Num(row) => u32::try_from(row).ok(),
            RecordId::Text(_) => None,
        });
        rows.filter(|row| truth.contains(row) || distance(*row) <= limit).count()
    }

    /// The `k` nearest of the rows that `passes` lets in for every query, by
    /// comparing with all of them.
    pub(super) fn exact(
        &self,
        passes: &(dyn Fn(usize) -> bool + Sync),
        k: usize,
        threads: usize,
    ) -> Vec<Vec<u32>> {
        let next = AtomicUsize::new(0);
        let mut truth = vec![Vec::new(); self.queries()];
        let work = || {
            let mut mine = Vec::new();
            loop {
                let query = next.fetch_add(1, Ordering::Relaxed);
                if query >= self.queries() {
                    return mine;
                }
                mine.push((query, self.nearest(query, passes, k)));
            }
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
            for (query, nearest) in workers.into_iter().filter_map(|worker| worker.join().ok()).flatten() {
                truth[query] = nearest;
            }
        });
        truth
    }

    fn nearest(&self, query: usize, passes: &dyn Fn(usize) -> bool, k: usize) -> Vec<u32> {
        let distance = |row| (self.metric.distance(self.query(query), self.row(row)), row as u32);
        let mut all: Vec<(f64, u32)> = (0..self.rows()).filter(|row| passes(*row)).map(distance).collect();
        let order = |a: &(f64, u32), b: &(f64, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        if k < all.len() {
            all.select_nth_unstable_by(k, order);
            all.truncate(k);
        }
        all.sort_by(order);
        all.into_iter().map(|(_, row)| row).collect()
    }
}

/// Where the parts of a data set are.
struct Files {
    name: String,
    base: Option<PathBuf>,
    query: Option<PathBuf>,
    truth: Option<PathBuf>,
    metric: Option<String>,
}

impl Files {
    fn of(arguments: &Arguments) -> Files {
        let folder = arguments.data.as_deref();
        let in_folder = |names: &[&str]| {
            names.iter().filter_map(|name| Some(folder?.join(name))).find(|path| path.exists())
        };
        let metric = in_folder(&["metric"]).and_then(|path| fs::read_to_string(path).ok());
        let named = folder.or(arguments.base.as_deref()).and_then(Path::file_stem);
        Files {
            name: named.map_or_else(|| "made-up".to_owned(), |name| name.to_string_lossy().into_owned()),
            base: arguments.base.clone().or_else(|| in_folder(&["base.fvecs", "base.bvecs"])),
            query: arguments.query.clone().or_else(|| in_folder(&["query.fvecs", "query.bvecs"])),
            truth: arguments.truth.clone().or_else(|| in_folder(&["gt.ivecs"])),
            metric: arguments.metric.clone().or(metric),
        }
    }
}

fn read(files: &Files, base: &Path, queries: usize) -> Result<Data> {
    let query = files.query.as_deref().ok_or("no query vectors: give --query or --data")?;
    let metric = files.metric.as_deref().ok_or("no metric: give --metric l2, cos or ip")?;
    let (dim, vectors) = floats(base)?;
    let (query_dim, mut asked) = floats(query)?;
    if dim != query_dim {
        return Err(format!("base vectors have {dim} dimensions, queries {query_dim}").into());
    }
    asked.truncate(queries * dim);
    let mut truth = match &files.truth {
        Some(path) => rows_of_words(path)?,
        None => Vec::new(),
    };
    truth.truncate(asked.len() / dim);
    let rows = vectors.len() / dim;
    if truth.iter().flatten().any(|row| *row as usize >= rows) {
        return Err("an exact answer names a row that the base does not have".into());
    }
    let metric = Measure::from_name(metric)?;
    Ok(Data { name: files.name.clone(), dim, metric, base: vectors, queries: asked, truth })
}

/// The dimension and all components of an fvecs or bvecs file.
fn floats(path: &Path) -> Result<(usize, Vec<f32>)> {
    let bytes = load(path)?;
    let width = if path.extension().is_some_and(|e| e == "bvecs") { 1 } else { 4 };
    let (dim, records) = split(path, &bytes, width)?;
    let mut all = Vec::with_capacity(bytes.len() / (4 + dim * width) * dim);
    for record in records {
        if width == 1 {
            all.extend(record.iter().map(|byte| f32::from(*byte)));
        } else {
            all.extend(record.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        }
    }
    Ok((dim, all))
}

/// The rows of an ivecs file.
fn rows_of_words(path: &Path) -> Result<Vec<Vec<u32>>> {
    let bytes = load(path)?;
    let (_, records) = split(path, &bytes, 4)?;
    let words = |record: &[u8]| record.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
    Ok(records.map(words).collect())
}

fn load(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|fault| format!("{}: {fault}", path.display()).into())
}

/// The components of all vectors of a file, as bytes, and their number.
fn split<'a>(path: &Path, bytes: &'a [u8], width: usize) -> Result<(usize, impl Iterator<Item = &'a [u8]>)> {
    let head = bytes.first_chunk::<4>().copied().unwrap_or_default();
    let dim = u32::from_le_bytes(head) as usize;
    let size = 4 + dim * width;
    let heads_agree = || bytes.chunks_exact(size).all(|record| record[..4] == head);
    if dim == 0 || !bytes.len().is_multiple_of(size) || !heads_agree() {
        return Err(format!("{}: not a file of vectors of one dimension", path.display()).into());
    }
    Ok((dim, bytes.chunks_exact(size).map(|record| &record[4..])))
}

/// Points around some centres, the same in every run.
fn made_up(arguments: &Arguments) -> Data {
    const DIM: usize = 48;
    const CENTRES: usize = 200;
    let (rows, queries) = if arguments.quick { (6_000, 200) } else { (50_000, 1_000) };
    let mut state = 1_u64;
    let mut random = || {
        // SplitMix64 (Steele, Lea, Flood 2014); the sum of four is near enough to normal.
        let mut one = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        one() + one() + one() + one()
    };
    let centres: Vec<f32> = (0..CENTRES * DIM).map(|_| random()).collect();
    let mut points = |count: usize| -> Vec<f32> {
        let centre = |at: usize| &centres[at % CENTRES * DIM..][..DIM];
        (0..count).flat_map(centre).map(|component| component + 0.8 * random()).collect()
    };
    let (base, queries) = (points(rows), points(queries.min(arguments.queries)));
    Data { name: "made-up".to_owned(), dim: DIM, metric: Measure::L2, base, queries, truth: Vec::new() }
}
