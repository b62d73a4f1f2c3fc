//! From a vector to what a sieve keeps of it.

use super::{HEADER_WORDS, Level, MAX_SQUARED_LENGTH, OFFSET, REACH, ROUNDING, Sieve, UNDERFLOW};
use crate::memory;
use crate::quant::arithmetic::{largest_magnitude, nearest, nearest_byte};
use crate::quant::projection::WEIGHT;

/// Room for rounding in what is computed in double precision, relatively.
const DOUBLE: f64 = 1e-6;

/// The same for sums of as many squares as a vector can have numbers.
const SQUARES: f64 = 1e-11;

/// Working memory of [`Sieve::encode`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Screen {
    pub(super) centred: Vec<f32>,
    pub(super) coordinates: Vec<f32>,
    block: Vec<u8>,
}

/// What a level keeps beside the codes: the header of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Dust {
    /// What the codes are multiplied with.
    pub(super) scale: f32,
    /// The length of what this level and those before it leave.
    pub(super) rest: f32,
    /// The length of all that is kept: numbers of all levels so far, and `rest`.
    pub(super) length: f32,
    /// How far that may be from the truth; infinite when nothing is known.
    pub(super) error: f32,
}

/// What has gone into the levels so far.
pub(super) struct Progress {
    /// Of the scaled vector, squared; `None` when it has no bounds.
    squared_length: Option<f64>,
    coordinates: usize,
    /// Sums of squares: coordinates, what the codes stand for, what rounding
    /// to codes lost.
    squared: f64,
    kept: f64,
    lost: f64,
}

impl Dust {
    const UNKNOWN: Dust = Dust { scale: 0.0, rest: 0.0, length: 0.0, error: f32::INFINITY };

    fn words(self) -> [u32; HEADER_WORDS] {
        [self.scale, self.rest, self.length, self.error].map(f32::to_bits)
    }
}

impl Sieve {
    /// Fills `words`, [`Sieve::all_words`] of them, with the blocks of all levels.
    ///
    /// # Panics
    /// When there are fewer words or the vector is of another dimension.
    pub(crate) fn encode(&self, vector: &[f32], work: &mut Screen, mut words: &mut [u32]) {
        let mut progress = self.start(vector, &mut work.centred);
        for level in &self.levels {
            let (own, rest) = words.split_at_mut(level.bytes / size_of::<u32>());
            words = rest;
            self.project(level, &work.centred, &mut work.coordinates);
            let scale = scale(&work.coordinates, REACH);
            work.block.clear();
            memory::resize(&mut work.block, level.bytes, 0);
            let inverse = inverse(scale);
            let codes = &mut work.block[super::HEADER..];
            for (code, value) in codes.iter_mut().zip(&work.coordinates) {
                *code = nearest_byte((value * inverse).clamp(-REACH, REACH) + OFFSET);
            }
            let numbers = codes.iter().map(|code| f32::from(*code) - OFFSET);
            let dust = self.settle(level, &mut progress, &work.coordinates, numbers, scale);
            for (word, bytes) in own.iter_mut().zip(work.block.chunks_exact(4)) {
                *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
            own[..HEADER_WORDS].copy_from_slice(&dust.words());
        }
    }

    /// Centres and scales a vector.
    pub(super) fn start(&self, vector: &[f32], centred: &mut Vec<f32>) -> Progress {
        assert_eq!(vector.len(), self.dim);
        centred.clear();
        memory::extend(
            centred,
            vector.iter().zip(&self.mean).map(|(value, mean)| (value - mean) * self.unit),
        );
        let squared: f64 = centred.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
        let is_usable = squared <= MAX_SQUARED_LENGTH && !self.is_spoiled();
        if !is_usable {
            centred.fill(0.0);
        }
        let squared_length = is_usable.then_some(squared);
        Progress { squared_length, coordinates: 0, squared: 0.0, kept: 0.0, lost: 0.0 }
    }

    /// The coordinates of a centred vector.
    pub(super) fn project(&self, level: &Level, centred: &[f32], coordinates: &mut Vec<f32>) {
        coordinates.clear();
        let rows = level.directions.chunks_exact(self.dim);
        memory::extend(coordinates, rows.map(|direction| (self.kernels.dot)(direction, centred)));
    }

    /// What is known after a level whose coordinates became `numbers` times `scale`.
    pub(super) fn settle(
        &self,
        level: &Level,
        progress: &mut Progress,
        coordinates: &[f32],
        numbers: impl Iterator<Item = f32>,
        scale: f32,
    ) -> Dust {
        let Some(squared_length) = progress.squared_length else { return Dust::UNKNOWN };
        for (value, number) in coordinates.iter().zip(numbers) {
            let (value, kept) = (f64::from(*value), f64::from(number) * f64::from(scale));
            progress.squared += value * value;
            progress.kept += kept * kept;
            progress.lost += (value - kept) * (value - kept);
        }
        progress.coordinates += coordinates.len();
        let length = squared_length.sqrt();
        // A sum of n products in single precision is off by at most n + 3
        // roundings of the sum of their magnitudes, which is at most the
        // product of the lengths (of a direction: below 1.05).
        let each = 1.1 * (self.dim + 3) as f64 * ROUNDING * length;
        let summing = each * (progress.coordinates as f64).sqrt() + UNDERFLOW;
        let (rest, unsure) = match level.is_last_of_all {
            true => (0.0, 0.0),
            false => self.rest(squared_length, progress.squared, summing),
        };
        // The centring rounds each number once.
        let error = (progress.lost + unsure * unsure).sqrt() + summing + 2.0 * ROUNDING * length;
        let kept = progress.kept + f64::from(rest) * f64::from(rest);
        Dust {
            scale,
            rest,
            length: kept.sqrt() as f32,
            error: rounded_up(error * (1.0 + DOUBLE) + UNDERFLOW),
        }
    }

    /// The length that is left, and how far it may be from the truth.
    fn rest(&self, squared_length: f64, squared: f64, summing: f64) -> (f32, f64) {
        let length = squared_length.sqrt();
        let slack = self.delta * 1.2 * squared_length + 2.2 * length * summing + summing * summing;
        let slack = slack + SQUARES * squared_length;
        let middle = squared_length - squared;
        let rest = middle.max(0.0).sqrt() as f32;
        let (low, high) = ((middle - slack).max(0.0).sqrt(), (middle + slack).max(0.0).sqrt());
        (rest, (high - f64::from(rest)).max(f64::from(rest) - low).max(0.0))
    }
}

/// What numbers up to `reach` are multiplied with to give the values; 0 when
/// there is nothing but zeros.
pub(super) fn scale(values: &[f32], reach: f32) -> f32 {
    let scale = largest_magnitude(values) / reach;
    if inverse(scale).is_finite() { scale } else { 0.0 }
}

pub(super) fn inverse(scale: f32) -> f32 {
    if scale > 0.0 { 1.0 / scale } else { 0.0 }
}

/// The nearest weight that a query can have.
pub(super) fn weight(value: f32) -> i8 {
    nearest(value.clamp(-WEIGHT, WEIGHT)) as i8
}

/// A float that is not below.
pub(super) fn rounded_up(value: f64) -> f32 {
    let rounded = value as f32;
    if f64::from(rounded) < value { rounded.next_up() } else { rounded }
}
