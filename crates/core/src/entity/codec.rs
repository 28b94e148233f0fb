//! The form of an entity on disk: Protocol Buffers, written by hand because every change reads and writes one.
//! Names and claims stay in place instead of being allocated one by one, values are slices of what was read.
//!
//! ```text
//! Entity     1 kind  2 key  3 version  4 position  5 created_at_us  6 updated_at_us  7 systems*  8 fields*
//!            9 recents*  10 pruned  11 published  12 incomplete  13 merged_into
//! FieldState 1 name  2 winner  3 rule  4 claims*  5 nobody  6 since  7 joined  8 past*
//! Claim      1 system  2 sequence  3 occurred_at_us  4 tie (fixed64)  5 position  6 json  7 index
//!            8 run  9 last  10 bound  11 echo  12 the number of the recent one that is the start, from 1, in the
//!            place of 2 to 5 and 7
//! Stamp      sequence, occurred_at_us, index, position as varints, tie as eight bytes; a recent one with its system
//!            before it
//! ```

use bytes::{Buf, Bytes};
use compact_str::CompactString;
use prost::DecodeError;
use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint, skip_field,
};

use super::{Claim, Entity, FieldState, NOBODY, Past, Recent, Stamp};

const VARINT: WireType = WireType::Varint;
const TEXT: WireType = WireType::LengthDelimited;
const FIXED: WireType = WireType::SixtyFourBit;

impl Entity {
    /// Reads it.
    ///
    /// # Errors
    /// Where the bytes are no entity.
    pub fn decode(mut bytes: Bytes) -> Result<Self, DecodeError> {
        let mut entity = Self::default();
        // Nearly every entity of a kind has about as many fields as bytes by this.
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
                (8, TEXT) => entity.fields.push(FieldState::decode(part(&mut bytes)?, &entity.recents)?),
                (9, TEXT) => {
                    let mut part = part(&mut bytes)?;
                    let system = decode_varint(&mut part)? as u32;
                    entity.recents.push(Recent { system, stamp: Stamp::decode(&mut part)? });
                }
                (10, VARINT) => entity.pruned = decode_varint(&mut bytes)?,
                (11, VARINT) => entity.published = decode_varint(&mut bytes)? != 0,
                (12, VARINT) => entity.incomplete = decode_varint(&mut bytes)? != 0,
                (13, TEXT) => entity.merged_into = text(&mut bytes)?,
                _ => skip_field(wire, tag, &mut bytes, DecodeContext::default())?,
            }
        }
        Ok(entity)
    }

    /// Writes it.
    pub fn encode(&self) -> Bytes {
        // About right; the exact length would cost as much as a second writing.
        let claims: usize = self.fields.iter().flat_map(|f| &f.claims).map(|c| c.json.len() + 24).sum();
        let mut out = Vec::with_capacity(160 + self.fields.len() * 24 + claims + self.recents.len() * 40);
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
        for recent in &self.recents {
            let system = u64::from(recent.system);
            encode_key(9, TEXT, &mut out);
            encode_varint((encoded_len_varint(system) + recent.stamp.encoded_len()) as u64, &mut out);
            encode_varint(system, &mut out);
            recent.stamp.encode(&mut out);
        }
        for field in &self.fields {
            encode_key(8, TEXT, &mut out);
            encode_varint(field.encoded_len(&self.recents) as u64, &mut out);
            field.encode(&self.recents, &mut out);
        }
        put_varint(&mut out, 10, self.pruned);
        put_varint(&mut out, 11, u64::from(self.published));
        put_varint(&mut out, 12, u64::from(self.incomplete));
        if !self.merged_into.is_empty() {
            put_text(&mut out, 13, self.merged_into.as_bytes());
        }
        out.into()
    }
}

impl FieldState {
    fn decode(mut bytes: Bytes, recents: &[Recent]) -> Result<Self, DecodeError> {
        let mut field = Self::default();
        while bytes.has_remaining() {
            let (tag, wire) = decode_key(&mut bytes)?;
            match (tag, wire) {
                (1, TEXT) => field.name = text(&mut bytes)?,
                (2, VARINT) => field.winner = decode_varint(&mut bytes)? as u32,
                (3, VARINT) => field.rule = decode_varint(&mut bytes)? as i32,
                (4, TEXT) => field.claims.push(Claim::decode(part(&mut bytes)?, recents)?),
                (5, VARINT) if decode_varint(&mut bytes)? != 0 => field.winner = NOBODY,
                (6, VARINT) => field.since = decode_varint(&mut bytes)?,
                (7, TEXT) => field.joined = Some(part(&mut bytes)?),
                (8, TEXT) => {
                    let mut part = part(&mut bytes)?;
                    let hash = part.try_get_u64_le().map_err(|_| cut())?;
                    field.past.push(Past { hash, since: decode_varint(&mut part)? });
                }
                _ => skip_field(wire, tag, &mut bytes, DecodeContext::default())?,
            }
        }
        Ok(field)
    }

