//! An exact search that looks at few vectors: codes rule the others out.
//!
//! Two passes. The first computes for every row a bound from the first level
//! of its codes. The rows of the least bounds are measured: the last of the k
//! best of them is hardly farther than that of all rows. The second pass goes
//! through the bounds, reads the further levels of rows that may still be as
//! near, and measures what these leave.

use super::sifted::Sifted;
use super::{Points, Request};
use crate::id::Row;
use crate::metric::Metric;
use crate::neighbor::{Neighbor, TopK};
use crate::quant::{Grain, Kind};
use crate::vector::BLOCK;

/// Rows measured after the first pass: so many times k.
const FIRST_SHARE: usize = 4;

/// With so many of the rows asked for, nothing can be ruled out that pays.
const MOST_SHARE: usize = 16;

/// Rows after which it is asked whether a level rules out a quarter.
const TRIAL: usize = 1_024;

/// Working memory of such a search.
#[derive(Debug, Default)]
pub(super) struct SiftScratch {
    grain: Grain,
    /// The admitted rows, what is known of each, and its bound.
    rows: Vec<Row>,
    products: Vec<f32>,
    keys: Vec<f32>,
    /// Places of the least bounds.
    least: TopK,
}

/// Rows that wait for a level, or to be measured.
struct Waiting {
    places: [u32; BLOCK],
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

/// Offers the nearest of the admitted `rows` to `found`, exactly, and gives
/// the number of distances computed; `None`, having done nothing, when a plain
/// scan is the better way.
pub(super) fn search(
    sifted: &Sifted,
    rows: impl Iterator<Item = Row>,
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
    scratch.rows.clear();
    match request.admit {
        None => scratch.rows.extend(rows),
        Some(admit) => scratch.rows.extend(rows.filter(|row| admit(*row))),
    }
    let is_worth_it = request.k.saturating_mul(MOST_SHARE) < scratch.rows.len();
    if !is_worth_it || !sifted.sieve.prepare(request.query, kind, &mut scratch.grain) {
        return None;
    }
    let mut sift = Sift { sifted, points, request, scratch, found, measured: 0 };
    sift.first_pass();
    sift.measure_least();
    sift.second_pass();
    Some(sift.measured)
}

impl Sift<'_> {
    fn first_pass(&mut self) {
        let SiftScratch { grain, rows, products, keys, least } = &mut *self.scratch;
        products.clear();
        products.resize(rows.len(), 0.0);
        keys.clear();
        keys.resize(rows.len(), 0.0);
        least.reset(self.request.k * FIRST_SHARE);
        let blocks = &self.sifted.levels[0];
        let mut first = 0;
        for ((rows, products), keys) in
            rows.chunks(BLOCK).zip(products.chunks_mut(BLOCK)).zip(keys.chunks_mut(BLOCK))
        {
            let mut codes: [&[u8]; BLOCK] = [&[]; BLOCK];
            for (code, row) in codes.iter_mut().zip(rows) {
                *code = blocks.bytes_of(*row);
            }
            self.sifted.sieve.keys(grain, 0, &codes[..rows.len()], products, keys);
            let bound = least.bound();
            for (at, key) in keys.iter().enumerate() {
                if *key < bound {
                    least.offer(Neighbor { distance: *key, row: (first + at) as u32 });
                }
            }
            first += rows.len();
        }
    }

    /// Measures the rows of the least bounds.
    fn measure_least(&mut self) {
        let mut least = std::mem::take(&mut self.scratch.least);
        for part in least.sorted().chunks(BLOCK) {
            let mut waiting = Waiting::new();
            part.iter().for_each(|near| waiting.push(near.row));
            self.measure(&mut waiting);
        }
        // Not to be measured again.
        least.sorted().iter().for_each(|near| self.scratch.keys[near.row as usize] = f32::INFINITY);
        self.scratch.least = least;
    }

    fn second_pass(&mut self) {
        let levels = self.sifted.sieve.levels();
        let mut waiting: Vec<Waiting> = (0..levels).map(|_| Waiting::new()).collect();
        let mut uses = vec![Use::default(); levels];
        let mut limit = self.limit(0);
        for at in 0..self.scratch.keys.len() {
            let key = self.scratch.keys[at];
            if key > limit || key == f32::INFINITY {
                continue;
            }
            waiting[0].push(at as u32);
            if waiting[0].is_full() {
                self.refine(1, &mut waiting, &mut uses);
                limit = self.limit(0);
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
        let (before, after) = waiting.split_at_mut(level);
        let (before, uses_of) = (&mut before[level - 1], &mut uses[level]);
        let mut left = Waiting::new();
        if uses_of.seen >= TRIAL && uses_of.left * 4 > uses_of.seen * 3 {
            std::mem::swap(&mut left, before);
        } else {
            uses_of.seen += before.count;
            self.keep_near(level, before, &mut left);
            uses_of.left += left.count;
            before.count = 0;
        }
        let _ = after;
        for place in &left.places[..left.count] {
            waiting[level].push(*place);
            if waiting[level].is_full() {
                self.refine(level + 1, waiting, uses);
            }
        }
    }

    /// Copies the rows that a level does not rule out.
    fn keep_near(&mut self, level: usize, waiting: &Waiting, left: &mut Waiting) {
        let SiftScratch { grain, rows, products, .. } = &mut *self.scratch;
        let (blocks, places) = (&self.sifted.levels[level], &waiting.places[..waiting.count]);
        let mut codes: [&[u8]; BLOCK] = [&[]; BLOCK];
        let (mut known, mut keys) = ([0.0; BLOCK], [0.0; BLOCK]);
        for ((code, known), place) in codes.iter_mut().zip(&mut known).zip(places) {
            *code = blocks.bytes_of(rows[*place as usize]);
            crate::kernel::prefetch(*code);
            *known = products[*place as usize];
        }
        self.sifted.sieve.keys(grain, level, &codes[..places.len()], &mut known, &mut keys);
        let limit = self.limit(level);
        let SiftScratch { products, .. } = &mut *self.scratch;
        for ((place, key), known) in places.iter().zip(keys).zip(known) {
            products[*place as usize] = known;
            if !(key > limit) {
                left.push(*place);
            }
        }
    }

    fn limit(&self, level: usize) -> f32 {
        let bound = self.found.bound().min(self.request.bound);
        self.sifted.sieve.limit(&self.scratch.grain, level, bound)
    }

    /// Measures the rows that wait.
    fn measure(&mut self, waiting: &mut Waiting) {
        let (mut rows, mut distances) = ([0; BLOCK], [0.0; BLOCK]);
        let places = &waiting.places[..waiting.count];
        for (row, place) in rows.iter_mut().zip(places) {
            *row = self.scratch.rows[*place as usize];
        }
        let rows = &rows[..places.len()];
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
        Waiting { places: [0; BLOCK], count: 0 }
    }

    fn push(&mut self, place: u32) {
        self.places[self.count] = place;
        self.count += 1;
    }

    fn is_full(&self) -> bool {
        self.count == BLOCK
    }
}
