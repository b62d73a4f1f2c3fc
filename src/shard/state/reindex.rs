//! Steps on the way to another index: begun, carried on, handed over, given up.

use super::ShardState;
use crate::id::{Row, Seq};
use crate::rows::{Reindex, Switched};
use crate::shard::successor::{Carry, Successor};

impl<T> ShardState<T> {
    /// A step on the way to another index.
    pub(super) fn reindex(&mut self, step: &Reindex, seq: Seq) {
        let (spec, carry) = match step {
            Reindex::Carry(spec) => (spec, Carry::Some),
            Reindex::Finish(spec) => (spec, Carry::Last),
            Reindex::GiveUp => {
                self.successor = None;
                return;
            }
        };
        let is = |switched: &Switched| switched.spec == *spec;
        let last = self.ending.back().map(|ending| &ending.switched).or(self.switched.as_ref());
        if self.successor.is_none() && last.is_some_and(is) {
            return;
        }
        if !self.successor.as_ref().is_some_and(|successor| is(&successor.switched)) {
            let (since, limit) = (self.batches_sealed + 1, self.rows.high_water() as Row);
            let made = (self.make_index)(spec);
            self.successor = made.map(|(index, switched)| Successor::new(index, switched, since, limit));
        }
        if self.successor.is_some() {
            self.seal(seq, 0, true, carry);
            self.ending.extend(self.successor.take_if(|successor| successor.ends_at.is_some()));
        }
    }
}
