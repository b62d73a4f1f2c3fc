//! Searching the nearest lists: by the vectors, or by codes and then vectors.

use super::coarse::CoarseScratch;
use super::lists::GROUP;
use super::{Coder, Filed, IvfVersion, ListStorage, ListsView, order};
use crate::id::Row;
use crate::index::rerank::rerank;
use crate::index::{Effort, Points, Request, Scratch, flat};
use crate::kernel::{Arch, ArchJob, kernels, prefetch_all};
use crate::memory;
use crate::metric::Metric;
use crate::neighbor::{Neighbor, TopK};
use crate::quant::{ProductQuery, Sums};
use crate::vector::{Rounded, RoundedQuery};

/// Admitted rows to be met, for each that is wanted, before a filtered search
/// ends with the lists that were asked for: the nearest rows of a filter lie
/// farther out.
const MET_A_HIT: usize = 32;

/// Rows that are re-ranked at least beyond those that are wanted.
const SPARE: usize = 16;

/// Rows that are measured for each that is wanted, at most, in a search of few lists: codes of half a byte for
/// each 8 to 16 numbers lose few rows beyond it.
const OVERSAMPLE: usize = 10;

/// Rows that are collected at least before the farther ones are thrown away.
const LEAST_ROOM: usize = 32;

/// Rows that are re-ranked at a time: estimates by these codes err so much that
/// many are needed, and their vectors can be on their way together.
const RERANKED: usize = 8;

/// Blocks of a list that are asked for one by one.
const SHORT: usize = 64;

/// What a search needs beside the index.
#[derive(Debug, Default)]
pub(in crate::index) struct IvfScratch {
    coarse: CoarseScratch,
    /// Lists, nearest first.
    near: Vec<Neighbor>,
    query: ProductQuery,
    best: Best,
}

/// The best rows by estimate. Rows are collected, and now and then the farther
/// half is thrown away: dearer than a heap for few rows, far cheaper for many.
#[derive(Debug, Default)]
struct Best {
    kept: usize,
    rows: Vec<Neighbor>,
    /// Rows beyond it are not among the best.
    bound: f32,
}

impl Best {
    fn reset(&mut self, kept: usize) {
        self.kept = kept.max(1);
        self.rows.clear();
        // They never come to more.
        memory::reserve(&mut self.rows, 2 * self.kept + LEAST_ROOM);
        self.bound = f32::INFINITY;
    }

    /// True when that changed the bound.
    #[inline(always)]
    fn offer(&mut self, row: Neighbor) -> bool {
        self.rows.push(row);
        let is_full = self.rows.len() >= 2 * self.kept + LEAST_ROOM;
        if is_full {
            self.cut();
        }
        is_full
    }

    #[inline(never)]
    fn cut(&mut self) {
        if self.rows.len() > self.kept {
            let (_, last, _) = self.rows.select_nth_unstable_by(self.kept - 1, order);
            self.bound = last.distance;
            self.rows.truncate(self.kept);
        }
    }

    /// The best, ascending.
    fn sorted(&mut self) -> &[Neighbor] {
        self.cut();
        self.rows.sort_unstable_by(order);
        &self.rows
    }
}

pub(super) fn search(
    version: &IvfVersion,
    points: Points<'_>,
    request: &Request<'_>,
    scratch: &mut Scratch,
    found: &mut TopK,
) -> Effort {
    let held = version.held.len();
    if request.k == 0 || held == 0 {
        return Effort::default();
    }
    // All rows within a distance may be in any list.
    let by_lists = request.k < held.div_ceil(2) && request.ef < held && request.ends.reach.is_none();
    let filed = version.filed.as_ref().filter(|_| by_lists);
    let Some(filed) = filed else {
        return Effort { distances: flat::scan(&version.held, points, request, scratch, found), hops: 0 };
    };
    let mut own = std::mem::take(&mut scratch.ivf);
    let effort = Search { version, filed, points, request }.run(scratch, &mut own, found);
    scratch.ivf = own;
    effort
}

/// One search.
#[derive(Clone, Copy)]
struct Search<'a> {
    version: &'a IvfVersion,
    filed: &'a Filed,
    points: Points<'a>,
    request: &'a Request<'a>,
}

/// How far a search must go: lists, and rows that may be in the answer.
#[derive(Clone, Copy)]
struct Goal {
    lists: usize,
    rows: u64,
}

