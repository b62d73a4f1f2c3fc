//! What a write takes of the memory budgets, and how it gets it.

use super::collection::{Collection, CollectionShared};
use crate::error::WriteError;
use crate::memory::{self, Shortage};
use crate::payload::Payload;
use crate::rows::Mutation;
use crate::shard::{Denied, Grant, Need};
use crate::snapshot::{Published, Sight};
use crate::vector::Ruler;

impl Collection {
    /// Memory for all parts of a write; waits as the handle's backpressure says.
    pub(super) fn promise(&self, parts: &[(usize, Vec<Mutation>)]) -> Result<Vec<Grant>, WriteError> {
        let shared = &self.shared;
        if !shared.account.is_bounded() {
            return Ok(Vec::new());
        }
        let is_open = || shared.check_writable().is_ok();
        let granted = shared.account.acquire(&shared.needs(parts)?, self.backpressure, &is_open);
        granted.map_err(|denied| shared.denied(denied))
    }

    /// The same without blocking the thread.
    pub(super) async fn promise_async(
        &self,
        parts: &[(usize, Vec<Mutation>)],
    ) -> Result<Vec<Grant>, WriteError> {
        let shared = &self.shared;
        if !shared.account.is_bounded() {
            return Ok(Vec::new());
        }
        let (needs, is_open) = (shared.needs(parts)?, || shared.check_writable().is_ok());
        let granted = shared.account.acquire_async(&needs, self.backpressure, &is_open).await;
        granted.map_err(|denied| shared.denied(denied))
    }
}

impl CollectionShared {
    /// What the parts of a write take, as the newest snapshot tells which
    /// records are new. Those that are deleted or put in at the same time are
    /// counted when they were applied.
    fn needs(&self, parts: &[(usize, Vec<Mutation>)]) -> Result<Vec<Need>, Shortage> {
        let published = self.cell.pin();
        let need = |(shard, mutations): &(usize, Vec<Mutation>)| self.need(&published, *shard, mutations);
        memory::unless_short(|| memory::collect(parts.iter().map(need)))
    }

    fn need(&self, published: &Published, shard: usize, mutations: &[Mutation]) -> Need {
        let mut ruler = Ruler::new(self.config.vector_storage(), self.config.dimension());
        let mut need = Need { shard, ..Need::default() };
        for mutation in mutations {
            need.queued += mutation.bytes();
            match mutation {
                Mutation::Delete(_)
                | Mutation::DeleteWhere(_)
                | Mutation::Sweep { .. }
                | Mutation::Reindex(_)
                | Mutation::Adopt(_) => {}
                // Touching changes what is there; this may add it.
                Mutation::Expiry(change) if change.gain.is_none() => {
                    need.payloads += Payload::new().expiring(change.expires).bytes();
                }
                Mutation::Expiry(_) => {}
                Mutation::Payload(update) => need.payloads += update.edit.bytes(),
                Mutation::Upsert(new) | Mutation::Conditional(new, ..) => {
                    ruler.look(&new.vector);
                    let payload = new.payload.bytes();
                    match Sight::of_all(published).find(&new.id) {
                        Some((view, row)) => {
                            need.renewed += 1;
                            let before = view.payload(row, published.seq).bytes();
                            need.payloads += payload.saturating_sub(before);
                        }
                        None => {
                            need.rows += 1;
                            need.payloads += payload;
                            need.texts += new.id.heap_bytes();
                        }
                    }
                }
            }
        }
        need.stride = ruler.stride();
        if !need.takes() {
            // What gives back must not be refused, so it must not count.
            need.queued = 0;
        }
        need
    }

    pub(super) fn denied(&self, denied: Denied) -> WriteError {
        match denied {
            Denied::Closed { shard } => WriteError::Gone(self.lost_by(shard)),
            Denied::Short { scope, budget, used, needed, waited } => {
                if let Err(gone) = self.check_writable() {
                    return gone.into();
                }
                tracing::debug!(%scope, budget, used, needed, ?waited, "backpressure");
                WriteError::Budget { scope, budget, used, needed, waited }
            }
        }
    }
}
