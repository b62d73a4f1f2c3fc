//! The lists: rows and their codes in groups of 32, in copy-on-write blocks.
//!
//! | words of a block | content |
//! |---|---|
//! | 32 | rows; all ones: none |
//! | 32, with codes | what each row adds to its estimate (f32) |
//! | 32, with signs | what the product of each row is multiplied by (f32) |
//! | the rest | four bits a code as [`kernel::scan`](crate::kernel) wants them; eight bits as 32 bytes a position; or the rounded copies of the rows, one after the other |
//!
//! A list is the keys of its blocks. All but the last are full: a row that goes
//! leaves its place to the last one of its list.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use crate::bits::RowSet;
use crate::codec::{Decoder, Encoder, Malformed};
use crate::id::{Row, mix};
use crate::index::Defect;
use crate::index::cow::{BlockView, Blocks, Epoch, NONE, Versions};
use crate::kernel::SCAN_ROWS;
use crate::memory::{self, Memory};
use crate::quant::{ProductShape, Signs};
use crate::vector::Rounded;

/// Rows of a block.
pub(crate) const GROUP: usize = SCAN_ROWS;

/// What lists hold of a row, beside its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListStorage {
    /// Nothing: rows are measured as they are stored.
    Vectors,
    Product(ProductShape),
    /// The signs of so many numbers.
    Signs {
        dim: usize,
    },
    Rounded(Rounded),
}

impl ListStorage {
    /// Columns of numbers before the codes.
    pub(super) fn columns(self) -> usize {
        match self {
            ListStorage::Vectors | ListStorage::Rounded(_) => 0,
            ListStorage::Product(_) => 1,
            ListStorage::Signs { .. } => 2,
        }
    }

    /// Whether codes are of four bits.
    pub(super) fn is_four(self) -> bool {
        matches!(self, ListStorage::Product(shape) if shape.bits_per_code == 4)
            || matches!(self, ListStorage::Signs { .. })
    }

    /// The word of the first code.
    fn first_code(self) -> usize {
        GROUP * (1 + self.columns())
    }

    /// Words of a block.
    fn stride(self) -> usize {
        let codes = match self {
            ListStorage::Vectors => 0,
            ListStorage::Product(shape) if self.is_four() => shape.positions() * GROUP / 8,
            ListStorage::Signs { dim } => Signs::codes(dim) * GROUP / 8,
            ListStorage::Product(_) | ListStorage::Rounded(_) => self.codes() * GROUP / 4,
        };
        self.first_code() + codes
    }

    /// Bytes that a row takes in a list, beside its number.
    pub(crate) fn row_bytes(self) -> usize {
        (self.stride() - GROUP) * size_of::<u32>() / GROUP
    }

    /// Codes of a row; of a copy its bytes.
    pub(crate) fn codes(self) -> usize {
        match self {
            ListStorage::Vectors => 0,
            ListStorage::Product(shape) => shape.num_subquantizers,
            ListStorage::Signs { dim } => Signs::codes(dim),
            ListStorage::Rounded(rounded) => rounded.words() * size_of::<u32>(),
        }
    }

    /// The word and the bits of a code.
    fn place(self, slot: usize, at: usize) -> (usize, usize, u32) {
        let (byte, shift, mask) = match self {
            _ if self.is_four() => (at * (GROUP / 2) + slot % (GROUP / 2), slot / (GROUP / 2) * 4, 15),
            ListStorage::Rounded(_) => (slot * self.codes() + at, 0, 255),
            _ => (at * GROUP + slot, 0, 255),
        };
        (self.first_code() + byte / 4, byte % 4 * 8 + shift, mask)
    }
}

/// A row as it stands in a list.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    row: Row,
    /// As many as there are columns.
    columns: [u32; 2],
    codes: Vec<u8>,
}

/// Rows that enter lists.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    pub(super) rows: Vec<Row>,
    /// Of each row.
    pub(super) lists: Vec<u32>,
    pub(super) biases: Vec<f32>,
    pub(super) factors: Vec<f32>,
    /// One after the other.
    pub(super) codes: Vec<u8>,
    /// Summed squares of what rows lose by their codes, or of how far they are
    /// from their centres.
    pub(super) errors: f64,
}

