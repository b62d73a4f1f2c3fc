//! A long run that checks every answer: mixed load on the calling threads,
//! held snapshots, checkpoints, `verify()`, a ledger of what was acknowledged,
//! logs when there is a folder, and workers that panic when they are told to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use vecino::{Collection, CollectionError, Engine};

use super::arguments::{Arguments, Loaded};
use super::defects::Defects;
use super::load::Result;
use super::load::ledger::{self, Kept};
use super::load::mix::Mix;
use super::load::run::{AtEnd, Outcome};
use super::load::soak::{Holding, Soak, Soaked};
use super::{measure_loaded, output, setup};

/// The collection of the ledger.
const LEDGER: &str = "ledger";

/// What came of a run, from all who looked.
struct Came {
    outcome: Outcome,
    soaked: Soaked,
    kept: Kept,
}

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
        // Nothing is left out.
        warm_up: 0.0,
        title: arguments.title.clone().or_else(|| Some("soak".to_owned())),
        ..arguments.clone()
    };
    let defects = (arguments.panics > 0).then(|| Defects::install(arguments.panics)).transpose()?;
    let data = setup::data(&arguments)?;
    let mut target = setup::under_load(&arguments, &data)?;
    target.judge.be_strict();
    std::fs::create_dir_all(&arguments.out)?;
    let (items, ledger) = (target.items.clone(), new_ledger(&target.engine)?);
    let over = AtomicBool::new(false);
    let soak = Soak { items: &items, data: &data, folder: arguments.out.clone(), seed: arguments.seed };
    let came = thread::scope(|scope| -> Result<Came> {
        // Whatever happens here, the others come to their end.
        let end = AtEnd(|| over.store(true, Ordering::Relaxed));
        let watcher =
            thread::Builder::new().name("soak".to_owned()).spawn_scoped(scope, || soak.run(&over))?;
        let keep = || ledger::keep(&ledger, arguments.seed, &over);
        let keeper = thread::Builder::new().name(LEDGER.to_owned()).spawn_scoped(scope, keep)?;
        defects.iter().for_each(Defects::arm);
        let outcome = measure_loaded(&arguments, &data, &target);
        drop(end);
        let (soaked, kept) = (watcher.join(), keeper.join());
        let lost = |_| "a watcher panicked";
        Ok(Came { outcome: outcome?, soaked: soaked.map_err(lost)?, kept: kept.map_err(lost)? })
    })?;
    let thrown = defects.as_ref().map(Defects::disarm);
    output::write(&arguments.out, &came.outcome)?;
    show(&came);
    let Came { outcome, soaked, kept } = came;
    let mut faults = [soaked.faults, kept.faults.clone(), outcome.report.faults()].concat();
    faults.extend(after(&[&items, &ledger], thrown.unwrap_or(0))?);
    faults.extend(told(ledger::compare(&ledger, &kept.known)));
    let before = Holding::of(&items.snapshot())?;
    drop((items, ledger));
    target.engine.close()?;
    faults.extend(reopened(&arguments, before, &kept)?);
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
}

/// An empty one: that of an earlier run on the same folder is not known.
fn new_ledger(engine: &Engine) -> Result<Collection> {
    match engine.drop_collection(LEDGER) {
        Ok(()) | Err(CollectionError::NotFound(_)) => {}
        Err(fault) => return Err(fault.into()),
    }
    Ok(engine.create_collection(LEDGER, ledger::config())?)
}

fn show(came: &Came) {
    let Came { outcome, soaked, kept } = came;
    say!(
        "soak: {} rounds, {} states compared, {} checkpoints opened, {} times verified, {} answers judged",
        soaked.rounds,
        soaked.compared,
        soaked.checkpoints,
        soaked.verified,
        outcome.report.totals.judged
    );
    say!(
        "ledger: {} writes acknowledged, the slowest after {:.1} ms, {} searches through the workers",
        kept.writes,
        kept.slowest.as_secs_f64() * 1e3,
        kept.searches
    );
}

fn told<T>(outcome: Result<T>) -> Option<String> {
    outcome.err().map(|fault| format!("ledger: {fault}"))
}

/// What is wrong once all is quiet: each defect cost a shard a new start, and
/// nothing else.
fn after(collections: &[&Collection], thrown: u64) -> Result<Vec<String>> {
    let (mut faults, mut rebuilt) = (Vec::new(), 0);
    for items in collections {
        items.flush()?;
        let stats = items.stats();
        rebuilt += stats.rebuilt;
        if !stats.left_out.is_empty() {
            faults.push(format!("{}: writes {:?} were left out", items.name(), stats.left_out));
        }
        let report = items.verify()?;
        if !report.is_sound() {
            faults.push(format!("{}: verify: {:?}", items.name(), report.findings));
        }
    }
    say!("defects: {thrown} panics of workers, {rebuilt} shards made anew");
    if rebuilt != thrown {
        faults.push(format!("{thrown} panics, but {rebuilt} shards were made anew"));
    }
    Ok(faults)
}

/// What is wrong with a folder once it is opened again.
fn reopened(arguments: &Arguments, before: Holding, kept: &Kept) -> Result<Vec<String>> {
    let Some(folder) = &arguments.folder else { return Ok(Vec::new()) };
    let engine = Engine::builder().workers(arguments.shards).open(folder)?;
    let mut faults: Vec<String> =
        told(ledger::compare(&engine.collection(LEDGER)?, &kept.known)).into_iter().collect();
    let items = engine.collection(setup::COLLECTION)?;
    let now = Holding::of(&items.snapshot())?;
    if now != before {
        faults.push(format!("{now:?} after opening the folder again, {before:?} before"));
    }
    let report = items.verify()?;
    if !report.is_sound() {
        faults.push(format!("verify after opening the folder again: {:?}", report.findings));
    }
    engine.close()?;
    Ok(faults)
}
