//! The coarse quantizer: the centres of the lists, and which are near.
//!
//! Centres are found and compared by small [codes](crate::quant), of 128 bytes
//! for 784 dimensions; only the few that count are measured. So training costs
//! a small part of what it does with whole vectors. Rows of [few](MEETING_DIM) numbers
//! meet all centres instead, [as matrices](super::tiles) do.

use std::sync::Arc;

use super::lists::members;
use super::tiles::{Meeting, Tiles};
use super::{Points, order};
use crate::codec::{Decoder, Encoder, Malformed};
use crate::id::{Row, mix};
use crate::index::Executor;
use crate::index::parallel::{parallel_map, parallel_waves};
use crate::index::training::{mean, sample};
use crate::kernel::{Kernels, kernels};
use crate::memory::{self, Lined};
use crate::metric::Metric;
use crate::neighbor::Neighbor;
use crate::pause::pause;
use crate::quant::{self, Bits, CodeQuery, Codec, MAX_TRAINED, Measure, Shape, draw};

/// Rows for each list that training looks at. faiss takes up to 256; of 32, 64
/// and 128 the last moved no recall by more than its noise.
pub(crate) const ROWS_A_LIST: usize = 64;

/// Rows for each list that the first centres are drawn from. Rounds of so few give worse
/// lists even where the last rounds look at all.
const SEEDS_A_LIST: usize = 16;

/// Rows that the projection of the codes is trained on, and that the one centre of a list of all rows is the mean of.
pub(super) const CODEC_ROWS: usize = 2_048;

/// Rounds of Lloyd's algorithm, as in faiss.
pub(super) const ROUNDS: usize = 10;

/// Rounds from centres that were found for fewer rows, or for most of them.
const ROUNDS_ON: usize = 5;

/// Rows that one task takes in a piece.
pub(super) const PIECE: usize = 64;

/// Lists up to which measuring all centres is cheaper than preparing a query
/// for their codes.
const FEW: usize = 128;

/// Numbers of a vector up to which rows meet all centres by products: one of 384 takes as long as an estimate by a code
/// with AVX-512, and finds the centre that is nearest, not one that is about as near. So lists of MiniLM are searched a tenth
/// faster; they are made in 0.93 of the time (with AVX2 in 1.11; of 784 numbers in 1.2).
pub(crate) const MEETING_DIM: usize = 512;

/// Numbers of a vector up to which a training takes little time.
const SHORT_DIM: usize = 128;

/// Centres that are measured for the nearest list of a row.
const MEASURED: usize = 4;

/// Lanes for each list that is searched: with two, two fifths more than are wanted are within the bound.
const LANES_EACH: usize = 2;

/// Numbers of a lane from which on it pays to look for a bound.
const LEAST_DEALT: usize = 3;

/// Numbers of which the least is found before it is known where it stands.
const PART: usize = 128;

/// Rows that are asked for ahead: those of a sample lie far apart in memory.
const AHEAD: usize = 4;

/// Numbers of a row that is asked for ahead, at most: the processor sees by itself how a longer one goes on, and a few of
/// them would fill the first cache.
const AHEAD_DIM: usize = 512;

/// Codes that are compared in one call.
const CALL: usize = 16;

/// The centres of all lists.
pub(super) struct Coarse {
    dim: usize,
    /// One after the other.
    centres: Vec<f32>,
    /// None where there is but one list, and for vectors of very many dimensions.
    codec: Option<Arc<Codec>>,
    /// Their codes, one after the other.
    codes: Lined<u8>,
    /// The centres once more, where there are several and rows meet all of them.
    tiles: Option<Tiles>,
    kernels: Kernels,
}

/// Working memory of questions to the centres.
#[derive(Debug, Default)]
pub(super) struct CoarseScratch {
    query: CodeQuery,
    pub(super) estimates: Vec<f32>,
    /// The least of some of them.
    least: Vec<f32>,
    meeting: Meeting,
}

