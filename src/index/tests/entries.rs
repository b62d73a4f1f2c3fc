//! Entry points of large graphs. (In tests a graph is large from 1,024 rows on.)

use super::fixture::{Fixture, Kind, Threads, clustered};
use crate::id::Row;
use crate::metric::Metric;

const GROUPS: u64 = 800;

fn fill(fixture: &mut Fixture, rows: std::ops::Range<Row>) {
    let rows: Vec<Row> = rows.collect();
    for part in rows.chunks(200) {
        part.iter().for_each(|row| fixture.put(*row, &clustered(32, GROUPS, 5, u64::from(*row))));
        fixture.change(part, &[], &Threads(2));
    }
}

/// The share of 200 queries, each in the midst of a group, whose nearest row is found.
fn found(fixture: &Fixture, ef: usize) -> f64 {
    let is_found = |query: &u64| {
        let query = clustered(32, GROUPS, 4_242, *query);
        fixture.search(&query, 1, ef, None) == fixture.exact(&query, 1, None)
    };
    (0..200).filter(is_found).count() as f64 / 200.0
}

// Eight rows in each of 800 groups: no link is nearer to the right one than another.
#[test]
fn a_short_walk_comes_into_the_right_one_of_many_groups() {
    let mut fixture = Fixture::of(Kind::GRAPHS[0], Metric::L2, 32);
    fill(&mut fixture, 0..6_400);
    let share = found(&fixture, 12);
    fixture.optimize(&Threads(2));
    assert!(share >= 0.9 && found(&fixture, 12) >= 0.9, "{share}, then {}", found(&fixture, 12));
}
