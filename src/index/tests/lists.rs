//! What lists promise beyond what every index does.

use super::fixture::{Fixture, Kind, METRICS, Threads, clustered, on_lists};
use crate::bits::RowSet;
use crate::codec::{Decoder, Encoder};
use crate::id::Row;
use crate::index::ivf::{Ivf, IvfOptions};
use crate::index::{Ends, Index, Request, Saved};
use crate::metric::Metric;

const DIM: usize = 12;

fn options(kind: Kind) -> IvfOptions {
    let Kind::Lists(kind) = kind else { panic!("not lists") };
    kind.options(DIM)
}

fn load(kind: Kind, held: &RowSet, bytes: &[u8]) -> Option<Ivf> {
    let saved = Saved { held, limit: 10_000 };
    let mut input = Decoder::new(bytes);
    let ivf = Ivf::load(options(kind), DIM, &saved, &mut input).ok()?;
    input.end().ok().map(|()| ivf)
}

fn lists_are_read_back_as_they_were_and_go_on_alike(kind: Kind) {
    for metric in METRICS {
        for rows in [0, 500, 2_000] {
            let mut fixture = Fixture::of(kind, metric, DIM);
            fixture.fill(0, rows, 1, &Threads(2));
            let gone: Vec<Row> = (0..rows).step_by(7).collect();
            fixture.change(&[], &gone, &Threads(2));
            let mut out = Encoder::default();
            let held = fixture.index.version().save(&mut out).unwrap();
            let bytes = out.into_bytes();
            let read = load(kind, &held, &bytes).unwrap();
            assert_eq!(read.version().digest(), fixture.index.version().digest());
            let mut other = Fixture::with(Box::new(read), metric, DIM);
            (other.matrix, other.held) = (fixture.matrix, fixture.held.clone());
            other.assert_whole();
            other.fill(rows, 300, 5, &Threads(1));
            let mut again = Fixture::with(Box::new(load(kind, &held, &bytes).unwrap()), metric, DIM);
            again.held.clone_from(&fixture.held);
            again.matrix = other.matrix;
            again.fill(rows, 300, 5, &Threads(2));
            again.assert_whole();
            assert_eq!(again.index.version().digest(), other.index.version().digest());
        }
    }
}

fn damaged_lists_are_refused(kind: Kind) {
    let mut fixture = Fixture::of(kind, Metric::L2, DIM);
    fixture.fill(0, 1_100, 1, &Threads(2));
    let mut out = Encoder::default();
    let held = fixture.index.version().save(&mut out).unwrap();
    let bytes = out.into_bytes();
    assert!(load(kind, &held, &bytes).is_some());
    for cut in (0..bytes.len()).step_by(101) {
        assert!(load(kind, &held, &bytes[..cut]).is_none(), "{cut} bytes");
    }
    let mut fewer = held.clone();
    fewer.remove(77);
    assert!(load(kind, &fewer, &bytes).is_none(), "a list names a row that is not held");
    let mut more = held.clone();
    more.insert(5_000);
    assert!(load(kind, &more, &bytes).is_none(), "a row is in no list");
    // Any byte may be wrong: never a panic, and what is read is whole.
    for at in (0..bytes.len()).step_by(37) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x41;
        if let Some(read) = load(kind, &held, &damaged) {
            assert!(read.version().audit(&mut held.iter()).is_empty(), "byte {at}");
        }
    }
}

fn rows_are_put_into_lists_once_there_are_enough_and_out_again_when_few_are_left(kind: Kind) {
    let mut fixture = Fixture::of(kind, Metric::L2, DIM);
    let query = fixture.prepared(&clustered(DIM, 20, 9, 9));
    let request = Request {
        query: &query,
        k: 5,
        ef: 3,
        bound: f32::INFINITY,
        admit: None,
        filter: None,
        shards: 1,
        ends: Ends::default(),
    };
    let hops = |fixture: &Fixture| fixture.search_in(&*fixture.index.version(), &request).1.hops;
    let lists = if options(kind).nlist == Some(1) { 1 } else { 3 };
    fixture.fill(0, 1_000, 1, &Threads(2));
    assert_eq!(hops(&fixture), 0);
    fixture.fill(1_000, 100, 1, &Threads(2));
    assert_eq!(hops(&fixture), lists);
    let gone: Vec<Row> = (0..900).collect();
    fixture.change(&[], &gone, &Threads(2));
    fixture.assert_whole();
    assert_eq!(hops(&fixture), 0);
}

