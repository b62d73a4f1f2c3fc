//! A shard for which there was no memory: it waits and tries again.
//!
//! Nothing that was accepted is lost meanwhile, and the view that readers have
//! stays. A step or a job that came to nothing is done again; where a state was
//! left half changed the shard is made anew from its view. Its writes give
//! their places in the mailbox back, which are other shards' too, and whoever
//! waits for one is told; callers are refused until all that was accepted is
//! applied. So what waits without a place is what was under way at the time.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::{Hosted, Worker};
use crate::id::Seq;
use crate::memory::Shortage;
use crate::shard::command::{CollectionId, Keep, Report};

/// How long a shard waits before it tries again: what took the memory is often
/// done soon...
const RETRY_FIRST: Duration = Duration::from_millis(20);

/// ...and at most, twice as long each time that nothing came of it: making a
/// shard anew takes a copy of all that it holds.
const RETRY_MOST: Duration = Duration::from_secs(5);

/// A shard that waits for memory, or has not caught up since.
pub(super) struct Pause {
    /// The state was left half changed: nobody may look at more than its queues.
    is_lost: bool,
    /// When it tries again; none: it does so now.
    until: Option<Instant>,
    wait: Duration,
    /// How far it was then: the newest write that was shown, and the rows that the index
    /// took in, of a state that was lost those that were shown.
    reached: (Seq, u64),
    shortage: Shortage,
}

impl Hosted {
    /// True when the state must not be looked at.
    pub(super) fn is_lost(&self) -> bool {
        self.pause.as_ref().is_some_and(|pause| pause.is_lost)
    }

    /// True while nothing is tried that takes memory.
    pub(super) fn is_paused(&self) -> bool {
        self.pause.as_ref().is_some_and(|pause| pause.until.is_some())
    }

    /// What there was no memory for.
    pub(super) fn shortage(&self) -> Option<Shortage> {
        self.pause.as_ref().map(|pause| pause.shortage)
    }

    /// What a write keeps that comes now: nobody waits while there is no memory.
    pub(super) fn kept(&self, mut keep: Keep) -> Keep {
        if let Some(pause) = &self.pause {
            keep.let_go(pause.shortage);
        }
        keep
    }

    /// The state is one that can be trusted.
    pub(super) fn is_rebuilt(&mut self) {
        (self.changed, self.job) = (true, 0);
        self.offer = None;
        if let Some(pause) = &mut self.pause {
            pause.is_lost = false;
        }
    }

    fn pause(&mut self, shortage: Shortage, is_lost: bool) -> Duration {
        let mut reached = self.troubles.shown();
        if !is_lost && !self.is_lost() {
            // In the midst of a write nothing is shown.
            reached.1 = self.state.measure().absorbed;
        }
        let in_vain = self.pause.as_ref().filter(|pause| reached <= pause.reached);
        // What was reached before and lost is no progress when it is reached again.
        let reached = in_vain.map_or(reached, |pause| pause.reached);
        let wait = in_vain.map_or(RETRY_FIRST, |pause| (2 * pause.wait).min(RETRY_MOST));
        let is_lost = is_lost || self.is_lost();
        self.pause = Some(Pause { is_lost, until: Some(Instant::now() + wait), wait, reached, shortage });
        if is_lost {
            self.job = 0;
        }
        // What was applied before can be shown.
        self.changed = !is_lost;
        wait
    }
}

impl Worker {
    /// There is no memory for what a shard has to do.
    pub(super) fn fall_short(&mut self, collection: CollectionId, shortage: Shortage, is_lost: bool) {
        let Some(hosted) = self.shards.get_mut(&collection) else { return };
        let (wait, bytes) = (hosted.pause(shortage, is_lost), shortage.bytes);
        self.has_pauses = true;
        warn!(worker = self.number, collection = hosted.rebuilder.name(), bytes, ?wait, "no memory");
        // It is no defect that jobs come to nothing.
        hosted.troubles.job_is_done();
        // First, so that whoever is told learns why.
        hosted.rebuilder.tell(self.number, Some(shortage));
        hosted.state.keeps_mut().for_each(|keep| keep.let_go(shortage));
        hosted.meter.wake();
        self.ports.reports.send(Report::ShardShort { collection, shard: self.number, shortage });
    }

    /// Tries again where it is time; false when it is not.
    pub(super) fn try_again(&mut self) -> bool {
        if !self.has_pauses {
            return false;
        }
        let now = Instant::now();
        let is_due =
            |hosted: &Hosted| hosted.pause.as_ref().and_then(|pause| pause.until).is_some_and(|at| at <= now);
        let due: Vec<CollectionId> =
            self.shards.iter().filter(|(_, hosted)| is_due(hosted)).map(|(id, _)| *id).collect();
        for collection in &due {
            let Some(hosted) = self.shards.get_mut(collection) else { continue };
            hosted.pause.iter_mut().for_each(|pause| pause.until = None);
            hosted.changed = !hosted.is_lost();
            if hosted.is_lost() {
                self.rebuild(*collection);
            }
        }
        !due.is_empty()
    }

    /// Lets shards be written again that have done all that was accepted.
    pub(super) fn end_pauses(&mut self) {
        if !self.has_pauses {
            return;
        }
        let held_back = &self.held_back;
        let over = |collection: &CollectionId, hosted: &Hosted| {
            hosted.pause.as_ref().is_some_and(|pause| pause.until.is_none() && !pause.is_lost)
                && hosted.state.has_caught_up()
                && !held_back.has(*collection)
        };
        for (_, hosted) in self.shards.iter_mut().filter(|(id, hosted)| over(id, hosted)) {
            hosted.pause = None;
            hosted.rebuilder.tell(self.number, None);
            info!(worker = self.number, collection = hosted.rebuilder.name(), "memory again");
        }
        self.has_pauses = self.shards.values().any(|hosted| hosted.pause.is_some());
    }

    /// The time until a shard tries again.
    pub(super) fn next_try(&self) -> Option<Duration> {
        if !self.has_pauses {
            return None;
        }
        let until = self.shards.values().filter_map(|hosted| hosted.pause.as_ref()?.until).min()?;
        Some(until.saturating_duration_since(Instant::now()))
    }
}
