//! Filters as bytes: logs keep those by which records were deleted.

use std::ops::Bound;

use super::filter::{Filter, Node};
use super::limits::{FILTER_DEPTH, is_path};
use super::range::{FloatRange, Pattern, Range, Set, Test, TextRange, TextTest};
use super::stored::text;
use crate::codec::{Decoder, Encoder, Malformed, decode_id, encode_id};

pub(crate) fn encode_filter(filter: &Filter, out: &mut Encoder) {
    encode_node(filter.node(), out);
}

/// A filter that is checked like that of a caller.
pub(crate) fn decode_filter(input: &mut Decoder<'_>) -> Result<Filter, Malformed> {
    let node = decode_node(input, 1)?;
    let depth = node.depth();
    let filter = Filter::of(node, depth);
    input.check(filter.check().is_ok(), "a filter cannot be used")?;
    Ok(filter)
}

fn encode_node(node: &Node, out: &mut Encoder) {
    match node {
        Node::Test { path, test } => {
            out.u8(0);
            out.bytes(path.as_bytes());
            encode_test(test, out);
        }
        Node::All(nodes) | Node::Any(nodes) => {
            out.u8(if matches!(node, Node::All(_)) { 1 } else { 2 });
            out.size(nodes.len());
            nodes.iter().for_each(|node| encode_node(node, out));
        }
        Node::Not(node) => {
            out.u8(3);
            encode_node(node, out);
        }
        Node::Ids(ids) => {
            // In order: the same filter is the same bytes.
            let mut ids: Vec<_> = ids.iter().collect();
            ids.sort_unstable();
            out.u8(4);
            out.size(ids.len());
            ids.into_iter().for_each(|id| encode_id(id, out));
        }
        // No record passes. (One like this is not accepted.)
        Node::Faulty(_) => {
            out.u8(2);
            out.size(0);
        }
    }
}

fn decode_node(input: &mut Decoder<'_>, depth: usize) -> Result<Node, Malformed> {
    input.check(depth <= FILTER_DEPTH, "filters stand too deep within one another")?;
    Ok(match input.u8()? {
        0 => {
            let path = text(input)?;
            input.check(is_path(path), "a filter names no field")?;
            Node::Test { path: path.into(), test: decode_test(input)? }
        }
        kind @ (1 | 2) => {
            let count = input.count(1)?;
            let nodes = (0..count).map(|_| decode_node(input, depth + 1)).collect::<Result<_, _>>()?;
            if kind == 1 { Node::All(nodes) } else { Node::Any(nodes) }
        }
        3 => Node::Not(Box::new(decode_node(input, depth + 1)?)),
        4 => {
            let count = input.count(size_of::<u64>() + 1)?;
            Node::Ids((0..count).map(|_| decode_id(input)).collect::<Result<_, _>>()?)
        }
        _ => return Err(input.fault("a condition is of an unknown kind")),
    })
}

fn encode_test(test: &Test, out: &mut Encoder) {
    match test {
        Test::Set(set) | Test::Other(set) => {
            out.u8(if matches!(test, Test::Set(_)) { 0 } else { 7 });
            out.u8(u8::from(set.null));
            for whole in [&set.bools, &set.ints, &set.times] {
                out.size(whole.len());
                whole.iter().for_each(|value| out.u64(value.cast_unsigned()));
            }
            out.size(set.floats.len());
            set.floats.iter().for_each(|value| out.u64(value.to_bits()));
            out.size(set.texts.len());
            set.texts.iter().for_each(|text| out.bytes(text.as_bytes()));
        }
        Test::Range(Range { ints, floats, times }) => {
            out.u8(1);
            let floats = floats.map(|FloatRange { low, high }| (low.to_bits(), high.to_bits()));
            let whole =
                |range: Option<(i64, i64)>| range.map(|(a, b)| (a.cast_unsigned(), b.cast_unsigned()));
            for range in [whole(*ints), floats, whole(*times)] {
                out.u8(u8::from(range.is_some()));
                if let Some((low, high)) = range {
                    out.u64(low);
                    out.u64(high);
                }
            }
        }
        Test::Null => out.u8(2),
        Test::Exists => out.u8(3),
        Test::Text(TextTest::Prefix(prefix)) => {
            out.u8(4);
            out.bytes(prefix.as_bytes());
        }
        Test::Text(TextTest::Like(pattern)) => {
            out.u8(5);
            out.bytes(pattern.source().as_bytes());
        }
        Test::Text(TextTest::Range(TextRange { low, high })) => {
            out.u8(6);
            for bound in [low, high] {
                match bound {
                    Bound::Unbounded => out.u8(0),
                    Bound::Included(text) => {
                        out.u8(1);
                        out.bytes(text.as_bytes());
                    }
                    Bound::Excluded(text) => {
                        out.u8(2);
                        out.bytes(text.as_bytes());
                    }
                }
            }
        }
    }
}

