//! Writing: checked on the caller's thread, routed by id, numbered, sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::collection::{Collection, CollectionShared};
use super::defaults;
use crate::coordinator::Request;
use crate::error::{Gone, WaitError, WriteError};
use crate::id::{Generation, RecordId, Seq};
use crate::rows::{Mutation, NewRow};
use crate::shard::{Backpressure, Mailbox, NoAnswer, Permit, Refusal, WriteCommand, reply, reply_future};
use crate::snapshot::{Record, shard_of};

/// A write that was accepted: it has its place in the history and will be
/// applied in that order.
#[derive(Clone)]
pub struct Write {
    seq: Seq,
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

    /// True when the newest snapshot shows it. Lock-free.
    #[must_use]
    pub fn is_visible(&self) -> bool {
        self.shared.cell.load().seq >= self.seq
    }

    /// Blocks until the newest snapshot shows it; gives the generation.
    ///
    /// # Errors
    /// [`WaitError::Gone`] when it never will.
    pub fn wait(&self) -> Result<Generation, WaitError> {
        self.shared.wait_visible(self.seq, None)
    }

    /// As [`Write::wait`], for at most `limit`.
    ///
    /// # Errors
    /// [`WaitError::Timeout`] when it is not visible by then; it may be later.
    pub fn wait_timeout(&self, limit: Duration) -> Result<Generation, WaitError> {
        self.shared.wait_visible(self.seq, Some(limit))
    }

    /// As [`Write::wait`], without blocking the thread; for any executor.
    ///
    /// # Errors
    /// [`WaitError::Gone`] when it never will be visible.
    pub async fn wait_async(&self) -> Result<Generation, WaitError> {
        if let Some(generation) = self.shared.generation_showing(self.seq)? {
            return Ok(generation);
        }
        let (reply, waiting) = reply_future();
        let permit = self.shared.core.requests.acquire_async(Backpressure::Wait).await;
        let request = Request::Await { collection: self.shared.id, seq: self.seq, reply };
        let sent = permit.and_then(|permit| self.shared.core.requests.send(permit, request));
        sent.map_err(|_| self.shared.gone())?;
        Ok(waiting.wait().await.map_err(|_| self.shared.gone())??)
    }
}

impl CollectionShared {
    fn generation_showing(&self, seq: Seq) -> Result<Option<Generation>, Gone> {
        let published = self.cell.load();
        if published.seq >= seq {
            return Ok(Some(published.generation));
        }
        self.check_writable().map(|()| None)
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
            Err(Refusal::Full { waited }) => return Err(WaitError::Timeout { seq, waited }),
            Err(Refusal::Closed) => return Err(self.gone().into()),
        };
        let request = Request::Await { collection: self.id, seq, reply };
        self.core.requests.send(permit, request).map_err(|_| self.gone())?;
        match waiting.wait(limit.map(|limit| limit.saturating_sub(started.elapsed()))) {
            Ok(outcome) => Ok(outcome?),
            Err(NoAnswer::Lost) => Err(self.gone().into()),
            Err(NoAnswer::Timeout) => Err(WaitError::Timeout { seq, waited: started.elapsed() }),
        }
    }
}

/// A write, checked and split by shard.
struct Parts {
    /// For each shard with work its number and mutations, ascending.
    shards: Vec<(usize, Vec<Mutation>)>,
}

impl Parts {
    fn split(shards: usize, mutations: Vec<Mutation>) -> Parts {
        let mut parts: Vec<(usize, Vec<Mutation>)> = (0..shards).map(|shard| (shard, Vec::new())).collect();
        if shards == 1 {
            parts[0].1 = mutations;
        } else {
            for mutation in mutations {
                let id = match &mutation {
                    Mutation::Upsert(new) => &new.id,
                    Mutation::Delete(id) => id,
                };
                let shard = shard_of(id, shards);
                parts[shard].1.push(mutation);
            }
        }
        // A write of nothing goes to one shard all the same: only what a worker
        // has applied becomes visible.
        if parts.iter().all(|(_, mutations)| mutations.is_empty()) {
            parts.truncate(1);
        } else {
            parts.retain(|(_, mutations)| !mutations.is_empty());
        }
        Parts { shards: parts }
    }
}

impl Collection {
    /// Puts a record in; one with the same id is replaced, in one step for
    /// every reader. Returns when the write is accepted (numbered and queued):
    /// blocks only when the worker's mailbox is full, as the handle's
    /// [`Backpressure`] says.
    ///
    /// # Errors
    /// [`WriteError`]: the vector cannot be used, the mailbox is full, or the
    /// collection is gone. Nothing was written then.
    pub fn upsert(&self, record: Record) -> Result<Write, WriteError> {
        let mutation = self.check_record(0, record)?;
        self.write(vec![mutation])
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
        let mutations: Vec<Mutation> = ids.into_iter().map(|id| Mutation::Delete(id.into())).collect();
        check_size(mutations.len())?;
        self.write(mutations)
    }

