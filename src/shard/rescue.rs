//! A shard that met a defect goes on: from its last view, and what that view
//! does not show is applied again.
//!
//! A panic may leave a shard's state half changed, so the state is given up as a
//! whole. Nothing that was accepted is lost with it: a view holds everything up
//! to its write, and the writes behind that are still there. When the same
//! write meets a defect again and again, it is left out and its number is told;
//! when there is no such write, or too many were left out, the shard fails for good.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::command::Keep;
use super::state::{Salvage, ShardState};
use crate::id::Seq;
use crate::memory::{Shortage, shortage};
use crate::rows::{Allocation, ShardView};
use crate::snapshot::LEFT_OUT_MOST;

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
    /// Why it cannot be. It may also unwind for want of memory.
    fn rebuild(&self, view: Arc<ShardView>) -> Result<ShardState<Keep>, Trouble>;

    /// The name of the collection, for people.
    fn name(&self) -> &str;

    /// A shard goes on after a defect: counts it.
    fn count(&self);

    /// A shard has no memory for so many bytes, or has again: lets callers know.
    fn tell(&self, shard: usize, shortage: Option<Shortage>);
}

/// Why work on a shard cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// There is no memory for it; it can be done again.
    Short(Shortage),
    /// It never can.
    Fault(String),
}

impl From<Shortage> for Trouble {
    fn from(shortage: Shortage) -> Self {
        Trouble::Short(shortage)
    }
}

impl From<Allocation> for Trouble {
    fn from(fault: Allocation) -> Self {
        match fault {
            Allocation::OutOfMemory { bytes } => Trouble::Short(Shortage { bytes }),
            Allocation::Full { rows } => Trouble::Fault(format!("{rows} rows are all that fit")),
        }
    }
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
    /// The first write of the queue is being applied.
    is_writing: bool,
    /// Writes that were left out.
    left_out: u32,
}

impl Troubles {
    pub(super) fn new(shown: Arc<ShardView>) -> Troubles {
        Troubles { at: shown.applied(), shown, defects: 0, jobs: 0, is_writing: false, left_out: 0 }
    }

    /// How far readers can see: the newest write, and the rows that the index took in.
    pub(super) fn shown(&self) -> (Seq, u64) {
        (self.shown.applied(), self.shown.measure().absorbed)
    }

    pub(super) fn shows(&mut self, view: Arc<ShardView>) {
        self.shown = view;
    }

    /// A defect may be that of the first write of the queue from now on, or none of a write.
    pub(super) fn note_writing(&mut self, is_writing: bool) {
        self.is_writing = is_writing;
    }

    pub(super) fn job_is_done(&mut self) {
        self.jobs = 0;
    }

    /// True when a job that came to nothing may be begun again.
    pub(super) fn may_try_again(&mut self) -> bool {
        self.jobs += 1;
        self.jobs < JOBS_MOST
    }

    /// Counts a defect; gives the write that is left out from now on.
    pub(super) fn count(&mut self, lost: &mut ShardState<Keep>) -> Result<Option<Seq>, Trouble> {
        let shown = self.shown.applied();
        if self.at != shown {
            (self.at, self.defects) = (shown, 0);
        }
        self.defects += 1;
        if self.defects < DEFECTS_MOST {
            return Ok(None);
        }
        let mut salvage = salvage(lost)?;
        let left_out = salvage.at.filter(|_| self.is_writing && (self.left_out as usize) < LEFT_OUT_MOST);
        left_out.into_iter().for_each(|seq| salvage.leave_out(seq));
        lost.redo(salvage);
        self.defects = 0;
        self.left_out += 1;
        left_out.map(Some).ok_or_else(|| Trouble::Fault("one defect after the other".to_owned()))
    }

    /// Puts the shard from its last view in the place of `lost`, with what that
    /// had still to do; this stays in `lost` when there is no memory.
    pub(super) fn rebuild(
        &self,
        lost: &mut ShardState<Keep>,
        rebuilder: &dyn Rebuilder,
    ) -> Result<(), Trouble> {
        let view = Arc::clone(&self.shown);
        let rebuilt = catch_unwind(AssertUnwindSafe(|| rebuilder.rebuild(view)));
        let mut state = trouble(rebuilt, "its view cannot be read")??;
        state.redo(salvage(lost)?);
        let lost = std::mem::replace(lost, state);
        // Nobody looks at it any more, so a defect in its drop is none either.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(lost)));
        Ok(())
    }
}

/// What a state that nobody trusts had still to do.
fn salvage(lost: &mut ShardState<Keep>) -> Result<Salvage<Keep>, Trouble> {
    trouble(catch_unwind(AssertUnwindSafe(|| lost.salvage())), "its queue is lost")
}

/// What came of work that may unwind.
fn trouble<T>(outcome: std::thread::Result<T>, fault: &str) -> Result<T, Trouble> {
    let told = |shortage: Option<Shortage>| {
        shortage.map_or_else(|| Trouble::Fault(fault.to_owned()), Trouble::Short)
    };
    outcome.map_err(|unwound| told(shortage(&*unwound)))
}
