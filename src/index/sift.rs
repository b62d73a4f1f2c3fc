//! An exact search that looks at few vectors: codes rule the others out.
//!
//! Two passes. The first computes for every row a bound from the first level
//! of its codes. The rows of the least bounds are measured: the last of the k
//! best of them is hardly farther than that of all rows. The second pass goes
//! through the bounds, reads the further levels of rows that may still be as
//! near, and measures what these leave.

use super::pool::Pool;
use super::sifted::Sifted;
use super::{Points, Request};
use crate::bits::{RowSet, ones};
use crate::id::Row;
use crate::kernel::{Arch, ArchJob, SCAN_ROWS, prefetch};
use crate::memory;
use crate::metric::Metric;
use crate::neighbor::{Neighbor, TopK};
use crate::quant::{Grain, Kind};
use crate::vector::BLOCK;

/// Rows measured after the first pass: so many times k.
const FIRST_SHARE: usize = 4;

/// So many of the least bounds are kept in order while they are read; of more it is found afterwards which they are. (GloVe:
/// 4,000 in order take 2.2 ms, afterwards 3.0; 20,000 14.0 and 3.9.)
const KEPT_IN_ORDER: usize = if cfg!(test) { 64 } else { 4_096 };

/// With so many of the rows asked for, nothing can be ruled out that pays.
const MOST_SHARE: usize = 16;

/// Rows after which it is asked whether a level rules out a quarter.
const TRIAL: usize = 1_024;

/// Blocks of rows of the first pass after which a search that may be cut short
/// looks at the clock: some microseconds.
const BLOCKS_BETWEEN: usize = 16;

/// Working memory of such a search.
#[derive(Debug, Default)]
pub(super) struct SiftScratch {
    grain: Grain,
    /// The admitted rows, as bits.
    admitted: Vec<u64>,
    /// What is known of each row, where there are further levels, and its bound: infinite of rows that are not
    /// admitted, or measured already. Of blocks that were not read they mean nothing.
    products: Vec<f32>,
    keys: Vec<f32>,
    /// The least bound of each block when it was read: infinite of those that were not.
    leasts: Vec<f32>,
    /// The rows of the least bounds.
    least: Pool,
}

/// Rows that wait for a level, or to be measured.
struct Waiting {
    rows: [Row; BLOCK],
    count: usize,
}

/// What a level has done so far.
#[derive(Clone, Copy, Default)]
struct Use {
    seen: usize,
    left: usize,
}

/// One search.
struct Sift<'a> {
    sifted: &'a Sifted,
    points: Points<'a>,
    request: &'a Request<'a>,
    scratch: &'a mut SiftScratch,
    found: &'a mut TopK,
    measured: u64,
}

/// Offers the nearest of the admitted rows of `held` to `found`, exactly, and
/// gives the number of distances computed; `None`, having done nothing, when a
/// plain scan is the better way.
pub(super) fn search(
    sifted: &Sifted,
    held: &RowSet,
    points: Points<'_>,
    request: &Request<'_>,
    scratch: &mut SiftScratch,
    found: &mut TopK,
) -> Option<u64> {
    let kind = match points.space.metric() {
        Metric::L2 => Kind::SquaredL2,
        Metric::Cosine => Kind::Cosine,
        Metric::Dot => Kind::NegatedDot,
    };
    let admitted = scratch.admit(held, request);
    let is_worth_it = request.k.saturating_mul(MOST_SHARE) < admitted;
    if !is_worth_it || !sifted.sieve.prepare(request.query, kind, &mut scratch.grain) {
        return None;
    }
    let mut sift = Sift { sifted, points, request, scratch, found, measured: 0 };
    sifted.sieve.level().run(FirstPass { sifted, request, scratch: &mut *sift.scratch });
    sift.measure_least();
    sift.second_pass();
    request.ends.spend(sift.measured);
    Some(sift.measured)
}

impl SiftScratch {
    /// Finds the admitted rows of `held`; gives their number.
    fn admit(&mut self, held: &RowSet, request: &Request<'_>) -> usize {
        self.admitted.clear();
        memory::append(&mut self.admitted, held.words());
        let Some(admit) = request.admit else { return held.len() };
        for at in 0..self.admitted.len() {
            if at.is_multiple_of(BLOCKS_BETWEEN) && request.ends.are_due_now(0) {
                self.admitted[at..].fill(0);
                break;
            }
            let word = &mut self.admitted[at];
            let refused = ones(*word).filter(|bit| !admit((at * BLOCK) as Row + bit));
            *word &= !refused.fold(0u64, |refused, bit| refused | 1 << bit);
        }
        self.admitted.iter().map(|word| word.count_ones() as usize).sum()
    }
}

