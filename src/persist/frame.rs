//! Files that grow at the end: a header, then frames, each with checksums.
//!
//! A frame says how much of its file was known to be durable when it was
//! written. So a reader that meets a bad frame can tell a *torn tail* (what a
//! crash leaves, to be cut) from *damage* (durable bytes that changed, never to
//! be cut silently): behind damage stands a frame that says that the bad bytes
//! were durable. The checksum of a frame's head covers its place and its file,
//! so that nothing that records contain can be taken for a frame.

use super::checksum;
use super::fault::{FileError, Operation, damaged, failed, short};
use super::storage::{File, Storage};
use crate::codec::{Decoder, Encoder};
use crate::memory::{self, Shortage};

/// Bytes of a file's header.
pub(super) const FILE_HEADER: usize = 64;

/// Bytes before the payload of a frame.
pub(super) const FRAME_HEADER: usize = 24;

/// The version of all formats in this folder: 2 brought payloads, filters in
/// logs, writes with conditions, and the writes that records come from; 3 brought
/// records that expire; 4 links by inner product. Files of versions 1 to 3 are read too.
pub(super) const FORMAT: u32 = 4;

const MAGIC: &[u8; 7] = b"vecino\0";

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    /// A letter: `L` a log, `M` a manifest.
    pub(super) kind: u8,
    pub(super) worker: u32,
    pub(super) number: u64,
    /// The file of the same worker before this one; 0: none.
    pub(super) previous: u64,
    /// See [`Storage::incarnation`].
    pub(super) incarnation: u64,
}

impl FileHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        out.raw(MAGIC);
        out.u8(self.kind);
        out.u32(FORMAT);
        out.u32(self.worker);
        out.u64(self.number);
        out.u64(self.previous);
        out.u64(self.incarnation);
        out.raw(&[0; FILE_HEADER - 44]);
        out.u32(crc32fast::hash(out.as_slice()));
        out.into_bytes()
    }

    /// The header of a file; `None` when the file ends in it or it is bad.
    pub(super) fn read(file: &dyn File, name: &str) -> Result<Option<FileHeader>, FileError> {
        let mut bytes = [0; FILE_HEADER];
        let whole = file.read_all_at(0, &mut bytes).map_err(|fault| failed(Operation::Read, name, &fault))?;
        let (summed, crc) = bytes.split_at(FILE_HEADER - 4);
        let good = Decoder::new(crc).u32().is_ok_and(|crc| checksum::holds(crc32fast::hash(summed), crc));
        let mut input = Decoder::new(&bytes);
        if !whole || input.raw(MAGIC.len()) != Ok(&MAGIC[..]) || !good {
            return Ok(None);
        }
        let mut parse = || {
            let (kind, format) = (input.u8()?, input.u32()?);
            let (worker, number) = (input.u32()?, input.u64()?);
            let header =
                FileHeader { kind, worker, number, previous: input.u64()?, incarnation: input.u64()? };
            Ok((format, header))
        };
        let (format, header) = parse().map_err(|fault| damaged(name, 0, fault))?;
        if format > FORMAT {
            return Err(FileError::Newer { file: name.to_owned(), version: format, known: FORMAT });
        }
        Ok(Some(header))
    }

    /// Told apart from the frames of all other files.
    fn salt(&self) -> [u8; 16] {
        let mut salt = [0; 16];
        salt[..8].copy_from_slice(&self.number.to_le_bytes());
        salt[8..12].copy_from_slice(&self.worker.to_le_bytes());
        salt[12] = self.kind;
        salt
    }
}

/// The checksum of the first 20 bytes of a frame's head.
fn head_crc(head: &[u8], salt: &[u8; 16], offset: u64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(head);
    crc.update(salt);
    crc.update(&offset.to_le_bytes());
    crc.finalize()
}

/// What a frame is for; its payload depends on that.
pub(super) type FrameKind = u32;

/// The file ends here, in good order.
pub(super) const END: FrameKind = u32::from_le_bytes(*b"end.");

/// The writer of a file of frames.
///
/// After a fault it is *poisoned*: nobody knows what the file holds, so
/// nothing more is written, and every call gives that fault. A sync that failed
/// is never tried again: the system may have thrown away what it could not
/// write and would then say that all is well.
pub(super) struct FrameWriter {
    file: Box<dyn File>,
    name: String,
    salt: [u8; 16],
    /// Bytes in the file, and how many of them are durable.
    length: u64,
    synced: u64,
    buffer: Encoder,
    poison: Option<FileError>,
}

