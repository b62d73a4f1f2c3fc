//! What an engine without generations should have found.
//!
//! Every write is noted when it begins and when it is acknowledged. A search
//! must find the nearest of the rows that had been acknowledged when it began
//! and were left alone until it was judged; what was being written meanwhile it
//! may find, and what had been deleted before it must not. So its recall is of
//! a lower bound of what was there: where vecino is asked for the very snapshot
//! of an answer, this is as near as one can come from outside.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use vecino::Metric;

use super::Passing;
use crate::load::check::{Evidence, Judged, limit};
use crate::load::data::Data;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// From now on the key may have this row (`None`: it may be gone).
    Begun { key: u64, row: Option<u64> },
    /// From now on it has; or, after a fault, nobody knows.
    Ended { key: u64, row: Option<u64>, known: bool },
}

/// What is known of a key that was written since the start.
#[derive(Clone, Copy, Debug)]
struct Known {
    row: Option<u64>,
    /// The row that it had before, while that may still be found.
    before: Option<u64>,
    /// Number of the last event; events are counted from 1.
    last: usize,
    under_way: u32,
    /// Writes overlapped, or failed: either may have won.
    unsure: bool,
}

impl Known {
    fn take(&mut self, number: usize, event: Event) {
        self.last = number;
        match event {
            Event::Begun { row, .. } => {
                self.unsure = self.under_way > 0;
                self.under_way += 1;
                (self.before, self.row) = (self.row, row);
            }
            Event::Ended { row, known, .. } => {
                self.under_way = self.under_way.saturating_sub(1);
                self.row = row;
                self.unsure |= !known;
            }
        }
    }

    /// Nothing happened to it after this event, and what it is was certain then.
    fn was_certain(&self, at: usize) -> bool {
        self.last <= at && self.under_way == 0 && !self.unsure
    }
}

/// What happened and was not read yet. What was read is dropped.
#[derive(Default)]
struct Log {
    /// Events before these.
    dropped: usize,
    events: Vec<Event>,
}

/// The log, as far as it was read: only what was written since the start.
#[derive(Default)]
struct Read {
    events: usize,
    known: HashMap<u64, Known>,
}

/// Knows which rows a peer must hold.
pub(crate) struct Oracle<'d> {
    data: &'d Data,
    /// Keys below this have the row of their own number at the start.
    loaded: u64,
    log: Mutex<Log>,
    read: Mutex<Read>,
}

impl<'d> Oracle<'d> {
    pub(crate) fn new(data: &'d Data, loaded: u64) -> Oracle<'d> {
        Oracle { data, loaded, log: Mutex::default(), read: Mutex::default() }
    }

    fn note(&self, event: Event) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).events.push(event);
    }

    /// A write begins: of this row, or a delete.
    pub(crate) fn begin(&self, key: u64, row: Option<u64>) {
        self.note(Event::Begun { key, row });
    }

    /// It was acknowledged, or it failed.
    pub(crate) fn end(&self, key: u64, row: Option<u64>, known: bool) {
        self.note(Event::Ended { key, row, known });
    }

    /// A moment: the number of the last event.
    pub(crate) fn now(&self) -> usize {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.dropped + log.events.len()
    }

    fn take_new(&self) -> Vec<Event> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.dropped += log.events.len();
        std::mem::take(&mut log.events)
    }

    fn read_on(&self, read: &mut Read) {
        for event in self.take_new() {
            read.events += 1;
            let (Event::Begun { key, .. } | Event::Ended { key, .. }) = event;
            let row = (key < self.loaded).then_some(key);
            let unknown = Known { row, before: None, last: 0, under_way: 0, unsure: false };
            read.known.entry(key).or_insert(unknown).take(read.events, event);
        }
    }

    /// Distances to a query of all rows that were there at a moment and pass.
    fn distances(&self, read: &Read, claim: &Claim<'_>) -> Vec<f32> {
        let query = self.data.query(claim.query);
        let untouched = (0..self.loaded).filter(|key| !read.known.contains_key(key)).map(|key| (key, key));
        let certain = read.known.iter().filter(|(_, known)| known.was_certain(claim.began));
        let written = certain.filter_map(|(key, known)| known.row.map(|row| (*key, row)));
        let passes = |key: u64| claim.passing.is_none_or(|passing| passing.lets_pass(key));
        let all = untouched.chain(written).filter(|(key, _)| passes(*key));
        all.map(|(_, row)| distance(self.data.metric, query, self.data.row(row))).collect()
    }

    /// The rows that a key may have had in a search from then on; none: it was gone.
    fn rows(&self, read: &Read, key: u64, began: usize) -> [Option<u64>; 2] {
        match read.known.get(&key) {
            None => [(key < self.loaded).then_some(key), None],
            Some(known) if known.was_certain(began) => [known.row, None],
            Some(known) => [known.row, known.before],
        }
    }
}

/// An answer, and when its search began.
pub(crate) struct Claim<'d> {
    pub(crate) oracle: Arc<Oracle<'d>>,
    pub(crate) began: usize,
    pub(crate) query: u64,
    pub(crate) k: usize,
    pub(crate) passing: Option<Passing>,
    pub(crate) keys: Vec<u64>,
}

impl Evidence for Claim<'_> {
    fn judge(&self) -> Judged {
        let oracle = &*self.oracle;
        let mut read = oracle.read.lock().unwrap_or_else(PoisonError::into_inner);
        oracle.read_on(&mut read);
        let mut distances = oracle.distances(&read, self);
        let wanted = self.k.min(distances.len());
        let farthest = match wanted.checked_sub(1) {
            Some(last) => limit(*distances.select_nth_unstable_by(last, f32::total_cmp).1),
            None => f32::INFINITY,
        };
        let query = oracle.data.query(self.query);
        let (mut near, mut wrong) = (0, self.keys.len().saturating_sub(self.k));
        for key in &self.keys {
            let rows = oracle.rows(&read, *key, self.began);
            let to = |row: &u64| distance(oracle.data.metric, query, oracle.data.row(*row));
            let nearest = rows.iter().flatten().map(to).min_by(f32::total_cmp);
            near += usize::from(nearest.is_some_and(|nearest| nearest <= farthest));
            let passes = self.passing.is_none_or(|passing| passing.lets_pass(*key));
            wrong += usize::from(nearest.is_none() || !passes);
        }
        let mut sorted = self.keys.clone();
        sorted.sort_unstable();
        wrong += sorted.windows(2).filter(|pair| pair[0] == pair[1]).count();
        let found = near.min(wanted) as u64;
        Judged { found, wanted: wanted as u64, answers: 1, asked_again: 0, wrong: wrong as u64 }
    }
}

/// Lanes of the sums below: enough for any machine's vectors.
const LANES: usize = 16;

/// Smaller is closer: the plain formula, in lanes that a compiler makes vectors of.
pub(crate) fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f32 {
    match metric {
        Metric::L2 => sum(a, b, |a, b| (a - b) * (a - b)),
        Metric::Dot => -sum(a, b, |a, b| a * b),
        // Cosine: `Data` has no other.
        _ => {
            let lengths = sum(a, a, |a, b| a * b) * sum(b, b, |a, b| a * b);
            1.0 - sum(a, b, |a, b| a * b) / lengths.sqrt().max(f32::MIN_POSITIVE)
        }
    }
}

fn sum(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            lanes[lane] += term(a[lane], b[lane]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| term(*a, *b)).sum();
    lanes.iter().sum::<f32>() + rest
}
