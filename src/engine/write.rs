//! Writing: checked on the caller's thread, routed by id, numbered, sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::collection::{Collection, CollectionShared};
use super::defaults;
use crate::codec::Encoder;
use crate::coordinator::{NotAdmitted, Request};
use crate::durability::Durability;
use crate::error::{Gone, WaitError, WriteError};
use crate::id::{Generation, RecordId, Seq};
use crate::memory::{self, Shortage};
use crate::payload::{Payload, PayloadError};
use crate::rows::{Mutation, NewRow, Verdict};
use crate::shard::{
    Backpressure, Grant, Load, LogPart, Mailbox, NoAnswer, Permit, Refusal, Reply, WriteCommand, reply,
    reply_future,
};
use crate::snapshot::{Record, shard_of};

/// A write that was accepted: it has its place in the history and will be
/// applied in that order. It is acknowledged when [`Write::wait`] returns.
#[derive(Clone)]
pub struct Write {
    seq: Seq,
    durability: Durability,
    shared: Arc<CollectionShared>,
}

impl std::fmt::Debug for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Write").field("seq", &self.seq).finish_non_exhaustive()
    }
}

impl Write {
    /// Its number: for [`Query::at_least`](crate::Query::at_least).
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// What it has reached once it is acknowledged: see [`Durability`].
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// What it has reached by now; `None`: it was only accepted. Lock-free.
    #[must_use]
    pub fn reached(&self) -> Option<Durability> {
        let is_whole = self.shared.check_whole(self.seq).is_ok();
        (self.is_visible() && is_whole).then_some(self.durability)
    }

    /// True when the newest snapshot shows it. Lock-free.
    #[must_use]
    pub fn is_visible(&self) -> bool {
        self.shared.cell.load().seq >= self.seq
    }

    /// Blocks until the newest snapshot shows it and it has reached its
    /// [`Durability`]; gives the generation.
    ///
    /// # Errors
    /// [`WaitError::Gone`] when it never will (after [`Gone::NoMemory`] it will, once there is
    /// memory again); after [`Gone::LogFailed`] nobody
    /// knows whether a later opening of the folder will show it. [`WaitError::LeftOut`] when a shard met
    /// a defect in it again and again and has left it out.
    pub fn wait(&self) -> Result<Generation, WaitError> {
        self.shared.wait_visible(self.seq, None)
    }

    /// As [`Write::wait`], for at most `limit`.
    ///
    /// # Errors
    /// [`WaitError::Timeout`] when it is not visible by then; it may be later. Else as [`Write::wait`].
    pub fn wait_timeout(&self, limit: Duration) -> Result<Generation, WaitError> {
        self.shared.wait_visible(self.seq, Some(limit))
    }

    /// As [`Write::wait`], without blocking the thread; for any executor.
    ///
    /// # Errors
    /// As [`Write::wait`].
    pub async fn wait_async(&self) -> Result<Generation, WaitError> {
        self.shared.visible_async(self.seq).await
    }
}

impl CollectionShared {
    /// Waits until the newest snapshot shows a write.
    async fn visible_async(&self, seq: Seq) -> Result<Generation, WaitError> {
        if let Some(generation) = self.generation_showing(seq)? {
            return Ok(generation);
        }
        let (reply, waiting) = reply_future();
        let permit = self.core.requests.acquire_async(Load::default(), Backpressure::Wait).await;
        let request = Request::Await { collection: self.id, seq, reply };
        let sent = permit.and_then(|permit| self.core.requests.send(permit, request));
        sent.map_err(|_| self.gone())?;
        let generation = waiting.wait().await.map_err(|_| self.gone())??;
        self.check_whole(seq).map(|()| generation)
    }

    fn generation_showing(&self, seq: Seq) -> Result<Option<Generation>, WaitError> {
        let published = self.cell.load();
        if published.seq >= seq {
            return self.check_whole(seq).map(|()| Some(published.generation));
        }
        self.check_writable()?;
        Ok(None)
    }