/// Working memory for rows that are looked at together.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    coarse: CoarseScratch,
    one: Vec<f32>,
    /// The rows as they are compared, one after the other.
    pub(super) rows: Vec<f32>,
    /// Their lists, and how far the centres of these are.
    pub(super) nearest: Vec<(u32, f32)>,
}

fn stepped(rows: &[Row], most: usize) -> Vec<Row> {
    memory::collect(rows.iter().copied().step_by(rows.len().div_ceil(most.max(1)).max(1)))
}

/// Asks for the row that will be read [a few rows](AHEAD) later, if there is one.
fn prefetch_ahead(points: Points<'_>, row: Option<Row>) {
    if points.space.dim() <= AHEAD_DIM
        && let Some(row) = row
    {
        points.vectors.prefetch(row);
    }
}

/// The rows of a piece.
pub(super) fn piece_of(rows: &[Row], piece: usize) -> &[Row] {
    &rows[piece * PIECE..rows.len().min((piece + 1) * PIECE)]
}

fn shape_for(dim: usize) -> Shape {
    let one = Shape { bits: Bits::Seven, lines: 1 };
    if dim <= one.coordinates() { one } else { Shape { lines: 2, ..one } }
}

/// The bytes of a block.
fn append(codes: &mut Vec<u8>, words: &[u32]) {
    memory::reserve(codes, size_of_val(words));
    words.iter().for_each(|word| memory::append(codes, &word.to_ne_bytes()));
}

/// Estimates from a query to all blocks that stand in `codes`.
fn estimate_all(codec: &Codec, query: &CodeQuery, codes: &[u8], out: &mut Vec<f32>) {
    let size = codec.shape().words() * size_of::<u32>();
    out.clear();
    memory::resize(out, codes.len() / size, 0.0);
    for (codes, out) in codes.chunks(CALL * size).zip(out.chunks_mut(CALL)) {
        let mut blocks: [&[u8]; CALL] = [&[]; CALL];
        for (block, code) in blocks.iter_mut().zip(codes.chunks_exact(size)) {
            *block = code;
        }
        codec.estimates(query, &blocks[..out.len()], out);
    }
}

impl Coarse {
    /// One list for all rows, around the origin.
    pub(super) fn single(dim: usize) -> Coarse {
        Coarse { dim, centres: memory::filled(0.0, dim), ..Coarse::around(dim, Vec::new(), None) }
    }

    /// One list for all rows, around the mean of some of them.
    pub(super) fn mean(points: Points<'_>, rows: &[Row]) -> Coarse {
        Coarse { centres: mean(points, rows, CODEC_ROWS), ..Coarse::single(points.space.dim()) }
    }

    /// Trains the centres of `lists` lists on some of `rows`.
    pub(super) fn train(
        points: Points<'_>,
        rows: &[Row],
        lists: usize,
        seed: u64,
        executor: &dyn Executor,
    ) -> Coarse {
        let dim = points.space.dim();
        if lists <= 1 || rows.is_empty() || dim > MAX_TRAINED {
            return Coarse::single(dim);
        }
        let codec = train_codec(points, rows, seed);
        let rows = stepped(rows, lists * ROWS_A_LIST);
        let fewer = stepped(&rows, lists * SEEDS_A_LIST);
        // Where rows meet centres, only the first centres are drawn by codes.
        let coded = if dim <= MEETING_DIM { &fewer } else { &rows };
        let codes = encode_rows(&codec, points, coded, executor);
        let mut centres = memory::list(lists * dim);
        let mut prepared = Vec::new();
        for at in seeds(&codec, &codes, lists, seed) {
            points.space.prepare_row(points.vectors, coded[at], &mut prepared);
            memory::append(&mut centres, &prepared);
        }
        Coarse::moving(dim, centres, Some(Arc::new(codec))).rounds(ROUNDS, points, &rows, &codes, executor)
    }