impl Search<'_> {
    fn goal(&self) -> Goal {
        let asked = if self.version.options.is_exhaustive() { 1 } else { self.request.ef };
        let lists = asked.min(self.filed.lists.lists()).max(1);
        let each = if self.request.admit.is_some() { MET_A_HIT } else { 1 };
        Goal { lists, rows: (self.request.k * each) as u64 }
    }

    /// Rows that are measured for each that is wanted, at most. What codes miss is more of all that is missed
    /// the more lists are searched, and a row more to measure is less of the work.
    fn oversample(&self, goal: Goal) -> usize {
        let has_parts = matches!(self.version.options.storage, ListStorage::Product(_));
        let of_breadth = if has_parts { goal.lists.saturating_mul(4).isqrt() } else { 0 };
        self.version.options.oversample.unwrap_or(OVERSAMPLE.max(of_breadth))
    }

    fn run(self, scratch: &mut Scratch, own: &mut IvfScratch, found: &mut TopK) -> Effort {
        let goal = self.goal();
        let IvfScratch { coarse, near, query, best } = own;
        self.filed.trained.coarse.near(
            self.request.query,
            self.points.space.metric(),
            goal.lists,
            coarse,
            near,
        );
        let options = &self.version.options;
        let wanted = self.request.k.saturating_mul(self.oversample(goal));
        let wanted = if options.is_exhaustive() { wanted.max(self.request.ef) } else { wanted };
        let kept = wanted.max(self.request.k + SPARE).min(self.version.held.len());
        best.reset(kept);
        let level = kernels().level;
        let mut effort = match &self.filed.trained.coder {
            Coder::None => return self.by_vectors(goal, coarse, near, scratch, found),
            Coder::Rounded(rounded) => self.by_copies(*rounded, goal, coarse, near, best),
            Coder::Product(product) => {
                let is_dot = self.points.space.metric() == Metric::Dot;
                let sums = if options.is_residual() || is_dot { Sums::Products } else { Sums::Nearness };
                product.prepare(level, self.request.query, sums, query);
                self.by_codes(query, goal, coarse, near, best)
            }
            Coder::Signs(signs) => {
                signs.prepare(level, self.request.query, query);
                self.by_codes(query, goal, coarse, near, best)
            }
        };
        scratch.candidates.clear();
        memory::append(&mut scratch.candidates, best.sorted());
        // What estimates are given for their errors grows with what was said, and not with the breadth.
        let few = self.request.k.saturating_mul(OVERSAMPLE).max(self.request.k + SPARE);
        let breadth = if options.oversample.is_some() { kept } else { kept.min(few) };
        let request = Request { ef: breadth, ..*self.request };
        let unbiased = matches!(options.storage, ListStorage::Signs { .. });
        rerank(self.points, &request, (RERANKED, unbiased), scratch, found, &mut effort);
        request.ends.spend(effort.distances);
        effort
    }

    /// Goes through the lists, nearest first, until `visit` has met enough rows.
    fn each_list(
        &self,
        goal: Goal,
        coarse: &mut CoarseScratch,
        near: &mut Vec<Neighbor>,
        mut visit: impl FnMut(&[Neighbor]) -> u64,
    ) -> u64 {
        let all = self.filed.lists.lists();
        let asked = goal.lists.min(near.len());
        let mut met = visit(&near[..asked]);
        let mut done = asked;
        if met < goal.rows && done < all {
            // Those that were visited are not visited again, whatever the
            // others are measured as.
            let mut visited: Vec<u32> = memory::collect(near[..asked].iter().map(|near| near.row));
            visited.sort_unstable();
            let metric = self.points.space.metric();
            self.filed.trained.coarse.near(self.request.query, metric, all, coarse, near);
            near.retain(|near| visited.binary_search(&near.row).is_err());
            for next in near.chunks(1) {
                if met >= goal.rows || self.request.ends.are_due_now(0) {
                    break;
                }
                met += visit(next);
                done += 1;
            }
        }
        done as u64
    }

    fn by_vectors(
        &self,
        goal: Goal,
        coarse: &mut CoarseScratch,
        near: &mut Vec<Neighbor>,
        scratch: &mut Scratch,
        found: &mut TopK,
    ) -> Effort {
        let mut distances = 0;
        let hops = self.each_list(goal, coarse, near, |lists| {
            let rows = lists.iter().flat_map(|list| self.filed.lists.rows(list.row));
            let met = flat::scan_rows(rows, self.points, self.request, scratch, found);
            distances += met;
            met
        });
        Effort { distances, hops }
    }

    fn by_copies(
        &self,
        rounded: Rounded,
        goal: Goal,
        coarse: &mut CoarseScratch,
        near: &mut Vec<Neighbor>,
        best: &mut Best,
    ) -> Effort {
        let query = rounded.query(self.points.space.metric(), self.request.query);
        let (mut distances, mut is_due) = (0, false);
        let hops = self.each_list(goal, coarse, near, |lists| {
            let mut met = 0;
            let keys = lists.iter().flat_map(|list| {
                let len = self.filed.lists.len(list.row);
                self.filed.lists.keys(list.row).iter().zip((0..len).step_by(GROUP).map(move |at| len - at))
            });
            for (key, left) in keys {
                is_due = is_due || self.request.ends.are_due(distances);
                if is_due {
                    break;
                }
                let count = self.measure_copies(rounded, &query, *key, left.min(GROUP), best);
                (met, distances) = (met + count, distances + count);
            }
            met
        });
        Effort { distances, hops }
    }

    /// Estimates for the admitted rows of a block, `count` of them at most.
    fn measure_copies(
        &self,
        rounded: Rounded,
        query: &RoundedQuery<'_>,
        key: u32,
        count: usize,
        best: &mut Best,
    ) -> u64 {
        let (mut rows, mut copies, mut estimates) = ([0; GROUP], [&[][..]; GROUP], [0.0; GROUP]);
        let all = self.filed.lists.rows_of(key).iter().zip(self.filed.lists.copies_of(key)).take(count);
        let mut admitted = 0;
        for (row, copy) in all.filter(|(row, _)| self.request.admit.is_none_or(|admit| admit(**row))) {
            (rows[admitted], copies[admitted]) = (*row, copy);
            admitted += 1;
        }
        let bound = best.bound;
        rounded.estimates(query, &copies[..admitted], bound, &mut estimates);
        for (row, distance) in rows[..admitted].iter().zip(estimates) {
            if distance <= bound {
                let _ = best.offer(Neighbor { distance, row: *row });
            }
        }
        admitted as u64
    }

    fn by_codes(
        &self,
        query: &ProductQuery,
        goal: Goal,
        coarse: &mut CoarseScratch,
        near: &mut Vec<Neighbor>,
        best: &mut Best,
    ) -> Effort {
        let metric = self.points.space.metric();
        let (storage, residual) = (self.version.options.storage, self.version.options.is_residual());
        let weight = if metric == Metric::Dot { -1.0 } else { -2.0 };
        let hops = self.each_list(goal, coarse, near, |lists| {
            let mut met = 0;
            for list in lists {
                if self.request.ends.are_due_now(0) {
                    break;
                }
                let base = if residual { list.distance } else { 0.0 };
                let scan = Scan {
                    lists: &self.filed.lists,
                    list: list.row,
                    query,
                    base,
                    four: storage.is_four(),
                    signs: matches!(storage, ListStorage::Signs { .. }),
                    // Of others the tables know all.
                    biased: residual && metric != Metric::Dot,
                    // Sums of bytes are steps above the least; others are what they are.
                    least: if storage.is_four() { weight * query.least } else { 0.0 },
                    weight: if storage.is_four() { weight * query.step } else { weight },
                    admit: self.request.admit,
                    floor: 0,
                    best,
                };
                met += kernels().level.run(scan);
            }
            met
        });
        Effort { distances: 0, hops }
    }
}

