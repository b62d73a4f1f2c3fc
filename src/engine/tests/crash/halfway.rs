//! Checkpoints of a moment in which some shards have another index already.

use std::sync::Arc;

use super::machine::{Asked, Machine};
use super::script::WORKERS;
use super::{Model, Plant};
use crate::durability::Durability;
use crate::engine::config::{CollectionConfig, IndexSpec};
use crate::metric::Metric;
use crate::payload::Payload;
use crate::persist::simulator::Simulator;
use crate::rows::{Mutation, NewRow};

fn upsert(id: u64) -> Mutation {
    let vector = Box::new([(id * 37 % 1_000) as f32, (id * 91 % 1_000) as f32]);
    Mutation::Upsert(NewRow { id: id.into(), vector, scale: 1.0, payload: Payload::new() })
}

#[test]
fn shards_on_either_side_of_a_change_come_back_alike_with_all_that_they_hold() {
    let config = |index| CollectionConfig::new(2, Metric::L2).index(index);
    let (folder, mut model) = (Simulator::new(1), Model::default());
    let mut machine = Machine::open(&folder, WORKERS, Plant::None).unwrap();
    machine.create("items", config(IndexSpec::Flat), &mut model).unwrap();
    for first in [0, 60] {
        let mutations = (first..first + 60).map(upsert).collect();
        let asked = Asked { collection: "items".to_owned(), durability: Durability::Logged, mutations };
        machine.write(vec![asked], &mut model).unwrap();
    }
    let spec: Arc<[u8]> = config(IndexSpec::hnsw()).encode().into();
    machine.change_index_halfway("items", Arc::clone(&spec));
    let is = |machine: &mut Machine| machine.indexes().remove("items").unwrap();
    assert_eq!(is(&mut machine), [Some(Arc::clone(&spec)), None]);
    let before = machine.contents();
    machine.checkpoint("items").unwrap();
    machine.close().unwrap();

    let mut machine = Machine::open(&folder, WORKERS, Plant::None).unwrap();
    assert_eq!(is(&mut machine), [Some(Arc::clone(&spec)), Some(spec)]);
    assert_eq!(machine.contents(), before);
}