    /// The same from the centres of several lists that there are, for as many: they are
    /// near where they should be, so fewer rounds do.
    pub(super) fn train_on(
        &self,
        points: Points<'_>,
        rows: &[Row],
        seed: u64,
        executor: &dyn Executor,
    ) -> Coarse {
        let codec = train_codec(points, rows, seed);
        let rows = stepped(rows, self.lists() * ROWS_A_LIST);
        let codes = match &self.tiles {
            Some(_) => Vec::new(),
            None => encode_rows(&codec, points, &rows, executor),
        };
        let same = Coarse::moving(self.dim, memory::copied(&self.centres), Some(Arc::new(codec)));
        same.rounds(ROUNDS_ON, points, &rows, &codes, executor)
    }

    /// After rounds of Lloyd's algorithm over `rows`, of which there are codes where
    /// they do not meet all centres.
    fn rounds(
        mut self,
        rounds: usize,
        points: Points<'_>,
        rows: &[Row],
        codes: &[u8],
        executor: &dyn Executor,
    ) -> Coarse {
        for _ in 0..rounds {
            let nearest = match &self.tiles {
                Some(_) => self.nearest_of(points, rows, executor),
                None => self.assign(codes, executor),
            };
            self = self.moved(points, rows, &nearest, executor);
        }
        self.coded()
    }

    /// Centres that are some of `rows`, for a training that goes on from there in
    /// steps; none where there is nothing to train.
    pub(super) fn drawn(points: Points<'_>, rows: &[Row], lists: usize, seed: u64) -> Option<Coarse> {
        let dim = points.space.dim();
        if lists <= 1 || lists > rows.len() || dim > MAX_TRAINED {
            return None;
        }
        let codec = train_codec(points, rows, seed);
        let mut centres = memory::list(lists * dim);
        let mut prepared = Vec::new();
        for list in 0..lists {
            // One of as many neighbours as there are for each list.
            let (from, to) = (rows.len() * list / lists, rows.len() * (list + 1) / lists);
            let at = from + (mix(seed ^ list as u64) % (to - from) as u64) as usize;
            points.space.prepare_row(points.vectors, rows[at], &mut prepared);
            memory::append(&mut centres, &prepared);
        }
        Some(Coarse::moving(dim, centres, Some(Arc::new(codec))))
    }

    fn around(dim: usize, centres: Vec<f32>, codec: Option<Arc<Codec>>) -> Coarse {
        Coarse::moving(dim, centres, codec).coded()
    }

    /// Centres that will move again: without codes where rows meet all of them.
    fn moving(dim: usize, centres: Vec<f32>, codec: Option<Arc<Codec>>) -> Coarse {
        let tiles = (dim <= MEETING_DIM && centres.len() > dim).then(|| Tiles::new(&centres, dim));
        let coarse = Coarse { dim, centres, codec, codes: Lined::default(), tiles, kernels: kernels() };
        if coarse.tiles.is_some() { coarse } else { coarse.coded() }
    }

    /// With the codes of the centres, by which queries find their lists.
    pub(super) fn coded(mut self) -> Coarse {
        if self.codes.is_empty() {
            self.encode_centres();
        }
        self
    }

    /// With the centres in the means of the rows that are nearest to them: these [may move](Coarse::moving)
    /// again.
    pub(super) fn moved(
        &self,
        points: Points<'_>,
        rows: &[Row],
        nearest: &[(u32, f32)],
        executor: &dyn Executor,
    ) -> Coarse {
        let centres = self.means(points, rows, nearest, executor);
        Coarse::moving(self.dim, centres, self.codec.clone())
    }

    /// The list of each of `rows`, and how far its centre is, in parallel.
    pub(super) fn nearest_of(
        &self,
        points: Points<'_>,
        rows: &[Row],
        executor: &dyn Executor,
    ) -> Vec<(u32, f32)> {
        let mut workers: Vec<Prepared> = Vec::new();
        workers.resize_with(executor.width().max(1), Default::default);
        let parts = parallel_map(executor, rows.len().div_ceil(PIECE), &mut workers, |piece, worker| {
            self.prepare(points, piece_of(rows, piece), worker);
            memory::copied(&worker.nearest)
        });
        memory::joined(&parts)
    }

