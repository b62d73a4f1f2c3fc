//! The index that follows the number of rows.

use super::churn::hold_some_versions_of;
use super::fixture::{Fixture, METRICS, OPTIONS, Threads, clustered};
use crate::codec::{Decoder, Encoder};
use crate::id::{Row, mix};
use crate::index::auto::{Auto, AutoOptions, Grown};
use crate::index::graph::{Coding, GraphOptions};
use crate::index::{Index, Saved};
use crate::metric::Metric;

const DIM: usize = 12;
const BOUND: usize = 900;

fn options(grown: Grown) -> AutoOptions {
    AutoOptions { exact_below: BOUND, grown, reason: "many" }
}

fn both() -> [Grown; 2] {
    let graph =
        GraphOptions { degree: 32, ef_construction: 64, products: false, coding: Coding::Measured, seed: 7 };
    [Grown::Graph(graph), Grown::Hnsw(OPTIONS)]
}

fn fixture(grown: Grown, metric: Metric) -> Fixture {
    Fixture::with(Box::new(Auto::new(options(grown))), metric, DIM)
}

fn rows(range: std::ops::Range<Row>) -> Vec<Row> {
    range.collect()
}

#[test]
fn many_rows_are_put_into_a_graph_and_few_that_are_left_out_of_it() {
    for (grown, kind) in both().into_iter().zip(["graph", "hnsw"]) {
        for metric in METRICS {
            let mut fixture = fixture(grown, metric);
            fixture.fill(0, BOUND as u32 - 1, 1, &Threads(2));
            assert_eq!(fixture.index.kind(), "flat");
            assert!(fixture.index.version().is_exact());
            assert_eq!(fixture.recall(10, 1, None), 1.0);
            let few = fixture.index.reason();
            fixture.fill(BOUND as u32 - 1, 600, 1, &Threads(2));
            assert_eq!(fixture.index.kind(), kind);
            assert_ne!(fixture.index.reason(), few);
            fixture.assert_whole();
            let recall = fixture.recall(10, 80, None);
            assert!(recall >= 0.97, "{metric}: recall {recall}");
            let (full, held) = (fixture.index.bytes(), fixture.index.version());
            // Not yet: the number may go up again.
            fixture.change(&[], &rows(0..1_200), &Threads(2));
            assert_eq!(fixture.index.kind(), kind);
            fixture.change(&[], &rows(1_200..1_300), &Threads(2));
            assert_eq!((fixture.index.kind(), fixture.index.reason()), ("flat", few));
            fixture.assert_whole();
            assert_eq!(fixture.recall(10, 1, None), 1.0);
            let kept = fixture.index.bytes();
            assert!(kept * 10 >= full * 8, "{kept} of {full} bytes, but an older version keeps the graph");
            drop(held);
            assert!(fixture.index.bytes() * 4 < full, "{} of {full} bytes", fixture.index.bytes());
        }
    }
}

// A worker does by itself what does not take long, and answers no search meanwhile.
#[test]
fn what_trains_codes_or_changes_the_index_is_known_to_take_long() {
    let mut fixture = fixture(both()[0], Metric::L2);
    fixture.fill(0, 600, 1, &Threads(2));
    let mut long = 0;
    for from in (600..4_400).step_by(8) {
        let (before, kind) = (fixture.index.version(), fixture.index.kind());
        let takes_long = before.takes_long(8);
        fixture.fill(from, 8, 1, &Threads(2));
        let after = fixture.index.version();
        let codecs = [before.codec(), after.codec()].map(|codec| codec.map(std::ptr::from_ref));
        let is_same = kind == fixture.index.kind() && codecs[0] == codecs[1];
        assert!(is_same || takes_long, "with {from} rows, {kind}");
        long += usize::from(takes_long && kind == "graph");
    }
    assert!((1..10).contains(&long), "{long} of 437 batches");
}

#[test]
fn an_order_puts_rows_out_of_the_graph_sooner() {
    let mut fixture = fixture(both()[0], Metric::L2);
    fixture.fill(0, 1_000, 1, &Threads(2));
    fixture.change(&[], &rows(0..500), &Threads(2));
    fixture.optimize(&Threads(2));
    assert_eq!(fixture.index.kind(), "graph");
    fixture.change(&[], &rows(500..600), &Threads(2));
    assert_eq!(fixture.index.kind(), "graph");
    fixture.optimize(&Threads(2));
    assert_eq!(fixture.index.kind(), "flat");
    fixture.assert_whole();
}

