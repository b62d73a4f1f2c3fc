//! The formats of rows: how long rows are in each, and which vectors fit.
//!
//! | format | a row |
//! |---|---|
//! | bytes | offset, step, scale (`f32` each), 4 bytes of zeros, a code for each dimension |
//! | half | a half for each dimension, to the next multiple of 4, scale |
//! | full | a float for each dimension, scale |
//!
//! A vector *fits* when every number comes back bit for bit. Integers of 8
//! bits, signed or not, fit bytes; what a model computed in half precision
//! fits halves; minus zero fits halves, and not bytes.

use super::aligned::Plain;
use crate::kernel::{BYTES_HEADER, Element, from_half, to_half};
use crate::memory;

/// A format, narrowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Format {
    Bytes,
    Half,
    Full,
}

/// What rows of a format are made of.
pub(super) trait Stored: Element + Plain {
    const FORMAT: Format;
}

impl Stored for u8 {
    const FORMAT: Format = Format::Bytes;
}

impl Stored for u16 {
    const FORMAT: Format = Format::Half;
}

impl Stored for f32 {
    const FORMAT: Format = Format::Full;
}

/// Bytes in a cache line.
const LINE: usize = 64;

/// Rows begin at multiples of this: a load of the widest vectors then crosses
/// as few lines as it can.
const STEP: usize = 16;

/// Where the scale of a row of bytes stands.
const BYTES_SCALE: usize = 8;

const FLOAT: usize = size_of::<f32>();

impl Format {
    pub(super) const ALL: [Format; 3] = [Format::Bytes, Format::Half, Format::Full];

    /// Where the scale stands in a row, in bytes.
    #[inline]
    pub(super) fn scale_at(self, dim: usize) -> usize {
        match self {
            Format::Bytes => BYTES_SCALE,
            Format::Half => (dim * size_of::<u16>()).next_multiple_of(FLOAT),
            Format::Full => dim * FLOAT,
        }
    }

    /// Bytes of a row that are used.
    pub(super) fn used(self, dim: usize) -> usize {
        match self {
            Format::Bytes => BYTES_HEADER + dim,
            Format::Half | Format::Full => self.scale_at(dim) + FLOAT,
        }
    }

    /// Bytes from one row to the next: whole cache lines when that wastes at
    /// most an eighth, else steps of 16.
    pub(super) fn stride(self, dim: usize) -> usize {
        let used = self.used(dim);
        let lines = used.next_multiple_of(LINE);
        if (lines - used) * 8 <= used { lines } else { used.next_multiple_of(STEP) }
    }

    /// Whether rows are shorter than in every wider format: short vectors are
    /// no shorter as bytes.
    pub(super) fn pays(self, dim: usize) -> bool {
        Format::ALL.iter().filter(|wider| **wider > self).all(|wider| self.stride(dim) < wider.stride(dim))
    }
}

/// Numbers that are tried together; a vector that does not fit shows in the
/// first ones.
const PIECE: usize = 32;

/// The offset from which whole numbers below 256 lead to the vector; they are
/// written to `codes`.
pub(super) fn whole_steps(vector: &[f32], codes: &mut [u8]) -> Option<f32> {
    let offset = vector.iter().copied().fold(f32::INFINITY, f32::min);
    for (numbers, codes) in vector.chunks(PIECE).zip(codes.chunks_mut(PIECE)) {
        let mut fits = true;
        for (number, code) in numbers.iter().zip(codes) {
            // Saturates: what does not fit comes back as another number.
            *code = (number - offset) as u8;
            fits &= (offset + f32::from(*code)).to_bits() == number.to_bits();
        }
        if !fits {
            return None;
        }
    }
    Some(offset)
}

/// Offset and step that lead to numbers near the vector's, at most about half
/// a step off: a 510th of the distance of the largest number from the least.
/// Both are whole numbers of a grid on which every sum of them is exact. The
/// vector that they lead to is stored as it is: a checkpoint holds vectors,
/// and opening it must give the same bytes.
pub(super) fn near_steps(vector: &[f32], codes: &mut [u8]) -> (f32, f32) {
    /// Where the distance is but some steps of the grid, rounding makes it less, and the step
    /// with it, for which numbers are rounded once more: a few rounds at most. Where the
    /// largest number goes to and fro across a power of two, steps come back: then the
    /// least count, which all of them lead to.
    const ROUNDS: usize = 16;
    let mut known: Vec<((f32, f32), Vec<u8>)> = Vec::new();
    let mut led = memory::copied(vector);
    let first = loop {
        let steps = nearest_steps(&led, codes);
        let same = known.iter().position(|(known, before)| *known == steps && **before == *codes);
        if same.is_some() || known.len() == ROUNDS {
            break same.unwrap_or(0);
        }
        lead(steps, codes, &mut led);
        memory::push(&mut known, (steps, memory::copied(codes)));
    };
    let order = |one: &((f32, f32), Vec<u8>), other: &((f32, f32), Vec<u8>)| {
        let bits = |((offset, step), _): &((f32, f32), Vec<u8>)| (offset.to_bits(), step.to_bits());
        bits(one).cmp(&bits(other)).then_with(|| one.1.cmp(&other.1))
    };
    let took_rounds = known.len() > 1;
    let Some((steps, mut least)) = known.drain(first..).min_by(order) else {
        return nearest_steps(vector, codes);
    };
    if took_rounds {
        // Rounded once, by the steps that stand still, numbers are nearer than rounded in turn, if the steps still do.
        step_codes(steps, vector, codes);
        lead(steps, codes, &mut led);
        let once = memory::copied(codes);
        if nearest_steps(&led, codes) == steps && *codes == *once {
            least = once;
        }
    }
    // Whole steps are tried first when it is stored again.
    lead(steps, &least, &mut led);
    if let Some(offset) = whole_steps(&led, codes) {
        return (offset, 1.0);
    }
    codes.copy_from_slice(&least);
    steps
}

