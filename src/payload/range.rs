//! What a condition asks of one value.

use std::cmp::Ordering;
use std::ops::Bound;

use super::value::{Timestamp, Value};

/// A condition on a value; on a list it holds when it holds for a member.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Test {
    /// It is one of these.
    Set(Set),
    /// It is anything but null and these.
    Other(Set),
    /// It is a number or a moment in a range.
    Range(Range),
    Text(TextTest),
    Null,
    /// It is anything but null.
    Exists,
}

/// Values by kind, each list ascending.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Set {
    pub(super) bools: Vec<i64>,
    pub(super) ints: Vec<i64>,
    /// Whole numbers too, if floats can be them.
    pub(super) floats: Vec<f64>,
    pub(super) times: Vec<i64>,
    pub(super) texts: Vec<Box<str>>,
    pub(super) null: bool,
}

impl Set {
    /// The first value that cannot be a member is given back.
    pub(super) fn new(values: &[Value]) -> Result<Set, Value> {
        let mut set = Set::default();
        for value in values {
            match value {
                Value::Null => set.null = true,
                Value::Bool(truth) => set.bools.push((*truth).into()),
                Value::Int(number) => {
                    set.ints.push(*number);
                    set.floats.extend(exact_float(*number));
                }
                Value::Float(number) if number.is_finite() => {
                    // Zeros are the same.
                    set.floats.push(*number + 0.0);
                    set.ints.extend(exact_int(*number));
                }
                Value::Time(Timestamp(time)) => set.times.push(*time),
                Value::Text(text) => set.texts.push(text.clone()),
                Value::Float(_) | Value::List(_) => return Err(value.clone()),
            }
        }
        for whole in [&mut set.bools, &mut set.ints, &mut set.times] {
            whole.sort_unstable();
            whole.dedup();
        }
        set.floats.sort_unstable_by(f64::total_cmp);
        set.floats.dedup();
        set.texts.sort_unstable();
        set.texts.dedup();
        Ok(set)
    }

    pub(super) fn len(&self) -> usize {
        let values =
            self.bools.len() + self.ints.len().max(self.floats.len()) + self.times.len() + self.texts.len();
        (values + usize::from(self.null)).max(1)
    }

    fn holds(&self, value: &Value) -> bool {
        match value {
            Value::Null => self.null,
            Value::Bool(truth) => self.bools.contains(&(*truth).into()),
            Value::Int(number) => self.ints.binary_search(number).is_ok(),
            Value::Float(number) => {
                self.floats.binary_search_by(|member| member.total_cmp(&(number + 0.0))).is_ok()
            }
            Value::Time(Timestamp(time)) => self.times.binary_search(time).is_ok(),
            Value::Text(text) => self.texts.binary_search(text).is_ok(),
            Value::List(_) => false,
        }
    }
}

/// The whole number that a float is.
fn exact_int(float: f64) -> Option<i64> {
    // 2^63 is a float, and one more than the greatest number.
    let fits = float.fract() == 0.0 && (-(2f64.powi(63))..2f64.powi(63)).contains(&float);
    fits.then_some(float as i64)
}

/// The float that a whole number is.
fn exact_float(number: i64) -> Option<f64> {
    let float = number as f64;
    (exact_int(float) == Some(number)).then_some(float)
}

/// Floats from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FloatRange {
    pub(super) low: f64,
    pub(super) high: f64,
}

/// Numbers or moments in a range; both ends are included. None: no such value is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Range {
    pub(super) ints: Option<(i64, i64)>,
    pub(super) floats: Option<FloatRange>,
    pub(super) times: Option<(i64, i64)>,
}

impl Range {
    fn holds(&self, value: &Value) -> bool {
        let within = |range: Option<(i64, i64)>, value: i64| {
            range.is_some_and(|(low, high)| (low..=high).contains(&value))
        };
        match value {
            Value::Int(number) => within(self.ints, *number),
            Value::Time(Timestamp(time)) => within(self.times, *time),
            Value::Float(number) => {
                self.floats.is_some_and(|FloatRange { low, high }| (low..=high).contains(number))
            }
            _ => false,
        }
    }
}

/// The first whole number of a range, or the last: `None` when none is.
fn whole_edge(number: i64, included: bool, step: i64) -> Option<i64> {
    if included { Some(number) } else { number.checked_add(step) }
}

