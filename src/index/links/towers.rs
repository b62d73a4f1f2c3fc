//! Where the upper lists of rows stand: runs of upper blocks, one block a layer.

use std::collections::HashMap;

use super::graph::{MAX_LEVEL, MAX_TOWERS, tower, tower_parts};
use crate::id::Row;

/// The writer's book of towers. A run that is free may be taken at once: old
/// versions keep its old blocks, because blocks are copied on write.
#[derive(Debug, Default)]
pub(super) struct Towers {
    /// The tower of each row that has one.
    of: HashMap<Row, u32>,
    /// First blocks of free runs, by height.
    free: [Vec<u32>; MAX_LEVEL + 1],
    /// Blocks handed out so far.
    end: u32,
}

impl Towers {
    /// A run of `level` blocks; `None` for level 0, or when the numbers are
    /// used up (the row then has the lists of layer 0 only).
    pub(super) fn allocate(&mut self, level: usize) -> Option<u32> {
        if level == 0 {
            return None;
        }
        let first = match self.free[level].pop() {
            Some(first) => first,
            None => {
                let end = self.end.checked_add(level as u32).filter(|end| *end < MAX_TOWERS)?;
                std::mem::replace(&mut self.end, end)
            }
        };
        Some(tower(first, level))
    }

    pub(super) fn release(&mut self, word: u32) {
        if let Some((first, level)) = tower_parts(word) {
            self.free[level].push(first);
        }
    }

    pub(super) fn insert(&mut self, row: Row, word: u32) {
        self.of.insert(row, word);
    }

    pub(super) fn remove(&mut self, row: Row) -> Option<u32> {
        self.of.remove(&row)
    }

    /// The upper block of a row on a layer above 0.
    pub(super) fn block(&self, row: Row, layer: usize) -> Option<u32> {
        let (first, level) = tower_parts(*self.of.get(&row)?)?;
        (layer <= level).then(|| first + layer as u32 - 1)
    }

    pub(super) fn bytes(&self) -> usize {
        let free: usize = self.free.iter().map(|free| free.capacity() * size_of::<u32>()).sum();
        free + self.of.capacity() * (2 * size_of::<u32>() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_runs_are_taken_again_by_towers_of_the_same_height() {
        let mut towers = Towers::default();
        let (low, high) = (towers.allocate(1).unwrap(), towers.allocate(3).unwrap());
        assert_eq!((tower_parts(low), tower_parts(high)), (Some((0, 1)), Some((1, 3))));
        towers.release(high);
        assert_eq!(tower_parts(towers.allocate(1).unwrap()), Some((4, 1)));
        assert_eq!(towers.allocate(3), Some(high));
    }
}
