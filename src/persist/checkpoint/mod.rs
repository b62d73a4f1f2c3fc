//! Checkpoints: a collection as of one write, in one file.
//!
//! A header, then sections, each with checksums of its head and of its
//! content, then a last section that counts them. A file is written under
//! another name and renamed when all of it is durable, so one that has its
//! name is complete.
//!
//! | section | of each shard | content |
//! |---|---|---|
//! | `meta` | no | name, configuration, write, numbers of shards and dimensions |
//! | `rows` | yes | which rows there are, their ids, the tail, payloads |
//! | `vecs` | yes | the vectors of these rows |
//! | `indx` | yes | the index |
//! | `end.` | no | the number of sections |

#[cfg(test)]
mod forge;
mod read;
mod section;
mod write;

#[cfg(test)]
pub(crate) use forge::forge;
pub(crate) use read::{Checkpoint, LoadedShard, SHARDS_MOST};
pub(crate) use write::{Meta, write, write_by_draft, write_draft};

use crate::persist::frame::FORMAT;

/// Of the columns that may follow the rows: the writes that live rows come
/// from, and their payloads.
const BIRTHS: u8 = 1;
const PAYLOADS: u8 = 2;

const MAGIC: &[u8; 8] = b"vecino\0C";
const META: [u8; 4] = *b"meta";
const ROWS: [u8; 4] = *b"rows";
const VECTORS: [u8; 4] = *b"vecs";
const INDEX: [u8; 4] = *b"indx";
const END: [u8; 4] = *b"end.";

/// What a row is, in the section `rows`.
const FREE: u8 = 0;
const LIVE: u8 = 1;
/// The index holds it, and no search shows it.
const DEAD: u8 = 2;

/// How the section `indx` begins: with an index or without; and, when the
/// collection was made with another, with the configuration of the new one.
const INDEX_NONE: u8 = 0;
const INDEX_THERE: u8 = 1;
const SWITCHED_THERE: u8 = 2;
const SWITCHED_NONE: u8 = 3;

/// What the name of a file ends with until it is complete.
const DRAFT: &str = ".new";

/// The name of a collection's checkpoint in a folder.
pub(crate) fn name(collection: u64, number: u64) -> String {
    format!("checkpoint-{collection}-{number}")
}

/// The collection and the number in a checkpoint's name.
pub(crate) fn parse_name(file: &str) -> Option<(u64, u64)> {
    let (collection, number) = file.strip_prefix("checkpoint-")?.split_once('-')?;
    let parsed = (collection.parse().ok()?, number.parse().ok()?);
    (name(parsed.0, parsed.1) == file).then_some(parsed)
}

/// True for a file of ours that was never completed.
pub(crate) fn is_draft(file: &str) -> bool {
    file.strip_suffix(DRAFT).is_some_and(|name| parse_name(name).is_some() || name == super::MANIFEST)
}
