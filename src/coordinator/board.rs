//! What the coordinator knows of one collection: the newest views of its
//! shards, which state they can show together, and who waits for it.
//!
//! A state `w` can be shown with a view when the view holds every write of its
//! shard up to `w`, and still shows the rows that died after `w` (its floor is
//! at most `w`). Workers run at their own pace, so for each shard the views
//! since the published one are kept, one for each floor; publishing picks the
//! newest state that all shards can show.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::admission::Admission;
use super::broom::Broom;
use super::calibrations::Desk;
use super::sooner;
use crate::error::Gone;
use crate::id::{Generation, Seq};
use crate::rows::ShardView;
use crate::shard::{Account, Permit, Reply, SearchOrder};
use crate::snapshot::{Context, Published, SnapshotCell};
use crate::tuning::Calibration;

/// Views of a shard that are kept while another shard lags; any of them will
/// do that lies between the published and the newest.
const VIEWS_KEPT: usize = 16;

/// ...and where memory is short.
const VIEWS_KEPT_SHORT: usize = 3;

/// Somebody who waits for a write to become visible.
pub(crate) enum Waiter {
    /// Wants to know the generation that shows it.
    Visible { reply: Reply<Result<Generation, Gone>>, _permit: Permit },
    /// Wants to search then.
    Search { order: Arc<SearchOrder>, permit: Permit },
}

impl Waiter {
    /// When it may wait no longer.
    pub(super) fn until(&self) -> Option<Instant> {
        match self {
            Waiter::Visible { .. } => None,
            Waiter::Search { order, .. } => order.wait.map(|wait| wait.until),
        }
    }
}

/// One collection.
pub(crate) struct Board {
    pub(crate) context: Arc<Context>,
    pub(crate) cell: Arc<SnapshotCell>,
    admission: Arc<Admission>,
    account: Arc<Account>,
    /// None: nothing is swept up yet.
    pub(super) broom: Option<Broom>,
    /// For each shard: the published view, then newer ones.
    views: Vec<VecDeque<Arc<ShardView>>>,
    /// For each shard: whether it waits for memory that older views keep.
    waits_for_memory: Vec<bool>,
    waiters: BTreeMap<Seq, Vec<Waiter>>,
    pub(super) desk: Desk,
    /// There are views that are not published.
    pub(crate) changed: bool,
    /// A shard, or the log, has failed, or had no memory.
    is_lost: bool,
    pub(crate) published_at: Option<Instant>,
}

impl Board {
    /// A board that shows `first`, which must be published already.
    pub(crate) fn new(cell: Arc<SnapshotCell>, admission: Arc<Admission>, account: Arc<Account>) -> Board {
        let first = cell.pin();
        Board {
            context: Arc::clone(&first.context),
            views: first.shards.iter().map(|view| VecDeque::from([Arc::clone(view)])).collect(),
            waits_for_memory: vec![false; first.shards.len()],
            cell,
            admission,
            account,
            broom: None,
            waiters: BTreeMap::new(),
            desk: Desk::default(),
            changed: false,
            is_lost: false,
            published_at: None,
        }
    }

    /// Whether what has expired is to be taken out: once the log was replayed.
    pub(super) fn is_swept(&self) -> bool {
        self.broom.is_some()
    }

    /// Has some of what has expired taken out. Gives the time until the next look.
    pub(super) fn tidy(&mut self) -> Option<Duration> {
        self.broom.as_mut()?.sweep(&self.cell.load(), &self.admission)
    }

    /// Takes in the newest view of a shard, if there is one that can be shown, and
    /// whether it waits for memory that older ones keep.
    pub(crate) fn receive(&mut self, shard: usize, view: Option<Arc<ShardView>>, waits_for_memory: bool) {
        let Some(views) = self.views.get_mut(shard) else { return };
        self.waits_for_memory[shard] = waits_for_memory;
        self.changed = true;
        let Some(view) = view else { return };
        // With the same floor the newer view can show all that the older can;
        // but the published one may be the better one to show its state with.
        if views.len() > 1 && views.back().is_some_and(|newest| newest.floor() == view.floor()) {
            views.pop_back();
        }
        if views.len() >= VIEWS_KEPT {
            views.remove(VIEWS_KEPT / 2);
        }
        views.push_back(view);
    }

    /// The newest state that all shards can show, and the view of each to
    /// show it with.
    ///
    /// The state that is published can always be shown: with the published
    /// views, and with every newer one whose floor allows it.
    fn showable(&self, published: Seq) -> (Seq, Vec<usize>) {
        let last = self.admission.last();
        let mut state = last;
        loop {
            let picks: Vec<usize> = self.views.iter().map(|views| pick(views, state)).collect();
            let covered = picks.iter().enumerate().map(|(shard, at)| self.coverage(shard, *at, last));
            let limit = covered.min().unwrap_or(last);
            if limit >= state || state == published {
                let settled = (0..self.views.len()).map(|shard| self.best(shard, picks[shard], state, last));
                return (state, settled.collect());
            }
            state = limit.max(published);
        }
    }

    /// The view to show a state with, given one that can. During a bulk write
    /// newer views hold more and more rows that the state must hide, and a
    /// search that hides much is slow: so rather the newest view whose index
    /// holds nothing that is newer than the state, unless memory is short: what that
    /// view keeps is worth more then.
    fn best(&self, shard: usize, able: usize, state: Seq, last: Seq) -> usize {
        if self.waits_for_memory[shard] {
            return able;
        }
        let lean = self.views[shard].iter().enumerate().rposition(|(at, view)| {
            view.floor() <= state && view.index_newest() <= state && self.coverage(shard, at, last) >= state
        });
        lean.unwrap_or(able)
    }

