//! Goal: filters by column show what filters by record do.
//!
//! Method: random payloads with few fields and few values of every kind, put,
//! changed and taken away; random filters over them; each row is asked both
//! ways, of the newest state and of those that a view can go back to.

use super::edit::Edit;
use super::*;
use crate::id::{RecordId, Row, Seq, mix};

struct Rng(u64);

impl Rng {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = mix(self.0);
        self.0 % end
    }
}

const PATHS: [&str; 5] = ["a", "b.c", "b.d", "tags", "when"];

fn scalar(rng: &mut Rng, kind: u64) -> Value {
    match kind {
        0 => Value::Null,
        1 => Value::Bool(rng.below(2) == 0),
        2 => Value::Int([-1, 0, 1, 2, 300, 70_000, 5_000_000_000, i64::MAX, i64::MIN][rng.below(9) as usize]),
        3 => Value::Float([-0.0, 0.0, 0.5, 1.0, 2.0, 300.0, 1e300][rng.below(7) as usize]),
        4 => Value::Time(Timestamp(rng.below(5) as i64 * 1_000_000)),
        _ => Value::Text(["", "a", "ab", "abc", "b/x/c", "b/y/c", "é"][rng.below(7) as usize].into()),
    }
}

fn value(rng: &mut Rng) -> Value {
    let kind = rng.below(6);
    if rng.below(4) == 0 {
        let count = rng.below(4);
        return Value::List((0..count).map(|_| scalar(rng, kind)).collect());
    }
    scalar(rng, kind)
}

fn payload(rng: &mut Rng) -> Payload {
    let mut payload = Payload::new();
    for path in PATHS {
        if rng.below(3) > 0 {
            payload = payload.with(path, value(rng));
        }
    }
    if rng.below(9) == 0 { Payload::new() } else { payload }
}

fn some_of_any_kind(rng: &mut Rng) -> Vec<Value> {
    let count = rng.below(14);
    let mut some = || {
        let kind = rng.below(6);
        scalar(rng, kind)
    };
    (0..count).map(|_| some()).collect()
}

fn filter(rng: &mut Rng, depth: usize) -> Filter {
    let path = if rng.below(12) == 0 { "none" } else { PATHS[rng.below(5) as usize] };
    let kind = rng.below(6);
    let some = |rng: &mut Rng| scalar(rng, kind);
    let branches = if depth > 3 { 12 } else { 16 };
    match rng.below(branches) {
        0 => Filter::eq(path, some(rng)),
        1 => Filter::ne(path, some(rng)),
        2 => Filter::is_in(path, some_of_any_kind(rng)),
        3 | 4 => {
            let kind = 2 + rng.below(4);
            let (value, other) = (scalar(rng, kind), scalar(rng, kind));
            match rng.below(5) {
                0 => Filter::lt(path, value),
                1 => Filter::le(path, value),
                2 => Filter::gt(path, value),
                3 => Filter::ge(path, value),
                _ => Filter::range(path, value..=other),
            }
        }
        5 => Filter::exists(path),
        6 => Filter::is_null(path),
        7 => Filter::prefix(path, ["", "a", "ab", "b/", "zz"][rng.below(5) as usize]),
        8 => Filter::like(path, ["*", "a*", "*c", "b/*/c", "abc", "*b*"][rng.below(6) as usize]),
        9 => Filter::ids((0..rng.below(50)).map(|_| rng.below(4_000)).collect::<Vec<_>>()),
        10 => Filter::contains_all(path, [some(rng), some(rng)]),
        11 => Filter::contains_other(path, some_of_any_kind(rng)),
        12 => !filter(rng, depth + 1),
        13 => Filter::all((0..rng.below(4)).map(|_| filter(rng, depth + 1)).collect::<Vec<_>>()),
        14 => Filter::any((0..rng.below(4)).map(|_| filter(rng, depth + 1)).collect::<Vec<_>>()),
        _ => filter(rng, depth + 1) & filter(rng, depth + 1),
    }
}

