//! What a batch does: rows find their lists, and a training goes on beside.

use std::sync::Arc;

use super::coarse::{CODEC_ROWS, Coarse, CoarseScratch, PIECE, Prepared, piece_of};
use super::drift::Drift;
use super::renewal::{self, Step, Work};
use super::{Coder, Filed, Fresh, IvfOptions, IvfVersion, ListStorage, Lists, MAX_LISTS, Trained};
use crate::id::Row;
use crate::index::parallel::{parallel_map, parallel_waves};
use crate::index::training::{GROWTH, Training, sample, train_product};
use crate::index::{Batch, Executor, Points};
use crate::memory::{collect, copied, extend, lengthen, list, push, resize};
use crate::metric::Metric;
use crate::quant::{MAX_TRAINED, ProductQuantizer, ProductShape, SignFactors, Turned};
use crate::vector::Space;

/// Rows from which on lists pay: fewer are scanned in the time that a query
/// takes to find its lists.
const LEAST_ROWS: usize = 1_024;

/// Rows below which the lists that there are go: the memory is given back.
pub(crate) const LEAST_FILED: usize = LEAST_ROWS / 4;

/// Rows up to which all of a training is done in one batch: it takes at most twice as
/// long as the first, and so few rows may become others in few batches.
const AT_ONCE: usize = 2 * LEAST_ROWS;

/// Rows that a list should have on average when lists are made: below it
/// centres are no means.
pub(crate) const ROWS_A_LIST: usize = 32;

/// So many times the root of the number of rows is the number of lists when
/// nobody says it: the rule of faiss's guide.
const LISTS_A_ROOT: f64 = 4.0;

/// A computed change.
pub(super) enum Change {
    /// Rows of an index that has no lists, or has none any more.
    Set { absorb: Vec<Row>, forget: Vec<Row> },
    /// Rows for the lists that there are, and what comes after them.
    Filed { fresh: Box<Fresh>, forget: Vec<Row>, step: Box<Step> },
    /// New lists of all rows.
    Trained { trained: Arc<Trained>, drift: Drift, lists: Box<Lists>, absorb: Vec<Row>, forget: Vec<Row> },
}

pub(super) fn change(
    version: &IvfVersion,
    points: Points<'_>,
    batch: &Batch<'_>,
    executor: &dyn Executor,
) -> Change {
    let (absorb, forget) = (copied(batch.absorb), copied(batch.forget));
    let count = version.held.len() + absorb.len() - forget.len();
    let is_due = |filed| batch.renews && is_outdated(&version.options, filed, count);
    let trains_now = match &version.filed {
        None => true,
        Some(_) if version.renewal.is_some() => batch.optimize || batch.renews && count <= AT_ONCE,
        Some(filed) if batch.optimize => filed.drift.training != Training { rows: count, since: 0 },
        Some(_) if count > AT_ONCE => false,
        Some(filed) => is_due(filed),
    };
    if trains_now && count >= LEAST_ROWS {
        return train_now(&version.options, points, (version, absorb, forget), executor);
    }
    // So few rows give the memory of their lists back.
    let too_few = if batch.optimize { LEAST_ROWS } else { LEAST_FILED };
    match &version.filed {
        None => Change::Set { absorb, forget },
        Some(_) if count < too_few => Change::Set { absorb, forget },
        Some(filed) => {
            let held = version.held.after(&forget, &absorb);
            let work = Work { points, held: &held, absorb: &absorb, forget: &forget, executor };
            let step = match &version.renewal {
                Some(renewal) => renewal::go_on(version, renewal, work),
                None if is_due(filed) => {
                    let since = filed.drift.training.since.saturating_add(absorb.len());
                    renewal::begin(&version.options, since, work)
                }
                None => Step::Rests,
            };
            let fresh = file(&version.options, &filed.trained, points, absorb, executor);
            Change::Filed { fresh: Box::new(fresh), forget, step: Box::new(step) }
        }
    }
}

/// Whether lists are out of date for so many rows.
fn is_outdated(options: &IvfOptions, filed: &Filed, count: usize) -> bool {
    filed.drift.is_due(count, filed.lists.counts(), enough(options, filed, count))
}

/// Rows that lists were trained on when more of the same kind would give much the same ones: as many
/// as give good means and directions, and half of those that product codes look at. None are enough
/// where more lists are due, nor of short vectors, which are trained on in little time (product codes
/// of GloVe lost 1.5 points of recall).
fn enough(options: &IvfOptions, filed: &Filed, count: usize) -> usize {
    let (coarse, lists) = (&filed.trained.coarse, filed.trained.coarse.lists());
    if coarse.is_short() || !options.is_exhaustive() && lists_for(options, count) > lists {
        return usize::MAX;
    }
    let codes = match options.storage {
        ListStorage::Product(shape) => shape.samples() / 2,
        _ => 0,
    };
    codes.max(CODEC_ROWS).max(lists * ROWS_A_LIST)
}

