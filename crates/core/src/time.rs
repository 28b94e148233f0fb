//! Times in documents: RFC 3339, as the canonical schemas have them.

/// Microseconds since 1970 UTC of a time such as `2026-03-01T09:30:00.5Z` or `2026-03-01T10:30:00.5+01:00`; `None`
/// where it is not in this form.
pub fn rfc3339_us(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T')?;
    let (time, ahead_min) = match time.strip_suffix('Z') {
        Some(time) => (time, 0),
        None => offset_min(time)?,
    };
    let numbers = |text: &str, by: char| -> Option<[i64; 3]> {
        let parts: Vec<i64> = text.split(by).map(|part| part.parse().ok()).collect::<Option<_>>()?;
        parts.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-')?;
    let (whole, fraction) = time.split_once('.').unwrap_or((time, ""));
    let [hour, minute, second] = numbers(whole, ':')?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let digits = format!("{:0<6}", fraction.get(..6.min(fraction.len()))?);
    let us: i64 = digits.parse().ok()?;
    // Days from the civil date, after H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let years = if month <= 2 { year - 1 } else { year };
    let era = years.div_euclid(400);
    let of_era = years.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = ((days * 24 + hour) * 60 + minute - ahead_min) * 60 + second;
    seconds.checked_mul(1_000_000)?.checked_add(us)
}

/// A moment as RFC 3339 in UTC, with microseconds.
pub fn rfc3339(at_us: i64) -> String {
    let (seconds, us) = (at_us.div_euclid(1_000_000), at_us.rem_euclid(1_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{us:06}Z")
}

/// Year, month and day so many days after 1970-01-01, after the same.
pub(crate) fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let of_years = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * of_years + of_years / 4 - of_years / 100);
    let part = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * part + 2) / 5 + 1, if part < 10 { part + 3 } else { part - 9 });
    (of_years + era * 400 + i64::from(month <= 2), month, day)
}

/// A time without its offset from UTC, and that in minutes.
fn offset_min(time: &str) -> Option<(&str, i64)> {
    let (time, offset) = time.split_at_checked(time.len().checked_sub(6)?)?;
    let sign = if offset.starts_with('+') { 1 } else { -1 };
    let (hours, minutes) = offset.strip_prefix(['+', '-'])?.split_once(':')?;
    let number = |text: &str| text.parse::<u8>().ok().map(i64::from);
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours < 24 && minutes < 60).then_some((time, sign * (hours * 60 + minutes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_they_are_read() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(rfc3339(1_709_208_000_500_000), "2024-02-29T12:00:00.500000Z");
        for days in (-800_000..800_000).step_by(97) {
            let at_us = days * 86_400_000_000 + 86_399_999_999;
            if (0..=9_999).contains(&rfc3339(at_us)[..4].parse::<i64>().unwrap_or(-1)) {
                assert_eq!(rfc3339_us(&rfc3339(at_us)), Some(at_us));
            }
        }
    }

    #[test]
    fn times_are_read() {
        assert_eq!(rfc3339_us("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(rfc3339_us("2026-01-01T00:00:00.000001Z"), Some(1_767_225_600_000_001));
        assert_eq!(rfc3339_us("2024-02-29T12:00:00.5Z"), Some(1_709_208_000_500_000));
        assert_eq!(rfc3339_us("1969-12-31T23:59:59Z"), Some(-1_000_000));
        assert_eq!(rfc3339_us("1970-01-01T01:30:00+01:30"), Some(0));
        assert_eq!(rfc3339_us("1969-12-31T19:00:00.5-05:00"), Some(500_000));
        for wrong in [
            "",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00+0100",
            "2026-01-01T00:00:00+24:00",
            "2026-13-01T00:00:00Z",
            "x-01-01T00:00:00Z",
        ] {
            assert_eq!(rfc3339_us(wrong), None, "{wrong}");
        }
    }
}
