//! What tells that rows have become others than centres and codes were trained on.
//!
//! Growth and turnovers are counted ([`Training`]). Beside these, what rows lose
//! by their codes (without codes: how far they are from their centres) is
//! compared with what it was when all was trained, and so is how unequal
//! the lists are.

use crate::codec::{Decoder, Encoder, Malformed};
use crate::index::training::{GROWTH, Training};

/// Nothing is trained again on its own once so many rows were seen: it would
/// take minutes.
const SETTLED: usize = 1 << 20;

/// Errors of fewer rows say little.
const LEAST_SINCE: usize = 1_024;

/// Rows taken in since that are looked at: from this share on of those that were
/// trained on, so that ever new kinds of rows cost a few trainings for each
/// doubling.
const LEAST_SHARE: usize = 4;

/// Rows have drifted when those since err so many times more on average...
const WORSE: f64 = 1.5;

/// ...or the lists are so many times more unequal.
const LESS_EQUAL: f64 = 2.0;

/// What was trained on enough rows is trained again when there are so many times more. Errors since then are
/// a mean: those of a few rows of another kind would be lost among ever more of the first.
const GROWTH_OF_ENOUGH: usize = GROWTH * GROWTH;

/// What was trained on, and what came since.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Drift {
    pub(super) training: Training,
    /// Mean squared error of the rows that all was trained on.
    error: f64,
    /// Summed squared error of the rows that were taken in since.
    since: f64,
    /// [`imbalance`] at that time.
    imbalance: f64,
}

impl Drift {
    /// Of a training on so many rows, with their summed error and the lengths of their lists.
    pub(super) fn trained(rows: usize, errors: f64, counts: &[u32]) -> Drift {
        Drift {
            training: Training { rows, since: 0 },
            error: errors / rows.max(1) as f64,
            since: 0.0,
            imbalance: imbalance(counts),
        }
    }

    /// After so many more rows, with their summed error.
    pub(super) fn after(self, rows: usize, errors: f64) -> Drift {
        let training = Training { since: self.training.since.saturating_add(rows), ..self.training };
        Drift { training, since: self.since + errors, ..self }
    }

    /// Whether all is out of date for an index that comes to `rows`, whose lists
    /// are as long as `counts` says. Once it was trained on `enough` rows, it ages more slowly by growth.
    pub(super) fn is_due(self, rows: usize, counts: &[u32], enough: usize) -> bool {
        let Training { rows: trained, since } = self.training;
        let known = since >= LEAST_SINCE.max(trained / LEAST_SHARE) && rows < SETTLED;
        let growth = if trained < enough { GROWTH } else { GROWTH_OF_ENOUGH };
        self.training.is_due_at(growth, rows, SETTLED)
            || known && self.since > WORSE * self.error * since as f64
            || known && imbalance(counts) > LESS_EQUAL * self.imbalance
    }

    pub(super) fn save(self, out: &mut Encoder) {
        out.size(self.training.rows);
        out.size(self.training.since);
        [self.error, self.since, self.imbalance].into_iter().for_each(|number| out.u64(number.to_bits()));
    }

    pub(super) fn load(input: &mut Decoder<'_>) -> Result<Drift, Malformed> {
        let training = Training { rows: input.size()?, since: input.size()? };
        let mut number = || input.u64().map(f64::from_bits);
        Ok(Drift { training, error: number()?, since: number()?, imbalance: number()? })
    }
}

/// How unequal lists are: 1 when all are of one length, and so many times more
/// is the work of a search whose query is as the rows are (faiss's imbalance
/// factor).
fn imbalance(counts: &[u32]) -> f64 {
    let (mut sum, mut squares) = (0.0, 0.0);
    for count in counts {
        sum += f64::from(*count);
        squares += f64::from(*count) * f64::from(*count);
    }
    if sum > 0.0 { counts.len() as f64 * squares / (sum * sum) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_err_more_than_those_trained_on_are_a_drift_once_there_are_enough() {
        let counts = [1_000; 8];
        let drift = Drift::trained(8_000, 8_000.0 * 2.0, &counts);
        assert!(!drift.after(1_999, 1_999.0 * 9.0).is_due(9_999, &counts, usize::MAX), "too few");
        assert!(drift.after(2_000, 2_000.0 * 3.1).is_due(10_000, &counts, usize::MAX));
        assert!(!drift.after(2_000, 2_000.0 * 2.9).is_due(10_000, &counts, usize::MAX));
        let drift = drift.after(1_000, 1_000.0 * 2.0).after(1_000, 1_000.0 * 4.5);
        assert!(drift.is_due(10_000, &counts, usize::MAX), "errors of all rows since count");
        let large = Drift::trained(SETTLED - 1, 1.0, &counts).after(SETTLED, 1e30);
        assert!(!large.is_due(SETTLED, &counts, usize::MAX), "it would take minutes");
    }

    #[test]
    fn what_was_trained_on_enough_rows_is_good_until_there_are_sixteen_times_as_many_like_them() {
        let counts = [1_000; 8];
        let grown = Drift::trained(8_000, 8_000.0, &counts).after(24_000, 24_000.0);
        assert!(grown.is_due(32_000, &counts, 8_001) && !grown.is_due(32_000, &counts, 8_000));
        assert!(!grown.is_due(127_999, &counts, 8_000) && grown.is_due(128_000, &counts, 8_000));
        let turned_over = grown.after(104_000, 104_000.0);
        assert!(turned_over.is_due(32_000, &counts, 8_000), "others may have taken their places");
        let worse = grown.after(0, 48_000.0);
        assert!(worse.is_due(32_000, &counts, 8_000));
    }

    #[test]
    fn lists_that_become_unequal_are_a_drift() {
        let drift = Drift::trained(8_000, 1.0, &[1_000; 8]).after(2_000, 0.0);
        let mut counts = [1_000; 8];
        assert!(!drift.is_due(8_000, &counts, usize::MAX));
        counts[3] = 9_000;
        assert!(imbalance(&counts) > 2.0 && drift.is_due(16_000, &counts, usize::MAX));
    }

    #[test]
    fn imbalance_is_that_of_faiss() {
        assert_eq!(imbalance(&[5, 5, 5]), 1.0);
        assert_eq!(imbalance(&[9, 0, 0]), 3.0);
        assert_eq!(imbalance(&[]), 1.0);
    }

    #[test]
    fn what_was_saved_is_read_again() {
        let drift = Drift::trained(77, 3.5, &[70, 7]).after(5, 0.25);
        let mut out = Encoder::default();
        drift.save(&mut out);
        let bytes = out.into_bytes();
        assert_eq!(Drift::load(&mut Decoder::new(&bytes)), Ok(drift));
    }
}
