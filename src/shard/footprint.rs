//! The most memory that a shard takes while it holds so many rows: what lies
//! there, and what changing it takes beside that for a while.

use crate::rows::Mutation;
use crate::vector::matrix_bytes;

/// A table of blocks is copied by pages of so many bytes as it grows, and an
/// index has two that grow, and `IndexSizes::more_tables`.
const PAGE_BYTES: usize = 4 << 20;
const TABLES: usize = 2;

/// Room is an eighth more than is needed at most.
const ROOM: usize = 8;

/// Places of copies that may be empty beside: two chunks of them.
const EMPTY: usize = 512;

/// Payloads in columns take their own bytes at most; a block of them is made
/// anew beside the old one, which views keep.
const PAYLOAD_COPIES: usize = 2;

/// What training takes for each row that it looks at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sampled {
    pub(crate) row: usize,
    /// It looks at so many rows at most...
    pub(crate) few: usize,
    /// ...and one in so many of all, if any.
    pub(crate) one_in: usize,
}

impl Sampled {
    fn bytes(self, rows: usize) -> usize {
        let beyond = rows.checked_div(self.one_in).unwrap_or_default();
        rows.min(self.few.saturating_add(beyond)).saturating_mul(self.row)
    }
}

/// Bytes of an index for a row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IndexSizes {
    /// What makes codes, however many rows there are...
    pub(crate) codec: usize,
    /// ...from so many on: fewer have none.
    pub(crate) coded: usize,
    /// Blocks at their homes, and where they stand.
    pub(crate) row: usize,
    /// What making all of them anew takes beside, after a training...
    pub(crate) anew: usize,
    pub(crate) sampled: Sampled,
    /// ...and blocks elsewhere, while older versions are read.
    pub(crate) moved: usize,
    /// Tables of blocks that it has beyond two.
    pub(crate) more_tables: usize,
    /// Copies of the codes of few rows, in whole chunks and with empty places: bytes a row, and of all of them at most.
    pub(crate) copied: usize,
    pub(crate) most_copied: usize,
    /// Beside all that, for no more than so many rows...
    pub(crate) few: usize,
    /// ...so many more bytes a row that lie there...
    pub(crate) few_home: usize,
    /// ...and so many while it changes, or of an index that gives way to the other.
    pub(crate) few_row: usize,
}

impl IndexSizes {
    /// Of an index that never has more than so many rows.
    #[must_use]
    pub(crate) fn of_few(self, few: usize) -> IndexSizes {
        let few_row = self.row + self.anew.max(self.moved);
        IndexSizes { codec: self.codec, coded: self.coded, few, few_row, ..IndexSizes::default() }
    }

    /// Of two indexes at a time.
    #[must_use]
    pub(crate) fn and(self, other: IndexSizes) -> IndexSizes {
        IndexSizes {
            codec: self.codec + other.codec,
            coded: self.coded.min(other.coded),
            row: self.row + other.row,
            anew: self.anew + other.anew,
            // One of them is changed at a time, so one is trained.
            sampled: if self.sampled.row > other.sampled.row { self.sampled } else { other.sampled },
            moved: self.moved + other.moved,
            more_tables: self.more_tables.max(other.more_tables),
            copied: self.copied + other.copied,
            most_copied: self.most_copied + other.most_copied,
            few: self.few.max(other.few),
            few_home: self.few_home + other.few_home,
            few_row: self.few_row + other.few_row,
        }
    }

    /// What makes codes of so many rows.
    fn codec(self, rows: usize) -> usize {
        if rows < self.coded { 0 } else { self.codec }
    }

    /// The first rows, of which each takes more.
    fn few(self, rows: usize) -> usize {
        rows.min(roomy(self.few))
    }

    /// Copies of the codes of so many rows, if there are any then.
    fn copies(self, rows: usize) -> usize {
        (rows + rows / ROOM + EMPTY).saturating_mul(self.copied).min(self.most_copied)
    }