/// Whether centres are good enough to begin from. Only once there are twice as many rows:
/// lists that are put in order again and again while rows change are made of nothing else
/// each time, and never grow old. And only until there are four times as many: centres of few rows
/// are none of many.
fn go_on_from(options: &IvfOptions, filed: &Filed, count: usize) -> bool {
    let training = filed.drift.training;
    training.has_grown(count, 2) && !training.has_grown(count, GROWTH) && !is_outdated(options, filed, count)
}

/// All of a training at once: the first, of few rows, or one that was asked for.
fn train_now(
    options: &IvfOptions,
    points: Points<'_>,
    (version, absorb, forget): (&IvfVersion, Vec<Row>, Vec<Row>),
    executor: &dyn Executor,
) -> Change {
    let rows: Vec<Row> = collect(version.held.after(&forget, &absorb).iter());
    let count = rows.len();
    let from = version.filed.as_ref().filter(|filed| go_on_from(options, filed, count));
    let trained = train(options, points, (&rows, from.map(|filed| &*filed.trained.coarse)), executor);
    let fresh = file(options, &trained, points, rows, executor);
    let lists = Lists::filled(options.storage, trained.coarse.lists(), &fresh);
    let drift = Drift::trained(count, fresh.errors, lists.counts());
    Change::Trained { trained: Arc::new(trained), drift, lists: Box::new(lists), absorb, forget }
}

/// Lists for so many rows.
pub(super) fn lists_for(options: &IvfOptions, rows: usize) -> usize {
    let wanted = options.nlist.unwrap_or((LISTS_A_ROOT * (rows as f64).sqrt()) as usize);
    wanted.min(rows / ROWS_A_LIST).clamp(1, MAX_LISTS)
}

/// Trains on rows, from the centres of lists that are not out of date if there are as many.
fn train(
    options: &IvfOptions,
    points: Points<'_>,
    (rows, from): (&[Row], Option<&Coarse>),
    executor: &dyn Executor,
) -> Trained {
    let lists = lists_for(options, rows.len());
    let coarse =
        match from.filter(|from| from.lists() == lists && lists > 1 && points.space.dim() <= MAX_TRAINED) {
            _ if options.is_exhaustive() => options.one_centre(points, rows),
            Some(from) => from.train_on(points, rows, options.seed, executor),
            None => Coarse::train(points, rows, lists, options.seed, executor),
        };
    let coder = match (options.untrained(), options.storage) {
        (None, ListStorage::Product(shape)) => {
            let samples = product_samples(options, shape, &coarse, points, rows, executor);
            Coder::Product(train_product(&samples, points.space.dim(), shape, options.seed, executor))
        }
        (coder, _) => coder.unwrap_or(Coder::None),
    };
    Trained { coarse: Arc::new(coarse), coder }
}

/// What product codes are trained on: rows, or what they differ from their centres by.
pub(super) fn product_samples(
    options: &IvfOptions,
    shape: ProductShape,
    coarse: &Coarse,
    points: Points<'_>,
    rows: &[Row],
    executor: &dyn Executor,
) -> Vec<f32> {
    let mut samples = sample(points, rows, shape.samples());
    if options.is_residual() {
        let (dim, pieces) = (points.space.dim(), samples.len().div_ceil(PIECE * points.space.dim()));
        let mut workers: Vec<CoarseScratch> = Vec::new();
        lengthen(&mut workers, executor.width().max(1));
        let nearest: Vec<Vec<(u32, f32)>> = parallel_map(executor, pieces, &mut workers, |piece, scratch| {
            let vectors = &samples[piece * PIECE * dim..samples.len().min((piece + 1) * PIECE * dim)];
            let mut nearest = Vec::new();
            coarse.nearest_each(vectors, scratch, &mut nearest);
            nearest
        });
        for (vector, (list, _)) in samples.chunks_exact_mut(dim).zip(nearest.into_iter().flatten()) {
            subtract(vector, coarse.centre(list as usize));
        }
    }
    samples
}

fn subtract(vector: &mut [f32], other: &[f32]) {
    vector.iter_mut().zip(other).for_each(|(x, y)| *x -= y);
}

/// Working memory for the rows of a batch.
#[derive(Default)]
struct Clerk {
    prepared: Prepared,
    decoded: Vec<f32>,
    errors: Vec<f32>,
    turned: Turned,
}

