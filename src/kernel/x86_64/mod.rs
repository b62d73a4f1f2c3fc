//! The instruction sets of x86-64.

use super::{Kernels, Level, Portable};
pub(crate) use arch::{Avx2, Avx512};

mod arch;
mod avx2;
mod avx2_codes;
mod avx2_scan;
mod avx512;
mod avx512_codes;
mod avx512_scan;

/// The kernels for a machine with AVX2 and FMA.
pub(super) fn avx2() -> Kernels {
    let level = Avx2::new().map_or(Level::Portable(Portable), Level::Avx2);
    Kernels { level, ..avx2::KERNELS }
}

/// The kernels for a machine with AVX-512 F. Those over codes want more of
/// AVX-512 than its first processors have, and take AVX2 where it is missing.
pub(super) fn avx512() -> Kernels {
    if let Some(arch) = Avx512::new() {
        let (byte_dots, nibble_dots) = (avx512_codes::byte_dots, avx512_codes::nibble_dots);
        return Kernels { byte_dots, nibble_dots, level: Level::Avx512(arch), ..avx512::KERNELS };
    }
    if !super::isa::Isa::Avx2.is_available() {
        return avx512::KERNELS;
    }
    let Kernels { byte_dots, nibble_dots, level, .. } = avx2();
    Kernels { byte_dots, nibble_dots, level, ..avx512::KERNELS }
}
