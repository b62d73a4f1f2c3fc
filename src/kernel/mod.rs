//! Distance kernels, resolved once at run time.
//!
//! [`isa`] finds the instruction set, [`scalar`] is plain Rust and the oracle
//! of the rest, [`formats`] says how rows are written down, [`lanes`] and [`tiles`] hold the loops that the instruction sets share, and
//! the directories of the architectures hold the only intrinsics of the crate,
//! beside those of [`prefetch`](mod@prefetch).

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod arch;
mod codes;
mod formats;
pub(crate) mod isa;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod lanes;
mod prefetch;
mod scalar;
mod scan;
#[cfg(test)]
mod tests;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tiles;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub(crate) use arch::{Arch, ArchJob, Level, Portable, TILE};
pub(crate) use codes::{CodeDots, LINE};
pub(crate) use formats::{BYTES_HEADER, Element, from_half, to_half};
use isa::Isa;
pub(crate) use prefetch::{prefetch, prefetch_all, prefetch_one_of_many};
pub(crate) use scan::{SCAN_POSITION, SCAN_ROWS, SCAN_STEP};

/// Distances of one query to many rows within a bound.
pub(crate) type ManyWithin<T> = fn(query: &[f32], rows: &[&[T]], bound: f32, out: &mut [f32]);

/// Distances of vectors to stored rows of one format, whose elements are `T`.
///
/// All of them give, bit for bit, what those over floats give for the numbers
/// that the row stands for; and panic when query and row differ in dimension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowKernels<T: 'static> {
    /// Squared Euclidean distance.
    pub(crate) l2: fn(&[f32], &[T]) -> f32,
    /// Inner product.
    pub(crate) dot: fn(&[f32], &[T]) -> f32,
    /// Squared distances of one query to many rows. A row whose partial sum
    /// already exceeds `bound` may stop early: its output is then
    /// `f32::INFINITY`. A distance that is given is bit for bit what `l2` gives.
    pub(crate) l2_many: ManyWithin<T>,
    /// Inner products of one query with many rows, bit for bit what `dot` gives.
    pub(crate) dot_many: fn(query: &[f32], rows: &[&[T]], out: &mut [f32]),
    /// The numbers of a row.
    pub(crate) widen: fn(row: &[T], out: &mut [f32]),
}

/// The distance functions of one instruction set.
///
/// Those over codes panic when vectors that belong together differ in length,
/// or a row is not a positive multiple of [`LINE`] bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernels {
    /// Squared Euclidean distance of two vectors of the same length.
    pub(crate) l2: fn(&[f32], &[f32]) -> f32,
    /// Inner product of two vectors of the same length.
    pub(crate) dot: fn(&[f32], &[f32]) -> f32,
    /// Over rows of floats.
    pub(crate) full: RowKernels<f32>,
    /// Over rows of halves.
    pub(crate) half: RowKernels<u16>,
    /// Over rows of bytes with a header: see [`formats`].
    pub(crate) bytes: RowKernels<u8>,
    /// Exact products of a query with rows of one code a byte; the query is as
    /// long as a row. See [`codes`].
    pub(crate) byte_dots: CodeDots,
    /// Exact products of a query with rows of two codes a byte: the first half
    /// of the query belongs to the low halves of the bytes, the second to the
    /// high ones. See [`codes`].
    #[cfg_attr(
        not(any(target_arch = "x86_64", feature = "internals", test)),
        expect(dead_code, reason = "only the tables of x86-64 are made of others'")
    )]
    pub(crate) nibble_dots: CodeDots,
    /// The same instruction set for longer loops.
    pub(crate) level: Level,
}

impl Kernels {
    /// The kernels of an instruction set; `None` when this machine lacks it.
    pub(crate) fn of(isa: Isa) -> Option<Kernels> {
        if !isa.is_available() {
            return None;
        }
        match isa {
            Isa::Scalar => Some(scalar::KERNELS),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Some(x86_64::avx2()),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Some(x86_64::avx512()),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Some(aarch64::neon()),
            _ => None,
        }
    }
}

/// The kernels of the instruction set in use. When a faulty one is forced they
/// are the best of this machine: reporting the fault is the engine's part.
pub(crate) fn kernels() -> Kernels {
    let isa = isa::selected().unwrap_or_else(|_| Isa::detected());
    Kernels::of(isa).unwrap_or(scalar::KERNELS)
}
