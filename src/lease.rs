//! Knowing when nobody holds an old state any more.
//!
//! What is shared owns a [`Lease`]; the writer keeps its [`Receipt`]. The drop
//! of the lease is the last thing that happens to the shared state, after
//! every read through it (or an owner whom nobody else has gives it up, and does
//! not read from then on); it stores with release what the receipt loads with
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

/// Says that its owner may be read, until it is dropped or released.
#[derive(Debug)]
pub(crate) struct Lease {
    released: Arc<AtomicBool>,
}

impl Lease {
    /// For an owner that nobody reads any more, though it still lives.
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
