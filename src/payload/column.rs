//! One field of the rows of a block, all values of one kind.

use super::mask::{Mask, ROWS};
use super::range::{FloatRange, Set, Test, TextTest};
use super::value::{Kind, Timestamp, Value};
use super::words::Words;
use crate::memory;

/// Whole numbers from 0 up, as narrow as they can be.
#[derive(Clone, Debug)]
enum Numbers {
    U8(Box<[u8]>),
    U16(Box<[u16]>),
    U32(Box<[u32]>),
    U64(Box<[u64]>),
}

/// Does something with the numbers, whatever their width.
macro_rules! each_width {
    ($numbers:expr, $values:ident => $done:expr) => {
        match $numbers {
            Numbers::U8($values) => $done,
            Numbers::U16($values) => $done,
            Numbers::U32($values) => $done,
            Numbers::U64($values) => $done,
        }
    };
}

fn boxed<T>(values: impl ExactSizeIterator<Item = T>) -> Box<[T]> {
    let mut list = memory::list(values.len());
    list.extend(values);
    list.into_boxed_slice()
}

impl Numbers {
    fn new(values: &[u64], most: u64) -> Numbers {
        if most <= u8::MAX.into() {
            Numbers::U8(boxed(values.iter().map(|value| *value as u8)))
        } else if most <= u16::MAX.into() {
            Numbers::U16(boxed(values.iter().map(|value| *value as u16)))
        } else if most <= u32::MAX.into() {
            Numbers::U32(boxed(values.iter().map(|value| *value as u32)))
        } else {
            Numbers::U64(boxed(values.iter().copied()))
        }
    }

    fn len(&self) -> usize {
        each_width!(self, values => values.len())
    }

    #[allow(clippy::useless_conversion, reason = "one arm for every width")]
    fn get(&self, at: usize) -> u64 {
        each_width!(self, values => values.get(at).map_or(0, |value| u64::from(*value)))
    }

    fn bytes(&self) -> usize {
        each_width!(self, values => size_of_val(&**values))
    }

    /// Shows where the values from `low` to `high` are.
    fn mark(&self, low: u64, high: u64, marks: &mut Marks<'_>) {
        each_width!(self, values => {
            // The values go up to `high` at least, so it fits.
            let (low, span) = (low as _, (high - low) as _);
            marks.put(values, |value| value.wrapping_sub(low) <= span);
        });
    }
}

#[derive(Clone, Debug)]
enum Data {
    Nulls(usize),
    /// Each is `base` more than its number; `most` is the greatest number.
    Whole {
        base: i64,
        most: u64,
        numbers: Numbers,
    },
    Floats(Box<[f64]>),
    /// The numbers are places in `words`.
    Texts {
        words: Words,
        numbers: Numbers,
    },
}

/// The entries of a field; a row that has a list has several, or none.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) field: u32,
    pub(super) kind: Kind,
    /// The row of each entry, ascending; none: entry i is that of row i.
    rows: Option<Box<[u16]>>,
    /// Rows that have a list.
    lists: Option<Box<Mask>>,
    data: Data,
}

/// A value that is not copied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar<'a> {
    Null,
    Whole(i64),
    Float(f64),
    Text(&'a str),
}

impl<'a> Scalar<'a> {
    fn of(value: &'a Value) -> Scalar<'a> {
        match value {
            Value::Null | Value::List(_) => Scalar::Null,
            Value::Bool(truth) => Scalar::Whole((*truth).into()),
            Value::Int(number) => Scalar::Whole(*number),
            Value::Time(Timestamp(time)) => Scalar::Whole(*time),
            Value::Float(number) => Scalar::Float(*number),
            Value::Text(text) => Scalar::Text(text),
        }
    }

    fn text(self) -> &'a str {
        match self {
            Scalar::Text(text) => text,
            _ => "",
        }
    }

