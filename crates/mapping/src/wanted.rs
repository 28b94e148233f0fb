//! Which parts of its input a program reads. The rest of a body needs no memory: a shop sends several times
//! as much as a mapping looks at.

use std::collections::BTreeMap;

use vrl::compiler::prelude::FunctionCompileContext;
use vrl::diagnostic::Span;
use vrl::path::{OwnedSegment, OwnedTargetPath, PathPrefix};
use vrl::value::KeyString;

/// What is wanted of a JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it.
    All,
    /// Of an object these members, of an array these members of each item; of anything else all.
    Members(BTreeMap<String, Wanted>),
}

/// The calls of a program that look at less than all of what their path leads to.
#[derive(Debug, Default)]
pub(crate) struct Looks(Vec<Look>);

#[derive(Debug)]
struct Look {
    /// The call; a compiler that compiles it twice must not have it counted twice.
    call: Span,
    path: OwnedTargetPath,
    /// The members of it, as paths.
    members: Vec<Vec<KeyString>>,
}

impl Looks {
    /// Notes that the call which is being compiled looks only at these members of what is at `path`, and
    /// whether it is there.
    pub(crate) fn note(ctx: &mut FunctionCompileContext, path: &OwnedTargetPath, members: Vec<Vec<KeyString>>) {
        let call = ctx.span();
        let Some(Self(looks)) = ctx.get_external_context_mut::<Self>() else { return };
        if !looks.iter().any(|look| look.call == call && look.path == *path) {
            looks.push(Look { call, path: path.clone(), members });
        }
    }
}

impl Wanted {
    /// What a program asks for that reads these paths. What it only writes need not be there: a program that
    /// looks at its writing reads that path, or one above it.
    ///
    /// The path of a look is among the paths that are read. So often as it stands there beyond the looks,
    /// something reads all of it.
    pub(crate) fn by(paths: &[OwnedTargetPath], looks: &Looks) -> Self {
        let mut whole: Vec<&OwnedTargetPath> = paths.iter().filter(|path| path.prefix == PathPrefix::Event).collect();
        let mut wanted = Self::Members(BTreeMap::new());
        for Look { path, members, .. } in &looks.0 {
            if let Some(at) = whole.iter().position(|other| *other == path) {
                whole.swap_remove(at);
                let at = wanted.descend(&path.path.segments);
                for member in members {
                    let member: Vec<_> = member.iter().cloned().map(OwnedSegment::Field).collect();
                    at.descend(&member).all();
                }
            }
        }
        for path in whole {
            wanted.descend(&path.path.segments).all();
        }
        wanted
    }

    /// What is wanted at a path, which makes the path itself wanted.
    fn descend(&mut self, path: &[OwnedSegment]) -> &mut Self {
        match (self, path.split_first()) {
            (Self::Members(members), Some((OwnedSegment::Field(name), rest))) => {
                members.entry(name.as_str().to_owned()).or_insert_with(|| Self::Members(BTreeMap::new())).descend(rest)
            }
            // The items of an array share what is wanted of them.
            (here, Some((OwnedSegment::Index(_), rest))) => here.descend(rest),
            (here, _) => here,
        }
    }

    fn all(&mut self) {
        *self = Self::All;
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
        let value = program.parse(body.as_bytes()).unwrap();
        assert_eq!(program.parse_shared(&body.to_owned().into()).unwrap(), value);
        to_json(&value)
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
            ("exists(.g)", r#"{"g":{}}"#),
            ("[exists(.g), .g]", r#"{"g":{"h":1}}"#),
            ("[exists(.g), exists(.g), .g.h]", r#"{"g":{"h":1}}"#),
            ("exists(.a.c)", r#"{"a":{"c":2}}"#),
            ("del(.g)", r#"{"g":{"h":1}}"#),
            ("map_values(array!(.d)) -> |item| { item.e }", r#"{"d":[{"e":1,"f":2},{"e":3}]}"#),
            ("pick!(.a, {\"x\": \"b\"})", r#"{"a":{"b":1}}"#),
            ("pick!(.d, [\"e\"])", r#"{"d":[{"e":1},{"e":3}]}"#),
            ("pick!(., [\"i\"])", r#"{"i":null}"#),
            ("pick!(., [\"a.c\", \"d.e\"])", r#"{"a":{"c":2},"d":[{"e":1},{"e":3}]}"#),
            ("pick!(., [\"a.c\", \"a\"])", r#"{"a":{"b":1,"c":2}}"#),
            ("[pick!(., [\"i\"]), .a.b]", r#"{"a":{"b":1},"i":null}"#),
            ("[pick!(., [\"i\"]), .]", body),
            ("[pick!(.a, [\"b\"]), pick!(.a, [\"b\"]), .a]", r#"{"a":{"b":1,"c":2}}"#),
            ("[pick!(.a, [\"b\"]), pick!(.a, [\"c\"])]", r#"{"a":{"b":1,"c":2}}"#),
            ("each(array!(.d)) -> |item| { pick!(.a, [\"b\"]) }", r#"{"a":{"b":1},"d":[{"e":1,"f":2},{"e":3}]}"#),
            ("each([1]) -> |item| { [pick!(.a, [\"b\"]), .a] }", r#"{"a":{"b":1,"c":2}}"#),
            ("pick!(del(.a), [\"b\"])", r#"{"a":{"b":1,"c":2}}"#),
            ("(.i || .a.c)", r#"{"a":{"c":2},"i":null}"#),
            ("if .i == null { .g.h } else { 1 }", r#"{"g":{"h":1},"i":null}"#),
            (".new = .a.c\n.new", r#"{"a":{"c":2}}"#),
            ("%a", "{}"),
            (".", body),
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
        for body in [r#"{"a":1,"b":[tru]}"#, r#"{"a":1,"b":[1}"#, r#"{"a":1} x"#] {
            assert!(program.parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
