//! An open-loop load generator: the part that can be copied, or called from
//! tests, without the command line around it.
//!
//! *Open loop.* Requests are due at moments that are fixed in advance
//! (`arrivals`). A time is counted from the moment at which a request was due,
//! not from the moment at which somebody got round to sending it, so a target
//! that stalls is charged for everybody who waited meanwhile ("coordinated
//! omission" is the name of the mistake). What would go beyond a cap on the
//! requests in flight is skipped and counted.
//!
//! `rng` and `arrivals`, `mix` say what comes when; `feed` gives it out;
//! `target` is what can be loaded, `collection` is vecino as such a thing,
//! `peers` are other engines;
//! `issue` is a thread that sends, `tasks` its futures, `window` what it
//! measured; `check` judges answers while rows change, `soak` looks for what goes wrong slowly, `ledger` for
//! what was acknowledged and is not there; `run` puts it together,
//! `report` is what comes out, and `limits` says whether that is good enough.

#![allow(dead_code, reason = "a test uses a part of this")]

pub(crate) mod arrivals;
pub(crate) mod check;
pub(crate) mod collection;
pub(crate) mod data;
pub(crate) mod feed;
pub(crate) mod histogram_log;
pub(crate) mod issue;
pub(crate) mod ledger;
pub(crate) mod limits;
pub(crate) mod machine;
pub(crate) mod mix;
pub(crate) mod peers;
pub(crate) mod report;
pub(crate) mod rng;
pub(crate) mod run;
pub(crate) mod soak;
pub(crate) mod target;
pub(crate) mod tasks;
pub(crate) mod window;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
