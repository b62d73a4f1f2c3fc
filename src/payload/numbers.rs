//! Single values of fields, for scores.

use super::document::Payload;
use super::mask::{ROWS, SHIFT};
use super::store::{PayloadView, place};
use super::value::{Kind, Timestamp, Value};
use crate::id::{Row, Seq};

/// A field, looked up once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    path: &'a str,
    number: Option<u32>,
}

/// A number or a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Quantity {
    Number(f64),
    Time(Timestamp),
}

impl Quantity {
    fn of(value: &Value) -> Option<Quantity> {
        match value {
            Value::Time(time) => Some(Quantity::Time(*time)),
            other => other.as_float().map(Quantity::Number),
        }
    }
}

/// Kinds of columns that hold quantities.
const KINDS: [Kind; 3] = [Kind::Int, Kind::Float, Kind::Time];

impl PayloadView {
    pub(crate) fn look_up<'a>(&self, path: &'a str) -> Field<'a> {
        Field { path, number: self.field(path) }
    }

    /// What a row has in a field as of a write, if it is a number or a moment.
    pub(crate) fn quantity(&self, row: Row, at: Seq, field: Field<'_>) -> Option<Quantity> {
        let number = field.number?;
        let of = |payload: &Payload| payload.get(field.path).and_then(Quantity::of);
        if let Some(before) = self.undone().before(row, at) {
            return of(before);
        }
        let block = self.block(row as usize >> SHIFT)?;
        if let Some(payload) = block.changed(place(row)) {
            return of(payload);
        }
        let columns = KINDS.into_iter().filter_map(|kind| block.column(number, kind));
        columns.filter_map(|column| column.value(place(row))).find_map(|value| Quantity::of(&value))
    }

    /// No row below `limit` has a greater number, or a later moment, in a field;
    /// `None` when it is not known at once.
    pub(crate) fn greatest(&self, field: Field<'_>, limit: Row) -> Option<(f64, Timestamp)> {
        let mut greatest = (f64::NEG_INFINITY, Timestamp(i64::MIN));
        let Some(number) = field.number else { return Some(greatest) };
        if !self.undone().is_empty() {
            return None;
        }
        for at in 0..(limit as usize).div_ceil(ROWS) {
            let Some(block) = self.block(at) else { continue };
            if block.has_changes() || block.column(number, Kind::Float).is_some() {
                return None;
            }
            if let Some(most) = block.column(number, Kind::Int).and_then(|column| column.last()) {
                greatest.0 = greatest.0.max(most as f64);
            }
            if let Some(last) = block.column(number, Kind::Time).and_then(|column| column.last()) {
                greatest.1 = greatest.1.max(Timestamp(last));
            }
        }
        Some(greatest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::PayloadStore;
    use super::*;

    #[test]
    fn quantities_are_those_of_the_payloads_whether_in_columns_or_beside_them() {
        let mut store = PayloadStore::default();
        let value = |row: Row| match row % 5 {
            0 => Value::from(i64::from(row)),
            1 => Value::from(f64::from(row) / 2.0),
            2 => Value::Time(Timestamp(row.into())),
            3 => Value::from("text"),
            _ => Value::from(vec![1, 2]),
        };
        (0..2_500).for_each(|row| store.put(row, Payload::new().with("q", value(row))));
        (0..30).for_each(|row| {
            store.change(row * 7, Payload::new().with("q", value(row)), Seq(u64::from(row) + 2));
        });
        let view = store.view(Seq(31));
        let field = view.look_up("q");
        for at in [Seq(1), Seq(10), Seq(31)] {
            for row in 0..2_500 {
                let expected = view.get(row, at).get("q").and_then(Quantity::of);
                assert_eq!(view.quantity(row, at, field), expected, "row {row} at {at:?}");
            }
        }
        assert_eq!(view.quantity(5, Seq(31), view.look_up("none")), None);
    }

    #[test]
    fn no_value_is_beyond_the_greatest_that_is_told() {
        let mut store = PayloadStore::default();
        let payload = |row: Row| Payload::new().with("n", i64::from(row)).with("t", Timestamp(row.into()));
        (0..2_048).for_each(|row| store.put(row, payload(row).with("f", 0.5)));
        while store.settle() {}
        let view = store.view(Seq(1));
        let greatest = |path| view.greatest(view.look_up(path), 2_048);
        assert_eq!(greatest("n"), Some((2_047.0, Timestamp(i64::MIN))));
        assert_eq!(greatest("t"), Some((f64::NEG_INFINITY, Timestamp(2_047))));
        assert_eq!(greatest("f"), None);
        assert_eq!(greatest("none"), Some((f64::NEG_INFINITY, Timestamp(i64::MIN))));
        store.put(1, payload(9_000));
        let view = store.view(Seq(2));
        assert_eq!(view.greatest(view.look_up("n"), 2_048), None);
    }
}
