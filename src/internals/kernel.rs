//! The distance kernels of every instruction set.

use crate::kernel::Kernels;
use crate::kernel::isa::Isa;

/// Distances of one query to many rows within a bound.
pub type ManyWithin = fn(query: &[f32], rows: &[&[f32]], bound: f32, out: &mut [f32]);

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
    pub l2_many: ManyWithin,
    /// Inner products of a query with many rows.
    pub dot_many: fn(query: &[f32], rows: &[&[f32]], out: &mut [f32]),
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
    let Kernels { l2, dot, l2_many, dot_many, byte_dots, nibble_dots, .. } = Kernels::of(Isa::named(isa)?)?;
    Some(Functions { l2, dot, l2_many, dot_many, byte_dots, nibble_dots })
}

/// Asks for the first lines of a slice.
#[inline(always)]
pub fn prefetch<T>(slice: &[T]) {
    crate::kernel::prefetch(slice);
}
