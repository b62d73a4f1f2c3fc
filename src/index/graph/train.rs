//! Training codes on the rows of the collection, and making them.

use std::sync::Arc;

use super::GraphOptions;
use super::codes::Fresh;
use crate::id::Row;
use crate::index::parallel::parallel_map;
use crate::index::training::sample;
use crate::index::{Executor, Points};
use crate::memory;
use crate::metric::Metric;
use crate::pause::pause;
use crate::quant::{Codec, Encoder, Shape, choose};

/// Which codes rows get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// The smallest ones that tell near rows from far ones: see
    /// [`choose`](fn@choose).
    Measured,
    /// As the caller says.
    Fixed(Shape),
}

/// Rows that codes are trained on: several for each principal direction kept,
/// and half a second of work for 784 dimensions.
const SAMPLE: usize = 4_096;

/// Rows from which on another measurement of the codes would see a sample of
/// the same size.
pub(super) const MEASURED: usize = 4 * SAMPLE;

/// Codes are not trained again on their own once so many rows were seen: a
/// larger collection gives the same sample.
pub(super) const SETTLED: usize = 1 << 16;

/// Rows that one task encodes in a piece.
const PIECE: usize = 64;

/// Trains on some of `rows`, evenly spread, codes of the shape that was
/// `measured`, or measures which shape suits them.
pub(in crate::index) fn train(
    options: &GraphOptions,
    points: Points<'_>,
    rows: &[Row],
    measured: Option<Shape>,
) -> Arc<Codec> {
    let dim = points.space.dim();
    let samples = sample(points, rows, SAMPLE);
    let centred = points.space.metric() != Metric::Dot;
    let shape = match options.coding {
        Coding::Fixed(shape) => shape,
        Coding::Measured => measured.unwrap_or_else(|| choose(&samples, dim, centred, options.seed)),
    };
    Arc::new(Codec::train(&samples, dim, shape, centred, options.seed))
}

/// The codes of rows, in parallel; `nodes` are theirs, ascending.
pub(super) fn encode(
    codec: &Codec,
    points: Points<'_>,
    nodes: Vec<Row>,
    row_of: &(dyn Fn(Row) -> Row + Sync),
    executor: &dyn Executor,
) -> Fresh {
    let stride = codec.shape().words();
    let mut workers: Vec<(Encoder, Vec<f32>)> = Vec::new();
    workers.resize_with(executor.width().max(1), Default::default);
    let pieces = nodes.len().div_ceil(PIECE);
    let parts = parallel_map(executor, pieces, &mut workers, |piece, (encoder, prepared)| {
        let nodes = &nodes[piece * PIECE..nodes.len().min((piece + 1) * PIECE)];
        let mut words = memory::filled(0, nodes.len() * stride);
        for (node, words) in nodes.iter().zip(words.chunks_exact_mut(stride)) {
            pause();
            let row = row_of(*node);
            points.space.prepare_row(points.vectors, row, prepared);
            codec.encode(prepared, row, encoder, words);
        }
        words
    });
    Fresh { nodes, words: memory::joined(&parts), stride }
}
