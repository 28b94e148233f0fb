//! What a change says without saying it: a deletion empties all that its system has said, a list given whole says that
//! other items are not in it, and any word of an entity says that it exists. It is written into the change, so that
//! the record and its folding need no rule for it.

use bytes::Bytes;

use super::conflict::HUB;
use crate::change::Field;
use crate::entity::{DELETED_FIELD, Entity, base_system};
use crate::name::{compare, field};
use crate::path::{is_part, list_of, object_of};

/// Whether a word on [`DELETED_FIELD`] is one that doesn't count: what the hub derives of an entity (an order's fulfilment,
/// its reservations) follows from the systems' words, and keeps nothing alive that they delete.
pub(super) fn says_derived_existence(system: &str, json: &[u8]) -> bool {
    json == b"false" && base_system(system) == HUB
}

/// Adds what the fields of a change imply, and keeps them sorted. `own` is the number of `system` in the entity.
pub(super) fn imply(entity: &Entity, system: &str, own: Option<u32>, fields: &mut Vec<Field>) {
    let sorted = fields.len();
    let existence = field(fields, DELETED_FIELD);
    let deletes = existence.is_some_and(|f| f.json == "true");
    let is_silent = existence.is_none();
    // What the hub has deleted itself is there again when it speaks of it; what others have deleted is not.
    let has_deleted = || {
        let claims = entity.field(DELETED_FIELD).into_iter().flat_map(|field| &field.claims);
        claims.filter(|claim| Some(claim.system) == own).any(|claim| *claim.json == *b"true")
    };
    let may_imply = || base_system(system) != HUB || has_deleted();
    if !deletes && is_silent && entity.field(DELETED_FIELD).is_some() && may_imply() {
        fields.push(Field::new(DELETED_FIELD, Bytes::from_static(b"false")));
    }
    let given = sorted;
    let (given_fields, _) = fields.split_at(given);
    let mut empty = Vec::new();
    // Names of parts are rare; without one, and without a deletion, nothing else is implied.
    let has_parts = deletes || given_fields.iter().any(|f| is_part(&f.name));
    if let (Some(own), true) = (own, has_parts) {
        let says = |name: &str| given_fields.binary_search_by(|f| compare(&f.name, name)).ok();
        for state in &entity.fields {
            let name = state.name.as_str();
            if (!deletes && !is_part(name)) || name == DELETED_FIELD {
                continue;
            }
            let has_said = state.claims.iter().any(|c| c.system == own && !c.json.is_empty());
            if !has_said || says(name).is_some() {
                continue;
            }
            let absent_item = || list_of(name).is_some_and(|list| says(&list).is_some());
            let emptied = || object_of(name).and_then(says).is_some_and(|at| given_fields[at].json == "null");
            if deletes || absent_item() || emptied() {
                empty.push(Field::new(name, Bytes::new()));
            }
        }
    }
    fields.extend(empty);
    if fields.len() > sorted {
        fields.sort_by(|a, b| a.name.cmp(&b.name));
    }
}
