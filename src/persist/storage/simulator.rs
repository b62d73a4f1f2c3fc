//! A folder in memory that can crash: at any operation, in any way, the same
//! way again for the same seed. Without a fault it is plain memory.
//!
//! What was written and what is durable are kept apart. A *kill* ends the
//! process and keeps what was written. A *power cut* keeps what is durable; of
//! the rest each sector is lost, kept or torn by itself, and each change of
//! a name is lost or kept by itself.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{File, Guard, Storage};
use crate::id::mix;

/// What disks write in one piece, or tear.
const SECTOR: usize = 512;

/// What happens at the operation that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The process ends; nothing was done.
    Before,
    /// The process ends; all was done.
    After,
    /// The process ends; a write was done in part.
    Torn,
    /// A write takes only a part and says so; nothing ends.
    Short,
    /// The operation is refused, a write after a part of it; nothing ends.
    NoSpace,
    /// The same with another error; what a sync should have kept may be lost.
    InputOutput,
}

impl Mode {
    pub(crate) const ALL: [Mode; 6] =
        [Mode::Before, Mode::After, Mode::Torn, Mode::Short, Mode::NoSpace, Mode::InputOutput];

    fn fault(self) -> io::Error {
        match self {
            Mode::NoSpace => io::ErrorKind::StorageFull.into(),
            Mode::InputOutput => io::Error::other("input/output error"),
            _ => dead(),
        }
    }
}

fn dead() -> io::Error {
    io::Error::other("the process has ended")
}

#[derive(Clone, Debug, Default)]
struct Inode {
    written: Vec<u8>,
    durable: Vec<u8>,
}

/// A change of names that was not synced.
#[derive(Clone, Debug)]
enum Naming {
    Link(String, usize),
    Rename(String, String),
    Remove(String),
}

#[derive(Debug, Default)]
struct State {
    random: u64,
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    unsynced: Vec<Naming>,
    locked: bool,
    /// Lives of the process; files of earlier ones are closed.
    life: u64,
    cuts: u64,
    operations: u64,
    plan: Option<(u64, Mode)>,
    dead: bool,
    full: bool,
    /// A fault on purpose, to see that tests find it.
    forgets_syncs: bool,
}

impl State {
    fn draw(&mut self, below: usize) -> usize {
        self.random = mix(self.random);
        (self.random % below.max(1) as u64) as usize
    }

    /// Counts an operation; gives the mode in which it fails.
    fn begin(&mut self, life: u64) -> io::Result<Option<Mode>> {
        if self.dead || life != self.life {
            return Err(dead());
        }
        self.operations += 1;
        let due = self.plan.filter(|(at, _)| *at == self.operations).map(|(_, mode)| mode);
        self.dead = matches!(due, Some(Mode::Before | Mode::After | Mode::Torn));
        if due == Some(Mode::Before) {
            return Err(dead());
        }
        Ok(due)
    }

    /// An operation that is done completely or not at all.
    fn whole<T>(&mut self, life: u64, work: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        match self.begin(life)? {
            None | Some(Mode::Short) => work(self),
            Some(Mode::After) => {
                work(self)?;
                Err(dead())
            }
            Some(mode) => Err(mode.fault()),
        }
    }

