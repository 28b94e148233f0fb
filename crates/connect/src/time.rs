//! Times as text: RFC 3339 to the microsecond, and the date format of HTTP.

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime, Time, datetime};

/// 0000-01-01T00:00:00Z, the first moment that RFC 3339 can write.
const MIN_US: i64 = -62_167_219_200_000_000;
/// 9999-12-31T23:59:59.999999Z, the last one.
const MAX_US: i64 = 253_402_300_799_999_999;
/// What microseconds are counted from, in UTC. Civil times reach further than the library's timestamps, which end a
/// day before the 9999-12-31 that many systems write for "never".
const EPOCH: DateTime = datetime(1970, 1, 1, 0, 0, 0, 0);

/// Microseconds since 1970 UTC of an RFC 3339 timestamp. Digits beyond the microsecond are cut off; a leap second
/// counts as the second before it.
///
/// Strict: date, `T`, time with seconds, and an offset with minutes are all required.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let (head, mut rest) = bytes.split_at_checked(19)?;
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if !separators.iter().all(|(at, byte)| head[*at] == *byte) || !matches!(head[10], b'T' | b't') {
        return None;
    }
    let date = Date::new(number(&head[..4])?, number(&head[5..7])? as i8, number(&head[8..10])? as i8).ok()?;
    let second = match number(&head[17..])? {
        60 => 59,
        second => second,
    };
    let time = Time::new(number(&head[11..13])? as i8, number(&head[14..16])? as i8, second as i8, 0).ok()?;

    let mut fraction_us = 0;
    if let Some(digits) = rest.strip_prefix(b".") {
        let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
        if count == 0 {
            return None;
        }
        for at in 0..6 {
            fraction_us = fraction_us * 10 + digits[..count].get(at).map_or(0, |b| i64::from(b - b'0'));
        }
        rest = &digits[count..];
    }
    let offset_s = match rest {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset_s = i64::from(hours) * 3_600 + i64::from(minutes) * 60;
            if *sign == b'-' { -offset_s } else { offset_s }
        }
        _ => return None,
    };
    let local_s = DateTime::from_parts(date, time).duration_since(EPOCH).as_secs();
    Some((local_s - offset_s) * 1_000_000 + fraction_us)
}

/// Up to four digits as a number.
fn number(digits: &[u8]) -> Option<i16> {
    digits.iter().try_fold(0, |sum: i16, b| b.is_ascii_digit().then(|| sum * 10 + i16::from(b - b'0')))
}

/// Microseconds since 1970 as RFC 3339 in UTC with six digits after the point.
pub fn format_rfc3339(at_us: i64) -> String {
    let mut text = Vec::with_capacity(27);
    write_rfc3339(&mut text, at_us);
    // Only ASCII was written.
    String::from_utf8(text).unwrap_or_default()
}

/// Writes what [`format_rfc3339`] gives. A time beyond the years 0 to 9999 is written as the nearest in them.
pub fn write_rfc3339(out: &mut Vec<u8>, at_us: i64) {
    let at = EPOCH.saturating_add(SignedDuration::from_micros(at_us.clamp(MIN_US, MAX_US)));
    let mut put = |number: u32, digits: usize, after: u8| {
        let mut text = [b'0'; 7];
        let mut left = number;
        for place in text[..digits].iter_mut().rev() {
            *place = b'0' + (left % 10) as u8;
            left /= 10;
        }
        text[digits] = after;
        out.extend_from_slice(&text[..=digits]);
    };
    put(u32::from(at.year().unsigned_abs()), 4, b'-');
    put(u32::from(at.month().unsigned_abs()), 2, b'-');
    put(u32::from(at.day().unsigned_abs()), 2, b'T');
    put(u32::from(at.hour().unsigned_abs()), 2, b':');
    put(u32::from(at.minute().unsigned_abs()), 2, b':');
    put(u32::from(at.second().unsigned_abs()), 2, b'.');
    put(at.subsec_nanosecond().unsigned_abs() / 1_000, 6, b'Z');
}

/// Microseconds since 1970 UTC of a date as HTTP writes it, for example `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn parse_http_date(text: &str) -> Option<i64> {
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(at.as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_rfc_3339_allows_and_nothing_else() {
        let same = ["2018-04-05T17:31:00Z", "2018-04-05T18:31:00+01:00", "2018-04-05T16:31:00.000000000-01:00"];
        for text in same {
            assert_eq!(parse_rfc3339(text), Some(1_522_949_460_000_000), "{text}");
        }
        assert_eq!(parse_rfc3339("1969-12-31T23:59:59.9999999Z"), Some(-1));
        assert_eq!(parse_rfc3339("2016-12-31T23:59:60Z"), parse_rfc3339("2016-12-31T23:59:59Z"));
        for text in [
            "",
            "lunchtime",
            "2018-04-05",
            "2018-04-05T18:31Z",
            "2018-04-05T18:31:00",
            "2018-04-05T18:31:00X",
            "2018-04-05T18:31:00+25:00",
            "2018-04-05T18:31:00+xx:00",
            "2018-04-05T18:31:00+05",
            "2018-04-05 18:31:00Z",
            "2018-02-30T00:00:00Z",
            "2018-04-05T24:00:00Z",
            "2018-04-05T18:31:00.Z",
            "2018-04-05T18:31:00Z[UTC]",
            "2018-04-05T18:31:61Z",
            "+018-04-05T18:31:00Z",
            "2018-04-05T18:31:00,5Z",
            "2018-04-05T18:31:0é",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn writes_six_digits_and_stays_within_four_digit_years() {
        assert_eq!(format_rfc3339(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(format_rfc3339(-1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(format_rfc3339(1_522_949_460_000_007), "2018-04-05T17:31:00.000007Z");
        assert_eq!(format_rfc3339(i64::MIN), "0000-01-01T00:00:00.000000Z");
        assert_eq!(format_rfc3339(i64::MAX), "9999-12-31T23:59:59.999999Z");
        assert_eq!(parse_rfc3339("9999-12-31T23:59:59-10:00"), Some(MAX_US + 36_000_000_000 - 999_999));
    }

    #[test]
    fn reads_http_dates() {
        assert_eq!(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777_000_000));
        assert_eq!(parse_http_date("tomorrow"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(at_us in MIN_US..=MAX_US) {
            prop_assert_eq!(parse_rfc3339(&format_rfc3339(at_us)), Some(at_us));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = parse_rfc3339(&text);
            let _ = parse_http_date(&text);
        }
    }
}
