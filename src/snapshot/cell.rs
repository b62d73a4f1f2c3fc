//! The one place where a new snapshot takes the place of the old one.

use std::ops::Deref;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::published::Published;

/// Holds the newest snapshot of a collection.
#[derive(Debug)]
pub(crate) struct SnapshotCell {
    newest: ArcSwap<Published>,
}

impl SnapshotCell {
    pub(crate) fn new(first: Published) -> SnapshotCell {
        SnapshotCell { newest: ArcSwap::from_pointee(first) }
    }

    /// The newest snapshot, for one read: no lock, and in the common case no
    /// write to memory that other threads touch.
    #[inline]
    pub(crate) fn load(&self) -> impl Deref<Target = Arc<Published>> + use<> {
        let guard: Guard<Arc<Published>> = self.newest.load();
        guard
    }

    /// The newest snapshot, to keep.
    #[inline]
    pub(crate) fn pin(&self) -> Arc<Published> {
        self.newest.load_full()
    }

    /// Publishes: every later `load` sees the new one.
    pub(crate) fn publish(&self, next: Arc<Published>) {
        self.newest.store(next);
    }
}