fn check(view: &PayloadView, all: &[Payload], filter: &Filter, at: Seq) {
    assert_eq!(filter.check(), Ok(()), "{filter:?}");
    let find = |id: &RecordId| id.as_num().filter(|id| *id < all.len() as u64).map(|id| id as Row);
    let resolver = Resolver::new(filter, view, at, &find);
    let mut words = Vec::new();
    let count = resolver.resolve(all.len() as Row, &mut words);
    for (row, payload) in all.iter().enumerate() {
        let expected = filter.matches(&(row as u64).into(), payload);
        assert_eq!(words[row / 64] >> (row % 64) & 1 == 1, expected, "{row} {payload:?} {filter:?}");
        assert_eq!(resolver.holds(row as Row), expected);
    }
    assert_eq!(count, words.iter().map(|word| word.count_ones() as usize).sum::<usize>());
    assert_eq!(words.len(), all.len().div_ceil(64));
}

#[test]
fn filters_by_column_show_what_filters_by_record_show() {
    for seed in 0..12 {
        let mut rng = Rng(seed);
        let mut store = PayloadStore::default();
        let mut all: Vec<Payload> =
            (0..[1, 70, 1_024, 2_500][seed as usize % 4]).map(|_| payload(&mut rng)).collect();
        for (row, payload) in all.iter().enumerate() {
            store.put(row as Row, payload.clone());
        }
        let mut history = Vec::new();
        for seq in 1..=60 {
            let row = rng.below(all.len() as u64) as usize;
            let edit = match rng.below(3) {
                0 => Edit::Set(payload(&mut rng)),
                1 => Edit::Merge(payload(&mut rng)),
                _ => Edit::Delete(vec![PATHS[rng.below(5) as usize].into(), "b".into()]),
            };
            all[row] = edit.apply(all[row].clone());
            store.change(row as Row, all[row].clone(), Seq(seq));
            history.push(all.clone());
        }
        let view = store.view(Seq(60));
        for round in 0..300 {
            let filter = filter(&mut rng, 0);
            check(&view, &all, &filter, Seq(60));
            if round % 10 == 0 {
                let back = rng.below(60) as usize;
                check(&view, &history[back], &filter, Seq(back as u64 + 1));
            }
        }
        while store.settle() {}
        let settled = store.view(Seq(60));
        (0..300).for_each(|_| check(&settled, &all, &filter(&mut rng, 0), Seq(60)));
        for (row, payload) in all.iter().enumerate() {
            assert_eq!(settled.get(row as Row, Seq(60)), *payload);
        }
    }
}

#[test]
fn values_of_a_field_are_shown_from_columns_from_beside_them_and_from_before() {
    let mut rng = Rng(5);
    let mut store = PayloadStore::default();
    let mut all: Vec<Payload> = (0..1_500).map(|_| payload(&mut rng)).collect();
    all.iter().enumerate().for_each(|(row, payload)| store.put(row as Row, payload.clone()));
    let before = all.clone();
    for seq in 1..=40 {
        let row = rng.below(1_500) as usize;
        all[row] = payload(&mut rng);
        store.change(row as Row, all[row].clone(), Seq(seq));
    }
    let view = store.view(Seq(40));
    let rows = vec![0x5555_5555_5555_5555u64; 1_500_usize.div_ceil(64)];
    for (at, expected) in [(Seq(40), &all), (Seq(0), &before)] {
        let mut shown: Vec<(Row, String)> = Vec::new();
        view.values_of("tags", &rows, at, &mut |row, value| shown.push((row, value.to_string())));
        shown.sort();
        let mut naive: Vec<(Row, String)> = Vec::new();
        for (row, payload) in expected.iter().enumerate().step_by(2) {
            let members = payload.get("tags").map_or(&[][..], |value| value.members());
            naive.extend(members.iter().map(|member| (row as Row, member.to_string())));
        }
        naive.sort();
        assert_eq!(shown, naive);
    }
}

#[test]
fn no_record_passes_a_filter_of_which_a_part_cannot_be_used() {
    let (id, payload) = (1.into(), Payload::new());
    let deep = (0..40).fold(Filter::exists("a"), |filter, _| !filter);
    for filter in [
        deep,
        Filter::ne("a..b", 1),
        !Filter::all([Filter::eq("a..b", 1)]),
        !(Filter::eq("a", 1) & Filter::eq("", 1)),
    ] {
        assert!(filter.check().is_err());
        assert!(!filter.matches(&id, &payload) && !(!filter).matches(&id, &payload));
    }
}
