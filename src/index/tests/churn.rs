use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::fixture::{Fixture, Kind, Threads, clustered, on_every_kind, on_lists};
use crate::id::{Row, mix};
use crate::index::{Effort, Ends, IndexVersion, Points, Request, Scratch, Sequential};
use crate::metric::Metric;
use crate::neighbor::TopK;
use crate::vector::MatrixView;

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

fn the_graph_is_the_same_for_any_number_of_threads(kind: Kind) {
    let digests: Vec<u64> = [1, 2, 4]
        .into_iter()
        .map(|width| {
            let mut fixture = Fixture::of(kind, Metric::Cosine, 16);
            fixture.optimize(&Threads(width));
            fixture.fill(0, 3_000, 1, &Threads(width));
            let gone: Vec<Row> = (0..3_000).filter(|row| row % 9 == 4).collect();
            fixture.change(&[], &gone, &Threads(width));
            fixture.fill(3_000, 500, 1, &Threads(width));
            fixture.optimize(&Threads(width));
            fixture.fill(3_500, 1_000, 1, &Threads(width));
            fixture.index.version().digest()
        })
        .collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]));
}

fn digests_differ_when_the_graph_differs(kind: Kind) {
    let mut fixture = Fixture::of(kind, Metric::L2, 16);
    fixture.fill(0, 500, 1, &Sequential);
    let before = fixture.index.version().digest();
    fixture.change(&[], &[77], &Sequential);
    assert_ne!(fixture.index.version().digest(), before);
}

fn twenty_turnovers_keep_the_graph_whole_good_and_small(kind: Kind) {
    const ROWS: u32 = 1_500;
    let mut fixture = Fixture::of(kind, Metric::L2, 16);
    fixture.fill(0, ROWS, 1, &Threads(2));
    let mut bytes = 0;
    for turn in 0..20 {
        turn_over(&mut fixture, ROWS, 100 + turn);
        fixture.assert_whole();
        if turn == 2 {
            bytes = fixture.index.bytes();
        }
    }
    assert!(fixture.index.bytes() <= bytes + bytes / kind.slack());
    let mut fresh = Fixture::of(kind, Metric::L2, 16);
    fresh.fill(0, ROWS, 119, &Threads(2));
    let (old, new) = (fixture.recall(10, 40, None), fresh.recall(10, 40, None));
    assert!(old >= new - 0.01, "recall {old} after the turnovers, {new} of a fresh graph");
}

/// The numbers of a version of so many rows more, of which the last batch alone may train anew,
/// all, or none.
fn nothing_is_trained_anew_before_it_may_be_and_it_is_made_up_for(kind: Kind) {
    const FEW: u32 = 1_100;
    let digest = |before: bool, last: bool| {
        let mut fixture = Fixture::of(kind, Metric::L2, 16);
        fixture.fill(0, FEW, 1, &Threads(2));
        fixture.renews = before;
        fixture.fill(FEW, 4 * FEW, 1, &Threads(2));
        fixture.renews = last;
        fixture.fill(5 * FEW, 300, 1, &Threads(2));
        fixture.assert_whole();
        fixture.index.version().digest()
    };
    let (always, late, never) = (digest(true, true), digest(false, true), digest(false, false));
    assert_eq!(always != never, kind.is_trained(), "what is trained is trained anew for so many more");
    assert_eq!(late != never, kind.is_trained(), "what was put off is not forgotten");
}

