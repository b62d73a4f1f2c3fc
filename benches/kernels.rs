//! What a distance costs, by instruction set, dimension and place in memory.
//!
//! `cargo bench --features internals --bench kernels -- [--quick] [--fvecs FILE]`
//!
//! In cache, 64 rows are used again and again. Out of cache, every call takes
//! 32 random rows of 188 MB, as a graph search does. The bound is half the mean
//! distance; on a file of vectors (fvecs: a count and that many floats per row)
//! it is the distance of the 100th nearest to the query, and the rows are among
//! the 2,000 nearest, in random order: what a search that nears its end meets.
//! Rows of codes are measured by their length in bytes.

#![expect(clippy::print_stdout, reason = "a bench reports to the terminal")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use vecino::internals::kernel::{CodeDots, Functions, functions, isas, tile_dots};

const DIMS: [usize; 4] = [50, 128, 384, 784];
const CODE_BYTES: [usize; 4] = [64, 128, 192, 832];
const MEMORY_BYTES: usize = 188 << 20;
const ROWS_IN_CACHE: usize = 64;
const ROWS_PER_CALL: usize = 32;

/// Trials of which the fastest counts: the others met a busy machine.
const TRIALS: usize = 5;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Nanoseconds of each of the things that `run` does and counts: those of the fastest of some trials.
fn fastest(budget: Duration, mut run: impl FnMut() -> usize) -> f64 {
    let trial = |_| {
        let (start, mut count) = (Instant::now(), 0);
        while count == 0 || start.elapsed() < budget / TRIALS as u32 {
            count += run();
        }
        start.elapsed().as_nanos() as f64 / count as f64
    };
    (0..TRIALS).map(trial).fold(f64::INFINITY, f64::min)
}

/// Nanoseconds for each row of what `run` does with calls of rows, and numbers for its results.
fn nanos_a_row<R, N: Copy + Default>(
    calls: &[Vec<R>],
    budget: Duration,
    mut run: impl FnMut(&[R], &mut [N]),
) -> f64 {
    let mut out = [N::default(); ROWS_PER_CALL];
    let mut calls = calls.iter().cycle();
    fastest(budget, || {
        let mut count = 0;
        for call in calls.by_ref().take(64) {
            run(call, &mut out[..call.len()]);
            black_box(&out);
            count += call.len();
        }
        count
    })
}

/// A query, and calls of rows to compare it with.
struct Load<'a> {
    query: &'a [f32],
    calls: Vec<Vec<&'a [f32]>>,
    bound: f32,
}

impl<'a> Load<'a> {
    /// Calls of random rows of these, with half the mean distance as the bound.
    fn random(query: &'a [f32], rows: &[&'a [f32]], random: &mut Random) -> Load<'a> {
        let calls = (0..(rows.len() / ROWS_PER_CALL).max(64))
            .map(|_| (0..ROWS_PER_CALL).map(|_| rows[random.below(rows.len())]).collect())
            .collect();
        let sample = &rows[..rows.len().min(100)];
        let bound = sample.iter().map(|row| distance(query, row)).sum::<f32>() / sample.len() as f32 / 2.0;
        Load { query, calls, bound }
    }

    /// Nanoseconds per row of what `run` does with each call.
    fn nanos(&self, budget: Duration, mut run: impl FnMut(&Self, &[&[f32]], &mut [f32])) -> f64 {
        nanos_a_row(&self.calls, budget, |call, out| run(self, call, out))
    }

    /// The share of rows that the bound abandons.
    fn abandoned(&self, with: Functions) -> f64 {
        let (mut abandoned, mut count) = (0, 0);
        for call in self.calls.iter().take(200) {
            let mut out = vec![0.0; call.len()];
            (with.l2_many)(self.query, call, self.bound, &mut out);
            abandoned += out.iter().filter(|distance| distance.is_infinite()).count();
            count += call.len();
        }
        abandoned as f64 / count as f64
    }
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

fn report(place: &str, isa: &str, load: &Load, budget: Duration) {
    let Some(with) = functions(isa) else { return };
    let dim = load.query.len();
    let one = load.nanos(budget, |load, call, out| {
        for (row, out) in call.iter().zip(out) {
            *out = (with.l2)(load.query, row);
        }
    });
    let many = load.nanos(budget, |load, call, out| (with.l2_many)(load.query, call, f32::INFINITY, out));
    let bounded = load.nanos(budget, |load, call, out| (with.l2_many)(load.query, call, load.bound, out));
    let dot = load.nanos(budget, |load, call, out| (with.dot_many)(load.query, call, out));
    println!(
        "{place:<8} {isa:<7} {dim:>4} {one:>9.1} {many:>9.1} {:>7.1} {bounded:>9.1} {:>9.0}% {dot:>9.1}",
        (dim * 4) as f64 / many,
        load.abandoned(with) * 100.0,
    );
}

