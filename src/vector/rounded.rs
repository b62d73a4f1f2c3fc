//! Rounded copies of vectors, as rows that stand by themselves: what an index
//! estimates distances by.
//!
//! | copy | a row |
//! |---|---|
//! | bytes | as [`format`](super::format) has it: 256 steps from the least number to the largest |
//! | half | the numbers over a power of two, as halves; then the power and the squared length (`f32` each) |
//!
//! Each row has steps or a power of its own (as in LVQ; Aguerrebere et al.,
//! 2023): nothing is trained, nothing drifts, and vectors of any length fit.

use super::aligned::view;
use super::format::{Format, nearest_steps, whole_steps};
use super::space::BLOCK;
use crate::kernel::{BYTES_HEADER, Element, Kernels, kernels, to_half};
use crate::memory;
use crate::metric::Metric;

/// The largest number of a half row lies between this and half of it: far from
/// the end of what halves hold, with the least of them far below.
const HALF_TOP: i32 = 14;

/// Copies of vectors of one dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rounded {
    format: Format,
    dim: usize,
}

/// A query in the form of [`Space::prepare`](super::Space::prepare), and how
/// far copies are from it: squared distances, negated inner products under
/// that metric.
#[derive(Clone, Copy)]
pub(crate) struct RoundedQuery<'a> {
    vector: &'a [f32],
    metric: Metric,
    squared_length: f32,
    kernels: Kernels,
}

impl Rounded {
    /// A byte a number.
    pub(crate) fn bytes(dim: usize) -> Rounded {
        Rounded { format: Format::Bytes, dim }
    }

    /// Two bytes a number.
    pub(crate) fn half(dim: usize) -> Rounded {
        Rounded { format: Format::Half, dim }
    }

    /// Words of a row: an even number.
    pub(crate) fn words(self) -> usize {
        let row = match self.format {
            Format::Bytes => BYTES_HEADER + self.dim,
            Format::Half | Format::Full => self.numbers() + 2 * size_of::<f32>(),
        };
        row.next_multiple_of(16) / size_of::<u32>()
    }

    /// Bytes of the numbers of a half row.
    fn numbers(self) -> usize {
        (self.dim * size_of::<u16>()).next_multiple_of(size_of::<f32>())
    }

    /// The row of a vector, in the form of a query.
    ///
    /// # Panics
    /// When the vector has another dimension.
    pub(crate) fn encode(self, vector: &[f32]) -> Vec<u32> {
        assert_eq!(vector.len(), self.dim);
        let mut bytes = memory::filled(0, self.words() * size_of::<u32>());
        match self.format {
            Format::Bytes => encode_bytes(vector, &mut bytes),
            Format::Half | Format::Full => encode_half(vector, self.numbers(), &mut bytes),
        }
        memory::collect(bytes.as_chunks::<4>().0.iter().map(|word| u32::from_ne_bytes(*word)))
    }

    /// What a row stands for.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn decode(self, row: &[u32]) -> Vec<f32> {
        match self.format {
            Format::Bytes => u8::numbers(&view::<u8>(row)[..BYTES_HEADER + self.dim]).collect(),
            Format::Half | Format::Full => {
                let power = self.tail(row).0;
                u16::numbers(&view::<u16>(row)[..self.dim]).map(|x| x * power).collect()
            }
        }
    }

    /// Power and squared length of a half row.
    #[inline]
    fn tail(self, row: &[u32]) -> (f32, f32) {
        let at = self.numbers() / size_of::<f32>();
        (f32::from_bits(row[at]), f32::from_bits(row[at + 1]))
    }

    pub(crate) fn query(self, metric: Metric, vector: &[f32]) -> RoundedQuery<'_> {
        let kernels = kernels();
        RoundedQuery { vector, metric, squared_length: (kernels.dot)(vector, vector), kernels }
    }

    /// Estimates for rows; one that is certainly farther than `bound` may get
    /// infinity.
    ///
    /// # Panics
    /// When a row is shorter than [`Rounded::words`], there are more than
    /// [`BLOCK`], or `out` is shorter than `rows`.
    #[inline]
    pub(crate) fn estimates(self, query: &RoundedQuery<'_>, rows: &[&[u32]], bound: f32, out: &mut [f32]) {
        let out = &mut out[..rows.len()];
        let kernels = &query.kernels;
        match (self.format, query.metric) {
            (Format::Bytes, metric) => {
                let mut all: [&[u8]; BLOCK] = [&[]; BLOCK];
                for (slot, row) in all.iter_mut().zip(rows) {
                    *slot = &view::<u8>(row)[..BYTES_HEADER + self.dim];
                }
                let all = &all[..rows.len()];
                if metric != Metric::Dot {
                    return (kernels.bytes.l2_many)(query.vector, all, bound, out);
                }
                (kernels.bytes.dot_many)(query.vector, all, out);
                out.iter_mut().for_each(|out| *out = -*out);
            }
            (Format::Half | Format::Full, metric) => {
                let mut all: [&[u16]; BLOCK] = [&[]; BLOCK];
                for (slot, row) in all.iter_mut().zip(rows) {
                    *slot = &view::<u16>(row)[..self.dim];
                }
                (kernels.half.dot_many)(query.vector, &all[..rows.len()], out);
                for (out, row) in out.iter_mut().zip(rows) {
                    let (power, squared_length) = self.tail(row);
                    let product = *out * power;
                    *out = match metric {
                        Metric::Dot => -product,
                        _ => (query.squared_length + squared_length - 2.0 * product).max(0.0),
                    };
                }
            }
        }
    }
}

