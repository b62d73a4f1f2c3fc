//! The same tests for every instruction set, against sums in double precision,
//! or in whole numbers where the kernels count in them.
//!
//! **Tolerance.** A single-precision sum of n terms, in any order, is off by
//! at most about n roundings of the sum of the terms' magnitudes, each half of
//! `f32::EPSILON`; a term itself takes up to three more. Where terms underflow,
//! each loses at most one smallest subnormal.

mod eights;
mod formats;
mod interleaved;
mod scan;
mod tiles;

use std::io::Write;

use eights::{
    numbers_above_a_bound_are_told, numbers_are_spread_over_the_places_of_two_lists,
    numbers_within_a_bound_come_to_the_front,
};

use formats::{
    every_half_is_loaded_as_its_number, rows_of_another_dimension_are_refused,
    rows_of_bytes_give_what_their_numbers_give, rows_of_halves_give_what_their_numbers_give,
};

use interleaved::{
    interleaved_codes_give_the_products_of_their_rows, interleaved_codes_hold_the_extremes,
    interleaved_codes_that_do_not_fit_are_refused,
};

use scan::{
    groups_that_do_not_fit_are_refused, looked_up_numbers_are_summed_exactly,
    numbers_within_a_bound_are_told, sums_above_a_floor_are_told, the_largest_sums_still_fit,
};

use tiles::{
    products_do_not_depend_on_what_stands_together, rows_meet_every_vector_of_a_tile,
    rows_of_another_dimension_meet_no_tile,
};

use super::isa::Isa;
use super::{Arch, ArchJob, Kernels, scalar};

/// Dimensions with every kind of rest, and those of real embeddings.
fn dims() -> impl Iterator<Item = usize> {
    (0..=130).chain([191, 192, 193, 256, 384, 768, 784, 1000])
}

/// Seeded pseudo-random numbers in (-1, 1): splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn vector(&mut self, len: usize, scale: f32) -> Vec<f32> {
        (0..len).map(|_| self.next() * scale).collect()
    }
}

/// A sum in double precision, and how far a single-precision one may be off.
fn oracle(terms: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut sum, mut magnitude, mut count) = (0.0, 0.0, 0.0);
    for term in terms {
        sum += term;
        magnitude += term.abs();
        count += 1.0;
    }
    let rounding = (count + 3.0) * f64::from(f32::EPSILON) / 2.0 * magnitude;
    (sum, rounding + count * f64::from(f32::from_bits(1)))
}

fn assert_close(what: &str, got: f32, (sum, off): (f64, f64)) {
    assert!((f64::from(got) - sum).abs() <= off, "{what}: {got}, not {sum} within {off}");
}

fn check(kernels: &Kernels, a: &[f32], b: &[f32]) {
    let pairs = || a.iter().zip(b).map(|(x, y)| (f64::from(*x), f64::from(*y)));
    let what = format!("{} dims", a.len());
    assert_close(&what, (kernels.l2)(a, b), oracle(pairs().map(|(x, y)| (x - y) * (x - y))));
    assert_close(&what, (kernels.dot)(a, b), oracle(pairs().map(|(x, y)| x * y)));
}

fn agrees_with_double_precision(kernels: Kernels) {
    let mut random = Random(1);
    for dim in dims() {
        check(&kernels, &random.vector(dim, 1.0), &random.vector(dim, 1.0));
    }
}

fn takes_any_offset(kernels: Kernels) {
    let mut random = Random(2);
    for dim in (0..=70).chain([384, 784]) {
        let (a, b) = (random.vector(dim + 16, 1.0), random.vector(dim + 16, 1.0));
        for offset in 0..=16 {
            let mirrored = 16 - offset;
            check(&kernels, &a[offset..offset + dim], &b[mirrored..mirrored + dim]);
        }
    }
}

