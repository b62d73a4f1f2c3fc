//! Numbers and texts as little-endian bytes, and back: the language of all files.
//!
//! A [`Decoder`] is handed bytes that may be anything. It never reads beyond
//! them, and checks every count against the bytes that are left before
//! anything is allocated for it. An [`Encoder`] unwinds where there is no memory.

use crate::id::RecordId;
use crate::memory;

/// Bytes in the making.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    pub(crate) fn u8(&mut self, value: u8) {
        memory::push(&mut self.bytes, value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    pub(crate) fn size(&mut self, value: usize) {
        self.u64(value as u64);
    }

    pub(crate) fn f32(&mut self, value: f32) {
        self.u32(value.to_bits());
    }

    pub(crate) fn floats(&mut self, values: &[f32]) {
        self.words(values.iter().map(|value| value.to_bits()));
    }

    pub(crate) fn words(&mut self, words: impl Iterator<Item = u32>) {
        memory::reserve(&mut self.bytes, words.size_hint().0 * size_of::<u32>());
        words.for_each(|word| self.u32(word));
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        memory::reserve(&mut self.bytes, bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes with their number before them.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.size(bytes.len());
        self.raw(bytes);
    }

    /// Writes over bytes that are there.
    pub(crate) fn patch(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Takes back what was added beyond so many bytes.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Bytes that do not say what they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// Where, from the first byte that the decoder was given.
    pub(crate) offset: usize,
    /// What is wrong.
    pub(crate) what: &'static str,
}

/// Reads bytes from front to back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Decoder<'a> {
        Decoder { bytes, at: 0 }
    }

    /// What is left.
    pub(crate) fn rest(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// A fault at the place where the decoder stands.
    pub(crate) fn fault(&self, what: &'static str) -> Malformed {
        Malformed { offset: self.at, what }
    }

    pub(crate) fn check(&self, holds: bool, what: &'static str) -> Result<(), Malformed> {
        if holds { Ok(()) } else { Err(self.fault(what)) }
    }

    /// So many bytes as they are.
    pub(crate) fn raw(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count);
        let Some(bytes) = end.and_then(|end| self.bytes.get(self.at..end)) else {
            return Err(self.fault("more bytes are announced than there are"));
        };
        self.at += count;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let short = self.fault("the bytes end too early");
        self.raw(N).ok().and_then(|bytes| bytes.first_chunk()).copied().ok_or(short)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn f32(&mut self) -> Result<f32, Malformed> {
        self.u32().map(f32::from_bits)
    }

    pub(crate) fn size(&mut self) -> Result<usize, Malformed> {
        let fault = self.fault("a number is too large for this machine");
        usize::try_from(self.u64()?).map_err(|_| fault)
    }

    /// The number of parts that follow, each of at least `least` bytes (1 or
    /// more): no more than there can be.
    pub(crate) fn count(&mut self, least: usize) -> Result<usize, Malformed> {
        let fault = self.fault("more parts are announced than the bytes can hold");
        let count = self.size()?;
        if count > self.rest() / least.max(1) { Err(fault) } else { Ok(count) }
    }

    /// Bytes with their number before them.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let count = self.count(1)?;
        self.raw(count)
    }

    /// So many words.
    pub(crate) fn words(&mut self, count: usize) -> Result<impl Iterator<Item = u32> + 'a, Malformed> {
        let bytes = count.checked_mul(size_of::<u32>()).ok_or_else(|| self.fault("a count is too large"))?;
        let (words, _) = self.raw(bytes)?.as_chunks::<4>();
        Ok(words.iter().map(|word| u32::from_le_bytes(*word)))
    }

    pub(crate) fn floats(&mut self, count: usize) -> Result<Vec<f32>, Malformed> {
        Ok(memory::collect(self.words(count)?.map(f32::from_bits)))
    }

    /// The end must be here.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        self.check(self.rest() == 0, "there are more bytes than announced")
    }
}

pub(crate) fn encode_id(id: &RecordId, out: &mut Encoder) {
    match id {
        RecordId::Num(number) => {
            out.u8(0);
            out.u64(*number);
        }
        RecordId::Text(text) => {
            out.u8(1);
            out.bytes(text.as_bytes());
        }
    }
}

pub(crate) fn decode_id(input: &mut Decoder<'_>) -> Result<RecordId, Malformed> {
    match input.u8()? {
        0 => Ok(RecordId::Num(input.u64()?)),
        1 => {
            let fault = input.fault("an id is not UTF-8");
            let text = std::str::from_utf8(input.bytes()?).map_err(|_| fault)?;
            Ok(RecordId::from(text))
        }
        _ => Err(input.fault("an id is of an unknown kind")),
    }
}

#[cfg(test)]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let mut out = Encoder::default();
        out.u8(7);
        out.u32(0x0102_0304);
        out.u64(u64::MAX - 1);
        out.floats(&[1.5, -0.0]);
        out.bytes(b"text");
        assert_eq!(out.as_slice()[1..5], [4, 3, 2, 1]);
        let bytes = out.into_bytes();
        let mut input = Decoder::new(&bytes);
        assert_eq!((input.u8(), input.u32(), input.u64()), (Ok(7), Ok(0x0102_0304), Ok(u64::MAX - 1)));
        assert_eq!((input.f32(), input.f32()), (Ok(1.5), Ok(-0.0)));
        assert_eq!((input.bytes(), input.end()), (Ok(&b"text"[..]), Ok(())));
    }

    #[test]
    fn announced_lengths_beyond_the_bytes_are_refused_before_anything_is_allocated() {
        let mut out = Encoder::default();
        out.u64(u64::MAX / 2);
        out.u32(1);
        let bytes = out.into_bytes();
        assert_eq!(Decoder::new(&bytes).bytes().map_err(|fault| fault.offset), Err(0));
        assert!(Decoder::new(&bytes).words(usize::MAX / 2).is_err());
        assert!(Decoder::new(&bytes[..7]).u64().is_err());
        assert_eq!(Decoder::new(&bytes).raw(13).map_err(|fault| fault.offset), Err(0));
    }
}
