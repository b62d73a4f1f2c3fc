//! Putting an index in order: rows get other places inside, and keep their
//! numbers outside.

use super::fixture::{Fixture, Kind, METRICS, Threads, clustered, on_every_kind, on_lists};
use crate::id::Row;
use crate::index::Sequential;
use crate::metric::Metric;

fn rows_of(fixture: &Fixture, wanted: impl Fn(Row) -> bool) -> Vec<Row> {
    fixture.held.iter().copied().filter(|row| wanted(*row)).collect()
}

fn put_again(fixture: &mut Fixture, rows: &[Row], seed: u64) {
    let dim = fixture.space.dim();
    for part in rows.chunks(150) {
        part.iter().for_each(|row| fixture.put(*row, &clustered(dim, 20, seed, u64::from(*row))));
        fixture.change(part, &[], &Threads(2));
    }
}

/// All but a few held rows are found where their own vectors are.
fn assert_rows_are_themselves(fixture: &Fixture, kind: Kind) {
    let asked: Vec<Row> = fixture.held.iter().copied().step_by(7).collect();
    let is_found = |row: &&Row| {
        let vector = fixture.matrix.view().vector(**row);
        fixture.search(&vector, 1, 60, None) == fixture.exact(&vector, 1, None)
    };
    let found = asked.iter().filter(is_found).count();
    let wanted = asked.len() as f64 * (0.98 - kind.tolerance() / 4.0);
    assert!(found as f64 >= wanted, "{found} of {} rows found", asked.len());
}

fn an_order_keeps_every_row_under_its_number(kind: Kind) {
    for metric in METRICS {
        let mut fixture = Fixture::of(kind, metric, 16);
        fixture.fill(0, 2_000, 1, &Threads(2));
        let before = fixture.recall(10, 60, None);
        fixture.optimize(&Threads(2));
        fixture.assert_whole();
        let after = fixture.recall(10, 60, None);
        assert!(after >= before - 0.005 - kind.tolerance() / 2.0, "{metric}: recall {before}, then {after}");
        if metric != Metric::Dot {
            assert_rows_are_themselves(&fixture, kind);
        }
        let query = clustered(16, 20, 5, 5);
        assert_eq!(fixture.search(&query, 2_000, 1, None), fixture.exact(&query, 2_000, None));
        assert_eq!(fixture.search(&query, 5, 60, Some(&|row| row == 1_234)), [1_234]);
    }
}

fn rows_are_used_again_after_an_order(kind: Kind) {
    let mut fixture = Fixture::of(kind, Metric::L2, 16);
    fixture.fill(0, 1_500, 1, &Threads(2));
    for turn in 0..4u64 {
        let gone = rows_of(&fixture, |row| (u64::from(row) + turn).is_multiple_of(3));
        fixture.change(&[], &gone, &Threads(2));
        fixture.assert_whole();
        fixture.optimize(&Threads(2));
        fixture.assert_whole();
        put_again(&mut fixture, &gone, 100 + turn);
        fixture.fill(1_500 + turn as Row * 200, 200, 100 + turn, &Threads(2));
        fixture.assert_whole();
        assert_rows_are_themselves(&fixture, kind);
        if turn % 2 == 1 {
            fixture.optimize(&Threads(2));
            assert_rows_are_themselves(&fixture, kind);
        }
    }
    let mut fresh = Fixture::of(kind, Metric::L2, 16);
    fresh.fill(0, fixture.held.len() as u32, 103, &Threads(2));
    let (old, new) = (fixture.recall(10, 40, None), fresh.recall(10, 40, None));
    assert!(old >= new - 0.01, "recall {old}, of a fresh graph {new}");
}

