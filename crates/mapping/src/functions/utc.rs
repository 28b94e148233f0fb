//! `utc(text)`: a moment as RFC 3339 in UTC.

use vrl::compiler::prelude::*;

use super::stamp;

#[derive(Clone, Copy, Debug)]
pub(super) struct Utc;

const PARAMETERS: &[Parameter] = &[Parameter::required(
    "time",
    kind::BYTES | kind::TIMESTAMP | kind::NULL,
    "An RFC 3339 time with its offset, or a timestamp.",
)];

const EXAMPLES: &[Example] = &[
    example! {
        title: "With an offset",
        source: r#"utc!("2026-02-28T23:30:00-05:00")"#,
        result: Ok(r#""2026-03-01T04:30:00Z""#),
    },
    example! {
        title: "Zeros after the point are no precision",
        source: r#"utc!("2026-03-01T04:30:00.000Z")"#,
        result: Ok(r#""2026-03-01T04:30:00Z""#),
    },
    example! {
        title: "Parts of a second",
        source: r#"utc!("1969-12-31T23:59:59.5Z")"#,
        result: Ok(r#""1969-12-31T23:59:59.500000Z""#),
    },
    example! { title: "Never is never", source: r#"utc!(.cancelled_at)"#, input: "{}", result: Ok("null") },
    example! {
        title: "Not a moment",
        source: r#"utc!("yesterday")"#,
        result: Err("time `yesterday` must be an RFC 3339 time with its offset, such as 2026-03-01T09:30:00Z"),
    },
];

impl Function for Utc {
    fn identifier(&self) -> &'static str {
        "utc"
    }

    fn summary(&self) -> &'static str {
        "a moment as text in UTC"
    }

    fn usage(&self) -> &'static str {
        "Writes an RFC 3339 time in UTC, so that equal moments are equal text. Null gives null."
    }

    fn category(&self) -> &'static str {
        Category::Timestamp.as_ref()
    }

    fn return_kind(&self) -> u16 {
        kind::BYTES | kind::NULL
    }

    fn parameters(&self) -> &'static [Parameter] {
        PARAMETERS
    }

    fn examples(&self) -> &'static [Example] {
        EXAMPLES
    }

    fn compile(&self, _: &TypeState, _: &mut FunctionCompileContext, arguments: ArgumentList) -> Compiled {
        Ok(UtcCall { time: arguments.required("time") }.as_expr())
    }
}

#[derive(Clone, Debug)]
struct UtcCall {
    time: Box<dyn Expression>,
}

impl FunctionExpression for UtcCall {
    fn resolve(&self, ctx: &mut Context) -> Resolved {
        match self.time.resolve(ctx)? {
            Value::Null => Ok(Value::Null),
            time => {
                let at_us = stamp::micros(&time)?;
                let text = format_utc(at_us).ok_or("time must be within the years 0 to 9999")?;
                Ok(Value::from(text))
            }
        }
    }

    fn type_def(&self, _: &TypeState) -> TypeDef {
        TypeDef::bytes().add_null().fallible()
    }
}

/// RFC 3339 in UTC, with six digits after the point where the second is not whole; nothing for a year that
/// has no four digits.
fn format_utc(at_us: i64) -> Option<String> {
    let (seconds, fraction_us) = (at_us.div_euclid(1_000_000), at_us.rem_euclid(1_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = stamp::date_of(days);
    if !(0..=9999).contains(&year) {
        return None;
    }
    let mut text = String::with_capacity(27);
    for (number, digits, after) in [
        (year, 4, '-'),
        (month, 2, '-'),
        (day, 2, 'T'),
        (second / 3_600, 2, ':'),
        (second / 60 % 60, 2, ':'),
        (second % 60, 2, if fraction_us == 0 { 'Z' } else { '.' }),
    ] {
        digits_of(number, digits, &mut text);
        text.push(after);
    }
    if fraction_us != 0 {
        digits_of(fraction_us, 6, &mut text);
        text.push('Z');
    }
    Some(text)
}

fn digits_of(number: i64, digits: u32, text: &mut String) {
    for place in (0..digits).rev() {
        let digit = number / 10_i64.pow(place) % 10;
        text.push(char::from(b'0' + digit as u8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(at_us in -62_167_219_200_000_000..=253_402_300_799_999_999_i64) {
            let text = format_utc(at_us).unwrap();
            prop_assert_eq!(stamp::parse_rfc3339(&text), Some(at_us));
        }
    }

    #[test]
    fn years_without_four_digits_are_refused() {
        assert_eq!(format_utc(253_402_300_800_000_000), None);
        assert_eq!(format_utc(-62_167_219_200_000_001), None);
        assert_eq!(format_utc(i64::MIN), None);
    }
}
