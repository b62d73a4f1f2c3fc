use super::fixture::{Fixture, Kind, METRICS, Threads, clustered, on_every_kind, on_lists};
use crate::id::Row;
use crate::index::Sequential;
use crate::metric::Metric;

fn an_empty_index_finds_nothing(kind: Kind) {
    let mut fixture = Fixture::of(kind, Metric::L2, 4);
    assert!(fixture.search(&[0.0; 4], 10, 10, None).is_empty());
    fixture.change(&[], &[], &Sequential);
    fixture.assert_whole();
    assert_eq!(fixture.index.version().len(), 0);
}

fn one_row_is_found_forgotten_and_found_again(kind: Kind) {
    for metric in METRICS {
        let mut fixture = Fixture::of(kind, metric, 4);
        fixture.put(5, &[1.0, 0.0, 0.0, 0.0]);
        for _ in 0..3 {
            fixture.change(&[5], &[], &Sequential);
            fixture.assert_whole();
            assert_eq!(fixture.search(&[1.0; 4], 10, 10, None), [5]);
            fixture.change(&[], &[5], &Sequential);
            fixture.assert_whole();
            assert!(fixture.search(&[1.0; 4], 10, 10, None).is_empty());
        }
    }
}

fn identical_vectors_stay_reachable(kind: Kind) {
    for metric in METRICS {
        let mut fixture = Fixture::of(kind, metric, 4);
        let rows: Row = if matches!(kind, Kind::Hnsw | Kind::HnswOf(_)) { 10_000 } else { 3_000 };
        for first in (0..rows).step_by(500) {
            let rows: Vec<Row> = (first..first + 500).collect();
            rows.iter().for_each(|row| fixture.put(*row, &[0.5, 1.0, -2.0, 3.0]));
            fixture.change(&rows, &[], &Threads(2));
        }
        fixture.assert_whole();
        assert_eq!(fixture.search(&[0.5, 1.0, -2.0, 3.0], 100, 100, None).len(), 100);
    }
}

fn all_rows_may_be_exchanged_in_one_batch(kind: Kind) {
    let mut fixture = Fixture::of(kind, Metric::L2, 8);
    fixture.fill(0, 300, 1, &Sequential);
    let old: Vec<Row> = (0..300).collect();
    let new: Vec<Row> = (300..600).collect();
    new.iter().for_each(|row| fixture.put(*row, &[*row as f32; 8]));
    fixture.change(&new, &old, &Sequential);
    fixture.assert_whole();
    assert_eq!(fixture.search(&[450.0; 8], 3, 50, None), [450, 449, 451]);
}

fn rows_join_also_when_every_held_row_is_dead(kind: Kind) {
    let mut fixture = Fixture::of(kind, Metric::L2, 8);
    fixture.fill(0, 300, 1, &Sequential);
    fixture.put(300, &[0.0; 8]);
    fixture.put(301, &[0.1; 8]);
    fixture.change_with_dead(&[300, 301], &[], &|row| row < 300, &Sequential);
    fixture.assert_whole();
    assert_eq!(fixture.search(&[0.0; 8], 5, 10, Some(&|row| row >= 300)), [300, 301]);
}

fn new_rows_link_to_live_rows_when_there_are_any(kind: Kind) {
    let mut fixture = Fixture::of(kind, Metric::L2, 8);
    fixture.fill(0, 1_000, 1, &Sequential);
    let dead: Vec<Row> = fixture.exact(&[0.0; 8], 900, None);
    fixture.put(1_000, &[0.0; 8]);
    fixture.change_with_dead(&[1_000], &[], &|row| dead.contains(&row), &Sequential);
    fixture.change(&[], &dead, &Sequential);
    fixture.assert_whole();
    assert_eq!(fixture.search(&[0.0; 8], 1, 40, None), [1_000]);
}

fn equal_vectors_are_all_found_however_short_the_list(kind: Kind) {
    for metric in METRICS {
        let mut fixture = Fixture::of(kind, metric, 4);
        for first in (0..1_000).step_by(250) {
            let rows: Vec<Row> = (first..first + 250).collect();
            rows.iter().for_each(|row| fixture.put(*row, &[0.5, 1.0, -2.0, 3.0]));
            fixture.change(&rows, &[], &Sequential);
        }
        for ef in [0, 1, 10, 1_000] {
            for k in [1, 40, 300, 499, 500, 999, 1_000, 1_001] {
                let found = fixture.search(&[0.5, 1.0, -2.0, 3.0], k, ef, None);
                assert_eq!(found.len(), k.min(1_000), "{metric} k {k} ef {ef}");
            }
        }
    }
}

