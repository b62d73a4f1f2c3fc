//! What the arguments describe: data, an engine that is filled, a scenario.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use vecino::{Collection, CollectionConfig, Engine, IndexSpec};

use super::arguments::{Arguments, Index, Loaded};
use super::contender::Contender;
use super::load::Result;
use super::load::arrivals::Arrivals;
use super::load::check::Judge;
use super::load::collection::{Asking, UnderLoad, Way, record};
use super::load::data::Data;
use super::load::feed::FeedSettings;
use super::load::peers::{PeerAsking, PeerUnderLoad, Plan};
use super::load::rng::mixed;
use super::load::run::{Beside, Scenario};

/// Records that go in with one call when a collection is filled.
const FILL: u64 = 5_000;

/// The collection that is loaded.
pub(super) const COLLECTION: &str = "load";

pub(super) fn data(arguments: &Arguments) -> Result<Data> {
    match &arguments.data {
        Some(folder) => Data::read(folder),
        None => Ok(Data::generated(arguments.rows, arguments.dim, 1_000, arguments.seed)),
    }
}

/// Records that are there when a run begins.
pub(super) fn loaded(arguments: &Arguments, data: &Data) -> u64 {
    arguments.loaded.unwrap_or(data.len().min(arguments.rows) / 2).max(1) as u64
}

/// Rows beyond the loaded ones that a peer has room for.
const ROOM: usize = 1_000_000;

/// What the arguments name, filled.
pub(super) fn contender<'d>(arguments: &Arguments, data: &'d Data) -> Result<Box<dyn Contender<'d> + 'd>> {
    let kind = match arguments.target {
        Loaded::Caller | Loaded::Workers => return Ok(Box::new(under_load(arguments, data)?)),
        Loaded::NoOp => return Err("the no-op holds nothing: it has `run` and `self-check`".into()),
        Loaded::Peer(kind) => kind,
    };
    let loaded = loaded(arguments, data);
    let plan = Plan {
        dim: data.dim,
        metric: data.metric,
        capacity: loaded as usize + ROOM,
        // All senders, and the one that looks how it is; before that, those that fill it.
        threads: (arguments.threads + arguments.writers + 1).max(arguments.pool + arguments.shards),
    };
    let asking = PeerAsking {
        k: arguments.k,
        judge_every: arguments.judge_every,
        watch_every: arguments.watch_every,
        selectivity: arguments.selectivity,
    };
    let started = Instant::now();
    let peer = kind.open(&plan)?;
    // As many threads as vecino has for it: its pool, and the workers.
    let threads = arguments.pool + arguments.shards;
    let mut filled = PeerUnderLoad::fill(peer, data, loaded, threads, asking)?;
    filled.search_as(arguments);
    say!("{loaded} records indexed in {:.1} s by {}", started.elapsed().as_secs_f64(), kind.name());
    Ok(Box::new(filled))
}

/// # Errors
/// When the target is another than vecino: for commands that need what only it has.
pub(super) fn expect_vecino(arguments: &Arguments, command: &str) -> Result<()> {
    match arguments.target {
        Loaded::Caller | Loaded::Workers => Ok(()),
        other => Err(format!("{command} runs on vecino, not on {}", other.name()).into()),
    }
}

/// An engine with a collection that is filled and indexed.
pub(super) fn under_load<'d>(arguments: &Arguments, data: &'d Data) -> Result<UnderLoad<'d>> {
    let under_load = empty(arguments, data)?;
    let started = Instant::now();
    fill(&under_load.items, data, 0..loaded(arguments, data))?;
    under_load.items.optimize()?;
    say!("{} records indexed in {:.1} s", under_load.items.len(), started.elapsed().as_secs_f64());
    Ok(under_load)
}

