//! The process ends, or a file operation fails, at every one of them.

use super::script::{Break, WORKERS, any};
use super::{Crash, Machine, Mode, Model, Plant, Script, scale};
use crate::persist::simulator::Simulator;

const SCRIPT: Script = Script { seed: 11, actions: 500, durability: any };

/// Operations on files that the whole script takes.
fn operations(script: Script) -> u64 {
    let (folder, mut model, mut machine) = (Simulator::new(script.seed), Model::default(), None);
    script.run(&mut machine, &folder, &mut model, Plant::None).unwrap();
    folder.operations()
}

/// Runs the script up to a fault, opens the folder again and compares; writes
/// on, kills once more, and compares again.
fn survives(script: Script, broken: Break, plant: Plant) -> Result<(), String> {
    let folder = Simulator::new(script.seed);
    folder.fail_at(broken.at, broken.mode);
    let (mut model, mut machine) = (Model::default(), None);
    let _ = script.run(&mut machine, &folder, &mut model, plant);
    drop(machine);
    let mut folder = folder.kill();
    for round in 0..2 {
        let opened = Machine::open(&folder, WORKERS, plant);
        let mut machine = opened.map_err(|fault| format!("opening failed: {fault}"))?;
        model.check(&mut machine, Crash::Kill)?;
        let more = Script { seed: broken.at + round, actions: 12, ..script };
        let mut machine = Some(machine);
        more.run(&mut machine, &folder, &mut model, plant)
            .map_err(|fault| format!("writing on failed: {fault}"))?;
        folder = folder.kill();
    }
    Ok(())
}

/// The first fault of a script that the plant does not survive. Every operation
/// fails in every mode in a long run; else in every second one, in turns.
fn first_failure(script: Script, plant: Plant) -> (usize, Option<String>) {
    let (mut points, last) = (0, operations(script));
    for at in 1..=last {
        for (turn, mode) in (at..).zip(Mode::ALL) {
            if scale() == 1 && turn % 2 == 0 {
                continue;
            }
            points += 1;
            let broken = Break { at, mode };
            if let Err(fault) = survives(script, broken, plant) {
                return (points, Some(format!("{broken:?}: {fault}")));
            }
        }
    }
    (points, None)
}

#[test]
fn nothing_acknowledged_is_lost_whatever_file_operation_fails_in_whatever_way() {
    let (points, failure) = first_failure(SCRIPT, Plant::None);
    assert_eq!(failure, None);
    assert!(points >= 5_000, "only {points} crash points");
}

/// The harness finds faults that are put in: an acknowledgement before the log
/// is written.
#[test]
fn an_acknowledgement_before_the_log_is_found() {
    let (_, failure) = first_failure(SCRIPT, Plant::EarlyAcknowledgement);
    assert!(failure.is_some_and(|fault| fault.contains("acknowledged was")));
}
