//! What the kernels over codes have in common.
//!
//! A row holds small unsigned numbers, its codes, either one in a byte (up to
//! 127) or two (up to 15). A query holds a signed weight for each, between -127
//! and 127. The product is a sum of whole numbers and exact: every instruction
//! set gives the same bits. Bytes of a row whose weights are 0 may hold
//! anything: that is where a row keeps what is not a code.
//!
//! Rows that are all read stand *interleaved*, 32 at a time: a word of four bytes of each, then the next word of
//! each. A register has words of many rows, so their sums need not be folded, and nothing is read that is not a code.

use super::scan::SCAN_ROWS;

/// Products of one query with the codes of many rows. Nothing is prefetched:
/// the caller knows earlier than the kernel which rows come next.
pub(crate) type CodeDots = fn(query: &[i8], rows: &[&[u8]], out: &mut [i32]);

/// Rows are this many bytes long, or a multiple.
pub(crate) const LINE: usize = 64;

/// How codes stand in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Packing {
    Bytes,
    Nibbles,
}

/// The length of a row, after checking that everything fits together.
///
/// # Panics
/// When lengths that belong together differ, or a row is not a positive
/// multiple of [`LINE`] bytes.
#[inline]
pub(super) fn check(packing: Packing, query: &[i8], rows: &[&[u8]], out: &[i32]) -> usize {
    let len = match packing {
        Packing::Bytes => query.len(),
        Packing::Nibbles => query.len() / 2,
    };
    assert!(len > 0 && len.is_multiple_of(LINE));
    assert!(matches!(packing, Packing::Bytes) || query.len() == 2 * len);
    assert_eq!(rows.len(), out.len());
    assert!(rows.iter().all(|row| row.len() == len));
    len
}

/// Bytes of a word of a row.
pub(super) const WORD: usize = 4;

/// Checks that there are four weights for each word.
///
/// # Panics
/// When there are not.
#[inline(always)]
pub(super) fn check_interleaved(query: &[i8], words: &[[u32; SCAN_ROWS]]) {
    assert_eq!(query.len(), words.len() * WORD);
}

/// Bytes of a row of two lines, which most codes are.
#[cfg(target_arch = "x86_64")]
pub(super) const TWO_LINES: usize = 2 * LINE;

/// Rows that are taken together, so that their sums are folded together.
#[cfg(target_arch = "x86_64")]
pub(super) const GROUP: usize = 4;

/// Hands `four` the starts of each four rows and keeps what it gives. The last
/// rows are filled up with the first of them.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn by_fours(rows: &[&[u8]], out: &mut [i32], four: impl Fn([*const u8; GROUP]) -> [i32; GROUP]) {
    let (groups, rest) = rows.as_chunks::<GROUP>();
    let (outs, out) = out.as_chunks_mut::<GROUP>();
    // Whole groups are stored as they are: a copy of a length that the compiler
    // does not know is a call.
    for (rows, out) in groups.iter().zip(outs) {
        *out = four(rows.map(<[u8]>::as_ptr));
    }
    if let [first, ..] = rest {
        let dots = four(std::array::from_fn(|at| rest.get(at).unwrap_or(first).as_ptr()));
        out.iter_mut().zip(dots).for_each(|(out, dot)| *out = dot);
    }
}
