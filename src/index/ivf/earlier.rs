//! What was trained, and is kept by the newest version or by an earlier one that
//! is still read.

use std::sync::{Arc, Weak};

use super::{Coarse, IvfVersion, Trained};
use crate::memory;

/// Things that versions share, by where they stand, and their bytes.
#[derive(Default)]
pub(super) struct Shared(Vec<(usize, usize)>);

impl Shared {
    /// One more, which may have been added before.
    pub(super) fn add<T>(&mut self, one: &Arc<T>, bytes: usize) {
        memory::push(&mut self.0, (Arc::as_ptr(one).addr(), bytes));
    }

    pub(super) fn coarse(&mut self, coarse: &Arc<Coarse>) {
        self.add(coarse, coarse.bytes());
    }

    pub(super) fn trained(&mut self, trained: &Arc<Trained>) {
        self.coarse(&trained.coarse);
        self.add(trained, trained.coder.bytes());
    }

    fn bytes(mut self) -> usize {
        self.0.sort_unstable();
        self.0.dedup_by_key(|(place, _)| *place);
        self.0.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Versions before the newest.
#[derive(Default)]
pub(super) struct Earlier(Vec<Weak<IvfVersion>>);

impl Earlier {
    pub(super) fn add(&mut self, version: &Arc<IvfVersion>) {
        self.0.retain(|version| version.strong_count() > 0);
        memory::push(&mut self.0, Arc::downgrade(version));
    }

    /// Bytes of what was trained for these and for the newest.
    pub(super) fn bytes(&self, newest: &Arc<IvfVersion>) -> usize {
        let mut shared = Shared::default();
        newest.share(&mut shared);
        for version in self.0.iter().filter_map(Weak::upgrade) {
            version.share(&mut shared);
        }
        shared.bytes()
    }
}

impl IvfVersion {
    fn share(&self, shared: &mut Shared) {
        self.filed.iter().for_each(|filed| shared.trained(&filed.trained));
        self.renewal.iter().for_each(|renewal| renewal.share(shared));
    }
}
