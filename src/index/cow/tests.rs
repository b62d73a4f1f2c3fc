use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::id::mix;

/// The blocks with their versions, as an index holds them.
struct Store {
    versions: Versions,
    blocks: Blocks,
    newest: Arc<(BlockView, Lease)>,
}

impl Store {
    fn new(stride: usize) -> Store {
        let (mut versions, mut blocks) = (Versions::default(), Blocks::new(stride));
        let epoch = versions.begin();
        let view = blocks.publish(epoch, &versions);
        let newest = Arc::new((view, versions.publish()));
        Store { versions, blocks, newest }
    }

    fn commit(&mut self, writes: &[(u32, Vec<u32>)]) -> Arc<(BlockView, Lease)> {
        let epoch = self.versions.begin();
        for (key, words) in writes {
            self.blocks.write(*key, words, epoch);
        }
        let view = self.blocks.publish(epoch, &self.versions);
        self.newest = Arc::new((view, self.versions.publish()));
        Arc::clone(&self.newest)
    }

    /// The same; what nobody but the store has is read no more.
    fn commit_unshared(&mut self, writes: &[(u32, Vec<u32>)]) -> Arc<(BlockView, Lease)> {
        let _ = self.versions.begin_after(&mut self.newest, |newest| &mut newest.1);
        self.commit(writes)
    }

    fn away(&self) -> usize {
        self.newest.0.moved.iter().flatten().count()
    }
}

fn words(view: &BlockView, key: u32) -> Vec<u32> {
    view.block(key).iter().map(|word| word.load(Ordering::Relaxed)).collect()
}

/// A published version that somebody holds.
type Held = Arc<(BlockView, Lease)>;

/// A way to commit blocks.
type Commit = fn(&mut Store, &[(u32, Vec<u32>)]) -> Held;

/// Commits at random, to keys below what `keys` says at a step, while versions are held and
/// released at random: each keeps its contents, the newest too.
fn commit_at_random(
    (seed, stride): (u64, usize),
    commit: Commit,
    keys: fn(u32) -> u64,
) -> (Store, HashMap<u32, Vec<u32>>) {
    let mut store = Store::new(stride);
    let mut model: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut held: Vec<(Held, HashMap<u32, Vec<u32>>)> = Vec::new();
    let mut random = mix(seed);
    let mut draw = |below: u64| {
        random = mix(random);
        random % below
    };
    for step in 0..400u32 {
        let mut writes = BTreeMap::new();
        for _ in 0..draw(40) {
            let key = draw(keys(step)) as u32;
            writes.insert(key, vec![step * 10_000 + key; stride]);
        }
        let writes: Vec<_> = writes.into_iter().collect();
        model.extend(writes.iter().cloned());
        let version = commit(&mut store, &writes);
        if draw(3) == 0 {
            held.push((version, model.clone()));
        }
        if held.len() > 6 || (draw(4) == 0 && !held.is_empty()) {
            held.swap_remove(draw(held.len() as u64) as usize);
        }
        for (version, model) in &held {
            assert!(model.iter().all(|(key, block)| words(&version.0, *key) == *block), "{seed} {step}");
        }
        assert!(model.iter().all(|(key, block)| words(&store.newest.0, *key) == *block));
    }
    (store, model)
}

#[test]
fn every_version_keeps_its_contents_under_random_commits_and_releases() {
    for seed in 0..8u64 {
        let keys = |step| if step < 100 { 50 } else { 9_000 };
        let (mut store, model) = commit_at_random((seed, 1 + seed as usize % 5), Store::commit, keys);
        store.commit(&[]);
        store.commit(&[]);
        assert_eq!(store.away(), 0);
        assert!(model.iter().all(|(key, block)| words(&store.newest.0, *key) == *block));
    }
}

#[test]
fn random_versions_keep_their_contents_while_others_are_rewritten_unseen() {
    for seed in 0..8u64 {
        _ = commit_at_random((seed, 3), Store::commit_unshared, |_| 60);
    }
}

#[test]
fn what_only_the_writer_has_takes_one_place_beside_what_an_older_version_reads() {
    for has_moved in [false, true] {
        let mut store = Store::new(16);
        let all: Vec<_> = (0..5_000).map(|key| (key, vec![key])).collect();
        store.commit(&all);
        if has_moved {
            store.commit(&all);
        }
        let held = Arc::clone(&store.newest);
        let before = store.blocks.bytes();
        let mut taken = Vec::new();
        for round in 0..8u32 {
            store.commit_unshared(&(0..5_000).map(|key| (key, vec![round, key])).collect::<Vec<_>>());
            taken.push(store.blocks.bytes());
        }
        assert!((0..5_000).all(|key| words(&held.0, key)[0] == key));
        assert!((0..5_000).all(|key| words(&store.newest.0, key)[..2] == [7, key]));
        assert_eq!(taken[1..], [taken[1]; 7], "after {before}");
        assert!(taken[1] < 3 * before, "{} after {before}", taken[1]);
    }
}

