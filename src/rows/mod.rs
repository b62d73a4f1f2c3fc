//! One shard's rows: vectors, ids, birth and death numbers, and the view of
//! them that snapshots hold.

mod cells;
mod directory;
mod expired;
mod filtered;
mod leases;
mod mutation;
mod scored;
mod store;
mod view;

pub(crate) use directory::Directory;
pub(crate) use mutation::{Condition, Mutation, NewExpiry, NewRow, Reindex, Verdict};
pub(crate) use scored::Scored;
pub(crate) use store::{Allocation, CELL_BYTES, RetiredRows, RowStore};
pub(crate) use view::{Reindexing, ShardMeasure, ShardRequest, ShardScratch, ShardView, Switched, ViewParts};
