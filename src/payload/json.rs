//! Payloads and filters as JSON.

use serde_json::{Map, Value as Json, json};

use super::document::Payload;
use super::filter::Filter;
use super::limits::{FILTER_DEPTH, FilterError, PayloadError};
use super::value::{Timestamp, Value};
use crate::id::RecordId;

/// The key of an object that is a moment, in microseconds since 1970.
const TIME: &str = "$time";

/// A fault and the place where it is: keys, from the outside in.
struct Fault {
    place: Vec<String>,
    what: String,
}

impl Fault {
    fn new(what: impl Into<String>) -> Fault {
        Fault { place: Vec::new(), what: what.into() }
    }

    /// The same, seen from outside.
    fn within(mut self, key: impl ToString) -> Fault {
        self.place.push(key.to_string());
        self
    }

    fn place(&self) -> String {
        let place: Vec<&str> = self.place.iter().rev().map(String::as_str).collect();
        format!("$.{}", place.join("."))
    }
}

fn scalar(json: &Json) -> Result<Value, Fault> {
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::Int(whole),
            (None, Some(float)) if !number.is_u64() => Value::Float(float),
            _ => return Err(Fault::new(format!("{number} does not fit into 64 bits with a sign"))),
        },
        Json::String(text) => Value::Text(text.as_str().into()),
        Json::Object(fields) => match (fields.len(), fields.get(TIME).and_then(Json::as_i64)) {
            (1, Some(micros)) => Value::Time(Timestamp(micros)),
            _ => return Err(Fault::new("a value is expected, not an object")),
        },
        Json::Array(_) => return Err(Fault::new("a single value is expected, not a list")),
    })
}

/// The members of a list; whole numbers among floats are floats.
fn members(list: &[Json]) -> Result<Vec<Value>, Fault> {
    let each = list.iter().enumerate();
    let mut members: Vec<Value> =
        each.map(|(at, json)| scalar(json).map_err(|fault| fault.within(at))).collect::<Result<_, _>>()?;
    if members.iter().any(|member| matches!(member, Value::Float(_))) {
        for member in &mut members {
            if let Value::Int(number) = member {
                *member = Value::Float(*number as f64);
            }
        }
    }
    Ok(members)
}

/// Adds the fields of an object, those within named by paths.
fn flatten(
    fields: &Map<String, Json>,
    outer: &str,
    depth: usize,
    payload: &mut Payload,
) -> Result<(), Fault> {
    if depth > FILTER_DEPTH {
        return Err(Fault::new("objects stand too deep within one another"));
    }
    for (name, json) in fields {
        let path = if outer.is_empty() { name.clone() } else { format!("{outer}.{name}") };
        let done = match json {
            _ if name.is_empty() => Err(Fault::new("a field without a name")),
            // It would be read as a moment from what it is written as.
            _ if name.split('.').any(|name| name == TIME) => Err(Fault::new("no field has this name")),
            _ if payload.get(&path).is_some() => Err(Fault::new("the field is there twice")),
            Json::Object(inner) if !inner.contains_key(TIME) => flatten(inner, &path, depth + 1, payload),
            Json::Array(list) => members(list).map(|list| payload.set(path.into(), Value::List(list))),
            single => scalar(single).map(|value| payload.set(path.into(), value)),
        };
        done.map_err(|fault| fault.within(name))?;
    }
    Ok(())
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(truth) => json!(truth),
        Value::Int(number) => json!(number),
        Value::Float(number) => json!(number),
        Value::Time(Timestamp(micros)) => json!({ TIME: micros }),
        Value::Text(text) => json!(text),
        Value::List(members) => members.iter().map(to_json).collect(),
    }
}

impl Payload {
    /// The fields of a JSON object; objects within it become fields with
    /// paths (an empty one leaves no field), `{"$time": n}` becomes a moment,
    /// n microseconds after the beginning of 1970.
    ///
    /// # Errors
    /// [`PayloadError::Json`] with the place of what cannot be stored.
    ///
    /// ```
    /// use vecino::Payload;
    /// let json = serde_json::json!({"title": "Waltz", "author": {"name": "Ana", "born": 1980}, "tags": [1, 2.5]});
    /// let payload = Payload::from_json(&json)?;
    /// assert_eq!(payload.get("author.born"), Some(&1980.into()));
    /// assert_eq!(payload.to_json()["author"]["name"], "Ana");
    /// # Ok::<(), vecino::PayloadError>(())
    /// ```
    pub fn from_json(json: &Json) -> Result<Payload, PayloadError> {
        let mut payload = Payload::new();
        let Json::Object(fields) = json else {
            return Err(PayloadError::Json {
                place: "$".to_owned(),
                what: "an object is expected".to_owned(),
            });
        };
        flatten(fields, "", 1, &mut payload)
            .map_err(|fault| PayloadError::Json { place: fault.place(), what: fault.what })?;
        payload.check()?;
        Ok(payload)
    }

