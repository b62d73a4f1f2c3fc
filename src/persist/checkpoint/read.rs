//! Reading a checkpoint, shard by shard.

use super::section::Sections;
use super::{
    BIRTHS, DEAD, FREE, INDEX, INDEX_THERE, LIVE, META, Meta, PAYLOADS, ROWS, SWITCHED_NONE, SWITCHED_THERE,
    VECTORS,
};
use crate::bits::RowSet;
use crate::codec::{Decoder, Malformed, decode_id};
use crate::id::{MAX_ROWS, RecordId, Row, Seq};
use crate::memory::{self, unwind};
use crate::payload::{BEFORE_ALL, Payload, Timestamp, decode_fields};
use crate::persist::fault::{FileError, damaged};
use crate::persist::recover::GivenUp;
use crate::persist::storage::Storage;
use crate::rows::{Allocation, NewRow, RowStore};
use crate::vector::{Matrix, Space, VectorStorage};

/// Shards of a checkpoint at most: no engine has more workers.
pub(crate) const SHARDS_MOST: usize = 64;

/// Rows, vectors, index.
const SECTIONS_OF_SHARD: u32 = 3;

/// An open checkpoint.
pub(crate) struct Checkpoint {
    pub(crate) meta: Meta,
    sections: Sections,
    next_shard: u32,
    repair: bool,
}

/// A shard that was read.
pub(crate) struct LoadedShard {
    pub(crate) rows: RowStore,
    /// Of every live row, for the directory.
    pub(crate) ids: Vec<(RecordId, Row)>,
    /// Live rows that the index does not hold, oldest first.
    pub(crate) tail: Vec<Row>,
    /// Rows that the index holds and no search may show.
    pub(crate) dead: Vec<Row>,
    /// Rows that the index holds.
    pub(crate) held: RowSet,
    /// Rows that the index ever took in.
    pub(crate) absorbed: u64,
    /// What the index wrote; `None`: it must be built anew.
    pub(crate) index: Option<IndexBytes>,
    /// The configuration with its index, if that took the place of another.
    pub(crate) spec: Option<Vec<u8>>,
    /// Nothing of it was given up.
    pub(crate) is_whole: bool,
}

/// The bytes of an index, and where they stood.
pub(crate) struct IndexBytes {
    content: Vec<u8>,
    file: String,
    start: u64,
}