/// The numbers that steps lead to.
pub(super) fn lead((offset, step): (f32, f32), codes: &[u8], numbers: &mut [f32]) {
    numbers.iter_mut().zip(codes).for_each(|(number, code)| *number = offset + f32::from(*code) * step);
}

/// As [`near_steps`], but that the vector which they lead to may have others.
pub(super) fn nearest_steps(vector: &[f32], codes: &mut [u8]) -> (f32, f32) {
    let (least, most) = vector.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), number| {
        (least.min(*number), most.max(*number))
    });
    let step = (most - least) / f32::from(u8::MAX);
    if step < f32::MIN_POSITIVE {
        codes.fill(0);
        return (least + 0.0, 0.0);
    }
    let grid = unit(step, STEP_BITS).max(unit(least.abs().max(most.abs()), f32::MANTISSA_DIGITS));
    // (No zero with a sign: numbers that it leads to have none.)
    let (offset, step) = ((least / grid).floor() * grid + 0.0, (step / grid).ceil() * grid);
    step_codes((offset, step), vector, codes);
    (offset, step)
}

/// The number of the step that each number is nearest to.
fn step_codes((offset, step): (f32, f32), vector: &[f32], codes: &mut [u8]) {
    for (number, code) in vector.iter().zip(codes) {
        *code = ((number - offset) / step + 0.5) as u8;
    }
}

/// Significant bits of a step: 255 steps of so many bits are exact in a float.
const STEP_BITS: u32 = f32::MANTISSA_DIGITS - u8::BITS;

/// The worth of the last bit of a number that is rounded to so many bits (of
/// the least normal number if that is more).
fn unit(number: f32, bits: u32) -> f32 {
    let exponent = number.to_bits() >> (f32::MANTISSA_DIGITS - 1) & 0xff;
    f32::from_bits(exponent.saturating_sub(bits - 1).max(1) << (f32::MANTISSA_DIGITS - 1))
}

