//! What readers are shown of a shard, and what they need no more.

use super::ShardState;
use crate::id::Seq;
use crate::index::Settling;
use crate::memory;
use crate::rows::{Reindexing, ShardMeasure, ShardView, ViewParts};

impl<T> ShardState<T> {
    /// True when batches wait to be absorbed.
    pub(crate) fn has_batches(&self) -> bool {
        !self.sealed.is_empty()
    }

    /// The state for readers.
    pub(crate) fn view(&mut self) -> ShardView {
        self.rows.prune(self.directory.as_ref());
        let waiting = self.sealed.iter().flat_map(|batch| batch.tail());
        let tail = waiting.chain(self.open.iter().map(|entrant| entrant.row));
        let tail = memory::shared(memory::collect(tail));
        let unlinking = self.sealed.iter().any(|batch| !batch.forget.is_empty());
        let parts = ViewParts {
            index: self.index.version(),
            switched: self.switched.clone(),
            tail,
            applied: self.applied,
            covers: self.covers(),
            live: self.live_applied,
            index_has_dead: unlinking || !self.dead_linked.is_empty(),
            index_newest: self.index_newest,
            floor: self.floor,
            measure: self.measure(),
        };
        let view = ShardView::new(&mut self.rows, parts);
        // Last: making the view may unwind.
        self.unshown.clear();
        view
    }

    /// Writes come in the order of their numbers: what is before the next one and was not applied went to other shards.
    fn covers(&self) -> Seq {
        let before_next = self.pending.front().map_or(0, |write| write.seq.0.saturating_sub(1));
        self.applied.max(Seq(before_next))
    }

    /// What was kept for the optimizations that are done by now.
    pub(crate) fn optimized(&mut self) -> Option<T> {
        let committed = self.batches_sealed - self.sealed.len() as u64;
        let (batch, ..) = self.optimizing.front()?;
        (*batch <= committed).then(|| self.optimizing.pop_front().map(|(.., done)| done)).flatten()
    }

    /// Gives back memory that only older views needed; for moments in which
    /// nothing is written.
    pub(crate) fn settle(&mut self) -> Settling {
        self.rows.prune(self.directory.as_ref());
        self.directory.shrink();
        let is_settled = !self.rows.payloads_mut().settle();
        match self.index.settle() {
            _ if !is_settled => Settling::Stepped,
            Settling::Settled if self.rows.has_unlisted() || self.rows.keeps_more() => Settling::Waiting,
            settling => settling,
        }
    }

    /// Exact searches are frequent; true when that changes what readers see.
    pub(crate) fn want_exact(&mut self) -> bool {
        self.wants_exact = true;
        self.index.want_exact()
    }

    /// Counts and sizes.
    pub(crate) fn measure(&self) -> ShardMeasure {
        ShardMeasure {
            tail: self.sealed.iter().map(|batch| batch.absorb.len()).sum::<usize>() + self.open.len(),
            indexed: self.index.version().len(),
            dead: self.dead_linked.len(),
            free_places: self.rows.free_places(),
            views_held: self.rows.views_held(),
            batches: self.batches_sealed - self.sealed.len() as u64,
            absorbed: self.absorbed,
            pending: self.pending.len(),
            vector_bytes: self.rows.vector_bytes(),
            kept_bytes: self.rows.kept_bytes().iter().sum(),
            row_bytes: self.rows.cell_bytes(),
            payload_bytes: self.rows.payloads().bytes(),
            index_bytes: self.index.bytes()
                + self.ending.iter().chain(&self.successor).map(|it| it.index.bytes()).sum::<usize>(),
            live: self.live_applied,
            high_water: self.rows.high_water(),
            capacity: self.rows.vectors().capacity(),
            stride: self.rows.stride(),
            id_bytes: self.rows.id_bytes(),
            index_kind: self.index.kind(),
            index_reason: self.index.reason(),
            reindexing: match (&self.successor, self.ending.is_empty()) {
                (Some(successor), _) => successor.progress(),
                (None, false) => Reindexing::Ending,
                (None, true) => Reindexing::No,
            },
        }
    }
}
