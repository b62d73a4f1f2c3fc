//! From a vector to its few coordinates: one matrix of small whole numbers.
//!
//! The matrix has one row for each coordinate, rounded to seven bits with a
//! scale a row; a vector is rounded to eight bits to meet it. Both errors are
//! about 1 % of a coordinate's spread.

use super::arithmetic::{largest_magnitude, nearest_byte};
use super::basis::{Directions, orthonormalise, random_rows};
use super::principal::combine;
use super::shape::Bits;
use crate::codec::{Decoder, Encoder, Malformed};
use crate::id::mix;
use crate::kernel::{Kernels, LINE};
use crate::memory::{self, Lined};

/// The largest weight of a rounded vector.
pub(super) const WEIGHT: f32 = 127.0;

/// Rows of the matrix that go to the kernel in one call.
const ROWS_PER_CALL: usize = 16;

/// Told apart from the seed of the training, which is the same.
const ROTATION: u64 = 0x0005_ca1e;

/// An affine map from vectors to coordinates.
pub(super) struct Projection {
    mean: Vec<f32>,
    /// Rows of codes, each filled up with zeros to whole lines.
    codes: Lined<u8>,
    scales: Vec<f32>,
    stride: usize,
    kernels: Kernels,
}

/// Scratch of a projection, and what it found.
#[derive(Clone, Debug, Default)]
pub(super) struct Projected {
    /// The coordinates.
    pub(super) coordinates: Vec<f32>,
    /// The squared length of the centred vector.
    pub(super) squared_length: f32,
    centred: Vec<f32>,
    weights: Lined<i8>,
    /// What a product of the kernel exceeds that of the numbers meant.
    surplus: i32,
}

impl Projection {
    /// Projects to the span of orthonormal directions, turned at random.
    pub(super) fn new(mean: Vec<f32>, directions: &[f32], seed: u64, kernels: Kernels) -> Projection {
        let dim = mean.len();
        let rank = directions.len() / dim;
        let mut random = Directions::new(seed ^ ROTATION);
        let mut rotation = random_rows(rank, rank, &mut random);
        orthonormalise(&mut rotation, rank, 2, &kernels, &mut random);
        let matrix = combine(&rotation, directions, rank, dim);
        Projection::rounded(mean, &matrix, kernels)
    }

    /// A random rotation of all dimensions.
    pub(super) fn rotation(mean: Vec<f32>, seed: u64, kernels: Kernels) -> Projection {
        let dim = mean.len();
        let mut random = Directions::new(seed ^ ROTATION);
        let mut rotation = random_rows(dim, dim, &mut random);
        orthonormalise(&mut rotation, dim, 2, &kernels, &mut random);
        Projection::rounded(mean, &rotation, kernels)
    }

    fn rounded(mean: Vec<f32>, matrix: &[f32], kernels: Kernels) -> Projection {
        let dim = mean.len();
        let stride = dim.next_multiple_of(LINE);
        let mut codes = Lined::filled(0, matrix.len() / dim * stride);
        let mut scales = memory::list(matrix.len() / dim);
        let (reach, offset) = (Bits::Seven.reach(), Bits::Seven.offset());
        for (row, codes) in matrix.chunks_exact(dim).zip(codes.chunks_exact_mut(stride)) {
            let largest = largest_magnitude(row);
            let inverse = if largest > 0.0 { reach / largest } else { 0.0 };
            scales.push(largest / reach);
            for (code, value) in codes.iter_mut().zip(row) {
                *code = nearest_byte(value * inverse + offset);
            }
        }
        Projection { mean, codes, scales, stride, kernels }
    }

    /// How many coordinates there are.
    pub(super) fn rank(&self) -> usize {
        self.scales.len()
    }

    pub(super) fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    /// The coordinates of a vector.
    pub(super) fn apply(&self, vector: &[f32], projected: &mut Projected) {
        let scale = self.round(vector, projected);
        for part in 0..self.parts() {
            self.multiply(part, scale, projected);
        }
    }

