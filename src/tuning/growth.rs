//! When a calibration is too old.

/// A table is measured anew when the rows that the index took in since are
/// this part of those it held: at 1.5 times the rows, or after replacing half.
const CHURN: f64 = 0.5;

/// ... or when it holds fewer than this part of them.
const SHRUNK: f64 = 1.0 / 1.5;

/// How much an index holds and has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Rows in the index.
    pub(crate) indexed: usize,
    /// Rows that it ever took in.
    pub(crate) absorbed: u64,
}

impl Extent {
    /// True when what was measured at `then` may not hold for this any more.
    pub(crate) fn has_outgrown(&self, then: &Extent) -> bool {
        let taken_in = self.absorbed.saturating_sub(then.absorbed);
        taken_in as f64 >= CHURN * then.indexed as f64 && taken_in > 0
            || (self.indexed as f64) < SHRUNK * then.indexed as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(indexed: usize, absorbed: u64) -> Extent {
        Extent { indexed, absorbed }
    }

    #[test]
    fn growth_churn_and_shrinking_by_half_are_too_much_and_less_is_not() {
        let then = extent(1_000, 5_000);
        for fine in [extent(1_000, 5_000), extent(1_499, 5_499), extent(1_000, 5_499), extent(700, 5_000)] {
            assert!(!fine.has_outgrown(&then), "{fine:?}");
        }
        for too_much in [extent(1_500, 5_500), extent(1_000, 5_500), extent(600, 5_000)] {
            assert!(too_much.has_outgrown(&then), "{too_much:?}");
        }
    }

    #[test]
    fn nothing_outgrows_itself() {
        for same in [extent(0, 0), extent(10, 10)] {
            assert!(!same.has_outgrown(&same));
        }
        assert!(extent(1, 1).has_outgrown(&extent(0, 0)));
    }
}
