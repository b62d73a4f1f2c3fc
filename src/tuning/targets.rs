//! The targets that searches asked for: noted by readers without a lock.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::query::Target;

/// Targets that are remembered; more are searched to, and not listed. Programs
/// have a handful, and a reader looks through all of them.
const PLACES: usize = 16;

/// A set that only grows: an empty place is 0.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    places: [AtomicU64; PLACES],
}

impl Targets {
    /// Remembers a target. Writes only when it is new.
    #[inline]
    pub(crate) fn note(&self, target: Target) {
        let Some(code) = target.code().map(NonZeroU64::get) else { return };
        for place in &self.places {
            let found = match place.load(Ordering::Relaxed) {
                0 => place
                    .compare_exchange(0, code, Ordering::Relaxed, Ordering::Relaxed)
                    .unwrap_or_else(|now| now),
                taken => taken,
            };
            if found == 0 || found == code {
                return;
            }
        }
    }

    /// True when any was asked for.
    pub(crate) fn any(&self) -> bool {
        self.places[0].load(Ordering::Relaxed) != 0
    }

    /// All that are remembered, in the order of asking.
    pub(crate) fn list(&self) -> Vec<Target> {
        let codes = self.places.iter().map_while(|place| NonZeroU64::new(place.load(Ordering::Relaxed)));
        codes.map(Target::of_code).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::query::{Goal, SearchParams};

    fn recall(thousandths: u32) -> Target {
        match SearchParams::recall(f64::from(thousandths) / 1e3).goal() {
            Goal::Target(target) => target,
            Goal::Breadth(_) => panic!("no target"),
        }
    }

    #[test]
    fn each_target_is_listed_once_however_many_threads_ask_for_it() {
        let targets = Targets::default();
        assert!(!targets.any());
        std::thread::scope(|scope| {
            for start in 0..4 {
                let targets = &targets;
                scope.spawn(move || (0..8).for_each(|step| targets.note(recall(900 + (start + step) % 8))));
            }
        });
        let mut listed: Vec<String> =
            targets.list().into_iter().map(|target| SearchParams::from(target).to_string()).collect();
        listed.sort_unstable();
        let expected: Vec<String> = (900..908).map(|t| SearchParams::from(recall(t)).to_string()).collect();
        assert_eq!(listed, expected);
    }

    #[test]
    fn a_full_set_keeps_what_it_has() {
        let targets = Targets::default();
        (1..=100).for_each(|thousandths| targets.note(recall(thousandths)));
        targets.note(Target::P99(Duration::from_millis(2)));
        assert!(targets.list().into_iter().eq((1..=16).map(recall)));
    }
}
