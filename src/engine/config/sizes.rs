//! Bytes that a record takes at most: what budgets reckon with.

use super::{CollectionConfig, GraphConfig, IndexSpec, defaults};
use crate::coordinator::ENTRY_BYTES_MOST;
use crate::index::{
    Copying, IvfOptions, LEAST_FILED, LIST_BLOCK, ListStorage, MAX_LISTS, MEETING_DIM, MOST_READ,
    PRODUCT_SHARE, ROWS_A_LIST, TRAINED_A_LIST,
};
use crate::metric::Metric;
use crate::quant::MAX_TRAINED;
use crate::rows::CELL_BYTES;
use crate::shard::{IndexSizes, Sampled};
use crate::vector::VectorStorage;

/// Bytes of where blocks of a record stand, and of numbers of rows.
const PLACES: usize = 4 * size_of::<u32>();

impl CollectionConfig {
    /// Bytes of an index for a record.
    pub(in crate::engine) fn index_sizes(&self) -> IndexSizes {
        const WORD: usize = size_of::<u32>();
        // Of entry points: 44 bytes for one row in 256, twice while they change.
        const ENTRIES: usize = 1;
        // Blocks that moved have a quarter more places than they need.
        let elsewhere = |bytes: usize| bytes + bytes / 4 + PLACES;
        match self.index {
            // Codes for sifting, of at most as many bytes as five lines.
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
                let links = degree * WORD + product_links(self.metric, degree / PRODUCT_SHARE);
                let row = links + codes + PLACES + ENTRIES;
                let anew = links + 3 * codes + 2 * PLACES + ENTRIES;
                let (moved, more_tables) = (elsewhere(links), usize::from(self.metric == Metric::Dot));
                // Beside the code of a row its place and whether it is free, in lists with room; chunks have empty places.
                let (copied, most_copied) = (codes + 2 * PLACES, MOST_READ + MOST_READ / 2);
                let sizes = IndexSizes { codec, row, anew, moved, more_tables, ..IndexSizes::default() };
                IndexSizes { copied, most_copied, ..sizes }
            }
            IndexSpec::Hnsw(graph) => {
                let copying = graph.quantization.copies(self.dimension);
                let copies = copying.map_or(0, |copying| copying.words() * WORD);
                let links = (2 * graph.m + 4) * WORD + product_links(self.metric, graph.m);
                let row = links + copies + 3 * PLACES;
                let (moved, more_tables) = (elsewhere(row), usize::from(self.metric == Metric::Dot));
                let mut sizes = IndexSizes { row, moved, more_tables, ..IndexSizes::default() };
                if let Some(Copying::Codes(_)) = copying {
                    // Trained anew: by the piece, together, and in blocks. At
                    // most 256 words for each part of a vector, and a sample.
                    sizes.codec = 256 * size_of::<f32>() * self.dimension;
                    sizes.anew = 3 * copies;
                }
                sizes
            }
            IndexSpec::QuantizedFlat(flat) => match flat.options(self.dimension) {
                Some(options) => lists_sizes(self.dimension, &options),
                None => self.index(IndexSpec::Flat).index_sizes(),
            },
            // While one turns into the other both are there, the exact one with few rows.
            IndexSpec::Auto(auto) => {
                let [exact, graph] = [IndexSpec::Flat, IndexSpec::Graph(auto.grown(self))];
                let few = self.index(exact).index_sizes().of_few(auto.exact_below);
                self.index(graph).index_sizes().and(few)
            }
            IndexSpec::Ivf(lists) => lists_sizes(self.dimension, &lists.options(self.dimension)),
            IndexSpec::Pq(codes) => lists_sizes(self.dimension, &codes.options()),
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

/// Bytes of so many links by inner product, and of where they stand: there are none by another metric.
fn product_links(metric: Metric, links: usize) -> usize {
    if metric == Metric::Dot { links * size_of::<u32>() + PLACES } else { 0 }
}

/// Bytes of the largest codes, of so many lines, that may be found best for
/// vectors of `dim` numbers: some numbers stand before the coordinates.
fn code_bytes_most(dim: usize, lines: usize) -> usize {
    const HEADERS: usize = 48;
    (dim + HEADERS).next_multiple_of(defaults::CODE_LINE).min(lines * defaults::CODE_LINE)
}

/// Sets of lists at rest: while lists are trained anew the new ones fill up beside
/// those that are searched.
const SETS: usize = 2;

/// Blocks for which there is place at least, and by which it grows at least.
const FIRST_BLOCKS: usize = 64;

/// Bytes of the codes by which centres are found.
const CENTRE_CODES: usize = 128;

/// Bytes for a row until it is in its list, beside its codes: its number, its
/// list, two columns, its place in their order, and its part of what each list takes for these.
const FILED: usize = 6 * size_of::<u32>();

/// Bytes of lists. Two sets of them lie there ([`SETS`]); of both all blocks may
/// stand elsewhere at a time, or a third set is made of all rows at once. There are
/// as many lists as was said; or four times the root of the rows, of which one in
/// 256 rows and 1,024 beside is the tangent at 2^18 rows; and none for fewer than 32
/// rows each.
fn lists_sizes(dim: usize, options: &IvfOptions) -> IndexSizes {
    const WORD: usize = size_of::<u32>();
    const SLOPE: usize = 256;
    // Lists by the row until there are so many.
    const MORE: usize = SLOPE / ROWS_A_LIST - 1;
    const FEW: usize = 1_024 * SLOPE / MORE;
    let block = options.storage.row_bytes() + WORD;
    // The place of a row, in room that doubles, its bit, and its part of what there is of a block.
    let beside = 3 * WORD;
    let list = list_bytes(dim, block);
    let share = |rows: usize| list.div_ceil(rows);
    let (always, few, few_row) = match options.nlist {
        Some(1) => (0, 0, 0),
        Some(lists) => (0, lists.min(MAX_LISTS) * ROWS_A_LIST, share(ROWS_A_LIST)),
        None => (share(SLOPE), FEW, MORE * share(SLOPE)),
    };
    // Blocks that moved have a quarter more places than they need.
    let elsewhere = |bytes: usize| bytes + bytes / 4 + WORD;
    let set = block + beside + always;
    IndexSizes {
        codec: SETS * (trained_bytes(dim, options) + FIRST_BLOCKS * LIST_BLOCK * block),
        coded: LEAST_FILED,
        row: SETS * set,
        anew: options.storage.codes() + FILED + set,
        sampled: sampled(dim, options),
        moved: SETS * elsewhere(block + always),
        more_tables: 0,
        copied: 0,
        most_copied: 0,
        few,
        few_home: SETS * few_row,
        few_row: SETS * elsewhere(few_row),
    }
}

/// Bytes of a list: what is empty of its last block, its centre with its code
/// (and, of one that rows meet, once more with its length), and what keeps the numbers of its blocks. A last block is half empty where lists are
/// long; of short ones, whose lengths differ as those of random groups do, 58 of 100
/// places are, and no more where each row is there 33 times.
fn list_bytes(dim: usize, block: usize) -> usize {
    const EMPTY: usize = LIST_BLOCK * 2 / 3;
    const KEYS: usize = 128;
    let again = if dim <= MEETING_DIM { (dim + 1) * size_of::<f32>() } else { 0 };
    EMPTY * block + dim * size_of::<f32>() + CENTRE_CODES + again + KEYS
}

/// Bytes of what is trained, however many lists and rows there are.
fn trained_bytes(dim: usize, options: &IvfOptions) -> usize {
    const BESIDE: usize = 4 << 10;
    // Centres stand in whole groups of so many once more.
    const GROUP: usize = 64;
    let again = if dim <= MEETING_DIM { GROUP * (dim + 1) * size_of::<f32>() } else { 0 };
    let centres = match options.nlist {
        Some(1) => dim * size_of::<f32>(),
        _ => {
            dim.next_multiple_of(defaults::CODE_LINE).min(MAX_TRAINED) * (CENTRE_CODES + 2 * size_of::<f32>())
        }
    };
    let codes = match options.storage {
        ListStorage::Vectors | ListStorage::Rounded(_) => 0,
        ListStorage::Signs { dim } => dim * size_of::<f32>(),
        ListStorage::Product(shape) => {
            // Each part starts at a line, and says where.
            let lines = 2 * defaults::CODE_LINE * shape.num_subquantizers;
            lines + (((shape.num_subquantizers + dim) * size_of::<f32>()) << shape.bits_per_code)
        }
    };
    centres + again + codes + BESIDE
}

/// What finding centres takes for a row that it looks at: its code, that of every
/// other one once more, and what list it is in. It looks at so many rows for each list at
/// most: of 2^18 rows at half, where their number has one in four, and 2^16 beside, as
/// its tangent.
fn sampled(dim: usize, options: &IvfOptions) -> Sampled {
    const LISTED: usize = 10 * size_of::<u32>();
    let row = CENTRE_CODES * 3 / 2 + LISTED;
    match options.nlist {
        _ if dim > MAX_TRAINED => Sampled::default(),
        Some(1) => Sampled::default(),
        Some(lists) => Sampled { row, few: lists.min(MAX_LISTS) * TRAINED_A_LIST, one_in: 0 },
        None => Sampled { row, few: 1 << 16, one_in: 4 },
    }
}
