//! Lists that are trained anew while those before them are searched and changed.
//!
//! A whole training takes seconds where there are many rows, and what comes after
//! it waits. So each batch takes it some steps on: first the centres are found,
//! then product codes are trained, part by part, then rows go over to new lists, in
//! the order of their numbers; with the last row the new lists take over. How many
//! steps follows from the rows of the batch, so all of it is a function of the
//! log. The first lists of all are trained at once, and so are those of few rows
//! and what is put in order: see [`change`](super::change).

use std::sync::Arc;

use super::change::{file, lists_for, product_samples};
use super::coarse::{Coarse, ROUNDS, ROWS_A_LIST};
use super::drift::Drift;
use super::earlier::Shared;
use super::{Coder, Fresh, IvfOptions, IvfVersion, ListStorage, Lists, ListsView, MAX_LISTS, Trained};
use crate::bits::RowSet;
use crate::codec::{Decoder, Encoder, Malformed};
use crate::id::{Row, mix};
use crate::index::cow::{Epoch, Versions};
use crate::index::training::train_product_parts;
use crate::index::{Defect, Executor, Points};
use crate::memory;
use crate::quant::{ProductQuantizer, ProductShape, TrainedPart};

/// Rows that are looked at for each that a batch takes in: all rows once a round
/// and once more at the end, while a quarter of their number comes.
const STEPS_A_ROW: usize = 4 * (ROUNDS + 1);

/// Rows that are looked at for one batch: some 20 ms of work for centres of 784
/// numbers, twice as much for product codes of 256 centres...
const STEPS_MOST: usize = 4_096;

/// ...but so many for each row of a large one, which takes its time anyway: lists
/// are to keep up with rows that come in bulk.
const STEPS_IN_BULK: usize = 16;

/// Batches in which the parts of product codes are trained.
const CODE_STEPS: usize = 16;

/// A batch trains one more sixteenth of the parts for each so many rows.
const CODE_ROWS: usize = 256;

/// A training under way, as one version sees it.
#[derive(Clone)]
pub(super) struct Renewal {
    began: Began,
    stage: Stage,
}

/// The index when it began.
#[derive(Clone)]
pub(super) struct Began {
    rows: usize,
    /// Rows that were taken in since the training before.
    since: usize,
    /// Rows that came later: whether they differ shows once all is trained.
    later: Arc<RowSet>,
}

/// What rows lose by their codes, or how far they are from their centres.
#[derive(Clone, Copy, Default)]
struct Loss {
    rows: usize,
    /// Summed squares.
    errors: f64,
}

#[derive(Clone)]
enum Stage {
    Centres(Arc<Rounds>),
    Codes(Arc<Coarse>, Arc<Vec<TrainedPart>>),
    Lists(Box<Carried>),
}

/// Rounds of Lloyd's algorithm.
struct Rounds {
    coarse: Arc<Coarse>,
    /// That are over.
    rounds: usize,
    /// Rows that were looked at in this round, ascending, and the list of each
    /// with the distance of its centre.
    seen: Vec<Row>,
    nearest: Vec<(u32, f32)>,
}

/// Lists that hold the rows below one: all that the index holds of these.
#[derive(Clone)]
struct Carried {
    trained: Arc<Trained>,
    lists: ListsView,
    next: Row,
    /// Of the rows that went over: those that there were when it began, and later ones.
    losses: [Loss; 2],
}

/// What a batch does for a training that is under way, or begins it.
pub(super) enum Step {
    /// There is none.
    Rests,
    Trains(Renewal),
    /// All is trained, and rows can go over.
    Opens {
        began: Began,
        trained: Arc<Trained>,
    },
    /// Rows go over: the training after that.
    Carries {
        fresh: Fresh,
        renewal: Renewal,
        ends: bool,
    },
}

/// What a step works on: the rows are those after the batch.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    pub(super) points: Points<'a>,
    pub(super) held: &'a RowSet,
    /// Rows that the batch takes in, and that it lets go.
    pub(super) absorb: &'a [Row],
    pub(super) forget: &'a [Row],
    pub(super) executor: &'a dyn Executor,
}

