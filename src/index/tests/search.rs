use super::fixture::{Fixture, Kind, METRICS, Threads, clustered, on_every_kind, on_lists, unlimited};
use crate::id::{Row, mix};
use crate::index::{Request, RowFilter, Sequential};
use crate::metric::Metric;

fn finds_nearly_all_neighbours_under_every_metric(kind: Kind) {
    for metric in METRICS {
        let mut fixture = Fixture::of(kind, metric, 16);
        fixture.fill(0, 5_000, 1, &Threads(2));
        fixture.assert_whole();
        let recall = fixture.recall(10, 100, None);
        assert!(recall >= 0.98 - kind.tolerance(), "{metric}: recall {recall}");
    }
}

#[test]
fn the_exact_index_finds_all_neighbours() {
    for metric in METRICS {
        let mut fixture = Fixture::flat(metric, 16);
        fixture.fill(0, 1_000, 1, &Sequential);
        fixture.change(&[], &[5, 900], &Sequential);
        fixture.assert_whole();
        assert_eq!(fixture.recall(10, 0, None), 1.0);
        assert_eq!(fixture.recall(10, 0, Some(&|row| row % 7 == 0)), 1.0);
    }
}

fn a_filter_is_kept_and_costs_little_recall(kind: Kind) {
    let mut fixture = Fixture::of(kind, Metric::L2, 16);
    fixture.fill(0, 5_000, 1, &Threads(2));
    for modulus in [2, 10, 50, 1_000] {
        let admit = move |row: Row| row % modulus == 1;
        let query = clustered(16, 20, 9, 9);
        assert!(fixture.search(&query, 20, 50, Some(&admit)).iter().all(|row| admit(*row)));
        let recall = fixture.recall(10, 100, Some(&admit));
        assert!(recall >= 0.98 - kind.tolerance(), "1 in {modulus}: recall {recall}");
    }
}

fn a_dead_region_around_the_query_still_gives_k_rows(kind: Kind) {
    let mut fixture = Fixture::of(kind, Metric::L2, 16);
    fixture.fill(0, 3_000, 1, &Threads(2));
    let query = clustered(16, 20, 1, 17);
    let dead: Vec<Row> = fixture.exact(&query, 2_900, None);
    let admit = |row: Row| !dead.contains(&row);
    for k in [1, 10, 99, 100, 200] {
        let found = fixture.search(&query, k, 10, Some(&admit));
        assert_eq!(found.len(), k.min(100));
        assert!(found.iter().all(|row| admit(*row)));
    }
}

fn any_k_and_ef_are_answered(kind: Kind) {
    let mut fixture = Fixture::of(kind, Metric::L2, 8);
    fixture.fill(0, 500, 1, &Sequential);
    let query = clustered(8, 20, 3, 3);
    for ef in [0, 1, 100, usize::MAX] {
        for k in [0, 1, 250, 499, 500, 100_000] {
            assert_eq!(fixture.search(&query, k, ef, None).len(), k.min(500));
            assert_eq!(fixture.search(&query, k, ef, Some(&|row| row < 100)).len(), k.min(100));
        }
    }
    assert_eq!(fixture.search(&query, 500, 0, None), fixture.exact(&query, 500, None));
    assert_eq!(fixture.search(&query, 10, usize::MAX, None), fixture.exact(&query, 10, None));
}

fn a_bound_from_elsewhere_saves_work_and_loses_no_near_row(kind: Kind) {
    let mut fixture = Fixture::of(kind, Metric::L2, 16);
    fixture.fill(0, 5_000, 1, &Threads(2));
    let version = fixture.index.version();
    let (mut with, mut without, mut lost, mut useful) = (0, 0, 0, 0);
    for index in 0..100 {
        let query = fixture.prepared(&clustered(16, 20, 4_242, 1_000_000 + index));
        let open = unlimited(&query, 10, 100);
        let (all, effort) = fixture.search_in(&*version, &open);
        without += effort.hops;
        let bound = all[3].distance;
        let (some, effort) = fixture.search_in(&*version, &Request { bound, ..open });
        with += effort.hops;
        useful += 4;
        lost += all[..4].iter().filter(|near| !some.contains(near)).count();
    }
    // Of 16 signs many rows may still be nearer than any bound.
    let is_sharp = kind.tolerance() == 0.0;
    assert!(with * 10 < without * 9 || !is_sharp, "{with} of {without} hops");
    assert!(lost * 100 <= useful, "{lost} of {useful} rows lost");
}

// Of 60 numbers drawn at random rows are all about equally far; those in groups of 4 numbers are not.
#[test]
fn a_list_is_walked_through_the_further_the_less_distances_tell() {
    for kind in [Kind::Hnsw, Kind::GRAPHS[0]] {
        let [easy, hard] = [4, 60].map(|spread| {
            let mut fixture = Fixture::of(kind, Metric::L2, 64);
            let vector = |at: u64| -> Vec<f32> {
                (0..64).map(|x| if x < spread { (mix(at << 8 | x) % 10_000) as f32 } else { 0.0 }).collect()
            };
            for from in (0..3_000).step_by(500) {
                let rows: Vec<Row> = (from..from + 500).collect();
                rows.iter().for_each(|row| fixture.put(*row, &vector(u64::from(*row))));
                fixture.change(&rows, &[], &Threads(2));
            }
            let version = fixture.index.version();
            let hops = (0..50u64).map(|query| {
                let query = fixture.prepared(&vector(1_000_000 + query));
                let request = unlimited(&query, 10, 100);
                fixture.search_in(&*version, &request).1.hops
            });
            hops.sum::<u64>() / 50
        });
        assert!((50..75).contains(&easy) && (120..240).contains(&hard), "{kind:?}: {easy}, {hard}");
    }
}

