//! What the hub publishes: a fact with its position, as a CloudEvent to the outside.

use bytes::Bytes;

use crate::Position;
use crate::change::Field;
use crate::entity::DELETED_FIELD;
use crate::merge::Rule;
use crate::path;
use crate::record::{Body, Fact, Record};

/// A published fact. Its document is whole: a reader needs nothing else to keep a copy.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its place in the journal, and its id.
    pub position: Position,
    /// When the hub decided it, microseconds since 1970 UTC.
    pub recorded_at_us: i64,
    /// What was decided.
    pub fact: Box<Fact>,
    /// The replay that it is sent for; none where it goes its own way.
    pub replay: Option<Position>,
}

impl Event {
    /// The event of a record, where it published one.
    pub fn of(position: Position, record: Record) -> Option<Self> {
        let recorded_at_us = record.recorded_at_us;
        match record.body {
            Some(Body::Fact(fact)) if !fact.event_type.is_empty() => {
                Some(Self { position, recorded_at_us, fact, replay: None })
            }
            Some(Body::Stock(stock)) => {
                let fact = crate::stock::event_fact(position, recorded_at_us, &stock)?;
                Some(Self { position, recorded_at_us, fact: Box::new(fact), replay: None })
            }
            _ => None,
        }
    }

    /// Whether a record published an event.
    pub fn is_in(record: &Record) -> bool {
        match &record.body {
            Some(Body::Fact(fact)) => !fact.event_type.is_empty(),
            Some(Body::Stock(fact)) => !fact.event_type.is_empty(),
            _ => false,
        }
    }

    /// Whether it tells of nothing but what that system has just said itself: it has all of the change already. Where
    /// the change is that another system's word stands now, it is no longer that system's own.
    pub fn is_word_of(&self, system: &str) -> bool {
        let fact = &self.fact;
        let is_anothers = |name: &str| fact.rest.binary_search_by(|f| f.name.as_str().cmp(name)).is_ok();
        fact.system == system && !self.changed().any(is_anothers)
    }

    /// The entity's document after the change, sorted by name.
    pub fn document(&self) -> Vec<&Field> {
        document(&self.fact)
    }

    /// The names of the fields whose winning value changed.
    pub fn changed(&self) -> impl Iterator<Item = &str> {
        self.fact.changed.iter().filter_map(|at| self.fact.fields.get(*at as usize)).map(|f| f.name.as_str())
    }

    /// What stands in the document at a path such as `product.id`; `None` where nothing does, or null.
    pub fn value_at(&self, path: &str) -> Option<serde_json::Value> {
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        let document = self.document();
        let fields: Vec<&Field> = document.into_iter().filter(|field| path::base_of(&field.name) == first).collect();
        let mut json = Vec::new();
        path::assemble(&mut json, &fields);
        let mut value = serde_json::from_slice::<serde_json::Value>(&json).ok()?;
        let mut found = value.get_mut(first)?.take();
        for name in rest.into_iter().flat_map(|rest| rest.split('.')) {
            found = found.get_mut(name)?.take();
        }
        Some(found).filter(|value| !value.is_null())
    }

    /// The document as compact JSON, its parts put together.
    pub fn document_json(&self) -> Bytes {
        let fields = self.document();
        let mut json = Vec::with_capacity(2 + fields.iter().map(|f| f.name.len() + f.json.len() + 4).sum::<usize>());
        path::assemble(&mut json, &fields);
        json.into()
    }
}

/// The document after a fact: what of its own fields won, and the rest. Parts of fields are under their paths.
pub fn document(fact: &Fact) -> Vec<&Field> {
    // Nobody's word of the field stands: emptied, or said so late that its system had taken it back already.
    let nobodys: Vec<_> = fact.rulings.iter().filter(|ruling| ruling.rule == Rule::Nobody as i32).collect();
    let is_nobodys =
        |at: u32| nobodys.iter().any(|ruling| ruling.fields.is_empty() || ruling.fields.binary_search(&at).is_ok());
    let says = |at: usize, f: &Field| !f.json.is_empty() && f.name != DELETED_FIELD && !is_nobodys(at as u32);
    let own = fact.fields.iter().enumerate();
    if fact.rest.is_empty() {
        return own.filter(|(at, f)| says(*at, f)).map(|(_, f)| f).collect();
    }
    // Both lists are sorted; where a name is in both, the change's own claim lost.
    let mut document = Vec::with_capacity(fact.fields.len() + fact.rest.len());
    // Whether it exists is no part of the document, whoever says so.
    let rest = fact.rest.iter().filter(|f| f.name != DELETED_FIELD);
    let (mut own, mut rest) = (own.peekable(), rest.peekable());
    loop {
        match (own.peek(), rest.peek()) {
            (Some((_, a)), Some(b)) if a.name < b.name => {
                document.extend(own.next().filter(|(at, f)| says(*at, f)).map(|(_, f)| f));
            }
            (Some((_, a)), Some(b)) => {
                if a.name == b.name {
                    own.next();
                }
                document.extend(rest.next());
            }
            (Some(_), None) => document.extend(own.next().filter(|(at, f)| says(*at, f)).map(|(_, f)| f)),
            (None, Some(_)) => document.extend(rest.next()),
            (None, None) => return document,
        }
    }
}

/// Writes a JSON object of raw values.
pub fn write_object<'a>(out: &mut Vec<u8>, fields: impl Iterator<Item = (&'a str, &'a [u8])>) {
    out.push(b'{');
    for (at, (name, json)) in fields.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_string(out, name);
        out.push(b':');
        out.extend_from_slice(json);
    }
    out.push(b'}');
}

/// Writes a JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    let plain = text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\');
    if plain {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
    }
}

/// The type of the event that a changed document publishes.
///
/// `was` and `is` are what tells before and after: the lifecycle of an order, the status of a conflict, the `kind` of a
/// payment.
pub fn event_type(kind: &str, first: bool, was: Option<&[u8]>, is: Option<&[u8]>) -> String {
    let name = |json: Option<&[u8]>| {
        json.and_then(|j| std::str::from_utf8(j).ok()).map(|j| j.trim_matches('"').to_owned()).unwrap_or_default()
    };
    let verb = match kind {
        "order" if was != is => match name(is).as_str() {
            "confirmed" if !first => "confirmed",
            "allocated" => "allocated",
            "cancelled" => "cancelled",
            "closed" => "closed",
            _ if first => "placed",
            _ => "changed",
        },
        "order" if first => "placed",
        "conflict" => match name(is).as_str() {
            "open" if first || was != is => "opened",
            "resolved" if first || was != is => "resolved",
            _ => "changed",
        },
        "alert" => match name(is).as_str() {
            "opened" => "opened",
            "escalated" => "escalated",
            "acknowledged" => "acknowledged",
            "resolved" => "resolved",
            _ => "changed",
        },
        "flow" => match name(is).as_str() {
            "degraded" => "degraded",
            "restored" => "restored",
            "paused" => "paused",
            "resumed" => "resumed",
            _ => "changed",
        },
        "propagation" => "reached",
        "product" if first => "created",
        "stock" => "counted",
        // Once told, what happened has not happened again because something else of it changes.
        "payment" if !first && was == is => "changed",
        "payment" => match name(is).as_str() {
            "auth" => "authorized",
            "capture" => "captured",
            "void" => "voided",
            "refund" => "refunded",
            "chargeback" => "charged_back",
            "auth_expired" => "auth_expired",
            _ => "changed",
        },
        _ => "changed",
    };
    format!("{kind}.{verb}")
}
