//! Graphs whose codes are all read. (In tests those of up to 40 KiB.)

use std::time::Duration;

use super::fixture::{Fixture, Kind, METRICS, Threads, clustered, unlimited};
use crate::codec::{Decoder, Encoder};
use crate::id::Row;
use crate::index::{Coding, Ends, GraphOptions, Index, QuantizedGraph, Request, RowFilter, Saved};
use crate::metric::Metric;
use crate::stop::{Stop, Terms};

const DIM: usize = 16;
const FEW: u32 = 800;

const KINDS: [Kind; 3] = [Kind::GRAPHS[0], Kind::SEVEN, Kind::FOUR];

fn reads_all(fixture: &Fixture) -> bool {
    let query = fixture.prepared(&clustered(DIM, 20, 1, 3));
    fixture.search_in(&*fixture.index.version(), &unlimited(&query, 10, 40)).1.hops == 0
}

#[test]
fn few_rows_are_all_looked_at_and_hardly_any_near_one_is_missed() {
    for kind in KINDS {
        for metric in METRICS {
            let mut fixture = Fixture::of(kind, metric, DIM);
            fixture.fill(0, FEW, 1, &Threads(2));
            assert!(reads_all(&fixture), "{kind:?} {metric}");
            for (k, ef) in [(1, 10), (10, 10), (10, 40), (100, 100), (300, 300)] {
                let recall = fixture.recall(k, ef, None);
                assert!(recall >= 0.98 - kind.tolerance(), "{kind:?} {metric} {k} of {ef}: {recall}");
            }
        }
    }
}

#[test]
fn a_graph_that_grows_is_walked_through_and_one_that_shrinks_is_read_again() {
    let mut fixture = Fixture::of(Kind::FOUR, Metric::Dot, DIM);
    fixture.fill(0, FEW, 1, &Threads(2));
    assert!(reads_all(&fixture));
    fixture.fill(FEW, 4_000, 1, &Threads(2));
    assert!(!reads_all(&fixture));
    fixture.assert_whole();
    let most: Vec<Row> = (0..FEW + 4_000).filter(|row| *row >= 1_200 || row % 2 == 1).collect();
    for part in most.chunks(700) {
        fixture.change(&[], part, &Threads(2));
        fixture.assert_whole();
    }
    assert!(reads_all(&fixture) && fixture.recall(10, 20, None) >= 0.95);
    // The same numbers for other vectors, again and again.
    for turn in 0..12 {
        let rows: Vec<Row> = fixture.held.iter().copied().filter(|row| row % 12 == turn).collect();
        fixture.change(&[], &rows, &Threads(2));
        rows.iter().for_each(|row| fixture.put(*row, &clustered(DIM, 20, 2, u64::from(*row))));
        fixture.change(&rows, &[], &Threads(2));
        fixture.assert_whole();
    }
    assert!(reads_all(&fixture) && fixture.recall(10, 20, None) >= 0.95);
    fixture.optimize(&Threads(2));
    fixture.assert_whole();
    assert!(reads_all(&fixture) && fixture.recall(10, 20, None) >= 0.95);
}

// Their copies would keep a place for each node that there ever was.
#[test]
fn the_last_of_many_rows_are_walked_through_until_they_are_put_in_order() {
    let mut fixture = Fixture::of(Kind::SEVEN, Metric::L2, DIM);
    fixture.fill(0, 5_000, 1, &Threads(2));
    fixture.change(&[], &(0..4_500).collect::<Vec<Row>>(), &Threads(2));
    assert!(!reads_all(&fixture));
    fixture.assert_whole();
    fixture.optimize(&Threads(2));
    assert!(reads_all(&fixture) && fixture.recall(10, 20, None) >= 0.98);
    fixture.fill(0, 300, 1, &Threads(2));
    fixture.assert_whole();
    assert!(reads_all(&fixture));
}

#[test]
fn a_version_that_is_held_shows_what_it_showed() {
    let mut fixture = Fixture::of(Kind::SEVEN, Metric::L2, DIM);
    fixture.fill(0, FEW, 1, &Threads(2));
    let (before, query) = (fixture.index.version(), fixture.prepared(&clustered(DIM, 20, 1, 3)));
    let (found, _) = fixture.search_in(&*before, &unlimited(&query, 10, 40));
    let gone: Vec<Row> = found.iter().map(|near| near.row).collect();
    fixture.change(&[], &gone, &Threads(2));
    fixture.fill(FEW, 100, 3, &Threads(2));
    assert_eq!(fixture.search_in(&*before, &unlimited(&query, 10, 40)).0, found);
    let (now, _) = fixture.search_in(&*fixture.index.version(), &unlimited(&query, 10, 40));
    assert!(now.len() == 10 && now.iter().all(|near| !gone.contains(&near.row)));
}

