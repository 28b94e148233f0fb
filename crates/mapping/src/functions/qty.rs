//! `qty(value, scale)`: an exact quantity in base units.

use vrl::compiler::prelude::*;

use super::exact;

#[derive(Clone, Copy, Debug)]
pub(super) struct Qty;

/// The most decimal digits that a quantity can have.
const SCALE_MAX: usize = 9;

const PARAMETERS: &[Parameter] = &[
    Parameter::required("value", kind::BYTES | kind::INTEGER | kind::FLOAT, "The quantity in base units."),
    Parameter::optional("scale", kind::INTEGER, "The decimal digits of the SKU's base unit; 0 where it is left out."),
];

const EXAMPLES: &[Example] = &[
    example! { title: "Pieces", source: r#"qty!(3)"#, result: Ok("3") },
    example! { title: "Pieces as text", source: r#"qty!("12.0")"#, result: Ok("12") },
    example! { title: "Kilograms to the gram", source: r#"qty!("1.25", 3)"#, result: Ok("1250") },
    example! { title: "A negative float", source: r#"qty!(-0.5, 1)"#, result: Ok("-5") },
    example! {
        title: "Half a piece",
        source: r#"qty!("0.5")"#,
        result: Err("quantity `0.5` has more than the 0 decimal digits of its unit"),
    },
    example! {
        title: "Not a number",
        source: r#"qty!("three")"#,
        result: Err("quantity `three` must be a decimal number such as 3 or 1.25"),
    },
    example! {
        title: "A scale that no unit has",
        source: r#"qty!(1, 12)"#,
        result: Err("scale `12` must be 0 to 9"),
    },
    example! {
        title: "Too large to count",
        source: r#"qty!("9223372036854775808")"#,
        result: Err("quantity `9223372036854775808` is too large"),
    },
];

impl Function for Qty {
    fn identifier(&self) -> &'static str {
        "qty"
    }

    fn summary(&self) -> &'static str {
        "an exact quantity"
    }

    fn usage(&self) -> &'static str {
        "Makes a whole number of base units times ten to the power of the scale. More decimal digits than the scale are an error."
    }

    fn category(&self) -> &'static str {
        Category::Convert.as_ref()
    }

    fn return_kind(&self) -> u16 {
        kind::INTEGER
    }

    fn parameters(&self) -> &'static [Parameter] {
        PARAMETERS
    }

    fn examples(&self) -> &'static [Example] {
        EXAMPLES
    }

    fn compile(&self, _: &TypeState, _: &mut FunctionCompileContext, arguments: ArgumentList) -> Compiled {
        Ok(QtyCall { value: arguments.required("value"), scale: arguments.optional("scale") }.as_expr())
    }
}

#[derive(Clone, Debug)]
struct QtyCall {
    value: Box<dyn Expression>,
    scale: Option<Box<dyn Expression>>,
}

impl FunctionExpression for QtyCall {
    fn resolve(&self, ctx: &mut Context) -> Resolved {
        let value = self.value.resolve(ctx)?;
        let scale = match &self.scale {
            Some(scale) => scale.resolve(ctx)?.try_integer()?,
            None => 0,
        };
        if let (Value::Integer(_), 0) = (&value, scale) {
            return Ok(value);
        }
        let digits = usize::try_from(scale).ok().filter(|digits| *digits <= SCALE_MAX);
        let digits = digits.ok_or_else(|| format!("scale `{scale}` must be 0 to {SCALE_MAX}"))?;
        Ok(Value::Integer(scaled(&exact::decimal("quantity", &value)?, digits)?))
    }

    fn type_def(&self, _: &TypeState) -> TypeDef {
        TypeDef::integer().fallible()
    }
}

fn scaled(text: &str, digits: usize) -> Result<i64, String> {
    let bad = || format!("quantity `{text}` must be a decimal number such as 3 or 1.25");
    let trimmed = text.trim();
    let (sign, unsigned) = match trimmed.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, trimmed),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return Err(bad());
    }
    let significant = fraction.trim_end_matches('0');
    if significant.len() > digits {
        return Err(format!("quantity `{text}` has more than the {digits} decimal digits of its unit"));
    }
    let padding = std::iter::repeat_n(b'0', digits - significant.len());
    let mut units: i64 = 0;
    for digit in whole.bytes().chain(significant.bytes()).chain(padding) {
        let next = units.checked_mul(10).and_then(|units| units.checked_add(sign * i64::from(digit - b'0')));
        units = next.ok_or_else(|| format!("quantity `{text}` is too large"))?;
    }
    Ok(units)
}
