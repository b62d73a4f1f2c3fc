//! Filters: conditions on the payload and the id of a record.

use std::collections::HashSet;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use super::document::Payload;
use super::limits::{FILTER_DEPTH, FILTER_SIZE, FilterError, is_path};
use super::range::{Pattern, Set, Test, TextTest};
use super::value::Value;
use crate::id::RecordId;
use crate::memory;

/// A condition that records pass or not.
///
/// A condition on a field holds only for records with the field, and on a
/// list when it holds for a member. `ne`, `contains_none` and `!` are negations of such: they hold
/// also where there is no field, and on a list when it holds for no member. Whole numbers and floats are
/// compared by what they are worth, other values only with their own kind.
/// Fields within fields have paths with dots. Cheap to clone.
///
/// ```
/// use vecino::{Filter, Payload};
///
/// let filter = Filter::eq("genre", "rock") & Filter::range("year", 1990..2000) & !Filter::exists("withdrawn");
/// let payload = Payload::new().with("genre", ["rock", "pop"]).with("year", 1994);
/// assert!(filter.matches(&"guitar-001".into(), &payload));
/// ```
#[derive(Clone, Debug)]
pub struct Filter {
    root: Arc<Node>,
    /// Conditions that stand within one another, this one counted.
    depth: usize,
}

/// Those that share their memory are not compared value by value.
impl PartialEq for Filter {
    fn eq(&self, other: &Filter) -> bool {
        Arc::ptr_eq(&self.root, &other.root) || self.root == other.root
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Test {
        path: Box<str>,
        test: Test,
    },
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Ids(HashSet<RecordId>),
    /// It cannot be used: the search says why.
    Faulty(FilterError),
}

impl Filter {
    /// Of a single condition.
    fn single(node: Node) -> Filter {
        Filter::of(node, 1)
    }

    /// Of conditions that stand so deep within one another. What is too deep is dropped at once:
    /// later that would be a recursion without an end. One of which a part cannot be used cannot be used itself.
    pub(super) fn of(node: Node, depth: usize) -> Filter {
        if let Some(fault) = node.fault_within() {
            return Filter::single(Node::Faulty(fault.clone()));
        }
        if depth > FILTER_DEPTH {
            return Filter::single(Node::Faulty(FilterError::Depth { depth, most: FILTER_DEPTH }));
        }
        Filter { root: Arc::new(node), depth }
    }

    /// Both hold, however deep they are: where the engine adds a condition to that of a caller.
    pub(crate) fn and(&self, other: Filter) -> Filter {
        let depth = self.depth.max(other.depth) + 1;
        let nodes = memory::collect([self.clone().into_node(), other.into_node()]);
        Filter { root: Arc::new(Node::All(nodes)), depth }
    }

    /// Of several conditions.
    fn group(filters: impl IntoIterator<Item = Filter>, group: fn(Vec<Node>) -> Node) -> Filter {
        let mut depth = 0;
        let nodes = filters.into_iter().map(|filter| {
            depth = depth.max(filter.depth);
            filter.into_node()
        });
        let nodes = nodes.collect();
        Filter::of(group(nodes), depth + 1)
    }

    pub(super) fn node(&self) -> &Node {
        &self.root
    }

    fn into_node(self) -> Node {
        Arc::unwrap_or_clone(self.root)
    }

    fn test(path: &str, test: Result<Test, Value>) -> Filter {
        let path: Box<str> = path.into();
        Filter::single(match test {
            _ if !is_path(&path) => Node::Faulty(FilterError::Path { path: path.into() }),
            Ok(test) => Node::Test { path, test },
            Err(value) => Node::Faulty(FilterError::Value { path: path.into(), value: value.to_string() }),
        })
    }

    /// The field is this value.
    pub fn eq(path: impl AsRef<str>, value: impl Into<Value>) -> Filter {
        Filter::is_in(path, [value])
    }

    /// The field is not this value, or not there: the opposite of [`Filter::eq`].
    pub fn ne(path: impl AsRef<str>, value: impl Into<Value>) -> Filter {
        !Filter::eq(path, value)
    }

    /// The field is one of these values.
    pub fn is_in<V: Into<Value>>(path: impl AsRef<str>, values: impl IntoIterator<Item = V>) -> Filter {
        let values: Vec<Value> = values.into_iter().map(Into::into).collect();
        Filter::test(path.as_ref(), Set::new(&values).map(Test::Set))
    }

    /// The field is below this number, moment or text.
    pub fn lt(path: impl AsRef<str>, value: impl Into<Value>) -> Filter {
        Filter::test(path.as_ref(), Test::range(Bound::Unbounded, Bound::Excluded(value.into())))
    }

    /// The field is at most this number, moment or text.
    pub fn le(path: impl AsRef<str>, value: impl Into<Value>) -> Filter {
        Filter::test(path.as_ref(), Test::range(Bound::Unbounded, Bound::Included(value.into())))
    }