    pub(super) fn value(self, kind: Kind) -> Value {
        match self {
            Scalar::Null => Value::Null,
            Scalar::Whole(number) => match kind {
                Kind::Bool => Value::Bool(number != 0),
                Kind::Time => Value::Time(Timestamp(number)),
                _ => Value::Int(number),
            },
            Scalar::Float(number) => Value::Float(number),
            Scalar::Text(text) => Value::Text(memory::boxed_text(text)),
        }
    }
}

/// A column in the making.
pub(super) struct Draft<'a> {
    entries: Vec<(u16, Scalar<'a>)>,
    lists: Mask,
}

impl<'a> Draft<'a> {
    pub(super) const EMPTY: Draft<'a> = Draft { entries: Vec::new(), lists: Mask::NONE };

    pub(super) fn add(&mut self, row: u16, value: &'a Value) {
        if matches!(value, Value::List(_)) {
            self.lists.set(row.into());
        }
        memory::extend(&mut self.entries, value.members().iter().map(|member| (row, Scalar::of(member))));
    }

    /// Takes over the rows of a column that are not in `changed`.
    pub(super) fn keep(&mut self, column: &'a Column, changed: &Mask) {
        let kept = column.entries().filter(|(row, _)| !changed.contains((*row).into()));
        memory::extend(&mut self.entries, kept);
        if let Some(lists) = &column.lists {
            let mut lists = **lists;
            let mut others = *changed;
            others.not();
            lists.and(&others);
            self.lists.or(&lists);
        }
    }

    /// By row; lists keep their order. (A sort that keeps it takes memory that
    /// nobody may be without.)
    fn sort(&mut self) {
        if self.entries.is_sorted_by_key(|(row, _)| *row) {
            return;
        }
        let mut order: Vec<u32> = memory::collect(0..self.entries.len() as u32);
        order.sort_unstable_by_key(|at| (self.entries[*at as usize].0, *at));
        self.entries = memory::collect(order.iter().map(|at| self.entries[*at as usize]));
    }

    /// The column; none when there is nothing.
    pub(super) fn finish(mut self, field: u32, kind: Kind) -> Option<Column> {
        if self.entries.is_empty() && self.lists.is_empty() {
            return None;
        }
        self.sort();
        let is_dense = self.entries.iter().enumerate().all(|(at, (row, _))| at == usize::from(*row));
        let rows = (!is_dense).then(|| boxed(self.entries.iter().map(|(row, _)| *row)));
        let lists = (!self.lists.is_empty()).then(|| Box::new(self.lists));
        Some(Column { field, kind, rows, lists, data: Data::new(kind, &self.entries) })
    }
}

