//! The instruction sets of x86-64.

use super::Kernels;

pub(super) mod avx2;
mod avx2_codes;
mod avx512;
mod avx512_codes;

/// The kernels for a machine with AVX-512 F. Those over codes want more of
/// AVX-512 than its first processors have, and take AVX2 where it is missing.
pub(super) fn avx512() -> Kernels {
    if avx512_codes::is_available() {
        let (byte_dots, nibble_dots) = (avx512_codes::byte_dots, avx512_codes::nibble_dots);
        Kernels { byte_dots, nibble_dots, ..avx512::KERNELS }
    } else if super::isa::Isa::Avx2.is_available() {
        let (byte_dots, nibble_dots) = (avx2_codes::byte_dots, avx2_codes::nibble_dots);
        Kernels { byte_dots, nibble_dots, ..avx512::KERNELS }
    } else {
        avx512::KERNELS
    }
}