/// The least float of a range that begins with `bound` (with `is_low`), or the
/// greatest of one that ends with it.
fn float_edge(value: &Value, included: bool, is_low: bool) -> f64 {
    let next = |float: f64| if is_low { float.next_up() } else { float.next_down() };
    match value {
        Value::Int(number) => {
            let float = *number as f64;
            // Where rounding led beyond the number, the float is inside the range.
            match (float as i128).cmp(&i128::from(*number)) {
                Ordering::Equal => {
                    if included {
                        float
                    } else {
                        next(float)
                    }
                }
                Ordering::Greater => {
                    if is_low {
                        float
                    } else {
                        float.next_down()
                    }
                }
                Ordering::Less => {
                    if is_low {
                        float.next_up()
                    } else {
                        float
                    }
                }
            }
        }
        Value::Float(float) => {
            if included {
                *float
            } else {
                next(*float)
            }
        }
        _ => f64::NAN,
    }
}

/// The same of whole numbers, when the range is given by a float.
fn int_edge(value: &Value, included: bool, is_low: bool) -> Option<i64> {
    let step = if is_low { 1 } else { -1 };
    match value {
        Value::Int(number) => whole_edge(*number, included, step),
        Value::Float(float) => {
            let whole = if is_low { float.ceil() } else { float.floor() };
            let is_exact = whole == *float;
            match exact_int(whole) {
                Some(number) if is_exact => whole_edge(number, included, step),
                Some(number) => Some(number),
                // Beyond all whole numbers, on one side or on the other.
                None if (*float < 0.0) == is_low => Some(if is_low { i64::MIN } else { i64::MAX }),
                None => None,
            }
        }
        _ => None,
    }
}

/// A range of texts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TextRange {
    pub(super) low: Bound<Box<str>>,
    pub(super) high: Bound<Box<str>>,
}

impl TextRange {
    pub(super) fn is_before(&self, text: &str) -> bool {
        match &self.low {
            Bound::Unbounded => false,
            Bound::Included(low) => text < &**low,
            Bound::Excluded(low) => text <= &**low,
        }
    }

    pub(super) fn is_after(&self, text: &str) -> bool {
        match &self.high {
            Bound::Unbounded => false,
            Bound::Included(high) => text > &**high,
            Bound::Excluded(high) => text >= &**high,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TextTest {
    Prefix(Box<str>),
    Range(TextRange),
    Like(Pattern),
}

/// A text in which `*` stands for any text, also for none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pattern {
    /// What stands before, between and behind the stars.
    parts: Vec<Box<str>>,
}

impl Pattern {
    pub(super) fn new(text: &str) -> Pattern {
        Pattern { parts: text.split('*').map(Into::into).collect() }
    }

    /// What every text that matches begins with.
    pub(super) fn prefix(&self) -> &str {
        self.parts.first().map_or("", |part| part)
    }

    pub(super) fn source(&self) -> String {
        self.parts.join("*")
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        let [first, middle @ .., last] = self.parts.as_slice() else { return text == self.prefix() };
        let Some(mut rest) = text.strip_prefix(&**first).and_then(|rest| rest.strip_suffix(&**last)) else {
            return false;
        };
        // The first place is as good as any: what is behind is as long as can be.
        middle.iter().all(|part| match rest.find(&**part) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        })
    }
}

impl Test {
    /// A test for a range; the bound that cannot be one is given back.
    pub(super) fn range(low: Bound<Value>, high: Bound<Value>) -> Result<Test, Value> {
        let [low_value, high_value] = [&low, &high].map(|bound| match bound {
            Bound::Included(value) => Some((value, true)),
            Bound::Excluded(value) => Some((value, false)),
            Bound::Unbounded => None,
        });
        let is_number = |value: &Value| matches!(value, Value::Int(_) | Value::Float(_));
        let one = low_value.or(high_value).map(|(value, _)| value);
        if let Some(Value::Float(wrong)) = [low_value, high_value]
            .into_iter()
            .flatten()
            .map(|(value, _)| value)
            .find(|value| matches!(value, Value::Float(float) if !float.is_finite()))
        {
            return Err(Value::Float(*wrong));
        }
        let fits = |other: &Value| match one {
            Some(Value::Time(_)) => matches!(other, Value::Time(_)),
            Some(Value::Text(_)) => matches!(other, Value::Text(_)),
            _ => is_number(other),
        };
        let wrong = [low_value, high_value].into_iter().flatten().find(|(value, _)| !fits(value));
        if let Some((wrong, _)) = wrong {
            return Err(wrong.clone());
        }
        Ok(match one {
            Some(Value::Text(_)) => {
                let text =
                    |bound: Bound<Value>| bound.map(|value| value.as_text().unwrap_or_default().into());
                Test::Text(TextTest::Range(TextRange { low: text(low), high: text(high) }))
            }
            Some(Value::Time(_)) => {
                let edge = |bound: Option<(&Value, bool)>, open: i64, step| match bound {
                    None => Some(open),
                    Some((Value::Time(time), included)) => whole_edge(time.0, included, step),
                    Some(_) => None,
                };
                let times = edge(low_value, i64::MIN, 1).zip(edge(high_value, i64::MAX, -1));
                Test::Range(Range { times, ..Range::default() })
            }
            _ => {
                let int = |bound: Option<(&Value, bool)>, is_low: bool| match bound {
                    None => Some(if is_low { i64::MIN } else { i64::MAX }),
                    Some((value, included)) => int_edge(value, included, is_low),
                };
                let float = |bound: Option<(&Value, bool)>, is_low: bool| match bound {
                    None => {
                        if is_low {
                            f64::NEG_INFINITY
                        } else {
                            f64::INFINITY
                        }
                    }
                    Some((value, included)) => float_edge(value, included, is_low),
                };
                let floats = FloatRange { low: float(low_value, true), high: float(high_value, false) };
                Test::Range(Range {
                    ints: int(low_value, true).zip(int(high_value, false)),
                    floats: Some(floats),
                    // Of what has no ends nobody said that it is about numbers.
                    times: one.is_none().then_some((i64::MIN, i64::MAX)),
                })
            }
        })
    }