impl Fresh {
    pub(super) fn append(&mut self, other: Fresh) {
        memory::extend(&mut self.rows, other.rows);
        memory::extend(&mut self.lists, other.lists);
        memory::extend(&mut self.biases, other.biases);
        memory::extend(&mut self.factors, other.factors);
        memory::append(&mut self.codes, &other.codes);
        self.errors += other.errors;
    }
}

/// The places of the rows of each of so many lists, in order, when it is said which list each row is in.
pub(super) fn members(rows: impl Iterator<Item = u32> + Clone, lists: usize) -> Vec<Vec<u32>> {
    let mut counts: Vec<usize> = memory::filled(0, lists);
    rows.clone().for_each(|list| counts[list as usize] += 1);
    let mut members: Vec<Vec<u32>> = memory::collect(counts.into_iter().map(memory::list));
    (0..).zip(rows).for_each(|(at, list)| memory::push(&mut members[list as usize], at));
    members
}

/// A block's words while it is changed. On the little-endian machines that the
/// crate is for, and on others, words are what they are as native bytes.
struct Image<'a> {
    form: ListStorage,
    words: &'a mut [u32],
}

impl Image<'_> {
    fn read(&self, slot: usize) -> Entry {
        let code = |at| {
            let (word, shift, mask) = self.form.place(slot, at);
            (u32::from_le(self.words[word]) >> shift & mask) as u8
        };
        let mut columns = [0; 2];
        for (at, column) in columns.iter_mut().enumerate().take(self.form.columns()) {
            *column = self.words[GROUP * (1 + at) + slot];
        }
        Entry { row: self.words[slot], columns, codes: (0..self.form.codes()).map(code).collect() }
    }

    fn write(&mut self, slot: usize, row: Row, columns: [u32; 2], codes: &[u8]) {
        self.words[slot] = row;
        for (at, column) in columns.iter().enumerate().take(self.form.columns()) {
            self.words[GROUP * (1 + at) + slot] = *column;
        }
        for (at, code) in codes.iter().enumerate() {
            let (word, shift, mask) = self.form.place(slot, at);
            let old = u32::from_le(self.words[word]) & !(mask << shift);
            self.words[word] = (old | u32::from(*code) << shift).to_le();
        }
    }

    fn clear(&mut self, slot: usize) {
        self.write(slot, NONE, [0; 2], &memory::filled(0, self.form.codes()));
    }

    fn write_fresh(&mut self, slot: usize, fresh: &Fresh, at: usize) {
        let column = |values: &[f32]| values.get(at).copied().unwrap_or(0.0).to_bits();
        let (columns, codes) = ([column(&fresh.biases), column(&fresh.factors)], self.form.codes());
        self.write(slot, fresh.rows[at], columns, &fresh.codes[at * codes..][..codes]);
    }
}

/// The lists as one version sees them.
#[derive(Clone, Debug)]
pub(super) struct ListsView {
    form: ListStorage,
    blocks: BlockView,
    /// By list.
    keys: Vec<Arc<Vec<u32>>>,
    counts: Vec<u32>,
}

impl ListsView {
    /// The keys of a list's blocks.
    #[inline]
    pub(super) fn keys(&self, list: u32) -> &[u32] {
        &self.keys[list as usize]
    }

    /// A block: rows, columns, codes.
    #[inline]
    pub(super) fn rows_of(&self, key: u32) -> &[Row] {
        &self.blocks.words_of(key)[..GROUP]
    }

    /// The words of a block: [`GROUP`] rows, and as many of each column.
    #[inline(always)]
    pub(super) fn words_of(&self, key: u32) -> &[u32] {
        self.blocks.words_of(key)
    }

    /// The byte of a block's first code.
    pub(super) fn first_code(&self) -> usize {
        self.form.first_code() * size_of::<u32>()
    }

    #[inline(always)]
    pub(super) fn bytes_of(&self, key: u32) -> &[u8] {
        self.blocks.bytes_of(key)
    }

