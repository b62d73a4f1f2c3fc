//! One shard as readers see it: rows, index, tail; and how it is searched.

use std::sync::Arc;

use super::cells::CellsView;
use super::directory::Directory;
use super::expired::Expired;
use super::filtered::{FilterMemory, next_view};
use super::scored::{Bonuses, Scored};
use super::store::RowStore;
use crate::id::{RecordId, Row, Seq};
use crate::index::{Effort, Ends, IndexVersion, Points, Request, RowFilter, Scratch, Trip};
use crate::lease::Lease;
use crate::memory;
use crate::neighbor::{Neighbor, TopK};
use crate::payload::{ExclusionSet, Filter, Payload, PayloadView, Timestamp};
use crate::query::FilterStats;
use crate::vector::{BLOCK, MatrixView, Space};

/// How far another index is that is to take over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reindexing {
    #[default]
    No,
    /// There are rows that it was not asked to take in.
    Carrying,
    /// There are none.
    Carried,
    /// It takes over with the next batches.
    Ending,
}

/// What a shard holds, for statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShardMeasure {
    pub(crate) tail: usize,
    pub(crate) indexed: usize,
    pub(crate) dead: usize,
    pub(crate) free_places: usize,
    pub(crate) views_held: usize,
    pub(crate) batches: u64,
    /// Rows that the index ever took in.
    pub(crate) absorbed: u64,
    pub(crate) pending: usize,
    /// By format, narrowest first.
    pub(crate) vector_bytes: [usize; 3],
    pub(crate) row_bytes: usize,
    pub(crate) payload_bytes: usize,
    pub(crate) index_bytes: usize,
    /// Bytes of vectors that only older views keep.
    pub(crate) kept_bytes: usize,
    /// Live rows after the last complete write.
    pub(crate) live: usize,
    /// Rows that were ever used.
    pub(crate) high_water: usize,
    /// Rows that have memory for their vectors.
    pub(crate) capacity: usize,
    /// Bytes from one vector to the next where they are widest.
    pub(crate) stride: usize,
    /// Bytes of texts of ids, beside the rows.
    pub(crate) id_bytes: usize,
    /// The kind of the index.
    pub(crate) index_kind: &'static str,
    pub(crate) index_reason: &'static str,
    pub(crate) reindexing: Reindexing,
}

/// An index that took the place of the one that the collection was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Switched {
    /// The configuration with it, in the words of whoever reads it.
    pub(crate) spec: Arc<[u8]>,
    /// The breadth of a search that does not say its own.
    pub(crate) ef_search: usize,
}

/// What the writer hands over to make a view.
pub(crate) struct ViewParts {
    pub(crate) index: Arc<dyn IndexVersion>,
    pub(crate) switched: Option<Switched>,
    /// Rows that the index does not hold yet, oldest first.
    pub(crate) tail: Arc<[Row]>,
    /// The last write that the view holds completely.
    pub(crate) applied: Seq,
    /// The last number up to which it holds all writes of its shard: those after `applied` went to others.
    pub(crate) covers: Seq,
    /// Live rows after that write.
    pub(crate) live: usize,
    /// True when the index holds rows that are dead.
    pub(crate) index_has_dead: bool,
    /// The newest write of which the index holds a row.
    pub(crate) index_newest: Seq,
    /// The newest death of a row that neither index nor tail shows any more:
    /// the view cannot show states before it.
    pub(crate) floor: Seq,
    pub(crate) measure: ShardMeasure,
}

/// An immutable view of one shard.
pub(crate) struct ShardView {
    parts: ViewParts,
    vectors: MatrixView,
    cells: CellsView,
    payloads: PayloadView,
    /// Its own among all views that there ever were.
    number: u64,
    high_water: usize,
    /// Dropped after everything above was last used: see `lease`.
    _lease: Lease,
}

