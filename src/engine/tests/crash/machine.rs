//! The engine without its threads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{Content, Model};
use crate::clock::ManualClock;
use crate::coordinator::{Admission, NotAdmitted};
use crate::durability::Durability;
use crate::engine::backup::Alone;
use crate::engine::collection::Blueprint;
use crate::engine::config::CollectionConfig;
use crate::engine::open::Source;
use crate::error::FileError;
use crate::id::{RecordId, Seq};
use crate::index::Sequential;
use crate::persist::simulator::Simulator;
use crate::persist::{
    CheckpointAt, ClosedLog, Folder, FolderOptions, GivenUp, NotLogged, Opened, Refused, Storage, checkpoint,
    find,
};
use crate::query::{Answer, Query};
use crate::rows::{Mutation, Reindex};
use crate::shard::{CollectionId, Journal, LogPart, WriteCommand};
use crate::snapshot::{Published, Snapshot, shard_of};

/// Bytes of a log file: so few that there are many.
pub(super) const LOG_BYTES: u64 = 1_500;

/// A fault in the engine on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    None,
    /// Acknowledges before the log is written.
    EarlyAcknowledgement,
    /// Lets single writes be more durable than what they build on.
    NoWidening,
}

struct Hosted {
    blueprint: Blueprint,
    admission: Admission,
    /// By write: its parts that are not logged yet.
    open: BTreeMap<Seq, (u32, Durability)>,
}

/// An engine on one thread.
pub(crate) struct Machine {
    folder: Folder,
    journals: Vec<Journal>,
    closed: Vec<ClosedLog>,
    collections: BTreeMap<u64, Hosted>,
    next_collection: u64,
    plant: Plant,
    pub(crate) given_up: Vec<GivenUp>,
}

/// How something ended.
pub(crate) type Outcome<T = ()> = Result<T, FileError>;

/// A write that is to be done together with others.
pub(crate) struct Asked {
    pub(crate) collection: String,
    pub(crate) durability: Durability,
    pub(crate) mutations: Vec<Mutation>,
}

impl Machine {
    pub(crate) fn open(folder: &Simulator, workers: u32, plant: Plant) -> Outcome<Machine> {
        Machine::open_with(folder, FolderOptions { workers, log_bytes: LOG_BYTES, repair: false }, plant)
    }

    pub(crate) fn open_with(folder: &Simulator, options: FolderOptions, plant: Plant) -> Outcome<Machine> {
        let storage: Arc<dyn Storage> = Arc::new(folder.clone());
        let mut found = match find(storage, options) {
            Ok(found) => found,
            Err(Refused::File(fault)) => return Err(fault),
            Err(Refused::InUse) => panic!("the folder is in use"),
        };
        let mut collections = BTreeMap::new();
        let entries: Vec<_> = found.collections().map(|(id, entry)| (id, entry.clone())).collect();
        for (id, entry) in entries {
            let config = CollectionConfig::decode(&entry.config).map_err(|fault| FileError::Damaged {
                file: "manifest".to_owned(),
                offset: 0,
                what: fault.what,
            })?;
            let workers = found.workers() as usize;
            let mut blueprint = Blueprint::empty(CollectionId(id), &entry.name, config, workers);
            blueprint.seq = entry.checkpointed();
            if let Some(at) = entry.checkpoint {
                let file = checkpoint::name(id, at.number);
                let source = Source { storage: &folder.clone(), file: &file, repair: options.repair };
                let (states, seq) = source.restore(&mut blueprint, &mut |part| found.give_up(part))?;
                if seq != at.seq {
                    let what = "the checkpoint is of another state";
                    return Err(FileError::Damaged { file, offset: 0, what });
                }
                blueprint.states = states;
            }
            blueprint.last = found.state_of(id);
            let admission = Admission::after(blueprint.last, &vec![blueprint.last; workers]);
            collections.insert(id, Hosted { blueprint, admission, open: BTreeMap::new() });
        }
        for worker in 0..found.workers() {
            let spaces: BTreeMap<u64, _> =
                collections.iter().map(|(id, hosted)| (*id, hosted.space())).collect();
            found.replay(worker, &|id| spaces.get(&id).copied(), &mut |head, mutations| {
                let hosted = collections.get_mut(&head.collection).unwrap();
                hosted.apply(worker as usize, head.seq, mutations);
            })?;
        }
        collections.values_mut().for_each(|hosted| hosted.blueprint.seq = hosted.blueprint.last);
        let (next_collection, given_up) = (found.next_collection(), found.given_up().to_vec());
        let Opened { folder, logs, closed } = found.begin()?;
        let journals = logs.into_iter().map(Journal::new).collect();
        Ok(Machine { folder, journals, closed, collections, next_collection, plant, given_up })
    }

    fn find(&mut self, name: &str) -> Option<&mut Hosted> {
        self.collections.values_mut().find(|hosted| hosted.blueprint.name == name)
    }

