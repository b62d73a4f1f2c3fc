//! Texts as vectors, without a model: each word adds to a few places that its
//! letters choose. Texts with the same words are near, and that is all.

/// Places: enough that different words seldom meet.
pub(crate) const DIM: usize = 256;

/// Places that a word adds to.
const PLACES: u64 = 4;

/// Words that say nothing about what a text is about.
const EMPTY: &[&str] = &[
    "a", "about", "and", "at", "can", "could", "for", "has", "her", "how", "in", "is", "mira", "not", "of",
    "should", "the", "to", "very", "we", "what", "where", "which", "who",
];

/// The vector of a text; never zero.
pub(crate) fn embed(text: &str) -> Vec<f32> {
    let mut vector = vec![0.0; DIM];
    // Something that all have in common, so that no text is without direction.
    vector[0] = 0.2;
    let words = text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    for word in words.map(str::to_lowercase).filter(|word| !EMPTY.contains(&word.as_str())) {
        // "restaurants" and "restaurant" are one word here.
        let stem = word.strip_suffix('s').unwrap_or(&word);
        for place in 0..PLACES {
            let hash = stem.bytes().fold(0xcbf2_9ce4_8422_2325 ^ place, |hash, letter| {
                (hash ^ u64::from(letter)).wrapping_mul(0x0100_0000_01b3)
            });
            let sign = if hash >> 63 == 0 { 1.0 } else { -1.0 };
            if let Some(value) = vector.get_mut((hash >> 20) as usize % DIM) {
                *value += sign;
            }
        }
    }
    vector
}
