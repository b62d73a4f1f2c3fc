//! The exact index beside a plain scan: the same answers, sooner.
//!
//! `cargo bench --features internals --bench exact -- [DIR] [--quick] [key=value ...]`
//!
//! DIR holds `base.fvecs`, `query.fvecs` and `metric` (l2, cos, ip); without
//! it the rows are synthetic. Keys: k, queries, threads (that build). Queries
//! go to both by turns; every answer is compared, row by row and bit by bit.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use vecino::Metric;
use vecino::internals::exact::ExactIndex;
use vecino::internals::index::clustered_rows;

/// Queries that are asked of one before it is the other's turn.
const TURN: usize = 10;

struct Data {
    dim: usize,
    metric: Metric,
    base: Vec<f32>,
    queries: Vec<f32>,
}

/// The numbers of an fvecs file: a length before each row.
fn read_vecs(path: &Path) -> std::io::Result<(usize, Vec<f32>)> {
    let bytes = std::fs::read(path)?;
    let (words, _) = bytes.as_chunks::<4>();
    let dim = words.first().map_or(0, |word| u32::from_le_bytes(*word)) as usize;
    let rows = words.chunks_exact(dim + 1).flat_map(|row| &row[1..]);
    Ok((dim, rows.map(|word| f32::from_le_bytes(*word)).collect()))
}

fn read_data(dir: &Path) -> std::io::Result<Data> {
    let (dim, base) = read_vecs(&dir.join("base.fvecs"))?;
    let (_, queries) = read_vecs(&dir.join("query.fvecs"))?;
    let metric = match std::fs::read_to_string(dir.join("metric"))?.trim() {
        "ip" => Metric::Dot,
        "cos" => Metric::Cosine,
        _ => Metric::L2,
    };
    Ok(Data { dim, metric, base, queries })
}

fn synthetic(quick: bool) -> Data {
    let (dim, count, queries) = (96, if quick { 5_000 } else { 50_000 }, 200);
    let mut base = clustered_rows(count + queries, dim, 200, 11);
    let queries = base.split_off(count * dim);
    Data { dim, metric: Metric::L2, base, queries }
}

/// What one way of searching took.
#[derive(Default)]
struct Tally {
    /// Of each turn, for a query.
    spent: Vec<Duration>,
    distances: u64,
    answers: Vec<(u32, u32)>,
}

impl Tally {
    fn run(&mut self, queries: &[&[f32]], mut search: impl FnMut(&[f32], &mut Vec<(u32, u32)>) -> u64) {
        let start = Instant::now();
        for query in queries {
            self.distances += search(query, &mut self.answers);
        }
        self.spent.push(start.elapsed() / queries.len() as u32);
    }

    /// Microseconds of a query, the median of the turns.
    fn each(&self) -> f64 {
        let mut spent = self.spent.clone();
        spent.sort_unstable();
        spent[spent.len() / 2].as_secs_f64() * 1e6
    }
}

#[expect(clippy::print_stdout, reason = "the report is the product")]
fn main() -> std::io::Result<()> {
    let (flags, arguments): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|word| word.starts_with("--"));
    let quick = flags.iter().any(|flag| flag == "--quick");
    let keys: HashMap<&str, &str> = arguments.iter().filter_map(|word| word.split_once('=')).collect();
    let number =
        |key: &str, default: usize| keys.get(key).and_then(|text| text.parse().ok()).unwrap_or(default);
    let dir = arguments.iter().find(|word| !word.contains('='));
    let data = dir.map_or_else(|| Ok(synthetic(quick)), |dir| read_data(Path::new(dir)))?;
    let (rows, threads, start) = (data.base.len() / data.dim, number("threads", 2), Instant::now());
    let Some(mut index) = ExactIndex::build(&data.base, data.dim, data.metric, threads) else {
        return Err(std::io::Error::other("a row cannot be used"));
    };
    println!(
        "{rows} x {} {}: built in {:.2} s, {:.1} MB beside {:.1} MB of vectors",
        data.dim,
        data.metric,
        start.elapsed().as_secs_f64(),
        index.bytes() as f64 / 1e6,
        size_of_val(data.base.as_slice()) as f64 / 1e6,
    );
    let (k, count) = (number("k", 10), number("queries", if quick { 50 } else { 1_000 }));
    let queries: Vec<&[f32]> = data.queries.chunks_exact(data.dim).take(count).collect();
    let (mut sieved, mut plain) = (Tally::default(), Tally::default());
    for queries in queries.chunks(TURN) {
        sieved.run(queries, |query, answers| {
            index.search(query, k, |distance, row| answers.push((distance.to_bits(), row)))
        });
        plain.run(queries, |query, answers| {
            index.scan(query, k, |distance, row| answers.push((distance.to_bits(), row)))
        });
    }
    println!(
        "k={k}, {} queries: {:.0} us ({:.0}/s), plain {:.0} us: {:.2} times as fast; {:.2} % of the rows measured; {}",
        queries.len(),
        sieved.each(),
        1e6 / sieved.each(),
        plain.each(),
        plain.each() / sieved.each(),
        100.0 * sieved.distances as f64 / plain.distances as f64,
        if sieved.answers == plain.answers { "same answers" } else { "ANSWERS DIFFER" },
    );
    if sieved.answers == plain.answers { Ok(()) } else { Err(std::io::Error::other("answers differ")) }
}