    /// The newest state of which a view holds all writes of its shard.
    fn coverage(&self, shard: usize, at: usize, last: Seq) -> Seq {
        let views = &self.views[shard];
        let Some(view) = views.get(at) else { return Seq(0) };
        let is_newest = at + 1 == views.len();
        if is_newest && view.applied() >= self.admission.sent(shard) { last } else { view.covers() }
    }

    /// Publishes the newest state that can be shown, if it or the calibration
    /// is new, and gives those whose wait is over.
    pub(crate) fn publish(&mut self) -> Option<(Arc<Published>, Vec<Waiter>)> {
        self.changed = false;
        let before = self.cell.pin();
        let (seq, picks) = self.showable(before.seq);
        for (views, at) in self.views.iter_mut().zip(&picks) {
            views.drain(..*at);
        }
        self.look_after_who_waits();
        let shards: Box<[_]> = self.views.iter().filter_map(|views| views.front().cloned()).collect();
        let same_views = shards.iter().zip(&before.shards).all(|(new, old)| Arc::ptr_eq(new, old));
        let spec = |view: &ShardView| view.switched().map(|switched| Arc::clone(&switched.spec));
        if shards.iter().zip(&before.shards).any(|(new, old)| spec(new) != spec(old)) {
            self.desk.switch();
        }
        let number = |table: &Option<Arc<Calibration>>| table.as_ref().map(|table| table.number);
        let same_table = number(&self.desk.table) == number(&before.calibration);
        if seq == before.seq && same_views && same_table {
            return None;
        }
        let next = Arc::new(Published {
            generation: Generation(before.generation.0 + 1),
            seq,
            shards,
            calibration: self.desk.table.clone(),
            context: Arc::clone(&self.context),
        });
        self.cell.publish(Arc::clone(&next));
        let later = self.waiters.split_off(&Seq(seq.0 + 1));
        let served = std::mem::replace(&mut self.waiters, later);
        Some((next, served.into_values().flatten().collect()))
    }

    /// Of a shard that waits for memory three views are kept, since others keep what was
    /// changed between them: the published one, the newest, and the one that follows the published,
    /// which is shown as soon as a shard that lags has come so far. It is told when it
    /// waits for such a shard, and not for readers.
    fn look_after_who_waits(&mut self) {
        for shard in 0..self.views.len() {
            if !self.waits_for_memory[shard] {
                continue;
            }
            self.account.set_ahead(shard, self.waits_for_another(shard));
            let views = &mut self.views[shard];
            if views.len() > VIEWS_KEPT_SHORT {
                views.drain(2..views.len() - 1);
            }
        }
    }

    /// Whether the newest view of a shard cannot be shown before another one, which does not wait
    /// for memory itself, has done writes that it was sent. While a log is replayed it was not sent them
    /// all, and where something was lost it may never do them: nobody waits for it then.
    fn waits_for_another(&self, shard: usize) -> bool {
        if self.is_lost || !self.is_swept() || self.views[shard].len() < 2 {
            return false;
        }
        let needed = self.views[shard].back().map_or(Seq(0), |view| view.floor());
        let last = self.admission.last();
        let lags = |other: usize| self.coverage(other, self.views[other].len() - 1, last) < needed;
        (0..self.views.len()).any(|other| other != shard && !self.waits_for_memory[other] && lags(other))
    }

    /// Lets somebody wait for a write; gives the waiter back when it is
    /// visible already or, because the collection `is_lost`, will not be.
    pub(crate) fn wait(&mut self, seq: Seq, waiter: Waiter, is_lost: bool) -> Option<Waiter> {
        if seq <= self.cell.load().seq || is_lost {
            return Some(waiter);
        }
        self.waiters.entry(seq).or_default().push(waiter);
        None
    }

    /// Takes out the searches that may wait no longer. Gives the moment when the next may not.
    pub(super) fn take_overdue(&mut self, now: Instant, over: &mut Vec<Waiter>) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        self.waiters.retain(|_, waiters| {
            over.extend(waiters.extract_if(.., |waiter| {
                let until = waiter.until();
                next = sooner(next, until.filter(|until| *until > now));
                until.is_some_and(|until| until <= now)
            }));
            !waiters.is_empty()
        });
        next
    }

    /// Takes out those who gave up waiting: their places are free again.
    pub(crate) fn sweep(&mut self) {
        self.waiters.retain(|_, waiters| {
            waiters.retain(|waiter| match waiter {
                Waiter::Visible { reply, .. } => !reply.is_abandoned(),
                Waiter::Search { order, .. } => !order.reply.is_abandoned(),
            });
            !waiters.is_empty()
        });
    }

    /// Whoever waits for memory looks again whether that makes sense.
    pub(crate) fn wake_writers(&self) {
        self.account.wake();
    }

    /// A shard, or the log, has failed, or had no memory. Takes out all who wait.
    pub(crate) fn lose(&mut self) -> Vec<Waiter> {
        (self.is_lost, self.changed) = (true, true);
        std::mem::take(&mut self.waiters).into_values().flatten().collect()
    }
}

/// Nobody is left to tell who waits for whom.
impl Drop for Board {
    fn drop(&mut self) {
        (0..self.views.len()).for_each(|shard| self.account.set_ahead(shard, false));
    }
}

/// The newest view whose floor allows `state`; the first (the published one)
/// always does for states from the published one on.
fn pick(views: &VecDeque<Arc<ShardView>>, state: Seq) -> usize {
    views.iter().rposition(|view| view.floor() <= state).unwrap_or(0)
}
