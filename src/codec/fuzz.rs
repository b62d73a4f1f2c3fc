//! Bytes and texts that are almost right, for decoders.
//!
//! A target takes any bytes: it may refuse them, and must neither panic, nor
//! recurse or allocate by what they say. What it accepts it should write and
//! read again as the same. Each is a function of bytes, so that a fuzzer can
//! call it too. Inputs are seeded mutations of a corpus; for longer:
//! `VECINO_FUZZ_SCALE=1000 cargo test --release --all-features --lib fuzz`.

use crate::id::mix;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = mix(self.0);
        self.0 % limit
    }
}

/// Inputs of a target, times the variable `VECINO_FUZZ_SCALE`.
const INPUTS: u64 = 20_000;

/// Inputs do not grow beyond that.
const LENGTH_MOST: usize = 1 << 12;

/// Pieces of texts and numbers at the edges of their types.
const PIECES: [&[u8]; 14] = [
    b"{\"and\":[",
    b"[[[[[[[[",
    b"]}",
    b"1e999",
    b"-0",
    b"18446744073709551616",
    b"\"\\ud800\"",
    b",PQ64x4fsr",
    b"null",
    &[0; 8],
    &[0xff; 8],
    &[0xff, 0xff, 0xff, 0x7f],
    &[0, 0, 0xc0, 0x7f],
    &[1, 0, 0, 0, 0, 0, 0, 0],
];

fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let place = random.below(input.len() as u64 + 1) as usize;
        let end = (place + random.below(9) as usize).min(input.len());
        match random.below(6) {
            0 => input.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
            1 => input.iter_mut().skip(place).take(1).for_each(|byte| *byte = random.below(256) as u8),
            2 => input.truncate(place),
            3 => drop(input.splice(place..end, PIECES[random.below(14) as usize].iter().copied())),
            4 => input.extend_from_within(place..),
            _ => {
                let from = random.below(other.len() as u64 + 1) as usize;
                drop(input.splice(place..end, other[from..].iter().copied()));
            }
        }
    }
    input.truncate(LENGTH_MOST);
}

/// Hands mutations of the corpus to a target.
pub(crate) fn fuzz(corpus: &[Vec<u8>], target: fn(&[u8])) {
    corpus.iter().for_each(|input| target(input));
    target(&[]);
    let scale = std::env::var("VECINO_FUZZ_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut random = Random(mix(11));
    for _ in 0..INPUTS * scale {
        let any = |random: &mut Random| &corpus[random.below(corpus.len() as u64) as usize];
        let mut input = any(&mut random).clone();
        let other = any(&mut random);
        mutate(&mut input, other, &mut random);
        target(&input);
    }
}
