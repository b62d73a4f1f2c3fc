//! What follows from the codes of the nodes that are held, so that files do not have it.

use std::sync::{Arc, Weak};

use super::codes::CodeSource;
use super::entries::{entries, entries_after};
use super::plan::NodeBatch;
use super::{GraphOptions, GraphVersion};
use crate::bits::RowSet;
use crate::quant::{Codec, Copies, EntryPoints, Interleaved};

/// Bytes of codes that a shard keeps to read one after the other, and that a search of all shards together may read: they
/// stay in the second cache of a core.
pub(crate) const MOST_READ: usize = if cfg!(test) { 40 << 10 } else { 1 << 20 };

/// A node of a row that is copied may have a number up to so many times that of all rows, beside so many.
const NODES_A_ROW: usize = 4;
const LEAST_NODES: usize = 1_024;

/// Copies of codes in another form. Each version has its own and shares what did not change.
#[derive(Clone, Debug, Default)]
pub(super) struct Derived {
    /// Where walks start; none while there are few nodes.
    pub(super) entries: Option<Arc<EntryPoints>>,
    /// All codes, to be read one after the other; none where there are many nodes.
    pub(super) interleaved: Option<Arc<Interleaved>>,
}

impl Derived {
    /// Of all nodes that are held.
    pub(super) fn of(
        held: &RowSet,
        codec: &Codec,
        source: impl CodeSource,
        options: &GraphOptions,
    ) -> Derived {
        Derived {
            entries: entries(held, codec, source, options.seed),
            interleaved: interleaved(held, codec, source, options),
        }
    }

    /// Whether they are what follows from the codes.
    pub(super) fn are_of(
        &self,
        held: &RowSet,
        codec: &Codec,
        source: impl CodeSource,
        options: &GraphOptions,
    ) -> bool {
        let is_small = are_few(codec, held);
        let are_all = match &self.interleaved {
            Some(all) => is_small && all.are_of(codec, held.iter(), |node| source.code(node)),
            None => !is_small,
        };
        are_all && self.entries == entries(held, codec, source, options.seed)
    }

    /// Those after a batch that leaves the codec as it is: they say the same as `of` what is held then.
    pub(super) fn after(
        version: &GraphVersion,
        codec: &Codec,
        source: impl CodeSource,
        batch: &NodeBatch,
    ) -> Derived {
        Derived {
            entries: entries_after(version, codec, source, batch),
            interleaved: interleaved_after(version, codec, source, batch),
        }
    }

    /// The codes of so many rows, where a search of so many shards like this one reads all of theirs.
    pub(super) fn read_whole(&self, codec: &Codec, rows: usize, shards: usize) -> Option<&Interleaved> {
        let all = self.interleaved.as_deref()?;
        (Interleaved::bytes_for(codec, rows).saturating_mul(shards) <= MOST_READ).then_some(all)
    }

    /// What these keep that the others have not.
    pub(super) fn not_in<'a>(&'a self, others: &'a Derived) -> impl Iterator<Item = Weak<Copies>> + 'a {
        let all = self.interleaved.as_deref().into_iter();
        all.flat_map(|all| all.not_in(others.interleaved.as_deref()))
    }

    pub(super) fn bytes(&self) -> usize {
        let entries = self.entries.as_ref().map_or(0, |entries| entries.bytes());
        entries + self.interleaved.as_ref().map_or(0, |all| all.bytes())
    }
}

/// Whether all codes are copied. (Nodes that were given up still count where the places of nodes are kept.)
fn are_few(codec: &Codec, held: &RowSet) -> bool {
    Interleaved::bytes_for(codec, held.len()) <= MOST_READ
        && held.end() <= NODES_A_ROW * held.len() + LEAST_NODES
}

fn interleaved(
    held: &RowSet,
    codec: &Codec,
    source: impl CodeSource,
    options: &GraphOptions,
) -> Option<Arc<Interleaved>> {
    let all = || Interleaved::new(codec, options.products, held.iter(), |node| source.code(node));
    are_few(codec, held).then(|| Arc::new(all()))
}

fn interleaved_after(
    version: &GraphVersion,
    codec: &Codec,
    source: impl CodeSource,
    batch: &NodeBatch,
) -> Option<Arc<Interleaved>> {
    let held = &version.graph.held;
    let count = held.len() + batch.absorb.len() - batch.forget.len();
    // Of many rows not even the set is copied.
    if Interleaved::bytes_for(codec, count) > MOST_READ {
        return None;
    }
    let now = held.after(&batch.forget, &batch.absorb);
    if !are_few(codec, &now) {
        return None;
    }
    let before = version.derived.interleaved.as_ref();
    let after =
        before.and_then(|all| all.after(codec, &batch.forget, &batch.absorb, |node| source.code(node)));
    after.map(Arc::new).or_else(|| interleaved(&now, codec, source, &version.options))
}