    /// No shard left its part of a write out.
    pub(super) fn check_whole(&self, seq: Seq) -> Result<(), WaitError> {
        let health = &self.context.health;
        if health.left_out().any(|left_out| left_out == seq) {
            return Err(WaitError::LeftOut { seq });
        }
        // It may be one of those that there was no place for.
        if health.may_be_left_out(seq) { Err(self.gone().into()) } else { Ok(()) }
    }

    /// What the logs are told of a write with so many parts.
    fn log_part(&self, parts: usize, durability: Durability) -> Option<LogPart> {
        self.is_logged().then_some(LogPart { parts: parts as u32, durability })
    }

    /// What a part of a write is for a worker and its mailbox.
    fn load(&self, shard: usize, mutations: &[Mutation]) -> Load {
        let rows = self.cell.load().shards.get(shard).map_or(0, |shard| shard.high_water() as usize);
        let units = mutations.iter().map(|mutation| mutation.units(rows)).sum();
        let work = self.tolls.get(shard).map_or(Duration::ZERO, |tolls| tolls.writing.estimate(units));
        Load { bytes: mutations.iter().map(Mutation::bytes).sum(), work }
    }

    /// A place in every worker's mailbox; waits for it.
    fn permits(&self) -> Result<Vec<Permit>, Gone> {
        let workers = self.core.writes.iter().enumerate();
        let place = |(number, worker): (usize, &Mailbox<_>)| {
            worker.acquire(Backpressure::Wait).map_err(|_| self.lost_by(number))
        };
        workers.map(place).collect()
    }

    /// Blocks until the newest snapshot shows a write.
    pub(super) fn wait_visible(&self, seq: Seq, limit: Option<Duration>) -> Result<Generation, WaitError> {
        if let Some(generation) = self.generation_showing(seq)? {
            return Ok(generation);
        }
        let last = self.admission.last();
        if seq > last {
            return Err(WaitError::Future { seq, last });
        }
        let started = Instant::now();
        let (reply, waiting) = reply();
        let patience = limit.map_or(Backpressure::Wait, Backpressure::WaitAtMost);
        let permit = match self.core.requests.acquire(patience) {
            Ok(permit) => permit,
            Err(Refusal::Full { waited, .. }) => return Err(WaitError::Timeout { seq, waited }),
            Err(Refusal::Closed) => return Err(self.gone().into()),
        };
        let request = Request::Await { collection: self.id, seq, reply };
        self.core.requests.send(permit, request).map_err(|_| self.gone())?;
        match waiting.wait(limit.map(|limit| limit.saturating_sub(started.elapsed()))) {
            Ok(outcome) => self.check_whole(seq).map(|()| outcome)?.map_err(WaitError::from),
            Err(NoAnswer::Lost) => Err(self.gone().into()),
            Err(NoAnswer::Timeout) => Err(WaitError::Timeout { seq, waited: started.elapsed() }),
        }
    }
}

/// A write, checked and split by shard.
struct Parts {
    /// For each shard with work its number and mutations, ascending.
    shards: Vec<(usize, Vec<Mutation>)>,
    /// Who is told how its condition was decided.
    verdict: Option<Reply<Result<Verdict, Shortage>>>,
    /// A shard that has no memory for now gets its part all the same.
    is_regardless: bool,
}

impl Parts {
    fn split(shards: usize, mutations: Vec<Mutation>) -> Result<Parts, WriteError> {
        Ok(memory::unless_short(|| Parts::of_shards(shards, mutations))?)
    }

    fn of_shards(shards: usize, mutations: Vec<Mutation>) -> Parts {
        let mut parts: Vec<(usize, Vec<Mutation>)> = (0..shards).map(|shard| (shard, Vec::new())).collect();
        if shards == 1 {
            parts[0].1 = mutations;
        } else {
            for mutation in mutations {
                match mutation.id().map(|id| shard_of(id, shards)) {
                    Some(shard) => memory::push(&mut parts[shard].1, mutation),
                    None => parts.iter_mut().for_each(|(_, part)| memory::push(part, mutation.clone())),
                }
            }
        }
        // A write of nothing goes to one shard all the same: only what a worker
        // has applied becomes visible.
        if parts.iter().all(|(_, mutations)| mutations.is_empty()) {
            parts.truncate(1);
        } else {
            parts.retain(|(_, mutations)| !mutations.is_empty());
        }
        Parts { shards: parts, verdict: None, is_regardless: false }
    }

