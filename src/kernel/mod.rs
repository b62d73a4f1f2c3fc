//! Distance kernels, resolved once at run time.
//!
//! [`isa`] finds the instruction set, [`scalar`] is plain Rust and the oracle
//! of the rest, [`lanes`] holds the loops that the instruction sets share, and
//! the directories of the architectures hold the only intrinsics of the crate,
//! beside those of [`prefetch`](mod@prefetch).

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod arch;
mod codes;
pub(crate) mod isa;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod lanes;
mod prefetch;
mod scalar;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub(crate) use arch::{Arch, ArchJob, Level, Portable};
pub(crate) use codes::{CodeDots, LINE};
use isa::Isa;
pub(crate) use prefetch::{prefetch, prefetch_all};

/// Distances of one query to many rows within a bound.
pub(crate) type ManyWithin = fn(query: &[f32], rows: &[&[f32]], bound: f32, out: &mut [f32]);

/// The distance functions of one instruction set.
///
/// All of them panic when vectors that belong together differ in length, and
/// those over codes also when a row is not a positive multiple of [`LINE`] bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernels {
    /// Squared Euclidean distance of two vectors of the same length.
    pub(crate) l2: fn(&[f32], &[f32]) -> f32,
    /// Inner product of two vectors of the same length.
    pub(crate) dot: fn(&[f32], &[f32]) -> f32,
    /// Squared distances of one query to many rows. A row whose partial sum
    /// already exceeds `bound` may stop early: its output is then
    /// `f32::INFINITY`. A distance that is given is bit for bit what `l2` gives.
    pub(crate) l2_many: ManyWithin,
    /// Inner products of one query with many rows, bit for bit what `dot` gives.
    pub(crate) dot_many: fn(query: &[f32], rows: &[&[f32]], out: &mut [f32]),
    /// Exact products of a query with rows of one code a byte; the query is as
    /// long as a row. See [`codes`].
    pub(crate) byte_dots: CodeDots,
    /// Exact products of a query with rows of two codes a byte: the first half
    /// of the query belongs to the low halves of the bytes, the second to the
    /// high ones. See [`codes`].
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
