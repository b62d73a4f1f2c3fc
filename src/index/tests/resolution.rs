//! Whether codes are fine enough for a collection.

use super::fixture::{Fixture, METRICS, Threads};
use crate::id::Row;
use crate::index::resolution::share_in_front;
use crate::index::{Executor, Sequential};
use crate::metric::Metric;
use crate::quant::{Bits, Codec, Shape};

const DIM: usize = 12;

/// The share among the first `count` rows that `vector` gives.
fn share(metric: Metric, count: u32, vector: impl Fn(u32) -> Vec<f32>, executor: &dyn Executor) -> f32 {
    let mut fixture = Fixture::flat(metric, DIM);
    let rows: Vec<Row> = (0..count).collect();
    let vectors: Vec<Vec<f32>> = rows.iter().map(|row| vector(*row)).collect();
    rows.iter().zip(&vectors).for_each(|(row, vector)| fixture.put(*row, vector));
    let shape = Shape { bits: Bits::Seven, lines: 1 };
    let codec = Codec::train(&vectors.concat(), DIM, shape, metric != Metric::Dot, 7);
    share_in_front(&codec, fixture.points(), &rows, executor)
}

fn spread_out(row: u32) -> Vec<f32> {
    (0..DIM as u32).map(|axis| ((row + 1) as f32 * (axis as f32 + 1.37)).sin()).collect()
}

/// Two balls, far apart as they are wide.
fn two_balls(row: u32) -> Vec<f32> {
    let far = if row.is_multiple_of(2) { 1e4 } else { -1e4 };
    spread_out(row).into_iter().map(|x| x + far).collect()
}

#[test]
fn codes_keep_the_nearest_of_rows_that_spread_in_front_and_lose_those_within_a_step() {
    for metric in METRICS {
        assert!(share(metric, 2_000, spread_out, &Sequential) >= 0.99, "{metric}");
    }
    assert!(share(Metric::L2, 2_000, two_balls, &Sequential) < 0.5);
}

#[test]
fn rows_that_are_all_alike_are_all_nearest() {
    assert_eq!(share(Metric::L2, 1_000, |_| vec![1.5; DIM], &Sequential), 1.0);
    // They differ by rounding.
    let scaled = |row: u32| vec![0.1 + row as f32 * 0.3; DIM];
    assert_eq!(share(Metric::Cosine, 1_000, scaled, &Sequential), 1.0);
}

#[test]
fn few_rows_are_told_apart_and_threads_make_no_difference() {
    for count in [1, 2, 9, 40] {
        assert_eq!(share(Metric::L2, count, two_balls, &Sequential), 1.0, "{count}");
    }
    let alone = share(Metric::L2, 1_500, two_balls, &Sequential);
    assert_eq!(share(Metric::L2, 1_500, two_balls, &Threads(3)), alone);
}