impl Data {
    fn new(kind: Kind, entries: &[(u16, Scalar<'_>)]) -> Data {
        match kind {
            Kind::Null => Data::Nulls(entries.len()),
            Kind::Float => {
                let float = |(_, value): &(u16, Scalar<'_>)| match value {
                    Scalar::Float(number) => *number,
                    _ => 0.0,
                };
                Data::Floats(boxed(entries.iter().map(float)))
            }
            Kind::Text => {
                let mut texts: Vec<&str> = memory::collect(entries.iter().map(|(_, value)| value.text()));
                texts.sort_unstable();
                texts.dedup();
                let place = |text: &str| texts.partition_point(|before| *before < text) as u64;
                let places: Vec<u64> = memory::collect(entries.iter().map(|(_, value)| place(value.text())));
                let numbers = Numbers::new(&places, texts.len() as u64);
                Data::Texts { words: Words::new(texts.iter().copied()), numbers }
            }
            Kind::Bool | Kind::Int | Kind::Time => {
                let whole = |(_, value): &(u16, Scalar<'_>)| match value {
                    Scalar::Whole(number) => *number,
                    _ => 0,
                };
                let base = entries.iter().map(whole).min().unwrap_or(0);
                let offset = |entry| whole(entry).wrapping_sub(base) as u64;
                let offsets: Vec<u64> = memory::collect(entries.iter().map(offset));
                let most = offsets.iter().copied().max().unwrap_or(0);
                Data::Whole { base, most, numbers: Numbers::new(&offsets, most) }
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Data::Nulls(count) => *count,
            Data::Whole { numbers, .. } | Data::Texts { numbers, .. } => numbers.len(),
            Data::Floats(floats) => floats.len(),
        }
    }
}

/// Where marks of entries go.
struct Marks<'a> {
    rows: Option<&'a [u16]>,
    mask: &'a mut Mask,
}

/// Gathers the lowest bits of 8 bytes: byte i is moved to bit 56 + i.
const GATHER: u64 = 0x0102_0408_1020_4080;

impl Marks<'_> {
    /// Marks the rows of all entries.
    fn all(&mut self, count: usize) {
        match self.rows {
            None => self.mask.or(&Mask::first(count)),
            Some(rows) => rows.iter().for_each(|row| self.mask.set((*row).into())),
        }
    }

    /// Marks the rows of the entries for which `holds`. Compiled to vector
    /// instructions when that is a comparison.
    #[inline(always)]
    fn put<T: Copy>(&mut self, values: &[T], holds: impl Fn(T) -> bool) {
        for (at, part) in values.chunks(64).enumerate() {
            let mut flags = [0u8; 64];
            if let Ok(part) = <&[T; 64]>::try_from(part) {
                for (flag, value) in flags.iter_mut().zip(part) {
                    *flag = holds(*value).into();
                }
            } else {
                for (flag, value) in flags.iter_mut().zip(part) {
                    *flag = holds(*value).into();
                }
            }
            let (eights, _) = flags.as_chunks::<8>();
            let word = eights
                .iter()
                .rev()
                .fold(0, |word, eight| word << 8 | u64::from_le_bytes(*eight).wrapping_mul(GATHER) >> 56);
            self.word(at, word);
        }
    }

    /// Marks the rows of 64 entries.
    #[inline(always)]
    fn word(&mut self, at: usize, word: u64) {
        match self.rows {
            None => {
                if let Some(place) = self.mask.0.get_mut(at) {
                    *place |= word;
                }
            }
            Some(rows) => {
                for bit in crate::bits::ones(word) {
                    if let Some(row) = rows.get(at * 64 + bit as usize) {
                        self.mask.set((*row).into());
                    }
                }
            }
        }
    }
}

impl Column {
    /// The rows and values, by row.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u16, Scalar<'_>)> {
        (0..self.data.len()).map(|at| (self.row(at), self.at(at)))
    }

    fn row(&self, at: usize) -> u16 {
        self.rows.as_ref().map_or(at as u16, |rows| rows.get(at).copied().unwrap_or(u16::MAX))
    }