/// The first byte of what was saved: 2 while lists are made anew.
fn stage(bytes: &[u8]) -> u8 {
    bytes[0]
}

/// Does one batch with the index of a fixture and with what was saved of it.
fn change_both(fixture: &mut Fixture, saved: Ivf, absorb: &[Row], forget: &[Row]) {
    let before = (fixture.held.clone(), fixture.next_ordinal);
    let index = std::mem::replace(&mut fixture.index, Box::new(saved));
    fixture.change(absorb, forget, &Threads(1));
    fixture.assert_whole();
    let read = fixture.index.version().digest();
    fixture.index = index;
    (fixture.held, fixture.next_ordinal) = before;
    fixture.change(absorb, forget, &Threads(2));
    fixture.assert_whole();
    assert_eq!(fixture.index.version().digest(), read);
}

fn lists_are_made_anew_a_part_with_each_batch_and_files_can_be_written_in_between(kind: Kind) {
    let (mut fixture, first) = before_made_anew(kind);
    let (mut parts, mut damaged) = (0, 0);
    for batch in 0..80 {
        let absorb: Vec<Row> = (first + batch * 60..).take(60).collect();
        absorb.iter().for_each(|row| fixture.put(*row, &clustered(DIM, 20, 1, u64::from(*row))));
        // Some that went over to the new lists, and some that did not.
        let forget: Vec<Row> = [batch * 10, 2_090 - batch * 10].to_vec();
        let mut out = Encoder::default();
        let held = fixture.index.version().save(&mut out).unwrap();
        let bytes = out.into_bytes();
        let saved = load(kind, &held, &bytes).unwrap();
        assert_eq!(saved.version().digest(), fixture.index.version().digest());
        change_both(&mut fixture, saved, &absorb, &forget);
        if stage(&bytes) == 2 {
            parts += 1;
            // Any byte may be wrong: never a panic, and what is read is whole.
            for at in (parts * 7..bytes.len()).step_by(bytes.len() / 20) {
                let mut wrong = bytes.clone();
                wrong[at] ^= 0x41;
                match load(kind, &held, &wrong) {
                    Some(read) => {
                        assert!(read.version().audit(&mut held.iter()).is_empty(), "byte {at}");
                    }
                    None => damaged += 1,
                }
                assert!(load(kind, &held, &bytes[..at]).is_none(), "{at} bytes");
            }
        } else if parts > 0 {
            assert_eq!(stage(&bytes), 1, "they have taken over");
        }
    }
    assert!((2..75).contains(&parts), "{parts} batches");
    assert!(damaged > 0);
}

/// One whose lists are about to be made anew, and how many rows it has.
fn before_made_anew(kind: Kind) -> (Fixture, Row) {
    let mut fixture = Fixture::of(kind, Metric::L2, DIM);
    let mut rows = 2_100;
    fixture.fill(0, rows, 1, &Threads(2));
    while stage(&saved(&fixture)) != 2 {
        assert!(rows < 9_000, "{rows} rows");
        fixture.fill(rows, 60, 1, &Threads(2));
        rows += 60;
    }
    (fixture, rows)
}

/// Some, at several moments from when that began to when it is nearly over.
fn while_made_anew(kind: Kind) -> Vec<(Fixture, Row)> {
    let (mut fixture, first) = before_made_anew(kind);
    let mut rows = first;
    while stage(&saved(&fixture)) == 2 {
        fixture.fill(rows, 20, 1, &Threads(2));
        rows += 20;
    }
    let batches = (rows - first) / 20;
    assert!(batches >= 4, "{batches} batches");
    let at = |part: u32| {
        let (mut fixture, mut rows) = before_made_anew(kind);
        for _ in 0..(batches - 1) * part / 3 {
            fixture.fill(rows, 20, 1, &Threads(2));
            rows += 20;
        }
        assert_eq!(stage(&saved(&fixture)), 2);
        (fixture, rows)
    };
    (0..4).map(at).collect()
}

