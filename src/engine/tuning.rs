//! Searching to a target: calibrating, and what targets come to.

use std::sync::Arc;

use super::collection::Collection;
use crate::coordinator::Request;
use crate::error::{CalibrateError, Gone};
use crate::query::{Goal, SearchParams, Target};
use crate::shard::{Backpressure, Refusal, reply};
use crate::snapshot::{Published, breadth_for};
use crate::tuning::{Calibration, Reach, SIZES};

/// What searches to a target come to.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TuningStats {
    /// The table that targets are looked up in; `None` until the first
    /// calibration is done, and for as long as no search has a target.
    pub calibration: Option<Calibration>,
    /// The collection's default, if it is a target, and the first 16 targets
    /// that searches asked for.
    pub targets: Vec<TargetStats>,
}

/// One target.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TargetStats {
    /// What was asked for.
    pub target: SearchParams,
    /// What it comes to for 1, 10 and 100 hits.
    pub choices: Vec<TargetChoice>,
}

/// What a target comes to for a number of hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TargetChoice {
    /// The number of hits.
    pub k: usize,
    /// The breadth that searches use; 0: they compare with every record.
    pub ef: usize,
    /// Whether that reaches the target.
    pub reach: Reach,
}

pub(super) fn of_published(published: &Published) -> TuningStats {
    let context = &published.context;
    let mut targets: Vec<Target> = match context.search.map(SearchParams::goal) {
        Some(Goal::Target(target)) => vec![target],
        _ => Vec::new(),
    };
    for target in context.tuning.targets.list() {
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    let choice = |target, k| match breadth_for(published, target, k) {
        (None, reach) | (Some(_), reach @ Reach::Exact) => TargetChoice { k, ef: 0, reach },
        (Some(ef), reach) => TargetChoice { k, ef: ef.max(k), reach },
    };
    let of_target = |target: Target| TargetStats {
        target: target.into(),
        choices: SIZES.into_iter().map(|(k, _)| choice(target, k)).collect(),
    };
    TuningStats {
        calibration: published.calibration.as_deref().cloned(),
        targets: targets.into_iter().map(of_target).collect(),
    }
}

impl Collection {
    /// Measures recall and time of searches on the newest published snapshot
    /// and waits for the end: up to 400 of its rows are searched for, exactly
    /// once each, then with up to 19 breadths for 1, 10 and 100 hits. Later
    /// searches to a target ([`SearchParams::recall`],
    /// [`SearchParams::p99`]) go by the table.
    ///
    /// Not needed where searches have targets: the first one starts it in the
    /// background, and it is repeated when the index has taken in half of its
    /// rows anew. Runs on one thread of the engine's pool, in slices of 5 ms,
    /// one collection at a time; O(400 x rows x dimension) for the exact
    /// answers, seconds for a million rows. Readers and writers go on.
    ///
    /// # Errors
    /// [`CalibrateError::Gone`] when the engine is closed or the collection
    /// dropped, also while this waits.
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Metric, Query, Record, SearchParams};
    /// # let engine = Engine::builder().build()?;
    /// # let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2))?;
    /// items.upsert_batch((0..2_000).map(|id| Record::new(id, [id as f32, (id % 7) as f32])))?.wait()?;
    /// let table = items.calibrate()?;
    /// for curve in &table.curves {
    ///     for point in &curve.points {
    ///         println!("k {} ef {}: recall {:.3}, p99 {:?}", curve.k, point.ef, point.recall, point.p99);
    ///     }
    /// }
    /// let answer = items.search(&Query::new(&[5.0, 5.0]).params(SearchParams::recall(0.99)))?;
    /// println!("searched with a breadth of {}", answer.stats().ef);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn calibrate(&self) -> Result<Calibration, CalibrateError> {
        let shared = &self.shared;
        shared.check_open()?;
        let (reply, waiting) = reply();
        let request = Request::Calibrate { collection: shared.id, reply: Some(reply) };
        let requests = &shared.core.requests;
        let sent = requests.acquire(Backpressure::Wait).and_then(|permit| requests.send(permit, request));
        sent.map_err(|_: Refusal| shared.gone())?;
        match waiting.wait(None).map_err(|_| shared.gone())? {
            Ok(table) => Ok(Arc::unwrap_or_clone(table)),
            // A pool that is closing drops what it has not begun.
            Err(_) if shared.core.is_closed() => Err(shared.gone().into()),
            Err(fault) => Err(fault),
        }
    }

    /// Calibrates if any search has a target that a graph answers.
    pub(super) fn recalibrate(&self) -> Result<(), Gone> {
        let published = self.shared.cell.pin();
        if !self.shared.context.tuning.targets.any() || published.is_exact() {
            return Ok(());
        }
        match self.calibrate() {
            // What was asked for, the optimization, is done.
            Ok(_) | Err(CalibrateError::Failed) => Ok(()),
            Err(CalibrateError::Gone(gone)) => Err(gone),
        }
    }
}
