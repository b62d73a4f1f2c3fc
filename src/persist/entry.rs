//! Writes as bytes: the mutations that travel in the mailboxes.

use crate::codec::{Decoder, Encoder, Malformed};
use crate::id::{RecordId, Seq};
use crate::rows::{Condition, Mutation, NEVER, NewRow};
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

pub(crate) fn encode_id(id: &RecordId, out: &mut Encoder) {
    match id {
        RecordId::Num(number) => {
            out.u8(0);
            out.u64(*number);
        }
        RecordId::Text(text) => {
            out.u8(1);
            out.bytes(text.as_bytes());
        }
    }
}

pub(crate) fn decode_id(input: &mut Decoder<'_>) -> Result<RecordId, Malformed> {
    match input.u8()? {
        0 => Ok(RecordId::Num(input.u64()?)),
        1 => {
            let fault = input.fault("an id is not UTF-8");
            let text = std::str::from_utf8(input.bytes()?).map_err(|_| fault)?;
            Ok(RecordId::from(text))
        }
        _ => Err(input.fault("an id is of an unknown kind")),
    }
}

pub(crate) fn encode_mutation(mutation: &Mutation, out: &mut Encoder) {
    match mutation {
        Mutation::Upsert(new) => {
            if new.expires != NEVER {
                out.u8(WITH_FIELDS);
                out.u8(1);
                out.u8(EXPIRES);
                out.u64(new.expires);
            }
            out.u8(0);
            encode_id(&new.id, out);
            out.size(new.vector.len());
            out.floats(&new.vector);
        }
        Mutation::Delete(id) => {
            out.u8(1);
            encode_id(id, out);
        }
        Mutation::Touch { id, now, expires, gain } => {
            out.u8(TOUCH);
            encode_id(id, out);
            [now, expires, gain].into_iter().for_each(|time| out.u64(*time));
        }
        Mutation::Expire { now, most } => {
            out.u8(EXPIRE);
            out.u64(*now);
            out.u64(*most);
        }
        Mutation::Conditional(new, condition, now) => {
            out.u8(CONDITIONAL);
            out.u64(*now);
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

/// The kind of a mutation with a condition: the time and the condition follow,
/// and then the record as one that is put in without.
const CONDITIONAL: u8 = 16;

/// The kind of a record with further fields: their number follows, then each
/// with its tag, then the record as one without.
const WITH_FIELDS: u8 = 17;
const TOUCH: u8 = 18;
const EXPIRE: u8 = 19;

/// The tag of the time at which a record expires.
const EXPIRES: u8 = 1;

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
        mutations.push(match input.u8()? {
            CONDITIONAL => {
                let now = input.u64()?;
                let condition = decode_condition(input)?;
                let kind = input.u8()?;
                match decode_mutation(kind, input, space)? {
                    Mutation::Upsert(new) => Mutation::Conditional(new, condition, now),
                    _ => return Err(input.fault("a condition is for no record")),
                }
            }
            kind => decode_mutation(kind, input, space)?,
        });
    }
    Ok(mutations)
}

fn decode_mutation(kind: u8, input: &mut Decoder<'_>, space: &Space) -> Result<Mutation, Malformed> {
    match kind {
        0 => {
            let id = decode_id(input)?;
            let fault = input.fault("a vector cannot be used");
            let count = input.count(size_of::<f32>())?;
            let vector = input.floats(count)?.into_boxed_slice();
            let scale = space.check(&vector).map_err(|_| fault)?;
            Ok(Mutation::Upsert(NewRow { id, vector, scale, expires: NEVER }))
        }
        WITH_FIELDS => {
            let mut expires = NEVER;
            for _ in 0..input.u8()? {
                match input.u8()? {
                    EXPIRES => expires = input.u64()?,
                    _ => return Err(input.fault("a field is of an unknown kind")),
                }
            }
            let kind = input.u8()?;
            input.check(kind == 0, "fields are of no record")?;
            match decode_mutation(kind, input, space)? {
                Mutation::Upsert(new) => Ok(Mutation::Upsert(NewRow { expires, ..new })),
                other => Ok(other),
            }
        }
        TOUCH => {
            let id = decode_id(input)?;
            Ok(Mutation::Touch { id, now: input.u64()?, expires: input.u64()?, gain: input.u64()? })
        }
        EXPIRE => Ok(Mutation::Expire { now: input.u64()?, most: input.u64()? }),
        1 => Ok(Mutation::Delete(decode_id(input)?)),
        _ => Err(input.fault("a mutation is of an unknown kind")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metric;

    #[test]
    fn mutations_are_read_back_as_they_were_and_bad_ones_are_refused() {
        let mut out = Encoder::default();
        let new = |id: RecordId, x| NewRow { id, vector: Box::new([x, 4.0]), scale: 0.2, expires: NEVER };
        let all = [
            Mutation::Upsert(new(7.into(), 3.0)),
            Mutation::Delete("gone".into()),
            Mutation::Upsert(new("é".into(), -3.0)),
            Mutation::Conditional(new(8.into(), 1.0), Condition::Absent, 5),
            Mutation::Conditional(new(8.into(), 2.0), Condition::Present, 6),
            Mutation::Conditional(new(9.into(), 2.0), Condition::Version(Seq(77)), 7),
            Mutation::Conditional(
                NewRow { expires: 9, ..new("near".into(), 2.0) },
                Condition::NotNear(0.5),
                8,
            ),
            Mutation::Upsert(NewRow { expires: 1 << 40, ..new(3.into(), 2.0) }),
            Mutation::Touch { id: 3.into(), now: 1, expires: 2, gain: 3 },
            Mutation::Expire { now: 1, most: 2 },
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
