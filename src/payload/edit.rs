//! Changes of a payload that leave the vector alone.

use std::sync::Arc;

use super::document::{Payload, check_path};
use super::expiry::{EXPIRES, NEVER};
use super::limits::{PayloadError, is_within};
use crate::id::RecordId;

/// What becomes of the payload of a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Edit {
    Set(Payload),
    Merge(Payload),
    Delete(Vec<Arc<str>>),
}

/// A change of the payload of one record: for
/// [`Collection::update_payloads`](crate::Collection::update_payloads).
#[derive(Clone, Debug, PartialEq)]
pub struct PayloadUpdate {
    pub(crate) id: RecordId,
    pub(crate) edit: Edit,
}

impl PayloadUpdate {
    /// The payload is to be this one.
    pub fn set(id: impl Into<RecordId>, payload: Payload) -> PayloadUpdate {
        PayloadUpdate { id: id.into(), edit: Edit::Set(payload) }
    }

    /// These fields are to be as given, the others stay. A field that had
    /// fields within, or that stands where a field is to have some, goes. What may stand in a payload is limited for each
    /// write, not for what a record grows to by many of them.
    pub fn merge(id: impl Into<RecordId>, payload: Payload) -> PayloadUpdate {
        PayloadUpdate { id: id.into(), edit: Edit::Merge(payload) }
    }

    /// These fields, and fields within them, are to go.
    pub fn delete<P: Into<Arc<str>>>(
        id: impl Into<RecordId>,
        paths: impl IntoIterator<Item = P>,
    ) -> PayloadUpdate {
        let paths = paths.into_iter().map(Into::into).collect();
        PayloadUpdate { id: id.into(), edit: Edit::Delete(paths) }
    }
}

impl Edit {
    /// Whether it can be done.
    pub(crate) fn check(&self) -> Result<(), PayloadError> {
        match self {
            Edit::Set(payload) | Edit::Merge(payload) => {
                payload.iter().try_for_each(|(path, _)| check_own(path))?;
                payload.check()
            }
            Edit::Delete(paths) => paths.iter().try_for_each(|path| {
                check_own(path)?;
                check_path(path)
            }),
        }
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Edit::Set(payload) | Edit::Merge(payload) => payload.bytes(),
            Edit::Delete(paths) => paths.iter().map(|path| size_of::<Arc<str>>() + path.len()).sum(),
        }
    }

    /// The payload afterwards.
    pub(crate) fn apply(self, before: Payload) -> Payload {
        match self {
            Edit::Set(payload) => match before.expires() {
                NEVER if before.get(EXPIRES).is_none() => payload,
                expires => payload.expiring(expires),
            },
            Edit::Merge(payload) => {
                let mut after = before;
                after.retain(|path| {
                    !payload
                        .iter()
                        .any(|(new, _)| path != new && (is_within(path, new) || is_within(new, path)))
                });
                for (path, value) in payload.iter() {
                    after.put(path.into(), value.copy());
                }
                after
            }
            Edit::Delete(paths) => {
                let mut after = before;
                after.retain(|path| !paths.iter().any(|gone| is_within(path, gone)));
                after
            }
        }
    }
}

/// When a record expires is not changed by the way.
fn check_own(path: &str) -> Result<(), PayloadError> {
    if is_within(path, EXPIRES) { Err(PayloadError::Expiry { found: None }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_and_deleting_go_by_whole_names() {
        let before = Payload::new().with("a.b", 1).with("a.c", 2).with("ab", 3).with("d", 4);
        let merged = Edit::Merge(Payload::new().with("a", 9).with("d.e", 5)).apply(before.clone());
        assert_eq!(merged, Payload::new().with("a", 9).with("ab", 3).with("d.e", 5));
        let less = Edit::Delete(vec!["a".into(), "x".into()]).apply(before.clone());
        assert_eq!(less, Payload::new().with("ab", 3).with("d", 4));
        assert_eq!(Edit::Delete(vec!["a".into(), "ab".into(), "d".into()]).apply(before), Payload::new());
        assert!(Edit::Delete(vec!["a".into()]).apply(Payload::new().with("a", 1)).is_empty());
    }
}