fn saved(fixture: &Fixture) -> Vec<u8> {
    let mut out = Encoder::default();
    fixture.index.version().save(&mut out).unwrap();
    out.into_bytes()
}

fn rows_that_took_the_places_of_others_while_lists_were_made_anew_are_found(kind: Kind) {
    let (mut fixture, mut next) = before_made_anew(kind);
    let (mut replaced, mut waiting) = (Vec::new(), Vec::new());
    for batch in 0..100 {
        if stage(&saved(&fixture)) == 1 {
            break;
        }
        let mut absorb = std::mem::take(&mut waiting);
        for row in &absorb {
            fixture.put(*row, &clustered(DIM, 20, 7, u64::from(*row)));
        }
        (next..next + 10).for_each(|row| fixture.put(row, &clustered(DIM, 20, 1, u64::from(row))));
        replaced.extend(absorb.iter().copied());
        absorb.extend(next..next + 10);
        next += 10;
        // In all of the numbers: some went over before, and some did not.
        waiting = (batch..2_000).step_by(100).collect();
        fixture.change(&absorb, &waiting, &Threads(2));
        fixture.assert_whole();
    }
    assert_eq!(stage(&saved(&fixture)), 1);
    assert!(replaced.len() >= 60);
    let is_found = |row: &&Row| {
        let query = clustered(DIM, 20, 7, u64::from(**row));
        fixture.search(&query, 10, 4, None).contains(*row)
    };
    let there = replaced.iter().filter(|row| !waiting.contains(*row));
    let (found, all) = (there.clone().filter(is_found).count(), there.count());
    assert!(found * 50 >= all * 49, "{found} of {all}");
}

fn what_is_put_in_order_while_lists_are_made_anew_is_as_if_it_was_new(kind: Kind) {
    for (mut fixture, count) in while_made_anew(kind) {
        fixture.optimize(&Threads(2));
        fixture.assert_whole();
        assert_eq!(stage(&saved(&fixture)), 1);
        let digest = fixture.index.version().digest();
        let mut new = Fixture::of(kind, Metric::L2, DIM);
        new.matrix = fixture.matrix;
        let rows: Vec<Row> = (0..count).collect();
        new.change(&rows, &[], &Threads(1));
        assert_eq!(new.index.version().digest(), digest);
    }
}

fn an_index_that_is_emptied_while_lists_are_made_anew_begins_again(kind: Kind) {
    for (mut fixture, count) in while_made_anew(kind) {
        let all: Vec<Row> = (0..count).collect();
        fixture.change(&[], &all, &Threads(2));
        fixture.assert_whole();
        assert_eq!(stage(&saved(&fixture)), 0);
        fixture.fill(0, 1_200, 2, &Threads(2));
        fixture.assert_whole();
        let mut new = Fixture::of(kind, Metric::L2, DIM);
        new.fill(0, 1_200, 2, &Threads(2));
        assert_eq!(saved(&fixture), saved(&new));
    }
}

fn lists_keep_up_with_rows_that_come_in_bulk(kind: Kind) {
    let (mut fixture, count) = before_made_anew(kind);
    let mut batches = 0;
    while stage(&saved(&fixture)) == 2 {
        let first = count + batches * 1_024;
        let rows: Vec<Row> = (first..first + 1_024).collect();
        rows.iter().for_each(|row| fixture.put(*row, &clustered(DIM, 20, 1, u64::from(*row))));
        fixture.change(&rows, &[], &Threads(2));
        batches += 1;
        assert!(batches <= 12, "{batches} batches");
    }
    fixture.assert_whole();
    // As if all was trained when that began: what came meanwhile came since.
    let bytes = saved(&fixture);
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!([number(1), number(9)], [count, batches * 1_024].map(u64::from));
}

on_lists!(
    rows_that_took_the_places_of_others_while_lists_were_made_anew_are_found,
    what_is_put_in_order_while_lists_are_made_anew_is_as_if_it_was_new,
    an_index_that_is_emptied_while_lists_are_made_anew_begins_again,
    lists_keep_up_with_rows_that_come_in_bulk,
    lists_are_made_anew_a_part_with_each_batch_and_files_can_be_written_in_between,
    lists_are_read_back_as_they_were_and_go_on_alike,
    damaged_lists_are_refused,
    rows_are_put_into_lists_once_there_are_enough_and_out_again_when_few_are_left,
);

