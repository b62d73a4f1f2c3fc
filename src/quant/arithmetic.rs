//! Loops over floats in the form that the compiler makes vector instructions of.

/// Sums that are kept apart.
pub(super) const LANES: usize = 8;

/// Adding this to a float of magnitude below 2^22 leaves the nearest whole
/// number in the low bits of the mantissa (1.5 * 2^23).
const ROUNDER: f32 = 12_582_912.0;

/// The nearest whole number, of a magnitude below 2^22; halves go to the even one.
#[inline(always)]
pub(super) fn nearest(value: f32) -> f32 {
    (value + ROUNDER) - ROUNDER
}

/// The nearest whole number as a byte, signed or not, that it must fit into.
#[inline(always)]
pub(super) fn nearest_byte(value: f32) -> u8 {
    (value + ROUNDER).to_bits() as u8
}

/// The least number; infinity when there is none.
#[inline(always)]
pub(crate) fn least_of(numbers: &[f32]) -> f32 {
    const LANES: usize = 16;
    let less = |a: f32, b: f32| if b < a { b } else { a };
    let (chunks, rest) = numbers.as_chunks::<LANES>();
    let mut lanes = [f32::INFINITY; LANES];
    for chunk in chunks {
        for (lane, number) in lanes.iter_mut().zip(chunk) {
            *lane = less(*lane, *number);
        }
    }
    // Halved until one is left, and not one after the other.
    let eight: [f32; 8] = std::array::from_fn(|at| less(lanes[at], lanes[at + 8]));
    let four: [f32; 4] = std::array::from_fn(|at| less(eight[at], eight[at + 4]));
    let least = less(less(four[0], four[2]), less(four[1], four[3]));
    rest.iter().fold(least, |least, number| less(least, *number))
}

/// The largest magnitude; 0 when there is none.
pub(super) fn largest_magnitude(values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, rest) = values.as_chunks::<LANES>();
    let rest = rest.iter().fold(0.0, |most, value| larger(most, value.abs()));
    let mut lanes = [0f32; LANES];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, value.abs());
        }
    }
    lanes.into_iter().fold(rest, larger)
}

/// `values += factor * other`.
pub(super) fn add_scaled(values: &mut [f32], factor: f32, other: &[f32]) {
    for (value, other) in values.iter_mut().zip(other) {
        *value += factor * other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_finds_the_nearest_whole_number() {
        for (value, whole) in [(0.4, 0.0), (-0.6, -1.0), (126.6, 127.0), (-126.7, -127.0), (2.5, 2.0)] {
            assert_eq!(nearest(value), whole);
            assert_eq!(nearest_byte(value) as i8, whole as i8);
        }
    }

    #[test]
    fn the_largest_magnitude_may_stand_anywhere() {
        for len in 1..40 {
            for at in 0..len {
                let mut values = vec![0.5; len];
                values[at] = -3.0;
                assert_eq!(largest_magnitude(&values), 3.0);
            }
        }
        assert_eq!(largest_magnitude(&[]), 0.0);
    }
}