fn synthetic(budget: Duration) {
    let mut random = Random(1);
    let memory: Vec<f32> = (0..MEMORY_BYTES / 4 + 16).map(|_| random.float()).collect();
    let aligned = &memory[memory.as_ptr().align_offset(64)..];
    for dim in DIMS {
        let query: Vec<f32> = (0..dim).map(|_| random.float()).collect();
        // Rows start at multiples of 16 bytes, as in the engine.
        let rows: Vec<&[f32]> =
            aligned.chunks_exact(dim.next_multiple_of(4)).map(|row| &row[..dim]).collect();
        let near = Load::random(&query, &rows[..ROWS_IN_CACHE], &mut random);
        let far = Load::random(&query, &rows, &mut random);
        for isa in isas() {
            report("cache", isa, &near, budget);
            report("memory", isa, &far, budget);
        }
    }
}

/// Rows of codes in cache and out of it.
fn codes(budget: Duration) {
    let mut random = Random(3);
    let memory: Vec<u8> = (0..MEMORY_BYTES + 64).map(|_| (random.next() % 128) as u8).collect();
    let aligned = &memory[memory.as_ptr().align_offset(64)..];
    println!("{:<8} {:<7} {:>5} {:>9} {:>11}", "rows in", "isa", "bytes", "byte_dots", "nibble_dots");
    for len in CODE_BYTES {
        let query: Vec<i8> = (0..2 * len).map(|_| (random.next() % 255) as i8).map(|x| x.max(-127)).collect();
        let rows: Vec<&[u8]> = aligned.chunks_exact(len).collect();
        for (place, rows) in [("cache", &rows[..ROWS_IN_CACHE]), ("memory", &rows[..])] {
            let calls: Vec<Vec<&[u8]>> = (0..(rows.len() / ROWS_PER_CALL).max(64))
                .map(|_| (0..ROWS_PER_CALL).map(|_| rows[random.below(rows.len())]).collect())
                .collect();
            for isa in isas() {
                let Some(with) = functions(isa) else { continue };
                let bytes = code_nanos(with.byte_dots, &query[..len], &calls, budget);
                let nibbles = code_nanos(with.nibble_dots, &query, &calls, budget);
                println!("{place:<8} {isa:<7} {len:>5} {bytes:>9.1} {nibbles:>11.1}");
            }
        }
    }
}

/// A matrix that projects 784 numbers, row after row: at the start of a cache line, where the engine puts
/// it, and where an allocator may put it.
fn projection(budget: Duration) {
    const ROWS: usize = 232;
    const STRIDE: usize = 832;
    let mut random = Random(4);
    let memory: Vec<u8> = (0..ROWS * STRIDE + 128).map(|_| (random.next() % 128) as u8).collect();
    let query: Vec<i8> =
        (0..STRIDE + 128).map(|_| (random.next() % 255) as i8).map(|x| x.max(-127)).collect();
    let (line, query_line) = (memory.as_ptr().align_offset(64), query.as_ptr().align_offset(64));
    println!("{:<8} {:<7} {:>12} {:>12}", "matrix", "isa", "at a line", "16 beyond");
    for isa in isas() {
        let Some(with) = functions(isa) else { continue };
        let [at_line, beyond] = [0, 16].map(|at| {
            let rows: Vec<&[u8]> = memory[line + at..].chunks_exact(STRIDE).take(ROWS).collect();
            let calls: Vec<Vec<&[u8]>> = rows.chunks(ROWS_PER_CALL).map(<[_]>::to_vec).collect();
            code_nanos(with.byte_dots, &query[query_line + at..][..STRIDE], &calls, budget) * ROWS as f64
                / 1e3
        });
        println!("us       {isa:<7} {at_line:>12.2} {beyond:>12.2}");
    }
}

/// Nanoseconds per row of codes.
fn code_nanos(dots: CodeDots, query: &[i8], calls: &[Vec<&[u8]>], budget: Duration) -> f64 {
    nanos_a_row(calls, budget, |call, out| dots(query, call, out))
}

/// The rows of an fvecs file.
fn read_fvecs(path: &str) -> std::io::Result<Vec<Vec<f32>>> {
    let bytes = std::fs::read(path)?;
    let words: Vec<[u8; 4]> =
        bytes.chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]]).collect();
    let dim = words.first().map_or(0, |word| u32::from_le_bytes(*word) as usize);
    let rows = words.chunks_exact(dim + 1);
    Ok(rows.map(|row| row[1..].iter().map(|word| f32::from_le_bytes(*word)).collect()).collect())
}