    fn inode(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn apply(names: &mut BTreeMap<String, usize>, naming: &Naming) {
        match naming {
            Naming::Link(name, inode) => _ = names.insert(name.clone(), *inode),
            Naming::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Naming::Remove(name) => _ = names.remove(name),
        }
    }

    fn name(&mut self, naming: Naming) {
        State::apply(&mut self.names, &naming);
        self.unsynced.push(naming);
    }

    /// What a power cut leaves of a file.
    fn leave(&mut self, inode: &Inode) -> Vec<u8> {
        let (old, new) = (&inode.durable, &inode.written);
        if old == new {
            return old.clone();
        }
        let length = match self.draw(4) {
            0 => old.len(),
            1 => new.len(),
            _ => {
                let (least, most) = (old.len().min(new.len()), old.len().max(new.len()));
                least + self.draw(most - least + 1)
            }
        };
        let mut left = vec![0; length];
        let all = self.draw(4);
        for start in (0..length).step_by(SECTOR) {
            let end = length.min(start + SECTOR);
            let choice = if all < 3 { self.draw(3) } else { 1 };
            let tear = start + self.draw(end - start + 1);
            for (at, byte) in left.iter_mut().enumerate().take(end).skip(start) {
                let (old, new) = (old.get(at).copied().unwrap_or(0), new.get(at).copied());
                let is_new = match choice {
                    0 => false,
                    1 => true,
                    _ => at < tear,
                };
                *byte = new.filter(|_| is_new).unwrap_or(old);
            }
        }
        left
    }
}

/// A folder in memory. Clones are the same folder.
#[derive(Clone, Debug)]
pub(crate) struct Simulator {
    state: Arc<Mutex<State>>,
    life: u64,
}

impl Simulator {
    pub(crate) fn new(seed: u64) -> Simulator {
        Simulator { state: Arc::new(Mutex::new(State { random: mix(seed), ..State::default() })), life: 0 }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the operation with this number, counted from the first one ever, fail.
    pub(crate) fn fail_at(&self, operation: u64, mode: Mode) {
        self.state().plan = Some((operation, mode));
    }

    /// Operations that changed something or tried to.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Refuses all writing, or no longer.
    pub(crate) fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    /// A disk that lies: for the tests of the tests.
    pub(crate) fn forget_syncs(&self) {
        self.state().forgets_syncs = true;
    }

    /// Ends the process and starts another: what was written is there.
    pub(crate) fn kill(&self) -> Simulator {
        let mut state = self.state();
        state.life += 1;
        (state.dead, state.locked, state.plan) = (false, false, None);
        Simulator { state: Arc::clone(&self.state), life: state.life }
    }

    /// Cuts the power and starts the process again: what is durable is there.
    pub(crate) fn cut_power(&self) -> Simulator {
        let mut state = self.state();
        let mut names = std::mem::take(&mut state.durable_names);
        for naming in std::mem::take(&mut state.unsynced) {
            if state.draw(2) == 0 {
                State::apply(&mut names, &naming);
            }
        }
        for at in 0..state.inodes.len() {
            let inode = std::mem::take(&mut state.inodes[at]);
            let left = state.leave(&inode);
            state.inodes[at] = Inode { written: left.clone(), durable: left };
        }
        (state.names, state.durable_names) = (names.clone(), names);
        state.cuts += 1;
        drop(state);
        self.kill()
    }

    /// The bytes of a file, to look at or to damage.
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.names.get(name).map(|inode| state.inodes[*inode].written.clone()).unwrap_or_default()
    }

    /// Puts a file in the folder, durably.
    pub(crate) fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state();
        let inode = state.inodes.len();
        state.inodes.push(Inode { written: bytes.clone(), durable: bytes });
        state.names.insert(name.to_owned(), inode);
        state.durable_names.insert(name.to_owned(), inode);
    }

