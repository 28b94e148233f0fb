//! Fields that are merged by their parts: a list by the key of its items, an object by its members.
//!
//! Such a field is taken apart on the way in and put together on the way out. In between its parts are fields of
//! their own, with names that no field has otherwise: `lines[7]` is the item with the key 7, `lines[]` the keys in
//! their order (or null where there is no list), `customer.email` a member, and `customer.` tells whether there is an
//! object at all (`{}` or null).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::change::Field;
use crate::entity::DELETED_FIELD;
use crate::event::write_string;
use crate::name::part_at;

/// What a field is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A list of objects, each with a key in the member of this name.
    Items {
        /// The member.
        key: String,
    },
    /// An object, merged member by member. A member that is not given says nothing; null says that it is not there.
    Members,
}

/// The fields of a kind that are merged by their parts.
pub type Parts = BTreeMap<String, Part>;

/// Why fields can't be taken apart.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PartError {
    /// A name that only a part may have.
    #[error("field `{0}`: a name has no `.`, `[` or `]` and is not `{DELETED_FIELD}`: the hub uses these itself")]
    Name(String),
    /// Not a list where one was declared.
    #[error("field `{field}` must be an array of objects, each with the member `{key}`, or null: it is merged by it")]
    NotItems {
        /// The field.
        field: String,
        /// The member.
        key: String,
    },
    /// An item has no key.
    #[error("field `{field}/{at}/{key}` must be text or a whole number: the list is merged by it")]
    NoKey {
        /// The field.
        field: String,
        /// The item's place in the list.
        at: usize,
        /// The member.
        key: String,
    },
    /// Two items have the same key.
    #[error("field `{field}/{at}/{key}` is `{value}` once more: the list is merged by it")]
    Twins {
        /// The field.
        field: String,
        /// The item's place in the list.
        at: usize,
        /// The member.
        key: String,
        /// The key.
        value: String,
    },
    /// Not an object where one was declared.
    #[error("field `{0}` must be an object or null: it is merged by its members")]
    NotMembers(String),
}

impl PartError {
    /// Where it is, as a JSON pointer into the fields.
    pub fn pointer(&self) -> String {
        match self {
            Self::Name(field) | Self::NotMembers(field) | Self::NotItems { field, .. } => format!("/{field}"),
            Self::NoKey { field, at, key } | Self::Twins { field, at, key, .. } => format!("/{field}/{at}/{key}"),
        }
    }
}

/// Takes the declared fields apart. The names of all others are checked.
///
/// # Errors
/// Where a name is reserved, or a value is not what was declared.
pub fn split(fields: Vec<Field>, parts: &Parts) -> Result<Vec<Field>, PartError> {
    if let Some(bad) = fields.iter().find(|f| f.name.contains(['.', '[', ']']) || f.name == DELETED_FIELD) {
        return Err(PartError::Name(bad.name.to_string()));
    }
    if parts.is_empty() || !fields.iter().any(|f| parts.contains_key(f.name.as_str())) {
        return Ok(fields);
    }
    let mut out = Vec::with_capacity(fields.len() + 16);
    for field in fields {
        match parts.get(field.name.as_str()) {
            None => out.push(field),
            Some(Part::Items { key }) => items(&field, key, &mut out)?,
            Some(Part::Members) => members(field, &mut out)?,
        }
    }
    Ok(out)
}

fn items(field: &Field, key: &str, out: &mut Vec<Field>) -> Result<(), PartError> {
    let name = &field.name;
    let list = format!("{name}[]");
    if field.json == "null" {
        out.push(Field::new(list, field.json.clone()));
        return Ok(());
    }
    let not_items = || PartError::NotItems { field: name.to_string(), key: key.to_owned() };
    let values: Vec<&RawValue> = serde_json::from_slice(&field.json).map_err(|_| not_items())?;
    let mut order = Vec::with_capacity(values.len() * 8 + 2);
    let mut seen = BTreeSet::new();
    order.push(b'[');
    for (at, value) in values.into_iter().enumerate() {
        let item: BTreeMap<&str, &RawValue> = serde_json::from_str(value.get()).map_err(|_| not_items())?;
        let id = item.get(key).and_then(|id| id_of(id)).ok_or_else(|| PartError::NoKey {
            field: name.to_string(),
            at,
            key: key.to_owned(),
        })?;
        if at > 0 {
            order.push(b',');
        }
        write_string(&mut order, &id);
        out.push(Field::new(format!("{name}[{id}]"), part_of(&field.json, value.get())));
        if let Some(value) = seen.replace(id) {
            return Err(PartError::Twins { field: name.to_string(), at, key: key.to_owned(), value });
        }
    }
    order.push(b']');
    out.push(Field::new(list, order));
    Ok(())
}