// The layout is longer than what is left: rows far beyond the last one that is
// held have places in it.
fn most_rows_may_be_gone_when_an_order_comes(kind: Kind) {
    let mut fixture = Fixture::of(kind, Metric::Cosine, 16);
    fixture.fill(0, 2_500, 1, &Threads(2));
    fixture.optimize(&Threads(2));
    let full = fixture.index.bytes();
    let gone = rows_of(&fixture, |row| row % 50 != 7);
    fixture.change(&[], &gone, &Threads(2));
    fixture.assert_whole();
    fixture.optimize(&Threads(2));
    fixture.assert_whole();
    assert_rows_are_themselves(&fixture, kind);
    if !matches!(kind, Kind::Hnsw | Kind::HnswOf(_)) {
        assert!(fixture.index.bytes() * 4 < full, "{} of {full} bytes", fixture.index.bytes());
    }
    put_again(&mut fixture, &gone, 9);
    fixture.assert_whole();
    assert_rows_are_themselves(&fixture, kind);
    fixture.optimize(&Threads(2));
    fixture.assert_whole();
    assert!(fixture.recall(10, 60, None) >= 0.98 - kind.tolerance());
}

fn an_index_that_lost_every_row_can_be_put_in_order_and_filled_again(kind: Kind) {
    for metric in METRICS {
        let mut fixture = Fixture::of(kind, metric, 16);
        for turn in 0..3u64 {
            fixture.fill(0, 1_000, turn, &Threads(2));
            if turn > 0 {
                fixture.optimize(&Threads(2));
            }
            let all = rows_of(&fixture, |_| true);
            fixture.change(&[], &all, &Threads(2));
            fixture.assert_whole();
            assert!(fixture.search(&clustered(16, 20, 3, 3), 10, 50, None).is_empty());
            fixture.optimize(&Threads(2));
            fixture.assert_whole();
        }
        put_again(&mut fixture, &(500..1_500).rev().collect::<Vec<Row>>(), 77);
        fixture.assert_whole();
        let recall = fixture.recall(10, 60, None);
        assert!(recall >= 0.98 - kind.tolerance(), "{metric}: recall {recall}");
    }
}

fn an_order_of_what_is_in_order_changes_nothing(kind: Kind) {
    let mut fixture = Fixture::of(kind, Metric::L2, 16);
    let empty = fixture.index.version().digest();
    (0..2).for_each(|_| fixture.optimize(&Sequential));
    assert_eq!(fixture.index.version().digest(), empty);
    fixture.assert_whole();
    fixture.fill(0, 700, 1, &Threads(2));
    fixture.optimize(&Threads(2));
    let (digest, bytes) = (fixture.index.version().digest(), fixture.index.bytes());
    for _ in 0..2 {
        fixture.optimize(&Sequential);
        fixture.change(&[], &[], &Sequential);
        assert_eq!(fixture.index.version().digest(), digest);
        assert!(fixture.index.bytes() <= bytes + bytes / 20);
    }
}

fn the_order_is_the_same_for_any_number_of_threads(kind: Kind) {
    let digest = |width: usize| {
        let mut fixture = Fixture::of(kind, Metric::Dot, 16);
        fixture.fill(0, 1_500, 1, &Threads(width));
        let gone = rows_of(&fixture, |row| row % 4 == 1);
        fixture.change(&[], &gone, &Threads(width));
        fixture.optimize(&Threads(width));
        let first = fixture.index.version().digest();
        put_again(&mut fixture, &gone, 3);
        fixture.optimize(&Threads(width));
        (first, fixture.index.version().digest())
    };
    assert_eq!(digest(1), digest(2));
    assert_eq!(digest(1), digest(4));
}

on_every_kind!(
    an_order_keeps_every_row_under_its_number,
    rows_are_used_again_after_an_order,
    most_rows_may_be_gone_when_an_order_comes,
    an_index_that_lost_every_row_can_be_put_in_order_and_filled_again,
    an_order_of_what_is_in_order_changes_nothing,
    the_order_is_the_same_for_any_number_of_threads,
);

mod lists {
    use super::*;

    on_lists!(
        an_order_keeps_every_row_under_its_number,
        rows_are_used_again_after_an_order,
        most_rows_may_be_gone_when_an_order_comes,
        an_index_that_lost_every_row_can_be_put_in_order_and_filled_again,
        an_order_of_what_is_in_order_changes_nothing,
        the_order_is_the_same_for_any_number_of_threads,
    );
}