    /// The field is above this number, moment or text.
    pub fn gt(path: impl AsRef<str>, value: impl Into<Value>) -> Filter {
        Filter::test(path.as_ref(), Test::range(Bound::Excluded(value.into()), Bound::Unbounded))
    }

    /// The field is at least this number, moment or text.
    pub fn ge(path: impl AsRef<str>, value: impl Into<Value>) -> Filter {
        Filter::test(path.as_ref(), Test::range(Bound::Included(value.into()), Bound::Unbounded))
    }

    /// The field is in a range of numbers, moments or texts: one member of a
    /// list must be above its beginning and below its end. One without ends holds every number and every moment.
    ///
    /// ```
    /// use vecino::{Filter, Payload};
    /// let nineties = Filter::range("year", 1990..2000);
    /// assert!(nineties.matches(&1.into(), &Payload::new().with("year", 1999.5)));
    /// ```
    pub fn range<V: Clone + Into<Value>>(path: impl AsRef<str>, range: impl RangeBounds<V>) -> Filter {
        let [low, high] =
            [range.start_bound(), range.end_bound()].map(|bound| bound.cloned().map(Into::into));
        Filter::test(path.as_ref(), Test::range(low, high))
    }

    /// The field is there and has a value that is not null.
    pub fn exists(path: impl AsRef<str>) -> Filter {
        Filter::test(path.as_ref(), Ok(Test::Exists))
    }

    /// The field is there and null.
    pub fn is_null(path: impl AsRef<str>) -> Filter {
        Filter::test(path.as_ref(), Ok(Test::Null))
    }

    /// The list has one of these members; another name of [`Filter::is_in`].
    pub fn contains_any<V: Into<Value>>(
        path: impl AsRef<str>,
        values: impl IntoIterator<Item = V>,
    ) -> Filter {
        Filter::is_in(path, values)
    }

    /// The list has all of these members.
    pub fn contains_all<V: Into<Value>>(
        path: impl AsRef<str>,
        values: impl IntoIterator<Item = V>,
    ) -> Filter {
        Filter::all(values.into_iter().map(|value| Filter::eq(path.as_ref(), value)))
    }

    /// The list has none of these members, or is not there.
    pub fn contains_none<V: Into<Value>>(
        path: impl AsRef<str>,
        values: impl IntoIterator<Item = V>,
    ) -> Filter {
        !Filter::is_in(path, values)
    }

    /// The field has a value besides these (and null): on a list, a member that is none of them.
    ///
    /// ```
    /// use vecino::{Filter, Payload};
    /// let others = Filter::contains_other("genre", ["rock", "pop"]);
    /// assert!(others.matches(&1.into(), &Payload::new().with("genre", ["rock", "jazz"])));
    /// assert!(!others.matches(&1.into(), &Payload::new().with("genre", ["rock"])));
    /// assert!(!others.matches(&1.into(), &Payload::new()), "there is none");
    /// ```
    pub fn contains_other<V: Into<Value>>(
        path: impl AsRef<str>,
        values: impl IntoIterator<Item = V>,
    ) -> Filter {
        let values: Vec<Value> = values.into_iter().map(Into::into).collect();
        Filter::test(path.as_ref(), Set::new(&values).map(Test::Other))
    }

    /// The text begins with this one: `user/alice/` names all that is in a namespace.
    pub fn prefix(path: impl AsRef<str>, prefix: impl AsRef<str>) -> Filter {
        let test = Test::Text(TextTest::Prefix(prefix.as_ref().into()));
        Filter::test(path.as_ref(), Ok(test))
    }

    /// The text is like a pattern, in which `*` stands for any text, also for none.
    ///
    /// ```
    /// use vecino::{Filter, Payload};
    /// let notes = Filter::like("namespace", "user/*/notes*");
    /// assert!(notes.matches(&1.into(), &Payload::new().with("namespace", "user/alice/notes/2026")));
    /// ```
    pub fn like(path: impl AsRef<str>, pattern: impl AsRef<str>) -> Filter {
        let test = Test::Text(TextTest::Like(Pattern::new(pattern.as_ref())));
        Filter::test(path.as_ref(), Ok(test))
    }

    /// The record has one of these ids.
    pub fn ids<I: Into<RecordId>>(ids: impl IntoIterator<Item = I>) -> Filter {
        Filter::single(Node::Ids(ids.into_iter().map(Into::into).collect()))
    }

    /// All of these hold; with none of them every record passes.
    pub fn all(filters: impl IntoIterator<Item = Filter>) -> Filter {
        Filter::group(filters, Node::All)
    }

    /// One of these holds at least; with none of them no record passes.
    pub fn any(filters: impl IntoIterator<Item = Filter>) -> Filter {
        Filter::group(filters, Node::Any)
    }

    /// Whether a record passes, by looking at it. None passes a filter that cannot be used ([`Filter::check`]).
    #[must_use]
    pub fn matches(&self, id: &RecordId, payload: &Payload) -> bool {
        self.root.matches(id, payload)
    }