fn filters_may_admit_none_one_half_or_all(kind: Kind) {
    for metric in METRICS {
        let mut fixture = Fixture::of(kind, metric, 16);
        fixture.fill(0, 2_000, 1, &Threads(2));
        for index in 0..10 {
            let query = clustered(16, 20, 4_242, index);
            assert!(fixture.search(&query, 10, 30, Some(&|_| false)).is_empty());
            assert_eq!(fixture.search(&query, 10, 30, Some(&|row| row == 777)), [777]);
            let half = fixture.search(&query, 10, 30, Some(&|row| row % 2 == 1));
            assert!(half.len() == 10 && half.iter().all(|row| row % 2 == 1));
            let all = fixture.search(&query, 10, 2_000, Some(&|_| true));
            assert_eq!(all, fixture.exact(&query, 10, None), "{metric}");
        }
        let recall = fixture.recall(10, 100, Some(&|row| row % 2 == 1));
        assert!(recall >= 0.98 - kind.tolerance(), "{metric}: recall {recall}");
    }
}

// Rows that are all but the same link to each other; what leads out of them may not pass.
fn a_filtered_search_goes_beyond_a_group_of_rows_that_are_all_but_the_same(kind: Kind) {
    let same: Vec<f32> = clustered(16, 20, 4_242, 0);
    let mut fixture = Fixture::of(kind, Metric::L2, 16);
    let group: Vec<Row> = (0..300).collect();
    for row in &group {
        let near: Vec<f32> =
            same.iter().zip(clustered(16, 1, 5, u64::from(*row))).map(|(x, y)| x + y * 1e-5).collect();
        fixture.put(*row, &near);
    }
    fixture.change(&group, &[], &Threads(2));
    fixture.fill(300, 2_700, 1, &Threads(2));
    // A part of the group, and of the others one in so many.
    for others in [2, 3, 5, 9] {
        let passes = |row: Row| if row < 300 { row < 60 } else { row.is_multiple_of(others) };
        let mut words = vec![0u64; 3_000usize.div_ceil(64)];
        (0..3_000).filter(|row| passes(*row)).for_each(|row| words[row as usize / 64] |= 1 << (row % 64));
        let share = words.iter().map(|word| word.count_ones()).sum::<u32>() as f32 / 3_000.0;
        let query = fixture.prepared(&same);
        let request = Request {
            admit: Some(&passes),
            filter: Some(RowFilter { words: &words, share, is_all: true }),
            ..unlimited(&query, 100, 100)
        };
        let (found, _) = fixture.search_in(&*fixture.index.version(), &request);
        assert_eq!(found.len(), 100, "{kind:?}, one in {others}");
        assert!(found.iter().all(|near| passes(near.row)));
    }
}

// Distances of an answer are those of the stored vectors, never estimates.
fn distances_are_exact_and_ascend(kind: Kind) {
    for metric in METRICS {
        let mut fixture = Fixture::of(kind, metric, 50);
        fixture.fill(0, 1_500, 1, &Threads(2));
        let version = fixture.index.version();
        for index in 0..20 {
            let query = fixture.prepared(&clustered(50, 20, 4_242, index));
            let request = unlimited(&query, 20, 40);
            let (found, _) = fixture.search_in(&*version, &request);
            assert!(found.windows(2).all(|pair| pair[0].order(&pair[1]).is_lt()));
            for near in found {
                let own = fixture.space.distance(&query, fixture.matrix.view(), near.row);
                assert_eq!(near.distance, own, "{metric}");
            }
        }
    }
}

// Nothing in an index may depend on the unit that vectors are measured in.
fn recall_is_the_same_at_every_scale(kind: Kind) {
    let recall = |metric: Metric, scale: f32| {
        let mut fixture = Fixture::of(kind, metric, 24);
        fixture.scale = scale;
        fixture.fill(0, 2_000, 1, &Threads(2));
        fixture.recall(10, 40, None)
    };
    for metric in METRICS {
        let plain = recall(metric, 1.0);
        for scale in [1e-14, 1e-8, 1e8, 1e14] {
            let scaled = recall(metric, scale);
            assert!((scaled - plain).abs() <= 0.01, "{metric}: {plain}, times {scale} {scaled}");
        }
    }
}

on_every_kind!(
    finds_nearly_all_neighbours_under_every_metric,
    a_filter_is_kept_and_costs_little_recall,
    a_dead_region_around_the_query_still_gives_k_rows,
    any_k_and_ef_are_answered,
    a_bound_from_elsewhere_saves_work_and_loses_no_near_row,
    filters_may_admit_none_one_half_or_all,
    distances_are_exact_and_ascend,
    recall_is_the_same_at_every_scale,
    a_filtered_search_goes_beyond_a_group_of_rows_that_are_all_but_the_same,
);

mod lists {
    use super::*;

    on_lists!(
        finds_nearly_all_neighbours_under_every_metric,
        a_filter_is_kept_and_costs_little_recall,
        a_dead_region_around_the_query_still_gives_k_rows,
        any_k_and_ef_are_answered,
        filters_may_admit_none_one_half_or_all,
        distances_are_exact_and_ascend,
        recall_is_the_same_at_every_scale,
    );
}