    /// Prepares rows and finds their lists.
    pub(super) fn prepare(&self, points: Points<'_>, rows: &[Row], work: &mut Prepared) {
        work.rows.clear();
        for (at, row) in rows.iter().enumerate() {
            prefetch_ahead(points, rows.get(at + AHEAD).copied());
            points.space.prepare_row(points.vectors, *row, &mut work.one);
            memory::append(&mut work.rows, &work.one);
        }
        self.nearest_each(&work.rows, &mut work.coarse, &mut work.nearest);
    }

    /// The lists of prepared rows that stand one after the other, and how far the
    /// centres of these are.
    pub(super) fn nearest_each(&self, rows: &[f32], scratch: &mut CoarseScratch, out: &mut Vec<(u32, f32)>) {
        out.clear();
        let rows_alone = rows.chunks_exact(self.dim);
        match &self.tiles {
            Some(tiles) => {
                let lists = tiles.nearest(rows, &mut scratch.meeting, self.kernels.level);
                let distance = |row: &[f32], list: u32| (self.kernels.l2)(row, self.centre(list as usize));
                memory::extend(out, rows_alone.zip(lists).map(|(row, list)| (list, distance(row, list))));
            }
            None => memory::extend(out, rows_alone.map(|row| self.nearest(row, scratch))),
        }
    }

    pub(super) fn lists(&self) -> usize {
        self.centres.len() / self.dim
    }

    /// Whether vectors are so short that a training takes little time.
    pub(super) fn is_short(&self) -> bool {
        self.dim <= SHORT_DIM
    }

    pub(super) fn centre(&self, list: usize) -> &[f32] {
        &self.centres[list * self.dim..][..self.dim]
    }

    fn encode_centres(&mut self) {
        let Some(codec) = &self.codec else { return };
        let (mut encoder, mut words) = (quant::Encoder::default(), memory::filled(0, codec.shape().words()));
        let mut codes = memory::list(self.lists() * size_of_val(words.as_slice()));
        for (list, centre) in self.centres.chunks_exact(self.dim).enumerate() {
            pause();
            codec.encode(centre, list as u32, &mut encoder, &mut words);
            append(&mut codes, &words);
        }
        self.codes = Lined::copied(&codes);
    }

    /// The list of each row of which there is a code, and how far its centre is.
    fn assign(&self, codes: &[u8], executor: &dyn Executor) -> Vec<(u32, f32)> {
        let Some(codec) = &self.codec else { return Vec::new() };
        let size = codec.shape().words() * size_of::<u32>();
        let mut workers: Vec<CoarseScratch> = Vec::new();
        workers.resize_with(executor.width().max(1), Default::default);
        let pieces = codes.len().div_ceil(PIECE * size);
        let parts = parallel_map(executor, pieces, &mut workers, |piece, scratch| {
            let codes = &codes[piece * PIECE * size..];
            let nearest = |code: &[u8]| {
                pause();
                codec.prepare_block(code, &mut scratch.query);
                estimate_all(codec, &scratch.query, &self.codes, &mut scratch.estimates);
                least(&scratch.estimates)
            };
            memory::collect(codes.chunks_exact(size).take(PIECE).map(nearest))
        });
        memory::joined(&parts)
    }