    /// As a JSON object, fields within fields as objects.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let mut all = Map::new();
        self.iter().for_each(|(path, value)| nest(&mut all, path, value));
        Json::Object(all)
    }
}

/// Puts a value where its path leads.
fn nest(fields: &mut Map<String, Json>, path: &str, value: &Value) {
    let Some((outer, rest)) = path.split_once('.') else {
        fields.insert(path.to_owned(), to_json(value));
        return;
    };
    let inner = fields.entry(outer).or_insert_with(|| Json::Object(Map::new()));
    if let Json::Object(inner) = inner {
        nest(inner, rest, value);
    }
}

/// The conditions of an object of fields, all of which must hold.
fn each_field(
    json: &Json,
    condition: impl Fn(&str, &Json) -> Result<Filter, Fault>,
) -> Result<Filter, Fault> {
    let Json::Object(fields) = json else {
        return Err(Fault::new("an object is expected: names of fields and values"));
    };
    let each = fields.iter().map(|(path, json)| condition(path, json).map_err(|fault| fault.within(path)));
    all(each.collect::<Result<Vec<_>, _>>()?)
}

fn all(mut filters: Vec<Filter>) -> Result<Filter, Fault> {
    match filters.len() {
        1 => Ok(filters.remove(0)),
        _ => Ok(Filter::all(filters)),
    }
}

fn list<T>(json: &Json, each: impl Fn(&Json) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
    let Json::Array(list) = json else { return Err(Fault::new("a list is expected")) };
    list.iter().enumerate().map(|(at, json)| each(json).map_err(|fault| fault.within(at))).collect()
}

fn path_list(json: &Json, condition: impl Fn(&str) -> Filter) -> Result<Filter, Fault> {
    let name = |json: &Json| {
        json.as_str().map(&condition).ok_or_else(|| Fault::new("the name of a field is expected"))
    };
    match json {
        Json::Array(_) => all(list(json, name)?),
        single => name(single),
    }
}

fn record_id(json: &Json) -> Result<RecordId, Fault> {
    match (json.as_u64(), json.as_str()) {
        (Some(number), _) => Ok(number.into()),
        (_, Some(text)) => Ok(text.into()),
        _ => Err(Fault::new("an id is a whole number or a text")),
    }
}

fn word(json: &Json) -> Result<&str, Fault> {
    json.as_str().ok_or_else(|| Fault::new("a text is expected"))
}

fn ranges(path: &str, json: &Json) -> Result<Filter, Fault> {
    let Json::Object(bounds) = json else { return Err(Fault::new("an object is expected: lt, le, gt, ge")) };
    let each = bounds.iter().map(|(name, json)| {
        let value = scalar(json);
        let filter = value.and_then(|value| match name.as_str() {
            "lt" => Ok(Filter::lt(path, value)),
            "le" => Ok(Filter::le(path, value)),
            "gt" => Ok(Filter::gt(path, value)),
            "ge" => Ok(Filter::ge(path, value)),
            _ => Err(Fault::new("a range has lt, le, gt and ge")),
        });
        filter.map_err(|fault| fault.within(name))
    });
    all(each.collect::<Result<Vec<_>, _>>()?)
}

