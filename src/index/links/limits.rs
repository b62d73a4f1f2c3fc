//! When a walk has seen enough.
//!
//! A list of `ef` rows that is walked through to its end gives each query the same work, which is too
//! much for most and too little for some. How far the next candidate is, measured by the k-th best, tells
//! them apart: where rows soon get farther nothing comes into the answer any more (Al-Jazzazi et al.,
//! *Distance adaptive beam search for provably accurate graph-based nearest neighbor search*, NeurIPS
//! 2025). Here `ef` says how many rows are walked through where distances grow as they do in most data:
//! fewer where they grow faster, half of it at least, more where they grow slower, twice as many at most.

use crate::index::pool::Pool;

/// When a beam search may end before its list is exhausted.
///
/// A caller that has rows already (from another shard) has use for few rows of
/// this graph, or none, and few near rows need a shorter list than many: from
/// the full length down to half of it.
#[derive(Clone, Copy, Debug)]
pub(in crate::index) struct Limits {
    /// Rows beyond it are of no use to the caller.
    pub(in crate::index) bound: f32,
    pub(in crate::index) k: usize,
    pub(in crate::index) ef: usize,
    /// All rows within the bound are wanted, however many: the list is not cut
    /// before them, and half of it is walked through beyond them.
    pub(super) exhausts: bool,
    /// Candidates that are kept at least, for whoever chooses among them.
    pub(in crate::index) kept: usize,
    /// Rows that are walked through at least and at most, as far as the bound lets them.
    least: usize,
    most: usize,
    /// What a walk weighs ([`Limits::weight`]) at its end.
    enough: f32,
}

/// Candidates that are expanded beyond the shortened list. With four shards
/// this keeps recall within 0.001 of that of the whole list.
const SPARE: usize = 6;

/// Parts of `ef` that are walked through at least, and times at most.
const LEAST: usize = 2;
const MOST: usize = 2;

impl Limits {
    /// A search for `k` rows whose list is walked through as it is.
    pub(in crate::index) fn rigid(bound: f32, k: usize, ef: usize) -> Limits {
        Limits { bound, k, ef, exhausts: false, kept: ef, least: ef, most: ef, enough: f32::INFINITY }
    }

    /// A search for `k` rows by squared distances, or others that are all larger by the same factor.
    ///
    /// The typical row at rank `e` is `(e / k)^(2 / d)` times as far, squared, as that at rank `k`, where the data have `d`
    /// dimensions of their own, some 14 (Fashion-MNIST, GloVe) to 24 (text embeddings). The walk ends where
    /// `e (distance / k-th)^16` is `ef (ef / k)^1.5`: at `e = ef` where `d` is 21.
    pub(in crate::index) fn adaptive(bound: f32, k: usize, ef: usize) -> Limits {
        if ef <= k {
            return Limits::rigid(bound, k, ef);
        }
        let breadth = ef as f32 / k.max(1) as f32;
        let enough = ef as f32 * breadth * breadth.sqrt();
        let least = (ef / LEAST).max(k);
        Limits { least, most: ef.saturating_mul(MOST), enough, ..Limits::rigid(bound, k, ef) }
    }

    /// The same; when `exhausts`, all rows within the bound are wanted.
    pub(in crate::index) fn exhausting(self, exhausts: bool) -> Limits {
        Limits { exhausts, ..self }
    }

    /// The same with so many candidates kept at least, where the caller chooses among more than k.
    pub(in crate::index) fn keeping(self, kept: usize) -> Limits {
        Limits { kept, ..self }
    }

    /// The length of the list.
    pub(super) fn cap(&self) -> usize {
        self.most.max(self.kept)
    }

    /// How many candidates may wait, of so many rows, before looking at each row that passes a filter costs less.
    pub(super) fn waiting(&self, rows: usize) -> usize {
        2 * self.kept + (self.kept * rows / 3).isqrt()
    }

    /// The limits of a walk that looks for links: no row is an answer, and half
    /// the list is exhausted. The other half is candidates too, but what lies
    /// behind it does not change the links (measured: the same recall at the
    /// same cost, and two thirds of the distances).
    pub(super) fn building(ef: usize) -> Limits {
        Limits::rigid(f32::NEG_INFINITY, 1, ef)
    }

    /// Whether the walk is at its end: every candidate within the bound was
    /// expanded, `useful` in number, and `nearer` candidates are nearer than
    /// the next.
    pub(super) fn are_reached(&self, useful: usize, nearer: usize) -> bool {
        if self.exhausts {
            return 2 * nearer.saturating_sub(useful) >= self.ef;
        }
        self.stretched(useful, nearer) >= self.ef
    }

    /// Of how many `nearer` rows a walk would be worth as much if `k` rows were useful.
    #[inline(always)]
    fn stretched(&self, useful: usize, nearer: usize) -> usize {
        2 * self.k * nearer.saturating_sub(SPARE) / (self.k + useful).max(1)
    }

    /// As [`Limits::are_reached`], where distances say how long the list is to be.
    #[inline(always)]
    pub(super) fn are_reached_at(&self, useful: usize, nearer: usize, distance: f32, kth: f32) -> bool {
        if self.exhausts {
            return self.are_reached(useful, nearer);
        }
        self.suffice(self.stretched(useful, nearer), distance, kth)
    }

