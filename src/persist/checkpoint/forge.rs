//! Checkpoints with wrong content and right checksums, for tests.

use super::section::{SectionWriter, Sections};
use super::{END, FORMAT};
use crate::persist::fault::FileError;
use crate::persist::forge::{Change, never};
use crate::persist::storage::simulator::Simulator;

/// Writes a checkpoint once more, with sections that were changed.
pub(crate) fn forge(
    from: &Simulator,
    to: &Simulator,
    name: &str,
    change: Change<'_>,
) -> Result<(), FileError> {
    let mut sections = Sections::open(from, name)?;
    let mut out = SectionWriter::create(to, name, FORMAT, never())?;
    loop {
        let number = sections.begun() as usize;
        let (tag, section) = sections.begin_any()?;
        let mut content = sections.content(&section)?;
        if tag == END {
            return out.finish().map(drop);
        }
        change(number, &mut content);
        out.whole(tag, section.shard, &content)?;
    }
}