    pub(crate) fn create(&mut self, name: &str, config: CollectionConfig, model: &mut Model) -> Outcome {
        let id = self.next_collection;
        self.next_collection += 1;
        model.collections.insert(name.to_owned(), super::Known::default());
        self.folder.create(id, name, config.encode(), None)?;
        let blueprint = Blueprint::empty(CollectionId(id), name, config, self.journals.len());
        let admission = Admission::new(self.journals.len());
        self.collections.insert(id, Hosted { blueprint, admission, open: BTreeMap::new() });
        model.collections.get_mut(name).unwrap().created = true;
        Ok(())
    }

    pub(crate) fn drop_collection(&mut self, name: &str, model: &mut Model) -> Outcome {
        let Some(id) = self.find(name).map(|hosted| hosted.blueprint.id.0) else { return Ok(()) };
        let known = model.collections.get_mut(name).unwrap();
        known.drop_tried = true;
        self.folder.drop_collection(id)?;
        known.dropped = true;
        self.collections.remove(&id);
        Ok(())
    }

    /// Writes that all workers find in their mailboxes at the same time.
    pub(crate) fn write(&mut self, group: Vec<Asked>, model: &mut Model) -> Outcome {
        let mut queues: Vec<Vec<WriteCommand>> = self.journals.iter().map(|_| Vec::new()).collect();
        for asked in group {
            self.admit(asked, &mut queues, model);
        }
        if self.plant == Plant::EarlyAcknowledgement {
            queues.iter().flatten().for_each(|command| self.logged(command, model));
        }
        for (worker, queue) in queues.into_iter().enumerate() {
            let journal = &mut self.journals[worker];
            queue.iter().try_for_each(|command| match journal.add(command) {
                Err(NotLogged::Fault(fault)) => Err(fault),
                other => other.map_err(|_| panic!("there is memory")),
            })?;
            if !queue.is_empty() {
                let closed = journal.commit()?;
                self.closed.extend(closed);
            }
            for command in queue {
                self.logged(&command, model);
                if let WriteCommand::Write { collection, seq, mutations, .. } = command
                    && let Some(hosted) = self.collections.get_mut(&collection.0)
                {
                    hosted.apply(worker, seq, mutations);
                }
            }
        }
        Ok(())
    }

    /// Numbers a write and queues its parts.
    fn admit(&mut self, asked: Asked, queues: &mut [Vec<WriteCommand>], model: &mut Model) {
        let (workers, plant) = (queues.len(), self.plant);
        let Some(hosted) = self.find(&asked.collection) else { return };
        let mut parts: BTreeMap<usize, Vec<Mutation>> = BTreeMap::new();
        for mutation in &asked.mutations {
            let shards = mutation.id().map_or(0..workers, |id| {
                let shard = shard_of(id, workers);
                shard..shard + 1
            });
            for shard in shards {
                parts.entry(shard).or_default().push(mutation.clone());
            }
        }
        if parts.is_empty() {
            parts.insert(0, Vec::new());
        }
        loop {
            let numbers: Vec<usize> = parts.keys().copied().collect();
            // The plant passes for a write that asks for nothing.
            let durability = if plant == Plant::NoWidening { Durability::Applied } else { asked.durability };
            match hosted.admission.admit(&numbers, durability, |_| Ok::<(), ()>(())) {
                Ok(seq) => {
                    let known = model.collections.get_mut(&asked.collection).unwrap();
                    known.writes.push(asked.mutations);
                    assert_eq!(seq.0, known.writes.len() as u64);
                    let count = parts.len() as u32;
                    hosted.open.insert(seq, (count, asked.durability));
                    let log = Some(LogPart { parts: count, durability: asked.durability });
                    let collection = hosted.blueprint.id;
                    for (worker, mutations) in parts {
                        queues[worker].push(WriteCommand::Write {
                            collection,
                            seq,
                            mutations,
                            log,
                            verdict: None,
                            grant: None,
                        });
                    }
                    return;
                }
                Err(NotAdmitted::Narrow) => {
                    (0..workers).for_each(|worker| _ = parts.entry(worker).or_default());
                }
                Err(NotAdmitted::Unsent(())) => unreachable!(),
            }
        }
    }

    /// A part is logged: whatever is complete, with all before it, is acknowledged.
    fn logged(&mut self, command: &WriteCommand, model: &mut Model) {
        let WriteCommand::Write { collection, seq, .. } = command else { return };
        let Some(hosted) = self.collections.get_mut(&collection.0) else { return };
        if let Some((left, _)) = hosted.open.get_mut(seq) {
            *left = left.saturating_sub(1);
        }
        while let Some(first) = hosted.open.first_entry().filter(|first| first.get().0 == 0) {
            let (seq, (_, durability)) = first.remove_entry();
            hosted.blueprint.seq = seq;
            model.collections.get_mut(&hosted.blueprint.name).unwrap().acknowledge(seq, durability);
        }
    }