#[test]
fn rows_that_died_lately_are_left_out() {
    let mut fixture = Fixture::of(Kind::GRAPHS[0], Metric::L2, DIM);
    fixture.fill(0, FEW, 1, &Threads(2));
    let query = clustered(DIM, 20, 1, 3);
    let nearest = fixture.exact(&query, FEW as usize, None);
    for dead in [&nearest[..2], &nearest[..400]] {
        let admit = |row: Row| !dead.contains(&row);
        let found = fixture.search(&query, 10, 20, Some(&admit));
        assert_eq!(found, fixture.exact(&query, 10, Some(&admit)));
    }
}

#[test]
fn a_filter_a_reach_other_shards_and_little_work_lead_to_walks() {
    let mut fixture = Fixture::of(Kind::GRAPHS[0], Metric::L2, DIM);
    fixture.fill(0, FEW, 1, &Threads(2));
    let version = fixture.index.version();
    let hops = |request: Request<'_>| fixture.search_in(&*version, &request).1.hops;
    let query = fixture.prepared(&clustered(DIM, 20, 1, 3));
    let open = || unlimited(&query, 10, 40);
    assert_eq!(hops(open()), 0);
    let words = vec![u64::MAX; FEW as usize / 64 + 1];
    let filter = RowFilter { words: &words, share: 1.0, is_all: true };
    assert!(hops(Request { admit: Some(&|_| true), filter: Some(filter), ..open() }) > 0);
    assert!(hops(Request { ends: Ends { reach: Some(1.0), ..Ends::default() }, ..open() }) > 0);
    assert!(hops(Request { shards: 100, ..open() }) > 0);
    // What is re-ranked counts, too.
    let all = u64::from(FEW) + 40;
    for (budget, is_walked) in [(all - 1, true), (all, false)] {
        let (now, cancelled) = (|| Duration::ZERO, || false);
        let stop = Stop::new(Terms { now: &now, deadline: None, budget, cancelled: &cancelled }, DIM);
        let ends = Ends { stop: Some(&stop), reach: None };
        assert_eq!(hops(Request { ends, ..open() }) > 0, is_walked, "{budget}");
    }
}

// Codes of 4 bits of 232 numbers take longer than a short walk.
#[test]
fn a_short_walk_is_taken_where_it_is_less_work() {
    let mut fixture = Fixture::of(Kind::FOUR_TWICE, Metric::Cosine, 232);
    fixture.fill(0, 250, 1, &Threads(2));
    let version = fixture.index.version();
    let query = fixture.prepared(&clustered(232, 20, 1, 3));
    let hops = |ef| fixture.search_in(&*version, &unlimited(&query, 1, ef)).1.hops;
    assert!(hops(1) > 0 && hops(100) == 0);
}

/// Answers and hops of some searches.
fn seen(fixture: &Fixture, index: &dyn Index) -> Vec<(Vec<Row>, u64)> {
    let version = index.version();
    let mut all = Vec::new();
    for ef in [1, 5, 10, 20, 40, 100] {
        for at in 0..20 {
            let query = fixture.prepared(&clustered(DIM, 20, 4_242, 1_000_000 + at));
            let (found, effort) = fixture.search_in(&*version, &unlimited(&query, 10, ef));
            all.push((found.iter().map(|near| near.row).collect(), effort.hops));
        }
    }
    all
}

#[test]
fn a_graph_that_is_read_back_reads_and_walks_as_before() {
    for metric in METRICS {
        let products = metric == Metric::Dot;
        let options =
            GraphOptions { degree: 32, ef_construction: 64, products, coding: Coding::Measured, seed: 7 };
        let mut fixture = Fixture::with(Box::new(QuantizedGraph::new(options)), metric, DIM);
        fixture.fill(0, 1_500, 1, &Threads(2));
        for turn in 0..9 {
            let gone: Vec<Row> = fixture.held.iter().copied().filter(|row| row % 9 == turn).collect();
            fixture.change(&[], &gone, &Threads(2));
            // Fewer come than go.
            fixture.fill(2_000 + 200 * turn, 80, u64::from(turn), &Threads(2));
            let mut out = Encoder::default();
            let held = fixture.index.version().save(&mut out).unwrap();
            let bytes = out.into_bytes();
            let saved = Saved { held: &held, limit: 10_000 };
            let read = QuantizedGraph::load(options, DIM, &saved, &mut Decoder::new(&bytes)).unwrap();
            assert_eq!(seen(&fixture, &read), seen(&fixture, &*fixture.index), "{metric}, turn {turn}");
        }
    }
}

#[test]
fn copies_that_older_versions_keep_are_counted() {
    let mut fixture = Fixture::of(Kind::SEVEN, Metric::L2, DIM);
    fixture.fill(0, FEW, 1, &Threads(2));
    fixture.optimize(&Threads(2));
    let before = fixture.index.version();
    // One row of each chunk.
    let rows: Vec<Row> = (0..FEW).step_by(50).collect();
    fixture.change(&[], &rows, &Threads(2));
    fixture.change(&rows, &[], &Threads(2));
    let held = fixture.index.bytes();
    drop(before);
    // Seven words of each of four chunks of 256 rows; nothing else is let go of before the next version.
    assert_eq!((held - fixture.index.bytes()) / (7 * 256 * 4), 4);
}