impl IndexBytes {
    /// Lets `load` read the index; names the place of what is wrong.
    pub(crate) fn load<T>(
        &self,
        load: impl FnOnce(&mut Decoder<'_>) -> Result<T, Malformed>,
    ) -> Result<T, FileError> {
        let mut input = Decoder::new(&self.content);
        let begun = begin_index(&mut input);
        let read = begun.and_then(|_| load(&mut input)).and_then(|index| input.end().map(|()| index));
        read.map_err(|fault| damaged(&self.file, self.start, fault))
    }
}

/// What the section `rows` says.
struct RowTable {
    absorbed: u64,
    kinds: Vec<u8>,
    tail: Vec<Row>,
    /// Of each row that is not free: its scale, and its id when it lives.
    cells: Vec<(f32, Option<RecordId>)>,
    /// Of each row that lives the write that it comes from; empty in old files.
    births: Vec<Seq>,
    /// Of each row that lives its payload; empty when there are none.
    payloads: Vec<(Row, Payload)>,
}

impl RowTable {
    fn decode(content: &[u8]) -> Result<RowTable, Malformed> {
        let mut input = Decoder::new(content);
        let absorbed = input.u64()?;
        let kinds = memory::copied(input.bytes()?);
        input.check(kinds.iter().all(|kind| *kind <= DEAD), "a row is of an unknown kind")?;
        let used = kinds.iter().filter(|kind| **kind != FREE).count();
        input.check(kinds.len() <= MAX_ROWS && used >= kinds.len() / 2, "too many rows are free")?;
        let count = input.count(size_of::<Row>())?;
        let tail: Vec<Row> = memory::collect(input.words(count)?);
        let mut seen = RowSet::default();
        let lives = |row: &Row| kinds.get(*row as usize) == Some(&LIVE);
        input.check(
            tail.iter().all(|row| lives(row) && seen.insert(*row)),
            "a row of the tail does not live",
        )?;
        let mut cells = memory::list(used.min(input.rest()));
        for kind in kinds.iter().filter(|kind| **kind != FREE) {
            let scale = input.f32()?;
            cells.push((scale, if *kind == LIVE { Some(decode_id(&mut input)?) } else { None }));
        }
        let lives = |row: &Row| kinds.get(*row as usize) == Some(&LIVE);
        let (mut births, mut payloads) = (Vec::new(), Vec::new());
        while input.rest() > 0 {
            match input.u8()? {
                BIRTHS if births.is_empty() => {
                    for _ in (0..kinds.len() as Row).filter(lives) {
                        memory::push(&mut births, Seq(input.u64()?));
                    }
                }
                PAYLOADS if payloads.is_empty() => {
                    for row in (0..kinds.len() as Row).filter(lives) {
                        let payload = decode_fields(&mut input)?;
                        if !payload.is_empty() {
                            memory::push(&mut payloads, (row, payload));
                        }
                    }
                }
                _ => return Err(input.fault("a column is of an unknown kind")),
            }
        }
        input.end().map(|()| RowTable { absorbed, kinds, tail, cells, births, payloads })
    }
}

impl Checkpoint {
    pub(crate) fn open(storage: &dyn Storage, name: &str) -> Result<Checkpoint, FileError> {
        let mut sections = Sections::open(storage, name)?;
        let section = sections.begin(META)?;
        let content = sections.content(&section)?;
        let meta = decode_meta(&content).map_err(|fault| damaged(name, section.start, fault))?;
        Ok(Checkpoint { meta, sections, next_shard: 0, repair: false })
    }

    pub(crate) fn name(&self) -> &str {
        self.sections.name()
    }

    /// Goes on behind damage from here on.
    pub(crate) fn repair(&mut self, repair: bool) {
        self.repair = repair;
    }

    /// Reads the next shard. In a
    /// repair `give_up` is told of what cannot be read: an index is built anew,
    /// but the records of a shard are lost when its rows or vectors are damaged.
    pub(crate) fn shard(
        &mut self,
        space: &Space,
        storage: VectorStorage,
        give_up: &mut dyn FnMut(GivenUp),
    ) -> Result<LoadedShard, FileError> {
        let mut ids = Vec::new();
        let outcome = self.rows_and_vectors(space, storage, &mut |id, row| memory::push(&mut ids, (id, row)));
        let (table, rows) = match outcome {
            Err(fault) if self.repair => {
                give_up(GivenUp::of(fault)?);
                self.skip_shard();
                return Ok(LoadedShard::empty(space, storage));
            }
            outcome => outcome?,
        };
        let mut shard = LoadedShard { ids, ..LoadedShard::new(table, rows) };
        match self.index(&shard) {
            Err(fault) if self.repair => {
                give_up(GivenUp::of(fault)?);
                shard.forget_index();
                shard.is_whole = false;
            }
            outcome => (shard.index, shard.spec) = outcome?,
        }
        self.next_shard += 1;
        Ok(shard)
    }

    fn rows_and_vectors(
        &mut self,
        space: &Space,
        storage: VectorStorage,
        list: &mut dyn FnMut(RecordId, Row),
    ) -> Result<(RowTable, RowStore), FileError> {
        let mut table = self.row_table()?;
        let mut rows = self.vectors(space, storage, &table, list)?;
        table.payloads.drain(..).for_each(|(row, payload)| rows.restore_payload(row, payload));
        Ok((table, rows))
    }

    fn index(&mut self, shard: &LoadedShard) -> Result<(Option<IndexBytes>, Option<Vec<u8>>), FileError> {
        let section = self.sections.begin(INDEX)?;
        self.check_shard(section.shard, section.start)?;
        let content = self.sections.content(&section)?;
        let begun = begin_index(&mut Decoder::new(&content));
        let (is_written, spec) =
            begun.map_err(|fault| damaged(self.sections.name(), section.start, fault))?;
        if !is_written && shard.held.len() > 0 {
            let what = "there is no index for the rows that it holds";
            return Err(self.sections.damage(section.start, what));
        }
        let (file, start) = (self.sections.name().to_owned(), section.start);
        Ok((is_written.then_some(IndexBytes { content, file, start }), spec))
    }