fn reads_nothing_beyond_the_end(kernels: Kernels) {
    // What surrounds the vectors would spoil any sum that it got into.
    for dim in dims() {
        let mut a = vec![f32::NAN; dim + 64];
        a[32..32 + dim].fill(1.0);
        let inner = &a[32..32 + dim];
        assert_eq!((kernels.l2)(inner, inner), 0.0);
        assert_eq!((kernels.dot)(inner, inner), dim as f32);
    }
}

fn holds_at_extreme_magnitudes(kernels: Kernels) {
    let mut random = Random(3);
    for dim in [1, 7, 50, 128, 384, 784, 1000] {
        for (left, right) in [(1e-20, 1e-20), (1e15, 1e15), (1e15, 1e-20), (1e-20, 1.0)] {
            check(&kernels, &random.vector(dim, left), &random.vector(dim, right));
        }
    }
}

fn holds_when_terms_cancel(kernels: Kernels) {
    let mut random = Random(4);
    for dim in dims() {
        let a = random.vector(dim, 100.0);
        let flipped: Vec<f32> = a.iter().map(|x| -x).collect();
        let alternating: Vec<f32> =
            a.iter().enumerate().map(|(at, x)| if at % 2 == 0 { *x } else { -x }).collect();
        let nearby: Vec<f32> = a.iter().map(|x| x * (1.0 + 1e-6)).collect();
        for b in [&a, &flipped, &alternating, &nearby] {
            check(&kernels, &a, b);
        }
        assert_eq!((kernels.l2)(&a, &a), 0.0);
    }
}

fn slices(rows: &[Vec<f32>]) -> Vec<&[f32]> {
    rows.iter().map(Vec::as_slice).collect()
}

fn many_gives_what_one_gives(kernels: Kernels) {
    let mut random = Random(5);
    for dim in dims() {
        let query = random.vector(dim, 1.0);
        let rows: Vec<Vec<f32>> = (0..64).map(|_| random.vector(dim, 1.0)).collect();
        for count in [0, 1, 2, 3, 5, 64] {
            let rows = &slices(&rows)[..count];
            let (mut distances, mut products) = (vec![f32::NAN; count], vec![f32::NAN; count]);
            (kernels.full.l2_many)(&query, rows, f32::INFINITY, &mut distances);
            (kernels.full.dot_many)(&query, rows, &mut products);
            for (at, row) in rows.iter().enumerate() {
                assert_eq!(distances[at].to_bits(), (kernels.l2)(&query, row).to_bits());
                assert_eq!(products[at].to_bits(), (kernels.dot)(&query, row).to_bits());
            }
        }
    }
}

fn a_bound_hides_no_row_within_it(kernels: Kernels) {
    let mut random = Random(6);
    for dim in dims() {
        // The distance of a row grows with its number, and stops growing
        // halfway through its dimensions: the last looks see all of it.
        let query = random.vector(dim, 1.0);
        let rows: Vec<Vec<f32>> = (0..64)
            .map(|number| {
                let shift = |at: usize| if at < dim / 2 { number as f32 * 0.01 } else { 0.0 };
                query.iter().enumerate().map(|(at, x)| x + shift(at) * random.next()).collect()
            })
            .collect();
        let rows = slices(&rows);
        let exact: Vec<f32> = rows.iter().map(|row| (kernels.l2)(&query, row)).collect();
        for bound in exact.iter().copied().chain([0.0, -1.0, f32::INFINITY]) {
            let mut distances = vec![f32::NAN; rows.len()];
            (kernels.full.l2_many)(&query, &rows, bound, &mut distances);
            for (got, exact) in distances.iter().zip(&exact) {
                let hidden = *got == f32::INFINITY && *exact > bound;
                assert!(hidden || got.to_bits() == exact.to_bits(), "{got} for {exact} within {bound}");
            }
        }
    }
}

/// Distances within 1 of a far row and a near one, and both of them whole.
fn far_and_near(kernels: Kernels, dim: usize) -> ([f32; 2], [f32; 2]) {
    let (query, far, near) = (vec![0.0; dim], vec![9.0; dim], vec![0.01; dim]);
    let mut distances = [f32::NAN; 2];
    (kernels.full.l2_many)(&query, &[&far, &near], 1.0, &mut distances);
    (distances, [(kernels.l2)(&query, &far), (kernels.l2)(&query, &near)])
}

