//! The exact index: no row that it leaves out could be in the answer.
//!
//! From some size on it keeps small codes of its rows, which rule most of them
//! out for certain ([`sift`](super::sift)); the others are measured. Without
//! codes, or where they do not pay, it looks at every row.

use std::sync::Arc;

use super::cow::{Left, SharedMemory, Versions};
use super::sift;
use super::sifted::{self, Sifted, SiftedBlocks, SiftedChange, Turn};
use super::{
    Batch, Defect, Effort, Executor, Index, IndexVersion, Plan, Points, Request, Saved, Scratch, Settling,
};
use crate::bits::RowSet;
use crate::codec::Encoder;
use crate::id::{Row, mix};
use crate::lease::Lease;
use crate::memory;
use crate::neighbor::{Neighbor, TopK};
use crate::vector::BLOCK;

/// The rows held, as of one moment.
struct FlatVersion {
    held: RowSet,
    /// None while there are few.
    sifted: Option<Sifted>,
    lease: Lease,
}

/// A change: rows in, rows out.
struct Change {
    absorb: Vec<Row>,
    forget: Vec<Row>,
    codes: SiftedChange,
}

/// The writer's side of the exact index.
pub(crate) struct Flat {
    versions: Versions,
    codes: Option<SiftedBlocks>,
    newest: Arc<FlatVersion>,
    /// What only older versions keep, since all rows were coded anew.
    left: Left,
}

impl Default for Flat {
    fn default() -> Flat {
        let mut versions = Versions::default();
        versions.begin();
        let newest = FlatVersion { held: RowSet::default(), sifted: None, lease: versions.publish() };
        Flat { versions, codes: None, newest: Arc::new(newest), left: Left::default() }
    }
}

impl Flat {
    /// An exact index of rows; the next batch gives it codes if they pay.
    pub(crate) fn load(saved: &Saved<'_>) -> Flat {
        let mut versions = Versions::default();
        versions.begin();
        let newest = FlatVersion { held: saved.held.clone(), sifted: None, lease: versions.publish() };
        Flat { versions, codes: None, newest: Arc::new(newest), left: Left::default() }
    }
}

/// Offers every admitted row of `held` to `found`, exactly; gives the number
/// of distances computed.
pub(super) fn scan(
    held: &RowSet,
    points: Points<'_>,
    request: &Request<'_>,
    scratch: &mut Scratch,
    found: &mut TopK,
) -> u64 {
    scan_rows(held.iter(), points, request, scratch, found)
}

/// The same for any rows.
pub(super) fn scan_rows(
    all: impl Iterator<Item = Row>,
    points: Points<'_>,
    request: &Request<'_>,
    scratch: &mut Scratch,
    found: &mut TopK,
) -> u64 {
    let (rows, distances) = (&mut scratch.rows, &mut scratch.distances);
    memory::resize(distances, BLOCK, 0.0);
    rows.clear();
    memory::reserve(rows, BLOCK);
    let mut computed = 0;
    let mut flush = |rows: &mut Vec<Row>, computed: &mut u64| {
        let bound = found.bound().min(request.bound);
        points.space.distances(request.query, points.vectors, rows, bound, distances);
        for (row, distance) in rows.iter().zip(distances.iter()) {
            if *distance <= bound {
                found.offer(Neighbor { distance: *distance, row: *row });
            }
        }
        *computed += rows.len() as u64;
        rows.clear();
    };
    for row in all {
        if request.admit.is_none_or(|admit| admit(row)) {
            rows.push(row);
            if rows.len() == BLOCK {
                if request.ends.are_due(computed) {
                    rows.clear();
                    break;
                }
                flush(rows, &mut computed);
            }
        }
    }
    if !request.ends.are_due(computed) {
        flush(rows, &mut computed);
    }
    request.ends.spend(computed);
    computed
}

/// Compares the rows held with those that should be.
pub(super) fn membership(held: &RowSet, expected: &mut dyn Iterator<Item = Row>) -> Vec<Defect> {
    let mut defects = Vec::new();
    let mut wanted = RowSet::default();
    for row in expected {
        wanted.insert(row);
        if !held.contains(row) {
            memory::push(&mut defects, Defect::Membership(row));
        }
    }
    memory::extend(&mut defects, held.iter().filter(|row| !wanted.contains(*row)).map(Defect::Membership));
    defects
}