fn members(field: Field, out: &mut Vec<Field>) -> Result<(), PartError> {
    if field.json == "null" {
        out.push(Field::new(format!("{}.", field.name), field.json));
        return Ok(());
    }
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_slice(&field.json).map_err(|_| PartError::NotMembers(field.name.to_string()))?;
    out.push(Field::new(format!("{}.", field.name), Bytes::from_static(b"{}")));
    for (member, value) in members {
        out.push(Field::new(format!("{}.{member}", field.name), part_of(&field.json, value.get())));
    }
    Ok(())
}

/// A slice of the same memory.
fn part_of(whole: &Bytes, part: &str) -> Bytes {
    whole.slice_ref(part.as_bytes())
}

/// A key as text: text and whole numbers that look alike are the same key.
fn id_of(raw: &RawValue) -> Option<String> {
    let json = raw.get();
    let id = if json.starts_with('"') { serde_json::from_str(json).ok()? } else { json.to_owned() };
    let number = !json.starts_with('"');
    let well = if number { id.parse::<i128>().is_ok() } else { !id.is_empty() };
    well.then_some(id)
}

/// The field of which this one is a part, or itself.
pub fn base_of(name: &str) -> &str {
    part_at(name.as_bytes()).map_or(name, |at| &name[..at])
}

/// Whether a field is a part of another one.
pub fn is_part(name: &str) -> bool {
    part_at(name.as_bytes()).is_some()
}

/// The name of the list of keys, for an item's name.
pub fn list_of(name: &str) -> Option<String> {
    let base = base_of(name);
    let is_item = name[base.len()..].starts_with('[') && !is_list(name);
    is_item.then(|| format!("{base}[]"))
}

/// Whether it is the name of a list of keys.
pub fn is_list(name: &str) -> bool {
    name.ends_with("[]") && name.len() == base_of(name).len() + 2
}

/// The name that tells whether there is an object, for the name of its member.
pub fn object_of(name: &str) -> Option<&str> {
    let base = base_of(name);
    let is_member = name[base.len()..].starts_with('.') && name.len() > base.len() + 1;
    is_member.then(|| &name[..=base.len()])
}

/// Writes the document of these fields (sorted by name) as a JSON object, parts put together.
pub fn assemble(out: &mut Vec<u8>, fields: &[&Field]) {
    let mut groups: Vec<(&str, usize, usize)> = Vec::with_capacity(fields.len());
    let mut sorted = true;
    for (at, field) in fields.iter().enumerate() {
        let base = base_of(&field.name);
        match groups.last_mut() {
            Some((last, _, end)) if *last == base => *end = at + 1,
            last => {
                sorted &= last.is_none_or(|(last, _, _)| *last < base);
                groups.push((base, at, at + 1));
            }
        }
    }
    if !sorted {
        // Names such as `a-b` sort between `a` and its parts.
        let mut fields = fields.to_vec();
        fields.sort_by(|a, b| (base_of(&a.name), &a.name).cmp(&(base_of(&b.name), &b.name)));
        return assemble(out, &fields);
    }
    out.push(b'{');
    for (number, (base, from, to)) in groups.into_iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        write_string(out, base);
        out.push(b':');
        match &fields[from..to] {
            [one] if one.name == base => out.extend_from_slice(&one.json),
            parts => whole(out, base, parts),
        }
    }
    out.push(b'}');
}

