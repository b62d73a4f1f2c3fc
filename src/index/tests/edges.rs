use super::fixture::{Fixture, Threads};
use crate::id::Row;
use crate::index::Sequential;
use crate::metric::Metric;

#[test]
fn an_empty_index_finds_nothing() {
    let mut fixture = Fixture::hnsw(Metric::L2, 4);
    assert!(fixture.search(&[0.0; 4], 10, 10, None).is_empty());
    fixture.change(&[], &[], &Sequential);
    fixture.assert_whole();
    assert_eq!(fixture.index.version().len(), 0);
}

#[test]
fn one_row_is_found_forgotten_and_found_again() {
    for metric in [Metric::L2, Metric::Cosine, Metric::Dot] {
        let mut fixture = Fixture::hnsw(metric, 4);
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

#[test]
fn identical_vectors_stay_reachable() {
    for metric in [Metric::L2, Metric::Cosine, Metric::Dot] {
        let mut fixture = Fixture::hnsw(metric, 4);
        for first in (0..10_000).step_by(500) {
            let rows: Vec<Row> = (first..first + 500).collect();
            rows.iter().for_each(|row| fixture.put(*row, &[0.5, 1.0, -2.0, 3.0]));
            fixture.change(&rows, &[], &Threads(2));
        }
        fixture.assert_whole();
        assert_eq!(fixture.search(&[0.5, 1.0, -2.0, 3.0], 100, 100, None).len(), 100);
    }
}

#[test]
fn all_rows_may_be_exchanged_in_one_batch() {
    let mut fixture = Fixture::hnsw(Metric::L2, 8);
    fixture.fill(0, 300, 1, &Sequential);
    let old: Vec<Row> = (0..300).collect();
    let new: Vec<Row> = (300..600).collect();
    new.iter().for_each(|row| fixture.put(*row, &[*row as f32; 8]));
    fixture.change(&new, &old, &Sequential);
    fixture.assert_whole();
    assert_eq!(fixture.search(&[450.0; 8], 3, 50, None), [450, 449, 451]);
}

#[test]
fn rows_join_also_when_every_held_row_is_dead() {
    let mut fixture = Fixture::hnsw(Metric::L2, 8);
    fixture.fill(0, 300, 1, &Sequential);
    fixture.put(300, &[0.0; 8]);
    fixture.put(301, &[0.1; 8]);
    fixture.change_with_dead(&[300, 301], &[], &|row| row < 300, &Sequential);
    fixture.assert_whole();
    assert_eq!(fixture.search(&[0.0; 8], 5, 10, Some(&|row| row >= 300)), [300, 301]);
}

#[test]
fn new_rows_link_to_live_rows_when_there_are_any() {
    let mut fixture = Fixture::hnsw(Metric::L2, 8);
    fixture.fill(0, 1_000, 1, &Sequential);
    let dead: Vec<Row> = fixture.exact(&[0.0; 8], 900, None);
    fixture.put(1_000, &[0.0; 8]);
    fixture.change_with_dead(&[1_000], &[], &|row| dead.contains(&row), &Sequential);
    fixture.change(&[], &dead, &Sequential);
    fixture.assert_whole();
    assert_eq!(fixture.search(&[0.0; 8], 1, 40, None), [1_000]);
}
