//! The payload of one record.

use std::fmt;
use std::sync::Arc;

use super::expiry::{EXPIRES, is_within_expires};
use super::limits::{FIELDS, LIST, PayloadError, TEXT_BYTES, is_path};
use super::value::Value;
use crate::memory;

/// A path and its value.
type Field = (Arc<str>, Value);

/// Fields beside a vector: paths with values, by path.
///
/// A field within a field is named by a path with dots: `author.name`. Cheap
/// to clone.
///
/// ```
/// use vecino::Payload;
/// let payload = Payload::new().with("genre", "rock").with("author.born", 1946).with("tags", ["live", "solo"]);
/// assert_eq!(payload.get("author.born").and_then(|born| born.as_int()), Some(1946));
/// assert_eq!(payload.len(), 3);
/// ```
#[derive(Clone, Default, PartialEq)]
pub struct Payload {
    /// By path, each once; none when there is nothing.
    fields: Option<Arc<Vec<Field>>>,
}

impl Payload {
    /// No fields.
    #[must_use]
    pub fn new() -> Payload {
        Payload::default()
    }

    /// With a field more; one with this path is replaced. Whether paths and
    /// values can be stored is said by the write.
    #[must_use]
    pub fn with(mut self, path: impl Into<Arc<str>>, value: impl Into<Value>) -> Payload {
        self.set(path.into(), value.into());
        self
    }

    pub(crate) fn set(&mut self, path: Arc<str>, value: Value) {
        let fields = Arc::make_mut(self.fields.get_or_insert_default());
        match fields.binary_search_by(|(known, _)| known.cmp(&path)) {
            Ok(at) => fields[at].1 = value,
            Err(at) => fields.insert(at, (path, value)),
        }
    }

    /// As `set`, within the engine: unwinds where there is no memory.
    pub(super) fn put(&mut self, path: Arc<str>, value: Value) {
        self.own();
        let fields = Arc::make_mut(self.fields.get_or_insert_default());
        match fields.binary_search_by(|(known, _)| known.cmp(&path)) {
            Ok(at) => fields[at].1 = value,
            Err(at) => {
                memory::reserve(fields, 1);
                fields.insert(at, (path, value));
            }
        }
    }

    /// Sees to it that nobody else has the fields.
    fn own(&mut self) {
        let Some(fields) = &mut self.fields else { return };
        if Arc::get_mut(fields).is_none() {
            let copies = fields.iter().map(|(path, value)| (Arc::clone(path), value.copy()));
            *fields = Arc::new(memory::collect(copies));
        }
    }

    /// Takes the fields out that `gone` names.
    pub(super) fn retain(&mut self, mut kept: impl FnMut(&str) -> bool) {
        if !self.paths().all(&mut kept) {
            self.own();
            let fields = Arc::make_mut(self.fields.get_or_insert_default());
            fields.retain(|(path, _)| kept(path));
            if fields.is_empty() {
                self.fields = None;
            }
        }
    }

    /// Fields in the order of their paths, each once.
    pub(super) fn of_sorted(fields: Vec<(Arc<str>, Value)>) -> Payload {
        Payload { fields: (!fields.is_empty()).then(|| Arc::new(fields)) }
    }

    fn all(&self) -> &[(Arc<str>, Value)] {
        self.fields.as_deref().map_or(&[], Vec::as_slice)
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Value> {
        let fields = self.all();
        let at = fields.binary_search_by(|(known, _)| known.as_ref().cmp(path)).ok()?;
        fields.get(at).map(|(_, value)| value)
    }

    /// The fields, by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.all().iter().map(|(path, value)| (path.as_ref(), value))
    }

    fn paths(&self) -> impl Iterator<Item = &str> {
        self.all().iter().map(|(path, _)| path.as_ref())
    }