#[test]
fn rows_that_were_dead_when_the_graph_was_made_can_be_let_go() {
    let mut fixture = fixture(both()[0], Metric::L2);
    fixture.fill(0, BOUND as u32 - 50, 1, &Threads(2));
    let new = rows(2_000..2_060);
    new.iter().for_each(|row| fixture.put(*row, &[0.25; DIM]));
    fixture.change_with_dead(&new, &[], &|row| row < 100, &Threads(2));
    assert_eq!(fixture.index.kind(), "graph");
    fixture.assert_whole();
    fixture.change(&[], &rows(0..100), &Threads(2));
    fixture.assert_whole();
}

/// Two balls, many times as far apart as they are wide.
fn ball(row: Row) -> Vec<f32> {
    let far = if row.is_multiple_of(2) { 1e4 } else { -1e4 };
    clustered(DIM, 1, 3, u64::from(row)).into_iter().map(|x| x + far).collect()
}

/// Takes in rows of balls in batches.
fn put_balls(fixture: &mut Fixture, range: std::ops::Range<Row>) {
    put(fixture, range, &ball);
}

/// The same of rows of any kind.
fn put(fixture: &mut Fixture, range: std::ops::Range<Row>, vector: &dyn Fn(Row) -> Vec<f32>) {
    for from in range.clone().step_by(100) {
        let new = rows(from..range.end.min(from + 100));
        new.iter().for_each(|row| fixture.put(*row, &vector(*row)));
        fixture.change(&new, &[], &Threads(2));
    }
}

/// The share of the ten nearest to rows of balls that is found.
fn recall_of_balls(fixture: &Fixture) -> f64 {
    let found = (0..50).map(|row| {
        let exact = fixture.exact(&ball(row), 10, None);
        fixture.search(&ball(row), 10, 64, None).iter().filter(|row| exact.contains(row)).count()
    });
    found.sum::<usize>() as f64 / 500.0
}

#[test]
fn rows_that_codes_cannot_tell_apart_are_put_into_a_graph_that_compares_vectors() {
    let mut fixture = fixture(both()[0], Metric::L2);
    put_balls(&mut fixture, 0..1_500);
    assert_eq!(fixture.index.kind(), "hnsw");
    assert!(fixture.index.reason().contains("too alike for codes"));
    fixture.assert_whole();
    assert!(recall_of_balls(&fixture) >= 0.99);
    // It stays when it is put in order, and is read back as it was.
    fixture.optimize(&Threads(2));
    assert_eq!(fixture.index.kind(), "hnsw");
    let mut out = Encoder::default();
    let held = fixture.index.version().save(&mut out).unwrap();
    let bytes = out.into_bytes();
    let saved = Saved { held: &held, limit: 10_000 };
    let read = Auto::load(options(both()[0]), DIM, &saved, &mut Decoder::new(&bytes)).unwrap();
    assert_eq!((read.kind(), read.reason()), (fixture.index.kind(), fixture.index.reason()));
    assert_eq!(read.version().digest(), fixture.index.version().digest());
    let other = [&[3], &bytes[1..]].concat();
    assert!(Auto::load(options(both()[0]), DIM, &saved, &mut Decoder::new(&other)).is_err());
    // Few of them are searched exactly again.
    fixture.change(&[], &rows(0..1_400), &Threads(2));
    assert_eq!(fixture.index.kind(), "flat");
}

#[test]
fn rows_that_could_not_be_looked_at_yet_are_later_also_by_an_index_that_was_read_back() {
    // Of any one of so many some are in each ball.
    let far = |row: Row| -> Vec<f32> {
        let far = if mix(u64::from(row)).is_multiple_of(2) { 1e4 } else { -1e4 };
        clustered(DIM, 1, 3, u64::from(row)).into_iter().map(|x| x + far).collect()
    };
    let mut fixture = fixture(both()[0], Metric::L2);
    fixture.fill(10_000, 1_000, 1, &Threads(2));
    put(&mut fixture, 0..2_000, &far);
    fixture.change(&[], &rows(10_000..11_000), &Threads(2));
    fixture.renews = false;
    put(&mut fixture, 2_000..4_200, &far);
    assert_eq!(fixture.index.kind(), "graph");
    let mut out = Encoder::default();
    let held = fixture.index.version().save(&mut out).unwrap();
    let bytes = out.into_bytes();
    let saved = Saved { held: &held, limit: 20_000 };
    fixture.index = Box::new(Auto::load(options(both()[0]), DIM, &saved, &mut Decoder::new(&bytes)).unwrap());
    put(&mut fixture, 4_200..4_300, &far);
    assert_eq!(fixture.index.kind(), "graph");
    fixture.renews = true;
    put(&mut fixture, 4_300..4_400, &far);
    assert_eq!(fixture.index.kind(), "hnsw");
    fixture.assert_whole();
}

