//! A load generator that tells the truth, for vecino and for what is compared
//! with it.
//!
//!     cargo run --release --example load_harness -- --help
//!     cargo run --release --example load_harness -- --quick
//!     cargo run --release --example load_harness -- --target vecino-workers --arrivals poisson:4000 --seconds 30
//!     cargo run --release --example load_harness -- find --p99 2 --recall 0.95
//!
//! Requests come at moments that are fixed in advance, and a time is counted
//! from the moment at which its request was due ("open loop"): a stall is
//! charged for everybody who waited. A sample of the answers is compared with
//! an exact search of the very snapshot that they are from, while rows change;
//! a sample of the writes is watched until it can be found. Everything comes
//! from one seed. `load/` is the part to copy or to call from tests.

#![allow(clippy::print_stderr, reason = "a load generator says why it failed")]

/// A line on the terminal, for whoever still reads it.
macro_rules! say {
    ($($part:tt)*) => { $crate::show::say(format_args!($($part)*)) };
}

mod arguments;
mod contender;
mod defects;
mod goals;
mod load;
mod output;
mod page;
mod peers;
mod peers_page;
mod quick;
mod runbook;
mod setup;
mod show;
mod soak;
mod svg;
mod sweep;

use std::path::Path;
use std::process::ExitCode;

use arguments::{Arguments, Command, Loaded};
use contender::Contender;
use load::Result;
use load::data::Data;
use load::run::{Outcome, run};
use load::target::NoOp;

fn main() -> ExitCode {
    match go() {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    }
}

fn go() -> Result<()> {
    let arguments = Arguments::read(lexopt::Parser::from_env())?;
    if arguments.writes_reports() {
        output::prepare(&arguments.out)?;
    }
    match &arguments.command {
        Command::Help => say!("{}", arguments::HELP),
        Command::Run if arguments.quick => quick::run(&arguments)?,
        Command::Run => drop(measure(&arguments, Some(&arguments.out))?),
        Command::SelfCheck => drop(quick::self_check(&arguments)?),
        Command::Sweep => sweep::sweep(&arguments)?,
        Command::Find => sweep::find(&arguments)?,
        Command::Soak => soak::run(&arguments)?,
        Command::Runbook(file) => runbook::run(&arguments, file)?,
        Command::Goals(names) => goals::run(&arguments, names)?,
        Command::Peers => peers::run(&arguments)?,
        Command::Compare(first, second) => output::compare(first, second, &arguments.out)?,
    }
    Ok(())
}

/// One run of what the arguments describe, shown as it goes and written into a
/// folder.
///
/// # Errors
/// Also when anything was wrong: the report is there then.
fn measure(arguments: &Arguments, out: Option<&Path>) -> Result<Outcome> {
    let data = setup::data(arguments)?;
    let kept = |outcome: Outcome| -> Result<Outcome> {
        out.map_or(Ok(()), |folder| output::write(folder, &outcome))?;
        Ok(outcome)
    };
    if arguments.target == Loaded::NoOp {
        let scenario = setup::scenario(arguments, &data);
        return kept(shown(|watch| run(&scenario, &NoOp, None, watch))?);
    }
    let contender = setup::contender(arguments, &data)?;
    let outcome = kept(measure_loaded(arguments, &data, &*contender)?)?;
    contender.end()?;
    no_faults(&outcome.report.faults())?;
    Ok(outcome)
}

fn no_faults(faults: &[String]) -> Result<()> {
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
}

/// The same on what is filled already.
fn measure_loaded<'d>(
    arguments: &Arguments,
    data: &'d Data,
    contender: &dyn Contender<'d>,
) -> Result<Outcome> {
    let scenario = setup::scenario(arguments, data);
    let judge = (arguments.judge_every > 0).then_some(contender.judge());
    shown(|watch| run(&scenario, contender.target(), judge, watch))
}

type Watch<'a> = &'a mut dyn FnMut(&load::report::Interval);

fn shown(go: impl FnOnce(Watch<'_>) -> Result<Outcome>) -> Result<Outcome> {
    show::head();
    let outcome = go(&mut |interval| show::interval(interval))?;
    show::report(&outcome.report);
    Ok(outcome)
}