    /// The number of fields.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// True when there are no fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_none()
    }

    /// Bytes that it takes while it stands beside the columns.
    pub(crate) fn bytes(&self) -> usize {
        self.all().iter().map(|(_, value)| size_of::<Arc<str>>() + value.bytes()).sum()
    }

    /// Whether it can be stored.
    pub(crate) fn check(&self) -> Result<(), PayloadError> {
        if self.len() > FIELDS {
            return Err(PayloadError::Fields { count: self.len(), most: FIELDS });
        }
        // When a record expires may be said later.
        if self.paths().any(is_within_expires) {
            return Err(PayloadError::Expiry { found: None });
        }
        let text = self.check_fields()?;
        if text > TEXT_BYTES {
            return Err(PayloadError::Text { bytes: text, most: TEXT_BYTES });
        }
        Ok(())
    }

    /// Whether it can be stored, though it may have grown by merges beyond what a caller's may be.
    pub(crate) fn check_stored(&self) -> Result<(), PayloadError> {
        self.check_fields().map(drop)
    }

    /// Whether each field can be stored; gives the bytes of texts.
    pub(super) fn check_fields(&self) -> Result<usize, PayloadError> {
        let mut text = 0;
        for (path, value) in self.iter() {
            check_path(path)?;
            let outer = path.match_indices('.').map(|(dot, _)| &path[..dot]);
            if let Some(outer) = outer.into_iter().find(|outer| self.get(outer).is_some()) {
                return Err(PayloadError::Nested { outer: outer.to_owned(), inner: path.to_owned() });
            }
            check_value(path, value)?;
            if path == EXPIRES && !matches!(value, Value::Time(_)) {
                return Err(PayloadError::Expiry { found: Some(value.to_string()) });
            }
            text += value.members().iter().filter_map(Value::as_text).map(str::len).sum::<usize>();
        }
        Ok(text)
    }
}

pub(super) fn check_path(path: &str) -> Result<(), PayloadError> {
    if is_path(path) { Ok(()) } else { Err(PayloadError::Path { path: path.to_owned() }) }
}

fn check_value(path: &str, value: &Value) -> Result<(), PayloadError> {
    let members = value.members();
    if members.len() > LIST {
        return Err(PayloadError::List { path: path.to_owned(), count: members.len(), most: LIST });
    }
    let kind = value.kind();
    for member in members {
        match member {
            Value::Float(number) if !number.is_finite() => {
                return Err(PayloadError::NotFinite { path: path.to_owned(), value: *number });
            }
            Value::List(_) => return Err(PayloadError::Mixed { path: path.to_owned() }),
            other if other.kind() != kind => return Err(PayloadError::Mixed { path: path.to_owned() }),
            _ => {}
        }
    }
    Ok(())
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (path, value)) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{path}: {value}")?;
        }
        f.write_str("}")
    }
}

impl<P: Into<Arc<str>>, V: Into<Value>> FromIterator<(P, V)> for Payload {
    fn from_iter<I: IntoIterator<Item = (P, V)>>(fields: I) -> Self {
        fields.into_iter().fold(Payload::new(), |payload, (path, value)| payload.with(path, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_stored_is_named_with_its_path() {
        let nan = Payload::new().with("a.b", f64::NAN).check();
        assert!(matches!(nan, Err(PayloadError::NotFinite { path, .. }) if path == "a.b"));
        let mixed = Payload::new().with("tags", vec![Value::from(1), Value::from("x")]).check();
        assert_eq!(mixed, Err(PayloadError::Mixed { path: "tags".to_owned() }));
        let nested = Payload::new().with("a", 1).with("a.b.c", 2).check();
        assert_eq!(nested, Err(PayloadError::Nested { outer: "a".to_owned(), inner: "a.b.c".to_owned() }));
        for path in ["", ".", "a.", ".a", "a..b", &"x".repeat(256)] {
            assert_eq!(
                Payload::new().with(path, 1).check(),
                Err(PayloadError::Path { path: path.to_owned() })
            );
        }
        let many: Payload = (0..=FIELDS).map(|field| (field.to_string(), 1)).collect();
        assert_eq!(many.check(), Err(PayloadError::Fields { count: 257, most: 256 }));
        let long = Payload::new().with("a", vec![0; LIST + 1]).check();
        assert!(matches!(long, Err(PayloadError::List { count: 1_025, .. })));
        let text = Payload::new().with("a", "x".repeat(TEXT_BYTES + 1)).check();
        assert!(matches!(text, Err(PayloadError::Text { .. })));
        let lists_in_lists = Payload::new().with("a", vec![vec![1], vec![2]]).check();
        assert_eq!(lists_in_lists, Err(PayloadError::Mixed { path: "a".to_owned() }));
        assert_eq!(Payload::new().with("a.b", [1, 2]).with("a.c", "x").check(), Ok(()));
    }
}
