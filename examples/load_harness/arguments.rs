//! The command line.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lexopt::prelude::*;
use vecino::{Backpressure, SearchParams};

use super::load::Result;
use super::load::arrivals::Arrivals;
use super::load::mix::Mix;
use super::load::peers::{Kind, NotBuiltIn};
use super::load::rng::Popularity;

pub(super) const HELP: &str = "\
load_harness [COMMAND] [OPTIONS]

Commands:
  run              one run; live progress, then a report            [default]
  self-check       the harness alone: what it adds to every time
  sweep            a run for every combination of --rates, --shard-list, --efs, --selectivities
  find             the highest rate with recall >= --recall at which 99 of 100 searches that are
                   due are answered within --p99 ms
  soak             a long run that checks every answer, with held snapshots, checkpoints, verify,
                   a ledger of acknowledged writes, and workers that panic (--panics); it has a
                   mix and batches of its own, on the sending threads, and no warm-up
  runbook FILE     the steps of a big-ann streaming runbook (YAML), in their order
  compare A B      two reports (report.json) side by side on one page
  peers            the same scenarios on every target that is built in, side by side: a
                   reader alone, a reader beside a writer, ten times too much
  goals [NAME...]  what the project promises about load, kept or missed: self, load,
                   writer, overload, deadline, closing                [all of them];
                   fails when one is missed, with --quick only for what is no time

What is loaded:
  --target T       vecino (search on the sending thread), vecino-workers (async), noop,
                   and, when they are built in, hnsw_rs, usearch    [vecino]
  --targets LIST   those of `peers`                                 [all that are built in]
  --index I        graph, hnsw, flat                                [graph]
  --data DIR       base.fvecs, query.fvecs, metric                  [generated clusters]
  --rows N         generated rows; of --data half as many are loaded, and inserts and
                   upserts use all that there are                   [20000]
  --dim D          of generated rows                                [64]
  --loaded N       records that are there at the start              [half of the rows]
  --shards S       workers, one shard of the collection each        [1]
  --pool N         threads of the engine's pool                     [1]
  --mailbox N      places in each worker's mailbox                  [1024]
  --full F         what a write does when it is full: wait, reject  [reject]
  --shows S        what searches through the workers show: accepted (every write
                   before them; they wait for it), published         [accepted]
  --folder DIR     keep logs and checkpoints there, in a new collection; where a command
                   loads several, each in a folder of its own there [in memory]

