//! The block of a row: a header and its codes, in whole lines of memory.
//!
//! | bytes | content |
//! |---|---|
//! | 0..4 | f32: squared length of the centred vector |
//! | 4..8 | f32: scale, 0 when there is nothing to scale |
//! | 8..12 | u32: number of the row |
//! | 12.. | codes, then zeros |
//!
//! With seven bits a coordinate is one byte. With four, the first coordinates
//! are the low halves of the bytes and the rest the high halves. Numbers are in
//! the byte order of the machine: a block may be filled as words and read as
//! bytes.

/// Bytes before the codes.
pub(super) const HEADER: usize = 12;

/// The word of a block that is the number of its row.
pub(crate) const ROW_WORD: usize = 2;

/// What stands before the codes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Header {
    pub(super) squared_length: f32,
    pub(super) scale: f32,
    pub(super) row: u32,
}

impl Header {
    /// The header of a block; zeros when there is no block.
    #[inline]
    pub(super) fn read(block: &[u8]) -> Header {
        let Some([a, b, c, d, e, f, g, h, i, j, k, l]) = block.first_chunk::<HEADER>().copied() else {
            return Header::default();
        };
        Header {
            squared_length: f32::from_ne_bytes([a, b, c, d]),
            scale: f32::from_ne_bytes([e, f, g, h]),
            row: u32::from_ne_bytes([i, j, k, l]),
        }
    }

    pub(super) fn words(self) -> [u32; HEADER / 4] {
        [self.squared_length.to_bits(), self.scale.to_bits(), self.row]
    }
}

/// The row that a block belongs to.
#[inline]
pub(crate) fn row_of(block: &[u8]) -> u32 {
    Header::read(block).row
}
