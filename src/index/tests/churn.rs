use std::sync::atomic::{AtomicBool, Ordering};

use super::fixture::{Fixture, Threads, clustered};
use crate::id::Row;
use crate::index::{Request, Sequential};
use crate::metric::Metric;

/// Replaces every row once, 100 at a time; the numbers are used again.
fn turn_over(fixture: &mut Fixture, rows: u32, seed: u64) {
    for first in (0..rows).step_by(100) {
        let batch: Vec<Row> = (first..(first + 100).min(rows)).map(|at| (at * 7) % rows).collect();
        fixture.change(&[], &batch, &Threads(2));
        for row in &batch {
            fixture.put(*row, &clustered(16, 20, seed, u64::from(*row)));
        }
        fixture.change(&batch, &[], &Threads(2));
    }
}

#[test]
fn the_graph_is_the_same_for_any_number_of_threads() {
    let digests: Vec<u64> = [1, 2, 4]
        .into_iter()
        .map(|width| {
            let mut fixture = Fixture::hnsw(Metric::Cosine, 16);
            fixture.fill(0, 3_000, 1, &Threads(width));
            let gone: Vec<Row> = (0..3_000).filter(|row| row % 9 == 4).collect();
            fixture.change(&[], &gone, &Threads(width));
            fixture.fill(3_000, 500, 1, &Threads(width));
            fixture.index.version().digest()
        })
        .collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]));
}

#[test]
fn digests_differ_when_the_graph_differs() {
    let mut fixture = Fixture::hnsw(Metric::L2, 16);
    fixture.fill(0, 500, 1, &Sequential);
    let before = fixture.index.version().digest();
    fixture.change(&[], &[77], &Sequential);
    assert_ne!(fixture.index.version().digest(), before);
}

#[test]
fn twenty_turnovers_keep_the_graph_whole_good_and_small() {
    const ROWS: u32 = 1_500;
    let mut fixture = Fixture::hnsw(Metric::L2, 16);
    fixture.fill(0, ROWS, 1, &Threads(2));
    let mut bytes = 0;
    for turn in 0..20 {
        turn_over(&mut fixture, ROWS, 100 + turn);
        fixture.assert_whole();
        if turn == 2 {
            bytes = fixture.index.bytes();
        }
    }
    assert!(fixture.index.bytes() <= bytes + bytes / 20);
    let mut fresh = Fixture::hnsw(Metric::L2, 16);
    fresh.fill(0, ROWS, 119, &Threads(2));
    let (old, new) = (fixture.recall(10, 40, None), fresh.recall(10, 40, None));
    assert!(old >= new - 0.01, "recall {old} after the turnovers, {new} of a fresh graph");
}

#[test]
fn forgetting_and_absorbing_in_one_batch_keeps_the_graph_whole() {
    let mut fixture = Fixture::hnsw(Metric::Cosine, 16);
    fixture.fill(0, 1_000, 1, &Sequential);
    for turn in 0..40 {
        let forget: Vec<Row> = fixture.held.iter().copied().skip(turn % 5).step_by(7).take(120).collect();
        let absorb: Vec<Row> = (0..).filter(|row| !fixture.held.contains(row)).take(110).collect();
        for row in &absorb {
            fixture.put(*row, &clustered(16, 20, turn as u64, u64::from(*row)));
        }
        fixture.change(&absorb, &forget, &Threads(2));
        fixture.assert_whole();
    }
}

#[test]
fn forgetting_a_whole_region_keeps_the_rest_connected() {
    let mut fixture = Fixture::hnsw(Metric::L2, 16);
    fixture.fill(0, 2_000, 1, &Threads(2));
    let region = fixture.exact(&clustered(16, 20, 1, 5), 1_200, None);
    fixture.change(&[], &region, &Threads(2));
    fixture.assert_whole();
    assert!(fixture.recall(10, 60, None) >= 0.97);
    let rest: Vec<Row> = fixture.held.iter().copied().collect();
    fixture.change(&[], &rest, &Threads(2));
    fixture.assert_whole();
}

#[test]
fn an_old_version_answers_the_same_for_ever() {
    const ROWS: u32 = 1_200;
    let mut fixture = Fixture::hnsw(Metric::L2, 16);
    fixture.fill(0, ROWS, 1, &Threads(2));
    let (version, matrix) = (fixture.index.version(), fixture.matrix.view().clone());
    let old = Fixture::hnsw(Metric::L2, 16);
    let queries: Vec<Vec<f32>> = (0..20).map(|index| clustered(16, 20, 8, index)).collect();
    let answers = |fixture: &Fixture| -> Vec<_> {
        let points = crate::index::Points { space: &fixture.space, vectors: &matrix };
        let answer = |query: &Vec<f32>| {
            let (mut scratch, mut found) = Default::default();
            crate::neighbor::TopK::reset(&mut found, 10);
            let request = Request { query, k: 10, ef: 50, bound: f32::INFINITY, admit: None };
            let effort = version.search(points, &request, &mut scratch, &mut found);
            (found.sorted().to_vec(), effort)
        };
        queries.iter().map(answer).collect()
    };
    let (before, digest) = (answers(&old), version.digest());
    for turn in 0..3 {
        turn_over(&mut fixture, ROWS, 50 + turn);
        assert_eq!(answers(&old), before);
        assert_eq!(version.digest(), digest);
    }
    assert!(version.audit(&mut (0..ROWS)).is_empty());
}

#[test]
fn searches_run_beside_commits() {
    const ROWS: u32 = 1_000;
    let mut fixture = Fixture::hnsw(Metric::L2, 16);
    fixture.fill(0, ROWS, 1, &Threads(2));
    let shared = std::sync::Mutex::new((fixture.index.version(), fixture.matrix.view().clone()));
    let done = AtomicBool::new(false);
    let space = fixture.space;
    std::thread::scope(|scope| {
        for reader in 0..2 {
            let (shared, done) = (&shared, &done);
            scope.spawn(move || {
                let (mut scratch, mut found) = (Default::default(), crate::neighbor::TopK::default());
                let mut index = reader;
                while !done.load(Ordering::Acquire) {
                    let (version, vectors) = shared.lock().unwrap().clone();
                    let query = clustered(16, 20, 8, index);
                    let request = Request { query: &query, k: 10, ef: 50, bound: f32::INFINITY, admit: None };
                    found.reset(10);
                    let points = crate::index::Points { space: &space, vectors: &vectors };
                    version.search(points, &request, &mut scratch, &mut found);
                    assert_eq!(found.sorted().len(), 10);
                    assert!(found.sorted().windows(2).all(|pair| pair[0].distance <= pair[1].distance));
                    index += 2;
                }
            });
        }
        for first in (0..ROWS).step_by(50) {
            let batch: Vec<Row> = (first..first + 50).collect();
            fixture.change(&[], &batch, &Sequential);
            batch.iter().for_each(|row| fixture.put(*row, &clustered(16, 20, 99, u64::from(*row))));
            fixture.change(&batch, &[], &Sequential);
            *shared.lock().unwrap() = (fixture.index.version(), fixture.matrix.view().clone());
        }
        done.store(true, Ordering::Release);
    });
    fixture.assert_whole();
}
