//! Measuring recall and time on a snapshot's own rows.
//!
//! Queries are made of a sample of the rows and searched for, exactly once each
//! and then with every breadth of the ladder; an answer is compared with the
//! exact one. The work is cut into single searches, so that whoever runs it can
//! stop in between.
//! The clock is handed in: everything but the times is a function of the
//! snapshot.

mod probe;
mod run;
mod sample;

pub(crate) use run::{Progress, Run};