impl IndexVersion for FlatVersion {
    fn len(&self) -> usize {
        self.held.len()
    }

    fn search(
        &self,
        points: Points<'_>,
        request: &Request<'_>,
        scratch: &mut Scratch,
        found: &mut TopK,
    ) -> Effort {
        if request.k == 0 {
            return Effort::default();
        }
        let sifted = self
            .sifted
            .as_ref()
            .and_then(|sifted| sift::search(sifted, &self.held, points, request, &mut scratch.sift, found));
        let distances = sifted.unwrap_or_else(|| scan(&self.held, points, request, scratch, found));
        Effort { distances, hops: 0 }
    }

    fn plan(&self, points: Points<'_>, batch: &Batch<'_>, executor: &dyn Executor) -> Plan {
        let after = || memory::collect(self.held.after(batch.forget, batch.absorb).iter());
        let turn = Turn {
            absorb: batch.absorb,
            held: &after,
            count: self.held.len() + batch.absorb.len() - batch.forget.len(),
            optimize: batch.optimize,
            renews: batch.renews,
        };
        let codes = sifted::change(self.sifted.as_ref(), points, &turn, executor);
        Plan(Box::new(Change {
            absorb: memory::copied(batch.absorb),
            forget: memory::copied(batch.forget),
            codes,
        }))
    }

    fn audit(&self, expected: &mut dyn Iterator<Item = Row>) -> Vec<Defect> {
        membership(&self.held, expected)
    }

    fn save(&self, _: &mut Encoder) -> Option<RowSet> {
        Some(self.held.clone())
    }

    fn digest(&self) -> u64 {
        let codes = self.sifted.as_ref().map_or(0, |sifted| sifted.digest(&self.held));
        self.held.iter().fold(codes, |hash, row| mix(hash ^ u64::from(row)))
    }

    fn is_exact(&self) -> bool {
        true
    }
}

impl Index for Flat {
    fn version(&self) -> Arc<dyn IndexVersion> {
        Arc::clone(&self.newest) as Arc<dyn IndexVersion>
    }

    fn commit(&mut self, plan: Plan) {
        let Ok(change) = plan.0.downcast::<Change>() else { return };
        let held = self.newest.held.after(&change.forget, &change.absorb);
        let epoch = self.versions.begin_after(&mut self.newest, |newest| &mut newest.lease);
        match (change.codes, &mut self.codes) {
            (SiftedChange::Replace(codes), own) => {
                let before = own.replace(*codes);
                self.left.add(before.iter().flat_map(SiftedBlocks::shared));
            }
            (SiftedChange::Add(codes), Some(own)) if held.len() > 0 => own.write(&codes, epoch),
            (SiftedChange::Add(_) | SiftedChange::Drop, own) => {
                let before = own.take();
                self.left.add(before.iter().flat_map(SiftedBlocks::shared));
            }
            (SiftedChange::None, _) => {}
        }
        let sifted = self.codes.as_mut().map(|codes| codes.publish(epoch, &self.versions));
        self.newest = Arc::new(FlatVersion { held, sifted, lease: self.versions.publish() });
    }

    fn settle(&mut self) -> Settling {
        if self.codes.as_ref().is_none_or(SiftedBlocks::is_settled) {
            return self.versions.settled();
        }
        if !self.versions.is_newest_alone() {
            return Settling::Waiting;
        }
        let (epoch, held) = (self.versions.begin(), self.newest.held.clone());
        let sifted = self.codes.as_mut().map(|codes| codes.publish(epoch, &self.versions));
        self.newest = Arc::new(FlatVersion { held, sifted, lease: self.versions.publish() });
        Settling::Stepped
    }

    fn bytes(&self) -> usize {
        self.newest.held.bytes() + self.codes.as_ref().map_or(0, SiftedBlocks::bytes) + self.left.bytes()
    }

    fn shared(&self) -> SharedMemory {
        memory::collect(self.codes.iter().flat_map(SiftedBlocks::shared).chain(self.left.iter()))
    }

    fn kind(&self) -> &'static str {
        "flat"
    }
}
