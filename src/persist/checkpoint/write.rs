//! Writing a checkpoint from a held snapshot, while reads and writes go on.

use std::sync::atomic::AtomicBool;

use super::section::{PIECE, SectionWriter};
use super::{
    BIRTHS, DEAD, DRAFT, FORMAT, FREE, INDEX, INDEX_NONE, INDEX_THERE, LIVE, META, PAYLOADS, ROWS,
    SWITCHED_NONE, SWITCHED_THERE, VECTORS,
};
use crate::bits::RowSet;
use crate::codec::{Encoder, encode_id};
use crate::id::{Row, Seq};
use crate::memory;
use crate::payload::{Timestamp, encode_payload};
use crate::persist::fault::{FileError, Operation, failed, unless_short};
use crate::persist::storage::Storage;
use crate::rows::ShardView;
use crate::snapshot::{Published, Sight};

/// What stands in a checkpoint beside the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) name: String,
    /// The configuration, in the words of whoever reads it.
    pub(crate) config: Vec<u8>,
    pub(crate) seq: Seq,
    pub(crate) dimension: usize,
    pub(crate) shards: usize,
    /// The time at which it was looked at: what had expired by then was not seen.
    pub(crate) now: Timestamp,
}

/// Writes a snapshot into a file; gives its length. The file has its name once
/// all of it is durable. Once `cancelled` is set it ends early, with an error.
pub(crate) fn write(
    storage: &dyn Storage,
    file: &str,
    sight: Sight<'_>,
    config: &[u8],
    cancelled: &AtomicBool,
) -> Result<u64, FileError> {
    write_by_draft(storage, &format!("{file}{DRAFT}"), file, sight, config, cancelled)
}

/// As [`write`], by a draft of a name that the caller chose: nobody else may write it.
pub(crate) fn write_by_draft(
    storage: &dyn Storage,
    draft: &str,
    file: &str,
    sight: Sight<'_>,
    config: &[u8],
    cancelled: &AtomicBool,
) -> Result<u64, FileError> {
    let renamed = || storage.rename(draft, file).map_err(|fault| failed(Operation::Rename, draft, &fault));
    let work = || write_draft(storage, draft, sight, config, cancelled);
    let written = unless_short(Operation::Append, draft, work).and_then(|bytes| renamed().map(|()| bytes));
    let written = written.inspect_err(|_| {
        // Half a file is of no use to anybody, and may be what fills the disk.
        let _ = storage.remove(draft);
    })?;
    storage.sync_folder().map_err(|fault| failed(Operation::SyncFolder, file, &fault))?;
    Ok(written)
}

/// Writes a file that nobody may take for a checkpoint yet. It may unwind for
/// want of memory.
pub(crate) fn write_draft(
    storage: &dyn Storage,
    draft: &str,
    sight: Sight<'_>,
    config: &[u8],
    cancelled: &AtomicBool,
) -> Result<u64, FileError> {
    let published = sight.state();
    let mut out = SectionWriter::create(storage, draft, FORMAT, cancelled)?;
    let mut meta = Encoder::default();
    meta.bytes(published.context.name.as_bytes());
    meta.bytes(config);
    meta.u64(published.seq.0);
    meta.size(published.context.space.dim());
    meta.size(published.shards.len());
    meta.u64(sight.now.0.cast_unsigned());
    out.whole(META, 0, meta.as_slice())?;
    for (number, shard) in published.shards.iter().enumerate() {
        write_shard(&mut out, number as u32, shard, published)?;
    }
    out.finish()
}

/// What stands before an index: whether it is there, and its configuration if
/// that is not the one in the manifest.
fn begin_index(index: &mut Encoder, shard: &ShardView, is_there: bool) {
    match shard.switched() {
        None => index.u8(if is_there { INDEX_THERE } else { INDEX_NONE }),
        Some(switched) => {
            index.u8(if is_there { SWITCHED_THERE } else { SWITCHED_NONE });
            index.bytes(&switched.spec);
        }
    }
}

/// The rows of a shard that are written, and what they are.
struct Selection {
    /// By row.
    kinds: Vec<u8>,
    tail: Vec<Row>,
    index: Encoder,
    /// What each place in the file is called in memory.
    rows: Vec<Row>,
}

