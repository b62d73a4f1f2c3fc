//! Training codes on the rows of the collection, and making them.

use std::sync::Arc;

use super::GraphOptions;
use super::codes::{Codes, Fresh};
use crate::id::Row;
use crate::index::parallel::parallel_map;
use crate::index::{Executor, Points};
use crate::memory;
use crate::metric::Metric;
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
const MEASURED: usize = 4 * SAMPLE;

/// Codes are trained again when there are so many times more rows...
const GROWTH: usize = 4;

/// ...but not on their own once so many were seen: a larger collection gives
/// the same sample.
const SETTLED: usize = 1 << 16;

/// Rows that one task encodes in a piece.
const PIECE: usize = 64;

/// Codes are trained again too when so many times more rows were taken in since
/// than there are: the collection may have become another one. It was turned
/// over several times then, which took far longer than a training.
const TURNOVERS: usize = 4;

/// What codes were trained on, and what came since.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Training {
    /// Rows that there were.
    pub(super) rows: usize,
    /// Rows that were taken in since.
    pub(super) since: usize,
}

impl Training {
    /// Whether codes are out of date for a collection that comes to `rows`.
    pub(super) fn is_due(self, rows: usize) -> bool {
        let grown = self.rows < SETTLED && rows >= self.rows.saturating_mul(GROWTH);
        let turned_over = rows < SETTLED && self.since >= rows.saturating_mul(TURNOVERS);
        grown || turned_over
    }
}

/// Trains on some of `rows`, evenly spread. What codes they get is measured
/// anew while samples still grow; `before` says what was measured last.
pub(super) fn train(
    options: &GraphOptions,
    points: Points<'_>,
    rows: &[Row],
    before: Option<&Codes>,
) -> Arc<Codec> {
    let (dim, step) = (points.space.dim(), rows.len().div_ceil(SAMPLE).max(1));
    let mut samples = memory::list(rows.len().div_ceil(step) * dim);
    let mut prepared = Vec::new();
    for row in rows.iter().step_by(step) {
        points.space.prepare_row(points.vectors, *row, &mut prepared);
        samples.extend_from_slice(&prepared);
    }
    let centred = points.space.metric() != Metric::Dot;
    let shape = match options.coding {
        Coding::Fixed(shape) => shape,
        Coding::Measured => match before.filter(|codes| codes.training.rows >= MEASURED) {
            Some(codes) => codes.codec.shape(),
            None => choose(&samples, dim, centred, options.seed),
        },
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
            let row = row_of(*node);
            points.space.prepare_row(points.vectors, row, prepared);
            codec.encode(prepared, row, encoder, words);
        }
        words
    });
    Fresh { nodes, words: memory::joined(&parts), stride }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_due_after_growth_and_after_turnovers_but_not_for_a_large_collection() {
        let due = |rows, since, now| Training { rows, since }.is_due(now);
        assert!(due(256, 768, 1_024) && !due(256, 767, 1_023));
        assert!(due(1_000, 4_000, 1_000) && !due(1_000, 3_999, 1_000));
        assert!(due(50_000, 900, 225), "most rows are gone, and others came");
        assert!(!due(SETTLED, 10 * SETTLED, 10 * SETTLED) && !due(SETTLED, 10 * SETTLED, SETTLED));
    }
}
