//! When records expire: a moment in a field of the payload, so that it is
//! stored, filtered and given back like any other.

use super::block::Block;
use super::document::Payload;
use super::filter::Filter;
use super::limits::is_within;
use super::mask::{ROWS, SHIFT};
use super::resolve::Resolver;
use super::store::{PayloadStore, PayloadView, place};
use super::value::{Timestamp, Value};
use crate::id::{Row, Seq};

/// The field that says when a record expires.
pub(crate) const EXPIRES: &str = "$expires";

/// What stands there for a record that never does, or nothing at all.
pub(crate) const NEVER: Timestamp = Timestamp(i64::MAX);

/// A time at which nothing has expired yet.
pub(crate) const BEFORE_ALL: Timestamp = Timestamp(i64::MIN);

/// True for a field within that one: beside it no file could hold it.
pub(super) fn is_within_expires(path: &str) -> bool {
    path != EXPIRES && is_within(path, EXPIRES)
}

impl Payload {
    /// When the record expires.
    pub(crate) fn expires(&self) -> Timestamp {
        match self.get(EXPIRES) {
            Some(Value::Time(time)) => *time,
            _ => NEVER,
        }
    }

    /// The same record, expiring at a time. Unwinds where there is no memory.
    pub(crate) fn expiring(mut self, expires: Timestamp) -> Payload {
        self.put(EXPIRES.into(), Value::Time(expires));
        self
    }

    /// The same of a stored one, in which earlier versions may have left fields within that field.
    pub(crate) fn stored_expiring(mut self, expires: Timestamp) -> Payload {
        self.retain(|path| !is_within_expires(path));
        self.expiring(expires)
    }
}

/// What has expired at a time.
pub(crate) fn expired_at(now: Timestamp) -> Filter {
    Filter::le(EXPIRES, now)
}

impl Block {
    /// When a row expires; `field` is the number of the field.
    fn expires(&self, row: u16, field: Option<u32>) -> Timestamp {
        match (self.changed(row), field) {
            (Some(payload), _) => payload.expires(),
            (None, Some(field)) => self.time(row, field).unwrap_or(NEVER),
            (None, None) => NEVER,
        }
    }

    /// The first moment after `now` at which a row expires.
    fn next_expiry(&self, now: Timestamp, field: u32) -> Timestamp {
        let beside = self.changes().iter().map(|(_, payload)| payload.expires());
        let beside = beside.filter(|expires| *expires > now).min().unwrap_or(NEVER);
        self.first_time_after(field, now).map_or(beside, |first| first.min(beside))
    }
}

impl PayloadView {
    /// No row expires before, as of a write; it may be earlier than the first
    /// that does.
    #[inline]
    pub(crate) fn soonest_expiry(&self, at: Seq) -> Timestamp {
        let (soonest, since) = self.soonest;
        if at >= since { soonest } else { BEFORE_ALL }
    }

    /// When a row expires, as of a write.
    pub(crate) fn expires(&self, row: Row, at: Seq) -> Timestamp {
        match (self.undone().before(row, at), self.block(row as usize >> SHIFT)) {
            (Some(before), _) => before.expires(),
            (None, Some(block)) => block.expires(place(row), self.field(EXPIRES)),
            (None, None) => NEVER,
        }
    }

    /// The rows below `limit` that have expired at `now`, as bits, and their
    /// number; rows that are not visible may be among them.
    pub(crate) fn expired(&self, now: Timestamp, at: Seq, limit: Row, out: &mut Vec<u64>) -> usize {
        let filter = expired_at(now);
        Resolver::new(&filter, self, at, &|_| None).resolve(limit, out)
    }

    /// The first moment after `now` at which a row expires, or one before it.
    pub(crate) fn next_expiry(&self, now: Timestamp, at: Seq, limit: Row) -> Timestamp {
        let Some(field) = self.field(EXPIRES) else { return NEVER };
        let undone = self.undone().after(at).map(|undo| undo.before.expires());
        let blocks = (0..(limit as usize).div_ceil(ROWS)).filter_map(|number| self.block(number));
        let next = blocks.map(|block| block.next_expiry(now, field));
        next.chain(undone.filter(|expires| *expires > now)).min().unwrap_or(NEVER)
    }
}

impl PayloadStore {
    /// When a row expires.
    pub(crate) fn expires(&self, row: Row) -> Timestamp {
        let block = self.block(row as usize >> SHIFT);
        block.map_or(NEVER, |block| block.expires(place(row), self.field(EXPIRES)))
    }

    /// Takes a row into account that expires then.
    pub(super) fn note_expiry(&mut self, expires: Timestamp) {
        self.soonest.0 = self.soonest.0.min(expires);
    }

    /// From write `since` on nothing that lives has expired at `now`: looks for
    /// what does next.
    pub(crate) fn none_expired(&mut self, now: Timestamp, since: Seq, limit: Row) {
        let view = self.view(self.floor());
        self.soonest = (view.next_expiry(now, Seq(u64::MAX), limit), since);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(expires: i64) -> Payload {
        let payload = Payload::new().with("n", expires);
        if expires % 3 == 0 { payload } else { payload.expiring(Timestamp(expires)) }
    }

    fn twin(rows: &[i64], now: i64) -> (Vec<Row>, i64) {
        let expires = |value: &i64| if value % 3 == 0 { i64::MAX } else { *value };
        let expired = (0..rows.len()).filter(|row| expires(&rows[*row]) <= now).map(|row| row as Row);
        let next = rows.iter().map(expires).filter(|expires| *expires > now).min();
        (expired.collect(), next.unwrap_or(i64::MAX))
    }

    #[test]
    fn what_has_expired_and_what_does_next_are_those_of_the_rows() {
        let mut store = PayloadStore::default();
        let mut rows: Vec<i64> = (0..3_000).map(|row| row * 7_919 % 5_003).collect();
        rows.iter().enumerate().for_each(|(row, value)| store.put(row as Row, payload(*value)));
        for seq in 2..80u64 {
            let row = (seq * 37) as usize;
            rows[row] += 1_000;
            store.change(row as Row, payload(rows[row]), Seq(seq));
            let view = store.view(Seq(seq));
            assert!(view.soonest_expiry(Seq(seq)) <= Timestamp(twin(&rows, i64::MIN).1));
            for now in [0, 1, 700, 5_010, 9_000] {
                let (expired, next) = twin(&rows, now);
                let mut words = Vec::new();
                let count = view.expired(Timestamp(now), Seq(seq), 3_000, &mut words);
                let found: Vec<Row> =
                    (0..3_000).filter(|row| words[*row as usize / 64] & 1 << (row % 64) != 0).collect();
                assert_eq!((count, found), (expired.len(), expired));
                assert_eq!(view.next_expiry(Timestamp(now), Seq(seq), 3_000), Timestamp(next));
            }
            for (row, value) in rows.iter().enumerate().step_by(97) {
                let expected = if value % 3 == 0 { NEVER } else { Timestamp(*value) };
                assert_eq!(view.expires(row as Row, Seq(seq)), expected);
                assert_eq!(store.expires(row as Row), expected);
            }
        }
    }
}
