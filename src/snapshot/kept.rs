//! What searches keep, and what becomes of it where there is no more memory.

use std::time::Duration;

use crate::error::SearchError;
use crate::memory;
use crate::query::Query;

/// Does the work of a search with memory that a thread keeps. After work that
/// unwound, for want of more memory or by a defect, nobody knows what it holds:
/// then it is given up.
pub(super) fn with_memory<S: Default, T>(
    scratch: &mut S,
    work: impl FnOnce(&mut S) -> Result<T, SearchError>,
) -> Result<T, SearchError> {
    struct Kept<'a, S: Default>(&'a mut S, bool);
    impl<S: Default> Drop for Kept<'_, S> {
        fn drop(&mut self) {
            if !self.1 {
                *self.0 = S::default();
            }
        }
    }
    let mut kept = Kept(scratch, false);
    let done = memory::unless_short(|| work(&mut *kept.0))?;
    kept.1 = true;
    done
}

/// The same queries of a call that begins now.
///
/// # Errors
/// [`SearchError::NoMemory`].
pub(crate) fn begun(
    queries: &[Query<'_>],
    now: impl Fn() -> Duration,
) -> Result<Vec<Query<'static>>, SearchError> {
    let begun = queries.iter().map(|query| query.kept().begun(&now));
    Ok(memory::unless_short(|| memory::collect(begun))?)
}