#[test]
fn codes_are_tried_again_as_rows_become_more_and_when_the_index_is_put_in_order() {
    let mut fixture = fixture(both()[0], Metric::L2);
    fixture.fill(10_000, 1_000, 1, &Threads(2));
    assert_eq!(fixture.index.kind(), "graph");
    // The rows of before are gone when they come to the next power.
    put_balls(&mut fixture, 0..2_000);
    fixture.change(&[], &rows(10_000..11_000), &Threads(2));
    assert_eq!(fixture.index.kind(), "graph");
    put_balls(&mut fixture, 2_000..4_200);
    assert_eq!(fixture.index.kind(), "hnsw");
    assert!(recall_of_balls(&fixture) >= 0.99);
    fixture.assert_whole();
    // And back: other rows take their place.
    fixture.fill(10_000, 1_500, 1, &Threads(2));
    fixture.change(&[], &rows(0..4_200), &Threads(2));
    assert_eq!(fixture.index.kind(), "hnsw");
    fixture.optimize(&Threads(2));
    assert_eq!(fixture.index.kind(), "graph");
    fixture.assert_whole();
    assert!(fixture.recall(10, 80, None) >= 0.97);
}

#[test]
fn a_graph_that_compares_vectors_is_the_same_for_any_number_of_threads() {
    let digest = |threads: usize| {
        let mut fixture = fixture(both()[0], Metric::L2);
        let new = rows(0..1_100);
        new.iter().for_each(|row| fixture.put(*row, &ball(*row)));
        fixture.change(&new, &[], &Threads(threads));
        assert_eq!(fixture.index.kind(), "hnsw");
        fixture.index.version().digest()
    };
    assert_eq!(digest(1), digest(3));
}

#[test]
fn a_few_rows_of_a_length_beyond_all_measure_do_not_make_codes_coarse() {
    for metric in METRICS {
        let mut fixture = fixture(both()[0], metric);
        let far = rows(20_000..20_003);
        far.iter().for_each(|row| fixture.put(*row, &[1e15; DIM]));
        fixture.change(&far, &[], &Threads(2));
        fixture.fill(0, 1_500, 1, &Threads(2));
        fixture.optimize(&Threads(2));
        assert_eq!(fixture.index.kind(), "graph", "{metric}");
        let recall = fixture.recall(10, 80, None);
        assert!(recall >= 0.97, "{metric}: recall {recall}");
    }
}

#[test]
fn the_same_rows_make_the_same_graph_and_it_is_read_back_as_it_was() {
    for grown in both() {
        for count in [0, 500, 1_500] {
            let mut first = fixture(grown, Metric::Cosine);
            first.fill(0, count, 1, &Threads(1));
            let mut second = fixture(grown, Metric::Cosine);
            second.fill(0, count, 1, &Threads(3));
            let digest = first.index.version().digest();
            assert_eq!(second.index.version().digest(), digest);
            let mut out = Encoder::default();
            let held = first.index.version().save(&mut out).unwrap();
            let bytes = out.into_bytes();
            let saved = Saved { held: &held, limit: 10_000 };
            let mut input = Decoder::new(&bytes);
            let read = Auto::load(options(grown), DIM, &saved, &mut input).unwrap();
            input.end().unwrap();
            assert_eq!((read.kind(), read.version().digest()), (first.index.kind(), digest));
            for cut in (0..bytes.len()).step_by(211) {
                let mut input = Decoder::new(&bytes[..cut]);
                let read = Auto::load(options(grown), DIM, &saved, &mut input);
                assert!(read.is_err() || input.end().is_err() || cut == bytes.len());
            }
        }
    }
}

#[test]
fn versions_keep_what_they_show_while_others_are_rewritten_unseen() {
    both().into_iter().for_each(|grown| hold_some_versions_of(&mut fixture(grown, Metric::L2)));
}