fn rows_of_nothing_but_zeros_are_found(kind: Kind) {
    for metric in [Metric::L2, Metric::Dot] {
        let mut fixture = Fixture::of(kind, metric, 7);
        for first in (0..900).step_by(300) {
            let rows: Vec<Row> = (first..first + 300).collect();
            rows.iter().for_each(|row| fixture.put(*row, &[0.0; 7]));
            fixture.change(&rows, &[], &Sequential);
        }
        fixture.put(900, &[1.0; 7]);
        fixture.change(&[900], &[], &Sequential);
        fixture.assert_whole();
        for k in [1, 10, 400, 901] {
            assert_eq!(fixture.search(&[0.0; 7], k, 20, None).len(), k);
        }
        assert_eq!(fixture.search(&[1.0; 7], 1, 901, None), [900]);
    }
}

fn every_dimension_and_every_few_rows_are_served(kind: Kind) {
    for metric in METRICS {
        for dim in [1, 2, 3, 50, 117, 785] {
            let mut fixture = Fixture::of(kind, metric, dim);
            for (from, count) in [(0, 1), (1, 1), (2, 198)] {
                fixture.fill(from, count, 3, &Threads(2));
                fixture.assert_whole();
                let (n, query) = (fixture.held.len(), clustered(dim, 20, 4, 4));
                for k in [0, 1, 2, n / 2, n.saturating_sub(1), n, n + 1] {
                    let found = fixture.search(&query, k, 10, None);
                    assert_eq!(found.len(), k.min(n), "{metric}, {dim} dimensions, {k} of {n}");
                }
                assert_eq!(fixture.search(&query, n, n, None), fixture.exact(&query, n, None));
            }
            let recall = fixture.recall(10, 80, None);
            assert!(recall >= 0.94, "{metric}, {dim} dimensions: recall {recall}");
        }
    }
}

fn a_few_rows_of_a_length_beyond_all_measure_cost_the_others_no_recall(kind: Kind) {
    for (dim, metric) in [(12, Metric::L2), (12, Metric::Dot), (140, Metric::L2)] {
        let recall_beside = |far: &[Row]| {
            let mut fixture = Fixture::of(kind, metric, dim);
            far.iter().for_each(|row| fixture.put(*row, &vec![1e12; dim]));
            fixture.change(far, &[], &Threads(2));
            fixture.fill(0, 1_500, 1, &Threads(2));
            fixture.optimize(&Threads(2));
            fixture.recall(10, 30, Some(&|row| row < 5_000))
        };
        let (alone, beside) = (recall_beside(&[]), recall_beside(&[5_000, 5_001, 5_002]));
        assert!(beside >= alone - 0.03, "{kind:?}, {metric}, {dim}: {beside}, and {alone} without them");
    }
}

on_every_kind!(
    an_empty_index_finds_nothing,
    one_row_is_found_forgotten_and_found_again,
    identical_vectors_stay_reachable,
    all_rows_may_be_exchanged_in_one_batch,
    rows_join_also_when_every_held_row_is_dead,
    new_rows_link_to_live_rows_when_there_are_any,
    equal_vectors_are_all_found_however_short_the_list,
    rows_of_nothing_but_zeros_are_found,
    every_dimension_and_every_few_rows_are_served,
    a_few_rows_of_a_length_beyond_all_measure_cost_the_others_no_recall,
);

mod lists {
    use super::*;

    on_lists!(
        an_empty_index_finds_nothing,
        one_row_is_found_forgotten_and_found_again,
        identical_vectors_stay_reachable,
        all_rows_may_be_exchanged_in_one_batch,
        rows_join_also_when_every_held_row_is_dead,
        new_rows_link_to_live_rows_when_there_are_any,
        equal_vectors_are_all_found_however_short_the_list,
        rows_of_nothing_but_zeros_are_found,
        every_dimension_and_every_few_rows_are_served,
        a_few_rows_of_a_length_beyond_all_measure_cost_the_others_no_recall,
    );
}