impl Work<'_> {
    fn steps(&self) -> usize {
        let rows = self.absorb.len();
        (rows * STEPS_A_ROW).min(STEPS_MOST.max(rows * STEPS_IN_BULK))
    }

    fn rows(&self) -> Vec<Row> {
        memory::collect(self.held.iter())
    }
}

/// Begins a training, when so many rows were taken in since the one before.
pub(super) fn begin(options: &IvfOptions, since: usize, work: Work<'_>) -> Step {
    let (began, all) = (Began { rows: work.held.len(), since, later: Arc::default() }, work.rows());
    let drawn = (!options.is_exhaustive())
        .then(|| Coarse::drawn(work.points, &all, lists_for(options, began.rows), options.seed))
        .flatten();
    match drawn {
        Some(coarse) => {
            let (seen, nearest) = (Vec::new(), Vec::new());
            let rounds = Rounds { coarse: Arc::new(coarse), rounds: 0, seen, nearest };
            Step::Trains(Renewal { began, stage: Stage::Centres(Arc::new(rounds)) })
        }
        None => centred(options, began, Arc::new(options.one_centre(work.points, &all))),
    }
}

/// Goes on with one.
pub(super) fn go_on(version: &IvfVersion, renewal: &Renewal, work: Work<'_>) -> Step {
    let (options, began) = (&version.options, renewal.began.after(work));
    match &renewal.stage {
        Stage::Centres(rounds) => {
            let (mut rounds, mut left) = rounds.after(options, work.steps(), work);
            while left > 0 && rounds.rounds < ROUNDS {
                (rounds, left) = rounds.after(options, left, work);
            }
            if rounds.rounds == ROUNDS {
                return centred(options, began, rounds.coarse);
            }
            Step::Trains(Renewal { began, stage: Stage::Centres(Arc::new(rounds)) })
        }
        Stage::Codes(coarse, parts) => match options.storage {
            _ if work.steps() == 0 => Step::Trains(Renewal { began, stage: renewal.stage.clone() }),
            ListStorage::Product(shape) => train_parts(options, shape, began, (coarse, parts), work),
            _ => Step::Rests,
        },
        Stage::Lists(carried) => carried.after(options, began, work),
    }
}

/// Once the centres are there.
fn centred(options: &IvfOptions, began: Began, coarse: Arc<Coarse>) -> Step {
    match options.untrained() {
        Some(coder) => Step::Opens { began, trained: Arc::new(Trained { coarse, coder }) },
        None => Step::Trains(Renewal { began, stage: Stage::Codes(coarse, Arc::default()) }),
    }
}

fn train_parts(
    options: &IvfOptions,
    shape: ProductShape,
    began: Began,
    (coarse, parts): (&Arc<Coarse>, &[TrainedPart]),
    work: Work<'_>,
) -> Step {
    let Work { points, executor, .. } = work;
    let dim = points.space.dim();
    let samples = product_samples(options, shape, coarse, points, &work.rows(), executor);
    let shares = 1 + work.absorb.len() / CODE_ROWS;
    let more = (shape.num_subquantizers * shares).div_ceil(CODE_STEPS);
    let due = parts.len()..shape.num_subquantizers.min(parts.len() + more);
    let mut parts = memory::copied(parts);
    memory::extend(&mut parts, train_product_parts(&samples, dim, shape, (due, options.seed), executor));
    let coarse = Arc::clone(coarse);
    if parts.len() < shape.num_subquantizers {
        return Step::Trains(Renewal { began, stage: Stage::Codes(coarse, Arc::new(parts)) });
    }
    let coder = Coder::Product(ProductQuantizer::of_parts(dim, shape, parts));
    Step::Opens { began, trained: Arc::new(Trained { coarse, coder }) }
}

