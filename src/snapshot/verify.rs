//! Proof that a snapshot shows exactly what it should.

use std::fmt;

use super::published::{Published, shard_of};
use crate::bits::RowSet;
use crate::id::RecordId;
use crate::index::Defect;
use crate::rows::ShardView;

/// Findings that a report lists; more are only counted.
const MAX_FINDINGS: usize = 100;

/// One defect.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// The index of a shard is not sound; the text names the rows.
    Index {
        /// The shard.
        shard: usize,
        /// What is wrong.
        defect: String,
    },
    /// A visible record that `get` would not find.
    Unlisted {
        /// The shard.
        shard: usize,
        /// The record.
        id: RecordId,
    },
    /// A record that stands in the wrong shard.
    Misplaced {
        /// The shard.
        shard: usize,
        /// The record.
        id: RecordId,
    },
    /// The number of visible rows is not the number that `len` gives.
    Count {
        /// Rows that are visible.
        visible: usize,
        /// What `len` gives.
        len: usize,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Index { shard, defect } => write!(f, "shard {shard}: {defect}"),
            Finding::Unlisted { shard, id } => write!(f, "shard {shard}: record {id} is not listed"),
            Finding::Misplaced { shard, id } => write!(f, "record {id} stands in the wrong shard {shard}"),
            Finding::Count { visible, len } => write!(f, "{visible} rows are visible, the count is {len}"),
        }
    }
}

/// What [`Snapshot::verify`](crate::Snapshot::verify) found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Visible records that were checked.
    pub records: usize,
    /// Rows that the indexes hold, dead ones that are not unlinked yet included.
    pub indexed_rows: usize,
    /// Rows that wait in the tails.
    pub tail_rows: usize,
    /// The first 100 defects.
    pub findings: Vec<Finding>,
    /// All defects.
    pub defects: usize,
}

impl VerifyReport {
    /// True when no defect was found.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.defects == 0
    }

    fn add(&mut self, finding: Finding) {
        self.defects += 1;
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        }
    }
}

pub(super) fn verify(published: &Published) -> VerifyReport {
    let mut report = VerifyReport::default();
    for (number, shard) in published.shards.iter().enumerate() {
        verify_index(number, shard, published, &mut report);
        verify_records(number, shard, published, &mut report);
    }
    let len = super::Sight::of_all(published).len();
    if report.records != len {
        report.add(Finding::Count { visible: report.records, len });
    }
    report
}

/// Every visible row is in the index or in the tail, and in one of them only.
fn verify_index(number: usize, shard: &ShardView, published: &Published, report: &mut VerifyReport) {
    let mut tail = RowSet::default();
    shard.tail().iter().for_each(|row| {
        tail.insert(*row);
    });
    let mut expected =
        (0..shard.high_water()).filter(|row| shard.visible(*row, published.seq) && !tail.contains(*row));
    for defect in shard.index().audit(&mut expected) {
        // A row that the index holds beyond the visible ones is a dead one
        // that is not unlinked yet, or one of a later write: searches hide it.
        let hidden = match defect {
            Defect::Membership(row) => !tail.contains(row) && !shard.visible(row, published.seq),
            _ => false,
        };
        if !hidden {
            report.add(Finding::Index { shard: number, defect: format!("{defect:?}") });
        }
    }
    report.indexed_rows += shard.index().len();
    report.tail_rows += tail.len();
}

/// Every visible record is found by its id, in the shard where it belongs.
fn verify_records(number: usize, shard: &ShardView, published: &Published, report: &mut VerifyReport) {
    for row in (0..shard.high_water()).filter(|row| shard.visible(*row, published.seq)) {
        let Some(id) = shard.id(row) else { continue };
        report.records += 1;
        if shard_of(id, published.shards.len()) != number {
            report.add(Finding::Misplaced { shard: number, id: id.clone() });
        } else if super::Sight::of_all(published).find(id).is_none_or(|(_, found)| found != row) {
            report.add(Finding::Unlisted { shard: number, id: id.clone() });
        }
    }
}
