//! What runs beside a load for as long as it lasts and looks for what goes
//! wrong slowly: snapshots that change while they are held, checkpoints that
//! do not come back as they were, indexes that lose rows.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use vecino::{Answer, Collection, Query, Snapshot};

use super::Result;
use super::data::Data;
use super::rng::Rng;

/// Snapshots held at a time: old ones stay for many rounds.
const HELD: usize = 4;
/// Queries that every state is asked.
const QUERIES: u64 = 3;
/// Rounds from one `verify()` to the next...
const VERIFY_EVERY: u64 = 3;
/// ...and from one checkpoint to the next.
const CHECKPOINT_EVERY: u64 = 5;
/// Records that are read at a time when all are.
const PAGE: usize = 1_000;

/// What was done, and what was wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Soaked {
    pub(crate) rounds: u64,
    pub(crate) compared: u64,
    pub(crate) checkpoints: u64,
    pub(crate) verified: u64,
    pub(crate) faults: Vec<String>,
}

/// All records that do not expire, in short: equal when they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) records: u64,
    /// The sum of a number for each record, so that their order does not count.
    pub(crate) sum: u64,
}

impl Holding {
    /// # Errors
    /// When a page cannot be read.
    pub(crate) fn of(snapshot: &Snapshot) -> Result<Holding> {
        let (mut holding, mut from) = (Holding::default(), None);
        loop {
            let page = snapshot.scroll(from, PAGE)?;
            for record in page.records.iter().filter(|record| record.expires().is_none()) {
                let mut hasher = DefaultHasher::new();
                record.id().hash(&mut hasher);
                record.vector().iter().for_each(|number| number.to_bits().hash(&mut hasher));
                let mut fields: Vec<String> =
                    record.payload().iter().map(|field| format!("{field:?}")).collect();
                fields.sort_unstable();
                fields.hash(&mut hasher);
                holding.records += 1;
                holding.sum = holding.sum.wrapping_add(hasher.finish());
            }
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(holding),
            }
        }
    }
}

/// A snapshot and what it must go on answering.
struct Pinned {
    snapshot: Snapshot,
    len: usize,
    first_query: u64,
    answers: Vec<Option<Answer>>,
}

/// The watcher of one collection.
pub(crate) struct Soak<'a> {
    pub(crate) items: &'a Collection,
    pub(crate) data: &'a Data,
    /// Where checkpoints are written.
    pub(crate) folder: PathBuf,
    pub(crate) seed: u64,
}

impl Soak<'_> {
    /// Works until it is told to stop.
    pub(crate) fn run(&self, stop: &AtomicBool) -> Soaked {
        let mut soaked = Soaked::default();
        let mut rng = Rng::new(self.seed);
        let mut held: Vec<Pinned> = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            soaked.rounds += 1;
            if held.len() == HELD {
                let oldest = held.remove(rng.below(HELD as u64) as usize);
                self.compare(&oldest, &oldest.snapshot, "a held snapshot", &mut soaked);
            }
            held.push(self.pin(rng.next()));
            if soaked.rounds.is_multiple_of(VERIFY_EVERY) {
                self.verify(&mut soaked);
            }
            if soaked.rounds.is_multiple_of(CHECKPOINT_EVERY)
                && let Some(newest) = held.last()
            {
                self.checkpoint(newest, &mut soaked);
            }
        }
        held.iter().for_each(|pinned| self.compare(pinned, &pinned.snapshot, "a held snapshot", &mut soaked));
        soaked
    }

    fn ask(&self, snapshot: &Snapshot, first_query: u64) -> Vec<Option<Answer>> {
        let query = |at: u64| Query::new(self.data.query(first_query.wrapping_add(at))).top(10).exact();
        (0..QUERIES).map(|at| snapshot.search(&query(at)).ok()).collect()
    }

    fn pin(&self, first_query: u64) -> Pinned {
        let snapshot = self.items.snapshot();
        Pinned { len: snapshot.len(), answers: self.ask(&snapshot, first_query), first_query, snapshot }
    }

    fn compare(&self, expected: &Pinned, snapshot: &Snapshot, what: &str, soaked: &mut Soaked) {
        soaked.compared += 1;
        let hits = |answers: &[Option<Answer>]| -> Vec<Option<Vec<vecino::Hit>>> {
            answers.iter().map(|answer| answer.as_ref().map(|answer| answer.hits().to_vec())).collect()
        };
        let same = hits(&self.ask(snapshot, expected.first_query)) == hits(&expected.answers);
        if snapshot.len() != expected.len || !same || expected.answers.contains(&None) {
            soaked
                .faults
                .push(format!("{what} of {} answers otherwise than before", expected.snapshot.seq()));
        }
    }

    fn verify(&self, soaked: &mut Soaked) {
        soaked.verified += 1;
        match self.items.verify() {
            Ok(report) if report.is_sound() => {}
            Ok(report) => soaked.faults.push(format!("verify: {:?}", report.findings)),
            Err(fault) => soaked.faults.push(format!("verify: {fault}")),
        }
    }

    fn checkpoint(&self, pinned: &Pinned, soaked: &mut Soaked) {
        soaked.checkpoints += 1;
        let path = self.folder.join("soak.checkpoint");
        if let Err(fault) = pinned.snapshot.checkpoint(&path) {
            return soaked.faults.push(format!("checkpoint: {fault}"));
        }
        match Snapshot::open(&path) {
            Ok(opened) => self.compare(pinned, &opened, "a checkpoint", soaked),
            Err(fault) => soaked.faults.push(format!("opening a checkpoint: {fault}")),
        }
        let _ = std::fs::remove_file(&path);
    }
}
