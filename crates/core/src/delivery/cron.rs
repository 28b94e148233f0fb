//! Times of a schedule, as `cron` has them: five fields, in UTC.

use std::fmt;
use std::str::FromStr;

use crate::time::civil;

const MINUTE_US: i64 = 60_000_000;
const DAY_MINUTES: i64 = 1_440;
/// A 29th of February on a given day of the week is at most forty years after the one before: that is around 2100, which has
/// none. So whatever has a next time has it within these days, no matter after when.
const DAYS_MAX: i64 = 41 * 366;

/// The fields: name, least, most, and the names of their values from the least on.
const FIELDS: [(&str, u32, u32, &[&str]); 5] = [
    ("minute", 0, 59, &[]),
    ("hour", 0, 23, &[]),
    ("day of the month", 1, 31, &[]),
    ("month", 1, 12, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    ("day of the week", 0, 7, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

/// A schedule such as `*/15 * * * *`: minute, hour, day of the month, month, day of the week (0 and 7 are Sunday), each `*`,
/// a number, a range `a-b`, either with a step `/n`, or a list of these. Where both days are given, either is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    text: String,
    /// The values of each field, a bit each.
    fields: [u64; 5],
    /// Whether both days are given.
    either_day: bool,
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Too many or too few fields.
    #[error("a schedule has five fields (minute, hour, day of the month, month, day of the week), not {0}")]
    Fields(usize),
    /// A field can't be understood.
    #[error(
        "`{part}` is no {field}: it must be `*`, a number from {least} to {most}, a range such as {least}-{most}, or one of these with a step such as `*/2`"
    )]
    Value {
        /// The field's name.
        field: &'static str,
        /// What stands there.
        part: String,
        /// The least number.
        least: u32,
        /// The greatest number.
        most: u32,
    },
    /// No day is like that.
    #[error("this never comes: no month of the schedule has such a day")]
    Never,
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let found: [&str; 5] = parts.as_slice().try_into().map_err(|_| CronError::Fields(parts.len()))?;
        let mut fields = [0; 5];
        for ((bits, part), field) in fields.iter_mut().zip(found).zip(FIELDS) {
            for item in part.split(',') {
                let (name, least, most, _) = field;
                let wrong = || CronError::Value { field: name, part: item.to_owned(), least, most };
                *bits |= values(item, field).ok_or_else(wrong)?;
            }
        }
        // Sunday has two numbers.
        fields[4] = (fields[4] | fields[4] >> 7) & 0x7f;
        let is_given = |part: &str| !part.starts_with('*');
        let either_day = is_given(found[2]) && is_given(found[4]);
        let cron = Self { text: parts.join(" "), fields, either_day };
        cron.next_after(0).ok_or(CronError::Never)?;
        Ok(cron)
    }
}

/// The values of one item of a field's list, a bit each.
fn values(item: &str, (_, least, most, names): (&str, u32, u32, &[&str])) -> Option<u64> {
    let number = |text: &str| {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text)).map(|at| at as u32 + least);
        let plain = || text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        named.or_else(plain).filter(|value| (least..=most).contains(value))
    };
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(step.parse::<usize>().ok().filter(|step| *step > 0)?)),
        None => (item, None),
    };
    let (from, to) = match range.split_once('-') {
        _ if range == "*" => (least, most),
        Some((from, to)) => (number(from)?, number(to)?),
        // With a step, a number is where it begins.
        None => number(range).map(|from| (from, if step.is_some() { most } else { from }))?,
    };
    (from <= to).then(|| (from..=to).step_by(step.unwrap_or(1)).fold(0, |bits, value| bits | 1 << value))
}

impl Cron {
    /// The first moment of the schedule after another one, microseconds since 1970 UTC; `None` at the end of all times.
    pub fn next_after(&self, at_us: i64) -> Option<i64> {
        let minute = at_us.div_euclid(MINUTE_US).checked_add(1)?;
        let (first_day, mut from) = (minute.div_euclid(DAY_MINUTES), minute.rem_euclid(DAY_MINUTES));
        for day in first_day..first_day.checked_add(DAYS_MAX)? {
            if self.is_day(day)
                && let Some(of_day) = (from..DAY_MINUTES).find(|of_day| self.is_minute(*of_day))
            {
                return (day * DAY_MINUTES + of_day).checked_mul(MINUTE_US);
            }
            from = 0;
        }
        None
    }

    fn has(&self, field: usize, value: i64) -> bool {
        self.fields[field] >> value & 1 == 1
    }

    fn is_minute(&self, of_day: i64) -> bool {
        self.has(1, of_day / 60) && self.has(0, of_day % 60)
    }

