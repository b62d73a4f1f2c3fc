//! Work on one shard that does not come to its end: the others do not notice.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tracing::{error, info};

use super::{Hosted, Worker, describe};
use crate::memory::shortage;
use crate::shard::command::{CollectionId, Report};
use crate::shard::rescue::Trouble;

impl Worker {
    /// Works on one shard. A defect makes it begin anew, want of memory wait; an
    /// error, or defects without end, fail that shard alone.
    pub(super) fn guarded(
        &mut self,
        collection: CollectionId,
        work: impl FnOnce(&mut Hosted) -> Result<(), Trouble>,
    ) {
        let Some(hosted) = self.shards.get_mut(&collection) else { return };
        match catch_unwind(AssertUnwindSafe(|| work(hosted))) {
            Ok(Ok(())) => {}
            Ok(Err(Trouble::Short(shortage))) => self.fall_short(collection, shortage, false),
            Ok(Err(Trouble::Fault(fault))) => self.fail(collection, &fault),
            Err(unwound) => match shortage(&*unwound) {
                Some(shortage) => self.fall_short(collection, shortage, true),
                None => self.rescue(collection, describe(&*unwound)),
            },
        }
    }

    /// The same for work on the write that is first in the shard's queue: a defect may be that write's.
    pub(super) fn guarded_write(
        &mut self,
        collection: CollectionId,
        work: impl FnOnce(&mut Hosted) -> Result<(), Trouble>,
    ) {
        self.note_writing(collection, true);
        self.guarded(collection, work);
        self.note_writing(collection, false);
    }

    fn note_writing(&mut self, collection: CollectionId, is_writing: bool) {
        if let Some(hosted) = self.shards.get_mut(&collection) {
            hosted.troubles.note_writing(is_writing);
        }
    }

    /// Lets a shard that met a defect go on from its last view.
    fn rescue(&mut self, collection: CollectionId, defect: &str) {
        let Some(hosted) = self.shards.get_mut(&collection) else {
            error!(worker = self.number, defect, "shard met a defect");
            return;
        };
        let name = hosted.rebuilder.name();
        error!(worker = self.number, collection = name, defect, "shard met a defect");
        match hosted.troubles.count(&mut hosted.state) {
            Ok(left_out) => {
                if let Some(seq) = left_out {
                    error!(worker = self.number, collection = name, seq = seq.0, "write left out");
                    self.ports.reports.send(Report::LeftOut { collection, shard: self.number, seq });
                }
                self.rebuild(collection);
            }
            Err(Trouble::Short(shortage)) => self.fall_short(collection, shortage, true),
            Err(Trouble::Fault(fault)) => self.fail(collection, &fault),
        }
    }

    /// Makes a shard anew whose state nobody trusts.
    pub(super) fn rebuild(&mut self, collection: CollectionId) {
        let Some(hosted) = self.shards.get_mut(&collection) else { return };
        match hosted.troubles.rebuild(&mut hosted.state, hosted.rebuilder.as_ref()) {
            Ok(()) => {
                hosted.is_rebuilt();
                hosted.rebuilder.count();
                info!(worker = self.number, collection = hosted.rebuilder.name(), "shard rebuilt");
            }
            Err(Trouble::Short(shortage)) => self.fall_short(collection, shortage, true),
            Err(Trouble::Fault(fault)) => self.fail(collection, &fault),
        }
    }

    fn fail(&mut self, collection: CollectionId, fault: &str) {
        // What was queued is dropped with the shard, and whoever waits learns
        // of the failure from the coordinator.
        let failed = self.shards.remove(&collection);
        let name = failed.as_ref().map(|hosted| hosted.rebuilder.name());
        error!(worker = self.number, collection = name, fault, "shard failed");
        let _ = catch_unwind(AssertUnwindSafe(|| drop(failed)));
        self.ports.reports.send(Report::ShardFailed { collection, shard: self.number });
    }
}
