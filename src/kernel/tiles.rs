//! Products of rows with tiles of sixteen vectors: the inner step of a product of matrices.
//!
//! All sums of a step stand in registers, and there are so many of them that none has to wait for
//! itself. (Compilers do not find that in loops over arrays: a step of four rows and four tiles
//! takes them twenty times as long, one of four rows and a tile 1.7 times.)

use super::TILE;
use super::arch::TileSums;
use super::lanes::Lanes;

/// As [`Arch::tile_dots`](super::Arch::tile_dots), with a tile's numbers of one dimension in `V` vectors.
///
/// Only loops over places: what the library's adaptors call is not compiled for the instruction set, and
/// sums that such a call may look at stand in memory, unless the whole program is optimized as one.
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
) -> TileSums<R, T> {
    const { assert!(V * L::COUNT == TILE) };
    let dim = rows.first().map_or(0, |row| row.len());
    assert!(rows.iter().all(|row| row.len() == dim), "rows differ in dimension");
    assert!(tiles.iter().all(|tile| tile.len() == dim), "rows and tiles differ in dimension");
    // SAFETY: the caller vouches for the instruction set.
    let mut sums = [[[unsafe { L::zero() }; V]; T]; R];
    for axis in 0..dim {
        // SAFETY: as above.
        let mut numbers = [[unsafe { L::zero() }; V]; T];
        for tile in 0..T {
            for part in 0..V {
                let from = tiles[tile][axis][part * L::COUNT..].as_ptr();
                // SAFETY: the instruction set as above; `V` times `COUNT` are sixteen, so `COUNT` numbers
                // stand there.
                numbers[tile][part] = unsafe { L::load(from) };
            }
        }
        for row in 0..R {
            // SAFETY: as above.
            let x = unsafe { L::splat(rows[row][axis]) };
            for tile in 0..T {
                for part in 0..V {
                    // SAFETY: as above.
                    sums[row][tile][part] =
                        unsafe { sums[row][tile][part].add_product(x, numbers[tile][part]) };
                }
            }
        }
    }
    let mut out = [[[0.0; TILE]; T]; R];
    for row in 0..R {
        for tile in 0..T {
            for part in 0..V {
                let to = out[row][tile][part * L::COUNT..].as_mut_ptr();
                // SAFETY: as for the numbers of a tile.
                unsafe { sums[row][tile][part].store(to) };
            }
        }
    }
    out
}