/// What to look for in one shard.
#[derive(Clone, Copy)]
pub(crate) struct ShardRequest<'a> {
    pub(crate) space: &'a Space,
    /// Prepared by [`Space::prepare`].
    pub(crate) query: &'a [f32],
    /// Show the writes up to here.
    pub(crate) at: Seq,
    /// Show nothing that has expired by then.
    pub(crate) now: Timestamp,
    /// What that is, as bits: found by the search itself.
    pub(crate) hidden: &'a [u64],
    pub(crate) k: usize,
    pub(crate) ef: usize,
    /// A distance that k rows of other shards are known to reach.
    pub(crate) bound: f32,
    /// Compare with every row instead of asking the index.
    pub(crate) exact: bool,
    /// The search before, with the same memory, was for the same query in another shard.
    pub(crate) follows: bool,
    /// Shards that are searched for the query, one after the other.
    pub(crate) shards: usize,
    pub(crate) ends: Ends<'a>,
    /// Only rows that pass it, and who knows the rows of ids.
    pub(crate) filter: Option<&'a Filter>,
    /// No records of this set.
    pub(crate) excluded: Option<&'a ExclusionSet>,
    /// What counts beside the distance.
    pub(crate) scored: Option<Scored<'a>>,
    pub(crate) directory: &'a dyn Directory,
}

impl<'a> ShardRequest<'a> {
    /// What the index is asked for.
    fn of_index(&self, admit: Option<&'a (dyn Fn(Row) -> bool + 'a)>) -> Request<'a> {
        let ShardRequest { query, k, ef, bound, shards, ends, .. } = *self;
        Request { query, k, ef, bound, admit, filter: None, shards, ends }
    }
}

/// Working memory of a shard search.
#[derive(Default)]
pub(crate) struct ShardScratch {
    pub(crate) found: TopK,
    /// What the last search did with its filter.
    pub(crate) filtered: Option<FilterStats>,
    pub(super) filters: FilterMemory,
    expired: Expired,
    /// Under a scoring, what rows have earned that were found, by row.
    pub(crate) bonuses: Bonuses,
    index: Scratch,
}

