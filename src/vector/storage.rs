//! How a collection keeps its vectors.

use super::format::{Format, halves, lead, near_steps, whole_steps};
use super::space::{Space, VectorError};
use crate::kernel::{from_half, to_half};
use crate::memory;

/// How the vectors of a collection are stored, and what that loses.
///
/// Bytes a vector of *d* dimensions takes, before rounding up to a multiple of
/// 16 or, where that wastes at most an eighth, of 64:
///
/// | storage | bytes a vector | [`get`](crate::Collection::get) gives | distances are those of |
/// |---|---|---|---|
/// | [`Lossless`](VectorStorage::Lossless) | d + 16, 2 d + 4 or 4 d + 4, whatever the data needs | the vector that was put in | the same |
/// | [`Full`](VectorStorage::Full) | 4 d + 4 | the vector that was put in | the same |
/// | [`Half`](VectorStorage::Half) | at most 2 d + 4 | it rounded to half precision | the rounded vector |
/// | [`Byte`](VectorStorage::Byte) | d + 16 | it rounded to 256 steps | the rounded vector |
///
/// Vectors of fewer than about 24 dimensions are hardly shorter in another
/// form and are kept as floats where that is as short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum VectorStorage {
    /// Every number as it was put in, bit for bit, in the shortest of three
    /// forms that the data allows: a byte a number for whole numbers within 255
    /// of the vector's least (images, SIFT, embeddings of 8 bits), two for
    /// numbers of half precision (what many models give), else four. Found by
    /// itself: a collection starts short and changes over, some thousand
    /// vectors at a time, when a vector comes that needs more. The default.
    #[default]
    Lossless,
    /// Four bytes a number, whatever the data.
    Full,
    /// Numbers are rounded to half precision (11 binary digits) when they are
    /// written; those below 6e-8 become 0. A number beyond 65,504 is refused
    /// ([`VectorError::OutOfHalf`]), as is, under cosine, a vector of which
    /// nothing is left.
    Half,
    /// A byte a number: each vector has 256 steps of its own from its least to
    /// its largest number, and each number goes to the nearest, so it moves by
    /// at most half a step, 1/510 of that range (more where floats so large are no finer
    /// than that, or the range is below 3e-36). Vectors that `Lossless` keeps in a byte a number are kept exactly.
    Byte,
}

impl VectorStorage {
    /// Checks a vector that is to be stored, rounds it if the storage says so,
    /// and gives its scale.
    ///
    /// # Errors
    /// [`VectorError`], as [`Space::check`], or when the storage cannot hold it.
    pub(crate) fn admit(self, space: &Space, vector: &mut [f32]) -> Result<f32, VectorError> {
        /// What is rounded to infinity begins halfway from the largest half to
        /// what would be the next.
        const BEYOND: f32 = 65_520.0;
        let scale = space.check(vector)?;
        if self != VectorStorage::Half {
            return Ok(scale);
        }
        if let Some(position) = vector.iter().position(|number| number.abs() >= BEYOND) {
            return Err(VectorError::OutOfHalf { position, value: vector[position] });
        }
        vector.iter_mut().for_each(|number| *number = from_half(to_half(*number)));
        space.check(vector)
    }
}

impl VectorStorage {
    /// Gives an admitted vector the form that it is stored in, for comparisons with what is. Its bytes are the same
    /// when it is stored then.
    pub(crate) fn settle(self, space: &Space, vector: &mut [f32], scale: &mut f32) {
        if self != VectorStorage::Byte || self.narrowest(vector.len()) != Format::Bytes {
            return;
        }
        let mut codes = memory::filled(0, vector.len());
        if whole_steps(vector, &mut codes).is_some() {
            return;
        }
        let mut led = memory::copied(vector);
        lead(near_steps(vector, &mut codes), &codes, &mut led);
        // (Rounding can make one too long that was so but for a hair: it stays as it is.)
        if let Ok(rounded) = space.check(&led) {
            vector.copy_from_slice(&led);
            *scale = rounded;
        }
    }

    /// The format that a matrix begins with.
    pub(super) fn narrowest(self, dim: usize) -> Format {
        let mut formats = Format::ALL.into_iter().filter(|format| format.pays(dim));
        let narrowest = if self == VectorStorage::Full { None } else { formats.next() };
        narrowest.unwrap_or(Format::Full)
    }
}

/// Finds out how wide vectors are stored, before they are.
#[derive(Debug)]
pub(crate) struct Ruler {
    dim: usize,
    widest: Format,
    /// None is ever wider.
    is_done: bool,
    codes: Vec<u8>,
    halves: Vec<u16>,
}

impl Ruler {
    pub(crate) fn new(storage: VectorStorage, dim: usize) -> Ruler {
        let widest = storage.narrowest(dim);
        let is_done = widest == Format::Full || storage == VectorStorage::Byte && widest == Format::Bytes;
        Ruler { dim, widest, is_done, codes: Vec::new(), halves: Vec::new() }
    }

    /// Looks at one more vector: each format is given up once.
    pub(crate) fn look(&mut self, vector: &[f32]) {
        if self.is_done {
            return;
        }
        if self.widest == Format::Bytes {
            self.codes.resize(vector.len(), 0);
            if whole_steps(vector, &mut self.codes).is_some() {
                return;
            }
            self.widest = Format::Half;
        }
        self.halves.resize(vector.len(), 0);
        if !halves(vector, &mut self.halves) {
            self.widest = Format::Full;
            self.is_done = true;
        }
    }

    /// Bytes from one vector to the next.
    pub(crate) fn stride(&self) -> usize {
        self.widest.stride(self.dim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metric;

    #[test]
    fn half_rounds_before_anything_is_stored_and_refuses_what_it_cannot_hold() {
        let space = Space::new(Metric::Cosine, 3);
        let mut vector = [0.1, 1.0, -3.000_1];
        let scale = VectorStorage::Half.admit(&space, &mut vector).unwrap();
        assert_eq!(vector, [0.099_975_586, 1.0, -3.0]);
        assert!((scale - 1.0 / (vector[0] * vector[0] + 10.0).sqrt()).abs() < 1e-6);
        let refused = |mut vector: [f32; 3]| VectorStorage::Half.admit(&space, &mut vector).unwrap_err();
        assert_eq!(refused([1.0, 65_520.0, 0.0]), VectorError::OutOfHalf { position: 1, value: 65_520.0 });
        assert_eq!(refused([1e-9, 0.0, 0.0]), VectorError::NoDirection { length: 0.0 });
        assert!(matches!(refused([f32::NAN, 0.0, 1e9]), VectorError::NotFinite { .. }));
        assert!(VectorStorage::Half.admit(&space, &mut [0.0, 65_519.9, 0.0]).is_ok());
    }

    #[test]
    fn all_others_leave_vectors_as_they_are() {
        let space = Space::new(Metric::L2, 2);
        for storage in [VectorStorage::Lossless, VectorStorage::Full, VectorStorage::Byte] {
            let mut vector = [0.1, 1e18];
            assert_eq!((storage.admit(&space, &mut vector), vector), (Ok(1.0), [0.1, 1e18]));
        }
    }
}
