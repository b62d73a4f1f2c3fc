//! Writes as bytes: the mutations that travel in the mailboxes.

use crate::codec::{Decoder, Encoder, Malformed, decode_id, encode_id};
use crate::id::Seq;
use crate::memory;
use crate::payload::{
    BEFORE_ALL, Payload, PayloadUpdate, Timestamp, decode_edit, decode_fields, decode_filter, encode_edit,
    encode_filter, encode_payload,
};
use crate::rows::{Condition, Mutation, NewExpiry, NewRow, Reindex};
use crate::vector::Space;

/// What a write asks of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Apply the mutations.
    Mutations,
    /// Absorb the whole tail and put the index in order.
    Optimize,
}

/// Which write a frame of a log belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryHead {
    pub(crate) collection: u64,
    pub(crate) seq: Seq,
    /// Shards that have a part of the write: it counts if all parts are there.
    pub(crate) parts: u32,
    pub(crate) asked: Asked,
    /// The number of the frame among those of its part.
    pub(crate) position: u32,
    /// More frames with mutations of this part follow.
    pub(crate) continues: bool,
}

impl EntryHead {
    /// The first frame of a part.
    pub(crate) fn new(collection: u64, seq: Seq, parts: u32, asked: Asked) -> EntryHead {
        EntryHead { collection, seq, parts, asked, position: 0, continues: false }
    }

    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.u64(self.collection);
        out.u64(self.seq.0);
        out.u32(self.parts);
        out.u32(self.position);
        out.u8(u8::from(self.asked == Asked::Optimize));
        out.u8(u8::from(self.continues));
    }

    pub(crate) fn decode(input: &mut Decoder<'_>) -> Result<EntryHead, Malformed> {
        let (collection, seq, parts) = (input.u64()?, Seq(input.u64()?), input.u32()?);
        let (position, asked, continues) = (input.u32()?, input.u8()?, input.u8()?);
        input.check(asked <= 1 && continues <= 1 && parts > 0, "an entry has an unknown form")?;
        let asked = if asked == 1 { Asked::Optimize } else { Asked::Mutations };
        Ok(EntryHead { collection, seq, parts, asked, position, continues: continues == 1 })
    }
}

pub(crate) fn encode_mutation(mutation: &Mutation, out: &mut Encoder) {
    match mutation {
        Mutation::Upsert(new) => {
            let has_payload = !new.payload.is_empty();
            out.u8(if has_payload { 2 } else { 0 });
            encode_id(&new.id, out);
            out.size(new.vector.len());
            out.floats(&new.vector);
            if has_payload {
                encode_payload(&new.payload, out);
            }
        }
        Mutation::Delete(id) => {
            out.u8(1);
            encode_id(id, out);
        }
        Mutation::Payload(update) => {
            out.u8(3);
            encode_id(&update.id, out);
            encode_edit(&update.edit, out);
        }
        Mutation::DeleteWhere(filter) => {
            out.u8(4);
            encode_filter(filter, out);
        }
        Mutation::Reindex(step) => {
            out.u8(7);
            encode_step(step, out);
        }
        Mutation::Adopt(codes) => {
            out.u8(8);
            out.bytes(codes);
        }
        Mutation::Expiry(change) => {
            out.u8(5);
            encode_id(&change.id, out);
            encode_time(change.now, out);
            encode_time(change.expires, out);
            out.u8(u8::from(change.gain.is_some()));
            out.u64(change.gain.unwrap_or(0).cast_unsigned());
        }
        Mutation::Sweep { now, most } => {
            out.u8(6);
            encode_time(*now, out);
            out.u64(*most);
        }
        Mutation::Conditional(new, condition, now) => {
            out.u8(CONDITIONAL_AT);
            encode_time(*now, out);
            match condition {
                Condition::Absent => out.u8(0),
                Condition::Present => out.u8(1),
                Condition::Version(version) => {
                    out.u8(2);
                    out.u64(version.0);
                }
                Condition::NotNear(distance) => {
                    out.u8(3);
                    out.f32(*distance);
                }
            }
            encode_mutation(&Mutation::Upsert(new.clone()), out);
        }
    }
}

fn encode_step(step: &Reindex, out: &mut Encoder) {
    let (kind, spec): (u8, &[u8]) = match step {
        Reindex::GiveUp => (0, &[]),
        Reindex::Carry(spec) => (1, spec),
        Reindex::Finish(spec) => (2, spec),
    };
    out.u8(kind);
    out.bytes(spec);
}

fn encode_time(time: Timestamp, out: &mut Encoder) {
    out.u64(time.0.cast_unsigned());
}

fn decode_time(input: &mut Decoder<'_>) -> Result<Timestamp, Malformed> {
    Ok(Timestamp(input.u64()?.cast_signed()))
}

/// The kind of a mutation with a condition: the condition follows, and then the
/// record as one that is put in without.
const CONDITIONAL: u8 = 16;

/// The same, the time before the condition.
const CONDITIONAL_AT: u8 = 17;

fn decode_condition(input: &mut Decoder<'_>) -> Result<Condition, Malformed> {
    match input.u8()? {
        0 => Ok(Condition::Absent),
        1 => Ok(Condition::Present),
        2 => Ok(Condition::Version(Seq(input.u64()?))),
        3 => Ok(Condition::NotNear(input.f32()?)),
        _ => Err(input.fault("a condition is of an unknown kind")),
    }
}