    /// The names of all files, ascending.
    pub(crate) fn files(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    /// A folder with copies of all files, as a copying tool would make it.
    pub(crate) fn copy(&self, seed: u64) -> Simulator {
        let copy = Simulator::new(seed);
        self.files().into_iter().for_each(|name| copy.put(&name, self.read(&name)));
        copy.state().cuts = self.state().cuts;
        copy
    }
}

impl Storage for Simulator {
    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let state = self.state();
        if state.dead {
            return Err(dead());
        }
        let inode = state.inode(name)?;
        Ok(Box::new(SimulatedFile { folder: self.clone(), inode }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let inode = self.state().whole(self.life, |state| {
            if state.full {
                return Err(Mode::NoSpace.fault());
            }
            if let Ok(inode) = state.inode(name) {
                state.inodes[inode].written.clear();
                return Ok(inode);
            }
            let inode = state.inodes.len();
            state.inodes.push(Inode::default());
            state.name(Naming::Link(name.to_owned(), inode));
            Ok(inode)
        })?;
        Ok(Box::new(SimulatedFile { folder: self.clone(), inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.state().whole(self.life, |state| {
            state.inode(from)?;
            state.name(Naming::Rename(from.to_owned(), to.to_owned()));
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.state().whole(self.life, |state| {
            state.inode(name)?;
            state.name(Naming::Remove(name.to_owned()));
            Ok(())
        })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.state();
        if state.dead { Err(dead()) } else { Ok(state.names.keys().cloned().collect()) }
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.state().whole(self.life, |state| {
            if !state.forgets_syncs {
                state.durable_names = state.names.clone();
                state.unsynced.clear();
            }
            Ok(())
        })
    }

    fn lock(&self, _: &str) -> io::Result<Option<Box<dyn Guard>>> {
        let mut state = self.state();
        let taken = std::mem::replace(&mut state.locked, true);
        Ok((!taken).then(|| Box::new(SimulatedLock(self.clone())) as _))
    }

    fn incarnation(&self) -> u64 {
        self.state().cuts + 1
    }
}

struct SimulatedLock(Simulator);

impl Guard for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if state.life == self.0.life {
            state.locked = false;
        }
    }
}

struct SimulatedFile {
    folder: Simulator,
    inode: usize,
}

impl File for SimulatedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.folder.state();
        let due = state.begin(self.folder.life)?;
        let due = if state.full { Some(Mode::NoSpace) } else { due };
        let taken = match due {
            None | Some(Mode::After) => bytes.len(),
            // At least a byte, else a short write would say that nothing fits.
            Some(Mode::Short) => 1 + state.draw(bytes.len()),
            Some(_) => state.draw(bytes.len()),
        };
        let inode = self.inode;
        state.inodes[inode].written.extend_from_slice(&bytes[..taken.min(bytes.len())]);
        match due {
            None | Some(Mode::Short) => Ok(taken.min(bytes.len())),
            Some(mode) => Err(mode.fault()),
        }
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let state = self.folder.state();
        if state.dead {
            return Err(dead());
        }
        let from = state.inodes[self.inode].written.get(offset as usize..).unwrap_or_default();
        let count = from.len().min(bytes.len());
        bytes[..count].copy_from_slice(&from[..count]);
        Ok(count)
    }

    fn sync(&mut self) -> io::Result<()> {
        let inode = self.inode;
        self.folder.state().whole(self.folder.life, |state| {
            if !state.forgets_syncs {
                state.inodes[inode].durable = state.inodes[inode].written.clone();
            }
            Ok(())
        })
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let inode = self.inode;
        self.folder.state().whole(self.folder.life, |state| {
            state.inodes[inode].written.resize(length as usize, 0);
            Ok(())
        })
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.folder.state().inodes[self.inode].written.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_keeps_what_was_written_and_a_power_cut_what_was_synced() {
        let (mut lost, mut torn, mut unnamed) = (0, 0, 0);
        for seed in 0..200 {
            let folder = Simulator::new(seed);
            let mut file = folder.create("a").unwrap();
            file.append_all(&[1; 700]).unwrap();
            file.sync().unwrap();
            folder.sync_folder().unwrap();
            file.append_all(&[2; 700]).unwrap();
            folder.create("b").unwrap();
            let folder = folder.kill();
            assert_eq!((folder.read("a").len(), folder.files().len()), (1_400, 2));
            let folder = folder.cut_power();
            let left = folder.read("a");
            assert!(left.len() >= 700 && left[..700] == [1; 700]);
            lost += usize::from(left.len() == 700);
            torn += usize::from(left[700..].contains(&0) && left[700..].contains(&2));
            unnamed += usize::from(folder.files().len() == 1);
        }
        assert!(lost > 20 && torn > 20 && unnamed > 20, "{lost} {torn} {unnamed}");
    }

    #[test]
    fn the_operation_that_was_named_fails_as_it_was_said() {
        for (mode, left, alive) in [
            (Mode::Before, 0..=0, false),
            (Mode::After, 9..=9, false),
            (Mode::Torn, 0..=8, false),
            (Mode::Short, 9..=9, true),
            (Mode::NoSpace, 0..=8, true),
            (Mode::InputOutput, 0..=8, true),
        ] {
            let folder = Simulator::new(5);
            folder.fail_at(2, mode);
            let mut file = folder.create("a").unwrap();
            let outcome = file.append_all(&[1; 9]);
            assert_eq!(outcome.is_ok(), mode == Mode::Short, "{mode:?}");
            assert_eq!(file.sync().is_ok(), alive);
            assert!(left.contains(&folder.kill().read("a").len()), "{mode:?}");
        }
    }
}
