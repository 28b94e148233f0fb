//! `pick(value, names)`: some members of an object under other names.

use vrl::compiler::expression::Expr;
use vrl::compiler::function::Error;
use vrl::compiler::prelude::*;

use super::look;
use crate::wanted::Looks;

#[derive(Clone, Copy, Debug)]
pub(super) struct Pick;

const PARAMETERS: &[Parameter] = &[
    Parameter::required("value", kind::OBJECT | kind::ARRAY | kind::NULL, "The object, or an array of objects."),
    Parameter::required(
        "names",
        kind::OBJECT | kind::ARRAY,
        "The new names, each with the old one, as a constant object; or an array of names that stay, where `a.b` picks `b` of what is at `a`.",
    ),
    Parameter::optional("nulls", kind::BOOLEAN, "Whether members that are null are picked too; a constant."),
];

const EXAMPLES: &[Example] = &[
    example! {
        title: "Other names; what is null or missing is left out",
        source: r#"pick!(.address, {"line1": "address1", "line2": "address2", "city": "city", "phone": "phone"})"#,
        input: r#"{"address":{"address1":"1 Quay","address2":null,"city":"Bergen","latitude":60.4}}"#,
        result: Ok(r#"{"line1":"1 Quay","city":"Bergen"}"#),
    },
    example! {
        title: "Null too: it can say that there is none any more",
        source: r#"pick!(., {"number": "name", "note": "note", "phone": "phone"}, nulls: true)"#,
        input: r##"{"name":"#7","note":null}"##,
        result: Ok(r##"{"number":"#7","note":null}"##),
    },
    example! {
        title: "Of each item",
        source: r#"pick!(.lines, ["sku"])"#,
        input: r#"{"lines":[{"sku":"A","grams":3},{"grams":4}]}"#,
        result: Ok(r#"[{"sku":"A"},{}]"#),
    },
    example! {
        title: "The same names",
        source: r#"pick!(., ["id", "email"])"#,
        input: r#"{"id":7,"email":"a@example.com","token":"x"}"#,
        result: Ok(r#"{"id":7,"email":"a@example.com"}"#),
    },
    example! {
        title: "Of what is inside",
        source: r#"pick!(., ["id", "taxes.price", "taxes.title"])"#,
        input: r#"{"id":7,"taxes":[{"price":"1","rate":0.2},{"title":"VAT"}],"token":"x"}"#,
        result: Ok(r#"{"id":7,"taxes":[{"price":"1"},{"title":"VAT"}]}"#),
    },
    example! {
        title: "Nothing of nothing",
        source: r#"pick!(.address, ["city"])"#,
        input: r#"{"address":null}"#,
        result: Ok("null"),
    },
    example! {
        title: "Not an object",
        source: r#"pick!(.address, ["city"])"#,
        input: r#"{"address":"Bergen"}"#,
        result: Err("expected an object to pick from, not string"),
    },
];

impl Function for Pick {
    fn identifier(&self) -> &'static str {
        "pick"
    }

    fn summary(&self) -> &'static str {
        "some members of an object under other names"
    }

    fn usage(&self) -> &'static str {
        "Makes an object of some members of another one, or does so for each item of an array. Members that are missing are left out, and those that are null unless `nulls` is true; null gives null."
    }

    fn category(&self) -> &'static str {
        Category::Object.as_ref()
    }

    fn return_kind(&self) -> u16 {
        kind::OBJECT | kind::ARRAY | kind::NULL
    }

    fn parameters(&self) -> &'static [Parameter] {
        PARAMETERS
    }

    fn examples(&self) -> &'static [Example] {
        EXAMPLES
    }

    fn compile(&self, state: &TypeState, ctx: &mut FunctionCompileContext, arguments: ArgumentList) -> Compiled {
        let names = arguments.required_expr("names");
        let Some(constant) = names.resolve_constant(state) else {
            return Err(Box::new(Error::ExpectedStaticExpression { keyword: "names", expr: Box::new(names) }));
        };
        let names = names_of(&constant).ok_or_else(|| {
            let error = "must be an object or an array whose values are names";
            Box::new(Error::InvalidArgument { keyword: "names", value: constant.clone(), error })
                as Box<dyn DiagnosticMessage>
        })?;
        let nulls = match arguments.optional_literal("nulls", state)? {
            Some(Value::Boolean(nulls)) => nulls,
            _ => false,
        };
        let value = arguments.required_expr("value");
        if let Expr::Query(query) = &value
            && let Some(path) = query.external_path()
        {
            Looks::note(ctx, path, paths(&names));
        }
        Ok(PickCall { value, names, nulls }.as_expr())
    }
}