    /// Bytes of so many rows where nothing changes.
    fn home(self, rows: usize) -> usize {
        self.blocks(rows) + self.copies(rows)
    }

    /// The same without the copies.
    fn blocks(self, rows: usize) -> usize {
        let few = self.few(rows).saturating_mul(self.few_home);
        rows.saturating_mul(self.row).saturating_add(few) + self.codec(rows)
    }

    /// Bytes beside them while all is made anew, or stands elsewhere.
    fn change(self, rows: usize) -> usize {
        let few = self.few(rows).saturating_mul(self.few_row);
        let anew = rows.saturating_mul(self.anew).saturating_add(few).max(self.sampled.bytes(rows));
        let moved =
            rows.saturating_mul(self.moved) + self.blocks(rows).min((TABLES + self.more_tables) * PAGE_BYTES);
        moved.saturating_add(few).max(anew + self.codec(rows)) + self.copies(rows)
    }

    /// Bytes of an index with places for so many rows at most, and at rest.
    #[cfg(test)]
    pub(crate) fn most(self, rows: usize) -> [usize; 2] {
        let home = self.home(roomy(rows));
        [home + self.change(roomy(rows)), home]
    }
}

/// What a record takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowSizes {
    pub(crate) dim: usize,
    /// Bytes of what stands beside its vector, and of its place in the directory.
    pub(crate) cell: usize,
    pub(crate) index: IndexSizes,
}

/// What a shard holds, or is going to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Contents {
    /// Rows that are to have a place.
    pub(super) rows: usize,
    /// Rows that have one.
    pub(super) capacity: usize,
    /// Bytes from one vector to the next where they are widest.
    pub(super) stride: usize,
    /// Bytes of vectors, and of those that only older views keep.
    pub(super) vectors: usize,
    pub(super) kept: usize,
    /// Bytes of what stands beside vectors, with the directory.
    pub(super) cells: usize,
    pub(super) texts: usize,
    pub(super) payloads: usize,
    pub(super) index: usize,
    /// Vectors are about to be copied, and the index to be changed, beside what
    /// lies there now.
    pub(super) copying: bool,
    pub(super) changing: bool,
}

impl RowSizes {
    /// Bytes at most.
    pub(super) fn most(&self, of: &Contents) -> usize {
        if of.rows.max(of.capacity) == 0 {
            return of.kept + of.cells + of.payloads + of.index;
        }
        self.vectors(of) + self.cells(of) + PAYLOAD_COPIES * of.payloads + self.index(of)
    }

    /// Bytes of a record that waits.
    pub(super) fn queued(&self) -> usize {
        self.dim * size_of::<f32>() + size_of::<Mutation>()
    }

    /// One chunk is copied at a time: since it grows elsewhere, since a view holds it, or
    /// since a vector needs a wider form.
    fn vectors(&self, of: &Contents) -> usize {
        let (bytes, copy) = matrix_bytes(self.dim, of.rows.max(of.capacity), of.stride);
        let beside = if of.copying { of.kept.saturating_add(copy) } else { of.kept.max(copy) };
        bytes.max(of.vectors).saturating_add(beside)
    }

    fn cells(&self, of: &Contents) -> usize {
        // Ids stand beside their rows, and once more where these died and are still listed.
        of.cells.max(roomy(of.rows).saturating_mul(self.cell) + 2 * of.texts)
    }

    fn index(&self, of: &Contents) -> usize {
        let rows = roomy(of.rows.max(of.capacity));
        let (home, change) = (self.index.home(rows), self.index.change(rows));
        let now = if of.changing { of.index.saturating_add(change) } else { of.index };
        home.saturating_add(change).max(now)
    }
}