/// A field from its parts. One that was also said whole, before it was declared to have parts, gives way to them.
fn whole(out: &mut Vec<u8>, base: &str, parts: &[&Field]) {
    let rest = |f: &&&Field| f.name.len() > base.len();
    if parts.iter().filter(rest).any(|f| f.name[base.len()..].starts_with('.')) {
        let members: Vec<_> = parts.iter().filter(|f| f.name.len() > base.len() + 1).collect();
        if members.is_empty() && parts.iter().any(|f| f.json == "null") {
            out.extend_from_slice(b"null");
            return;
        }
        out.push(b'{');
        for (at, part) in members.into_iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_string(out, &part.name[base.len() + 1..]);
            out.push(b':');
            out.extend_from_slice(&part.json);
        }
        out.push(b'}');
        return;
    }
    let order = parts.iter().find(|f| is_list(&f.name)).map(|f| f.json.as_ref()).unwrap_or_default();
    let keys: Vec<String> = serde_json::from_slice(order).unwrap_or_default();
    let places: BTreeMap<&str, usize> = keys.iter().enumerate().map(|(at, key)| (key.as_str(), at)).collect();
    let mut items: Vec<(usize, &Field)> = parts
        .iter()
        .filter(rest)
        .filter(|f| !is_list(&f.name))
        .map(|f| (places.get(&f.name[base.len() + 1..f.name.len() - 1]).copied().unwrap_or(usize::MAX), *f))
        .collect();
    if items.is_empty() && order == b"null" {
        out.extend_from_slice(b"null");
        return;
    }
    // Those that the winner of the order does not have come last, by name.
    items.sort_by_key(|(at, _)| *at);
    out.push(b'[');
    for (at, (_, item)) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&item.json);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Parts {
        Parts::from([("lines".into(), Part::Items { key: "id".into() }), ("customer".into(), Part::Members)])
    }

    fn fields(pairs: &[(&str, &str)]) -> Vec<Field> {
        pairs.iter().map(|(name, json)| Field::new(*name, json.to_string())).collect()
    }

    fn together(mut fields: Vec<Field>) -> String {
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        let mut out = Vec::new();
        assemble(&mut out, &fields.iter().collect::<Vec<_>>());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_taken_apart_is_put_together() {
        for (given, names) in [
            (
                vec![("a", "1"), ("customer", r#"{"email":"x","name":null}"#), ("customer-no", "7"), ("z", "2")],
                "a customer. customer.email customer.name customer-no z",
            ),
            (
                vec![("lines", r#"[{"id":"9","n":1},{"id":10,"n":2},{"id":"a.b[c]","n":3}]"#)],
                "lines[9] lines[10] lines[a.b[c]] lines[]",
            ),
            (vec![("customer", "null"), ("lines", "null")], "customer. lines[]"),
            (vec![("customer", "{}")], "customer."),
            (vec![("lines", "[]")], "lines[]"),
        ] {
            let apart = split(fields(&given), &parts()).unwrap();
            let found: Vec<_> = apart.iter().map(|f| f.name.as_str()).collect();
            assert_eq!(found.join(" "), names);
            let whole: String = given.iter().map(|(name, json)| format!(",\"{name}\":{json}")).collect();
            assert_eq!(together(apart), format!("{{{}}}", &whole[1..]));
        }
    }

    #[test]
    fn what_can_not_be_taken_apart_says_where() {
        for (given, pointer) in [
            (("lines", "{}"), "/lines"),
            (("lines", "[1]"), "/lines"),
            (("lines", r#"[{"id":"1"},{"no":1}]"#), "/lines/1/id"),
            (("lines", r#"[{"id":1.5}]"#), "/lines/0/id"),
            (("lines", r#"[{"id":""}]"#), "/lines/0/id"),
            (("lines", r#"[{"id":"1"},{"id":1}]"#), "/lines/1/id"),
            (("customer", "[]"), "/customer"),
            (("a.b", "1"), "/a.b"),
            (("lines[]", "1"), "/lines[]"),
            (("_deleted", "true"), "/_deleted"),
        ] {
            let error = split(fields(&[given]), &parts()).unwrap_err();
            assert_eq!(error.pointer(), pointer, "{error}");
        }
    }

    #[test]
    fn names_of_parts() {
        assert_eq!(list_of("lines[7]").as_deref(), Some("lines[]"));
        assert_eq!((list_of("lines[]"), list_of("lines"), list_of("a.b[c]")), (None, None, None));
        assert_eq!((object_of("a.b"), object_of("a[b]"), object_of("a.")), (Some("a."), None, None));
        assert!(is_list("lines[]") && !is_list("a.b[]") && !is_list("lines[x]"));
    }
}
