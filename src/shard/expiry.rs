//! What expires: put off, and taken out.

use super::state::ShardState;
use crate::id::{Row, Seq};
use crate::payload::{Timestamp, expired_at};
use crate::rows::NewExpiry;

impl<T> ShardState<T> {
    /// Whether a row has not expired.
    pub(super) fn has_time(&self, row: Row, now: Timestamp) -> bool {
        self.rows().payloads().expires(row) > now
    }

    /// Changes when a record expires, if it has not yet.
    pub(super) fn change_expiry(&mut self, change: &NewExpiry, seq: Seq) {
        let Some(row) = self.live_row(&change.id) else { return };
        if change.applies(self.rows().payloads().expires(row)) {
            let payloads = self.rows_mut().payloads_mut();
            let after = payloads.get(row).stored_expiring(change.expires);
            payloads.change(row, after, seq);
        }
    }

    /// Kills some of the records that have expired, the first rows first.
    pub(super) fn sweep(&mut self, now: Timestamp, most: u64, seq: Seq) {
        let expired = self.passing(&expired_at(now), (most as usize).saturating_add(1));
        let is_all = expired.len() as u64 <= most;
        expired.into_iter().take(most as usize).for_each(|row| self.kill_live(row, seq));
        if is_all {
            let limit = self.rows().high_water() as Row;
            self.rows_mut().payloads_mut().none_expired(now, seq, limit);
        }
    }
}
