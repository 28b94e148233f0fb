//! `alias(system, type, id)`: the name of something that has only an outside system's identifier.

use vrl::compiler::prelude::*;

#[derive(Clone, Copy, Debug)]
pub(super) struct Alias;

const PARAMETERS: &[Parameter] = &[
    Parameter::required("system", kind::BYTES, "The outside system."),
    Parameter::required("type", kind::BYTES, "What the identifier identifies there."),
    Parameter::required("id", kind::BYTES | kind::INTEGER, "The identifier."),
];

const EXAMPLES: &[Example] = &[
    example! {
        title: "A variant without a SKU",
        source: r#"alias!("shopify", "variant", 808950810)"#,
        result: Ok(r#""shopify-variant:808950810""#),
    },
    example! {
        title: "No identifier",
        source: r#"alias!("shopify", "variant", "")"#,
        result: Err("id of a shopify variant must not be empty"),
    },
];

impl Function for Alias {
    fn identifier(&self) -> &'static str {
        "alias"
    }

    fn summary(&self) -> &'static str {
        "a name made of an outside identifier"
    }

    fn usage(&self) -> &'static str {
        "Makes `<system>-<type>:<id>`, which names the same thing until it has a key of its own."
    }

    fn category(&self) -> &'static str {
        Category::String.as_ref()
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
        let (system, kind, id) = (arguments.required("system"), arguments.required("type"), arguments.required("id"));
        Ok(AliasCall { system, kind, id }.as_expr())
    }
}

#[derive(Clone, Debug)]
struct AliasCall {
    system: Box<dyn Expression>,
    kind: Box<dyn Expression>,
    id: Box<dyn Expression>,
}

impl FunctionExpression for AliasCall {
    fn resolve(&self, ctx: &mut Context) -> Resolved {
        let (system, kind, id) = (self.system.resolve(ctx)?, self.kind.resolve(ctx)?, self.id.resolve(ctx)?);
        let (system, kind) = (system.try_bytes_utf8_lossy()?, kind.try_bytes_utf8_lossy()?);
        let id = match &id {
            Value::Integer(_) | Value::String(_) => id.to_string_lossy(),
            other => {
                return Err(format!(
                    "id of a {system} {kind} must be text or a whole number, not {}",
                    other.kind_str()
                )
                .into());
            }
        };
        if id.is_empty() {
            return Err(format!("id of a {system} {kind} must not be empty").into());
        }
        Ok(format!("{system}-{kind}:{id}").into())
    }

    fn type_def(&self, _: &TypeState) -> TypeDef {
        TypeDef::bytes().fallible()
    }
}
