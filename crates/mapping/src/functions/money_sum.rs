//! `money_sum(items, member, currency)`: the exact sum of an amount of each item.

use vrl::compiler::expression::Expr;
use vrl::compiler::prelude::*;

use super::{exact, look, money};

#[derive(Clone, Copy, Debug)]
pub(super) struct MoneySum;

const PARAMETERS: &[Parameter] = &[
    Parameter::required("items", kind::ARRAY | kind::NULL, "The items, objects."),
    Parameter::required("member", kind::BYTES, "The member that has the amount in major units."),
    Parameter::required("currency", kind::BYTES, "The ISO 4217 code, three letters A-Z."),
];

const EXAMPLES: &[Example] = &[
    example! {
        title: "Taxes of a line",
        source: r#"money_sum!(.tax_lines, "price", "EUR")"#,
        input: r#"{"tax_lines":[{"price":"1.90"},{"price":"0.70"}]}"#,
        result: Ok(r#"{"currency":"EUR","minor":260}"#),
    },
    example! {
        title: "Nothing",
        source: r#"money_sum!([], "price", "JPY")"#,
        result: Ok(r#"{"currency":"JPY","minor":0}"#),
    },
    example! {
        title: "No items at all: null, not zero",
        source: r#"money_sum!(.tax_lines, "price", "EUR")"#,
        input: "{}",
        result: Ok("null"),
    },
    example! {
        title: "An item without an amount",
        source: r#"money_sum!(.items, "price", "EUR")"#,
        input: r#"{"items":[{"price":"1"},{"rate":0.19}]}"#,
        result: Err("amount `price` of item 1 is missing"),
    },
    example! {
        title: "Too large to count",
        source: r#"money_sum!(.items, "p", "JPY")"#,
        input: r#"{"items":[{"p":"9223372036854775807"},{"p":"1"}]}"#,
        result: Err("the sum of `p` is too large"),
    },
];

impl Function for MoneySum {
    fn identifier(&self) -> &'static str {
        "money_sum"
    }

    fn summary(&self) -> &'static str {
        "an exact sum of money"
    }

    fn usage(&self) -> &'static str {
        "Adds up an amount of each item of an array, exactly, in the currency's minor units. Null gives null."
    }

    fn category(&self) -> &'static str {
        Category::Convert.as_ref()
    }

    fn return_kind(&self) -> u16 {
        kind::OBJECT | kind::NULL
    }

    fn parameters(&self) -> &'static [Parameter] {
        PARAMETERS
    }

    fn examples(&self) -> &'static [Example] {
        EXAMPLES
    }

    fn compile(&self, _: &TypeState, _: &mut FunctionCompileContext, arguments: ArgumentList) -> Compiled {
        Ok(MoneySumCall {
            items: arguments.required_expr("items"),
            member: arguments.required("member"),
            currency: arguments.required("currency"),
        }
        .as_expr())
    }
}

#[derive(Clone, Debug)]
struct MoneySumCall {
    items: Expr,
    member: Box<dyn Expression>,
    currency: Box<dyn Expression>,
}

impl FunctionExpression for MoneySumCall {
    fn resolve(&self, ctx: &mut Context) -> Resolved {
        let member = self.member.resolve(ctx)?;
        let member = member.try_bytes_utf8_lossy()?;
        let currency = self.currency.resolve(ctx)?;
        let sum = look::at(&self.items, ctx, |items| sum(items, &member, money::code(&currency)?))?;
        Ok(sum.map_or(Value::Null, |sum| money::value(sum, currency)))
    }

    fn type_def(&self, _: &TypeState) -> TypeDef {
        money::type_def().add_null()
    }
}

fn sum(items: &Value, member: &str, currency: &str) -> Result<Option<i64>, String> {
    let items = match items {
        Value::Array(items) => items,
        Value::Null => return Ok(None),
        other => return Err(format!("the items to add up must be an array, not {}", other.kind_str())),
    };
    // The currency is checked even where there is nothing to add up.
    let mut sum = lockstep_core::money::minor("0", currency).map_err(|e| e.to_string())?;
    for (index, item) in items.iter().enumerate() {
        let amount = item.as_object().and_then(|members| members.get(member));
        let amount = amount.ok_or_else(|| format!("amount `{member}` of item {index} is missing"))?;
        let text = exact::decimal("amount", amount)?;
        let minor = lockstep_core::money::minor(&text, currency).map_err(|e| e.to_string())?;
        sum = sum.checked_add(minor).ok_or_else(|| format!("the sum of `{member}` is too large"))?;
    }
    Ok(Some(sum))
}
