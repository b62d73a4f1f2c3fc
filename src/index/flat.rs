//! The index that looks at every row: exact, and the oracle of all others.

use std::sync::Arc;

use super::{Batch, Defect, Effort, Executor, Index, IndexVersion, Plan, Points, Request, Scratch};
use crate::bits::RowSet;
use crate::id::{Row, mix};
use crate::neighbor::{Neighbor, TopK};
use crate::vector::BLOCK;

/// The rows held, as of one moment.
#[derive(Debug, Default)]
struct FlatVersion {
    held: RowSet,
}

/// A change: rows in, rows out.
struct Change {
    absorb: Vec<Row>,
    forget: Vec<Row>,
}

/// The writer's side of the exact index.
#[derive(Debug, Default)]
pub(crate) struct Flat {
    newest: Arc<FlatVersion>,
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
    distances.resize(BLOCK, 0.0);
    rows.clear();
    let mut computed = 0;
    let mut flush = |rows: &mut Vec<Row>| {
        let bound = found.bound().min(request.bound);
        points.space.distances(request.query, points.vectors, rows, bound, distances);
        for (row, distance) in rows.iter().zip(distances.iter()) {
            if *distance <= bound {
                found.offer(Neighbor { distance: *distance, row: *row });
            }
        }
        computed += rows.len() as u64;
        rows.clear();
    };
    for row in all {
        if request.admit.is_none_or(|admit| admit(row)) {
            rows.push(row);
            if rows.len() == BLOCK {
                flush(rows);
            }
        }
    }
    flush(rows);
    computed
}

/// Compares the rows held with those that should be.
pub(super) fn membership(held: &RowSet, expected: &mut dyn Iterator<Item = Row>) -> Vec<Defect> {
    let mut defects = Vec::new();
    let mut wanted = RowSet::default();
    for row in expected {
        wanted.insert(row);
        if !held.contains(row) {
            defects.push(Defect::Membership(row));
        }
    }
    defects.extend(held.iter().filter(|row| !wanted.contains(*row)).map(Defect::Membership));
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
        Effort { distances: scan(&self.held, points, request, scratch, found), hops: 0 }
    }

    fn plan(&self, _points: Points<'_>, batch: &Batch<'_>, _executor: &dyn Executor) -> Plan {
        Plan(Box::new(Change { absorb: batch.absorb.to_vec(), forget: batch.forget.to_vec() }))
    }

    fn audit(&self, expected: &mut dyn Iterator<Item = Row>) -> Vec<Defect> {
        membership(&self.held, expected)
    }

    fn digest(&self) -> u64 {
        self.held.iter().fold(0, |hash, row| mix(hash ^ u64::from(row)))
    }

    fn bytes(&self) -> usize {
        self.held.bytes()
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
        let mut held = self.newest.held.clone();
        for row in change.forget {
            held.remove(row);
        }
        for row in change.absorb {
            held.insert(row);
        }
        self.newest = Arc::new(FlatVersion { held });
    }

    fn bytes(&self) -> usize {
        self.newest.bytes()
    }

    fn kind(&self) -> &'static str {
        "flat"
    }
}