/// Estimates for all rows of a list.
struct Scan<'a> {
    lists: &'a ListsView,
    list: u32,
    query: &'a ProductQuery,
    base: f32,
    four: bool,
    signs: bool,
    biased: bool,
    /// An estimate is `base + bias + factor (least + weight sum)`, the factor
    /// being 1 but for signs, the bias 0 but for differences from centres.
    least: f32,
    weight: f32,
    admit: Option<&'a (dyn Fn(Row) -> bool + 'a)>,
    /// No smaller sum is near enough, where sums say all.
    floor: u16,
    best: &'a mut Best,
}

impl ArchJob for Scan<'_> {
    /// Rows that may be in the answer.
    type Output = u64;

    #[inline(always)]
    fn run<A: Arch>(mut self, arch: A) -> u64 {
        let keys = self.lists.keys(self.list);
        let mut left = self.lists.len(self.list);
        let first_code = self.lists.first_code();
        let by_sums = self.four && !self.signs && !self.biased && self.admit.is_none();
        self.floor = self.least_sum(self.base + self.least);
        let mut met = 0;
        for (at, key) in keys.iter().enumerate() {
            // The blocks of a long list stand side by side: the processor
            // fetches them by itself.
            if let Some(next) = keys.get(at + 1).filter(|_| keys.len() <= SHORT) {
                prefetch_all(self.lists.bytes_of(*next));
            }
            let words = self.lists.words_of(*key);
            let Some((rows, columns)) = words.split_first_chunk::<GROUP>() else { break };
            let codes = &self.lists.bytes_of(*key)[first_code..];
            let count = left.min(GROUP);
            left -= count;
            met += if by_sums {
                self.offer_sums(arch, rows, count, codes)
            } else {
                let estimates = self.estimates(arch, columns, codes);
                self.offer(arch, rows, count, &estimates)
            };
        }
        met
    }
}

