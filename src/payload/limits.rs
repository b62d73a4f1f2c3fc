//! What payloads and filters may hold, and why something may not.

/// Fields of a payload that is written: a row costs a little for each.
pub(super) const FIELDS: usize = 256;

/// Bytes of the path of a field.
pub(super) const PATH_BYTES: usize = 255;

/// Members of a list.
pub(super) const LIST: usize = 1_024;

/// Bytes of all texts of a payload: a chunk of a document, not a document.
pub(super) const TEXT_BYTES: usize = 1 << 20;

/// Filters within filters: evaluating one is a recursion.
pub(super) const FILTER_DEPTH: usize = 32;

/// Conditions of a filter, each value of a set counted.
pub(super) const FILTER_SIZE: usize = 16_384;

/// Why a payload cannot be stored.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// A path is names between dots, none empty, of 1 to 255 bytes in all.
    #[error("{path:?} is no path of a field: names between dots, 1 to {most} bytes in all", most = PATH_BYTES)]
    Path {
        /// The path.
        path: String,
    },
    /// One field stands where another has fields of its own.
    #[error("{inner:?} cannot be a field within {outer:?}, which has a value itself")]
    Nested {
        /// The field with a value.
        outer: String,
        /// The field inside.
        inner: String,
    },
    /// There are too many fields.
    #[error("a payload has {count} fields, at most {most} are allowed")]
    Fields {
        /// Fields that were given.
        count: usize,
        /// Fields that are allowed.
        most: usize,
    },
    /// A number is not finite.
    #[error("field {path:?} is {value}, which is not finite")]
    NotFinite {
        /// The field.
        path: String,
        /// Its value.
        value: f64,
    },
    /// The members of a list are of several kinds, or lists.
    #[error("the list of field {path:?} holds values of several kinds, or lists")]
    Mixed {
        /// The field.
        path: String,
    },
    /// A list is too long.
    #[error("the list of field {path:?} has {count} members, at most {most} are allowed")]
    List {
        /// The field.
        path: String,
        /// Members that were given.
        count: usize,
        /// Members that are allowed.
        most: usize,
    },
    /// The texts are too long.
    #[error("the texts of a payload have {bytes} bytes, at most {most} are allowed")]
    Text {
        /// Bytes that were given.
        bytes: usize,
        /// Bytes that are allowed.
        most: usize,
    },
    /// The field `$expires` says when a record expires: it holds a moment, and
    /// is changed by [`Collection::touch`](crate::Collection::touch) and
    /// [`Collection::expire`](crate::Collection::expire) only.
    #[error("the field $expires {}", match found {
        Some(found) => format!("is {found}, which is no moment"),
        None => "is changed by touch and expire alone, and has no fields within".to_owned(),
    })]
    Expiry {
        /// What was to stand there; `None`: an update names the field, or there are fields within it.
        found: Option<String>,
    },
    /// JSON that is to be a payload is none.
    #[error("at {place}: {what}")]
    Json {
        /// Where: keys and places of lists, from the outside in.
        place: String,
        /// What is wrong there.
        what: String,
    },
}

/// Why a filter cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// Filters stand too deep within one another.
    #[error("filters stand {depth} deep within one another, at most {most} are allowed")]
    Depth {
        /// The depth.
        depth: usize,
        /// The depth that is allowed.
        most: usize,
    },
    /// There are too many conditions.
    #[error("a filter has {count} conditions, at most {most} are allowed")]
    Size {
        /// Conditions and values of sets.
        count: usize,
        /// Those that are allowed.
        most: usize,
    },
    /// A condition names no field.
    #[error("{path:?} is no path of a field")]
    Path {
        /// The path.
        path: String,
    },
    /// A value cannot be compared with: a list, or a number that is not finite.
    #[error("field {path:?} cannot be compared with {value}")]
    Value {
        /// The field.
        path: String,
        /// What it was to be compared with.
        value: String,
    },
    /// Text that is to be a filter is none.
    #[error("at {place}: {what}")]
    Json {
        /// Where: keys and places of lists, from the outside in.
        place: String,
        /// What is wrong there.
        what: String,
    },
}

/// True for names between dots.
pub(super) fn is_path(path: &str) -> bool {
    path.len() <= PATH_BYTES && path.split('.').all(|name| !name.is_empty())
}

/// True for the field itself and for those within it.
pub(super) fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
