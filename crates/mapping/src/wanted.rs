//! Which parts of its input a program reads. The rest of a body needs no memory: a shop sends several times
//! as much as a mapping looks at.

use std::collections::BTreeMap;

use vrl::path::{OwnedSegment, OwnedTargetPath, PathPrefix};

/// What is wanted of a JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it.
    All,
    /// Of an object these members, of an array these members of each item.
    Members(BTreeMap<String, Wanted>),
}

impl Wanted {
    /// What the paths that a program reads ask for. What it only writes need not be there: a program that looks
    /// at its writing reads that path, or one above it.
    pub(crate) fn by<'p>(paths: impl IntoIterator<Item = &'p OwnedTargetPath>) -> Self {
        let mut wanted = Self::Members(BTreeMap::new());
        for path in paths {
            if path.prefix == PathPrefix::Event {
                wanted.add(&path.path.segments);
            }
        }
        wanted
    }

    fn add(&mut self, path: &[OwnedSegment]) {
        let Self::Members(members) = self else { return };
        match path.split_first() {
            Some((OwnedSegment::Field(name), rest)) => members
                .entry(name.as_str().to_owned())
                .or_insert_with(|| Self::Members(BTreeMap::new()))
                .add(rest),
            // The items of an array share what is wanted of them.
            Some((OwnedSegment::Index(_), rest)) => self.add(rest),
            None => *self = Self::All,
        }
    }

    /// What is wanted below a member; nothing where the member itself is not.
    pub(crate) fn member(&self, key: &str) -> Option<&Self> {
        match self {
            Self::All => Some(&Self::All),
            Self::Members(members) => members.get(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Program, to_json};

    fn parsed(source: &str, body: &str) -> serde_json::Value {
        let program = Program::compile("t.vrl", source).unwrap();
        to_json(&program.parse(body.as_bytes()).unwrap())
    }

    #[test]
    fn only_what_is_read_is_kept() {
        let body = r#"{"a":{"b":1,"c":2},"d":[{"e":1,"f":2},{"e":3}],"g":{"h":1},"i":null}"#;
        let rows = [
            (".a.b", r#"{"a":{"b":1}}"#),
            ("[.a, .a.b]", r#"{"a":{"b":1,"c":2}}"#),
            (".d[1].e", r#"{"d":[{"e":1},{"e":3}]}"#),
            (".d[0]", r#"{"d":[{"e":1,"f":2},{"e":3}]}"#),
            ("exists(.i)", r#"{"i":null}"#),
            ("del(.g)", r#"{"g":{"h":1}}"#),
            (
                "map_values(array!(.d)) -> |item| { item.e }",
                r#"{"d":[{"e":1,"f":2},{"e":3}]}"#,
            ),
            ("pick!(.g, {\"x\": \"h\"})", r#"{"g":{"h":1}}"#),
            ("(.i || .a.c)", r#"{"a":{"c":2},"i":null}"#),
            (
                "if .i == null { .g.h } else { 1 }",
                r#"{"g":{"h":1},"i":null}"#,
            ),
            (".new = .a.c\n.new", r#"{"a":{"c":2}}"#),
            ("%a", "{}"),
            (".", body),
            ("pick!(., [\"i\"])", body),
            ("get!(., [\"a\"])", body),
            (".new = 1\n.", body),
        ];
        for (source, expected) in rows {
            let expected: serde_json::Value = serde_json::from_str(expected).unwrap();
            assert_eq!(parsed(source, body), expected, "{source}");
        }
    }

    #[test]
    fn what_is_not_kept_must_still_be_json() {
        let program = Program::compile("t.vrl", ".a").unwrap();
        assert!(program.parse(br#"{"a":1,"b":[tru]}"#).is_err());
        assert!(program.parse(br#"{"a":1,"b":[1}"#).is_err());
        assert!(program.parse(br#"{"a":1} x"#).is_err());
    }
}
