//! The manifest: which collections there are, and which files belong to them.
//!
//! A file of frames. It is written anew whenever the folder is opened, under
//! another name that then takes the place of the old; later changes are added
//! at its end, each durable before it takes effect.

use std::collections::BTreeMap;

use super::checkpoint::SHARDS_MOST;
use super::fault::{FileError, Operation, damaged, failed};
use super::frame::{FILE_HEADER, FileHeader, Frame, FrameFile, FrameKind, FrameWriter};
use super::storage::Storage;
use crate::codec::{Decoder, Encoder, Malformed};
use crate::id::Seq;

pub(super) const MANIFEST: &str = "manifest";
pub(super) const DRAFT: &str = "manifest.new";

/// The letter of its header.
const LETTER: u8 = b'M';

const BASE: FrameKind = u32::from_le_bytes(*b"base");
const COLLECTION: FrameKind = u32::from_le_bytes(*b"coll");
const DROPPED: FrameKind = u32::from_le_bytes(*b"drop");
const CHECKPOINT: FrameKind = u32::from_le_bytes(*b"chkp");
const CUT: FrameKind = u32::from_le_bytes(*b"cut.");
const FIRST: FrameKind = u32::from_le_bytes(*b"frst");

/// Nothing but a frame that says, as all frames do, what was durable before it:
/// so the last change is known to be no torn tail.
const MARK: FrameKind = u32::from_le_bytes(*b"mark");

/// Where a collection stands in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CheckpointAt {
    /// The number in the file's name.
    pub(crate) number: u64,
    /// It holds the state after this write.
    pub(crate) seq: Seq,
}

/// In log files up to a number, writes beyond `seq` never happened: they were
/// incomplete when the folder was recovered, and their numbers were given to
/// others since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) up_to: u64,
    pub(crate) seq: Seq,
}

/// A collection, as far as files know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) config: Vec<u8>,
    pub(crate) checkpoint: Option<CheckpointAt>,
    pub(crate) cuts: Vec<Cut>,
}

impl Entry {
    /// Writes up to here are in the checkpoint.
    pub(crate) fn checkpointed(&self) -> Seq {
        self.checkpoint.map_or(Seq(0), |checkpoint| checkpoint.seq)
    }

    /// The newest write up to `newest` that counts in a log file.
    pub(super) fn limit(&self, file: u64, newest: Seq) -> Seq {
        let cuts = self.cuts.iter().filter(|cut| file <= cut.up_to);
        cuts.fold(newest, |newest, cut| newest.min(cut.seq))
    }

    /// Whether a write in a log file counts.
    pub(super) fn counts(&self, file: u64, seq: Seq) -> bool {
        seq > self.checkpointed() && self.limit(file, seq) == seq
    }
}

/// What a manifest says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) workers: u32,
    /// The number of the next collection: none before had it.
    pub(crate) next_collection: u64,
    /// By worker: log files with lower numbers are dead.
    pub(crate) first: Vec<u64>,
    /// By worker: the log file that was begun when the manifest was written.
    pub(crate) opened: Vec<u64>,
    pub(crate) collections: BTreeMap<u64, Entry>,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Base {
        workers: u32,
        next_collection: u64,
        first: Vec<u64>,
        opened: Vec<u64>,
    },
    /// With its checkpoint if it begins with one: both or neither are there after a crash.
    Created {
        collection: u64,
        name: String,
        config: Vec<u8>,
        checkpoint: Option<CheckpointAt>,
    },
    Dropped {
        collection: u64,
    },
    Checkpointed {
        collection: u64,
        at: CheckpointAt,
    },
    Cut {
        collection: u64,
        cut: Cut,
    },
    First {
        worker: u32,
        number: u64,
    },
}

impl CheckpointAt {
    fn encode(&self, out: &mut Encoder) {
        out.u64(self.number);
        out.u64(self.seq.0);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<CheckpointAt, Malformed> {
        Ok(CheckpointAt { number: input.u64()?, seq: Seq(input.u64()?) })
    }
}

impl Change {
    fn kind(&self) -> FrameKind {
        match self {
            Change::Base { .. } => BASE,
            Change::Created { .. } => COLLECTION,
            Change::Dropped { .. } => DROPPED,
            Change::Checkpointed { .. } => CHECKPOINT,
            Change::Cut { .. } => CUT,
            Change::First { .. } => FIRST,
        }
    }

    fn encode(&self, out: &mut Encoder) {
        match self {
            Change::Base { workers, next_collection, first, opened } => {
                out.u32(*workers);
                out.u64(*next_collection);
                for numbers in [first, opened] {
                    out.size(numbers.len());
                    numbers.iter().for_each(|number| out.u64(*number));
                }
            }
            Change::Created { collection, name, config, checkpoint } => {
                out.u64(*collection);
                out.bytes(name.as_bytes());
                out.bytes(config);
                if let Some(at) = checkpoint {
                    at.encode(out);
                }
            }
            Change::Dropped { collection } => out.u64(*collection),
            Change::Checkpointed { collection, at } => {
                out.u64(*collection);
                at.encode(out);
            }
            Change::Cut { collection, cut } => {
                out.u64(*collection);
                out.u64(cut.up_to);
                out.u64(cut.seq.0);
            }
            Change::First { worker, number } => {
                out.u32(*worker);
                out.u64(*number);
            }
        }
    }

