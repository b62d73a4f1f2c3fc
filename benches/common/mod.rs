//! What the benches share: rows (made, or read from files), arguments,
//! filling a collection, recall and passes over queries.

#![allow(dead_code, reason = "every bench is a crate of its own and uses a part of this")]
#![expect(clippy::expect_used, reason = "a bench that cannot run may end")]

use std::collections::HashMap;
use std::hint::black_box;
use std::path::Path;
use std::str::FromStr;
use std::time::Instant;

use vecino::{Collection, CollectionConfig, Engine, IndexSpec, Metric, Query, Record};

/// Rows that are put in at a time: as many as the largest batch may have.
const LOAD: usize = 1_000_000;

/// Splitmix64: seeded, the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Roughly normal: the sum of four uniforms.
    pub(crate) fn normal(&mut self) -> f32 {
        (0..4).map(|_| (self.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5).sum()
    }
}

/// Centres that clustered rows gather about.
const CENTRES: usize = 64;

/// How far from their centres they are, the centres being about 1 apart.
const SPREAD: f32 = 0.6;

/// Rows, one after the other, of one length.
pub(crate) struct Rows {
    pub(crate) dim: usize,
    pub(crate) values: Vec<f32>,
}

impl Rows {
    /// Points around centres that are the same for every seed: queries come
    /// from where rows come from.
    pub(crate) fn clustered(count: usize, dim: usize, seed: u64) -> Rows {
        let mut random = Random(7);
        let centres: Vec<f32> = (0..CENTRES * dim).map(|_| random.normal()).collect();
        let mut random = Random(seed);
        let mut values = Vec::with_capacity(count * dim);
        for _ in 0..count {
            let centre = &centres[random.next() as usize % CENTRES * dim..][..dim];
            values.extend(centre.iter().map(|x| x + SPREAD * random.normal()));
        }
        Rows { dim, values }
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.dim)
    }

    pub(crate) fn row(&self, at: usize) -> &[f32] {
        &self.values[at * self.dim..][..self.dim]
    }

    /// The first ones.
    pub(crate) fn first(&self, count: usize) -> Rows {
        Rows { dim: self.dim, values: self.values[..count.min(self.len()) * self.dim].to_vec() }
    }
}

/// Rows and queries of one kind.
pub(crate) struct Data {
    pub(crate) metric: Metric,
    pub(crate) base: Rows,
    pub(crate) queries: Rows,
}

impl Data {
    pub(crate) fn clustered(count: usize, dim: usize, queries: usize) -> Data {
        let (base, queries) = (Rows::clustered(count, dim, 1), Rows::clustered(queries, dim, 2));
        Data { metric: Metric::L2, base, queries }
    }

    /// The first rows and queries.
    pub(crate) fn first(&self, rows: usize, queries: usize) -> Data {
        Data { metric: self.metric, base: self.base.first(rows), queries: self.queries.first(queries) }
    }

    /// From a folder with `base.fvecs`, `query.fvecs` and `metric` (l2, cos, ip).
    pub(crate) fn read(dir: &Path) -> std::io::Result<Data> {
        let metric = match std::fs::read_to_string(dir.join("metric"))?.trim() {
            "ip" => Metric::Dot,
            "cos" => Metric::Cosine,
            _ => Metric::L2,
        };
        let rows = |name: &str| -> std::io::Result<Rows> {
            let (dim, words) = read_vecs(&dir.join(name))?;
            Ok(Rows { dim, values: words.into_iter().map(f32::from_le_bytes).collect() })
        };
        Ok(Data { metric, base: rows("base.fvecs")?, queries: rows("query.fvecs")? })
    }
}

/// Words of an fvecs or ivecs file: a length before each row.
pub(crate) fn read_vecs(path: &Path) -> std::io::Result<(usize, Vec<[u8; 4]>)> {
    let bytes = std::fs::read(path)?;
    let (words, _) = bytes.as_chunks::<4>();
    let dim = words.first().map_or(0, |word| u32::from_le_bytes(*word)) as usize;
    Ok((dim, words.chunks_exact(dim + 1).flat_map(|row| row[1..].iter().copied()).collect()))
}

/// `--flags`, `key=value` and other words of the command line.
pub(crate) struct Arguments {
    flags: Vec<String>,
    keys: HashMap<String, String>,
    words: Vec<String>,
}

impl Arguments {
    pub(crate) fn read() -> Arguments {
        let (flags, rest): (Vec<String>, Vec<String>) =
            std::env::args().skip(1).partition(|word| word.starts_with("--"));
        let (pairs, words): (Vec<String>, Vec<String>) =
            rest.into_iter().partition(|word| word.contains('='));
        let keys = pairs.iter().filter_map(|pair| pair.split_once('='));
        let keys = keys.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Arguments { flags, keys, words }
    }

    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|word| word == flag)
    }

    pub(crate) fn number(&self, key: &str, default: usize) -> usize {
        self.keys.get(key).and_then(|text| text.parse().ok()).unwrap_or(default)
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.keys.get(key).map(String::as_str)
    }

    /// Numbers with commas between them.
    pub(crate) fn list<T: FromStr>(&self, key: &str, default: &str) -> Vec<T> {
        let text = self.keys.get(key).map_or(default, String::as_str);
        text.split(',').filter_map(|text| text.parse().ok()).collect()
    }

    /// The first word that is neither a flag nor a pair.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.words.first().map(Path::new)
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Puts rows into a collection, ids counting up, and waits until they are visible.
pub(crate) fn load(items: &Collection, rows: &Rows) {
    for (piece, vectors) in rows.values.chunks(LOAD * rows.dim).enumerate() {
        let records = vectors.chunks_exact(rows.dim).enumerate();
        let records = records.map(|(at, row)| Record::new((piece * LOAD + at) as u64, row));
        let _ = items.upsert_batch(records).expect("good records");
    }
    items.flush().expect("visible");
}

