//! Other engines under the same load: what they have in common.
//!
//! A peer is an index of vectors by number, and each has a file here that says
//! how it is set and what it does not have. None is a dependency of the crate:
//! a flag of its own builds each one in (`Kind::flag`). To add one: a file with
//! a `Peer`, a variant of `Kind`, and a dev-dependency under a flag.
//!
//! A peer has no generations, so its answers are judged by the rows that had
//! been acknowledged when the search began (`oracle`), and no way to wait until
//! a write is visible, so a watched write is looked for by a search for its own
//! vector.

#[cfg(vecino_peer_hnsw_rs)]
mod hnsw_rs;
pub(crate) mod oracle;
#[cfg(vecino_peer_usearch)]
mod usearch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use vecino::Metric;

use super::Result;
use super::check::Judge;
use super::collection::GROUPS;
use super::data::Data;
use super::feed::Request;
use super::mix::Operation;
use super::rng::mixed;
use super::target::{Call, Gauges, Later, Outcome, Prepared, Reply, Target};
use oracle::{Claim, Oracle};

/// Links a row of each peer's graph, as in the papers and the libraries' own
/// examples...
const M: usize = 16;
/// ...and the breadth with which they are found.
const EF_CONSTRUCTION: usize = 200;

/// Searches for a watched write before it counts as lost.
const LOOKS: usize = 5;

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    HnswRs,
    Usearch,
}

/// What a peer is made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) dim: usize,
    pub(crate) metric: Metric,
    /// Rows that it may come to hold.
    pub(crate) capacity: usize,
    /// Threads that may be in it at a time.
    pub(crate) threads: usize,
}

/// A peer that this program was built without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name} is not built in: RUSTFLAGS=\"{flag}\" CARGO_TARGET_DIR=target/peers \
     cargo run --release --example load_harness -- --target {name}"
)]
pub(crate) struct NotBuiltIn {
    name: &'static str,
    flag: &'static str,
}

impl NotBuiltIn {
    pub(crate) fn of(kind: Kind) -> NotBuiltIn {
        NotBuiltIn { name: kind.name(), flag: kind.flag() }
    }
}

impl Kind {
    pub(crate) const ALL: [Kind; 2] = [Kind::HnswRs, Kind::Usearch];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::HnswRs => "hnsw_rs",
            Kind::Usearch => "usearch",
        }
    }

    /// What the compiler must be told to build it in.
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Kind::HnswRs => "--cfg vecino_peer_hnsw_rs",
            Kind::Usearch => "--cfg vecino_peer_usearch",
        }
    }

    pub(crate) fn is_built_in(self) -> bool {
        match self {
            Kind::HnswRs => cfg!(vecino_peer_hnsw_rs),
            Kind::Usearch => cfg!(vecino_peer_usearch),
        }
    }

    /// An empty index.
    ///
    /// # Errors
    /// When it is not built in, or cannot be what the plan says.
    pub(crate) fn open(self, plan: &Plan) -> Result<Box<dyn Peer>> {
        match self {
            #[cfg(vecino_peer_hnsw_rs)]
            Kind::HnswRs => Ok(Box::new(hnsw_rs::HnswRs::new(plan)?)),
            #[cfg(vecino_peer_usearch)]
            Kind::Usearch => Ok(Box::new(usearch::Usearch::new(plan)?)),
            #[cfg(not(all(vecino_peer_hnsw_rs, vecino_peer_usearch)))]
            kind => {
                let _ = plan;
                Err(NotBuiltIn::of(kind).into())
            }
        }
    }
}

/// A filter: the records of the groups below a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passing {
    pub(crate) groups: u64,
}

impl Passing {
    /// As the `record` of a key is filtered by vecino.
    pub(crate) fn lets_pass(self, key: u64) -> bool {
        mixed(key) % GROUPS < self.groups
    }
}

/// An index of vectors by number. A method that it lacks is not called: the mix
/// is compared with `lacks` before a run.
pub(crate) trait Peer: Send + Sync {
    /// Its name and version, and how it is set.
    fn describe(&self) -> String;

    /// Why it cannot do this; `None` when it can.
    fn lacks(&self, operation: Operation) -> Option<&'static str>;

    /// How broadly it searches from now on.
    fn set_ef(&self, ef: usize);

    /// The keys of the nearest, nearest first.
    fn search(&self, query: &[f32], k: usize, passing: Option<Passing>) -> Result<Vec<u64>>;

    fn insert(&self, key: u64, vector: &[f32]) -> Result<()>;

    fn replace(&self, key: u64, vector: &[f32]) -> Result<()>;

    /// Nothing when the key is not there.
    fn delete(&self, key: u64) -> Result<()>;
}

/// Why there is no operation that an index of bare vectors cannot have.
fn lacks_of_bare_vectors(operation: Operation) -> Option<&'static str> {
    match operation {
        Operation::Batch => Some("records do not become visible together"),
        Operation::Page => Some("it has no snapshots to page through"),
        Operation::Update | Operation::Lapse => Some("it keeps vectors without payload or expiry"),
        Operation::Search
        | Operation::Filtered
        | Operation::Insert
        | Operation::Upsert
        | Operation::Delete => None,
    }
}

/// How a peer is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAsking {
    pub(crate) k: usize,
    /// One search of so many is handed to the judge; 0: none.
    pub(crate) judge_every: u64,
    /// One insert of so many is looked for; 0: none.
    pub(crate) watch_every: u64,
    /// The part of the records that filters let pass.
    pub(crate) selectivity: f64,
}

