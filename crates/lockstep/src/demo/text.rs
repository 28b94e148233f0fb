//! Numbers for people.

use std::time::Duration;

/// `12345678` as `12,345,678`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The same for a number that may be negative.
pub(crate) fn signed(number: i64) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", grouped(number.unsigned_abs()))
}

/// Microseconds as milliseconds, with as many digits as say something.
pub(crate) fn millis(us: u64) -> String {
    match us {
        0..100_000 => format!("{}.{}", us / 1_000, us % 1_000 / 100),
        _ => grouped(us / 1_000),
    }
}

/// Reads `30s`, `500ms`, `2m` or `1h`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` must be a duration such as 30s, 500ms, 2m, 1h or 1d");
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..at].parse().map_err(|_| wrong())?;
    let unit_ms = match &text[at..] {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let ms = number.checked_mul(unit_ms).ok_or_else(wrong)?;
    if ms == 0 || ms > 7 * 24 * 3_600_000 {
        return Err(format!("`{text}` must be more than nothing and at most a week"));
    }
    Ok(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let rows = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")];
        for (number, text) in rows {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(signed(-5_176_450), "-5,176,450");
    }

    #[test]
    fn latencies_are_milliseconds() {
        let rows = [(0, "0.0"), (950, "0.9"), (1_949, "1.9"), (99_999, "99.9"), (100_000, "100"), (2_500_000, "2,500")];
        for (us, text) in rows {
            assert_eq!(millis(us), text);
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1d"), Ok(Duration::from_secs(86_400)));
        for bad in ["", "s", "1.5s", "-1s", "0", "0ms", "1w", "8d", "9999h", "99999999999999999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
