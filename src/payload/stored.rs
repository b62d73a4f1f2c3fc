//! Payloads as bytes.

use std::sync::Arc;

use super::document::Payload;
use super::edit::Edit;
use super::expiry::{EXPIRES, is_within_expires};
use super::value::{Timestamp, Value};
use crate::codec::{Decoder, Encoder, Malformed};

/// The least that a field takes: the length of its path and the kind of its value.
const FIELD_LEAST: usize = 9;

pub(crate) fn encode_payload(payload: &Payload, out: &mut Encoder) {
    out.size(payload.len());
    for (path, value) in payload.iter() {
        out.bytes(path.as_bytes());
        encode_value(value, out);
    }
}

/// A payload that is checked like that of a caller.
fn decode_payload(input: &mut Decoder<'_>) -> Result<Payload, Malformed> {
    let payload = decode_fields(input)?;
    input.check(payload.check().is_ok(), "a payload cannot be stored")?;
    Ok(payload)
}

/// The same of a payload that may have grown by merges.
pub(crate) fn decode_fields(input: &mut Decoder<'_>) -> Result<Payload, Malformed> {
    let count = input.count(FIELD_LEAST)?;
    let mut fields: Vec<(Arc<str>, Value)> = Vec::with_capacity(count);
    for _ in 0..count {
        let path = text(input)?;
        let fault = input.fault("the fields of a payload are out of order");
        if fields.last().is_some_and(|(before, _)| **before >= *path) {
            return Err(fault);
        }
        fields.push((path.into(), decode_value(input, true)?));
    }
    let mut payload = Payload::of_sorted(fields);
    if payload.get(EXPIRES).is_some() {
        // Once written beside it, and of no use.
        payload.retain(|path| !is_within_expires(path));
    }
    input.check(payload.check_fields().is_ok(), "a payload cannot be stored")?;
    Ok(payload)
}

pub(super) fn text<'a>(input: &mut Decoder<'a>) -> Result<&'a str, Malformed> {
    let fault = input.fault("a text is not UTF-8");
    std::str::from_utf8(input.bytes()?).map_err(|_| fault)
}

fn encode_value(value: &Value, out: &mut Encoder) {
    match value {
        Value::Null => out.u8(0),
        Value::Bool(truth) => out.u8(1 + u8::from(*truth)),
        Value::Int(number) => {
            out.u8(3);
            out.u64(number.cast_unsigned());
        }
        Value::Float(number) => {
            out.u8(4);
            out.u64(number.to_bits());
        }
        Value::Time(Timestamp(time)) => {
            out.u8(5);
            out.u64(time.cast_unsigned());
        }
        Value::Text(text) => {
            out.u8(6);
            out.bytes(text.as_bytes());
        }
        Value::List(members) => {
            out.u8(7);
            out.size(members.len());
            members.iter().for_each(|member| encode_value(member, out));
        }
    }
}

fn decode_value(input: &mut Decoder<'_>, may_be_list: bool) -> Result<Value, Malformed> {
    Ok(match input.u8()? {
        0 => Value::Null,
        1 => Value::Bool(false),
        2 => Value::Bool(true),
        3 => Value::Int(input.u64()?.cast_signed()),
        4 => Value::Float(f64::from_bits(input.u64()?)),
        5 => Value::Time(Timestamp(input.u64()?.cast_signed())),
        6 => Value::Text(text(input)?.into()),
        7 if may_be_list => {
            let count = input.count(1)?;
            Value::List((0..count).map(|_| decode_value(input, false)).collect::<Result<_, _>>()?)
        }
        _ => return Err(input.fault("a value is of an unknown kind")),
    })
}

pub(crate) fn encode_edit(edit: &Edit, out: &mut Encoder) {
    match edit {
        Edit::Set(payload) => {
            out.u8(0);
            encode_payload(payload, out);
        }
        Edit::Merge(payload) => {
            out.u8(1);
            encode_payload(payload, out);
        }
        Edit::Delete(paths) => {
            out.u8(2);
            out.size(paths.len());
            paths.iter().for_each(|path| out.bytes(path.as_bytes()));
        }
    }
}

pub(crate) fn decode_edit(input: &mut Decoder<'_>) -> Result<Edit, Malformed> {
    let edit = match input.u8()? {
        0 => Edit::Set(decode_payload(input)?),
        1 => Edit::Merge(decode_payload(input)?),
        2 => {
            let count = input.count(size_of::<u64>())?;
            Edit::Delete((0..count).map(|_| text(input).map(Arc::from)).collect::<Result<_, _>>()?)
        }
        _ => return Err(input.fault("a change of a payload is of an unknown kind")),
    };
    input.check(edit.check().is_ok(), "a change of a payload cannot be done")?;
    Ok(edit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_and_edits_are_read_back_and_cut_ones_are_refused() {
        let payload = Payload::new()
            .with("a", Value::Null)
            .with("b", [true, false])
            .with("c", i64::MIN)
            .with("d.e", -0.5)
            .with("d.f", Timestamp(-3))
            .with("g", vec!["x", ""]);
        let edits =
            [Edit::Set(payload.clone()), Edit::Merge(payload), Edit::Delete(vec!["a".into(), "b.c".into()])];
        for edit in edits {
            let mut out = Encoder::default();
            encode_edit(&edit, &mut out);
            let bytes = out.into_bytes();
            let mut input = Decoder::new(&bytes);
            assert_eq!(decode_edit(&mut input), Ok(edit));
            assert_eq!(input.end(), Ok(()));
            for end in 0..bytes.len() {
                assert!(decode_edit(&mut Decoder::new(&bytes[..end])).is_err());
            }
        }
    }

    // Earlier versions could write them.
    #[test]
    fn what_stands_within_the_field_of_an_expiry_goes_when_there_is_one() {
        let read = |payload: &Payload| {
            let mut out = Encoder::default();
            encode_payload(payload, &mut out);
            decode_fields(&mut Decoder::new(out.as_slice()))
        };
        let inner = Payload::new().with("$expires.at", "tomorrow").with("a", 1);
        assert_eq!(read(&inner), Ok(inner.clone()));
        assert!(inner.check().is_err() && inner.check_stored().is_ok());
        let expected = Payload::new().with("a", 1).with("$expires", Timestamp(5));
        assert_eq!(inner.clone().stored_expiring(Timestamp(5)), expected);
        assert_eq!(read(&inner.with("$expires", Timestamp(5))), Ok(expected));
    }

    #[test]
    fn payloads_that_no_caller_could_have_written_are_refused() {
        for payload in [Payload::new().with("a", f64::NAN), Payload::new().with("a..b", 1)] {
            let mut out = Encoder::default();
            encode_payload(&payload, &mut out);
            assert!(decode_payload(&mut Decoder::new(out.as_slice())).is_err());
        }
    }
}
