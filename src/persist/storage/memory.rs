//! A storage of one file, in memory: for what is written to be read at once.

use std::io;
use std::sync::{Arc, OnceLock};

use super::{File, Guard, Storage};
use crate::memory::unwind;

/// One file, under any name: written once, then read.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    content: Arc<OnceLock<Vec<u8>>>,
}

impl Storage for Memory {
    fn open(&self, _name: &str) -> io::Result<Box<dyn File>> {
        let content = Arc::clone(&self.content);
        Ok(Box::new(MemoryFile { bytes: Vec::new(), content, is_new: false }))
    }

    fn create(&self, _name: &str) -> io::Result<Box<dyn File>> {
        let content = Arc::clone(&self.content);
        Ok(Box::new(MemoryFile { bytes: Vec::new(), content, is_new: true }))
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn sync_folder(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _name: &str) -> io::Result<Option<Box<dyn Guard>>> {
        Ok(None)
    }

    fn incarnation(&self) -> u64 {
        0
    }
}

/// The file while it is written, or a reader of what was.
#[derive(Debug)]
struct MemoryFile {
    bytes: Vec<u8>,
    content: Arc<OnceLock<Vec<u8>>>,
    is_new: bool,
}

impl MemoryFile {
    fn content(&self) -> &[u8] {
        if self.is_new { &self.bytes } else { self.content.get().map_or(&[], Vec::as_slice) }
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        if self.is_new {
            let _ = self.content.set(std::mem::take(&mut self.bytes));
        }
    }
}

impl File for MemoryFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.try_reserve(bytes.len()).is_err() {
            unwind(self.bytes.len() + bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.content().get(start..).unwrap_or_default();
        let read = rest.len().min(bytes.len());
        bytes[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.content().len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_once_the_writer_is_done() {
        let memory = Memory::default();
        let mut file = memory.create("a").unwrap();
        file.append_all(b"hello").unwrap();
        file.truncate(4).unwrap();
        assert_eq!((file.length().unwrap(), memory.open("a").unwrap().length().unwrap()), (4, 0));
        drop(file);
        let mut bytes = [0; 3];
        let again = memory.open("a").unwrap();
        assert!(again.read_all_at(1, &mut bytes).unwrap() && &bytes == b"ell");
        assert!(!again.read_all_at(2, &mut bytes).unwrap() && !again.read_all_at(9, &mut bytes).unwrap());
    }
}
