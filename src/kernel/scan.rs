//! What the kernels that look codes up in tables have in common.
//!
//! A *group* is the codes of 32 rows, four bits for each of some positions.
//! A position has 16 bytes: byte j is the code of row j below and that of row
//! j + 16 above. A query has 16 numbers for each position, one a code. The sum
//! of a row is that of the numbers which its codes name: one shuffle looks up
//! as many of them as a register has bytes. (André, Kermarrec, Le Scouarnec:
//! "Cache locality is not enough", VLDB 2015; the layout is that of faiss.)
//!
//! Sums are of sixteen bits and whole: every instruction set gives the same.

/// Rows of a group.
pub(crate) const SCAN_ROWS: usize = 32;

/// The bytes of a position, of codes as well as of numbers.
pub(crate) const SCAN_POSITION: usize = 16;

/// Positions come in fours: a register of the widest kind. What is not needed
/// is filled up with numbers that are 0.
pub(crate) const SCAN_STEP: usize = 4;

/// The positions of a group, after checking that everything fits together.
///
/// # Panics
/// When lengths differ or are no multiple of [`SCAN_STEP`] positions.
#[inline(always)]
pub(super) fn check(tables: &[u8], codes: &[u8]) -> usize {
    assert_eq!(tables.len(), codes.len());
    assert!(codes.len().is_multiple_of(SCAN_STEP * SCAN_POSITION));
    codes.len() / SCAN_POSITION
}