impl Rounds {
    /// After at most so many more rows, and how many of these were not needed: with
    /// the last row of a round the centres move.
    fn after(&self, options: &IvfOptions, steps: usize, work: Work<'_>) -> (Rounds, usize) {
        let Work { points, held, executor, .. } = work;
        let coarse = &self.coarse;
        let thin = held.len().div_ceil(coarse.lists() * ROWS_A_LIST).max(1) as u64;
        let is_sample = |row: &Row| mix(options.seed ^ u64::from(*row)).is_multiple_of(thin);
        let next = self.seen.last().map_or(0, |row| row + 1);
        let more: Vec<Row> = memory::collect(held.iter_from(next).filter(is_sample).take(steps));
        let mut nearest = memory::copied(&self.nearest);
        memory::extend(&mut nearest, coarse.nearest_of(points, &more, executor));
        let mut seen = memory::copied(&self.seen);
        memory::extend(&mut seen, more.iter().copied());
        if more.len() == steps {
            return (Rounds { coarse: Arc::clone(coarse), rounds: self.rounds, seen, nearest }, 0);
        }
        // Rows that are gone by now do not count.
        let (mut rows, mut lists) = (Vec::new(), Vec::new());
        for (row, list) in seen.iter().zip(&nearest).filter(|(row, _)| held.contains(**row)) {
            memory::push(&mut rows, *row);
            memory::push(&mut lists, *list);
        }
        let moved = coarse.moved(points, &rows, &lists, executor);
        let moved = if self.rounds + 1 == ROUNDS { moved.coded() } else { moved };
        let rounds = Rounds {
            coarse: Arc::new(moved),
            rounds: self.rounds + 1,
            seen: Vec::new(),
            nearest: Vec::new(),
        };
        // A round of no rows is over as well.
        (rounds, steps - more.len())
    }
}

impl Began {
    fn after(&self, work: Work<'_>) -> Began {
        let later = self.later.after(work.forget, work.absorb);
        Began { rows: self.rows, since: self.since, later: Arc::new(later) }
    }
}

impl Loss {
    fn after(self, fresh: &Fresh) -> Loss {
        Loss { rows: self.rows.saturating_add(fresh.rows.len()), errors: self.errors + fresh.errors }
    }

    fn mean(self) -> f64 {
        self.errors / self.rows.max(1) as f64
    }

    fn save(self, out: &mut Encoder) {
        out.size(self.rows);
        out.u64(self.errors.to_bits());
    }

    fn load(input: &mut Decoder<'_>) -> Result<Loss, Malformed> {
        Ok(Loss { rows: input.size()?, errors: f64::from_bits(input.u64()?) })
    }
}

impl Carried {
    fn after(&self, options: &IvfOptions, began: Began, work: Work<'_>) -> Step {
        let steps = work.steps();
        let mut rows: Vec<Row> = memory::collect(work.held.iter_from(self.next).take(steps));
        let ends = rows.len() < steps;
        let next = if ends { Row::MAX } else { rows.last().map_or(self.next, |row| row + 1) };
        // Rows of the batch beyond will be met on the way.
        memory::extend(&mut rows, work.absorb.iter().copied().filter(|row| *row < self.next));
        let (mut fresh, mut losses) = (Fresh::default(), self.losses);
        for (loss, is_later) in losses.iter_mut().zip([false, true]) {
            let some =
                memory::collect(rows.iter().copied().filter(|row| began.later.contains(*row) == is_later));
            let filed = file(options, &self.trained, work.points, some, work.executor);
            *loss = loss.after(&filed);
            fresh.append(filed);
        }
        let stage = Stage::Lists(Box::new(Carried { next, losses, ..self.clone() }));
        Step::Carries { fresh, renewal: Renewal { began, stage }, ends }
    }
}

