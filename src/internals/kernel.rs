//! The distance kernels of every instruction set.

use crate::kernel::isa::Isa;
use crate::kernel::{Arch, ArchJob, Kernels, TILE};

/// Distances of one query to many rows within a bound.
pub type ManyWithin<T> = fn(query: &[f32], rows: &[&[T]], bound: f32, out: &mut [f32]);

/// Products of one query with the codes of many rows.
pub type CodeDots = fn(query: &[i8], rows: &[&[u8]], out: &mut [i32]);

/// The kernels of one instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Functions {
    /// Squared Euclidean distance.
    pub l2: fn(&[f32], &[f32]) -> f32,
    /// Inner product.
    pub dot: fn(&[f32], &[f32]) -> f32,
    /// Squared distances of a query to many rows, within a bound.
    pub l2_many: ManyWithin<f32>,
    /// Inner products of a query with many rows.
    pub dot_many: fn(query: &[f32], rows: &[&[f32]], out: &mut [f32]),
    /// The same over rows of halves.
    pub half_l2_many: ManyWithin<u16>,
    /// The same over rows of 16 bytes with offset and step, then bytes.
    pub bytes_l2_many: ManyWithin<u8>,
    /// Products with rows of one code a byte.
    pub byte_dots: CodeDots,
    /// Products with rows of two codes a byte: the query is twice as long.
    pub nibble_dots: CodeDots,
}

/// The names of the instruction sets of this machine, slowest first.
pub fn isas() -> Vec<&'static str> {
    Isa::available().into_iter().map(Isa::name).collect()
}

/// The kernels of an instruction set; `None` when there is none of that name here.
pub fn functions(isa: &str) -> Option<Functions> {
    let Kernels { l2, dot, full, half, bytes, byte_dots, nibble_dots, .. } = Kernels::of(Isa::named(isa)?)?;
    Some(Functions {
        l2,
        dot,
        l2_many: full.l2_many,
        dot_many: full.dot_many,
        half_l2_many: half.l2_many,
        bytes_l2_many: bytes.l2_many,
        byte_dots,
        nibble_dots,
    })
}

/// Rows that meet tiles together, as those of lists do.
const TILE_ROWS: usize = 4;

/// The products of all rows with the sixteen vectors of each tile, four rows and `T` tiles at a time; their
/// sum, so that they are needed. `None` when there is no instruction set of that name here.
pub fn tile_dots<const T: usize>(isa: &str, rows: &[f32], tiles: &[f32], dim: usize) -> Option<f32> {
    Some(Kernels::of(Isa::named(isa)?)?.level.run(TileDots::<T> { rows, tiles, dim }))
}

struct TileDots<'a, const T: usize> {
    rows: &'a [f32],
    tiles: &'a [f32],
    dim: usize,
}

impl<const T: usize> ArchJob for TileDots<'_, T> {
    type Output = f32;

    #[inline(always)]
    fn run<A: Arch>(self, arch: A) -> f32 {
        let TileDots { rows, tiles, dim } = self;
        let mut all = 0.0;
        for tiles in tiles.as_chunks::<TILE>().0.chunks_exact(T * dim) {
            let tiles: [_; T] = std::array::from_fn(|tile| &tiles[tile * dim..][..dim]);
            for rows in rows.chunks_exact(TILE_ROWS * dim) {
                let rows: [_; TILE_ROWS] = std::array::from_fn(|row| &rows[row * dim..][..dim]);
                let sums = arch.tile_dots(rows, tiles);
                all += sums.as_flattened().iter().map(|sums| sums[0]).sum::<f32>();
            }
        }
        all
    }
}

/// Asks for the first lines of a slice.
#[inline(always)]
pub fn prefetch<T>(slice: &[T]) {
    crate::kernel::prefetch(slice);
}
