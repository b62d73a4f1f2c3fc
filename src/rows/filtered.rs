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
use crate::index::{Effort, RowFilter, walked};
use crate::memory;
use crate::payload::{ExclusionSet, Filter, Resolver, Timestamp};
use crate::query::{FilterPlan, FilterStats};

/// So few rows are compared at once, whatever the index.
const SCAN_LEAST: usize = 512;

/// So many rows are compared by codes first: preparing a query for codes takes
/// as long as comparing with some tens of vectors.
const CODES_LEAST: usize = 128;

/// What a walk spends on each row that it expands, in rows compared by codes.
/// Fashion-MNIST, ef 10 to 16, processor time of a query: comparing 5 % of 60,000
/// took 41 us, walking for 10 % 37.
const MEASURED_A_HOP: f64 = 32.0;

/// With one in so many rows passing, an exact search leaves it to the index,
/// which asks for each row whether it passes, and rules most out by codes.
const SIFT_DIVISOR: usize = 8;

/// Rows that are asked how many of all that pass a filter are excluded: some microseconds, and an error of some percent.
const ASKED_ROWS: usize = 256;

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
    pub(super) fn contains(&self, row: Row) -> bool {
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
    pub(super) fn take(&mut self, view: &ShardView, request: &ShardRequest<'_>, filter: &Filter) -> Resolved {
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

    pub(super) fn give_back(&mut self, resolved: Resolved) {
        memory::push(&mut self.resolved, resolved);
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

    /// The visible rows that pass a filter and have not expired, as bits.
    pub(crate) fn passing(
        &self,
        filter: &Filter,
        (at, now): (Seq, Timestamp),
        directory: &dyn Directory,
    ) -> Vec<u64> {
        let mut words = self.passing_from(filter, (at, now), directory, 0);
        self.hide_invisible(&mut words, at);
        words
    }

    /// The rows from one on that pass a filter and have not expired, as bits; rows that are not
    /// visible may be among them.
    pub(crate) fn passing_from(
        &self,
        filter: &Filter,
        (at, now): (Seq, Timestamp),
        directory: &dyn Directory,
        first: Row,
    ) -> Vec<u64> {
        let mut words = Vec::new();
        self.resolve(filter, at, directory, &mut words);
        let before = words.len().min(first as usize / 64);
        words[..before].fill(0);
        if let Some(word) = words.get_mut(before) {
            *word &= u64::MAX << (first % 64);
        }
        self.hide_expired(&mut words, at, now);
        words
    }

    /// As `search`, among the rows that pass the request's filter and are not excluded.
    pub(super) fn search_filtered(&self, request: &ShardRequest<'_>, scratch: &mut ShardScratch) -> Effort {
        let everything = Filter::all([]);
        let filter = request.filter.unwrap_or(&everything);
        let resolved = scratch.filters.take(self, request, filter);
        let estimated = self.left_of(request, &resolved);
        let rows = self.high_water() as usize;
        let mut done =
            FilterStats { plan: FilterPlan::Scan, rows, estimated, matching: estimated, visited: 0 };
        let mut effort = Effort::default();
        if !self.is_scan_better(request, estimated) {
            done.plan = FilterPlan::Walk;
            let is_all = self.lets_all_in(request);
            let share = estimated as f32 / rows.max(1) as f32;
            let passing = RowFilter { words: &resolved.words, share, is_all };
            let admit = |row| resolved.contains(row) && (is_all || self.lets_in(request, row));
            effort = self.walk(request, (Some(passing), &admit), scratch);
            effort.distances += self.scan_tail(request, &resolved, scratch);
            let is_over = request.ends.are_due(0);
            if scratch.found.is_short() && request.bound == f32::INFINITY && !is_over {
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

    /// About how many of the rows that pass a filter are not excluded. Excluded records may be on other shards, gone, or
    /// refused anyhow: where they are many, some rows are asked.
    fn left_of(&self, request: &ShardRequest<'_>, resolved: &Resolved) -> usize {
        let excluded = request.excluded.map_or(0, ExclusionSet::len).div_ceil(request.shards.max(1));
        if excluded <= resolved.count / 2 {
            return resolved.count - excluded;
        }
        let rows = self.high_water() as usize;
        let some = (0..ASKED_ROWS).map(|at| (at * rows / ASKED_ROWS) as Row);
        let (mut passing, mut left) = (0, 0);
        for row in some.filter(|row| resolved.contains(*row)) {
            passing += 1;
            left += usize::from(self.lets_in(request, row));
        }
        let estimated = (resolved.count * left).checked_div(passing);
        // Where none of them passes there are few.
        estimated.unwrap_or(resolved.count - excluded.min(resolved.count))
    }

    /// True when `lets_in` holds for every row of the index.
    fn lets_all_in(&self, request: &ShardRequest<'_>) -> bool {
        request.excluded.is_none() && self.shows_whole_index(request)
    }

    /// Whether a row is visible and not excluded.
    fn lets_in(&self, request: &ShardRequest<'_>, row: Row) -> bool {
        self.may_see(request, row)
            && request.excluded.is_none_or(|excluded| self.id(row).is_none_or(|id| !excluded.contains(id)))
    }

    /// Compares with the rows of the tail that pass.
    fn scan_tail(&self, request: &ShardRequest<'_>, resolved: &Resolved, scratch: &mut ShardScratch) -> u64 {
        let passes = |row: &Row| resolved.contains(*row) && self.lets_in(request, *row);
        let tail = self.tail().iter().copied().filter(passes);
        self.scan(request, tail, &mut scratch.found).distances
    }

    /// Compares with all rows that pass: many by their codes first, where there
    /// are codes. Gives the distances computed and the number of rows.
    fn scan_passing(
        &self,
        request: &ShardRequest<'_>,
        resolved: &Resolved,
        scratch: &mut ShardScratch,
    ) -> (u64, usize) {
        let is_exact = request.exact || self.index().is_exact();
        let mut matching = 0;
        let among = if is_exact && resolved.count * SIFT_DIVISOR >= self.high_water() as usize {
            let passes = |row: Row| resolved.contains(row) && self.lets_in(request, row);
            matching = resolved.rows().filter(|row| self.lets_in(request, *row)).count();
            self.search_exactly(request, &passes, scratch)
        } else if is_exact || resolved.count < CODES_LEAST {
            None
        } else if self.lets_all_in(request) {
            matching = resolved.count;
            self.search_among(request, &mut resolved.rows(), scratch)
        } else {
            let passing = resolved.rows().filter(|row| self.lets_in(request, *row));
            self.search_among(request, &mut passing.inspect(|_| matching += 1), scratch)
        };
        if let Some(effort) = among {
            return (effort.distances + self.scan_tail(request, resolved, scratch), matching);
        }
        let passing = resolved.rows().filter(|row| self.lets_in(request, *row));
        let scanned = self.scan(request, passing, &mut scratch.found).distances;
        (scanned, scanned as usize)
    }

    /// Whether comparing with `matching` rows costs less than a walk that looks
    /// for them: about so many more rows are expanded as the rows that pass are
    /// rarer than those that are walked through.
    fn is_scan_better(&self, request: &ShardRequest<'_>, matching: usize) -> bool {
        if request.exact || self.index().is_exact() || matching <= SCAN_LEAST.max(2 * request.k) {
            return true;
        }
        let rows = f64::from(self.high_water());
        let (breadth, matching) = (request.ef.max(request.k) as f64, matching as f64);
        let walked = rows * f64::from(walked((matching / rows) as f32));
        matching <= breadth * walked / matching * MEASURED_A_HOP
    }
}