impl FrameWriter {
    /// Makes a file whose header and name are durable.
    pub(super) fn create(
        storage: &dyn Storage,
        name: &str,
        header: FileHeader,
    ) -> Result<FrameWriter, FileError> {
        let mut writer = FrameWriter::start(storage, name, header)?;
        writer.sync()?;
        storage.sync_folder().map_err(|fault| failed(Operation::SyncFolder, name, &fault))?;
        Ok(writer)
    }

    /// Makes a file of which nothing is durable yet.
    pub(super) fn start(
        storage: &dyn Storage,
        name: &str,
        header: FileHeader,
    ) -> Result<FrameWriter, FileError> {
        let file = storage.create(name).map_err(|fault| failed(Operation::Create, name, &fault))?;
        let mut buffer = Encoder::default();
        buffer.raw(&header.encode());
        let (name, salt) = (name.to_owned(), header.salt());
        Ok(FrameWriter { file, name, salt, length: 0, synced: 0, buffer, poison: None })
    }

    /// Goes on behind the first `length` bytes of a file that was read; what
    /// follows them is cut.
    pub(super) fn resume(
        file: Box<dyn File>,
        name: &str,
        header: FileHeader,
        length: u64,
    ) -> Result<FrameWriter, FileError> {
        let (name, salt) = (name.to_owned(), header.salt());
        let mut writer =
            FrameWriter { file, name, salt, length, synced: 0, buffer: Encoder::default(), poison: None };
        let found = writer.file.length().map_err(|fault| failed(Operation::Read, &writer.name, &fault))?;
        if found > length {
            let outcome = writer.file.truncate(length);
            writer.keep(outcome, Operation::Truncate)?;
        }
        writer.sync_file()?;
        Ok(writer)
    }

    /// The file was given another name.
    pub(super) fn rename(&mut self, name: &str) {
        name.clone_into(&mut self.name);
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of the file, with those that are not written yet.
    pub(super) fn length(&self) -> u64 {
        self.length + self.buffer.len() as u64
    }

    /// Bytes that wait for [`FrameWriter::write`].
    pub(super) fn waiting(&self) -> usize {
        self.buffer.len()
    }

    /// Adds a frame to what is to be written; `encode` writes its payload.
    ///
    /// # Errors
    /// There is no memory for it. Nothing was added then.
    pub(super) fn push(
        &mut self,
        kind: FrameKind,
        encode: impl FnOnce(&mut Encoder),
    ) -> Result<(), FileError> {
        self.try_push(kind, encode).map_err(|shortage| short(Operation::Append, &self.name, shortage))
    }

    /// The same for those who try again.
    pub(super) fn try_push(
        &mut self,
        kind: FrameKind,
        encode: impl FnOnce(&mut Encoder),
    ) -> Result<(), Shortage> {
        let start = self.buffer.len();
        let added = memory::unless_short(|| self.add(kind, encode));
        added.inspect_err(|_| self.buffer.truncate(start))
    }

    /// Takes back what was pushed since so many bytes waited.
    pub(super) fn take_back(&mut self, waiting: usize) {
        self.buffer.truncate(waiting);
    }

    fn add(&mut self, kind: FrameKind, encode: impl FnOnce(&mut Encoder)) {
        let start = self.buffer.len();
        let offset = self.length();
        self.buffer.raw(&[0; FRAME_HEADER]);
        encode(&mut self.buffer);
        let payload = &self.buffer.as_slice()[start + FRAME_HEADER..];
        let mut head = Encoder::default();
        // A longer one is refused when it is written.
        head.u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
        head.u32(crc32fast::hash(payload));
        head.u64(self.synced);
        head.u32(kind);
        head.u32(head_crc(head.as_slice(), &self.salt, offset));
        self.buffer.patch(start, head.as_slice());
    }

    /// Hands what waits to the system: it survives the end of the process.
    pub(super) fn write(&mut self) -> Result<(), FileError> {
        self.check()?;
        let outcome = self.file.append_all(self.buffer.as_slice());
        self.length += self.buffer.len() as u64;
        self.buffer.clear();
        self.keep(outcome, Operation::Append)
    }

    /// Makes all that was pushed durable: it survives a power cut.
    pub(super) fn sync(&mut self) -> Result<(), FileError> {
        self.write()?;
        if self.synced < self.length { self.sync_file() } else { Ok(()) }
    }

    fn sync_file(&mut self) -> Result<(), FileError> {
        let outcome = self.file.sync();
        self.keep(outcome, Operation::Sync)?;
        self.synced = self.length;
        Ok(())
    }

    /// The fault after which nothing is written.
    pub(super) fn check(&self) -> Result<(), FileError> {
        self.poison.clone().map_or(Ok(()), Err)
    }

    /// Nothing is written any more.
    pub(super) fn poison(&mut self, fault: &FileError) {
        self.poison.get_or_insert_with(|| fault.clone());
    }

    fn keep(&mut self, outcome: std::io::Result<()>, operation: Operation) -> Result<(), FileError> {
        outcome.map_err(|fault| {
            let fault = failed(operation, &self.name, &fault);
            self.poison = Some(fault.clone());
            fault
        })
    }
}

/// How a file of frames ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    /// Bytes up to the end of the last good frame.
    pub(super) length: u64,
    /// The last frame says that the file ends there.
    pub(super) is_ended: bool,
    /// Bytes behind the last good frame that a crash left.
    pub(super) torn: u64,
    /// Good frames among these: they were written and never known to be durable.
    pub(super) torn_frames: usize,
}

