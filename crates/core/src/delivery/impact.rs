//! How much a delivery matters that was given up: what it is worth, for how long the destination has gone without it,
//! and whether a promise depends on it. So that a person begins with what hurts most.

use serde_json::Value;

use crate::event::Event;
use crate::money;
use crate::path::base_of;
use crate::time::rfc3339_us;

/// What is looked at for an event's value, the first that is there.
const VALUE_FIELDS: [&str; 2] = ["total", "amount"];
const PROMISED_FIELD: &str = "promised_at";
const LINES_FIELD: &str = "lines";

const HOUR_US: i64 = 3_600_000_000;
const HOURS_MAX: i64 = 30 * 24;
/// So long before a promised time the promise begins to count.
const NOTICE_HOURS: i64 = 7 * 24;

/// What an event's document says of its value and of what was promised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Worth {
    /// The value in minor units of its currency.
    pub value: Option<(i64, String)>,
    /// The promised time, the earliest of its lines where it has none of its own; microseconds since 1970 UTC.
    pub promised_at_us: Option<i64>,
}

impl Worth {
    /// What an event says.
    pub fn of(event: &Event) -> Self {
        let mut worth = Self::default();
        let (mut found, mut of_lines) = (VALUE_FIELDS.len(), None::<i64>);
        for field in event.document() {
            if let Some(at) = VALUE_FIELDS[..found].iter().position(|name| *name == field.name)
                && let Some(value) = value_of(&field.json)
            {
                (found, worth.value) = (at, Some(value));
            } else if field.name == PROMISED_FIELD {
                worth.promised_at_us = serde_json::from_slice(&field.json).ok().as_ref().and_then(time_of);
            } else if base_of(&field.name) == LINES_FIELD {
                let parsed = serde_json::from_slice::<Value>(&field.json).unwrap_or_default();
                let lines = parsed.as_array().map_or(std::slice::from_ref(&parsed), Vec::as_slice);
                let promised = lines.iter().filter_map(|line| line.get(PROMISED_FIELD).and_then(time_of));
                of_lines = promised.chain(of_lines).min();
            }
        }
        worth.promised_at_us = worth.promised_at_us.or(of_lines);
        worth
    }
}

fn value_of(json: &[u8]) -> Option<(i64, String)> {
    let value: Value = serde_json::from_slice(json).ok()?;
    Some((value.get("minor")?.as_i64()?, value.get("currency")?.as_str()?.to_owned()))
}

fn time_of(value: &Value) -> Option<i64> {
    rfc3339_us(value.as_str()?)
}

/// What an impact is worked out from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Impact<'a> {
    /// The value in minor units of its currency.
    pub value: Option<(i64, &'a str)>,
    /// The promised time, microseconds since 1970 UTC.
    pub promised_at_us: Option<i64>,
    /// When the event was decided, microseconds since 1970 UTC.
    pub event_at_us: i64,
}

impl Impact<'_> {
    /// `(100 + value) x (24 + hours waited) x promise / 2400`, whole numbers throughout:
    ///
    /// - the value in whole units of its currency, without conversion; 0 where there is none;
    /// - the hours since the event, at most 30 days;
    /// - the promise is 1, and grows evenly to 3 over the last seven days before the promised time, where it stays.
    ///
    /// So a delivery without value or promise begins at 1 and gains 1 a day.
    pub fn score(&self, now_us: i64) -> u64 {
        let hours = |us: i64| us.div_euclid(HOUR_US);
        let waited = hours(now_us.saturating_sub(self.event_at_us)).clamp(0, HOURS_MAX);
        let left = self.promised_at_us.map_or(NOTICE_HOURS, |at_us| hours(at_us.saturating_sub(now_us)));
        let pressing = NOTICE_HOURS - left.clamp(0, NOTICE_HOURS);
        // The promise in parts of the notice, so that nothing is rounded before the end.
        let promise = NOTICE_HOURS + 2 * pressing;
        let product = (100 + i128::from(self.whole_units())) * i128::from(24 + waited) * i128::from(promise);
        u64::try_from(product / (2_400 * i128::from(NOTICE_HOURS))).unwrap_or(0)
    }

    fn whole_units(&self) -> i64 {
        let Some((minor, currency)) = self.value else { return 0 };
        // Of a word that is no currency, nothing is known but the number.
        let digits = money::digits(currency).unwrap_or(2);
        minor.max(0) / 10_i64.pow(digits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Field;
    use crate::record::Fact;

    const DAY_US: i64 = 24 * HOUR_US;

    fn event(fields: &[(&str, &str)]) -> Event {
        let mut fields: Vec<_> = fields.iter().map(|(name, json)| Field::new(*name, (*json).to_owned())).collect();
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        Event { position: 1, recorded_at_us: 1, fact: Box::new(Fact { fields, ..Fact::default() }), replay: None }
    }

    #[test]
    fn a_document_says_what_it_is_worth_and_what_it_promises() {
        let total = r#"{"minor":129900,"currency":"EUR"}"#;
        let amount = r#"{"minor":5,"currency":"JPY"}"#;
        let both = Worth::of(&event(&[("amount", amount), ("total", total)]));
        assert_eq!(both.value, Some((129_900, "EUR".to_owned())), "an order's total, not an amount beside it");
        assert_eq!(Worth::of(&event(&[("amount", amount)])).value, Some((5, "JPY".to_owned())));
        assert_eq!(Worth::of(&event(&[("total", "12"), ("amount", amount)])).value, Some((5, "JPY".to_owned())));
        let lines = [("lines[1]", r#"{"promised_at":"1970-01-03T00:00:00Z"}"#), ("lines[2]", r#"{"sku":"A"}"#)];
        assert_eq!(Worth::of(&event(&lines)).promised_at_us, Some(2 * DAY_US));
        let whole = [("lines", r#"[{"promised_at":"1970-01-05T00:00:00Z"},{"promised_at":"1970-01-04T00:00:00Z"}]"#)];
        assert_eq!(Worth::of(&event(&whole)).promised_at_us, Some(3 * DAY_US));
        let own = [lines[0], ("promised_at", r#""1970-01-02T00:00:00Z""#)];
        assert_eq!(Worth::of(&event(&own)).promised_at_us, Some(DAY_US));
        assert_eq!(Worth::of(&event(&[("total", "null"), ("promised_at", "\"soon\"")])), Worth::default());
    }

    #[test]
    fn value_time_and_promise_multiply() {
        let none = Impact { value: None, promised_at_us: None, event_at_us: 0 };
        assert_eq!((none.score(0), none.score(DAY_US), none.score(90 * DAY_US)), (1, 2, 31));
        let order = Impact { value: Some((129_900, "EUR")), ..none };
        assert_eq!((order.score(0), order.score(3 * DAY_US)), (13, 55));
        assert_eq!(Impact { value: Some((1_299, "JPY")), ..none }.score(0), order.score(0), "whole units of each");
        let promised = Impact { promised_at_us: Some(10 * DAY_US), ..order };
        assert_eq!(promised.score(3 * DAY_US), order.score(3 * DAY_US), "a week ahead it does not press");
        assert_eq!(promised.score(10 * DAY_US), 461, "then three times as much");
        assert_eq!(promised.score(30 * DAY_US), promised.score(31 * DAY_US));
        assert_eq!(Impact { value: Some((i64::MIN, "EUR")), ..none }.score(-5), 1);
        assert!(Impact { value: Some((i64::MAX, "JPY")), promised_at_us: Some(0), ..none }.score(i64::MAX) > 1 << 60);
    }
}
