//! How large a code is.

use super::block::HEADER;
use crate::kernel::LINE;

/// Bits of a coordinate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bits {
    /// Two coordinates in a byte.
    Four,
    /// One coordinate in a byte.
    Seven,
}

impl Bits {
    /// The largest code; the least is 0.
    pub(super) fn largest(self) -> f32 {
        match self {
            Bits::Four => 15.0,
            Bits::Seven => 127.0,
        }
    }

    /// What a code is above the number that it stands for.
    pub(super) fn offset(self) -> f32 {
        self.twice_offset() as f32 / 2.0
    }

    /// Twice the offset: a whole number.
    pub(super) fn twice_offset(self) -> i32 {
        match self {
            Bits::Four => 15,
            Bits::Seven => 128,
        }
    }

    /// The largest magnitude that a code can stand for with either sign.
    pub(super) fn reach(self) -> f32 {
        self.largest() - self.offset()
    }
}

/// The bits of a coordinate, and the size of the block that holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) bits: Bits,
    /// Lines of 64 bytes in a block: at least 1.
    pub(crate) lines: usize,
}

impl Shape {
    /// The coordinates that a block has room for.
    pub(crate) fn coordinates(self) -> usize {
        match self.bits {
            Bits::Four => 2 * self.codes(),
            Bits::Seven => self.codes(),
        }
    }

    /// Words of 32 bits in a block.
    pub(crate) fn words(self) -> usize {
        self.bytes() / size_of::<u32>()
    }

    /// Bytes of a block.
    pub(super) fn bytes(self) -> usize {
        self.lines * LINE
    }

    /// Bytes of codes in a block.
    pub(super) fn codes(self) -> usize {
        self.bytes() - HEADER
    }

    /// The numbers of a query over such blocks: one for each place of a code,
    /// also where the header stands.
    pub(super) fn places(self) -> usize {
        match self.bits {
            Bits::Four => 2 * self.bytes(),
            Bits::Seven => self.bytes(),
        }
    }

    /// Twice the whole or half numbers that the codes of a block stand for, as many as there is room for.
    ///
    /// # Panics
    /// When the block is shorter than the shape says.
    pub(super) fn twice_numbers(self, block: &[u8], numbers: &mut [i32]) {
        let codes = &block[HEADER..self.bytes()];
        let twice = |code: u8| 2 * i32::from(code) - self.bits.twice_offset();
        match self.bits {
            Bits::Seven => numbers.iter_mut().zip(codes).for_each(|(number, code)| *number = twice(*code)),
            Bits::Four => {
                let (low, high) = numbers.split_at_mut(codes.len().min(numbers.len()));
                low.iter_mut().zip(codes).for_each(|(number, code)| *number = twice(code & 15));
                high.iter_mut().zip(codes).for_each(|(number, code)| *number = twice(code >> 4));
            }
        }
    }

    /// The place of a coordinate among [`places`](Shape::places). With four
    /// bits, places from `bytes()` on are the high halves of the bytes.
    pub(super) fn place(self, coordinate: usize) -> usize {
        if coordinate < self.codes() { HEADER + coordinate } else { 2 * HEADER + coordinate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_what_the_header_leaves() {
        let room = |bits| [1, 2, 3].map(|lines| Shape { bits, lines }.coordinates());
        assert_eq!(room(Bits::Seven), [52, 116, 180]);
        assert_eq!(room(Bits::Four), [104, 232, 360]);
        assert_eq!(Shape { bits: Bits::Four, lines: 2 }.words(), 32);
    }

    #[test]
    fn every_coordinate_has_a_place_outside_of_the_header() {
        for bits in [Bits::Four, Bits::Seven] {
            let shape = Shape { bits, lines: 2 };
            let places: Vec<usize> = (0..shape.coordinates()).map(|at| shape.place(at)).collect();
            assert!(places.windows(2).all(|two| two[0] < two[1]));
            assert!(places.iter().all(|place| place % shape.bytes() >= HEADER && *place < shape.places()));
        }
    }
}
