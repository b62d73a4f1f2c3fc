//! The rows of one block, as bits.

/// Rows of a block, as a power of two: a column of bytes fills 16 cache lines.
pub(crate) const SHIFT: u32 = 10;
pub(crate) const ROWS: usize = 1 << SHIFT;

/// Words of a mask.
pub(crate) const WORDS: usize = ROWS / 64;

/// Some of the rows of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mask(pub(crate) [u64; WORDS]);

impl Mask {
    pub(super) const NONE: Mask = Mask([0; WORDS]);
    pub(super) const ALL: Mask = Mask([u64::MAX; WORDS]);

    #[inline]
    pub(super) fn set(&mut self, at: usize) {
        if let Some(word) = self.0.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
    }

    pub(super) fn put(&mut self, at: usize, value: bool) {
        if let Some(word) = self.0.get_mut(at / 64) {
            *word = *word & !(1 << (at % 64)) | u64::from(value) << (at % 64);
        }
    }

    pub(super) fn contains(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word & (1 << (at % 64)) != 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().fold(0, |any, word| any | word) == 0
    }

    pub(super) fn and(&mut self, other: &Mask) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word &= other);
    }

    pub(super) fn or(&mut self, other: &Mask) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word |= other);
    }

    pub(super) fn not(&mut self) {
        self.0.iter_mut().for_each(|word| *word = !*word);
    }

    /// The first `count` rows.
    pub(super) fn first(count: usize) -> Mask {
        let mut mask = Mask::NONE;
        for (at, word) in mask.0.iter_mut().enumerate() {
            *word = match count.saturating_sub(at * 64) {
                0 => 0,
                rest if rest >= 64 => u64::MAX,
                rest => (1 << rest) - 1,
            };
        }
        mask
    }
}
