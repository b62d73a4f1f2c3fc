//! Writes with a condition: decided by the one writer of the shard, against
//! what is applied. The verdict is a function of the log alone, so a log that
//! is read back gives the same one.

use super::state::ShardState;
use crate::id::{RecordId, Row};
use crate::memory::Lined;
use crate::payload::Timestamp;
use crate::rows::{Condition, NewRow, Verdict};
use crate::vector::BLOCK;

impl<T> ShardState<T> {
    /// Whether a record may be written.
    pub(super) fn judge(&self, new: &NewRow, condition: Condition, now: Timestamp) -> Verdict {
        let before = self.live_row(&new.id).filter(|row| self.has_time(*row, now));
        let before = before.map(|row| self.rows().born(row));
        match (condition, before) {
            (Condition::Absent, Some(version)) => Verdict::Exists { version },
            (Condition::Present, None) => Verdict::Missing,
            (Condition::Version(wanted), found) if found != Some(wanted) => Verdict::Changed { found },
            (Condition::NotNear(distance), _) => match self.nearest_within(new, distance, now) {
                Some((id, distance)) => Verdict::Near { id, distance },
                None => Verdict::Written,
            },
            _ => Verdict::Written,
        }
    }

    /// The nearest other record within a distance. Compares with every row: the
    /// index may be more or less far behind, and the verdict must not depend
    /// on that.
    fn nearest_within(&self, new: &NewRow, distance: f32, now: Timestamp) -> Option<(RecordId, f32)> {
        let (space, rows) = (self.space(), self.rows());
        let mut prepared = Lined::default();
        space.prepare(&new.vector, new.scale, &mut prepared);
        let own = self.live_row(&new.id);
        let end = rows.high_water() as Row;
        let (mut bound, mut nearest) = (distance, None);
        let (mut block, mut distances) = (Vec::with_capacity(BLOCK), [0.0; BLOCK]);
        for first in (0..end).step_by(BLOCK) {
            block.clear();
            let others =
                (first..end.min(first + BLOCK as Row)).filter(|row| rows.is_alive(*row) && Some(*row) != own);
            block.extend(others.filter(|row| self.has_time(*row, now)));
            space.distances(&prepared, rows.vectors(), &block, bound, &mut distances);
            for (row, found) in block.iter().zip(distances) {
                // The first of equals, so that the answer is one.
                if found < bound || (found == bound && nearest.is_none()) {
                    (bound, nearest) = (found, Some(*row));
                }
            }
        }
        nearest.and_then(|row| Some((rows.id(row)?.clone(), bound)))
    }
}
