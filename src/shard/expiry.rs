//! When the rows of a shard expire, in order: for the sweep, and for views,
//! which look at expiries only from the first one on.

use std::collections::BTreeSet;

use crate::id::{RecordId, Row};
use crate::rows::NEVER;

/// An expiring row: ties are broken by its id, because rows may have other
/// numbers after a restart.
type Entry = (u64, u64, Row);

/// The expiries of a shard.
#[derive(Default)]
pub(super) struct Expiries {
    /// Of rows that live.
    live: BTreeSet<Entry>,
    /// Of rows that some view that is granted now could show.
    shown: BTreeSet<Entry>,
}

fn entry(expires: u64, id: &RecordId, row: Row) -> Entry {
    (expires, id.stable_hash(), row)
}

impl Expiries {
    pub(super) fn born(&mut self, row: Row, id: &RecordId, expires: u64) {
        if expires != NEVER {
            self.live.insert(entry(expires, id, row));
            self.shown.insert(entry(expires, id, row));
        }
    }

    pub(super) fn died(&mut self, row: Row, id: &RecordId, expires: u64) {
        if expires != NEVER {
            self.live.remove(&entry(expires, id, row));
        }
    }

    /// No view from now on can reach the row.
    pub(super) fn retired(&mut self, row: Row, id: &RecordId, expires: u64) {
        if expires != NEVER {
            self.shown.remove(&entry(expires, id, row));
        }
    }

    /// The first rows that have expired by `now`.
    pub(super) fn due(&self, now: u64, most: usize) -> Vec<Row> {
        let due = self.live.iter().take_while(|(expires, ..)| *expires <= now);
        due.take(most).map(|(.., row)| *row).collect()
    }

    /// Before this nothing that lives expires.
    pub(super) fn next_due(&self) -> u64 {
        self.live.first().map_or(NEVER, |(expires, ..)| *expires)
    }

    /// Before this nothing that a view shows expires.
    pub(super) fn earliest(&self) -> u64 {
        self.shown.first().map_or(NEVER, |(expires, ..)| *expires)
    }

    pub(super) fn bytes(&self) -> usize {
        // Nodes of a B-tree are two thirds full.
        (self.live.len() + self.shown.len()) * size_of::<Entry>() * 3 / 2
    }
}
