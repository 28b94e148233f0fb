//! `stamp(text)`: a moment as microseconds since 1970 UTC.

use vrl::compiler::prelude::*;

#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp;

const PARAMETERS: &[Parameter] =
    &[Parameter::required("time", kind::BYTES | kind::TIMESTAMP, "An RFC 3339 time with its offset, or a timestamp.")];

const EXAMPLES: &[Example] = &[
    example! { title: "UTC", source: r#"stamp!("1970-01-01T00:00:01Z")"#, result: Ok("1000000") },
    example! {
        title: "With an offset and parts of a second",
        source: r#"stamp!("2026-02-28T23:30:00.250-05:00")"#,
        result: Ok("1772339400250000"),
    },
    example! {
        title: "A timestamp of VRL",
        source: r#"stamp!(from_unix_timestamp!(2))"#,
        result: Ok("2000000"),
    },
    example! {
        title: "Without an offset it is no moment",
        source: r#"stamp!("2026-02-28T23:30:00")"#,
        result: Err("time `2026-02-28T23:30:00` must be an RFC 3339 time with its offset, such as 2026-03-01T09:30:00Z"),
    },
];

impl Function for Stamp {
    fn identifier(&self) -> &'static str {
        "stamp"
    }

    fn summary(&self) -> &'static str {
        "a moment in microseconds"
    }

    fn usage(&self) -> &'static str {
        "Makes microseconds since 1970 UTC of an RFC 3339 time. Digits beyond the microsecond are cut off."
    }

    fn category(&self) -> &'static str {
        Category::Timestamp.as_ref()
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
        Ok(StampCall { time: arguments.required("time") }.as_expr())
    }
}

#[derive(Clone, Debug)]
struct StampCall {
    time: Box<dyn Expression>,
}

impl FunctionExpression for StampCall {
    fn resolve(&self, ctx: &mut Context) -> Resolved {
        Ok(Value::Integer(micros(&self.time.resolve(ctx)?)?))
    }

    fn type_def(&self, _: &TypeState) -> TypeDef {
        TypeDef::integer().fallible()
    }
}

/// The moment of a timestamp or of an RFC 3339 time.
pub(super) fn micros(time: &Value) -> Result<i64, String> {
    match time {
        Value::Timestamp(time) => Ok(time.timestamp_micros()),
        Value::String(text) => parse_rfc3339(text).ok_or_else(|| {
            format!("time `{text}` must be an RFC 3339 time with its offset, such as 2026-03-01T09:30:00Z")
        }),
        other => Err(format!("time must be an RFC 3339 time, not {}", other.kind_str())),
    }
}

/// Microseconds since 1970 UTC of an RFC 3339 time. Digits beyond the microsecond are cut off; a leap second
/// counts as the second before it. Date, time with seconds and offset are all required.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let (head, mut rest) = bytes.split_at_checked(19)?;
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, byte)| head[*at] != *byte) || !matches!(head[10], b'T' | b't') {
        return None;
    }
    let (year, month, day) = (number(&head[..4])?, number(&head[5..7])?, number(&head[8..10])?);
    let (hour, minute, second) = (number(&head[11..13])?, number(&head[14..16])?, number(&head[17..])?);
    let well = (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day) && hour < 24 && minute < 60;
    if !well || second > 60 {
        return None;
    }
    let mut fraction_us = 0;
    if let Some(digits) = rest.strip_prefix(b".") {
        let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count == 0 {
            return None;
        }
        for at in 0..6 {
            fraction_us = fraction_us * 10 + digits[..count].get(at).map_or(0, |byte| i64::from(byte - b'0'));
        }
        rest = &digits[count..];
    }
    let offset_min = match rest {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = hours * 60 + minutes;
            if *sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    let minutes = days_since_1970(year, month, day) * 1_440 + hour * 60 + minute - offset_min;
    Some((minutes * 60 + second.min(59)) * 1_000_000 + fraction_us)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days of the Gregorian calendar. The year is counted from March, so that the leap day comes last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

/// Year, month and day of a day since 1970: [`days_since_1970`] the other way round.
pub(super) fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_is_right_at_its_corners() {
        let rows = [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.9999999Z", -1),
            ("2000-02-29T00:00:00Z", 951_782_400_000_000),
            ("2000-03-01T00:00:00+05:00", 951_850_800_000_000),
            ("2100-03-01T00:00:00Z", 4_107_542_400_000_000),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000_000),
            ("2016-12-31T23:59:60Z", 1_483_228_799_000_000),
        ];
        for (text, expected) in rows {
            assert_eq!(parse_rfc3339(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "2018-04-05",
            "2018-04-05T18:31Z",
            "2018-04-05T18:31:00",
            "2018-04-05T18:31:00+25:00",
            "2018-04-05T18:31:00+05",
            "2018-04-05 18:31:00Z",
            "2018-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2018-04-05T24:00:00Z",
            "2018-04-05T18:31:00.Z",
            "2018-04-05T18:31:61Z",
            "2018-00-05T18:31:00Z",
            "2018-04-05T18:31:0é",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }
}
