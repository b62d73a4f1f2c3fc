//! Names of things: record ids, write sequence numbers, snapshot generations.

use crate::memory;
use std::fmt;

/// The caller's name for a record: a number or a text.
///
/// A number and its decimal text are different ids: `7` is not `"7"`.
///
/// ```
/// use vecino::RecordId;
/// assert_eq!(RecordId::from(7), RecordId::Num(7));
/// assert_ne!(RecordId::from("7"), RecordId::from(7));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordId {
    /// A numeric id.
    Num(u64),
    /// A text id.
    Text(Box<str>),
}

impl RecordId {
    /// The number, when the id is one.
    #[must_use]
    pub fn as_num(&self) -> Option<u64> {
        match self {
            RecordId::Num(number) => Some(*number),
            RecordId::Text(_) => None,
        }
    }

    /// The text, when the id is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            RecordId::Num(_) => None,
            RecordId::Text(text) => Some(text),
        }
    }

    /// The same id once more; unwinds where there is no memory for its text.
    #[inline]
    pub(crate) fn copy(&self) -> RecordId {
        match self {
            RecordId::Num(number) => RecordId::Num(*number),
            RecordId::Text(text) => RecordId::Text(memory::boxed_text(text)),
        }
    }

    /// A hash that is the same on every machine and in every build: it decides
    /// which shard a record lives in, so it may never change.
    pub(crate) fn stable_hash(&self) -> u64 {
        match self {
            RecordId::Num(number) => mix(*number),
            RecordId::Text(text) => mix(fnv1a(text.as_bytes()) ^ 0x5bd1_e995_9e37_79b9),
        }
    }

    /// Heap bytes behind the id.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.as_text().map_or(0, str::len)
    }
}

/// FNV-1a (Fowler, Noll, Vo), 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood): every input bit reaches every output bit.
pub(crate) fn mix(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl From<u64> for RecordId {
    fn from(number: u64) -> Self {
        RecordId::Num(number)
    }
}

impl From<&str> for RecordId {
    fn from(text: &str) -> Self {
        RecordId::Text(text.into())
    }
}

impl From<String> for RecordId {
    fn from(text: String) -> Self {
        RecordId::Text(text.into())
    }
}

impl From<&RecordId> for RecordId {
    fn from(id: &RecordId) -> Self {
        id.clone()
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordId::Num(number) => write!(f, "{number}"),
            RecordId::Text(text) => f.write_str(text),
        }
    }
}

/// The position of a write in a collection's history: the first write is 1.
///
/// Snapshots show a prefix of the history, so "is write `s` visible" is
/// `s <= snapshot.seq()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seq(pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The number of a published snapshot of one collection: it only rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A row number inside one shard.
pub(crate) type Row = u32;

/// Rows a shard can hold: graph links keep one bit for themselves.
pub(crate) const MAX_ROWS: usize = (1 << 31) - 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routing_never_changes_between_builds() {
        assert_eq!(RecordId::from(1).stable_hash(), 0x910a_2dec_8902_5cc1);
        assert_eq!(RecordId::from("a").stable_hash(), RecordId::from("a").stable_hash());
        assert_ne!(RecordId::from("7").stable_hash(), RecordId::from(7).stable_hash());
    }
}
