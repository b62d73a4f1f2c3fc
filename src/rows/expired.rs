//! Rows that have expired and were not taken out yet: searches do not see them.

use super::view::{ShardRequest, ShardView};
use crate::bits::ones;
use crate::id::{Row, Seq};
use crate::memory;
use crate::payload::Timestamp;

/// The rows of a view that had expired at some time: a thread keeps those that
/// it used last.
#[derive(Default)]
pub(super) struct Expired {
    /// View and write.
    key: Option<(u64, Seq)>,
    /// The times for which they are the same rows.
    from: i64,
    until: i64,
    words: Vec<u64>,
    count: usize,
}

impl Expired {
    /// Makes it that of a request.
    pub(super) fn update(&mut self, view: &ShardView, at: Seq, now: Timestamp) {
        let key = Some((view.number(), at));
        if self.key == key && (self.from..self.until).contains(&now.0) {
            return;
        }
        self.count = view.payloads().expired(now, at, view.high_water(), &mut self.words);
        self.from = now.0;
        self.until = view.payloads().next_expiry(now, at, view.high_water()).0;
        self.key = key;
    }

    /// As bits; nothing when there are none.
    pub(super) fn words(&self) -> &[u64] {
        if self.count == 0 { &[] } else { &self.words }
    }
}

impl ShardRequest<'_> {
    /// Whether a row has expired.
    #[inline]
    pub(super) fn hides(&self, row: Row) -> bool {
        self.hidden.get(row as usize / 64).is_some_and(|word| word & 1 << (row % 64) != 0)
    }
}

impl ShardView {
    /// No row expires before, as of a write.
    #[inline]
    pub(crate) fn soonest_expiry(&self, at: Seq) -> Timestamp {
        self.payloads().soonest_expiry(at)
    }

    /// Whether a row is visible and has not expired.
    pub(crate) fn shows(&self, row: Row, at: Seq, now: Timestamp) -> bool {
        self.visible(row, at) && (self.soonest_expiry(at) > now || self.payloads().expires(row, at) > now)
    }

    /// Rows visible at `at` that have not expired: O(1) unless the view is ahead
    /// of it, or some may have expired.
    pub(crate) fn live_at(&self, at: Seq, now: Timestamp) -> usize {
        let visible = self.visible_at(at);
        if self.soonest_expiry(at) > now {
            return visible;
        }
        visible.saturating_sub(self.expired_at(at, now))
    }

    /// Rows visible at `at` that have expired: one by one where there is no memory
    /// for a bit of each, because this cannot fail.
    fn expired_at(&self, at: Seq, now: Timestamp) -> usize {
        let together = || {
            let mut words = Vec::new();
            self.payloads().expired(now, at, self.high_water(), &mut words);
            self.hide_invisible(&mut words, at);
            words.iter().map(|word| word.count_ones() as usize).sum()
        };
        let has_expired = |row: &Row| self.visible(*row, at) && self.payloads().expires(*row, at) <= now;
        memory::unless_short(together).unwrap_or_else(|_| (0..self.high_water()).filter(has_expired).count())
    }

    /// Takes out the rows that are not visible.
    pub(super) fn hide_invisible(&self, words: &mut [u64], at: Seq) {
        for (place, word) in words.iter_mut().enumerate() {
            let hidden = ones(*word).filter(|bit| !self.visible((place * 64) as Row + bit, at));
            *word &= !hidden.fold(0u64, |hidden, bit| hidden | 1 << bit);
        }
    }

    /// Takes out the rows that have expired.
    pub(super) fn hide_expired(&self, words: &mut [u64], at: Seq, now: Timestamp) {
        if self.soonest_expiry(at) <= now {
            let mut expired = Vec::new();
            self.payloads().expired(now, at, self.high_water(), &mut expired);
            words.iter_mut().zip(expired).for_each(|(word, expired)| *word &= !expired);
        }
    }
}