fn operator(name: &str, json: &Json, depth: usize) -> Result<Filter, Fault> {
    let value =
        |make: fn(&str, Value) -> Filter| each_field(json, |path, json| Ok(make(path, scalar(json)?)));
    let values = |make: fn(&str, Vec<Value>) -> Filter| {
        each_field(json, |path, json| Ok(make(path, list(json, scalar)?)))
    };
    match name {
        "and" => Ok(Filter::all(list(json, |json| parse(json, depth + 1))?)),
        "or" => Ok(Filter::any(list(json, |json| parse(json, depth + 1))?)),
        "not" => Ok(!parse(json, depth + 1)?),
        "ids" => Ok(Filter::ids(list(json, record_id)?)),
        "exists" => path_list(json, |path| Filter::exists(path)),
        "null" => path_list(json, |path| Filter::is_null(path)),
        "eq" => value(|path, value| Filter::eq(path, value)),
        "ne" => value(|path, value| Filter::ne(path, value)),
        "lt" => value(|path, value| Filter::lt(path, value)),
        "le" => value(|path, value| Filter::le(path, value)),
        "gt" => value(|path, value| Filter::gt(path, value)),
        "ge" => value(|path, value| Filter::ge(path, value)),
        "in" | "any" => values(|path, values| Filter::is_in(path, values)),
        "all" => values(|path, values| Filter::contains_all(path, values)),
        "other" => values(|path, values| Filter::contains_other(path, values)),
        "none" => values(|path, values| Filter::contains_none(path, values)),
        "range" => each_field(json, ranges),
        "prefix" => each_field(json, |path, json| Ok(Filter::prefix(path, word(json)?))),
        "like" => each_field(json, |path, json| Ok(Filter::like(path, word(json)?))),
        _ => Err(Fault::new("there is no such condition")),
    }
}

fn parse(json: &Json, depth: usize) -> Result<Filter, Fault> {
    if depth > FILTER_DEPTH {
        return Err(Fault::new("filters stand too deep within one another"));
    }
    let Json::Object(conditions) = json else { return Err(Fault::new("a filter is an object")) };
    let each =
        conditions.iter().map(|(name, json)| operator(name, json, depth).map_err(|fault| fault.within(name)));
    all(each.collect::<Result<Vec<_>, _>>()?)
}

impl Filter {
    /// A filter as JSON. An object holds conditions, all of which must hold:
    ///
    /// ```text
    /// filter    = { condition, ... }
    /// condition = "and": [filter, ...] | "or": [filter, ...] | "not": filter
    ///           | "ids": [id, ...]
    ///           | "eq" | "ne" | "lt" | "le" | "gt" | "ge" : { path: value, ... }
    ///           | "in" | "any" | "all" | "none" | "other" : { path: [value, ...], ... }
    ///           | "range"                                 : { path: { "ge": value, "lt": value, ... }, ... }
    ///           | "prefix" | "like"                       : { path: text, ... }
    ///           | "exists" | "null"                       : path | [path, ...]
    /// value     = null | true | false | number | text | { "$time": microseconds since 1970 }
    /// ```
    ///
    /// # Errors
    /// [`FilterError`], with the place of what is wrong.
    ///
    /// ```
    /// use vecino::Filter;
    /// let json = serde_json::json!({
    ///     "eq": {"genre": "rock"},
    ///     "range": {"year": {"ge": 1990, "lt": 2000}},
    ///     "not": {"exists": "withdrawn"},
    /// });
    /// let same = Filter::all([
    ///     Filter::eq("genre", "rock"),
    ///     !Filter::exists("withdrawn"),
    ///     Filter::all([Filter::ge("year", 1990), Filter::lt("year", 2000)]),
    /// ]);
    /// assert_eq!(Filter::from_json(&json)?, same);
    ///
    /// let wrong = serde_json::json!({"or": [{"eq": {"a": 1}}, {"eq": {"b": [2]}}]});
    /// let fault = Filter::from_json(&wrong).unwrap_err();
    /// assert_eq!(fault.to_string(), "at $.or.1.eq.b: a single value is expected, not a list");
    /// # Ok::<(), vecino::FilterError>(())
    /// ```
    pub fn from_json(json: &Json) -> Result<Filter, FilterError> {
        let filter =
            parse(json, 1).map_err(|fault| FilterError::Json { place: fault.place(), what: fault.what })?;
        filter.check()?;
        Ok(filter)
    }
}

/// For any bytes: a filter is read as one that can be used, or refused.
#[cfg(any(test, feature = "internals"))]
pub fn fuzz_filter(input: &[u8]) {
    let Ok(json) = serde_json::from_slice::<Json>(input) else { return };
    if let Ok(filter) = Filter::from_json(&json) {
        assert_eq!(filter.check(), Ok(()), "{json}");
    }
}