    /// The copies of a block.
    #[inline]
    pub(super) fn copies_of(&self, key: u32) -> impl Iterator<Item = &[u32]> {
        let words = &self.blocks.words_of(key)[self.form.first_code()..];
        words.chunks_exact((self.form.codes() / size_of::<u32>()).max(1))
    }

    pub(super) fn len(&self, list: u32) -> usize {
        self.counts[list as usize] as usize
    }

    pub(super) fn lists(&self) -> usize {
        self.keys.len()
    }

    /// Rows of each list.
    pub(super) fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// The rows of a list, in order.
    #[inline]
    pub(super) fn rows(&self, list: u32) -> impl Iterator<Item = Row> + '_ {
        let blocks = self.keys(list).iter().flat_map(|key| self.rows_of(*key));
        blocks.copied().take(self.len(list))
    }

    pub(super) fn audit(&self, held: &RowSet, defects: &mut Vec<Defect>) {
        let mut met = RowSet::default();
        for list in 0..self.lists() as u32 {
            let full = self.len(list).div_ceil(GROUP) == self.keys(list).len();
            for row in self.rows(list) {
                if !full || row == NONE || !met.insert(row) {
                    memory::push(defects, Defect::Malformed(row));
                } else if !held.contains(row) {
                    memory::push(defects, Defect::Membership(row));
                }
            }
        }
        let others = held.iter().filter(|row| !met.contains(*row));
        memory::extend(defects, others.map(Defect::Unreachable));
    }

    pub(super) fn digest(&self) -> u64 {
        let lists = self.keys.iter().zip(&self.counts);
        lists.fold(0, |hash, (keys, count)| {
            self.blocks.digest(keys.iter().copied(), mix(hash ^ u64::from(*count)))
        })
    }

    /// Writes how long every list is, then its blocks.
    pub(super) fn save(&self, out: &mut Encoder) {
        for list in 0..self.lists() as u32 {
            out.size(self.len(list));
            for key in self.keys(list) {
                out.words(self.blocks.words_of(*key).iter().copied());
            }
        }
    }
}

/// The writer's side of the lists.
#[derive(Debug)]
pub(super) struct Lists {
    form: ListStorage,
    blocks: Blocks,
    keys: Vec<Arc<Vec<u32>>>,
    counts: Vec<u32>,
    /// By row the key of its block.
    place: Vec<u32>,
    /// By key the list.
    owner: Vec<u32>,
    /// Keys that no list has, the next one last.
    free: Vec<u32>,
}

/// Bytes of blocks that a change holds beside the lists before it writes them down:
/// a batch of deletes may touch all blocks that there are.
const HELD_BYTES: usize = 1 << 20;

/// Blocks as a change leaves them.
type Changed = BTreeMap<u32, Vec<u32>>;

