//! Crowds of equal rows: the others are found as well as without them.

use std::collections::HashSet;

use super::fixture::{Fixture, Kind, Threads, clustered};
use crate::id::Row;
use crate::metric::Metric;

const DIM: usize = 24;

/// So many that they are not lost among the others, and more than a walk has
/// places for.
const CROWD: Row = 600;

const OTHERS: Row = 6_000;

/// Few rows of each, so that equal rows in the middle are nearer than others.
const CLUSTERS: u64 = 500;

const BATCH: usize = 200;

fn other(index: u64) -> Vec<f32> {
    clustered(DIM, CLUSTERS, 1, index)
}

fn take_in(fixture: &mut Fixture, rows: &[Row], vector: impl Fn(Row) -> Vec<f32>) {
    for rows in rows.chunks(BATCH) {
        rows.iter().for_each(|row| fixture.put(*row, &vector(*row)));
        fixture.change(rows, &[], &Threads(2));
    }
}

/// Mean share of the exact answers that are found of the rows around centres.
fn recall(fixture: &Fixture) -> f64 {
    let (k, queries) = (10, 200);
    let mut hits = 0;
    for index in 0..queries {
        let query = clustered(DIM, CLUSTERS, 4_242, 1_000_000 + index);
        let exact: HashSet<Row> = fixture.exact(&query, k, None).into_iter().collect();
        hits += fixture.search(&query, k, 64, None).iter().filter(|row| exact.contains(row)).count();
    }
    hits as f64 / (k as u64 * queries) as f64
}

fn rows() -> (Vec<Row>, Vec<Row>) {
    ((0..CROWD).collect(), (CROWD..CROWD + OTHERS).collect())
}

fn own(row: Row) -> Vec<f32> {
    other(u64::from(row))
}

fn recall_alone(kind: Kind, metric: Metric) -> f64 {
    let mut fixture = Fixture::of(kind, metric, DIM);
    take_in(&mut fixture, &rows().1, own);
    recall(&fixture)
}

/// A crowd comes first, each row of it equal to one of these.
fn recall_after(kind: Kind, metric: Metric, crowd: impl Fn(Row) -> Vec<f32>) -> f64 {
    let mut fixture = Fixture::of(kind, metric, DIM);
    take_in(&mut fixture, &rows().0, crowd);
    take_in(&mut fixture, &rows().1, own);
    fixture.assert_whole();
    recall(&fixture)
}

#[test]
fn rows_that_come_after_a_crowd_are_found_as_well_as_without_it() {
    for metric in [Metric::L2, Metric::Dot] {
        for kind in [Kind::SEVEN, Kind::FOUR, Kind::Hnsw] {
            let (alone, beside) =
                (recall_alone(kind, metric), recall_after(kind, metric, |_| vec![0.0; DIM]));
            assert!(beside >= alone - 0.03, "{kind:?} {metric}: {beside}, and {alone} without a crowd");
        }
    }
}

#[test]
fn several_crowds_do_no_more_harm_than_one() {
    let centre =
        |row: Row| -> Vec<f32> { clustered(DIM, 6, 9, u64::from(row % 6)).iter().map(|x| x * 0.1).collect() };
    for kind in [Kind::SEVEN, Kind::FOUR] {
        let (alone, beside) = (recall_alone(kind, Metric::L2), recall_after(kind, Metric::L2, centre));
        assert!(beside >= alone - 0.03, "{kind:?}: {beside}, and {alone} without crowds");
    }
}

#[test]
fn a_crowd_among_the_others_leaves_most_of_the_recall() {
    for (kind, least) in [(Kind::SEVEN, 0.93), (Kind::FOUR, 0.93), (Kind::Hnsw, 0.85)] {
        let mut fixture = Fixture::of(kind, Metric::L2, DIM);
        let all: Vec<Row> = (0..CROWD + OTHERS).collect();
        take_in(&mut fixture, &all, |row| if row % 7 == 0 { vec![0.0; DIM] } else { own(row) });
        fixture.assert_whole();
        let found = recall(&fixture);
        assert!(found >= least, "{kind:?}: {found}");
    }
}

#[test]
fn graphs_beside_crowds_do_not_depend_on_the_number_of_threads() {
    for kind in [Kind::SEVEN, Kind::FOUR, Kind::Hnsw] {
        let digest = |threads: usize| {
            let mut fixture = Fixture::of(kind, Metric::L2, DIM);
            for from in (0..1_500).step_by(250) {
                let rows: Vec<Row> = (from..from + 250).collect();
                rows.iter().for_each(|row| {
                    fixture.put(*row, &if row % 2 == 0 { vec![0.0; DIM] } else { own(*row) });
                });
                fixture.change(&rows, &[], &Threads(threads));
            }
            fixture.index.version().digest()
        };
        assert_eq!(digest(1), digest(3), "{kind:?}");
    }
}
