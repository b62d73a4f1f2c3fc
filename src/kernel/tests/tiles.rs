//! Products of rows with tiles, on every instruction set, against sums in double precision.

use super::{Kernels, Random, refused};
use crate::kernel::{Arch, ArchJob, TILE};

/// Some rows and some tiles, one after the other.
struct Meeting<'a, const R: usize, const T: usize> {
    rows: &'a [f32],
    tiles: &'a [[f32; TILE]],
    dim: usize,
}

impl<const R: usize, const T: usize> ArchJob for Meeting<'_, R, T> {
    type Output = [[[f32; TILE]; T]; R];

    #[inline(always)]
    fn run<A: Arch>(self, arch: A) -> Self::Output {
        let Meeting { rows, tiles, dim } = self;
        let rows = std::array::from_fn(|row| &rows[row * dim..][..dim]);
        arch.tile_dots(rows, std::array::from_fn(|tile| &tiles[tile * dim..][..dim]))
    }
}

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    (0..count).map(|_| random.next()).collect()
}

pub(super) fn rows_meet_every_vector_of_a_tile(kernels: Kernels) {
    for dim in [0, 1, 2, 7, 50, 129] {
        let (rows, tiles) = (numbers(4 * dim, 31), numbers(4 * dim * TILE, 32));
        let tiles = tiles.as_chunks::<TILE>().0;
        let sums = kernels.level.run(Meeting::<4, 4> { rows: &rows, tiles, dim });
        for (row, sums) in sums.iter().enumerate() {
            for (tile, sums) in sums.iter().enumerate() {
                for (lane, sum) in sums.iter().enumerate() {
                    let term = |axis: usize| {
                        f64::from(rows[row * dim + axis]) * f64::from(tiles[tile * dim + axis][lane])
                    };
                    let exact: f64 = (0..dim).map(term).sum();
                    let magnitude: f64 = (0..dim).map(|axis| term(axis).abs()).sum();
                    let most = (dim + 1) as f64 * f64::from(f32::EPSILON) / 2.0 * magnitude;
                    assert!((f64::from(*sum) - exact).abs() <= most, "{dim} numbers: {sum}, not {exact}");
                }
            }
        }
    }
}

pub(super) fn products_do_not_depend_on_what_stands_together(kernels: Kernels) {
    let dim = 37;
    let (rows, tiles) = (numbers(4 * dim, 33), numbers(4 * dim * TILE, 34));
    let tiles = tiles.as_chunks::<TILE>().0;
    let together = kernels.level.run(Meeting::<4, 4> { rows: &rows, tiles, dim });
    let halves = kernels.level.run(Meeting::<4, 1> { rows: &rows, tiles: &tiles[dim..], dim });
    for row in 0..4 {
        let alone = kernels.level.run(Meeting::<1, 4> { rows: &rows[row * dim..], tiles, dim });
        assert_eq!((together[row], together[row][1]), (alone[0], halves[row][0]));
    }
}

pub(super) fn rows_of_another_dimension_meet_no_tile(kernels: Kernels) {
    struct Uneven<'a>(&'a [f32], &'a [f32], &'a [[f32; TILE]]);

    impl ArchJob for Uneven<'_> {
        type Output = [[[f32; TILE]; 1]; 2];

        #[inline(always)]
        fn run<A: Arch>(self, arch: A) -> Self::Output {
            arch.tile_dots([self.0, self.1], [self.2])
        }
    }

    let tile = [[1.0; TILE]; 3];
    for (first, second) in [(3, 2), (2, 3), (4, 4), (4, 3), (0, 0)] {
        let row = [1.0; 4];
        refused(&|| _ = kernels.level.run(Uneven(&row[..first], &row[..second], &tile)));
    }
}
