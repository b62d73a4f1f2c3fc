//! Products of rows with tiles of sixteen vectors: the inner step of a product of matrices.
//!
//! All sums of a step stand in registers, and there are so many of them that none has to wait for
//! itself. (Compilers do not find that in loops over arrays: a step of four rows and four tiles
//! takes them ten times as long, one of four rows and a tile twice.)

use super::TILE;
use super::lanes::Lanes;

/// As [`Arch::tile_dots`](super::Arch::tile_dots), with a tile's numbers of one dimension in `V` vectors.
///
/// # Panics
/// When rows and tiles differ in dimension.
///
/// # Safety
/// The processor has the instruction set of `L`.
#[inline(always)]
pub(super) unsafe fn tile_dots<L: Lanes, const R: usize, const T: usize, const V: usize>(
    rows: [&[f32]; R],
    tiles: [&[[f32; TILE]]; T],
) -> [[[f32; TILE]; T]; R] {
    const { assert!(V * L::COUNT == TILE) };
    let dim = rows.first().map_or(0, |row| row.len());
    assert!(rows.iter().all(|row| row.len() == dim), "rows differ in dimension");
    assert!(tiles.iter().all(|tile| tile.len() == dim), "rows and tiles differ in dimension");
    // SAFETY: the caller vouches for the instruction set.
    let mut sums = [[[unsafe { L::zero() }; V]; T]; R];
    for axis in 0..dim {
        // SAFETY: the instruction set as above; vector `part` of `V` begins in the midst of the
        // sixteen numbers that it is a part of.
        let tiles = unsafe { tiles.map(|tile| parts::<L, V>(&tile[axis])) };
        for (sums, row) in sums.iter_mut().zip(&rows) {
            // SAFETY: as above.
            let x = unsafe { L::splat(row[axis]) };
            for (sums, tile) in sums.iter_mut().zip(&tiles) {
                for (sum, part) in sums.iter_mut().zip(tile) {
                    // SAFETY: as above.
                    *sum = unsafe { sum.add_product(x, *part) };
                }
            }
        }
    }
    let mut out = [[[0.0; TILE]; T]; R];
    for (out, sum) in out.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
        for (out, sum) in out.chunks_exact_mut(L::COUNT).zip(sum) {
            // SAFETY: as above; there are `COUNT` numbers in the chunk.
            unsafe { sum.store(out.as_mut_ptr()) };
        }
    }
    out
}

/// Sixteen numbers as vectors.
///
/// # Safety
/// The processor has the instruction set of `L`, and `V` of its vectors are sixteen numbers.
#[inline(always)]
unsafe fn parts<L: Lanes, const V: usize>(numbers: &[f32; TILE]) -> [L; V] {
    // SAFETY: the caller vouches for the instruction set; part `at` of `V` lies within the numbers.
    std::array::from_fn(|at| unsafe { L::load(numbers[at * L::COUNT..].as_ptr()) })
}
