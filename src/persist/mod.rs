//! Files: logs, checkpoints, and how a folder of them comes back to life.
//!
//! The only home of file I/O. `storage` is the seam to the disk, `frame` the
//! files that grow at the end (a `log` for each worker, the `manifest`),
//! `checkpoint` the files that are written once, `recover` reads the logs,
//! `folder` holds it all together, `report` tells what is there. Nothing here has a thread or a clock:
//! workers and the keeper drive it.

pub(crate) mod checkpoint;
mod checksum;
mod entry;
mod fault;
mod folder;
#[cfg(test)]
mod forge;
mod frame;
mod log;
mod manifest;
mod recover;
mod report;
mod storage;

pub(crate) use entry::{Asked, EntryHead};
#[cfg(any(test, feature = "internals"))]
pub(crate) use entry::{decode_mutations, encode_mutation};
pub(crate) use fault::unless_short;
pub(crate) use folder::{Folder, FolderOptions, Found, Opened, Refused, check_target, find};
pub(crate) use log::{ClosedLog, Log, NotLogged};
pub(crate) use manifest::CheckpointAt;
use manifest::MANIFEST;
pub use recover::{GiveUp, GivenUp};
pub use report::{FileKind, FolderReport, StoredCheckpoint, StoredCollection, StoredFile};
pub(crate) use storage::{Disk, Memory, Storage};
#[cfg(test)]
pub(crate) use {forge::forge, storage::simulator};
