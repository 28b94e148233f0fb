//! External ids: what a system calls an entity. `@shop-a/order_id/1001` is the `order_id` 1001 of the system `shop-a`.
//!
//! It stands in the place of a key wherever one is named, and in an entity's field `external_ids`, by which it is given.
//! Whom it belongs to is a document of the hub's own, `alias/shop-a/order_id/1001`: so it is unique, journaled, listed,
//! explained and kept like every other document.

use std::fmt;

use crate::change::{Field, KEY_BYTES_MAX};
use crate::name;

/// The kind of the documents that say whom an external id belongs to.
pub const ALIAS_KIND: &str = "alias";
/// The field in which a source gives an entity's external ids: a list of texts.
pub const EXTERNAL_IDS_FIELD: &str = "external_ids";
/// The most external ids that one change may give.
pub const EXTERNAL_IDS_MAX: usize = 64;
/// The longest name of a system or a type in an external id.
const NAME_MAX: usize = 64;

/// An external id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alias {
    /// Without the `@`: the key of its document.
    key: String,
}

impl Alias {
    /// Reads `@<system>/<type>/<id>`. The id is what follows the second slash, further slashes among it.
    pub fn parse(text: &str) -> Option<Self> {
        let key = text.strip_prefix('@')?;
        let mut parts = key.splitn(3, '/');
        let (system, name, id) = (parts.next()?, parts.next()?, parts.next()?);
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
        let is_name = |name: &str| (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(fits);
        let is_id = !id.is_empty() && !id.chars().any(char::is_control);
        let well = is_name(system) && is_name(name) && is_id && text.len() <= KEY_BYTES_MAX;
        well.then(|| Self { key: key.to_owned() })
    }

    /// Whether a key stands for an entity by what a system calls it.
    pub fn is_one(key: &str) -> bool {
        key.starts_with('@')
    }

    /// The key of its document.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The id of its document.
    pub fn id(&self) -> crate::EntityId {
        crate::entity_id(ALIAS_KIND, &self.key)
    }

    /// System, type and external id.
    pub fn parts(&self) -> (&str, &str, &str) {
        let mut parts = self.key.splitn(3, '/');
        let mut next = || parts.next().unwrap_or_default();
        (next(), next(), next())
    }

    /// The external ids that fields give.
    ///
    /// # Errors
    /// Where the field is no list of external ids: what would be right, in words.
    pub fn given(fields: &[Field]) -> Result<Vec<Self>, String> {
        let field = name::field(fields, EXTERNAL_IDS_FIELD);
        let Some(field) = field.filter(|f| !f.json.is_empty() && f.json != "null") else { return Ok(Vec::new()) };
        let must_be = || format!("`{EXTERNAL_IDS_FIELD}` must be a list of texts such as \"@shop/order_id/1001\"");
        let texts: Vec<String> = serde_json::from_slice(&field.json).map_err(|_| must_be())?;
        if texts.len() > EXTERNAL_IDS_MAX {
            return Err(format!("`{EXTERNAL_IDS_FIELD}` must have {EXTERNAL_IDS_MAX} external ids at most"));
        }
        let alias = |text: String| Self::parse(&text).ok_or_else(|| format!("{}, not `{text}`", must_be()));
        texts.into_iter().map(alias).collect()
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_external_id_has_a_system_a_type_and_an_id() {
        let alias = Alias::parse("@shop-a/order_id/EU/1001 b").unwrap();
        assert_eq!(alias.parts(), ("shop-a", "order_id", "EU/1001 b"));
        assert_eq!(
            (alias.id(), alias.to_string()),
            ("alias/shop-a/order_id/EU/1001 b".into(), "@shop-a/order_id/EU/1001 b".into())
        );
        for wrong in [
            "",
            "@",
            "shop/id/1",
            "@shop/id",
            "@shop/id/",
            "@/id/1",
            "@shop//1",
            "@Shop/id/1",
            "@shop/i d/1",
            "@shop/id/1\n",
        ] {
            assert_eq!(Alias::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Alias::parse(&format!("@shop/id/{}", "1".repeat(KEY_BYTES_MAX))), None);
    }

    #[test]
    fn they_are_given_as_a_list_of_texts() {
        let given = |json: &'static str| Alias::given(&[Field::new(EXTERNAL_IDS_FIELD, json), Field::new("f", "1")]);
        assert_eq!(given("null").unwrap(), []);
        assert_eq!(given(r#"["@a/b/1","@a/b/2"]"#).unwrap().len(), 2);
        for wrong in ["7", "[7]", r#""@a/b/1""#, r#"["a/b/1"]"#] {
            assert!(given(wrong).unwrap_err().contains("must be a list of texts"), "{wrong}");
        }
        let many = serde_json::to_string(&vec!["@a/b/1"; EXTERNAL_IDS_MAX + 1]).unwrap();
        assert!(Alias::given(&[Field::new(EXTERNAL_IDS_FIELD, many)]).is_err());
    }
}
