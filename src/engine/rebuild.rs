//! A shard made anew from a view, when its state was lost: by way of a
//! checkpoint in memory, so that it is what opening one would give.
//!
//! The directory is told of all rows again: older snapshots go by the entries
//! that it had, and nobody knows any more when these can go. (They stay: at most
//! 90 bytes a record for the first defect, and 8 for each further one.)

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::collection::Blueprint;
use super::config::CollectionConfig;
use super::open::Source;
use crate::error::FileError;
use crate::id::Generation;
use crate::memory::Shortage;
use crate::persist::{Memory, checkpoint};
use crate::rows::ShardView;
use crate::shard::{CollectionId, Keep, Rebuilder, ShardState, Trouble};
use crate::snapshot::{Context, Published, Sight};

fn trouble(fault: FileError) -> Trouble {
    Trouble::Fault(fault.to_string())
}

/// The name of the file, which nobody sees.
const FILE: &str = "shard";

/// Rebuilds shards of one collection.
pub(super) struct FromView {
    pub(super) id: CollectionId,
    pub(super) config: CollectionConfig,
    pub(super) context: Arc<Context>,
}

impl Rebuilder for FromView {
    fn rebuild(&self, view: Arc<ShardView>) -> Result<ShardState<Keep>, Trouble> {
        let published = Published {
            generation: Generation(0),
            seq: view.applied(),
            shards: Box::new([view]),
            calibration: None,
            context: Arc::clone(&self.context),
        };
        let memory = Memory::default();
        checkpoint::write_draft(
            &memory,
            FILE,
            Sight::of_all(&published),
            &self.context.config,
            &AtomicBool::new(false),
        )
        .map_err(trouble)?;
        let mut blueprint = Blueprint::empty(self.id, &self.context.name, self.config, 1);
        blueprint.directory = Arc::clone(&self.context.directory);
        let source = Source { storage: &memory, file: FILE, repair: false };
        let restored = source.restore(&mut blueprint, &mut |_| {});
        let (mut states, _) = restored.map_err(trouble)?;
        states.pop().ok_or_else(|| Trouble::Fault("there is no shard".to_owned()))
    }

    fn name(&self) -> &str {
        &self.context.name
    }

    fn count(&self) {
        self.context.health.count_rebuilt();
    }

    fn tell(&self, shard: usize, shortage: Option<Shortage>) {
        match shortage {
            Some(shortage) => self.context.health.fall_short(shard, shortage.bytes),
            None => self.context.health.recover(shard),
        }
    }
}