    /// The means of the rows of every list. A list without rows takes the row
    /// that is farthest from its own centre.
    fn means(
        &self,
        points: Points<'_>,
        rows: &[Row],
        nearest: &[(u32, f32)],
        executor: &dyn Executor,
    ) -> Vec<f32> {
        let Points { space, vectors } = points;
        let mut members = members(nearest.iter().map(|(list, _)| *list), self.lists());
        if members.iter().any(Vec::is_empty) {
            let mut far: Vec<u32> = memory::collect(0..nearest.len() as u32);
            let distance = |at: u32| nearest[at as usize].1;
            far.sort_unstable_by(|a, b| distance(*b).total_cmp(&distance(*a)).then(a.cmp(b)));
            let mut far = far.into_iter();
            for empty in members.iter_mut().filter(|members| members.is_empty()) {
                memory::extend(empty, far.next());
            }
        }
        let mut workers = vec![Vec::new(); executor.width().max(1)];
        let means = parallel_map(executor, members.len(), &mut workers, |list, prepared| {
            if members[list].is_empty() {
                // There are fewer rows than lists by now.
                return memory::copied(self.centre(list));
            }
            let mut sum = memory::filled(0f32, self.dim);
            let row = |place: usize| members[list].get(place).map(|at| rows[*at as usize]);
            for (place, at) in members[list].iter().enumerate() {
                prefetch_ahead(points, row(place + AHEAD));
                space.prepare_row(vectors, rows[*at as usize], prepared);
                sum.iter_mut().zip(&*prepared).for_each(|(sum, x)| *sum += x);
            }
            let share = 1.0 / members[list].len().max(1) as f32;
            sum.iter_mut().for_each(|sum| *sum *= share);
            sum
        });
        memory::joined(&means)
    }

    /// The list whose centre is nearest to a prepared row, whatever the metric.
    fn nearest(&self, vector: &[f32], scratch: &mut CoarseScratch) -> (u32, f32) {
        if self.lists() <= FEW || self.codec.is_none() {
            let all = self.centres.chunks_exact(self.dim).map(|centre| (self.kernels.l2)(vector, centre));
            scratch.estimates.clear();
            memory::extend(&mut scratch.estimates, all);
            return least(&scratch.estimates);
        }
        self.estimate(vector, Measure::SquaredL2, scratch);
        let mut best = (0, f32::INFINITY);
        for _ in 0..MEASURED {
            let (list, _) = least(&scratch.estimates);
            let distance = (self.kernels.l2)(vector, self.centre(list as usize));
            if distance < best.1 || (distance == best.1 && list < best.0) {
                best = (list, distance);
            }
            scratch.estimates[list as usize] = f32::INFINITY;
        }
        best
    }

    fn estimate(&self, vector: &[f32], measure: Measure, scratch: &mut CoarseScratch) {
        debug_assert!(!self.codes.is_empty(), "centres that may move are asked nothing");
        if let Some(codec) = &self.codec {
            codec.prepare(vector, measure, &mut scratch.query);
            estimate_all(codec, &scratch.query, &self.codes, &mut scratch.estimates);
        }
    }

    /// The nearest lists to a prepared query, nearest first, at least `count`
    /// of them if there are so many. The distances are squared ones, or negated
    /// inner products under that metric.
    pub(super) fn near(
        &self,
        vector: &[f32],
        metric: Metric,
        count: usize,
        scratch: &mut CoarseScratch,
        near: &mut Vec<Neighbor>,
    ) {
        near.clear();
        let distance = |list: u32| {
            let centre = self.centre(list as usize);
            match metric {
                Metric::L2 | Metric::Cosine => (self.kernels.l2)(vector, centre),
                Metric::Dot => -(self.kernels.dot)(vector, centre),
            }
        };
        // Some more than asked for: estimates err.
        let count = count.saturating_add(count / 4).saturating_add(MEASURED);
        if self.lists() <= FEW || count >= self.lists() || self.codec.is_none() {
            memory::extend(
                near,
                (0..self.lists() as u32).map(|row| Neighbor { distance: distance(row), row }),
            );
        } else {
            let measure = if metric == Metric::Dot { Measure::NegatedDot } else { Measure::SquaredL2 };
            self.estimate(vector, measure, scratch);
            // Once for all: what a thread has searched before needs no memory again.
            memory::reserve(near, self.lists());
            let bound = bound(&scratch.estimates, count, &mut scratch.least);
            let estimates = scratch.estimates.iter().zip(0..).filter(|(distance, _)| **distance <= bound);
            memory::extend(near, estimates.map(|(distance, row)| Neighbor { distance: *distance, row }));
            if near.len() > count {
                near.select_nth_unstable_by(count - 1, order);
                near.truncate(count);
            }
            near.iter_mut().for_each(|near| near.distance = distance(near.row));
        }
        near.sort_unstable_by(order);
    }