    fn encode(&self, recents: &[Recent], out: &mut Vec<u8>) {
        put_text(out, 1, self.name.as_bytes());
        let (winner, nobody) = self.winner_and_nobody();
        put_varint(out, 2, winner);
        put_varint(out, 3, self.rule as u64);
        for claim in &self.claims {
            encode_key(4, TEXT, out);
            let start = claim.start_slot(recents);
            encode_varint(claim.encoded_len(start) as u64, out);
            claim.encode(start, out);
        }
        put_varint(out, 5, nobody);
        put_varint(out, 6, self.since);
        if let Some(joined) = &self.joined {
            put_text(out, 7, joined);
        }
        for past in &self.past {
            encode_key(8, TEXT, out);
            encode_varint(8 + encoded_len_varint(past.since) as u64, out);
            out.extend_from_slice(&past.hash.to_le_bytes());
            encode_varint(past.since, out);
        }
    }

    fn winner_and_nobody(&self) -> (u64, u64) {
        if self.winner == NOBODY { (0, 1) } else { (u64::from(self.winner), 0) }
    }

    fn encoded_len(&self, recents: &[Recent]) -> usize {
        let (winner, nobody) = self.winner_and_nobody();
        let claims: usize = self.claims.iter().map(|c| text_len(c.encoded_len(c.start_slot(recents)))).sum();
        let past: usize = self.past.iter().map(|p| text_len(8 + encoded_len_varint(p.since))).sum();
        text_len(self.name.len())
            + varint_len(winner)
            + varint_len(self.rule as u64)
            + claims
            + varint_len(nobody)
            + varint_len(self.since)
            + self.joined.as_ref().map_or(0, |joined| text_len(joined.len()))
            + past
    }
}

impl Claim {
    /// The number, from 1, of the recent one that is the start of the run; 0 where it is not among them.
    fn start_slot(&self, recents: &[Recent]) -> u64 {
        let mut run = self.run;
        while run != 0 {
            let slot = run.trailing_zeros() as usize;
            if recents.get(slot).is_some_and(|recent| recent.stamp == self.start) {
                return slot as u64 + 1;
            }
            run &= run - 1;
        }
        0
    }

    fn decode(mut bytes: Bytes, recents: &[Recent]) -> Result<Self, DecodeError> {
        let mut claim = Self::default();
        while bytes.has_remaining() {
            let (tag, wire) = decode_key(&mut bytes)?;
            match (tag, wire) {
                (1, VARINT) => claim.system = decode_varint(&mut bytes)? as u32,
                (2, VARINT) => claim.start.sequence = decode_varint(&mut bytes)?,
                (3, VARINT) => claim.start.occurred_at_us = decode_varint(&mut bytes)? as i64,
                (4, FIXED) => claim.start.tie = bytes.try_get_u64_le().map_err(|_| cut())?,
                (5, VARINT) => claim.start.position = decode_varint(&mut bytes)?,
                (6, TEXT) => claim.json = part(&mut bytes)?,
                (7, VARINT) => claim.start.index = decode_varint(&mut bytes)? as u32,
                (8, VARINT) => claim.run = decode_varint(&mut bytes)?,
                (9, TEXT) => claim.last = Some(Box::new(Stamp::decode(&mut part(&mut bytes)?)?)),
                (10, TEXT) => claim.bound = Some(Box::new(Stamp::decode(&mut part(&mut bytes)?)?)),
                (11, VARINT) => claim.echo = decode_varint(&mut bytes)? != 0,
                (12, VARINT) => {
                    let slot = (decode_varint(&mut bytes)? as usize).wrapping_sub(1);
                    claim.start = recents.get(slot).ok_or_else(cut)?.stamp;
                }
                _ => skip_field(wire, tag, &mut bytes, DecodeContext::default())?,
            }
        }
        Ok(claim)
    }

