//! What living rows had before their last changes: views show states before
//! their own by it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::document::Payload;
use crate::id::{Row, Seq};
use crate::memory;

/// Changes of living rows that views can take back: more than a drained
/// mailbox brings while another shard lags behind, few enough to be looked
/// through. While a larger write is being applied, all of its changes.
const MOST: usize = 128;

/// Changes of a piece at most: the last one is made anew for each view.
const PIECE: usize = 64;

/// Pieces beyond which neighbours become one, so that of n changes there are about log n more:
/// each of them is asked for what a row had.
const FEW: usize = 16;

/// What a row had before a change.
#[derive(Clone, Debug)]
pub(super) struct Undo {
    pub(super) seq: Seq,
    pub(super) row: Row,
    pub(super) before: Payload,
}

/// Changes that follow on one another: by row, and of a row the oldest first.
#[derive(Debug)]
struct Piece {
    changes: Box<[Undo]>,
    newest: Seq,
}

impl Piece {
    fn new(mut changes: Vec<Undo>) -> Piece {
        let newest = changes.iter().map(|undo| undo.seq).max().unwrap_or(Seq(0));
        changes.sort_by_key(|undo| undo.row);
        Piece { changes: changes.into(), newest }
    }

    /// The first change of a row after a write.
    fn first_after(&self, row: Row, at: Seq) -> Option<&Undo> {
        let first = self.changes.partition_point(|undo| undo.row < row);
        let mut of_row = self.changes[first..].iter().take_while(|undo| undo.row == row);
        of_row.find(|undo| undo.seq > at)
    }
}

/// The last changes as of one moment, oldest first; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Undone {
    pieces: Arc<[Arc<Piece>]>,
}

impl Undone {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// What a row had after a write, if it was changed since.
    pub(super) fn before(&self, row: Row, at: Seq) -> Option<&Payload> {
        if self.pieces.last().is_none_or(|last| last.newest <= at) {
            return None;
        }
        let later = self.pieces.iter().filter(|piece| piece.newest > at);
        later.filter_map(|piece| piece.first_after(row, at)).map(|undo| &undo.before).next()
    }

    /// The changes after a write; those of one row newest first.
    pub(super) fn after(&self, at: Seq) -> impl Iterator<Item = &Undo> {
        let later = self.pieces.iter().rev().take_while(move |piece| piece.newest > at);
        later.flat_map(|piece| piece.changes.iter().rev()).filter(move |undo| undo.seq > at)
    }
}

/// The writer's side.
#[derive(Debug, Default)]
pub(super) struct UndoLog {
    pieces: VecDeque<Arc<Piece>>,
    /// Those that no view was told of.
    new: Vec<Undo>,
    /// What views get, until it changes.
    shown: Option<Undone>,
    changes: usize,
    bytes: usize,
}

impl UndoLog {
    pub(super) fn add(&mut self, undo: Undo) {
        self.changes += 1;
        self.bytes += undo.before.bytes();
        memory::push(&mut self.new, undo);
        self.shown = None;
    }

    /// What a view of the writes up to `applied` gets. `forget` is told of the
    /// writes that it cannot take back.
    pub(super) fn show(&mut self, applied: Seq, forget: &mut dyn FnMut(Seq)) -> Undone {
        self.put_away();
        if self.changes > MOST {
            self.shorten(applied, forget);
        }
        self.shown.get_or_insert_with(|| Undone { pieces: self.pieces.iter().cloned().collect() }).clone()
    }

    /// Puts what is new into pieces.
    fn put_away(&mut self) {
        if self.new.is_empty() {
            return;
        }
        let mut new = std::mem::take(&mut self.new);
        if self.pieces.back().is_some_and(|last| last.changes.len() < PIECE)
            && let Some(last) = self.pieces.pop_back()
        {
            // Rows differ or writes follow on one another: either order is theirs.
            let mut all = memory::copied(&last.changes);
            memory::extend(&mut all, new);
            new = all;
        }
        while !new.is_empty() {
            let later = memory::collect(new.drain(PIECE.min(new.len())..));
            self.pieces.push_back(Arc::new(Piece::new(new)));
            new = later;
        }
        self.merge();
    }

    /// Makes one of neighbours of about the same size, the newest first, where there are many.
    fn merge(&mut self) {
        while self.pieces.len() > FEW {
            let is_alike =
                |at: &usize| self.pieces[at - 1].changes.len() < 2 * self.pieces[*at].changes.len();
            let Some(at) = (1..self.pieces.len()).rev().find(is_alike) else { break };
            let mut all = memory::copied(&self.pieces[at - 1].changes);
            memory::extend(&mut all, self.pieces[at].changes.iter().cloned());
            self.pieces[at - 1] = Arc::new(Piece::new(all));
            self.pieces.remove(at);
        }
    }

    fn shorten(&mut self, applied: Seq, forget: &mut dyn FnMut(Seq)) {
        while let Some(first) = self.pieces.front()
            && first.newest <= applied
            && self.changes - first.changes.len() >= MOST / 2
        {
            self.changes -= first.changes.len();
            self.bytes -= first.changes.iter().map(|undo| undo.before.bytes()).sum::<usize>();
            forget(first.newest);
            self.pieces.pop_front();
            self.shown = None;
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(value: u64) -> Payload {
        Payload::new().with("n", value as i64)
    }

    /// Change number `n` belongs to write `n / 10 + 1` and to row `n * 7 % 31`.
    fn changes(count: u64) -> Vec<Undo> {
        let undo = |n: u64| Undo { seq: Seq(n / 10 + 1), row: (n * 7 % 31) as Row, before: payload(n) };
        (0..count).map(undo).collect()
    }

    #[test]
    fn the_first_change_after_a_write_counts_however_the_changes_were_shown() {
        for shown_every in [1, 3, 64, 100, 3_000] {
            let all = changes(3_000);
            let mut log = UndoLog::default();
            for (number, undo) in all.iter().enumerate() {
                log.add(undo.clone());
                if number % shown_every == 0 {
                    let _ = log.show(Seq(0), &mut |_| unreachable!("nothing is applied"));
                }
            }
            let shown = log.show(Seq(0), &mut |_| unreachable!("nothing is applied"));
            assert!(shown.pieces.len() <= FEW + 6, "{} pieces", shown.pieces.len());
            for (row, at) in (0..32).flat_map(|row| (0..302).step_by(7).map(move |at| (row, Seq(at)))) {
                let first = all.iter().find(|undo| undo.row == row && undo.seq > at);
                assert_eq!(shown.before(row, at), first.map(|undo| &undo.before), "{row} {at:?}");
                let last = shown.after(at).filter(|undo| undo.row == row).last();
                assert_eq!(last.map(|undo| &undo.before), first.map(|undo| &undo.before), "{row} {at:?}");
            }
        }
    }

    #[test]
    fn what_is_applied_is_forgotten_but_for_the_last_changes() {
        let mut log = UndoLog::default();
        let mut floor = Seq(0);
        for undo in changes(10_000) {
            let seq = undo.seq;
            log.add(undo);
            let shown = log.show(Seq(seq.0 - 1), &mut |seq| floor = seq);
            assert!(floor < seq && shown.after(floor).count() <= MOST + PIECE);
        }
        assert!(floor.0 > 980, "{floor:?}");
        let kept = log.show(Seq(0), &mut |_| {});
        assert_eq!(log.bytes(), kept.after(Seq(0)).map(|undo| undo.before.bytes()).sum::<usize>());
    }
}
