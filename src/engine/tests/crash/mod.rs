//! The engine below its threads, on a folder that crashes.
//!
//! [`Machine`] drives the same parts as the engine (folder, journals, shards,
//! checkpoints, admission) on one thread, so that an operation on a file has a
//! number that is the same on every run. A [`Script`] of writes, drops,
//! checkpoints and openings is run up to a crash; then the folder is opened
//! again and must hold, for each collection, a state that it was in: exactly
//! that of some write, none older than what was acknowledged.

mod damage;
mod full;
mod halfway;
mod kill;
mod machine;
mod power;
mod script;

use std::collections::BTreeMap;

pub(super) use machine::{Machine, Plant};
pub(super) use script::Script;

use crate::durability::Durability;
use crate::id::{RecordId, Seq};
use crate::payload::{Payload, Timestamp};
pub(super) use crate::persist::simulator::Mode;
use crate::rows::{Condition, Mutation, Reindex};

/// How much longer than usual the tests of this module run: the variable
/// `VECINO_CRASH_SCALE`, else 1.
fn scale() -> u64 {
    std::env::var("VECINO_CRASH_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1).max(1)
}

/// The records of a collection.
pub(super) type Content = BTreeMap<RecordId, (Vec<f32>, Payload)>;

/// What is known of a collection: every write that was tried, and what was
/// acknowledged.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) writes: Vec<Vec<Mutation>>,
    /// The newest write that survives a kill, and a power cut.
    pub(super) logged: Seq,
    pub(super) synced: Seq,
    /// Creating it was acknowledged; dropping it was tried, or acknowledged.
    pub(super) created: bool,
    pub(super) drop_tried: bool,
    pub(super) dropped: bool,
}

impl Known {
    /// The index after a write, if it is another than the first: what is there
    /// is so little that one step carries all of it over.
    pub(super) fn switched(&self, seq: Seq) -> Option<&[u8]> {
        let mutations = self.writes.iter().take(seq.0 as usize).flatten();
        mutations.rev().find_map(|mutation| match mutation {
            Mutation::Reindex(Reindex::Finish(spec)) => Some(&**spec),
            _ => None,
        })
    }

    /// The content after a write.
    pub(super) fn at(&self, seq: Seq) -> Content {
        let (mut content, mut versions) = (Content::new(), BTreeMap::<RecordId, Seq>::new());
        let writes = self.writes.iter().zip(1..).take(seq.0 as usize);
        for (mutation, seq) in writes.flat_map(|(write, seq)| write.iter().map(move |one| (one, Seq(seq)))) {
            let lives = |id: &RecordId, now: Timestamp| {
                content.get(id).is_some_and(|(_, payload): &(_, Payload)| payload.expires() > now)
            };
            let version = |id: &RecordId, now: Timestamp| versions.get(id).filter(|_| lives(id, now));
            let new = match mutation {
                Mutation::Upsert(new) => new,
                Mutation::Conditional(new, condition, now) if holds(*condition, version(&new.id, *now)) => {
                    new
                }
                Mutation::Conditional(..) => continue,
                Mutation::Delete(id) => {
                    content.remove(id);
                    continue;
                }
                Mutation::Reindex(_) | Mutation::Adopt(_) => continue,
                Mutation::DeleteWhere(filter) => {
                    content.retain(|id, (_, payload)| !filter.matches(id, payload));
                    continue;
                }
                Mutation::Sweep { now, .. } => {
                    content.retain(|_, (_, payload)| payload.expires() > *now);
                    continue;
                }
                Mutation::Expiry(change) => {
                    if let Some((_, payload)) = content.get_mut(&change.id)
                        && change.applies(payload.expires())
                    {
                        *payload = payload.clone().expiring(change.expires);
                    }
                    continue;
                }
                Mutation::Payload(update) => {
                    if let Some((_, payload)) = content.get_mut(&update.id) {
                        *payload = update.edit.clone().apply(payload.clone());
                    }
                    continue;
                }
            };
            content.insert(new.id.clone(), (new.vector.to_vec(), new.payload.clone()));
            versions.insert(new.id.clone(), seq);
        }
        content
    }

    pub(super) fn acknowledge(&mut self, seq: Seq, durability: Durability) {
        if durability >= Durability::Logged {
            self.logged = self.logged.max(seq);
        }
        if durability >= Durability::Synced {
            self.synced = self.synced.max(seq);
        }
    }
}

/// Whether a record with this version, or none, is written over.
fn holds(condition: Condition, version: Option<&Seq>) -> bool {
    match condition {
        Condition::Absent => version.is_none(),
        Condition::Present => version.is_some(),
        Condition::Version(wanted) => version == Some(&wanted),
        Condition::NotNear(_) => true,
    }
}

/// What is known of a folder, by the names of collections.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) collections: BTreeMap<String, Known>,
}

/// What a crash spared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    Kill,
    PowerCut,
}

impl Model {
    /// Compares a folder that was opened again with what is known, then knows
    /// what came back.
    pub(super) fn check(&mut self, machine: &mut Machine, crash: Crash) -> Result<(), String> {
        let (found, indexes) = (machine.contents(), machine.indexes());
        for (name, known) in &mut self.collections {
            let Some((seq, content)) = found.get(name) else {
                if known.created && !known.drop_tried {
                    return Err(format!("collection {name} is gone"));
                }
                known.dropped = true;
                continue;
            };
            let least = if crash == Crash::Kill { known.logged } else { known.synced };
            let most = Seq(known.writes.len() as u64);
            if known.dropped || *seq < least || *seq > most {
                return Err(format!(
                    "collection {name} (dropped: {}) came back with write {seq}; acknowledged was {least} of {most}",
                    known.dropped
                ));
            }
            if *content != known.at(*seq) {
                return Err(format!("collection {name} is not as it was after write {seq}"));
            }
            let expected = known.switched(*seq);
            if indexes.get(name).is_none_or(|shards| shards.iter().any(|spec| spec.as_deref() != expected)) {
                return Err(format!("collection {name} has not the index that it had after write {seq}"));
            }
            // What did not come back never happened.
            known.writes.truncate(seq.0 as usize);
            (known.logged, known.synced) = (known.logged.min(*seq), known.synced.min(*seq));
            known.drop_tried = false;
            known.created = true;
        }
        if let Some(name) = found.keys().find(|name| !self.collections.contains_key(*name)) {
            return Err(format!("collection {name} was never created"));
        }
        self.collections.retain(|_, known| !known.dropped);
        Ok(())
    }
}