/// A collection of these rows, in its best order.
pub(crate) fn filled(
    engine: &Engine,
    name: &str,
    spec: IndexSpec,
    metric: Metric,
    rows: &Rows,
) -> Collection {
    let config = CollectionConfig::new(rows.dim, metric).index(spec);
    let items = engine.create_collection(name, config).expect("a new name");
    load(&items, rows);
    items.optimize().expect("optimized");
    items
}

/// The ids of the `k` nearest records of each query.
pub(crate) fn exact(items: &Collection, queries: &Rows, k: usize) -> Vec<Vec<u64>> {
    let queries: Vec<Query> = queries.iter().map(|query| Query::new(query).top(k).exact()).collect();
    let answers = items.search_batch(&queries).expect("answers");
    answers.iter().map(|answer| answer.hits().iter().filter_map(|hit| hit.id.as_num()).collect()).collect()
}

/// The share of the true nearest that searches of a breadth find.
pub(crate) fn recall(items: &Collection, queries: &Rows, truth: &[Vec<u64>], ef: usize) -> f64 {
    let (mut hits, mut wanted) = (0, 0);
    for (query, truth) in queries.iter().zip(truth) {
        let answer = items.search(&Query::new(query).top(truth.len()).ef_search(ef)).expect("an answer");
        hits +=
            answer.hits().iter().filter(|hit| truth.iter().any(|id| hit.id.as_num() == Some(*id))).count();
        wanted += truth.len();
    }
    hits as f64 / wanted.max(1) as f64
}

/// Seconds that all queries take, once.
pub(crate) fn pass(items: &Collection, queries: &Rows, k: usize, ef: usize) -> f64 {
    let started = Instant::now();
    for query in queries.iter() {
        black_box(items.search(&Query::new(query).top(k).ef_search(ef)).expect("an answer"));
    }
    started.elapsed().as_secs_f64()
}

/// Seconds that this thread worked: what others do on the same processor does
/// not count. Wall time where the system does not tell.
fn worked(since: Instant) -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok());
    nanos.map_or_else(|| since.elapsed().as_secs_f64(), |nanos| nanos / 1e9)
}

/// Queries a second of work, over so many passes.
fn speed(items: &Collection, queries: &Rows, k: usize, ef: usize, rounds: usize) -> f64 {
    let since = Instant::now();
    let before = worked(since);
    for _ in 0..rounds {
        pass(items, queries, k, ef);
    }
    (rounds * queries.len()) as f64 / (worked(since) - before)
}

/// Breadths that a recall is looked for with: steps of about a fifth.
const BREADTHS: [usize; 29] = [
    1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 17, 20, 24, 29, 35, 42, 50, 60, 72, 86, 104, 124, 150, 180, 216, 260,
    320, 400, 512,
];

/// The least breadth that reaches a recall, with what it reaches.
pub(crate) fn breadth_for(
    items: &Collection,
    queries: &Rows,
    truth: &[Vec<u64>],
    least: f64,
) -> Option<(usize, f64)> {
    let found = BREADTHS.into_iter().map(|ef| (ef, recall(items, queries, truth, ef)));
    found.into_iter().find(|(_, recall)| *recall >= least)
}

/// Hops and distances of a query, on average.
fn work(items: &Collection, queries: &Rows, k: usize, ef: usize) -> (f64, f64) {
    let (mut hops, mut distances) = (0, 0);
    for query in queries.iter() {
        let answer = items.search(&Query::new(query).top(k).ef_search(ef)).expect("an answer");
        hops += answer.stats().hops;
        distances += answer.stats().distances;
    }
    (hops as f64 / queries.len() as f64, distances as f64 / queries.len() as f64)
}

/// The speed at a recall.
pub(crate) struct Speed {
    /// The least breadth that reaches it.
    pub(crate) ef: usize,
    pub(crate) recall: f64,
    /// Nodes walked through and distances computed for a query with `ef`.
    pub(crate) hops: f64,
    pub(crate) distances: f64,
    /// Queries a second, between the breadths on both sides of the recall.
    pub(crate) queries: f64,
}

/// Queries a second of work at a recall: passes with the breadths on both
/// sides of it, joined by a line over the logarithm of the speed. (When the
/// least breadth reaches more, that is what is given.)
pub(crate) fn at_recall(
    items: &Collection,
    queries: &Rows,
    truth: &[Vec<u64>],
    target: f64,
    rounds: usize,
) -> Option<Speed> {
    let k = truth.first().map_or(1, Vec::len);
    let speed = |ef: usize| speed(items, queries, k, ef, rounds);
    let mut below: Option<(usize, f64)> = None;
    for ef in BREADTHS {
        let reached = recall(items, queries, truth, ef);
        if reached < target {
            below = Some((ef, reached));
            continue;
        }
        let (hops, distances) = work(items, queries, k, ef);
        let Some((lesser, missed)) = below else {
            return Some(Speed { ef, recall: reached, hops, distances, queries: speed(ef) });
        };
        let share = (target - missed) / (reached - missed);
        let queries = (speed(lesser).ln() * (1.0 - share) + speed(ef).ln() * share).exp();
        return Some(Speed { ef, recall: target, hops, distances, queries });
    }
    None
}
