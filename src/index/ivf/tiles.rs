//! The nearest centres of many rows at once, by inner products.
//!
//! A code of a short vector costs as much as one of a longer vector, and so few
//! products are done in that time. Which centre is nearest says half of its squared
//! length less its product with the row, so rows and centres meet as matrices do
//! that are multiplied: a centre that was read meets several rows, and a row
//! sixteen centres together, or more. Both are taken from the mean of all centres, or
//! lengths would drown the differences of what lies far from the origin.
//!
//! Each product is added up alone ([`Arch::tile_dots`]), so what a row meets its centres
//! together with changes no bit; the instruction set may.

use crate::index::training::middle;
use crate::kernel::{Arch, ArchJob, Level, TILE};
use crate::memory::{self, Lined};
use crate::pause::pause;
use crate::quant::Least;

/// Rows that meet a tile together, so that it is read once for all.
const ROWS: usize = 4;

/// Tiles that meet rows together where their sums have place in registers, and that a row without company
/// meets: a single sum would wait for itself.
const TILES: usize = 4;

/// Products between two pauses: some 15 us with AVX-512, 400 without vector instructions.
const PRODUCTS_BETWEEN: usize = 1 << 20;

/// Centres, transposed in tiles: of each the first numbers of its sixteen, then the
/// second ones, and so on. There are whole groups of [`TILES`].
pub(super) struct Tiles {
    dim: usize,
    /// The mean of the centres, but for those that are very far away.
    origin: Vec<f32>,
    values: Lined<f32>,
    /// Half of the squared length of each centre; infinite where there is none.
    halves: Vec<f32>,
}

/// Working memory of questions for the nearest centres.
#[derive(Debug, Default)]
pub(super) struct Meeting {
    rows: Vec<f32>,
    /// The least that each row has met in each lane, and in which tile.
    least: Vec<Least>,
}

impl Tiles {
    /// From centres one after the other.
    pub(super) fn new(centres: &[f32], dim: usize) -> Tiles {
        let count = centres.len() / dim;
        let origin = middle(centres, dim);
        let places = count.next_multiple_of(TILE * TILES);
        let mut values = Lined::filled(0.0, places * dim);
        let mut halves = memory::filled(f32::INFINITY, places);
        for (at, centre) in centres.chunks_exact(dim).enumerate() {
            let tile = &mut values[at / TILE * TILE * dim..];
            let mut squared = 0.0;
            for (axis, (x, origin)) in centre.iter().zip(&origin).enumerate() {
                let moved = x - origin;
                tile[axis * TILE + at % TILE] = moved;
                squared += moved * moved;
            }
            halves[at] = squared / 2.0;
        }
        Tiles { dim, origin, values, halves }
    }

    pub(super) fn bytes(&self) -> usize {
        let floats = self.origin.len() + self.halves.len();
        self.values.bytes() + floats * size_of::<f32>()
    }

    /// The nearest centre of each of some rows, one after the other: the first of
    /// several, and the first of all for a row that is beyond numbers.
    pub(super) fn nearest<'a>(
        &self,
        rows: &[f32],
        meeting: &'a mut Meeting,
        level: Level,
    ) -> impl Iterator<Item = u32> + 'a {
        let Meeting { rows: moved, least } = meeting;
        moved.clear();
        for row in rows.chunks_exact(self.dim) {
            memory::extend(moved, row.iter().zip(&self.origin).map(|(x, origin)| x - origin));
        }
        let count = rows.len() / self.dim;
        least.clear();
        memory::resize(least, count, Least::NONE);
        level.run(Meet { tiles: self, rows: moved, least });
        least.iter().map(|least| least.first().0)
    }
}

/// Lets rows, which were moved to the origin, meet all centres.
struct Meet<'a> {
    tiles: &'a Tiles,
    rows: &'a [f32],
    least: &'a mut [Least],
}

impl ArchJob for Meet<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self, arch: A) {
        let together = self.least.len() / ROWS * ROWS;
        let (rows, alone) = self.rows.split_at(together * self.tiles.dim);
        let (least, least_alone) = self.least.split_at_mut(together);
        if A::HOLDS_MANY_SUMS {
            self.tiles.meet::<A, ROWS, TILES>(arch, rows, least);
        } else {
            self.tiles.meet::<A, ROWS, 1>(arch, rows, least);
        }
        self.tiles.meet::<A, 1, TILES>(arch, alone, least_alone);
    }
}

