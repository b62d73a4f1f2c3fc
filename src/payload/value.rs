//! Values of fields.

use crate::memory;
use std::cmp::Ordering;
use std::fmt;

/// A moment: microseconds since the beginning of 1970, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// So many seconds after the beginning of 1970, UTC; far beyond the year
    /// 200,000 the last moment that there is.
    #[must_use]
    pub fn from_secs(secs: i64) -> Timestamp {
        Timestamp(secs.saturating_mul(1_000_000))
    }

    /// The same of milliseconds.
    #[must_use]
    pub fn from_millis(millis: i64) -> Timestamp {
        Timestamp(millis.saturating_mul(1_000))
    }
}

/// The value of a field.
///
/// Whole numbers and floats are compared by what they are worth (`1` is
/// `1.0`), everything else only with its own kind. Whole numbers are of 64 bits with a sign: what may be larger (`u64`,
/// `usize`) is converted by the caller, who knows what to do then.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Known to be nothing; not the same as a field that is not there.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any finite number.
    Float(f64),
    /// A moment.
    Time(Timestamp),
    /// A keyword or a text.
    Text(Box<str>),
    /// Values of one kind, no lists. A comparison holds for a list when it holds
    /// for one of its members.
    List(Vec<Value>),
}

impl Value {
    /// The same value once more; unwinds where there is no memory for it.
    pub(crate) fn copy(&self) -> Value {
        match self {
            Value::Text(text) => Value::Text(memory::boxed_text(text)),
            Value::List(members) => Value::List(memory::collect(members.iter().map(Value::copy))),
            small => small.clone(),
        }
    }

    /// The text, when it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number, when it is one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The number, when it is one.
    #[must_use]
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Value::Float(number) => Some(*number),
            Value::Int(number) => Some(*number as f64),
            _ => None,
        }
    }

    /// The truth value, when it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    /// The members of a list; of any other value itself.
    pub(super) fn members(&self) -> &[Value] {
        match self {
            Value::List(members) => members,
            single => std::slice::from_ref(single),
        }
    }

    /// The same for others.
    pub(crate) fn each(&self) -> &[Value] {
        self.members()
    }

    /// Least first: numbers by what they are worth, moments, texts, truth
    /// values, the rest. Values that filters take for the same are equal.
    pub(crate) fn order(&self, other: &Value) -> Ordering {
        match (self, other) {
            (Value::Int(a), Value::Int(b)) => a.cmp(b),
            (Value::Float(a), Value::Float(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
            (Value::Int(a), Value::Float(b)) => order_mixed(*a, *b),
            (Value::Float(a), Value::Int(b)) => order_mixed(*b, *a).reverse(),
            (Value::Time(a), Value::Time(b)) => a.cmp(b),
            (Value::Text(a), Value::Text(b)) => a.cmp(b),
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Value::Int(_) | Value::Float(_) => 0,
            Value::Time(_) => 1,
            Value::Text(_) => 2,
            Value::Bool(_) => 3,
            Value::Null => 4,
            Value::List(_) => 5,
        }
    }

    /// The kind of the value, or of the members of a list (`Null` of an empty one).
    pub(super) fn kind(&self) -> Kind {
        match self {
            Value::Null => Kind::Null,
            Value::Bool(_) => Kind::Bool,
            Value::Int(_) => Kind::Int,
            Value::Float(_) => Kind::Float,
            Value::Time(_) => Kind::Time,
            Value::Text(_) => Kind::Text,
            Value::List(members) => members.first().map_or(Kind::Null, Value::kind),
        }
    }

    /// Bytes that it takes while it stands beside the columns.
    pub(super) fn bytes(&self) -> usize {
        let heap = match self {
            Value::Text(text) => text.len(),
            Value::List(members) => members.iter().map(Value::bytes).sum(),
            _ => 0,
        };
        size_of::<Value>() + heap
    }
}

/// A whole number against a finite float, to the last bit.
fn order_mixed(whole: i64, float: f64) -> Ordering {
    let floor = float.floor();
    if floor >= 2f64.powi(63) {
        return Ordering::Less;
    }
    if floor < -2f64.powi(63) {
        return Ordering::Greater;
    }
    whole.cmp(&(floor as i64)).then(if float > floor { Ordering::Less } else { Ordering::Equal })
}

/// Kinds of values, each with columns of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Null,
    Bool,
    Int,
    Float,
    Time,
    Text,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(truth) => write!(f, "{truth}"),
            Value::Int(number) => write!(f, "{number}"),
            Value::Float(number) => write!(f, "{number:?}"),
            Value::Time(time) => write!(f, "@{}", time.0),
            Value::Text(text) => write!(f, "{text:?}"),
            Value::List(members) => {
                f.write_str("[")?;
                for (at, member) in members.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}{member}")?;
                }
                f.write_str("]")
            }
        }
    }
}

/// Values that are made of others.
macro_rules! from {
    ($($kind:ty => |$value:ident| $made:expr;)*) => {$(
        impl From<$kind> for Value {
            fn from($value: $kind) -> Self {
                $made
            }
        }
    )*};
}

from! {
    bool => |truth| Value::Bool(truth);
    i8 => |number| Value::Int(number.into());
    i16 => |number| Value::Int(number.into());
    i32 => |number| Value::Int(number.into());
    i64 => |number| Value::Int(number);
    u8 => |number| Value::Int(number.into());
    u16 => |number| Value::Int(number.into());
    u32 => |number| Value::Int(number.into());
    f32 => |number| Value::Float(number.into());
    f64 => |number| Value::Float(number);
    Timestamp => |time| Value::Time(time);
    &str => |text| Value::Text(text.into());
    String => |text| Value::Text(text.into());
    &String => |text| Value::Text(text.as_str().into());
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(members: Vec<T>) -> Self {
        Value::List(members.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Value>, const N: usize> From<[T; N]> for Value {
    fn from(members: [T; N]) -> Self {
        Value::List(members.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}
