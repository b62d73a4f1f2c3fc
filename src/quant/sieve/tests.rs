//! Bounds against distances in double precision, and against those of the
//! kernels, for every instruction set.

use super::query::MOST;
use super::{Grain, Kind, Screen, Sieve};
use crate::id::mix;
use crate::kernel::isa::Isa;
use crate::kernel::{Arch, ArchJob, Kernels, SCAN_ROWS};

const KINDS: [Kind; 3] = [Kind::SquaredL2, Kind::Cosine, Kind::NegatedDot];

/// Rows around a few centres, some of them copies, some zeros.
fn rows(count: usize, dim: usize, magnitude: f32, seed: u64) -> Vec<Vec<f32>> {
    let unit = |key: u64| (mix(key) >> 40) as f32 / (1 << 24) as f32 - 0.5;
    let row = |row: u64| {
        let own = if row % 7 == 3 { row - 1 } else { row };
        let factor = match row % 11 {
            5 => 0.0,
            6 => 1e-8,
            7 => 300.0,
            _ => 1.0,
        };
        let centre = |axis| unit(mix(seed ^ (own % 5)) ^ axis) * 3.0 / (1.0 + axis as f32).sqrt();
        let spread = |axis| unit(mix(seed ^ own << 20 ^ 99) ^ axis << 7);
        (0..dim as u64).map(|axis| (centre(axis) + spread(axis)) * factor * magnitude).collect()
    };
    (0..count as u64).map(row).collect()
}

/// As the space of the kind compares them.
fn normalised(kind: Kind, row: &[f32]) -> Vec<f32> {
    let length = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if kind != Kind::Cosine || length < 1e-30 {
        return row.to_vec();
    }
    row.iter().map(|x| x * (1.0 / length) as f32).collect()
}

fn distance(kind: Kind, a: &[f32], b: &[f32]) -> f64 {
    let pairs = a.iter().zip(b).map(|(x, y)| (f64::from(*x), f64::from(*y)));
    match kind {
        Kind::SquaredL2 => pairs.map(|(x, y)| (x - y) * (x - y)).sum(),
        Kind::Cosine => 1.0 - pairs.map(|(x, y)| x * y).sum::<f64>(),
        Kind::NegatedDot => -pairs.map(|(x, y)| x * y).sum::<f64>(),
    }
}

/// As the space computes it.
fn kernel_distance(kernels: &Kernels, kind: Kind, a: &[f32], b: &[f32]) -> f32 {
    match kind {
        Kind::SquaredL2 => (kernels.l2)(a, b),
        Kind::Cosine => (1.0 - (kernels.dot)(a, b)).clamp(0.0, 2.0),
        Kind::NegatedDot => -(kernels.dot)(a, b),
    }
}

/// The keys of the first level, of a group.
struct FirstKeys<'a>(&'a Sieve, &'a Grain, &'a [[u32; SCAN_ROWS]]);

impl ArchJob for FirstKeys<'_> {
    type Output = [[f32; SCAN_ROWS]; 2];

    #[inline(always)]
    fn run<A: Arch>(self, arch: A) -> Self::Output {
        self.0.first_keys(arch, self.1, self.2)
    }
}

/// The same of any number of blocks.
fn first_keys(sieve: &Sieve, query: &Grain, blocks: &[&[u8]], products: &mut [f32], keys: &mut [f32]) {
    for (at, blocks) in blocks.chunks(SCAN_ROWS).enumerate() {
        let mut group = vec![[0; SCAN_ROWS]; sieve.words(0)];
        for (lane, block) in blocks.iter().enumerate() {
            let words = block.as_chunks().0;
            group.iter_mut().zip(words).for_each(|(lanes, word)| lanes[lane] = u32::from_ne_bytes(*word));
        }
        let part = at * SCAN_ROWS..at * SCAN_ROWS + blocks.len();
        let found = sieve.level().run(FirstKeys(sieve, query, &group));
        products[part.clone()].copy_from_slice(&found[0][..blocks.len()]);
        keys[part].copy_from_slice(&found[1][..blocks.len()]);
    }
}