    /// The same with a part for every shard.
    fn widened(mut self, shards: usize) -> Parts {
        let mut all: Vec<(usize, Vec<Mutation>)> = (0..shards).map(|shard| (shard, Vec::new())).collect();
        let parts = std::mem::take(&mut self.shards);
        parts.into_iter().for_each(|(shard, mutations)| all[shard].1 = mutations);
        Parts { shards: all, ..self }
    }
}

impl Collection {
    /// Puts a record in; one with the same id is replaced, in one step for
    /// every reader. Returns when the write is accepted (numbered and queued).
    /// Blocks while the worker's mailbox is full, and where there is a memory budget until
    /// enough was deleted or has expired, as the handle's [`Backpressure`] says: by default
    /// without a limit. A program whose only writer would be the one to delete should take
    /// [`Backpressure::Reject`] or [`Backpressure::WaitAtMost`] with a budget.
    ///
    /// # Errors
    /// [`WriteError`]: the vector or the payload cannot be used, the mailbox or the
    /// [budget](WriteError::Budget) is full, there is [no memory](WriteError::NoMemory), or the
    /// collection is gone. Nothing was written then.
    pub fn upsert(&self, record: Record) -> Result<Write, WriteError> {
        let row = self.check_record(record)?;
        self.write(vec![Mutation::Upsert(row)])
    }

