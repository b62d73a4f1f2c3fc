//! A folder on the disk: the only place where files are touched.

use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{File, Guard, Storage};

/// A folder of the file system.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// The folder, made if it does not exist (its parent must).
    pub(crate) fn new(folder: &Path) -> io::Result<Disk> {
        let parent = parent_of(folder);
        match fs::create_dir(folder) {
            Ok(()) => sync_folder(parent)?,
            // Who made it may have been killed before it was durable. Not everybody may read the folder around it.
            Err(fault) if fault.kind() == io::ErrorKind::AlreadyExists => drop(sync_folder(parent)),
            Err(fault) => return Err(fault),
        }
        Disk::existing(folder)
    }

    /// The folder, which must exist.
    pub(crate) fn existing(folder: &Path) -> io::Result<Disk> {
        if fs::metadata(folder)?.is_dir() {
            return Ok(Disk { folder: folder.to_owned() });
        }
        Err(io::ErrorKind::NotADirectory.into())
    }

    /// The folder that a file is in, and its name there.
    pub(crate) fn around(file: &Path) -> io::Result<(Disk, String)> {
        let name = file.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidFilename)?;
        Ok((Disk::existing(parent_of(file))?, name.to_owned()))
    }

    /// Whether there is something of this name that is no file: a folder, a device.
    pub(crate) fn is_no_file(&self, name: &str) -> bool {
        fs::metadata(self.folder.join(name)).is_ok_and(|about| !about.is_file())
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    // Folders cannot be opened as files everywhere; there the system keeps
    // names durable by itself.
    if cfg!(unix) { fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

/// To read, and to write at the end. (What is opened to append cannot be cut on Windows: there the end is looked for.)
fn at_the_end() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true);
    if cfg!(windows) {
        options.write(true)
    } else {
        options.append(true)
    };
    options
}

impl Storage for Disk {
    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let path = self.folder.join(name);
        // A backup may lie where nothing can be written.
        let file = match at_the_end().open(&path) {
            Ok(file) => file,
            Err(_) => fs::File::open(&path)?,
        };
        Ok(Box::new(DiskFile(file)))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let path = self.folder.join(name);
        let file = at_the_end().create(true).truncate(false).open(path)?;
        file.set_len(0)?;
        Ok(Box::new(DiskFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.folder.join(from), self.folder.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.folder.join(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            // No file of ours has a name that is no text.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn sync_folder(&self) -> io::Result<()> {
        sync_folder(&self.folder)
    }

    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn Guard>>> {
        let path = self.folder.join(name);
        let opened = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        // Where nothing can be written there may be one to lock all the same.
        let file = opened.or_else(|fault| fs::File::open(&path).map_err(|_| fault))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(DiskFile(file)))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(fault)) => Err(fault),
        }
    }

    fn incarnation(&self) -> u64 {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        if id.is_empty() { 0 } else { crate::id::RecordId::from(id).stable_hash() | 1 }
    }
}

#[derive(Debug)]
struct DiskFile(fs::File);

impl DiskFile {
    /// What is written to a file without a name is lost with the process, though
    /// the system says that all is well: somebody removed the folder.
    #[cfg(unix)]
    fn check_named(&self) -> io::Result<()> {
        if std::os::unix::fs::MetadataExt::nlink(&self.0.metadata()?) > 0 {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::NotFound, "the file was removed by somebody else"))
    }

    #[cfg(not(unix))]
    fn check_named(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The folder that something is in.
fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The system lets go of the lock with the file.
impl Guard for DiskFile {}

impl File for DiskFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Reading at a place moves where a file is written, there.
        #[cfg(windows)]
        io::Seek::seek(&mut self.0, io::SeekFrom::End(0))?;
        loop {
            match self.0.write(bytes) {
                // Nothing was written; a sync is never tried again, this is no sync.
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome.and_then(|taken| self.check_named().map(|()| taken)),
            }
        }
    }

    #[cfg(unix)]
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match std::os::unix::fs::FileExt::read_at(&self.0, bytes, offset) {
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    #[cfg(windows)]
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.0, bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_keep_their_content_under_new_names_and_folders_can_be_locked_once() {
        let folder = std::env::temp_dir().join(format!("vecino-disk-{}", std::process::id()));
        let disk = Disk::new(&folder).unwrap();
        let mut file = disk.create("a").unwrap();
        file.append_all(b"hello world").unwrap();
        file.truncate(5).unwrap();
        file.append_all(b"!").unwrap();
        file.sync().unwrap();
        disk.rename("a", "b").unwrap();
        disk.sync_folder().unwrap();
        let mut bytes = [0; 6];
        let again = disk.open("b").unwrap();
        assert!(again.read_all_at(0, &mut bytes).unwrap() && &bytes == b"hello!");
        assert!(!again.read_all_at(1, &mut bytes).unwrap());
        let guard = disk.lock("lock").unwrap().unwrap();
        assert!(disk.lock("lock").unwrap().is_none());
        drop(guard);
        assert!(disk.lock("lock").unwrap().is_some());
        assert!(Disk::new(&folder.join("b")).is_err(), "a file is no folder");
        fs::remove_dir_all(&folder).unwrap();
    }
}