/// Each level's keys of the rows.
fn keys(sieve: &Sieve, query: &Grain, rows: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let mut work = Screen::default();
    let encode = |row: &Vec<f32>| {
        let mut words = vec![0; sieve.all_words()];
        sieve.encode(row, &mut work, &mut words);
        words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>()
    };
    let codes: Vec<Vec<u8>> = rows.iter().map(encode).collect();
    let mut products = vec![0.0; rows.len()];
    let mut from = 0;
    let level_keys = |level: usize| {
        let mut keys = vec![0.0; rows.len()];
        let bytes = sieve.words(level) * 4;
        for (at, codes) in codes.chunks(MOST).enumerate() {
            let blocks: Vec<&[u8]> = codes.iter().map(|code| &code[from..from + bytes]).collect();
            let part = at * MOST..at * MOST + codes.len();
            let (products, keys) = (&mut products[part.clone()], &mut keys[part]);
            match level {
                0 => first_keys(sieve, query, &blocks, products, keys),
                _ => sieve.keys(query, level, &blocks, products, keys),
            }
        }
        from += bytes;
        keys
    };
    (0..sieve.levels()).map(level_keys).collect()
}

/// No row may be ruled out by a bound that it keeps.
fn holds(isa: Isa, kind: Kind, dim: usize, magnitude: f32) -> usize {
    let rows: Vec<Vec<f32>> =
        rows(300, dim, magnitude, dim as u64).iter().map(|r| normalised(kind, r)).collect();
    let mut sieve = Sieve::train(&rows[..200].concat(), dim, kind != Kind::NegatedDot, 3);
    sieve.kernels = Kernels::of(isa).unwrap();
    let (mut query, mut ruled_out) = (Grain::default(), 0);
    for asked in rows.iter().step_by(13) {
        if !sieve.prepare(asked, kind, &mut query) {
            continue;
        }
        let keys = keys(&sieve, &query, &rows);
        for (at, row) in rows.iter().enumerate() {
            let exact = distance(kind, asked, row);
            let computed = kernel_distance(&sieve.kernels, kind, asked, row);
            for (level, keys) in keys.iter().enumerate() {
                let what = format!("{isa:?} {kind:?} {dim} {magnitude:e}: row {at}, level {level}");
                assert!(keys[at] <= sieve.limit(&query, level, computed), "{what}: as computed");
                assert!(keys[at] <= sieve.limit(&query, level, (exact as f32).next_up()), "{what}: exactly");
                ruled_out += usize::from(keys[at] > sieve.limit(&query, level, computed * 0.5));
            }
        }
    }
    ruled_out
}

#[test]
fn no_bound_exceeds_a_distance() {
    for isa in Isa::available() {
        for kind in KINDS {
            for dim in [1, 2, 3, 50, 64, 100] {
                for magnitude in [1e-20, 1.0, 1e15] {
                    holds(isa, kind, dim, magnitude);
                }
            }
            holds(isa, kind, 784, 1.0);
        }
    }
}

#[test]
fn bounds_rule_out_rows_twice_as_far() {
    for kind in [Kind::SquaredL2, Kind::Cosine] {
        for dim in [50, 384] {
            for magnitude in [1e-12, 1.0, 1e12] {
                let ruled_out = holds(Isa::detected(), kind, dim, magnitude);
                assert!(ruled_out > 2_000, "{kind:?} {dim} {magnitude:e}: {ruled_out}");
            }
        }
    }
}

#[test]
fn rows_far_beyond_those_trained_on_are_never_ruled_out_wrongly() {
    let small = rows(100, 40, 1e-15, 1);
    let sieve = Sieve::train(&small.concat(), 40, true, 3);
    let mut query = Grain::default();
    assert!(sieve.prepare(&small[0], Kind::SquaredL2, &mut query));
    let large = rows(20, 40, 1e17, 2);
    let keys = keys(&sieve, &query, &large);
    for (at, row) in large.iter().enumerate() {
        let bound = distance(Kind::SquaredL2, &small[0], row) as f32;
        assert!(keys[0][at] <= sieve.limit(&query, 0, bound.next_up()), "row {at}");
    }
    assert!(!sieve.prepare(&large[0], Kind::SquaredL2, &mut query));
}

#[test]
fn samples_of_any_kind_are_trained_on() {
    for dim in [1, 60, 300] {
        for count in [0, 1, 2, 70] {
            for centred in [true, false] {
                let sieve = Sieve::train(&vec![0.0; count * dim], dim, centred, 1);
                assert!(sieve.delta < 1e-3, "{}", sieve.delta);
                Sieve::train(&rows(count, dim, 1.0, 1).concat(), dim, centred, 1);
            }
        }
    }
}
