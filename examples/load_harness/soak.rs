//! A long run that checks every answer: mixed load on the calling threads,
//! held snapshots, checkpoints, `verify()`, and logs when there is a folder.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::arguments::{Arguments, Loaded};
use super::load::Result;
use super::load::mix::Mix;
use super::load::soak::Soak;
use super::{measure_loaded, output, setup};

/// Runs a soak; an error when anything was wrong.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    setup::expect_vecino(arguments, "soak")?;
    let mix = Mix::parse("search=55,filtered=10,upsert=12,insert=8,update=4,lapse=2,delete=8,batch=1,page=1")
        .ok_or("the mix")?;
    let arguments = Arguments {
        target: Loaded::Caller,
        judge_every: 1,
        watch_every: 1,
        mix,
        batch: 8,
        title: arguments.title.clone().or_else(|| Some("soak".to_owned())),
        ..arguments.clone()
    };
    let data = setup::data(&arguments)?;
    let mut target = setup::under_load(&arguments, &data)?;
    target.judge.be_strict();
    std::fs::create_dir_all(&arguments.out)?;
    let (items, over) = (target.items.clone(), AtomicBool::new(false));
    let soak = Soak { items: &items, data: &data, folder: arguments.out.clone(), seed: arguments.seed };
    let (outcome, soaked) = thread::scope(|scope| -> Result<_> {
        let watcher =
            thread::Builder::new().name("soak".to_owned()).spawn_scoped(scope, || soak.run(&over))?;
        let outcome = measure_loaded(&arguments, &data, &target);
        over.store(true, Ordering::Relaxed);
        Ok((outcome?, watcher.join().map_err(|_| "the watcher panicked")?))
    })?;
    output::write(&arguments.out, &outcome)?;
    println!(
        "soak: {} rounds, {} states compared, {} checkpoints opened, {} times verified, {} answers judged",
        soaked.rounds, soaked.compared, soaked.checkpoints, soaked.verified, outcome.report.totals.judged
    );
    target.engine.close()?;
    let faults: Vec<String> = soaked.faults.into_iter().chain(outcome.report.faults()).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
}
