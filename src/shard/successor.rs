//! An index that is to take the place of the present one, while both work.
//!
//! From the write that begins it, the successor takes part in every batch.
//! The rows that were there before are *carried* over, some with each write
//! that asks for it; such a write also has the present index let go of all its
//! dead rows. Once the last row is carried over both hold the same rows after each
//! such batch. Then a last write has the successor take over with the commit of
//! its batch: all shards by one write, each between one view and the next. All of it is decided when writes are applied, so it is a function of
//! the log as everything else is (I6).

use std::sync::Arc;

use super::batch::rows_due;
use crate::bits::RowSet;
use crate::id::Row;
use crate::index::{Index, IndexVersion};
use crate::memory;
use crate::rows::{Reindexing, RowStore, Switched};

/// Makes an index by what files say of a collection; none: they say nothing
/// that can be read.
pub(crate) type MakeIndex = fn(spec: &[u8]) -> Option<(Box<dyn Index>, Switched)>;

/// What a batch carries over to a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carry {
    No,
    /// Some rows that were there before.
    Some,
    /// Some, after which it takes over if these were the last.
    Last,
}

/// The part of a batch that is the successor's.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) absorb: Vec<Row>,
    pub(super) ordinals: Vec<u64>,
    pub(super) forget: Vec<Row>,
}

/// What a job computes for it.
pub(crate) struct SuccessorJob {
    /// Which successor: others may have taken its place meanwhile.
    pub(super) since: u64,
    pub(super) version: Arc<dyn IndexVersion>,
}

/// The writer's side.
pub(super) struct Successor {
    pub(super) switched: Switched,
    pub(super) index: Box<dyn Index>,
    /// The first batch that it takes part in.
    pub(super) since: u64,
    /// The batch with whose commit it takes over.
    pub(super) ends_at: Option<u64>,
    /// Rows that it holds once all sealed batches are committed.
    planned: RowSet,
    /// Rows below are carried over, or need not be.
    next: Row,
    /// Rows from here on came since, with batches.
    limit: Row,
}

impl Successor {
    pub(super) fn new(index: Box<dyn Index>, switched: Switched, since: u64, limit: Row) -> Successor {
        let planned = RowSet::default();
        Successor { switched, index, since, ends_at: None, planned, next: 0, limit }
    }

    pub(super) fn progress(&self) -> Reindexing {
        if self.next >= self.limit { Reindexing::Carried } else { Reindexing::Carrying }
    }

    /// Its share of a batch that is being sealed as number `batch`.
    pub(super) fn share(
        &mut self,
        batch: u64,
        rows: &RowStore,
        absorb: &[(Row, u64)],
        forget: &[Row],
        carry: Carry,
    ) -> Share {
        let forget: Vec<Row> =
            memory::collect(forget.iter().copied().filter(|row| self.planned.contains(*row)));
        forget.iter().for_each(|row| _ = self.planned.remove(*row));
        absorb.iter().for_each(|(row, _)| _ = self.planned.insert(*row));
        let mut carried = Vec::new();
        if carry != Carry::No && self.ends_at.is_none() {
            let most = rows_due(self.planned.len(), 0, usize::MAX / 2);
            while carried.len() < most && self.next < self.limit {
                let row = self.next;
                self.next += 1;
                if rows.is_alive(row) && self.planned.insert(row) {
                    memory::push(&mut carried, row);
                }
            }
            if self.next >= self.limit && carry == Carry::Last {
                self.ends_at = Some(batch);
            }
        }
        let all = carried.into_iter().map(|row| (row, u64::from(row))).chain(absorb.iter().copied());
        let (absorb, ordinals) = all.unzip();
        Share { absorb, ordinals, forget }
    }
}
