//! Conflicts are documents of the hub's own: `conflict/<kind>/<key>#<field>`, open as long as a person is to decide.
//! So they are listed, published, explained and kept like every other document.

use std::borrow::Cow;

use bytes::Bytes;

use super::Entities;
use crate::change::{Change, Field};
use crate::entity::Entity;
use crate::entity_id;
use crate::event::{write_object, write_string};
use crate::json::Json;
use crate::merge::{Rule, Standing};

/// The kind of conflicts.
pub const CONFLICT_KIND: &str = "conflict";
/// The field that tells whether a conflict is `open` or `resolved`.
pub const STATUS_FIELD: &str = "status";
/// The system that speaks of what the hub itself has found.
pub const HUB: &str = "@hub";

/// A conflict that begins, changes or ends with a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contest {
    field: String,
    policy: &'static str,
    rule: Rule,
    candidates: Bytes,
}

impl Contest {
    pub(super) fn new(field: &str, policy: &'static str, rule: Rule, claims: &[Standing<'_>]) -> Self {
        // Who wrote first stands first, whatever the order in which the claims came.
        let mut claims: Vec<&Standing<'_>> = claims.iter().collect();
        claims.sort_by(|a, b| crate::merge::across_order(a, b));
        let mut out = vec![b'['];
        for (at, claim) in claims.into_iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            let mut system = Vec::new();
            write_string(&mut system, claim.system);
            let numbers = [claim.since.occurred_at_us.to_string(), claim.since.sequence.to_string()];
            write_object(
                &mut out,
                [
                    ("occurred_at_us", numbers[0].as_bytes()),
                    ("sequence", numbers[1].as_bytes()),
                    ("system", &system),
                    ("value", claim.json),
                ]
                .into_iter(),
            );
        }
        out.push(b']');
        Self { field: field.to_owned(), policy, rule, candidates: out.into() }
    }

    /// The change of the conflict's document. `position` is the record that it follows: a later one counts more.
    pub(super) fn change(self, entity: &Entity, entities: &Entities, position: u64, now_us: i64) -> Change {
        let former = former_conflict_key(&entity.kind, &entity.key, &self.field).filter(|former| {
            let known = entities.get(&entity_id(CONFLICT_KIND, former));
            known.is_some_and(|conflict| is_conflict_about(conflict, &entity.key, &self.field))
        });
        let text = |text: &str| {
            let mut json = Vec::with_capacity(text.len() + 2);
            write_string(&mut json, text);
            json
        };
        let open = self.rule == Rule::Contested;
        let standing = entity.value(&self.field).map_or_else(|| Bytes::from_static(b"null"), Json::to_bytes);
        let mut fields = vec![
            Field::new("entity_key", text(&entity.key)),
            Field::new("entity_kind", text(&entity.kind)),
            Field::new("field", text(&self.field)),
            Field::new("policy", text(self.policy)),
            Field::new("rule", text(self.rule.code())),
            Field::new("standing", standing),
            Field::new(STATUS_FIELD, text(if open { "open" } else { "resolved" })),
        ];
        if open {
            fields.insert(0, Field::new("candidates", self.candidates));
        }
        Change {
            kind: CONFLICT_KIND.to_owned(),
            key: former.unwrap_or_else(|| conflict_key(&entity.kind, &entity.key, &self.field)),
            sequence: position,
            occurred_at_us: now_us,
            fields,
            expected_version: None,
        }
    }
}

/// The key of the conflict about a field: a `#` of the entity's key is doubled, so that the first one that stands alone
/// is followed by the field.
pub fn conflict_key(kind: &str, key: &str, field: &str) -> String {
    let doubled = if key.contains('#') { Cow::Owned(key.replace('#', "##")) } else { Cow::Borrowed(key) };
    // Else it could be taken for the second of a pair.
    let mark = if field.starts_with(['#', '~']) { "~" } else { "" };
    format!("{kind}/{doubled}#{mark}{field}")
}

/// The key that the conflict had before keys with a `#` were told apart, where it is another. A conflict that has it keeps
/// it.
pub fn former_conflict_key(kind: &str, key: &str, field: &str) -> Option<String> {
    let differs = key.contains('#') || field.starts_with(['#', '~']);
    differs.then(|| format!("{kind}/{key}#{field}"))
}

/// Whether a document is the conflict about that field: by its former key it could be another.
pub fn is_conflict_about(conflict: &Entity, key: &str, field: &str) -> bool {
    let says = |name: &str, text: &str| {
        let said = conflict.value(name).and_then(|json| serde_json::from_slice::<String>(json).ok());
        said.as_deref() == Some(text)
    };
    conflict.kind == CONFLICT_KIND && says("entity_key", key) && says("field", field)
}
