//! Reading by filter: counting, paging, values of fields, groups of hits.

use std::cmp::Ordering;

use super::{Cursor, Page, Record, Snapshot, search};
use crate::bits::{RowSet, ones};
use crate::error::{ReadError, SearchError};
use crate::id::Row;
use crate::memory;
use crate::payload::{Filter, Value};
use crate::query::{Completeness, Hit, Query};
use crate::rows::ShardView;

/// In which order [`Snapshot::scroll_by`] shows records.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderBy {
    path: String,
    descending: bool,
}

impl OrderBy {
    /// By a field, least first: numbers, moments, texts, truth values.
    pub fn ascending(path: impl Into<String>) -> OrderBy {
        OrderBy { path: path.into(), descending: false }
    }

    /// By a field, greatest first.
    pub fn descending(path: impl Into<String>) -> OrderBy {
        OrderBy { path: path.into(), descending: true }
    }

    fn order(&self, a: &Ranked, b: &Ranked) -> Ordering {
        let values = a.value.order(&b.value);
        let values = if self.descending { values.reverse() } else { values };
        values.then((a.shard, a.row).cmp(&(b.shard, b.row)))
    }
}

/// A record by the value that it is ordered by.
#[derive(Clone, Debug, PartialEq)]
struct Ranked {
    value: Value,
    shard: usize,
    row: Row,
}

impl Ranked {
    fn copy(&self) -> Ranked {
        Ranked { value: self.value.copy(), ..*self }
    }
}

/// Where [`Snapshot::scroll_by`] goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderCursor(Ranked);

/// A part of a snapshot's records, in the order of a field.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderedPage {
    /// The records.
    pub records: Vec<Record>,
    /// Where the next page begins; `None` when this one was the last.
    pub next: Option<OrderCursor>,
}

/// A value of a field and how many records have it.
#[derive(Clone, Debug, PartialEq)]
pub struct Facet {
    /// The value.
    pub value: Value,
    /// Records that have it; of a list, each member counts once.
    pub count: usize,
}

/// The hits that share a value of a field.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The value.
    pub value: Value,
    /// The nearest records that have it, nearest first.
    pub hits: Vec<Hit>,
}

/// The groups that were found, nearest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Groups {
    /// In the order of their nearest records.
    pub groups: Vec<Group>,
    /// Whether these are as many groups as were asked for
    /// ([`FewerMatch`](Completeness::FewerMatch): no more were found), or why groups or hits may be missing.
    pub completeness: Completeness,
    /// Distances that were computed in all.
    pub distances: u64,
}

impl std::ops::Deref for Groups {
    type Target = [Group];

    fn deref(&self) -> &[Group] {
        &self.groups
    }
}

impl IntoIterator for Groups {
    type Item = Group;
    type IntoIter = std::vec::IntoIter<Group>;

    fn into_iter(self) -> Self::IntoIter {
        self.groups.into_iter()
    }
}

impl<'a> IntoIterator for &'a Groups {
    type Item = &'a Group;
    type IntoIter = std::slice::Iter<'a, Group>;

    fn into_iter(self) -> Self::IntoIter {
        self.groups.iter()
    }
}

impl Snapshot {
    /// The visible rows of a shard that pass, as bits.
    fn passing(&self, shard: &ShardView, filter: &Filter) -> Vec<u64> {
        shard.passing(filter, (self.seq(), self.now), self.published.context.directory.as_ref())
    }

