//! The disk is full: nothing more is acknowledged, and nothing that was is lost.

use super::script::{WORKERS, any};
use super::{Crash, Machine, Model, Plant, Script};
use crate::error::{FileError, Operation};
use crate::persist::simulator::Simulator;

#[test]
fn a_full_disk_is_a_typed_error_and_the_folder_goes_on_when_there_is_space() {
    for seed in 0..50 {
        let folder = Simulator::new(seed);
        let (mut model, mut machine) = (Model::default(), None);
        let script = Script { seed, actions: 60, durability: any };
        script.run(&mut machine, &folder, &mut model, Plant::None).unwrap();
        folder.set_full(true);
        let more = Script { seed: seed + 1, actions: 60, durability: any };
        let fault = more.run(&mut machine, &folder, &mut model, Plant::None).unwrap_err();
        assert!(
            matches!(
                &fault,
                FileError::Failed { operation: Operation::Append | Operation::Create, kind, .. }
                    if *kind == std::io::ErrorKind::StorageFull
            ),
            "{fault:?}"
        );
        // What failed fails again: the log is not written behind the gap.
        folder.set_full(false);
        drop(machine);
        let mut machine = Machine::open(&folder.kill(), WORKERS, Plant::None).unwrap();
        model.check(&mut machine, Crash::Kill).unwrap();
    }
}

#[test]
fn a_folder_is_not_opened_while_the_disk_is_full_and_nothing_in_it_changes() {
    let folder = Simulator::new(7);
    let (mut model, mut machine) = (Model::default(), None);
    let script = Script { seed: 7, actions: 100, durability: any };
    script.run(&mut machine, &folder, &mut model, Plant::None).unwrap();
    drop(machine);
    let mut folder = folder.kill();
    for _ in 0..3 {
        folder.set_full(true);
        assert!(matches!(Machine::open(&folder, WORKERS, Plant::None), Err(FileError::Failed { .. })));
        folder.set_full(false);
        folder = folder.kill();
        let mut machine = Machine::open(&folder, WORKERS, Plant::None).unwrap();
        model.check(&mut machine, Crash::Kill).unwrap();
        folder = folder.kill();
    }
}
