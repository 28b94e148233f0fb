//! The form of an entity on disk: Protocol Buffers, written by hand because it is read and written so often.
//! Names and values are put in place instead of being allocated one by one, and stamps are written once, however many
//! claims refer to them.
//!
//! ```text
//! Entity     1 kind  2 key  3 version  4 position  5 created_at_us  6 updated_at_us  7 systems*  8 fields*
//!            9 recents*  10 pruned  11 published  12 incomplete  13 merged_into  14 further stamps*  15 last_event
//! FieldState 1 name  2 winner  3 rule  4 claims*  5 nobody  6 since  7 joined  8 past*
//! Claim      1 system  6 json  8 run  11 echo  and, as numbers from 1 among the recent and then the further stamps,
//!            12 start  13 last  14 bound.  Read, and no longer written: a start in parts (2 sequence,
//!            3 occurred_at_us, 4 tie (fixed64), 5 position, 7 index), 9 last and 10 bound as stamps
//! Stamp      sequence, occurred_at_us, index, position as varints, tie as eight bytes; a recent one with its system
//!            before it
//! ```

use bytes::{Buf, Bytes};
use compact_str::CompactString;
use prost::DecodeError;
use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint, skip_field,
};

use super::{Claim, Entity, FieldState, NOBODY, Past, Recent, Stamp, Stamps};
#[cfg(test)]
use super::{More, StampId};
use crate::json::Json;
use crate::record::broken;

const VARINT: WireType = WireType::Varint;
const TEXT: WireType = WireType::LengthDelimited;
const FIXED: WireType = WireType::SixtyFourBit;

impl Entity {
    /// Reads it.
    ///
    /// # Errors
    /// Where the bytes are no entity.
    pub fn decode(bytes: impl AsRef<[u8]>) -> Result<Self, DecodeError> {
        let mut bytes = bytes.as_ref();
        let mut entity = Self::default();
        // About as many as there are.
        entity.fields.reserve(bytes.len() / 64 + 1);
        while bytes.has_remaining() {
            let (tag, wire) = decode_key(&mut bytes)?;
            match (tag, wire) {
                (1, TEXT) => entity.kind = text(&mut bytes)?,
                (2, TEXT) => entity.key = text(&mut bytes)?,
                (3, VARINT) => entity.version = decode_varint(&mut bytes)?,
                (4, VARINT) => entity.position = decode_varint(&mut bytes)?,
                (5, VARINT) => entity.created_at_us = decode_varint(&mut bytes)? as i64,
                (6, VARINT) => entity.updated_at_us = decode_varint(&mut bytes)? as i64,
                (7, TEXT) => entity.systems.push(text(&mut bytes)?),
                (8, TEXT) => entity.fields.push(FieldState::decode(part(&mut bytes)?, &mut entity.stamps)?),
                (9, TEXT) => {
                    let mut part = part(&mut bytes)?;
                    let system = decode_varint(&mut part)? as u32;
                    let stamp = Stamp::decode(&mut part)?;
                    entity.stamps.recents.push(Recent { system, stamp });
                }
                (10, VARINT) => entity.pruned = decode_varint(&mut bytes)?,
                (11, VARINT) => entity.published = decode_varint(&mut bytes)? != 0,
                (12, VARINT) => entity.incomplete = decode_varint(&mut bytes)? != 0,
                (13, TEXT) => entity.merged_into = text(&mut bytes)?,
                (14, TEXT) => entity.stamps.others.push(Stamp::decode(&mut part(&mut bytes)?)?),
                (15, VARINT) => entity.last_event = decode_varint(&mut bytes)?,
                _ => skip_field(wire, tag, &mut bytes, DecodeContext::default())?,
            }
        }
        entity.fields.shrink_to_fit();
        Ok(entity)
    }