fn a_bound_abandons_far_rows_of_many_dimensions(kernels: Kernels) {
    for dim in [320, 384, 784] {
        let (bounded, [_, near]) = far_and_near(kernels, dim);
        assert_eq!(bounded, [f32::INFINITY, near]);
    }
}

fn a_bound_abandons_nothing_short(kernels: Kernels) {
    for dim in [1, 50, 128, 191] {
        let (bounded, whole) = far_and_near(kernels, dim);
        assert_eq!(bounded, whole);
    }
}

#[test]
fn plain_rust_abandons_nothing() {
    let (bounded, whole) = far_and_near(scalar::KERNELS, 784);
    assert_eq!(bounded, whole);
}

fn lengths_that_differ_are_refused(kernels: Kernels) {
    let (long, short) = ([1.0f32; 40], [1.0f32; 39]);
    for (a, b) in [(&long[..], &short[..]), (&short[..], &long[..])] {
        refused(&|| _ = (kernels.l2)(a, b));
        refused(&|| _ = (kernels.dot)(a, b));
        refused(&|| (kernels.full.l2_many)(a, &[a, b], 1e9, &mut [0.0; 2]));
        refused(&|| (kernels.full.dot_many)(a, &[a, b], &mut [0.0; 2]));
    }
    refused(&|| (kernels.full.l2_many)(&long, &[&long], 1e9, &mut [0.0; 2]));
    refused(&|| (kernels.full.dot_many)(&long, &[&long, &long], &mut [0.0; 1]));
}

/// Lengths of rows of codes: those that are unrolled, and longer ones, of which
/// some are no whole number of the runs that nibbles are added in.
const CODE_LENGTHS: [usize; 9] = [64, 128, 192, 256, 320, 448, 832, 1024, 8192];

/// A query and rows over codes. Where the query is 0 the bytes are arbitrary.
struct Codes {
    query: Vec<i8>,
    rows: Vec<Vec<u8>>,
}

impl Codes {
    /// `weight` and `byte` give the number at a place.
    fn new(
        places: usize,
        len: usize,
        weight: impl FnMut(usize) -> i8,
        mut byte: impl FnMut() -> u8,
    ) -> Codes {
        let query = (0..places).map(weight).collect();
        let rows = (0..11).map(|_| (0..len).map(|_| byte()).collect()).collect();
        Codes { query, rows }
    }

    fn check(&self, dots: impl Fn(&[i8], &[&[u8]], &mut [i32]), code: impl Fn(&[u8], usize) -> u8) {
        let expected: Vec<i32> = self
            .rows
            .iter()
            .map(|row| {
                let weights = self.query.iter().enumerate();
                weights.map(|(at, weight)| i32::from(*weight) * i32::from(code(row, at))).sum()
            })
            .collect();
        let rows: Vec<&[u8]> = self.rows.iter().map(Vec::as_slice).collect();
        for count in [0, 1, 2, 3, 4, 5, 8, 11] {
            let mut out = vec![i32::MIN; count];
            dots(&self.query, &rows[..count], &mut out);
            assert_eq!(out, expected[..count], "{} bytes, {count} rows", rows[0].len());
        }
    }

    fn check_bytes(&self, kernels: Kernels) {
        let code = |row: &[u8], at: usize| row[at];
        self.check(kernels.byte_dots, code);
        self.check(|query, rows, out| kernels.level.run(Dots { nibbles: false, query, rows, out }), code);
    }

    fn check_nibbles(&self, kernels: Kernels) {
        let code = |row: &[u8], at: usize| {
            if at < row.len() { row[at] & 15 } else { row[at - row.len()] >> 4 }
        };
        self.check(kernels.nibble_dots, code);
        self.check(|query, rows, out| kernels.level.run(Dots { nibbles: true, query, rows, out }), code);
    }
}