/// Writes a vector as halves; false when it does not fit.
pub(super) fn halves(vector: &[f32], halves: &mut [u16]) -> bool {
    for (numbers, halves) in vector.chunks(PIECE).zip(halves.chunks_mut(PIECE)) {
        let mut fits = true;
        for (number, half) in numbers.iter().zip(halves) {
            *half = to_half(*number);
            // The half for infinity comes back as 65,536.
            fits &= from_half(*half).to_bits() == number.to_bits() && *half & 0x7fff < 0x7c00;
        }
        if !fits {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_bytes(vector: &[f32]) -> Option<Vec<f32>> {
        let mut codes = vec![0; vector.len()];
        let offset = whole_steps(vector, &mut codes)?;
        Some(codes.iter().map(|code| offset + f32::from(*code)).collect())
    }

    fn fits_halves(vector: &[f32]) -> bool {
        let mut stored = vec![0; vector.len()];
        halves(vector, &mut stored)
    }

    #[test]
    fn integers_of_eight_bits_fit_bytes() {
        let unsigned: Vec<f32> = (0..=255).map(|x| x as f32).collect();
        let signed: Vec<f32> = (-128..=127).map(|x| x as f32).collect();
        let far: Vec<f32> = (0..=255).map(|x| 70_000.5 + x as f32).collect();
        for vector in [unsigned, signed, far, vec![0.1; 50], vec![1e-40; 3], vec![-3e18]] {
            assert_eq!(as_bytes(&vector), Some(vector));
        }
    }

    #[test]
    fn what_would_change_fits_no_bytes() {
        for vector in [
            &[0.0, 256.0][..],
            &[0.0, 0.5],
            &[-0.0, 0.0],
            &[-0.0],
            &[0.1, 0.7],
            &[1e10, 1e10 + 2e4],
            &[0.0, 1e-40],
        ] {
            assert_eq!(as_bytes(vector), None, "{vector:?}");
        }
        let mut late = vec![7.0; 100];
        late[99] = 7.25;
        assert_eq!(as_bytes(&late), None);
    }

    #[test]
    fn what_halves_hold_fits_them_and_nothing_else() {
        for x in [0.0, -0.0, 0.1f32, 65_504.0, 2.0f32.powi(-24), 1.0 / 3.0].map(|x| from_half(to_half(x))) {
            assert!(fits_halves(&[x, -x]));
        }
        for x in [0.1, 65_505.0, 65_536.0, 1e20, 2.0f32.powi(-25), 1e-40, 2_049.0] {
            let mut late = [0.5; 40];
            late[39] = x;
            assert!(!fits_halves(&[x]) && !fits_halves(&late), "{x}");
        }
    }

    #[test]
    fn rounded_numbers_are_at_most_half_a_step_off() {
        let mut codes = [0; 1_000];
        for (scale, shift) in [(1.0, 0.0), (1e-30, 0.0), (1e15, 3e15), (0.001, 100.0)] {
            let vector: [f32; 1_000] = std::array::from_fn(|at| (at as f32).sin() * scale + shift);
            let (offset, step) = near_steps(&vector, &mut codes);
            let rounding = (shift + scale) * f32::EPSILON;
            for (number, code) in vector.iter().zip(codes) {
                let stored = f32::from(code).mul_add(step, offset);
                assert!((number - stored).abs() <= step * 0.5001 + rounding, "{stored} for {number}");
            }
            assert!((step - scale * 2.0 / 255.0).abs() < step * 1e-3 + rounding);
        }
        assert_eq!(near_steps(&[4.5; 3], &mut codes[..3]), (4.5, 1.0));
    }

    #[test]
    fn rounded_numbers_are_stored_as_they_are() {
        for case in 0..20_000 {
            // Up to where the span is but some steps of the grid of the numbers.
            let (span, far) = (10f32.powi(case % 9 - 4), 10f32.powi(case % 11 - 3) * (1 + case % 7) as f32);
            let shift = if case % 3 == 0 { 0.0 } else { span * far * (case as f32).sin() };
            let vector: [f32; 40] =
                std::array::from_fn(|at| shift + span * ((case * 40) as f32 + at as f32).sin());
            assert_stored_as_they_are(&vector);
            // The largest number at a power of two: beside it the grid is finer.
            let most = vector.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let (power, small) = (2f32.powi(case % 21 - 10), 10f32.powi(-(case % 5)) / span);
            assert_stored_as_they_are(&vector.map(|x| power + (x - most) * small * power));
        }
    }

    #[test]
    fn vectors_that_steps_of_one_lead_to_have_such_steps_at_once() {
        let cases: [&[f32]; 4] =
            [&[2_097_152.0, 2_097_252.8], &[1e-37, 2e-37], &[-0.0; 3], &[-0.0, 1.0, 0.3]];
        for vector in cases {
            let (mut codes, mut again) = ([0; 3], [0; 3]);
            let (codes, again) = (&mut codes[..vector.len()], &mut again[..vector.len()]);
            let (offset, step) = near_steps(vector, codes);
            let led: Vec<f32> = codes.iter().map(|code| offset + f32::from(*code) * step).collect();
            let exact = whole_steps(&led, again).map(|offset| (offset, 1.0));
            let (offset_again, step_again) = exact.unwrap_or_else(|| near_steps(&led, again));
            assert_eq!((offset.to_bits(), step), (offset_again.to_bits(), step_again), "{vector:?}");
            assert_eq!(codes, again, "{vector:?}");
        }
    }

    #[test]
    fn numbers_are_rounded_once_by_the_steps_that_stay() {
        // Rounded by steps of 3 and then by steps of 2 the second was a whole step away.
        let vector = [8_388_608.0, 8_388_610.0, 8_389_119.0];
        let mut codes = [0; 3];
        assert_eq!(near_steps(&vector, &mut codes), (8_388_608.0, 2.0));
        assert_eq!(codes, [0, 1, 255]);
    }

    fn assert_stored_as_they_are(vector: &[f32; 40]) {
        let mut codes = [0; 40];
        let (offset, step) = near_steps(vector, &mut codes);
        let rounded = codes.map(|code| offset + f32::from(code) * step);
        let mut again = [0; 40];
        assert_eq!(near_steps(&rounded, &mut again), (offset, step), "{vector:?}");
        assert_eq!(again, codes, "{vector:?}");
        let span = rounded.iter().zip(vector).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        assert!(span <= 1.5 * step, "{span} {step} {vector:?}");
    }

    #[test]
    fn strides_waste_at_most_an_eighth() {
        for dim in 1..2_000 {
            for format in Format::ALL {
                let (used, stride) = (format.used(dim), format.stride(dim));
                assert!(stride - used < STEP || (stride - used) * 8 <= used);
                assert!(stride.is_multiple_of(STEP) && format.scale_at(dim) + FLOAT <= used);
            }
        }
        assert_eq!(Format::ALL.map(|format| format.stride(784)), [832, 1_600, 3_200]);
        assert_eq!(Format::ALL.map(|format| format.pays(2)), [false, false, true]);
        assert_eq!(Format::ALL.map(|format| format.pays(50)), [true, true, true]);
    }
}
