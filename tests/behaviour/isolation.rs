//! Goal: many threads read and write at once, and every answer shows one state
//! that the collection really had, no older than any the reader has seen.
//!
//! Method: the records come in groups of eight; every write is a batch that
//! replaces (or deletes) a whole group, over several shards, and gives all its
//! records the same stamp. The metric makes the distance of a record its
//! stamp, so one exhaustive search reads the whole collection. Readers look in
//! every way there is, check what can be checked at once, and keep what they
//! saw: at the end every answer is compared with the state that the write log
//! gives for the write that the answer says it shows.
//!
//! `VECINO_ISOLATION_ANSWERS` sets the number of answers that are checked
//! (default 160,000).

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::common::{Rng, block_on, index_specs, setting, watchdog};
use vecino::{
    Answer, Collection, CollectionConfig, Engine, Generation, IndexSpec, Metric, Query, Record, Seq, Snapshot,
};

const GROUPS: usize = 16;
const GROUP: usize = 8;

/// Groups from here on are deleted now and then; the others are always there.
const STEADY: usize = 12;

const WRITERS: usize = 3;
const READERS: usize = 4;

/// The stamp of every group; `None` while it is deleted.
type Stamps = [Option<u32>; GROUPS];

/// One write: its number, the group, the group's stamp from then on.
type Entry = (Seq, usize, Option<u32>);

/// What a reader saw: the write that the answer shows, and the groups.
type Sight = (Seq, Stamps);

struct Arena {
    items: Collection,
    log: Mutex<Vec<Entry>>,
    sights: Mutex<Vec<Sight>>,
    answers: AtomicUsize,
    over: AtomicBool,
}

fn records(group: usize, stamp: u32) -> impl Iterator<Item = Record> {
    let ids = group * GROUP..(group + 1) * GROUP;
    ids.map(move |id| Record::new(id as u64, [stamp as f32, 1.0]))
}

/// Reads the whole collection: the distance of a record is its negated stamp.
fn everything() -> Query<'static> {
    Query::new(vec![1.0, 0.0]).top(GROUPS * GROUP + 10)
}

/// The stamps that an answer shows. Panics when a group shows in part or with
/// two stamps, and when a record shows twice.
fn stamps(answer: &Answer) -> Stamps {
    let mut seen = [[None; GROUP]; GROUPS];
    for hit in answer {
        let id = hit.id.as_num().unwrap() as usize;
        let place = &mut seen[id / GROUP][id % GROUP];
        assert_eq!(*place, None, "record {id} was found twice");
        *place = Some(-hit.distance as u32);
    }
    let mut stamps = Stamps::default();
    for (group, (records, stamp)) in seen.iter().zip(&mut stamps).enumerate() {
        assert!(records.iter().all(|seen| *seen == records[0]), "group {group} is torn: {records:?}");
        *stamp = records[0];
    }
    assert!(
        stamps[..STEADY].iter().all(Option::is_some),
        "a group was replaced and never deleted: {stamps:?}"
    );
    stamps
}

/// Writes the groups `writer`, `writer + WRITERS`, ...
fn write(arena: &Arena, writer: usize, seed: u64) {
    let mut rng = Rng::new(seed);
    let mine: Vec<usize> = (writer..GROUPS).step_by(WRITERS).collect();
    for stamp in 1.. {
        if arena.over.load(Ordering::Relaxed) {
            return;
        }
        let group = mine[rng.below(mine.len())];
        let deletes = group >= STEADY && rng.once_in(3);
        let (write, stamp) = if deletes {
            let ids = (group * GROUP..(group + 1) * GROUP).map(|id| id as u64);
            (arena.items.delete_batch(ids).unwrap(), None)
        } else {
            (arena.items.upsert_batch(records(group, stamp)).unwrap(), Some(stamp))
        };
        arena.log.lock().unwrap().push((write.seq(), group, stamp));
        match rng.below(8) {
            0 => read_own(arena, group, stamp, write.seq()),
            1 => assert!(write.wait().unwrap() <= arena.items.snapshot().generation()),
            2 if rng.once_in(40) => drop(arena.items.optimize().unwrap()),
            _ => {}
        }
    }
}

/// Nobody else writes this group: after the write it shows what was written.
fn read_own(arena: &Arena, group: usize, stamp: Option<u32>, seq: Seq) {
    let answer = arena.items.search(&everything().exact().at_least(seq)).unwrap();
    assert!(answer.seq() >= seq);
    assert_eq!(stamps(&answer)[group], stamp, "a writer must read its own write {seq}");
    let answer = block_on(arena.items.search_async(everything().exact())).unwrap();
    assert_eq!(stamps(&answer)[group], stamp, "a search through the workers shows accepted writes");
}

/// What one reader has seen so far.
struct Reader<'a> {
    arena: &'a Arena,
    newest: (Seq, Generation),
    newest_stamps: Stamps,
    sights: Vec<Sight>,
}