    /// Goes to the next shard from wherever in this one; if even that cannot
    /// be, the next one fails too.
    fn skip_shard(&mut self) {
        self.next_shard += 1;
        let until = 1 + SECTIONS_OF_SHARD * self.next_shard;
        while self.sections.begun() < until
            && let Ok((_, section)) = self.sections.begin_any()
        {
            let _ = self.sections.skip(&section);
        }
    }

    fn check_shard(&self, shard: u32, offset: u64) -> Result<(), FileError> {
        if shard == self.next_shard {
            return Ok(());
        }
        Err(self.sections.damage(offset, "a section is of another shard"))
    }

    fn row_table(&mut self) -> Result<RowTable, FileError> {
        let section = self.sections.begin(ROWS)?;
        self.check_shard(section.shard, section.start)?;
        let content = self.sections.content(&section)?;
        RowTable::decode(&content).map_err(|fault| damaged(self.sections.name(), section.start, fault))
    }

    fn vectors(
        &mut self,
        space: &Space,
        storage: VectorStorage,
        table: &RowTable,
        list: &mut dyn FnMut(RecordId, Row),
    ) -> Result<RowStore, FileError> {
        let section = self.sections.begin(VECTORS)?;
        self.check_shard(section.shard, section.start)?;
        let bytes = space.dim() * size_of::<f32>();
        let fits = (table.cells.len() as u64).checked_mul(bytes as u64) == Some(section.bytes);
        if !fits {
            return Err(self.sections.damage(section.start, "there is not one vector for every row"));
        }
        let mut store = RowStore::new(Matrix::new(space.dim(), storage, space.metric()));
        let mut cells = table.kinds.iter().zip(0 as Row..).filter(|(kind, _)| **kind != FREE);
        let mut known = table.cells.iter();
        let mut births = table.births.iter().copied();
        let mut vector = vec![0.0; space.dim()];
        let (name, mut at) = (self.sections.name().to_owned(), section.start);
        let fault = |offset, what| FileError::Damaged { file: name.clone(), offset, what };
        self.sections.stream(&section, bytes, &mut |piece| {
            for raw in piece.chunks_exact(bytes) {
                let (words, _) = raw.as_chunks::<4>();
                for (value, word) in vector.iter_mut().zip(words) {
                    *value = f32::from_le_bytes(*word);
                }
                let (Some((_, row)), Some((scale, id))) = (cells.next(), known.next()) else { break };
                if !space.is_stored_form(&vector, *scale) {
                    return Err(fault(at, "a vector cannot be used"));
                }
                let born = id.as_ref().and_then(|_| births.next()).unwrap_or(Seq(0));
                store
                    .restore(row, id.clone(), &vector, *scale, born)
                    .map_err(|fault| unstored(&name, at, fault))?;
                if let Some(id) = id {
                    list(id.clone(), row);
                }
                at += bytes as u64;
            }
            Ok(())
        })?;
        let is_free = |row: Row| table.kinds.get(row as usize) == Some(&FREE);
        store.restore_free(table.kinds.len(), is_free).map_err(|fault| unstored(&name, at, fault))?;
        Ok(store)
    }

    /// All shards were read: the file must end.
    pub(crate) fn end(self) -> Result<(), FileError> {
        self.sections.end()
    }