impl Lists {
    pub(super) fn new(form: ListStorage, lists: usize) -> Lists {
        Lists {
            form,
            blocks: Blocks::new(form.stride()),
            keys: memory::filled(Arc::default(), lists),
            counts: memory::filled(0, lists),
            place: Vec::new(),
            owner: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Rows of each list.
    pub(super) fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Lists that hold just these rows.
    pub(super) fn filled(form: ListStorage, lists: usize, fresh: &Fresh) -> Lists {
        let mut all = Lists::new(form, lists);
        let (epoch, empty) = (Versions::default().begin(), empty(form));
        let mut words = memory::copied(&empty);
        // Blocks of a list then stand side by side.
        for (list, members) in members(fresh.lists.iter().copied(), lists).iter().enumerate() {
            for members in members.chunks(GROUP) {
                let key = all.append(list as u32);
                words.copy_from_slice(&empty);
                let mut image = Image { form, words: &mut words };
                for (slot, at) in members.iter().enumerate() {
                    image.write_fresh(slot, fresh, *at as usize);
                    all.note(fresh.rows[*at as usize], key);
                }
                all.blocks.write(key, &words, epoch);
            }
            all.counts[list] = members.len() as u32;
        }
        all
    }

    /// Another block at the end of a list: one that no list has, or a new one.
    fn append(&mut self, list: u32) -> u32 {
        let key = self.free.pop().unwrap_or(self.owner.len() as u32);
        if key as usize == self.owner.len() {
            memory::push(&mut self.owner, list);
        }
        self.owner[key as usize] = list;
        memory::push(Arc::make_mut(&mut self.keys[list as usize]), key);
        key
    }

    /// Takes rows out and puts others in.
    pub(super) fn change(&mut self, forget: &[Row], fresh: &Fresh, epoch: Epoch) {
        let (mut changed, most) = (Changed::new(), HELD_BYTES / (self.form.stride() * size_of::<u32>()));
        for row in forget {
            self.remove(*row, &mut changed);
            if changed.len() > most {
                self.write(std::mem::take(&mut changed), epoch);
            }
        }
        for at in 0..fresh.rows.len() {
            // A full block is not met again.
            if let Some(full) = self.push(fresh, at, &mut changed)
                && let Some(words) = changed.remove(&full)
            {
                self.blocks.write(full, &words, epoch);
            }
        }
        self.write(changed, epoch);
    }

    fn write(&mut self, changed: Changed, epoch: Epoch) {
        changed.iter().for_each(|(key, words)| self.blocks.write(*key, words, epoch));
    }

    /// The words of a block that may be changed.
    fn image<'a>(&self, key: u32, changed: &'a mut Changed) -> Image<'a> {
        let newest = || self.blocks.newest(key).unwrap_or_else(|| empty(self.form));
        Image { form: self.form, words: changed.entry(key).or_insert_with(newest) }
    }

    /// Puts a row into its list; gives its block if it is full now.
    fn push(&mut self, fresh: &Fresh, at: usize, changed: &mut Changed) -> Option<u32> {
        let list = fresh.lists[at];
        let slot = self.counts[list as usize] as usize % GROUP;
        if slot == 0 {
            let key = self.append(list);
            changed.insert(key, empty(self.form));
        }
        let key = self.keys[list as usize].last().copied()?;
        self.image(key, changed).write_fresh(slot, fresh, at);
        self.counts[list as usize] += 1;
        self.note(fresh.rows[at], key);
        (slot + 1 == GROUP).then_some(key)
    }

    fn note(&mut self, row: Row, key: u32) {
        if self.place.len() <= row as usize {
            memory::resize(&mut self.place, row as usize + 1, NONE);
        }
        self.place[row as usize] = key;
    }

    fn remove(&mut self, row: Row, changed: &mut Changed) {
        let Some(key) = self.place.get(row as usize).copied().filter(|key| *key != NONE) else { return };
        self.place[row as usize] = NONE;
        let list = self.owner[key as usize] as usize;
        let Some(last) = self.keys[list].last().copied() else { return };
        let slot = (self.counts[list] as usize - 1) % GROUP;
        let mut image = self.image(last, changed);
        let moved = image.read(slot);
        image.clear(slot);
        if moved.row != row {
            let mut image = self.image(key, changed);
            if let Some(hole) = image.words[..GROUP].iter().position(|other| *other == row) {
                image.write(hole, moved.row, moved.columns, &moved.codes);
            }
            self.place[moved.row as usize] = key;
        }
        self.counts[list] -= 1;
        if slot == 0 {
            Arc::make_mut(&mut self.keys[list]).pop();
            memory::push(&mut self.free, last);
        }
    }

    pub(super) fn publish(&mut self, epoch: Epoch, versions: &Versions) -> ListsView {
        ListsView {
            form: self.form,
            blocks: self.blocks.publish(epoch, versions),
            keys: memory::copied(&self.keys),
            counts: memory::copied(&self.counts),
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.blocks.is_settled()
    }

    /// The memory of all lists, for as long as somebody has it.
    pub(super) fn shared(&self) -> impl Iterator<Item = Weak<Memory>> + '_ {
        self.blocks.shared()
    }

    pub(super) fn bytes(&self) -> usize {
        let words =
            self.place.capacity() + self.owner.capacity() + self.free.capacity() + self.counts.capacity();
        let keys: usize = self.keys.iter().map(|keys| keys.capacity() * size_of::<u32>() + 48).sum();
        self.blocks.bytes() + words * size_of::<u32>() + keys
    }

