//! Money as minor units of a currency. A decimal with more digits than the currency has is refused, never
//! rounded. Exponents are ISO 4217's (list one, as published by its maintenance agency).

use thiserror::Error;

/// Why an amount is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MoneyError {
    /// Not an ISO 4217 code.
    #[error("currency `{0}` must be three letters A-Z (ISO 4217)")]
    Currency(String),
    /// Not a decimal number.
    #[error("amount `{0}` must be a decimal number such as 10.99")]
    Amount(String),
    /// More digits than the currency has.
    #[error("amount `{amount}` has more than the {digits} decimal digits of {currency}")]
    Digits {
        /// The amount as given.
        amount: String,
        /// The currency.
        currency: String,
        /// How many digits it has.
        digits: u32,
    },
    /// Larger than can be counted.
    #[error("amount `{0}` is too large")]
    Range(String),
}

/// How many decimal digits a currency has.
pub fn digits(currency: &str) -> Result<u32, MoneyError> {
    if currency.len() != 3 || !currency.bytes().all(|b| b.is_ascii_uppercase()) {
        return Err(MoneyError::Currency(currency.to_owned()));
    }
    Ok(match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI" | "VND"
        | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        "CLF" | "UYW" => 4,
        _ => 2,
    })
}

/// The minor units of a decimal amount: `("10.99", "USD")` is 1099. Zeros beyond the currency's digits are
/// no precision and are accepted: `("100.00", "JPY")` is 100.
pub fn minor(amount: &str, currency: &str) -> Result<i64, MoneyError> {
    let digits = digits(currency)?;
    let text = amount.trim();
    let bad = || MoneyError::Amount(amount.to_owned());
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return Err(bad());
    }
    let significant = fraction.trim_end_matches('0');
    if significant.len() > digits as usize {
        return Err(MoneyError::Digits { amount: amount.to_owned(), currency: currency.to_owned(), digits });
    }
    let range = || MoneyError::Range(amount.to_owned());
    let mut minor: i64 = 0;
    let padding = std::iter::repeat_n(b'0', digits as usize - significant.len());
    for digit in whole.bytes().chain(significant.bytes()).chain(padding) {
        let digit = i64::from(digit - b'0');
        let shifted = minor.checked_mul(10).ok_or_else(range)?;
        minor = if negative { shifted.checked_sub(digit) } else { shifted.checked_add(digit) }.ok_or_else(range)?;
    }
    Ok(minor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_keep_every_digit() {
        let rows: &[(&str, &str, i64)] = &[
            ("100", "JPY", 100),
            ("100.00", "JPY", 100),
            ("1.234", "KWD", 1234),
            ("10.99", "USD", 1099),
            ("-3.5", "EUR", -350),
            ("0", "EUR", 0),
            ("92233720368547758.07", "EUR", i64::MAX),
            ("-92233720368547758.08", "EUR", i64::MIN),
        ];
        for (amount, currency, expected) in rows {
            assert_eq!(minor(amount, currency), Ok(*expected), "{amount} {currency}");
        }
    }

    #[test]
    fn what_cannot_be_counted_exactly_is_refused() {
        assert!(matches!(minor("10.005", "USD"), Err(MoneyError::Digits { digits: 2, .. })));
        assert!(matches!(minor("1.5", "JPY"), Err(MoneyError::Digits { digits: 0, .. })));
        assert!(matches!(minor("92233720368547758.08", "EUR"), Err(MoneyError::Range(_))));
        for bad in ["", ".", "1e3", "1,5", "--1", "+1", "1.-5", "NaN", ".5"] {
            assert!(matches!(minor(bad, "EUR"), Err(MoneyError::Amount(_))), "{bad}");
        }
        assert!(matches!(minor("1", "eur"), Err(MoneyError::Currency(_))));
    }

    proptest! {
        #[test]
        fn cents_survive(cents: i64) {
            let magnitude = cents.unsigned_abs();
            let sign = if cents < 0 { "-" } else { "" };
            let text = format!("{sign}{}.{:02}", magnitude / 100, magnitude % 100);
            prop_assert_eq!(minor(&text, "EUR"), Ok(cents));
        }
    }
}