What comes:
  --arrivals A     constant:R poisson:R ramp:R-R bursts:R,PEAK,EVERY,SECONDS closed:CLIENTS;
                   `sweep` and `find` take the first two, at rates of their own
                                                                    [poisson:2000]
  --mix M          weights of search, filtered (a search), insert, upsert, update (of a
                   payload), lapse (a record that expires in a second), delete, batch, page
                                                    [search=90,upsert=5,insert=2.5,delete=2.5]
  --keys K         records that upserts replace: uniform, zipf:S    [zipf:0.99]
  --queries Q      queries that searches ask: uniform, zipf:S       [uniform]
  --selectivity F  part of the records that filters let pass       [0.1]
  --batch N        records of a batch                               [100]
  --k K            hits of a search                                 [10]
  --ef N           breadth of a search; --target-recall R instead   [the collection's]
  --seconds S      length of a run                                  [10]
  --warm-up S      of it, left out of the totals; half of it at most [1]
  --interval S     length of a stretch of the report                [a sixtieth of the run, 0.25 to 10]
  --threads N      threads that send                                [2]
  --writers N      threads that write all the time beside that, one request after another; only
                   one of --mix and --writes may insert, batch or delete                   [0]
  --writes M       what they write: a mix, as above                 [insert=1]
  --write-arrivals A   when: as above                               [closed: one each]
  --in-flight N    requests under way at most; others are skipped; not in closed loops  [1000]
  --useful-ms MS   an answer later than this is no good; `find` has --p99 for it
  --seed N                                                          [1]

What is measured besides:
  --judge-every N  one search of N may be judged by an exact one, 0: none; as many are as
                   a fiftieth of a core can judge, in `soak` all         [50]
  --watch-every N  one write of N is watched until it is visible, 0: none  [10]

  --panics N       in `soak`: one step of N that a worker writes (a write, or up to 256 records
                   of one) panics, at least 20, 0: none; each costs the copy of a shard   [0]

Sweeping and finding:
  --rates LIST  --shard-list LIST  --efs LIST                       [500,1000,2000,4000] [1] [the collection's]
  --selectivities LIST  parts that filters let pass, for mixes with `filtered`  [that of --selectivity]
                   `find` begins at the first of the rates
  --p99 MS         the limit of `find`                              [2]
  --recall R       the other limit of `find`; `peers` takes the breadth that reaches it  [0.95]

  --out DIR        report.json, intervals.csv, latency.hlog, report.html
                                                                    [target/load_harness]
  --title TEXT     on the report
  --quick          half a minute on little data: caller, workers, overload, sweep, goals, soak;
                   with a command: that on little data, in runs of a second

Other engines are built in by flags of the compiler (usearch needs a C++ compiler):
  RUSTFLAGS=\"--cfg vecino_peer_hnsw_rs --cfg vecino_peer_usearch\" CARGO_TARGET_DIR=target/peers \\
    cargo run --release --example load_harness -- peers --data DIR --recall 0.99
";

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Command {
    Run,
    SelfCheck,
    Sweep,
    Find,
    Soak,
    Runbook(PathBuf),
    Compare(PathBuf, PathBuf),
    Peers,
    /// Those of these names, or all.
    Goals(Vec<String>),
    Help,
}

impl Command {
    fn name(&self) -> &'static str {
        match self {
            Command::Run => "run",
            Command::SelfCheck => "self-check",
            Command::Sweep => "sweep",
            Command::Find => "find",
            Command::Soak => "soak",
            Command::Runbook(_) => "runbook",
            Command::Compare(..) => "compare",
            Command::Peers => "peers",
            Command::Goals(_) => "goals",
            Command::Help => "help",
        }
    }
}

/// Options that only some commands look at...
const ONLY: [(&str, &[&str]); 8] = [
    ("panics", &["soak"]),
    ("p99", &["find"]),
    ("recall", &["find", "peers"]),
    ("targets", &["peers"]),
    ("rates", SWEEPING),
    ("shard-list", SWEEPING),
    ("efs", SWEEPING),
    ("selectivities", SWEEPING),
];
const SWEEPING: &[&str] = &["sweep", "find"];

/// ...and some for which a command has a value of its own.
const OWN: [(&str, &[&str]); 8] = [
    ("mix", &["soak", "peers", "goals"]),
    ("target", &["peers", "goals", "self-check"]),
    ("arrivals", &["peers", "goals", "self-check"]),
    ("writers", &["peers", "goals"]),
    ("batch", &["soak"]),
    ("judge-every", &["soak"]),
    ("warm-up", &["soak"]),
    ("useful-ms", &["find"]),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loaded {
    NoOp,
    Caller,
    Workers,
    Peer(Kind),
}

const NO_QDRANT: &str = "qdrant-edge is no target yet: version 0.9.0 does not build with Rust 1.95 \
    (it uses `assert_matches`, which that compiler has not stabilised), and vecino promises 1.89";

impl Loaded {
    /// All that this program can load, but the no-op.
    pub(super) fn built_in() -> Vec<Loaded> {
        let peers = Kind::ALL.into_iter().filter(|kind| kind.is_built_in());
        [Loaded::Caller, Loaded::Workers].into_iter().chain(peers.map(Loaded::Peer)).collect()
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Loaded::NoOp => "noop",
            Loaded::Caller => "vecino",
            Loaded::Workers => "vecino-workers",
            Loaded::Peer(kind) => kind.name(),
        }
    }

    /// # Errors
    /// When it is none, or one that is not built in.
    fn parse(name: &str) -> Result<Loaded> {
        let own = [("caller", Loaded::Caller), ("workers", Loaded::Workers)];
        let known = [Loaded::NoOp, Loaded::Caller, Loaded::Workers].map(|loaded| (loaded.name(), loaded));
        if let Some(loaded) = named(name, &own).or_else(|| named(name, &known)) {
            return Ok(loaded);
        }
        if name == "qdrant-edge" {
            return Err(NO_QDRANT.into());
        }
        let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) else {
            return Err(format!("--target {name}: see --help").into());
        };
        if !kind.is_built_in() {
            return Err(NotBuiltIn::of(kind).into());
        }
        Ok(Loaded::Peer(kind))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Index {
    Graph,
    Hnsw,
    Flat,
}

/// What the command line says.
#[derive(Clone, Debug)]
pub(super) struct Arguments {
    pub(super) command: Command,
    pub(super) target: Loaded,
    pub(super) targets: Vec<Loaded>,
    pub(super) index: Index,
    pub(super) data: Option<PathBuf>,
    pub(super) rows: usize,
    pub(super) dim: usize,
    pub(super) loaded: Option<usize>,
    pub(super) shards: usize,
    pub(super) pool: usize,
    pub(super) mailbox: usize,
    pub(super) full: Backpressure,
    pub(super) published: bool,
    pub(super) folder: Option<PathBuf>,
    pub(super) arrivals: Arrivals,
    pub(super) mix: Mix,
    pub(super) keys: Popularity,
    pub(super) queries: Popularity,
    pub(super) batch: u64,
    pub(super) k: usize,
    /// `None`: as the collection is set, or a recall.
    pub(super) ef: Option<usize>,
    pub(super) target_recall: Option<f64>,
    pub(super) seconds: f64,
    pub(super) warm_up: f64,
    pub(super) interval: Option<f64>,
    pub(super) threads: usize,
    pub(super) writers: usize,
    pub(super) writes: Mix,
    /// `None`: each of them sends its next request when the last has ended.
    pub(super) write_arrivals: Option<Arrivals>,
    pub(super) in_flight: usize,
    pub(super) useful_within: Option<Duration>,
    pub(super) seed: u64,
    pub(super) selectivity: f64,
    pub(super) judge_every: u64,
    pub(super) watch_every: u64,
    pub(super) panics: u64,
    pub(super) rates: Vec<f64>,
    pub(super) shard_list: Vec<usize>,
    pub(super) efs: Vec<usize>,
    pub(super) selectivities: Vec<f64>,
    pub(super) p99_ms: f64,
    pub(super) recall: f64,
    pub(super) out: PathBuf,
    pub(super) title: Option<String>,
    pub(super) quick: bool,
    /// Names of the options that were given.
    pub(super) given: BTreeSet<String>,
}

impl Arguments {
    pub(super) fn new() -> Result<Arguments> {
        Ok(Arguments {
            command: Command::Run,
            target: Loaded::Caller,
            targets: Loaded::built_in(),
            index: Index::Graph,
            data: None,
            rows: 20_000,
            dim: 64,
            loaded: None,
            shards: 1,
            pool: 1,
            mailbox: 1_024,
            full: Backpressure::Reject,
            published: false,
            folder: None,
            arrivals: Arrivals::Poisson { rate: 2_000.0 },
            mix: Mix::parse("search=90,upsert=5,insert=2.5,delete=2.5").ok_or("the default mix")?,
            keys: Popularity::Zipf(0.99),
            queries: Popularity::Uniform,
            batch: 100,
            k: 10,
            ef: None,
            target_recall: None,
            seconds: 10.0,
            warm_up: 1.0,
            interval: None,
            threads: 2,
            writers: 0,
            writes: Mix::parse("insert=1").ok_or("the default writes")?,
            write_arrivals: None,
            in_flight: 1_000,
            useful_within: None,
            seed: 1,
            selectivity: 0.1,
            judge_every: 50,
            watch_every: 10,
            panics: 0,
            rates: vec![500.0, 1_000.0, 2_000.0, 4_000.0],
            shard_list: vec![1],
            efs: Vec::new(),
            selectivities: Vec::new(),
            p99_ms: 2.0,
            recall: 0.95,
            out: PathBuf::from("target/load_harness"),
            title: None,
            quick: false,
            given: BTreeSet::new(),
        })
    }

    /// Reads the command line.
    ///
    /// # Errors
    /// Also when nothing can be done with a value, or an option has no effect.
    pub(super) fn read(mut parser: lexopt::Parser) -> Result<Arguments> {
        let mut arguments = Arguments::new()?;
        let mut words: Vec<String> = Vec::new();
        while let Some(argument) = parser.next()? {
            match argument {
                Short('h') | Long("help") => return Ok(Arguments { command: Command::Help, ..arguments }),
                Long("quick") => arguments.quick = true,
                Long(name) => {
                    let name = name.to_owned();
                    let value = parser.value()?.string()?;
                    arguments.set(&name, &value)?;
                    arguments.given.insert(name);
                }
                Value(word) => words.push(word.string()?),
                other => return Err(other.unexpected().into()),
            }
        }
        arguments.command = command(&words)?;
        arguments.check_numbers()?;
        arguments.check_effects()?;
        let is_scaled = arguments.quick && !matches!(arguments.command, Command::Run | Command::Goals(_));
        Ok(if is_scaled { arguments.scaled_down() } else { arguments })
    }

    /// Numbers that nothing can be done with.
    fn check_numbers(&self) -> Result<()> {
        let counts = [
            ("rows", self.rows),
            ("dim", self.dim),
            ("loaded", self.loaded.unwrap_or(1)),
            ("shards", self.shards),
            ("batch", self.batch as usize),
            ("k", self.k),
            ("ef", self.ef.unwrap_or(1)),
            ("threads", self.threads),
            ("in-flight", self.in_flight),
        ];
        let listed = |name: &'static str, all: &[usize]| all.iter().map(move |one| (name, *one)).collect();
        let lists: [Vec<(&str, usize)>; 2] =
            [listed("shard-list", &self.shard_list), listed("efs", &self.efs)];
        for (name, count) in counts.into_iter().chain(lists.into_iter().flatten()) {
            expect(name, count as f64, 1.0, f64::INFINITY)?;
        }
        expect("seconds", self.seconds, 0.1, MOST_SECONDS)?;
        expect("warm-up", self.warm_up, 0.0, MOST_SECONDS)?;
        expect("interval", self.interval.unwrap_or(1.0), 0.01, MOST_SECONDS)?;
        expect("p99", self.p99_ms, 1e-3, MOST_SECONDS)?;
        expect("recall", self.recall, 0.0, 1.0)?;
        expect("target-recall", self.target_recall.unwrap_or(1.0), 0.0, 1.0)?;
        let shares = self.selectivities.iter().chain([&self.selectivity]);
        shares.into_iter().try_for_each(|share| expect("selectivity", *share, 0.0, 1.0))?;
        self.rates.iter().try_for_each(|rate| expect("rates", *rate, 1e-3, 1e9))
    }

    /// Options that would be silently ignored.
    fn check_effects(&self) -> Result<()> {
        let (command, is_given) = (self.command.name(), |name: &str| self.given.contains(name));
        for (name, commands) in ONLY.into_iter().filter(|(name, _)| is_given(name)) {
            if !commands.contains(&command) {
                return Err(
                    format!("--{name} is an option of {}, not of {command}", commands.join(", ")).into()
                );
            }
        }
        for (name, commands) in OWN.into_iter().filter(|(name, _)| is_given(name)) {
            if commands.contains(&command) {
                return Err(format!("{command} does not take --{name}: it has that of its own").into());
            }
        }
        let has_a_rate = matches!(self.arrivals, Arrivals::Constant { .. } | Arrivals::Poisson { .. });
        let no_file = matches!(self.command, Command::Compare(..) | Command::Runbook(_));
        let faults = [
            (
                SWEEPING.contains(&command) && !has_a_rate,
                "sweep and find go through rates: --arrivals constant or poisson",
            ),
            (command == "soak" && self.target == Loaded::Workers, "soak sends on the calling threads"),
            (command == "soak" && is_given("watch-every"), "soak watches every write"),
            (
                command == "find" && self.judge_every == 0 && self.recall > 0.0,
                "find needs a judge: --judge-every, or --recall 0",
            ),
            (self.writers == 0 && is_given("writes"), "--writes needs --writers"),
            (self.writers == 0 && is_given("write-arrivals"), "--write-arrivals needs --writers"),
            (self.quick && is_given("folder") && command == "run", "--quick has folders of its own"),
            (self.quick && no_file, "there is nothing to scale down: leave --quick out"),
        ];
        let found = faults.into_iter().find(|(is_so, _)| *is_so);
        found.map_or(Ok(()), |(_, fault)| Err(fault.into()))
    }

    /// Little data and short runs.
    pub(super) fn scaled_down(&self) -> Arguments {
        Arguments { seconds: 1.0, warm_up: 0.25, rows: 6_000, dim: 32, ..self.clone() }
    }

    /// The same, in a folder below that which was given.
    pub(super) fn in_folder(&self, name: &str) -> Arguments {
        Arguments { folder: self.folder.as_ref().map(|folder| folder.join(name)), ..self.clone() }
    }

    /// Whether something is written into `out`.
    pub(super) fn writes_reports(&self) -> bool {
        !matches!(self.command, Command::Help | Command::SelfCheck | Command::Runbook(_))
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let wrong = || format!("--{name} {value}: see --help");
        match name {
            "target" => self.target = Loaded::parse(value)?,
            "targets" => self.targets = value.split(',').map(Loaded::parse).collect::<Result<_>>()?,
            "writes" => self.writes = Mix::parse(value).ok_or_else(wrong)?,
            "write-arrivals" => self.write_arrivals = Some(Arrivals::parse(value).ok_or_else(wrong)?),
            "index" => self.index = named(value, &INDEXES).ok_or_else(wrong)?,
            "full" => self.full = named(value, &FULL).ok_or_else(wrong)?,
            "shows" => self.published = named(value, &SHOWS).ok_or_else(wrong)?,
            "data" => self.data = Some(value.into()),
            "folder" => self.folder = Some(value.into()),
            "out" => self.out = value.into(),
            "title" => self.title = Some(value.to_owned()),
            "arrivals" => self.arrivals = Arrivals::parse(value).ok_or_else(wrong)?,
            "mix" => self.mix = Mix::parse(value).ok_or_else(wrong)?,
            "keys" => self.keys = Popularity::parse(value).ok_or_else(wrong)?,
            "queries" => self.queries = Popularity::parse(value).ok_or_else(wrong)?,
            "ef" => (self.ef, self.target_recall) = (Some(number(name, value)?), None),
            "target-recall" => (self.ef, self.target_recall) = (None, Some(number(name, value)?)),
            "useful-ms" => {
                let millis = number::<f64>(name, value)?;
                expect(name, millis, 1e-3, MOST_SECONDS)?;
                self.useful_within = Some(Duration::from_secs_f64(millis / 1e3));
            }
            "rates" => self.rates = list(name, value)?,
            "shard-list" => self.shard_list = list(name, value)?,
            "selectivities" => self.selectivities = list(name, value)?,
            "efs" => self.efs = list(name, value)?,
            _ => return self.set_number(name, value),
        }
        Ok(())
    }

    fn set_number(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "rows" => self.rows = number(name, value)?,
            "dim" => self.dim = number(name, value)?,
            "loaded" => self.loaded = Some(number(name, value)?),
            "shards" => self.shards = number(name, value)?,
            "pool" => self.pool = number(name, value)?,
            "mailbox" => self.mailbox = number(name, value)?,
            "batch" => self.batch = number(name, value)?,
            "k" => self.k = number(name, value)?,
            "seconds" => self.seconds = number(name, value)?,
            "warm-up" => self.warm_up = number(name, value)?,
            "interval" => self.interval = Some(number(name, value)?),
            "threads" => self.threads = number(name, value)?,
            "writers" => self.writers = number(name, value)?,
            "in-flight" => self.in_flight = number(name, value)?,
            "seed" => self.seed = number(name, value)?,
            "selectivity" => self.selectivity = number(name, value)?,
            "judge-every" => self.judge_every = number(name, value)?,
            "watch-every" => self.watch_every = number(name, value)?,
            "panics" => self.panics = number(name, value)?,
            "p99" => self.p99_ms = number(name, value)?,
            "recall" => self.recall = number(name, value)?,
            _ => return Err(format!("there is no option --{name}: see --help").into()),
        }
        Ok(())
    }

    /// The same, searching with another breadth.
    pub(super) fn with_ef(&self, ef: usize) -> Arguments {
        Arguments { ef: Some(ef), target_recall: None, ..self.clone() }
    }

    /// What vecino searches with; `None`: as the collection is set.
    pub(super) fn params(&self) -> Option<SearchParams> {
        let breadth = self.ef.map(SearchParams::ef_search);
        breadth.or_else(|| self.target_recall.map(SearchParams::recall))
    }

    /// What the report calls that.
    pub(super) fn params_text(&self) -> String {
        let breadth = self.ef.map(|ef| format!("ef {ef}"));
        let recall = || self.target_recall.map(|recall| format!("recall {recall}"));
        breadth.or_else(recall).unwrap_or_else(|| "the collection's".to_owned())
    }
}

/// The longest run, and more than anybody waits for.
const MOST_SECONDS: f64 = 1e7;

const INDEXES: [(&str, Index); 3] = [("graph", Index::Graph), ("hnsw", Index::Hnsw), ("flat", Index::Flat)];
const FULL: [(&str, Backpressure); 2] = [("wait", Backpressure::Wait), ("reject", Backpressure::Reject)];
const SHOWS: [(&str, bool); 2] = [("accepted", false), ("published", true)];

fn named<T: Copy>(value: &str, names: &[(&str, T)]) -> Option<T> {
    names.iter().find(|(name, _)| *name == value).map(|(_, named)| *named)
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T> {
    value.replace('_', "").parse().map_err(|_| format!("--{name} {value}: not a number for it").into())
}

/// # Errors
/// When a number is none, or not from `least` to `most`.
fn expect(name: &str, value: f64, least: f64, most: f64) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let bounds = if most.is_finite() { format!("{least} to {most}") } else { format!("{least} at least") };
    Err(format!("--{name} {value}: it must be {bounds}").into())
}

fn list<T: FromStr>(name: &str, value: &str) -> Result<Vec<T>> {
    value.split(',').map(|one| number(name, one.trim())).collect()
}

fn command(words: &[String]) -> Result<Command> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["run"] => Ok(Command::Run),
        ["self-check"] => Ok(Command::SelfCheck),
        ["sweep"] => Ok(Command::Sweep),
        ["soak"] => Ok(Command::Soak),
        ["find"] => Ok(Command::Find),
        ["peers"] => Ok(Command::Peers),
        ["goals", names @ ..] => Ok(Command::Goals(names.iter().map(|name| (*name).to_owned()).collect())),
        ["runbook", file] => Ok(Command::Runbook(file.into())),
        ["compare", first, second] => Ok(Command::Compare(first.into(), second.into())),
        ["help"] => Ok(Command::Help),
        other => Err(format!("no such command: {}; see --help", other.join(" ")).into()),
    }
}