    /// Whether `nearer` rows are enough when the next is at `distance`, and the k-th at `kth` (or nearer, elsewhere).
    #[inline(always)]
    pub(super) fn suffice(&self, nearer: usize, distance: f32, kth: f32) -> bool {
        nearer >= self.least && (nearer >= self.most || self.weight(nearer, distance, kth) > self.enough)
    }

    /// Takes out what will never be walked through: ever more candidates come to be nearer, and the k-th only comes nearer.
    #[inline(always)]
    pub(super) fn trim(&self, pool: &mut Pool) {
        if self.enough == f32::INFINITY || self.exhausts {
            return;
        }
        let (least, kth) = (self.kept.max(self.least), pool.distance_at(self.k));
        pool.trim(least, |nearer, distance| self.weight(nearer, distance, kth) > self.enough);
    }

    /// `nearer (distance / kth)^16`. Estimates may be below 0 where distances are next to nothing: all others are far then.
    #[inline(always)]
    fn weight(&self, nearer: usize, distance: f32, kth: f32) -> f32 {
        let kth = kth.min(self.bound);
        let farther = if kth > 0.0 { (distance / kth).max(1.0) } else { f32::INFINITY };
        let to_the_4th = (farther * farther) * (farther * farther);
        let to_the_8th = to_the_4th * to_the_4th;
        nearer as f32 * (to_the_8th * to_the_8th)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::mix;
    use crate::kernel::Portable;
    use crate::neighbor::Neighbor;

    /// Rows expanded of a list whose distances grow like those of data of `d` dimensions.
    fn expanded(limits: Limits, d: f32) -> usize {
        let at = |rank: usize| (rank as f32 / limits.k as f32).powf(2.0 / d);
        (0..10_000).find(|nearer| limits.suffice(*nearer, at(*nearer + 1), 1.0)).unwrap_or(usize::MAX)
    }

    #[test]
    fn a_list_is_walked_through_the_further_the_slower_distances_grow() {
        for (k, ef) in [(10, 64), (1, 20), (100, 400)] {
            let limits = Limits::adaptive(f32::INFINITY, k, ef);
            let [few, typical, many] = [2.0, 21.0, 500.0].map(|d| expanded(limits, d));
            assert_eq!((few, many), ((ef / 2).max(k), 2 * ef));
            assert!(typical.abs_diff(ef) <= ef / 8, "{typical} for {ef}");
        }
    }

    #[test]
    fn a_list_of_no_more_than_k_is_walked_through_as_it_is() {
        for d in [2.0, 500.0] {
            assert_eq!(expanded(Limits::adaptive(f32::INFINITY, 10, 10), d), 10);
            assert_eq!(expanded(Limits::adaptive(f32::INFINITY, 10, 4), d), 4);
            assert_eq!(expanded(Limits::rigid(f32::INFINITY, 10, 64), d), 64);
        }
    }

    #[test]
    fn a_kth_distance_of_nothing_ends_a_walk_after_half_of_the_list() {
        let limits = Limits::adaptive(f32::INFINITY, 10, 64);
        for kth in [0.0, -1e-6] {
            assert!(!limits.suffice(31, 1.0, kth) && limits.suffice(32, 1.0, kth));
        }
    }

    /// Expands what a pool has until the limits are reached; gives the rows.
    fn walk(seed: u64, limits: Limits, trims: bool) -> Vec<u32> {
        let mut pool = Pool::default();
        pool.reset(limits.cap());
        let (mut row, mut expanded) = (0, Vec::new());
        while let Some(next) = match row {
            0 => Some(Neighbor { distance: 9.0, row: u32::MAX >> 1 }),
            _ => pool.expand_next(),
        } {
            if row > 0 && limits.suffice(pool.expanded(), next.distance, pool.distance_at(limits.k)) {
                break;
            }
            expanded.push(next.row);
            // Ever nearer ones at first, then ever farther ones.
            let rows: Vec<u32> = (row..row + 12).collect();
            let at = |row: &u32| {
                let near = (f32::from((*row / 12) as u16) / 40.0 - 1.0).abs();
                1.0 + near + (mix(seed << 32 | u64::from(*row)) % 1_000) as f32 / 1_500.0
            };
            let distances: Vec<f32> = rows.iter().map(at).collect();
            pool.insert_all(Portable, &rows, &distances);
            if trims {
                limits.trim(&mut pool);
            }
            row += 12;
        }
        expanded
    }

    #[test]
    fn what_is_taken_out_is_never_walked_through() {
        let mut trimmed = 0;
        for seed in 0..200 {
            let (k, ef) = (1 + (mix(seed) % 20) as usize, 4 + (mix(seed ^ 7) % 90) as usize);
            let limits = Limits::adaptive(f32::INFINITY, k, ef).keeping(k);
            let (all, some) = (walk(seed, limits, false), walk(seed, limits, true));
            assert_eq!(all, some, "seed {seed}: k {k}, ef {ef}");
            trimmed += usize::from(all.len() < 2 * ef);
        }
        assert!(trimmed > 50, "few walks ended early");
    }
}
