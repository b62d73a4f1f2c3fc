//! How the numbers of a stored row are written down.
//!
//! | format | element | a row |
//! |---|---|---|
//! | full | `f32` | the numbers |
//! | half | `u16` | the numbers as IEEE 754 binary16; always finite |
//! | bytes | `u8` | a header of [`BYTES_HEADER`] bytes, then a code for each number |
//!
//! The header of a row of bytes holds two floats of this machine's byte order:
//! offset and step. A number is `offset + step * code`, rounded once.

use super::{Kernels, RowKernels};

/// Bytes before the codes of a row of bytes: a quarter of a cache line, so that
/// loads of 16 codes never cross one. Offset and step are the first 8; the rest
/// is the owner's.
pub(crate) const BYTES_HEADER: usize = 16;

/// What rows of one format are made of.
pub(crate) trait Element: Copy + Default + std::fmt::Debug + 'static {
    /// Elements before the first number.
    const HEADER: usize;

    /// The kernels for such rows.
    fn kernels(of: &Kernels) -> &RowKernels<Self>;

    /// The numbers of a row, in order.
    fn numbers(row: &[Self]) -> impl Iterator<Item = f32>;
}

impl Element for f32 {
    const HEADER: usize = 0;

    #[inline]
    fn kernels(of: &Kernels) -> &RowKernels<f32> {
        &of.full
    }

    #[inline]
    fn numbers(row: &[f32]) -> impl Iterator<Item = f32> {
        row.iter().copied()
    }
}

impl Element for u16 {
    const HEADER: usize = 0;

    #[inline]
    fn kernels(of: &Kernels) -> &RowKernels<u16> {
        &of.half
    }

    #[inline]
    fn numbers(row: &[u16]) -> impl Iterator<Item = f32> {
        row.iter().map(|half| from_half(*half))
    }
}

impl Element for u8 {
    const HEADER: usize = BYTES_HEADER;

    #[inline]
    fn kernels(of: &Kernels) -> &RowKernels<u8> {
        &of.bytes
    }

    #[inline]
    fn numbers(row: &[u8]) -> impl Iterator<Item = f32> {
        let (header, codes) = row.split_at(BYTES_HEADER.min(row.len()));
        let (offset, step) = offset_and_step(header);
        // A step of 1 is common, and an addition rounds once as well.
        codes.iter().map(move |code| match f32::from(*code) {
            code if step == 1.0 => offset + code,
            code => code.mul_add(step, offset),
        })
    }
}

/// What the header of a row of bytes says; zeros when it is cut off.
#[inline]
fn offset_and_step(header: &[u8]) -> (f32, f32) {
    let float = |at: usize| {
        let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        f32::from_ne_bytes(bytes.unwrap_or_default())
    };
    (float(0), float(4))
}

/// Two to the power of 112: between the exponents of the two formats.
pub(super) const REBIAS: f32 = f32::from_bits((127 + 112) << 23);

/// The number that a finite half stands for. The product is exact, also of
/// subnormals.
#[inline]
pub(crate) fn from_half(half: u16) -> f32 {
    let magnitude = f32::from_bits(u32::from(half & 0x7fff) << 13) * REBIAS;
    f32::from_bits(magnitude.to_bits() | u32::from(half & 0x8000) << 16)
}

/// The half nearest to a number, ties to even; for numbers beyond its range the
/// half that stands for infinity.
#[inline]
pub(crate) fn to_half(value: f32) -> u16 {
    /// The least normal half, and one half whose unit is the least half.
    const LEAST_NORMAL: u32 = (127 - 14) << 23;
    const ONE_HALF: f32 = 0.5;
    const INFINITE: u32 = 0x7c00;
    let bits = value.to_bits();
    let (sign, magnitude) = ((bits >> 16) & 0x8000, bits & 0x7fff_ffff);
    let half = if magnitude < LEAST_NORMAL {
        // The addition rounds to whole numbers of least halves.
        (f32::from_bits(magnitude) + ONE_HALF).to_bits() - ONE_HALF.to_bits()
    } else {
        let to_even = 0xfff + ((magnitude >> 13) & 1);
        ((magnitude.saturating_add(to_even) - (112 << 23)) >> 13).min(INFINITE)
    };
    (half | sign) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_comes_back_from_its_number() {
        for half in 0..=u16::MAX {
            if half & 0x7fff < 0x7c00 {
                assert_eq!(to_half(from_half(half)), half);
            }
        }
        assert_eq!(
            (from_half(0x3c00), from_half(0x8001), from_half(0x7bff)),
            (1.0, -(0.5f32.powi(24)), 65_504.0)
        );
    }

    #[test]
    fn numbers_go_to_the_nearest_half_and_ties_to_even() {
        for half in 0..0x7bff_u16 {
            let (low, high) = (from_half(half), from_half(half + 1));
            let middle = f32::midpoint(low, high);
            let even = if half.is_multiple_of(2) { half } else { half + 1 };
            assert_eq!(to_half(middle), even);
            assert_eq!((to_half(middle.next_down()), to_half(middle.next_up())), (half, half + 1));
            assert_eq!(to_half(-middle.next_up()), 0x8000 | (half + 1));
        }
        for large in [65_520.0, 1e6, f32::MAX] {
            assert_eq!((to_half(large), to_half(-large)), (0x7c00, 0xfc00));
        }
        assert_eq!((to_half(65_519.99), to_half(1e-10), to_half(-1e-45)), (0x7bff, 0, 0x8000));
    }
}
