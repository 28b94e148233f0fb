//! What comes in: a [`Change`] is what a source proposes, in canonical form; an [`Input`] is one delivery of
//! it with everything that the decision needs to know about how it came.

use bytes::{Buf, BufMut, Bytes};
use compact_str::CompactString;
use prost::DecodeError;
use prost::encoding::{self, DecodeContext, WireType};
use thiserror::Error;

use crate::Position;
use crate::alias::Alias;
use crate::entity::DELETED_FIELD;
use crate::stock::{Answer, Command, StockRefusal};

/// The most fields that one change may carry, parts of fields counted one by one.
pub const FIELDS_MAX: usize = 8_192;
/// The longest key of an entity, in bytes.
pub const KEY_BYTES_MAX: usize = 256;
/// The longest kind or field name, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// One field of a document: its name and its value as compact JSON.
///
/// The value stays bytes: merging compares and picks values, it never looks inside. A name stands in place where it is
/// short, as nearly all are: there are so many that an allocation for each would be much of what a change costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// The field's name, a key of the document.
    pub name: CompactString,
    /// The value as compact JSON with sorted keys, so that equal values are equal bytes.
    pub json: Bytes,
}

impl Field {
    /// A field from its name and compact JSON.
    pub fn new(name: impl Into<CompactString>, json: impl Into<Bytes>) -> Self {
        Self { name: name.into(), json: json.into() }
    }
}

/// `string name = 1; bytes json = 2;`, by hand because what derives it knows only `String`.
impl prost::Message for Field {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        for (tag, bytes) in [(1, self.name.as_bytes()), (2, &self.json[..])] {
            if !bytes.is_empty() {
                encoding::encode_key(tag, WireType::LengthDelimited, buf);
                encoding::encode_varint(bytes.len() as u64, buf);
                buf.put_slice(bytes);
            }
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            1 => {
                let mut name = Bytes::new();
                encoding::bytes::merge(wire, &mut name, buf, context)?;
                self.name = CompactString::from_utf8(&name).map_err(|_| crate::record::broken())?;
                Ok(())
            }
            2 => encoding::bytes::merge(wire, &mut self.json, buf, context),
            _ => encoding::skip_field(wire, tag, buf, context),
        }
    }

    fn encoded_len(&self) -> usize {
        let one =
            |length: usize| if length == 0 { 0 } else { 1 + encoding::encoded_len_varint(length as u64) + length };
        one(self.name.len()) + one(self.json.len())
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// What a source proposes for one entity.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The entity's kind: `order`, `stock`, `price`, ...
    pub kind: String,
    /// The entity's key within its kind, for example `web:1001`, or what a system calls it: `@shop/order_id/1001`.
    pub key: String,
    /// The source's own version or sequence of the document; 0 where it has none.
    pub sequence: u64,
    /// When it happened by the source's clock, microseconds since 1970 UTC.
    pub occurred_at_us: i64,
    /// The fields that the source speaks of, sorted by name, each once.
    pub fields: Vec<Field>,
    /// The version that the writer believes current; another one refuses the change.
    pub expected_version: Option<u64>,
}

/// Why a change is not well-formed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ChangeError {
    /// The kind is empty, too long or has other characters than a-z, 0-9 and `_`.
    #[error("kind `{0}` must be 1 to {NAME_BYTES_MAX} characters of a-z, 0-9 and _, beginning with a letter")]
    Kind(String),
    /// The key is empty, too long or has control characters.
    #[error("key `{0}` must be 1 to {KEY_BYTES_MAX} bytes without control characters")]
    Key(String),
    /// The key begins like an external id and is none.
    #[error("key `{0}` begins with @, so it must be an external id: @<system>/<type>/<id>")]
    Address(String),
    /// There is no field.
    #[error("a change needs at least one field")]
    NoField,
    /// There are too many fields.
    #[error("{0} fields are more than the {FIELDS_MAX} that a change may carry")]
    TooManyFields(usize),
    /// A field's name is empty, too long or given twice.
    #[error("field name `{0}` must be given once and be 1 to {NAME_BYTES_MAX} bytes")]
    FieldName(String),
}

