//! A published state at a moment: what has expired by then is not seen.

use std::ops::Deref;

use super::published::{Published, shard_of};
use crate::id::{RecordId, Row};
use crate::payload::{BEFORE_ALL, NEVER, Timestamp};
use crate::rows::ShardView;

/// A published state, and the time at which it is looked at.
#[derive(Clone, Copy)]
pub(crate) struct Sight<'a> {
    published: &'a Published,
    pub(crate) now: Timestamp,
}

impl Deref for Sight<'_> {
    type Target = Published;

    fn deref(&self) -> &Published {
        self.published
    }
}

impl<'a> Sight<'a> {
    pub(crate) fn at(published: &'a Published, now: Timestamp) -> Sight<'a> {
        Sight { published, now }
    }

    /// What has expired is seen too.
    pub(crate) fn of_all(published: &'a Published) -> Sight<'a> {
        Sight { published, now: BEFORE_ALL }
    }

    /// The state.
    pub(crate) fn state(self) -> &'a Published {
        self.published
    }

    /// Where a record stands, if it is visible.
    pub(crate) fn find(self, id: &RecordId) -> Option<(&'a ShardView, Row)> {
        let Sight { published, now } = self;
        let shard = published.shards.get(shard_of(id, published.shards.len()))?;
        let accept = &mut |row| shard.shows(row, published.seq, now) && shard.id(row) == Some(id);
        let row = published.context.directory.find(id, accept)?;
        Some((shard, row))
    }

    /// Visible records.
    pub(crate) fn len(self) -> usize {
        self.published.shards.iter().map(|shard| shard.live_at(self.published.seq, self.now)).sum()
    }
}

impl Published {
    /// The state as it is seen now. Looks at the clock only when something may expire.
    #[inline]
    pub(crate) fn sight(&self) -> Sight<'_> {
        Sight { published: self, now: self.now() }
    }

    /// The time at which it is looked at.
    #[inline]
    pub(crate) fn now(&self) -> Timestamp {
        if self.soonest_expiry() == NEVER { BEFORE_ALL } else { Timestamp(self.context.wall.now()) }
    }

    /// No record expires before.
    #[inline]
    pub(crate) fn soonest_expiry(&self) -> Timestamp {
        self.shards.iter().map(|shard| shard.soonest_expiry(self.seq)).min().unwrap_or(NEVER)
    }
}