    /// Writes it.
    pub fn encode(&self) -> Bytes {
        // About right; the exact length would cost as much as a second writing.
        let claims: usize = self.fields.iter().flat_map(|f| &f.claims).map(|c| c.json.len() + 16).sum();
        let mut out = Vec::with_capacity(160 + self.fields.len() * 24 + claims + self.stamps.recents.len() * 40);
        put_text(&mut out, 1, self.kind.as_bytes());
        put_text(&mut out, 2, self.key.as_bytes());
        put_varint(&mut out, 3, self.version);
        put_varint(&mut out, 4, self.position);
        put_varint(&mut out, 5, self.created_at_us as u64);
        put_varint(&mut out, 6, self.updated_at_us as u64);
        for system in &self.systems {
            put_text(&mut out, 7, system.as_bytes());
        }
        // Before the fields, whose claims refer to them.
        for Recent { system, stamp } in &self.stamps.recents {
            let system = u64::from(*system);
            encode_key(9, TEXT, &mut out);
            encode_varint((encoded_len_varint(system) + stamp.encoded_len()) as u64, &mut out);
            encode_varint(system, &mut out);
            stamp.encode(&mut out);
        }
        for stamp in &self.stamps.others {
            encode_key(14, TEXT, &mut out);
            encode_varint(stamp.encoded_len() as u64, &mut out);
            stamp.encode(&mut out);
        }
        let mut scratch = (Vec::with_capacity(256), Vec::with_capacity(256));
        for field in &self.fields {
            field.encode(&self.stamps, &mut scratch);
            put_text(&mut out, 8, &scratch.0);
        }
        put_varint(&mut out, 10, self.pruned);
        put_varint(&mut out, 11, u64::from(self.published));
        put_varint(&mut out, 12, u64::from(self.incomplete));
        if !self.merged_into.is_empty() {
            put_text(&mut out, 13, self.merged_into.as_bytes());
        }
        put_varint(&mut out, 15, self.last_event);
        out.into()
    }
}

impl FieldState {
    fn decode(mut bytes: &[u8], stamps: &mut Stamps) -> Result<Self, DecodeError> {
        let mut field = Self::default();
        while bytes.has_remaining() {
            let (tag, wire) = decode_key(&mut bytes)?;
            match (tag, wire) {
                (1, TEXT) => field.name = text(&mut bytes)?,
                (2, VARINT) => field.winner = decode_varint(&mut bytes)? as u32,
                (3, VARINT) => field.rule = decode_varint(&mut bytes)? as i32,
                (4, TEXT) => field.claims.push(Claim::decode(part(&mut bytes)?, stamps)?),
                (5, VARINT) if decode_varint(&mut bytes)? != 0 => field.winner = NOBODY,
                (6, VARINT) => field.since = decode_varint(&mut bytes)?,
                (7, TEXT) => field.more().joined = Some(json(&mut bytes)?),
                (8, TEXT) => {
                    let mut part = part(&mut bytes)?;
                    let hash = part.try_get_u64_le().map_err(|_| broken())?;
                    field.more().past.push(Past { hash, since: decode_varint(&mut part)? });
                }
                _ => skip_field(wire, tag, &mut bytes, DecodeContext::default())?,
            }
        }
        field.agree();
        Ok(field)
    }

    /// Writes it into the first of two buffers, with the help of the second.
    fn encode(&self, stamps: &Stamps, (out, scratch): &mut (Vec<u8>, Vec<u8>)) {
        out.clear();
        put_text(out, 1, self.name.as_bytes());
        let (winner, nobody) = if self.winner == NOBODY { (0, 1) } else { (u64::from(self.winner), 0) };
        put_varint(out, 2, winner);
        put_varint(out, 3, self.rule as u64);
        for claim in &self.claims {
            scratch.clear();
            claim.encode(stamps, scratch);
            put_text(out, 4, scratch);
        }
        put_varint(out, 5, nobody);
        put_varint(out, 6, self.since);
        if let Some(joined) = self.joined() {
            put_text(out, 7, joined);
        }
        for past in self.past() {
            encode_key(8, TEXT, out);
            encode_varint(8 + encoded_len_varint(past.since) as u64, out);
            out.extend_from_slice(&past.hash.to_le_bytes());
            encode_varint(past.since, out);
        }
    }
}

impl Claim {
    fn decode(mut bytes: &[u8], stamps: &mut Stamps) -> Result<Self, DecodeError> {
        let mut claim = Self::default();
        let (mut inline, mut start) = (Stamp::default(), None);
        let known = |bytes: &mut &[u8], stamps: &Stamps| stamps.read(decode_varint(bytes)?).ok_or_else(broken);
        while bytes.has_remaining() {
            let (tag, wire) = decode_key(&mut bytes)?;
            match (tag, wire) {
                (1, VARINT) => claim.system = decode_varint(&mut bytes)? as u32,
                (2, VARINT) => inline.sequence = decode_varint(&mut bytes)?,
                (3, VARINT) => inline.occurred_at_us = decode_varint(&mut bytes)? as i64,
                (4, FIXED) => inline.tie = bytes.try_get_u64_le().map_err(|_| broken())?,
                (5, VARINT) => inline.position = decode_varint(&mut bytes)?,
                (6, TEXT) => claim.json = json(&mut bytes)?,
                (7, VARINT) => inline.index = decode_varint(&mut bytes)? as u32,
                (8, VARINT) => claim.run = decode_varint(&mut bytes)?,
                (9, TEXT) => claim.last = Some(stamps.keep(Stamp::decode(&mut part(&mut bytes)?)?)),
                (10, TEXT) => claim.bound = Some(stamps.keep(Stamp::decode(&mut part(&mut bytes)?)?)),
                (11, VARINT) => claim.echo = decode_varint(&mut bytes)? != 0,
                (12, VARINT) => start = Some(known(&mut bytes, stamps)?),
                (13, VARINT) => claim.last = Some(known(&mut bytes, stamps)?),
                (14, VARINT) => claim.bound = Some(known(&mut bytes, stamps)?),
                _ => skip_field(wire, tag, &mut bytes, DecodeContext::default())?,
            }
        }
        claim.start = start.unwrap_or_else(|| stamps.keep(inline));
        Ok(claim)
    }