#[test]
fn lists_that_go_on_from_their_centres_are_as_good_as_those_of_all_rows_at_once() {
    // They have a number of lists.
    let kind = Kind::IVF_PQ_PLAIN;
    let mut fixture = Fixture::of(kind, Metric::L2, DIM);
    fixture.fill(0, 4_000, 1, &Threads(2));
    let trained_on = |fixture: &Fixture| u64::from_le_bytes(saved(fixture)[1..9].try_into().unwrap());
    assert!(trained_on(&fixture) < 1_100, "the lists are those of the first rows");
    let (digest, before) = (fixture.index.version().digest(), fixture.recall(10, 2, None));
    fixture.optimize(&Threads(2));
    fixture.assert_whole();
    assert_eq!(trained_on(&fixture), 4_000);
    assert_ne!(fixture.index.version().digest(), digest, "centres have moved");
    let after = fixture.recall(10, 2, None);
    let mut new = Fixture::of(kind, Metric::L2, DIM);
    new.matrix = fixture.matrix;
    new.change(&(0..4_000).collect::<Vec<Row>>(), &[], &Threads(2));
    let at_once = new.recall(10, 2, None);
    assert!(after >= before.max(at_once) - 0.01, "{before} before, {after} after, {at_once} at once");
}

/// Whether lists are made anew while rows come to more than four times as many, all of one kind.
fn growth_makes_anew(dim: usize) -> bool {
    let mut fixture = Fixture::of(Kind::IVF_PQ_PLAIN, Metric::L2, dim);
    (0..8_700).step_by(300).any(|first| {
        let count = if first == 0 { 2_100 } else { 300 };
        let rows: Vec<Row> = (0..).filter(|row| !fixture.held.contains(row)).take(count).collect();
        rows.iter().for_each(|row| fixture.put(*row, &clustered(dim, 20, 1, u64::from(*row))));
        fixture.change(&rows, &[], &Threads(2));
        stage(&saved(&fixture)) == 2
    })
}

#[test]
fn growth_alone_does_not_make_lists_anew_that_long_vectors_were_enough_for() {
    // Of the last ones centres are found by codes.
    assert!(growth_makes_anew(DIM) && !growth_makes_anew(130) && !growth_makes_anew(520));
}

/// Rows of another kind: as those that were trained on, but far from them.
fn drift(fixture: &mut Fixture, from: Row, count: Row) {
    let far = |row: Row| clustered(DIM, 20, 3, u64::from(row)).iter().map(|x| x + 6.0).collect::<Vec<f32>>();
    for first in (from..from + count).step_by(100) {
        let rows: Vec<Row> = (first..first + 100).collect();
        rows.iter().for_each(|row| fixture.put(*row, &far(*row)));
        fixture.change(&rows, &[], &Threads(2));
    }
}

#[test]
fn rows_that_drift_away_get_lists_of_their_own_before_there_are_four_times_as_many() {
    let mut fixture = Fixture::of(Kind::IVF, Metric::L2, DIM);
    fixture.fill(0, 4_200, 1, &Threads(2));
    let work = |fixture: &Fixture| {
        let query: Vec<f32> = clustered(DIM, 20, 3, 9_999_999).iter().map(|x| x + 6.0).collect();
        let query = fixture.prepared(&query);
        let request = Request {
            query: &query,
            k: 10,
            ef: 8,
            bound: f32::INFINITY,
            admit: None,
            filter: None,
            shards: 1,
            ends: Ends::default(),
        };
        fixture.search_in(&*fixture.index.version(), &request).1.distances
    };
    drift(&mut fixture, 4_200, 900);
    assert!(work(&fixture) >= 900, "all of them are in the lists that lie nearest: {}", work(&fixture));
    // Lists were being made anew as they began to come, and are once more.
    drift(&mut fixture, 5_100, 3_600);
    // Not half of them, whatever the rounding of the instruction set makes of the centres.
    assert!(work(&fixture) < 1_500, "{} distances", work(&fixture));
    fixture.assert_whole();
}