    /// Reads lists that hold the rows of `held` and no others.
    pub(super) fn load(
        form: ListStorage,
        lists: usize,
        held: &RowSet,
        input: &mut Decoder<'_>,
        epoch: Epoch,
    ) -> Result<Lists, Malformed> {
        let mut all = Lists::new(form, lists);
        let (mut met, stride) = (RowSet::default(), form.stride());
        for list in 0..lists as u32 {
            let count = input.size()?;
            input.check(count <= held.len(), "a list is longer than there are rows")?;
            for first in (0..count).step_by(GROUP) {
                let fault = input.fault("a list names a row that is not held, or twice");
                let words: Vec<u32> = input.words(stride)?.collect();
                let key = all.append(list);
                for (slot, row) in words[..GROUP].iter().enumerate() {
                    let is_row = first + slot < count;
                    if is_row != (*row != NONE) || (is_row && !(held.contains(*row) && met.insert(*row))) {
                        return Err(fault);
                    }
                    if is_row {
                        all.note(*row, key);
                    }
                }
                all.blocks.write(key, &words, epoch);
            }
            all.counts[list as usize] = count as u32;
        }
        input.check(met.len() == held.len(), "a row is in no list")?;
        Ok(all)
    }
}

fn empty(form: ListStorage) -> Vec<u32> {
    let mut words = memory::filled(0, form.stride());
    words[..GROUP].fill(NONE);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of lists that are far from equal; some have none.
    fn fresh(form: ListStorage, rows: u32, lists: u64) -> Fresh {
        let draw = |row: u32| mix(u64::from(row)) % lists * (mix(u64::from(row) << 9) % lists) / lists;
        let number = |row: u32| mix(u64::from(row) << 20) as u16 as f32;
        Fresh {
            rows: (0..rows).map(|row| 3 * row).collect(),
            lists: (0..rows).map(|row| draw(row) as u32).collect(),
            biases: (0..rows).map(number).collect(),
            factors: (0..rows).map(|row| number(row + 1)).collect(),
            codes: (0..rows as usize * form.codes())
                .map(|at| mix(at as u64) as u8 & if form.is_four() { 15 } else { 255 })
                .collect(),
            errors: 0.0,
        }
    }

    #[test]
    fn lists_that_are_filled_at_once_are_those_that_take_one_row_after_the_other() {
        let product =
            |bits_per_code| ListStorage::Product(ProductShape { num_subquantizers: 6, bits_per_code });
        let others = [ListStorage::Signs { dim: 40 }, ListStorage::Rounded(Rounded::bytes(10))];
        for form in [ListStorage::Vectors, product(4), product(8)].into_iter().chain(others) {
            for (rows, lists) in [(0, 3), (31, 1), (1_000, 12), (4_000, 300)] {
                let all = fresh(form, rows, lists as u64);
                let mut filled = Lists::filled(form, lists, &all);
                // By list, as blocks stand side by side then.
                let mut order: Vec<usize> = (0..rows as usize).collect();
                order.sort_by_key(|at| all.lists[*at]);
                let mut grown = Lists::new(form, lists);
                let mut versions = Versions::default();
                for at in order {
                    let codes = form.codes();
                    let one = Fresh {
                        rows: vec![all.rows[at]],
                        lists: vec![all.lists[at]],
                        biases: vec![all.biases[at]],
                        factors: vec![all.factors[at]],
                        codes: all.codes[at * codes..][..codes].to_vec(),
                        errors: 0.0,
                    };
                    grown.change(&[], &one, versions.begin());
                }
                assert_eq!((&filled.keys, &filled.counts), (&grown.keys, &grown.counts));
                assert_eq!((&filled.place, &filled.owner), (&grown.place, &grown.owner));
                let digest = |lists: &mut Lists| {
                    let mut versions = Versions::default();
                    lists.publish(versions.begin(), &versions).digest()
                };
                assert_eq!(digest(&mut filled), digest(&mut grown), "{form:?}, {rows} rows");
            }
        }
    }
}