/// Is shown the frames of a file.
pub(super) type Visit<'a> = &'a mut dyn FnMut(Frame<'_>) -> Result<(), FileError>;

/// A file of frames, to be read from front to back.
pub(super) struct FrameFile<'a> {
    pub(super) file: &'a dyn File,
    pub(super) name: &'a str,
    pub(super) header: FileHeader,
    /// A file follows this one: its tail must be in good order.
    pub(super) is_followed: bool,
    /// Nothing written can have been lost since: the incarnation is the same.
    pub(super) is_intact: bool,
}

/// A frame that was read.
pub(super) struct Frame<'a> {
    pub(super) kind: FrameKind,
    /// Where its payload stands in the file.
    pub(super) offset: u64,
    pub(super) payload: &'a [u8],
}

/// The head of a frame whose checksum is right.
struct Head {
    kind: FrameKind,
    payload: u64,
    crc: u32,
    synced: u64,
}

impl FrameFile<'_> {
    /// Shows every good frame, in order, and says how the file ends.
    pub(super) fn scan(&self, visit: Visit<'_>) -> Result<Tail, FileError> {
        let length = self.length()?;
        let tail = self.walk(FILE_HEADER as u64, length, visit)?;
        if tail.length < length {
            return self.judge(tail, length);
        }
        if self.is_followed && !tail.is_ended {
            return Err(self.damage(tail.length, "the file ends too early"));
        }
        Ok(tail)
    }

    /// Shows the good frames that `tail` found, once more.
    pub(super) fn rescan(&self, tail: Tail, visit: Visit<'_>) -> Result<(), FileError> {
        self.walk(FILE_HEADER as u64, tail.length, visit).map(drop)
    }

    /// Shows every good frame wherever it stands; `skip` is told of the bytes
    /// between (their place and number).
    pub(super) fn salvage(
        &self,
        visit: Visit<'_>,
        skip: &mut dyn FnMut(u64, u64),
    ) -> Result<Tail, FileError> {
        let length = self.length()?;
        let (mut from, mut payload) = (FILE_HEADER as u64, Vec::new());
        loop {
            let tail = self.walk(from, length, visit)?;
            if tail.length >= length {
                return Ok(tail);
            }
            let next = self.find(tail.length + 1, length, &mut payload)?;
            let end = next.as_ref().map_or(length, |(place, _)| *place);
            skip(tail.length, end - tail.length);
            if next.is_none() {
                return Ok(tail);
            }
            from = end;
        }
    }

    /// Shows the frames from a place on, up to the first bad one.
    fn walk(&self, from: u64, length: u64, visit: Visit<'_>) -> Result<Tail, FileError> {
        let mut tail = Tail { length: from, ..Tail::default() };
        let mut payload = Vec::new();
        while tail.length < length
            && let Some(head) = self.read(tail.length, length, &mut payload)?
        {
            if tail.is_ended {
                return Err(self.damage(tail.length, "there are frames behind the end"));
            }
            tail.is_ended = head.kind == END;
            let offset = tail.length + FRAME_HEADER as u64;
            if !tail.is_ended {
                visit(Frame { kind: head.kind, offset, payload: &payload })?;
            }
            tail.length = offset + head.payload;
        }
        Ok(tail)
    }

    fn length(&self) -> Result<u64, FileError> {
        self.file.length().map_err(|fault| failed(Operation::Read, self.name, &fault))
    }

    fn damage(&self, offset: u64, what: &'static str) -> FileError {
        FileError::Damaged { file: self.name.to_owned(), offset, what }
    }

    /// The head at a place, if one is there.
    fn head(&self, offset: u64, length: u64) -> Result<Option<Head>, FileError> {
        let mut bytes = [0; FRAME_HEADER];
        if offset + FRAME_HEADER as u64 > length {
            return Ok(None);
        }
        let whole = self.file.read_all_at(offset, &mut bytes);
        let whole = whole.map_err(|fault| failed(Operation::Read, self.name, &fault))?;
        Ok(whole.then(|| Head::parse(&bytes, &self.header.salt(), offset)).flatten())
    }

    /// The frame at a place, if a good one is there; its payload is left in
    /// `payload`.
    fn read(&self, offset: u64, length: u64, payload: &mut Vec<u8>) -> Result<Option<Head>, FileError> {
        let Some(head) = self.head(offset, length)? else { return Ok(None) };
        let start = offset + FRAME_HEADER as u64;
        // Before anything is allocated.
        if head.payload > length - start {
            return Ok(None);
        }
        memory::resize(payload, head.payload as usize, 0);
        let whole = self.file.read_all_at(start, payload);
        let whole = whole.map_err(|fault| failed(Operation::Read, self.name, &fault))?;
        Ok((whole && checksum::holds(crc32fast::hash(payload), head.crc)).then_some(head))
    }

    /// Behind `tail.length` stands something bad: what a crash leaves, or damage?
    fn judge(&self, mut tail: Tail, length: u64) -> Result<Tail, FileError> {
        let at = tail.length;
        if self.is_followed || tail.is_ended {
            return Err(self.damage(at, "a frame is bad"));
        }
        // Without a power cut, writing breaks off somewhere, and all that was
        // written until there is as it was.
        if self.is_intact && !self.breaks_off(at, length)? {
            return Err(self.damage(at, "a frame is bad"));
        }
        let mut payload = Vec::new();
        let mut next = at + 1;
        while let Some(found) = self.find(next, length, &mut payload)? {
            let (place, head) = found;
            if head.synced > at {
                return Err(self.damage(at, "a frame is bad that was durable"));
            }
            tail.torn_frames += 1;
            next = place + FRAME_HEADER as u64 + head.payload;
        }
        tail.torn = length - at;
        Ok(tail)
    }

    /// True when the file ends within the frame at `at`.
    fn breaks_off(&self, at: u64, length: u64) -> Result<bool, FileError> {
        let rest = length - at;
        if rest < FRAME_HEADER as u64 {
            return Ok(true);
        }
        Ok(self.head(at, length)?.is_some_and(|head| head.payload > rest - FRAME_HEADER as u64))
    }

    /// The first good frame from a place on.
    fn find(&self, from: u64, length: u64, payload: &mut Vec<u8>) -> Result<Option<(u64, Head)>, FileError> {
        let mut window = vec![0; SEARCH_WINDOW.min(length as usize)];
        let mut start = from;
        while start + FRAME_HEADER as u64 <= length {
            let count = window.len().min((length - start) as usize);
            let whole = self.file.read_all_at(start, &mut window[..count]);
            if !whole.map_err(|fault| failed(Operation::Read, self.name, &fault))? {
                return Ok(None);
            }
            for (at, bytes) in window[..count].windows(FRAME_HEADER).enumerate() {
                let offset = start + at as u64;
                if Head::parse(bytes, &self.header.salt(), offset).is_some()
                    && let Some(head) = self.read(offset, length, payload)?
                {
                    return Ok(Some((offset, head)));
                }
            }
            start += (count - FRAME_HEADER + 1) as u64;
        }
        Ok(None)
    }
}

/// Bytes that are looked through at a time for a frame behind a bad one.
const SEARCH_WINDOW: usize = 1 << 16;

impl Head {
    fn parse(bytes: &[u8], salt: &[u8; 16], offset: u64) -> Option<Head> {
        let mut input = Decoder::new(bytes);
        let mut parse = || {
            let (payload, crc, synced) = (u64::from(input.u32()?), input.u32()?, input.u64()?);
            Ok::<_, crate::codec::Malformed>((
                Head { kind: input.u32()?, payload, crc, synced },
                input.u32()?,
            ))
        };
        let (head, crc) = parse().ok()?;
        checksum::holds(head_crc(bytes.get(..FRAME_HEADER - 4)?, salt, offset), crc).then_some(head)
    }
}
