//! When what was trained may be trained anew.

use crate::engine::collection::Blueprint;
use crate::engine::{CollectionConfig, IndexSpec};
use crate::id::{Seq, mix};
use crate::index::Sequential;
use crate::metric::Metric;
use crate::rows::{Mutation, NewRow};
use crate::shard::{CollectionId, Keep, ShardState};

const DIM: usize = 4;

fn upsert(id: u64, seq: u64) -> Mutation {
    let number = |at| (mix(mix(id) ^ mix(seq) ^ at) >> 40) as f32 / (1u32 << 23) as f32;
    let vector = (0..DIM as u64).map(number).collect();
    Mutation::Upsert(NewRow { id: id.into(), vector, scale: 1.0, payload: Default::default() })
}

/// What each job of a write may do, and whether newer views could be shown when it was begun.
fn jobs(state: &mut ShardState<Keep>, seq: u64, mutations: Vec<Mutation>) -> Vec<(bool, bool)> {
    state.enqueue(Seq(seq), mutations, Keep::Nothing);
    let mut jobs = Vec::new();
    while state.can_step() || state.has_batches() {
        state.step(usize::MAX).unwrap();
        if let Some(job) = state.next_job() {
            jobs.push((job.renews(), state.is_between()));
            state.absorbed(job.run(&Sequential).unwrap());
        }
    }
    jobs
}

#[test]
fn nothing_is_trained_anew_between_the_rows_that_a_write_let_go_and_its_end() {
    let config = CollectionConfig::new(DIM, Metric::L2).index(IndexSpec::Flat);
    let mut blueprint = Blueprint::empty(CollectionId(1), "items", config, 1);
    let state = &mut blueprint.states[0];
    let first = jobs(state, 1, (0..3_000).map(|id| upsert(id, 1)).collect());
    assert!(
        first.len() > 5 && first.iter().all(|job| *job == (true, false)),
        "nothing was let go: {first:?}"
    );
    for (seq, most) in [(2, 3_000), (3, 700)] {
        let replaced = jobs(state, seq, (0..most).map(|id| upsert(id, seq)).collect());
        assert!(replaced.iter().all(|(renews, is_between)| !(*renews && *is_between)), "{replaced:?}");
        assert!(replaced.iter().any(|(_, is_between)| *is_between), "{replaced:?}");
        assert_eq!(replaced.last(), Some(&(true, false)), "the write has ended");
    }
    let more = jobs(state, 4, (3_000..5_000).map(|id| upsert(id, 4)).collect());
    assert!(more.iter().all(|(renews, _)| *renews), "of rows that died before it a write is free: {more:?}");
}