    /// Puts many records in. They become visible together, in one generation,
    /// over all shards. Of records with the same id the last one counts.
    ///
    /// # Errors
    /// As [`Collection::upsert`]; [`WriteError::BatchTooLarge`] beyond a
    /// million records. One bad vector refuses the whole batch.
    ///
    /// ```
    /// # use vecino::{CollectionConfig, Engine, Metric, Record};
    /// # let engine = Engine::builder().build()?;
    /// # let items = engine.create_collection("items", CollectionConfig::new(2, Metric::L2))?;
    /// let records = (0..100).map(|id| Record::new(id, [id as f32, 1.0]));
    /// items.upsert_batch(records)?.wait()?;
    /// assert_eq!(items.len(), 100);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn upsert_batch(&self, records: impl IntoIterator<Item = Record>) -> Result<Write, WriteError> {
        self.write(self.check_batch(records)?)
    }

    /// Takes a record out. Deleting an id that is not there is fine.
    ///
    /// # Errors
    /// As [`Collection::upsert`].
    pub fn delete(&self, id: impl Into<RecordId>) -> Result<Write, WriteError> {
        self.write(vec![Mutation::Delete(id.into())])
    }

    /// Takes many records out, in one generation over all shards.
    ///
    /// # Errors
    /// As [`Collection::upsert_batch`].
    pub fn delete_batch<I: Into<RecordId>>(
        &self,
        ids: impl IntoIterator<Item = I>,
    ) -> Result<Write, WriteError> {
        let deletes = || memory::collect(ids.into_iter().map(|id| Mutation::Delete(id.into())));
        let mutations: Vec<Mutation> = memory::unless_short(deletes)?;
        check_size(mutations.len())?;
        self.write(mutations)
    }

    /// As [`Collection::upsert`], waiting for a place in the mailbox without
    /// blocking the thread; for any executor.
    ///
    /// # Errors
    /// As [`Collection::upsert`].
    pub async fn upsert_async(&self, record: Record) -> Result<Write, WriteError> {
        let row = self.check_record(record)?;
        self.write_async(vec![Mutation::Upsert(row)]).await
    }

    /// As [`Collection::upsert_batch`], waiting for places in the mailboxes
    /// without blocking the thread.
    ///
    /// # Errors
    /// As [`Collection::upsert_batch`].
    pub async fn upsert_batch_async(
        &self,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<Write, WriteError> {
        let mutations = self.check_batch(records)?;
        self.write_async(mutations).await
    }

    /// As [`Collection::delete`], waiting for a place in the mailbox without
    /// blocking the thread.
    ///
    /// # Errors
    /// As [`Collection::upsert`].
    pub async fn delete_async(&self, id: impl Into<RecordId>) -> Result<Write, WriteError> {
        self.write_async(vec![Mutation::Delete(id.into())]).await
    }

    /// Puts in records of another collection: their payloads may have grown beyond
    /// what a caller's may be.
    pub(super) fn upsert_stored(
        &self,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<Write, WriteError> {
        self.write(self.check_all(records, Payload::check_stored)?)
    }

    fn check_batch(&self, records: impl IntoIterator<Item = Record>) -> Result<Vec<Mutation>, WriteError> {
        self.check_all(records, Payload::check)
    }

    fn check_all(
        &self,
        records: impl IntoIterator<Item = Record>,
        check: fn(&Payload) -> Result<(), PayloadError>,
    ) -> Result<Vec<Mutation>, WriteError> {
        self.refuse_early()?;
        let checked = || {
            let mut mutations = Vec::new();
            for (position, record) in records.into_iter().enumerate() {
                check_size(position + 1)?;
                memory::push(&mut mutations, Mutation::Upsert(self.checked(position, record, check)?));
            }
            Ok(mutations)
        };
        memory::unless_short(checked)?
    }

    pub(super) fn check_record(&self, record: Record) -> Result<NewRow, WriteError> {
        memory::unless_short(|| self.checked(0, record, Payload::check))?
    }

    fn checked(
        &self,
        position: usize,
        record: Record,
        check: fn(&Payload) -> Result<(), PayloadError>,
    ) -> Result<NewRow, WriteError> {
        let ttl = record.asked_ttl();
        let (id, mut vector, payload) = record.into_stored();
        let payload = self.with_expiry(payload, ttl);
        if let Err(fault) = check(&payload) {
            return Err(WriteError::Payload { id, position, fault });
        }
        let storage = self.shared.config.vector_storage();
        match storage.admit(&self.shared.context.space, &mut vector) {
            Ok(scale) => Ok(NewRow { id, vector: vector.into_boxed_slice(), scale, payload }),
            Err(fault) => Err(WriteError::Vector { id, position, fault }),
        }
    }

    pub(super) fn write(&self, mutations: Vec<Mutation>) -> Result<Write, WriteError> {
        self.write_decided(mutations, None)
    }

    /// Writes, also where a shard has no memory for now: it is done when there is some.
    pub(super) fn write_regardless(&self, mutations: Vec<Mutation>) -> Result<Write, WriteError> {
        let parts = Parts::split(self.shared.core.writes.len(), mutations)?;
        self.write_parts(Parts { is_regardless: true, ..parts })
    }

    /// Writes, and has somebody told how the condition was decided.
    pub(super) fn write_decided(
        &self,
        mutations: Vec<Mutation>,
        verdict: Option<Reply<Result<Verdict, Shortage>>>,
    ) -> Result<Write, WriteError> {
        self.check_durability()?;
        self.write_parts(Parts { verdict, ..Parts::split(self.shared.core.writes.len(), mutations)? })
    }

    fn write_parts(&self, mut parts: Parts) -> Result<Write, WriteError> {
        // Before the places: what gives memory back must still find some.
        let mut grants = self.promise(&parts.shards)?;
        loop {
            let mut permits = Vec::with_capacity(parts.shards.len());
            for (shard, mutations) in &parts.shards {
                let load = self.shared.load(*shard, mutations);
                let permit = self.shared.core.writes[*shard].acquire_for(load, self.backpressure);
                permits.push(permit.map_err(|refusal| self.refused(*shard, refusal))?);
            }
            match self.send(parts, permits, &mut grants)? {
                Ok(write) => return Ok(write),
                Err(wider) => parts = wider,
            }
        }
    }

    async fn write_async(&self, mutations: Vec<Mutation>) -> Result<Write, WriteError> {
        self.check_durability()?;
        let mut parts = Parts::split(self.shared.core.writes.len(), mutations)?;
        let mut grants = self.promise_async(&parts.shards).await?;
        loop {
            let mut permits = Vec::with_capacity(parts.shards.len());
            for (shard, mutations) in &parts.shards {
                let worker = &self.shared.core.writes[*shard];
                let load = self.shared.load(*shard, mutations);
                let permit = worker.acquire_async(load, self.backpressure).await;
                permits.push(permit.map_err(|refusal| self.refused(*shard, refusal))?);
            }
            match self.send(parts, permits, &mut grants)? {
                Ok(write) => return Ok(write),
                Err(wider) => parts = wider,
            }
        }
    }

    /// Refuses before anything is looked at when there is no place at all and
    /// the handle does not wait: so a refusal costs the same for any batch.
    fn refuse_early(&self) -> Result<(), WriteError> {
        let workers = &self.shared.core.writes;
        if self.backpressure != Backpressure::Reject || !workers.iter().all(Mailbox::is_full) {
            return Ok(());
        }
        workers.first().map_or(Ok(()), |worker| Err(self.refused(0, worker.refuse())))
    }

    pub(super) fn check_durability(&self) -> Result<(), WriteError> {
        self.shared.check_writable()?;
        if self.durability > Durability::Applied && !self.shared.core.has_files() {
            return Err(WriteError::InMemory { asked: self.durability });
        }
        Ok(())
    }

    /// Numbers the write and sends its parts; a place is reserved for each.
    /// Gives the parts back, one for every shard, when it must go to all.
    fn send(
        &self,
        parts: Parts,
        permits: Vec<Permit>,
        grants: &mut Vec<Grant>,
    ) -> Result<Result<Write, Parts>, WriteError> {
        let shared = &self.shared;
        // Again: it may have waited long for its places.
        match shared.check_writable() {
            Err(Gone::NoMemory { .. }) if parts.is_regardless => {}
            other => other?,
        }
        let numbers: Vec<usize> = parts.shards.iter().map(|(shard, _)| *shard).collect();
        let mut parts = Some(parts);
        let seq = shared.admission.admit(&numbers, self.durability, |seq| {
            let log = shared.log_part(numbers.len(), self.durability);
            let (parts, mut verdict) =
                parts.take().map(|parts| (parts.shards, parts.verdict)).unwrap_or_default();
            for ((shard, mutations), permit) in parts.into_iter().zip(permits) {
                let granted = grants.iter().position(|grant| grant.shard() == shard);
                let grant = granted.map(|at| grants.swap_remove(at).sent());
                let verdict = if mutations.is_empty() { None } else { verdict.take() };
                let collection = shared.id;
                let command = WriteCommand::Write { collection, seq, mutations, log, verdict, grant };
                shared.core.writes[shard].send(permit, command).map_err(|_| shard)?;
            }
            Ok(())
        });
        match (seq, parts) {
            (Ok(seq), _) => Ok(Ok(Write { seq, durability: self.durability, shared: Arc::clone(shared) })),
            (Err(NotAdmitted::Unsent(worker)), _) => Err(shared.lost_by(worker).into()),
            (Err(NotAdmitted::Narrow), Some(parts)) => Ok(Err(parts.widened(shared.core.writes.len()))),
            (Err(NotAdmitted::Narrow), None) => Err(shared.gone().into()),
        }
    }

    fn refused(&self, worker: usize, refusal: Refusal) -> WriteError {
        match refusal {
            Refusal::Closed => WriteError::Gone(self.shared.lost_by(worker)),
            Refusal::Full { waited, reason } => {
                let capacity = self.shared.core.writes[worker].limit();
                tracing::debug!(worker, capacity, %reason, ?waited, "backpressure");
                WriteError::Full { worker, capacity, reason, waited }
            }
        }
    }

    /// Blocks until every write that was accepted before this call is visible.
    ///
    /// # Errors
    /// As [`Write::wait`], of the last of them.
    pub fn flush(&self) -> Result<Generation, WaitError> {
        self.shared.wait_visible(self.shared.admission.last(), None)
    }

    /// As [`Collection::flush`], without blocking the thread; for any executor.
    ///
    /// # Errors
    /// As [`Collection::flush`].
    pub async fn flush_async(&self) -> Result<Generation, WaitError> {
        self.shared.visible_async(self.shared.admission.last()).await
    }

    /// Takes every record that waits in a tail into the indexes and unlinks
    /// all dead ones; where searches have targets, also calibrates anew
    /// ([`Collection::calibrate`]). Blocks until that is done and published;
    /// reads and writes go on meanwhile. A graph that has changed much is laid anew, which takes its memory
    /// once more for as long, lists and codes are trained anew. Where there are several shards with quantized
    /// graphs, all go over to the codes of one, so that a search prepares its query once.
    ///
    /// # Errors
    /// [`WaitError::Gone`] when the collection is gone.
    pub fn optimize(&self) -> Result<Generation, WaitError> {
        let mut generation = self.put_in_order()?;
        if self.share_codes()? {
            generation = self.put_in_order()?;
        }
        self.recalibrate()?;
        Ok(generation)
    }

    /// Has every shard absorb its tail and put its index in order, once.
    fn put_in_order(&self) -> Result<Generation, WaitError> {
        let shared = &self.shared;
        shared.check_writable()?;
        let workers = &shared.core.writes;
        let permits = shared.permits()?;
        let mut ends = Vec::new();
        let all: Vec<usize> = (0..workers.len()).collect();
        let seq = shared.admission.admit(&all, self.durability, |seq| {
            let log = shared.log_part(all.len(), self.durability);
            for (number, (worker, permit)) in workers.iter().zip(permits).enumerate() {
                let (done, waiting) = reply();
                let command = WriteCommand::Optimize { collection: shared.id, seq, done: Some(done), log };
                worker.send(permit, command).map_err(|_| number)?;
                ends.push(waiting);
            }
            Ok::<(), usize>(())
        });
        if let Err(NotAdmitted::Unsent(worker)) = seq {
            return Err(shared.lost_by(worker).into());
        }
        for (worker, end) in ends.into_iter().enumerate() {
            let done = end.wait(None).map_err(|_| shared.lost_by(worker))?;
            done.map_err(|shortage| shared.context.no_memory(worker, shortage.bytes))?;
        }
        let generation = self.barrier()?;
        seq.map_or(Ok(()), |seq| shared.check_whole(seq))?;
        Ok(generation)
    }

    /// Where shards walk by codes that each of them trained on its own rows, all go
    /// over to those of one: rows are spread by hash, so one shard's are as
    /// good for the others, and a search then prepares its query once. False, and
    /// nothing is changed, where they are the same, or there is no room or no memory for
    /// such a write.
    fn share_codes(&self) -> Result<bool, WaitError> {
        let codes = memory::unless_short(|| self.codes_to_share());
        let Ok(Some(codes)) = codes else { return Ok(false) };
        match self.write(vec![Mutation::Adopt(codes)]) {
            Ok(write) => write.wait().map(|_| true),
            Err(_) => Ok(false),
        }
    }

    /// The codes of the first shard, if others are not the same. (No snapshot is
    /// held by whoever waits for the others: they would keep what they had.)
    fn codes_to_share(&self) -> Option<Arc<[u8]>> {
        let published = self.shared.cell.pin();
        let mut codecs = published.shards.iter().filter_map(|shard| shard.index().codec());
        let first = codecs.next()?;
        codecs.any(|codec| codec.digest() != first.digest()).then(|| {
            let mut bytes = Encoder::default();
            first.save(&mut bytes);
            memory::shared(bytes.into_bytes())
        })
    }

    /// Blocks until the views that the workers have now are published: an
    /// empty write to every shard is shown by later views only.
    fn barrier(&self) -> Result<Generation, WaitError> {
        let shared = &self.shared;
        let shards = (0..shared.core.writes.len()).map(|shard| (shard, Vec::new())).collect();
        let permits = shared.permits()?;
        let parts = Parts { shards, verdict: None, is_regardless: false };
        let write = self.send(parts, permits, &mut Vec::new()).ok().and_then(Result::ok);
        write.ok_or_else(|| shared.gone())?.wait()
    }
}

pub(super) fn check_size(records: usize) -> Result<(), WriteError> {
    if records > defaults::BATCH_RECORDS_MOST {
        return Err(WriteError::BatchTooLarge { got: records, most: defaults::BATCH_RECORDS_MOST });
    }
    Ok(())
}
