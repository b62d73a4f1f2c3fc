//! Reading the logs of a folder: which writes count, and what they ask.
//!
//! Each collection comes to the last state before the first write that is not
//! complete: that has no part in the log of a worker which must have one. All
//! writes that were acknowledged are complete, with all before them.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{EntryHead, decode_mutations};
use super::fault::{FileError, Operation, damaged, failed};
use super::frame::{FILE_HEADER, FileHeader, Frame, FrameFile, Tail};
use super::log::{ClosedLog, ENTRY, LOG, log_name};
use super::manifest::Contents;
use super::storage::{File, Storage};
use crate::codec::{Decoder, Malformed};
use crate::id::Seq;
use crate::memory;
use crate::rows::Mutation;
use crate::vector::Space;

/// Bytes of a file that were given up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GivenUp {
    /// The file, by its name in the folder.
    pub file: String,
    /// The first byte.
    pub offset: u64,
    /// How many bytes; 0: it is not known how far the damage reaches.
    pub bytes: u64,
    /// Whole entries among them that nothing vouched for.
    pub entries: usize,
    /// Why.
    pub reason: GiveUp,
}

impl GivenUp {
    /// What a damaged or missing file costs; other faults stay faults.
    pub(crate) fn of(fault: FileError) -> Result<GivenUp, FileError> {
        let (file, offset) = match fault {
            FileError::Damaged { file, offset, .. } => (file, offset),
            FileError::Missing { file } => (file, 0),
            other => return Err(other),
        };
        Ok(GivenUp { file, offset, bytes: 0, entries: 0, reason: GiveUp::Damage })
    }
}

/// Why bytes were given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GiveUp {
    /// A crash broke off what was being written; nobody was told that it was kept.
    TornTail,
    /// They are damaged, and the engine was told to repair.
    Damage,
}

/// One log file.
pub(super) struct LogFile {
    pub(super) worker: u32,
    pub(super) number: u64,
    pub(super) name: String,
    pub(super) header: FileHeader,
    pub(super) file: Box<dyn File>,
    pub(super) is_followed: bool,
    pub(super) tail: Tail,
    /// By collection the newest write of which it has a part, whether it counts or not.
    pub(super) newest: BTreeMap<u64, Seq>,
}

impl LogFile {
    fn frames(&self, is_intact: bool) -> FrameFile<'_> {
        FrameFile {
            file: self.file.as_ref(),
            name: &self.name,
            header: self.header,
            is_followed: self.is_followed,
            is_intact,
        }
    }

    pub(super) fn closed(&self, length: u64) -> ClosedLog {
        ClosedLog {
            name: self.name.clone(),
            worker: self.worker,
            number: self.number,
            bytes: length,
            newest: self.newest.clone(),
        }
    }
}

/// The parts of a write that were found.
#[derive(Clone, Copy, Debug, Default)]
struct Parts {
    needed: u32,
    found: u32,
}

/// All logs of a folder.
pub(super) struct Logs {
    /// By worker, then in the order of their numbers.
    pub(super) files: Vec<LogFile>,
    /// By collection the state that it comes to.
    pub(super) states: BTreeMap<u64, Seq>,
    /// Collections with writes that do not count.
    pub(super) incomplete: Vec<u64>,
    pub(super) given_up: Vec<GivenUp>,
    /// Files that are logs by their names and cannot be read as such.
    pub(super) unreadable: Vec<String>,
    repair: bool,
}

/// The worker and the number in a log's name.
pub(super) fn parse_name(name: &str) -> Option<(u32, u64)> {
    let (worker, number) = name.strip_prefix("log-")?.split_once('-')?;
    let parsed = (worker.parse().ok()?, number.parse().ok()?);
    // `log-00-1` is no file of ours.
    (log_name(parsed.0, parsed.1) == name).then_some(parsed)
}

impl Logs {
    /// Reads all logs that the manifest has use for.
    pub(super) fn read(
        storage: &dyn Storage,
        names: &[String],
        contents: &Contents,
        repair: bool,
    ) -> Result<Logs, FileError> {
        let mut logs = Logs {
            files: Vec::new(),
            states: BTreeMap::new(),
            incomplete: Vec::new(),
            given_up: Vec::new(),
            unreadable: Vec::new(),
            repair,
        };
        logs.open(storage, names, contents)?;
        logs.check_chain(contents)?;
        let parts = logs.collect(storage.incarnation(), contents)?;
        logs.settle(contents, &parts);
        Ok(logs)
    }

