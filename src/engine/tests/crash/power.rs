//! The power is cut: what was not synced is lost, torn, or kept, as it comes.

use super::script::{Random, WORKERS, any};
use super::{Crash, Machine, Mode, Model, Plant, Script, scale};
use crate::durability::Durability;
use crate::persist::simulator::Simulator;

/// Folders that lose power, each in its own way.
const SEEDS: u64 = 20_000;

fn synced(_: &mut Random) -> Durability {
    Durability::Synced
}

/// Runs a script, cuts the power somewhere in it, opens and compares; twice.
fn survives(seed: u64, plant: Plant, forgets: bool) -> Result<(), String> {
    let mut random = Random::new(seed);
    let durability = if seed.is_multiple_of(2) { any } else { synced };
    let script = Script { seed, actions: 4 + random.below(36) as usize, durability };
    let mut folder = Simulator::new(seed);
    if forgets {
        folder.forget_syncs();
    }
    let mode = [Mode::Before, Mode::After, Mode::Torn][random.below(3) as usize];
    folder.fail_at(1 + random.below(120), mode);
    let (mut model, mut machine) = (Model::default(), None);
    let _ = script.run(&mut machine, &folder, &mut model, plant);
    drop(machine);
    for round in 0..2 {
        folder = folder.cut_power();
        // Now and then it is cut again while the folder is opened.
        if random.below(3) == 0 {
            folder.fail_at(folder.operations() + 1 + random.below(12), Mode::Torn);
            let _ = Machine::open(&folder, WORKERS, plant);
            folder = folder.cut_power();
        }
        let opened = Machine::open(&folder, WORKERS, plant);
        let mut machine = opened.map_err(|fault| format!("opening failed: {fault}"))?;
        model.check(&mut machine, Crash::PowerCut)?;
        let mut machine = Some(machine);
        let more = Script { seed: seed + round, actions: 4, durability };
        more.run(&mut machine, &folder, &mut model, plant)
            .map_err(|fault| format!("writing on failed: {fault}"))?;
    }
    Ok(())
}

fn first_failure(seeds: u64, plant: Plant, forgets: bool) -> Option<String> {
    (0..seeds)
        .find_map(|seed| survives(seed, plant, forgets).err().map(|fault| format!("seed {seed}: {fault}")))
}

#[test]
fn nothing_synced_is_lost_when_the_power_is_cut() {
    assert_eq!(first_failure(SEEDS * scale(), Plant::None, false), None);
}

/// The harness finds faults that are put in: a disk that does not sync, and
/// writes that are more durable than those that they build on.
#[test]
fn lost_syncs_and_missing_ones_are_found() {
    assert!(first_failure(200, Plant::None, true).is_some());
    assert!(first_failure(SEEDS, Plant::NoWidening, false).is_some());
}