impl Renewal {
    /// One whose first rows can go over, and its lists.
    pub(super) fn open(
        options: &IvfOptions,
        (began, trained): (Began, Arc<Trained>),
        epoch: Epoch,
        versions: &Versions,
    ) -> (Renewal, Lists) {
        let mut lists = Lists::new(options.storage, trained.coarse.lists());
        let view = lists.publish(epoch, versions);
        let carried = Carried { trained, lists: view, next: 0, losses: Default::default() };
        (Renewal { began, stage: Stage::Lists(Box::new(carried)) }, lists)
    }

    /// With lists as they are now.
    pub(super) fn show(&mut self, lists: ListsView) {
        if let Stage::Lists(carried) = &mut self.stage {
            carried.lists = lists;
        }
    }

    /// What was trained for lists as they are now, and how far rows have drifted since
    /// it began, when so many had come since the training before. What is compared
    /// is what lists are to the rows that there were then.
    pub(super) fn outcome(&self, since: usize, lists: &ListsView) -> Option<(Arc<Trained>, Drift)> {
        let Stage::Lists(carried) = &self.stage else { return None };
        let Began { rows, since: before, later } = &self.began;
        let known = |list| lists.rows(list).filter(|row| !later.contains(*row)).count() as u32;
        let counts: Vec<u32> = memory::collect((0..lists.lists() as u32).map(known));
        let [error, error_later] = carried.losses.map(Loss::mean);
        let since = since.saturating_sub(*before);
        let drift = Drift::trained(*rows, error * *rows as f64, &counts);
        Some((Arc::clone(&carried.trained), drift.after(since, error_later * since as f64)))
    }

    /// Bytes beside the lists and what was trained.
    pub(super) fn bytes(&self) -> usize {
        self.began.later.bytes()
    }

    /// What it has trained so far.
    pub(super) fn share(&self, shared: &mut Shared) {
        match &self.stage {
            Stage::Centres(rounds) => {
                let seen = rounds.seen.capacity() * size_of::<Row>();
                shared.add(rounds, seen + rounds.nearest.capacity() * size_of::<(u32, f32)>());
                shared.coarse(&rounds.coarse);
            }
            Stage::Codes(coarse, parts) => {
                shared.add(parts, parts.iter().map(TrainedPart::bytes).sum());
                shared.coarse(coarse);
            }
            Stage::Lists(carried) => shared.trained(&carried.trained),
        }
    }

    pub(super) fn audit(&self, held: &RowSet, defects: &mut Vec<Defect>) {
        let later = self.began.later.iter().filter(|row| !held.contains(*row));
        memory::extend(defects, later.map(Defect::Membership));
        if let Stage::Lists(carried) = &self.stage {
            carried.lists.audit(&below(held, carried.next), defects);
        }
    }

    pub(super) fn digest(&self) -> u64 {
        let digest = match &self.stage {
            Stage::Centres(rounds) => {
                let lists = rounds.seen.iter().zip(&rounds.nearest);
                let seen = lists.fold(rounds.rounds as u64, |hash, (row, (list, _))| {
                    mix(hash ^ u64::from(*row) << 32 ^ u64::from(*list))
                });
                rounds.coarse.digest() ^ seen
            }
            Stage::Codes(coarse, parts) => coarse.digest() ^ parts.len() as u64,
            Stage::Lists(carried) => {
                carried.lists.digest() ^ carried.trained.coarse.digest() ^ u64::from(carried.next)
            }
        };
        mix(digest ^ self.began.rows as u64 ^ (self.began.since as u64) << 32)
    }

    pub(super) fn save(&self, options: &IvfOptions, out: &mut Encoder) {
        out.size(self.began.rows);
        out.size(self.began.since);
        out.size(self.began.later.len());
        out.words(self.began.later.iter());
        match &self.stage {
            Stage::Centres(rounds) => {
                out.u8(1);
                rounds.coarse.save(out);
                out.size(rounds.rounds);
                out.size(rounds.seen.len());
                out.words(rounds.seen.iter().copied());
                out.words(rounds.nearest.iter().map(|(list, _)| *list));
                rounds.nearest.iter().for_each(|(_, distance)| out.f32(*distance));
            }
            Stage::Codes(coarse, parts) => {
                out.u8(2);
                coarse.save(out);
                out.size(parts.len());
                if let ListStorage::Product(shape) = options.storage {
                    parts.iter().for_each(|part| part.save(shape, out));
                }
            }
            Stage::Lists(carried) => {
                out.u8(3);
                carried.trained.save(out);
                out.u32(carried.next);
                carried.losses.iter().for_each(|loss| loss.save(out));
                carried.lists.save(out);
            }
        }
    }