impl Scan<'_> {
    #[inline(always)]
    fn estimates<A: Arch>(&self, arch: A, columns: &[u32], codes: &[u8]) -> [f32; GROUP] {
        let mut estimates = [0f32; GROUP];
        let Some((biases, columns)) = columns.split_first_chunk::<GROUP>() else { return estimates };
        let biases = if self.biased { biases } else { &[0; GROUP] };
        if !self.four {
            let sums = self.sums_of_bytes(codes);
            for lane in 0..GROUP {
                estimates[lane] = sums[lane] * self.weight + (self.base + f32::from_bits(biases[lane]));
            }
            return estimates;
        }
        let mut sums = [0; GROUP];
        arch.scan(&self.query.bytes, codes, &mut sums);
        if let Some(factors) = columns.first_chunk::<GROUP>().filter(|_| self.signs) {
            for lane in 0..GROUP {
                let product = f32::from(sums[lane]) * self.weight + self.least;
                let base = self.base + f32::from_bits(biases[lane]);
                let estimate = f32::from_bits(factors[lane]) * product + base;
                // What is no number (of vectors of extreme length) might be the nearest.
                estimates[lane] = if estimate.is_nan() { f32::NEG_INFINITY } else { estimate };
            }
            return estimates;
        }
        let base = self.base + self.least;
        for lane in 0..GROUP {
            estimates[lane] = f32::from(sums[lane]) * self.weight + (base + f32::from_bits(biases[lane]));
        }
        estimates
    }

    #[inline(always)]
    fn sums_of_bytes(&self, codes: &[u8]) -> [f32; GROUP] {
        let mut sums = [0f32; GROUP];
        let tables = self.query.products.chunks_exact(256);
        for (codes, table) in codes.as_chunks::<GROUP>().0.iter().zip(tables) {
            for lane in 0..GROUP {
                sums[lane] += table[usize::from(codes[lane])];
            }
        }
        sums
    }

    /// Keeps the rows that are among the best so far, where an estimate follows
    /// from a sum alone.
    #[inline(always)]
    fn offer_sums<A: Arch>(&mut self, arch: A, rows: &[Row; GROUP], count: usize, codes: &[u8]) -> u64 {
        let mut sums = [0; GROUP];
        arch.scan(&self.query.bytes, codes, &mut sums);
        let base = self.base + self.least;
        let mut near = arch.at_least(&sums, self.floor) & (u64::MAX >> (64 - count)) as u32;
        while near != 0 {
            let lane = near.trailing_zeros() as usize % GROUP;
            let distance = f32::from(sums[lane]) * self.weight + base;
            if distance <= self.best.bound && self.best.offer(Neighbor { distance, row: rows[lane] }) {
                self.floor = self.least_sum(base);
            }
            near &= near - 1;
        }
        count as u64
    }

    /// No smaller sum is within the bound.
    #[inline(never)]
    fn least_sum(&self, base: f32) -> u16 {
        let steps = (self.best.bound - base) / self.weight;
        // Rounding may have gone either way; what is no number becomes 0.
        (steps * (1.0 - 1e-6) - 2.0) as u16
    }

    /// Keeps the rows that are among the best so far.
    #[inline(always)]
    fn offer<A: Arch>(
        &mut self,
        arch: A,
        rows: &[Row; GROUP],
        count: usize,
        estimates: &[f32; GROUP],
    ) -> u64 {
        let mut near = arch.within(estimates, self.best.bound);
        near &= (u64::MAX >> (64 - count)) as u32;
        let Some(admit) = self.admit else {
            while near != 0 {
                let lane = near.trailing_zeros() as usize % GROUP;
                let _ = self.best.offer(Neighbor { distance: estimates[lane], row: rows[lane] });
                near &= near - 1;
            }
            return count as u64;
        };
        let mut met = 0;
        for (row, estimate) in rows[..count].iter().zip(estimates) {
            if admit(*row) {
                met += 1;
                if *estimate > self.best.bound {
                    continue;
                }
                let _ = self.best.offer(Neighbor { distance: *estimate, row: *row });
            }
        }
        met
    }
}