    /// As [`Collection::upsert`], waiting for a place in the mailbox without
    /// blocking the thread; for any executor.
    ///
    /// # Errors
    /// As [`Collection::upsert`].
    pub async fn upsert_async(&self, record: Record) -> Result<Write, WriteError> {
        let mutation = self.check_record(0, record)?;
        self.write_async(vec![mutation]).await
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

    fn check_batch(&self, records: impl IntoIterator<Item = Record>) -> Result<Vec<Mutation>, WriteError> {
        let records = records.into_iter().enumerate();
        let mutations: Result<Vec<_>, _> = records
            .map(|(position, record)| {
                check_size(position + 1)?;
                self.check_record(position, record)
            })
            .collect();
        mutations
    }

    fn check_record(&self, position: usize, record: Record) -> Result<Mutation, WriteError> {
        let (id, mut vector) = record.into_parts();
        let storage = self.shared.config.vector_storage();
        match storage.admit(&self.shared.context.space, &mut vector) {
            Ok(scale) => Ok(Mutation::Upsert(NewRow { id, vector: vector.into_boxed_slice(), scale })),
            Err(fault) => Err(WriteError::Vector { id, position, fault }),
        }
    }

    fn write(&self, mutations: Vec<Mutation>) -> Result<Write, WriteError> {
        self.shared.check_writable()?;
        let parts = Parts::split(self.shared.core.writes.len(), mutations);
        let mut permits = Vec::with_capacity(parts.shards.len());
        for (shard, _) in &parts.shards {
            let permit = self.shared.core.writes[*shard].acquire(self.backpressure);
            permits.push(permit.map_err(|refusal| self.refused(*shard, refusal))?);
        }
        self.send(parts, permits)
    }

    async fn write_async(&self, mutations: Vec<Mutation>) -> Result<Write, WriteError> {
        self.shared.check_writable()?;
        let parts = Parts::split(self.shared.core.writes.len(), mutations);
        let mut permits = Vec::with_capacity(parts.shards.len());
        for (shard, _) in &parts.shards {
            let permit = self.shared.core.writes[*shard].acquire_async(self.backpressure).await;
            permits.push(permit.map_err(|refusal| self.refused(*shard, refusal))?);
        }
        self.send(parts, permits)
    }

    /// Numbers the write and sends its parts; a place is reserved for each.
    fn send(&self, parts: Parts, permits: Vec<Permit>) -> Result<Write, WriteError> {
        let shared = &self.shared;
        let numbers: Vec<usize> = parts.shards.iter().map(|(shard, _)| *shard).collect();
        let seq = shared.admission.admit(numbers.into_iter(), |seq| {
            for ((shard, mutations), permit) in parts.shards.into_iter().zip(permits) {
                let command = WriteCommand::Write { collection: shared.id, seq, mutations };
                shared.core.writes[shard].send(permit, command).map_err(|_| shard)?;
            }
            Ok(())
        });
        let seq = seq.map_err(|worker: usize| shared.lost_by(worker))?;
        Ok(Write { seq, shared: Arc::clone(shared) })
    }

    fn refused(&self, worker: usize, refusal: Refusal) -> WriteError {
        match refusal {
            Refusal::Closed => WriteError::Gone(self.shared.lost_by(worker)),
            Refusal::Full { waited } => {
                let capacity = self.shared.core.writes[worker].capacity();
                tracing::debug!(worker, capacity, ?waited, "backpressure");
                WriteError::Full { worker, capacity, waited }
            }
        }
    }

    /// Blocks until every write that was accepted before this call is visible.
    ///
    /// # Errors
    /// [`WaitError::Gone`] when that will never be.
    pub fn flush(&self) -> Result<Generation, WaitError> {
        self.shared.wait_visible(self.shared.admission.last(), None)
    }

    /// Takes every record that waits in a tail into the indexes and unlinks
    /// all dead ones; where searches have targets, also calibrates anew
    /// ([`Collection::calibrate`]). Blocks until that is done and published;
    /// reads and writes go on meanwhile.
    ///
    /// # Errors
    /// [`WaitError::Gone`] when the collection is gone.
    pub fn optimize(&self) -> Result<Generation, WaitError> {
        let shared = &self.shared;
        shared.check_writable()?;
        let workers = &shared.core.writes;
        let permits = shared.permits()?;
        let mut ends = Vec::new();
        let seq = shared.admission.admit(0..workers.len(), |seq| {
            for (number, (worker, permit)) in workers.iter().zip(permits).enumerate() {
                let (done, waiting) = reply();
                let command = WriteCommand::Optimize { collection: shared.id, seq, done };
                worker.send(permit, command).map_err(|_| number)?;
                ends.push(waiting);
            }
            Ok::<(), usize>(())
        });
        seq.map_err(|worker| shared.lost_by(worker))?;
        for (worker, end) in ends.into_iter().enumerate() {
            end.wait(None).map_err(|_| shared.lost_by(worker))?;
        }
        let generation = self.barrier()?;
        self.recalibrate()?;
        Ok(generation)
    }

    /// Blocks until the views that the workers have now are published: an
    /// empty write to every shard is shown by later views only.
    fn barrier(&self) -> Result<Generation, WaitError> {
        let shared = &self.shared;
        let shards = (0..shared.core.writes.len()).map(|shard| (shard, Vec::new())).collect();
        let permits = shared.permits()?;
        let write = self.send(Parts { shards }, permits).map_err(|_| shared.gone())?;
        write.wait()
    }
}

fn check_size(records: usize) -> Result<(), WriteError> {
    if records > defaults::BATCH_RECORDS_MOST {
        return Err(WriteError::BatchTooLarge { got: records, most: defaults::BATCH_RECORDS_MOST });
    }
    Ok(())
}