    fn encode(&self, stamps: &Stamps, out: &mut Vec<u8>) {
        put_varint(out, 1, u64::from(self.system));
        put_text(out, 6, &self.json);
        put_varint(out, 8, self.run);
        put_varint(out, 11, u64::from(self.echo));
        for (tag, id) in (12..).zip([Some(self.start), self.last, self.bound]) {
            put_varint(out, tag, id.map_or(0, |id| stamps.written(id)));
        }
    }
}

impl Stamp {
    fn decode(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        Ok(Self {
            sequence: decode_varint(bytes)?,
            occurred_at_us: decode_varint(bytes)? as i64,
            index: decode_varint(bytes)? as u32,
            position: decode_varint(bytes)?,
            tie: bytes.try_get_u64_le().map_err(|_| broken())?,
        })
    }

    fn numbers(&self) -> [u64; 4] {
        [self.sequence, self.occurred_at_us as u64, u64::from(self.index), self.position]
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.numbers().into_iter().for_each(|number| encode_varint(number, out));
        out.extend_from_slice(&self.tie.to_le_bytes());
    }

    fn encoded_len(&self) -> usize {
        self.numbers().into_iter().map(encoded_len_varint).sum::<usize>() + 8
    }
}

fn part<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let length = decode_varint(bytes)?;
    let (part, rest) = usize::try_from(length).ok().and_then(|at| bytes.split_at_checked(at)).ok_or_else(broken)?;
    *bytes = rest;
    Ok(part)
}

fn text(bytes: &mut &[u8]) -> Result<CompactString, DecodeError> {
    CompactString::from_utf8(part(bytes)?).map_err(|_| broken())
}

fn json(bytes: &mut &[u8]) -> Result<Json, DecodeError> {
    Json::try_from(part(bytes)?).map_err(|_| broken())
}

fn put_varint(out: &mut Vec<u8>, tag: u32, number: u64) {
    // As in proto3: a zero is not written.
    if number != 0 {
        encode_key(tag, VARINT, out);
        encode_varint(number, out);
    }
}