    /// The number of records that pass a filter. O(rows / 64) and a look at
    /// each row that passes.
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Filter, Metric, Record};
    /// # let engine = Engine::builder().build()?;
    /// # let items = engine.create_collection("items", CollectionConfig::new(1, Metric::L2))?;
    /// items.upsert_batch((0..250u64).map(|id| Record::new(id, [0.0]).with("third", id % 3 == 0)))?.wait()?;
    /// assert_eq!(items.snapshot().count(&Filter::eq("third", true))?, 84);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ReadError`]: the filter cannot be used, or there is no memory.
    pub fn count(&self, filter: &Filter) -> Result<usize, ReadError> {
        filter.check()?;
        let shards = self.published.shards.iter();
        let count = || shards.map(|shard| count_ones(&self.passing(shard, filter))).sum();
        Ok(memory::unless_short(count)?)
    }

    /// As [`Snapshot::scroll`], of the records that pass a filter: a page takes an evaluation of
    /// the filter, by columns, and a look at each row that passes, from its first to its last.
    ///
    /// # Errors
    /// [`ReadError`]: the filter cannot be used, or there is no memory.
    pub fn scroll_where(
        &self,
        filter: &Filter,
        from: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        filter.check()?;
        Ok(memory::unless_short(|| self.page_where(filter, from, limit))?)
    }

    fn page_where(&self, filter: &Filter, from: Option<Cursor>, limit: usize) -> Page {
        let limit = limit.max(1);
        let from = from.unwrap_or(Cursor { shard: 0, row: 0 });
        let mut records = Vec::new();
        for (number, shard) in self.published.shards.iter().enumerate().skip(from.shard) {
            let first = if number == from.shard { from.row } else { 0 };
            let at = (self.seq(), self.now);
            let passing = shard.passing_from(filter, at, self.published.context.directory.as_ref(), first);
            for row in rows_of(&passing).filter(|row| shard.visible(*row, self.seq())) {
                if records.len() >= limit {
                    return Page { records, next: Some(Cursor { shard: number, row }) };
                }
                memory::extend(&mut records, self.record(shard, row));
            }
        }
        Page { records, next: None }
    }

    /// Up to `limit` records (at least one) that pass a filter, in the order of a field, from
    /// a place on (`None`: from the start). Records without the field are left
    /// out; one with a list stands where its first member in the order does.
    /// O(m log m), m being the records that pass.
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Filter, Metric, OrderBy, Record};
    /// # let engine = Engine::builder().build()?;
    /// # let items = engine.create_collection("items", CollectionConfig::new(1, Metric::L2))?;
    /// items.upsert_batch((0..100u64).map(|id| Record::new(id, [0.0]).with("year", 1900 + id as i64)))?.wait()?;
    /// let newest = OrderBy::descending("year");
    /// let page = items.snapshot().scroll_by(&Filter::lt("year", 1950), &newest, None, 10)?;
    /// assert_eq!(page.records[0].id(), &49.into());
    /// let next = items.snapshot().scroll_by(&Filter::lt("year", 1950), &newest, page.next.as_ref(), 10)?;
    /// assert_eq!(next.records[0].id(), &39.into());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ReadError`]: the filter cannot be used, or there is no memory.
    pub fn scroll_by(
        &self,
        filter: &Filter,
        order: &OrderBy,
        from: Option<&OrderCursor>,
        limit: usize,
    ) -> Result<OrderedPage, ReadError> {
        filter.check()?;
        Filter::exists(&order.path).check()?;
        Ok(memory::unless_short(|| self.page_by(filter, order, from, limit.max(1)))?)
    }

    fn page_by(
        &self,
        filter: &Filter,
        order: &OrderBy,
        from: Option<&OrderCursor>,
        limit: usize,
    ) -> OrderedPage {
        let mut all: Vec<Ranked> = Vec::new();
        for (number, shard) in self.published.shards.iter().enumerate() {
            let passing = self.passing(shard, filter);
            shard.payloads().values_of(&order.path, &passing, self.seq(), &mut |row, value| {
                memory::push(&mut all, Ranked { value: value.copy(), shard: number, row });
            });
        }
        all.sort_unstable_by(|a, b| order.order(a, b));
        let mut seen: Vec<RowSet> = memory::filled(RowSet::default(), self.published.shards.len());
        all.retain(|ranked| seen[ranked.shard].insert(ranked.row));
        let first = from.map_or(0, |from| all.partition_point(|one| order.order(one, &from.0).is_le()));
        let page = &all[first..all.len().min(first.saturating_add(limit))];
        let has_more = first + page.len() < all.len();
        let shard = |ranked: &Ranked| self.record(&self.published.shards[ranked.shard], ranked.row);
        OrderedPage {
            records: memory::collect(page.iter().filter_map(shard)),
            next: page.last().filter(|_| has_more).map(|last| OrderCursor(last.copy())),
        }
    }

    /// The values of a field among the records that pass a filter, the most
    /// frequent first, `most` of them; equally frequent ones in their order.
    /// O(m log m), m being the records that pass.
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Filter, Metric, Record};
    /// # let engine = Engine::builder().build()?;
    /// # let items = engine.create_collection("items", CollectionConfig::new(1, Metric::L2))?;
    /// let genres = ["rock", "folk", "rock"];
    /// items.upsert_batch((0..99u64).map(|id| Record::new(id, [0.0]).with("genre", genres[id as usize % 3])))?.wait()?;
    /// let facets = items.snapshot().facets("genre", &Filter::all([]), 10)?;
    /// assert_eq!((&facets[0].value, facets[0].count), (&"rock".into(), 66));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ReadError`]: the filter cannot be used, or there is no memory.
    pub fn facets(&self, path: &str, filter: &Filter, most: usize) -> Result<Vec<Facet>, ReadError> {
        filter.check()?;
        Filter::exists(path).check()?;
        Ok(memory::unless_short(|| self.counted(path, filter, most))?)
    }

    fn counted(&self, path: &str, filter: &Filter, most: usize) -> Vec<Facet> {
        let mut values: Vec<Value> = Vec::new();
        for shard in &self.published.shards {
            let (mut last, mut first) = (None, values.len());
            let passing = self.passing(shard, filter);
            shard.payloads().values_of(path, &passing, self.seq(), &mut |row, value| {
                // The members of a list come one after the other.
                if last != Some(row) {
                    keep_distinct(&mut values, first);
                    (last, first) = (Some(row), values.len());
                }
                memory::push(&mut values, value.copy());
            });
            keep_distinct(&mut values, first);
        }
        values.sort_unstable_by(Value::order);
        let runs = values.chunk_by(|a, b| a.order(b).is_eq());
        let mut facets: Vec<Facet> =
            memory::collect(runs.map(|run| Facet { value: run[0].copy(), count: run.len() }));
        facets.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.order(&b.value)));
        facets.truncate(most);
        facets
    }

    /// The nearest `groups` values of a field, each with the nearest `size`
    /// records that have it: of many chunks of few documents, say, the best of
    /// each document. Groups stand in the order of their nearest record; the
    /// query's own number of hits does not count.
    ///
    /// One search finds most groups; then come as many as there are groups, each
    /// among the records of one. The query's deadline and budget hold for all of them together;
    /// where they end it, what was seen by then is given, and [`Groups::completeness`] says why groups and hits are missing.
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Metric, Query, Record};
    /// # let engine = Engine::builder().build()?;
    /// # let chunks = engine.create_collection("chunks", CollectionConfig::new(1, Metric::L2))?;
    /// chunks.upsert_batch((0..100u64).map(|id| Record::new(id, [id as f32]).with("document", id as i64 / 10)))?.wait()?;
    /// let groups = chunks.snapshot().search_groups(&Query::new(&[0.0]), "document", 3, 2)?;
    /// assert_eq!(groups.len(), 3);
    /// assert_eq!((&groups[1].value, groups[1].hits.len()), (&1.into(), 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::search`].
    pub fn search_groups(
        &self,
        query: &Query<'_>,
        path: &str,
        groups: usize,
        size: usize,
    ) -> Result<Groups, SearchError> {
        memory::unless_short(|| self.groups_of(query, path, groups, size))?
    }

    fn groups_of(
        &self,
        query: &Query<'_>,
        path: &str,
        groups: usize,
        size: usize,
    ) -> Result<Groups, SearchError> {
        query.filters().map_or(Ok(()), Filter::check)?;
        Filter::exists(path).check()?;
        let base = query.filters().cloned().unwrap_or(Filter::all([]));
        let (mut rounds, mut found) =
            (Rounds::of(self, query), GroupsFound { wanted: groups, size, groups: Vec::new() });
        while found.groups.len() < groups && rounds.cut.is_none() {
            let before = found.groups.len();
            let wanted = (groups - before).saturating_mul(size.max(1));
            // Records that are in a known group may be in another as well.
            let known = found.groups.iter().map(|(_, group)| group.value.copy());
            let others = Filter::contains_other(path, known);
            for hit in rounds.search(wanted, base.and(others))? {
                self.sort_in(&mut found, &hit, path);
            }
            if found.groups.len() == before {
                break;
            }
        }
        // What is nearest first: it may be cut short.
        found.groups.sort_unstable_by_key(|(place, _)| *place);
        for (_, group) in &mut found.groups {
            if rounds.cut.is_some() {
                break;
            }
            let hits = rounds.search(size, base.and(Filter::eq(path, group.value.copy())))?;
            // Else those that were met on the way are the best that is known.
            if rounds.cut.is_none() && !hits.is_empty() {
                group.hits = hits;
            }
        }
        let found = found.in_order();
        Ok(rounds.end(found, groups))
    }

    /// Puts a hit into the group of each value that its record has.
    fn sort_in(&self, found: &mut GroupsFound, hit: &Hit, path: &str) {
        let Some((shard, row)) = self.sight().find(&hit.id) else { return };
        let payload = shard.payload(row, self.seq());
        for value in payload.get(path).into_iter().flat_map(Value::each) {
            if let Some(hits) = found.room_for(value) {
                memory::push(hits, Hit { id: hit.id.copy(), payload: hit.payload.clone(), ..*hit });
            }
        }
    }

    fn record(&self, shard: &ShardView, row: Row) -> Option<Record> {
        let id = shard.id(row)?.copy();
        Some(Record::stored(id, shard.vector(row), shard.payload(row, self.seq())))
    }
}