fn encode_bytes(vector: &[f32], bytes: &mut [u8]) {
    let (header, codes) = bytes.split_at_mut(BYTES_HEADER);
    let codes = &mut codes[..vector.len()];
    let exact = whole_steps(vector, codes).map(|offset| (offset, 1.0));
    let (offset, step) = exact.unwrap_or_else(|| nearest_steps(vector, codes));
    for (slot, float) in header.as_chunks_mut::<4>().0.iter_mut().zip([offset, step]) {
        *slot = float.to_ne_bytes();
    }
}

fn encode_half(vector: &[f32], numbers: usize, bytes: &mut [u8]) {
    let power = power_for(vector);
    let mut squares = 0f64;
    for (slot, number) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(vector) {
        let half = to_half(number / power);
        *slot = half.to_ne_bytes();
        squares += u16::numbers(&[half]).map(|x| f64::from(x * power) * f64::from(x * power)).sum::<f64>();
    }
    let tail = bytes[numbers..].as_chunks_mut::<4>().0;
    for (slot, float) in tail.iter_mut().zip([power, squares as f32]) {
        *slot = float.to_ne_bytes();
    }
}

/// The power of two that the largest number is divided by.
fn power_for(vector: &[f32]) -> f32 {
    let largest = vector.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    let exponent = (largest.to_bits() >> (f32::MANTISSA_DIGITS - 1)) as i32 - 127 - HALF_TOP;
    // A normal number, whose inverse is one too.
    f32::from_bits(((exponent.clamp(-126, 126) + 127) as u32) << (f32::MANTISSA_DIGITS - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::mix;

    fn vector(dim: usize, scale: f32, seed: u64) -> Vec<f32> {
        let unit = |at: u64| (mix(seed << 32 ^ at) >> 40) as f32 / (1 << 24) as f32 - 0.5;
        (0..dim as u64).map(|at| unit(at) * scale).collect()
    }

    fn copies(dim: usize) -> [(Rounded, f32); 2] {
        [(Rounded::bytes(dim), 1.0 / 500.0), (Rounded::half(dim), 1.0 / 2_000.0)]
    }

    #[test]
    fn copies_are_near_vectors_of_any_length() {
        for dim in [1, 2, 3, 50, 117, 784] {
            for scale in [1e-30, 1e-14, 1.0, 300.0, 1e8, 1e17] {
                for (rounded, error) in copies(dim) {
                    let vector = vector(dim, scale, dim as u64);
                    let row = rounded.encode(&vector);
                    assert!(row.len() == rounded.words() && row.len().is_multiple_of(4));
                    for (x, copy) in vector.iter().zip(rounded.decode(&row)) {
                        assert!((x - copy).abs() <= scale * error, "{dim} {scale}: {copy} for {x}");
                    }
                }
            }
        }
    }

    #[test]
    fn whole_numbers_of_eight_bits_are_copied_exactly() {
        let vector: Vec<f32> = (0..40).map(|at| (at * 6) as f32).collect();
        for (rounded, _) in copies(40) {
            assert_eq!(rounded.decode(&rounded.encode(&vector)), vector);
        }
    }

    #[test]
    fn estimates_are_the_distances_of_copies() {
        for dim in [1, 7, 64, 785] {
            for (rounded, _) in copies(dim) {
                let query = vector(dim, 3.0, 99);
                let rows: Vec<Vec<u32>> =
                    (0..BLOCK as u64).map(|seed| rounded.encode(&vector(dim, 3.0, seed))).collect();
                let views: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
                for metric in [Metric::L2, Metric::Cosine, Metric::Dot] {
                    let mut out = [0.0; BLOCK];
                    rounded.estimates(&rounded.query(metric, &query), &views, f32::INFINITY, &mut out);
                    for (row, out) in rows.iter().zip(out) {
                        let pairs: Vec<(f32, f32)> = query.iter().copied().zip(rounded.decode(row)).collect();
                        let expected: f32 = match metric {
                            Metric::Dot => pairs.iter().map(|(x, y)| -x * y).sum(),
                            _ => pairs.iter().map(|(x, y)| (x - y) * (x - y)).sum(),
                        };
                        assert!((out - expected).abs() < 1e-5 * dim as f32, "{metric}: {out} {expected}");
                    }
                }
            }
        }
    }

    // Rounding to a step errs by a twelfth of its square on average.
    #[test]
    fn bytes_err_as_steps_between_the_least_and_the_largest_number_must() {
        let (dim, rounded) = (128, Rounded::bytes(128));
        let (mut squares, mut expected) = (0f64, 0f64);
        for seed in 0..200 {
            let vector = vector(dim, 1.0, seed);
            let copy = rounded.decode(&rounded.encode(&vector));
            squares += vector.iter().zip(copy).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>();
            let span = vector.iter().fold(f32::MIN, |most, x| most.max(*x))
                - vector.iter().fold(f32::MAX, |least, x| least.min(*x));
            expected += dim as f64 * (f64::from(span) / 255.0).powi(2) / 12.0;
        }
        assert!((squares / expected - 1.0).abs() < 0.02, "{squares} {expected}");
    }
}
