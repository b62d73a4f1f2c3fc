//! Changing the index of a collection while it is read and written.

use std::sync::Arc;

use super::Engine;
use super::collection::Collection;
use super::config::{CollectionConfig, IndexSpec};
use crate::durability::Durability;
use crate::error::{Gone, OpenError, ReindexError};
use crate::id::Generation;
use crate::index::Index;
use crate::rows::{Mutation, Reindex, Reindexing, Switched};
use crate::shard::Backpressure;
use crate::snapshot::Reindexes;

/// Times that no shard knows of the new index although it was asked for it: one
/// may lose it by a defect, and begins again.
const LOST_MOST: usize = 16;

/// The index that a configuration says.
pub(super) fn make_index(spec: &[u8]) -> Option<(Box<dyn Index>, Switched)> {
    let config = CollectionConfig::decode(spec).ok()?;
    Some((config.new_index(), Switched { spec: spec.into(), ef_search: config.ef_search() }))
}

/// A configuration that differs from that of the collection in the index alone.
pub(super) fn switched(spec: &[u8], of: &CollectionConfig) -> Option<(CollectionConfig, Switched)> {
    let config = CollectionConfig::decode(spec).ok()?;
    let is_alike = config.index(of.index_spec()) == *of;
    is_alike.then(|| (config, Switched { spec: spec.into(), ef_search: config.ef_search() }))
}

/// One change at a time.
struct UnderWay<'a>(&'a Reindexes);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// How far a shard is; least first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Done,
    /// It takes over with batches that are under way.
    Ending,
    /// It may take over.
    Carried,
    /// Rows wait to be carried over.
    Carrying,
    /// A shard knows nothing of it.
    Lost,
}

impl Collection {
    /// Changes the index. The new one is built beside the present one, from the
    /// records as they are, while reads and writes go on; then it takes over
    /// in all shards by one write, and the memory of the old
    /// one is given back with the last snapshot that has it. Blocks until that
    /// is done and published, and the index put in order
    /// ([`Collection::optimize`]). The change is in the log, so it is there
    /// after reopening; when the engine ends before it is complete, the
    /// collection comes back with the index that it had.
    ///
    /// Until then batches are planned for both indexes, so that writes take
    /// longer, and both take memory. It waits for places in the mailboxes whatever the handle's
    /// [`Backpressure`] says.
    ///
    /// ```
    /// use vecino::{CollectionConfig, Engine, IndexSpec, Metric, Quantization, Query, Record};
    ///
    /// let engine = Engine::builder().build()?;
    /// let config = CollectionConfig::new(2, Metric::L2).index(IndexSpec::Flat);
    /// let items = engine.create_collection("items", config)?;
    /// items.upsert_batch((0..3_000u64).map(|id| Record::new(id, [id as f32, 1.0])))?;
    ///
    /// items.reindex(IndexSpec::graph())?;
    /// assert_eq!(items.stats().shards[0].index, "graph");
    /// assert_eq!(items.config().index_spec(), IndexSpec::graph());
    /// assert_eq!(items.search(&Query::new(&[77.0, 1.0]).top(1))?.hits()[0].id.as_num(), Some(77));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ReindexError`]: a setting is outside its bounds, another change is
    /// under way, the collection cannot be written, or a memory budget has no
    /// room for both indexes.
    pub fn reindex(&self, index: IndexSpec) -> Result<Generation, ReindexError> {
        let config = self.config().index(index);
        config.check()?;
        let reindexes = &self.shared.context.reindexes;
        if !reindexes.begin() {
            return Err(ReindexError::UnderWay);
        }
        let _under_way = UnderWay(reindexes);
        let spec: Arc<[u8]> = config.encode().into();
        if self.has_all_over(&config, &spec) {
            return Ok(self.flush()?);
        }
        // Both are there for a while.
        let [now, then] = [self.config(), config].map(|config| config.index_sizes());
        let account = &self.shared.account;
        account.expect(now.and(then)).map_err(|denied| self.shared.denied(denied))?;
        let mut is_begun = false;
        let outcome = self.backpressure(Backpressure::Wait).carry_over(&spec, &mut is_begun);
        let progress = self.progress(&spec);
        account.assume(match progress {
            _ if outcome.is_ok() => then,
            Progress::Done => then,
            // Nothing can keep it from taking over some time.
            Progress::Ending => now.and(then),
            _ => now,
        });
        if is_begun && outcome.is_err() && progress != Progress::Done {
            self.give_up();
        }
        outcome
    }