/// Rows that are measured after the first pass.
fn wanted(request: &Request<'_>) -> usize {
    request.k * FIRST_SHARE
}

/// The least of some keys. (In halves: compilers make one step of many lanes of each.)
#[inline(always)]
fn least_of(keys: &[f32; SCAN_ROWS]) -> f32 {
    let mut lanes = *keys;
    let mut count = SCAN_ROWS;
    while count > 1 {
        count /= 2;
        for lane in 0..count {
            let (one, other) = (lanes[lane], lanes[lane + count]);
            lanes[lane] = if one < other { one } else { other };
        }
    }
    lanes[0]
}

/// Reading the first level of all rows.
struct FirstPass<'a> {
    sifted: &'a Sifted,
    request: &'a Request<'a>,
    scratch: &'a mut SiftScratch,
}

impl ArchJob for FirstPass<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self, arch: A) {
        let SiftScratch { grain, admitted, products, keys, leasts, least: kept } = self.scratch;
        let sieve = &*self.sifted.sieve;
        leasts.clear();
        memory::resize(leasts, admitted.len(), f32::INFINITY);
        let wanted = wanted(self.request);
        let are_few = wanted <= KEPT_IN_ORDER;
        kept.reset(if are_few { wanted } else { 0 });
        // Of blocks that are not read nobody looks at what stands here.
        memory::lengthen(keys, admitted.len() * BLOCK);
        memory::lengthen(products, if sieve.levels() > 1 { keys.len() } else { 0 });
        let mut products = products.as_chunks_mut::<SCAN_ROWS>().0.iter_mut();
        let blocks = admitted.iter().zip(keys.as_chunks_mut::<BLOCK>().0).zip(&mut *leasts);
        for (at, ((word, keys), least_of_block)) in blocks.enumerate() {
            if at.is_multiple_of(BLOCKS_BETWEEN) && self.request.ends.are_due_now(0) {
                return;
            }
            for (half, keys) in keys.as_chunks_mut::<SCAN_ROWS>().0.iter_mut().enumerate() {
                let (group, admitted) = (2 * at + half, (word >> (half * SCAN_ROWS)) as u32);
                let products = products.next();
                if admitted == 0 {
                    keys.fill(f32::INFINITY);
                    continue;
                }
                let [known, mut bounds] = sieve.first_keys(arch, grain, self.sifted.group(group as u32));
                if admitted != u32::MAX {
                    hide(&mut bounds, admitted);
                }
                if are_few && arch.within(&bounds, kept.bound()) != 0 {
                    let first = (group * SCAN_ROWS) as Row;
                    let rows: [Row; SCAN_ROWS] = std::array::from_fn(|lane| first + lane as Row);
                    kept.insert_all(arch, &rows, &bounds);
                }
                let least = least_of(&bounds);
                *least_of_block = if least < *least_of_block { least } else { *least_of_block };
                *keys = bounds;
                if let Some(products) = products {
                    *products = known;
                }
            }
        }
    }
}

/// Makes the bounds of rows that are not admitted infinite.
#[inline(always)]
fn hide(keys: &mut [f32; SCAN_ROWS], admitted: u32) {
    for (lane, key) in keys.iter_mut().enumerate() {
        *key = if admitted >> lane & 1 == 1 { *key } else { f32::INFINITY };
    }
}

