//! Exact searches beside a plain scan: the same answers, sooner.
//!
//! `cargo bench --features internals --bench exact -- [DIR] [--quick] [--graph] [key=value ...]`
//!
//! DIR holds `base.fvecs`, `query.fvecs` and `metric` (l2, cos, ip); without
//! it the rows are synthetic. Keys: k, queries, threads (that build). Queries
//! go to both by turns; every answer is compared, row by row and bit by bit.
//! With `--graph`, a collection with a graph index is asked as well, through
//! the public interface: what it takes until its exact searches are cheap, and
//! what they cost then.

mod common;

use std::time::{Duration, Instant};

use common::{Arguments, Data, filled, median};
use vecino::internals::exact::ExactIndex;
use vecino::{Collection, Engine, IndexSpec, Query};

/// Queries that are asked of one before it is the other's turn.
const TURN: usize = 10;

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

    /// Prints this beside the plain scan; false when answers differ.
    #[expect(clippy::print_stdout, reason = "the report is the product")]
    fn report(&self, name: &str, k: usize, plain: &Tally) -> bool {
        let is_same = self.answers == plain.answers;
        println!(
            "{name}, k={k}, {} queries: {:.0} us ({:.0}/s), plain {:.0} us: {:.2} times as fast; {:.2} % of the rows measured; {}",
            self.answers.len() / k.max(1),
            self.each(),
            1e6 / self.each(),
            plain.each(),
            plain.each() / self.each(),
            100.0 * self.distances as f64 / plain.distances as f64,
            if is_same { "same answers" } else { "ANSWERS DIFFER" },
        );
        is_same
    }
}

/// Asks a graph collection until its exact searches are cheap.
#[expect(clippy::print_stdout, reason = "the report is the product")]
#[expect(clippy::expect_used, reason = "a bench that cannot run may end")]
fn warmed(data: &Data, engine: &Engine) -> Collection {
    let items = filled(engine, "graph", IndexSpec::graph(), data.metric, &data.base);
    let (before, started) = (items.stats().bytes.index, Instant::now());
    let (mut scans, mut scanning) = (0, Vec::new());
    loop {
        let each = Instant::now();
        let query = Query::new(data.queries.row(scans % data.queries.len())).top(10).exact();
        let answer = items.search(&query).expect("an answer");
        if answer.stats().distances * 4 < data.base.len() as u64 || started.elapsed() > WARM_MOST {
            break;
        }
        scanning.push(each.elapsed().as_secs_f64());
        scans += 1;
    }
    let (scan, bytes) = (median(scanning), items.stats().bytes.index - before);
    println!(
        "graph: exact searches are cheap after {scans} scans ({:.2} s, {:.1} ms the median scan); {:.1} MB more",
        started.elapsed().as_secs_f64(),
        scan * 1e3,
        bytes as f64 / 1e6,
    );
    items
}

/// Longest that codes are waited for.
const WARM_MOST: Duration = Duration::from_secs(120);

#[expect(clippy::print_stdout, reason = "the report is the product")]
#[expect(clippy::expect_used, reason = "a bench that cannot run may end")]
fn main() -> std::io::Result<()> {
    let arguments = Arguments::read();
    let quick = arguments.has("--quick");
    let synthetic = || Ok(Data::clustered(if quick { 5_000 } else { 50_000 }, 96, 200));
    let data = arguments.folder().map_or_else(synthetic, Data::read)?;
    let (rows, dim, start) = (data.base.len(), data.base.dim, Instant::now());
    let threads = arguments.number("threads", 2);
    let Some(mut index) = ExactIndex::build(&data.base.values, dim, data.metric, threads) else {
        return Err(std::io::Error::other("a row cannot be used"));
    };
    println!(
        "{rows} x {dim} {}: built in {:.2} s, {:.1} MB beside {:.1} MB of vectors",
        data.metric,
        start.elapsed().as_secs_f64(),
        index.bytes() as f64 / 1e6,
        size_of_val(data.base.values.as_slice()) as f64 / 1e6,
    );
    let (k, count) = (arguments.number("k", 10), arguments.number("queries", if quick { 50 } else { 1_000 }));
    let queries: Vec<&[f32]> = data.queries.iter().take(count).collect();
    let engine = Engine::builder().pool_threads(threads).build().expect("an engine");
    let graph = arguments.has("--graph").then(|| warmed(&data, &engine));
    let (mut sieved, mut plain, mut of_graph) = (Tally::default(), Tally::default(), Tally::default());
    for queries in queries.chunks(TURN) {
        sieved.run(queries, |query, answers| {
            index.search(query, k, |distance, row| answers.push((distance.to_bits(), row)))
        });
        plain.run(queries, |query, answers| {
            index.scan(query, k, |distance, row| answers.push((distance.to_bits(), row)))
        });
        if let Some(graph) = &graph {
            of_graph.run(queries, |query, answers| {
                let answer = graph.search(&Query::new(query).top(k).exact()).expect("an answer");
                let hits = answer.hits().iter();
                // Rows are given out in the order of the ids.
                answers.extend(hits.map(|hit| (hit.distance.to_bits(), hit.id.as_num().unwrap_or(0) as u32)));
                answer.stats().distances
            });
        }
    }
    let mut is_same = sieved.report("codes", k, &plain);
    if graph.is_some() {
        is_same &= of_graph.report("graph", k, &plain);
    }
    if is_same { Ok(()) } else { Err(std::io::Error::other("answers differ")) }
}