    /// The last step to another index, in a moment in which the first worker has
    /// done it and the others have not absorbed the batch that it comes with.
    pub(crate) fn change_index_halfway(&mut self, name: &str, spec: Arc<[u8]>) {
        let Some(hosted) = self.find(name) else { return };
        let seq = Seq(hosted.blueprint.seq.0 + 1);
        hosted.apply(0, seq, vec![Mutation::Reindex(Reindex::Finish(Arc::clone(&spec)))]);
        for worker in 1..hosted.blueprint.states.len() {
            hosted.lag(worker, seq, vec![Mutation::Reindex(Reindex::Finish(Arc::clone(&spec)))]);
        }
        hosted.blueprint.seq = seq;
    }

    /// What workers do when nobody wants anything.
    pub(crate) fn idle(&mut self) -> Outcome {
        self.journals.iter_mut().try_for_each(|journal| journal.flush().map(drop))
    }

    /// What the keeper does.
    pub(crate) fn checkpoint(&mut self, name: &str) -> Outcome {
        let Some(hosted) = self.find(name) else { return Ok(()) };
        let (id, published) = (hosted.blueprint.id.0, hosted.publish());
        let (storage, number) = (Arc::clone(self.folder.storage()), self.folder.next_number());
        let config = &published.context.config;
        let file = checkpoint::name(id, number);
        checkpoint::write(storage.as_ref(), &file, published.sight(), config, &AtomicBool::new(false))?;
        self.folder.checkpointed(id, CheckpointAt { number, seq: published.seq })?;
        self.folder.release(&mut self.closed)
    }

    pub(crate) fn close(mut self) -> Outcome {
        self.journals.iter_mut().try_for_each(Journal::close)
    }

    /// What all collections hold, and after which write.
    pub(crate) fn contents(&mut self) -> BTreeMap<String, (Seq, Content)> {
        let each = self.collections.values_mut().map(|hosted| {
            let content = hosted.content();
            (hosted.blueprint.name.clone(), (hosted.blueprint.seq, content))
        });
        each.collect()
    }

    /// By collection what each shard says of its index, if it is not the first one.
    pub(crate) fn indexes(&mut self) -> BTreeMap<String, Vec<Option<Arc<[u8]>>>> {
        let each = self.collections.values_mut().map(|hosted| {
            let published = hosted.publish();
            let specs = published.shards.iter().map(|shard| Some(shard.switched()?.spec.clone()));
            (hosted.blueprint.name.clone(), specs.collect())
        });
        each.collect()
    }

    /// Reads and searches all that there is, whether it makes sense or not.
    pub(crate) fn exercise(&mut self) {
        for hosted in self.collections.values_mut() {
            let snapshot = Snapshot::new(Arc::new(hosted.publish()));
            let _ = snapshot.verify();
            for record in snapshot.scroll(None, usize::MAX).unwrap().records {
                let _ = snapshot.search(&Query::new(record.vector()).top(5));
            }
        }
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.collections.values().map(|hosted| hosted.blueprint.name.clone()).collect()
    }
}

impl Hosted {
    fn space(&self) -> crate::vector::Space {
        crate::vector::Space::new(self.blueprint.config.metric(), self.blueprint.config.dimension())
    }

    /// Applies what the workers are given, and leaves it to be absorbed.
    fn lag(&mut self, worker: usize, seq: Seq, mutations: Vec<Mutation>) {
        let state = &mut self.blueprint.states[worker];
        state.enqueue(seq, mutations, crate::shard::Keep::Nothing);
        state.step(usize::MAX).unwrap();
    }

    fn apply(&mut self, worker: usize, seq: Seq, mutations: Vec<Mutation>) {
        let state = &mut self.blueprint.states[worker];
        state.enqueue(seq, mutations, crate::shard::Keep::Nothing);
        while state.can_step() || state.has_batches() {
            state.step(usize::MAX).unwrap();
            if let Some(job) = state.next_job() {
                let plan = job.run(&Sequential);
                state.absorbed(plan.expect("no job is cancelled here"));
            }
        }
    }

    fn publish(&mut self) -> Published {
        self.blueprint.publish(
            Arc::new(ManualClock::default()),
            Arc::new(Alone),
            Box::new(Alone),
            Box::new(Alone),
        )
    }

    fn content(&mut self) -> Content {
        let snapshot = Snapshot::new(Arc::new(self.publish()));
        let report = snapshot.verify().unwrap();
        assert!(report.is_sound(), "{report:?}");
        let records = snapshot.scroll(None, usize::MAX).unwrap().records;
        // All of them are found, by whatever index there is, as without one.
        let all = Query::new(&[500.0, 500.0]).top(records.len() + 1);
        let (found, exact) = (snapshot.search(&all).unwrap(), snapshot.search(&all.exact()).unwrap());
        let distances = |answer: &Answer| answer.hits().iter().map(|hit| hit.distance).collect::<Vec<_>>();
        assert_eq!((found.len(), distances(&found)), (records.len(), distances(&exact)));
        let content = |record: crate::snapshot::Record| {
            let payload = record.payload().clone();
            let (id, vector) = record.into_parts();
            (id, (vector, payload))
        };
        records.into_iter().map(content).collect::<BTreeMap<RecordId, _>>()
    }
}
