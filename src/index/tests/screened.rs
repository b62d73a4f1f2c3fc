//! Exact searches of graphs, by codes that are made as time allows, against a
//! plain scan: the same rows and the same bits.

use super::fixture::{Fixture, Kind, METRICS, Threads, clustered};
use crate::id::Row;
use crate::index::graph::Coding;
use crate::index::{Ends, IndexVersion, Points, Request, Scratch, Screened, Sequential};
use crate::metric::Metric;
use crate::neighbor::{Neighbor, TopK};

const DIM: usize = 40;

fn fixture(kind: Kind, metric: Metric) -> Fixture {
    Fixture::with(Box::new(Screened::new(kind.index(DIM, metric))), metric, DIM)
}

/// Does a piece of upkeep; false when none is due.
fn keep_up(fixture: &mut Fixture) -> bool {
    let version = fixture.index.version();
    if !version.needs_upkeep(DIM) {
        return false;
    }
    let points = Points { space: &fixture.space, vectors: fixture.matrix.view() };
    let plan = version.upkeep(points, &Threads(2)).unwrap();
    fixture.index.commit(plan);
    true
}

fn bits(found: &[Neighbor]) -> Vec<(u32, Row)> {
    found.iter().map(|near| (near.distance.to_bits(), near.row)).collect()
}

/// The exact search of a version; `None` when it leaves that to a scan.
fn exactly(
    fixture: &Fixture,
    version: &dyn IndexVersion,
    request: &Request<'_>,
) -> Option<(Vec<Neighbor>, u64)> {
    let (mut scratch, mut found) = (Scratch::default(), TopK::default());
    found.reset(request.k);
    let points = Points { space: &fixture.space, vectors: fixture.matrix.view() };
    let effort = version.search_exact(points, request, &mut scratch, &mut found)?;
    Some((found.sorted().to_vec(), effort.distances))
}

/// Compares answers with those of a scan; gives the distances computed a search.
fn assert_exact(fixture: &Fixture, what: &str) -> f64 {
    let version = fixture.index.version();
    let some = |row: Row| !row.is_multiple_of(3);
    let (mut distances, mut searches) = (0, 0u32);
    for at in 0..6u64 {
        let query = fixture.prepared(&clustered(DIM, 20, 9, at));
        for k in [1, 10, 60] {
            for admit in [None, Some(&some as &dyn Fn(Row) -> bool)] {
                let request = Request {
                    query: &query,
                    k,
                    ef: 0,
                    bound: f32::INFINITY,
                    admit,
                    filter: None,
                    shards: 1,
                    ends: Ends::default(),
                };
                let mut top = TopK::default();
                top.reset(k);
                for row in fixture.held.iter().filter(|row| admit.is_none_or(|admit| admit(**row))) {
                    let distance = fixture.space.distance(&query, fixture.matrix.view(), *row);
                    top.offer(Neighbor { distance, row: *row });
                }
                let Some((found, computed)) = exactly(fixture, &*version, &request) else {
                    assert!(k > 10, "{what}: only many of few coded rows are left to a scan");
                    continue;
                };
                assert_eq!(bits(&found), bits(top.sorted()), "{what}, k = {k}");
                (distances, searches) = (distances + computed, searches + 1);
            }
        }
    }
    distances as f64 / f64::from(searches)
}

/// Rows of which many tie: each vector stands in three places.
fn put_ties(fixture: &mut Fixture, rows: &[Row], seed: u64) {
    for row in rows {
        fixture.put(*row, &clustered(DIM, 20, seed, u64::from(*row / 3)));
    }
    fixture.change(rows, &[], &Threads(2));
}

