//! Rows with their distances, and the best k of them.

use std::cmp::Ordering;

use crate::id::Row;
use crate::memory;

/// A row and its distance to the query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Neighbor {
    pub(crate) distance: f32,
    pub(crate) row: Row,
}

impl Neighbor {
    /// Nearest first; equal distances by row, so that every order is total and
    /// the same on every run.
    #[inline]
    pub(crate) fn order(&self, other: &Neighbor) -> Ordering {
        self.distance.total_cmp(&other.distance).then(self.row.cmp(&other.row))
    }

    #[inline]
    fn is_before(&self, other: &Neighbor) -> bool {
        self.distance < other.distance || (self.distance == other.distance && self.row < other.row)
    }
}

/// The k nearest of what was offered: a max-heap with the farthest at its root.
///
/// `offer` costs O(1) when the row is too far, else O(log k).
#[derive(Debug, Default)]
pub(crate) struct TopK {
    k: usize,
    heap: Vec<Neighbor>,
}

impl TopK {
    /// Empties the heap and sets k.
    pub(crate) fn reset(&mut self, k: usize) {
        self.k = k;
        self.heap.clear();
    }

    /// Rows farther than this cannot enter any more.
    #[inline]
    pub(crate) fn bound(&self) -> f32 {
        match self.heap.first() {
            Some(root) if self.heap.len() >= self.k => root.distance,
            _ if self.k == 0 => f32::NEG_INFINITY,
            _ => f32::INFINITY,
        }
    }

    /// True while fewer than k rows are kept.
    pub(crate) fn is_short(&self) -> bool {
        self.heap.len() < self.k
    }

    /// Rows kept that are not farther than `bound`; O(k).
    pub(crate) fn within(&self, bound: f32) -> usize {
        self.heap.iter().filter(|kept| kept.distance <= bound).count()
    }

    #[inline]
    pub(crate) fn offer(&mut self, candidate: Neighbor) {
        if self.heap.len() < self.k {
            memory::push(&mut self.heap, candidate);
            self.sift_up(self.heap.len() - 1);
        } else if let Some(root) = self.heap.first_mut()
            && candidate.is_before(root)
        {
            *root = candidate;
            self.sift_down(0);
        }
    }

    fn sift_up(&mut self, mut at: usize) {
        while at > 0 {
            let parent = (at - 1) / 2;
            if !self.heap[parent].is_before(&self.heap[at]) {
                return;
            }
            self.heap.swap(parent, at);
            at = parent;
        }
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let left = 2 * at + 1;
            let Some(mut child) = (left < self.heap.len()).then_some(left) else { return };
            if left + 1 < self.heap.len() && self.heap[left].is_before(&self.heap[left + 1]) {
                child = left + 1;
            }
            if !self.heap[at].is_before(&self.heap[child]) {
                return;
            }
            self.heap.swap(at, child);
            at = child;
        }
    }

    /// Sorts what was kept, nearest first, and shows it. The heap order is
    /// gone afterwards: `reset` before the next `offer`.
    pub(crate) fn sorted(&mut self) -> &[Neighbor] {
        self.heap.sort_unstable_by(Neighbor::order);
        &self.heap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(top: &mut TopK) -> Vec<Row> {
        top.sorted().iter().map(|n| n.row).collect()
    }

    #[test]
    fn keeps_the_k_nearest_and_breaks_ties_by_row() {
        let mut top = TopK::default();
        top.reset(3);
        for (row, distance) in [(9, 1.0), (4, 5.0), (2, 1.0), (1, 7.0), (0, 0.5), (3, 1.0)] {
            top.offer(Neighbor { distance, row });
        }
        assert_eq!(rows(&mut top), [0, 2, 3]);
    }

    #[test]
    fn the_bound_is_infinite_until_k_rows_are_kept() {
        let mut top = TopK::default();
        top.reset(2);
        top.offer(Neighbor { distance: 1.0, row: 0 });
        assert_eq!(top.bound(), f32::INFINITY);
        top.offer(Neighbor { distance: 3.0, row: 1 });
        assert_eq!(top.bound(), 3.0);
        top.offer(Neighbor { distance: 2.0, row: 2 });
        assert_eq!(top.bound(), 2.0);
    }

    #[test]
    fn k_of_zero_keeps_nothing() {
        let mut top = TopK::default();
        top.reset(0);
        top.offer(Neighbor { distance: 1.0, row: 0 });
        assert_eq!((rows(&mut top).len(), top.bound()), (0, f32::NEG_INFINITY));
    }
}