    /// Whether it holds for a value, by its meaning.
    pub(super) fn holds(&self, value: &Value) -> bool {
        value.members().iter().any(|member| match self {
            Test::Set(set) => set.holds(member),
            Test::Other(set) => *member != Value::Null && !set.holds(member),
            Test::Range(range) => range.holds(member),
            Test::Null => *member == Value::Null,
            Test::Exists => *member != Value::Null,
            Test::Text(test) => member.as_text().is_some_and(|text| match test {
                TextTest::Prefix(prefix) => text.starts_with(&**prefix),
                TextTest::Range(range) => !range.is_before(text) && !range.is_after(text),
                TextTest::Like(pattern) => pattern.matches(text),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(low: Bound<Value>, high: Bound<Value>) -> Test {
        Test::range(low, high).unwrap()
    }

    #[test]
    fn a_range_without_ends_holds_all_numbers_and_moments() {
        let all = range(Bound::Unbounded, Bound::Unbounded);
        for value in [Value::Int(i64::MIN), Value::Float(-0.5), Value::Time(Timestamp(7))] {
            assert!(all.holds(&value), "{value}");
        }
        assert!(!all.holds(&Value::Null) && !all.holds(&Value::from("a")));
    }

    #[test]
    fn numbers_are_compared_by_what_they_are_worth_to_the_last_one() {
        let big = i64::MAX - 1;
        let numbers: Vec<Value> = [0, 1, 2, 3, big, i64::MAX, i64::MIN]
            .map(Value::Int)
            .into_iter()
            .chain([0.0, -0.0, 0.5, 2.0, 2.5, 9.3e18, -9.3e18, big as f64].map(Value::Float))
            .collect();
        let less = |a: &Value, b: &Value| match (a, b) {
            (Value::Int(a), Value::Int(b)) => a < b,
            (Value::Float(a), Value::Float(b)) => a < b,
            (Value::Int(a), Value::Float(b)) => {
                if b.abs() > 9.2234e18 {
                    *b > 0.0
                } else {
                    i128::from(*a) < b.ceil() as i128
                }
            }
            (Value::Float(a), Value::Int(b)) => {
                if a.abs() > 9.2234e18 {
                    *a < 0.0
                } else {
                    (a.floor() as i128) < i128::from(*b)
                }
            }
            _ => false,
        };
        for bound in &numbers {
            let at_least = range(Bound::Included(bound.clone()), Bound::Unbounded);
            let more = range(Bound::Excluded(bound.clone()), Bound::Unbounded);
            let at_most = range(Bound::Unbounded, Bound::Included(bound.clone()));
            let below = range(Bound::Unbounded, Bound::Excluded(bound.clone()));
            let same = Test::Set(Set::new(std::slice::from_ref(bound)).unwrap());
            for value in &numbers {
                let (is_less, is_more) = (less(value, bound), less(bound, value));
                let all = [&at_least, &more, &at_most, &below, &same].map(|test| test.holds(value));
                let expected = [!is_less, is_more, !is_more, is_less, !is_less && !is_more];
                assert_eq!(all, expected, "{value} and {bound}");
            }
        }
    }

    #[test]
    fn stars_stand_for_any_text() {
        let cases = [
            ("a*", "a", true),
            ("a*", "ba", false),
            ("*", "", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("*b*b", "abab", true),
            ("user/*/notes", "user/7/notes", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(Pattern::new(pattern).matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn ends_of_a_range_are_of_one_kind() {
        let (number, text) = (Value::from(1), Value::from("x"));
        let wrong = Test::range(Bound::Included(number), Bound::Included(text.clone()));
        assert_eq!(wrong, Err(text));
        assert!(Test::range(Bound::Included(Value::Bool(true)), Bound::Unbounded).is_err());
        assert!(Test::range(Bound::Included(Value::Float(f64::NAN)), Bound::Unbounded).is_err());
    }
}