/// A payload is read, written and read again as the same, or refused.
#[cfg(any(test, feature = "internals"))]
pub fn fuzz_payload(input: &[u8]) {
    let Ok(json) = serde_json::from_slice::<Json>(input) else { return };
    if let Ok(payload) = Payload::from_json(&json) {
        assert_eq!(Payload::from_json(&payload.to_json()), Ok(payload), "{json}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::fuzz::fuzz;

    #[test]
    fn every_condition_reads_as_the_filter_that_it_names() {
        let cases = [
            (json!({"ne": {"a": null}}), Filter::ne("a", Value::Null)),
            (json!({"in": {"a": [1, "x"]}}), Filter::is_in("a", vec![Value::from(1), "x".into()])),
            (json!({"all": {"a": ["x", "y"]}}), Filter::contains_all("a", ["x", "y"])),
            (
                json!({"other": {"a": [1, "x"]}}),
                Filter::contains_other("a", vec![Value::from(1), "x".into()]),
            ),
            (json!({"none": {"a": [true]}}), Filter::contains_none("a", [true])),
            (json!({"prefix": {"a.b": "x/"}}), Filter::prefix("a.b", "x/")),
            (json!({"like": {"a": "*x"}}), Filter::like("a", "*x")),
            (json!({"exists": ["a", "b"]}), Filter::all([Filter::exists("a"), Filter::exists("b")])),
            (json!({"null": "a"}), Filter::is_null("a")),
            (json!({"ids": [1, "1"]}), Filter::ids([RecordId::from(1), "1".into()])),
            (json!({"le": {"t": {"$time": 7}}}), Filter::le("t", Timestamp(7))),
            (json!({"and": []}), Filter::all([])),
            (json!({"or": [{"gt": {"a": 1.5}}]}), Filter::any([Filter::gt("a", 1.5)])),
        ];
        for (json, filter) in cases {
            assert_eq!(Filter::from_json(&json), Ok(filter), "{json}");
        }
    }

    #[test]
    fn faults_are_named_with_their_place() {
        let deep = (0..40).fold(json!({"exists": "a"}), |inner, _| json!({"not": inner}));
        let cases = [
            (json!([]), "at $.: a filter is an object"),
            (json!({"and": [{}, {"like": {"a": 1}}]}), "at $.and.1.like.a: a text is expected"),
            (json!({"range": {"a": {"above": 1}}}), "at $.range.a.above: a range has lt, le, gt and ge"),
            (json!({"equals": {"a": 1}}), "at $.equals: there is no such condition"),
            (json!({"ids": [1, null]}), "at $.ids.1: an id is a whole number or a text"),
            (json!({"eq": {"a..b": 1}}), "\"a..b\" is no path of a field"),
        ];
        for (json, text) in cases {
            assert_eq!(Filter::from_json(&json).unwrap_err().to_string(), text);
        }
        assert!(Filter::from_json(&deep).is_err());
    }

    #[test]
    fn payloads_come_back_as_the_objects_that_they_were() {
        let json = json!({
            "a": {"b": {"c": 1}, "d": [1, 2]}, "e": null, "f": [], "g": [1.5, 2.5], "h": {"$time": -1}, "i": true,
        });
        let payload = Payload::from_json(&json).unwrap();
        assert_eq!(payload.to_json(), json);
        assert_eq!(
            Payload::from_json(&json!({"x": [1, 0.5]})).unwrap().get("x"),
            Some(&vec![1.0, 0.5].into())
        );
        let fault = Payload::from_json(&json!({"a": {"b": [1, {"c": 2}]}})).unwrap_err();
        assert_eq!(fault.to_string(), "at $.a.b.1: a value is expected, not an object");
        let large = Payload::from_json(&json!({"a": u64::MAX}));
        assert!(matches!(large, Err(PayloadError::Json { .. })), "{large:?}");
    }

    #[test]
    fn fuzzed_texts_are_read_or_refused() {
        let filters = [
            json!({"eq": {"genre": "rock"}, "not": {"exists": "w"}}),
            json!({"and": [{"ge": {"year": 1990}}, {"or": [{"in": {"a": [1, "x", null]}}, {"like": {"a": "*x"}}]}]}),
            json!({"le": {"t": {"$time": 7}}, "ids": [1, "1"], "prefix": {"a.b": "x/"}}),
        ];
        fuzz(&filters.map(|json| json.to_string().into_bytes()), fuzz_filter);
        let payloads = [
            json!({"a": 1, "b": {"c": [1, 2.5, -0.0]}, "t": {"$time": -5}}),
            json!({"text": "\u{1f600}", "none": null, "list": ["x", "y"], "flag": true}),
        ];
        fuzz(&payloads.map(|json| json.to_string().into_bytes()), fuzz_payload);
    }
}