/// A peer that is filled.
pub(crate) struct PeerUnderLoad<'d> {
    pub(crate) peer: Box<dyn Peer + 'd>,
    pub(crate) data: &'d Data,
    pub(crate) asking: PeerAsking,
    pub(crate) judge: Judge<'d>,
    oracle: Arc<Oracle<'d>>,
    /// Writes are noted for the judge. When nobody judges from the start, that
    /// would only be charged to the peer, and nobody can judge later.
    is_logged: bool,
    /// Counted here: peers do not all say it, or not while they are written.
    rows: AtomicUsize,
}

impl<'d> PeerUnderLoad<'d> {
    /// Fills a peer with the rows below `loaded`, on as many threads.
    pub(crate) fn fill(
        peer: Box<dyn Peer + 'd>,
        data: &'d Data,
        loaded: u64,
        threads: usize,
        asking: PeerAsking,
    ) -> Result<PeerUnderLoad<'d>> {
        let next = AtomicU64::new(0);
        let put = || -> Result<()> {
            loop {
                let key = next.fetch_add(1, Ordering::Relaxed);
                if key >= loaded {
                    return Ok(());
                }
                peer.insert(key, data.row(key))?;
            }
        };
        std::thread::scope(|scope| -> Result<()> {
            let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(put)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "filling panicked")?)
        })?;
        let oracle = Arc::new(Oracle::new(data, loaded));
        Ok(PeerUnderLoad {
            peer,
            data,
            asking,
            judge: Judge::new(),
            oracle,
            is_logged: asking.judge_every > 0,
            rows: AtomicUsize::new(loaded as usize),
        })
    }

    fn search(&self, request: Request) -> Reply<'_> {
        let groups = (self.asking.selectivity * GROUPS as f64) as u64;
        let passing = (request.operation == Operation::Filtered).then_some(Passing { groups });
        let every = if self.is_logged { self.asking.judge_every } else { 0 };
        let is_judged = every > 0 && request.number.is_multiple_of(every);
        let began = if is_judged { self.oracle.now() } else { 0 };
        let found = self.peer.search(self.data.query(request.query), self.asking.k, passing);
        let keys = match found {
            Ok(keys) => keys,
            Err(fault) => return Outcome::Failed(fault.to_string()).into(),
        };
        let is_short = passing.is_none() && keys.len() < self.asking.k.min(self.rows.load(Ordering::Relaxed));
        let outcome = if is_short { Outcome::Short } else { Outcome::Done };
        if !is_judged {
            return outcome.into();
        }
        let (oracle, query, k) = (Arc::clone(&self.oracle), request.query, self.asking.k);
        let offer = move || self.judge.offer(Claim { oracle, began, query, k, passing, keys });
        Reply { after: Some(Box::new(offer)), ..outcome.into() }
    }

    /// Whether a search for a vector finds its record.
    fn finds(&self, key: u64, vector: &[f32]) -> bool {
        self.peer.search(vector, self.asking.k, None).is_ok_and(|keys| keys.contains(&key))
    }

    async fn looks(&self, key: u64, vector: &[f32]) -> bool {
        for _ in 0..LOOKS {
            if self.finds(key, vector) {
                return true;
            }
            give_way().await;
        }
        false
    }

    fn write(&self, request: Request) -> Reply<'_> {
        let (key, vector) = (request.key, self.data.row(request.row));
        let row = (request.operation != Operation::Delete).then_some(request.row);
        if self.is_logged {
            self.oracle.begin(key, row);
        }
        let written = match request.operation {
            Operation::Insert => self.peer.insert(key, vector),
            Operation::Upsert => self.peer.replace(key, vector),
            _ => self.peer.delete(key),
        };
        if self.is_logged {
            self.oracle.end(key, row, written.is_ok());
        }
        if let Err(fault) = written {
            return Outcome::Failed(fault.to_string()).into();
        }
        match request.operation {
            Operation::Insert => drop(self.rows.fetch_add(1, Ordering::Relaxed)),
            Operation::Delete => {
                let one_less = |rows: usize| Some(rows.saturating_sub(1));
                let _ = self.rows.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
            }
            _ => {}
        }
        // By inner product a vector need not be its own nearest: nobody can tell.
        let watched = request.operation == Operation::Insert
            && self.data.metric != Metric::Dot
            && self.asking.watch_every > 0
            && request.number.is_multiple_of(self.asking.watch_every);
        let visible = watched.then(|| -> Later<'_, bool> { Box::pin(self.looks(key, vector)) });
        Reply { visible, ..Outcome::Done.into() }
    }
}

/// Lets the executor turn to others once.
async fn give_way() {
    let mut first = true;
    std::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        if std::mem::take(&mut first) { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
}

impl Target for PeerUnderLoad<'_> {
    fn describe(&self) -> String {
        self.peer.describe()
    }

    fn lacks(&self, operation: Operation) -> Option<&'static str> {
        self.peer.lacks(operation)
    }

    fn prepare(&self, request: Request) -> Prepared {
        Prepared { request, records: Vec::new() }
    }

    fn call(&self, prepared: Prepared) -> Call<'_> {
        let request = prepared.request;
        match request.operation {
            Operation::Search | Operation::Filtered => Call::Now(self.search(request)),
            _ => Call::Now(self.write(request)),
        }
    }

    fn gauges(&self) -> Gauges {
        // Memory is seen from outside, as that of the process.
        Gauges { rows: self.rows.load(Ordering::Relaxed), ..Gauges::default() }
    }
}