    fn decode(kind: FrameKind, input: &mut Decoder<'_>) -> Result<Change, Malformed> {
        let change = match kind {
            BASE => {
                let (workers, next_collection) = (input.u32()?, input.u64()?);
                let mut numbers = || (0..input.count(8)?).map(|_| input.u64()).collect::<Result<_, _>>();
                Change::Base { workers, next_collection, first: numbers()?, opened: numbers()? }
            }
            COLLECTION => {
                let collection = input.u64()?;
                let fault = input.fault("a name is not UTF-8");
                let name = std::str::from_utf8(input.bytes()?).map_err(|_| fault)?.to_owned();
                let config = input.bytes()?.to_vec();
                let checkpoint = if input.rest() > 0 { Some(CheckpointAt::decode(input)?) } else { None };
                Change::Created { collection, name, config, checkpoint }
            }
            DROPPED => Change::Dropped { collection: input.u64()? },
            CHECKPOINT => {
                let collection = input.u64()?;
                Change::Checkpointed { collection, at: CheckpointAt::decode(input)? }
            }
            CUT => {
                let collection = input.u64()?;
                Change::Cut { collection, cut: Cut { up_to: input.u64()?, seq: Seq(input.u64()?) } }
            }
            FIRST => Change::First { worker: input.u32()?, number: input.u64()? },
            _ => return Err(input.fault("a change is of an unknown kind")),
        };
        input.end().map(|()| change)
    }
}

impl Contents {
    pub(crate) fn apply(&mut self, change: Change) -> Result<(), &'static str> {
        const UNKNOWN: &str = "a change names a collection that does not exist";
        match change {
            Change::Base { workers, next_collection, first, opened } => {
                if workers == 0 || [&first, &opened].iter().any(|numbers| numbers.len() != workers as usize) {
                    return Err("there is not one log for every worker");
                }
                if workers as usize > SHARDS_MOST {
                    return Err("there are more workers than there can be");
                }
                *self = Contents { workers, next_collection, first, opened, ..Contents::default() };
            }
            Change::Created { collection, name, config, checkpoint } => {
                self.next_collection = self.next_collection.max(collection.saturating_add(1));
                let entry = Entry { name, config, checkpoint, cuts: Vec::new() };
                if self.collections.insert(collection, entry).is_some() {
                    return Err("a collection was created twice");
                }
            }
            Change::Dropped { collection } => {
                self.collections.remove(&collection).ok_or(UNKNOWN)?;
            }
            Change::Checkpointed { collection, at } => {
                self.collections.get_mut(&collection).ok_or(UNKNOWN)?.checkpoint = Some(at);
            }
            Change::Cut { collection, cut } => {
                self.collections.get_mut(&collection).ok_or(UNKNOWN)?.cuts.push(cut);
            }
            Change::First { worker, number } => {
                let first = self.first.get_mut(worker as usize);
                *first.ok_or("a change names a worker that does not exist")? = number;
            }
        }
        Ok(())
    }

    /// The first log file of a worker that is not dead.
    pub(super) fn first_of(&self, worker: u32) -> u64 {
        self.first.get(worker as usize).copied().unwrap_or(0)
    }

    /// The changes that lead to these contents.
    fn changes(&self) -> Vec<Change> {
        let mut changes = vec![Change::Base {
            workers: self.workers,
            next_collection: self.next_collection,
            first: self.first.clone(),
            opened: self.opened.clone(),
        }];
        for (collection, entry) in &self.collections {
            let (collection, name, config) = (*collection, entry.name.clone(), entry.config.clone());
            changes.push(Change::Created { collection, name, config, checkpoint: entry.checkpoint });
            changes.extend(entry.cuts.iter().map(|cut| Change::Cut { collection, cut: *cut }));
        }
        changes
    }

    /// Reads the manifest. A torn tail is left out: changes that never took
    /// effect.
    pub(super) fn read(storage: &dyn Storage) -> Result<(Contents, u64), FileError> {
        let opened = storage.open(MANIFEST);
        let file = opened.map_err(|fault| failed(Operation::Open, MANIFEST, &fault))?;
        let damage = |offset, what| FileError::Damaged { file: MANIFEST.to_owned(), offset, what };
        let header = FileHeader::read(file.as_ref(), MANIFEST)?.filter(|header| header.kind == LETTER);
        let header = header.ok_or_else(|| damage(0, "the header is bad"))?;
        let is_intact = header.incarnation != 0 && header.incarnation == storage.incarnation();
        let frames = FrameFile { file: file.as_ref(), name: MANIFEST, header, is_followed: false, is_intact };
        let mut contents = Contents::default();
        frames.scan(&mut |Frame { kind, offset, payload }| {
            if kind == MARK {
                return Ok(());
            }
            let mut input = Decoder::new(payload);
            let change =
                Change::decode(kind, &mut input).map_err(|fault| damaged(MANIFEST, offset, fault))?;
            contents.apply(change).map_err(|what| damage(offset, what))
        })?;
        if contents.workers == 0 {
            return Err(damage(FILE_HEADER as u64, "the manifest is empty"));
        }
        Ok((contents, header.number))
    }
}

