//! A load generator that tells the truth, for vecino and for what is compared
//! with it.
//!
//!     cargo run --release --example load_harness -- --help
//!     cargo run --release --example load_harness -- --quick
//!     cargo run --release --example load_harness -- --target workers --arrivals poisson:4000 --seconds 30
//!     cargo run --release --example load_harness -- find --p99 2 --recall 0.95
//!
//! Requests come at moments that are fixed in advance, and a time is counted
//! from the moment at which its request was due ("open loop"): a stall is
//! charged for everybody who waited. A sample of the answers is compared with
//! an exact search of the very snapshot that they are from, while rows change;
//! a sample of the writes is watched until it can be found. Everything comes
//! from one seed. `load/` is the part to copy or to call from tests.

#![allow(clippy::print_stdout, reason = "a load generator shows what it measures")]

mod arguments;
mod load;
mod output;
mod page;
mod quick;
mod runbook;
mod setup;
mod show;
mod soak;
mod svg;
mod sweep;

use arguments::{Arguments, Command, Loaded};
use load::Result;
use load::run::{Outcome, run};
use load::target::{NoOp, Target};

fn main() -> Result<()> {
    let arguments = Arguments::from_command_line()?;
    match &arguments.command {
        Command::Help => println!("{}", arguments::HELP),
        Command::Run if arguments.quick => quick::run(&arguments)?,
        Command::Run => output::write(&arguments.out, &measure(&arguments)?)?,
        Command::SelfCheck => drop(quick::self_check(&arguments)?),
        Command::Sweep => sweep::sweep(&arguments)?,
        Command::Find => sweep::find(&arguments)?,
        Command::Soak => soak::run(&arguments)?,
        Command::Runbook(file) => runbook::run(&arguments, file)?,
        Command::Compare(first, second) => output::compare(first, second, &arguments.out)?,
    }
    Ok(())
}

/// One run of what the arguments describe, shown as it goes.
fn measure(arguments: &Arguments) -> Result<Outcome> {
    let data = setup::data(arguments)?;
    if arguments.target == Loaded::NoOp {
        let scenario = setup::scenario(arguments, &data);
        return shown(|watch| run(&scenario, &NoOp, None, watch));
    }
    let under_load = setup::under_load(arguments, &data)?;
    let outcome = measure_loaded(arguments, &under_load)?;
    under_load.items.flush()?;
    let sound = under_load.items.verify()?;
    println!("verify: {} records, sound: {}", sound.records, sound.is_sound());
    under_load.engine.close()?;
    Ok(outcome)
}

/// The same on an engine that is there.
fn measure_loaded(arguments: &Arguments, target: &load::collection::UnderLoad<'_>) -> Result<Outcome> {
    let scenario = setup::scenario(arguments, target.data);
    let judge = (arguments.judge_every > 0).then_some(&target.judge);
    shown(|watch| run(&scenario, target as &dyn Target, judge, watch))
}

type Watch<'a> = &'a mut dyn FnMut(&load::report::Interval);

fn shown(go: impl FnOnce(Watch<'_>) -> Result<Outcome>) -> Result<Outcome> {
    show::head();
    let outcome = go(&mut |interval| show::interval(interval))?;
    show::report(&outcome.report);
    Ok(outcome)
}