    /// What was built takes memory for nothing. (If nothing can be written any more,
    /// nothing can be done about it.) A shard that has no memory gets it all the same: it
    /// will have some when this is done.
    fn give_up(&self) {
        let patient = self.backpressure(Backpressure::Wait);
        let _ = patient.write_regardless(vec![Mutation::Reindex(Reindex::GiveUp)]);
    }

    fn carry_over(&self, spec: &Arc<[u8]>, is_begun: &mut bool) -> Result<Generation, ReindexError> {
        // The last write of all is as durable as the handle says, and vouches
        // for those before it.
        let pieces = self.durability(Durability::Applied);
        let mut send = |step| -> Result<(), ReindexError> {
            let sent = pieces.write(vec![Mutation::Reindex(step)])?;
            *is_begun = true;
            sent.wait()?;
            Ok(())
        };
        send(Reindex::Carry(Arc::clone(spec)))?;
        let mut lost = 0;
        loop {
            match self.progress(spec) {
                Progress::Carrying => send(Reindex::Carry(Arc::clone(spec)))?,
                Progress::Carried => send(Reindex::Finish(Arc::clone(spec)))?,
                Progress::Ending | Progress::Done => {
                    let generation = self.optimize()?;
                    if self.progress(spec) == Progress::Done {
                        return Ok(generation);
                    }
                }
                Progress::Lost if lost == LOST_MOST => return Err(ReindexError::Lost),
                Progress::Lost => {
                    lost += 1;
                    send(Reindex::Carry(Arc::clone(spec)))?;
                }
            }
        }
    }

    /// How far the last shard is.
    fn progress(&self, spec: &Arc<[u8]>) -> Progress {
        let published = self.shared.cell.pin();
        let shards = published.shards.iter().map(|shard| {
            if shard.switched().is_some_and(|switched| switched.spec == *spec) {
                return Progress::Done;
            }
            match shard.measure().reindexing {
                Reindexing::No => Progress::Lost,
                Reindexing::Carrying => Progress::Carrying,
                Reindexing::Carried => Progress::Carried,
                Reindexing::Ending => Progress::Ending,
            }
        });
        shards.max().unwrap_or(Progress::Done)
    }

    /// Whether every shard has the index of a configuration.
    fn has_all_over(&self, config: &CollectionConfig, spec: &Arc<[u8]>) -> bool {
        let published = self.shared.cell.pin();
        published.shards.iter().all(|shard| match shard.switched() {
            Some(switched) => switched.spec == *spec,
            None => self.shared.config == *config,
        })
    }

    /// The index, if it is not the one that the collection was made with.
    pub(super) fn switched_config(&self) -> Option<CollectionConfig> {
        let published = self.shared.cell.pin();
        let switched = published.shards.first().and_then(|shard| shard.switched())?;
        CollectionConfig::decode(&switched.spec).ok()
    }
}

impl Engine {
    /// Gives up the changes of indexes that nobody goes on with: the engine
    /// that began them has ended.
    pub(super) fn give_up_reindexing(&self) -> Result<(), OpenError> {
        let collections: Vec<Collection> = self.collections_by_name().values().cloned().collect();
        for collection in collections {
            let published = collection.shared.cell.pin();
            let is_open = |reindexing| matches!(reindexing, Reindexing::Carrying | Reindexing::Carried);
            if published.shards.iter().any(|shard| is_open(shard.measure().reindexing)) {
                let written = collection.write(vec![Mutation::Reindex(Reindex::GiveUp)]);
                written.map_err(|_| OpenError::Gone(Gone::Closed))?.wait()?;
            }
        }
        Ok(())
    }
}
