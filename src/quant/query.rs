//! A vector, or a block, in the form that blocks are compared with.

use super::block::Header;
use super::projection::{Projected, round_to_weights};
use super::shape::{Bits, Shape};
use crate::memory::{self, Lined};

/// What is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    SquaredL2,
    NegatedDot,
}

/// A query over blocks. Its buffers are kept from one query to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct CodeQuery {
    /// What projected a vector for it; none: it is no vector's.
    pub(super) made_by: Option<(u64, Measure)>,
    pub(super) projected: Projected,
    rounded: Vec<i8>,
    /// A weight for each place of a code in a block, 0 under the header.
    pub(super) weights: Lined<i8>,
    /// What the kernel's products, taken twice, exceed those of the numbers
    /// that the codes stand for.
    pub(super) surplus: i32,
    /// What such a product, times the scale of the row, is multiplied with.
    pub(super) factor: f32,
    /// What an estimate starts from, how much of the row's squared length it
    /// takes, and the least that it can be.
    pub(super) base: f32,
    pub(super) length_weight: f32,
    pub(super) floor: f32,
}

impl CodeQuery {
    /// From the coordinates that were projected.
    pub(super) fn set_projected(&mut self, shape: Shape, measure: Measure) {
        let values = &self.projected.coordinates;
        self.rounded.clear();
        memory::resize(&mut self.rounded, values.len(), 0);
        let scale = round_to_weights(values, &mut self.rounded);
        self.place(shape);
        self.measure(measure, self.projected.squared_length, scale);
    }

    /// The coordinates, rounded, by one scale.
    #[inline(always)]
    pub(super) fn rounded(&self) -> &[i8] {
        &self.rounded
    }

    /// What the kernel's product with the codes of a row, its squared length and its scale come to.
    #[inline(always)]
    pub(super) fn estimate(&self, dot: i32, squared_length: f32, scale: f32) -> f32 {
        let product = (2 * dot - self.surplus) as f32;
        let start = self.base + self.length_weight * squared_length;
        let estimate = start + self.factor * scale * product;
        if estimate > self.floor { estimate } else { self.floor }
    }

    /// How much less an estimate may be than that of a row of no length, for each unit of length of what its codes stand
    /// for: infinite where other things count than products.
    pub(super) fn length(&self) -> f32 {
        let squares: i32 = self.rounded.iter().map(|weight| i32::from(*weight).pow(2)).sum();
        if self.length_weight == 0.0 { -2.0 * self.factor * (squares as f32).sqrt() } else { f32::INFINITY }
    }

    /// What it was prepared for is over.
    pub(crate) fn forget(&mut self) {
        self.made_by = None;
    }

    /// From the codes of a block, exactly.
    pub(super) fn set_block(&mut self, shape: Shape, measure: Measure, rank: usize, block: &[u8]) {
        self.forget();
        let codes = &block[super::block::HEADER..];
        let numbers =
            |code: u8, times: i32| (times * i32::from(code) - times * shape.bits.twice_offset() / 2) as i8;
        self.rounded.clear();
        let scale = match shape.bits {
            Bits::Seven => {
                memory::extend(&mut self.rounded, codes.iter().map(|code| numbers(*code, 1)));
                1.0
            }
            Bits::Four => {
                memory::extend(&mut self.rounded, codes.iter().map(|code| numbers(code & 15, 2)));
                memory::extend(&mut self.rounded, codes.iter().map(|code| numbers(code >> 4, 2)));
                0.5
            }
        };
        self.rounded.truncate(rank);
        self.place(shape);
        let header = Header::read(block);
        self.measure(measure, header.squared_length, header.scale * scale);
    }

    /// Puts the rounded numbers where the kernel looks for them.
    fn place(&mut self, shape: Shape) {
        self.weights.fill_anew(0, shape.places());
        let (first, second) = self.rounded.split_at(self.rounded.len().min(shape.codes()));
        for (part, start) in [(first, shape.place(0)), (second, shape.place(first.len()))] {
            if !part.is_empty() {
                self.weights[start..][..part.len()].copy_from_slice(part);
            }
        }
        let sum: i32 = self.rounded.iter().map(|weight| i32::from(*weight)).sum();
        self.surplus = sum * shape.bits.twice_offset();
    }

    fn measure(&mut self, measure: Measure, squared_length: f32, scale: f32) {
        // The products are taken twice: half of 2 * scale, and of scale.
        (self.base, self.length_weight, self.factor, self.floor) = match measure {
            Measure::SquaredL2 => (squared_length, 1.0, -scale, 0.0),
            Measure::NegatedDot => (0.0, 0.0, -scale / 2.0, f32::NEG_INFINITY),
        };
    }
}
