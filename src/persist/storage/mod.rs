//! Files behind a seam: the same code runs on a disk and in a simulator that
//! crashes at any operation.
//!
//! A storage is one folder, its files known by name. What is *durable* is less
//! than what was *written*: bytes survive a power cut once the file was
//! synced, names (creating, renaming, removing) once the folder was.

mod disk;
mod memory;
#[cfg(test)]
pub(crate) mod simulator;

use std::io;

pub(crate) use disk::Disk;
pub(crate) use memory::Memory;

/// One folder.
pub(crate) trait Storage: Send + Sync {
    /// Opens a file that exists.
    fn open(&self, name: &str) -> io::Result<Box<dyn File>>;

    /// Makes a file that did not exist, or empties the one that did.
    fn create(&self, name: &str) -> io::Result<Box<dyn File>>;

    /// Gives a file another name, in one step; a file that had it is gone.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of all files, in no order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes names durable.
    fn sync_folder(&self) -> io::Result<()>;

    /// Keeps other engines out until the guard is dropped; `None` when one is
    /// in already.
    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn Guard>>>;

    /// A number that is the same for as long as nothing written can have been
    /// lost without a sync: it changes when the machine starts anew. 0 when it
    /// is not known.
    fn incarnation(&self) -> u64;
}

/// Held while the folder is locked.
pub(crate) trait Guard: Send + Sync {}

/// One open file.
pub(crate) trait File: Send + Sync {
    /// Writes at the end; gives how many bytes were taken, which may be fewer.
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Reads from a place on; gives how many bytes there were.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;

    /// Makes the content durable.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file off.
    fn truncate(&mut self, length: u64) -> io::Result<()>;

    fn length(&self) -> io::Result<u64>;
}

impl dyn File + '_ {
    /// Writes all bytes at the end. A short write is no fault: the rest
    /// follows. (Interrupted calls are the disk's own business.)
    pub(crate) fn append_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let taken = self.append(bytes)?;
            if taken == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// Fills `bytes` from a place on; false when the file ends before.
    pub(crate) fn read_all_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < bytes.len() {
            let read = self.read_at(offset + filled as u64, &mut bytes[filled..])?;
            if read == 0 {
                return Ok(false);
            }
            filled += read;
        }
        Ok(true)
    }
}
