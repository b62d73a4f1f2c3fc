//! Searches by inner product among rows of many lengths.

use std::collections::HashSet;

use super::fixture::{Fixture, Kind, Threads, on_every_kind};
use crate::id::{Row, mix};
use crate::metric::Metric;

const DIM: usize = 24;

/// A direction at random, and a length: few are long, up to three times as long as most.
fn vector(seed: u64) -> Vec<f32> {
    let part = (mix(seed ^ 0xfeed) % 1_000) as f32 / 1_000.0;
    let length = 1.0 + 2.0 * part * part * part;
    let number = |at: u64| (mix(seed << 8 | at) % 2_001) as f32 / 1_000.0 - 1.0;
    (0..DIM as u64).map(|at| number(at) * length).collect()
}

fn recall(fixture: &Fixture, ef: usize) -> f64 {
    let found: usize = (0..60)
        .map(|query| {
            let query = vector(1 << 40 | query);
            let exact: HashSet<Row> = fixture.exact(&query, 10, None).into_iter().collect();
            fixture.search(&query, 10, ef, None).iter().filter(|row| exact.contains(row)).count()
        })
        .sum();
    found as f64 / 600.0
}

/// Takes in `rows`, in batches like a shard's.
fn take_in(fixture: &mut Fixture, rows: &[Row], vector_of: impl Fn(Row) -> Vec<f32>) {
    for part in rows.chunks(100) {
        part.iter().for_each(|row| fixture.put(*row, &vector_of(*row)));
        fixture.change(part, &[], &Threads(2));
    }
}

fn of_row(row: Row) -> Vec<f32> {
    vector(1 << 20 | u64::from(row))
}

fn fill(fixture: &mut Fixture, rows: std::ops::Range<Row>) {
    take_in(fixture, &rows.collect::<Vec<Row>>(), of_row);
}

/// The longest rows that are held, longest first.
fn longest(fixture: &Fixture, count: usize) -> Vec<Row> {
    let mut rows: Vec<Row> = fixture.held.iter().copied().collect();
    let length = |row: &Row| fixture.matrix.view().squared_length(*row);
    rows.sort_by(|a, b| length(b).total_cmp(&length(a)));
    rows.truncate(count);
    rows
}

fn rows_of_many_lengths_are_found_though_few_are_near_the_long_ones(kind: Kind) {
    // Without links by inner product 0.6 to 0.7 (by signs 0.9).
    let least = 0.9 - 0.3 * kind.tolerance();
    let mut fixture = Fixture::of(kind, Metric::Dot, DIM);
    fill(&mut fixture, 0..4_000);
    fixture.assert_whole();
    let found = recall(&fixture, 60);
    assert!(found >= least, "{found}");
    // The longest go, and others come.
    for part in longest(&fixture, 1_000).chunks(250) {
        fixture.change(&[], part, &Threads(2));
    }
    fixture.assert_whole();
    let found = recall(&fixture, 60);
    let mut fresh = Fixture::of(kind, Metric::Dot, DIM);
    take_in(&mut fresh, &fixture.held.iter().copied().collect::<Vec<Row>>(), of_row);
    let anew = recall(&fresh, 60);
    assert!(found >= anew - 0.06, "{found} without the longest, {anew} anew");
    fill(&mut fixture, 4_000..5_000);
    fixture.optimize(&Threads(2));
    fixture.assert_whole();
    let found = recall(&fixture, 60);
    assert!(found >= least, "{found} with others");
}

/// The longest are told to few when they come, and are in many lists until they go.
fn the_longest_rows_may_be_replaced_without_end(kind: Kind) {
    let mut fixture = Fixture::of(kind, Metric::Dot, DIM);
    fill(&mut fixture, 0..2_000);
    let fresh = recall(&fixture, 60);
    let mut places = longest(&fixture, 100);
    let vectors: Vec<Vec<f32>> = places.iter().map(|row| of_row(*row)).collect();
    for turn in 1..30u32 {
        let (first, from) = ((turn as usize * 37) % 80, 2_000 + turn * 20);
        let (gone, come): (Vec<Row>, Vec<Row>) =
            (0..20).map(|at| (places[first + at], from + at as Row)).unzip();
        for (at, row) in come.iter().enumerate() {
            fixture.put(*row, &vectors[first + at]);
            places[first + at] = *row;
        }
        fixture.change(&come, &[], &Threads(2));
        fixture.change(&[], &gone, &Threads(2));
    }
    fixture.assert_whole();
    let found = recall(&fixture, 60);
    assert!(found >= fresh - 0.03, "{found} after the longest were replaced, {fresh} at first");
}

fn rows_that_are_replaced_again_and_again_are_found_as_well(kind: Kind) {
    let mut fixture = Fixture::of(kind, Metric::Dot, DIM);
    fill(&mut fixture, 0..2_000);
    let fresh = recall(&fixture, 60);
    for turn in 0..4u32 {
        for first in (0..2_000).step_by(100) {
            let place = |turn: u32| (turn % 2) * 2_000 + first;
            let (gone, come): (Vec<Row>, Vec<Row>) =
                (0..100).map(|at| (place(turn) + at, place(turn + 1) + at)).unzip();
            take_in(&mut fixture, &come, |row| of_row(row % 2_000));
            fixture.change(&[], &gone, &Threads(2));
        }
    }
    fixture.assert_whole();
    let found = recall(&fixture, 60);
    assert!(found >= fresh - 0.03, "{found} after four turnovers, {fresh} at first");
}

/// Short rows that came first may know none of the long ones, but those that came later do.
fn long_rows_that_come_last_are_found(kind: Kind) {
    let mut ascending: Vec<Vec<f32>> = (0..3_000).map(of_row).collect();
    let length = |vector: &Vec<f32>| vector.iter().map(|part| part * part).sum::<f32>();
    ascending.sort_by(|a, b| length(a).total_cmp(&length(b)));
    let mut fixture = Fixture::of(kind, Metric::Dot, DIM);
    take_in(&mut fixture, &(0..3_000).collect::<Vec<Row>>(), |row| ascending[row as usize].clone());
    let found = recall(&fixture, 60);
    assert!(found >= 0.93 - 0.3 * kind.tolerance(), "{found}");
}

on_every_kind!(
    long_rows_that_come_last_are_found,
    rows_of_many_lengths_are_found_though_few_are_near_the_long_ones,
    the_longest_rows_may_be_replaced_without_end,
    rows_that_are_replaced_again_and_again_are_found_as_well,
);
