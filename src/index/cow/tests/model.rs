//! The protocol of the blocks under a model checker (loom): every order in
//! which a writer and two readers can meet, up to three preemptions.
//!
//! `RUSTFLAGS="--cfg vecino_loom" CARGO_TARGET_DIR=target/loom cargo test --lib model::`
//!
//! What is checked is the code itself, `cow.rs` and `lease.rs`, with small
//! strips. The words are plain memory to the checker ([`Word`]): it fails when
//! any read of a word is not ordered against any write of it. So nothing is
//! shown that atomics would merely make harmless.
//!
//! The model was seen to fail with each of these faults put in:
//! - home written one version too early: `<= epoch.oldest + 1` in `write`; the
//!   same in `publish` and `bring_home`;
//! - a slot reused one version too early: `version + 1 < end` in `any_alive`;
//! - a block rewritten where it stands one version early: `+ 1 >= epoch.unread` in
//!   `write`; `|| true` for its home;
//! - `Relaxed` for the acquire of the receipt; for the release of the lease.

use loom::model::Builder;
use loom::sync::{Arc, Mutex};
use loom::thread;

use super::*;

/// A published version: what its keys hold, and the blocks.
struct Version {
    expected: Vec<u32>,
    view: BlockView,
    _lease: Lease,
}

/// The place where readers find the newest version. Stands for the cell of the
/// snapshots: a load gives a version that stays alive for as long as it is held.
type Cell = Arc<Mutex<Arc<Version>>>;

struct Writer {
    versions: Versions,
    blocks: Blocks,
    expected: Vec<u32>,
}

impl Writer {
    fn new(stride: usize) -> Writer {
        Writer { versions: Versions::default(), blocks: Blocks::new(stride), expected: Vec::new() }
    }

    /// Makes the next version; `writes` are keys with their new content.
    fn commit(&mut self, writes: &[(u32, u32)]) -> Arc<Version> {
        let epoch = self.versions.begin();
        let stride = self.blocks.view.home.stride();
        for (key, content) in writes {
            self.expected.resize(self.expected.len().max(*key as usize + 1), NONE);
            self.expected[*key as usize] = *content;
            self.blocks.write(*key, &vec![*content; stride], epoch);
        }
        let view = self.blocks.publish(epoch, &self.versions);
        Arc::new(Version { expected: self.expected.clone(), view, _lease: self.versions.publish() })
    }
}

/// Loads the newest version and reads every block of it twice.
fn read(cell: &Cell) {
    let version = Arc::clone(&cell.lock().unwrap());
    for _ in 0..2 {
        for (key, content) in version.expected.iter().enumerate() {
            let block = version.view.block(key as u32);
            assert!(block.iter().all(|word| word.load(Ordering::Relaxed) == *content));
        }
        thread::yield_now();
    }
}

/// One writer that publishes `commits`, and `readers` that load a version once
/// each, whenever they get to it.
fn check(stride: usize, readers: usize, commits: &'static [&'static [(u32, u32)]]) {
    check_shown(stride, readers, commits, |_| true);
}

/// The same; versions that are not `shown` are let go of by the writer, unread.
fn check_shown(
    stride: usize,
    readers: usize,
    commits: &'static [&'static [(u32, u32)]],
    shown: fn(usize) -> bool,
) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let mut writer = Writer::new(stride);
        let cell: Cell = Arc::new(Mutex::new(writer.commit(commits[0])));
        let threads: Vec<_> = (0..readers)
            .map(|_| {
                let cell = Arc::clone(&cell);
                thread::spawn(move || read(&cell))
            })
            .collect();
        for (at, commit) in commits.iter().enumerate().skip(1) {
            let next = writer.commit(commit);
            if !shown(at) {
                continue;
            }
            let before = std::mem::replace(&mut *cell.lock().unwrap(), next);
            drop(before);
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn model_a_block_is_rewritten_while_it_is_read() {
    check(1, 2, &[&[(0, 10), (1, 11)], &[(0, 20)], &[(0, 30), (1, 31)], &[(0, 40)]]);
}

#[test]
fn model_blocks_come_home_and_their_slots_are_used_again() {
    check(1, 2, &[&[(0, 10), (1, 11)], &[(0, 20)], &[], &[(1, 41)], &[(0, 50)]]);
}

#[test]
fn model_blocks_of_several_words_and_keys_that_arrive_later() {
    check(2, 2, &[&[(0, 10)], &[(0, 20), (1, 21)], &[(2, 32), (0, 30)], &[(1, 41)]]);
}

#[test]
fn model_the_overlay_is_given_back_and_taken_again() {
    check(1, 2, &[&[(0, 10), (1, 11), (2, 12)], &[(0, 20), (1, 21), (2, 22)], &[], &[], &[(1, 51)]]);
}

#[test]
fn model_the_overlay_shrinks_under_a_block_that_stays_in_it() {
    check(
        1,
        1,
        &[
            &[(0, 10), (1, 11), (2, 12), (3, 13), (4, 14)],
            &[(0, 20), (1, 21), (2, 22), (3, 23), (4, 24)],
            &[],
            &[(0, 40)],
            &[(1, 51)],
            // One of two slots of eight is needed on: the overlay is halved.
            &[(2, 62)],
            &[(3, 73)],
        ],
    );
}

#[test]
fn model_what_no_reader_was_shown_is_rewritten_where_it_stands() {
    let commits: &[&[(u32, u32)]] =
        &[&[(0, 10), (1, 11)], &[(0, 20)], &[(0, 30), (1, 31), (2, 32)], &[(0, 40), (2, 42)], &[(0, 50)]];
    check_shown(1, 2, commits, |at| at > 2);
    check_shown(1, 2, commits, |at| at % 2 == 0);
}

#[test]
fn model_a_home_that_no_reader_was_shown_is_rewritten() {
    // The second brings the first home once nobody reads what it replaced.
    check_shown(
        1,
        2,
        &[&[(0, 10), (1, 11)], &[(0, 20), (1, 21)], &[(1, 31)], &[(0, 40), (1, 41)], &[(0, 50)]],
        |at| at == 1 || at > 3,
    );
}
