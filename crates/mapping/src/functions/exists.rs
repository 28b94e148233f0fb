//! `exists(path)`: the standard library's, which also tells the compiler that only the presence is asked.

use vrl::compiler::prelude::*;

use crate::wanted::Looks;

#[derive(Clone, Copy, Debug)]
pub(super) struct Exists;

const STANDARD: vrl::stdlib::Exists = vrl::stdlib::Exists;

const EXAMPLES: &[Example] = &[
    example! { title: "Null is there", source: "exists(.a.b)", input: r#"{"a":{"b":null}}"#, result: Ok("true") },
    example! { title: "What is not there", source: "exists(.a.b)", input: r#"{"a":1}"#, result: Ok("false") },
];

impl Function for Exists {
    fn identifier(&self) -> &'static str {
        STANDARD.identifier()
    }

    fn summary(&self) -> &'static str {
        "whether there is something, be it null"
    }

    fn usage(&self) -> &'static str {
        STANDARD.usage()
    }

    fn category(&self) -> &'static str {
        STANDARD.category()
    }

    fn return_kind(&self) -> u16 {
        STANDARD.return_kind()
    }

    fn parameters(&self) -> &'static [Parameter] {
        STANDARD.parameters()
    }

    fn examples(&self) -> &'static [Example] {
        EXAMPLES
    }

    fn compile(&self, state: &TypeState, ctx: &mut FunctionCompileContext, arguments: ArgumentList) -> Compiled {
        if let Some(path) = arguments.required_query("field")?.external_path() {
            Looks::note(ctx, path, Vec::new());
        }
        STANDARD.compile(state, ctx, arguments)
    }
}
