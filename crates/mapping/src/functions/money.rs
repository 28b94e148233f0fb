//! `money(amount, currency)`: an exact amount in minor units.

use vrl::compiler::prelude::*;

use super::exact;

#[derive(Clone, Copy, Debug)]
pub(super) struct Money;

const PARAMETERS: &[Parameter] = &[
    Parameter::required("amount", kind::BYTES | kind::INTEGER | kind::FLOAT, "The amount in major units."),
    Parameter::required("currency", kind::BYTES, "The ISO 4217 code, three letters A-Z."),
];

const EXAMPLES: &[Example] = &[
    example! {
        title: "Two digits",
        source: r#"money!("10.99", "USD")"#,
        result: Ok(r#"{"currency":"USD","minor":1099}"#),
    },
    example! {
        title: "No digits: zeros after the point are no precision",
        source: r#"money!("1200.00", "JPY")"#,
        result: Ok(r#"{"currency":"JPY","minor":1200}"#),
    },
    example! {
        title: "Three digits",
        source: r#"money!("-1.234", "KWD")"#,
        result: Ok(r#"{"currency":"KWD","minor":-1234}"#),
    },
    example! {
        title: "A whole number",
        source: r#"money!(5, "EUR")"#,
        result: Ok(r#"{"currency":"EUR","minor":500}"#),
    },
    example! {
        title: "A float whose shortest decimal is exact",
        source: r#"money!(89.99, "USD")"#,
        result: Ok(r#"{"currency":"USD","minor":8999}"#),
    },
    example! {
        title: "A float that came from arithmetic",
        source: r#"money!(0.1 + 0.2, "USD")"#,
        result: Err("amount `0.30000000000000004` must be text: a float does not hold that many digits exactly"),
    },
    example! {
        title: "More digits than the currency has are never rounded",
        source: r#"money!("0.005", "USD")"#,
        result: Err("amount `0.005` has more than the 2 decimal digits of USD"),
    },
    example! {
        title: "Not a currency",
        source: r#"money!("1", "usd")"#,
        result: Err("currency `usd` must be three letters A-Z (ISO 4217)"),
    },
];

impl Function for Money {
    fn identifier(&self) -> &'static str {
        "money"
    }

    fn summary(&self) -> &'static str {
        "an exact amount of money"
    }

    fn usage(&self) -> &'static str {
        "Makes an amount in the currency's minor units. An amount with more decimal digits than the currency has is an error."
    }

    fn category(&self) -> &'static str {
        Category::Convert.as_ref()
    }

    fn return_kind(&self) -> u16 {
        kind::OBJECT
    }

    fn parameters(&self) -> &'static [Parameter] {
        PARAMETERS
    }

    fn examples(&self) -> &'static [Example] {
        EXAMPLES
    }

    fn compile(&self, _: &TypeState, _: &mut FunctionCompileContext, arguments: ArgumentList) -> Compiled {
        let (amount, currency) = (arguments.required("amount"), arguments.required("currency"));
        Ok(MoneyCall { amount, currency }.as_expr())
    }
}

#[derive(Clone, Debug)]
struct MoneyCall {
    amount: Box<dyn Expression>,
    currency: Box<dyn Expression>,
}

impl FunctionExpression for MoneyCall {
    fn resolve(&self, ctx: &mut Context) -> Resolved {
        let (amount, currency) = (self.amount.resolve(ctx)?, self.currency.resolve(ctx)?);
        let text = exact::decimal("amount", &amount)?;
        let minor = lockstep_core::money::minor(&text, code(&currency)?).map_err(|e| e.to_string())?;
        Ok(value(minor, currency))
    }

    fn type_def(&self, _: &TypeState) -> TypeDef {
        type_def()
    }
}

pub(super) fn code(currency: &Value) -> Result<&str, String> {
    match currency {
        Value::String(text) => Ok(text),
        other => Err(format!("currency must be three letters A-Z (ISO 4217), not {}", other.kind_str())),
    }
}

pub(super) fn value(minor: i64, currency: Value) -> Value {
    Value::Object(ObjectMap::from([("currency".into(), currency), ("minor".into(), Value::Integer(minor))]))
}

pub(super) fn type_def() -> TypeDef {
    let fields = [("currency".into(), Kind::bytes()), ("minor".into(), Kind::integer())];
    TypeDef::object(Collection::from(std::collections::BTreeMap::from(fields))).fallible()
}
