//! How much room is made when more is needed.

/// Room grows by one part in so many of the next power of two: what is free is
/// at most an eighth, on average a twentieth, and all copies together cost a
/// few times what is there, as those of doubling do.
const STEPS: usize = 16;

/// Places to make when `needed` are, in pages of `page`: a whole number of
/// steps, or what fills the last page. Steps are at least `least`. The same for
/// the same `needed`, however it came to it.
pub(crate) fn room(needed: usize, least: usize, page: usize) -> usize {
    let step = (needed.checked_next_power_of_two().unwrap_or(needed) / STEPS).max(least).max(1);
    let stepped = needed.checked_next_multiple_of(step).unwrap_or(needed);
    stepped.min(needed.checked_next_multiple_of(page.max(1)).unwrap_or(needed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eighth_more_than_needed_is_the_most() {
        for needed in 0..20_000 {
            let room = room(needed, 64, 3_000);
            assert!(room >= needed && room <= needed + (needed / 8).max(63), "{needed}: {room}");
            assert!(room.div_ceil(3_000) == needed.div_ceil(3_000), "{needed}: {room}");
        }
        assert_eq!((room(0, 64, 10), room(usize::MAX, 64, 10)), (0, usize::MAX));
    }

    #[test]
    fn there_are_few_steps() {
        let mut rooms: Vec<usize> = (1..=1 << 20).map(|needed| room(needed, 64, 1 << 22)).collect();
        rooms.dedup();
        assert!(rooms.len() < 100, "{}", rooms.len());
    }
}
