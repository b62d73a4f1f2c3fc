//! The exact index against a plain scan: the same rows and the same bits.

use super::fixture::{Fixture, Threads, clustered};
use crate::id::{Row, mix};
use crate::index::{Ends, Request, Sequential};
use crate::memory::Lined;
use crate::metric::Metric;
use crate::neighbor::{Neighbor, TopK};

const METRICS: [Metric; 3] = [Metric::L2, Metric::Cosine, Metric::Dot];

/// What a scan of every held row gives.
fn scanned(fixture: &Fixture, request: &Request<'_>) -> Vec<(u32, Row)> {
    let mut top = TopK::default();
    top.reset(request.k);
    for row in &fixture.held {
        if request.admit.is_none_or(|admit| admit(*row)) {
            let distance = fixture.space.distance(request.query, fixture.matrix.view(), *row);
            top.offer(Neighbor { distance, row: *row });
        }
    }
    bits(top.sorted())
}

fn bits(found: &[Neighbor]) -> Vec<(u32, Row)> {
    found.iter().map(|near| (near.distance.to_bits(), near.row)).collect()
}

/// Compares answers to some queries; gives the share of rows that were measured.
fn assert_same(fixture: &Fixture, queries: &[Vec<f32>], what: &str) -> f64 {
    let version = fixture.index.version();
    let (some, few) = (|row: Row| !row.is_multiple_of(3), |row: Row| row % 100 == 7);
    let (mut measured, mut asked) = (0, 0);
    for query in queries {
        let Ok(scale) = fixture.space.check(query) else { continue };
        let mut prepared = Lined::default();
        fixture.space.prepare(query, scale, &mut prepared);
        for k in [1, 10, 100, fixture.held.len()] {
            for admit in [None, Some(&some as &dyn Fn(Row) -> bool), Some(&few)] {
                let request = Request {
                    query: &prepared,
                    k,
                    ef: 0,
                    bound: f32::INFINITY,
                    admit,
                    filter: None,
                    shards: 1,
                    ends: Ends::default(),
                };
                let (found, effort) = fixture.search_in(&*version, &request);
                assert_eq!(bits(&found), scanned(fixture, &request), "{what}, k = {k}");
                if k == 10 && admit.is_none() {
                    (measured, asked) = (measured + effort.distances, asked + fixture.held.len());
                }
            }
        }
    }
    measured as f64 / asked.max(1) as f64
}

fn take_in(fixture: &mut Fixture, rows: &[Vec<f32>]) {
    let usable: Vec<&Vec<f32>> = rows.iter().filter(|row| fixture.space.check(row).is_ok()).collect();
    let first = fixture.held.len() as Row;
    let numbers: Vec<Row> = (first..).take(usable.len()).collect();
    numbers.iter().zip(usable).for_each(|(row, vector)| fixture.put(*row, vector));
    fixture.change(&numbers, &[], &Threads(2));
}

/// Clustered, at random, in few different places (so that many tie), and zeros.
fn mixed(count: u64, dim: usize, magnitude: f32) -> Vec<Vec<f32>> {
    let unit = |key: u64| (mix(key) >> 40) as f32 / (1 << 24) as f32 - 0.5;
    let row = |at: u64| -> Vec<f32> {
        match at % 8 {
            0..=2 => clustered(dim, 20, 5, at),
            3 | 4 => (0..dim as u64).map(|axis| unit(mix(at) ^ axis)).collect(),
            5 | 6 => (0..dim as u64).map(|axis| (mix(mix(at % 9) ^ axis) % 3) as f32).collect(),
            _ if at % 16 == 7 => vec![0.0; dim],
            _ => clustered(dim, 20, 5, at - 7),
        }
    };
    let scaled = |at| row(at).iter().map(|x| x * magnitude).collect();
    (0..count).map(scaled).collect()
}

#[test]
fn answers_are_those_of_a_scan_bit_for_bit() {
    for metric in METRICS {
        for dim in [1, 2, 3, 50, 64, 100, 784] {
            let rows = mixed(2_500, dim, 1.0);
            let mut fixture = Fixture::flat(metric, dim);
            take_in(&mut fixture, &rows);
            let queries: Vec<Vec<f32>> = rows.iter().step_by(901).cloned().chain([vec![0.3; dim]]).collect();
            assert_same(&fixture, &queries, &format!("{metric} {dim}"));
        }
    }
}

#[test]
fn magnitudes_do_not_matter() {
    for metric in METRICS {
        for magnitude in [1e-20, 1e-8, 1e15] {
            let mut fixture = Fixture::flat(metric, 50);
            take_in(&mut fixture, &mixed(2_100, 50, magnitude));
            // Some of all other magnitudes, that the codes were not trained for.
            for other in [1e-20, 1.0, 1e15] {
                take_in(&mut fixture, &mixed(64, 50, other));
            }
            let queries = [mixed(4, 50, magnitude), mixed(3, 50, 1.0)].concat();
            assert_same(&fixture, &queries, &format!("{metric} {magnitude:e}"));
        }
    }
}

