//! The form of an entity on disk: Protocol Buffers, written by hand because every change reads and writes one.
//! Names and claims stay in place instead of being allocated one by one, values are slices of what was read.
//!
//! ```text
//! Entity     1 kind  2 key  3 version  4 position  5 created_at_us  6 updated_at_us  7 systems*  8 fields*
//! FieldState 1 name  2 winner  3 rule  4 claims*
//! Claim      1 system  2 sequence  3 occurred_at_us  4 tie (fixed64)  5 position  6 json
//! ```

use bytes::{Buf, Bytes};
use compact_str::CompactString;
use prost::DecodeError;
use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint, skip_field,
};

use super::{Claim, Entity, FieldState};

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
                (8, TEXT) => entity.fields.push(FieldState::decode(part(&mut bytes)?)?),
                _ => skip_field(wire, tag, &mut bytes, DecodeContext::default())?,
            }
        }
        Ok(entity)
    }

    /// Writes it.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.encoded_len());
        put_text(&mut out, 1, self.kind.as_bytes());
        put_text(&mut out, 2, self.key.as_bytes());
        put_varint(&mut out, 3, self.version);
        put_varint(&mut out, 4, self.position);
        put_varint(&mut out, 5, self.created_at_us as u64);
        put_varint(&mut out, 6, self.updated_at_us as u64);
        for system in &self.systems {
            put_text(&mut out, 7, system.as_bytes());
        }
        for field in &self.fields {
            encode_key(8, TEXT, &mut out);
            encode_varint(field.encoded_len() as u64, &mut out);
            field.encode(&mut out);
        }
        out.into()
    }

    fn encoded_len(&self) -> usize {
        let systems: usize = self.systems.iter().map(|s| text_len(s.len())).sum();
        let fields: usize = self.fields.iter().map(|f| text_len(f.encoded_len())).sum();
        text_len(self.kind.len()) + text_len(self.key.len()) + 4 * (1 + 10) + systems + fields
    }
}

impl FieldState {
    fn decode(mut bytes: Bytes) -> Result<Self, DecodeError> {
        let mut field = Self::default();
        while bytes.has_remaining() {
            let (tag, wire) = decode_key(&mut bytes)?;
            match (tag, wire) {
                (1, TEXT) => field.name = text(&mut bytes)?,
                (2, VARINT) => field.winner = decode_varint(&mut bytes)? as u32,
                (3, VARINT) => field.rule = decode_varint(&mut bytes)? as i32,
                (4, TEXT) => field.claims.push(Claim::decode(part(&mut bytes)?)?),
                _ => skip_field(wire, tag, &mut bytes, DecodeContext::default())?,
            }
        }
        Ok(field)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_text(out, 1, self.name.as_bytes());
        put_varint(out, 2, u64::from(self.winner));
        put_varint(out, 3, self.rule as u64);
        for claim in &self.claims {
            encode_key(4, TEXT, out);
            encode_varint(claim.encoded_len() as u64, out);
            claim.encode(out);
        }
    }

    fn encoded_len(&self) -> usize {
        let claims: usize = self.claims.iter().map(|c| text_len(c.encoded_len())).sum();
        text_len(self.name.len()) + varint_len(u64::from(self.winner)) + varint_len(self.rule as u64) + claims
    }
}

impl Claim {
    fn decode(mut bytes: Bytes) -> Result<Self, DecodeError> {
        let mut claim = Self::default();
        while bytes.has_remaining() {
            let (tag, wire) = decode_key(&mut bytes)?;
            match (tag, wire) {
                (1, VARINT) => claim.system = decode_varint(&mut bytes)? as u32,
                (2, VARINT) => claim.sequence = decode_varint(&mut bytes)?,
                (3, VARINT) => claim.occurred_at_us = decode_varint(&mut bytes)? as i64,
                (4, FIXED) => claim.tie = bytes.try_get_u64_le().map_err(|_| cut())?,
                (5, VARINT) => claim.position = decode_varint(&mut bytes)?,
                (6, TEXT) => claim.json = part(&mut bytes)?,
                _ => skip_field(wire, tag, &mut bytes, DecodeContext::default())?,
            }
        }
        Ok(claim)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, 1, u64::from(self.system));
        put_varint(out, 2, self.sequence);
        put_varint(out, 3, self.occurred_at_us as u64);
        encode_key(4, FIXED, out);
        out.extend_from_slice(&self.tie.to_le_bytes());
        put_varint(out, 5, self.position);
        put_text(out, 6, &self.json);
    }

    fn encoded_len(&self) -> usize {
        varint_len(u64::from(self.system))
            + varint_len(self.sequence)
            + varint_len(self.occurred_at_us as u64)
            + 9
            + varint_len(self.position)
            + text_len(self.json.len())
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

    fn claim() -> impl Strategy<Value = Claim> {
        (
            any::<u32>(),
            any::<u64>(),
            any::<i64>(),
            any::<u64>(),
            any::<u64>(),
            proptest::collection::vec(any::<u8>(), 0..40),
        )
            .prop_map(|(system, sequence, occurred_at_us, tie, position, json)| Claim {
                system,
                sequence,
                occurred_at_us,
                tie,
                position,
                json: json.into(),
            })
    }

    fn field() -> impl Strategy<Value = FieldState> {
        (".{0,40}", any::<u32>(), any::<i32>(), proptest::collection::vec(claim(), 0..4)).prop_map(
            |(name, winner, rule, claims)| FieldState { name: name.into(), winner, rule, claims: claims.into() },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            kind in "[a-z]{1,8}", key in ".{1,40}", numbers: (u64, u64, i64, i64),
            systems in proptest::collection::vec(".{0,30}", 0..4), fields in proptest::collection::vec(field(), 0..6),
        ) {
            let (version, position, created_at_us, updated_at_us) = numbers;
            let entity = Entity {
                kind: kind.into(),
                key: key.into(),
                version,
                position,
                created_at_us,
                updated_at_us,
                systems: systems.into_iter().map(CompactString::from).collect(),
                fields,
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