/// The mutations of a frame, checked like those of a caller.
pub(crate) fn decode_mutations(input: &mut Decoder<'_>, space: &Space) -> Result<Vec<Mutation>, Malformed> {
    let mut mutations = Vec::new();
    while input.rest() > 0 {
        let mutation = match input.u8()? {
            kind @ (CONDITIONAL | CONDITIONAL_AT) => {
                let now = if kind == CONDITIONAL { BEFORE_ALL } else { decode_time(input)? };
                let condition = decode_condition(input)?;
                let kind = input.u8()?;
                match decode_mutation(kind, input, space)? {
                    Mutation::Upsert(new) => Mutation::Conditional(new, condition, now),
                    _ => return Err(input.fault("a condition is for no record")),
                }
            }
            kind => decode_mutation(kind, input, space)?,
        };
        memory::push(&mut mutations, mutation);
    }
    Ok(mutations)
}

fn decode_mutation(kind: u8, input: &mut Decoder<'_>, space: &Space) -> Result<Mutation, Malformed> {
    Ok(match kind {
        0 | 2 => {
            let id = decode_id(input)?;
            let fault = input.fault("a vector cannot be used");
            let count = input.count(size_of::<f32>())?;
            let vector = input.floats(count)?.into_boxed_slice();
            let scale = space.check(&vector).map_err(|_| fault)?;
            let payload = if kind == 2 { decode_fields(input)? } else { Payload::new() };
            Mutation::Upsert(NewRow { id, vector, scale, payload })
        }
        1 => Mutation::Delete(decode_id(input)?),
        3 => Mutation::Payload(PayloadUpdate { id: decode_id(input)?, edit: decode_edit(input)? }),
        4 => Mutation::DeleteWhere(decode_filter(input)?),
        5 => {
            let (id, now, expires) = (decode_id(input)?, decode_time(input)?, decode_time(input)?);
            let (has_gain, gain) = (input.u8()?, input.u64()?.cast_signed());
            let gain = (has_gain == 1).then_some(gain);
            Mutation::Expiry(NewExpiry { id, now, expires, gain })
        }
        6 => Mutation::Sweep { now: decode_time(input)?, most: input.u64()? },
        7 => Mutation::Reindex(match (input.u8()?, input.bytes()?) {
            (0, []) => Reindex::GiveUp,
            (1, spec) => Reindex::Carry(spec.into()),
            (2, spec) => Reindex::Finish(spec.into()),
            _ => return Err(input.fault("a step to another index is of an unknown kind")),
        }),
        8 => Mutation::Adopt(memory::shared(memory::copied(input.bytes()?))),
        _ => return Err(input.fault("a mutation is of an unknown kind")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RecordId;
    use crate::metric::Metric;
    use crate::payload::Filter;

    #[test]
    fn mutations_are_read_back_as_they_were_and_bad_ones_are_refused() {
        let mut out = Encoder::default();
        let payload = Payload::new().with("a.b", 7).with("c", "text");
        let new = |id: RecordId, x| NewRow {
            id,
            vector: Box::new([x, 4.0]),
            scale: 0.2,
            payload: if x > 0.0 { Payload::new() } else { payload.clone() },
        };
        let all = [
            Mutation::Upsert(new(7.into(), 3.0)),
            Mutation::Delete("gone".into()),
            Mutation::Upsert(new("é".into(), -3.0)),
            Mutation::Conditional(new(8.into(), -3.0), Condition::Absent, Timestamp(-5)),
            Mutation::Conditional(new(8.into(), 3.0), Condition::Present, BEFORE_ALL),
            Mutation::Conditional(new(9.into(), 3.0), Condition::Version(Seq(77)), Timestamp(9)),
            Mutation::Conditional(new("near".into(), 3.0), Condition::NotNear(0.5), Timestamp(9)),
            Mutation::Expiry(NewExpiry {
                id: "a".into(),
                now: Timestamp(1),
                expires: Timestamp(7),
                gain: Some(3),
            }),
            Mutation::Expiry(NewExpiry {
                id: 4.into(),
                now: Timestamp(1),
                expires: Timestamp(7),
                gain: None,
            }),
            Mutation::Sweep { now: Timestamp(i64::MAX), most: 256 },
            Mutation::Payload(PayloadUpdate::delete(9, ["a.b"])),
            Mutation::DeleteWhere(Filter::like("a", "x*y")),
            Mutation::Reindex(Reindex::Carry([7, 8].into())),
            Mutation::Reindex(Reindex::Finish([9].into())),
            Mutation::Reindex(Reindex::GiveUp),
            Mutation::Adopt([5, 6, 7].into()),
        ];
        all.iter().for_each(|mutation| encode_mutation(mutation, &mut out));
        let bytes = out.into_bytes();
        let space = Space::new(Metric::Cosine, 2);
        let read = decode_mutations(&mut Decoder::new(&bytes), &space).unwrap();
        assert_eq!(format!("{read:?}"), format!("{all:?}"));
        let other = Space::new(Metric::Cosine, 3);
        assert!(decode_mutations(&mut Decoder::new(&bytes), &other).is_err());
        for end in 1..bytes.len() {
            let cut = decode_mutations(&mut Decoder::new(&bytes[..end]), &space);
            assert!(cut.is_err() || cut.is_ok_and(|some| some.len() < all.len()));
        }
    }
}