/// Products within a loop that is compiled for the instruction set.
struct Dots<'a> {
    nibbles: bool,
    query: &'a [i8],
    rows: &'a [&'a [u8]],
    out: &'a mut [i32],
}

impl ArchJob for Dots<'_> {
    type Output = ();

    fn run<A: Arch>(self, arch: A) {
        let Dots { nibbles, query, rows, out } = self;
        if nibbles { arch.nibble_dots(query, rows, out) } else { arch.byte_dots(query, rows, out) }
    }
}

fn code_dots_are_exact(kernels: Kernels) {
    let (mut random, mut other) = (Random(7), Random(8));
    for len in CODE_LENGTHS {
        let weight = |_| (random.next() * 127.9) as i8;
        Codes::new(len, len, weight, || (other.next().abs() * 127.9) as u8).check_bytes(kernels);
        let weight = |_| (random.next() * 127.9) as i8;
        Codes::new(2 * len, len, weight, || (other.next().abs() * 255.9) as u8).check_nibbles(kernels);
    }
}

fn code_dots_hold_the_extremes(kernels: Kernels) {
    let weights: [fn(usize) -> i8; 3] = [|_| 127, |_| -127, |at| if at % 3 == 0 { 127 } else { -127 }];
    for len in CODE_LENGTHS {
        for weight in weights {
            Codes::new(len, len, weight, || 127).check_bytes(kernels);
            Codes::new(2 * len, len, weight, || 255).check_nibbles(kernels);
        }
    }
}

fn what_has_no_weight_does_not_count(kernels: Kernels) {
    for len in CODE_LENGTHS {
        let mut random = Random(9);
        let weight = |at: usize| if at % len < 12 { 0 } else { (random.next() * 127.9) as i8 };
        let mut bytes = Codes::new(len, len, weight, || 101);
        for (number, row) in bytes.rows.iter_mut().enumerate() {
            row[..12].fill(255 - number as u8);
        }
        bytes.check_bytes(kernels);
        let weight = |at: usize| if at % len < 12 { 0 } else { (random.next() * 127.9) as i8 };
        let mut nibbles = Codes::new(2 * len, len, weight, || 0xa5);
        nibbles.rows[3][..12].fill(255);
        nibbles.check_nibbles(kernels);
    }
}

fn codes_may_stand_anywhere(kernels: Kernels) {
    let bytes: Vec<u8> = (0..400).map(|at| (at * 7 % 128) as u8).collect();
    let weights: Vec<i8> = (0..400).map(|at| (at * 11 % 255 - 127) as i8).collect();
    for offset in 0..=64 {
        let (row, query) = (&bytes[offset..][..128], &weights[64 - offset..][..128]);
        let (mut out, mut expected) = ([0], [0]);
        (kernels.byte_dots)(query, &[row], &mut out);
        (scalar::KERNELS.byte_dots)(query, &[row], &mut expected);
        assert_eq!(out, expected);
        let query = &weights[64 - offset..][..256];
        (kernels.nibble_dots)(query, &[row], &mut out);
        (scalar::KERNELS.nibble_dots)(query, &[row], &mut expected);
        assert_eq!(out, expected);
    }
}

fn codes_that_do_not_fit_are_refused(kernels: Kernels) {
    let (query, row) = ([1i8; 256], [1u8; 128]);
    for dots in [kernels.byte_dots, kernels.nibble_dots] {
        refused(&|| dots(&query[..0], &[&row[..0]], &mut [0]));
        refused(&|| dots(&query[..64], &[&row[..63]], &mut [0]));
        refused(&|| dots(&query[..96], &[&row[..96]], &mut [0]));
        refused(&|| dots(&query[..192], &[&row[..96]], &mut [0]));
    }
    refused(&|| (kernels.byte_dots)(&query, &[&row], &mut [0]));
    refused(&|| (kernels.byte_dots)(&query[..128], &[&row, &row[..64]], &mut [0; 2]));
    refused(&|| (kernels.byte_dots)(&query[..128], &[&row, &row], &mut [0]));
    refused(&|| (kernels.nibble_dots)(&query[..128], &[&row], &mut [0]));
    refused(&|| (kernels.nibble_dots)(&query[..129], &[&row[..64]], &mut [0]));
    refused(&|| (kernels.nibble_dots)(&query, &[&row[..64]], &mut [0]));
    refused(&|| (kernels.nibble_dots)(&query, &[&row, &row], &mut [0; 3]));
}