impl Selection {
    fn new(shard: &ShardView, at: Seq) -> Selection {
        let limit = shard.high_water();
        let mut index = Encoder::default();
        begin_index(&mut index, shard, true);
        let held = shard.index().save(&mut index);
        let visible = |row: &Row| shard.visible(*row, at);
        let live: usize = (0..limit).filter(visible).count();
        let dead = held.as_ref().map_or(0, |held| held.iter().filter(|row| !visible(row)).count());
        match held {
            // So a file is never much smaller than the memory that it takes.
            Some(held) if live + dead >= limit as usize / 2 => Selection::numbered(shard, at, &held, index),
            _ => Selection::dense(shard, memory::collect((0..limit).filter(visible))),
        }
    }

    /// All rows keep their numbers, and the index is written. Rows that are in
    /// neither index nor tail are not of the view: the write of its floor goes
    /// on, and has put them into free places.
    fn numbered(shard: &ShardView, at: Seq, held: &RowSet, index: Encoder) -> Selection {
        let mut known = held.clone();
        shard.tail().iter().for_each(|row| _ = known.insert(*row));
        let kind = |row| match (known.contains(row) && shard.visible(row, at), held.contains(row)) {
            (true, _) => LIVE,
            (false, true) => DEAD,
            (false, false) => FREE,
        };
        let kinds: Vec<u8> = memory::collect((0..shard.high_water()).map(kind));
        let in_tail = |row: &Row| shard.visible(*row, at) && !held.contains(*row);
        let tail = memory::collect(shard.tail().iter().copied().filter(in_tail));
        Selection { kinds, tail, index, rows: memory::collect(0..shard.high_water()) }
    }

    /// Only live rows, under new numbers; the index is to be built anew.
    fn dense(shard: &ShardView, rows: Vec<Row>) -> Selection {
        let mut index = Encoder::default();
        begin_index(&mut index, shard, false);
        let tail = memory::collect(0..rows.len() as Row);
        Selection { kinds: memory::filled(LIVE, rows.len()), tail, index, rows }
    }

    /// The rows whose vectors are written, under their numbers in memory.
    fn written(&self) -> impl Iterator<Item = (u8, Row)> + '_ {
        let pairs = self.kinds.iter().copied().zip(self.rows.iter().copied());
        pairs.filter(|(kind, _)| *kind != FREE)
    }
}

fn write_shard(
    out: &mut SectionWriter<'_>,
    number: u32,
    shard: &ShardView,
    published: &Published,
) -> Result<(), FileError> {
    let chosen = Selection::new(shard, published.seq);
    let mut rows = Encoder::default();
    rows.u64(shard.measure().absorbed);
    rows.bytes(&chosen.kinds);
    rows.size(chosen.tail.len());
    rows.words(chosen.tail.iter().copied());
    for (kind, row) in chosen.written() {
        rows.f32(shard.scale(row));
        if let Some(id) = shard.id(row).filter(|_| kind == LIVE) {
            encode_id(id, &mut rows);
        }
    }
    rows.u8(BIRTHS);
    for (_, row) in chosen.written().filter(|(kind, _)| *kind == LIVE) {
        rows.u64(shard.born(row).0);
    }
    if !shard.payloads().is_empty() {
        rows.u8(PAYLOADS);
        for (_, row) in chosen.written().filter(|(kind, _)| *kind == LIVE) {
            encode_payload(&shard.payload(row, published.seq), &mut rows);
        }
    }
    out.whole(ROWS, number, rows.as_slice())?;
    let dim = published.context.space.dim();
    let count = chosen.written().count();
    out.begin(VECTORS, number, (count * dim * size_of::<f32>()) as u64)?;
    let mut piece = Encoder::default();
    for (_, row) in chosen.written() {
        piece.floats(&shard.vector(row));
        if piece.len() >= PIECE {
            out.add(piece.as_slice())?;
            piece.clear();
        }
    }
    out.add(piece.as_slice())?;
    out.whole(INDEX, number, chosen.index.as_slice())
}