/// A member to pick.
#[derive(Clone, Debug)]
struct Name {
    new: KeyString,
    old: KeyString,
    /// What to pick of the member itself; empty where it is picked whole.
    inner: Vec<Name>,
}

fn names_of(names: &Value) -> Option<Vec<Name>> {
    let name = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => Some(KeyString::from(&**text)),
        _ => None,
    };
    match names {
        Value::Object(members) => members
            .iter()
            .map(|(new, old)| Some(Name { new: new.clone(), old: name(old)?, inner: Vec::new() }))
            .collect(),
        Value::Array(items) => {
            let mut names = Vec::new();
            for item in items {
                add(&mut names, name(item)?.as_str());
            }
            Some(names)
        }
        _ => None,
    }
}

/// Adds `a.b.c` to names; a member that is picked whole stays so.
fn add(names: &mut Vec<Name>, path: &str) {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let known = names.iter().position(|name| name.old.as_str() == first);
    match (known, rest) {
        (Some(at), None) => names[at].inner.clear(),
        (Some(at), Some(_)) if names[at].inner.is_empty() => {}
        (Some(at), Some(rest)) => add(&mut names[at].inner, rest),
        (None, rest) => {
            let mut inner = Vec::new();
            if let Some(rest) = rest {
                add(&mut inner, rest);
            }
            names.push(Name { new: first.into(), old: first.into(), inner });
        }
    }
}

/// The paths at which something is picked whole.
fn paths(names: &[Name]) -> Vec<Vec<KeyString>> {
    let mut all = Vec::new();
    for name in names {
        if name.inner.is_empty() {
            all.push(vec![name.old.clone()]);
        }
        for mut path in paths(&name.inner) {
            path.insert(0, name.old.clone());
            all.push(path);
        }
    }
    all
}

#[derive(Clone, Debug)]
struct PickCall {
    value: Expr,
    names: Vec<Name>,
    nulls: bool,
}

fn pick(value: &Value, names: &[Name], nulls: bool) -> Result<Value, String> {
    match value {
        Value::Object(members) => {
            let mut picked = ObjectMap::new();
            for Name { new, old, inner } in names {
                match members.get(old) {
                    None => {}
                    Some(Value::Null) if !nulls => {}
                    Some(whole) if inner.is_empty() => {
                        picked.insert(new.clone(), whole.clone());
                    }
                    Some(outer) => {
                        picked.insert(new.clone(), pick(outer, inner, nulls)?);
                    }
                }
            }
            Ok(Value::Object(picked))
        }
        Value::Array(items) => {
            items.iter().map(|item| pick(item, names, nulls)).collect::<Result<_, _>>().map(Value::Array)
        }
        Value::Null => Ok(Value::Null),
        other => Err(format!("expected an object to pick from, not {}", other.kind_str())),
    }
}

impl FunctionExpression for PickCall {
    fn resolve(&self, ctx: &mut Context) -> Resolved {
        look::at(&self.value, ctx, |value| pick(value, &self.names, self.nulls))
    }

    fn type_def(&self, _: &TypeState) -> TypeDef {
        TypeDef::object(Collection::any()).or_array(Collection::any()).add_null().fallible()
    }
}