fn decode_test(input: &mut Decoder<'_>) -> Result<Test, Malformed> {
    Ok(match input.u8()? {
        0 => Test::Set(decode_set(input)?),
        1 => {
            let mut ranges = [None; 3];
            for range in &mut ranges {
                if input.u8()? != 0 {
                    *range = Some((input.u64()?, input.u64()?));
                }
            }
            let [ints, floats, times] = ranges;
            let whole = |range: Option<(u64, u64)>| range.map(|(a, b)| (a.cast_signed(), b.cast_signed()));
            let floats =
                floats.map(|(low, high)| FloatRange { low: f64::from_bits(low), high: f64::from_bits(high) });
            Test::Range(Range { ints: whole(ints), floats, times: whole(times) })
        }
        2 => Test::Null,
        3 => Test::Exists,
        4 => Test::Text(TextTest::Prefix(text(input)?.into())),
        5 => Test::Text(TextTest::Like(Pattern::new(text(input)?))),
        6 => {
            let mut bound = || {
                Ok(match input.u8()? {
                    0 => Bound::Unbounded,
                    1 => Bound::Included(text(input)?.into()),
                    2 => Bound::Excluded(text(input)?.into()),
                    _ => return Err(input.fault("a bound is of an unknown kind")),
                })
            };
            let (low, high) = (bound()?, bound()?);
            Test::Text(TextTest::Range(TextRange { low, high }))
        }
        7 => Test::Other(decode_set(input)?),
        _ => return Err(input.fault("a test is of an unknown kind")),
    })
}

/// Values in order: searches rely on it.
fn decode_set(input: &mut Decoder<'_>) -> Result<Set, Malformed> {
    let mut set = Set { null: input.u8()? != 0, ..Set::default() };
    for whole in [&mut set.bools, &mut set.ints, &mut set.times] {
        let count = input.count(size_of::<u64>())?;
        *whole = (0..count).map(|_| input.u64().map(u64::cast_signed)).collect::<Result<_, _>>()?;
    }
    let count = input.count(size_of::<u64>())?;
    set.floats = (0..count).map(|_| input.u64().map(f64::from_bits)).collect::<Result<_, _>>()?;
    let count = input.count(size_of::<u64>())?;
    set.texts = (0..count).map(|_| text(input).map(Box::from)).collect::<Result<_, _>>()?;
    let whole = [&set.bools, &set.ints, &set.times].into_iter().all(|values| values.is_sorted());
    let others = set.floats.is_sorted_by(|a, b| a.total_cmp(b).is_le()) && set.texts.is_sorted();
    input.check(whole && others, "the values of a set are out of order")?;
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_back_and_cut_ones_are_refused() {
        let all = Filter::all([
            Filter::is_in("a", [1.5, 2.0]),
            Filter::range("a.b", 3..=9) | Filter::lt("t", crate::payload::Timestamp(5)),
            !Filter::exists("x") | Filter::is_null("y"),
            Filter::prefix("p", "user/") | Filter::like("p", "*a*b") | Filter::range("p", "a".."c"),
            Filter::ids([3u64, 1, 2]) | Filter::ids(["x"]),
            Filter::is_in("e", [true]) | Filter::eq("e", "text") | Filter::contains_other("e", [1, 2]),
        ]);
        let mut out = Encoder::default();
        encode_filter(&all, &mut out);
        let bytes = out.into_bytes();
        let mut input = Decoder::new(&bytes);
        assert_eq!(decode_filter(&mut input), Ok(all));
        assert_eq!(input.end(), Ok(()));
        for end in 0..bytes.len() {
            assert!(decode_filter(&mut Decoder::new(&bytes[..end])).is_err());
        }
        // As deep as bytes allow, but no deeper than filters may be.
        assert!(decode_filter(&mut Decoder::new(&[3; 10_000])).is_err());
    }
}