fn forgetting_and_absorbing_in_one_batch_keeps_the_graph_whole(kind: Kind) {
    let mut fixture = Fixture::of(kind, Metric::Cosine, 16);
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

fn forgetting_a_whole_region_keeps_the_rest_connected(kind: Kind) {
    let mut fixture = Fixture::of(kind, Metric::L2, 16);
    fixture.fill(0, 2_000, 1, &Threads(2));
    let region = fixture.exact(&clustered(16, 20, 1, 5), 1_200, None);
    fixture.change(&[], &region, &Threads(2));
    fixture.assert_whole();
    assert!(fixture.recall(10, 60, None) >= 0.97);
    let rest: Vec<Row> = fixture.held.iter().copied().collect();
    fixture.change(&[], &rest, &Threads(2));
    fixture.assert_whole();
}

fn an_old_version_answers_the_same_for_ever(kind: Kind) {
    const ROWS: u32 = 1_200;
    let mut fixture = Fixture::of(kind, Metric::L2, 16);
    fixture.fill(0, ROWS, 1, &Threads(2));
    let (version, matrix) = (fixture.index.version(), fixture.matrix.view().clone());
    let old = Fixture::of(kind, Metric::L2, 16);
    let before = (version.digest(), answers(&old, &*version, &matrix));
    for turn in 0..3 {
        turn_over(&mut fixture, ROWS, 50 + turn);
        assert_eq!((version.digest(), answers(&old, &*version, &matrix)), before);
    }
    fixture.fill(ROWS, 5 * ROWS, 60, &Threads(2));
    assert_eq!((version.digest(), answers(&old, &*version, &matrix)), before, "after it grew");
    for _ in 0..2 {
        fixture.optimize(&Threads(2));
        turn_over(&mut fixture, ROWS, 70);
        assert_eq!(
            (version.digest(), answers(&old, &*version, &matrix)),
            before,
            "after it was put in order"
        );
    }
    assert!(version.audit(&mut (0..ROWS)).is_empty());
}

type Bits = Vec<(Vec<(Row, u32)>, Effort)>;

/// What a version answers, to the bit, with and without a filter.
fn answers(fixture: &Fixture, version: &dyn IndexVersion, vectors: &MatrixView) -> Bits {
    let points = Points { space: &fixture.space, vectors };
    let odd = |row: Row| row % 2 == 1;
    let mut answers = Vec::new();
    for index in 0..20 {
        let query = fixture.prepared(&clustered(16, 20, 8, index));
        for admit in [None, Some(&odd as &dyn Fn(Row) -> bool)] {
            let (mut scratch, mut found) = (Scratch::default(), TopK::default());
            found.reset(10);
            let request = Request {
                query: &query,
                k: 10,
                ef: 50,
                bound: f32::INFINITY,
                admit,
                filter: None,
                shards: 1,
                ends: Ends::default(),
            };
            let effort = version.search(points, &request, &mut scratch, &mut found);
            let bits = found.sorted().iter().map(|near| (near.row, near.distance.to_bits()));
            answers.push((bits.collect(), effort));
        }
    }
    answers
}

// Every version of a long life, held to its end: among them those before and
// after codes were trained again and rows numbered anew.
fn versions_held_through_growth_and_orders_answer_as_before(kind: Kind) {
    let mut fixture = Fixture::of(kind, Metric::Cosine, 16);
    let mut held = Vec::new();
    for turn in 0..24u32 {
        match turn % 4 {
            0 | 2 => fixture.fill(turn * 100, 200, u64::from(turn), &Threads(2)),
            1 => {
                let gone: Vec<Row> =
                    fixture.held.iter().copied().filter(|row| (row + turn) % 3 == 0).collect();
                fixture.change(&[], &gone, &Threads(2));
                let back: Vec<Row> = gone.into_iter().step_by(2).collect();
                back.iter().for_each(|row| fixture.put(*row, &clustered(16, 20, 500, u64::from(*row))));
                fixture.change(&back, &[], &Threads(2));
            }
            _ => fixture.optimize(&Threads(2)),
        }
        fixture.assert_whole();
        let (version, vectors) = (fixture.index.version(), fixture.matrix.view().clone());
        let seen = (version.digest(), answers(&fixture, &*version, &vectors));
        held.push((version, vectors, fixture.held.clone(), seen));
    }
    for (version, vectors, rows, seen) in &held {
        assert_eq!(&(version.digest(), answers(&fixture, &**version, vectors)), seen);
        assert!(version.audit(&mut rows.iter().copied()).is_empty());
    }
}

fn searches_run_beside_commits(kind: Kind) {
    const ROWS: u32 = 1_000;
    let mut fixture = Fixture::of(kind, Metric::L2, 16);
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
                    let request = Request {
                        query: &query,
                        k: 10,
                        ef: 50,
                        bound: f32::INFINITY,
                        admit: None,
                        filter: None,
                        shards: 1,
                        ends: Ends::default(),
                    };
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

// Codes are those of the rows that are there, not of those that once were.
fn a_collection_that_becomes_another_one_is_found_as_well(kind: Kind) {
    becomes_another(kind, 1_500);
}

fn becomes_another(kind: Kind, count: u32) {
    let other = |row: Row| -> Vec<f32> {
        let there = clustered(48, 20, 9, u64::from(row));
        there.iter().enumerate().map(|(axis, x)| if axis < 24 { 500.0 } else { 0.02 * x }).collect()
    };
    let recall = |fixture: &Fixture| {
        let mut hits = 0;
        for index in 0..100 {
            let query = other(1_000_000 + index);
            let exact = fixture.exact(&query, 10, None);
            hits += fixture.search(&query, 10, 40, None).iter().filter(|row| exact.contains(row)).count();
        }
        hits as f64 / 1_000.0
    };
    let mut fresh = Fixture::of(kind, Metric::L2, 48);
    replace(&mut fresh, 0..count, &other);
    let fresh = recall(&fresh);
    let mut refilled = Fixture::of(kind, Metric::L2, 48);
    refilled.fill(0, count, 1, &Threads(2));
    let all: Vec<Row> = (0..count).collect();
    refilled.change(&[], &all, &Threads(2));
    replace(&mut refilled, 0..count, &other);
    let found = recall(&refilled);
    assert!(found >= fresh - 0.02, "refilled: recall {found}, of a fresh graph {fresh}");
    let mut turned = Fixture::of(kind, Metric::L2, 48);
    turned.fill(0, count, 1, &Threads(2));
    for turn in 0..5 {
        for first in (0..count).step_by(100) {
            let rows: Vec<Row> = (first..first + 100).collect();
            turned.change(&[], &rows, &Threads(2));
            replace(&mut turned, first..first + 100, &|row| other(row + turn * count));
        }
    }
    turned.assert_whole();
    let found = recall(&turned);
    assert!(found >= fresh - 0.03, "turned over: recall {found}, of a fresh graph {fresh}");
}

/// Puts in rows that are not held, 100 at a time.
fn replace(fixture: &mut Fixture, rows: std::ops::Range<Row>, vector: &dyn Fn(Row) -> Vec<f32>) {
    let rows: Vec<Row> = rows.collect();
    for rows in rows.chunks(100) {
        rows.iter().for_each(|row| fixture.put(*row, &vector(*row)));
        fixture.change(rows, &[], &Threads(2));
    }
}

/// Versions of which some are held, others are let go of by all but the index, and some
/// batches make none: each shows to the end what it showed at first.
pub(super) fn hold_some_versions_of(fixture: &mut Fixture) {
    const ROWS: u32 = 1_200;
    let mut held: Vec<(Arc<dyn IndexVersion>, u64)> = Vec::new();
    fixture.fill(0, ROWS, 1, &Threads(2));
    let mut random = 5;
    for step in 0..60u32 {
        random = mix(random);
        match random % 6 {
            0 => fixture.change(&[], &[], &Sequential),
            1 => fixture.optimize(&Threads(2)),
            _ => {
                let gone: Vec<Row> = (0..ROWS).filter(|row| row % 13 == step % 13).collect();
                fixture.change(&[], &gone, &Threads(2));
                gone.iter().for_each(|row| {
                    fixture.put(*row, &clustered(fixture.space.dim(), 20, 9, u64::from(*row + step)))
                });
                fixture.change(&gone, &[], &Threads(2));
            }
        }
        if (random >> 8).is_multiple_of(3) {
            let version = fixture.index.version();
            let digest = version.digest();
            held.push((version, digest));
        }
        if held.len() > 3 || (random >> 16).is_multiple_of(4) {
            held.truncate(held.len().saturating_sub(1));
        }
        assert!(held.iter().all(|(version, digest)| version.digest() == *digest), "step {step}");
    }
    fixture.assert_whole();
}

fn versions_keep_what_they_show_while_others_are_rewritten_unseen(kind: Kind) {
    hold_some_versions_of(&mut Fixture::of(kind, Metric::L2, 16));
}

on_every_kind!(
    the_graph_is_the_same_for_any_number_of_threads,
    digests_differ_when_the_graph_differs,
    twenty_turnovers_keep_the_graph_whole_good_and_small,
    nothing_is_trained_anew_before_it_may_be_and_it_is_made_up_for,
    forgetting_and_absorbing_in_one_batch_keeps_the_graph_whole,
    forgetting_a_whole_region_keeps_the_rest_connected,
    an_old_version_answers_the_same_for_ever,
    versions_keep_what_they_show_while_others_are_rewritten_unseen,
    versions_held_through_growth_and_orders_answer_as_before,
    searches_run_beside_commits,
    a_collection_that_becomes_another_one_is_found_as_well,
);

mod lists {
    use super::*;

    #[test]
    fn one_whose_codes_are_not_trained_at_once_is_found_as_well_too() {
        becomes_another(Kind::PQ, 2_500);
    }

    on_lists!(
        the_graph_is_the_same_for_any_number_of_threads,
        digests_differ_when_the_graph_differs,
        twenty_turnovers_keep_the_graph_whole_good_and_small,
        nothing_is_trained_anew_before_it_may_be_and_it_is_made_up_for,
        forgetting_and_absorbing_in_one_batch_keeps_the_graph_whole,
        forgetting_a_whole_region_keeps_the_rest_connected,
        an_old_version_answers_the_same_for_ever,
        versions_keep_what_they_show_while_others_are_rewritten_unseen,
        versions_held_through_growth_and_orders_answer_as_before,
        searches_run_beside_commits,
        a_collection_that_becomes_another_one_is_found_as_well,
    );
}