    fn open(
        &mut self,
        storage: &dyn Storage,
        names: &[String],
        contents: &Contents,
    ) -> Result<(), FileError> {
        let mut found: Vec<(u32, u64)> = names.iter().filter_map(|name| parse_name(name)).collect();
        found.retain(|(worker, number)| *worker < contents.workers && *number >= contents.first_of(*worker));
        found.sort_unstable();
        for (at, (worker, number)) in found.iter().enumerate() {
            let is_followed = found.get(at + 1).is_some_and(|next| next.0 == *worker);
            let name = log_name(*worker, *number);
            let opened = storage.open(&name);
            let file = opened.map_err(|fault| failed(Operation::Open, &name, &fault))?;
            let header = FileHeader::read(file.as_ref(), &name)?
                .filter(|header| (header.kind, header.worker, header.number) == (LOG, *worker, *number));
            let Some(header) = header else {
                let length = file.length().map_err(|fault| failed(Operation::Read, &name, &fault))?;
                // It was being made: nothing is added before its header is durable,
                // and no other file names it as the one before.
                if length <= FILE_HEADER as u64 && !contents.opened.contains(number) {
                    continue;
                }
                if self.repair {
                    self.give_up(&name, 0, length, 0, GiveUp::Damage);
                    self.unreadable.push(name);
                    continue;
                }
                return Err(FileError::Damaged { file: name, offset: 0, what: "the header is bad" });
            };
            let (tail, newest) = (Tail::default(), BTreeMap::new());
            self.files.push(LogFile {
                worker: *worker,
                number: *number,
                name,
                header,
                file,
                is_followed,
                tail,
                newest,
            });
        }
        Ok(())
    }

    fn give_up(&mut self, file: &str, offset: u64, bytes: u64, entries: usize, reason: GiveUp) {
        self.given_up.push(GivenUp { file: file.to_owned(), offset, bytes, entries, reason });
    }

    /// Every file names the one before it: none may be missing.
    fn check_chain(&mut self, contents: &Contents) -> Result<(), FileError> {
        let opened = contents.opened.iter().enumerate().map(|(worker, number)| (worker as u32, *number));
        let previous = self.files.iter().map(|file| (file.worker, file.header.previous));
        let named: BTreeSet<(u32, u64)> = opened.chain(previous).collect();
        let exists = |at: &(u32, u64)| self.files.iter().any(|file| (file.worker, file.number) == *at);
        let is_lost = |at: &&(u32, u64)| at.1 >= contents.first_of(at.0).max(1) && !exists(at);
        let lost: Vec<String> =
            named.iter().filter(is_lost).map(|(worker, number)| log_name(*worker, *number)).collect();
        for file in lost {
            if !self.repair {
                return Err(FileError::Missing { file });
            }
            // One with a bad header is on the list.
            if !self.given_up.iter().any(|part| part.file == file) {
                self.give_up(&file, 0, 0, 0, GiveUp::Damage);
            }
        }
        Ok(())
    }

