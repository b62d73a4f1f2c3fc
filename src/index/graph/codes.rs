//! The codes of all nodes, in copy-on-write blocks, and distances by them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::layout::Layout;
use crate::bits::RowSet;
use crate::codec::{Decoder, Encoder, Malformed};
use crate::id::Row;
use crate::index::Defect;
use crate::index::cow::{BlockView, Blocks, Epoch, Versions};
use crate::index::measure::{Measure, RowMeasure};
use crate::index::training::Training;
use crate::kernel::{Arch, prefetch_one_of_many};
use crate::memory::{self, Memory};
use crate::quant::{self, CodeQuery, Codec, EntryPoints, ROW_WORD, row_of};

/// Nodes that are measured in one call.
const PART: usize = 32;

/// The codes as one version sees them.
#[derive(Clone, Debug)]
pub(super) struct Codes {
    pub(super) codec: Arc<Codec>,
    pub(super) training: Training,
    pub(super) blocks: BlockView,
}

impl Codes {
    /// The row of a held node.
    #[inline]
    pub(super) fn row(&self, node: Row) -> Row {
        row_of(self.blocks.bytes_of(node))
    }

    /// A code that names another row than the layout does.
    pub(super) fn audit(&self, held: &RowSet, layout: &Layout, defects: &mut Vec<Defect>) {
        let wrong = held.iter().filter(|node| self.row(*node) != layout.row(*node));
        memory::extend(defects, wrong.map(|node| Defect::Malformed(layout.row(node))));
    }

    pub(super) fn save(&self, held: &RowSet, out: &mut Encoder) {
        self.codec.save(out);
        out.size(self.training.rows);
        out.size(self.training.since);
        for node in held.iter() {
            out.words(self.blocks.block(node).iter().map(|word| word.load(Ordering::Relaxed)));
        }
    }

    pub(super) fn digest(&self, held: &RowSet) -> u64 {
        self.blocks.digest(held.iter(), self.codec.digest())
    }
}

/// The writer's side of the codes.
#[derive(Debug)]
pub(super) struct CodeBlocks {
    codec: Arc<Codec>,
    training: Training,
    blocks: Blocks,
}

impl CodeBlocks {
    /// The codes of `nodes`, given one after the other in `words`, by a codec that
    /// was trained on so many rows.
    pub(super) fn filled(codec: Arc<Codec>, rows: usize, nodes: &[Row], words: &[u32]) -> CodeBlocks {
        let mut blocks = Blocks::new(codec.shape().words());
        let epoch = Versions::default().begin();
        for (node, words) in nodes.iter().zip(words.chunks_exact(codec.shape().words())) {
            blocks.write(*node, words, epoch);
        }
        CodeBlocks { codec, training: Training { rows, since: 0 }, blocks }
    }

    /// Reads the codes of the nodes of `held`, of vectors of `dim` numbers.
    pub(super) fn load(
        dim: usize,
        held: &RowSet,
        layout: &Layout,
        input: &mut Decoder<'_>,
        epoch: Epoch,
    ) -> Result<CodeBlocks, Malformed> {
        let codec = Arc::new(Codec::load(dim, input)?);
        let training = Training { rows: input.size()?, since: input.size()? };
        let stride = codec.shape().words();
        let (mut blocks, mut words) = (Blocks::new(stride), Vec::new());
        for node in held.iter() {
            let fault = input.fault("a code names another row");
            words.clear();
            words.extend(input.words(stride)?);
            if words.get(ROW_WORD) != Some(&layout.row(node)) {
                return Err(fault);
            }
            blocks.write(node, &words, epoch);
        }
        Ok(CodeBlocks { codec, training, blocks })
    }

    pub(super) fn write(&mut self, fresh: &Fresh, epoch: Epoch) {
        for (node, words) in fresh.nodes.iter().zip(fresh.words.chunks_exact(fresh.stride)) {
            self.blocks.write(*node, words, epoch);
        }
        self.training.since = self.training.since.saturating_add(fresh.nodes.len());
    }

    pub(super) fn publish(&mut self, epoch: Epoch, versions: &Versions) -> Codes {
        Codes {
            codec: Arc::clone(&self.codec),
            training: self.training,
            blocks: self.blocks.publish(epoch, versions),
        }
    }

    /// The codes before any version shows them.
    pub(super) fn draft(&mut self) -> Codes {
        let mut versions = Versions::default();
        let epoch = versions.begin();
        self.publish(epoch, &versions)
    }

