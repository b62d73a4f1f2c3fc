//! The bare graph: recall beside speed, as graph libraries are compared.
//!
//! `cargo bench --features internals --bench bare_index -- [DIR] [key=value ...]`
//!
//! DIR holds `base.fvecs`, `query.fvecs`, `gt.ivecs` and `metric` (l2, cos,
//! ip); without it the rows are synthetic. Keys: m, efc, threads, queries, k,
//! ef (a list with commas), shards (graphs searched one after the other, with
//! and without handing on the bound), huge (0: no huge pages, on Linux).

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use vecino::Metric;
use vecino::internals::index::{BareIndex, BareOptions, clustered_rows};

struct Data {
    dim: usize,
    metric: Metric,
    base: Vec<f32>,
    queries: Vec<f32>,
    truth: Vec<Vec<u32>>,
}

/// Keeps the memory of this process on small pages.
fn refuse_huge_pages() {
    #[cfg(target_os = "linux")]
    {
        let nothing: libc::c_ulong = 0;
        let on: libc::c_ulong = 1;
        // SAFETY: this call takes numbers and changes how later pages are
        // taken, nothing else.
        unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, on, nothing, nothing, nothing) };
    }
}

/// Words of an fvecs or ivecs file: a length before each row.
fn read_vecs(path: &Path) -> std::io::Result<(usize, Vec<[u8; 4]>)> {
    let bytes = std::fs::read(path)?;
    let (words, _) = bytes.as_chunks::<4>();
    let dim = words.first().map_or(0, |word| u32::from_le_bytes(*word)) as usize;
    Ok((dim, words.chunks_exact(dim + 1).flat_map(|row| row[1..].iter().copied()).collect()))
}

fn read_data(dir: &Path) -> std::io::Result<Data> {
    let (dim, base) = read_vecs(&dir.join("base.fvecs"))?;
    let (_, queries) = read_vecs(&dir.join("query.fvecs"))?;
    let (width, truth) = read_vecs(&dir.join("gt.ivecs"))?;
    let metric = match std::fs::read_to_string(dir.join("metric"))?.trim() {
        "ip" => Metric::Dot,
        "cos" => Metric::Cosine,
        _ => Metric::L2,
    };
    let floats = |words: Vec<[u8; 4]>| words.into_iter().map(f32::from_le_bytes).collect();
    let truth: Vec<u32> = truth.into_iter().map(u32::from_le_bytes).collect();
    let truth = truth.chunks_exact(width).map(<[u32]>::to_vec).collect();
    Ok(Data { dim, metric, base: floats(base), queries: floats(queries), truth })
}

fn synthetic() -> Data {
    let (dim, count, queries) = (96, 20_000, 200);
    let rows = clustered_rows(count + queries, dim, 200, 11);
    let (base, queries) = rows.split_at(count * dim);
    let exact = |query: &[f32]| {
        let distance = |row: &[f32]| query.iter().zip(row).map(|(x, y)| (x - y) * (x - y)).sum::<f32>();
        let mut all: Vec<(f32, u32)> =
            base.chunks_exact(dim).enumerate().map(|(row, vector)| (distance(vector), row as u32)).collect();
        all.select_nth_unstable_by(100, |a, b| a.0.total_cmp(&b.0));
        all.truncate(100);
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all.into_iter().map(|(_, row)| row).collect()
    };
    let truth = queries.chunks_exact(dim).map(exact).collect();
    Data { dim, metric: Metric::L2, base: base.to_vec(), queries: queries.to_vec(), truth }
}

/// One graph, or several that hold every n-th row each.
struct Shards {
    graphs: Vec<BareIndex>,
    /// Whether a shard learns how far the k-th row of those before it is.
    hand_on: bool,
}

impl Shards {
    fn build(data: &Data, count: usize, options: BareOptions) -> Option<Shards> {
        let graph = |shard: usize| {
            let rows = data.base.chunks_exact(data.dim).skip(shard).step_by(count);
            BareIndex::build(&rows.flatten().copied().collect::<Vec<f32>>(), data.dim, options)
        };
        Some(Shards { graphs: (0..count).map(graph).collect::<Option<_>>()?, hand_on: true })
    }

    fn search(&mut self, query: &[f32], k: usize, ef: usize, rows: &mut Vec<u32>) {
        let count = self.graphs.len();
        if let [only] = self.graphs.as_mut_slice() {
            only.search(query, k, ef, rows);
            return;
        }
        let mut near: Vec<(f32, u32)> = Vec::new();
        for (shard, graph) in self.graphs.iter_mut().enumerate() {
            let kth = near.get(k - 1).filter(|_| self.hand_on);
            let bound = kth.map_or(f32::INFINITY, |(distance, _)| *distance);
            graph.search_sharded(query, k, ef, bound, |distance, row| {
                near.push((distance, row * count as u32 + shard as u32));
            });
            near.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
            near.truncate(k);
        }
        rows.clear();
        rows.extend(near.iter().map(|(_, row)| *row));
    }

