//! Sections of a file: written as a stream, read with every length checked.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{END, FORMAT, MAGIC};
use crate::codec::{Decoder, Encoder};
use crate::memory;
use crate::persist::checksum;
use crate::persist::fault::{FileError, Operation, damaged, failed};
use crate::persist::storage::{File, Storage};

/// Bytes that are written or read at a time.
pub(super) const PIECE: usize = 1 << 20;

/// Bytes of the file's header: magic, format, zeros, checksum.
const FILE_HEADER: usize = 64;

/// Bytes of a section's head: tag, shard, length, checksum.
const HEAD: usize = 20;

/// Bytes of the checksum behind a section's content.
const CRC: usize = 4;

fn head_crc(head: &[u8], offset: u64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(head);
    crc.update(&offset.to_le_bytes());
    crc.finalize()
}

/// Writes sections, one after the other.
pub(super) struct SectionWriter<'a> {
    /// Set when nobody wants the file any more.
    cancelled: &'a AtomicBool,
    file: Box<dyn File>,
    name: String,
    buffer: Vec<u8>,
    offset: u64,
    sections: u32,
    /// Of the section under way: bytes to come, and the checksum so far.
    left: u64,
    crc: crc32fast::Hasher,
}

impl<'a> SectionWriter<'a> {
    pub(super) fn create(
        storage: &dyn Storage,
        name: &str,
        format: u32,
        cancelled: &'a AtomicBool,
    ) -> Result<SectionWriter<'a>, FileError> {
        let file = storage.create(name).map_err(|fault| failed(Operation::Create, name, &fault))?;
        let mut header = Encoder::default();
        header.raw(MAGIC);
        header.u32(format);
        header.raw(&[0; FILE_HEADER - 16]);
        header.u32(crc32fast::hash(header.as_slice()));
        let mut writer = SectionWriter {
            cancelled,
            file,
            name: name.to_owned(),
            buffer: memory::list(PIECE),
            offset: 0,
            sections: 0,
            left: 0,
            crc: crc32fast::Hasher::new(),
        };
        writer.put(header.as_slice())?;
        Ok(writer)
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<(), FileError> {
        self.offset += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(PIECE - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = rest;
            if self.buffer.len() == PIECE {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), FileError> {
        let is_wanted = !self.cancelled.load(Ordering::Relaxed);
        let outcome = if is_wanted {
            self.file.append_all(&self.buffer)
        } else {
            Err(std::io::Error::new(std::io::ErrorKind::Interrupted, "the engine is closing"))
        };
        self.buffer.clear();
        outcome.map_err(|fault| failed(Operation::Append, &self.name, &fault))
    }

    /// Begins a section of so many bytes.
    pub(super) fn begin(&mut self, tag: [u8; 4], shard: u32, bytes: u64) -> Result<(), FileError> {
        let mut head = Encoder::default();
        head.raw(&tag);
        head.u32(shard);
        head.u64(bytes);
        head.u32(head_crc(head.as_slice(), self.offset));
        self.sections += 1;
        (self.left, self.crc) = (bytes, crc32fast::Hasher::new());
        self.put(head.as_slice())?;
        self.close_if_full()
    }

    /// Adds to the section.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        debug_assert!(bytes.len() as u64 <= self.left);
        self.crc.update(bytes);
        self.left = self.left.saturating_sub(bytes.len() as u64);
        self.put(bytes)?;
        if bytes.is_empty() { Ok(()) } else { self.close_if_full() }
    }

    fn close_if_full(&mut self) -> Result<(), FileError> {
        if self.left > 0 {
            return Ok(());
        }
        let crc = self.crc.clone().finalize();
        self.put(&crc.to_le_bytes())
    }

    /// A section that is at hand.
    pub(super) fn whole(&mut self, tag: [u8; 4], shard: u32, bytes: &[u8]) -> Result<(), FileError> {
        self.begin(tag, shard, bytes.len() as u64)?;
        self.add(bytes)
    }

    /// Ends the file and makes it durable.
    pub(super) fn finish(mut self) -> Result<u64, FileError> {
        let sections = self.sections;
        self.whole(END, 0, &sections.to_le_bytes())?;
        self.flush()?;
        self.file.sync().map_err(|fault| failed(Operation::Sync, &self.name, &fault))?;
        Ok(self.offset)
    }
}

/// Reads sections, one after the other.
pub(crate) struct Sections {
    file: Box<dyn File>,
    name: String,
    offset: u64,
    length: u64,
    sections: u32,
}

/// A section that is being read.
pub(super) struct Section {
    pub(super) shard: u32,
    /// Where its content stands in the file.
    pub(super) start: u64,
    pub(super) bytes: u64,
}

impl Sections {
    pub(super) fn open(storage: &dyn Storage, name: &str) -> Result<Sections, FileError> {
        let file = storage.open(name).map_err(|fault| match fault.kind() {
            std::io::ErrorKind::NotFound => FileError::Missing { file: name.to_owned() },
            _ => failed(Operation::Open, name, &fault),
        })?;
        let length = file.length().map_err(|fault| failed(Operation::Read, name, &fault))?;
        let mut sections = Sections { file, name: name.to_owned(), offset: 0, length, sections: 0 };
        let mut header = [0; FILE_HEADER];
        sections.read(&mut header)?;
        let mut input = Decoder::new(&header);
        let (summed, crc) = header.split_at(FILE_HEADER - CRC);
        let whole = Decoder::new(crc).u32().is_ok_and(|crc| checksum::holds(crc32fast::hash(summed), crc));
        if input.raw(MAGIC.len()) != Ok(&MAGIC[..]) || !whole {
            return Err(sections.damage(0, "the header is bad"));
        }
        let version = input.u32().map_err(|fault| damaged(name, 0, fault))?;
        if version > FORMAT {
            return Err(FileError::Newer { file: name.to_owned(), version, known: FORMAT });
        }
        Ok(sections)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn damage(&self, offset: u64, what: &'static str) -> FileError {
        FileError::Damaged { file: self.name.clone(), offset, what }
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), FileError> {
        let whole = self.file.read_all_at(self.offset, bytes);
        if !whole.map_err(|fault| failed(Operation::Read, &self.name, &fault))? {
            return Err(self.damage(self.length, "the file ends too early"));
        }
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Sections that were begun so far.
    pub(super) fn begun(&self) -> u32 {
        self.sections
    }

    /// Begins the next section, which must be this one.
    pub(super) fn begin(&mut self, tag: [u8; 4]) -> Result<Section, FileError> {
        let at = self.offset;
        let (found, section) = self.begin_any()?;
        if found != tag {
            return Err(self.damage(at, "another section was expected"));
        }
        Ok(section)
    }

    /// Begins the next section, whatever it is.
    pub(super) fn begin_any(&mut self) -> Result<([u8; 4], Section), FileError> {
        let (at, mut head) = (self.offset, [0; HEAD]);
        self.read(&mut head)?;
        let mut input = Decoder::new(&head);
        let mut parse = || Ok((input.raw(4)?, input.u32()?, input.u64()?, input.u32()?));
        let (found, shard, bytes, crc) = parse().map_err(|fault| damaged(&self.name, at, fault))?;
        if !checksum::holds(head_crc(&head[..HEAD - CRC], at), crc) {
            return Err(self.damage(at, "the head of a section is bad"));
        }
        if bytes > self.length.saturating_sub(self.offset + CRC as u64) {
            return Err(self.damage(at, "a section is longer than the file"));
        }
        let tag = found.first_chunk().copied().unwrap_or_default();
        self.sections += 1;
        Ok((tag, Section { shard, start: self.offset, bytes }))
    }

    /// The content of a section as a whole.
    pub(super) fn content(&mut self, section: &Section) -> Result<Vec<u8>, FileError> {
        let mut content = memory::filled(0, section.bytes as usize);
        self.read(&mut content)?;
        self.check(section, crc32fast::hash(&content))?;
        Ok(content)
    }

    /// Shows the content in pieces that are whole numbers of `unit` bytes.
    /// That the checksum is right is known only at the end.
    pub(super) fn stream(
        &mut self,
        section: &Section,
        unit: usize,
        show: &mut dyn FnMut(&[u8]) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        let most = (PIECE / unit).max(1) * unit;
        let mut piece = memory::filled(0, most.min(section.bytes as usize));
        let (mut left, mut crc) = (section.bytes as usize, crc32fast::Hasher::new());
        while left > 0 {
            let now = most.min(left);
            self.read(&mut piece[..now])?;
            crc.update(&piece[..now]);
            show(&piece[..now])?;
            left -= now;
        }
        self.check(section, crc.finalize())
    }

    /// Goes past a section.
    pub(super) fn skip(&mut self, section: &Section) -> Result<(), FileError> {
        self.stream(section, 1, &mut |_| Ok(()))
    }

    fn check(&mut self, section: &Section, crc: u32) -> Result<(), FileError> {
        let mut stored = [0; CRC];
        self.read(&mut stored)?;
        if checksum::holds(crc, u32::from_le_bytes(stored)) {
            return Ok(());
        }
        Err(self.damage(section.start, "the content of a section is bad"))
    }

    /// The file must end here, with the right number of sections.
    pub(super) fn end(mut self) -> Result<(), FileError> {
        let before = self.sections;
        let section = self.begin(END)?;
        let content = self.content(&section)?;
        if content != before.to_le_bytes() || self.offset != self.length {
            return Err(self.damage(section.start, "sections are missing or the file is too long"));
        }
        Ok(())
    }
}