impl Change {
    /// A well-formed change: fields sorted, each once, names and key within their limits.
    pub fn new(
        kind: impl Into<String>,
        key: impl Into<String>,
        sequence: u64,
        occurred_at_us: i64,
        mut fields: Vec<Field>,
    ) -> Result<Self, ChangeError> {
        let (kind, key) = (kind.into(), key.into());
        check_kind(&kind)?;
        check_key(&key)?;
        if fields.is_empty() {
            return Err(ChangeError::NoField);
        }
        if fields.len() > FIELDS_MAX {
            return Err(ChangeError::TooManyFields(fields.len()));
        }
        if !fields.is_sorted_by(|a, b| a.name < b.name) {
            fields.sort_by(|a, b| a.name.cmp(&b.name));
            if let Some(twice) = fields.windows(2).find(|pair| pair[0].name == pair[1].name) {
                return Err(ChangeError::FieldName(twice[0].name.clone().into()));
            }
        }
        if let Some(bad) = fields.iter().find(|f| f.name.is_empty() || f.name.len() > NAME_BYTES_MAX) {
            return Err(ChangeError::FieldName(bad.name.clone().into()));
        }
        Ok(Self { kind, key, sequence, occurred_at_us, fields, expected_version: None })
    }

    /// The word that an entity is gone.
    ///
    /// # Errors
    /// Where kind or key could not name an entity.
    pub fn deletion(
        kind: impl Into<String>,
        key: impl Into<String>,
        sequence: u64,
        occurred_at_us: i64,
    ) -> Result<Self, ChangeError> {
        Self::new(kind, key, sequence, occurred_at_us, vec![Field::new(DELETED_FIELD, Bytes::from_static(b"true"))])
    }

    /// Reads a little of each field. It was written on another processor; see [`Entity::warm`](crate::Entity::warm).
    pub fn warm(&self) {
        let field = |f: &Field| f.name.len() + f.json.first().copied().map_or(0, usize::from);
        std::hint::black_box(self.fields.iter().map(field).sum::<usize>());
    }

    /// The entity's name: `kind/key`.
    pub fn id(&self) -> crate::EntityId {
        crate::entity_id(&self.kind, &self.key)
    }
}

/// Refuses a kind that could not name an entity.
pub fn check_kind(kind: &str) -> Result<(), ChangeError> {
    let well = kind.len() <= NAME_BYTES_MAX
        && kind.starts_with(|c: char| c.is_ascii_lowercase())
        && kind.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if well { Ok(()) } else { Err(ChangeError::Kind(kind.to_owned())) }
}

/// Refuses a key that could not name an entity.
pub fn check_key(key: &str) -> Result<(), ChangeError> {
    let well = !key.is_empty() && key.len() <= KEY_BYTES_MAX && !key.chars().any(char::is_control);
    if !well {
        return Err(ChangeError::Key(key.to_owned()));
    }
    let named = !Alias::is_one(key) || Alias::parse(key).is_some();
    if named { Ok(()) } else { Err(ChangeError::Address(key.to_owned())) }
}

/// The bytes as they came, kept so that a changed mapping can be tried on them.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Raw {
    /// The topic or event type by which the mapping was chosen.
    #[prost(string, tag = "1")]
    pub topic: String,
    /// The headers that the mapping may read, as `name: value`, never one with a secret.
    #[prost(string, repeated, tag = "2")]
    pub headers: Vec<String>,
    /// The body, byte for byte.
    #[prost(bytes = "bytes", tag = "3")]
    pub body: Bytes,
}

/// Why authentic input could not be understood or is not valid.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct QuarantineReason {
    /// A stable code: `not-json`, `unknown-topic`, `mapping-failed`, `schema`, ...
    #[prost(string, tag = "1")]
    pub code: String,
    /// One sentence for a person.
    #[prost(string, tag = "2")]
    pub detail: String,
    /// The exact field (JSON pointer) or mapping line (`maps/x.vrl:12`), where known.
    #[prost(string, tag = "3")]
    pub at: String,
}