#[test]
fn most_rows_of_clustered_data_are_not_measured() {
    for (metric, most) in [(Metric::L2, 0.1), (Metric::Cosine, 0.1), (Metric::Dot, 0.3)] {
        for dim in [48, 150] {
            let mut fixture = Fixture::flat(metric, dim);
            fixture.fill(0, 6_000, 1, &Sequential);
            let queries: Vec<Vec<f32>> = (0..5).map(|at| clustered(dim, 20, 9, at)).collect();
            let share = assert_same(&fixture, &queries, &format!("{metric} {dim}"));
            assert!(share < most, "{metric} {dim}: {share}");
        }
    }
}

#[test]
fn rows_come_and_go_and_older_versions_stay_exact() {
    let mut fixture = Fixture::flat(Metric::L2, 40);
    fixture.fill(0, 3_000, 1, &Sequential);
    let (old, held) = (fixture.index.version(), fixture.held.clone());
    let query = clustered(40, 20, 9, 1);
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
    let before = fixture.search_in(&*old, &request).0;
    for turn in 0..5 {
        let forget: Vec<Row> = fixture.held.iter().copied().skip(turn).step_by(9).collect();
        fixture.change(&[], &forget, &Sequential);
        assert_same(&fixture, std::slice::from_ref(&query), "after forgetting");
    }
    // Rows that no version but the old one holds keep their vectors here, so
    // it must still answer as it did.
    assert_eq!(fixture.search_in(&*old, &request).0, before);
    drop(old);
    let free: Vec<Row> = held.difference(&fixture.held).copied().collect();
    for row in &free {
        fixture.put(*row, &clustered(40, 20, 77, u64::from(*row)));
    }
    fixture.change(&free, &[], &Sequential);
    fixture.assert_whole();
    assert_same(&fixture, &[query, clustered(40, 20, 77, 3)], "after taking places again");
}

#[test]
fn a_bound_from_elsewhere_loses_no_nearer_row() {
    let mut fixture = Fixture::flat(Metric::L2, 64);
    fixture.fill(0, 3_000, 1, &Sequential);
    let query = clustered(64, 20, 9, 1);
    let open = Request {
        query: &query,
        k: 20,
        ef: 0,
        bound: f32::INFINITY,
        admit: None,
        filter: None,
        shards: 1,
        ends: Ends::default(),
    };
    let version = fixture.index.version();
    let all = fixture.search_in(&*version, &open).0;
    let (some, _) = fixture.search_in(&*version, &Request { bound: all[7].distance, ..open });
    assert_eq!(bits(&some[..8]), bits(&all[..8]));
}

#[test]
fn codes_are_not_trained_anew_before_they_may_be_and_then_they_are() {
    let rows = mixed(10_000, 40, 1.0);
    let digest = |before: bool, last: bool| {
        let mut fixture = Fixture::flat(Metric::L2, 40);
        take_in(&mut fixture, &rows[..2_100]);
        fixture.renews = before;
        take_in(&mut fixture, &rows[2_100..9_900]);
        fixture.renews = last;
        take_in(&mut fixture, &rows[9_900..]);
        fixture.index.version().digest()
    };
    let (always, late, never) = (digest(true, true), digest(false, true), digest(false, false));
    assert!(always != never && late != never, "{always} {late} {never}");
}

#[test]
fn codes_do_not_depend_on_the_number_of_threads() {
    let digest = |threads: usize| {
        let mut fixture = Fixture::flat(Metric::Cosine, 40);
        fixture.fill(0, 2_500, 1, &Threads(threads));
        fixture.index.version().digest()
    };
    assert_eq!(digest(1), digest(3));
}

#[test]
fn few_rows_that_are_left_have_no_codes() {
    for optimizes in [true, false] {
        let mut fixture = Fixture::flat(Metric::L2, 64);
        fixture.fill(0, 8_000, 1, &Threads(2));
        let full = fixture.index.bytes();
        let stay = if optimizes { 1_900 } else { 900 };
        let gone: Vec<Row> = (stay..8_000).collect();
        fixture.change(&[], &gone, &Sequential);
        if optimizes {
            fixture.optimize(&Sequential);
        }
        let bytes = fixture.index.bytes();
        assert!(bytes * 4 < full, "{bytes} bytes of {full}");
        assert_same(&fixture, &[clustered(64, 20, 9, 1)], "without codes");
        fixture.fill(8_000, 2_000, 1, &Threads(2));
        assert!(fixture.index.bytes() > 2 * bytes, "codes come again");
        assert_same(&fixture, &[clustered(64, 20, 9, 1)], "with codes again");
    }
}