fn refused(run: &dyn Fn()) {
    let run = std::panic::AssertUnwindSafe(run);
    assert!(std::panic::catch_unwind(run).is_err());
}

/// Says that a test did not run: past the harness, which hides what a passing
/// test prints.
fn report_absent(isa: Isa, test: &str) {
    let _ = writeln!(std::io::stderr(), "not run: {test}: this machine has no {}", isa.name());
}

/// Stamps every test on one instruction set. Where this machine lacks it, the
/// tests say so instead of passing silently.
macro_rules! stamp {
    ($name:ident, $isa:expr, [$($test:ident),* $(,)?]) => {
        mod $name {
            use super::super::isa::Isa;
            $(
                #[test]
                fn $test() {
                    match super::Kernels::of($isa) {
                        Some(kernels) => super::$test(kernels),
                        None => super::report_absent($isa, stringify!($test)),
                    }
                }
            )*
        }
    };
}

macro_rules! stamp_on_each {
    ([$($every:ident),* $(,)?], beyond_scalar: [$($more:ident),* $(,)?]) => {
        stamp!(scalar_isa, Isa::Scalar, [$($every),*]);
        #[cfg(target_arch = "x86_64")]
        stamp!(avx2, Isa::Avx2, [$($every,)* $($more),*]);
        #[cfg(target_arch = "x86_64")]
        stamp!(avx512, Isa::Avx512, [$($every,)* $($more),*]);
        #[cfg(target_arch = "aarch64")]
        stamp!(neon, Isa::Neon, [$($every,)* $($more),*]);
    };
}

stamp_on_each!(
    [
        agrees_with_double_precision,
        takes_any_offset,
        reads_nothing_beyond_the_end,
        holds_at_extreme_magnitudes,
        holds_when_terms_cancel,
        many_gives_what_one_gives,
        a_bound_hides_no_row_within_it,
        a_bound_abandons_nothing_short,
        lengths_that_differ_are_refused,
        rows_of_halves_give_what_their_numbers_give,
        every_half_is_loaded_as_its_number,
        rows_of_bytes_give_what_their_numbers_give,
        rows_of_another_dimension_are_refused,
        code_dots_are_exact,
        numbers_above_a_bound_are_told,
        numbers_within_a_bound_come_to_the_front,
        numbers_are_spread_over_the_places_of_two_lists,
        rows_meet_every_vector_of_a_tile,
        products_do_not_depend_on_what_stands_together,
        rows_of_another_dimension_meet_no_tile,
        code_dots_hold_the_extremes,
        what_has_no_weight_does_not_count,
        codes_may_stand_anywhere,
        codes_that_do_not_fit_are_refused,
        interleaved_codes_give_the_products_of_their_rows,
        interleaved_codes_hold_the_extremes,
        interleaved_codes_that_do_not_fit_are_refused,
        looked_up_numbers_are_summed_exactly,
        the_largest_sums_still_fit,
        numbers_within_a_bound_are_told,
        sums_above_a_floor_are_told,
        groups_that_do_not_fit_are_refused,
    ],
    beyond_scalar: [a_bound_abandons_far_rows_of_many_dimensions]
);

#[test]
fn the_kernels_in_use_are_right() {
    check(&super::kernels(), &[1.0, 2.0, 3.0], &[4.0, -5.0, 6.0]);
}

#[test]
fn kernels_come_only_for_what_the_machine_has() {
    for isa in Isa::ALL {
        assert_eq!(Kernels::of(isa).is_some(), isa.is_available());
    }
}
