//! Searching among the rows that pass a filter.
//!
//! Where few rows pass, these are compared; where many do, the index is walked
//! and lets only them into the answer. A walk that comes back with too few
//! though more pass is followed by the comparison, so an answer is never short
//! without a reason.

use std::sync::atomic::{AtomicU64, Ordering};

use super::directory::Directory;
use super::view::{ShardRequest, ShardScratch, ShardView};
use crate::bits::ones;
use crate::id::{RecordId, Row, Seq};
use crate::index::Effort;
use crate::payload::{Filter, Resolver};
use crate::query::{FilterPlan, FilterStats};

/// So few rows are compared at once, whatever the index.
const SCAN_LEAST: usize = 512;

/// So many rows are compared by codes first: preparing a query for codes takes
/// as long as comparing with some tens of vectors.
const CODES_LEAST: usize = 128;

/// Rows that a walk measures for each that it expands, by codes or in part: the
/// links of a row that were not met before.
const MEASURED_A_HOP: usize = 32;

/// What comparing with a row costs, in measurements of a walk: its vector is
/// read as a whole, but rows follow one another.
const SCAN_COST: usize = 1;

/// Filters whose rows a thread remembers: those of a few shards.
const REMEMBERED: usize = 4;

/// Numbers of views, never used twice.
static NEXT_VIEW: AtomicU64 = AtomicU64::new(0);

/// A number for a new view.
pub(super) fn next_view() -> u64 {
    NEXT_VIEW.fetch_add(1, Ordering::Relaxed)
}

/// The rows of a view that pass a filter.
#[derive(Default)]
pub(super) struct Resolved {
    /// View and write.
    key: (u64, Seq),
    filter: Option<Filter>,
    words: Vec<u64>,
    count: usize,
}

impl Resolved {
    fn contains(&self, row: Row) -> bool {
        self.words.get(row as usize / 64).is_some_and(|word| word & 1 << (row % 64) != 0)
    }

    fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        let words = self.words.iter().enumerate();
        words.flat_map(|(at, word)| ones(*word).map(move |bit| (at * 64) as Row + bit))
    }
}

/// The filters that a thread used last.
#[derive(Default)]
pub(super) struct FilterMemory {
    resolved: Vec<Resolved>,
    next: usize,
}

impl FilterMemory {
    fn take(&mut self, view: &ShardView, request: &ShardRequest<'_>, filter: &Filter) -> Resolved {
        let key = (view.number(), request.at);
        let is_same = |known: &Resolved| known.key == key && known.filter.as_ref() == Some(filter);
        if let Some(at) = self.resolved.iter().position(is_same) {
            return self.resolved.swap_remove(at);
        }
        let mut resolved = if self.resolved.len() < REMEMBERED {
            Resolved::default()
        } else {
            self.next = (self.next + 1) % REMEMBERED;
            self.resolved.swap_remove(self.next)
        };
        resolved.count = view.resolve(filter, request.at, request.directory, &mut resolved.words);
        (resolved.key, resolved.filter) = (key, Some(filter.clone()));
        resolved
    }

    fn give_back(&mut self, resolved: Resolved) {
        self.resolved.push(resolved);
    }
}

impl ShardView {
    /// The rows that pass a filter, as bits, and their number; rows that are
    /// not visible may be among them.
    fn resolve(&self, filter: &Filter, at: Seq, directory: &dyn Directory, words: &mut Vec<u64>) -> usize {
        let find = |id: &RecordId| {
            let accept = &mut |row| self.visible(row, at) && self.id(row) == Some(id);
            directory.find(id, accept)
        };
        Resolver::new(filter, self.payloads(), at, &find).resolve(self.high_water(), words)
    }

    /// The visible rows that pass a filter, as bits.
    pub(crate) fn passing(&self, filter: &Filter, at: Seq, directory: &dyn Directory) -> Vec<u64> {
        let mut words = Vec::new();
        self.resolve(filter, at, directory, &mut words);
        for (place, word) in words.iter_mut().enumerate() {
            let hidden = ones(*word).filter(|bit| !self.visible((place * 64) as Row + bit, at));
            *word &= !hidden.fold(0u64, |hidden, bit| hidden | 1 << bit);
        }
        words
    }

    /// As `search`, among the rows that pass `filter`.
    pub(super) fn search_filtered(
        &self,
        request: &ShardRequest<'_>,
        filter: &Filter,
        scratch: &mut ShardScratch,
    ) -> Effort {
        let resolved = scratch.filters.take(self, request, filter);
        let rows = self.high_water() as usize;
        let mut done = FilterStats {
            plan: FilterPlan::Scan,
            rows,
            estimated: resolved.count,
            matching: resolved.count,
            visited: 0,
        };
        let mut effort = Effort::default();
        if !self.is_scan_better(request, resolved.count) {
            done.plan = FilterPlan::Walk;
            effort = if self.shows_whole_index(request.at) {
                self.walk(request, &|row| resolved.contains(row), scratch)
            } else {
                self.walk(request, &|row| resolved.contains(row) && self.visible(row, request.at), scratch)
            };
            let tail = self.tail().iter().copied().filter(|row| resolved.contains(*row));
            effort.distances += self.scan(request, tail, &mut scratch.found).distances;
            if scratch.found.is_short() && request.bound == f32::INFINITY {
                done.plan = FilterPlan::WalkThenScan;
            }
        }
        if done.plan != FilterPlan::Walk {
            scratch.found.reset(request.k);
            let (scanned, matching) = self.scan_passing(request, &resolved, scratch);
            effort.distances += scanned;
            done.matching = matching;
        }
        done.visited = effort.distances;
        scratch.filtered = Some(done);
        scratch.filters.give_back(resolved);
        effort
    }

    /// Compares with all rows that pass: many by their codes first, where there
    /// are codes. Gives the distances computed and the number of rows.
    fn scan_passing(
        &self,
        request: &ShardRequest<'_>,
        resolved: &Resolved,
        scratch: &mut ShardScratch,
    ) -> (u64, usize) {
        if request.exact || resolved.count < CODES_LEAST {
            let scanned = self.scan(request, resolved.rows(), &mut scratch.found).distances;
            return (scanned, scanned as usize);
        }
        let mut matching = 0;
        let visible = resolved.rows().filter(|row| self.visible(*row, request.at));
        let mut visible = visible.inspect(|_| matching += 1);
        let among = self.search_among(request, &mut visible, scratch);
        drop(visible);
        let Some(effort) = among else {
            let scanned = self.scan(request, resolved.rows(), &mut scratch.found).distances;
            return (scanned, scanned as usize);
        };
        let tail = self.tail().iter().copied().filter(|row| resolved.contains(*row));
        (effort.distances + self.scan(request, tail, &mut scratch.found).distances, matching)
    }

    /// Whether comparing with `matching` rows costs less than a walk that looks
    /// for them: about so many more rows are expanded as the rows that pass are
    /// rarer.
    fn is_scan_better(&self, request: &ShardRequest<'_>, matching: usize) -> bool {
        if request.exact || self.index().is_exact() || matching <= SCAN_LEAST.max(2 * request.k) {
            return true;
        }
        let breadth = request.ef.max(request.k) as u128;
        let walk = breadth * u128::from(self.high_water()) / matching as u128 * MEASURED_A_HOP as u128;
        matching as u128 * SCAN_COST as u128 <= walk
    }
}