/// The manifest of an open folder.
pub(crate) struct Manifest {
    contents: Contents,
    writer: FrameWriter,
}

impl Manifest {
    /// Writes a manifest in the place of the one before.
    pub(super) fn publish(
        storage: &dyn Storage,
        contents: Contents,
        number: u64,
    ) -> Result<Manifest, FileError> {
        let incarnation = storage.incarnation();
        let header = FileHeader { kind: LETTER, worker: 0, number, previous: 0, incarnation };
        let mut writer = FrameWriter::start(storage, DRAFT, header)?;
        for change in contents.changes() {
            writer.push(change.kind(), |out| change.encode(out))?;
        }
        writer.sync()?;
        writer.push(MARK, |_| {})?;
        writer.write()?;
        storage.rename(DRAFT, MANIFEST).map_err(|fault| failed(Operation::Rename, DRAFT, &fault))?;
        storage.sync_folder().map_err(|fault| failed(Operation::SyncFolder, MANIFEST, &fault))?;
        writer.rename(MANIFEST);
        Ok(Manifest { contents, writer })
    }

    pub(crate) fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The fault after which nothing can be changed any more.
    pub(crate) fn check(&self) -> Result<(), FileError> {
        self.writer.check()
    }

    /// Makes a change durable, then lets it take effect.
    pub(crate) fn change(&mut self, change: Change) -> Result<(), FileError> {
        self.check()?;
        let length = self.writer.length();
        self.writer.push(change.kind(), |out| change.encode(out))?;
        self.writer.sync()?;
        // Should it fail, the next change does.
        let _ = self.writer.push(MARK, |_| {}).and_then(|()| self.writer.write());
        let fault = |what| FileError::Damaged { file: MANIFEST.to_owned(), offset: length, what };
        self.contents.apply(change).map_err(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::super::storage::simulator::Simulator;
    use super::*;

    #[test]
    fn contents_are_read_back_also_after_changes() {
        let folder = Simulator::new(1);
        let base = Contents {
            workers: 2,
            next_collection: 4,
            first: vec![0, 0],
            opened: vec![5, 6],
            ..Contents::default()
        };
        let mut manifest = Manifest::publish(&folder, base, 7).unwrap();
        let changes = [
            Change::Created { collection: 4, name: "a".into(), config: vec![1, 2], checkpoint: None },
            Change::Created {
                collection: 5,
                name: "b".into(),
                config: vec![],
                checkpoint: Some(CheckpointAt { number: 7, seq: Seq(2) }),
            },
            Change::Cut { collection: 4, cut: Cut { up_to: 6, seq: Seq(9) } },
            Change::Checkpointed { collection: 4, at: CheckpointAt { number: 8, seq: Seq(3) } },
            Change::Dropped { collection: 5 },
            Change::First { worker: 1, number: 6 },
        ];
        changes.into_iter().for_each(|change| manifest.change(change).unwrap());
        let expected = manifest.contents().clone();
        assert_eq!(Contents::read(&folder), Ok((expected.clone(), 7)));
        assert_eq!((expected.next_collection, expected.collections.len()), (6, 1));
        assert_eq!((expected.first_of(0), expected.first_of(1)), (0, 6));
        let entry = &expected.collections[&4];
        assert!(!entry.counts(1, Seq(3)) && entry.counts(6, Seq(9)) && !entry.counts(6, Seq(10)));
        assert!(entry.counts(7, Seq(10)));
        Manifest::publish(&folder, expected.clone(), 9).unwrap();
        assert_eq!(Contents::read(&folder), Ok((expected, 9)));
    }

    #[test]
    fn more_workers_than_there_can_be_are_refused() {
        let base = |workers: usize| {
            let first = vec![0; workers];
            Contents { workers: workers as u32, opened: first.clone(), first, ..Contents::default() }
        };
        let folder = Simulator::new(1);
        Manifest::publish(&folder, base(SHARDS_MOST), 7).unwrap();
        assert_eq!(Contents::read(&folder).unwrap().0.workers as usize, SHARDS_MOST);
        Manifest::publish(&folder, base(SHARDS_MOST + 1), 8).unwrap();
        assert!(matches!(Contents::read(&folder), Err(FileError::Damaged { .. })));
    }
}