    /// Whether the filter can be used: searches ask for themselves.
    ///
    /// # Errors
    /// [`FilterError`].
    pub fn check(&self) -> Result<(), FilterError> {
        let mut size = 0;
        self.root.check(&mut size)?;
        if size > FILTER_SIZE {
            return Err(FilterError::Size { count: size, most: FILTER_SIZE });
        }
        Ok(())
    }
}

impl Node {
    /// What is wrong with one of the conditions right within this one.
    fn fault_within(&self) -> Option<&FilterError> {
        match self {
            Node::All(nodes) | Node::Any(nodes) => nodes.iter().find_map(Node::fault),
            Node::Not(node) => node.fault(),
            Node::Test { .. } | Node::Ids(_) | Node::Faulty(_) => None,
        }
    }

    fn fault(&self) -> Option<&FilterError> {
        if let Node::Faulty(fault) = self { Some(fault) } else { None }
    }

    /// Conditions that stand within one another, this one counted.
    pub(super) fn depth(&self) -> usize {
        1 + match self {
            Node::All(nodes) | Node::Any(nodes) => nodes.iter().map(Node::depth).max().unwrap_or(0),
            Node::Not(node) => node.depth(),
            Node::Test { .. } | Node::Ids(_) | Node::Faulty(_) => 0,
        }
    }

    fn matches(&self, id: &RecordId, payload: &Payload) -> bool {
        match self {
            Node::Test { path, test } => payload.get(path).is_some_and(|value| test.holds(value)),
            Node::All(nodes) => nodes.iter().all(|node| node.matches(id, payload)),
            Node::Any(nodes) => nodes.iter().any(|node| node.matches(id, payload)),
            Node::Not(node) => !node.matches(id, payload),
            Node::Ids(ids) => ids.contains(id),
            Node::Faulty(_) => false,
        }
    }

    /// Counts the conditions. (One that is too deep is faulty: see [`Filter::of`].)
    fn check(&self, size: &mut usize) -> Result<(), FilterError> {
        match self {
            Node::Test { test: Test::Set(set) | Test::Other(set), .. } => *size += set.len(),
            Node::Test { .. } => *size += 1,
            Node::All(nodes) | Node::Any(nodes) => {
                *size += 1;
                nodes.iter().try_for_each(|node| node.check(size))?;
            }
            Node::Not(node) => node.check(size)?,
            Node::Ids(ids) => *size += ids.len(),
            Node::Faulty(fault) => return Err(fault.clone()),
        }
        Ok(())
    }
}

impl std::ops::BitAnd for Filter {
    type Output = Filter;

    /// Both hold.
    fn bitand(self, other: Filter) -> Filter {
        let (own, others) = (self.depth, other.depth);
        let (mut nodes, own) = match self.into_node() {
            Node::All(nodes) => (nodes, own),
            single => (vec![single], own + 1),
        };
        nodes.push(other.into_node());
        Filter::of(Node::All(nodes), own.max(others + 1))
    }
}

impl std::ops::BitOr for Filter {
    type Output = Filter;

    /// One of them holds at least.
    fn bitor(self, other: Filter) -> Filter {
        let (own, others) = (self.depth, other.depth);
        let (mut nodes, own) = match self.into_node() {
            Node::Any(nodes) => (nodes, own),
            single => (vec![single], own + 1),
        };
        nodes.push(other.into_node());
        Filter::of(Node::Any(nodes), own.max(others + 1))
    }
}

impl std::ops::Not for Filter {
    type Output = Filter;

    /// It does not hold.
    fn not(self) -> Filter {
        let depth = self.depth + 1;
        Filter::of(Node::Not(Box::new(self.into_node())), depth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_are_too_deep_or_too_large_or_make_no_sense_are_refused() {
        let deep = (0..FILTER_DEPTH).fold(Filter::exists("a"), |inner, _| !inner);
        assert_eq!(deep.check(), Err(FilterError::Depth { depth: 33, most: 32 }));
        // Dropping, copying or comparing it is no recursion of so many steps.
        let deepest = (0..1_000_000).fold(Filter::exists("a"), |inner, at| match at % 3 {
            0 => !inner,
            1 => Filter::any([Filter::all([inner])]),
            _ => Filter::exists("b") & (Filter::exists("c") | inner),
        });
        assert!(matches!(deepest.check(), Err(FilterError::Depth { .. })) && deepest == deepest.clone());
        let large = |values| Filter::is_in("a", 0..values as i64);
        assert_eq!(large(FILTER_SIZE).check(), Ok(()));
        assert!(matches!(large(FILTER_SIZE + 1).check(), Err(FilterError::Size { .. })));
        assert_eq!(Filter::eq("a..b", 1).check(), Err(FilterError::Path { path: "a..b".to_owned() }));
        let list = Filter::all([Filter::eq("a", 1), Filter::eq("b", [1, 2])]);
        assert_eq!(
            list.check(),
            Err(FilterError::Value { path: "b".to_owned(), value: "[1, 2]".to_owned() })
        );
        assert_eq!(Filter::is_in("a", 0..1_000i64).check(), Ok(()));
    }
}
