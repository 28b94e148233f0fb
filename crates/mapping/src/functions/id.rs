//! `id(value)`: an outside identifier as text.

use vrl::compiler::prelude::*;

#[derive(Clone, Copy, Debug)]
pub(super) struct Id;

const PARAMETERS: &[Parameter] = &[Parameter::required(
    "value",
    kind::BYTES | kind::INTEGER,
    "The identifier: a whole number, or text that is not empty.",
)];

const EXAMPLES: &[Example] = &[
    example! { title: "A number", source: r#"id!(9007199254740993)"#, result: Ok(r#""9007199254740993""#) },
    example! { title: "Text", source: r#"id!("A-7")"#, result: Ok(r#""A-7""#) },
    example! {
        title: "Nothing",
        source: r#"id!(.id)"#,
        input: "{}",
        result: Err("an identifier must be a whole number or text, not null"),
    },
    example! { title: "Empty", source: r#"id!("")"#, result: Err("an identifier must not be empty") },
];

impl Function for Id {
    fn identifier(&self) -> &'static str {
        "id"
    }

    fn summary(&self) -> &'static str {
        "an outside identifier as text"
    }

    fn usage(&self) -> &'static str {
        "Makes text of an identifier. Unlike with `to_string`, there must be one: null and empty text are errors."
    }

    fn category(&self) -> &'static str {
        Category::Convert.as_ref()
    }

    fn return_kind(&self) -> u16 {
        kind::BYTES
    }

    fn parameters(&self) -> &'static [Parameter] {
        PARAMETERS
    }

    fn examples(&self) -> &'static [Example] {
        EXAMPLES
    }

    fn compile(&self, _: &TypeState, _: &mut FunctionCompileContext, arguments: ArgumentList) -> Compiled {
        Ok(IdCall { value: arguments.required("value") }.as_expr())
    }
}

#[derive(Clone, Debug)]
struct IdCall {
    value: Box<dyn Expression>,
}

impl FunctionExpression for IdCall {
    fn resolve(&self, ctx: &mut Context) -> Resolved {
        match self.value.resolve(ctx)? {
            Value::Integer(number) => Ok(Value::from(number.to_string())),
            Value::String(text) if text.is_empty() => Err("an identifier must not be empty".into()),
            text @ Value::String(_) => Ok(text),
            other => Err(format!("an identifier must be a whole number or text, not {}", other.kind_str()).into()),
        }
    }

    fn type_def(&self, _: &TypeState) -> TypeDef {
        TypeDef::bytes().fallible()
    }
}