/// Places for so many rows, with room.
fn roomy(rows: usize) -> usize {
    rows + rows / ROOM
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: IndexSizes = IndexSizes {
        codec: 0,
        coded: 0,
        row: 400,
        anew: 600,
        sampled: Sampled { row: 0, few: 0, one_in: 0 },
        more_tables: 0,
        moved: 100,
        copied: 0,
        most_copied: 0,
        few: 0,
        few_home: 0,
        few_row: 0,
    };
    const SIZES: RowSizes = RowSizes { dim: 64, cell: 200, index: INDEX };

    fn of(rows: usize) -> Contents {
        Contents { rows, stride: 272, ..Contents::default() }
    }

    #[test]
    fn a_shard_without_rows_takes_what_it_holds() {
        let contents = Contents { kept: 1, cells: 20, payloads: 300, index: 4_000, ..Contents::default() };
        assert_eq!(SIZES.most(&contents), 4_321);
    }

    #[test]
    fn more_rows_never_take_less() {
        let bytes: Vec<usize> = (0..40_000).map(|rows| SIZES.most(&of(rows))).collect();
        assert!(bytes.is_sorted());
        assert!(bytes[30_000] > 30_000 * (272 + 200 + 1_000));
    }

    #[test]
    fn what_was_measured_counts_where_it_is_more() {
        let least = SIZES.most(&of(1_000));
        assert!(SIZES.most(&Contents { vectors: 1 << 20, ..of(1_000) }) > least);
        assert!(SIZES.most(&Contents { kept: 1 << 20, ..of(1_000) }) > least);
        assert!(SIZES.most(&Contents { index: 4 << 20, ..of(1_000) }) > least);
        assert!(SIZES.most(&Contents { capacity: 2_000, ..of(1_000) }) > least);
    }

    #[test]
    fn an_index_of_few_rows_counts_for_no_more_of_them() {
        let few = IndexSizes { row: 30, anew: 70, moved: 10, ..IndexSizes::default() }.of_few(800);
        let both = RowSizes { index: INDEX.and(few), ..SIZES };
        let beside = |rows| both.most(&of(rows)) - SIZES.most(&of(rows));
        assert_eq!([beside(80), beside(800), beside(80_000)], [90 * 100, 900 * 100, 900 * 100]);
    }

    #[test]
    fn copies_count_up_to_the_most_that_they_may_be_and_once_more_while_they_change() {
        let copied = RowSizes { index: IndexSizes { copied: 50, most_copied: 90_000, ..INDEX }, ..SIZES };
        let beside = |rows| copied.most(&of(rows)) - SIZES.most(&of(rows));
        assert_eq!([beside(80), beside(80_000)], [2 * (90 + 11 + 512) * 50, 2 * 90_000]);
    }

    #[test]
    fn a_training_counts_the_rows_that_it_looks_at_where_that_is_more_than_what_is_made() {
        let sampled = Sampled { row: 2_000, few: 900, one_in: 4 };
        let trained = RowSizes { index: IndexSizes { sampled, ..INDEX }, ..SIZES };
        let beside = |rows| trained.most(&of(rows)) - SIZES.most(&of(rows));
        assert_eq!([beside(80), beside(80_000)], [90 * 1_400, 0]);
        assert_eq!(beside(1_600), (900 + 450) * 2_000 - 1_800 * 600);
        assert!((0..20_000).map(|rows| trained.most(&of(rows))).is_sorted());
    }

    #[test]
    fn a_change_beside_another_counts_for_itself() {
        let quiet = Contents { index: 2 << 20, kept: 300_000, ..of(1_000) };
        let changing = Contents { changing: true, copying: true, ..quiet };
        assert!(SIZES.most(&changing) > SIZES.most(&quiet) + 600 * 1_000);
        let copied = Contents { copying: false, ..changing };
        assert!(SIZES.most(&copied) < SIZES.most(&changing), "a copy that was made is part of what is kept");
        assert_eq!(
            SIZES.most(&Contents { changing: true, copying: true, ..of(1_000) }),
            SIZES.most(&of(1_000)),
            "room for one change is always kept"
        );
    }
}
