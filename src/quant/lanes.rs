//! The least of many numbers that come sixteen at a time, and what it is of.

use super::arithmetic::least_of;
use crate::kernel::TILE;

/// Of each lane the least number so far, and what it is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Least {
    pub(super) numbers: [f32; TILE],
    pub(super) of: [u32; TILE],
}

impl Least {
    /// Before any number came.
    pub(crate) const NONE: Least = Least { numbers: [f32::INFINITY; TILE], of: [0; TILE] };

    /// Takes the numbers that are less than those before. By masks: of choices compilers
    /// make a branch a lane, which took as long as all products of `index/ivf/tiles`.
    #[inline(always)]
    pub(crate) fn lower(&mut self, numbers: &[f32; TILE], of: u32) {
        let Least { numbers: least, of: before } = self;
        for lane in 0..TILE {
            let mask = u32::from(numbers[lane] < least[lane]).wrapping_neg();
            let bits = (numbers[lane].to_bits() & mask) | (least[lane].to_bits() & !mask);
            least[lane] = f32::from_bits(bits);
            before[lane] = (of & mask) | (before[lane] & !mask);
        }
    }

    /// The least of all lanes and its place, where what numbers are of are tiles of sixteen: the
    /// first of several; the first of all if none is finite.
    #[inline(always)]
    pub(crate) fn first(&self) -> (u32, f32) {
        let (least, mut first) = (least_of(&self.numbers), u32::MAX);
        for lane in 0..TILE {
            let place = self.of[lane] * TILE as u32 + lane as u32;
            let is_first = self.numbers[lane] == least && place < first;
            first = if is_first { place } else { first };
        }
        (first, least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_several_is_least_whatever_lane_it_is_in() {
        let mut least = Least::NONE;
        assert_eq!(least.first(), (0, f32::INFINITY));
        let with = |lane: usize, number: f32| {
            let mut numbers = [f32::NAN; TILE];
            numbers[lane] = number;
            numbers
        };
        least.lower(&with(3, f32::INFINITY), 1);
        assert_eq!(least.first(), (0, f32::INFINITY));
        least.lower(&with(9, 2.0), 2);
        least.lower(&with(4, 2.0), 3);
        assert_eq!(least.first(), (2 * 16 + 9, 2.0));
        least.lower(&with(9, 2.0), 4);
        assert_eq!(least.first(), (2 * 16 + 9, 2.0), "one that is no less changes nothing");
        least.lower(&with(0, -1.0), 7);
        assert_eq!(least.first(), (7 * 16, -1.0));
    }
}
