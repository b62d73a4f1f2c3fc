//! A shard that met a defect goes on: from its last view, and what that view
//! does not show is applied again.
//!
//! A panic may leave a shard's state half changed, so the state is given up as a
//! whole. Nothing that was accepted is lost with it: a view holds everything up
//! to its write, and the writes behind that are still there. When the same
//! write meets a defect again and again, it is left out and its number is told;
//! when there is no such write, the shard fails for good.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::command::Keep;
use super::state::{Salvage, ShardState};
use crate::id::Seq;
use crate::rows::ShardView;

/// Defects in a row, without any progress between, after which a write is left
/// out: one may be a coincidence, and each costs a new start.
const DEFECTS_MOST: u32 = 3;

/// Jobs in a row that may come to nothing before a shard fails: they leave it
/// as it was, so trying again is cheap.
const JOBS_MOST: u32 = 3;

/// Makes a shard anew.
pub(crate) trait Rebuilder: Send + Sync {
    /// The shard as a view shows it. Takes a copy of its rows and loads its index.
    ///
    /// # Errors
    /// Why it cannot be.
    fn rebuild(&self, view: Arc<ShardView>) -> Result<ShardState<Keep>, String>;
}

/// What is known of a shard's defects.
pub(super) struct Troubles {
    /// What readers were shown last.
    shown: Arc<ShardView>,
    /// Defects since `shown` last moved on, and where it was then.
    defects: u32,
    at: Seq,
    /// Jobs in a row that came to nothing.
    jobs: u32,
}

/// A shard that goes on.
pub(super) struct Rescued {
    pub(super) state: ShardState<Keep>,
    /// The write that was left out.
    pub(super) left_out: Option<Seq>,
}

impl Troubles {
    pub(super) fn new(shown: Arc<ShardView>) -> Troubles {
        Troubles { at: shown.applied(), shown, defects: 0, jobs: 0 }
    }

    pub(super) fn shows(&mut self, view: Arc<ShardView>) {
        self.shown = view;
    }

    pub(super) fn job_is_done(&mut self) {
        self.jobs = 0;
    }

    /// True when a job that came to nothing may be begun again.
    pub(super) fn may_try_again(&mut self) -> bool {
        self.jobs += 1;
        self.jobs < JOBS_MOST
    }

    /// The shard from its last view, with what `lost` had still to do.
    pub(super) fn rescue(
        &mut self,
        mut lost: ShardState<Keep>,
        rebuilder: &dyn Rebuilder,
    ) -> Result<Rescued, String> {
        let salvage = catch_unwind(AssertUnwindSafe(|| lost.salvage()));
        // Nobody looks at it any more, so a defect in its drop is none either.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(lost)));
        let mut salvage = salvage.map_err(|_| "its queue is lost".to_owned())?;
        let left_out = self.count(&mut salvage)?;
        let view = Arc::clone(&self.shown);
        let rebuilt = catch_unwind(AssertUnwindSafe(|| rebuilder.rebuild(view)));
        let mut state = rebuilt.map_err(|_| "its view cannot be read".to_owned())??;
        state.redo(salvage);
        Ok(Rescued { state, left_out })
    }

    /// Counts a defect; gives the write that is left out from now on.
    fn count(&mut self, salvage: &mut Salvage<Keep>) -> Result<Option<Seq>, String> {
        let shown = self.shown.applied();
        if self.at != shown {
            (self.at, self.defects) = (shown, 0);
        }
        self.defects += 1;
        if self.defects < DEFECTS_MOST {
            return Ok(None);
        }
        let seq = salvage.at.ok_or("one defect after the other")?;
        salvage.leave_out(seq);
        self.defects = 0;
        Ok(Some(seq))
    }
}
