//! Answers judged while rows change: a sample of them is compared with an
//! exact search of the very snapshot that they are from (or, of other engines,
//! of the rows that had been acknowledged: `peers/oracle.rs`).

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use vecino::{Answer, Query, RecordId, Snapshot};

/// Samples that may wait to be judged: none. Each holds a snapshot, and one that
/// is held for long costs the target copies that nobody asked for.
const SAMPLES: usize = 0;

/// The judge rests so many times as long as it worked: judging (an exact search)
/// takes a fiftieth of a core, or it would be measured as if it were the target's.
const REST: u32 = 49;

/// It never rests longer, so that a run ends in time: one that works for more than
/// 4 ms takes more of a core.
const REST_MOST: Duration = Duration::from_millis(200);

/// What an answer can be judged by, later and on another thread.
pub(crate) trait Evidence: Send {
    fn judge(&self) -> Judged;
}

/// An answer and what it should have been found in.
pub(crate) struct Sample {
    pub(crate) snapshot: Snapshot,
    pub(crate) query: Query<'static>,
    /// `None`: the snapshot of the answer is not known, so the judge asks again.
    pub(crate) answer: Option<Answer>,
}

/// What was judged in a stretch of time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Judged {
    pub(crate) found: u64,
    pub(crate) wanted: u64,
    pub(crate) answers: u64,
    /// Of these, asked again because their own snapshot was gone.
    pub(crate) asked_again: u64,
    /// Hits that were wrong: not there, twice, out of order, or more than k.
    pub(crate) wrong: u64,
}

impl Judged {
    pub(crate) fn recall(&self) -> Option<f64> {
        (self.wanted > 0).then(|| self.found as f64 / self.wanted as f64)
    }

    pub(crate) fn add(&mut self, other: &Judged) {
        self.found += other.found;
        self.wanted += other.wanted;
        self.answers += other.answers;
        self.asked_again += other.asked_again;
        self.wrong += other.wrong;
    }
}

/// Takes samples from the threads of a target and judges them on one thread of
/// its own.
pub(crate) struct Judge<'d> {
    sender: SyncSender<Box<dyn Evidence + 'd>>,
    receiver: Mutex<Receiver<Box<dyn Evidence + 'd>>>,
    judged: Mutex<Judged>,
    strict: bool,
}

impl<'d> Judge<'d> {
    pub(crate) fn new() -> Judge<'d> {
        let (sender, receiver) = sync_channel(SAMPLES);
        Judge { sender, receiver: Mutex::new(receiver), judged: Mutex::default(), strict: false }
    }

    /// From now on no sample is dropped: whoever offers one waits.
    pub(crate) fn be_strict(&mut self) {
        self.strict = true;
    }

    pub(crate) fn is_strict(&self) -> bool {
        self.strict
    }

    /// Hands a sample in; it is dropped while the judge works or rests, unless it is strict.
    pub(crate) fn offer(&self, sample: impl Evidence + 'd) {
        let sample = Box::new(sample);
        if self.strict {
            let _ = self.sender.send(sample);
        } else {
            let _ = self.sender.try_send(sample);
        }
    }

    /// Judges one sample if there is any, and rests; false when there was none.
    pub(crate) fn work(&self, patience: Duration) -> bool {
        let sample = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(patience);
        let Ok(sample) = sample else { return false };
        let began = Instant::now();
        let judged = sample.judge();
        drop(sample);
        self.judged.lock().unwrap_or_else(PoisonError::into_inner).add(&judged);
        if !self.strict {
            thread::sleep((REST * began.elapsed()).min(REST_MOST));
        }
        true
    }

    /// What was judged since the last call.
    pub(crate) fn take(&self) -> Judged {
        std::mem::take(&mut *self.judged.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Evidence for Sample {
    fn judge(&self) -> Judged {
        judge(self)
    }
}

/// The farthest that a hit may be when the true last one is this far: ties, and
/// distances that were added up in another order, count.
pub(crate) fn limit(last: f32) -> f32 {
    last + last.abs() * 1e-5 + 1e-6
}

/// How many of an answer's hits are as near as those of the true answer.
pub(crate) fn found(answer: &Answer, truth: &Answer) -> usize {
    let limit = truth.hits().last().map_or(f32::NEG_INFINITY, |hit| limit(hit.distance));
    answer.hits().iter().filter(|hit| hit.distance <= limit).count().min(truth.len())
}

fn judge(sample: &Sample) -> Judged {
    let Sample { snapshot, query, answer } = sample;
    let asked_again = answer.is_none();
    let again = || snapshot.search(query).ok();
    let (Some(answer), Ok(truth)) = (answer.clone().or_else(again), snapshot.search(&query.clone().exact()))
    else {
        return Judged { wrong: 1, ..Judged::default() };
    };
    let hits = answer.hits();
    let mut ids: Vec<&RecordId> = hits.iter().map(|hit| &hit.id).collect();
    ids.sort_unstable();
    let twice = ids.windows(2).filter(|pair| pair[0] == pair[1]).count();
    let gone = ids.iter().filter(|id| !snapshot.contains((**id).clone())).count();
    let unordered = hits.windows(2).filter(|pair| pair[0].distance > pair[1].distance).count();
    let too_many = hits.len().saturating_sub(query.k());
    Judged {
        found: found(&answer, &truth) as u64,
        wanted: truth.len() as u64,
        answers: 1,
        asked_again: u64::from(asked_again),
        wrong: (twice + gone + unordered + too_many) as u64,
    }
}
