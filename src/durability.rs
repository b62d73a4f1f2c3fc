//! What an acknowledged write survives.

use std::fmt;

/// What a write has reached when it is acknowledged, that is when
/// [`Write::wait`](crate::Write::wait) has returned.
///
/// | | is found by searches | survives the end of the process (`kill -9`) | survives a power cut |
/// |---|---|---|---|
/// | `Applied` | yes | no | no |
/// | `Logged` | yes | yes | no |
/// | `Synced` | yes | yes | yes |
///
/// A write that is acknowledged vouches for all writes of its collection
/// before it: what is recovered is always a state that the collection was in.
///
/// ```
/// use vecino::Durability;
/// assert!(Durability::Applied < Durability::Logged && Durability::Logged < Durability::Synced);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// Visible. It is written to the log soon after, without anybody waiting.
    Applied,
    /// In the log, handed to the operating system. The default of an engine
    /// with a folder.
    Logged,
    /// In the log, and the log on the medium. Writes that are under way at the
    /// same time share one sync.
    Synced,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Durability::Applied => "applied",
            Durability::Logged => "logged",
            Durability::Synced => "synced",
        })
    }
}