    /// Reads what [`Renewal::save`] wrote of an index that holds `held`, and its lists.
    pub(super) fn load(
        options: &IvfOptions,
        dim: usize,
        held: &RowSet,
        input: &mut Decoder<'_>,
        (epoch, versions): (Epoch, &Versions),
    ) -> Result<(Renewal, Option<Lists>), Malformed> {
        let began = Began::load(held, input)?;
        let tag = input.u8()?;
        input.check((1..=3).contains(&tag), "there is no such stage of a training")?;
        let (stage, lists) = match (tag, options.storage) {
            (1, _) => (Stage::Centres(Arc::new(Rounds::load(dim, input)?)), None),
            (2, ListStorage::Product(shape)) => {
                let coarse = Arc::new(Coarse::load(dim, MAX_LISTS, input)?);
                let count = input.size()?;
                input.check(count < shape.num_subquantizers, "more parts are trained than there are")?;
                let mut parts = Vec::new();
                for at in 0..count {
                    memory::push(&mut parts, TrainedPart::load(dim, shape, at, input)?);
                }
                (Stage::Codes(coarse, Arc::new(parts)), None)
            }
            (2, _) => return Err(input.fault("these lists have no product codes")),
            _ => {
                let trained = Arc::new(Trained::load(options, dim, input)?);
                let next = input.u32()?;
                let losses = [Loss::load(input)?, Loss::load(input)?];
                let held = below(held, next);
                let mut lists = Lists::load(options.storage, trained.coarse.lists(), &held, input, epoch)?;
                let view = lists.publish(epoch, versions);
                (Stage::Lists(Box::new(Carried { trained, lists: view, next, losses })), Some(lists))
            }
        };
        Ok((Renewal { began, stage }, lists))
    }
}

impl Began {
    fn load(held: &RowSet, input: &mut Decoder<'_>) -> Result<Began, Malformed> {
        let (rows, since, count) = (input.size()?, input.size()?, input.size()?);
        let fault = input.fault("a row that came later is not held, or twice");
        let mut later = RowSet::default();
        for row in input.words(count)? {
            if !held.contains(row) || !later.insert(row) {
                return Err(fault);
            }
        }
        Ok(Began { rows, since, later: Arc::new(later) })
    }
}

impl Rounds {
    fn load(dim: usize, input: &mut Decoder<'_>) -> Result<Rounds, Malformed> {
        let coarse = Coarse::load(dim, MAX_LISTS, input)?;
        let rounds = input.size()?;
        input.check(rounds < ROUNDS, "there are too many rounds")?;
        let count = input.size()?;
        let seen: Vec<Row> = memory::collect(input.words(count)?);
        let ascends = seen.is_sorted_by(|a, b| a < b) && seen.last().is_none_or(|row| *row < Row::MAX);
        input.check(ascends, "rows that were looked at stand in no order")?;
        let lists: Vec<u32> = memory::collect(input.words(count)?);
        let known = lists.iter().all(|list| (*list as usize) < coarse.lists());
        input.check(known, "a row is in no list")?;
        let nearest = memory::collect(lists.into_iter().zip(input.floats(count)?));
        Ok(Rounds { coarse: Arc::new(coarse), rounds, seen, nearest })
    }
}

/// The rows below one.
fn below(held: &RowSet, next: Row) -> RowSet {
    let mut rows = RowSet::default();
    held.iter().take_while(|row| *row < next).for_each(|row| _ = rows.insert(row));
    rows
}
