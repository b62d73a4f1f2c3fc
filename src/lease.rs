//! Knowing when nobody holds an old state any more.
//!
//! What is shared owns a [`Lease`]; the writer keeps its [`Receipt`]. The drop
//! of the lease is the last thing that happens to the shared state, after
//! every read through it; it stores with release what the receipt loads with
//! acquire, so what the writer does after seeing it cannot be seen by those
//! reads.

#[cfg(all(test, vecino_loom))]
use loom::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
#[cfg(not(all(test, vecino_loom)))]
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Says for as long as it lives that its owner may be read.
#[derive(Debug)]
pub(crate) struct Lease {
    released: Arc<AtomicBool>,
}

impl Lease {
    /// Says so no more: for an owner that nobody reads any more, though it still lives.
    pub(crate) fn release(&mut self) {
        self.released.store(true, Ordering::Release);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.release();
    }
}

/// Tells whether a lease is gone.
#[derive(Debug)]
pub(crate) struct Receipt {
    released: Arc<AtomicBool>,
}

impl Receipt {
    pub(crate) fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }
}

/// Lets go of what is not shared any more: nobody but its owner has it, who is about
/// to replace it and does not read what it stands for until then.
#[cfg_attr(all(test, vecino_loom), allow(dead_code, reason = "the model has versions of its own"))]
pub(crate) fn release_unshared<T>(owned: &mut std::sync::Arc<T>, lease: impl FnOnce(&mut T) -> &mut Lease) {
    // Succeeds only after every read through other holders, as their drops do.
    if let Some(owned) = std::sync::Arc::get_mut(owned) {
        lease(owned).release();
    }
}

/// A new lease and its receipt.
pub(crate) fn lease() -> (Lease, Receipt) {
    let released = Arc::new(AtomicBool::new(false));
    (Lease { released: Arc::clone(&released) }, Receipt { released })
}

#[cfg(all(test, not(vecino_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_released_by_its_drop() {
        let (held, receipt) = lease();
        assert!(!receipt.is_released());
        drop(held);
        assert!(receipt.is_released());
    }
}
