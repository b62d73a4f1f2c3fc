//! What a state whose work did not come to its end had still to do, and who waits for it.

use super::{PendingWrite, Salvage, ShardState, Work};
use crate::memory::list;

impl<T> ShardState<T> {
    /// What is kept for all who wait.
    pub(crate) fn keeps_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let pending = self.pending.iter_mut().filter_map(|write| match &mut write.work {
            Work::Mutations { keep, .. } => keep.as_mut(),
            Work::Optimize(keep) | Work::Nothing(keep) => Some(keep),
        });
        let optimizing = self.optimizing.iter_mut().map(|(.., keep)| keep);
        pending.chain(optimizing).chain(self.decided.iter_mut().map(|(_, keep, _)| keep))
    }

    /// Whether all that was queued is applied and absorbed.
    pub(crate) fn has_caught_up(&self) -> bool {
        self.pending.is_empty() && self.sealed.is_empty()
    }

    /// What is to be done again when the state is lost: reads the queues only.
    pub(crate) fn salvage(&mut self) -> Salvage<T> {
        let at = self.pending.front().map(|write| write.seq);
        // Before anything is taken: without memory all stays where it is.
        let mut writes = list(self.unshown.len() + self.optimizing.len() + self.pending.len());
        let unshown = std::mem::take(&mut self.unshown);
        let mut decided = std::mem::take(&mut self.decided);
        let done = unshown.into_iter().map(|(seq, all)| {
            // Whoever was not told the verdict yet is told it the second time.
            let waits = decided.iter().position(|(decided, ..)| *decided == seq);
            let keep = waits.and_then(|at| decided.remove(at)).map(|(_, keep, _)| keep);
            (seq, Work::Mutations { all, next: 0, keep, verdict: None })
        });
        let optimizing = std::mem::take(&mut self.optimizing);
        let ordered = optimizing.into_iter().map(|(_, seq, done)| (seq, Work::Optimize(done)));
        writes.extend(done.chain(ordered).map(|(seq, work)| PendingWrite { seq, work }));
        writes.extend(std::mem::take(&mut self.pending));
        for write in &mut writes {
            if let Work::Mutations { next, .. } = &mut write.work {
                *next = 0;
            }
        }
        writes.sort_by_key(|write| write.seq);
        Salvage { writes, at }
    }

    /// Queues what another state of this shard left over.
    pub(crate) fn redo(&mut self, salvage: Salvage<T>) {
        let later = std::mem::replace(&mut self.pending, salvage.writes.into());
        self.pending.extend(later);
    }
}