    pub(super) fn bytes(&self) -> usize {
        let codec = self.codec.as_ref().map_or(0, |codec| codec.bytes());
        let tiles = self.tiles.as_ref().map_or(0, Tiles::bytes);
        size_of::<Coarse>() + size_of_val(&*self.centres) + self.codes.bytes() + codec + tiles
    }

    pub(super) fn digest(&self) -> u64 {
        self.centres.iter().fold(self.lists() as u64, |hash, x| mix(hash ^ u64::from(x.to_bits())))
    }

    pub(super) fn save(&self, out: &mut Encoder) {
        out.size(self.lists());
        out.floats(&self.centres);
        out.u8(u8::from(self.codec.is_some()));
        if let Some(codec) = &self.codec {
            codec.save(out);
        }
    }

    pub(super) fn load(dim: usize, most: usize, input: &mut Decoder<'_>) -> Result<Coarse, Malformed> {
        let lists = input.size()?;
        input.check((1..=most).contains(&lists), "there are too many lists, or none")?;
        let fault = input.fault("there are too many centres");
        let centres = input.floats(lists.checked_mul(dim).ok_or(fault)?)?;
        input.check(centres.iter().all(|x| x.is_finite()), "a centre is no vector")?;
        let codec = match input.u8()? {
            0 => None,
            _ => Some(Arc::new(Codec::load(dim, input)?)),
        };
        Ok(Coarse::around(dim, centres, codec))
    }
}

/// What at least `count` of the numbers do not exceed, and few others: so many of the lanes that all numbers are
/// dealt out to, one after the other, have a number within it. Infinity where that is not worth its while.
fn bound(numbers: &[f32], count: usize, least: &mut Vec<f32>) -> f32 {
    let lanes = LANES_EACH * count;
    if numbers.len() < LEAST_DEALT * lanes {
        return f32::INFINITY;
    }
    least.clear();
    memory::resize(least, lanes, f32::INFINITY);
    for numbers in numbers.chunks(lanes) {
        for (least, number) in least.iter_mut().zip(numbers) {
            *least = if *number < *least { *number } else { *least };
        }
    }
    *least.select_nth_unstable_by(count - 1, f32::total_cmp).1
}

/// The place of the least number, the first of several, and the number; 0 and
/// infinity if there is none. It is asked for each row and each list: only the part
/// where the least one stands is looked at number by number.
fn least(numbers: &[f32]) -> (u32, f32) {
    let parts = numbers.chunks(PART).map(quant::least_of).enumerate();
    let (part, least) =
        parts.fold((0, f32::INFINITY), |best, next| if next.1 < best.1 { next } else { best });
    if least == f32::INFINITY {
        return (0, least);
    }
    let first = numbers.iter().skip(part * PART).position(|number| *number == least);
    (first.map_or(0, |at| part * PART + at) as u32, least)
}

fn train_codec(points: Points<'_>, rows: &[Row], seed: u64) -> Codec {
    let (samples, dim) = (sample(points, rows, CODEC_ROWS), points.space.dim());
    Codec::train(&samples, dim, shape_for(dim), points.space.metric() != Metric::Dot, seed)
}

fn encode_rows(codec: &Codec, points: Points<'_>, rows: &[Row], executor: &dyn Executor) -> Vec<u8> {
    let mut workers: Vec<(quant::Encoder, Vec<f32>, Vec<u32>)> = Vec::new();
    workers.resize_with(executor.width().max(1), Default::default);
    let mut all = memory::list(rows.len() * codec.shape().words() * size_of::<u32>());
    let work = |piece: usize, worker: &mut (quant::Encoder, Vec<f32>, Vec<u32>)| {
        let (encoder, prepared, words) = worker;
        memory::resize(words, codec.shape().words(), 0);
        let mut codes = Vec::new();
        for row in rows.iter().skip(piece * PIECE).take(PIECE) {
            pause();
            points.space.prepare_row(points.vectors, *row, prepared);
            codec.encode(prepared, *row, encoder, words);
            append(&mut codes, words);
        }
        codes
    };
    let take = |codes: Vec<u8>| memory::append(&mut all, &codes);
    parallel_waves(executor, rows.len().div_ceil(PIECE), &mut workers, work, take);
    all
}

