//! Entry points of large graphs. (In tests a graph is large from 1,024 rows on.)

use super::fixture::{Fixture, Kind, Threads};
use crate::id::{Row, mix};
use crate::metric::Metric;

const DIM: usize = 64;
const GROUPS: u64 = 60;

/// A row of the group that its number says: all groups are about equally far from each other.
fn in_group(number: u64) -> Vec<f32> {
    let unit = |key: u64| (mix(key) >> 40) as f32 / (1 << 24) as f32 - 0.5;
    let number_of = |axis: u64| 40.0 * unit(mix(number % GROUPS) ^ axis) + unit(mix(number << 8) ^ axis);
    (0..DIM as u64).map(number_of).collect()
}

fn fill(fixture: &mut Fixture, rows: std::ops::Range<Row>) {
    let rows: Vec<Row> = rows.collect();
    for part in rows.chunks(200) {
        part.iter().for_each(|row| fixture.put(*row, &in_group(u64::from(*row))));
        fixture.change(part, &[], &Threads(2));
    }
}

/// The share of 180 queries, three in the midst of each group, to which a row of their group is found.
fn found(fixture: &Fixture, ef: usize) -> f64 {
    let is_found = |query: &u64| {
        let found = fixture.search(&in_group(1_000_000 * GROUPS + query), 1, ef, None);
        found.iter().all(|row| u64::from(*row) % GROUPS == query % GROUPS)
    };
    (0..3 * GROUPS).filter(is_found).count() as f64 / (3 * GROUPS) as f64
}

// No link is nearer to the right one of the groups than another: from 32 starts drawn at random
// one walk in six ends in another group.
#[test]
fn a_short_walk_comes_into_the_right_one_of_many_groups() {
    let mut fixture = Fixture::of(Kind::GRAPHS[0], Metric::L2, DIM);
    fill(&mut fixture, 0..6_000);
    let built = found(&fixture, 8);
    fixture.optimize(&Threads(2));
    let optimized = found(&fixture, 8);
    assert!(built >= 0.9 && optimized >= 0.9, "{built}, once it is in order {optimized}");
}

// The audit compares them with what follows from numbers and codes.
#[test]
fn entry_points_are_the_same_however_a_graph_came_about() {
    let mut fixture = Fixture::of(Kind::GRAPHS[0], Metric::L2, DIM);
    for turn in 0..6 {
        fill(&mut fixture, 400 * turn..400 * (turn + 1));
        fixture.assert_whole();
    }
    let mut gone: Vec<Row> = fixture.held.iter().copied().filter(|row| row % 3 == 0).collect();
    for part in gone.chunks(100) {
        fixture.change(&[], part, &Threads(2));
        fixture.assert_whole();
    }
    fixture.optimize(&Threads(2));
    fixture.assert_whole();
    gone.truncate(300);
    gone.iter().for_each(|row| fixture.put(*row, &in_group(u64::from(*row))));
    fixture.change(&gone, &[], &Threads(2));
    fixture.assert_whole();
    // The same numbers again, for other vectors.
    fixture.change(&[], &gone, &Threads(2));
    gone.iter().for_each(|row| fixture.put(*row, &in_group(u64::from(*row) + 1)));
    fixture.change(&gone, &[], &Threads(2));
    fixture.assert_whole();
    let most: Vec<Row> = fixture.held.iter().copied().skip(900).collect();
    fixture.change(&[], &most, &Threads(2));
    fixture.assert_whole();
}