/// Groups by their value, each with the number of groups that were found before it.
struct GroupsFound {
    wanted: usize,
    size: usize,
    groups: Vec<(usize, Group)>,
}

impl GroupsFound {
    /// Where one more hit of a value goes, if it is wanted.
    fn room_for(&mut self, value: &Value) -> Option<&mut Vec<Hit>> {
        let at = match self.groups.binary_search_by(|(_, group)| group.value.order(value)) {
            Ok(at) => at,
            Err(_) if *value == Value::Null || self.groups.len() == self.wanted => return None,
            Err(at) => {
                let group = Group { value: value.copy(), hits: Vec::new() };
                let place = self.groups.len();
                memory::push(&mut self.groups, (place, group));
                self.groups[at..].rotate_right(1);
                at
            }
        };
        Some(&mut self.groups[at].1.hits).filter(|hits| hits.len() < self.size)
    }

    /// The groups, nearest first; equally near ones in the order in which they were found.
    fn in_order(mut self) -> Vec<Group> {
        for (_, group) in &mut self.groups {
            group.hits.sort_unstable_by(|a, b| a.rank().total_cmp(&b.rank()));
        }
        let nearest = |group: &Group| group.hits.first().map_or(f32::INFINITY, Hit::rank);
        self.groups
            .sort_unstable_by(|(at, a), (place, b)| nearest(a).total_cmp(&nearest(b)).then(at.cmp(place)));
        memory::collect(self.groups.into_iter().map(|(_, group)| group))
    }
}

