//! `pick(value, names)`: some members of an object under other names.

use vrl::compiler::expression::{Expr, Query};
use vrl::compiler::function::Error;
use vrl::compiler::prelude::*;

use crate::wanted::Looks;

#[derive(Clone, Copy, Debug)]
pub(super) struct Pick;

const PARAMETERS: &[Parameter] = &[
    Parameter::required("value", kind::OBJECT | kind::ARRAY | kind::NULL, "The object, or an array of objects."),
    Parameter::required(
        "names",
        kind::OBJECT | kind::ARRAY,
        "The new names, each with the old one, as a constant object; or an array of names that stay.",
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
        let names = pairs(&constant).ok_or_else(|| {
            let error = "must be an object or an array whose values are names";
            Box::new(Error::InvalidArgument { keyword: "names", value: constant.clone(), error }) as Box<dyn DiagnosticMessage>
        })?;
        let nulls = match arguments.optional_literal("nulls", state)? {
            Some(Value::Boolean(nulls)) => nulls,
            _ => false,
        };
        let value = arguments.required_expr("value");
        if let Expr::Query(query) = &value
            && let Some(path) = query.external_path()
        {
            Looks::note(ctx, path, names.iter().map(|(_, old)| old.as_str()));
        }
        Ok(PickCall { value, names, nulls }.as_expr())
    }
}

/// New names with the old ones, in the order of the new.
fn pairs(names: &Value) -> Option<Vec<(KeyString, KeyString)>> {
    let name = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => Some(KeyString::from(&**text)),
        _ => None,
    };
    match names {
        Value::Object(members) => members
            .iter()
            .map(|(new, old)| Some((new.clone(), name(old)?)))
            .collect(),
        Value::Array(items) => items
            .iter()
            .map(|item| Some((name(item)?, name(item)?)))
            .collect(),
        _ => None,
    }
}

#[derive(Clone, Debug)]
struct PickCall {
    value: Expr,
    names: Vec<(KeyString, KeyString)>,
    nulls: bool,
}

impl PickCall {
    fn pick(&self, value: Option<&Value>) -> Resolved {
        match value {
            Some(Value::Object(members)) => {
                let wanted = self.names.iter().filter_map(|(new, old)| match members.get(old) {
                    Some(Value::Null) if !self.nulls => None,
                    found => found.map(|value| (new.clone(), value.clone())),
                });
                Ok(Value::Object(wanted.collect()))
            }
            Some(Value::Array(items)) => {
                items.iter().map(|item| self.pick(Some(item))).collect::<Result<_, _>>().map(Value::Array)
            }
            None | Some(Value::Null) => Ok(Value::Null),
            Some(other) => Err(format!("expected an object to pick from, not {}", other.kind_str()).into()),
        }
    }
}

/// What a path leads to, without a copy of all that is around the picked members.
fn look<'c>(query: &Query, ctx: &'c Context) -> Option<Option<&'c Value>> {
    if let Some(path) = query.external_path() {
        return Some(ctx.target().target_get(path).ok().flatten());
    }
    let variable = query.variable_ident()?;
    Some(
        ctx.state()
            .variable(variable)
            .and_then(|value| value.get(query.path())),
    )
}

impl FunctionExpression for PickCall {
    fn resolve(&self, ctx: &mut Context) -> Resolved {
        match &self.value {
            Expr::Query(query) => {
                if let Some(value) = look(query, ctx) {
                    return self.pick(value);
                }
            }
            Expr::Variable(variable) => return self.pick(ctx.state().variable(variable.ident())),
            _ => {}
        }
        self.pick(Some(&self.value.resolve(ctx)?))
    }

    fn type_def(&self, _: &TypeState) -> TypeDef {
        TypeDef::object(Collection::any()).or_array(Collection::any()).add_null().fallible()
    }
}
