//! Decimals that never lose a digit: sums of prices as they stand in a file.

use std::fmt;
use std::ops::{AddAssign, Mul};

/// How many digits after the point are counted.
const DIGITS: u32 = 9;
const ONE: i128 = 10_i128.pow(DIGITS);

/// A decimal number in steps of a billionth, exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Exact(i128);

impl Exact {
    /// Reads `-1.25`, `7` or `0.001`. `None` where it is not a decimal number or has more than nine digits after
    /// the point.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        // Eighteen digits are more than any price has, and leave room for sums of billions of lines.
        if whole.is_empty() || whole.len() > 18 || !digits(whole) || !digits(fraction) {
            return None;
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > DIGITS as usize {
            return None;
        }
        let mut steps: i128 = whole.parse().ok()?;
        for at in 0..DIGITS as usize {
            steps = steps * 10 + fraction.as_bytes().get(at).map_or(0, |b| i128::from(b - b'0'));
        }
        Some(Self(if negative { -steps } else { steps }))
    }

    /// So many hundredths.
    pub(crate) fn hundredths(count: i64) -> Self {
        Self(i128::from(count) * (ONE / 100))
    }

    /// Whether it needs no more than two digits after the point.
    pub(crate) fn is_hundredths(self) -> bool {
        self.0 % (ONE / 100) == 0
    }
}

impl AddAssign for Exact {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Mul<i64> for Exact {
    type Output = Self;

    fn mul(self, count: i64) -> Self {
        Self(self.0 * i128::from(count))
    }
}

impl fmt::Display for Exact {
    /// At least two digits after the point, and as many more as it has.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.0.unsigned_abs();
        let one = ONE.unsigned_abs();
        let fraction = format!("{:0width$}", steps % one, width = DIGITS as usize);
        let kept = fraction.trim_end_matches('0').len().max(2);
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{}", steps / one, &fraction[..kept])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_is_kept() {
        let rows = [
            ("2.55", "2.55"),
            ("27.5", "27.50"),
            ("0.001", "0.001"),
            ("-11062.06", "-11062.06"),
            ("0", "0.00"),
            ("-0.1", "-0.10"),
            ("1.500000000000", "1.50"),
            ("0.000000001", "0.000000001"),
        ];
        for (text, shown) in rows {
            assert_eq!(Exact::parse(text).map(|e| e.to_string()).as_deref(), Some(shown), "{text}");
        }
        for text in ["", ".", ".5", "1e3", "1,5", "--1", "+1", "NaN", "0.0000000001", "1.-5", "1234567890123456789"] {
            assert_eq!(Exact::parse(text), None, "{text}");
        }
    }

    #[test]
    fn sums_are_exact() {
        let mut sum = Exact::default();
        for _ in 0..1_000 {
            sum += Exact::parse("0.1").expect("a decimal") * 3;
        }
        sum += Exact::parse("0.001").expect("a decimal") * -1;
        assert_eq!(sum.to_string(), "299.999");
        assert_eq!(Exact::hundredths(-1_055), Exact::parse("-10.55").expect("a decimal"));
        assert!(Exact::hundredths(7).is_hundredths());
        assert!(!sum.is_hundredths());
    }
}
