//! One shard as readers see it: rows, index, tail; and how it is searched.

use std::sync::Arc;

use super::cells::CellsView;
use super::store::RowStore;
use crate::id::{RecordId, Row, Seq};
use crate::index::{Effort, Ends, IndexVersion, Points, Request, Scratch, Trip};
use crate::lease::Lease;
use crate::neighbor::{Neighbor, TopK};
use crate::vector::{BLOCK, MatrixView, Space};

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
    pub(crate) index_bytes: usize,
    /// The kind of the index.
    pub(crate) index_kind: &'static str,
    /// When the next row expires that lives.
    pub(crate) next_expiry: u64,
}

/// What the writer hands over to make a view.
pub(crate) struct ViewParts {
    pub(crate) index: Arc<dyn IndexVersion>,
    /// Rows that the index does not hold yet, oldest first.
    pub(crate) tail: Arc<[Row]>,
    /// The last write that the view holds completely.
    pub(crate) applied: Seq,
    /// Live rows after that write.
    pub(crate) live: usize,
    /// True when the index holds rows that are dead.
    pub(crate) index_has_dead: bool,
    /// The newest write of which the index holds a row.
    pub(crate) index_newest: Seq,
    /// The newest death of a row that neither index nor tail shows any more:
    /// the view cannot show states before it.
    pub(crate) floor: Seq,
    /// Before this nothing that the view shows expires.
    pub(crate) earliest_expiry: u64,
    pub(crate) measure: ShardMeasure,
}

/// An immutable view of one shard.
pub(crate) struct ShardView {
    parts: ViewParts,
    vectors: MatrixView,
    cells: CellsView,
    high_water: usize,
    /// Dropped after everything above was last used: see `lease`.
    _lease: Lease,
}

/// What to look for in one shard.
pub(crate) struct ShardRequest<'a> {
    pub(crate) space: &'a Space,
    /// Prepared by [`Space::prepare`].
    pub(crate) query: &'a [f32],
    /// Show the writes up to here.
    pub(crate) at: Seq,
    /// What has expired by then is not shown; 0: everything is.
    pub(crate) now: u64,
    pub(crate) k: usize,
    pub(crate) ef: usize,
    /// A distance that k rows of other shards are known to reach.
    pub(crate) bound: f32,
    /// Compare with every row instead of asking the index.
    pub(crate) exact: bool,
    pub(crate) ends: Ends<'a>,
}

/// Working memory of a shard search.
#[derive(Default)]
pub(crate) struct ShardScratch {
    pub(crate) found: TopK,
    index: Scratch,
}

impl ShardView {
    pub(crate) fn new(rows: &mut RowStore, parts: ViewParts) -> ShardView {
        ShardView {
            parts,
            vectors: rows.vectors().clone(),
            cells: rows.cells().clone(),
            high_water: rows.high_water(),
            _lease: rows.grant(),
        }
    }

    pub(crate) fn applied(&self) -> Seq {
        self.parts.applied
    }

    pub(crate) fn measure(&self) -> ShardMeasure {
        self.parts.measure
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

    /// The same for who looks at a time: what has expired by then is not shown.
    #[inline]
    pub(crate) fn shows(&self, row: Row, at: Seq, now: u64) -> bool {
        (row as usize) < self.high_water && self.cells.shows(row, at, now)
    }

    /// Before this nothing that the view shows expires.
    #[inline]
    pub(crate) fn earliest_expiry(&self) -> u64 {
        self.parts.earliest_expiry
    }

    /// When a row expires.
    pub(crate) fn expires(&self, row: Row) -> u64 {
        self.cells.expires(row)
    }

    /// The id of a visible row.
    pub(crate) fn id(&self, row: Row) -> Option<&RecordId> {
        self.cells.id(row)
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

    /// What is stored beside the vector of a visible row: see [`Space::check`].
    pub(crate) fn scale(&self, row: Row) -> f32 {
        self.vectors.scale(row)
    }

    /// Rows shown: O(1) unless the view is ahead of `at`, or something has expired.
    pub(crate) fn live_at(&self, at: Seq, now: u64) -> usize {
        if self.parts.applied <= at && self.earliest_expiry() > now {
            return self.parts.live;
        }
        (0..self.high_water()).filter(|row| self.shows(*row, at, now)).count()
    }

    /// Leaves the `min(k, visible)` nearest rows that it finds in
    /// `scratch.found`. Rows beyond `request.bound` may be missing.
    pub(crate) fn search(&self, request: &ShardRequest<'_>, scratch: &mut ShardScratch) -> Effort {
        scratch.found.reset(request.k);
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
        let visible: Vec<_> = requests
            .iter()
            .map(|request| |row: Row| self.cells.shows(row, request.at, request.now))
            .collect();
        let parts = requests.iter().zip(scratches.iter_mut()).zip(&visible);
        let mut trips: Vec<Trip<'_>> = parts
            .map(|((request, scratch), visible)| {
                let ShardScratch { found, index } = scratch;
                found.reset(request.k);
                let request = self.index_request(request, visible);
                Trip { request, scratch: index, found, effort: Effort::default() }
            })
            .collect();
        if let Some(space) = requests.first().map(|request| request.space) {
            self.parts.index.search_many(Points { space, vectors: &self.vectors }, &mut trips);
        }
        efforts.extend(trips.iter().map(|trip| trip.effort));
        for ((request, scratch), effort) in requests.iter().zip(scratches).zip(efforts) {
            let tail = self.scan(request, self.tail().iter().copied(), &mut scratch.found);
            effort.distances += tail.distances;
        }
    }

    /// `visible` says which rows the request may see.
    fn index_request<'a>(&self, request: &ShardRequest<'a>, visible: &'a dyn Fn(Row) -> bool) -> Request<'a> {
        let is_alive = !self.parts.index_has_dead && self.earliest_expiry() > request.now;
        let all_visible = is_alive && self.parts.index_newest <= request.at;
        let admit = if all_visible { None } else { Some(visible) };
        Request {
            query: request.query,
            k: request.k,
            ef: request.ef,
            bound: request.bound,
            admit,
            ends: request.ends,
        }
    }

    fn search_index(&self, request: &ShardRequest<'_>, scratch: &mut ShardScratch) -> Effort {
        let admit = |row: Row| self.cells.shows(row, request.at, request.now);
        let inner = self.index_request(request, &admit);
        let points = Points { space: request.space, vectors: &self.vectors };
        self.parts.index.search(points, &inner, &mut scratch.index, &mut scratch.found)
    }

    /// The nearest rows of the index for certain; `None` when it cannot.
    fn search_exact(&self, request: &ShardRequest<'_>, scratch: &mut ShardScratch) -> Option<Effort> {
        let admit = |row: Row| self.cells.shows(row, request.at, request.now);
        let inner = self.index_request(request, &admit);
        let points = Points { space: request.space, vectors: &self.vectors };
        self.parts.index.search_exact(points, &inner, &mut scratch.index, &mut scratch.found)
    }

    /// Compares with every visible row of `rows`.
    fn scan(&self, request: &ShardRequest<'_>, rows: impl Iterator<Item = Row>, found: &mut TopK) -> Effort {
        let mut effort = Effort::default();
        let mut visible = rows.filter(|row| self.shows(*row, request.at, request.now));
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
