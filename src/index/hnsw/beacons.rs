//! Under the inner product the best rows are often those of large norm, far
//! from the query in the Euclidean graph: some of them are extra starts.

use super::graph::Beacon;
use super::plan::Job;
use crate::id::Row;

/// Rows of the largest norm that are kept.
const COUNT: usize = 32;

/// Below this many after losses, all rows are looked at again.
const REFILL_BELOW: usize = COUNT / 2;

/// The beacons after a batch.
pub(super) fn next(job: Job<'_>) -> Vec<Beacon> {
    let old = job.graph.beacons.iter().filter(|beacon| !job.forgotten.contains(beacon.row));
    let mut beacons: Vec<Beacon> = old.copied().collect();
    if beacons.len() < REFILL_BELOW {
        let staying = job.graph.held.iter().filter(|row| !job.forgotten.contains(*row));
        beacons = staying.map(|row| beacon(job, row)).collect();
    }
    beacons.extend(job.batch.absorb.iter().map(|row| beacon(job, *row)));
    beacons.sort_unstable_by(|a, b| b.norm.total_cmp(&a.norm).then(a.row.cmp(&b.row)));
    beacons.truncate(COUNT);
    beacons
}

fn beacon(job: Job<'_>, row: Row) -> Beacon {
    let norm = job.points.vectors.row(row).iter().map(|x| x * x).sum();
    Beacon { norm, row }
}