#[test]
fn short_blocks_are_filled_up_with_none() {
    let mut store = Store::new(4);
    let version = store.commit(&[(3, vec![7, 8])]);
    assert_eq!(words(&version.0, 3), [7, 8, NONE, NONE]);
    assert!(version.0.get(100_000).is_none());
}

#[test]
fn slots_are_reused_so_that_memory_stays_flat() {
    let mut store = Store::new(32);
    let all: Vec<_> = (0..20_000).map(|key| (key, vec![key])).collect();
    store.commit(&all);
    let mut after_warm_up = 0;
    for step in 0..1_000u32 {
        let writes: Vec<_> =
            (0..500).map(|i| (mix(u64::from(step * 500 + i)) as u32 % 20_000, vec![step, i])).collect();
        store.commit(&writes);
        if step == 20 {
            after_warm_up = store.blocks.bytes();
        }
    }
    assert!(store.blocks.bytes() <= after_warm_up + after_warm_up / 10);
}

#[test]
fn a_held_version_costs_no_more_than_the_blocks_that_changed() {
    let mut store = Store::new(16);
    let all: Vec<_> = (0..5_000).map(|key| (key, vec![key])).collect();
    let first = store.commit(&all);
    let before = store.blocks.bytes();
    for step in 0..300u32 {
        store.commit(&(0..200).map(|key| (key, vec![step, key])).collect::<Vec<_>>());
    }
    assert!(store.blocks.bytes() - before < 10 * 200 * 16 * 4 + 100_000);
    assert!((0..5_000).all(|key| first.0.block(key)[0].load(Ordering::Relaxed) == key));
}

#[test]
fn slots_that_a_large_batch_needed_are_given_back_without_losing_a_block() {
    let mut store = Store::new(32);
    let all = |stamp: u32| (0..20_000).map(|key| (key, vec![stamp, key])).collect::<Vec<_>>();
    store.commit(&all(0));
    let least = store.blocks.bytes();
    let mut model: HashMap<u32, u32> = (0..20_000).map(|key| (key, 0)).collect();
    for turn in 1..6u32 {
        let held = store.commit(&all(turn * 100));
        assert!(store.blocks.bytes() > least + 20_000 * 32 * 4);
        model.values_mut().for_each(|stamp| *stamp = turn * 100);
        // Small batches go on meanwhile, first beside a version that is held.
        for step in 1..20u32 {
            let writes = [(step * 7 % 50, vec![turn * 100 + step, step * 7 % 50])];
            model.insert(step * 7 % 50, turn * 100 + step);
            store.commit(&writes);
            let stamp_of = |key| words(&store.newest.0, key)[0];
            assert!(model.iter().all(|(key, stamp)| stamp_of(*key) == *stamp));
            if step < 10 {
                assert!((0..20_000).all(|key| words(&held.0, key)[0] == turn * 100));
            }
        }
        drop(held);
        for step in 20..23u32 {
            model.insert(step, turn * 100 + step);
            store.commit(&[(step, vec![turn * 100 + step, step])]);
        }
        assert!(store.blocks.bytes() < least + 300_000, "{} and {least} bytes", store.blocks.bytes());
        assert!(!store.blocks.is_settled());
        store.commit(&[]);
        store.commit(&[]);
        assert!(store.blocks.is_settled() && store.versions.is_newest_alone());
        assert!(store.blocks.bytes() < least + 100_000, "{} and {least} bytes", store.blocks.bytes());
        assert!(model.iter().all(|(key, stamp)| words(&store.newest.0, *key)[0] == *stamp));
    }
}

/// Every block of a version holds the version's number times the key: a word
/// of another version would be seen at once.
#[test]
fn readers_see_only_their_version_while_the_writer_commits() {
    const KEYS: u32 = 6_000;
    let stamped =
        |stamp: u32| (0..KEYS).step_by(3).map(|key| (key, vec![stamp ^ key; 8])).collect::<Vec<_>>();
    let mut store = Store::new(8);
    let first = store.commit(&stamped(0));
    let shared = Mutex::new((0u32, first));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    let (stamp, version) = shared.lock().unwrap().clone();
                    for key in (0..KEYS).step_by(3) {
                        assert!(words(&version.0, key).iter().all(|word| *word == stamp ^ key));
                    }
                }
            });
        }
        for stamp in 1..300 {
            let version = store.commit(&stamped(stamp));
            *shared.lock().unwrap() = (stamp, version);
        }
        done.store(true, Ordering::Release);
    });
}

#[test]
fn a_key_that_was_readable_while_empty_stays_empty_for_old_versions() {
    let mut store = Store::new(1);
    let epoch = store.versions.begin();
    store.blocks.write_first(5, &[NONE], epoch);
    let old = Arc::new((store.blocks.publish(epoch, &store.versions), store.versions.publish()));
    store.commit(&[(5, vec![9])]);
    assert_eq!((words(&old.0, 5), words(&store.newest.0, 5)), (vec![NONE], vec![9]));
}
