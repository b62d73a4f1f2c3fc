//! Sums of looked-up numbers, on every instruction set, against plain counting.

use super::{Kernels, Random, refused};
use crate::kernel::scan::{SCAN_POSITION, SCAN_ROWS};
use crate::kernel::{Arch, ArchJob};

struct Scan<'a>(&'a [u8], &'a [u8]);

impl ArchJob for Scan<'_> {
    type Output = [u16; SCAN_ROWS];

    #[inline(always)]
    fn run<A: Arch>(self, arch: A) -> [u16; SCAN_ROWS] {
        let mut sums = [1; SCAN_ROWS];
        arch.scan(self.0, self.1, &mut sums);
        sums
    }
}

/// Row by row, as the layout is described.
fn counted(tables: &[u8], codes: &[u8]) -> [u16; SCAN_ROWS] {
    std::array::from_fn(|row| {
        let code = |position: usize| {
            let byte = codes[position * SCAN_POSITION + row % 16];
            usize::from(if row < 16 { byte & 15 } else { byte >> 4 })
        };
        let positions = 0..codes.len() / SCAN_POSITION;
        positions.map(|position| u16::from(tables[position * SCAN_POSITION + code(position)])).sum()
    })
}

pub(super) fn looked_up_numbers_are_summed_exactly(kernels: Kernels) {
    let (mut numbers, mut codes) = (Random(21), Random(22));
    for positions in [0, 4, 8, 12, 48, 100, 256] {
        for offset in [0, 1, 7] {
            let len = positions * SCAN_POSITION;
            let bytes = |random: &mut Random| -> Vec<u8> {
                (0..len + offset).map(|_| (random.next().abs() * 255.9) as u8).collect()
            };
            let (tables, codes) = (bytes(&mut numbers), bytes(&mut codes));
            let (tables, codes) = (&tables[offset..], &codes[offset..]);
            assert_eq!(kernels.level.run(Scan(tables, codes)), counted(tables, codes), "{positions}");
        }
    }
}

pub(super) fn the_largest_sums_still_fit(kernels: Kernels) {
    let all = vec![255; 256 * SCAN_POSITION];
    assert_eq!(kernels.level.run(Scan(&all, &all)), [256 * 255; SCAN_ROWS]);
}

struct Within([f32; SCAN_ROWS], f32);

impl ArchJob for Within {
    type Output = u32;

    #[inline(always)]
    fn run<A: Arch>(self, arch: A) -> u32 {
        arch.within(&self.0, self.1)
    }
}

pub(super) fn numbers_within_a_bound_are_told(kernels: Kernels) {
    let mut random = Random(23);
    for round in 0..200 {
        let mut numbers: [f32; SCAN_ROWS] = std::array::from_fn(|_| random.next());
        numbers[round % SCAN_ROWS] = f32::NAN;
        numbers[(round + 5) % SCAN_ROWS] = f32::INFINITY;
        for bound in [numbers[(round + 9) % SCAN_ROWS], f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let bits = kernels.level.run(Within(numbers, bound));
            for (at, number) in numbers.iter().enumerate() {
                assert_eq!(bits >> at & 1 == 1, *number <= bound, "{number} {bound}");
            }
        }
    }
}

struct AtLeast([u16; SCAN_ROWS], u16);

impl ArchJob for AtLeast {
    type Output = u32;

    #[inline(always)]
    fn run<A: Arch>(self, arch: A) -> u32 {
        arch.at_least(&self.0, self.1)
    }
}

pub(super) fn sums_above_a_floor_are_told(kernels: Kernels) {
    let mut random = Random(24);
    for round in 0..200 {
        let mut sums: [u16; SCAN_ROWS] = std::array::from_fn(|_| (random.next().abs() * 65_535.9) as u16);
        (sums[round % SCAN_ROWS], sums[(round + 5) % SCAN_ROWS]) = (0, u16::MAX);
        for floor in [0, 1, 32_767, 32_768, u16::MAX, sums[(round + 9) % SCAN_ROWS]] {
            let bits = kernels.level.run(AtLeast(sums, floor));
            for (at, sum) in sums.iter().enumerate() {
                assert_eq!(bits >> at & 1 == 1, *sum >= floor, "{sum} {floor}");
            }
        }
    }
}

pub(super) fn groups_that_do_not_fit_are_refused(kernels: Kernels) {
    let bytes = [0; 8 * SCAN_POSITION];
    refused(&|| _ = kernels.level.run(Scan(&bytes[..64], &bytes)));
    refused(&|| _ = kernels.level.run(Scan(&bytes[..32], &bytes[..32])));
    refused(&|| _ = kernels.level.run(Scan(&bytes[..63], &bytes[..63])));
}
