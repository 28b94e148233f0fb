//! Times as people read them.

use lockstep_connect::time::format_rfc3339;

/// A time in UTC to the millisecond.
pub fn format_us(at_us: i64) -> String {
    let text = format_rfc3339(at_us.div_euclid(1_000) * 1_000);
    match text.strip_suffix("000Z") {
        Some(millis) => format!("{millis}Z"),
        None => text,
    }
}

/// An RFC 3339 timestamp of an answer to the millisecond; what is none stays as it is.
pub fn shorten(text: &str) -> String {
    lockstep_connect::time::parse_rfc3339(text).map_or_else(|| text.to_owned(), format_us)
}

/// Now, in seconds since 1970 UTC.
pub fn now_s() -> i64 {
    lockstep_hub::now_us().div_euclid(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_to_the_millisecond() {
        assert_eq!(format_us(1_700_000_000_123_456), "2023-11-14T22:13:20.123Z");
        assert_eq!(format_us(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(shorten("2023-11-14T22:13:20.123456Z"), "2023-11-14T22:13:20.123Z");
        assert_eq!(shorten("-"), "-");
    }
}