impl Sift<'_> {
    /// Measures the rows of the least bounds.
    fn measure_least(&mut self) {
        let wanted = wanted(self.request);
        if wanted > KEPT_IN_ORDER {
            let mut all = self.bounds();
            let least = wanted.min(all.len());
            if least < all.len() {
                all.select_nth_unstable_by(least, Neighbor::order);
            }
            return self.measure_all(all[..least].iter().copied());
        }
        let least = std::mem::take(&mut self.scratch.least);
        self.measure_all(least.iter().filter(|near| near.distance < f32::INFINITY));
        self.scratch.least = least;
    }

    /// The bounds of all rows that were read.
    fn bounds(&self) -> Vec<Neighbor> {
        let SiftScratch { keys, leasts, .. } = &*self.scratch;
        let read = leasts.iter().zip(keys.as_chunks::<BLOCK>().0).enumerate();
        let read = read.filter(|(_, (least, _))| **least < f32::INFINITY);
        let near = read.flat_map(|(at, (_, keys))| {
            let rows = ((at * BLOCK) as Row..).zip(keys);
            rows.map(|(row, key)| Neighbor { distance: *key, row })
        });
        memory::collect(near.filter(|near| near.distance < f32::INFINITY))
    }

    fn measure_all(&mut self, rows: impl Iterator<Item = Neighbor>) {
        let mut waiting = Waiting::new();
        for near in rows {
            waiting.push(near.row);
            self.scratch.keys[near.row as usize] = f32::INFINITY;
            if waiting.is_full() {
                self.measure(&mut waiting);
                if self.request.ends.are_due(self.measured) {
                    break;
                }
            }
        }
        self.measure(&mut waiting);
    }

    fn second_pass(&mut self) {
        let levels = self.sifted.sieve.levels();
        let mut waiting: Vec<Waiting> = (0..levels).map(|_| Waiting::new()).collect();
        let mut uses = vec![Use::default(); levels];
        let mut limit = self.limit(0);
        for at in 0..self.scratch.admitted.len() {
            if self.scratch.leasts[at] > limit {
                continue;
            }
            let keys = &self.scratch.keys[at * BLOCK..][..BLOCK];
            if self.request.ends.are_due(self.measured) {
                return;
            }
            let mut near = Waiting::new();
            for (row, key) in ((at * BLOCK) as Row..).zip(keys) {
                if *key <= limit {
                    near.push(row);
                }
            }
            for row in &near.rows[..near.count] {
                waiting[0].push(*row);
                if waiting[0].is_full() {
                    self.refine(1, &mut waiting, &mut uses);
                    limit = self.limit(0);
                }
            }
        }
        for level in 1..=levels {
            self.refine(level, &mut waiting, &mut uses);
        }
    }

    /// Takes the rows that wait for a level through it; those that are left
    /// wait for the next. The level after the last is measuring.
    fn refine(&mut self, level: usize, waiting: &mut [Waiting], uses: &mut [Use]) {
        if level == waiting.len() {
            return self.measure(&mut waiting[level - 1]);
        }
        let mut before = std::mem::replace(&mut waiting[level - 1], Waiting::new());
        let used = &mut uses[level];
        if used.seen < TRIAL || used.left * 4 <= used.seen * 3 {
            used.seen += before.count;
            before = self.near(level, &before);
            used.left += before.count;
        }
        for row in &before.rows[..before.count] {
            waiting[level].push(*row);
            if waiting[level].is_full() {
                self.refine(level + 1, waiting, uses);
            }
        }
    }

    /// The rows that a level does not rule out.
    fn near(&mut self, level: usize, waiting: &Waiting) -> Waiting {
        let limit = self.limit(level);
        let SiftScratch { grain, products, .. } = &mut *self.scratch;
        let (blocks, rows) = (self.sifted.further(level), &waiting.rows[..waiting.count]);
        let mut codes: [&[u8]; BLOCK] = [&[]; BLOCK];
        let (mut known, mut keys) = ([0.0; BLOCK], [0.0; BLOCK]);
        for ((code, known), row) in codes.iter_mut().zip(&mut known).zip(rows) {
            *code = blocks.bytes_of(*row);
            prefetch(code);
            *known = products[*row as usize];
        }
        self.sifted.sieve.keys(grain, level, &codes[..rows.len()], &mut known, &mut keys);
        let mut left = Waiting::new();
        for ((row, key), known) in rows.iter().zip(keys).zip(known) {
            products[*row as usize] = known;
            if key <= limit {
                left.push(*row);
            }
        }
        left
    }

    fn limit(&self, level: usize) -> f32 {
        let bound = self.found.bound().min(self.request.bound);
        // Infinite keys are those of rows that are not looked for.
        let limit = self.sifted.sieve.limit(&self.scratch.grain, level, bound);
        if limit < f32::MAX { limit } else { f32::MAX }
    }

    /// Measures the rows that wait.
    fn measure(&mut self, waiting: &mut Waiting) {
        let (rows, mut distances) = (&waiting.rows[..waiting.count], [0.0; BLOCK]);
        let bound = self.found.bound().min(self.request.bound);
        let Points { space, vectors } = self.points;
        space.distances(self.request.query, vectors, rows, bound, &mut distances);
        for (row, distance) in rows.iter().zip(distances) {
            if distance <= bound {
                self.found.offer(Neighbor { distance, row: *row });
            }
        }
        self.measured += rows.len() as u64;
        waiting.count = 0;
    }
}

impl Waiting {
    fn new() -> Waiting {
        Waiting { rows: [0; BLOCK], count: 0 }
    }

    fn push(&mut self, row: Row) {
        self.rows[self.count] = row;
        self.count += 1;
    }

    fn is_full(&self) -> bool {
        self.count == BLOCK
    }
}
