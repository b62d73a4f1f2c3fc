//! Steps of a list of candidates, eight numbers at a time, on every instruction set.

use super::{Kernels, Random};
use crate::kernel::{Arch, ArchJob, Portable};

/// Eight numbers and a bound, some of them close to it.
fn numbers_and_bounds(mut check: impl FnMut([i64; 8], i64)) {
    let mut random = Random(5);
    for round in 0..500 {
        let mut number = || (random.next() * 4.0) as i64 * [1, i64::MAX / 4, 1 << 32][round % 3];
        let (numbers, bound) = (std::array::from_fn(|_| number()), number());
        for bound in [bound, i64::MIN, i64::MAX, -1, 0] {
            check(numbers, bound);
        }
    }
}

/// Which of eight numbers are above a bound.
struct Above([i64; 8], i64);

impl ArchJob for Above {
    type Output = u8;

    fn run<A: Arch>(self, arch: A) -> u8 {
        arch.above(&self.0, self.1)
    }
}

pub(super) fn numbers_above_a_bound_are_told(kernels: Kernels) {
    numbers_and_bounds(|numbers, bound| {
        let expected = Portable.run(Above(numbers, bound));
        assert_eq!(kernels.level.run(Above(numbers, bound)), expected, "{numbers:?} {bound}");
        let count = numbers.iter().filter(|number| **number > bound).count();
        assert_eq!(expected.count_ones() as usize, count);
    });
}

/// Those of eight numbers that are within a bound.
struct Keep([i64; 8], i64);

impl ArchJob for Keep {
    type Output = Vec<i64>;

    fn run<A: Arch>(self, arch: A) -> Vec<i64> {
        let mut kept = [7; 8];
        let count = arch.keep(&self.0, self.1, &mut kept);
        kept[..count].to_vec()
    }
}

pub(super) fn numbers_within_a_bound_come_to_the_front(kernels: Kernels) {
    numbers_and_bounds(|numbers, bound| {
        let expected: Vec<i64> = numbers.into_iter().filter(|number| *number <= bound).collect();
        assert_eq!(kernels.level.run(Keep(numbers, bound)), expected, "{numbers:?} {bound}");
    });
}

/// Two lists, each at places of its own.
struct Spread(u8);

const ONES: [i64; 8] = [-1, -2, -3, -4, -5, -6, -7, i64::MIN];
const ZEROS: [i64; 8] = [1, 2, 3, 4, 5, 6, 7, i64::MAX];

impl ArchJob for Spread {
    type Output = [i64; 8];

    fn run<A: Arch>(self, arch: A) -> [i64; 8] {
        arch.spread(self.0, &ONES, &ZEROS)
    }
}

pub(super) fn numbers_are_spread_over_the_places_of_two_lists(kernels: Kernels) {
    for bits in 0..=u8::MAX {
        let spread = kernels.level.run(Spread(bits));
        let at_ones =
            |wanted: bool| (0..8).filter(move |at| (bits >> at & 1 == 1) == wanted).map(|at| spread[at]);
        assert!(
            at_ones(true).eq(ONES.into_iter().take(bits.count_ones() as usize)),
            "{bits:08b}: {spread:?}"
        );
        assert!(
            at_ones(false).eq(ZEROS.into_iter().take(bits.count_zeros() as usize)),
            "{bits:08b}: {spread:?}"
        );
    }
}
