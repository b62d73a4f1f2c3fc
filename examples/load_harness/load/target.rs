//! What can be put under load.

use std::pin::Pin;

use vecino::Record;

use super::feed::Request;
use super::mix::Operation;

/// A future that a thread of the harness drives.
pub(crate) type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// Fewer hits than there should be.
    Short,
    /// Refused because of too much load.
    Refused,
    Failed(String),
}

/// An answer, and for some writes a future that ends when the write can be
/// found: its output says whether it was.
pub(crate) struct Reply<'a> {
    pub(crate) outcome: Outcome,
    pub(crate) visible: Option<Later<'a, bool>>,
    /// What is left to do once the time of the request was taken: the judge may
    /// let whoever hands an answer in wait.
    pub(crate) after: Option<Box<dyn FnOnce() + Send + 'a>>,
}

impl From<Outcome> for Reply<'_> {
    fn from(outcome: Outcome) -> Self {
        Reply { outcome, visible: None, after: None }
    }
}

/// An answer that is there, or one that will come.
pub(crate) enum Call<'a> {
    Now(Reply<'a>),
    Later(Later<'a, Reply<'a>>),
}

/// A request with the records that it writes, made before it is due.
pub(crate) struct Prepared {
    pub(crate) request: Request,
    pub(crate) records: Vec<Record>,
}

/// What a target says about itself at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gauges {
    /// Memory that it counts.
    pub(crate) bytes: usize,
    pub(crate) rows: usize,
    /// Rows that are not indexed yet.
    pub(crate) tail: usize,
    /// Requests that wait in it.
    pub(crate) queued: usize,
}

/// A mix asks for what its target does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{target} has no {operation} ({why}): leave it out of the mix")]
pub(crate) struct Unsupported {
    pub(crate) target: String,
    pub(crate) operation: &'static str,
    pub(crate) why: &'static str,
}

/// Something that answers requests, from any number of threads.
pub(crate) trait Target: Sync {
    /// What stands in the report.
    fn describe(&self) -> String;

    /// Why it cannot do this at all; `None` when it can. Asked before a run.
    fn lacks(&self, operation: Operation) -> Option<&'static str> {
        let _ = operation;
        None
    }

    /// Makes what a request needs, outside of what is measured.
    fn prepare(&self, request: Request) -> Prepared;

    /// Does it.
    fn call(&self, prepared: Prepared) -> Call<'_>;

    fn gauges(&self) -> Gauges;
}

/// Answers at once and does nothing: what is measured then is the harness.
pub(crate) struct NoOp;

impl Target for NoOp {
    fn describe(&self) -> String {
        "no-op (the harness itself)".to_owned()
    }

    fn prepare(&self, request: Request) -> Prepared {
        Prepared { request, records: Vec::new() }
    }

    fn call(&self, _prepared: Prepared) -> Call<'_> {
        Call::Now(Outcome::Done.into())
    }

    fn gauges(&self) -> Gauges {
        Gauges::default()
    }
}