impl ShardView {
    pub(crate) fn new(rows: &mut RowStore, mut parts: ViewParts) -> ShardView {
        let payloads = rows.payloads_mut().view(parts.applied);
        parts.floor = parts.floor.max(rows.payloads().floor());
        ShardView {
            parts,
            vectors: rows.vectors().clone(),
            cells: rows.cells().clone(),
            payloads,
            number: next_view(),
            high_water: rows.high_water(),
            _lease: rows.grant(),
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn applied(&self) -> Seq {
        self.parts.applied
    }

    pub(crate) fn covers(&self) -> Seq {
        self.parts.covers
    }

    pub(crate) fn measure(&self) -> ShardMeasure {
        self.parts.measure
    }

    /// The index, if it is not the one that the collection was made with.
    pub(crate) fn switched(&self) -> Option<&Switched> {
        self.parts.switched.as_ref()
    }

    /// The newest write of which the index holds a row.
    pub(crate) fn index_newest(&self) -> Seq {
        self.parts.index_newest
    }

    /// The first state that the view can show.
    pub(crate) fn floor(&self) -> Seq {
        self.parts.floor
    }

    pub(crate) fn index(&self) -> &dyn IndexVersion {
        self.parts.index.as_ref()
    }

    pub(crate) fn tail(&self) -> &[Row] {
        &self.parts.tail
    }

    /// One past the highest row number: walk `0..high_water` and ask `visible`.
    pub(crate) fn high_water(&self) -> Row {
        self.high_water as Row
    }

    #[inline]
    pub(crate) fn visible(&self, row: Row, at: Seq) -> bool {
        (row as usize) < self.high_water && self.cells.visible(row, at)
    }

    /// The id of a visible row.
    pub(crate) fn id(&self, row: Row) -> Option<&RecordId> {
        self.cells.id(row)
    }

    /// Asks the processor for the id of a row that will be asked for soon.
    #[inline]
    pub(crate) fn prefetch_id(&self, row: Row) {
        self.cells.prefetch_id(row);
    }

    /// The vector of a visible row, as it was put in, or as it was rounded then.
    pub(crate) fn vector(&self, row: Row) -> Vec<f32> {
        self.vectors.vector(row)
    }

    /// The vector of a visible row in the form of a query.
    pub(crate) fn prepare(&self, space: &Space, row: Row, prepared: &mut Vec<f32>) {
        space.prepare_row(&self.vectors, row, prepared);
    }

    /// The distance of a prepared query to a visible row.
    pub(crate) fn distance(&self, space: &Space, prepared: &[f32], row: Row) -> f32 {
        space.distance(prepared, &self.vectors, row)
    }

    /// The write that a visible row comes from.
    pub(crate) fn born(&self, row: Row) -> Seq {
        self.cells.born(row)
    }

    /// The payload of a row that is visible at `at`.
    pub(crate) fn payload(&self, row: Row, at: Seq) -> Payload {
        self.payloads.get(row, at)
    }

    /// The payloads of all rows.
    pub(crate) fn payloads(&self) -> &PayloadView {
        &self.payloads
    }

    /// What is stored beside the vector of a visible row: see [`Space::check`].
    pub(crate) fn scale(&self, row: Row) -> f32 {
        self.vectors.scale(row)
    }

    /// Rows visible at `at`, what has expired included: O(1) unless the view is
    /// ahead of it.
    pub(super) fn visible_at(&self, at: Seq) -> usize {
        if self.parts.applied <= at {
            return self.parts.live;
        }
        (0..self.high_water()).filter(|row| self.visible(*row, at)).count()
    }

    /// Leaves the `min(k, visible)` nearest rows that it finds in
    /// `scratch.found`. Rows beyond `request.bound` may be missing.
    pub(crate) fn search(&self, request: &ShardRequest<'_>, scratch: &mut ShardScratch) -> Effort {
        scratch.index.begin(request.follows);
        if let Some(scored) = request.scored {
            return self.search_scored(request, scored, scratch);
        }
        scratch.found.reset(request.k);
        scratch.filtered = None;
        if self.soonest_expiry(request.at) > request.now {
            return self.search_shown(request, scratch);
        }
        let mut expired = std::mem::take(&mut scratch.expired);
        expired.update(self, request.at, request.now);
        let effort = self.search_shown(&ShardRequest { hidden: expired.words(), ..*request }, scratch);
        scratch.expired = expired;
        effort
    }

    /// The same when it is known what has expired.
    fn search_shown(&self, request: &ShardRequest<'_>, scratch: &mut ShardScratch) -> Effort {
        if request.filter.is_some() || request.excluded.is_some() {
            return self.search_filtered(request, scratch);
        }
        let mut effort = if request.exact && !self.parts.index.is_exact() {
            match self.search_exact(request, scratch) {
                Some(effort) => effort,
                None => return self.scan(request, 0..self.high_water(), &mut scratch.found),
            }
        } else {
            self.search_index(request, scratch)
        };
        let tail = self.scan(request, self.tail().iter().copied(), &mut scratch.found);
        effort.distances += tail.distances;
        effort
    }

    /// The same for many requests at once, which costs less; one scratch each.
    pub(crate) fn search_many(
        &self,
        requests: &[ShardRequest<'_>],
        scratches: &mut [ShardScratch],
        efforts: &mut Vec<Effort>,
    ) {
        efforts.clear();
        if requests.iter().any(|request| self.soonest_expiry(request.at) <= request.now) {
            let each = requests.iter().zip(scratches);
            memory::extend(efforts, each.map(|(request, scratch)| self.search(request, scratch)));
            return;
        }
        let visible = requests.iter().map(|request| |row: Row| self.cells.visible(row, request.at));
        let visible: Vec<_> = memory::collect(visible);
        let parts = requests.iter().zip(scratches.iter_mut()).zip(&visible);
        let mut trips: Vec<Trip<'_>> = memory::collect(parts.map(|((request, scratch), visible)| {
            let ShardScratch { found, index, .. } = scratch;
            found.reset(request.k);
            index.begin(request.follows);
            let request = self.index_request(request, visible);
            Trip { request, scratch: index, found, effort: Effort::default() }
        }));
        if let Some(space) = requests.first().map(|request| request.space) {
            self.parts.index.search_many(Points { space, vectors: &self.vectors }, &mut trips);
        }
        memory::extend(efforts, trips.iter().map(|trip| trip.effort));
        for ((request, scratch), effort) in requests.iter().zip(scratches).zip(efforts) {
            let tail = self.scan(request, self.tail().iter().copied(), &mut scratch.found);
            effort.distances += tail.distances;
        }
    }

    /// True when a request may see all rows that the index holds.
    pub(super) fn shows_whole_index(&self, request: &ShardRequest<'_>) -> bool {
        !self.parts.index_has_dead && self.parts.index_newest <= request.at && request.hidden.is_empty()
    }

