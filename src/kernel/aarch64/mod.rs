//! The instruction sets of AArch64.

use super::{Kernels, Level, Portable};
pub(crate) use arch::Neon;

mod arch;
mod neon;
mod neon_codes;
mod neon_scan;

/// The kernels for a machine with NEON.
pub(super) fn neon() -> Kernels {
    let level = Neon::new().map_or(Level::Portable(Portable), Level::Neon);
    Kernels { level, ..neon::KERNELS }
}