    fn at(&self, at: usize) -> Scalar<'_> {
        match &self.data {
            Data::Nulls(_) => Scalar::Null,
            Data::Whole { base, numbers, .. } => Scalar::Whole(base.wrapping_add(numbers.get(at) as i64)),
            Data::Floats(floats) => Scalar::Float(floats.get(at).copied().unwrap_or(0.0)),
            Data::Texts { words, numbers } => Scalar::Text(words.get(numbers.get(at) as usize)),
        }
    }

    /// What a row has in this field.
    pub(super) fn value(&self, row: u16) -> Option<Value> {
        let entries = match &self.rows {
            None => usize::from(row)..(usize::from(row) + 1).min(self.data.len()),
            Some(rows) => {
                rows.partition_point(|other| *other < row)..rows.partition_point(|other| *other <= row)
            }
        };
        if self.lists.as_ref().is_some_and(|lists| lists.contains(row.into())) {
            return Some(Value::List(memory::collect(entries.map(|at| self.at(at).value(self.kind)))));
        }
        (!entries.is_empty()).then(|| self.at(entries.start).value(self.kind))
    }

    /// The greatest whole number or moment.
    pub(super) fn last(&self) -> Option<i64> {
        match &self.data {
            Data::Whole { base, most, .. } => Some(base.wrapping_add(*most as i64)),
            _ => None,
        }
    }

    /// The least whole number or moment beyond one.
    pub(super) fn first_after(&self, least: i64) -> Option<i64> {
        let Data::Whole { base, numbers, .. } = &self.data else { return None };
        if *base > least {
            return Some(*base);
        }
        let all = (0..numbers.len()).map(|at| base.wrapping_add(numbers.get(at) as i64));
        all.filter(|value| *value > least).min()
    }

    /// Marks the rows of which an entry passes a test.
    pub(super) fn mark(&self, test: &Test, mask: &mut Mask) {
        let mut marks = Marks { rows: self.rows.as_deref(), mask };
        match (test, &self.data) {
            (Test::Null, Data::Nulls(count)) => marks.all(*count),
            (Test::Exists, data) if self.kind != Kind::Null => marks.all(data.len()),
            (Test::Set(set), Data::Nulls(count)) if set.null => marks.all(*count),
            (Test::Set(set), Data::Whole { .. }) => {
                self.mark_set(self.whole_of(set), &mut marks);
            }
            (Test::Set(set), Data::Floats(floats)) => match set.floats.as_slice() {
                [] => {}
                [one] => marks.put(floats, |float| float == *one),
                many => marks.put(floats, |float| is_among(many, float)),
            },
            (Test::Set(set), Data::Texts { words, numbers }) => {
                mark_texts(words, numbers, &set.texts, &mut marks);
            }
            (Test::Other(set), _) => self.mark_others(set, &mut marks),
            (Test::Range(range), Data::Whole { .. }) => {
                let bounds = match self.kind {
                    Kind::Int => range.ints,
                    Kind::Time => range.times,
                    _ => None,
                };
                if let Some((low, high)) = bounds {
                    self.mark_whole(low, high, &mut marks);
                }
            }
            (Test::Range(range), Data::Floats(floats)) => {
                if let Some(FloatRange { low, high }) = range.floats {
                    // Edges are such that both are included.
                    marks.put(floats, |float| float >= low && float <= high);
                }
            }
            (Test::Text(test), Data::Texts { words, numbers }) => mark_text(words, numbers, test, &mut marks),
            _ => {}
        }
    }

    fn mark_whole(&self, low: i64, high: i64, marks: &mut Marks<'_>) {
        let Data::Whole { base, most, numbers } = &self.data else { return };
        let last = base.wrapping_add(*most as i64);
        if low > last || high < *base || low > high {
            return;
        }
        if low <= *base && high >= last {
            return marks.all(numbers.len());
        }
        let low = low.max(*base).wrapping_sub(*base) as u64;
        let high = high.min(last).wrapping_sub(*base) as u64;
        numbers.mark(low, high, marks);
    }

    /// `values` ascend.
    fn mark_set(&self, values: &[i64], marks: &mut Marks<'_>) {
        let Data::Whole { base, most, numbers } = &self.data else { return };
        let last = base.wrapping_add(*most as i64);
        let near =
            values.partition_point(|value| value < base)..values.partition_point(|value| *value <= last);
        let values = &values[near];
        if values.len() <= FEW {
            return values.iter().for_each(|value| self.mark_whole(*value, *value, marks));
        }
        for at in 0..numbers.len() {
            if values.binary_search(&base.wrapping_add(numbers.get(at) as i64)).is_ok() {
                marks.word(at / 64, 1 << (at % 64));
            }
        }
    }

    /// The values of a set that are of the kind of a column of whole numbers.
    fn whole_of<'a>(&self, set: &'a Set) -> &'a [i64] {
        match self.kind {
            Kind::Bool => &set.bools,
            Kind::Time => &set.times,
            _ => &set.ints,
        }
    }

    /// Marks the rows of entries that are not null and not in a set.
    fn mark_others(&self, set: &Set, marks: &mut Marks<'_>) {
        let mut mark = |count: usize, is_other: &dyn Fn(usize) -> bool| {
            let others = (0..count).filter(|at| is_other(*at));
            others.for_each(|at| marks.word(at / 64, 1 << (at % 64)));
        };
        match &self.data {
            Data::Nulls(_) => {}
            Data::Whole { base, numbers, .. } => {
                let values = self.whole_of(set);
                let value = |at: usize| base.wrapping_add(numbers.get(at) as i64);
                mark(numbers.len(), &|at| values.binary_search(&value(at)).is_err());
            }
            Data::Floats(floats) => marks.put(floats, |float| !is_among(&set.floats, float)),
            Data::Texts { words, numbers } => {
                let is_other =
                    |at: usize| set.texts.binary_search_by(|text| (**text).cmp(words.get(at))).is_err();
                let others: Vec<bool> = (0..words.len()).map(is_other).collect();
                mark(numbers.len(), &|at| others.get(numbers.get(at) as usize) == Some(&true));
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let data = match &self.data {
            Data::Nulls(_) => 0,
            Data::Whole { numbers, .. } => numbers.bytes(),
            Data::Floats(floats) => size_of_val(&**floats),
            Data::Texts { words, numbers } => words.bytes() + numbers.bytes(),
        };
        let rows = self.rows.as_ref().map_or(0, |rows| size_of_val(&**rows));
        let lists = self.lists.as_ref().map_or(0, |_| size_of::<Mask>());
        size_of::<Column>() + data + rows + lists
    }
}

/// Whether a float is one of some that ascend; both zeros are the same.
fn is_among(floats: &[f64], float: f64) -> bool {
    floats.binary_search_by(|x| x.total_cmp(&(float + 0.0))).is_ok()
}

/// So few values are looked for one after the other, each in all entries at once.
const FEW: usize = 8;

/// `texts` ascend.
fn mark_texts(words: &Words, numbers: &Numbers, texts: &[Box<str>], marks: &mut Marks<'_>) {
    let place = |text: &str| {
        let at = words.count_before(|word| word < text);
        (at < words.len() && words.get(at) == text).then_some(at)
    };
    let found: Vec<usize> = match texts {
        [one] => return place(one).into_iter().for_each(|at| numbers.mark(at as u64, at as u64, marks)),
        few if few.len() <= words.len() => few.iter().filter_map(|text| place(text)).collect(),
        many => {
            let is_asked = |at: &usize| many.binary_search_by(|text| (**text).cmp(words.get(*at))).is_ok();
            (0..words.len()).filter(is_asked).collect()
        }
    };
    mark_places(numbers, words.len(), &found, marks);
}

/// Marks the entries with some of the words.
fn mark_places(numbers: &Numbers, words: usize, places: &[usize], marks: &mut Marks<'_>) {
    if places.len() <= FEW {
        return places.iter().for_each(|at| numbers.mark(*at as u64, *at as u64, marks));
    }
    let mut asked = vec![false; words];
    places.iter().for_each(|at| asked[*at] = true);
    for at in 0..numbers.len() {
        if asked.get(numbers.get(at) as usize) == Some(&true) {
            marks.word(at / 64, 1 << (at % 64));
        }
    }
}

fn mark_text(words: &Words, numbers: &Numbers, test: &TextTest, marks: &mut Marks<'_>) {
    let range = match test {
        TextTest::Prefix(prefix) => words.with_prefix(prefix),
        TextTest::Range(range) => {
            words.count_before(|word| range.is_before(word))..words.count_before(|word| !range.is_after(word))
        }
        TextTest::Like(pattern) => {
            let near = words.with_prefix(pattern.prefix());
            let found: Vec<usize> = near.filter(|at| pattern.matches(words.get(*at))).collect();
            return mark_places(numbers, words.len(), &found, marks);
        }
    };
    if range.is_empty() {
        return;
    }
    if range.len() == words.len() {
        return marks.all(numbers.len());
    }
    numbers.mark(range.start as u64, range.end as u64 - 1, marks);
}

const _: () = assert!(ROWS <= u16::MAX as usize, "rows of a block are u16");
