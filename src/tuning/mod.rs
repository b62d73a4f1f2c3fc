//! Searching to a target: what a collection knows of its own recall and times,
//! and which breadth it picks for a target. Pure: the measuring is `calibrate`.

mod choice;
mod growth;
mod table;
mod targets;

pub use choice::Reach;
pub(crate) use choice::{Choice, choose};
pub(crate) use growth::Extent;
pub use table::{Calibration, CalibrationCurve, CalibrationPoint};
pub(crate) use table::{Sample, curve, point};
pub(crate) use targets::Targets;

/// The numbers of hits that are measured (others are interpolated), each with
/// its number of queries. One, a page, and a candidate list cover what is asked
/// for; a query for many hits says more, and takes longer.
pub(crate) const SIZES: [(usize, usize); 3] = [(1, SAMPLES), (10, SAMPLES), (100, SAMPLES / 4)];

/// The breadths that are measured, those from k up: steps of about the square
/// root of 2, between which recall is almost straight; beyond the last, a
/// graph that still misses is better searched exactly.
pub(crate) const LADDER: [usize; 19] =
    [8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1_024, 1_536, 2_048, 3_072, 4_096];

/// Queries that are made: as many as it takes to show a recall of 0.99
/// for one hit when none is missed (about 3 / n are missed at the worst).
pub(crate) const SAMPLES: usize = 400;

/// Breadth that a recall gets beyond what the sample needs. Queries are made of
/// rows, and a row that stands near its query leads the search on: on three
/// data sets that were tried it was worth 2 to 5 places of the list.
const HEAD_START: usize = 6;

/// Below this many rows a target is answered by comparing with every row: that
/// takes tens of microseconds, and a sample of so few rows says little.
pub(crate) const EXACT_ROWS: usize = 1_000;

/// The breadth for a recall that nothing is known about yet: 0.99 and more for
/// 10 hits on all data that was tried.
pub(crate) const UNCALIBRATED_EF: usize = 512;