    fn encode(&self, start: u64, out: &mut Vec<u8>) {
        put_varint(out, 1, u64::from(self.system));
        if start == 0 {
            put_varint(out, 2, self.start.sequence);
            put_varint(out, 3, self.start.occurred_at_us as u64);
            encode_key(4, FIXED, out);
            out.extend_from_slice(&self.start.tie.to_le_bytes());
            put_varint(out, 5, self.start.position);
            put_varint(out, 7, u64::from(self.start.index));
        }
        put_text(out, 6, &self.json);
        put_varint(out, 8, self.run);
        for (tag, stamp) in [(9, &self.last), (10, &self.bound)] {
            if let Some(stamp) = stamp {
                encode_key(tag, TEXT, out);
                encode_varint(stamp.encoded_len() as u64, out);
                stamp.encode(out);
            }
        }
        put_varint(out, 11, u64::from(self.echo));
        put_varint(out, 12, start);
    }

    fn encoded_len(&self, start: u64) -> usize {
        let stamps = [&self.last, &self.bound].into_iter().flatten();
        let inline = || {
            varint_len(self.start.sequence)
                + varint_len(self.start.occurred_at_us as u64)
                + 9
                + varint_len(self.start.position)
                + varint_len(u64::from(self.start.index))
        };
        varint_len(u64::from(self.system))
            + if start == 0 { inline() } else { varint_len(start) }
            + text_len(self.json.len())
            + varint_len(self.run)
            + stamps.map(|stamp| text_len(stamp.encoded_len())).sum::<usize>()
            + varint_len(u64::from(self.echo))
    }
}

impl Stamp {
    fn decode(bytes: &mut Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            sequence: decode_varint(bytes)?,
            occurred_at_us: decode_varint(bytes)? as i64,
            index: decode_varint(bytes)? as u32,
            position: decode_varint(bytes)?,
            tie: bytes.try_get_u64_le().map_err(|_| cut())?,
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

/// What prost says of a message that ends too early; it offers no way to make the error itself.
fn cut() -> DecodeError {
    decode_varint(&mut Bytes::new()).expect_err("no bytes are no number")
}

fn part(bytes: &mut Bytes) -> Result<Bytes, DecodeError> {
    let length = decode_varint(bytes)?;
    if length > bytes.remaining() as u64 {
        return Err(cut());
    }
    Ok(bytes.split_to(length as usize))
}

fn text(bytes: &mut Bytes) -> Result<CompactString, DecodeError> {
    let part = part(bytes)?;
    CompactString::from_utf8(&part).map_err(|_| cut())
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

fn varint_len(number: u64) -> usize {
    if number == 0 { 0 } else { 1 + encoded_len_varint(number) }
}

fn text_len(length: usize) -> usize {
    1 + encoded_len_varint(length as u64) + length
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stamp() -> impl Strategy<Value = Stamp> {
        (any::<u64>(), any::<i64>(), any::<u64>(), any::<u32>(), any::<u64>()).prop_map(
            |(sequence, occurred_at_us, tie, index, position)| Stamp { sequence, occurred_at_us, tie, index, position },
        )
    }

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
    }

    fn claim() -> impl Strategy<Value = Claim> {
        let stamps = || proptest::option::of(stamp().prop_map(Box::new));
        (any::<u32>(), stamp(), stamps(), stamps(), any::<u64>(), any::<bool>(), bytes()).prop_map(
            |(system, start, last, bound, run, echo, json)| Claim { system, start, last, bound, run, echo, json },
        )
    }

    fn field() -> impl Strategy<Value = FieldState> {
        let past = (any::<u64>(), any::<u64>()).prop_map(|(hash, since)| Past { hash, since });
        let claims = proptest::collection::vec(claim(), 0..4);
        let more = (any::<u64>(), proptest::option::of(bytes()), proptest::collection::vec(past, 0..4));
        (".{0,40}", any::<u32>(), any::<i32>(), claims, more).prop_map(
            |(name, winner, rule, claims, (since, joined, past))| FieldState {
                name: name.into(),
                winner,
                rule,
                since,
                joined,
                past: past.into(),
                claims: claims.into(),
            },
        )
    }

    fn recent() -> impl Strategy<Value = Recent> {
        (any::<u32>(), stamp()).prop_map(|(system, stamp)| Recent { system, stamp })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            kind in "[a-z]{1,8}", key in ".{1,40}", numbers: (u64, u64, i64, i64, u64), flags: (bool, bool),
            merged_into in ".{0,9}",
            recents in proptest::collection::vec(recent(), 0..4),
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
                recents,
                pruned,
                published,
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
            let _ = Entity::decode(bytes.into());
        }
    }
}