    /// True when further versions without a change would save nothing.
    pub(super) fn is_settled(&self) -> bool {
        self.blocks.is_settled()
    }

    /// The memory of all codes, for as long as somebody has it.
    pub(super) fn shared(&self) -> impl Iterator<Item = Weak<Memory>> + '_ {
        self.blocks.shared()
    }

    pub(super) fn bytes(&self) -> usize {
        self.blocks.bytes() + self.codec.bytes()
    }
}

/// Where the code of a node stands.
pub(super) trait CodeSource: Copy + Sync {
    fn code(&self, node: Row) -> &[u8];
}

impl CodeSource for &BlockView {
    #[inline]
    fn code(&self, node: Row) -> &[u8] {
        self.bytes_of(node)
    }
}

/// Codes of nodes that no version holds yet.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    /// Ascending.
    pub(super) nodes: Vec<Row>,
    pub(super) words: Vec<u32>,
    pub(super) stride: usize,
}

impl Fresh {
    /// Where a node stands. New rows often have numbers in one run.
    #[inline]
    fn find(&self, node: Row) -> usize {
        let first = self.nodes.first().copied().unwrap_or(node);
        let at = node.wrapping_sub(first) as usize;
        if self.nodes.get(at) == Some(&node) { at } else { self.nodes.partition_point(|other| *other < node) }
    }
}

/// The codes of a version and, for nodes that it does not hold, fresh ones.
#[derive(Clone, Copy)]
pub(super) struct Drafted<'a> {
    pub(super) blocks: &'a BlockView,
    pub(super) held: &'a RowSet,
    pub(super) fresh: &'a Fresh,
    /// The words of `fresh`.
    pub(super) bytes: &'a [u8],
}

impl CodeSource for Drafted<'_> {
    #[inline(always)]
    fn code(&self, node: Row) -> &[u8] {
        if self.held.contains(node) {
            return self.blocks.bytes_of(node);
        }
        let at = self.fresh.find(node);
        let stride = self.fresh.stride * size_of::<u32>();
        &self.bytes[at * stride..][..stride]
    }
}

/// Distances by codes: between nodes, or what the query was prepared for from a query.
#[derive(Clone, Copy)]
pub(super) struct Coded<'a, S, A> {
    pub(super) codec: &'a Codec,
    pub(super) source: S,
    /// The codec's.
    pub(super) arch: A,
    /// What is measured between nodes.
    pub(super) between: quant::Measure,
    /// Where walks of large graphs start.
    pub(super) entries: Option<&'a EntryPoints>,
}

impl<S: CodeSource, A: Arch> Measure for Coded<'_, S, A> {
    type Query = CodeQuery;
    type Arch = A;

    #[inline(always)]
    fn arch(&self) -> A {
        self.arch
    }

    #[inline]
    fn distance(&self, query: &CodeQuery, node: Row) -> f32 {
        let mut distance = [0.0];
        self.codec.estimates_on(self.arch, query, &[self.source.code(node)], &mut distance);
        distance[0]
    }

    #[inline(always)]
    fn distances(&self, query: &CodeQuery, nodes: &[Row], _bound: f32, distances: &mut [f32]) {
        for (nodes, distances) in nodes.chunks(PART).zip(distances.chunks_mut(PART)) {
            let mut codes: [&[u8]; PART] = [&[]; PART];
            for (code, node) in codes.iter_mut().zip(nodes) {
                *code = self.source.code(*node);
            }
            self.codec.estimates_on(self.arch, query, &codes[..nodes.len()], &mut distances[..nodes.len()]);
        }
    }

    #[inline(always)]
    fn prefetch(&self, node: Row) {
        prefetch_one_of_many(self.source.code(node));
    }

    #[inline(always)]
    fn entry_points(&self, query: &CodeQuery, estimates: &mut Vec<f32>, show: impl FnMut(Row)) -> bool {
        if let Some(entries) = self.entries {
            entries.nearest(self.arch, query, estimates, show);
        }
        self.entries.is_some()
    }
}

impl<S: CodeSource, A: Arch> RowMeasure for Coded<'_, S, A> {
    type Buffer = CodeQuery;

    fn row_query<'a>(&'a self, node: Row, buffer: &'a mut CodeQuery) -> &'a CodeQuery {
        self.codec.prepare_block_by(self.between, self.source.code(node), buffer);
        buffer
    }
}