fn put_text(out: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    encode_key(tag, TEXT, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smallvec::SmallVec;

    /// As many as the entity below has.
    fn stamps() -> Stamps {
        Stamps { recents: vec![Recent::default(); 2], others: SmallVec::from_elem(Stamp::default(), 2) }
    }

    fn stamp() -> impl Strategy<Value = Stamp> {
        (any::<u64>(), any::<i64>(), any::<u64>(), any::<u32>(), any::<u64>()).prop_map(
            |(sequence, occurred_at_us, tie, index, position)| Stamp { sequence, occurred_at_us, tie, index, position },
        )
    }

    fn value() -> impl Strategy<Value = Json> {
        ".{0,40}".prop_map(|text| Json::new(&text))
    }

    fn claim() -> impl Strategy<Value = Claim> {
        // Those of the entity below: two recent ones and two others.
        let stamp = || (1..=4_u64).prop_map(|number| stamps().read(number).unwrap());
        let perhaps = || proptest::option::of(stamp());
        (any::<u32>(), stamp(), perhaps(), perhaps(), any::<u64>(), any::<bool>(), value()).prop_map(
            |(system, start, last, bound, run, echo, json)| Claim {
                system,
                start,
                last,
                bound,
                run,
                echo,
                agrees: false,
                json,
            },
        )
    }

    fn field() -> impl Strategy<Value = FieldState> {
        let past = (any::<u64>(), any::<u64>()).prop_map(|(hash, since)| Past { hash, since });
        let claims = proptest::collection::vec(claim(), 0..4);
        let more = (any::<u64>(), proptest::option::of(value()), proptest::collection::vec(past, 0..4));
        (".{0,40}", any::<u32>(), any::<i32>(), claims, more).prop_map(
            |(name, winner, rule, claims, (since, joined, past))| {
                let mut field = FieldState {
                    name: name.into(),
                    winner,
                    rule,
                    since,
                    more: (joined.is_some() || !past.is_empty()).then(|| Box::new(More { joined, past })),
                    claims: claims.into(),
                };
                field.agree();
                field
            },
        )
    }

    fn recent() -> impl Strategy<Value = Recent> {
        (any::<u32>(), stamp()).prop_map(|(system, stamp)| Recent { system, stamp })
    }

    /// As entities were written before stamps had numbers.
    #[test]
    fn stamps_within_claims_are_read() {
        let at = |position| Stamp { occurred_at_us: 7, tie: 9, position, ..Stamp::default() };
        let mut claim = Vec::new();
        put_varint(&mut claim, 3, 7);
        encode_key(4, FIXED, &mut claim);
        claim.extend_from_slice(&9_u64.to_le_bytes());
        put_varint(&mut claim, 5, 3);
        put_text(&mut claim, 6, b"\"x\"");
        for (tag, stamp) in [(9, at(5)), (10, at(2))] {
            let mut bytes = Vec::new();
            stamp.encode(&mut bytes);
            put_text(&mut claim, tag, &bytes);
        }
        let mut field = Vec::new();
        put_text(&mut field, 1, b"title");
        put_text(&mut field, 4, &claim);
        let mut entity = Vec::new();
        put_text(&mut entity, 8, &field);

        let entity = Entity::decode(&entity).unwrap();
        let claim = entity.field("title").unwrap().winning().unwrap();
        let stamp = |id: StampId| entity.stamps[id];
        assert_eq!((&claim.json[..], stamp(claim.start)), (&b"\"x\""[..], at(3)));
        assert_eq!((claim.last.map(stamp), claim.bound.map(stamp)), (Some(at(5)), Some(at(2))));
        assert_eq!(Entity::decode(entity.encode()).unwrap(), entity);
    }

    /// Observations come and go; what claims refer to stays, and nothing else.
    #[test]
    fn stamps_are_kept_as_long_as_claims_refer_to_them() {
        let mut entity = Entity::default();
        let at = |position| Stamp { occurred_at_us: position as i64, position, ..Stamp::default() };
        let slot = entity.observe(0, &at(1)).unwrap();
        for name in ["a", "b"] {
            let claim = Claim { start: StampId::recent(slot), run: 1, ..Claim::default() };
            let claims = [claim].into_iter().collect();
            entity.fields.push(FieldState { name: name.into(), claims, ..FieldState::default() });
        }
        for position in 2..500 {
            let slot = entity.observe(0, &at(position)).unwrap();
            let claim = &mut entity.fields[1].claims[0];
            (claim.bound, claim.start, claim.run) = (Some(claim.start), StampId::recent(slot), 1 << slot);
        }
        assert_eq!(entity.stamps[entity.fields[0].claims[0].start], at(1));
        let b = &entity.fields[1].claims[0];
        assert_eq!((entity.stamps[b.start], entity.stamps[b.bound.unwrap()]), (at(499), at(498)));
        assert_eq!(entity.stamps.recents.len(), crate::entity::RECENT_MAX);
        assert!(entity.stamps.others.len() <= 8, "{:?}", entity.stamps.others);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            kind in "[a-z]{1,8}", key in ".{1,40}", numbers: (u64, u64, i64, i64, u64), flags: (bool, bool),
            last_event: u64,
            merged_into in ".{0,9}",
            recents in proptest::collection::vec(recent(), 2), others in proptest::collection::vec(stamp(), 2),
            systems in proptest::collection::vec(".{0,30}", 0..4), fields in proptest::collection::vec(field(), 0..6),
        ) {
            let (version, position, created_at_us, updated_at_us, pruned) = numbers;
            let (published, incomplete) = flags;
            let entity = Entity {
                kind: kind.into(),
                key: key.into(),
                version,
                position,
                created_at_us,
                updated_at_us,
                systems: systems.into_iter().map(CompactString::from).collect(),
                fields,
                stamps: Stamps { recents, others: others.into() },
                pruned,
                published,
                last_event,
                incomplete,
                merged_into: merged_into.into(),
            };
            let bytes = entity.encode();
            prop_assert_eq!(Entity::decode(bytes.clone()).unwrap(), entity);
            // Cut anywhere it is an error or another entity, never a panic.
            for end in 0..bytes.len() {
                let _ = Entity::decode(bytes.slice(..end));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Entity::decode(bytes);
        }
    }
}