/// The first centres, by their places among the codes: k-means++ over some of them.
fn seeds(codec: &Codec, codes: &[u8], lists: usize, seed: u64) -> Vec<usize> {
    let size = codec.shape().words() * size_of::<u32>();
    let step = (codes.len() / size).div_ceil(lists * SEEDS_A_LIST).max(1);
    let mut some = Vec::new();
    for code in codes.chunks_exact(size).step_by(step) {
        memory::append(&mut some, code);
    }
    let (codes, count) = (&Lined::copied(&some), some.len() / size);
    let (mut weights, mut estimates) = (memory::filled(f32::INFINITY, count), Vec::new());
    let (mut query, mut chosen) = (CodeQuery::default(), memory::list(lists));
    let mut next = (mix(seed) % count.max(1) as u64) as usize;
    for number in 1..=lists as u64 {
        memory::push(&mut chosen, next * step);
        codec.prepare_block(&codes[next * size..][..size], &mut query);
        estimate_all(codec, &query, codes, &mut estimates);
        for (weight, squared) in weights.iter_mut().zip(&estimates) {
            *weight = if squared < weight { *squared } else { *weight };
        }
        weights[next] = 0.0;
        pause();
        next = draw(&weights, mix(seed ^ number << 32));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn least_one_by_one(numbers: &[f32]) -> (u32, f32) {
        let all = (0..).zip(numbers.iter().copied());
        all.fold((0, f32::INFINITY), |best, next| if next.1 < best.1 { next } else { best })
    }

    #[test]
    fn the_first_of_the_least_numbers_is_found_wherever_it_stands() {
        for count in [0, 1, 15, 16, 17, 127, 128, 129, 1_000] {
            for seed in 0..200u64 {
                // Few different numbers: the least stands there several times.
                let number = |at: u64| match mix(seed << 32 ^ at) % 40 {
                    0 => f32::NAN,
                    1 => f32::INFINITY,
                    other => other as f32 - 20.0 * (seed % 2) as f32,
                };
                let numbers: Vec<f32> = (0..count).map(number).collect();
                assert_eq!(least(&numbers), least_one_by_one(&numbers), "{count} numbers, seed {seed}");
            }
        }
        let none = [f32::NAN, f32::INFINITY, f32::NAN];
        assert_eq!(least(&none), least_one_by_one(&none));
        assert_eq!(least(&[0.0, -0.0]).0, 0);
    }

    #[test]
    fn as_many_numbers_as_are_wanted_are_within_the_bound_and_few_others() {
        for (numbers, count) in [(1_000, 10), (2_500, 96), (2_500, 400), (65_536, 24), (40, 24), (600, 1)] {
            for seed in 0..50u64 {
                // Equal ones, too, and in some lists ever more or ever less.
                let trend = [0.0, 1.0, -1.0][seed as usize % 3];
                let number = |at: u64| (mix(seed << 32 ^ at) % 5_000) as f32 + trend * at as f32;
                let numbers: Vec<f32> = (0..numbers).map(number).collect();
                let bound = bound(&numbers, count, &mut Vec::new());
                let within = numbers.iter().filter(|number| **number <= bound).count();
                assert!(within >= count, "{within} of {count}, seed {seed}");
                let is_dealt = numbers.len() >= 6 * count;
                assert!(!is_dealt || within <= 2 * count + 16, "{within} of {count}, seed {seed}");
            }
        }
        // Rows without a direction do not take the places of others.
        let mut numbers = vec![f32::NAN; 100];
        numbers[7] = 1.0;
        assert_eq!(bound(&numbers, 2, &mut Vec::new()), f32::INFINITY);
    }
}