    fn take_work(&mut self) -> (u64, u64) {
        let work = self.graphs.iter_mut().map(BareIndex::take_work);
        work.fold((0, 0), |(hops, distances), work| (hops + work.hops, distances + work.distances))
    }
}

/// One pass over the queries: time and hits.
fn pass(index: &mut Shards, data: &Data, count: usize, k: usize, ef: usize) -> (Duration, usize) {
    let (mut rows, mut hits, mut spent) = (Vec::new(), 0, Duration::ZERO);
    for (query, truth) in data.queries.chunks_exact(data.dim).zip(&data.truth).take(count) {
        let start = Instant::now();
        index.search(query, k, ef, &mut rows);
        spent += start.elapsed();
        hits += rows.iter().filter(|row| truth[..k].contains(row)).count();
    }
    (spent, hits)
}

#[expect(clippy::print_stdout, reason = "the report is the product")]
fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let keys: HashMap<&str, &str> = arguments.iter().filter_map(|word| word.split_once('=')).collect();
    let dir = arguments.iter().find(|word| !word.contains('='));
    let number =
        |key: &str, default: usize| keys.get(key).and_then(|text| text.parse().ok()).unwrap_or(default);
    if number("huge", 1) == 0 {
        refuse_huge_pages();
    }
    let data = dir.map_or_else(|| Ok(synthetic()), |dir| read_data(Path::new(dir)))?;
    let (m, ef_construction, threads) = (number("m", 0), number("efc", 128), number("threads", 2));
    let code = Some((number("bits", 4), number("lines", 0))).filter(|(_, lines)| *lines > 0);
    let start = Instant::now();
    let options = BareOptions { metric: data.metric, m, code, ef_construction, threads };
    let shards = number("shards", 1);
    let Some(mut index) = Shards::build(&data, shards, options) else {
        return Err(std::io::Error::other("a row cannot be used"));
    };
    println!(
        "{} x {} {}: build {:.2} s on {threads} threads, graph {:.1} MB, {} defects, digest {:016x}",
        data.base.len() / data.dim,
        data.dim,
        data.metric,
        start.elapsed().as_secs_f64(),
        index.graphs.iter().map(BareIndex::graph_bytes).sum::<usize>() as f64 / 1e6,
        index.graphs.iter().map(BareIndex::defects).sum::<usize>(),
        index.graphs.iter().fold(0, |hash, graph| hash ^ graph.digest()),
    );
    let (k, count) = (number("k", 10), number("queries", 1_000).min(data.truth.len()));
    let efs = keys.get("ef").copied().unwrap_or("10,15,20,30,40,60,80,120,160,240,320,480");
    for hand_on in [true, false].into_iter().take(shards.min(2)) {
        index.hand_on = hand_on;
        println!("{:>6} {:>8} {:>10} {:>8} {:>10}", "ef", "recall", "queries/s", "hops", "distances");
        for ef in efs.split(',').filter_map(|text| text.parse().ok()) {
            report(&mut index, &data, count, k, ef);
        }
    }
    report_alike(&data, options);
    Ok(())
}

/// As many rows that are all the same take no longer: none is nearer than others.
#[expect(clippy::print_stdout, reason = "the report is the product")]
fn report_alike(data: &Data, options: BareOptions) {
    let rows = data.base[..data.dim].repeat(data.base.len() / data.dim);
    let start = Instant::now();
    let index = BareIndex::build(&rows, data.dim, options);
    let defects = index.as_ref().map_or(0, BareIndex::defects);
    println!("rows all alike: build {:.2} s, {defects} defects", start.elapsed().as_secs_f64());
}

#[expect(clippy::print_stdout, reason = "the report is the product")]
fn report(index: &mut Shards, data: &Data, count: usize, k: usize, ef: usize) {
    pass(index, data, count.min(100), k, ef);
    index.take_work();
    let (first, hits) = pass(index, data, count, k, ef);
    let (hops, distances) = index.take_work();
    let spent = (0..2).map(|_| pass(index, data, count, k, ef).0).fold(first, Duration::min);
    println!(
        "{ef:>6} {:>8.4} {:>10.0} {:>8.1} {:>10.1}",
        hits as f64 / (count * k) as f64,
        count as f64 / spent.as_secs_f64(),
        hops as f64 / count as f64,
        distances as f64 / count as f64,
    );
}