/// Calls from many queries cannot share a [`Load`]: each query has its own, and
/// the mean over them is reported.
fn from_file(path: &str, budget: Duration) -> std::io::Result<()> {
    const QUERIES: usize = 20;
    let rows = read_fvecs(path)?;
    let mut random = Random(2);
    let loads: Vec<Load> = (0..QUERIES)
        .map(|_| {
            let query = rows[random.below(rows.len())].as_slice();
            let mut near: Vec<(f32, &[f32])> =
                rows.iter().map(|row| (distance(query, row), row.as_slice())).collect();
            near.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
            let bound = near[100.min(near.len() - 1)].0;
            let mut near: Vec<&[f32]> = near.iter().take(2000).map(|(_, row)| *row).collect();
            for at in (1..near.len()).rev() {
                near.swap(at, random.below(at + 1));
            }
            Load { query, calls: near.chunks(ROWS_PER_CALL).map(<[_]>::to_vec).collect(), bound }
        })
        .collect();
    let memory = interleaved(&loads);
    for isa in isas() {
        let Some(with) = functions(isa) else { continue };
        let dim = loads[0].query.len();
        let whole = memory.nanos(budget, with, false);
        let bounded = memory.nanos(budget, with, true);
        let share = loads.iter().map(|load| load.abandoned(with)).sum::<f64>() / QUERIES as f64;
        println!(
            "file     {isa:<7} {dim:>4} {:>9} {whole:>9.1} {:>7.1} {bounded:>9.1} {:>9.0}%",
            "",
            (dim * 4) as f64 / whole,
            share * 100.0
        );
    }
    Ok(())
}

/// The calls of several loads, query after query: together larger than a cache.
struct Interleaved<'a> {
    calls: Vec<(&'a Load<'a>, &'a [&'a [f32]])>,
}

fn interleaved<'a>(loads: &'a [Load<'a>]) -> Interleaved<'a> {
    let calls = loads.iter().flat_map(|load| load.calls.iter().map(move |call| (load, call.as_slice())));
    Interleaved { calls: calls.collect() }
}

impl Interleaved<'_> {
    fn nanos(&self, budget: Duration, with: Functions, bounded: bool) -> f64 {
        let mut fastest = f64::INFINITY;
        let start = Instant::now();
        while fastest.is_infinite() || start.elapsed() < budget * 4 {
            let (pass, mut count) = (Instant::now(), 0);
            for (load, call) in &self.calls {
                let mut out = [0.0; ROWS_PER_CALL];
                let bound = if bounded { load.bound } else { f32::INFINITY };
                (with.l2_many)(load.query, call, bound, &mut out[..call.len()]);
                black_box(&out);
                count += call.len();
            }
            fastest = fastest.min(pass.elapsed().as_nanos() as f64 / count as f64);
        }
        fastest
    }
}

/// 64 rows that meet 512 centres: products in a nanosecond.
fn tiles(budget: Duration) {
    const ROWS: usize = 64;
    const CENTRES: usize = 512;
    let mut random = Random(5);
    println!("products in a nanosecond, of rows that meet tiles of sixteen four at a time");
    println!("{:<7} {:>4} {:>9} {:>9}", "isa", "dim", "one tile", "four");
    for dim in [50, 128] {
        let mut vectors = |count: usize| -> Vec<f32> { (0..count * dim).map(|_| random.float()).collect() };
        let (rows, centres) = (vectors(ROWS), vectors(CENTRES + 1));
        let centres = &centres[centres.as_ptr().align_offset(64)..][..CENTRES * dim];
        for isa in isas() {
            let speed = |run: fn(&str, &[f32], &[f32], usize) -> Option<f32>| {
                let nanos = fastest(budget, || {
                    black_box(run(isa, black_box(&rows), black_box(centres), dim));
                    ROWS * CENTRES * dim
                });
                1.0 / nanos
            };
            println!("{isa:<7} {dim:>4} {:>9.1} {:>9.1}", speed(tile_dots::<1>), speed(tile_dots::<4>));
        }
    }
}

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let budget = Duration::from_millis(if quick { 10 } else { 100 });
    println!("nanoseconds per row; GB/s of l2_many without a bound");
    println!(
        "{:<8} {:<7} {:>4} {:>9} {:>9} {:>7} {:>9} {:>10} {:>9}",
        "rows in", "isa", "dim", "l2", "l2_many", "GB/s", "bounded", "abandoned", "dot_many"
    );
    match arguments.iter().position(|argument| argument == "--fvecs").and_then(|at| arguments.get(at + 1)) {
        Some(path) => from_file(path, budget),
        None => {
            synthetic(budget);
            codes(budget);
            projection(budget);
            tiles(budget);
            Ok(())
        }
    }
}