/// An engine with an empty collection.
pub(super) fn empty<'d>(arguments: &Arguments, data: &'d Data) -> Result<UnderLoad<'d>> {
    let builder = Engine::builder()
        .workers(arguments.shards)
        .pool_threads(arguments.pool)
        .mailbox_capacity(arguments.mailbox);
    let engine = match &arguments.folder {
        Some(folder) => {
            std::fs::create_dir_all(folder)?;
            builder.open(folder)?
        }
        None => builder.build()?,
    };
    let index = match arguments.index {
        Index::Graph => IndexSpec::graph(),
        Index::Hnsw => IndexSpec::hnsw(),
        Index::Flat => IndexSpec::Flat,
    };
    let config = CollectionConfig::new(data.dim, data.metric).index(index);
    // One that is there may be of other data, and have another index.
    if engine.collection(COLLECTION).is_ok() {
        return Err(format!("--folder must have no collection {COLLECTION:?} yet").into());
    }
    let items = engine.create_collection(COLLECTION, config)?;
    let items = items.backpressure(arguments.full);
    let way = if arguments.target == Loaded::Workers { Way::Workers } else { Way::Caller };
    let asking = Asking {
        way,
        k: arguments.k,
        params: arguments.params(),
        published_is_enough: arguments.published,
        judge_every: arguments.judge_every,
        watch_every: arguments.watch_every,
        batch: arguments.batch,
        selectivity: arguments.selectivity,
    };
    Ok(UnderLoad { engine, items, data, asking, judge: Judge::new() })
}

/// Puts the records of these keys in.
pub(super) fn fill(items: &Collection, data: &Data, keys: std::ops::Range<u64>) -> Result<()> {
    let patient = items.backpressure(vecino::Backpressure::Wait);
    let mut first = keys.start;
    while first < keys.end {
        let end = keys.end.min(first + FILL);
        // The last wait is for all of them.
        let write = patient.upsert_batch((first..end).map(|key| record(key, data.row(key))))?;
        if end == keys.end {
            write.wait()?;
        }
        first = end;
    }
    Ok(())
}

pub(super) fn scenario(arguments: &Arguments, data: &Data) -> Scenario {
    let seconds = arguments.seconds;
    // Enough points for a picture, few enough for a terminal.
    let interval = arguments.interval.unwrap_or_else(|| (seconds / 60.0).clamp(0.25, 10.0));
    let mut notes = BTreeMap::new();
    let mut note = |name: &str, value: String| drop(notes.insert(name.to_owned(), value));
    note("judge-every", arguments.judge_every.to_string());
    note("watch-every", arguments.watch_every.to_string());
    note("data", format!("{}, {} x {}, {}", data.name, data.len(), data.dim, data.metric));
    note("target", arguments.target.name().to_owned());
    note("searched with", arguments.params_text());
    note("k", arguments.k.to_string());
    note("filters let pass", format!("{} %", arguments.selectivity * 100.0));
    // What a peer does not have would be no setting of it.
    if !matches!(arguments.target, Loaded::Peer(_)) {
        note("index", format!("{:?}", arguments.index).to_lowercase());
        note("shards", arguments.shards.to_string());
        note("pool", arguments.pool.to_string());
        note("mailbox", arguments.mailbox.to_string());
        note("a full mailbox", format!("{:?}", arguments.full).to_lowercase());
        let shown = if arguments.published { "what is published" } else { "all writes before" };
        note("searches show", shown.to_owned());
        note("batch", arguments.batch.to_string());
        let folder = arguments.folder.as_ref().map(|folder| folder.display().to_string());
        note("folder", folder.unwrap_or_else(|| "in memory".to_owned()));
        note("panics", arguments.panics.to_string());
    }
    let feed = FeedSettings {
        arrivals: arguments.arrivals,
        length: Duration::from_secs_f64(seconds),
        mix: arguments.mix,
        keys: arguments.keys,
        queries: arguments.queries,
        query_count: data.query_count() as u64,
        oldest: 0,
        newest: loaded(arguments, data),
        batch: arguments.batch,
        cap: arguments.in_flight,
        seed: arguments.seed,
    };
    Scenario {
        title: arguments.title.clone().unwrap_or_else(|| "vecino under load".to_owned()),
        feed,
        threads: arguments.threads,
        beside: beside(arguments, feed),
        warm_up: Duration::from_secs_f64(arguments.warm_up.clamp(0.0, seconds / 2.0)),
        interval: Duration::from_secs_f64(interval),
        useful_within: arguments.useful_within,
        notes,
    }
}

/// Writers that never rest, each with one request at a time, or that write when
/// they are told to.
fn beside(arguments: &Arguments, feed: FeedSettings) -> Option<Beside> {
    let arrivals = arguments.write_arrivals.unwrap_or(Arrivals::Closed { clients: arguments.writers });
    let feed = FeedSettings { arrivals, mix: arguments.writes, seed: mixed(mixed(feed.seed) ^ 5), ..feed };
    (arguments.writers > 0).then_some(Beside { feed, threads: arguments.writers })
}