    /// Reads every file once and counts the parts of all writes.
    fn collect(
        &mut self,
        incarnation: u64,
        contents: &Contents,
    ) -> Result<BTreeMap<(u64, Seq), Parts>, FileError> {
        let mut parts = BTreeMap::new();
        let mut torn = Vec::new();
        for file in &mut self.files {
            let mut newest = BTreeMap::new();
            let mut reading = Reading::default();
            let mut visit = |frame: Frame<'_>| {
                let head = reading.take(&frame).map_err(|fault| damaged(&file.name, frame.offset, fault))?;
                let Some(head) = head else { return Ok(()) };
                let known = newest.entry(head.collection).or_insert(head.seq);
                *known = head.seq.max(*known);
                let entry = contents.collections.get(&head.collection);
                if entry.is_some_and(|entry| entry.counts(file.number, head.seq)) {
                    let known: &mut Parts = parts.entry((head.collection, head.seq)).or_default();
                    known.needed = head.parts;
                    known.found += u32::from(!head.continues);
                }
                Ok(())
            };
            let is_intact = incarnation != 0 && incarnation == file.header.incarnation;
            let frames = file.frames(is_intact);
            let mut note = |offset, bytes, entries, reason| {
                torn.push(GivenUp { file: file.name.clone(), offset, bytes, entries, reason });
            };
            let tail = if self.repair {
                frames.salvage(&mut visit, &mut |offset, bytes| note(offset, bytes, 0, GiveUp::Damage))?
            } else {
                frames.scan(&mut visit)?
            };
            if tail.torn > 0 {
                note(tail.length, tail.torn, tail.torn_frames, GiveUp::TornTail);
            }
            file.tail = tail;
            file.newest = newest;
        }
        self.given_up.extend(torn);
        Ok(parts)
    }

    /// The states that all collections come to.
    fn settle(&mut self, contents: &Contents, parts: &BTreeMap<(u64, Seq), Parts>) {
        for (collection, entry) in &contents.collections {
            let mut state = entry.checkpointed();
            let all = parts.range((*collection, Seq(0))..=(*collection, Seq(u64::MAX)));
            let mut is_whole = true;
            for ((_, seq), parts) in all {
                is_whole &= state.0.checked_add(1) == Some(seq.0) && parts.found == parts.needed;
                if !is_whole {
                    break;
                }
                state = *seq;
            }
            if !is_whole {
                self.incomplete.push(*collection);
            }
            self.states.insert(*collection, state);
        }
    }

    /// They were read in spite of damage.
    pub(super) fn is_salvaged(&self) -> bool {
        self.repair
    }

    /// Shows all that a worker's log asks for, in order: what counts and is
    /// not in a checkpoint. `space_of` knows how a collection measures.
    pub(super) fn replay(
        &self,
        worker: u32,
        contents: &Contents,
        space_of: &dyn Fn(u64) -> Option<Space>,
        visit: &mut dyn FnMut(EntryHead, Vec<Mutation>),
    ) -> Result<(), FileError> {
        for file in self.files.iter().filter(|file| file.worker == worker) {
            let mut waiting = Vec::new();
            let mut reading = Reading::default();
            let mut take = |frame: &Frame<'_>| {
                let Some(head) = reading.take(frame)? else { return Ok(()) };
                let Some(space) = space_of(head.collection) else { return Ok(()) };
                if !self.is_wanted(file, contents, &head) {
                    return Ok(());
                }
                if head.position == 0 {
                    waiting.clear();
                }
                let mut input = Decoder::new(frame.payload);
                EntryHead::decode(&mut input)?;
                memory::extend(&mut waiting, decode_mutations(&mut input, &space)?);
                if !head.continues {
                    visit(head, std::mem::take(&mut waiting));
                }
                Ok(())
            };
            let mut show =
                |frame: Frame<'_>| take(&frame).map_err(|fault| damaged(&file.name, frame.offset, fault));
            if self.repair {
                file.frames(false).salvage(&mut show, &mut |_, _| {})?;
            } else {
                file.frames(false).rescan(file.tail, &mut show)?;
            }
        }
        Ok(())
    }

    /// Whether a part of a write counts, and is not in a checkpoint.
    fn is_wanted(&self, file: &LogFile, contents: &Contents, head: &EntryHead) -> bool {
        let entry = contents.collections.get(&head.collection);
        let state = self.states.get(&head.collection).copied().unwrap_or_default();
        entry.is_some_and(|entry| entry.counts(file.number, head.seq)) && head.seq <= state
    }
}

/// Follows the parts of writes through a file.
#[derive(Default)]
struct Reading {
    /// The part that is under way, and the number of its next frame.
    open: Option<(u64, Seq, u32)>,
}

impl Reading {
    /// The head of a frame; `None` when one is missing before it.
    fn take(&mut self, frame: &Frame<'_>) -> Result<Option<EntryHead>, Malformed> {
        if frame.kind != ENTRY {
            return Err(Malformed { offset: 0, what: "a frame is of an unknown kind" });
        }
        let head = EntryHead::decode(&mut Decoder::new(frame.payload))?;
        let expected = (head.collection, head.seq, head.position);
        let follows = head.position == 0 || self.open == Some(expected);
        let next = (head.collection, head.seq, head.position.saturating_add(1));
        self.open = (follows && head.continues).then_some(next);
        Ok(follows.then_some(head))
    }
}