#[test]
fn exact_answers_of_a_graph_are_those_of_a_scan_while_codes_come_and_rows_go() {
    for kind in [Kind::Hnsw, Kind::Graph(Coding::Measured), Kind::IVF] {
        for metric in METRICS {
            let what = format!("{kind:?} {metric}");
            let mut fixture = fixture(kind, metric);
            put_ties(&mut fixture, &(0..3_000).collect::<Vec<Row>>(), 1);
            fixture.index.want_exact();
            let mut pieces = 0;
            while keep_up(&mut fixture) {
                pieces += 1;
                // Rows come and go between the pieces.
                let first = 3_000 + 70 * pieces;
                put_ties(&mut fixture, &(first..first + 70).collect::<Vec<Row>>(), 2);
                let forget: Vec<Row> = fixture.held.iter().copied().skip(5).step_by(40).collect();
                fixture.change(&[], &forget, &Sequential);
                assert_exact(&fixture, &what);
            }
            assert!(pieces >= 3, "{pieces}");
            let gone: Vec<Row> = (0..3_000).filter(|row| !fixture.held.contains(row)).collect();
            put_ties(&mut fixture, &gone, 3);
            fixture.assert_whole();
            let measured = assert_exact(&fixture, &what);
            let most = if metric == Metric::Dot { 0.5 } else { 0.25 };
            assert!(measured < fixture.held.len() as f64 * most, "{what}: {measured}");
        }
    }
}

#[test]
fn there_are_no_codes_before_they_are_wanted_and_none_for_few_rows() {
    let mut fixture = fixture(Kind::Hnsw, Metric::L2);
    fixture.fill(0, 2_500, 1, &Threads(2));
    let query = fixture.prepared(&clustered(DIM, 20, 9, 1));
    let request = Request {
        query: &query,
        k: 5,
        ef: 0,
        bound: f32::INFINITY,
        admit: None,
        filter: None,
        shards: 1,
        ends: Ends::default(),
    };
    assert!(!keep_up(&mut fixture));
    assert!(exactly(&fixture, &*fixture.index.version(), &request).is_none());
    let lean = fixture.index.bytes();
    assert!(fixture.index.want_exact() && !fixture.index.want_exact());
    while keep_up(&mut fixture) {}
    assert!(exactly(&fixture, &*fixture.index.version(), &request).is_some());
    assert!(fixture.index.bytes() > lean + 2_500 * (DIM + 16), "codes are counted");
    let all: Vec<Row> = fixture.held.iter().copied().skip(100).collect();
    fixture.change(&[], &all, &Threads(2));
    assert!(!keep_up(&mut fixture));
    assert!(exactly(&fixture, &*fixture.index.version(), &request).is_none());
    assert!(fixture.index.bytes() < lean + 100_000, "{} bytes, {lean} before codes", fixture.index.bytes());
}

#[test]
fn an_older_version_stays_exact_while_its_rows_are_replaced() {
    let mut fixture = fixture(Kind::Hnsw, Metric::L2);
    fixture.fill(0, 2_500, 1, &Threads(2));
    fixture.index.want_exact();
    while keep_up(&mut fixture) {}
    let query = fixture.prepared(&clustered(DIM, 20, 9, 1));
    let request = Request {
        query: &query,
        k: 20,
        ef: 0,
        bound: f32::INFINITY,
        admit: None,
        filter: None,
        shards: 1,
        ends: Ends::default(),
    };
    let (old, vectors) = (fixture.index.version(), fixture.matrix.view().clone());
    let before = exactly(&fixture, &*old, &request).unwrap().0;
    let rows: Vec<Row> = before.iter().map(|near| near.row).collect();
    fixture.change(&[], &rows, &Sequential);
    put_ties(&mut fixture, &rows, 4);
    assert_exact(&fixture, "after rows were replaced");
    let (mut scratch, mut found) = (Scratch::default(), TopK::default());
    found.reset(20);
    let points = Points { space: &fixture.space, vectors: &vectors };
    old.search_exact(points, &request, &mut scratch, &mut found).unwrap();
    assert_eq!(bits(found.sorted()), bits(&before));
}

#[test]
fn codes_are_trained_again_when_rows_have_grown_fourfold() {
    let mut fixture = fixture(Kind::Hnsw, Metric::Cosine);
    fixture.fill(0, 2_100, 1, &Threads(2));
    fixture.index.want_exact();
    while keep_up(&mut fixture) {}
    fixture.fill(2_100, 6_400, 1, &Threads(2));
    assert!(keep_up(&mut fixture), "8,500 rows are more than four times 2,100");
    assert_exact(&fixture, "with new codes for some rows");
    while keep_up(&mut fixture) {}
    assert_exact(&fixture, "with new codes");
}