impl Tiles {
    /// All of the rows meet some tiles before the next ones come, which therefore
    /// stay in the nearest cache.
    #[inline(always)]
    fn meet<A: Arch, const R: usize, const T: usize>(&self, arch: A, rows: &[f32], least: &mut [Least]) {
        if rows.is_empty() {
            return;
        }
        let (halves, dim) = (self.halves.as_chunks::<TILE>().0, self.dim);
        let tiles = self.values.as_chunks::<TILE>().0.chunks_exact(T * dim).zip(halves.as_chunks::<T>().0);
        let between = (PRODUCTS_BETWEEN / (rows.len() * T * TILE)).max(1);
        for (group, (tiles, halves)) in tiles.enumerate() {
            let tiles: [_; T] = std::array::from_fn(|tile| &tiles[tile * dim..][..dim]);
            for (rows, least) in rows.chunks_exact(R * dim).zip(least.as_chunks_mut::<R>().0) {
                let rows: [_; R] = std::array::from_fn(|row| &rows[row * dim..][..dim]);
                let sums = arch.tile_dots(rows, tiles);
                for (least, sums) in least.iter_mut().zip(&sums) {
                    // Written once: what is written by a mask is read back late.
                    let mut lowered = *least;
                    for tile in 0..T {
                        let mut numbers = halves[tile];
                        for lane in 0..TILE {
                            numbers[lane] -= sums[tile][lane];
                        }
                        lowered.lower(&numbers, (group * T + tile) as u32);
                    }
                    *least = lowered;
                }
            }
            if (group + 1).is_multiple_of(between) {
                pause();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::mix;
    use crate::kernel::{Portable, kernels};

    fn vectors(count: usize, dim: usize, seed: u64) -> Vec<f32> {
        let unit = |key: u64| (mix(key) >> 40) as f32 / (1 << 24) as f32 - 0.5;
        (0..(count * dim) as u64).map(|at| unit(mix(seed) ^ at)).collect()
    }

    /// The nearest centre of a row, one centre after the other.
    fn nearest_plain(centres: &[f32], row: &[f32]) -> u32 {
        let count = centres.len() / row.len();
        let share = 1.0 / count as f32;
        let mut origin = vec![0f32; row.len()];
        for centre in centres.chunks_exact(row.len()) {
            origin.iter_mut().zip(centre).for_each(|(sum, x)| *sum += x * share);
        }
        let moved = |from: &[f32]| -> Vec<f32> { from.iter().zip(&origin).map(|(x, o)| x - o).collect() };
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).fold(0f32, |sum, (x, y)| sum + x * y);
        let mut best = (0, f32::INFINITY);
        for (centre, list) in centres.chunks_exact(row.len()).map(moved).zip(0..) {
            let number = dot(&centre, &centre) / 2.0 - dot(&moved(row), &centre);
            best = if number < best.1 { (list, number) } else { best };
        }
        best.0
    }

    #[test]
    fn every_instruction_set_and_any_number_of_rows_find_the_centres_of_plain_rust() {
        for (dim, count) in [(1, 2), (3, 16), (7, 65), (50, 200)] {
            let centres = vectors(count, dim, 1);
            let tiles = Tiles::new(&centres, dim);
            for rows in [0, 1, 3, 4, 6, 13] {
                let rows = vectors(rows, dim, 2);
                let plain: Vec<u32> =
                    rows.chunks_exact(dim).map(|row| nearest_plain(&centres, row)).collect();
                for level in [kernels().level, Level::Portable(Portable)] {
                    let mut meeting = Meeting::default();
                    let found: Vec<u32> = tiles.nearest(&rows, &mut meeting, level).collect();
                    assert_eq!(found, plain, "{dim} numbers, {count} centres");
                }
            }
        }
    }

    #[test]
    fn of_centres_that_are_alike_the_first_is_nearest() {
        let centres = [0.0, 1.0].repeat(40);
        let tiles = Tiles::new(&centres, 1);
        let mut meeting = Meeting::default();
        let found: Vec<u32> = tiles.nearest(&[0.9, 0.1], &mut meeting, kernels().level).collect();
        assert_eq!(found, [1, 0]);
    }

    #[test]
    fn what_lies_far_from_the_origin_is_told_apart_as_well() {
        let dim = 8;
        let far = |vectors: Vec<f32>| -> Vec<f32> { vectors.into_iter().map(|x| x + 1_000.0).collect() };
        let (centres, rows) = (far(vectors(100, dim, 5)), far(vectors(50, dim, 6)));
        let tiles = Tiles::new(&centres, dim);
        let mut meeting = Meeting::default();
        let found = tiles.nearest(&rows, &mut meeting, kernels().level);
        for (row, list) in rows.chunks_exact(dim).zip(found) {
            let squared =
                |centre: &[f32]| -> f32 { row.iter().zip(centre).map(|(x, c)| (x - c) * (x - c)).sum() };
            let least = centres.chunks_exact(dim).map(squared).fold(f32::INFINITY, f32::min);
            assert!(squared(&centres[list as usize * dim..][..dim]) <= 1.001 * least);
        }
    }

    #[test]
    fn a_row_beyond_numbers_is_put_with_the_first_centre() {
        let tiles = Tiles::new(&[1.0, 2.0, 3.0], 1);
        let mut meeting = Meeting::default();
        let found: Vec<u32> = tiles.nearest(&[f32::NAN, 2.9], &mut meeting, kernels().level).collect();
        assert_eq!(found, [0, 2]);
    }
}
