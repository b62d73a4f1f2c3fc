//! What is done to a folder before it crashes.

use super::machine::{Asked, Machine, Outcome};
use super::{Mode, Model, Plant};
use crate::durability::Durability;
use crate::engine::config::{CollectionConfig, IndexSpec};
use crate::id::{Seq, mix};
use crate::metric::Metric;
use crate::payload::{Filter, Payload, PayloadUpdate, Timestamp};
use crate::persist::simulator::Simulator;
use crate::rows::{Condition, Mutation, NewExpiry, NewRow, Reindex};

pub(super) const WORKERS: u32 = 2;
const NAMES: [&str; 3] = ["a", "b", "c"];

/// Ids that records have: few, so that they are replaced and deleted.
const IDS: u64 = 24;

/// A source of numbers: the same for the same seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(mix(seed ^ 0x5c71_9700))
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = mix(self.0);
        self.0 % limit
    }
}

/// A number of actions that follow from a seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    pub(crate) seed: u64,
    pub(crate) actions: usize,
    /// Chooses what writes are to survive.
    pub(crate) durability: fn(&mut Random) -> Durability,
}

pub(super) fn any(random: &mut Random) -> Durability {
    [Durability::Applied, Durability::Logged, Durability::Synced][random.below(3) as usize]
}

impl Script {
    /// Runs the script; ends at the first action that fails.
    pub(super) fn run(
        &self,
        machine: &mut Option<Machine>,
        folder: &Simulator,
        model: &mut Model,
        plant: Plant,
    ) -> Outcome {
        let mut random = Random::new(self.seed);
        for _ in 0..self.actions {
            self.act(&mut random, machine, folder, model, plant)?;
        }
        Ok(())
    }

    fn act(
        &self,
        random: &mut Random,
        slot: &mut Option<Machine>,
        folder: &Simulator,
        model: &mut Model,
        plant: Plant,
    ) -> Outcome {
        let name = NAMES[random.below(3) as usize];
        if slot.is_none() || random.below(60) == 0 {
            if let Some(machine) = slot.take() {
                machine.close()?;
            }
            *slot = Some(Machine::open(folder, WORKERS, plant)?);
        }
        let Some(machine) = slot else { return Ok(()) };
        if !machine.names().iter().any(|known| known == name) {
            // One that is in doubt is in doubt until the folder is opened again.
            if model.collections.contains_key(name) {
                model.collections.remove(name);
            }
            return machine.create(name, config(u64::from(name == "a")), model);
        }
        match random.below(40) {
            0 => machine.drop_collection(name, model),
            1 | 2 => machine.checkpoint(name),
            3..6 => machine.idle(),
            _ => {
                let group = (0..1 + random.below(3)).map(|_| self.asked(random, name)).collect();
                machine.write(group, model)
            }
        }
    }

    fn asked(&self, random: &mut Random, name: &str) -> Asked {
        let count = [1, 1, 1, 3, 9][random.below(5) as usize];
        let mutations = (0..count).map(|_| mutation(random)).collect();
        Asked { collection: name.to_owned(), durability: (self.durability)(random), mutations }
    }
}

/// What collections are made with, and change to.
fn config(index: u64) -> CollectionConfig {
    let index = [IndexSpec::Flat, IndexSpec::hnsw(), IndexSpec::ivf()][index as usize];
    CollectionConfig::new(2, Metric::L2).index(index)
}

/// A step of a change of the index. In any order: a crash may leave out any of them.
fn reindex(random: &mut Random) -> Mutation {
    let spec = config(random.below(3)).encode().into();
    Mutation::Reindex(match random.below(4) {
        0 | 1 => Reindex::Carry(spec),
        2 => Reindex::Finish(spec),
        _ => Reindex::GiveUp,
    })
}

fn mutation(random: &mut Random) -> Mutation {
    if random.below(25) == 0 {
        return reindex(random);
    }
    let number = random.below(IDS);
    let id = if number.is_multiple_of(3) { format!("text-{number}").into() } else { number.into() };
    let kind = random.below(12);
    if kind == 0 {
        return Mutation::Delete(id);
    }
    if random.below(40) == 0 {
        return Mutation::DeleteWhere(Filter::eq("a.b", 1) & Filter::exists("text"));
    }
    if random.below(40) == 0 {
        return Mutation::Sweep { now: Timestamp(random.below(60) as i64), most: u64::MAX };
    }
    if random.below(20) == 0 {
        let (now, expires) = (Timestamp(random.below(50) as i64), Timestamp(1 + random.below(100) as i64));
        let gain = (random.below(2) == 0).then_some(5);
        return Mutation::Expiry(NewExpiry { id, now, expires, gain });
    }
    let value = random.below(3) as i64;
    let payload = match random.below(3) {
        0 => Payload::new(),
        1 => Payload::new().with("a.b", value),
        _ => Payload::new().with("a.b", value).with("text", ["x", "y"]),
    };
    match kind {
        1 => return Mutation::Payload(PayloadUpdate::merge(id, payload)),
        2 => return Mutation::Payload(PayloadUpdate::delete(id, ["a"])),
        _ => {}
    }
    let vector = Box::new([random.below(1_000) as f32, random.below(1_000) as f32]);
    // The machine's clock stands before all of these, so all that is stored is seen.
    let payload = match random.below(4) {
        0 => payload.expiring(Timestamp(1 + random.below(100) as i64)),
        _ => payload,
    };
    let new = NewRow { id, vector, scale: 1.0, payload };
    let now = Timestamp(random.below(60) as i64);
    match kind {
        3 => Mutation::Conditional(new, Condition::Absent, now),
        4 => Mutation::Conditional(new, Condition::Present, now),
        5 => Mutation::Conditional(new, Condition::Version(Seq(random.below(60))), now),
        _ => Mutation::Upsert(new),
    }
}

/// How a script was broken off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Break {
    pub(super) at: u64,
    pub(super) mode: Mode,
}