    /// Reads all that is left and checks it; gives the number of live records.
    pub(crate) fn verify(mut self) -> Result<usize, FileError> {
        let mut live = 0;
        for _ in 0..self.meta.shards {
            let table = self.row_table()?;
            live += table.kinds.iter().filter(|kind| **kind == LIVE).count();
            for tag in [VECTORS, INDEX] {
                let section = self.sections.begin(tag)?;
                self.check_shard(section.shard, section.start)?;
                self.sections.skip(&section)?;
            }
            self.next_shard += 1;
        }
        self.end().map(|()| live)
    }
}

/// Rows that could not be stored.
fn unstored(file: &str, offset: u64, fault: Allocation) -> FileError {
    match fault {
        Allocation::OutOfMemory { bytes } => unwind(bytes),
        Allocation::Full { .. } => {
            FileError::Damaged { file: file.to_owned(), offset, what: "there are more rows than fit" }
        }
    }
}

fn decode_meta(content: &[u8]) -> Result<Meta, Malformed> {
    let mut input = Decoder::new(content);
    let fault = input.fault("a name is not UTF-8");
    let name = std::str::from_utf8(input.bytes()?).map_err(|_| fault)?.to_owned();
    let config = input.bytes()?.to_vec();
    let (seq, dimension, shards) = (Seq(input.u64()?), input.size()?, input.size()?);
    input.check((1..=SHARDS_MOST).contains(&shards), "there is no such number of shards")?;
    // Files of versions before 3 hold nothing that expires.
    let now = if input.rest() > 0 { Timestamp(input.u64()?.cast_signed()) } else { BEFORE_ALL };
    input.end().map(|()| Meta { name, config, seq, dimension, shards, now })
}

/// Whether an index follows, and the configuration with it if it took the
/// place of another.
fn begin_index(input: &mut Decoder<'_>) -> Result<(bool, Option<Vec<u8>>), Malformed> {
    Ok(match input.u8()? {
        kind @ (SWITCHED_THERE | SWITCHED_NONE) => (kind == SWITCHED_THERE, Some(input.bytes()?.to_vec())),
        kind => (kind == INDEX_THERE, None),
    })
}

impl LoadedShard {
    fn empty(space: &Space, storage: VectorStorage) -> LoadedShard {
        LoadedShard {
            rows: RowStore::new(Matrix::new(space.dim(), storage, space.metric())),
            ids: Vec::new(),
            tail: Vec::new(),
            dead: Vec::new(),
            held: RowSet::default(),
            absorbed: 0,
            index: None,
            spec: None,
            is_whole: false,
        }
    }

    fn new(table: RowTable, rows: RowStore) -> LoadedShard {
        let (mut held, mut dead, mut in_tail) = (RowSet::default(), Vec::new(), RowSet::default());
        table.tail.iter().for_each(|row| _ = in_tail.insert(*row));
        for (kind, row) in table.kinds.iter().zip(0 as Row..) {
            if *kind == DEAD {
                memory::push(&mut dead, row);
            }
            if *kind != FREE && !in_tail.contains(row) {
                held.insert(row);
            }
        }
        let (tail, absorbed) = (table.tail, table.absorbed);
        LoadedShard {
            rows,
            ids: Vec::new(),
            tail,
            dead,
            held,
            absorbed,
            index: None,
            spec: None,
            is_whole: true,
        }
    }

    /// A checkpoint may be of a moment in which some shards had another index
    /// already: `all` is what the first shard has, and what all get.
    pub(crate) fn become_alike(&mut self, all: &mut Option<Option<Vec<u8>>>) {
        let spec = all.get_or_insert_with(|| self.spec.clone());
        if self.spec != *spec {
            self.forget_index();
            self.spec.clone_from(spec);
        }
    }

    /// All live rows wait for an index again. (The places of dead ones are
    /// never used again: they are few, and this is a repair.)
    pub(crate) fn forget_index(&mut self) {
        let rows = std::mem::take(&mut self.held);
        memory::extend(&mut self.tail, rows.iter().filter(|row| self.rows.is_alive(*row)));
        self.tail.sort_unstable();
        self.dead.clear();
        self.index = None;
    }

    /// Live records.
    pub(crate) fn live(&self) -> usize {
        self.tail.len() + self.held.len() - self.dead.len()
    }

    /// The live records, in the order of their rows.
    pub(crate) fn records(&self) -> impl Iterator<Item = NewRow> + '_ {
        self.rows.live_records()
    }
}
