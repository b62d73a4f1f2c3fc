//! Bytes that a record takes at most: what budgets reckon with.

use super::{CollectionConfig, GraphConfig, IndexSpec, defaults};
use crate::coordinator::ENTRY_BYTES_MOST;
use crate::index::{Copying, ListStorage};
use crate::rows::CELL_BYTES;
use crate::shard::IndexSizes;
use crate::vector::VectorStorage;

impl CollectionConfig {
    /// Bytes of an index for a record.
    pub(in crate::engine) fn index_sizes(&self) -> IndexSizes {
        const WORD: usize = size_of::<u32>();
        // Where blocks stand, and numbers of rows.
        const PLACES: usize = 4 * WORD;
        // Blocks that moved have a quarter more places than they need.
        let elsewhere = |bytes: usize| bytes + bytes / 4 + PLACES;
        match self.index {
            // Codes for sifting, of at most five lines.
            IndexSpec::Flat => {
                let codes = code_bytes_most(self.dimension, 5);
                let codec = self.dimension * (2 * codes + 2 * WORD);
                let (row, anew) = (codes + PLACES, 3 * codes + PLACES);
                IndexSizes { codec, row, anew, moved: elsewhere(codes), ..IndexSizes::default() }
            }
            // Laid anew: links once; codes by the piece, together, and in blocks.
            IndexSpec::Graph(GraphConfig { degree, code_bytes, .. }) => {
                let codes = code_bytes.unwrap_or_else(|| code_bytes_most(self.dimension, 4));
                let codec = self.dimension * (2 * codes + 2 * WORD);
                let (row, anew) = (degree * WORD + codes + PLACES, degree * WORD + 3 * codes + 2 * PLACES);
                IndexSizes { codec, row, anew, moved: elsewhere(degree * WORD), ..IndexSizes::default() }
            }
            IndexSpec::Hnsw(graph) => {
                let copying = graph.quantization.copies(self.dimension);
                let copies = copying.map_or(0, |copying| copying.words() * WORD);
                let row = (2 * graph.m + 4) * WORD + copies + 3 * PLACES;
                let mut sizes = IndexSizes { row, moved: elsewhere(row), ..IndexSizes::default() };
                if let Some(Copying::Codes(_)) = copying {
                    // Trained anew: by the piece, together, and in blocks. At
                    // most 256 words for each part of a vector, and a sample.
                    sizes.codec = 256 * size_of::<f32>() * self.dimension;
                    sizes.anew = 3 * copies;
                }
                sizes
            }
            // The last block of a list is half empty; while it is trained anew, all is there twice.
            IndexSpec::QuantizedFlat(flat) => match flat.options(self.dimension) {
                Some(options) => lists_sizes(self.dimension, options.storage),
                None => self.index(IndexSpec::Flat).index_sizes(),
            },
            // While one turns into the other both are there, the exact one with few rows.
            IndexSpec::Auto(auto) => {
                let [exact, graph] = [IndexSpec::Flat, IndexSpec::Graph(auto.grown(self))];
                let few = self.index(exact).index_sizes().of_few(auto.exact_below);
                self.index(graph).index_sizes().and(few)
            }
            IndexSpec::Ivf(lists) => lists_sizes(self.dimension, lists.options(self.dimension).storage),
            IndexSpec::Pq(codes) => lists_sizes(self.dimension, codes.options().storage),
        }
    }

    /// Bytes of a record without a payload where its vector is widest, and of
    /// the index for it.
    pub(super) fn record_bytes(&self) -> usize {
        let number = match self.vectors {
            VectorStorage::Lossless | VectorStorage::Full => size_of::<f32>(),
            VectorStorage::Half => size_of::<u16>(),
            VectorStorage::Byte => size_of::<u8>(),
        };
        let index = self.index_sizes();
        self.dimension * number + CELL_BYTES + ENTRY_BYTES_MOST + index.row + index.anew.max(index.moved)
    }
}

/// Bytes of the largest codes, of so many lines, that may be found best for
/// vectors of `dim` numbers: some numbers stand before the coordinates.
fn code_bytes_most(dim: usize, lines: usize) -> usize {
    const HEADERS: usize = 48;
    (dim + HEADERS).next_multiple_of(defaults::CODE_LINE).min(lines * defaults::CODE_LINE)
}

/// Bytes of lists: the last block of each is half empty, a centre stands for
/// eight records or more, and while they are trained anew all is there twice,
/// each set with blocks that older versions keep.
fn lists_sizes(dim: usize, storage: ListStorage) -> IndexSizes {
    let row = 3 * (storage.row_bytes() + 6 * size_of::<u32>()) + dim / 2;
    // At most 256 words for each part of a vector.
    IndexSizes {
        codec: 256 * size_of::<f32>() * dim,
        row,
        anew: 2 * row,
        moved: 2 * row,
        ..IndexSizes::default()
    }
}
