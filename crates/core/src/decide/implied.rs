//! What a change says without saying it: a deletion empties all that its system has said, a list given whole says that
//! other items are not in it, and any word of an entity says that it exists. It is written into the change, so that
//! the record and its folding need no rule for it.

use bytes::Bytes;

use crate::change::Field;
use crate::entity::{DELETED_FIELD, Entity};
use crate::path::{base_of, is_list, list_of, object_of};

/// Adds what the fields of a change imply, and keeps them sorted. `own` is the system's number in the entity.
pub(super) fn imply(entity: &Entity, own: Option<u32>, fields: &mut Vec<Field>) {
    let given = fields.len();
    let deletes = fields.iter().any(|f| f.name == DELETED_FIELD && f.json == "true");
    if !deletes && entity.field(DELETED_FIELD).is_some() && !fields.iter().any(|f| f.name == DELETED_FIELD) {
        fields.push(Field::new(DELETED_FIELD, Bytes::from_static(b"false")));
    }
    let Some(own) = own else {
        fields[..].sort_by(|a, b| a.name.cmp(&b.name));
        return;
    };
    // Names of parts are rare; without one, and without a deletion, nothing else is implied.
    if deletes || fields[..given].iter().any(|f| base_of(&f.name).len() != f.name.len()) {
        for state in &entity.fields {
            let name = state.name.as_str();
            let has_said = state.claims.iter().any(|c| c.system == own && !c.json.is_empty());
            if !has_said || name == DELETED_FIELD || fields[..given].iter().any(|f| f.name == name) {
                continue;
            }
            let says = |wanted: &str, json: Option<&[u8]>| {
                fields[..given].iter().any(|f| f.name == wanted && json.is_none_or(|json| f.json == json))
            };
            let absent_item = list_of(name).is_some_and(|list| is_list(&list) && says(&list, None));
            let emptied = object_of(name).is_some_and(|object| says(object, Some(b"null")));
            if deletes || absent_item || emptied {
                fields.push(Field::new(name, Bytes::new()));
            }
        }
    }
    if fields.len() > given {
        fields.sort_by(|a, b| a.name.cmp(&b.name));
    }
}