/// Finds the lists of rows and makes their codes, in parallel.
pub(super) fn file(
    options: &IvfOptions,
    trained: &Trained,
    points: Points<'_>,
    rows: Vec<Row>,
    executor: &dyn Executor,
) -> Fresh {
    let mut clerks: Vec<Clerk> = Vec::new();
    lengthen(&mut clerks, executor.width().max(1));
    let (count, storage) = (rows.len(), options.storage);
    let column = |at: usize| list(if storage.columns() > at { count } else { 0 });
    let mut fresh = Fresh {
        lists: list(count),
        biases: column(0),
        factors: column(1),
        codes: list(count * storage.codes()),
        ..Fresh::default()
    };
    let work = |piece: usize, clerk: &mut Clerk| {
        trained.coarse.prepare(points, piece_of(&rows, piece), &mut clerk.prepared);
        file_piece(options, trained, points.space, clerk)
    };
    parallel_waves(executor, count.div_ceil(PIECE), &mut clerks, work, |part| fresh.append(part));
    Fresh { rows, ..fresh }
}

/// Files the rows that were prepared.
fn file_piece(options: &IvfOptions, trained: &Trained, space: &Space, clerk: &mut Clerk) -> Fresh {
    let Clerk { prepared: Prepared { rows, nearest, .. }, turned, .. } = clerk;
    let mut part = Fresh::default();
    extend(&mut part.lists, nearest.iter().map(|(list, _)| *list));
    part.errors = nearest.iter().map(|(_, distance)| f64::from(*distance)).sum();
    let size = options.storage.codes();
    resize(&mut part.codes, nearest.len() * size, 0);
    match &trained.coder {
        Coder::None => {}
        Coder::Rounded(rounded) => {
            for (row, codes) in rows.chunks_exact(space.dim()).zip(part.codes.chunks_exact_mut(size)) {
                let words = rounded.encode(row).into_iter();
                codes.iter_mut().zip(words.flat_map(u32::to_ne_bytes)).for_each(|(code, byte)| *code = byte);
            }
        }
        Coder::Signs(signs) => {
            let rows = rows.chunks_exact(space.dim()).zip(&part.lists);
            for ((row, list), codes) in rows.zip(part.codes.chunks_exact_mut(size)) {
                let centre = trained.coarse.centre(*list as usize);
                let SignFactors { bias, factor } = signs.encode(row, centre, turned, codes);
                push(&mut part.biases, if space.metric() == Metric::Dot { 0.0 } else { bias });
                push(&mut part.factors, factor);
            }
        }
        Coder::Product(product) => {
            file_products(options, (product, &trained.coarse), space, clerk, &mut part)
        }
    }
    part
}

/// Gives the rows of a part their product codes, and what these add to estimates.
fn file_products(
    options: &IvfOptions,
    (product, coarse): (&ProductQuantizer, &Coarse),
    space: &Space,
    clerk: &mut Clerk,
    part: &mut Fresh,
) {
    let Clerk { prepared: Prepared { rows, .. }, decoded, errors, .. } = clerk;
    let Fresh { lists, codes, biases, .. } = part;
    let centres = lists.iter().map(|list| coarse.centre(*list as usize));
    if options.is_residual() {
        rows.chunks_exact_mut(space.dim())
            .zip(centres.clone())
            .for_each(|(row, centre)| subtract(row, centre));
    }
    resize(errors, lists.len(), 0.0);
    product.encode_many(rows, codes, errors);
    part.errors = errors.iter().map(|error| f64::from(*error)).sum();
    // What stands for vectors themselves is known to the tables.
    if space.metric() == Metric::Dot || !options.is_residual() {
        return resize(biases, lists.len(), 0.0);
    }
    for (codes, centre) in codes.chunks_exact(options.storage.codes()).zip(centres) {
        product.decode(codes, decoded);
        push(biases, bias(decoded, centre));
    }
}

/// What the codes of a row add to its estimate.
fn bias(decoded: &[f32], centre: &[f32]) -> f32 {
    let squared: f32 = decoded.iter().map(|r| r * r).sum();
    let twice: f32 = decoded.iter().zip(centre).map(|(r, c)| 2.0 * r * c).sum();
    squared + twice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_as_many_as_was_said_or_follow_the_root_of_the_rows() {
        let storage = ListStorage::Vectors;
        let options = |nlist| IvfOptions { nlist, storage, residual: false, oversample: Some(1), seed: 1 };
        assert_eq!(lists_for(&options(None), 10_000), 312);
        assert_eq!(lists_for(&options(None), 1_000_000), 4_000);
        assert_eq!(lists_for(&options(Some(100)), 10_000), 100);
        assert_eq!(lists_for(&options(Some(1_000)), 10_000), 312, "a list has 32 rows");
        assert_eq!((lists_for(&options(Some(1)), 10), lists_for(&options(None), 0)), (1, 1));
    }
}