/// Searches of one call, which share its time and its budget.
struct Rounds<'a> {
    snapshot: &'a Snapshot,
    query: Query<'static>,
    spent: u64,
    /// Why one of them was cut short.
    cut: Option<Completeness>,
}

impl<'a> Rounds<'a> {
    fn of(snapshot: &'a Snapshot, query: &Query<'_>) -> Rounds<'a> {
        let now = || snapshot.published.context.wall.clock().elapsed();
        Rounds { snapshot, query: query.kept().begun(now), spent: 0, cut: None }
    }

    /// The nearest `k` that pass a filter of ours.
    fn search(&mut self, k: usize, filter: Filter) -> Result<Vec<Hit>, SearchError> {
        let left = self.query.distances_allowed().saturating_sub(self.spent);
        let asked = self.query.kept().top(k).filter(filter).within_budget(left).vouched();
        let answer = search(self.snapshot.sight(), &asked)?;
        self.spent = self.spent.saturating_add(answer.stats().distances);
        self.cut = self.cut.or_else(|| Some(answer.completeness()).filter(|is| !is.is_whole()));
        Ok(answer.into_hits())
    }

    fn end(self, groups: Vec<Group>, wanted: usize) -> Groups {
        let whole = if groups.len() < wanted { Completeness::FewerMatch } else { Completeness::Complete };
        Groups { completeness: self.cut.unwrap_or(whole), distances: self.spent, groups }
    }
}

/// Keeps each of the values from a place on once.
fn keep_distinct(values: &mut Vec<Value>, from: usize) {
    let tail = &mut values[from..];
    if tail.len() < 2 {
        return;
    }
    tail.sort_unstable_by(Value::order);
    let mut kept = from + 1;
    for at in from + 1..values.len() {
        if values[at].order(&values[kept - 1]).is_ne() {
            values.swap(at, kept);
            kept += 1;
        }
    }
    values.truncate(kept);
}

fn count_ones(words: &[u64]) -> usize {
    words.iter().map(|word| word.count_ones() as usize).sum()
}

fn rows_of(words: &[u64]) -> impl Iterator<Item = Row> + '_ {
    let words = words.iter().enumerate();
    words.flat_map(|(at, word)| ones(*word).map(move |bit| (at * 64) as Row + bit))
}
