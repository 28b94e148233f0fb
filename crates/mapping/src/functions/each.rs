//! `each(items) -> |item| { ... }`: the results of a block for each item.

use vrl::compiler::prelude::closure::{Definition, Input, Output, Runner, Variable, VariableKind};
use vrl::compiler::prelude::*;

#[derive(Clone, Copy, Debug)]
pub(super) struct Each;

const PARAMETERS: &[Parameter] = &[Parameter::required("items", kind::ARRAY, "The items.")];

const EXAMPLES: &[Example] = &[
    example! {
        title: "Lines of an order",
        source: r#"each(array!(.lines)) -> |line| { {"ordered": qty!(line.quantity)} }"#,
        input: r#"{"lines":[{"quantity":2},{"quantity":"3"}]}"#,
        result: Ok(r#"[{"ordered":2},{"ordered":3}]"#),
    },
    example! { title: "Nothing", source: "each([]) -> |item| { item }", result: Ok("[]") },
];

impl Function for Each {
    fn identifier(&self) -> &'static str {
        "each"
    }

    fn summary(&self) -> &'static str {
        "the results of a block for each item"
    }

    fn usage(&self) -> &'static str {
        "Runs a block for each item of an array and gives an array of the results. Unlike `map_values` it copies no item."
    }

    fn category(&self) -> &'static str {
        Category::Enumerate.as_ref()
    }

    fn return_kind(&self) -> u16 {
        kind::ARRAY
    }

    fn parameters(&self) -> &'static [Parameter] {
        PARAMETERS
    }

    fn examples(&self) -> &'static [Example] {
        EXAMPLES
    }

    fn closure(&self) -> Option<Definition> {
        Some(Definition {
            inputs: vec![Input {
                parameter_keyword: "items",
                kind: Kind::array(Collection::any()),
                variables: vec![Variable { kind: VariableKind::TargetInnerValue }],
                output: Output::Kind(Kind::any()),
                example: EXAMPLES[0],
            }],
            is_iterator: true,
            supports_break: false,
        })
    }

    fn compile(&self, _: &TypeState, _: &mut FunctionCompileContext, arguments: ArgumentList) -> Compiled {
        let mut closure = arguments.required_closure()?;
        // A loop binds the index first. Without a name it is bound to nothing.
        closure.variables.insert(0, "_".to_owned().into());
        Ok(EachCall { items: arguments.required("items"), closure }.as_expr())
    }
}

#[derive(Clone, Debug)]
struct EachCall {
    items: Box<dyn Expression>,
    closure: function::Closure,
}

impl FunctionExpression for EachCall {
    fn resolve(&self, ctx: &mut Context) -> Resolved {
        let items = self.items.resolve(ctx)?.try_array()?;
        let runner = Runner::new(&self.closure.variables, |ctx| self.closure.block.resolve(ctx));
        let mut bound = runner.scoped_loop(ctx);
        let results = items.into_iter().enumerate().map(|(index, item)| bound.run_index_value(index, item));
        Ok(Value::Array(results.collect::<ExpressionResult<Vec<_>>>()?))
    }

    fn type_def(&self, _: &TypeState) -> TypeDef {
        TypeDef::array(Collection::from_unknown(self.closure.block_type_def.kind().clone()))
            .maybe_fallible(self.closure.block_type_def.is_fallible())
    }
}
