//! Where batches end, and what is in them: a function of the write log.

use std::sync::Arc;

use super::ShardState;
use crate::bits::RowSet;
use crate::id::Seq;
use crate::memory::{collect, list, push};
use crate::shard::batch::{SealedBatch, forget_due, rows_due};
use crate::shard::successor::Carry;

impl<T> ShardState<T> {
    pub(super) fn seal_if_due(&mut self, seq: Seq, coming: usize) {
        let rows = self.open.len() >= rows_due(self.linked, self.open.len(), coming);
        if rows || self.dead_linked.len() >= forget_due(self.linked) {
            self.seal(seq, coming, false, Carry::No);
        }
    }

    /// Fixes the content of the next batch, after which `coming` more mutations of the same
    /// write follow: all open rows, the dead ones of the index when they are many or
    /// `forget_all` is set, and rows for the index that is to take over.
    pub(super) fn seal(&mut self, cut: Seq, coming: usize, forget_all: bool, carry: Carry) {
        let renews = coming == 0 || self.let_go != cut;
        let forget_now = forget_all || self.dead_linked.len() >= forget_due(self.linked);
        let mut dead = RowSet::default();
        self.dead_linked.iter().for_each(|row| {
            dead.insert(*row);
        });
        let forget = if forget_now { std::mem::take(&mut self.dead_linked) } else { Vec::new() };
        let (mut absorb, mut dropped) = (list(self.open.len()), Vec::new());
        for entrant in self.open.drain(..) {
            let is_alive = self.rows.is_alive(entrant.row);
            push(if is_alive { &mut absorb } else { &mut dropped }, entrant);
        }
        self.open_rows.clear();
        let mut gone = forget.iter().chain(dropped.iter().map(|entrant| &entrant.row));
        if cut > self.applied && gone.any(|row| self.rows.died(*row) == cut) {
            self.let_go = cut;
        }
        self.batches_sealed += 1;
        self.linked = self.linked + absorb.len() - forget.len();
        let entrants: Vec<_> = collect(absorb.iter().map(|entrant| (entrant.row, entrant.ordinal)));
        let (number, rows) = (self.batches_sealed, &self.rows);
        let successor = self.successor.as_mut();
        let share = successor.map(|successor| successor.share(number, rows, &entrants, &forget, carry));
        self.sealed.push_back(Arc::new(SealedBatch {
            number: self.batches_sealed,
            cut,
            ordinals: collect(absorb.iter().map(|entrant| entrant.ordinal)),
            absorb: collect(absorb.into_iter().map(|entrant| entrant.row)),
            dropped: collect(dropped.into_iter().map(|entrant| entrant.row)),
            forget,
            dead,
            optimize: false,
            codes: None,
            renews,
            share,
        }));
        self.freed_at = self.batches_sealed;
        self.free_retired();
    }

    /// A batch of all that is open or dead, and one that only puts the index in
    /// order, by the codes of another shard if there are any. It follows the other
    /// at once, which may not be committed yet: places become free with the next batch.
    pub(super) fn put_in_order(&mut self, cut: Seq, codes: Option<Arc<[u8]>>) {
        self.seal(cut, 0, true, Carry::No);
        let dead = self.dead_linked.iter().fold(RowSet::default(), |mut dead, row| {
            dead.insert(*row);
            dead
        });
        self.batches_sealed += 1;
        self.sealed.push_back(Arc::new(SealedBatch {
            number: self.batches_sealed,
            cut,
            ordinals: Vec::new(),
            absorb: Vec::new(),
            dropped: Vec::new(),
            forget: Vec::new(),
            dead,
            optimize: true,
            codes,
            renews: true,
            share: None,
        }));
    }
}