    /// Whether a request may see a row.
    #[inline]
    pub(super) fn may_see(&self, request: &ShardRequest<'_>, row: Row) -> bool {
        self.visible(row, request.at) && !request.hides(row)
    }

    /// `visible` says which rows the request may see.
    fn index_request<'a>(&self, request: &ShardRequest<'a>, visible: &'a dyn Fn(Row) -> bool) -> Request<'a> {
        request.of_index(if self.shows_whole_index(request) { None } else { Some(visible) })
    }

    fn search_index(&self, request: &ShardRequest<'_>, scratch: &mut ShardScratch) -> Effort {
        let admit = |row: Row| self.cells.visible(row, request.at) && !request.hides(row);
        let inner = self.index_request(request, &admit);
        let points = Points { space: request.space, vectors: &self.vectors };
        self.parts.index.search(points, &inner, &mut scratch.index, &mut scratch.found)
    }

    /// The nearest rows of the index for certain; `None` when it cannot.
    fn search_exact(&self, request: &ShardRequest<'_>, scratch: &mut ShardScratch) -> Option<Effort> {
        let admit = |row: Row| self.cells.visible(row, request.at) && !request.hides(row);
        let inner = self.index_request(request, &admit);
        let points = Points { space: request.space, vectors: &self.vectors };
        self.parts.index.search_exact(points, &inner, &mut scratch.index, &mut scratch.found)
    }

    /// Searches the index for rows that `admit` lets in, and that pass `filter`.
    pub(super) fn walk(
        &self,
        request: &ShardRequest<'_>,
        (filter, admit): (Option<RowFilter<'_>>, &dyn Fn(Row) -> bool),
        scratch: &mut ShardScratch,
    ) -> Effort {
        let inner = Request { filter, ..request.of_index(Some(admit)) };
        let points = Points { space: request.space, vectors: &self.vectors };
        self.parts.index.search(points, &inner, &mut scratch.index, &mut scratch.found)
    }

    /// Searches the index exactly for rows that `admit` lets in; `None`, having
    /// done nothing, when it knows no faster way than comparing with each.
    pub(super) fn search_exactly(
        &self,
        request: &ShardRequest<'_>,
        admit: &dyn Fn(Row) -> bool,
        scratch: &mut ShardScratch,
    ) -> Option<Effort> {
        if self.parts.index.is_exact() {
            return Some(self.walk(request, (None, admit), scratch));
        }
        let inner = request.of_index(Some(admit));
        let points = Points { space: request.space, vectors: &self.vectors };
        self.parts.index.search_exact(points, &inner, &mut scratch.index, &mut scratch.found)
    }

    /// Searches among some visible rows of the index, by codes; `None`, having
    /// done nothing, when it has none.
    pub(super) fn search_among(
        &self,
        request: &ShardRequest<'_>,
        rows: &mut dyn Iterator<Item = Row>,
        scratch: &mut ShardScratch,
    ) -> Option<Effort> {
        let inner = request.of_index(None);
        let points = Points { space: request.space, vectors: &self.vectors };
        self.parts.index.search_among(points, &inner, rows, &mut scratch.index, &mut scratch.found)
    }

    /// Compares with every visible row of `rows`.
    pub(super) fn scan(
        &self,
        request: &ShardRequest<'_>,
        rows: impl Iterator<Item = Row>,
        found: &mut TopK,
    ) -> Effort {
        let mut effort = Effort::default();
        let mut visible = rows.filter(|row| self.may_see(request, *row));
        let mut block = [0; BLOCK];
        let mut distances = [0.0; BLOCK];
        loop {
            let mut count = 0;
            while count < BLOCK
                && let Some(row) = visible.next()
            {
                block[count] = row;
                count += 1;
            }
            if count == 0 || request.ends.are_due(effort.distances) {
                request.ends.spend(effort.distances);
                return effort;
            }
            let bound = found.bound().min(request.bound);
            request.space.distances(request.query, &self.vectors, &block[..count], bound, &mut distances);
            for (row, distance) in block[..count].iter().zip(distances) {
                if distance <= bound {
                    found.offer(Neighbor { distance, row: *row });
                }
            }
            effort.distances += count as u64;
        }
    }
}