    fn is_day(&self, day: i64) -> bool {
        let (_, month, of_month) = civil(day);
        // 1970-01-01 was a Thursday.
        let (by_month, by_week) = (self.has(2, of_month), self.has(4, (day + 4).rem_euclid(7)));
        self.has(3, month) && if self.either_day { by_month || by_week } else { by_month && by_week }
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::{rfc3339, rfc3339_us};

    fn next(schedule: &str, after: &str) -> String {
        let cron: Cron = schedule.parse().unwrap_or_else(|error| panic!("{schedule}: {error}"));
        rfc3339(cron.next_after(rfc3339_us(after).unwrap()).unwrap()).replace(":00.000000Z", "")
    }

    #[test]
    fn the_next_time_comes_after_the_last() {
        for (schedule, after, expected) in [
            ("*/15 * * * *", "2026-03-01T10:00:00Z", "2026-03-01T10:15"),
            ("*/15 * * * *", "2026-03-01T10:14:59.999999Z", "2026-03-01T10:15"),
            ("0 3 * * *", "2026-03-01T03:00:00Z", "2026-03-02T03:00"),
            ("30 22 31 12 *", "2026-03-01T03:00:00Z", "2026-12-31T22:30"),
            ("0 0 29 2 *", "2096-03-01T00:00:00Z", "2104-02-29T00:00"),
            ("5-10/5,50 1-2 * * *", "2026-03-01T01:05:00Z", "2026-03-01T01:10"),
            ("5-10/5,50 1-2 * * *", "2026-03-01T02:50:00Z", "2026-03-02T01:05"),
            // 2026-03-01 is a Sunday.
            ("0 12 * * mon-FRI", "2026-03-01T00:00:00Z", "2026-03-02T12:00"),
            ("0 12 * * 7", "2026-03-01T12:00:00Z", "2026-03-08T12:00"),
            ("0 12 * * 0", "2026-02-28T12:00:00Z", "2026-03-01T12:00"),
            // Either day is enough where both are given, and a `*` is no day that is given.
            ("0 0 13 * 5", "2026-03-01T00:00:00Z", "2026-03-06T00:00"),
            ("0 0 13 * 5", "2026-03-06T00:00:00Z", "2026-03-13T00:00"),
            ("0 0 */2 * 1", "2026-03-01T00:00:00Z", "2026-03-09T00:00"),
            ("10/20 * * jan *", "2026-01-31T23:50:00Z", "2027-01-01T00:10"),
            // Both days are to be met, so it comes seldom.
            ("0 0 */31 2 1", "2026-03-01T00:00:00Z", "2027-02-01T00:00"),
            ("0 0 */31 2 1", "2094-02-01T00:00:00Z", "2100-02-01T00:00"),
            ("0 0 */31 2 1", "2027-02-01T00:00:00Z", "2038-02-01T00:00"),
            ("0 0 29 2 */7", "2088-03-01T00:00:00Z", "2128-02-29T00:00"),
            ("* * * * *", "1969-12-31T23:59:30Z", "1970-01-01T00:00"),
        ] {
            assert_eq!(next(schedule, after), expected, "{schedule} after {after}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_its_field() {
        for (schedule, said) in [
            ("", "five fields"),
            ("* * * *", "not 4"),
            ("60 * * * *", "`60` is no minute"),
            ("* 24 * * *", "`24` is no hour"),
            ("* * 0 * *", "`0` is no day of the month"),
            ("* * * foo *", "`foo` is no month"),
            ("* * * * 8", "`8` is no day of the week"),
            ("*/0 * * * *", "`*/0` is no minute"),
            ("5-1 * * * *", "`5-1` is no minute"),
            ("+5 * * * *", "`+5` is no minute"),
            ("1,, * * * *", "`` is no minute"),
            ("0 0 30 2 *", "never comes"),
        ] {
            let error = schedule.parse::<Cron>().expect_err(schedule).to_string();
            assert!(error.contains(said), "{schedule}: {error}");
        }
    }

    fn field(least: u32, most: u32) -> impl Strategy<Value = String> {
        let range = (least..=most).prop_flat_map(move |from| (Just(from), from..=most));
        let item = prop_oneof![
            Just("*".to_owned()),
            (least..=most).prop_map(|value| value.to_string()),
            (1u32..40).prop_map(|step| format!("*/{step}")),
            (range, 1u32..9).prop_map(|((from, to), step)| format!("{from}-{to}/{step}")),
        ];
        proptest::collection::vec(item, 1..4).prop_map(|items| items.join(","))
    }

    proptest! {
        #[test]
        fn the_next_time_is_the_first_one_that_meets_the_fields(
            minute in field(0, 59), hour in field(0, 23), week in field(0, 7), after_us in 0i64..4_000_000_000_000_000,
        ) {
            let cron: Cron = format!("{minute} {hour} * * {week}").parse().unwrap();
            let found = cron.next_after(after_us).unwrap();
            prop_assert!(found > after_us && found % MINUTE_US == 0);
            let meets = |at: i64| {
                let of_day = at / MINUTE_US % DAY_MINUTES;
                cron.is_minute(of_day) && cron.is_day(at / MINUTE_US / DAY_MINUTES)
            };
            prop_assert!(meets(found));
            let between = (after_us / MINUTE_US + 1..found / MINUTE_US).filter(|at| meets(at * MINUTE_US)).count();
            prop_assert_eq!(between, 0);
            prop_assert_eq!(cron.next_after(found - 1), Some(found));
        }

        #[test]
        fn what_is_no_schedule_that_never_comes_always_has_a_next_time(
            month in field(1, 12), of_month in field(1, 31), week in field(0, 7), after_us in 0i64..20_000_000_000_000_000,
        ) {
            if let Ok(cron) = format!("0 0 {of_month} {month} {week}").parse::<Cron>() {
                prop_assert!(cron.next_after(after_us).is_some(), "{} after {}", cron, after_us);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9*/,a-f -]{0,30}") {
            if let Ok(cron) = text.parse::<Cron>() {
                prop_assert_eq!(cron.to_string().parse::<Cron>(), Ok(cron));
            }
        }
    }
}