impl Reader<'_> {
    /// Checks one answer against all that this reader saw before.
    fn saw(&mut self, answer: &Answer) {
        let stamps = stamps(answer);
        let (seq, generation) = (answer.seq(), answer.generation());
        assert!(seq >= self.newest.0, "seq went back from {} to {seq}", self.newest.0);
        assert!(generation >= self.newest.1, "generation went back from {} to {generation}", self.newest.1);
        for (before, now) in self.newest_stamps.iter().zip(&stamps).take(STEADY) {
            assert!(before <= now, "a stamp went back");
        }
        (self.newest, self.newest_stamps) = ((seq, generation), stamps);
        self.sights.push((seq, stamps));
        self.arena.answers.fetch_add(1, Ordering::Relaxed);
    }

    fn look(&mut self, rng: &mut Rng) {
        let items = &self.arena.items;
        let exact = everything().exact();
        match rng.below(8) {
            0 | 1 => self.saw(&items.search(&exact).unwrap()),
            2 => self.saw(&items.search(&everything()).unwrap()),
            3 => self.saw(&items.snapshot().search(&everything()).unwrap()),
            4 => self.saw(&block_on(items.search_async(exact)).unwrap()),
            5 => {
                let answers = items.search_batch(&[exact.clone(), everything(), exact]).unwrap();
                assert!(answers.iter().all(|answer| answer.generation() == answers[0].generation()));
                answers.iter().for_each(|answer| self.saw(answer));
            }
            6 => self.saw(&items.search(&exact.at_least(self.newest.0)).unwrap()),
            _ => self.look_at_records(rng),
        }
    }

    /// Single records of one snapshot agree with a search of the same snapshot.
    fn look_at_records(&mut self, rng: &mut Rng) {
        let snapshot = self.arena.items.snapshot();
        let answer = snapshot.search(&everything().exact()).unwrap();
        let stamps = stamps(&answer);
        for _ in 0..4 {
            let id = rng.below(GROUPS * GROUP);
            let found = snapshot.get(id as u64).unwrap().map(|record| record.vector()[0] as u32);
            assert_eq!(found, stamps[id / GROUP], "record {id}");
        }
        assert_eq!((snapshot.len(), snapshot.seq()), (answer.len(), answer.seq()));
        self.saw(&answer);
    }
}

fn read(arena: &Arena, answers: usize, seed: u64) {
    let mut rng = Rng::new(seed);
    let newest_stamps = Stamps::default();
    let mut reader = Reader { arena, newest: (Seq(0), Generation(0)), newest_stamps, sights: Vec::new() };
    let mut held: Option<(Snapshot, Answer)> = None;
    while reader.sights.len() < answers {
        reader.look(&mut rng);
        if rng.once_in(50) {
            if let Some((snapshot, before)) = held.take() {
                let again = snapshot.search(&everything().exact()).unwrap();
                assert_eq!(again, before, "a held snapshot must answer the same again");
                assert_eq!(stamps(&snapshot.search(&everything()).unwrap()), stamps(&before));
            }
            let snapshot = arena.items.snapshot();
            let answer = snapshot.search(&everything().exact()).unwrap();
            held = Some((snapshot, answer));
        }
    }
    arena.sights.lock().unwrap().append(&mut reader.sights);
}

/// Compares every sight with the state that the log gives.
fn check_history(mut log: Vec<Entry>, mut sights: Vec<Sight>) {
    log.sort_unstable();
    sights.sort_unstable();
    assert!(log.windows(2).all(|pair| pair[0].0 < pair[1].0), "two writes have the same number");
    let mut state = Stamps::default();
    let mut writes = log.into_iter().peekable();
    for (seq, seen) in sights {
        while let Some((_, group, stamp)) = writes.next_if(|(written, ..)| *written <= seq) {
            state[group] = stamp;
        }
        assert_eq!(seen, state, "an answer of write {seq} shows a state that never was");
    }
}

fn run(workers: usize, index: IndexSpec, answers: usize) -> usize {
    let engine = Engine::builder().workers(workers).mailbox_capacity(64).pool_threads(2).build().unwrap();
    let config = CollectionConfig::new(2, Metric::Dot).index(index);
    let items = engine.create_collection("items", config).unwrap();
    let arena = Arena {
        items,
        log: Mutex::default(),
        sights: Mutex::default(),
        answers: AtomicUsize::new(0),
        over: AtomicBool::new(false),
    };
    for group in 0..GROUPS {
        let write = arena.items.upsert_batch(records(group, 0)).unwrap();
        write.wait().unwrap();
        arena.log.lock().unwrap().push((write.seq(), group, Some(0)));
    }
    thread::scope(|scope| {
        let arena = &arena;
        for writer in 0..WRITERS {
            scope.spawn(move || write(arena, writer, 100 + writer as u64));
        }
        let readers: Vec<_> = (0..READERS as u64)
            .map(|reader| scope.spawn(move || read(arena, answers.div_ceil(READERS), 200 + reader)))
            .collect();
        let ends: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        arena.over.store(true, Ordering::Relaxed);
        ends.into_iter().for_each(|end| end.unwrap());
    });
    arena.items.flush().unwrap();
    let report = arena.items.verify().unwrap();
    assert!(report.is_sound(), "{report:?}");
    let log = arena.log.into_inner().unwrap();
    eprintln!("{workers} workers, {index:?}: {} writes", log.len());
    check_history(log, arena.sights.into_inner().unwrap());
    arena.answers.into_inner()
}

#[test]
fn every_answer_shows_a_state_that_the_collection_had_and_none_goes_back() {
    let answers = setting("VECINO_ISOLATION_ANSWERS", 160_000);
    let _watchdog = watchdog(120 + answers as u64 / 200);
    let mut checked = 0;
    for workers in 1..=4 {
        for index in index_specs() {
            checked += run(workers, index, answers.div_ceil(12));
        }
    }
    eprintln!("{checked} answers checked");
    assert!(checked >= answers);
}