/// What an input carries.
#[derive(Clone, Debug, PartialEq)]
pub enum InputBody {
    /// The changes that the mapping made of it; they are recorded all or none.
    Changes(Vec<Change>),
    /// Authentic, but not understood or not valid.
    Quarantine(QuarantineReason),
    /// Commands to stock, decided one after the other. One that is refused does not take back those before it.
    Stock(Vec<Command>),
    /// The hub's own word that stock came for an order of which there was not enough.
    Retry {
        /// The order's key.
        order: String,
    },
}

/// One delivery from a source, translated.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// The way in, a name of the configuration.
    pub source: String,
    /// The outside party that it speaks for.
    pub system: String,
    /// What makes this delivery the same as a repetition of it: the delivery id, or the event's id.
    pub delivery: String,
    /// The hash of the payload; see `reject_reuse`.
    pub payload_hash: u64,
    /// Whether the same delivery id with another payload is an error (an API client's) or just a repetition.
    pub reject_reuse: bool,
    /// A key given for the whole request, with the hash of the whole payload.
    pub request_key: Option<(String, u64)>,
    /// When the hub received it, microseconds since 1970 UTC.
    pub received_at_us: i64,
    /// The W3C `traceparent` to carry on.
    pub trace: Option<String>,
    /// The bytes as they came, where they are to be kept.
    pub raw: Option<Raw>,
    /// What it carries.
    pub body: InputBody,
    /// The quarantined record that this input releases, where an operator sends it again.
    pub releases: Option<Position>,
}

impl Input {
    /// What the hub itself says in the course of a delivery.
    pub(crate) fn of_the_hub(fact: &crate::record::Fact) -> Self {
        Self {
            source: fact.source.clone(),
            system: fact.system.clone(),
            delivery: fact.delivery.clone(),
            payload_hash: fact.payload_hash,
            reject_reuse: false,
            request_key: None,
            received_at_us: fact.received_at_us,
            trace: None,
            raw: None,
            body: InputBody::Changes(Vec::new()),
            releases: None,
        }
    }
}

/// What became of an input that was recorded, or had been before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At least one field of it won.
    Applied {
        /// The first record of the input.
        position: Position,
        /// How many records it has.
        count: u32,
        /// The version of the (first) entity after it.
        version: u64,
        /// Whether the document changed, and so an event was published.
        changed: bool,
    },
    /// Nothing of it won: it was older than what is known, or another system owns the fields.
    Superseded {
        /// The first record of the input.
        position: Position,
        /// How many records it has.
        count: u32,
    },
    /// Kept whole, for a person.
    Quarantined {
        /// The record.
        position: Position,
    },
    /// Seen before; nothing was recorded again.
    Duplicate {
        /// The first record of the first delivery.
        of: Position,
    },
    /// Commands to stock were decided.
    Stock {
        /// The first record of the input; 0 where nothing was recorded.
        position: Position,
        /// How many records it has.
        count: u32,
        /// What became of each command, in their order. A single one that is refused refuses the whole input.
        answers: Vec<Result<Answer, StockRefusal>>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_sorts_its_fields_and_refuses_twins() {
        let change = Change::new("order", "web:1", 0, 1, vec![Field::new("b", "1"), Field::new("a", "2")]).unwrap();
        assert_eq!(change.fields[0].name, "a");
        let twins = vec![Field::new("b", "1"), Field::new("a", "2"), Field::new("b", "3")];
        assert_eq!(Change::new("order", "web:1", 0, 1, twins), Err(ChangeError::FieldName("b".into())));
        let twins = vec![Field::new("b", "1"), Field::new("b", "3")];
        assert_eq!(Change::new("order", "web:1", 0, 1, twins), Err(ChangeError::FieldName("b".into())));
    }

    #[test]
    fn names_have_limits() {
        let one = || vec![Field::new("a", "1")];
        assert!(Change::new("Order", "1", 0, 1, one()).is_err());
        assert!(Change::new("order", "", 0, 1, one()).is_err());
        assert!(Change::new("order", "a\nb", 0, 1, one()).is_err());
        assert!(Change::new("order", "x".repeat(KEY_BYTES_MAX + 1), 0, 1, one()).is_err());
        assert_eq!(Change::new("order", "1", 0, 1, vec![]), Err(ChangeError::NoField));
    }
}