    /// The coordinates of many vectors: a part of the matrix is read from
    /// memory once for all of them.
    pub(super) fn apply_many<'a>(&self, vectors: impl Iterator<Item = (&'a [f32], &'a mut Projected)>) {
        let rounded = vectors.map(|(vector, projected)| (self.round(vector, projected), projected));
        let mut rounded: Vec<(f32, &mut Projected)> = memory::collect(rounded);
        for part in 0..self.parts() {
            for (scale, projected) in &mut rounded {
                self.multiply(part, *scale, projected);
            }
        }
    }

    /// Centres a vector and rounds it; gives the scale of the weights.
    fn round(&self, vector: &[f32], projected: &mut Projected) -> f32 {
        let Projected { coordinates, squared_length, centred, weights, surplus } = projected;
        centred.clear();
        memory::extend(centred, vector.iter().zip(&self.mean).map(|(value, mean)| value - mean));
        *squared_length = (self.kernels.dot)(centred, centred);
        weights.fill_anew(0, self.stride);
        let scale = round_to_weights(centred, weights);
        let sum: i32 = weights.iter().map(|weight| i32::from(*weight)).sum();
        *surplus = sum * Bits::Seven.twice_offset() / 2;
        coordinates.clear();
        scale
    }

    /// Parts of the matrix that are multiplied in one call.
    fn parts(&self) -> usize {
        self.scales.len().div_ceil(ROWS_PER_CALL)
    }

    /// Adds the coordinates of one part.
    fn multiply(&self, part: usize, scale: f32, projected: &mut Projected) {
        let from = part * ROWS_PER_CALL;
        let scales = &self.scales[from..self.scales.len().min(from + ROWS_PER_CALL)];
        let mut rows = [&[][..]; ROWS_PER_CALL];
        let mut dots = [0; ROWS_PER_CALL];
        let (rows, dots) = (&mut rows[..scales.len()], &mut dots[..scales.len()]);
        for (row, codes) in rows.iter_mut().zip(self.codes[from * self.stride..].chunks_exact(self.stride)) {
            *row = codes;
        }
        (self.kernels.byte_dots)(&projected.weights, rows, dots);
        let surplus = projected.surplus;
        let products = dots.iter().zip(scales).map(|(dot, own)| (dot - surplus) as f32 * (own * scale));
        memory::extend(&mut projected.coordinates, products);
    }

    pub(super) fn save(&self, out: &mut Encoder) {
        out.size(self.mean.len());
        out.size(self.rank());
        out.floats(&self.mean);
        out.floats(&self.scales);
        out.raw(&self.codes);
    }

    pub(super) fn load(input: &mut Decoder<'_>, kernels: Kernels) -> Result<Projection, Malformed> {
        let (dim, rank) = (input.count(size_of::<f32>())?, input.size()?);
        input.check(0 < rank && rank <= dim, "a projection has no such number of coordinates")?;
        let (mean, scales) = (input.floats(dim)?, input.floats(rank)?);
        let stride = dim.next_multiple_of(LINE);
        let bytes = rank.checked_mul(stride).ok_or_else(|| input.fault("a projection is too large"))?;
        Ok(Projection { mean, codes: Lined::copied(input.raw(bytes)?), scales, stride, kernels })
    }

    /// Dimensions of the vectors.
    pub(super) fn dim(&self) -> usize {
        self.mean.len()
    }

    /// Bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        self.codes.bytes() + (self.mean.capacity() + self.scales.capacity()) * size_of::<f32>()
    }

    /// A number that names its content.
    pub(super) fn digest(&self) -> u64 {
        let floats = self.mean.iter().chain(&self.scales).map(|value| u64::from(value.to_bits()));
        floats
            .chain(self.codes.iter().map(|code| u64::from(*code)))
            .fold(0, |digest, part| mix(digest ^ part))
    }
}

/// Rounds values to whole weights and gives the scale that leads back: 0 when
/// there is nothing but zeros. Weights beyond the values stay.
pub(super) fn round_to_weights(values: &[f32], weights: &mut [i8]) -> f32 {
    let largest = largest_magnitude(values);
    let inverse = WEIGHT / largest;
    if !inverse.is_finite() {
        weights.fill(0);
        return 0.0;
    }
    for (weight, value) in weights.iter_mut().zip(values) {
        *weight = nearest_byte(value * inverse) as i8;
    }
    largest / WEIGHT
}
